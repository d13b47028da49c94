package perf

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"time"

	"membank/index"
	"membank/simd"
	"membank/store"
)

// SearchOptions say what Search measures. The zero value is the case whose numbers
// people compare: 400,000 × 384, 2,048 queries, k = 20 and 200, cosine.
type SearchOptions struct {
	Dir      string  // where the database is made, and removed; "": temporary files
	Rows     int64   // 0: 400,000
	Dim      int     // 0: 384
	Rank     int     // of the gallery, as Gallery has it
	Noise    float64 // likewise
	Queries  int     // of the batch; 0: 2,048
	Single   int     // queries asked one by one in a round; 0: 8
	K        []int   // of the batches, the first also of single queries; nil: 20, 200
	Metric   index.Metric
	Threads  int           // 0: GOMAXPROCS
	Rounds   int           // 0: 5
	Time     time.Duration // of measuring a limit; 0: 500 ms
	Seed     uint64
	Progress Progress
}

// Search fills a bank with a Gallery, builds its codes, and measures exact search
// with whole rows (fp32) and with codes, which take turns: a batch, in
// floating-point operations (two an element and query, whether they were done or
// saved), against the FMA peak of as many threads; and single queries, in bytes of
// the rows, against plain reading of as much memory. So a share above 100 % is what
// codes save. Every answer through codes is compared with that of whole rows:
// other rows, or scores that differ in one bit, are an error.
func Search(ctx context.Context, o SearchOptions) (figures []Figure, err error) {
	o.Rows, o.Dim, o.Queries, o.Single = or(o.Rows, 400_000), or(o.Dim, 384), or(o.Queries, 2048), or(o.Single, 8)
	o.Threads, o.Rounds, o.Time = or(o.Threads, runtime.GOMAXPROCS(0)), or(o.Rounds, 5), or(o.Time, 500*time.Millisecond)
	if o.K == nil {
		o.K = []int{20, 200}
	}
	maker, err := NewMaker(Gallery{Rows: o.Rows, Dim: o.Dim, Rank: o.Rank, Noise: o.Noise, Seed: o.Seed, Threads: o.Threads})
	if err != nil {
		return nil, err
	}
	dir, remove, err := workspace(o.Dir)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, remove()) }()
	db, err := store.Open(ctx, dir, store.Options{Create: true})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	if _, err := fillBank(ctx, db, "gallery", maker, o.Progress); err != nil {
		return nil, err
	}
	built, err := buildCodes(ctx, db, "gallery", o.Threads, o.Progress)
	if err != nil {
		return nil, err
	}
	snap, err := db.Snapshot("gallery")
	if err != nil {
		return nil, err
	}
	defer snap.Close()
	c := &contest{SearchOptions: o, ix: index.New(snap), queries: simd.NewMatrix(o.Queries, o.Dim), on: threadsName(o.Threads)}
	maker.Fill(c.queries, nil, o.Rows)
	measured, err := c.run(ctx)
	return append(built, measured...), err
}

// contest lets searches with whole rows and with codes take turns.
type contest struct {
	SearchOptions
	ix      *index.Index
	queries simd.Matrix
	on      string // so many threads
}

func (c *contest) run(ctx context.Context) ([]Figure, error) {
	for _, plain := range []bool{true, false} { // checksums are computed on first touch
		if _, _, err := c.ask(ctx, c.queries.Slice(0, 1), c.K[0], plain); err != nil {
			return nil, err
		}
	}
	size := float64(c.Rows) * float64(c.Dim)
	buffer := pages(min(int64(4*size)+1<<16, 1<<30))
	peak := &measure{name: "fma peak, " + c.on, unit: "GFLOP/s", run: func() (float64, error) {
		return PeakFMA(ctx, c.Threads, c.Time) / 1e9, nil
	}}
	read := &measure{name: "memory read, " + c.on, unit: "GB/s", run: func() (float64, error) {
		return ReadMemory(ctx, buffer, c.Threads, c.Time) / 1e9, nil
	}}
	all := []*measure{peak}
	batches := make([]*pair, len(c.K))
	for i, k := range c.K {
		batches[i] = c.pair(ctx, fmt.Sprintf("batch of %d queries, k=%d", c.Queries, k), k, c.Queries, c.Queries)
		batches[i].within(peak, "GFLOP/s", 2*size*float64(c.Queries)/1e9)
		all = append(all, &batches[i].plain, &batches[i].coded)
	}
	single := c.pair(ctx, fmt.Sprintf("one query, k=%d", c.K[0]), c.K[0], c.Single, 1)
	single.within(read, "GB/s", 4*size*float64(c.Single)/1e9)
	all = append(all, read, &single.plain, &single.coded)
	if err := takeTurns(ctx, c.Rounds, c.Progress, all...); err != nil {
		return nil, err
	}
	figures := []Figure{peak.figure()}
	for _, p := range append(batches, single) {
		if p == single {
			figures = append(figures, read.figure())
		}
		figures = append(figures, p.figures()...)
	}
	return figures, nil
}

