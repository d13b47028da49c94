package perf

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"time"

	"membank/bench/eval"
	"membank/store"
)

// EvaluateOptions say what Evaluate measures.
type EvaluateOptions struct {
	Dir      string // where the database is made, and removed; "": temporary files
	Rows     int64  // of the gallery; 0: as Bytes says
	Bytes    int64  // of the gallery's vectors; 0: 6e9
	Dim      int    // 0: 768
	Queries  int64  // 0: 2,000
	Classes  int    // 0: 1,000
	K        []int  // nil: 10, 20, 100, 200
	Memory   int64  // the budget, as --memory; 0: 512 MiB
	NoCodes  bool   // evaluate with whole rows
	Threads  int    // 0: GOMAXPROCS
	Seed     uint64
	Progress Progress
}

// Evaluate ingests a gallery that is much larger than the memory budget and
// evaluates its kNN accuracy under that budget, and reports how much memory the
// process really took meanwhile: without the pages of mapped files, which the kernel
// takes back whenever it likes, against twice the budget; and those pages, beside it.
// The gallery gets codes unless NoCodes; the evaluation's rate counts every pair as if
// it had been computed, so a share above 100 % is what they save. Memory is sampled every 20 ms, and known on Linux only.
func Evaluate(ctx context.Context, o EvaluateOptions) (figures []Figure, err error) {
	o.Bytes, o.Dim, o.Queries, o.Classes = or(o.Bytes, 6e9), or(o.Dim, 768), or(o.Queries, 2000), or(o.Classes, 1000)
	o.Memory, o.Threads = or(o.Memory, 512<<20), or(o.Threads, runtime.GOMAXPROCS(0))
	if o.K == nil {
		o.K = []int{10, 20, 100, 200}
	}
	o.Rows = or(o.Rows, o.Bytes/int64(4*o.Dim))
	gallery := Gallery{Rows: o.Rows, Dim: o.Dim, Classes: o.Classes, Seed: o.Seed, Threads: o.Threads}
	maker, err := NewMaker(gallery)
	if err != nil {
		return nil, err
	}
	dir, remove, err := workspace(o.Dir)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, remove()) }()
	debug.FreeOSMemory()
	defer debug.SetMemoryLimit(debug.SetMemoryLimit(o.Memory))

	budget := 2 * float64(o.Memory) / 1e6
	taken := func(phase string, r residency) []Figure {
		if !r.known {
			return nil
		}
		return []Figure{
			Figure{Name: "resident memory of " + phase + ", without mapped files", Value: float64(r.anonymous) / 1e6, Unit: "MB"}.within(budget),
			{Name: "mapped file pages of " + phase, Value: float64(r.mapped) / 1e6, Unit: "MB"},
		}
	}
	size := float64(gallery.Rows) * float64(4*o.Dim)
	figures = append(figures, Figure{Name: "gallery", Value: float64(o.Rows), Unit: "rows"}, Figure{Name: "queries", Value: float64(o.Queries), Unit: "rows"},
		Figure{Name: "size of the gallery", Value: size / 1e9, Unit: "GB"}, Figure{Name: "memory budget", Value: float64(o.Memory) / 1e6, Unit: "MB"})

	database := filepath.Join(dir, "database")
	watch, start := watchResidency(), time.Now()
	err = fillBanks(ctx, database, maker, o)
	spent, memory := time.Since(start), watch()
	if err != nil {
		return nil, err
	}
	figures = append(figures, Figure{Name: "making and ingesting the gallery", Value: size / spent.Seconds() / 1e9, Unit: "GB/s"})
	figures = append(figures, taken("ingest", memory)...)

	if !o.NoCodes {
		watch = watchResidency()
		codes, err := codeBank(ctx, database, o)
		memory = watch()
		if err != nil {
			return nil, err
		}
		figures = append(append(figures, codes...), taken("building codes", memory)...)
	}

	watch, start = watchResidency(), time.Now()
	result, err := evaluateBanks(ctx, database, o)
	spent, memory = time.Since(start), watch()
	if err != nil {
		return nil, err
	}
	peak := Figure{Name: "kNN evaluation", Value: size / 4 * 2 * float64(o.Queries) / spent.Seconds() / 1e9, Unit: "GFLOP/s"}
	figures = append(figures,
		Figure{Name: "time of the evaluation", Value: spent.Seconds(), Unit: "s"},
		peak.within(PeakFMA(ctx, o.Threads, 500*time.Millisecond)/1e9))
	figures = append(figures, taken("evaluation", memory)...)
	for _, r := range result.Results {
		figures = append(figures, Figure{Name: fmt.Sprintf("top-1 at k=%d", r.K), Value: r.Top1, Unit: "of queries"})
	}
	return figures, ctx.Err()
}

// fillBanks makes the database, with the gallery in train and rows beyond it in
// test.
func fillBanks(ctx context.Context, dir string, m *Maker, o EvaluateOptions) (err error) {
	db, err := store.Open(ctx, dir, store.Options{Create: true, Memory: o.Memory / 4})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	if _, err := fillBank(ctx, db, "train", m, o.Progress); err != nil {
		return err
	}
	_, err = fillBank(ctx, db, "test", m.after(o.Queries), nil)
	return err
}

// codeBank opens the database anew and builds the codes of train.
func codeBank(ctx context.Context, dir string, o EvaluateOptions) (figures []Figure, err error) {
	db, err := store.Open(ctx, dir, store.Options{Memory: o.Memory / 4})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	return buildCodes(ctx, db, "train", o.Threads, o.Progress)
}

// evaluateBanks opens the database anew, as another process would, for reading.
func evaluateBanks(ctx context.Context, dir string, o EvaluateOptions) (result *eval.KNNResult, err error) {
	db, err := store.Open(ctx, dir, store.Options{ReadOnly: true, Memory: o.Memory / 4})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	train, err := db.Snapshot("train")
	if err != nil {
		return nil, err
	}
	defer train.Close()
	test, err := db.Snapshot("test")
	if err != nil {
		return nil, err
	}
	defer test.Close()
	return eval.KNN{K: o.K}.Evaluate(ctx, train, test, eval.RunOptions{
		Threads: o.Threads, Memory: o.Memory / 2, NoCodes: o.NoCodes,
		Progress: func(done, total int64) { o.Progress.tell("evaluating", done, total) },
	})
}
