package main

import (
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// transpose moves squares of 8 x 8 floats, which both levels do alike: it waits for
// memory, and 8 floats are what a store of half a panel's cache line takes.
func transpose() {
	function("transposeAVX2", "func(out, in *float32, outStride, inStride, outStep, inStep, squares int)",
		"transposeAVX2 transposes squares of 8x8 floats: the 8 rows of a square are a stride",
		"apart, and the squares a step, all in bytes.")
	out, in := pointer("out"), pointer("in")
	outStride, inStride := pointer("outStride"), pointer("inStride")
	outStep, inStep := pointer("outStep"), pointer("inStep")
	left := pointer("squares")
	loop(left, func() {
		from, to := GP64(), GP64()
		var x, y [8]reg.VecVirtual
		MOVQ(in, from)
		for i := range x {
			x[i], y[i] = YMM(), YMM()
			VMOVUPS(at(from, 0), x[i])
			ADDQ(inStride, from)
		}
		Comment("pairs of rows, then fours, then halves")
		for i := 0; i < 8; i += 2 {
			VUNPCKLPS(x[i+1], x[i], y[i])
			VUNPCKHPS(x[i+1], x[i], y[i+1])
		}
		for i := 0; i < 8; i += 4 {
			VUNPCKLPD(y[i+2], y[i], x[i])
			VUNPCKHPD(y[i+2], y[i], x[i+1])
			VUNPCKLPD(y[i+3], y[i+1], x[i+2])
			VUNPCKHPD(y[i+3], y[i+1], x[i+3])
		}
		MOVQ(out, to)
		for _, half := range []uint8{0x20, 0x31} {
			for i := range 4 {
				v := YMM()
				VPERM2F128(U8(half), x[i+4], x[i], v)
				VMOVUPS(v, at(to, 0))
				ADDQ(outStride, to)
			}
		}
		ADDQ(outStep, out)
		ADDQ(inStep, in)
	})
	VZEROUPPER()
	RET()
}
