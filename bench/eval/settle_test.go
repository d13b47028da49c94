package eval

import (
	"cmp"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"membank/index"
	"membank/simd"
)

// Neighbours of a collapsed space are those of float64, whichever way they were found:
// rows that differ by less than float32's scores resolve, some of them equal, one zero.
func TestNeighboursAreThoseOfFloat64(t *testing.T) {
	const n, k = 160, 7
	rng := rand.New(rand.NewPCG(3, 4))
	for _, spread := range []float64{1e-5, 1e-3, 1} {
		m := simd.NewMatrix(n, 24)
		for i := range n {
			for d := range m.Row(i) {
				m.Row(i)[d] = float32(math.Sin(float64(d)+1) + spread*rng.NormFloat64())
			}
		}
		clear(m.Row(17))
		copy(m.Row(150), m.Row(20))
		db := open(t)
		bank := write(t, db, "bank", m, nil)
		of, err := takeSample(t.Context(), bank, n, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, metric := range []index.Metric{index.Cosine, index.Dot, index.L2} {
			score := func(a, b []float32) float64 {
				var xy, xx, yy, square float64
				for d, v := range a {
					x, y := float64(v), float64(b[d])
					xy, xx, yy, square = xy+x*y, xx+x*x, yy+y*y, square+(x-y)*(x-y)
				}
				switch metric {
				case index.Dot:
					return xy
				case index.L2:
					return -square
				}
				return xy / (max(math.Sqrt(xx), 1e-12) * max(math.Sqrt(yy), 1e-12))
			}
			nb, err := findNeighbours(t.Context(), bank, of, k, metric, RunOptions{Threads: 2})
			if err != nil {
				t.Fatal(err)
			}
			for i, hits := range nb.hits {
				var order []int
				for j := range n {
					if j != i {
						order = append(order, j)
					}
				}
				slices.SortStableFunc(order, func(a, b int) int {
					return cmp.Compare(score(m.Row(i), m.Row(b)), score(m.Row(i), m.Row(a)))
				})
				if len(hits) != k {
					t.Fatalf("%v, spread %v: row %d has %d neighbours", metric, spread, i, len(hits))
				}
				for j, h := range hits {
					want := score(m.Row(i), m.Row(order[j]))
					if int(h.Row) != order[j] && math.Abs(score(m.Row(i), m.Row(int(h.Row)))-want) > 1e-14*math.Abs(want) {
						t.Fatalf("%v, spread %v: neighbour %d of row %d is %d, want %d", metric, spread, j, i, h.Row, order[j])
					}
					if printed := float32(math.Abs(want)); float32(math.Abs(float64(h.Score))) != printed && math.Abs(float64(h.Score)-want) > 1e-7*math.Abs(want) && metric != index.L2 {
						t.Fatalf("%v: score %v, want %v", metric, h.Score, want)
					}
				}
			}
		}
	}
}

// A list decides only if nothing outside of it can be among the k best.
func TestListsThatDecide(t *testing.T) {
	x := exactly{m: simd.NewMatrix(1, 100), metric: index.Cosine}
	e := x.slack(0)
	if e < 100*0x1p-24 || e > 200*0x1p-24 {
		t.Errorf("slack of 100 dimensions is %v", e)
	}
	for _, c := range []struct {
		last float64
		want bool
	}{{0.5, false}, {0.5 - 1.9*e, false}, {0.5 - 2.1*e, true}} {
		hits := []index.Hit{{Score: 0.9}, {Score: 0.5}, {Score: float32(c.last)}}
		if got := x.decides(0, 2, hits); got != c.want {
			t.Errorf("a list that ends at %v decides: %v", c.last, got)
		}
	}
}
