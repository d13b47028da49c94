package peers

import (
	"context"
	"math"
	"slices"
	"testing"

	"membank/simd"
)

// oracle scores every row in float64 and sorts all of them.
func oracle(t *testing.T, tk *task, q int) (ids []int64, scores []float64) {
	t.Helper()
	rows, err := readAll(tk.gallery, int(tk.rows), tk.dim)
	if err != nil {
		t.Fatal(err)
	}
	queries, err := readAll(tk.queries, tk.count, tk.dim)
	if err != nil {
		t.Fatal(err)
	}
	all := make([]float64, rows.Rows)
	for i := range all {
		ids = append(ids, int64(i))
		for j, v := range rows.Row(i) {
			all[i] += float64(v) * float64(queries.Row(q)[j])
		}
	}
	slices.SortFunc(ids, func(a, b int64) int { return -compareFloat(all[a], all[b]) })
	for _, id := range ids {
		scores = append(scores, all[id])
	}
	return ids, scores
}

func TestTruthAndRecall(t *testing.T) {
	o := small(t)
	o.Rows, o.Dim, o.Queries = 333, 19, 3
	ctx := context.Background()
	tk, err := newTask(ctx, o.Dir, "ssl", o)
	if err != nil {
		t.Fatal(err)
	}
	const k = 7
	for _, threads := range []int{1, 2, 5} {
		tr, err := newTruth(ctx, tk, o.Queries, k, threads)
		if err != nil {
			t.Fatal(err)
		}
		var right, wrong []int64
		for q := range o.Queries {
			ids, scores := oracle(t, tk, q)
			for i, want := range scores[:k] {
				if math.Abs(tr.best[q][i]-want) > 1e-14 {
					t.Fatalf("%d threads, query %d: %v, want %v", threads, q, tr.best[q], scores[:k])
				}
			}
			right = append(right, ids[:k]...)
			// Two right, one of them twice, and what no row is.
			wrong = append(wrong, ids[0], ids[1], ids[1], ids[200], -1, 333, math.MaxInt64)
		}
		for _, c := range []struct {
			ids  []int64
			want float64
			of   int
		}{{right, 1, 3}, {wrong, 2.0 / 7, 3}, {right[:k], 1, 1}} {
			if got, of, err := tr.recall(c.ids, k); err != nil || got != c.want || of != c.of {
				t.Errorf("recall of %v: %v over %d queries (%v), want %v over %d", c.ids, got, of, err, c.want, c.of)
			}
		}
	}
}

func TestTruthBeyondAllRows(t *testing.T) {
	o := small(t)
	o.Rows, o.Dim, o.Queries = 4, 8, 1
	tk, err := newTask(context.Background(), o.Dir, "ssl", o)
	if err != nil {
		t.Fatal(err)
	}
	tr, err := newTruth(context.Background(), tk, 1, 10, 2)
	if err != nil {
		t.Fatal(err)
	}
	if got, _, err := tr.recall([]int64{3, 1, 2, 0, -1, -1, -1, -1, -1, -1}, 10); err != nil || got != 1 {
		t.Errorf("all four rows of four: recall %v, %v", got, err)
	}
}

// Repetitions are near the row they repeat and no two of them are equal.
func TestTiledRows(t *testing.T) {
	f := simd.NewMatrix(3, 64)
	for i := range f.Data {
		f.Data[i] = float32(i%7) - 3
	}
	m := simd.NewMatrix(9, 64)
	tiled(f, 1)(m, 0)
	cosine := func(a, b []float32) float64 {
		dot := 0.0
		for i := range a {
			dot += float64(a[i]) * float64(b[i])
		}
		return dot / simd.Norm(a) / simd.Norm(b)
	}
	for i := range 3 {
		if c := cosine(m.Row(i), f.Row(i)); c < 1-1e-6 {
			t.Errorf("row %d is not the feature: cosine %v", i, c)
		}
		for _, j := range []int{i + 3, i + 6} {
			if c := cosine(m.Row(i), m.Row(j)); c > 0.9999 || c < 0.98 {
				t.Errorf("rows %d and %d: cosine %v", i, j, c)
			}
		}
	}
	again := simd.NewMatrix(2, 64)
	tiled(f, 1)(again, 5)
	if !slices.Equal(again.Data, m.Data[5*64:7*64]) {
		t.Error("rows depend on where the reading starts")
	}
}
