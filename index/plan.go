package index

import (
	"cmp"
	"math"
	"slices"

	"membank/simd"
)

const (
	// Below codesFrom rows preparing queries costs as much as scanning.
	codesFrom = 4096
	// A search for one row in leastShare, or more, has no floor worth a bound.
	leastShare = 32
	// So many panels seed the floors: of many queries each pays for its scores alone, of
	// few for a first floor that many of the bank's rows reach.
	seedQueries, seedFew, seedBatch = 64, 64, 32
	// The queries of a tile for dot and L2 differ in ⟨q,μ⟩ by spread of the
	// largest norm at most.
	spread = 0.01
)

// useCodes says whether the codes are likely to help. Their answer is the same.
func (ix *Index) useCodes(o *Options) bool {
	switch {
	case ix.basis == nil || o.NoCodes:
		return false
	case ix.small:
		return true
	}
	return ix.rows >= codesFrom && (o.ranged() || int64(o.K)*leastShare <= ix.rows)
}

// batch is what one pass asks.
type batch struct {
	queries simd.Matrix
	norms   []float64
	exclude []int64   // nil, or one a query
	known   []float32 // nil, or Options.Floors of the queries
	order   []int     // which query each is of those it was picked from; nil: they are in order
}

// batch is what a pass over queries first..last asks.
func (o *Options) batch(queries simd.Matrix, norms []float64, first, last int) batch {
	b := batch{queries: queries.Slice(first, last), norms: norms[first:last]}
	if o.ExcludeRow != nil {
		b.exclude = o.ExcludeRow[first:last]
	}
	if o.Floors != nil {
		b.known = o.Floors[first:last]
	}
	return b
}

// asked is what the pass asks.
func (p *pass) asked() batch {
	return batch{queries: p.queries, norms: p.norms, exclude: p.exclude, known: p.known}
}

// arranged sorts the queries of a batch as the first stage of codes wants them: those
// of a tile share their step and the weights of what a bound grants to all rows.
func (ix *Index) arranged(b batch, o *Options, byList bool) batch {
	if b.queries.Rows <= 1 || !ix.useCodes(o) {
		return b
	}
	if o.Metric == Cosine {
		if b.queries.Rows <= simd.TileQueries || byList { // of those of lists all have one step
			return b
		}
		b.order = ix.basis.alike(b.queries, b.norms, o.Threads)
	} else {
		b.order = sortedBy(b.queries.Rows, func(q int) float32 { return simd.Dot(b.queries.Row(q), ix.basis.mean) })
	}
	return b.pick(b.order)
}

// pick is a batch of some of the queries, in that order.
func (b *batch) pick(order []int) batch {
	to := batch{queries: simd.NewMatrix(len(order), b.queries.Dim), norms: make([]float64, len(order)), order: order}
	if b.exclude != nil {
		to.exclude = make([]int64, len(order))
	}
	if b.known != nil {
		to.known = make([]float32, len(order))
	}
	for i, q := range order {
		copy(to.queries.Row(i), b.queries.Row(q))
		to.norms[i] = b.norms[q]
		if b.exclude != nil {
			to.exclude[i] = b.exclude[q]
		}
		if b.known != nil {
			to.known[i] = b.known[q]
		}
	}
	return to
}

// from is which query of the caller's query i of the pass is.
func (b *batch) from(i int) int {
	if b.order == nil {
		return i
	}
	return b.order[i]
}

// sortedBy are the numbers below n by a key.
func sortedBy(n int, key func(i int) float32) []int {
	keys, order := make([]float32, n), make([]int, n)
	for i := range order {
		order[i], keys[i] = i, key(i)
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(keys[a], keys[b]) })
	return order
}

// alike orders queries of a cosine search so that those of a tile have about the same
// tail, and among such about the same step: a tile takes the largest of each. In the
// order they came a quarter more pairs reach the second stage (400,000 × 256, noisy
// copies of 2,000 images, k = 20).
func (b *Basis) alike(queries simd.Matrix, norms []float64, threads int) []int {
	first := min(b.first, b.rows.Rows)
	coordinates := b.onto.first(first).all(queries, threads)
	steps := make([]float32, queries.Rows)
	order := sortedBy(queries.Rows, func(q int) float32 {
		scale := 1 / max(norms[q], simd.Epsilon)
		kept := 0.0
		for j, x := range coordinates.Row(q) {
			z := scale*float64(x) - b.offset[j]
			kept += z * z
			steps[q] = max(steps[q], float32(math.Abs(z)))
		}
		return float32(1 - 2*scale*float64(simd.Dot(queries.Row(q), b.mean)) + b.meanSq[1] - kept)
	})
	tiles := (queries.Rows + simd.TileQueries - 1) / simd.TileQueries
	each := int(math.Ceil(math.Sqrt(float64(tiles)))) * simd.TileQueries
	for part := range slices.Chunk(order, each) {
		slices.SortStableFunc(part, func(a, b int) int { return cmp.Compare(steps[a], steps[b]) })
	}
	return order
}

// tileBounds divides queries into tiles: the first query of each, and their
// number.
func (ix *Index) tileBounds(o Options, queries simd.Matrix) []int {
	apart := o.Metric != Cosine && ix.useCodes(&o)
	bounds := []int{}
	var least, norm float64
	for q := range queries.Rows {
		if apart {
			onMean, n := float64(simd.Dot(queries.Row(q), ix.basis.mean)), simd.Norm(queries.Row(q))
			if len(bounds) == 0 || q-bounds[len(bounds)-1] == simd.TileQueries || onMean-least > spread*min(norm, n) {
				bounds = append(bounds, q)
				least, norm = onMean, n
			}
			norm = min(norm, n)
		} else if q%simd.TileQueries == 0 {
			bounds = append(bounds, q)
		}
	}
	return append(bounds, queries.Rows)
}

// plan decides whether codes are used, and which panels seed the floors.
func (p *pass) plan() {
	if !p.ix.useCodes(&p.o) || p.queries.Rows == 0 {
		return
	}
	p.pairs = simd.NewPairQueries(p.rows)
	p.cascade = newCascade(p.ix.basis.shortened(p.firstDims()), p.o.Metric, p.rows, p, false)
	for t := range p.tiles {
		p.tiles[t].sieve = &p.cascade.tiles[t]
	}
	want := seedBatch
	if p.queries.Rows < seedQueries {
		want = seedFew
	}
	p.seedStride, p.seedPanels = 1, 1
	if p.ix.blocks > want {
		p.seedStride = p.ix.blocks / want
	} else {
		p.seedPanels = want / max(1, p.ix.blocks)
	}
	panels := int(p.ix.rows / simd.PanelRows)
	p.seedPanels = max(1, min(p.seedPanels, panels/max(p.ix.blocks, 1)/16))
	if p.knowsFloors() {
		p.seedPanels = 0
	}
}

// knowsFloors says whether every query comes with its floor, so that a seed would
// only cost time.
func (p *pass) knowsFloors() bool {
	if p.o.ranged() {
		return true
	}
	for _, f := range p.known {
		if f != f || math.IsInf(float64(f), -1) {
			return false
		}
	}
	return len(p.known) > 0
}
