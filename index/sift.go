package index

import (
	"context"
	"fmt"
	"math"
	"math/bits"
	"slices"

	"membank/simd"
	"membank/store"
)

// codesView lends the codes of block i to fn, nil where it has none.
type codesView func(i int, fn func(codes []byte) error) error

// Sizes of the cascade.
const (
	// A pair of the second stage costs as much as dim/floodDim pairs of a tile
	// of the plain scan: with a greater share, or floodShare, that is cheaper.
	floodShare, floodDim = 0.25, 1500
	// So many survivors a panel, of one tile, cost as much as scanning it.
	manySurvivors = 16
	// Pairs of several panels are scored together: about pairsWork multiply-adds,
	// after which a search can be cancelled, and mostPairs for their scratch.
	pairsWork, leastPairs, mostPairs = 64 << 20, 128, 16384
	// A tile that was flooded skips the codes of some pieces, up to so many.
	longestSkip = 32
)

// sift is what a worker needs for the cascade.
type sift struct {
	codes        codesView
	c            codes           // of the block at hand
	hits         []simd.CodeHits // [runs]
	tile         simd.CodeTile
	columns      []float32
	short        []uint8 // of the block at hand, with less dims
	shortColumns []float32
	weights      []float32
	lanes        []int32
	head         []int32 // products
	rest         []int32
	headFine     []int32
	restFine     []int32
	survivors    []survivor
	flooded      []tile // to scan without codes
	skip         []int  // of each tile: pieces still to skip
	heat         []int  // and how many the next flood lets it skip

	gathered sieve   // of the queries of a list
	floods   []flood // and those that gain nothing from it

	estimates *simd.CodeEstimates // see scout
	barred    []bool              // lanes of the block at hand; nil: none

	some    []int32 // panels with survivors
	starts  []int32 // of the survivors of each panel
	ordered []survivor

	scorer     simd.PairScorer
	pairs      []simd.Pair
	pairScores []float32
	scale      []float32 // of the lanes of a block
	bias       []float32
	scores     [simd.PanelRows]float32
	floors     [simd.TileQueries]float32
}

// A survivor is a pair to be scored exactly.
type survivor struct{ query, lane int32 }

// siftPiece answers every query over a piece of a block by its codes, if it has
// any.
func (w *worker) siftPiece(ctx context.Context, block, piece, cuts int) error {
	s := w.sift
	s.survivors, s.flooded = s.survivors[:0], s.flooded[:0]
	coded, rows := false, 0
	var from, to int
	err := s.codes(block, func(v []byte) (err error) {
		if v == nil {
			return nil
		}
		if err = w.decode(v); err != nil {
			return err
		}
		coded, rows = true, s.c.rows
		from, to = w.pieceOf(block, s.c.lanes/simd.PanelRows, piece, cuts)
		w.seen.Add(int64(to-from) * simd.PanelRows)
		if from == to {
			return nil
		}
		w.shorten(from, to)
		codes, columns := w.beginRun(from, to)
		return w.siftPanels(ctx, from, to, codes, columns)
	})
	if err != nil {
		return err
	}
	if coded && len(s.survivors) == 0 && len(s.flooded) == 0 {
		return nil
	}
	return w.view(block, s.panels(coded && len(s.flooded) == 0), func(b *store.Block) error {
		if !coded {
			from, to = w.pieceOf(block, b.Lanes/simd.PanelRows, piece, cuts)
			w.seen.Add(int64(to-from) * simd.PanelRows)
			return w.scan(ctx, b, from*simd.PanelRows, to*simd.PanelRows, w.all)
		}
		if b.Rows != rows {
			return w.misfit(block, b.Rows)
		}
		if len(s.flooded) > 0 {
			if err := w.scan(ctx, b, from*simd.PanelRows, to*simd.PanelRows, s.flooded); err != nil {
				return err
			}
		}
		return w.score(ctx, b)
	})
}

func (w *worker) misfit(block, rows int) error {
	return fmt.Errorf("%w: block %d has %d rows, its codes %d", ErrCodes, block, rows, w.sift.c.rows)
}

// siftPanels collects the survivors and floods of panels from..to: for each tile of
// queries the first stage over all of them, run by run, then the second, query by
// query.
func (w *worker) siftPanels(ctx context.Context, from, to int, codes []uint8, columns []float32) error {
	const n = simd.PanelRows
	s := w.sift
	for _, t := range w.all {
		if err := ctx.Err(); err != nil {
			return context.Cause(ctx)
		}
		if skip, heat := &s.skip[t.number], &s.heat[t.number]; *skip > 0 {
			*skip--
		} else if !t.sieve.plain {
			first, second := w.siftTile(&t, from*n, to*n, codes, columns)
			switch {
			case !first:
				*skip = *heat
				*heat = min(2**heat+1, longestSkip)
			case second:
				*heat /= 2
				continue
			}
		}
		s.flooded = append(s.flooded, t)
		w.stats.Fallbacks++
	}
	return nil
}

