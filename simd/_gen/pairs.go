package main

import (
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// pairs keeps a chain for each of four pairs, so that none waits for its FMA.
func pairs() {
	function("pairsFMA", "func(out, panel *float32, lanes *int32, queries *float32, rows *int32, dim int)",
		"pairsFMA runs the chains of four rows of a panel, each with a query of its own.")
	out, panel, lanes := pointer("out"), pointer("panel"), pointer("lanes")
	queries, rows, dim := pointer("queries"), pointer("rows"), pointer("dim")
	var x, q [4]reg.GPVirtual
	var chain [4]reg.VecVirtual
	for j := range x {
		x[j], q[j], chain[j] = GP64(), GP64(), XMM()
		MOVLQSX(at(lanes, 4*j), x[j])
		LEAQ(Mem{Base: panel, Index: x[j], Scale: 4}, x[j])
		MOVLQSX(at(rows, 4*j), q[j])
		IMULQ(dim, q[j])
		LEAQ(Mem{Base: queries, Index: q[j], Scale: 4}, q[j])
		VXORPS(chain[j], chain[j], chain[j])
	}
	i := GP64()
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
