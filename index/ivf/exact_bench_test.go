package ivf

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"

	"membank/index"
	"membank/simd"
)

// Exact search of a bank in row order and of the same bank by lists, whose
// centroids and radii leave most lists out where clusters are tight: noise is what
// a coordinate adds to that of its unit centre.
func BenchmarkExact(b *testing.B) {
	ctx := context.Background()
	for _, noise := range []float64{0.03, 0.06, 0.1} {
		rng := rand.New(rand.NewPCG(7, 7))
		const rows, dim, clusters = 100_000, 128, 500
		centres := simd.NewMatrix(clusters, dim)
		for i := range centres.Data {
			centres.Data[i] = float32(rng.NormFloat64())
		}
		m := simd.NewMatrix(rows+512, dim)
		for i := range m.Rows {
			c := centres.Row(rng.IntN(clusters))
			scale := 1 / simd.Norm(c)
			for d := range c {
				m.Row(i)[d] = float32(float64(c[d])*scale + noise*rng.NormFloat64())
			}
		}
		l := newLife(b, b.TempDir(), m.Slice(0, rows))
		if _, _, err := index.BuildCodes(ctx, l.db, bank, index.BuildOptions{}); err != nil {
			b.Fatal(err)
		}
		for _, layout := range []string{"flat", "lists"} {
			if layout == "lists" {
				if _, err := Build(ctx, l.db, bank, BuildOptions{Lists: clusters}); err != nil {
					b.Fatal(err)
				}
			}
			for _, n := range []int{1, 512} {
				b.Run(fmt.Sprintf("noise=%v/%s/queries=%d", noise, layout, n), func(b *testing.B) {
					s, err := l.db.Snapshot(bank)
					l.must(err)
					defer s.Close()
					ix, queries := index.New(s), m.Slice(rows, rows+n)
					for b.Loop() {
						if _, err := ix.Search(ctx, queries, index.Options{K: 10}); err != nil {
							b.Fatal(err)
						}
					}
				})
			}
		}
		l.must(l.db.Close())
	}
}
