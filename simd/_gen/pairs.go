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
