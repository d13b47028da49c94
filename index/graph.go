package index

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"membank/simd"
	"membank/store"
)

// GraphOptions says what neighbours a row of a graph has. The zero value asks for
// the DefaultK nearest other rows by cosine, on all cores.
type GraphOptions struct {
	// K, Metric, MinScore and HasMinScore are those of Options: with K 0 and
	// HasMinScore, a row has all other rows that reach MinScore.
	K           int
	Metric      Metric
	MinScore    float32
	HasMinScore bool
	// Earlier limits the neighbours of a row to those with smaller numbers: each pair
	// is there once, scored as the larger row asks, for half the cost where rows lie
	// in order. It goes with HasMinScore and K 0 only.
	Earlier bool
	// Only, if set, says which rows ask and may be neighbours: of the others nothing is
	// said. It is asked from several goroutines at once.
	Only func(row int64) bool
	// NoCodes and Threads are those of Options.
	NoCodes bool
	Threads int
	// Memory is what rows in work, their answers and what is remembered of
	// earlier ones may take, in bytes. 0 means DefaultMemory.
	Memory int64
	// Progress, if set, is told now and then how many rows are done.
	Progress func(done, total int64)

	alone bool // no row is expected to have what its neighbours have: for benchmarks
}

// GraphStats says what a graph cost.
type GraphStats struct {
	Rows, Edges int64
	Stats
}

// How many rows ask at once: enough that reading the bank costs little for each,
// few enough that exact scoring finds their vectors in the cache. It matters little:
// of 1,024 to 16,384 the slowest took a quarter longer than the fastest.
const (
	graphBatch = 2048
	joinBatch  = 8192 // where only scores limit the answers: it shares more work (shorten.go)
	rangeBatch = 256  // the first time then
)

// Graph finds the nearest other rows of every live row: the exact k-nearest
// neighbour graph of the bank. It calls emit for one row after another, in row
// order; hits are what Search answers to that row with itself excluded, bit for
// bit, and valid until emit returns. A row without neighbours has none, not nil;
// of deleted rows nothing is said.
//
// Rows are read and answered some thousands at a time, so memory is bounded by
// o.Memory, however many edges there are; fewer at a time where answers turn out
// large. An ErrMemory means that one row's own answer does not fit; rows before it
// were emitted. An error of emit ends the work and is returned. The cost is that of
// a Search with all rows as queries, or a little less (expect.go).
func (ix *Index) Graph(ctx context.Context, o GraphOptions, emit func(row int64, hits []Hit) error) (GraphStats, error) {
	start := time.Now()
	if o.Memory <= 0 {
		o.Memory = DefaultMemory
	}
	g := &graph{ix: ix, o: o, emit: emit, rows: rowReader{view: ix.reader(), blocks: ix.blocks, only: o.Only}}
	options := g.options()
	if _, err := ix.check(simd.Matrix{}, &options); err != nil {
		return g.stats, err
	}
	if o.Earlier && !options.ranged() {
		return g.stats, fmt.Errorf("%w: the k nearest of earlier rows", ErrOptions)
	}
	if ix.useCodes(&options) && !options.ranged() && !o.alone {
		g.expect, g.k = newExpectation(o.Memory/8, ix.small), options.K
	}
	most := g.most()
	g.size = most
	if options.ranged() { // until it is known how many edges a row has
		g.size = min(most, rangeBatch)
	}
	var err error
	if ix.inOrder != nil {
		err = ix.inOrder(ctx, most, func(b store.Batch) error {
			vectors, rows := g.only(b.Vectors, b.Rows)
			return g.some(ctx, vectors, rows)
		})
	} else {
		err = g.blocks(ctx, most)
	}
	g.stats.Seconds = time.Since(start).Seconds()
	return g.stats, err
}

type graph struct {
	ix   *Index
	o    GraphOptions
	emit func(row int64, hits []Hit) error
	rows rowReader
	size int   // rows that ask at once, as things stand
	told int64 // of progress
	// What is known of rows that are still to ask, nil if it would not help;
	// and the number of hits a row has then.
	expect *expectation
	k      int
	stats  GraphStats
}

// blocks asks for all rows of a bank whose blocks stand in row order, at most so many
// at once.
func (g *graph) blocks(ctx context.Context, most int) error {
	whole, vectors, rows := g.ix, simd.NewMatrix(most, g.ix.dim), make([]int64, most)
	for {
		n, err := g.rows.next(ctx, vectors.Slice(0, g.size), rows)
		if err != nil || n == 0 {
			return err
		}
		if g.o.Earlier { // those behind the last of these rows
			part := *whole
			part.seeds = nil // it would keep some for every number of blocks
			part.blocks = g.rows.block
			if g.rows.lane > 0 {
				part.blocks++
			}
			g.ix = &part
		}
		if err := g.some(ctx, vectors.Slice(0, n), rows[:n]); err != nil {
			return err
		}
	}
}

