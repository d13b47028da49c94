package index

import (
	"context"
	"math"

	"membank/simd"
	"membank/store"
)

// coarse compares queries with all centroids by bytes: for the few nearest of thousands
// of lists that takes a third of the time of their floats. What it finds is exact: the
// bytes only leave out what cannot be among them.
//
// For a centroid c with c − μ = s·b + r, b integers within ±127 and μ the mean of all, and
// a query q = t·d + e with integers d,
//
//	⟨q,c⟩ = ⟨q,μ⟩ + t·s·⟨d,b⟩ + t·⟨d,r⟩ + ⟨e,c−μ⟩
//
// and the last two terms are at most t‖d‖·‖r‖ + ‖e‖·‖c−μ‖. ⟨q,μ⟩ is the same for all, so
// with h the largest such sum, and what a score errs by as computed (bound.go), the k
// best have an estimate s·⟨d,b⟩ within 2h/t of the k-th best estimate. Of some dozens
// that do r = s'·b' + r' and e = t'·d' + e' leave hardly more than k:
//
//	t·⟨d,r⟩ + ⟨e,c−μ⟩ = t·s'·⟨d,b'⟩ + t'·s·⟨d',b⟩ + t·⟨d,r'⟩ + t'·⟨d',r⟩ + ⟨e',c−μ⟩
type coarse struct {
	count, dim int
	panels     []uint8   // [panels][dim/4][32][4]
	codes      []uint8   // the same, [panels·32][dim]
	steps      []float32 // s, [panels·32]
	fine       []uint8   // b', as codes
	fineSteps  []float32 // s'
	lanes      []int32   // 0, 1, …
	off        float64   // the largest ‖r‖
	fineOff    float64   // and ‖r'‖
	spread     float64   // the largest ‖c−μ‖
	norm       float64   // the largest ‖c‖
	exact      *Index    // of the same centroids, without codes
}

const (
	// With fewer centroids it is not worth the while, and products of more dims than
	// mostCoarse may not fit an int32.
	leastCoarse, mostCoarse = 512, 1 << 15
	// The nearest one in coarseShare can be asked for.
	coarseShare = 16
	// Fewer queries than coarseTile are compared one by one.
	coarseTile = 4
)

// coarseServes says whether the k nearest of these centroids are found by bytes.
func coarseServes(m Metric, centroids simd.Matrix, k int) bool {
	return m != L2 && centroids.Rows >= leastCoarse && centroids.Dim <= mostCoarse && k*coarseShare <= centroids.Rows
}

// newCoarse takes 3·dim bytes a centroid.
func newCoarse(centroids simd.Matrix, exact *Index) *coarse {
	const n = simd.PanelRows
	mean, wide := make([]float64, centroids.Dim), make([]float64, centroids.Dim)
	for i := range centroids.Rows {
		for d, x := range centroids.Row(i) {
			mean[d] += float64(x) / float64(centroids.Rows)
		}
	}
	panels := simd.Panels(centroids.Rows)
	c := &coarse{count: centroids.Rows, dim: (centroids.Dim + simd.CodeGroup - 1) / simd.CodeGroup * simd.CodeGroup,
		lanes: make([]int32, panels*n), steps: make([]float32, panels*n), fineSteps: make([]float32, panels*n),
		exact: exact, norm: exact.maxNorm}
	c.panels, c.codes, c.fine = make([]uint8, panels*n*c.dim), make([]uint8, panels*n*c.dim), make([]uint8, panels*n*c.dim)
	for i := range c.codes {
		c.codes[i], c.fine[i] = 128, 128
	}
	for i := range c.lanes {
		c.lanes[i] = int32(i)
	}
	for i := range centroids.Rows {
		norm := 0.0
		for d, x := range centroids.Row(i) {
			wide[d] = float64(x) - mean[d]
			norm += wide[d] * wide[d]
		}
		c.spread = max(c.spread, math.Sqrt(norm))
		var off float64
		c.steps[i], off = bytesOf(c.codes[i*c.dim:], wide)
		c.off = max(c.off, off)
		c.fineSteps[i], off = bytesOf(c.fine[i*c.dim:], wide)
		c.fineOff = max(c.fineOff, off)
	}
	for p := range panels {
		simd.PackCodes(c.panels[p*n*c.dim:][:n*c.dim], c.codes[p*n*c.dim:][:n*c.dim], c.dim)
	}
	return c
}

// bytesOf makes codes of x in steps of its own, and leaves in x what they miss, and
// its norm.
func bytesOf(codes []uint8, x []float64) (step float32, off float64) {
	most := 0.0
	for _, v := range x {
		most = max(most, math.Abs(v))
	}
	step = float32(max(most/127, 1e-30))
	for d, v := range x {
		b := max(-127, min(127, math.RoundToEven(v/float64(step))))
		codes[d] = uint8(128 + b)
		x[d] -= float64(step) * b
		off += x[d] * x[d]
	}
	return step, math.Sqrt(off)
}

