package index

import (
	"context"
	"fmt"
	"math"
	"math/bits"

	"membank/simd"
	"membank/store"
)

// Nearest finds the one nearest row of ix, an index of FromMatrix, for every row of
// queries: what Search finds with K = 1, no other option and no codes, bit for bit
// and with the same errors. It fills rows and scores, as long as there are queries;
// −1 and NaN where the index has no rows.
//
// It is for some hundred rows in memory, of which thousands of queries ask: the
// centroids of k-means. There the answers, floors and heaps of a search cost more
// than its scores. It runs in the goroutine of the caller, several of which may call
// it at once; a cancelled ctx ends it with its cause. It takes 4·dim+100 bytes a
// query, and for L2 4·dim a row of the index.
func (ix *Index) Nearest(ctx context.Context, queries simd.Matrix, metric Metric, rows []int32, scores []float32) error {
	norms, err := ix.check(queries, &Options{K: 1, Metric: metric})
	switch {
	case err != nil:
		return err
	case !ix.inMemory:
		return fmt.Errorf("%w: only the rows of a matrix are asked for the nearest alone", ErrOptions)
	}
	n := newNearest(ix, queries, norms, metric)
	for block := range ix.blocks {
		if err := n.view(block, nil, func(b *store.Block) error { return n.scan(ctx, b) }); err != nil {
			return err
		}
	}
	for q, best := range n.best {
		if n.bound != nil {
			best = n.settle(q)
		}
		rows[q], scores[q] = int32(best.Row), metric.printed(best.Score)
		if best.Row < 0 {
			scores[q] = float32(math.NaN())
		}
	}
	return nil
}

// nearest is one call of Nearest. What the kernel scores is final, but for L2, where
// it only says which rows may be the nearest (see bound): those wait until it is
// known which of them still may.
type nearest struct {
	*worker
	rows   simd.Matrix // the queries, as the metric prepares them
	packed [][]float32 // of each tile of them
	best   []Hit       // of each query by the kernel's score; row −1 for none
	floors []float32   // that the kernel's score of a nearer row reaches

	most    float64 // norm of a row
	waiting [][]Hit // rows of each query that reached the floor, by the kernel's score
	settled []Hit   // the best of those that waited before
	near    simd.Matrix
	known   []bool // rows of near that are unpacked
}

// mostWaiting rows of a query wait at most. Where rows lie apart it is one or two.
const mostWaiting = 2 * simd.PanelRows

func newNearest(ix *Index, queries simd.Matrix, norms []float64, metric Metric) *nearest {
	n := &nearest{
		worker: &worker{pass: &pass{ix: ix, o: Options{Metric: metric}, queries: queries}, view: ix.reader()},
		rows:   queries,
		packed: make([][]float32, (queries.Rows+simd.TileQueries-1)/simd.TileQueries),
		best:   make([]Hit, queries.Rows),
		floors: make([]float32, queries.Rows),
		most:   ix.maxNorm,
	}
	if metric == Cosine {
		n.rows = simd.NewMatrix(queries.Rows, queries.Dim)
		for q := range queries.Rows {
			simd.Normalize(n.rows.Row(q), queries.Row(q))
		}
	}
	size := simd.TileQueries * ix.dim
	floats := make([]float32, len(n.packed)*size)
	for t := range n.packed {
		n.packed[t] = floats[t*size:][:size]
		first := t * simd.TileQueries
		simd.PackQueries(n.packed[t], n.rows.Slice(first, min(first+simd.TileQueries, queries.Rows)))
	}
	for q := range n.best {
		n.best[q], n.floors[q] = Hit{-1, lowest}, lowest
	}
	if metric == L2 {
		n.bound = newBound(ix.dim, norms)
		n.waiting = make([][]Hit, queries.Rows)
		n.settled = make([]Hit, queries.Rows)
		for q := range n.settled {
			n.settled[q] = Hit{-1, lowest}
		}
		n.near, n.known = simd.NewMatrix(int(ix.rows), ix.dim), make([]bool, ix.rows)
	}
	return n
}

// scan compares all queries with the rows of a block, a group of panels at a time.
func (n *nearest) scan(ctx context.Context, b *store.Block) error {
	n.choose(b, 0, b.Lanes, len(n.best))
	for first := 0; first < len(n.lanes); {
		g := n.group(b, first)
		for t := range n.packed {
			if err := ctx.Err(); err != nil {
				return context.Cause(ctx)
			}
			n.scanTile(g, t)
		}
		first += len(g.lanes)
	}
	return nil
}

func (n *nearest) scanTile(g group, t int) {
	const panel = simd.PanelRows
	size := panel * n.ix.dim
	first := t * simd.TileQueries
	floors := noFloor
	copy(floors[:], n.floors[first:])
	for i, lane := range g.lanes {
		if !simd.Tile(&n.tile, g.panels[i*size:][:size], g.scale[i*panel:][:panel], g.bias[i*panel:][:panel], n.packed[t], &floors) {
			continue
		}
		for j, hits := range &n.tile.Hits {
			if hits != 0 {
				n.collect(first+j, g.block.Row[lane:], hits, &n.tile.Scores[j], g.panels[i*size:][:size])
				floors[j] = n.floors[first+j]
			}
		}
	}
}

// collect takes what reached the floor of query q in one panel.
func (n *nearest) collect(q int, rows []int64, hits uint32, scores *[simd.PanelRows]float32, panel []float32) {
	best := &n.best[q]
	for h := hits; h != 0; h &= h - 1 {
		i := bits.TrailingZeros32(h)
		if s := scores[i]; s > best.Score || s == best.Score && (best.Row < 0 || rows[i] < best.Row) {
			*best = Hit{rows[i], s}
		}
	}
	if n.bound == nil {
		n.floors[q] = best.Score
		return
	}
	n.floors[q] = max(n.floors[q], n.bound.floor(q, n.bound.reached(q, best.Score, n.most), n.most))
	if len(n.waiting[q]) > mostWaiting {
		n.settle(q)
	}
	for h := hits; h != 0; h &= h - 1 {
		i := bits.TrailingZeros32(h)
		if scores[i] >= n.floors[q] {
			n.waiting[q] = append(n.waiting[q], Hit{rows[i], scores[i]})
			if row := rows[i]; !n.known[row] {
				simd.UnpackRow(n.near.Row(int(row)), panel, i)
				n.known[row] = true
			}
		}
	}
}

// settle scores the rows of query q directly that wait and still may be the nearest,
// and returns the nearest so far.
func (n *nearest) settle(q int) Hit {
	best := &n.settled[q]
	for _, h := range n.waiting[q] {
		if h.Score < n.floors[q] {
			continue
		}
		h.Score = -simd.SquaredDistance(n.queries.Row(q), n.near.Row(int(h.Row)))
		if best.Row < 0 || better(h, *best) {
			*best = h
		}
	}
	n.waiting[q] = n.waiting[q][:0]
	n.floors[q] = max(n.floors[q], n.bound.floor(q, best.Score, n.most))
	return *best
}
