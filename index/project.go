package index

import (
	"math"
	"sync"

	"membank/simd"
)

// products computes aᵀ·b for many vectors a (panels of them) and few b (tiles):
// the one matrix product of this package, used to learn a basis and to project
// rows and queries onto it. It is simd.Tile without floors.
type products struct {
	dim   int
	rows  int       // vectors b
	tiles []float32 // [⌈rows/12⌉][dim][simd.TileQueries]
}

func newProducts(b simd.Matrix) products {
	p := products{dim: b.Dim, rows: b.Rows}
	size := simd.TileQueries * b.Dim
	count := (b.Rows + simd.TileQueries - 1) / simd.TileQueries
	p.tiles = make([]float32, count*size)
	for t := range count {
		first := t * simd.TileQueries
		simd.PackQueries(p.tiles[t*size:][:size], b.Slice(first, min(first+simd.TileQueries, b.Rows)))
	}
	return p
}

// first is p for the first n vectors b alone.
func (p *products) first(n int) *products {
	return &products{dim: p.dim, rows: min(n, p.rows), tiles: p.tiles}
}

// panel multiplies the vectors of a panel by all b: out[i*stride+j] is
// scale[i]·⟨a_i,b_j⟩, rounded as a score is (a chain of FMAs, then one product).
func (p *products) panel(out []float32, stride int, panel, scale []float32, scratch *simd.TileScores) {
	size := simd.TileQueries * p.dim
	for t := 0; t*simd.TileQueries < p.rows; t++ {
		simd.Tile(scratch, panel, scale, noBias[:], p.tiles[t*size:][:size], &noFloor)
		first := t * simd.TileQueries
		count := min(simd.TileQueries, p.rows-first)
		for i := range simd.PanelRows {
			to := out[i*stride+first:][:count]
			for q := range to {
				to[q] = scratch.Scores[q][i]
			}
		}
	}
}

// all multiplies every row of a by all b, on some threads: out is [a.Rows][rows].
func (p *products) all(a simd.Matrix, threads int) simd.Matrix {
	out := simd.NewMatrix(simd.Panels(a.Rows)*simd.PanelRows, p.rows)
	parallel(threads, simd.Panels(a.Rows), func() func(int) {
		panel := make([]float32, simd.PanelRows*a.Dim)
		scratch := new(simd.TileScores)
		return func(i int) {
			first := i * simd.PanelRows
			simd.Pack(panel, a.Slice(first, min(first+simd.PanelRows, a.Rows)))
			p.panel(out.Data[first*p.rows:], p.rows, panel, ones[:], scratch)
		}
	})
	return out.Slice(0, a.Rows)
}

var (
	ones, noBias [simd.PanelRows]float32
	noFloor      [simd.TileQueries]float32
)

func init() {
	for i := range ones {
		ones[i] = 1
	}
	for i := range noFloor {
		noFloor[i] = float32(math.Inf(1))
	}
}

// parallel calls do(i) for every i below n, on some goroutines that each made
// their own do with start.
func parallel(threads, n int, start func() (do func(i int))) {
	threads = max(1, min(threads, n))
	if threads == 1 { // a goroutine costs more than a small n
		do := start()
		for i := range n {
			do(i)
		}
		return
	}
	var wg sync.WaitGroup
	for id := range threads {
		wg.Go(func() {
			do := start()
			for i := n * id / threads; i < n*(id+1)/threads; i++ {
				do(i)
			}
		})
	}
	wg.Wait()
}