// nearest returns the k nearest centroids to each query by ⟨q,c⟩, best first. Queries
// are as the metric prepares them.
func (c *coarse) nearest(ctx context.Context, queries simd.Matrix, k, threads int) ([][]Hit, error) {
	all := make([][]Hit, queries.Rows)
	if float64(queries.Rows)*float64(c.count)*float64(c.dim) < workerWork {
		threads = 1
	}
	const each = simd.TileQueries
	parallel(threads, (queries.Rows+each-1)/each, func() func(int) {
		w := newCoarseWorker(c, k)
		return func(t int) {
			if ctx.Err() == nil {
				first, last := t*each, min((t+1)*each, queries.Rows)
				w.tile(queries.Slice(first, last), all[first:last])
			}
		}
	})
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	return all, nil
}

// coarseWorker is the scratch of a goroutine.
type coarseWorker struct {
	*coarse
	k       int
	wide    []float64
	codes   []int8 // d, [simd.TileQueries][dim]
	fine    []int8 // d'
	parts   [simd.TileQueries]part
	tiled   simd.CodeTile
	runs    []*simd.CodeEstimates
	dots    []int32
	one     []float32 // estimates of a query
	maxima  []float32 // of each panel
	lanes   []int32   // those left of a query
	left    []float32 // and their estimates
	others  []int32   // products with them
	top     TopK
	found   []simd.Pair // of a tile, of all centroids
	some    []simd.Pair // of one block
	scores  []float32
	scorer  simd.PairScorer
	view    view
	best    [simd.TileQueries]TopK
	scratch []Hit
}

func newCoarseWorker(c *coarse, k int) *coarseWorker {
	return &coarseWorker{coarse: c, k: k, view: c.exact.reader(),
		wide:  make([]float64, c.dim),
		codes: make([]int8, simd.TileQueries*c.dim), fine: make([]int8, simd.TileQueries*c.dim),
		maxima:  make([]float32, len(c.steps)/simd.PanelRows),
		scratch: make([]Hit, 2*k),
	}
}

// tile answers some queries.
func (w *coarseWorker) tile(queries simd.Matrix, answers [][]Hit) {
	const n = simd.PanelRows
	for q := range queries.Rows {
		for d, x := range queries.Row(q) {
			w.wide[d] = float64(x)
		}
		d, most := w.codes[q*w.dim:][:w.dim], float64(simd.MaxQueryCode())
		w.parts[q] = quantise(d, w.wide, 0, most, 0)
		w.parts[q].refine(w.fine[q*w.dim:][:w.dim], d, w.wide, most, 0)
	}
	tiled := queries.Rows >= coarseTile
	if tiled {
		w.estimate(queries.Rows)
	}
	w.found = w.found[:0]
	for q := range queries.Rows {
		if !tiled {
			w.estimateOne(q)
		}
		w.choose(q, queries.Dim, func(panel int) []float32 {
			lanes := min(n, w.count-panel*n)
			if !tiled {
				return w.one[panel*n:][:lanes]
			}
			return w.runs[panel/simd.CodeRun][q][panel%simd.CodeRun*n:][:lanes]
		})
	}
	w.score(queries)
	for q := range queries.Rows {
		answers[q] = w.best[q].Best()
	}
}

// estimate computes s·⟨d,b⟩ for the queries of a tile.
func (w *coarseWorker) estimate(queries int) {
	const n = simd.PanelRows
	simd.PackCodeQueries(&w.tiled, w.codes[:queries*w.dim], w.dim)
	w.tiled.Weights = append(w.tiled.Weights[:0], 1)
	panels := len(w.steps) / n
	for from := 0; from < panels; from += simd.CodeRun {
		to, run := min(from+simd.CodeRun, panels), from/simd.CodeRun
		if run == len(w.runs) {
			w.runs = append(w.runs, new(simd.CodeEstimates))
		}
		simd.CodeScores(w.runs[run], w.panels[from*n*w.dim:to*n*w.dim], w.steps[from*n:to*n], &w.tiled)
	}
}

// estimateOne does so for one query.
func (w *coarseWorker) estimateOne(q int) {
	if w.dots == nil {
		w.dots, w.one = make([]int32, len(w.steps)), make([]float32, len(w.steps))
	}
	simd.CodeDots(w.dots, w.coarse.codes, w.coarse.lanes, w.codes[q*w.dim:][:w.dim], w.parts[q].start)
	for i, d := range w.dots {
		w.one[i] = float32(d) * w.steps[i]
	}
}

