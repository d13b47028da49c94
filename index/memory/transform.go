package memory

import (
	"fmt"
	"math"
	"math/rand/v2"

	"membank/simd"
)

// Elementwise says which transformations of features draw a number for every
// element and not one for the step: --dim_mask of the reference.
type Elementwise string

const (
	ElementwiseNone Elementwise = "none" // the reference's command line, and the default ("")
	ElementwisePos  Elementwise = "pos"
	ElementwiseNeg  Elementwise = "neg"
	ElementwiseBoth Elementwise = "both" // the reference's class default
)

// Elementwises are the names of all of them.
var Elementwises = []Elementwise{ElementwiseNone, ElementwisePos, ElementwiseNeg, ElementwiseBoth}

// TransformOptions say how features are transformed before the logits (FT, Zhu et
// al. 2021).
type TransformOptions struct {
	AlphaPositive float64 // of Beta(α,α) for positives; 0: 2.0
	AlphaNegative float64 // for negatives; 0: 1.6
	Uniform       bool    // draw both from U(0,1) instead
	Elementwise   Elementwise
	Renormalise   bool // divide the transformed positives by their norms (--postmix_norm)
	Seed          uint64
	Step          int64
}

// Mixed are transformed features, and what they were mixed with.
type Mixed struct {
	Queries, Keys simd.Matrix
	Negatives     simd.Matrix
	Lambda        []float64 // one of the step, or one an element of a row
	Beta          []float64 // likewise
	Permutation   []int     // partner of each negative
}

// Transform extrapolates positives and interpolates negatives:
//
//	q' = λq + (1−λ)k, k' = λk + (1−λ)q   with λ = 1 + Beta(α⁺,α⁺), between 1 and 2
//	M' = βM + (1−β)M[permutation]        with β = Beta(α⁻,α⁻)
//
// For unit q and k with s = ⟨q,k⟩ the new score is s + 2λ(1−λ)(1−s) ≤ s. The result
// is for logits only: the queue receives the keys as they were. The draw is a
// function of Seed and Step.
func Transform(queries, keys, negatives simd.Matrix, o TransformOptions) (Mixed, error) {
	if o.AlphaPositive == 0 {
		o.AlphaPositive = 2.0
	}
	if o.AlphaNegative == 0 {
		o.AlphaNegative = 1.6
	}
	if o.Elementwise == "" {
		o.Elementwise = ElementwiseNone
	}
	switch {
	case !(o.AlphaPositive > 0) || !(o.AlphaNegative > 0) || o.AlphaPositive > 1e6 || o.AlphaNegative > 1e6:
		return Mixed{}, fmt.Errorf("%w: alphas %v and %v (above 0)", ErrOptions, o.AlphaPositive, o.AlphaNegative)
	case !contains(Elementwises, o.Elementwise):
		return Mixed{}, fmt.Errorf("%w: elementwise %q (one of %v)", ErrOptions, o.Elementwise, Elementwises)
	case queries.Rows != keys.Rows || queries.Dim != keys.Dim || negatives.Rows > 0 && negatives.Dim != keys.Dim:
		return Mixed{}, fmt.Errorf("%w: queries of %d × %d, keys of %d × %d, negatives of %d × %d", ErrRows,
			queries.Rows, queries.Dim, keys.Rows, keys.Dim, negatives.Rows, negatives.Dim)
	}
	r := rand.New(rand.NewPCG(mix(o.Seed+0xf7), mix(uint64(o.Step))))
	draw := func(alpha float64, each bool) []float64 {
		x := make([]float64, 1)
		if each {
			x = make([]float64, queries.Dim)
		}
		for i := range x {
			if o.Uniform {
				x[i] = r.Float64()
			} else {
				x[i] = beta(r, alpha)
			}
		}
		return x
	}
	m := Mixed{Lambda: draw(o.AlphaPositive, o.Elementwise == ElementwisePos || o.Elementwise == ElementwiseBoth)}
	for i := range m.Lambda {
		m.Lambda[i]++
	}
	m.Beta = draw(o.AlphaNegative, o.Elementwise == ElementwiseNeg || o.Elementwise == ElementwiseBoth)
	m.Permutation = r.Perm(negatives.Rows)
	m.Queries, m.Keys = Extrapolate(queries, keys, m.Lambda)
	if o.Renormalise {
		for i := range queries.Rows {
			simd.Normalize(m.Queries.Row(i), m.Queries.Row(i))
			simd.Normalize(m.Keys.Row(i), m.Keys.Row(i))
		}
	}
	m.Negatives = Interpolate(negatives, m.Permutation, m.Beta)
	return m, nil
}

// Extrapolate is λq + (1−λ)k and λk + (1−λ)q; lambda has one number, or one for each
// dimension.
func Extrapolate(q, k simd.Matrix, lambda []float64) (simd.Matrix, simd.Matrix) {
	return blended(q, k, lambda), blended(k, q, lambda)
}

// Interpolate is βM + (1−β)M[permutation].
func Interpolate(m simd.Matrix, permutation []int, beta []float64) simd.Matrix {
	partners := simd.NewMatrix(m.Rows, m.Dim)
	for i, p := range permutation {
		copy(partners.Row(i), m.Row(p))
	}
	return blended(m, partners, beta)
}

// blended is w·a + (1−w)·b, in float64 until the end.
func blended(a, b simd.Matrix, w []float64) simd.Matrix {
	out := simd.NewMatrix(a.Rows, a.Dim)
	for i := range a.Rows {
		x, y, to := a.Row(i), b.Row(i), out.Row(i)
		for d := range to {
			share := w[0]
			if len(w) > 1 {
				share = w[d]
			}
			to[d] = float32(share*float64(x[d]) + (1-share)*float64(y[d]))
		}
	}
	return out
}

// beta draws from Beta(α,α) as G₁/(G₁+G₂) of two gamma variates.
func beta(r *rand.Rand, alpha float64) float64 {
	for {
		a, b := gamma(r, alpha), gamma(r, alpha)
		if a+b > 0 {
			return a / (a + b)
		}
	}
}

// gamma draws from Gamma(α,1) by Marsaglia and Tsang (2000); for α < 1 by a draw for
// α+1 times U^(1/α).
func gamma(r *rand.Rand, alpha float64) float64 {
	if alpha < 1 {
		return gamma(r, alpha+1) * math.Pow(r.Float64(), 1/alpha)
	}
	d := alpha - 1.0/3
	c := 1 / math.Sqrt(9*d)
	for {
		x := r.NormFloat64()
		v := 1 + c*x
		if v <= 0 {
			continue
		}
		v = v * v * v
		if math.Log(1-r.Float64()) < x*x/2+d-d*v+d*math.Log(v) {
			return d * v
		}
	}
}
