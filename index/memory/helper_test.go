package memory

import (
	"context"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"testing"

	"membank/simd"
	"membank/store"
)

var background = context.Background()

// database is an empty one; it is verified when the test ends.
func database(t testing.TB) *store.DB {
	t.Helper()
	return openDatabase(t, filepath.Join(t.TempDir(), "db"))
}

func openDatabase(t testing.TB, dir string) *store.DB {
	t.Helper()
	db, err := store.Open(background, dir, store.Options{Create: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if report, err := db.Verify(background, store.VerifyOptions{}); err == nil && len(report.Problems) > 0 {
			t.Errorf("verify: %v", report.Problems)
		}
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	return db
}

func mustCreate(t testing.TB, db *store.DB, name string, c Config, o CreateOptions) *Bank {
	t.Helper()
	b, err := Create(background, db, name, c, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close() })
	return b
}

func mustSlots(t testing.TB, db *store.DB, c Config) *Slots {
	t.Helper()
	c.Kind = KindSlots
	s, err := mustCreate(t, db, "slots", c, CreateOptions{}).Slots()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func mustQueue(t testing.TB, db *store.DB, c Config) *Queue {
	t.Helper()
	c.Kind = KindQueue
	q, err := mustCreate(t, db, "queue", c, CreateOptions{}).Queue()
	if err != nil {
		t.Fatal(err)
	}
	return q
}

// reopen closes a bank and opens it again.
func reopen(t testing.TB, b *Bank) *Bank {
	t.Helper()
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	again, err := Open(background, b.db, b.name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { again.Close() })
	return again
}

// contents are all rows of all views as they are, and what goes with them.
type contents struct {
	views   [][]float32
	column  Column
	state   state
	centres []float32
}

func contentsOf(t testing.TB, b *Bank) contents {
	t.Helper()
	ids := make([]int64, b.c.Rows)
	for i := range ids {
		ids[i] = int64(i)
	}
	m, err := b.Gather(background, ids)
	if err != nil {
		t.Fatal(err)
	}
	c := contents{}
	for _, v := range m {
		c.views = append(c.views, v.Data)
	}
	if c.column, err = b.Columns(nil); err != nil {
		t.Fatal(err)
	}
	p, err := b.Prototypes()
	if err != nil {
		t.Fatal(err)
	}
	c.centres = p.Data
	c.state = b.state
	return c
}

func (c contents) same(d contents) bool {
	return slices.EqualFunc(c.views, d.views, slices.Equal) && slices.Equal(c.column.Version, d.column.Version) &&
		slices.Equal(c.column.Labels, d.column.Labels) && slices.Equal(c.column.Keys, d.column.Keys) &&
		c.state == d.state && slices.Equal(c.centres, d.centres)
}

// random rows, standard normal.
func random(r *rand.Rand, rows, dim int) simd.Matrix {
	m := simd.NewMatrix(rows, dim)
	for i := range m.Data {
		m.Data[i] = float32(r.NormFloat64())
	}
	return m
}

func unit(m simd.Matrix) simd.Matrix {
	for i := range m.Rows {
		simd.Normalize(m.Row(i), m.Row(i))
	}
	return m
}

func generator(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, 1)) }

func matrix(dim int, values ...float32) simd.Matrix {
	return simd.Matrix{Data: values, Rows: len(values) / dim, Dim: dim}
}