// choose appends the pairs of query q that are to be scored, by the estimates of each
// panel.
func (w *coarseWorker) choose(q, dim int, estimates func(panel int) []float32) {
	const n = simd.PanelRows
	w.top.Reset(w.k, w.k, lowest, w.scratch)
	for p := range w.maxima {
		of := estimates(p)
		w.maxima[p] = simd.Largest(of)
		if floor := w.top.Floor(); w.maxima[p] > floor {
			for i, x := range of {
				if x > floor {
					w.top.Offer(int64(p*n+i), x)
				}
			}
		}
	}
	part := &w.parts[q]
	floor := w.floor(w.margin(part, dim))
	w.lanes, w.left = w.lanes[:0], w.left[:0]
	for p, most := range w.maxima {
		if most < floor {
			continue
		}
		for i, x := range estimates(p) {
			if x >= floor {
				w.lanes, w.left = append(w.lanes, int32(p*n+i)), append(w.left, x)
			}
		}
	}
	if len(w.lanes) > w.k {
		floor = w.refine(part, q, dim)
	}
	for j, lane := range w.lanes {
		if w.left[j] >= floor {
			w.found = append(w.found, simd.Pair{Lane: lane, Query: int32(q)})
		}
	}
}

// refine makes the estimates of the lanes left finer, and returns what they must
// reach.
func (w *coarseWorker) refine(p *part, q, dim int) float32 {
	if need := len(w.lanes); cap(w.others) < 2*need {
		w.others = make([]int32, 4*need)
	}
	d, fine := w.others[:len(w.lanes)], w.others[len(w.lanes):2*len(w.lanes)]
	simd.CodeDots(d, w.coarse.fine, w.lanes, w.codes[q*w.dim:][:w.dim], p.start)
	simd.CodeDots(fine, w.coarse.codes, w.lanes, w.fine[q*w.dim:][:w.dim], p.fine.start)
	ratio := p.fine.step / p.step // t'/t
	w.top.Reset(w.k, w.k, lowest, w.scratch)
	for j, lane := range w.lanes {
		w.left[j] = float32(float64(w.left[j]) + float64(w.fineSteps[lane])*float64(d[j]) + ratio*float64(w.steps[lane])*float64(fine[j]))
		w.top.Offer(int64(lane), w.left[j])
	}
	return w.floor(w.fineMargin(p, dim))
}

// floor is what lies by a margin below the k-th best estimate.
func (w *coarseWorker) floor(margin float64) float32 {
	least := float32(math.Inf(1))
	for _, h := range w.top.kept() {
		least = min(least, h.Score)
	}
	return roundDown(float64(least) - margin)
}

// margin is 2h/t: how far below the k-th best estimate one of the k best may lie.
func (w *coarseWorker) margin(p *part, dim int) float64 {
	return 2 * (p.norm*w.off + p.off*w.spread + w.rounding(p, dim)) * (1 + float) / p.step
}

// fineMargin is that of the finer estimates. t'‖d'‖ is at most ‖e‖ + ‖e'‖.
func (w *coarseWorker) fineMargin(p *part, dim int) float64 {
	return 2 * (p.norm*w.fineOff + (p.off+p.fine.off)*w.off + p.fine.off*w.spread + w.rounding(p, dim)) * (1 + float) / p.step
}

// rounding bounds what a score errs by, and an estimate, which is rounded to float32 four
// times at most: as it is converted, multiplied, and made finer.
func (w *coarseWorker) rounding(p *part, dim int) float64 {
	return (gamma(dim)+4*unit)*(p.norm+p.off)*w.norm + 4*unit*(p.norm+p.off)*(w.spread+w.off) + underflow
}

// score scores what was chosen, block by block, and keeps the best.
func (w *coarseWorker) score(queries simd.Matrix) {
	for q := range queries.Rows {
		w.best[q].Reset(w.k, w.k, lowest, make([]Hit, 0, 2*w.k))
	}
	asked := simd.NewPairQueries(queries)
	for block := range w.exact.blocks {
		w.some = w.some[:0]
		for _, p := range w.found {
			if int(p.Lane)/matrixBlock == block {
				w.some = append(w.some, simd.Pair{Lane: p.Lane % matrixBlock, Query: p.Query})
			}
		}
		if len(w.some) == 0 {
			continue
		}
		// The blocks of an index in memory can be lent without an error.
		_ = w.view(block, nil, func(b *store.Block) error {
			if cap(w.scores) < len(w.some) {
				w.scores = make([]float32, 2*len(w.some))
			}
			scores := w.scores[:len(w.some)]
			w.scorer.Score(scores, b.Panels, unitScales[:b.Lanes], noBiases[:b.Lanes], asked, w.some)
			for i, p := range w.some {
				w.best[p.Query].Offer(b.Row[p.Lane], scores[i])
			}
			return nil
		})
	}
}

var unitScales, noBiases [matrixBlock]float32

func init() {
	for i := range unitScales {
		unitScales[i] = 1
	}
}
