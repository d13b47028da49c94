package kmeans

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"sort"

	"membank/index"
	"membank/simd"
)

// Seeding says where centroids start.
type Seeding uint8

const (
	// PlusPlus is k-means++: each centroid is a row, drawn with a probability in
	// proportion to its squared distance from the centroids before it.
	PlusPlus Seeding = iota
	// RandomRows are different rows, all equally likely.
	RandomRows
)

func (s Seeding) String() string {
	switch s {
	case PlusPlus:
		return "k-means++"
	case RandomRows:
		return "random rows"
	}
	return fmt.Sprintf("Seeding(%d)", uint8(s))
}

// seed returns the first centroids of a restart.
func (r *run) seed(ctx context.Context, restart int) (simd.Matrix, error) {
	rng := random(r.o.Seed, streamSeeds, restart)
	rows := r.source.Rows()
	if r.o.Seeding == RandomRows {
		return r.gather(ctx, draw(rng, r.o.Clusters, rows))
	}
	candidates, err := r.gather(ctx, draw(random(r.o.Seed, streamCandidates, restart), r.o.SeedRows, rows))
	if err != nil {
		return candidates, err
	}
	return r.plusPlus(ctx, candidates, rng)
}

// gather reads some rows as passes see them.
func (r *run) gather(ctx context.Context, rows []int) (simd.Matrix, error) {
	m := simd.NewMatrix(len(rows), r.source.Dim())
	err := parallel(ctx, r.o.Threads, (len(rows)+r.part-1)/r.part, func(ctx context.Context, i int) error {
		from, to := i*r.part, min((i+1)*r.part, len(rows))
		part := m.Slice(from, to)
		if err := r.source.Gather(ctx, rows[from:to], part); err != nil {
			return err
		}
		if r.o.Spherical {
			for i := range part.Rows {
				simd.Normalize(part.Row(i), part.Row(i))
			}
		}
		return nil
	})
	return m, err
}

// A round has so many proposals at most: each is compared with all that the round
// has accepted, one by one.
const mostProposals = 1024

// plusPlus draws centroids from rows, exactly as k-means++ does, in rounds of
// rejection sampling. Let D(x) be the distance of x from its nearest centroid at
// the start of a round. Proposals come from D², and one that meanwhile, because of
// others of the round, is only D' away is accepted with probability D'²/D²: so those
// accepted have the distribution D'². A round of many proposals is one search for all
// rows, with the distances so far as floors, where k-means++ proper takes as many
// passes over the rows as there are centroids.
func (r *run) plusPlus(ctx context.Context, rows simd.Matrix, rng *rand.Rand) (simd.Matrix, error) {
	centroids := simd.NewMatrix(r.o.Clusters, rows.Dim)
	first := rng.IntN(rows.Rows)
	copy(centroids.Row(0), rows.Row(first))
	count := 1
	taken := map[int]bool{first: true}
	scores := make([]float32, rows.Rows) // of each row with its nearest centroid
	for i := range scores {
		scores[i] = float32(math.NaN())
	}
	sums := make([]float64, rows.Rows) // of D², up to each row
	for known := 0; count < centroids.Rows; {
		if err := r.nearer(ctx, rows, centroids.Slice(known, count), scores); err != nil {
			return centroids, err
		}
		known = count
		total := 0.0
		for i, s := range scores {
			total += r.squared(s)
			sums[i] = total
		}
		if total == 0 { // every row is a centroid
			for _, i := range spare(rng, rows.Rows, taken, centroids.Rows-count) {
				copy(centroids.Row(count), rows.Row(i))
				count++
			}
			return centroids, nil
		}
		for range max(1, min(known/2, centroids.Rows-count, mostProposals)) {
			at := sort.Search(rows.Rows-1, sumAbove(sums, rng.Float64()*total))
			was := r.squared(scores[at])
			is := was
			for c := known; c < count && is > 0; c++ {
				is = min(is, r.apart(rows.Row(at), centroids.Row(c)))
			}
			if rng.Float64()*was < is {
				copy(centroids.Row(count), rows.Row(at))
				taken[at] = true
				count++
			}
		}
		r.tell(Progress{Stage: "seeding", Done: int64(count), Total: int64(centroids.Rows)})
	}
	return centroids, nil
}

// sumAbove says which of the running sums exceed x; a row that adds nothing to them
// is never the first that does.
func sumAbove(sums []float64, x float64) func(i int) bool {
	return func(i int) bool { return sums[i] > x }
}

// squared is the squared distance that a score stands for.
func (r *run) squared(score float32) float64 {
	if r.o.Spherical {
		return max(0, 2-2*float64(score))
	}
	return float64(score)
}

// apart is the squared distance of two rows.
func (r *run) apart(a, b []float32) float64 {
	if r.o.Spherical {
		return r.squared(simd.Dot(a, b))
	}
	return float64(simd.SquaredDistance(a, b))
}

// nearer replaces the scores of rows that are nearer to one of some more centroids
// than to those before.
func (r *run) nearer(ctx context.Context, rows, centroids simd.Matrix, scores []float32) error {
	ix, err := index.FromMatrix(centroids, index.MatrixOptions{NoCodes: true, Threads: r.o.Threads})
	if err != nil {
		return fmt.Errorf("%w: %w", ErrRow, err)
	}
	return parallel(ctx, r.o.Threads, (rows.Rows+r.part-1)/r.part, func(ctx context.Context, i int) error {
		from, to := i*r.part, min((i+1)*r.part, rows.Rows)
		part := scores[from:to]
		found, err := ix.Search(ctx, rows.Slice(from, to), index.Options{K: 1, Metric: r.metric, Floors: part, Threads: 1})
		if err != nil {
			return fmt.Errorf("%w: %w", ErrRow, err)
		}
		for j, hits := range found.Hits {
			if len(hits) > 0 {
				part[j] = hits[0].Score
			}
		}
		return nil
	})
}

// spare returns n rows that are not taken.
func spare(rng *rand.Rand, all int, taken map[int]bool, n int) []int {
	free := make([]int, 0, all-len(taken))
	for i := range all {
		if !taken[i] {
			free = append(free, i)
		}
	}
	rows := draw(rng, n, len(free))
	for i, at := range rows {
		rows[i] = free[at]
	}
	return rows
}
