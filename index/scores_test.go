package index

import (
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"testing"

	"membank/simd"
)

// Scores are those of a Search for all rows, and rows that it would leave out are left.
func TestScoresAreThoseOfTheSearch(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 9))
	fill := func(rows int) simd.Matrix {
		m := simd.NewMatrix(rows, 19)
		for i := range m.Rows {
			for d := range m.Row(i) {
				m.Row(i)[d] = float32(rng.NormFloat64())
			}
		}
		return m
	}
	rows := fill(300)
	ix, err := FromMatrix(rows, MatrixOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, queries := range []simd.Matrix{fill(1), fill(29)} {
		exclude := make([]int64, queries.Rows)
		for i := range exclude {
			exclude[i] = int64(i * 3)
		}
		for _, metric := range []Metric{Cosine, Dot, L2} {
			o := Options{K: rows.Rows, Metric: metric, ExcludeRow: exclude, Allow: func(row int64) bool { return row%5 != 1 }, Threads: 3}
			want, err := ix.Search(t.Context(), queries, o)
			if err != nil {
				t.Fatal(err)
			}
			got := make([][]float32, queries.Rows)
			for q := range got {
				got[q] = make([]float32, rows.Rows)
				for i := range got[q] {
					got[q][i] = float32(math.NaN())
				}
			}
			if err := ix.Scores(t.Context(), queries, o, got); err != nil {
				t.Fatal(err)
			}
			for q, hits := range want.Hits {
				scored := 0
				for _, s := range got[q] {
					if s == s {
						scored++
					}
				}
				if scored != len(hits) || scored < 200 {
					t.Fatalf("%v: query %d has %d scores, and %d hits", metric, q, scored, len(hits))
				}
				for _, h := range hits {
					if got[q][h.Row] != h.Score {
						t.Fatalf("%v: row %d scores %v, in the search %v", metric, h.Row, got[q][h.Row], h.Score)
					}
				}
			}
		}
	}
}

func TestScoresRefuses(t *testing.T) {
	ix, err := FromMatrix(simd.NewMatrix(40, 3), MatrixOptions{})
	if err != nil {
		t.Fatal(err)
	}
	room := [][]float32{make([]float32, 40)}
	if err := ix.Scores(t.Context(), simd.NewMatrix(1, 4), Options{}, room); !errors.Is(err, ErrQuery) {
		t.Error(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := ix.Scores(ctx, simd.NewMatrix(1, 3), Options{}, room); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}