// only leaves of a batch the rows that ask.
func (g *graph) only(vectors simd.Matrix, rows []int64) (simd.Matrix, []int64) {
	if g.o.Only == nil {
		return vectors, rows
	}
	some, left := simd.NewMatrix(len(rows), vectors.Dim), []int64(nil)
	for i, row := range rows {
		if g.o.Only(row) {
			copy(some.Row(len(left)), vectors.Row(i))
			left = append(left, row)
		}
	}
	return some.Slice(0, len(left)), left
}

// some asks for some rows, as many at once as is found to fit.
func (g *graph) some(ctx context.Context, vectors simd.Matrix, rows []int64) error {
	most := g.most()
	for first := 0; first < len(rows); {
		last := min(first+g.size, len(rows))
		edges := g.stats.Edges
		whole, err := g.answer(ctx, vectors.Slice(first, last), rows[first:last])
		if err != nil {
			return err
		}
		switch {
		case !whole:
			g.size = max(1, g.size/2)
		case 4*hitBytes*(g.stats.Edges-edges) < g.options().Memory:
			g.size = min(2*g.size, most)
		}
		first = last
	}
	return nil
}

// options are those of the searches that make the graph.
func (g *graph) options() Options {
	return Options{
		K: g.o.K, Metric: g.o.Metric, MinScore: g.o.MinScore, HasMinScore: g.o.HasMinScore,
		Allow: g.o.Only, NoCodes: g.o.NoCodes, Threads: g.o.Threads, Memory: max(1, g.o.Memory/2),
	}
}

// most is the number of rows that may ask at once: their vectors, as they are and
// as a pass keeps them, take a quarter of the memory, answers and buffers another.
func (g *graph) most() int {
	k := int64(DefaultK)
	if g.o.K > 0 {
		k = min(int64(g.o.K), g.ix.rows)
	}
	each := 24*int64(g.ix.dim) + 3*hitBytes*k + 512
	batch := int64(graphBatch)
	if g.o.K <= 0 && g.o.HasMinScore {
		batch = joinBatch
	}
	most := max(1, min(batch, g.o.Memory/2/each))
	if most > simd.TileQueries {
		most -= most % simd.TileQueries
	}
	return int(min(most, max(g.ix.rows, 1)))
}

// answer emits the neighbours of some rows. It reports whether they could all be
// asked at once.
func (g *graph) answer(ctx context.Context, vectors simd.Matrix, rows []int64) (whole bool, err error) {
	hits, err := g.ask(ctx, vectors, rows)
	if errors.Is(err, ErrMemory) && len(rows) > 1 {
		half := len(rows) / 2
		if _, err = g.answer(ctx, vectors.Slice(0, half), rows[:half]); err == nil {
			_, err = g.answer(ctx, vectors.Slice(half, len(rows)), rows[half:])
		}
		return false, err
	}
	if err != nil {
		return false, err
	}
	if g.expect != nil {
		g.learn(vectors, rows, hits)
	}
	for i, list := range hits {
		if g.o.Earlier {
			list = slices.DeleteFunc(list, func(h Hit) bool { return h.Row > rows[i] })
		}
		g.stats.Rows++
		g.stats.Edges += int64(len(list))
		if err := g.emit(rows[i], list); err != nil {
			return false, err
		}
	}
	if g.o.Progress != nil {
		g.tell(g.stats.Rows)
	}
	return true, nil
}

