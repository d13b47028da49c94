package main

import (
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
)

// dot and squaredDistance are one chain by definition, so wider registers would
// not help: both levels share them. Operands of the FMA are loaded on their own,
// since qemu up to 7.2 reads 16 bytes for a scalar FMA's memory operand, and the
// tests run there too.
func dot() {
	function("dotFMA", "func(a, b *float32, dim int) float32",
		"dotFMA is the chain of one row.")
	a, b, left := pointer("a"), pointer("b"), pointer("dim")
	chain := XMM()
	VXORPS(chain, chain, chain)
	loop(left, func() {
		Comment("chain = fma(a[i], b[i], chain)")
		x, y := XMM(), XMM()
		VMOVSS(at(a, 0), x)
		VMOVSS(at(b, 0), y)
		VFMADD231SS(x, y, chain)
		ADDQ(U32(4), a)
		ADDQ(U32(4), b)
	})
	Store(chain, ReturnIndex(0))
	RET()
}

func squaredDistance() {
	function("squaredDistanceFMA", "func(a, b *float32, dim int) float32",
		"squaredDistanceFMA is the chain of squared differences.")
	a, b, left := pointer("a"), pointer("b"), pointer("dim")
	chain := XMM()
	VXORPS(chain, chain, chain)
	loop(left, func() {
		Comment("d = a[i] - b[i]; chain = fma(d, d, chain)")
		d := XMM()
		VMOVSS(at(a, 0), d)
		VSUBSS(at(b, 0), d, d)
		VFMADD231SS(d, d, chain)
		ADDQ(U32(4), a)
		ADDQ(U32(4), b)
	})
	Store(chain, ReturnIndex(0))
	RET()
}

// squares keeps the eight sums that Norm is defined by.
func squares() {
	function("squaresAVX2", "func(sums *float64, x *float32, eights int)",
		"squaresAVX2 adds the squares of x[8i+j] to sums[j], in order of i.")
	sums, x, left := pointer("sums"), pointer("x"), pointer("eights")
	low, high := YMM(), YMM()
	VMOVUPD(at(sums, 0), low)
	VMOVUPD(at(sums, 32), high)
	loop(left, func() {
		Comment("squares of float32 are exact in float64: a fused sum is the plain one")
		a, b := YMM(), YMM()
		VCVTPS2PD(at(x, 0), a)
		VCVTPS2PD(at(x, 16), b)
		VFMADD231PD(a, a, low)
		VFMADD231PD(b, b, high)
		ADDQ(U32(32), x)
	})
	VMOVUPD(low, at(sums, 0))
	VMOVUPD(high, at(sums, 32))
	VZEROUPPER()
	RET()
}

func widenHalf(w width) {
	function("widenHalf"+w.suffix, "func(dst *float32, src *uint16, registers int)",
		"widenHalf"+w.suffix+" converts that many registers full of halves.")
	dst, src, left := pointer("dst"), pointer("src"), pointer("registers")
	loop(left, func() {
		x := w.vector()
		VCVTPH2PS(at(src, 0), x)
		VMOVUPS(x, at(dst, 0))
		ADDQ(U32(uint64(w.bytes()/2)), src)
		ADDQ(U32(uint64(w.bytes())), dst)
	})
	VZEROUPPER()
	RET()
}
