package index

import (
	"context"

	"membank/simd"
)

// Scores is a Search that ranks nothing: it writes the score of every row in question
// to scores[query][row], as Hit.Score has it, bit for bit. Rows that are not in question
// (deleted, not allowed, excluded) are left as they are, so fill scores with what stands
// for none, NaN say. Each of scores holds the largest row number at least.
//
// Of o it takes Metric, ExcludeRow, Allow, Threads and Progress. It reads the bank once
// for some thousands of queries, allocates nothing that grows with rows, and is the way
// to let all rows count: a ranking of N rows takes N log N a query and 16 bytes a hit,
// this 4 bytes a score. Errors are those of Search; a cancelled ctx ends it with its
// cause within a fraction of a block. Safe for concurrent use.
func (ix *Index) Scores(ctx context.Context, queries simd.Matrix, o Options, scores [][]float32) error {
	o = Options{
		K: 1, Metric: o.Metric, ExcludeRow: o.ExcludeRow, Allow: o.Allow,
		NoCodes: true, Threads: o.Threads, Progress: o.Progress,
	}
	norms, err := ix.check(queries, &o)
	if err != nil {
		return err
	}
	o.K = unlimited
	each := ix.passQueries(o)
	for first := 0; first < queries.Rows; first += each {
		last := min(first+each, queries.Rows)
		p := newPass(ix, o, newBudget(o.Memory), queries.Slice(first, last), norms[first:last], nil, route{})
		p.dense = scores[first:last]
		if o.ExcludeRow != nil {
			p.exclude = o.ExcludeRow[first:last]
		}
		if o.Progress != nil {
			p.progress = func(done float64) {
				o.Progress(int64(float64(ix.rows)*(float64(first)+done*float64(last-first))), ix.rows*int64(queries.Rows))
			}
		}
		if err := p.run(ctx); err != nil {
			return err
		}
	}
	return nil
}
