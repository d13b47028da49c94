package kmeans

import (
	"cmp"
	"context"
	"math"
	"slices"

	"membank/index"
	"membank/simd"
)

// settling is how many iterations clusters get that do not stay: which of them to
// take away is clear long before they have converged.
const settling = 8

// refine leads a clustering out of its local optimum: some clusters too many are made
// where the error is largest, and after they have settled as many are taken away
// where they are missed least; if that is better in the end it is kept, otherwise
// one fewer is tried the next time (Fritzke, "Breathing k-means", 2020). The
// objective never rises. The run's labels and scores are those of the result.
func (r *run) refine(ctx context.Context, b *Result) error {
	for extra := min(r.o.Refine, r.o.Clusters); extra > 0; {
		if r.o.Clusters+extra > len(r.labels) {
			extra = len(r.labels) - r.o.Clusters
			continue
		}
		more := newRun(r.source, r.with(r.o.Clusters+extra))
		more.basis, more.o.Iterations = r.basis, min(settling, r.o.Iterations)
		grown, err := more.improve(ctx, r.grow(b.Centroids, extra), b.Restart)
		if err != nil {
			return err
		}
		fewer, err := more.shrink(ctx, grown.Centroids, extra)
		if err != nil {
			return err
		}
		trial := newRun(r.source, r.with(r.o.Clusters))
		trial.basis, trial.beat = r.basis, b.Objective
		found, err := trial.improve(ctx, fewer, b.Restart)
		if err != nil {
			return err
		}
		b.Iterations += grown.Iterations + found.Iterations
		b.IterationSeconds += grown.IterationSeconds + found.IterationSeconds
		b.Splits += grown.Splits + found.Splits
		if found.Objective >= b.Objective*(1-1e-6) {
			extra--
			continue
		}
		b.Centroids, b.Objective, b.MeanCosine, b.Converged = found.Centroids, found.Objective, found.MeanCosine, found.Converged
		b.History = append(b.History, found.Objective)
		r.labels, r.scores = trial.labels, trial.scores
	}
	return nil
}

// with are the options of a part of the run that has so many clusters.
func (r *run) with(clusters int) Options {
	o := r.o
	o.Clusters = clusters
	return o
}

// grow returns the centroids and so many more: beside those whose rows are farthest
// away in sum.
func (r *run) grow(centroids simd.Matrix, extra int) simd.Matrix {
	errors := make([]float64, centroids.Rows)
	for i, c := range r.labels {
		errors[c] += r.squared(r.scores[i])
	}
	worst := order(errors)
	slices.Reverse(worst)
	more := simd.NewMatrix(centroids.Rows+extra, centroids.Dim)
	copy(more.Data, centroids.Data[:centroids.Rows*centroids.Dim])
	for i, c := range worst[:extra] {
		apart(more.Row(c), more.Row(centroids.Rows+i))
	}
	return more
}

// order returns the numbers of values, the least first.
func order(values []float64) []int {
	all := make([]int, len(values))
	for i := range all {
		all[i] = i
	}
	slices.SortStableFunc(all, func(a, b int) int { return cmp.Compare(values[a], values[b]) })
	return all
}

// shrink takes so many centroids away, those that are missed least: whose rows would
// be hardly farther from the next one. Of two that are each other's next only one
// goes, as far as there are others.
func (r *run) shrink(ctx context.Context, centroids simd.Matrix, extra int) (simd.Matrix, error) {
	missed, next, err := r.missed(ctx, centroids)
	if err != nil {
		return simd.Matrix{}, err
	}
	gone, needed := make([]bool, centroids.Rows), make([]bool, centroids.Rows)
	for _, spare := range []bool{true, false} {
		for _, c := range order(missed) {
			if extra > 0 && !gone[c] && !(spare && needed[c]) {
				gone[c], needed[next[c]] = true, true
				extra--
			}
		}
	}
	fewer := simd.NewMatrix(0, centroids.Dim)
	for c := range centroids.Rows {
		if !gone[c] {
			fewer.Data = append(fewer.Data, centroids.Row(c)...)
			fewer.Rows++
		}
	}
	return fewer, nil
}

// missed says by how much the objective would rise without each centroid, and to
// which one most of that is due: where its first row would go.
func (r *run) missed(ctx context.Context, centroids simd.Matrix) (rise []float64, next []int32, err error) {
	ix, err := r.index(centroids)
	if err != nil {
		return nil, nil, err
	}
	rows := len(r.labels)
	seconds, scores := make([]int32, rows), make([]float32, rows)
	parts := (rows + r.part - 1) / r.part
	err = parallel(ctx, r.o.Threads, parts, func(ctx context.Context, i int) error {
		first := i * r.part
		m := simd.NewMatrix(min(r.part, rows-first), centroids.Dim)
		if err := r.source.Read(ctx, first, m); err != nil {
			return err
		}
		found, err := ix.Search(ctx, m, index.Options{K: 2, Metric: r.metric, Threads: 1})
		if err != nil {
			return ofRow(err, first)
		}
		for j, hits := range found.Hits {
			seconds[first+j], scores[first+j] = -1, float32(math.NaN())
			if len(hits) == 2 {
				seconds[first+j], scores[first+j] = int32(hits[1].Row), hits[1].Score
			}
		}
		return nil
	})
	if err != nil {
		return nil, nil, err
	}
	rise, next = make([]float64, centroids.Rows), make([]int32, centroids.Rows)
	for c := range next {
		next[c] = -1
	}
	for i, c := range r.labels {
		if seconds[i] < 0 {
			continue
		}
		rise[c] += max(0, r.squared(scores[i])-r.squared(r.scores[i]))
		if next[c] < 0 {
			next[c] = seconds[i]
		}
	}
	for c := range next {
		next[c] = max(next[c], 0)
	}
	return rise, next, nil
}
