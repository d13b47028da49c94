package perf

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"membank/index"
	"membank/simd"
	"membank/store"
	"membank/store/dump"
)

// workspace makes a directory of its own inside dir ("" is the system's directory
// for temporary files), and what removes it.
func workspace(dir string) (string, func() error, error) {
	path, err := os.MkdirTemp(dir, "membank-bench-")
	if err != nil {
		return "", nil, err
	}
	return path, func() error { return os.RemoveAll(path) }, nil
}

// fillBank writes all rows of a gallery into a new bank, as Maker makes them.
func fillBank(ctx context.Context, db *store.DB, bank string, m *Maker, p Progress) (store.Info, error) {
	w, err := db.NewWriter(ctx, bank, m.Dim, store.WriterOptions{Source: source(fmt.Sprintf("gallery seed %d", m.Seed))})
	if err != nil {
		return store.Info{}, err
	}
	defer w.Abort()
	err = m.Batches(ctx, batchRows(m.Dim), func(first int64, rows simd.Matrix, labels []int64) error {
		p.tell("filling bank "+bank, first, m.Rows)
		return w.Append(ctx, store.Rows{Vectors: rows, Labels: labels})
	})
	if err != nil {
		return store.Info{}, err
	}
	return w.Commit(ctx)
}

// buildCodes gives a bank its codes and says what they cost.
func buildCodes(ctx context.Context, db *store.DB, bank string, threads int, p Progress) ([]Figure, error) {
	info, stats, err := index.BuildCodes(ctx, db, bank, index.BuildOptions{
		Threads: threads, Progress: func(done, total int64) { p.tell("building codes", done, total) },
	})
	if err != nil || stats.Skipped != "" {
		return nil, err
	}
	return []Figure{
		{Name: "learning the basis of the codes", Value: stats.Learn, Unit: "s"},
		{Name: "encoding all rows, until durable", Value: stats.Encode, Unit: "s"},
		{Name: "codes: dims of the first stage", Value: float64(stats.Codes.First), Unit: "dims"},
		{Name: "codes: dims of the second", Value: float64(stats.Codes.Second), Unit: "dims"},
		{Name: "codes: bytes a row", Value: float64(stats.Codes.Bytes) / float64(max(info.Next, 1)), Unit: "B"},
	}, nil
}

// ingestFile reads a file of embeddings into a new bank, until it is durable.
func ingestFile(ctx context.Context, db *store.DB, bank, path string) error {
	r, err := dump.Open(path, dump.Options{Checksum: true})
	if err != nil {
		return err
	}
	defer r.Close()
	w, err := db.NewWriter(ctx, bank, r.Dim(), store.WriterOptions{Source: source(filepath.Base(path))})
	if err != nil {
		return err
	}
	defer w.Abort()
	rows := simd.NewMatrix(max(1, (256<<10)/(4*r.Dim())), r.Dim()) // as membank ingest does
	for {
		n, err := r.Next(ctx, rows)
		if errors.Is(err, io.EOF) {
			break
		}
		if err == nil {
			err = w.Append(ctx, store.Rows{Vectors: rows.Slice(0, n)})
		}
		if err != nil {
			return err
		}
	}
	_, err = w.Commit(ctx)
	return err
}

func source(what string) store.Provenance {
	return store.Provenance{Command: "membank bench: " + what, Time: time.Now()}
}
