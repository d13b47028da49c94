package index

import (
	"context"
	"fmt"
	"math"

	"membank/simd"
	"membank/store"
)

// NewLists returns lists with these centroids, [lists][dim], which it brings to
// length 1 for cosine, and of which nothing else is known yet; see Survey.
func NewLists(metric Metric, seed uint64, centroids simd.Matrix) *Lists {
	l := &Lists{Metric: metric, Seed: seed, Centroids: simd.NewMatrix(centroids.Rows, centroids.Dim),
		Rows: make([]int64, centroids.Rows), Near: make([]float32, centroids.Rows), Radius: make([]float32, centroids.Rows)}
	for i := range centroids.Rows {
		if metric == Cosine {
			copy(l.Centroids.Row(i), centroids.Row(i))
			bringToLength1(l.Centroids.Row(i))
		} else {
			copy(l.Centroids.Row(i), centroids.Row(i))
		}
	}
	return l
}

// bringToLength1 normalizes x until it is of length 1 or 0: simd.Normalize leaves
// what is shorter than simd.Epsilon shorter than 1, and bound counts on 1. The
// shortest float32 takes four times.
func bringToLength1(x []float32) {
	for range 4 {
		simd.Normalize(x, x)
		if norm := simd.Norm(x); norm == 0 || norm > 1-0x1p-20 {
			return
		}
	}
}

// Assigner finds the nearest lists of rows. It does not change and is safe for
// concurrent use.
type Assigner struct {
	lists     *Lists
	centroids *Index
}

// NewAssigner prepares the centroids of l, on some threads.
func NewAssigner(l *Lists, threads int) (*Assigner, error) {
	centroids, err := FromMatrix(l.Centroids, MatrixOptions{Threads: threads})
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrLists, err)
	}
	return &Assigner{l, centroids}, nil
}

// Nearest finds the list of the nearest centroid for the first b.Rows lanes of a
// block, dead ones too, and the score of that centroid as the metric has it. A row
// without a direction, for cosine, gets the list of strays. It costs 2·nlist·dim
// operations a row at most, in the goroutine of the caller.
func (a *Assigner) Nearest(ctx context.Context, list []int32, score []float32, b *store.Block) error {
	rows := simd.NewMatrix(b.Rows, b.Dim)
	simd.Unpack(rows, b.Panels)
	r, err := a.centroids.Search(ctx, rows, Options{K: 1, Metric: a.metric(), Threads: 1, Memory: 1 << 40})
	if err != nil {
		return err
	}
	for i, hits := range r.Hits {
		list[i], score[i] = int32(hits[0].Row), hits[0].Score
		if a.directionless(b, i) {
			list[i] = int32(a.lists.Strays())
		}
	}
	return nil
}

// metric is what rows are compared with centroids by.
func (a *Assigner) metric() Metric {
	if a.lists.Metric == Dot {
		return L2 // centroids are means
	}
	return a.lists.Metric
}

// MeanScore is the mean over rows of the score that Nearest finds.
func (a *Assigner) MeanScore(ctx context.Context, rows simd.Matrix) (mean float64, err error) {
	r, err := a.centroids.Search(ctx, rows, Options{K: 1, Metric: a.metric(), Memory: 1 << 40})
	for _, hits := range r.Hits {
		mean += float64(hits[0].Score) / float64(len(r.Hits))
	}
	return mean, err
}

// Assign is a store.Assigner for rows that come after the lists were surveyed: what
// lies beyond the radius of its list is a stray.
func (a *Assigner) Assign(list []int32, b *store.Block) error {
	scores := make([]float32, b.Rows)
	if err := a.Nearest(context.Background(), list, scores, b); err != nil {
		return err
	}
	for i, l := range list[:b.Rows] {
		if int(l) < a.lists.Strays() && a.lists.distance(float64(scores[i])) > float64(a.lists.Radius[l]) {
			list[i] = int32(a.lists.Strays())
		}
	}
	return nil
}

// distance is how far a row lies from its centroid, for Radius: an upper bound for
// the score that Nearest found. See bound for its margins.
func (l *Lists) distance(score float64) float64 {
	margin := 4 * (float64(l.Centroids.Dim) + 64) * unit
	if l.Metric == Cosine {
		return math.Acos(max(-1, min(1, score)-margin))
	}
	return math.Sqrt(score)*(1+margin) + 1e-30
}

// spare is how much farther than the farthest row of a list a later one may lie: of
// few rows the farthest one is often passed, and what lies beyond is read by all.
const spare = 0.1

// Survey sets what is known of the lists: for every row the list it has, or −1 for
// no row, and the score that Nearest found.
func (l *Lists) Survey(list []int32, score []float32) {
	near := make([]float64, l.Count())
	clear(l.Rows)
	clear(l.Radius)
	for row, j := range list {
		if j < 0 || int(j) == l.Strays() {
			continue
		}
		s := float64(score[row])
		l.Rows[j]++
		near[j] += s
		l.Radius[j] = max(l.Radius[j], roundUp((1+spare)*l.distance(s)))
	}
	for j := range near {
		if l.Rows[j] > 0 {
			near[j] /= float64(l.Rows[j])
		}
		l.Near[j] = float32(near[j])
	}
}

// Imbalance is nlist·Σ(n/N)², for lists of n rows of N: 1 if all are equal.
func Imbalance(rows []int64) float64 {
	total, sum := 0.0, 0.0
	for _, n := range rows {
		total += float64(n)
		sum += float64(n) * float64(n)
	}
	if total == 0 {
		return 1
	}
	return float64(len(rows)) * sum / (total * total)
}

// Known is Assign for rows some of whose lists were found before: list number of
// each row number, −1 where it is not known.
func (a *Assigner) Known(list []int32, b *store.Block, listOf []int32) error {
	unknown := false
	for i, row := range b.Row[:b.Rows] {
		switch {
		case b.Dead[i]:
			list[i] = int32(a.lists.Strays())
		case row < 0 || row >= int64(len(listOf)) || listOf[row] < 0:
			unknown = true
		default:
			if list[i] = listOf[row]; a.directionless(b, i) {
				list[i] = int32(a.lists.Strays())
			}
		}
	}
	if !unknown {
		return nil
	}
	all := make([]int32, b.Rows)
	if err := a.Assign(all, b); err != nil {
		return err
	}
	for i, row := range b.Row[:b.Rows] {
		if !b.Dead[i] && (row < 0 || row >= int64(len(listOf)) || listOf[row] < 0) {
			list[i] = all[i]
		}
	}
	return nil
}

// directionless: the row is too short to be brought to length 1, so no angle to a
// centroid is known.
func (a *Assigner) directionless(b *store.Block, lane int) bool {
	return a.lists.Metric == Cosine && b.Scale[lane] > 1/(2*simd.Epsilon)
}
