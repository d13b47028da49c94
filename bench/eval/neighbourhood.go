package eval

import (
	"context"
	"math"
	"slices"

	"membank/index"
	"membank/simd"
	"membank/store"
)

// neighbourhood is the k nearest other rows of every row of a sample, within the
// sample, by float64 (settle.go): the one search that all figures about neighbours
// share. Rows are known by their position in the sample.
type neighbourhood struct {
	k      int // of each row; fewer where the sample is smaller
	metric index.Metric
	hits   [][]index.Hit // [rows], best first, Row a position
}

// findNeighbours searches exactly. Of a whole bank it uses the bank's own codes;
// other rows are indexed in memory.
func findNeighbours(ctx context.Context, s *store.Snapshot, of *sample, k int, metric index.Metric, o RunOptions) (*neighbourhood, error) {
	ix := index.New(s)
	position := func(row int64) int64 {
		at, _ := slices.BinarySearch(of.rows, row)
		return int64(at)
	}
	if !of.whole {
		var failed error
		err := beside(ctx, func() {
			ix, failed = index.FromMatrix(of.vectors, index.MatrixOptions{Threads: o.Threads, NoCodes: o.NoCodes})
		})
		if err != nil {
			return nil, err
		}
		if failed != nil {
			return nil, failed
		}
		position = func(row int64) int64 { return row }
	}
	nb := &neighbourhood{k: min(k, len(of.rows)-1), metric: metric, hits: make([][]index.Hit, len(of.rows))}
	if nb.k < 1 {
		return nb, nil
	}
	g := index.GraphOptions{K: min(nb.k+margin(nb.k), len(of.rows)-1), Metric: metric, NoCodes: o.NoCodes, Threads: o.Threads, Memory: o.Memory, Progress: o.Progress}
	_, err := ix.Graph(ctx, g, func(row int64, hits []index.Hit) error {
		list := slices.Clone(hits)
		for i := range list {
			list[i].Row = position(list[i].Row)
		}
		nb.hits[position(row)] = list
		return nil
	})
	if err != nil {
		return nil, err
	}
	return nb, nb.settle(ctx, of.vectors, o.Threads)
}

// occurrences is N(x): how many rows have x among their neighbours.
func (nb *neighbourhood) occurrences() []int64 {
	counts := make([]int64, len(nb.hits))
	for _, list := range nb.hits {
		for _, h := range list {
			counts[h.Row]++
		}
	}
	return counts
}

// koleo is −mean log of the distance to the nearest other row, rows L2-normalised:
// DINOv2's regulariser, with torch's PairwiseDistance, which adds 1e-8 to each
// coordinate's difference, and 1e-8 more inside the logarithm.
func (nb *neighbourhood) koleo(m simd.Matrix) float64 {
	const eps = 1e-8
	sum := 0.0
	for i, list := range nb.hits {
		a, b := m.Row(i), m.Row(int(list[0].Row))
		na, nb := max(simd.Norm(a), NormaliseEps), max(simd.Norm(b), NormaliseEps)
		square := 0.0
		for d := range a {
			v := float64(a[d])/na - float64(b[d])/nb + eps
			square += v * v
		}
		sum -= math.Log(math.Sqrt(square) + eps)
	}
	return sum / float64(len(nb.hits))
}

// nearest gives the mean score of the nearest neighbours, and how many rows have one
// that scores more than near.
func (nb *neighbourhood) nearest(near float32) (mean float64, above int64) {
	for _, list := range nb.hits {
		mean += float64(list[0].Score) / float64(len(nb.hits))
		if list[0].Score > near {
			above++
		}
	}
	return mean, above
}

// vote classifies every labelled row by its labelled neighbours, with DINO's weights
// (of l2 each has one vote), and returns the share that is right, that of the
// commonest class, and how many were asked.
func (nb *neighbourhood) vote(labels []int64) (right, commonest float64, asked int64) {
	classOf := slices.Clone(labels)
	classes, labelled := newDictionary(classOf, nil)
	if labelled == 0 {
		return 0, 0, 0
	}
	rule := Protocol{Metric: Cosine, Normalise: true, Weight: Exp, T: 0.07}
	if nb.metric != index.Cosine {
		rule = Protocol{Metric: L2, Weight: Count}
	}
	b := newBallot(rule, classOf, len(classes.labels))
	sizes := make([]int64, len(classes.labels))
	var list []index.Hit
	var out [1]outcome
	for i, hits := range nb.hits {
		if classOf[i] < 0 {
			continue
		}
		list = list[:0]
		for _, h := range hits {
			if classOf[h.Row] >= 0 {
				list = append(list, h)
			}
		}
		b.count(out[:], []int{nb.k}, list, int(classOf[i]))
		if out[0].rank == 0 && out[0].hasVote {
			right++
		}
		asked++
		sizes[classOf[i]]++
	}
	return right / float64(asked), float64(slices.Max(sizes)) / float64(asked), asked
}
