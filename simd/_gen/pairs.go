package main

import (
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// pairs keeps a chain for each of four pairs, so that none waits for its FMA.
func pairs() {
	function("pairsFMA", "func(chains, panel *float32, lanes *int32, queries *float32, rows *int32, stride, dim int)",
		"pairsFMA goes on with the chains of four rows of a panel, each with a query of its",
		"own, for some dims. Queries are stride floats apart.")
	out, panel, lanes := pointer("chains"), pointer("panel"), pointer("lanes")
	queries, rows, stride := pointer("queries"), pointer("rows"), pointer("stride")
	var x, q [4]reg.GPVirtual
	var chain [4]reg.VecVirtual
	for j := range x {
		x[j], q[j], chain[j] = GP64(), GP64(), XMM()
		MOVLQSX(at(lanes, 4*j), x[j])
		LEAQ(Mem{Base: panel, Index: x[j], Scale: 4}, x[j])
		MOVLQSX(at(rows, 4*j), q[j])
		IMULQ(stride, q[j])
		LEAQ(Mem{Base: queries, Index: q[j], Scale: 4}, q[j])
		VMOVSS(at(out, 4*j), chain[j])
	}
	dim, i := pointer("dim"), GP64()
	XORQ(i, i)
	TESTQ(dim, dim)
	JZ(LabelRef("done"))
	Label("loop")
	Comment("chain[j] = fma(x[j][i], q[j][i], chain[j])")
	for j := range x {
		v := XMM()
		VMOVSS(Mem{Base: q[j], Index: i, Scale: 4}, v)
		VFMADD231SS(at(x[j], 0), v, chain[j])
		ADDQ(U32(4*panelRows), x[j])
	}
	INCQ(i)
	CMPQ(i, dim)
	JNE(LabelRef("loop"))
	Label("done")
	for j, c := range chain {
		VMOVSS(c, at(out, 4*j))
	}
	RET()
}

// pairs16 keeps the chains of sixteen pairs in a register. Sixteen dims of their
// queries are transposed in registers, 64 shuffles for 256 links; the elements of
// the rows are picked out of the two registers that are a dim of a panel.
func pairs16() {
	const lanes = 16
	w := avx512
	function("pairs16AVX512", "func(chains, panel *float32, lanes *int32, queries **float32, groups int)",
		"pairs16AVX512 goes on with the chains of sixteen rows of a panel, each with a query of",
		"its own, for some groups of sixteen dims.")
	out, panel, pick := pointer("chains"), pointer("panel"), pointer("lanes")
	queries, left, i := pointer("queries"), pointer("groups"), GP64()
	chain, index := ZMM(), ZMM()
	VMOVUPS(at(out, 0), chain)
	VMOVDQU32(at(pick, 0), index)
	XORQ(i, i)
	loop(left, func() {
		Comment("rows of 16 dims: v[2j], v[2j+1] = pairs of dims of queries 2j and 2j+1")
		var v [lanes]reg.VecVirtual
		for j := 0; j < lanes; j += 2 {
			a, b := GP64(), GP64()
			MOVQ(at(queries, 8*j), a)
			MOVQ(at(queries, 8*j+8), b)
			x, y := w.vector(), w.vector()
			VMOVUPS(Mem{Base: a, Index: i, Scale: 4}, x)
			VMOVUPS(Mem{Base: b, Index: i, Scale: 4}, y)
			v[j], v[j+1] = w.vector(), w.vector()
			VUNPCKLPS(y, x, v[j])
			VUNPCKHPS(y, x, v[j+1])
		}
		Comment("fours of queries: v[4j+d] has dims d, 4+d, 8+d, 12+d")
		for j := 0; j < lanes; j += 4 {
			x, y := w.vector(), w.vector()
			VUNPCKLPD(v[j+2], v[j], x)
			VUNPCKHPD(v[j+2], v[j], y)
			z, u := w.vector(), w.vector()
			VUNPCKLPD(v[j+3], v[j+1], z)
			VUNPCKHPD(v[j+3], v[j+1], u)
			v[j], v[j+1], v[j+2], v[j+3] = x, y, z, u
		}
		Comment("quarters: a dim in a register, all queries")
		var column [lanes]reg.VecVirtual
		for d := range 4 {
			a, b, c, e := w.vector(), w.vector(), w.vector(), w.vector()
			VSHUFF32X4(Imm(0x88), v[4+d], v[d], a)    // dims d, 8+d of queries 0-7
			VSHUFF32X4(Imm(0xdd), v[4+d], v[d], b)    // dims 4+d, 12+d
			VSHUFF32X4(Imm(0x88), v[12+d], v[8+d], c) // of queries 8-15
			VSHUFF32X4(Imm(0xdd), v[12+d], v[8+d], e)
			for n, part := range [2][2]reg.VecVirtual{{a, c}, {b, e}} {
				low, high := w.vector(), w.vector()
				VSHUFF32X4(Imm(0x88), part[1], part[0], low)
				VSHUFF32X4(Imm(0xdd), part[1], part[0], high)
				column[4*n+d], column[8+4*n+d] = low, high
			}
		}
		Comment("chain = fma(panel[d][lanes], column[d], chain)")
		for d, q := range column {
			x := w.vector()
			VMOVUPS(at(panel, d*4*panelRows), x)
			VPERMT2PS(at(panel, d*4*panelRows+w.bytes()), index, x)
			VFMADD231PS(q, x, chain)
		}
		ADDQ(U32(lanes*4*panelRows), panel)
		ADDQ(Imm(lanes), i)
	})
	VMOVUPS(chain, at(out, 0))
	VZEROUPPER()
	RET()
}
