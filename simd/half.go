package simd

import (
	"fmt"
	"math"
)

// WidenHalf converts IEEE 754 half precision to float32, exactly: denormals and
// infinities too. A signalling NaN becomes quiet and keeps its payload, as
// VCVTPH2PS has it. It panics if lengths differ.
func WidenHalf(dst []float32, src []uint16) {
	checkHalf(len(dst), len(src))
	active.Load().widenHalf(dst, src)
}

// NarrowHalf converts float32 to half precision, to nearest, ties to even. What
// lies beyond 65504 by half a unit or more becomes infinite: callers that cannot
// keep an infinity check for it. A NaN stays a NaN, quiet, with the upper bits of
// its payload. It panics if lengths differ.
func NarrowHalf(dst []uint16, src []float32) {
	checkHalf(len(dst), len(src))
	for i, x := range src {
		dst[i] = narrow(x)
	}
}

// A half has 5 exponent bits (bias 15) and 10 of fraction, a float32 8 (bias 127)
// and 23.
func widen(h uint16) float32 {
	sign := uint32(h&0x8000) << 16
	exponent, fraction := uint32(h>>10&31), uint32(h&0x3ff)
	switch {
	case exponent == 31 && fraction != 0:
		return math.Float32frombits(sign | 0x7fc00000 | fraction<<13)
	case exponent == 31:
		return math.Float32frombits(sign | 0x7f800000)
	case exponent == 0: // zero or denormal: fraction * 2^-24, exact in float32
		return math.Float32frombits(sign | math.Float32bits(float32(fraction)*0x1p-24))
	}
	return math.Float32frombits(sign | (exponent+127-15)<<23 | fraction<<13)
}

func narrow(x float32) uint16 {
	b := math.Float32bits(x)
	sign := uint16(b >> 16 & 0x8000)
	b &= 0x7fffffff
	switch {
	case b > 0x7f800000:
		return sign | 0x7e00 | uint16(b>>13&0x3ff)
	case b >= 0x477ff000: // 65520: half a unit above the largest half
		return sign | 0x7c00
	case b < 0x38800000: // below 2^-14: adding 0.5 leaves the fraction, rounded, in the last bits
		return sign | uint16(math.Float32bits(math.Float32frombits(b)+0.5)&0x7fff)
	}
	b += 0xfff + b>>13&1 // half a unit less one, and one more if that makes it even
	return sign | uint16((b-(127-15)<<23)>>13)
}

func checkHalf(a, b int) {
	if a != b {
		panic(fmt.Sprintf("simd: %d floats and %d halves", a, b))
	}
}
