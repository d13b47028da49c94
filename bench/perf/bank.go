package perf

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

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

// ingestFile reads a file of embeddings into a new bank, until it is durable.
func ingestFile(ctx context.Context, db *store.DB, bank, path string) error {
	r, err := dump.Open(path, dump.Options{})
	if err != nil {
		return err
	}
	defer r.Close()
	w, err := db.NewWriter(ctx, bank, r.Dim(), store.WriterOptions{Source: source(filepath.Base(path))})
	if err != nil {
		return err
	}
	defer w.Abort()
	rows := simd.NewMatrix(max(1, (1<<20)/(4*r.Dim())), r.Dim())
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
