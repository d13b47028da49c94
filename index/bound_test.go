package index

import (
	"math"
	"math/rand/v2"
	"testing"

	"membank/simd"
	"pgregory.net/rapid"
)

// firstPass is the kernel's L2 score of one row.
func firstPass(query, row []float32) float32 {
	norm := simd.Norm(row)
	return simd.Dot(row, query) + float32(-norm*norm/2)
}

// The floor must never be above the first-pass score of a row whose direct
// distance is just good enough: that row would be lost.
func TestBoundNeverLosesARow(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		dim := rapid.SampledFrom([]int{1, 2, 3, 16, 128, 384, 1000, 4096}).Draw(t, "dim")
		rng := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0))
		exponent := rapid.IntRange(-140, 55)
		queryScale := math.Ldexp(1, exponent.Draw(t, "query scale"))
		rowScale := math.Ldexp(1, exponent.Draw(t, "row scale"))
		offset := rapid.SampledFrom([]float64{0, 1, 1000}).Draw(t, "offset")
		near := rapid.Bool().Draw(t, "near")
		query, row := make([]float32, dim), make([]float32, dim)
		for i := range query {
			query[i] = float32(queryScale * (offset + rng.NormFloat64()))
			row[i] = float32(rowScale * (offset + rng.NormFloat64()))
			if near {
				row[i] = query[i] * float32(1+1e-6*rng.NormFloat64())
			}
		}
		qn, xn := simd.Norm(query), simd.Norm(row)
		if L2.overflows(qn, xn) {
			t.Skip("refused by Search")
		}
		exact := -simd.SquaredDistance(query, row)
		b := newBound(dim, []float64{qn})
		if floor, s := b.floor(0, exact, xn), firstPass(query, row); !(s >= floor) {
			t.Fatalf("the row at -d² = %v has first score %v, under the floor %v", exact, s, floor)
		}
	})
}

// A floor that lets everything through would be safe and useless: what is
// farther by more than some rounding errors must stay out.
func TestBoundPrunes(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	query, row := make([]float32, 384), make([]float32, 384)
	for i := range query {
		query[i] = float32(rng.NormFloat64())
		row[i] = float32(rng.NormFloat64())
	}
	b := newBound(384, []float64{simd.Norm(query)})
	d := simd.SquaredDistance(query, row)
	floor := b.floor(0, -d*0.999, simd.Norm(row))
	if s := firstPass(query, row); s >= floor {
		t.Fatalf("a row 0.1 %% too far passes: %v >= %v", s, floor)
	}
}

func TestBoundRisesWithTheExactFloor(t *testing.T) {
	b := newBound(16, []float64{3})
	last := float32(math.Inf(-1))
	for _, exact := range []float32{lowest, -1e30, -100, -10, -1, -1e-3, 0, 1, 1e30} {
		f := b.floor(0, exact, 5)
		if f < last || f < lowest {
			t.Fatalf("floor(%v) = %v after %v", exact, f, last)
		}
		last = f
	}
}

func TestRoundDown(t *testing.T) {
	for _, x := range []float64{0, 1, -1, 1 + 1e-12, 1 - 1e-12, -1 - 1e-12, 1e300, -1e300, math.NaN(), 1e-50, -1e-50} {
		f := roundDown(x)
		if float64(f) > x && x > lowest || math.IsInf(float64(f), 0) || f != f {
			t.Errorf("roundDown(%v) = %v", x, f)
		}
	}
}
