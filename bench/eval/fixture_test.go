package eval

import (
	"context"
	"math/rand/v2"
	"testing"

	"membank/simd"
	"membank/store"
)

// open makes an empty database that is verified when the test ends.
func open(t testing.TB) *store.DB {
	t.Helper()
	db, err := store.Open(t.Context(), t.TempDir(), store.Options{Create: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		report, err := db.Verify(context.Background(), store.VerifyOptions{})
		if err != nil || len(report.Problems) > 0 {
			t.Errorf("verify: %v %v", err, report.Problems)
		}
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	return db
}

// write makes a bank, and returns a snapshot that is closed when the test ends.
func write(t testing.TB, db *store.DB, bank string, vectors simd.Matrix, labels []int64, names ...string) *store.Snapshot {
	t.Helper()
	return writeAs(t, db, bank, vectors, labels, store.WriterOptions{ClassNames: names})
}

func writeAs(t testing.TB, db *store.DB, bank string, vectors simd.Matrix, labels []int64, o store.WriterOptions) *store.Snapshot {
	t.Helper()
	w, err := db.NewWriter(t.Context(), bank, vectors.Dim, o)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Abort()
	if err := w.Append(t.Context(), store.Rows{Vectors: vectors, Labels: labels}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	return snapshot(t, db, bank)
}

func snapshot(t testing.TB, db *store.DB, bank string) *store.Snapshot {
	t.Helper()
	s, err := db.Snapshot(bank)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// evaluate runs e and collects its predictions.
func evaluate(t testing.TB, e KNN, train, test *store.Snapshot, o RunOptions) (*KNNResult, []Prediction) {
	t.Helper()
	var predictions []Prediction
	o.Each = func(p Prediction) { predictions = append(predictions, p) }
	r, err := e.Evaluate(t.Context(), train, test, o)
	if err != nil {
		t.Fatal(err)
	}
	return r, predictions
}

func matrix(dim int, values ...float32) simd.Matrix {
	return simd.Matrix{Data: values, Rows: len(values) / dim, Dim: dim}
}

// dense is rows of numbers that look like noise and are the same everywhere.
func dense(rows, dim int, seed uint64) simd.Matrix {
	rng := rand.New(rand.NewPCG(seed, 9))
	m := simd.NewMatrix(rows, dim)
	for i := range m.Data {
		m.Data[i] = float32(rng.NormFloat64())
	}
	return m
}
