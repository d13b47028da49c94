package kmeans

import (
	"context"
	"errors"
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
	return r.plusPlus(ctx, candidates, rng, restart)
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

// A round accepts so many centroids at most, so that proposals are seldom stale.
const mostAccepted = 1024

// plusPlus draws centroids from rows as greedy k-means++ does: some rows are drawn
// in proportion to D², their squared distance from the nearest centroid, and the one
// that lowers Σ D² most becomes the next centroid.
//
// That takes as many passes over the rows as there are centroids; here a round takes
// one for many. Its proposals are drawn from the D² that it begins with. One search
// finds the rows that are nearer to a proposal than to the centroids so far, which
// is all that is needed to know what it would gain then and after others have been
// accepted. A proposal whose own distance has fallen meanwhile from D² to D'² is
// rejected with probability 1 − D'²/D², so that those left have the distribution D'².
// The result has the distribution of k-means++ proper but for one thing: a group
// may have lost some of its proposals.
func (r *run) plusPlus(ctx context.Context, rows simd.Matrix, rng *rand.Rand, restart int) (simd.Matrix, error) {
	p := &plusPlus{run: r, rows: rows, near: make([]float32, rows.Rows), sums: make([]float64, rows.Rows)}
	centroids := simd.NewMatrix(r.o.Clusters, rows.Dim)
	taken := map[int]bool{}
	accept := func(proposal int) {
		copy(centroids.Row(len(taken)), rows.Row(p.proposals[proposal]))
		taken[p.proposals[proposal]] = true
		for _, h := range p.gained[proposal] {
			if p.nearer(h.score, p.near[h.row]) {
				p.near[h.row] = h.score
			}
		}
		// Exactly where it is, whatever the rounding of a cosine says: a row that is a
		// centroid is not drawn again.
		p.near[p.proposals[proposal]] = p.best()
	}
	for i := range p.near {
		p.near[i] = float32(math.NaN())
		if r.o.Spherical && simd.Norm(rows.Row(i)) < 0.5 {
			p.near[i] = p.best() // a zero row is as far from every centroid
		}
	}
	p.proposals = []int{rng.IntN(rows.Rows)}
	if err := p.compare(ctx); err != nil {
		return centroids, err
	}
	accept(0)
	for len(taken) < centroids.Rows {
		total := 0.0
		for i, s := range p.near {
			total += r.squared(s)
			p.sums[i] = total
		}
		if total == 0 { // every row is where a centroid is
			for _, i := range spare(rng, rows.Rows, taken, centroids.Rows-len(taken)) {
				copy(centroids.Row(len(taken)), rows.Row(i))
				taken[i] = true
			}
			return centroids, nil
		}
		groups := max(1, min(len(taken)/2, centroids.Rows-len(taken), mostAccepted))
		p.proposals = p.proposals[:0]
		for range groups * r.o.Trials {
			x := rng.Float64() * total
			p.proposals = append(p.proposals, sort.Search(rows.Rows-1, func(i int) bool { return p.sums[i] > x }))
		}
		if err := p.compare(ctx); err != nil {
			return centroids, err
		}
		was := make([]float64, len(p.proposals))
		for i, row := range p.proposals {
			was[i] = r.squared(p.near[row])
		}
		for first := 0; first < len(p.proposals); first += r.o.Trials {
			best, most := -1, 0.0
			for i := first; i < first+r.o.Trials; i++ {
				if rng.Float64()*was[i] >= r.squared(p.near[p.proposals[i]]) {
					continue
				}
				if gain := p.gain(i); best < 0 || gain > most {
					best, most = i, gain
				}
			}
			if best >= 0 {
				accept(best)
			}
		}
		r.tell(Progress{Stage: "seeding", Restart: restart, Done: int64(len(taken)), Total: int64(centroids.Rows)})
	}
	return centroids, nil
}

// plusPlus is the state of k-means++.
type plusPlus struct {
	*run
	rows      simd.Matrix
	near      []float32 // score of each row with its nearest centroid; NaN before the first
	sums      []float64 // of D², up to each row
	proposals []int     // rows
	gained    [][]gained
}

// gained is a row that a proposal is nearer to than the centroids before it.
type gained struct {
	row   int32
	score float32
}

// compare finds what each proposal would gain.
func (p *plusPlus) compare(ctx context.Context) error {
	proposed := simd.NewMatrix(len(p.proposals), p.rows.Dim)
	for i, row := range p.proposals {
		copy(proposed.Row(i), p.rows.Row(row))
	}
	ix, err := index.FromMatrix(proposed, index.MatrixOptions{Basis: p.basis, NoCodes: p.basis == nil || proposed.Rows*proposed.Dim < codesFrom, Threads: p.o.Threads})
	if err != nil {
		return ofSample(err)
	}
	every := index.Options{HasMinScore: true, MinScore: -math.MaxFloat32, Metric: p.metric, Threads: 1}
	if p.metric == index.L2 {
		every.MinScore = math.MaxFloat32
	}
	parts := (p.rows.Rows + p.part - 1) / p.part
	found := make([][][]index.Hit, parts)
	err = parallel(ctx, p.o.Threads, parts, func(ctx context.Context, i int) error {
		from, to := i*p.part, min((i+1)*p.part, p.rows.Rows)
		o := every
		o.Floors = p.near[from:to]
		r, err := ix.Search(ctx, p.rows.Slice(from, to), o)
		if err != nil {
			return ofSample(err)
		}
		found[i] = r.Hits
		return nil
	})
	if err != nil {
		return err
	}
	p.gained = make([][]gained, len(p.proposals))
	for i, part := range found {
		for j, hits := range part {
			row := int32(i*p.part + j)
			for _, h := range hits {
				p.gained[h.Row] = append(p.gained[h.Row], gained{row, h.Score})
			}
		}
	}
	return nil
}

// ofSample says that a row of the sample is bad; which row of the source that is
// only a pass could tell.
func ofSample(err error) error {
	var bad *index.QueryError
	switch {
	case errors.As(err, &bad):
		return fmt.Errorf("%w, of those that k-means++ draws from: %w", ErrRow, bad.Err)
	case errors.Is(err, index.ErrRows):
		return fmt.Errorf("%w, of those that k-means++ draws from: %w", ErrRow, err)
	}
	return err
}

// gain is by how much a proposal would lower Σ D² now.
func (p *plusPlus) gain(proposal int) (sum float64) {
	for _, h := range p.gained[proposal] {
		if d := p.squared(p.near[h.row]) - p.squared(h.score); d > 0 {
			sum += d
		}
	}
	return sum
}

// best is the score of a row with itself.
func (r *run) best() float32 {
	if r.o.Spherical {
		return 1
	}
	return 0
}

// nearer says whether a score is better than another, or than none.
func (r *run) nearer(a, b float32) bool {
	if r.o.Spherical {
		return !(a <= b)
	}
	return !(a >= b)
}

// squared is the squared distance that a score stands for.
func (r *run) squared(score float32) float64 {
	if r.o.Spherical {
		return max(0, 2-2*float64(score))
	}
	return float64(score)
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
