package eval

import (
	"context"
	"fmt"
	"math"
	"slices"
	"sync"

	"membank/index"
	"membank/simd"
	"membank/store"
)

// A figure of full rankings (AP, MRR, R-precision) needs the ranks of a few rows, the
// relevant ones, of each query. The rank of a row is one more than the rows before it,
// so nothing is sorted but those few: one pass over the gallery scores them, and a second
// one counts, for every row, which of them it is before.
//
// Scores are of float64, so that the ranking is the exact one but for ties nearer than
// 1e-13: published figures are of such rankings, and in a collapsed space float32 would
// rank by its own rounding. Inner products are one chain of FMAs each (simd.Products),
// the same bits however the work is cut. Squared distances are that of differences; where
// ‖q‖²+‖x‖²−2⟨q,x⟩ is too rough to tell two rows apart, which its bound says, the
// differences are taken.

const (
	// What a query knows of its marks (some 30 KB of a thousand) is read anew for each
	// piece, and with a thousand queries from memory: so pieces are large. Some queries
	// at a time meet their tiles, and their products wait in the L2 cache to be counted.
	pieceBytes   = 16 << 20 // of rows in float64
	mostTiles    = 341
	blockStrips  = 4 // of eight queries each
	mostRankings = 1 << 16
	gatherBelow  = 4 // with fewer marked rows in a tile, of eight queries, they are gathered
)

// rankings calls fn with the places of marked rows in the rankings of one batch of
// queries after another, in row order: places[i] are the rows of marked(rows[i]) that
// are ranked, best first. marked gives ascending row numbers, which are kept and not
// written to. Ties fall to the smaller row.
//
// It costs queries·rows·dim operations of float64. Memory is bounded by run.Memory,
// except that one query is asked even where its marks exceed that: some 60 bytes each.
func (a *asking) rankings(ctx context.Context, marked func(row int64) []int64, fn func(rows []int64, places [][]place) error) error {
	if a.queries.dim != a.gallery.dim {
		return fmt.Errorf("%w: gallery %q has %d, queries %q have %d", store.ErrDim, a.gallery.use.Bank, a.gallery.dim, a.queries.use.Bank, a.queries.dim)
	}
	r := &ranker{asking: a, threads: max(1, a.run.Threads)}
	tileBytes := int64(8 * a.gallery.dim * tileColumns)
	r.rows = int(max(1, min(pieceBytes/tileBytes, a.run.Memory/8/tileBytes, mostTiles))) * tileColumns
	room := a.run.Memory - r.fixedBytes()
	used := int64(0)
	ask := func() error {
		if len(r.queries) == 0 {
			return nil
		}
		if err := r.rank(ctx); err != nil {
			return err
		}
		rows, places := make([]int64, len(r.queries)), make([][]place, len(r.queries))
		parallel(len(rows), r.threads, func(i int) { rows[i], places[i] = r.queries[i].row, r.queries[i].places() })
		for _, q := range r.queries {
			if q.tied() {
				a.tied++
			}
		}
		r.done += int64(len(rows))
		r.queries, used = nil, 0
		return fn(rows, places)
	}
	err := a.queries.batches(ctx, 256, func(numbers []int64, vectors simd.Matrix) error {
		for i, row := range numbers {
			if a.wanted != nil && !a.wanted(row) {
				r.done++
				continue
			}
			q, err := newRanking(row, vectors.Row(i), marked(row), a.leave, r.threads)
			if err != nil {
				return fmt.Errorf("bank %q row %d: %w", a.queries.use.Bank, row, err)
			}
			if used+q.bytes() > room || len(r.queries) == mostRankings {
				if err := ask(); err != nil {
					return err
				}
			}
			used += q.bytes()
			r.queries = append(r.queries, q)
		}
		return nil
	})
	if err != nil {
		return err
	}
	return ask()
}

// ranker ranks one batch of queries.
type ranker struct {
	*asking
	threads int
	rows    int // of a piece, whole tiles
	queries []*ranking
	strips  strips // the queries as columns
	done    int64  // queries
}

