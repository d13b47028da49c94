package index

import (
	"context"
	"math"
	"math/bits"
	"slices"
	"sync"
	"sync/atomic"

	"membank/simd"
	"membank/store"
)

// Sizes of the loop, for 1 MB of L2 a core. Groups of 128 to 768 KiB, copied or
// not, were within the noise of each other at 100,000 × 384, 1,020 queries, AVX-512
// on a busy machine; tileFrom and pieceWork are reasoned, not compared.
const (
	// groupBytes of panels stay in the L2 cache while all tiles of queries
	// pass over them.
	groupBytes = 512 << 10
	// A tile of fewer queries than tileFrom is scanned query by query.
	tileFrom = 4
	// With copyFrom tiles or more the panels of a group are first copied from
	// the mapping, where they lie at any offset, to an aligned buffer.
	copyFrom = 3
	// maxWaiting hits of a query wait at most for the end of a group.
	maxWaiting = 32
	// A block is cut into pieces where there are few blocks for many workers,
	// but not into pieces of less than pieceWork multiply-adds.
	pieceWork = 8 << 20
	// Another worker is worth waking for workerWork multiply-adds.
	workerWork = 1 << 20
	// piecesEach is the number of pieces for each worker, if need be, so that
	// none of them waits long for the last.
	piecesEach = 4
)

// run reads the lists of the pass, or all blocks, with all workers.
func (p *pass) run(ctx context.Context) error {
	blocks := p.ix.blocks
	if blocks == 0 || p.queries.Rows == 0 {
		return nil
	}
	defer p.done()
	if p.group != nil {
		return p.runLists(ctx)
	}
	cuts := p.cuts()
	if p.cascade != nil && p.seedPanels > 0 {
		seeded := (blocks + p.seedStride - 1) / p.seedStride
		if err := p.work(ctx, seeded, p.effort(seeded*p.seedPanels*simd.PanelRows), nil, func(w *worker, i int) error {
			return w.seed(i*p.seedStride, func(b *store.Block) error {
				p.seen.Add(int64(b.Lanes))
				return w.scan(ctx, b, 0, b.Lanes, w.all)
			})
		}); err != nil {
			return err
		}
		p.guess()
	}
	for _, p.upTo = range p.stops() {
		if err := p.runPart(ctx, cuts); err != nil {
			return err
		}
		if p.upTo < wholeBlock {
			p.guess()
		}
		p.after = p.upTo
	}
	return nil
}

// runPart reads the part of all blocks between after and upTo, in some pieces each.
func (p *pass) runPart(ctx context.Context, cuts int) error {
	var progress func(done float64)
	if p.progress != nil {
		progress = func(done float64) {
			p.progress((float64(p.after) + done*float64(p.upTo-p.after)) / wholeBlock)
		}
	}
	return p.work(ctx, p.ix.blocks*cuts, p.effort(int(p.ix.rows)), progress, func(w *worker, i int) error {
		block, piece := i/cuts, i%cuts
		if p.cascade != nil {
			return w.siftPiece(ctx, block, piece, cuts)
		}
		return w.view(block, nil, func(b *store.Block) error {
			from, to := w.pieceOf(block, b.Lanes/simd.PanelRows, piece, cuts)
			return w.scan(ctx, b, from*simd.PanelRows, to*simd.PanelRows, w.all)
		})
	})
}

// pieceOf returns the panels of a piece of the part of a block that is read now,
// without those of the seed.
func (p *pass) pieceOf(block, panels, piece, cuts int) (from, to int) {
	skip := 0
	if p.cascade != nil && block%p.seedStride == 0 {
		skip = min(p.seedPanels, panels)
	}
	panels -= skip
	skip += panels * p.after / wholeBlock
	panels = panels*p.upTo/wholeBlock - panels*p.after/wholeBlock
	return skip + panels*piece/cuts, skip + panels*(piece+1)/cuts
}

// effort is how many multiply-adds all queries take for so many rows.
func (p *pass) effort(rows int) float64 {
	return float64(rows) * float64(p.queries.Rows) * float64(p.ix.dim)
}

