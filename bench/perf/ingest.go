package perf

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"membank/store"
)

// IngestOptions say what Ingest measures.
type IngestOptions struct {
	Dir      string // where files and database are made, and removed; "": temporary files
	Rows     int64  // 0: 400,000
	Dim      int    // 0: 384
	Threads  int    // of making the gallery; 0: GOMAXPROCS
	Rounds   int    // 0: 4
	Seed     uint64
	Progress Progress
}

// Ingest writes a Gallery as .npy and measures how fast it becomes a durable bank,
// in bytes of the file, against copying that file and syncing the copy. The second
// figure counts making, opening and closing the database too.
func Ingest(ctx context.Context, o IngestOptions) (figures []Figure, err error) {
	o.Rows, o.Dim, o.Rounds, o.Threads = or(o.Rows, 400_000), or(o.Dim, 384), or(o.Rounds, 4), or(o.Threads, runtime.GOMAXPROCS(0))
	maker, err := NewMaker(Gallery{Rows: o.Rows, Dim: o.Dim, Seed: o.Seed, Threads: o.Threads})
	if err != nil {
		return nil, err
	}
	dir, remove, err := workspace(o.Dir)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, remove()) }()
	file := filepath.Join(dir, "gallery.npy")
	if err := maker.WriteNPY(ctx, file, "", o.Progress); err != nil {
		return nil, err
	}
	info, err := os.Stat(file)
	if err != nil {
		return nil, err
	}
	cp := &measure{name: "cp and fsync", unit: "GB/s", run: func() (float64, error) {
		r, err := copySync(ctx, file, filepath.Join(dir, "copy.npy"))
		return r / 1e9, err
	}}
	whole := &measure{name: "ingest, with making, opening and closing the database", unit: "GB/s", limit: cp}
	ingest := &measure{name: "ingest of a .npy until it is durable", unit: "GB/s", limit: cp, run: func() (float64, error) {
		inner, outer, err := ingestOnce(ctx, filepath.Join(dir, "database"), file)
		whole.best = max(whole.best, float64(info.Size())/outer.Seconds()/1e9)
		return float64(info.Size()) / inner.Seconds() / 1e9, err
	}}
	if err := takeTurns(ctx, o.Rounds, o.Progress, cp, ingest); err != nil {
		return nil, err
	}
	return []Figure{
		{Name: "size of the file", Value: float64(info.Size()) / 1e9, Unit: "GB"},
		cp.figure(), ingest.figure(), whole.figure(),
	}, nil
}

// ingestOnce makes a database, ingests the file and removes the database. inner is
// from the file's first byte to the acknowledged commit.
func ingestOnce(ctx context.Context, dir, file string) (inner, outer time.Duration, err error) {
	start := time.Now()
	db, err := store.Open(ctx, dir, store.Options{Create: true})
	if err != nil {
		return 0, 0, err
	}
	began := time.Now()
	err = ingestFile(ctx, db, "gallery", file)
	inner = time.Since(began)
	err = errors.Join(err, db.Close())
	outer = time.Since(start)
	return inner, outer, errors.Join(err, os.RemoveAll(dir))
}
