package simd

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
)

// Products is the chain of its definition at every level, from where it stands.
func TestProducts(t *testing.T) {
	for _, n := range []int{0, 1, 2, 7, 129} {
		rng := rand.New(rand.NewPCG(5, uint64(n)))
		a, b := make([]float64, n*StripColumns), make([]float64, ProductStrips*n*StripColumns)
		for _, x := range [][]float64{a, b} {
			for i := range x {
				x[i] = rng.NormFloat64()
			}
		}
		var start, want ProductTile
		for i := range want {
			for j := range want[i] {
				start[i][j] = rng.NormFloat64()
				chain := start[i][j]
				for r := range n {
					chain = math.FMA(a[r*StripColumns+i], b[j/StripColumns*n*StripColumns+r*StripColumns+j%StripColumns], chain)
				}
				want[i][j] = chain
			}
		}
		for _, level := range Levels() {
			t.Run(fmt.Sprint(level, "/n=", n), func(t *testing.T) {
				defer Use(level)()
				got := start
				Products(&got, a, b)
				if got != want {
					t.Fatalf("got %v\nwant %v", got, want)
				}
				// Some rows at a time come to the same.
				got = start
				for r := range n {
					var strips []float64
					for s := range ProductStrips {
						strips = append(strips, b[(s*n+r)*StripColumns:][:StripColumns]...)
					}
					Products(&got, a[r*StripColumns:][:StripColumns], strips)
				}
				if got != want {
					t.Fatalf("row by row: got %v\nwant %v", got, want)
				}
			})
		}
	}
}

func TestProductsPanics(t *testing.T) {
	for _, c := range [][2]int{{8, 16}, {7, 21}, {0, 24}} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("strips of %v floats pass", c)
				}
			}()
			Products(new(ProductTile), make([]float64, c[0]), make([]float64, c[1]))
		}()
	}
}

func BenchmarkProducts(b *testing.B) {
	const n = 256
	x, y := make([]float64, n*StripColumns), make([]float64, ProductStrips*n*StripColumns)
	for _, level := range Levels() {
		b.Run(string(level), func(b *testing.B) {
			defer Use(level)()
			var c ProductTile
			for b.Loop() {
				Products(&c, x, y)
			}
			b.ReportMetric(2*8*24*n*float64(b.N)/b.Elapsed().Seconds()/1e9, "GFLOP/s")
		})
	}
}