// work calls do for each of some pieces, with as many workers as so many multiply-adds
// are worth.
func (p *pass) work(ctx context.Context, pieces int, effort float64, progress func(done float64), do func(w *worker, piece int) error) error {
	workers := min(p.o.Threads, max(1, pieces), 1+int(min(effort/workerWork, 1<<20)))
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	for len(p.workers) < workers {
		p.workers = append(p.workers, nil)
	}
	var (
		next atomic.Int64
		mu   sync.Mutex // around done, progress and stats
		done int64
		wg   sync.WaitGroup
	)
	one := func(id int) {
		w := p.worker(id, workers)
		for {
			piece := int(next.Add(1)) - 1
			if piece >= pieces || ctx.Err() != nil {
				break
			}
			if err := do(w, piece); err != nil {
				stop(err)
				break
			}
			if progress != nil {
				mu.Lock()
				done++
				progress(float64(done) / float64(pieces))
				mu.Unlock()
			}
		}
		mu.Lock()
		p.stats.add(w.stats)
		mu.Unlock()
	}
	for id := 1; id < workers; id++ {
		wg.Go(func() { one(id) })
	}
	one(0)
	wg.Wait()
	return context.Cause(ctx)
}

// cuts is how many pieces a block makes.
func (p *pass) cuts() int {
	want := (piecesEach*p.o.Threads + p.ix.blocks - 1) / p.ix.blocks
	work := float64(p.ix.rows) / float64(p.ix.blocks) * float64(p.ix.dim) * float64(p.queries.Rows)
	return max(1, min(want, int(work/pieceWork)))
}

// worker is what one goroutine needs beside the pass.
type worker struct {
	*pass
	view view
	all  []tile // workers begin apart, so that they seldom meet at a TopK

	lanes       []int     // first lane of each panel in question
	scale, bias []float32 // [len(lanes)][simd.PanelRows]
	copying     bool      // groups are copied
	panels      []float32 // aligned copy of a group
	scores      []float32 // of a scan
	row         []float32
	tile        simd.TileScores
	sift        *sift
	some        []int32                 // panels of some runs
	waiting     [simd.TileQueries][]Hit // see collect
	loose       []tile                  // of a list, see packed
	gathered    simd.Matrix
	stats       Stats
}

// worker is that of the last work or, for its scratch, of another pass, if there is
// one.
func (p *pass) worker(id, workers int) *worker {
	w := p.workers[id]
	if w == nil {
		w = p.ix.spareWorker()
		p.workers[id] = w
	}
	w.begin(p, id, workers)
	return w
}

// done lends what the workers of the pass hold to others.
func (p *pass) done() {
	for _, w := range p.workers {
		if w != nil {
			w.pass = nil
			clear(w.all)
			if p.ix.spare != nil {
				p.ix.spare.Put(w)
			}
		}
	}
	p.workers = nil
}

// spareWorker is one that another pass is done with, or a new one.
func (ix *Index) spareWorker() *worker {
	if ix.spare != nil {
		if w, _ := ix.spare.Get().(*worker); w != nil {
			return w
		}
	}
	return ix.newWorker()
}

func (ix *Index) newWorker() *worker {
	w := &worker{
		view:   ix.reader(),
		row:    make([]float32, ix.dim),
		scores: make([]float32, ix.groupPanels()*simd.PanelRows),
	}
	for slot := range w.waiting {
		w.waiting[slot] = make([]Hit, 0, maxWaiting+simd.PanelRows)
	}
	return w
}

// begin makes w one of the workers of a pass.
func (w *worker) begin(p *pass, id, workers int) {
	w.pass, w.stats = p, Stats{}
	w.all = slices.Grow(w.all[:0], p.tileCount())
	for i := range p.tileCount() {
		w.all = append(w.all, p.tiles[(p.tileCount()*id/workers+i)%p.tileCount()])
	}
	for slot := range w.waiting {
		w.waiting[slot] = w.waiting[slot][:0]
	}
	if p.cascade == nil {
		return
	}
	if w.sift == nil {
		w.sift = &sift{codes: p.ix.codes()}
	}
	w.sift.skip = append(w.sift.skip[:0], make([]int, p.tileCount())...)
	w.sift.heat = append(w.sift.heat[:0], make([]int, p.tileCount())...)
}

