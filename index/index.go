package index

import (
	"context"
	"fmt"
	"math"
	"runtime"
	"sync"
	"time"

	"membank/simd"
	"membank/store"
)

// Index searches one snapshot of a bank. It holds little but the snapshot and the
// basis of its codes (see mostSeedBytes), so it costs next to nothing to make, is safe
// for concurrent use, and is done when the snapshot is closed.
type Index struct {
	rows    int64
	dim     int
	blocks  int
	maxNorm float64 // no row has a larger one
	reader  func() view
	// inMemory: of FromMatrix, so that rows are numbered without gaps.
	inMemory bool
	// inOrder reads live rows in row order, batch by batch, where blocks are in
	// another; nil: they are not.
	inOrder func(ctx context.Context, size int, fn func(store.Batch) error) error

	grouping func() (*grouping, error) // nil: a flat bank

	basis  *Basis // nil: no codes
	codes  func() codesView
	small  bool       // use codes for few rows, too
	spare  *sync.Pool // of *worker, for their scratch; nil: it is not kept
	seeds  *sync.Map  // of seedPart: *store.Block, what is kept of the seed; nil: nothing
	broken error      // what is wrong with the basis; for Search to say
}

// view lends block i to fn, which may use it until it returns, but of its columns
// only some panels, see store.Reader.ViewPanels. A view belongs to one goroutine.
type view func(i int, panels []int32, fn func(*store.Block) error) error

// New returns an index over all rows of s.
func New(s *store.Snapshot) *Index {
	info := s.Info()
	ix := &Index{
		rows:    info.Rows,
		dim:     info.Dim,
		blocks:  s.Blocks(),
		maxNorm: s.MaxNorm(),
		spare:   new(sync.Pool),
		seeds:   new(sync.Map),
		reader:  func() view { return s.NewReader().ViewPanels },
	}
	ix.readCodes(s)
	if !s.InRowOrder() {
		ix.inOrder = s.Batches
	}
	if info.Lists > 0 {
		ix.grouping = sync.OnceValues(func() (*grouping, error) { return readGrouping(s) })
	}
	return ix
}

// DefaultK is the number of neighbours where Options.K is 0.
const DefaultK = 10

// DefaultMemory is the budget of a search where Options.Memory is 0.
const DefaultMemory = 1 << 30

// unlimited stands for K where only the score limits an answer.
const unlimited = math.MaxInt

// Options says what a search looks for. The zero value asks for the DefaultK
// nearest rows by cosine, on all cores.
type Options struct {
	// K is the number of hits a query gets; a K beyond the rows of the bank
	// gets all of them. 0 means DefaultK, or with HasMinScore every row that
	// passes it.
	K      int
	Metric Metric
	// MinScore is the smallest score of a hit if HasMinScore is set; for L2 it
	// is the largest squared distance.
	MinScore    float32
	HasMinScore bool
	// ExcludeRow holds for each query one row that it does not get (itself,
	// when the queries are rows of the bank), −1 for none. Nil is none for all.
	ExcludeRow []int64
	// Floors holds for each query a score that the caller knows to be reached, by
	// the rows it wants: the search starts from there, and hits below it are left
	// out. For L2 it is a squared distance, and hits beyond it are. NaN or −Inf is
	// none for that query; nil is none for all.
	Floors []float32
	// Probes, if not 0, lets each query read the rows of so many lists only, those
	// with the nearest centroids, and of more where these hold less than K rows. A
	// bank that is not grouped, or for another metric, is read whole; so is one
	// that has no more lists.
	Probes int
	// Recall, in 0..1 and not with Probes, lets each query stop by itself, so that
	// this share of the exact answers is found in the mean: as measured when the
	// bank's lists were tuned, see Result.Tuned. A search with 1, of a bank that is
	// not grouped, or for which nothing was measured, is exact; 0 means 1.
	Recall float64
	// Allow, if set, says which rows may be hits. It is asked once a row for
	// each pass over the bank, from several goroutines at once.
	Allow func(row int64) bool
	// NoCodes leaves the codes of the bank unread, if it has any. The answer is
	// the same.
	NoCodes bool
	// Threads is the number of workers; 0 means GOMAXPROCS.
	Threads int
	// Memory is what the answer may take in bytes, 16 a hit; 0 means
	// DefaultMemory, more is an ErrMemory. What a search needs beside it does
	// not grow with the batch: see passBytes.
	Memory int64
	// Progress, if set, is told now and then how many pairs of a query and a
	// row are done. Calls do not overlap.
	Progress func(done, total int64)

	firstDims int // of codes; 0: as many as it takes
}

