package index

import (
	"math/rand/v2"
	"slices"
	"testing"

	"membank/simd"
)

// The answers to a batch with equal queries are those to each query alone, by hand:
// every row scored, the best kept, under every option that goes with it.
func TestEqualQueries(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	const rows, dim = 700, 12
	kinds := simd.NewMatrix(9, dim)
	for i := range kinds.Data {
		kinds.Data[i] = float32(rng.IntN(7) - 3) // sums of small integers are exact in any order
	}
	clear(kinds.Row(3))
	m := simd.NewMatrix(rows, dim)
	for i := range m.Rows {
		copy(m.Row(i), kinds.Row(rng.IntN(kinds.Rows)))
		if i%50 == 0 {
			m.Row(i)[0] += float32(i) // some of their own
		}
	}
	ix, err := FromMatrix(m, MatrixOptions{})
	if err != nil {
		t.Fatal(err)
	}
	self := make([]int64, rows)
	for i := range self {
		self[i] = int64(i)
	}
	if findEqual(m) == nil {
		t.Fatal("these queries are to be found equal")
	}
	for name, o := range map[string]Options{
		"k":         {K: 10, Metric: Dot},
		"self":      {K: 10, Metric: Dot, ExcludeRow: self},
		"one":       {K: 1, Metric: Dot, ExcludeRow: self},
		"all":       {K: 2 * rows, Metric: Dot, ExcludeRow: self},
		"allowed":   {K: 5, Metric: Dot, ExcludeRow: self, Allow: func(row int64) bool { return row%3 > 0 }},
		"reach":     {K: 200, Metric: Dot, ExcludeRow: self, HasMinScore: true, MinScore: 5},
		"no memory": {K: 10, Metric: Dot, ExcludeRow: self, Memory: rows * 10 * hitBytes},
	} {
		got, err := ix.Search(t.Context(), m, o)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		for q := range rows {
			var want []Hit
			for r := range rows {
				if o.ExcludeRow != nil && r == q || o.Allow != nil && !o.Allow(int64(r)) {
					continue
				}
				s := float32(0)
				for d := range dim {
					s += m.Row(q)[d] * m.Row(r)[d]
				}
				if !o.HasMinScore || s >= o.MinScore {
					want = append(want, Hit{Row: int64(r), Score: s})
				}
			}
			slices.SortStableFunc(want, func(a, b Hit) int {
				if a.Score != b.Score {
					return int(b.Score - a.Score)
				}
				return int(a.Row - b.Row)
			})
			if want = want[:min(len(want), o.K)]; !slices.Equal(got.Hits[q], want) {
				t.Fatalf("%s, query %d: %v, want %v", name, q, got.Hits[q], want)
			}
		}
	}
	if _, err := ix.Search(t.Context(), m, Options{K: 10, Memory: rows*10*hitBytes - 1}); err == nil {
		t.Error("an answer larger than its memory")
	}
}