// ask finds the neighbours of some rows: first of those of which it is known what
// to expect, then of the others.
func (g *graph) ask(ctx context.Context, vectors simd.Matrix, rows []int64) ([][]Hit, error) {
	var guessed, others []int
	var guesses []float32
	for i, row := range rows {
		guess, known := float32(0), false
		if g.expect != nil {
			guess, known = g.expect.guess(row)
		}
		if known {
			guessed, guesses = append(guessed, i), append(guesses, guess*g.scale(vectors.Row(i)))
		} else {
			others = append(others, i)
		}
	}
	if g.expect == nil || len(guessed) < g.expect.guessedFrom || findEqual(vectors) != nil {
		r, err := g.search(ctx, vectors, rows, 0)
		return r.Hits, err
	}
	hits := make([][]Hit, len(rows))
	o := g.options()
	part := g.choose(vectors, rows, guessed, &o)
	r, again, err := g.ix.searchFrom(ctx, part, o, guesses, func(done float64) {
		if g.o.Progress != nil {
			g.tell(g.stats.Rows + int64(done*float64(len(guessed))))
		}
	})
	g.count(r.Stats)
	if err != nil {
		return nil, ofRow(err, o.ExcludeRow)
	}
	for i, list := range r.Hits {
		hits[guessed[i]] = list
	}
	g.stats.Repeated += int64(len(again))
	for _, i := range again {
		others = append(others, guessed[i])
	}
	if len(others) == 0 {
		return hits, nil
	}
	slices.Sort(others)
	part = g.choose(vectors, rows, others, &o)
	r, err = g.search(ctx, part, o.ExcludeRow, len(guessed)-len(again))
	for i, list := range r.Hits {
		hits[others[i]] = list
	}
	return hits, err
}

// search asks for the neighbours of rows without expectations; of the batch, so
// many rows are done.
func (g *graph) search(ctx context.Context, vectors simd.Matrix, rows []int64, done int) (Result, error) {
	o := g.options()
	o.ExcludeRow = rows
	if g.o.Progress != nil {
		o.Progress = func(pairs, total int64) {
			g.tell(g.stats.Rows + int64(done) + int64(float64(len(rows))*float64(pairs)/float64(max(total, 1))))
		}
	}
	r, err := g.ix.Search(ctx, vectors, o)
	g.count(r.Stats)
	return r, ofRow(err, rows)
}

// choose copies some of the vectors, and names their rows in o.
func (g *graph) choose(vectors simd.Matrix, rows []int64, some []int, o *Options) simd.Matrix {
	part := simd.NewMatrix(len(some), vectors.Dim)
	o.ExcludeRow = make([]int64, len(some))
	for i, at := range some {
		copy(part.Row(i), vectors.Row(at))
		o.ExcludeRow[i] = rows[at]
	}
	return part
}

// learn tells later rows what to expect.
func (g *graph) learn(vectors simd.Matrix, rows []int64, hits [][]Hit) {
	kth := make([]float32, len(rows))
	for i, list := range hits {
		if len(list) < g.k {
			continue
		}
		kth[i] = g.o.Metric.printed(list[g.k-1].Score) / g.scale(vectors.Row(i))
		g.expect.check(rows[i], kth[i])
	}
	for i, list := range hits {
		if len(list) < g.k {
			continue
		}
		for _, h := range list {
			if h.Row > rows[len(rows)-1] {
				g.expect.name(h.Row, kth[i])
			}
		}
	}
	g.expect.learn()
}

// scale is what scores grow with that a row has with others.
func (g *graph) scale(row []float32) float32 {
	if g.o.Metric != Dot {
		return 1
	}
	return float32(max(simd.Norm(row), simd.Epsilon))
}

func (g *graph) count(s Stats) {
	g.stats.Stats.add(s)
	g.stats.Passes += s.Passes
}

// ofRow names the row of the bank instead of that of the batch.
func ofRow(err error, rows []int64) error {
	var bad *QueryError
	if errors.As(err, &bad) {
		return fmt.Errorf("row %d: %w", rows[bad.Query], bad.Err)
	}
	return err
}

// tell reports progress, which does not go back where rows are asked again.
func (g *graph) tell(done int64) {
	if done > g.told {
		g.told = done
		g.o.Progress(done, g.ix.rows)
	}
}

// rowReader reads the live rows of a bank whose blocks stand in row order, in that
// order.
type rowReader struct {
	view        view
	blocks      int
	block, lane int // the next one
	only        func(row int64) bool
}

// next fills m with vectors as far as there are any, and rows with their numbers.
func (r *rowReader) next(ctx context.Context, m simd.Matrix, rows []int64) (n int, err error) {
	for n < m.Rows && r.block < r.blocks {
		if ctx.Err() != nil {
			return 0, context.Cause(ctx)
		}
		err := r.view(r.block, nil, func(b *store.Block) error {
			for ; n < m.Rows && r.lane < b.Rows; r.lane++ {
				if !b.Dead[r.lane] && (r.only == nil || r.only(b.Row[r.lane])) {
					simd.UnpackRow(m.Row(n), b.Panels, r.lane)
					rows[n] = b.Row[r.lane]
					n++
				}
			}
			if r.lane >= b.Rows {
				r.block, r.lane = r.block+1, 0
			}
			return nil
		})
		if err != nil {
			return 0, err
		}
	}
	return n, nil
}
