package kmeans

import (
	"context"
	"fmt"
	"slices"
	"testing"

	"membank/simd"
	"membank/store"
)

// bankOf makes a bank of the rows of m, in several commits, without some of them.
func bankOf(t *testing.T, m simd.Matrix, dtype store.DType, without map[int]bool) (*store.DB, *store.Snapshot) {
	t.Helper()
	ctx := context.Background()
	db, err := store.Open(ctx, t.TempDir(), store.Options{Create: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		r, err := db.Verify(ctx, store.VerifyOptions{})
		if err != nil || len(r.Problems) > 0 {
			t.Errorf("verify: %v %v", err, r.Problems)
		}
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	for first := 0; first < m.Rows; first += 170 {
		o := store.WriterOptions{DType: dtype}
		if first > 0 {
			o.Mode = store.Append
		}
		w, err := db.NewWriter(ctx, "b", m.Dim, o)
		if err != nil {
			t.Fatal(err)
		}
		if err := w.Append(ctx, store.Rows{Vectors: m.Slice(first, min(first+170, m.Rows))}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Commit(ctx); err != nil {
			t.Fatal(err)
		}
	}
	var rows []int64
	for row := range without {
		rows = append(rows, int64(row))
	}
	if len(rows) > 0 {
		if _, err := db.DeleteRows(ctx, "b", rows); err != nil {
			t.Fatal(err)
		}
	}
	s, err := db.Snapshot("b")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return db, s
}

// A bank is clustered as a matrix of its live rows is, bit for bit.
func TestBankIsItsLiveRows(t *testing.T) {
	for _, deleted := range []bool{false, true} {
		t.Run(fmt.Sprint("deleted=", deleted), func(t *testing.T) {
			m := blobs(600, 19, 9, 11)
			without := map[int]bool{}
			for i := 0; deleted && i < m.Rows; i++ {
				if i%7 == 3 || i > 200 && i < 300 || i == 0 {
					without[i] = true
				}
			}
			_, s := bankOf(t, m, store.F32, without)
			bank, err := Bank(context.Background(), s)
			if err != nil {
				t.Fatal(err)
			}
			live := simd.NewMatrix(m.Rows-len(without), m.Dim)
			n := 0
			for i := range m.Rows {
				if without[i] {
					continue
				}
				if bank.Number(n) != int64(i) {
					t.Fatalf("row %d of the source is row %d of the bank, want %d", n, bank.Number(n), i)
				}
				copy(live.Row(n), m.Row(i))
				n++
			}
			if bank.Rows() != n || bank.Dim() != m.Dim {
				t.Fatalf("%d rows of %d", bank.Rows(), bank.Dim())
			}
			// Any run of rows, and any choice of them.
			for first := 0; first < n; first += 31 {
				for _, count := range []int{1, 33, 200} {
					to := simd.NewMatrix(min(count, n-first), m.Dim)
					if err := bank.Read(context.Background(), first, to); err != nil {
						t.Fatal(err)
					}
					if !slices.Equal(to.Data, live.Slice(first, first+to.Rows).Data) {
						t.Fatalf("rows %d and %d more are others", first, to.Rows)
					}
				}
			}
			some := draw(random(1, 1, 1), n/3, n)
			to := simd.NewMatrix(len(some), m.Dim)
			if err := bank.Gather(context.Background(), some, to); err != nil {
				t.Fatal(err)
			}
			for i, row := range some {
				if !slices.Equal(to.Row(i), live.Row(row)) {
					t.Fatalf("gathered row %d is another", row)
				}
			}
			for _, o := range []Options{{Clusters: 12}, {Clusters: 12, Spherical: true, MaxPerCluster: 10}, {Clusters: 12, Batch: 50}} {
				a, b := mustTrain(t, bank, o), mustTrain(t, Matrix(live), o)
				if !slices.Equal(a.Labels, b.Labels) || !slices.Equal(a.Centroids.Data, b.Centroids.Data) || a.Objective != b.Objective {
					t.Errorf("%+v: the bank has objective %v, its rows %v", o, a.Objective, b.Objective)
				}
			}
		})
	}
}

func TestSampleIsFair(t *testing.T) {
	const all, n = 40, 10
	var hits [all]int
	for seed := range uint64(2000) {
		rows := draw(random(seed, streamSample, 0), n, all)
		if len(rows) != n || !slices.IsSorted(rows) || rows[n-1] >= all {
			t.Fatalf("%v", rows)
		}
		for i, row := range rows {
			hits[row]++
			if i > 0 && rows[i-1] == row {
				t.Fatalf("twice: %v", rows)
			}
		}
	}
	for row, h := range hits { // 500 expected, standard deviation 19
		if h < 400 || h > 600 {
			t.Errorf("row %d was drawn %d times of 2000", row, h)
		}
	}
}
