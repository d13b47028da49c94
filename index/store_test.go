package index

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"membank/simd"
	"membank/store"
)

// mustOpen opens a new database; when the test ends, all in it must verify.
func mustOpen(t testing.TB) *store.DB {
	t.Helper()
	ctx := context.Background()
	db, err := store.Open(ctx, t.TempDir(), store.Options{Create: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		report, err := db.Verify(ctx, store.VerifyOptions{})
		if err != nil || len(report.Problems) > 0 {
			t.Errorf("verify: %v %+v", err, report.Problems)
		}
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	return db
}

func mustWrite(t testing.TB, db *store.DB, bank string, m simd.Matrix, o store.WriterOptions) {
	t.Helper()
	ctx := context.Background()
	w, err := db.NewWriter(ctx, bank, m.Dim, o)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Abort()
	rows := store.Rows{Vectors: m}
	if o.Mode == store.Append {
		for i := range m.Rows {
			rows.Keys = append(rows.Keys, fmt.Sprint("appended ", i))
		}
	}
	if err := w.Append(ctx, rows); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Commit(ctx); err != nil {
		t.Fatal(err)
	}
}

// A bank on disk answers like its rows in memory: after writing, appending and
// deleting, in f32 from the mapping and in f16 widened.
func TestSearchInAStore(t *testing.T) {
	ctx := context.Background()
	db := mustOpen(t)
	for _, dtype := range []store.DType{store.F32, store.F16} {
		// Two blocks and more: rows of 16 KiB in 4 MiB.
		rng := rand.New(rand.NewPCG(21, uint64(dtype)))
		m := simd.NewMatrix(700, 4096)
		for i := range m.Data {
			m.Data[i] = float32(rng.IntN(2000)-1000) / 1024 // the same in f16
		}
		name := "bank/" + dtype.String()
		mustWrite(t, db, name, m.Slice(0, 600), store.WriterOptions{DType: dtype})
		mustWrite(t, db, name, m.Slice(600, 700), store.WriterOptions{DType: dtype, Mode: store.Append})
		dead := make([]bool, m.Rows)
		var rows []int64
		for i := range dead {
			if rng.IntN(5) == 0 {
				dead[i] = true
				rows = append(rows, int64(i))
			}
		}
		if _, err := db.DeleteRows(ctx, name, rows); err != nil {
			t.Fatal(err)
		}
		s, err := db.Snapshot(name)
		if err != nil {
			t.Fatal(err)
		}
		if s.Blocks() < 2 {
			t.Fatalf("%d blocks are no test", s.Blocks())
		}
		reference := newBank(m, dead, 64)
		for _, metric := range []Metric{Cosine, Dot, L2} {
			for _, n := range []int{1, 2, 13, 40} {
				o := Options{K: 15, Metric: metric, Threads: 1 + n%4}
				queries := m.Slice(100, 100+n)
				mustEqual(t, mustSearch(t, New(s), queries, o).Hits, reference.reference(queries, o))
			}
		}
		s.Close()
	}
}

// A graph comes in row order, and says the same, whatever order rows stand in.
func TestGraphOfAGroupedBank(t *testing.T) {
	ctx := context.Background()
	db := mustOpen(t)
	rng := rand.New(rand.NewPCG(1, 9))
	m := simd.NewMatrix(700, 6)
	for i := range m.Data {
		m.Data[i] = float32(rng.NormFloat64())
	}
	mustWrite(t, db, "b", m, store.WriterOptions{})
	if _, err := db.DeleteRows(ctx, "b", []int64{3, 4, 500}); err != nil {
		t.Fatal(err)
	}
	graphs := func(o GraphOptions) (rows []int64, hits [][]Hit) {
		s, err := db.Snapshot("b")
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		rows, hits, _ = graphOf(t, New(s), o)
		return rows, hits
	}
	options := []GraphOptions{{K: 5}, {HasMinScore: true, MinScore: 0.5}, {HasMinScore: true, MinScore: 0.5, Earlier: true}, {K: 700, Memory: 1 << 18},
		{K: 5, Only: func(row int64) bool { return row%4 > 0 }}}
	var wantRows [][]int64
	var want [][][]Hit
	for _, o := range options {
		rows, hits := graphs(o)
		wantRows, want = append(wantRows, rows), append(want, hits)
	}
	scatter := func(lists []int32, _ *store.Block) error {
		for i := range lists {
			lists[i] = int32(len(lists)-i) % 7
		}
		return nil
	}
	if _, err := db.Group(ctx, "b", []byte("seven lists"), scatter, store.GroupOptions{Lists: 7}); err != nil {
		t.Fatal(err)
	}
	for i, o := range options {
		rows, hits := graphs(o)
		if !slices.Equal(rows, wantRows[i]) {
			t.Errorf("%+v: rows come as %v", o, rows[:10])
			continue
		}
		mustEqual(t, hits, want[i])
	}
}
