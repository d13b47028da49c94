package kmeans

import (
	"context"
	"time"

	"membank/simd"
)

// improveByBatches is mini-batch k-means (Sculley, "Web-scale k-means clustering",
// 2010): with the learning rate 1/n_c of that paper a centroid is the mean of all
// rows that were assigned to it when their turn came, so the sums of a pass are
// simply not emptied. Each batch is a sample of its own.
func (r *run) improveByBatches(ctx context.Context, b *Result) error {
	rng := random(r.o.Seed, streamBatch, b.Restart)
	all := r.source.Rows()
	r.size(r.o.Batch)
	r.reset()
	for seen := 0; b.Iterations < r.o.Iterations; b.Iterations++ {
		began := time.Now()
		rows := draw(rng, r.o.Batch, all)
		read := func(ctx context.Context, first int, to simd.Matrix) error {
			return r.source.Gather(ctx, rows[first:first+to.Rows], to)
		}
		r.forget()
		out, err := r.pass(ctx, read, b.Centroids, true, r.counter(Progress{
			Stage: "iterating", Restart: b.Restart, Iteration: b.Iterations, Objective: b.Objective,
		}))
		if err != nil {
			return err
		}
		b.Objective = out.objective
		b.History = append(b.History, out.objective)
		r.judgeCodes(out)
		r.update(b.Centroids)
		if seen += r.o.Batch; seen >= all && !r.o.KeepEmpty {
			seen = 0
			b.Splits += r.splitSums(b.Centroids, b.Restart)
		}
		b.IterationSeconds += time.Since(began).Seconds()
	}
	return r.finish(ctx, b)
}

// splitSums is split where sums are kept: a cluster that was split, and its new
// half, go on as the means of as many rows as split has given them.
func (r *run) splitSums(centroids simd.Matrix, restart int) int {
	before := append([]int64(nil), r.counts...)
	splits := r.split(centroids, restart)
	for c, n := range r.counts {
		if n == before[c] {
			continue
		}
		sum := r.sums[c*centroids.Dim:][:centroids.Dim]
		for d, x := range centroids.Row(c) {
			sum[d] = float64(n) * float64(x)
		}
	}
	return splits
}
