package kmeans

import (
	"context"

	"membank/simd"
)

// swapSettling is how many iterations a swap gets to show what it is worth; of
// simclr_last's 6,000 reference rows and 10 clusters, 15 found as good an optimum as
// 50 in two thirds of the iterations. About half of them are spared, as a swap that
// cannot catch up any more is given up (see hopeless).
const swapSettling = 15

// swap looks for a better optimum by chance: a centroid, any, moves to a row, any,
// some iterations follow, and what comes out is kept if it is better (Fränti,
// "Efficiency of random swap clustering", 2018). Each try has a chance of some
// percent, so dozens of them lead where as many restarts do not, as a clustering that
// is right but for one or two clusters stays so. The objective never rises. The
// run's labels and scores are those of the result.
func (r *run) swap(ctx context.Context, b *Result) error {
	rng := random(r.o.Seed, streamSwap, b.Restart)
	trial := newRun(r.source, r.o)
	trial.basis = r.basis
	keep := func(iterations int, begun simd.Matrix) (better bool, err error) {
		trial.o.Iterations, trial.beat = iterations, b.Objective
		found, err := trial.improve(ctx, begun, b.Restart)
		if err != nil {
			return false, err
		}
		b.Iterations += found.Iterations
		b.IterationSeconds += found.IterationSeconds
		b.Splits += found.Splits
		if found.Objective >= b.Objective {
			return false, nil
		}
		b.Centroids, b.Objective, b.MeanCosine, b.Converged = found.Centroids, found.Objective, found.MeanCosine, found.Converged
		b.History = append(b.History, found.Objective)
		r.labels, trial.labels = trial.labels, r.labels
		r.scores, trial.scores = trial.scores, r.scores
		return true, nil
	}
	moved := simd.NewMatrix(b.Centroids.Rows, b.Centroids.Dim)
	swapped := false
	for range r.o.Swaps {
		copy(moved.Data, b.Centroids.Data)
		row, err := r.gather(ctx, []int{rng.IntN(len(r.labels))})
		if err != nil {
			return err
		}
		copy(moved.Row(rng.IntN(moved.Rows)), row.Row(0))
		better, err := keep(min(swapSettling, r.o.Iterations), moved)
		if err != nil {
			return err
		}
		swapped = swapped || better
	}
	if !swapped || b.Converged {
		return nil
	}
	_, err := keep(r.o.Iterations, b.Centroids)
	return err
}
