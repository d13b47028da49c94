package main

import (
	"fmt"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

const (
	stripColumns = 8 // simd.StripColumns
	productStrip = 3 // simd.ProductStrips
)

// products keeps a rectangle of float64 chains in registers:
//
//	AVX-512: 8 × 24, once; 24 accumulators, 3 loads, 8 broadcast elements
//	AVX2:    4 × 12, four times; 12 accumulators, 3 loads, a broadcast element
//
// The right side lies in strips of 8 columns, so AVX2 takes 12 columns from one
// strip and a half.
func products(w width) {
	doubles := w.floats / 2
	rows := 8
	if doubles == 4 {
		rows = 4
	}
	name := "products" + w.suffix
	function(name, "func(c, a, b *float64, stride, n int)",
		fmt.Sprintf("%s goes on with the chains of 8 columns of a with 24 of b, %d × %d at a time;", name, rows, 3*doubles),
		"the strips of b are stride bytes apart.")
	c, a, b := pointer("c"), pointer("a"), pointer("b")
	stride, n := pointer("stride"), pointer("n")
	second, third := GP64(), GP64()
	LEAQ(Mem{Base: b, Index: stride, Scale: 1}, second)
	LEAQ(Mem{Base: b, Index: stride, Scale: 2}, third)
	strips := []reg.Register{b, second, third}
	for row := 0; row < stripColumns; row += rows {
		for column := 0; column < stripColumns*productStrip; column += 3 * doubles {
			productRectangle(w, row, rows, column, c, a, strips, n)
		}
	}
	VZEROUPPER()
	RET()
}

func productRectangle(w width, row, rows, column int, c, a reg.Register, strips []reg.Register, n reg.Register) {
	doubles := w.floats / 2
	Comment(
		fmt.Sprintf("Columns %d to %d of a, %d to %d of b:", row, row+rows-1, column, column+3*doubles-1),
		"	for r: for i: c[i] = fma(broadcast a[r][i], b[r], c[i])",
	)
	label := fmt.Sprintf("_%d_%d", row, column)
	from := func(i, v int) Mem {
		return at(c, 8*((row+i)*stripColumns*productStrip+column+v*doubles))
	}
	chains := make([][3]reg.VecVirtual, rows)
	for i := range chains {
		for v := range chains[i] {
			chains[i][v] = w.vector()
			VMOVUPD(from(i, v), chains[i][v])
		}
	}
	// Where each of the three registers of b comes from.
	var base [3]reg.Register
	var offset [3]int
	for v := range base {
		at := column + v*doubles
		base[v], offset[v] = strips[at/stripColumns], 8*(at%stripColumns)
	}
	left, i := GP64(), GP64()
	MOVQ(n, left)
	XORQ(i, i)
	TESTQ(left, left)
	JZ(LabelRef("done" + label))
	Label("loop" + label)
	var x [3]reg.VecVirtual
	for v := range x {
		x[v] = w.vector()
		VMOVUPD(Mem{Base: base[v], Index: i, Scale: 1, Disp: offset[v]}, x[v])
	}
	for k := range chains {
		element := w.vector()
		VBROADCASTSD(Mem{Base: a, Index: i, Scale: 1, Disp: 8 * (row + k)}, element)
		for v := range x {
			VFMADD231PD(x[v], element, chains[k][v])
		}
	}
	ADDQ(U32(8*stripColumns), i)
	DECQ(left)
	JNZ(LabelRef("loop" + label))
	Label("done" + label)
	for k := range chains {
		for v := range chains[k] {
			VMOVUPD(chains[k][v], from(k, v))
		}
	}
}
