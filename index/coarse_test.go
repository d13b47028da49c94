package index

import (
	"math/rand/v2"
	"slices"
	"testing"

	"membank/simd"
)

// What is found by bytes is what a scan of all centroids finds, bit for bit.
func TestCoarseIsExact(t *testing.T) {
	fills := map[string]func(r *rand.Rand, row []float32, i int){
		"normal": func(r *rand.Rand, row []float32, _ int) {
			for d := range row {
				row[d] = float32(r.NormFloat64())
			}
		},
		"around a mean": func(r *rand.Rand, row []float32, _ int) {
			for d := range row {
				row[d] = 1 + 1e-3*float32(r.NormFloat64())
			}
		},
		"copies": func(_ *rand.Rand, row []float32, i int) {
			r := rand.New(rand.NewPCG(uint64(i%7), 1))
			for d := range row {
				row[d] = float32(r.IntN(3))
			}
		},
		"one large": func(r *rand.Rand, row []float32, i int) {
			for d := range row {
				row[d] = 1e-4 * float32(r.NormFloat64())
			}
			row[i%len(row)] = 1e3 * float32(r.NormFloat64())
		},
		"zeros": func(_ *rand.Rand, row []float32, i int) {
			row[0] = float32(i % 2)
		},
		"tiny": func(r *rand.Rand, row []float32, _ int) {
			for d := range row {
				row[d] = 1e-30 * float32(r.NormFloat64())
			}
		},
	}
	eachLevel(t, func(t *testing.T) {
		for name, fill := range fills {
			for _, dim := range []int{1, 7, 130, 2050} {
				for _, rows := range []int{leastCoarse, 2100} {
					if dim*rows > 1<<21 {
						continue
					}
					rng := rand.New(rand.NewPCG(uint64(dim), uint64(rows)))
					m, queries := simd.NewMatrix(rows, dim), simd.NewMatrix(27, dim)
					for i := range m.Rows {
						fill(rng, m.Row(i), i)
					}
					for i := range queries.Rows {
						fill(rng, queries.Row(i), i)
					}
					ix, err := FromMatrix(m, MatrixOptions{NoCodes: true})
					if err != nil {
						t.Fatal(err)
					}
					c := newCoarse(m, ix)
					for _, k := range []int{1, 5, rows / coarseShare} {
						if !coarseServes(Dot, m, k) || coarseServes(L2, m, k) || coarseServes(Dot, m, rows) {
							t.Fatalf("serves %d of %d", k, rows)
						}
						want := mustSearch(t, ix, queries, Options{K: k, Metric: Dot}).Hits
						for _, each := range []int{1, 3, 27} {
							for first := 0; first < queries.Rows; first += each {
								got, err := c.nearest(t.Context(), queries.Slice(first, first+each), k, 2)
								if err != nil {
									t.Fatal(err)
								}
								for q := range got {
									if !slices.Equal(got[q], want[first+q]) {
										t.Fatalf("%s, %d of %d × %d, query %d:\n got %v\nwant %v", name, k, rows, dim, first+q, got[q], want[first+q])
									}
								}
							}
						}
					}
				}
			}
		}
	})
}

// Hardly more centroids are scored than are asked for.
func TestCoarseScoresFew(t *testing.T) {
	m := simd.NewMatrix(3000, 128)
	sslLike(m, 11)
	for i := range m.Rows {
		simd.Normalize(m.Row(i), m.Row(i))
	}
	centroids, queries := m.Slice(0, 2900), m.Slice(2900, 3000)
	ix, err := FromMatrix(centroids, MatrixOptions{NoCodes: true})
	if err != nil {
		t.Fatal(err)
	}
	w := newCoarseWorker(newCoarse(centroids, ix), 8)
	scored := 0
	for q := 0; q < queries.Rows; q += 10 {
		w.tile(queries.Slice(q, q+10), make([][]Hit, 10))
		scored += len(w.found)
	}
	if most := 10 * queries.Rows; scored > most {
		t.Errorf("%d centroids scored of %d queries for 8 each", scored, queries.Rows)
	}
}
