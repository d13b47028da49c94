package simd

import (
	"fmt"
	"math"

	"github.com/viterin/vek/vek32"
)

// Dot returns the inner product of a and b: the chain of Scan with scale 1 and
// bias 0, bit for bit. It panics if lengths differ. One chain waits for each FMA,
// so it runs at a quarter of a multiply a cycle or less; score rows in panels.
func Dot(a, b []float32) float32 {
	checkPair(a, b)
	return active.Load().dot(a, b)
}

// SquaredDistance returns ‖a−b‖², summed directly:
//
//	d = a[i]-b[i], rounded; chain = fma(d, d, chain)
//
// so close vectors keep the digits that ‖a‖²−2⟨a,b⟩+‖b‖² would lose. The bits are
// the same at every level. It panics if lengths differ.
func SquaredDistance(a, b []float32) float32 {
	checkPair(a, b)
	return active.Load().squaredDistance(a, b)
}

// Norm returns ‖x‖, summed in float64: eight partial sums, x[i] in sum i%8, then
// ((0+4)+(2+6))+((1+5)+(3+7)). Norms are stored with the rows and decide about
// ties, so their bits must not depend on the CPU; vek32.Norm sums in float32, in
// an order that changes with the level. Squares of float32 are exact in float64,
// so a compiler that fuses multiply and add changes nothing.
func Norm(x []float32) float64 {
	whole := len(x) &^ 7
	s := active.Load().squares(x[:whole])
	for i, v := range x[whole:] {
		s[i] += float64(v) * float64(v)
	}
	return math.Sqrt(((s[0] + s[4]) + (s[2] + s[6])) + ((s[1] + s[5]) + (s[3] + s[7])))
}

// Epsilon bounds a norm that divides, as eps does in torch's F.normalize: a zero
// vector stays zero.
const Epsilon = 1e-12

// Normalize sets dst to x / max(‖x‖, Epsilon): the reciprocal rounded to float32,
// then each product. vek32.DivNumber is no help here, as it divides at one level
// and multiplies by the reciprocal at the other. dst may be x, but must not
// overlap it otherwise. It panics if lengths differ.
func Normalize(dst, x []float32) {
	checkPair(dst, x)
	norm := max(Norm(x), Epsilon)
	if norm > 0x1p126 { // huge: the reciprocal is denormal and would cost digits
		for i, v := range x {
			dst[i] = float32(float64(v) / norm)
		}
		return
	}
	copy(dst, x)
	vek32.MulNumber_Inplace(dst, float32(1/norm))
}

// Largest returns the largest of x, which is not empty and holds no NaN; of zeros of
// both signs any one.
func Largest(x []float32) float32 { return vek32.Max(x) }

// Blend sets dst to keepOld*old + (1-keepOld)*new, the momentum update of a
// memory bank: each product and the sum rounded, so the bits are the same at every
// level. dst may be old or new, but must not overlap them otherwise. It panics if
// lengths differ.
func Blend(dst, old, new []float32, keepOld float32) {
	checkPair(dst, old)
	checkPair(dst, new)
	var fresh [512]float32 // vek works in place and refuses overlaps: new needs a copy
	for len(dst) > 0 {
		n := copy(fresh[:], new)
		vek32.MulNumber_Inplace(fresh[:n], 1-keepOld)
		copy(dst[:n], old)
		vek32.MulNumber_Inplace(dst[:n], keepOld)
		vek32.Add_Inplace(dst[:n], fresh[:n])
		dst, old, new = dst[n:], old[n:], new[n:]
	}
}

func checkPair(a, b []float32) {
	if len(a) != len(b) {
		panic(fmt.Sprintf("simd: vectors of %d and %d floats", len(a), len(b)))
	}
}