func (ix *Index) groupPanels() int {
	return max(1, groupBytes/(4*simd.PanelRows*max(ix.dim, 1)))
}

// scan answers the queries of some tiles over the lanes from..to of a block.
func (w *worker) scan(ctx context.Context, b *store.Block, from, to int, tiles []tile) error {
	if w.copying = len(tiles) >= copyFrom; w.copying && w.panels == nil {
		// Allocations of this size begin on a page.
		w.panels = make([]float32, w.ix.groupPanels()*simd.PanelRows*w.ix.dim)
	}
	w.choose(b, from, to, pairsEach(tiles))
	for first := 0; first < len(w.lanes); {
		g := w.group(b, first)
		for _, t := range tiles {
			if err := ctx.Err(); err != nil {
				return context.Cause(ctx)
			}
			var err error
			if len(t.queries) < tileFrom {
				err = w.scanQueries(g, t.queries)
			} else {
				err = w.scanTile(g, &t)
			}
			if err != nil {
				return err
			}
		}
		first += len(g.lanes)
	}
	return nil
}

// pairsEach is the number of queries in some tiles.
func pairsEach(tiles []tile) (queries int) {
	for _, t := range tiles {
		queries += len(t.queries)
	}
	return queries
}

// choose lists the panels of b that have a row in question among the lanes
// from..to, and their columns.
func (w *worker) choose(b *store.Block, from, to, queries int) {
	const n = simd.PanelRows
	w.lanes = w.lanes[:0]
	begin, end := from/n*n, (to+n-1)/n*n
	if need := end - begin; cap(w.scale) < need {
		w.scale, w.bias = make([]float32, need), make([]float32, need)
	}
	w.scale, w.bias = w.scale[:cap(w.scale)], w.bias[:cap(w.bias)]
	for lane := begin; lane < end; lane += n {
		at := len(w.lanes) * n
		bias := w.bias[at:][:n]
		if !w.o.Metric.Epilogue(w.scale[at:][:n], bias, b, lane) {
			continue
		}
		alive := 0
		for i := range bias {
			if b.Dead[lane+i] {
				continue
			}
			if lane+i < from || lane+i >= to || w.o.Allow != nil && !w.o.Allow(b.Row[lane+i]) {
				bias[i] = float32(math.Inf(-1))
				continue
			}
			alive++
		}
		if alive > 0 {
			w.lanes = append(w.lanes, lane)
			w.stats.Rows += int64(alive)
			w.stats.Scores += int64(alive) * int64(queries)
		}
	}
	w.stats.Bytes += int64(len(w.lanes)) * n * 4 * int64(b.Dim)
}

// group is some panels that fit the cache together.
type group struct {
	block       *store.Block
	lanes       []int     // first lane of each panel in the block
	panels      []float32 // [len(lanes)][dim][simd.PanelRows]
	scale, bias []float32 // [len(lanes)][simd.PanelRows]
}

// group takes the next panels: copied where many tiles will read them, in place
// otherwise, and then no further than they lie side by side.
func (w *worker) group(b *store.Block, first int) group {
	const n = simd.PanelRows
	last := min(first+w.ix.groupPanels(), len(w.lanes))
	lanes := w.lanes[first:last]
	g := group{block: b}
	if !w.copying {
		count := 1
		for count < len(lanes) && lanes[count] == lanes[0]+count*n {
			count++
		}
		lanes = lanes[:count]
		g.panels = b.Panels[lanes[0]*b.Dim:][:count*n*b.Dim]
	} else {
		g.panels = w.panels[:len(lanes)*n*b.Dim]
		for i, lane := range lanes {
			copy(g.panels[i*n*b.Dim:][:n*b.Dim], b.Panels[lane*b.Dim:])
		}
	}
	g.lanes = lanes
	g.scale = w.scale[first*n:][:len(lanes)*n]
	g.bias = w.bias[first*n:][:len(lanes)*n]
	return g
}

