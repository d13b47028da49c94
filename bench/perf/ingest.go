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
	Threads  int    // of making the gallery and its codes; 0: GOMAXPROCS
	Rounds   int    // 0: 4
	Seed     uint64
	Progress Progress
}

// Ingest writes a Gallery as .npy and measures how fast it becomes a durable bank,
// in bytes of the file, against copying that file and syncing the copy. The second
// figure goes on until the codes are durable, too, which membank ingest builds after
// it has acknowledged the rows; the third counts making, opening and closing the
// database as well.
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
	size := float64(info.Size()) / 1e9
	coded := &measure{name: "ingest, until its codes are durable, too", unit: "GB/s", limit: cp}
	whole := &measure{name: "ingest and codes, with making, opening and closing the database", unit: "GB/s", limit: cp}
	var codes []Figure
	ingest := &measure{name: "ingest of a .npy until it is durable", unit: "GB/s", limit: cp, run: func() (float64, error) {
		t, err := ingestOnce(ctx, filepath.Join(dir, "database"), file, o.Threads)
		coded.best = max(coded.best, size/(t.rows+t.codes).Seconds())
		whole.best = max(whole.best, size/t.all.Seconds())
		codes = t.figures
		return size / t.rows.Seconds(), err
	}}
	if err := takeTurns(ctx, o.Rounds, o.Progress, cp, ingest); err != nil {
		return nil, err
	}
	return append([]Figure{
		{Name: "size of the file", Value: size, Unit: "GB"},
		cp.figure(), ingest.figure(), coded.figure(), whole.figure(),
	}, codes...), nil
}

// ingestTimes is what an ingest took.
type ingestTimes struct {
	rows    time.Duration // from the file's first byte to the acknowledged commit
	codes   time.Duration // from there until the codes are durable
	all     time.Duration
	figures []Figure // of the codes
}

// ingestOnce makes a database, ingests the file, builds codes and removes the
// database.
func ingestOnce(ctx context.Context, dir, file string, threads int) (t ingestTimes, err error) {
	start := time.Now()
	db, err := store.Open(ctx, dir, store.Options{Create: true})
	if err != nil {
		return t, err
	}
	began := time.Now()
	err = ingestFile(ctx, db, "gallery", file)
	t.rows = time.Since(began)
	if err == nil {
		began = time.Now()
		t.figures, err = buildCodes(ctx, db, "gallery", threads, nil)
		t.codes = time.Since(began)
	}
	err = errors.Join(err, db.Close())
	t.all = time.Since(start)
	return t, errors.Join(err, os.RemoveAll(dir))
}