// beginRun makes room for the panels from..to of the block at hand, and returns
// their codes and columns in the first stage.
func (w *worker) beginRun(from, to int) (codes []uint8, columns []float32) {
	const n = simd.PanelRows
	s := w.sift
	c, panels := &s.c, to-from
	if need := w.o.Metric.terms() * n * panels; cap(s.columns) < need {
		s.columns = make([]float32, need)
	}
	if runs := (panels + simd.CodeRun - 1) / simd.CodeRun; len(s.hits) < runs {
		s.hits = make([]simd.CodeHits, runs)
	}
	if room := n*panels + 3; cap(s.lanes) < room {
		s.lanes, s.head, s.rest = make([]int32, room), make([]int32, room), make([]int32, room)
		s.headFine, s.restFine = make([]int32, room), make([]int32, room)
	}
	codes = c.panels[from*n*c.first:][:panels*n*c.first]
	columns = c.columnsOf(s.columns, w.o.Metric, from, panels)
	w.stats.Bytes += int64(len(codes) + 4*firstColumns*n*panels)
	return codes, columns
}

// siftTile runs a tile of queries over the lanes from..to, whose panels have these
// codes and columns. It reports whether the first stage was worth the while, and
// the second; if not, it leaves no survivors.
func (w *worker) siftTile(t *tile, first, last int, codes []uint8, columns []float32) (cheap, few bool) {
	const n = simd.PanelRows
	from := first / n
	panels := (last+n-1)/n - from
	s, v := w.sift, t.sieve
	s.tile = v.CodeTile
	s.weights = v.weights(s.weights, w.o.Metric, s.c.reach[partFirst], len(t.queries))
	s.tile.Weights = s.weights
	floors := &s.floors
	for i := range floors {
		floors[i] = float32(math.NaN()) // no bound reaches that of an absent query
	}
	for i, q := range t.queries {
		floors[i] = v.floor(i, w.floor(int(q), s.c.maxNorm), w.o.Metric, s.c.reach[partFirst])
	}
	pairs := panels * n * len(t.queries)
	limit := max(n, int(min(floodShare, float64(w.ix.dim)/floodDim)*float64(pairs)))
	total := 0
	terms := len(s.weights)
	for run := 0; run < panels; run += simd.CodeRun {
		end := min(run+simd.CodeRun, panels)
		total += simd.CodeScan(&s.hits[run/simd.CodeRun], codes[run*n*s.c.first:end*n*s.c.first],
			columns[run*n*terms:end*n*terms], &s.tile, floors)
		w.stats.Coded += int64((end - run) * n * len(t.queries))
		if total > limit {
			return false, false
		}
	}
	if total == 0 {
		return true, true
	}
	w.stats.Second += int64(total)
	before := len(s.survivors)
	for i, q := range t.queries {
		lanes := s.lanes[:cap(s.lanes)]
		found := 0
		for run := 0; run < panels; run += simd.CodeRun {
			count := min(panels-run, simd.CodeRun)
			base := int32((from + run) * n)
			for _, set := range s.hits[run/simd.CodeRun][i][:(count+1)/2] {
				// Most words have no hit or one, in no order: two are taken
				// without a look.
				lanes[found] = base + int32(bits.TrailingZeros64(set))
				found += int((set | -set) >> 63)
				set &= set - 1
				lanes[found] = base + int32(bits.TrailingZeros64(set))
				found += int((set | -set) >> 63)
				for set &= set - 1; set != 0; set &= set - 1 {
					lanes[found] = base + int32(bits.TrailingZeros64(set))
					found++
				}
				base += 64
			}
		}
		lanes = lanes[:found]
		for len(lanes) > 0 && int(lanes[0]) < first {
			lanes = lanes[1:]
		}
		for len(lanes) > 0 && int(lanes[len(lanes)-1]) >= last {
			lanes = lanes[:len(lanes)-1]
		}
		if len(lanes) > 0 {
			w.siftQuery(int(q), lanes)
		}
	}
	if found := len(s.survivors) - before; found > manySurvivors*panels && found > n {
		s.survivors = s.survivors[:before]
		return true, false
	}
	return true, true
}

// siftQuery runs the second stage of a query over some lanes, and the third over
// those that reach its floor.
func (w *worker) siftQuery(q int, lanes []int32) {
	s, v := w.sift, &w.cascade.next[q]
	count, dims := len(lanes), s.c.dims-headDims
	lanes = byFours(lanes)
	p := pairProducts{head: s.head[:len(lanes)], rest: s.rest[:len(lanes)]}
	simd.CodeDots(p.head, s.c.head, lanes, w.cascade.head[q*headDims:][:headDims], v.head.start)
	simd.CodeDots(p.rest, s.c.rest, lanes, w.cascade.rest[q*dims:][:dims], v.rest.start)
	floor := float64(w.floor(q, s.c.maxNorm))
	count = v.keep(&s.c, w.o.Metric, lanes[:count], p, floor)
	if count == 0 {
		return
	}
	lanes = byFours(lanes[:count])
	p.headFine, p.restFine = s.headFine[:len(lanes)], s.restFine[:len(lanes)]
	simd.CodeDots(p.headFine, s.c.head, lanes, w.cascade.headFine[q*headDims:][:headDims], v.head.fine.start)
	simd.CodeDots(p.restFine, s.c.rest, lanes, w.cascade.restFine[q*dims:][:dims], v.rest.fine.start)
	for _, lane := range lanes[:v.keep(&s.c, w.o.Metric, lanes[:count], p, floor)] {
		s.survivors = append(s.survivors, survivor{int32(q), lane})
	}
}

