package index

import "math"

// An expanded first pass for L2. The kernels compute s = ⟨q,x⟩ − ½‖x‖², which
// loses digits where q and x are close, so s only decides which rows are scored
// again by simd.SquaredDistance, and must never miss one. bound turns "a row
// with D ≤ T enters", D being that direct float32 distance, into "it has s ≥
// floor".
//
// Let u = 2⁻²⁴ be the rounding unit, η = 2⁻¹⁵⁰ half the smallest denormal (the
// rounding error where a result underflows), n the dimension, M ≥ ‖x‖.
//
//  1. D is a chain of n FMAs over squares of differences rounded once (which
//     cannot underflow: a denormal difference is exact). Every term is positive
//     and is rounded down at most n+2 times, so D ≥ (1−(n+2)u)·‖q−x‖² − nη, and
//     D ≤ T gives ‖q−x‖² ≤ T' = (T + nη) / (1−(n+2)u).
//  2. Exactly, ⟨q,x⟩ − ½‖x‖² = ½(‖q‖² − ‖q−x‖²) ≥ ½(‖q‖² − T').
//  3. The chain of n FMAs errs by at most γ·Σ|q·x| + 2nη ≤ γ‖q‖M + 2nη, where
//     γ = nu/(1−nu); the bias, −½‖x‖² in float64 rounded to float32, by
//     u·M² + 2η; their sum by u·(2‖q‖M + M²) + η. With
//     slack = (γ+2u)·‖q‖M + 2u·M² + (2n+4)η,
//     s ≥ ½(‖q‖² − T') − slack.
//  4. This file computes in float64: ‖q‖² and T' carry a relative error of less
//     than (n+8)·2⁻⁵², which is taken off as well, and M is raised by 2⁻²⁰ in
//     case the store rounded it. The result is rounded down to float32.
//
// Where that is no bound at all (n near 2²⁴), the floor lets every row through.
// Any first pass with a proven error serves the same way: a floor, and a score
// that is computed anew for what reaches it.
type bound struct {
	norm   []float64 // ‖q‖ of each query
	shrink float64   // 1 − (n+2)u
	cross  float64   // γ+2u
	tiny   float64   // nη
	float  float64   // (n+8)·2⁻⁵²
}

const (
	unit     = 0x1p-24
	denormal = 0x1p-150
)

func newBound(dim int, norms []float64) *bound {
	n := float64(dim)
	return &bound{
		norm:   norms,
		shrink: 1 - (n+2)*unit,
		cross:  n*unit/(1-n*unit) + 2*unit,
		tiny:   n * denormal,
		float:  (n + 8) * 0x1p-52,
	}
}

// floor returns the first-pass score that every row has whose internal score
// −D reaches exact, for query q and rows of norm maxNorm at most. It rises with
// exact.
func (b *bound) floor(q int, exact float32, maxNorm float64) float32 {
	if b.shrink < 0.5 {
		return lowest
	}
	norm := b.norm[q]
	farthest := (b.tiny - float64(exact)) / b.shrink
	slack := b.slack(norm, maxNorm) + b.float*(norm*norm+math.Abs(farthest))
	return roundDown((norm*norm-farthest)/2 - slack)
}

// reached returns an internal score −D that a row has at least whose first-pass score
// is s, for query q and rows of norm maxNorm at most. It is steps 1 to 4 the other
// way: ‖q−x‖² ≤ ‖q‖² − 2·(s − slack), and D rounds each term up n+2 times at most.
func (b *bound) reached(q int, s float32, maxNorm float64) float32 {
	if b.shrink < 0.5 {
		return lowest
	}
	norm := b.norm[q]
	farthest := norm*norm - 2*float64(s)
	farthest += 2 * (b.slack(norm, maxNorm) + b.float*(norm*norm+math.Abs(farthest)))
	return roundDown(-max(farthest, 0)/b.shrink - 2*b.tiny)
}

// slack is that of step 3.
func (b *bound) slack(norm, maxNorm float64) float64 {
	most := maxNorm * (1 + 0x1p-20)
	return b.cross*norm*most + 2*unit*most*most + 2*b.tiny + 4*denormal
}

// roundDown returns the largest finite float32 that is no more than x, or lowest.
func roundDown(x float64) float32 {
	if !(x > lowest) {
		return lowest
	}
	f := float32(min(x, math.MaxFloat32))
	if float64(f) > x {
		f = math.Nextafter32(f, float32(math.Inf(-1)))
	}
	return f
}
