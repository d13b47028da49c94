package perf

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"time"

	"membank/index"
	"membank/simd"
	"membank/store"
)

// SearchOptions say what Search measures. The zero value is the case whose numbers
// people compare: 400,000 × 384, 2,048 queries, k = 20, cosine.
type SearchOptions struct {
	Dir      string // where the database is made, and removed; "": temporary files
	Rows     int64  // 0: 400,000
	Dim      int    // 0: 384
	Queries  int    // of the batch; 0: 2,048
	Single   int    // queries asked one by one in a round; 0: 8
	K        int    // 0: 20
	Metric   index.Metric
	Threads  int           // 0: GOMAXPROCS
	Rounds   int           // 0: 5
	Time     time.Duration // of measuring a limit; 0: 500 ms
	Seed     uint64
	Progress Progress
}

// Search fills a bank with a Gallery and measures exact search: a batch, in
// floating-point operations (two an element and query), against the FMA peak of as
// many threads; and single queries, in bytes of the rows, against plain reading of
// as much memory.
func Search(ctx context.Context, o SearchOptions) (figures []Figure, err error) {
	o.Rows, o.Dim, o.Queries, o.Single, o.K = or(o.Rows, 400_000), or(o.Dim, 384), or(o.Queries, 2048), or(o.Single, 8), or(o.K, 20)
	o.Threads, o.Rounds, o.Time = or(o.Threads, runtime.GOMAXPROCS(0)), or(o.Rounds, 5), or(o.Time, 500*time.Millisecond)
	maker, err := NewMaker(Gallery{Rows: o.Rows, Dim: o.Dim, Seed: o.Seed, Threads: o.Threads})
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
	snap, err := db.Snapshot("gallery")
	if err != nil {
		return nil, err
	}
	defer snap.Close()
	queries := simd.NewMatrix(o.Queries, o.Dim)
	maker.Fill(queries, nil, o.Rows)
	return searchFigures(ctx, index.New(snap), queries, o)
}

func searchFigures(ctx context.Context, ix *index.Index, queries simd.Matrix, o SearchOptions) ([]Figure, error) {
	ask := func(q simd.Matrix) (time.Duration, error) {
		start := time.Now()
		_, err := ix.Search(ctx, q, index.Options{K: o.K, Metric: o.Metric, Threads: o.Threads})
		return time.Since(start), err
	}
	if _, err := ask(queries.Slice(0, 1)); err != nil { // checksums are computed on first touch
		return nil, err
	}
	size := float64(o.Rows) * float64(o.Dim)
	buffer := pages(min(int64(4*size)+1<<16, 1<<30))
	on := threadsName(o.Threads)
	peak := &measure{name: "fma peak, " + on, unit: "GFLOP/s", run: func() (float64, error) {
		return PeakFMA(ctx, o.Threads, o.Time) / 1e9, nil
	}}
	read := &measure{name: "memory read, " + on, unit: "GB/s", run: func() (float64, error) {
		return ReadMemory(ctx, buffer, o.Threads, o.Time) / 1e9, nil
	}}
	batch := &measure{name: fmt.Sprintf("batch of %d queries, k=%d, %s", o.Queries, o.K, on), unit: "GFLOP/s", limit: peak, run: func() (float64, error) {
		d, err := ask(queries)
		return 2 * size * float64(o.Queries) / d.Seconds() / 1e9, err
	}}
	next := 0
	single := &measure{name: fmt.Sprintf("one query, k=%d, %s", o.K, on), unit: "GB/s", limit: read, run: func() (float64, error) {
		var spent time.Duration
		for range o.Single {
			d, err := ask(queries.Slice(next, next+1))
			if err != nil {
				return 0, err
			}
			next = (next + 1) % o.Queries
			spent += d
		}
		return 4 * size * float64(o.Single) / spent.Seconds() / 1e9, nil
	}}
	if err := takeTurns(ctx, o.Rounds, o.Progress, peak, batch, read, single); err != nil {
		return nil, err
	}
	return []Figure{
		peak.figure(), batch.figure(),
		{Name: "queries a second in the batch", Value: batch.best * 1e9 / (2 * size), Unit: "1/s"},
		read.figure(), single.figure(),
		{Name: "time of one query", Value: 4 * size / (single.best * 1e9) * 1e3, Unit: "ms"},
	}, nil
}