// byFours repeats a lane until they are as many as the kernel takes.
func byFours(lanes []int32) []int32 {
	for len(lanes)%4 != 0 {
		lanes = append(lanes, lanes[0])
	}
	return lanes
}

// panels are those that the survivors lie in if they are few and all that is asked
// for, otherwise nil.
func (s *sift) panels(alone bool) []int32 {
	const few = 64
	if !alone || len(s.survivors) > few {
		return nil
	}
	s.some = s.some[:0]
	for _, v := range s.survivors {
		s.some = append(s.some, v.lane/simd.PanelRows)
	}
	slices.Sort(s.some)
	s.some = slices.Compact(s.some)
	return s.some
}

// score scores the survivors in a block exactly, panel by panel.
func (w *worker) score(ctx context.Context, b *store.Block) error {
	const n = simd.PanelRows
	s := w.sift
	w.stats.Exact += int64(len(s.survivors))
	panels := b.Lanes / n
	s.starts = append(s.starts[:0], make([]int32, panels+1)...)
	for _, v := range s.survivors {
		s.starts[v.lane/n+1]++
	}
	for i := range panels {
		s.starts[i+1] += s.starts[i]
	}
	if cap(s.ordered) < len(s.survivors) {
		s.ordered = make([]survivor, len(s.survivors)+len(s.survivors)/2)
	}
	s.ordered = s.ordered[:len(s.survivors)]
	for _, v := range s.survivors {
		at := &s.starts[v.lane/n]
		s.ordered[*at] = v
		*at++
	}
	if cap(s.scale) < b.Lanes {
		s.scale, s.bias = make([]float32, b.Lanes), make([]float32, b.Lanes)
	}
	s.scale, s.bias = s.scale[:b.Lanes], s.bias[:b.Lanes]
	s.pairs = s.pairs[:0]
	first, limit := int32(0), max(leastPairs, min(mostPairs, pairsWork/max(b.Dim, 1)))
	for i := range panels {
		mine := s.ordered[first:s.starts[i]]
		first = s.starts[i]
		if len(mine) == 0 || !w.o.Metric.Epilogue(s.scale[i*n:][:n], s.bias[i*n:][:n], b, i*n) {
			continue
		}
		for _, v := range mine {
			if at := v.lane; !b.Dead[at] && (w.o.Allow == nil || w.o.Allow(b.Row[at])) {
				s.pairs = append(s.pairs, simd.Pair{Lane: at, Query: v.query})
			}
		}
		if len(s.pairs) >= limit {
			if err := w.scorePairs(ctx, b); err != nil {
				return err
			}
		}
	}
	return w.scorePairs(ctx, b)
}

// scorePairs scores the pairs that wait in s.pairs, some in each of some panels.
// Those of a query lie side by side in each.
func (w *worker) scorePairs(ctx context.Context, b *store.Block) error {
	const n = simd.PanelRows
	s := w.sift
	if err := ctx.Err(); err != nil {
		return context.Cause(ctx)
	}
	if cap(s.pairScores) < len(s.pairs) {
		s.pairScores = make([]float32, len(s.pairs)+len(s.pairs)/2)
	}
	scores := s.pairScores[:len(s.pairs)]
	s.scorer.Score(scores, b.Panels, s.scale, s.bias, w.pass.pairs, s.pairs)
	w.stats.Scores += int64(len(s.pairs))
	for j := 0; j < len(s.pairs); {
		q, lane := int(s.pairs[j].Query), int(s.pairs[j].Lane)/n*n
		floor := w.floor(q, b.MaxNorm)
		var hits uint32
		for ; j < len(s.pairs) && int(s.pairs[j].Query) == q && int(s.pairs[j].Lane)/n*n == lane; j++ {
			if scores[j] >= floor {
				at := int(s.pairs[j].Lane) - lane
				hits |= 1 << at
				s.scores[at] = scores[j]
			}
		}
		if hits != 0 {
			if err := w.collect(0, q, b, lane, b.Panels[lane*b.Dim:][:n*b.Dim], hits, &s.scores); err != nil {
				return err
			}
			if err := w.offer(0, q); err != nil {
				return err
			}
		}
	}
	s.pairs = s.pairs[:0]
	return nil
}
