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

// arrange sorts the queries for dot and L2 as the first stage of codes wants them
// in its tiles, and all that belongs to them. It returns where each comes from,
// nil where they stay.
func (ix *Index) arrange(queries *simd.Matrix, norms []float64, o *Options) (order []int) {
	if o.Metric == Cosine || queries.Rows <= 1 || !ix.useCodes(o) {
		return nil
	}
	onMean := make([]float32, queries.Rows)
	order = make([]int, queries.Rows)
	for q := range order {
		order[q], onMean[q] = q, simd.Dot(queries.Row(q), ix.basis.mean)
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(onMean[a], onMean[b]) })
	sorted := simd.NewMatrix(queries.Rows, queries.Dim)
	was, excluded, known := slices.Clone(norms), o.ExcludeRow, o.Floors
	if excluded != nil {
		o.ExcludeRow = make([]int64, queries.Rows)
	}
	if known != nil {
		o.Floors = make([]float32, queries.Rows)
	}
	for i, q := range order {
		copy(sorted.Row(i), queries.Row(q))
		norms[i] = was[q]
		if excluded != nil {
			o.ExcludeRow[i] = excluded[q]
		}
		if known != nil {
			o.Floors[i] = known[q]
		}
	}
	*queries = sorted
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
	if p.group != nil {
		p.cascade = newCascade(p.ix.basis, p.o.Metric, p.rows, p, true)
		return
	}
	p.cascade = newCascade(p.ix.basis.shortened(p.firstDims()), p.o.Metric, p.rows, p, false)
	for t := range p.tiles {
		p.tiles[t].sieve = &p.cascade.tiles[t]
	}
	want := 64
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
