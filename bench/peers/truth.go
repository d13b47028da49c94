package peers

import (
	"cmp"
	"context"
	"os"
	"slices"
	"sync"

	"membank/simd"
)

// truth knows the best scores of the first queries of a task, in float64.
type truth struct {
	task    *task
	queries [][]float64
	best    [][]float64 // of a query: the largest scores, descending, as many as were asked for
}

// resolution is how far two cosines must be apart for float32 to order them surely.
const resolution = 1e-6

// newTruth scores all rows against the first count queries, one row and one query at
// a time, and keeps the k best scores.
func newTruth(ctx context.Context, t *task, count, k, threads int) (*truth, error) {
	m, err := readAll(t.queries, count, t.dim)
	if err != nil {
		return nil, err
	}
	tr := &truth{task: t, queries: make([][]float64, count), best: make([][]float64, count)}
	for q := range tr.queries {
		tr.queries[q] = wide(make([]float64, t.dim), m.Row(q))
	}
	f, err := os.Open(t.gallery)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var wg sync.WaitGroup
	var mu sync.Mutex
	per := (t.rows + int64(threads) - 1) / int64(threads)
	for from := int64(0); from < t.rows; from += per {
		wg.Go(func() {
			best, e := tr.span(ctx, f, from, min(from+per, t.rows), k)
			mu.Lock()
			defer mu.Unlock()
			if e != nil {
				err = e
				return
			}
			for q := range best {
				tr.best[q] = largest(append(tr.best[q], best[q]...), k)
			}
		})
	}
	wg.Wait()
	return tr, err
}

// span keeps the k largest scores of rows [from, to) for each query.
func (tr *truth) span(ctx context.Context, f *os.File, from, to int64, k int) ([][]float64, error) {
	rows := simd.NewMatrix(part(tr.task.dim), tr.task.dim)
	buffer, x := make([]byte, 4*len(rows.Data)), make([]float64, tr.task.dim)
	best := make([][]float64, len(tr.queries))
	for ; from < to; from += int64(rows.Rows) {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		some := rows.Slice(0, int(min(int64(rows.Rows), to-from)))
		if err := readRows(f, some, from, buffer); err != nil {
			return nil, err
		}
		for i := range some.Rows {
			wide(x, some.Row(i))
			for q, query := range tr.queries {
				score := product(query, x)
				if n := len(best[q]); n >= k && score <= best[q][min(n, k)-1] {
					continue
				}
				best[q] = insert(best[q], score, k)
			}
		}
	}
	return best, nil
}

// insert puts score into a descending list and keeps the first k.
func insert(list []float64, score float64, k int) []float64 {
	at, _ := slices.BinarySearchFunc(list, score, func(a, b float64) int { return cmp.Compare(b, a) })
	list = slices.Insert(list, at, score)
	return list[:min(len(list), k)]
}

func largest(list []float64, k int) []float64 {
	slices.SortFunc(list, func(a, b float64) int { return cmp.Compare(b, a) })
	return list[:min(len(list), k)]
}

// recall is the share of right answers among ids [asked][k], over the queries that
// are known: different rows whose score is within resolution of the k-th best.
func (tr *truth) recall(ids []int64, k int) (share float64, queries int, err error) {
	f, err := os.Open(tr.task.gallery)
	if err != nil {
		return 0, 0, err
	}
	defer f.Close()
	row := simd.NewMatrix(1, tr.task.dim)
	buffer, x := make([]byte, 4*tr.task.dim), make([]float64, tr.task.dim)
	right, of := 0, 0
	for q := range min(len(tr.queries), len(ids)/k) {
		want := min(k, len(tr.best[q]))
		floor := tr.best[q][want-1] - resolution
		seen := map[int64]bool{}
		for _, id := range ids[q*k : (q+1)*k] {
			if id < 0 || id >= tr.task.rows || seen[id] {
				continue
			}
			seen[id] = true
			if err := readRows(f, row, id, buffer); err != nil {
				return 0, 0, err
			}
			if product(tr.queries[q], wide(x, row.Row(0))) >= floor {
				right++
			}
		}
		of += want
		queries++
	}
	return float64(right) / float64(max(of, 1)), queries, nil
}

func wide(dst []float64, src []float32) []float64 {
	for i, v := range src {
		dst[i] = float64(v)
	}
	return dst
}

// product sums in four chains, which is four times as fast as one.
func product(a, b []float64) float64 {
	var s0, s1, s2, s3 float64
	b = b[:len(a)]
	for len(a) >= 4 {
		s0 += a[0] * b[0]
		s1 += a[1] * b[1]
		s2 += a[2] * b[2]
		s3 += a[3] * b[3]
		a, b = a[4:], b[4:]
	}
	for i := range a {
		s0 += a[i] * b[i]
	}
	return s0 + s1 + (s2 + s3)
}
