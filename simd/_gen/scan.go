package main

import (
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// scan takes a panel at a time: its 32 chains are two zmm or four ymm, which a
// core with an FMA latency of 4 feeds with 32 bytes a cycle, several times what
// RAM delivers. Measured on Zen 4 from RAM, two and four panels side by side are
// 10-20 % slower than one, and software prefetch 1 to 8 KiB ahead gains nothing:
// one long stream is what the hardware prefetcher likes best.
func scan(w width) {
	const unroll = 4
	name := "scan" + w.suffix
	function(name, "func(scores, panels, scale, bias, query *float32, count, dim int)",
		name+" scores count > 0 panels, one after the other.")
	scores, panels := pointer("scores"), pointer("panels")
	scale, bias := pointer("scale"), pointer("bias")
	query, count, dim := pointer("query"), pointer("count"), pointer("dim")

	chain := make([]reg.VecVirtual, panelRows/w.floats)
	for i := range chain {
		chain[i] = w.vector()
	}
	element, left := GP64(), GP64()
	link := func(u int) {
		x := w.vector()
		VBROADCASTSS(at(element, 4*u), x)
		for i, c := range chain {
			VFMADD231PS(at(panels, 4*panelRows*u+i*w.bytes()), x, c)
		}
	}

	Label("panel")
	Comment("for each panel: chain = 0")
	for _, c := range chain {
		w.clear(c)
	}
	MOVQ(query, element)
	MOVQ(dim, left)
	SUBQ(Imm(unroll), left)
	JL(LabelRef("rest"))

	Label("four")
	Comment("for d, four at a time: chain = fma(panel[d], broadcast query[d], chain)")
	for u := range unroll {
		link(u)
	}
	ADDQ(U32(unroll*4*panelRows), panels)
	ADDQ(U32(unroll*4), element)
	SUBQ(Imm(unroll), left)
	JGE(LabelRef("four"))

	Label("rest")
	ADDQ(Imm(unroll), left)
	JZ(LabelRef("score"))
	Label("one")
	link(0)
	ADDQ(U32(4*panelRows), panels)
	ADDQ(U32(4), element)
	DECQ(left)
	JNZ(LabelRef("one"))

	Label("score")
	Comment("scores = fma(chain, scale, bias)")
	for i, c := range chain {
		x := w.vector()
		VMOVUPS(at(scale, i*w.bytes()), x)
		VFMADD213PS(at(bias, i*w.bytes()), x, c)
		VMOVUPS(c, at(scores, i*w.bytes()))
	}
	ADDQ(U32(4*panelRows), scores)
	ADDQ(U32(4*panelRows), scale)
	ADDQ(U32(4*panelRows), bias)
	DECQ(count)
	JNZ(LabelRef("panel"))
	VZEROUPPER()
	RET()
}