// Result is the answer to a batch.
type Result struct {
	Hits  [][]Hit // per query, best first; may be shorter than K, never nil
	Stats Stats
	// Approximate: not all rows were in question. Otherwise the answer is exact, also
	// where lists were left out.
	Approximate bool
	// Tuned is what a search for a recall went by; nil if all rows were compared,
	// or Options.Probes lists.
	Tuned *Tuning
}

// Stats says what an answer cost. Only Rescored and Seconds depend on chance:
// workers that find good rows early spare each other work.
type Stats struct {
	Passes   int   // over the bank
	Lists    int64 // read by queries, pairs of the two, but for that of strays; 0 where all rows were compared in order
	Rows     int64 // live and allowed rows of which vectors were read, in all passes
	Scores   int64 // pairs of a query and a row that were scored from all of their vectors
	Rescored int64 // of these, scored again directly (L2)
	Bytes    int64 // of panels and of the first stage of codes read
	Seconds  float64

	// What the codes did, 0 where they were not used.
	Coded     int64 // pairs compared by the first stage of codes
	Second    int64 // of these, pairs that came to the second
	Exact     int64 // of these, pairs that were scored exactly
	Repeated  int64 // queries that took a second pass, as their first floor was guessed too high
	Fallbacks int64 // pieces of blocks that tiles of queries scanned without codes
}

// Search finds the nearest rows of the bank for every row of queries. Without
// Options.Probes and Recall the answer is exact: the k best under the total order of score, then smaller row,
// where the score is simd's single FMA chain. So it has the same bits for any
// number of threads, any batching, and every SIMD level.
//
// A pass over the bank serves thousands of queries: ask in batches. Reading
// costs 4 bytes an element and pass, scoring 2 operations an element and query;
// one or two queries run at the speed of memory, many at that of the FMA units.
// A cancelled ctx ends the search with its cause within a fraction of a block.
// Errors of the store come through as they are. Safe for concurrent use.
func (ix *Index) Search(ctx context.Context, queries simd.Matrix, o Options) (Result, error) {
	start := time.Now()
	norms, err := ix.check(queries, &o)
	if err == nil && !o.NoCodes {
		err = ix.broken
	}
	if err != nil {
		return Result{}, err
	}
	if exact := o.Probes == 0 && (o.Recall == 0 || o.Recall == 1); exact && o.Floors == nil && !o.ranged() {
		if e := findEqual(queries); e != nil {
			return ix.searchDistinct(ctx, queries, o, e)
		}
	}
	r := Result{Hits: make([][]Hit, queries.Rows)}
	lists, tuned, err := ix.route(ctx, queries, norms, &o)
	if err != nil {
		return Result{}, err
	}
	r.Tuned, r.Approximate = tuned, lists.group != nil && !lists.bounded
	budget := newBudget(o.Memory)
	if !o.HasMinScore && o.Allow == nil && !budget.holds(int64(queries.Rows), min(int64(o.K), ix.rows)) {
		return Result{}, budget.exceeded()
	}
	each := ix.passQueries(o)
	for first := 0; first < queries.Rows; first += each {
		last := min(first+each, queries.Rows)
		ask := func(b batch, cautious bool) (*pass, [][]Hit, error) {
			p := newPass(ix, o, budget, b.queries, b.norms, b.known, lists)
			p.exclude, p.cautious = b.exclude, cautious
			if o.Progress != nil && !cautious {
				p.progress = func(done float64) {
					o.Progress(int64(float64(ix.rows)*(float64(first)+done*float64(last-first))), ix.rows*int64(queries.Rows))
				}
			}
			if err := p.run(ctx); err != nil {
				return nil, nil, err
			}
			hits, err := p.answers()
			r.Stats.add(p.stats)
			r.Stats.Passes++
			return p, hits, err
		}
		part := ix.arranged(o.batch(queries, norms, first, last), &o, lists.group != nil)
		p, hits, err := ask(part, false)
		if err == nil && len(p.again) > 0 {
			err = p.repeat(hits, ask)
			r.Stats.Repeated += int64(len(p.again))
		}
		if err != nil {
			return Result{}, err
		}
		for i, list := range hits {
			r.Hits[first+part.from(i)] = list
		}
	}
	r.Stats.Seconds = time.Since(start).Seconds()
	return r, nil
}

