package index

import (
	"context"
	"errors"
	"fmt"

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
	// NoCodes and Threads are those of Options.
	NoCodes bool
	Threads int
	// Memory is what rows in work, their answers and what is remembered of
	// earlier ones may take, in bytes. 0 means DefaultMemory.
	Memory int64
	// Progress, if set, is told now and then how many rows are done.
	Progress func(done, total int64)
}

// GraphStats says what a graph cost.
type GraphStats struct {
	Rows, Edges int64
	Stats
}

// How many rows ask at once: enough that reading the bank costs little for each.
const (
	graphBatch = 16384
	rangeBatch = 256 // the first time, where only scores limit the answers
)

// Graph finds the nearest other rows of every live row: the exact k-nearest
// neighbour graph of the bank. It calls emit for one row after another, in row
// order; hits are what Search answers to that row with itself excluded, bit for
// bit, and valid until emit returns. A row without neighbours has none, not nil;
// of deleted rows nothing is said.
//
// Rows are read and answered some thousands at a time, so memory is bounded by
// o.Memory, however many edges there are; fewer at a time where answers turn out
// large. Only one row whose own answer is too large is an ErrMemory, and its rows
// before were emitted. What emit returns ends the work and is returned. Cost: that
// of a Search with all rows as queries.
func (ix *Index) Graph(ctx context.Context, o GraphOptions, emit func(row int64, hits []Hit) error) (GraphStats, error) {
	if o.Memory <= 0 {
		o.Memory = DefaultMemory
	}
	g := &graph{ix: ix, o: o, emit: emit, rows: rowReader{view: ix.reader(), blocks: ix.blocks}}
	options := g.options()
	if _, err := ix.check(simd.Matrix{}, &options); err != nil {
		return g.stats, err
	}
	most := g.most()
	vectors, rows := simd.NewMatrix(most, ix.dim), make([]int64, most)
	size := most
	if options.ranged() { // until it is known how many edges a row has
		size = min(most, rangeBatch)
	}
	for {
		n, err := g.rows.next(ctx, vectors.Slice(0, size), rows)
		if err != nil || n == 0 {
			return g.stats, err
		}
		edges := g.stats.Edges
		whole, err := g.answer(ctx, vectors.Slice(0, n), rows[:n])
		if err != nil {
			return g.stats, err
		}
		switch {
		case !whole:
			size = max(1, size/2)
		case 4*hitBytes*(g.stats.Edges-edges) < g.options().Memory:
			size = min(2*size, most)
		}
	}
}

type graph struct {
	ix    *Index
	o     GraphOptions
	emit  func(row int64, hits []Hit) error
	rows  rowReader
	told  int64 // of progress
	stats GraphStats
}

// options are those of the searches that make the graph.
func (g *graph) options() Options {
	return Options{
		K: g.o.K, Metric: g.o.Metric, MinScore: g.o.MinScore, HasMinScore: g.o.HasMinScore,
		NoCodes: g.o.NoCodes, Threads: g.o.Threads, Memory: max(1, g.o.Memory/2),
	}
}

// most is the number of rows that may ask at once: their vectors, as they are and
// as a pass keeps them, take a quarter of the memory, answers and buffers another.
func (g *graph) most() int {
	k := int64(DefaultK)
	if g.o.K > 0 {
		k = min(int64(g.o.K), g.ix.rows)
	}
	each := 20*int64(g.ix.dim) + 3*hitBytes*k + 256
	most := max(1, min(graphBatch, g.o.Memory/2/each))
	if most > simd.TileQueries {
		most -= most % simd.TileQueries
	}
	return int(min(most, max(g.ix.rows, 1)))
}

// answer emits the neighbours of some rows. It reports whether they could all be
// asked at once.
func (g *graph) answer(ctx context.Context, vectors simd.Matrix, rows []int64) (whole bool, err error) {
	before := g.stats.Rows
	o := g.options()
	o.ExcludeRow = rows
	if g.o.Progress != nil {
		o.Progress = func(done, total int64) {
			g.tell(before + int64(float64(len(rows))*float64(done)/float64(max(total, 1))))
		}
	}
	r, err := g.ix.Search(ctx, vectors, o)
	if errors.Is(err, ErrMemory) && vectors.Rows > 1 {
		half := vectors.Rows / 2
		if _, err = g.answer(ctx, vectors.Slice(0, half), rows[:half]); err == nil {
			_, err = g.answer(ctx, vectors.Slice(half, vectors.Rows), rows[half:])
		}
		return false, err
	}
	if err != nil {
		var bad *QueryError
		if errors.As(err, &bad) {
			return false, fmt.Errorf("row %d: %w", rows[bad.Query], bad.Err)
		}
		return false, err
	}
	g.stats.Stats.add(r.Stats)
	g.stats.Passes += r.Stats.Passes
	g.stats.Seconds += r.Stats.Seconds
	for i, hits := range r.Hits {
		g.stats.Rows++
		g.stats.Edges += int64(len(hits))
		if err := g.emit(rows[i], hits); err != nil {
			return false, err
		}
	}
	if g.o.Progress != nil {
		g.tell(g.stats.Rows)
	}
	return true, nil
}

// tell reports progress, which does not go back where rows are asked again.
func (g *graph) tell(done int64) {
	if done > g.told {
		g.told = done
		g.o.Progress(done, g.ix.rows)
	}
}

// rowReader reads the live rows of a bank in row order, which is the order of
// blocks.
type rowReader struct {
	view        view
	blocks      int
	block, lane int // the next one
}

// next fills m with vectors as far as there are any, and rows with their numbers.
func (r *rowReader) next(ctx context.Context, m simd.Matrix, rows []int64) (n int, err error) {
	for n < m.Rows && r.block < r.blocks {
		if ctx.Err() != nil {
			return 0, context.Cause(ctx)
		}
		err := r.view(r.block, func(b *store.Block) error {
			for ; n < m.Rows && r.lane < b.Rows; r.lane++ {
				if !b.Dead[r.lane] {
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
