package index

import (
	"context"
	"math"
	"slices"

	"membank/simd"

	"github.com/cespare/xxhash/v2"
)

// Queries of equal bits have equal answers, but for the row that each excludes. A
// collapsed encoder writes a bank of nothing else, where no bound rules a row out and
// every query would score all of them: each distinct query is asked once, for one hit
// more than K where rows are excluded, and its answer is told to all.

// distinctFrom is the share of a batch that must be left: at the least a quarter of
// the work is saved, or the batch is asked as it is.
const distinctFrom = 0.75

// equalQueries are the distinct queries of a batch.
type equalQueries struct {
	first []int // of each distinct query, the place of the first that equals it
	of    []int // of each query, its place in first
}

// findEqual compares queries by their bits. It returns nil if too few are equal.
func findEqual(queries simd.Matrix) *equalQueries {
	if queries.Rows < 2 {
		return nil
	}
	e := &equalQueries{of: make([]int, queries.Rows)}
	most := int(distinctFrom * float64(queries.Rows))
	known := make(map[uint64][]int, min(queries.Rows, 1024))
	bits := make([]byte, 0, 4*queries.Dim)
	for q := range queries.Rows {
		row := queries.Row(q)
		bits = appendBits(bits[:0], row)
		h := xxhash.Sum64(bits)
		e.of[q] = -1
		for _, d := range known[h] {
			if sameBits(row, queries.Row(e.first[d])) {
				e.of[q] = d
				break
			}
		}
		if e.of[q] < 0 {
			if len(e.first) == most {
				return nil
			}
			known[h] = append(known[h], len(e.first))
			e.of[q], e.first = len(e.first), append(e.first, q)
		}
	}
	return e
}

func appendBits(to []byte, row []float32) []byte {
	for _, v := range row {
		b := math.Float32bits(v)
		to = append(to, byte(b), byte(b>>8), byte(b>>16), byte(b>>24))
	}
	return to
}

func sameBits(a, b []float32) bool {
	return slices.EqualFunc(a, b, func(x, y float32) bool { return math.Float32bits(x) == math.Float32bits(y) })
}

// searchDistinct is an exact Search, checked, for a batch with equal queries: o.K is a
// number of hits, and no query has a floor. The answers of distinct queries take up to
// as much memory as all of them.
func (ix *Index) searchDistinct(ctx context.Context, queries simd.Matrix, o Options, e *equalQueries) (Result, error) {
	some, exclude, k := simd.NewMatrix(len(e.first), queries.Dim), o.ExcludeRow, o.K
	for i, q := range e.first {
		copy(some.Row(i), queries.Row(q))
	}
	budget := newBudget(o.Memory)
	if o.Memory *= 2; exclude != nil {
		o.ExcludeRow = nil
		o.K++
	}
	if tell := o.Progress; tell != nil {
		of := float64(queries.Rows) / float64(len(e.first))
		o.Progress = func(done, _ int64) { tell(int64(float64(done)*of), ix.rows*int64(queries.Rows)) }
	}
	r, err := ix.Search(ctx, some, o)
	if err != nil {
		return Result{}, err
	}
	hits := r.Hits
	r.Hits = make([][]Hit, queries.Rows)
	for q := range r.Hits {
		room := min(k, len(hits[e.of[q]]))
		if !budget.take(int64(room) * hitBytes) {
			return Result{}, budget.exceeded()
		}
		list := make([]Hit, 0, room)
		for _, h := range hits[e.of[q]] {
			if len(list) < k && (exclude == nil || h.Row != exclude[q]) {
				list = append(list, h)
			}
		}
		r.Hits[q] = list
	}
	return r, nil
}