// check refuses what cannot be asked, fills in the defaults, and returns the
// norm of each query.
func (ix *Index) check(queries simd.Matrix, o *Options) ([]float64, error) {
	switch {
	case int(o.Metric) >= len(metricNames):
		return nil, fmt.Errorf("%w: %v", ErrOptions, o.Metric)
	case o.K < 0 && !o.HasMinScore:
		return nil, fmt.Errorf("%w: k is %d", ErrOptions, o.K)
	case o.HasMinScore && o.MinScore != o.MinScore:
		return nil, fmt.Errorf("%w: the minimal score is NaN", ErrOptions)
	case o.Probes < 0 || !(o.Recall >= 0 && o.Recall <= 1) || o.Probes > 0 && o.Recall > 0:
		return nil, fmt.Errorf("%w: %d probes, recall %v", ErrOptions, o.Probes, o.Recall)
	case o.ExcludeRow != nil && len(o.ExcludeRow) != queries.Rows:
		return nil, fmt.Errorf("%w: %d rows to exclude for %d queries", ErrOptions, len(o.ExcludeRow), queries.Rows)
	}
	if o.Floors != nil && len(o.Floors) != queries.Rows {
		return nil, fmt.Errorf("%w: %d floors for %d queries", ErrOptions, len(o.Floors), queries.Rows)
	}
	if queries.Rows > 0 && queries.Dim != ix.dim {
		return nil, &QueryError{0, fmt.Errorf("%w: it has %d dimensions, the bank %d", ErrQuery, queries.Dim, ix.dim)}
	}
	if o.K <= 0 {
		o.K = DefaultK
		if o.HasMinScore {
			o.K = unlimited
		}
	}
	if o.K != unlimited {
		o.K = int(max(1, min(int64(o.K), ix.rows)))
	}
	if o.Threads <= 0 {
		o.Threads = runtime.GOMAXPROCS(0)
	}
	if o.Memory <= 0 {
		o.Memory = DefaultMemory
	}
	norms := make([]float64, queries.Rows)
	for i := range norms {
		norms[i] = simd.Norm(queries.Row(i))
		switch {
		case math.IsNaN(norms[i]) || math.IsInf(norms[i], 0):
			return nil, &QueryError{i, fmt.Errorf("%w: it holds NaN or Inf", ErrQuery)}
		case o.Metric.overflows(norms[i], ix.maxNorm):
			return nil, &QueryError{i, fmt.Errorf("%w: norm %.3g, in the bank up to %.3g (scale the vectors down)",
				ErrOverflow, norms[i], ix.maxNorm)}
		}
	}
	return norms, nil
}

// minScore is the internal score that a hit must reach.
func (o *Options) minScore() float32 {
	if !o.HasMinScore {
		return lowest
	}
	return max(o.Metric.printed(o.MinScore), lowest)
}

// least is the internal score that a hit of query q of the pass must reach.
func (p *pass) least(q int) float32 {
	least := p.o.minScore()
	if p.known != nil {
		known := p.o.Metric.printed(p.known[q])
		if known > least && !math.IsInf(float64(p.known[q]), -1) {
			least = known
		}
	}
	return least
}

func (s *Stats) add(t Stats) {
	s.Lists += t.Lists
	s.Rows += t.Rows
	s.Scores += t.Scores
	s.Rescored += t.Rescored
	s.Bytes += t.Bytes
	s.Coded += t.Coded
	s.Second += t.Second
	s.Exact += t.Exact
	s.Fallbacks += t.Fallbacks
	s.Repeated += t.Repeated
}
