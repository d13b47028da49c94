package simd

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

// halfValue is what the standard says a half means; NaN for all NaN.
func halfValue(h uint16) float64 {
	sign := 1 - 2*float64(h>>15)
	exponent, fraction := int(h>>10&31), float64(h&0x3ff)
	switch {
	case exponent == 31 && fraction != 0:
		return math.NaN()
	case exponent == 31:
		return math.Inf(int(sign))
	case exponent == 0:
		return sign * math.Ldexp(fraction, -24)
	}
	return sign * math.Ldexp(1024+fraction, exponent-25)
}

func TestWidenHalfOfEveryValue(t *testing.T) {
	all := make([]uint16, 1<<16)
	for i := range all {
		all[i] = uint16(i)
	}
	everyLevel(t, func(t *testing.T) {
		got := make([]float32, len(all))
		WidenHalf(got, all)
		for i, x := range got {
			want := float32(halfValue(uint16(i)))
			bits := math.Float32bits(want)
			if want != want {
				bits = uint32(i>>15)<<31 | 0x7fc00000 | uint32(i&0x3ff)<<13
			}
			if math.Float32bits(x) != bits {
				t.Fatalf("half %04x: %08x, want %08x", i, math.Float32bits(x), bits)
			}
		}
		for n := range 70 { // tails
			short := make([]float32, n+1)
			short[n] = 9
			WidenHalf(short[:n], all[0x3c00:][:n])
			if !slices.Equal(short[:n], got[0x3c00:][:n]) || short[n] != 9 {
				t.Fatalf("%d halves: %v", n, short)
			}
		}
	})
}

func TestNarrowHalfKeepsEveryHalf(t *testing.T) {
	for i := range 1 << 16 {
		h := uint16(i)
		var back [1]uint16
		NarrowHalf(back[:], []float32{widen(h)})
		if want := h; h&0x7c00 == 0x7c00 && h&0x3ff != 0 {
			if back[0] != want|0x200 {
				t.Fatalf("NaN %04x came back as %04x", h, back[0])
			}
		} else if back[0] != want {
			t.Fatalf("half %04x came back as %04x", h, back[0])
		}
	}
}

func TestNarrowHalfRoundsToNearestEven(t *testing.T) {
	// The oracle looks among all non-negative halves; 65536 stands for infinity.
	value := func(h int) float64 {
		if h == 0x7c00 {
			return 65536
		}
		return halfValue(uint16(h))
	}
	nearest := func(x float64) uint16 {
		low, high := 0, 0x7c00
		for high-low > 1 {
			if middle := (low + high) / 2; value(middle) <= x {
				low = middle
			} else {
				high = middle
			}
		}
		switch below, above := x-value(low), value(high)-x; {
		case below < above || below == above && low%2 == 0:
			return uint16(low)
		}
		return uint16(high)
	}
	r := rand.New(rand.NewPCG(3, 3))
	check := func(x float32) {
		var got [1]uint16
		NarrowHalf(got[:], []float32{x})
		want := nearest(math.Min(math.Abs(float64(x)), 65536))
		if math.Signbit(float64(x)) {
			want |= 0x8000
		}
		if got[0] != want {
			t.Fatalf("%b: %04x, want %04x", x, got[0], want)
		}
	}
	for h := range 0x7c00 { // ties, and their neighbours
		middle := float32((value(h) + value(h+1)) / 2)
		for _, x := range []float32{middle, math.Nextafter32(middle, 0), math.Nextafter32(middle, 1e9)} {
			check(x)
			check(-x)
		}
	}
	for range 100_000 {
		check(float32(math.Ldexp(r.NormFloat64(), r.IntN(44)-28)))
	}
	for _, x := range []float32{0, float32(math.Copysign(0, -1)), 65504, 65519.996, 65520, 1e30, float32(math.Inf(-1)), 0x1p-149} {
		check(x)
	}
}