// ask searches once.
func (c *contest) ask(ctx context.Context, q simd.Matrix, k int, plain bool) (index.Result, float64, error) {
	start := time.Now()
	r, err := c.ix.Search(ctx, q, index.Options{K: k, Metric: c.Metric, Threads: c.Threads, NoCodes: plain})
	return r, time.Since(start).Seconds(), err
}

// pair is one kind of question, asked both ways.
type pair struct {
	name         string
	plain, coded measure
	amount       float64 // of a round, in billions of the unit
	asked        int     // queries of a round
	stats        index.Stats
}

// pair makes the measures for some queries, asked each at a time. The coded one
// compares its answers with those that the plain one got before it.
func (c *contest) pair(ctx context.Context, name string, k, queries, each int) *pair {
	p := &pair{name: name, asked: queries}
	next, first := 0, 0
	var want [][]index.Hit
	round := func(plain bool) (hits [][]index.Hit, spent float64, err error) {
		p.stats = index.Stats{}
		for i := 0; i < queries; i += each {
			at := (first + i) % c.Queries
			r, seconds, err := c.ask(ctx, c.queries.Slice(at, at+each), k, plain)
			if err != nil {
				return nil, 0, err
			}
			hits, spent = append(hits, r.Hits...), spent+seconds
			p.stats = sum(p.stats, r.Stats)
		}
		return hits, spent, nil
	}
	p.plain.run = func() (float64, error) {
		first = next
		next = (next + queries) % c.Queries
		hits, spent, err := round(true)
		want = hits
		return p.amount / spent, err
	}
	p.coded.run = func() (float64, error) {
		hits, spent, err := round(false)
		if err != nil {
			return 0, err
		}
		for q := range hits {
			if !slices.Equal(hits[q], want[q]) {
				return 0, fmt.Errorf("%s: query %d: codes answer %v, whole rows %v", name, (first+q)%c.Queries, hits[q], want[q])
			}
		}
		return p.amount / spent, nil
	}
	p.plain.name, p.coded.name = name+", fp32, "+c.on, name+", codes, "+c.on
	return p
}

func (p *pair) within(limit *measure, unit string, amount float64) {
	p.plain.limit, p.coded.limit = limit, limit
	p.plain.unit, p.coded.unit = unit, unit
	p.amount = amount
}

// sum adds what figures use.
func sum(a, b index.Stats) index.Stats {
	a.Coded, a.Second, a.Exact, a.Fallbacks = a.Coded+b.Coded, a.Second+b.Second, a.Exact+b.Exact, a.Fallbacks+b.Fallbacks
	return a
}

func (p *pair) figures() []Figure {
	time := func(m measure) float64 { return p.amount / m.best / float64(p.asked) * 1e3 }
	f := []Figure{
		p.plain.figure(), p.coded.figure(),
		{Name: "  codes over fp32", Value: p.coded.best / p.plain.best, Unit: "×"},
		{Name: "  time of a query, fp32", Value: time(p.plain), Unit: "ms"},
		{Name: "  time of a query, codes", Value: time(p.coded), Unit: "ms"},
	}
	if p.stats.Coded > 0 {
		share := func(n int64) float64 { return 100 * float64(n) / float64(p.stats.Coded) }
		f = append(f,
			Figure{Name: "  pairs that pass the first stage", Value: share(p.stats.Second), Unit: "%"},
			Figure{Name: "  pairs that pass the second, and are scored exactly", Value: share(p.stats.Exact), Unit: "%"},
			Figure{Name: "  runs of panels that tiles scan without codes", Value: float64(p.stats.Fallbacks), Unit: "runs"})
	}
	return f
}
