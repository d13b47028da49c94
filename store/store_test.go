package store

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strconv"
	"testing"

	"membank/simd"
)

// create makes a database that is verified when the test ends, and closed.
func create(t testing.TB) *DB {
	t.Helper()
	return open(t, filepath.Join(t.TempDir(), "db"), Options{Create: true})
}

// open is how every test opens a database that should be whole at its end.
func open(t testing.TB, dir string, o Options) *DB {
	t.Helper()
	db, err := Open(context.Background(), dir, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		verify(t, db)
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	return db
}

func verify(t testing.TB, db *DB) {
	t.Helper()
	report, err := db.Verify(context.Background(), VerifyOptions{})
	if errors.Is(err, ErrClosed) {
		return
	}
	if err != nil || len(report.Problems) > 0 {
		t.Errorf("verify: %v %v", report.Problems, err)
	}
}

// reopen closes a database and opens it again.
func reopen(t testing.TB, db *DB, o Options) *DB {
	t.Helper()
	verify(t, db)
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	return open(t, db.Dir(), o)
}

// gaussian fills a matrix; equal seeds give equal rows.
func gaussian(rows, dim int, seed uint64) simd.Matrix {
	rng := rand.New(rand.NewPCG(seed, 1))
	m := simd.NewMatrix(rows, dim)
	for i := range m.Data {
		m.Data[i] = float32(rng.NormFloat64())
	}
	return m
}

// write adds rows in pieces of different sizes and commits.
func write(t testing.TB, db *DB, bank string, r Rows, o WriterOptions) Info {
	t.Helper()
	info, err := tryWrite(db, bank, r, o)
	if err != nil {
		t.Fatal(err)
	}
	return info
}

func tryWrite(db *DB, bank string, r Rows, o WriterOptions) (Info, error) {
	ctx := context.Background()
	w, err := db.NewWriter(ctx, bank, r.Vectors.Dim, o)
	if err != nil {
		return Info{}, err
	}
	defer w.Abort()
	for from, piece := 0, 1; from < r.Vectors.Rows; piece = piece*3 + 1 {
		to := min(from+piece, r.Vectors.Rows)
		if err := w.Append(ctx, slice(r, from, to)); err != nil {
			return Info{}, err
		}
		from = to
	}
	return w.Commit(ctx)
}

func slice(r Rows, from, to int) Rows {
	s := Rows{Vectors: r.Vectors.Slice(from, to)}
	if r.Keys != nil {
		s.Keys = r.Keys[from:to]
	}
	if r.Labels != nil {
		s.Labels = r.Labels[from:to]
	}
	for _, a := range r.Attributes {
		s.Attributes = append(s.Attributes, Attribute{a.Name, a.Values[from:to]})
	}
	return s
}

func snapshot(t testing.TB, db *DB, bank string) *Snapshot {
	t.Helper()
	s, err := db.Snapshot(bank)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// all reads a bank back through Batches.
func all(t testing.TB, db *DB, bank string) Rows {
	t.Helper()
	s := snapshot(t, db, bank)
	defer s.Close()
	r := Rows{Vectors: simd.Matrix{Dim: s.Dim()}, Keys: []string{}, Labels: []int64{}}
	err := s.Batches(context.Background(), 1000, func(b Batch) error {
		r.Vectors.Data = append(r.Vectors.Data, b.Vectors.Data[:b.Vectors.Rows*b.Vectors.Dim]...)
		r.Vectors.Rows += b.Vectors.Rows
		r.Keys = append(r.Keys, b.Keys...)
		r.Labels = append(r.Labels, b.Labels...)
		for i, a := range b.Attributes {
			if len(r.Attributes) <= i {
				r.Attributes = append(r.Attributes, Attribute{Name: a.Name})
			}
			r.Attributes[i].Values = append(r.Attributes[i].Values, a.Values...)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func keysOf(rows int) []string {
	keys := make([]string, rows)
	for i := range keys {
		keys[i] = fmt.Sprintf("images/%05d.jpg", i)
	}
	return keys
}

func decimals(rows int) []string {
	keys := make([]string, rows)
	for i := range keys {
		keys[i] = strconv.Itoa(i)
	}
	return keys
}

func equalRows(t testing.TB, got, want Rows) {
	t.Helper()
	if got.Vectors.Rows != want.Vectors.Rows || !slices.Equal(got.Vectors.Data, want.Vectors.Data[:want.Vectors.Rows*want.Vectors.Dim]) {
		t.Errorf("vectors differ: %d rows, want %d", got.Vectors.Rows, want.Vectors.Rows)
	}
	if !slices.Equal(got.Keys, want.Keys) {
		t.Errorf("keys differ")
	}
	if !slices.Equal(got.Labels, want.Labels) {
		t.Errorf("labels differ")
	}
	if len(got.Attributes) != len(want.Attributes) {
		t.Fatalf("%d attributes, want %d", len(got.Attributes), len(want.Attributes))
	}
	for i, a := range want.Attributes {
		if got.Attributes[i].Name != a.Name || !slices.Equal(got.Attributes[i].Values, a.Values) {
			t.Errorf("attribute %q differs", a.Name)
		}
	}
}
