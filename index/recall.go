package index

import (
	"context"

	"membank/simd"
)

// Recall is the share of the exact answers' rows that others have, over all queries:
// recall@k, where the exact answers have k rows each. Of no rows at all it is 1.
//
// A row that is missing but for a tie counts as found: one of the score of the last
// exact row. Its place was anyone's of that score.
func Recall(got, exact [][]Hit) float64 {
	found, all := 0, 0
	for q, want := range exact {
		all += len(want)
		if len(want) == 0 {
			continue
		}
		rows := make(map[int64]bool, len(want))
		for _, h := range want {
			rows[h.Row] = true
		}
		last := want[len(want)-1].Score
		for _, h := range got[q] {
			if rows[h.Row] || h.Score == last {
				found++
			}
		}
	}
	if all == 0 {
		return 1
	}
	return float64(found) / float64(all)
}

// MeasureRecall asks some of the queries again, exactly, and compares: at most sample
// of them, evenly spread. got are the answers to all of them with options o. It costs
// an exact search of the sample.
func (ix *Index) MeasureRecall(ctx context.Context, queries simd.Matrix, got [][]Hit, o Options, sample int) (Measure, error) {
	sample = max(0, min(sample, queries.Rows))
	part := simd.NewMatrix(sample, queries.Dim)
	some := make([][]Hit, sample)
	exclude, floors := o.ExcludeRow, o.Floors
	if exclude != nil {
		o.ExcludeRow = make([]int64, sample)
	}
	if floors != nil {
		o.Floors = make([]float32, sample)
	}
	for i := range sample {
		q := i * queries.Rows / sample
		copy(part.Row(i), queries.Row(q))
		some[i] = got[q]
		if exclude != nil {
			o.ExcludeRow[i] = exclude[q]
		}
		if floors != nil {
			o.Floors[i] = floors[q]
		}
	}
	o.Probes, o.Recall, o.Progress = 0, 0, nil
	exact, err := ix.Search(ctx, part, o)
	if err != nil {
		return Measure{}, err
	}
	return Measure{Recall: Recall(some, exact.Hits), K: o.K, Queries: sample, Own: true}, nil
}