// piece is some rows of the gallery that are ranked.
type piece struct {
	numbers []int64 // ascending
	rows    simd.Matrix
	norms   []float64
}

// fixedBytes is what rankings take whatever they rank: pieces, and room of the workers.
func (r *ranker) fixedBytes() int64 {
	rows, dim := int64(r.rows), int64(r.gallery.dim)
	return rows * (int64(r.threads+1)*(4*dim+16) + int64(r.threads)*(8*dim+8*blockStrips*simd.StripColumns))
}

// rank reads the gallery twice.
func (r *ranker) rank(ctx context.Context) error {
	r.strips = newStrips(r.gallery.dim, len(r.queries))
	spread(r.threads, len(r.queries), func(_, i int) { r.strips.setColumn(i, r.queries[i].x, 1) })
	if err := r.pass(ctx, 0, shortShare, (*rankWorker).mark); err != nil {
		return err
	}
	spread(r.threads, len(r.queries), func(_, i int) { r.queries[i].arrange() })
	return r.pass(ctx, shortShare, longShare, (*rankWorker).count)
}

// The pass for the marks, which are few, and that for all rows share the progress so.
const shortShare, longShare = 1, 7

// pass calls do with every piece of the gallery. It is a share of the progress.
func (r *ranker) pass(ctx context.Context, before, share int, do func(w *rankWorker, p *piece)) error {
	free, full := make(chan *piece, r.threads+1), make(chan *piece)
	for range r.threads + 1 {
		free <- &piece{rows: simd.NewMatrix(r.rows, r.gallery.dim), norms: make([]float64, r.rows)}
	}
	var wg sync.WaitGroup
	var mu sync.Mutex
	seen := int64(0)
	for id := range r.threads {
		wg.Go(func() {
			w := newRankWorker(r, id)
			for p := range full {
				if ctx.Err() == nil {
					w.ctx = ctx
					w.take(p)
					do(w, p)
				}
				mu.Lock()
				seen += int64(len(p.numbers))
				if r.run.Progress != nil {
					part := (float64(before) + float64(share)*float64(seen)/float64(r.gallery.use.Rows)) / (shortShare + longShare)
					r.run.Progress(r.done+int64(part*float64(len(r.queries))), r.asking.queries.use.Rows)
				}
				mu.Unlock()
				free <- p
			}
		})
	}
	var at *piece
	hand := func() {
		if at != nil && len(at.numbers) > 0 {
			full <- at
			at = nil
		}
	}
	err := r.gallery.batches(ctx, min(r.rows, 1024), func(numbers []int64, vectors simd.Matrix) error {
		for i, row := range numbers {
			if r.allow != nil && !r.allow(row) {
				continue
			}
			if at == nil {
				at = <-free
				at.numbers = at.numbers[:0]
			}
			copy(at.rows.Row(len(at.numbers)), vectors.Row(i))
			if at.numbers = append(at.numbers, row); len(at.numbers) == r.rows {
				hand()
			}
		}
		return nil
	})
	if err == nil {
		hand()
	}
	close(full)
	wg.Wait()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// rankWorker is what one goroutine needs beside the ranker.
type rankWorker struct {
	*ranker
	ctx      context.Context
	id       int
	columns  strips      // the piece
	scale    []float64   // of each row of the piece: what makes an inner product a score
	products [][]float64 // [queries of a block][rows of the piece]
	tile     simd.ProductTile
	met      []meeting
	wanted   []bool // tiles
	gathered strips // rows that were met
}

// meeting is a marked row of a query in a piece.
type meeting struct {
	query    int // of the batch
	mark, at int // number of the mark, and of the row in the piece
}

func newRankWorker(r *ranker, id int) *rankWorker {
	w := &rankWorker{
		ranker: r, id: id, columns: newStrips(r.gallery.dim, r.rows), scale: make([]float64, r.rows),
		products: make([][]float64, blockStrips*simd.StripColumns), wanted: make([]bool, r.rows/tileColumns),
		gathered: newStrips(r.gallery.dim, tileColumns),
	}
	for i := range w.products {
		w.products[i] = make([]float64, r.rows)
	}
	return w
}

// take prepares a piece.
func (w *rankWorker) take(p *piece) {
	for i := range p.numbers {
		x := p.rows.Row(i)
		w.columns.setColumn(i, x, 1)
		p.norms[i] = simd.Norm(x)
		w.scale[i] = 1
		if w.metric == index.Cosine {
			w.scale[i] = 1 / max(p.norms[i], NormaliseEps)
		}
	}
}

// mark scores the marked rows of the piece, for the queries of one strip after another.
// Where they are few they are put side by side first.
func (w *rankWorker) mark(p *piece) {
	for first := 0; first < len(w.queries) && w.ctx.Err() == nil; first += simd.StripColumns {
		clear(w.wanted)
		w.met = w.met[:0]
		tiles := 0
		for i, q := range w.queries[first:min(first+simd.StripColumns, len(w.queries))] {
			q.meet(p.numbers, func(mark, at int) {
				if w.metric == index.L2 {
					q.scores[mark] = -squaredDifference(q.x, p.rows.Row(at))
					return
				}
				if !w.wanted[at/tileColumns] {
					w.wanted[at/tileColumns] = true
					tiles++
				}
				w.met = append(w.met, meeting{first + i, mark, at})
			})
		}
		if len(w.met) < gatherBelow*tiles {
			w.gather(p, first)
			continue
		}
		for tile, wanted := range w.wanted {
			if wanted {
				w.multiply(w.products, first, w.columns.tile(tile), tile)
			}
		}
		for _, m := range w.met {
			w.score(m, w.products[m.query-first][m.at])
		}
	}
}

// gather scores the rows that the queries of a strip met.
func (w *rankWorker) gather(p *piece, first int) {
	for met := range slices.Chunk(w.met, tileColumns) {
		for i, m := range met {
			w.gathered.setColumn(i, p.rows.Row(m.at), 1)
		}
		w.multiply(w.products, first, w.gathered.tile(0), 0)
		for i, m := range met {
			w.score(m, w.products[m.query-first][i])
		}
	}
}

func (w *rankWorker) score(m meeting, product float64) {
	w.queries[m.query].scores[m.mark] = product * w.scale[m.at]
}

// count counts the rows of the piece, for some queries after others.
func (w *rankWorker) count(p *piece) {
	const each = blockStrips * simd.StripColumns
	for first := 0; first < len(w.queries) && w.ctx.Err() == nil; first += each {
		queries := w.queries[first:min(first+each, len(w.queries))]
		for tile := range (len(p.numbers) + tileColumns - 1) / tileColumns {
			for strip := 0; strip < len(queries); strip += simd.StripColumns {
				w.multiply(w.products[strip:], first+strip, w.columns.tile(tile), tile)
			}
		}
		for i, q := range queries {
			if w.metric == index.L2 {
				q.countDistances(w.id, p, w.products[i])
			} else {
				q.count(w.id, p.numbers, w.products[i][:len(p.numbers)], w.scale)
			}
		}
	}
}

// multiply writes the products of the strip of queries that begins with first and 24
// columns into tile's places.
func (w *rankWorker) multiply(to [][]float64, first int, columns []float64, tile int) {
	w.tile = simd.ProductTile{}
	simd.Products(&w.tile, w.strips.strip(first/simd.StripColumns), columns)
	for i := range w.tile {
		*(*[tileColumns]float64)(to[i][tile*tileColumns:]) = w.tile[i]
	}
}

// squaredDifference is Σ(x−y)², one chain of float64.
func squaredDifference(x, y []float32) (sum float64) {
	for d, v := range x {
		w := float64(v) - float64(y[d])
		sum = math.FMA(w, w, sum)
	}
	return sum
}