// scanTile runs one tile of queries over the panels of a group.
func (w *worker) scanTile(g group, t *tile) error {
	const n = simd.PanelRows
	size := n * w.ix.dim
	floors := noFloor // no score of an absent query reaches it
	for i, q := range t.queries {
		floors[i] = w.floor(int(q), g.block.MaxNorm)
	}
	for i, lane := range g.lanes {
		panel := g.panels[i*size:][:size]
		if !simd.Tile(&w.tile, panel, g.scale[i*n:][:n], g.bias[i*n:][:n], t.floats, &floors) {
			continue
		}
		for j, hits := range &w.tile.Hits {
			if hits == 0 {
				continue
			}
			q := int(t.queries[j])
			if err := w.collect(j, q, g.block, lane, panel, hits, &w.tile.Scores[j]); err != nil {
				return err
			}
			floors[j] = w.floor(q, g.block.MaxNorm)
		}
	}
	for j, q := range t.queries {
		if len(w.waiting[j]) == 0 {
			continue
		}
		if err := w.offer(j, int(q)); err != nil {
			return err
		}
	}
	return nil
}

// scanQueries runs queries over the panels of a group one by one.
func (w *worker) scanQueries(g group, queries []int32) error {
	const n = simd.PanelRows
	size := n * w.ix.dim
	scores := w.scores[:len(g.lanes)*n]
	for _, q := range queries {
		q := int(q)
		simd.Scan(scores, g.panels, g.scale, g.bias, w.rows.Row(q))
		floor := w.floor(q, g.block.MaxNorm)
		for i, lane := range g.lanes {
			of := (*[n]float32)(scores[i*n:])
			hits := reaching(of, floor)
			if hits == 0 {
				continue
			}
			if err := w.collect(0, q, g.block, lane, g.panels[i*size:][:size], hits, of); err != nil {
				return err
			}
			floor = w.floor(q, g.block.MaxNorm)
		}
		if err := w.offer(0, q); err != nil {
			return err
		}
	}
	return nil
}

// reaching has bit i set if scores[i] reaches the floor.
func reaching(scores *[simd.PanelRows]float32, floor float32) (hits uint32) {
	for i, s := range scores {
		if s >= floor {
			hits |= 1 << i
		}
	}
	return hits
}

// floor is what a kernel's score for query q must reach, among rows of norm
// maxNorm at most.
func (w *worker) floor(q int, maxNorm float64) float32 {
	exact := w.floors[q].load()
	if w.bound == nil {
		return exact
	}
	return w.bound.floor(q, exact, maxNorm)
}

// collect takes the hits of query q in one panel; where the kernel's score was a
// first pass only, it scores them anew. They wait in slot for the end of the
// group, so that a query's TopK, cold by now, is met once a group and not once a
// hit. A row that costs a new score is worth more than that: then the floor is
// raised at once.
func (w *worker) collect(slot, q int, b *store.Block, lane int, panel []float32, hits uint32, scores *[simd.PanelRows]float32) error {
	exclude := int64(-1)
	if w.exclude != nil {
		exclude = w.exclude[q]
	}
	for ; hits != 0; hits &= hits - 1 {
		i := bits.TrailingZeros32(hits)
		h := Hit{b.Row[lane+i], scores[i]}
		if h.Row == exclude {
			continue
		}
		if w.bound != nil {
			simd.UnpackRow(w.row, panel, i)
			h.Score = -simd.SquaredDistance(w.queries.Row(q), w.row)
			w.stats.Rescored++
		}
		if w.dense != nil {
			w.dense[q][h.Row] = w.o.Metric.printed(h.Score)
			continue
		}
		w.waiting[slot] = append(w.waiting[slot], h)
	}
	if w.dense != nil {
		return nil
	}
	if w.bound == nil && len(w.waiting[slot]) <= maxWaiting {
		return nil
	}
	return w.offer(slot, q)
}

// offer hands the hits that wait in slot to the TopK of query q.
func (w *worker) offer(slot, q int) error {
	top := &w.tops[q]
	top.Lock()
	before := cap(top.hits)
	for _, h := range w.waiting[slot] {
		top.Offer(h.Row, h.Score)
	}
	grown := cap(top.hits) - before
	if f := max(top.Floor(), w.guessOf(q)); f != w.floors[q].load() {
		w.floors[q].store(f)
	}
	top.Unlock()
	w.waiting[slot] = w.waiting[slot][:0]
	if grown > 0 && !w.budget.take(int64(grown)*hitBytes) {
		return w.budget.exceeded()
	}
	return nil
}
