package memory

import (
	"math"
	"slices"
	"testing"

	"membank/simd"
)

func near(t *testing.T, what string, got, want, tolerance float64) {
	t.Helper()
	if !(math.Abs(got-want) <= tolerance) {
		t.Errorf("%s: got %.8g, want %.8g", what, got, want)
	}
}

// The figures are those that the field's formulas give by hand.

func TestNCEVector(t *testing.T) {
	scores := matrix(3, .5, .1, -.2)
	z, err := EstimateZ(scores, 10, .5)
	if err != nil {
		t.Fatal(err)
	}
	near(t, "Z", z, 15.36668, 1e-5)
	l, err := NCELoss(scores, 10, .5, z, NCEEpsilon)
	if err != nil {
		t.Fatal(err)
	}
	near(t, "NCE", l.Loss, 1.28834, 1e-5)
	if l, err = InfoNCE(scores, .5); err != nil {
		t.Fatal(err)
	}
	near(t, "InfoNCE", l.Loss, 0.52823, 1e-5)
	if l.Right != 1 {
		t.Errorf("accuracy %v", l.Right)
	}
}

func TestMomentumVector(t *testing.T) {
	s := mustSlots(t, nil, Config{Rows: 1, Views: []View{{Dim: 2, Init: InitZeros}}})
	mustUpdate(t, s, []int64{0}, matrix(2, 1, 0), UpdateOptions{})
	mustUpdate(t, s, []int64{0}, matrix(2, 0, 1), UpdateOptions{KeepOld: .9})
	row := gathered(t, s.Bank, 0)
	near(t, "x", float64(row[0]), 0.9939, 5e-5)
	near(t, "y", float64(row[1]), 0.1104, 5e-5)
}

func TestSinkhornVector(t *testing.T) {
	q, err := Sinkhorn(simd.Matrix{}, matrix(2, 1, 0, .8, .2, .6, .5), SinkhornOptions{Epsilon: .5, Iterations: 3})
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []float64{.7032, .2968, .5157, .4843, .2814, .7186} {
		near(t, "Q", q.Data[i], want, 5e-5)
	}
}

func TestTransformVector(t *testing.T) {
	half := float32(math.Sqrt(.75))
	q, k := Extrapolate(matrix(2, 1, 0), matrix(2, .5, half), []float64{1.6})
	near(t, "s", float64(simd.Dot(q.Row(0), k.Row(0))), -0.46, 1e-6)
}

// Larger scores than float32's exp can take: losses and assignments stay finite.
func TestHugeScoresOverflowNothing(t *testing.T) {
	scores := matrix(3, 500, 400, -900, 0, 1000, 20)
	l, err := InfoNCE(scores, .07)
	if err != nil {
		t.Fatal(err)
	}
	near(t, "InfoNCE", l.Each[1], 1000/.07, 1e-9*1000/.07)
	if l, err = NCELoss(scores, 10, .07, 1, NCEEpsilon); err != nil || math.IsNaN(l.Loss) || math.IsInf(l.Loss, 0) {
		t.Errorf("NCE: %v, %v", l.Loss, err)
	}
	q, err := Sinkhorn(simd.Matrix{}, scores, SinkhornOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for i := range q.Rows {
		sum := 0.0
		for _, v := range q.Row(i) {
			sum += v
		}
		near(t, "sum of an assignment", sum, 1, 1e-9)
	}
	if _, err := EstimateZ(scores, 10, .07); err == nil {
		t.Error("a Z beyond float64 was returned")
	}
}

func mustUpdate(t testing.TB, s *Slots, ids []int64, rows simd.Matrix, o UpdateOptions) Written {
	t.Helper()
	w, err := s.Update(background, ids, []simd.Matrix{rows}, o)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func mustPush(t testing.TB, q *Queue, rows simd.Matrix, o PushOptions) Written {
	t.Helper()
	w, err := q.Push(background, []simd.Matrix{rows}, o)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// gathered is one row of the first view.
func gathered(t testing.TB, b *Bank, id int64) []float32 {
	t.Helper()
	m, err := b.Gather(background, []int64{id})
	if err != nil {
		t.Fatal(err)
	}
	return m[0].Row(0)
}

func sameRow(t testing.TB, what string, got, want []float32) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s: got %v, want %v", what, got, want)
	}
}
