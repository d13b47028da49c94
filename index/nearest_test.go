package index

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"membank/simd"
)

// Nearest is Search with K = 1, bit for bit, where rows are equal, nearly equal, far
// away, or zero, at every level.
func TestNearestIsSearch(t *testing.T) {
	for _, level := range simd.Levels() {
		for _, dim := range []int{1, 7, 64, 257} {
			for _, rows := range []int{1, 2, 31, 33, 200, 2 * matrixBlock / 3 * 2} {
				for _, spread := range []float64{1, 1e-3, 1e-6} {
					t.Run(fmt.Sprint(level, "/dim=", dim, "/rows=", rows, "/spread=", spread), func(t *testing.T) {
						if rows > matrixBlock && dim > 7 {
							t.Skip("slow")
						}
						defer simd.Use(level)()
						rng := rand.New(rand.NewPCG(uint64(dim), uint64(rows)))
						centre := make([]float64, dim)
						for i := range centre {
							centre[i] = 3 * rng.NormFloat64()
						}
						around := func(n int) simd.Matrix {
							m := simd.NewMatrix(n, dim)
							for i := range m.Data {
								m.Data[i] = float32(centre[i%dim] + spread*rng.NormFloat64())
							}
							return m
						}
						m, queries := around(rows), around(50)
						for i := 3; i < rows; i += 3 {
							copy(m.Row(i), m.Row(rng.IntN(i)))
						}
						clear(queries.Row(9))
						copy(queries.Row(5), m.Row(rows/2))
						ix, err := FromMatrix(m, MatrixOptions{NoCodes: true})
						if err != nil {
							t.Fatal(err)
						}
						for _, metric := range []Metric{Cosine, Dot, L2} {
							want, err := ix.Search(context.Background(), queries, Options{K: 1, Metric: metric})
							if err != nil {
								t.Fatal(err)
							}
							got, scores := make([]int32, queries.Rows), make([]float32, queries.Rows)
							if err := ix.Nearest(context.Background(), queries, metric, got, scores); err != nil {
								t.Fatal(err)
							}
							for q, hits := range want.Hits {
								if h := (Hit{int64(got[q]), scores[q]}); h != hits[0] {
									t.Fatalf("%v, query %d: nearest %v, Search finds %v", metric, q, h, hits[0])
								}
							}
						}
					})
				}
			}
		}
	}
}

func TestNearestRefuses(t *testing.T) {
	m := simd.NewMatrix(3, 2)
	m.Row(1)[0] = 1e18
	ix, err := FromMatrix(m, MatrixOptions{})
	if err != nil {
		t.Fatal(err)
	}
	rows, scores := make([]int32, 2), make([]float32, 2)
	ask := func(ix *Index, x float32, metric Metric) error {
		queries := simd.NewMatrix(2, 2)
		queries.Row(1)[1] = x
		return ix.Nearest(context.Background(), queries, metric, rows, scores)
	}
	var bad *QueryError
	if err := ask(ix, float32(math.NaN()), Cosine); !errors.As(err, &bad) || bad.Query != 1 {
		t.Errorf("NaN in query 1: %v", err)
	}
	if err := ask(ix, 1e22, Dot); !errors.Is(err, ErrOverflow) {
		t.Errorf("a product beyond float32: %v", err)
	}
	if err := ask(&Index{dim: 2}, 1, Cosine); !errors.Is(err, ErrOptions) {
		t.Errorf("an index that is not of a matrix: %v", err)
	}
	ctx, stop := context.WithCancelCause(context.Background())
	cause := errors.New("enough")
	stop(cause)
	if err := ix.Nearest(ctx, simd.NewMatrix(1, 2), L2, rows, scores); !errors.Is(err, cause) {
		t.Errorf("cancelled: %v", err)
	}
	none, err := FromMatrix(simd.NewMatrix(0, 2), MatrixOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if err := ask(none, 1, L2); err != nil || rows[1] != -1 || scores[1] == scores[1] {
		t.Errorf("no rows: %v, row %d, score %v", err, rows[1], scores[1])
	}
}
