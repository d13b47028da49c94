package main

import (
	"fmt"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// tile keeps a rectangle of queries × two registers of rows in registers:
//
//	AVX-512: 12 × 32, once; 24 accumulators, 2 rows, a broadcast element
//	AVX2:    6 × 16, four times; 12 accumulators, 2 rows, a broadcast element
//
// Each element of the tile is broadcast once and used twice, each row register
// is used for every query, so that the loads keep out of the way of the FMAs.
func tile(w width) {
	queries := tileQueries
	if w.floats == 8 {
		queries = 6
	}
	name := "tile" + w.suffix
	function(name, "func(scores *float32, hits *uint32, panel, scale, bias, tile, floor *float32, dim int) (any uint32)",
		fmt.Sprintf("%s scores one panel against one tile, %d queries × %d rows at a time.", name, queries, 2*w.floats))
	scores, hits := pointer("scores"), pointer("hits")
	panel, scale, bias := pointer("panel"), pointer("scale"), pointer("bias")
	tile, floor, dim := pointer("tile"), pointer("floor"), pointer("dim")
	any := GP32()
	XORL(any, any)

	for row := 0; row < panelRows; row += 2 * w.floats {
		for query := 0; query < tileQueries; query += queries {
			rectangle(w, row, query, queries, scores, hits, panel, scale, bias, tile, floor, dim, any)
		}
	}
	VZEROUPPER()
	Store(any, ReturnIndex(0))
	RET()
}

func rectangle(w width, row, query, queries int, scores, hits, panel, scale, bias, tile, floor, dim, any reg.Register) {
	Comment(
		fmt.Sprintf("Queries %d to %d, rows %d to %d:", query, query+queries-1, row, row+2*w.floats-1),
		"	for d: for q: chain[q] = fma(panel[d], broadcast tile[d][q], chain[q])",
	)
	label := func(s string) string { return fmt.Sprintf("%s_%d_%d", s, query, row) }
	chain := make([][2]reg.VecVirtual, queries)
	for q := range chain {
		chain[q] = [2]reg.VecVirtual{w.zero(), w.zero()}
	}
	rows, element, left := GP64(), GP64(), GP64()
	LEAQ(at(panel, 4*row), rows)
	LEAQ(at(tile, 4*query), element)
	body := func(u int) {
		low, high := w.vector(), w.vector()
		VMOVUPS(at(rows, u*4*panelRows), low)
		VMOVUPS(at(rows, u*4*panelRows+w.bytes()), high)
		for q := range chain {
			x := w.vector()
			VBROADCASTSS(at(element, 4*(u*tileQueries+q)), x)
			VFMADD231PS(low, x, chain[q][0])
			VFMADD231PS(high, x, chain[q][1])
		}
	}
	MOVQ(dim, left)
	SUBQ(Imm(2), left)
	JL(LabelRef(label("last")))
	Label(label("two"))
	body(0)
	body(1)
	ADDQ(U32(2*4*panelRows), rows)
	ADDQ(U32(2*4*tileQueries), element)
	SUBQ(Imm(2), left)
	JGE(LabelRef(label("two")))
	Label(label("last"))
	CMPQ(left, I8(-1))
	JNE(LabelRef(label("score")))
	body(0)

	Label(label("score"))
	Comment(
		"	score = fma(chain, scale, bias)",
		"	hits |= score >= floor[q], a bit a row",
	)
	scales, biases := [2]reg.VecVirtual{w.vector(), w.vector()}, [2]reg.VecVirtual{}
	for r := range scales {
		VMOVUPS(at(scale, 4*row+r*w.bytes()), scales[r])
	}
	if w.floats == 16 {
		for r := range biases {
			biases[r] = w.vector()
			VMOVUPS(at(bias, 4*row+r*w.bytes()), biases[r])
		}
	}
	for q := range chain {
		least := w.vector()
		VBROADCASTSS(at(floor, 4*(query+q)), least)
		var bits [2]reg.GPVirtual
		for r, c := range chain[q] {
			if w.floats == 16 {
				VFMADD213PS(biases[r], scales[r], c)
			} else {
				VFMADD213PS(at(bias, 4*row+r*w.bytes()), scales[r], c)
			}
			VMOVUPS(c, at(scores, 4*((query+q)*panelRows+row)+r*w.bytes()))
			bits[r] = atLeast(w, c, least)
		}
		SHLL(Imm(uint64(w.floats)), bits[1])
		ORL(bits[0], bits[1])
		ORL(bits[1], any)
		if w.floats == 16 {
			MOVL(bits[1], at(hits, 4*(query+q)))
		} else {
			MOVW(bits[1].As16(), at(hits, 4*(query+q)+row/8))
		}
	}
}

// atLeast returns the lanes with score >= least, a bit each; it leaves least in
// place. NaN compares false, and quietly.
func atLeast(w width, score, least reg.VecVirtual) reg.GPVirtual {
	greaterOrEqual := Imm(0x1d)
	bits := GP32()
	if w.floats == 16 {
		k := K()
		VCMPPS(greaterOrEqual, least, score, k)
		KMOVW(k, bits)
		return bits
	}
	mask := w.vector()
	VCMPPS(greaterOrEqual, least, score, mask)
	VMOVMSKPS(mask, bits)
	return bits
}
