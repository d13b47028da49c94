package eval

import (
	"context"
	"math"
	"slices"

	"membank/index"
	"membank/simd"
)

// The search ranks by float32 scores. Where the k-th neighbour and the next are
// closer than float32 resolves, which of them is a neighbour is rounding; published
// figures of hubness and overlap come from float64, and so do ours. A float32 score
// is within ε of the exact one (slack), so
//
//	the k-th best score found is s  ⇒  k rows score s−ε at least, exactly
//	a row of the exact k best       ⇒  its float32 score is s−2ε at least
//
// The search therefore finds some rows more than k. Where the last of them scores
// less than s−2ε, the k best of the list by float64 are those of all rows; where it
// does not, as in a collapsed space, the row is compared with all others in float64.

// margin is how many neighbours more than k are asked for.
func margin(k int) int { return max(32, k) }

// scored is a row and its float64 score, larger nearer.
type scored struct {
	row   int64
	score float64
}

func compareScored(a, b scored) int {
	switch {
	case a.score > b.score || a.score == b.score && a.row < b.row:
		return -1
	case a.score == b.score && a.row == b.row:
		return 0
	}
	return 1
}

// settle cuts every list to the k best by float64, and rounds their scores to
// float32. Lists may hold more than k hits, best first; they were searched for exactly.
// Rows whose lists do not decide are compared with all of m: rows²·dim operations
// where that is all of them.
func (nb *neighbourhood) settle(ctx context.Context, m simd.Matrix, threads int) error {
	x := exactly{m: m, metric: nb.metric, norms: make([]float64, m.Rows)}
	spread(threads, m.Rows, func(_, i int) { x.norms[i] = simd.Norm(m.Row(i)) })
	x.longest = slices.Max(x.norms)
	open := make([]bool, m.Rows)
	spread(threads, m.Rows, func(_, i int) {
		list := nb.hits[i]
		open[i] = len(list) < m.Rows-1 && !x.decides(i, nb.k, list)
		if !open[i] {
			rows := make([]int64, len(list))
			for j, h := range list {
				rows[j] = h.Row
			}
			nb.hits[i] = x.best(i, nb.k, rows)
		}
	})
	var undecided []int
	for i, o := range open {
		if o {
			undecided = append(undecided, i)
		}
	}
	return x.all(ctx, undecided, nb, threads)
}

// exactly scores rows of m in float64.
type exactly struct {
	m       simd.Matrix
	metric  index.Metric
	norms   []float64
	longest float64
}

// slack bounds how far the float32 score of row i with any other is from the exact
// one: that of simd's chain of dim FMAs, of the two roundings of a unit query, of the
// scale, the product and the sum (package index, cascade.go and bound.go). Of L2 it
// is relative to the distance.
func (x *exactly) slack(i int) float64 {
	n := float64(x.m.Dim) + 8
	e := n * 0x1p-24 / (1 - n*0x1p-24)
	if x.metric == index.Dot {
		e *= x.norms[i] * x.longest
	}
	return e + 1e-30
}

// decides says that the k best rows by the exact score are among the hits of row i.
func (x *exactly) decides(i, k int, hits []index.Hit) bool {
	last, kth, e := float64(hits[len(hits)-1].Score), float64(hits[k-1].Score), x.slack(i)
	if x.metric == index.L2 {
		return last > kth*(1+e)*(1+e)+1e-30
	}
	return last < kth-2*e
}

// score of rows i and j, larger nearer. Products of float32 are exact in float64, so
// a compiler that fuses multiply and add changes nothing; squares say what they do.
func (x *exactly) score(i, j int) float64 {
	a, b := x.m.Row(i), x.m.Row(j)
	sum := 0.0
	if x.metric == index.L2 {
		for d, v := range a {
			w := float64(v) - float64(b[d])
			sum = math.FMA(-w, w, sum)
		}
		return sum
	}
	for d, v := range a {
		sum += float64(v) * float64(b[d])
	}
	if x.metric == index.Cosine {
		sum /= max(x.norms[i], NormaliseEps) * max(x.norms[j], NormaliseEps)
	}
	return sum
}

// best are the k of rows that are nearest to row i, best first.
func (x *exactly) best(i, k int, rows []int64) []index.Hit {
	list := make([]scored, len(rows))
	for j, row := range rows {
		list[j] = scored{row, x.score(i, int(row))}
	}
	slices.SortFunc(list, compareScored)
	hits := make([]index.Hit, min(k, len(list)))
	for j := range hits {
		hits[j] = index.Hit{Row: list[j].row, Score: float32(list[j].score)}
		if x.metric == index.L2 {
			hits[j].Score = 0 - hits[j].Score // not -score: a distance of 0 has no sign
		}
	}
	return hits
}

// How many rows meet how many at a time: 16 and 64 MiB of float64 at 1,024 dimensions.
const (
	settleRows    = 2048
	settleColumns = 8192
)

// all compares rows with all rows. Products of whole matrices choose the candidates:
// of L2, ⟨a,b⟩ − ½‖b‖² of rows less their mean, which errs by 1e-13 of their squared
// spread at most, so the margin is kept there, and best decides.
func (x *exactly) all(ctx context.Context, rows []int, nb *neighbourhood, threads int) error {
	var mean []float64
	if x.metric == index.L2 && len(rows) > 0 {
		mean = make([]float64, x.m.Dim)
		for i := range x.m.Rows {
			for d, v := range x.m.Row(i) {
				mean[d] += float64(v) / float64(x.m.Rows)
			}
		}
	}
	keep := min(nb.k+margin(nb.k), x.m.Rows-1)
	for part := range slices.Chunk(rows, settleRows) {
		found := make([][]scored, len(part))
		asked := x.columns(part, mean, threads)
		for first := 0; first < x.m.Rows; first += settleColumns {
			others := make([]int, min(settleColumns, x.m.Rows-first))
			for j := range others {
				others[j] = first + j
			}
			met := x.columns(others, mean, threads)
			var half []float64
			if mean != nil {
				half = squaredLengths(met)
			}
			err := eachProducts(ctx, []strips{asked}, met, threads, func(_, at, n int, products [2][][]float64) {
				for i := range n {
					list := found[at+i]
					for j, score := range products[0][i] {
						if half != nil {
							score -= half[j] / 2
						}
						if first+j != part[at+i] {
							list = keepBest(list, keep, scored{int64(first + j), score})
						}
					}
					found[at+i] = list
				}
			})
			if err != nil {
				return err
			}
		}
		spread(threads, len(part), func(_, i int) {
			numbers := make([]int64, len(found[i]))
			for j, s := range found[i] {
				numbers[j] = s.row
			}
			nb.hits[part[i]] = x.best(part[i], nb.k, numbers)
		})
	}
	return nil
}

// columns are rows of m as the columns of a product: of length 1, less their mean, or
// as they are, by the metric.
func (x *exactly) columns(rows []int, mean []float64, threads int) strips {
	s := newStrips(x.m.Dim, len(rows))
	spread(threads, len(rows), func(_, c int) {
		row := x.m.Row(rows[c])
		switch x.metric {
		case index.L2:
			for d, v := range row {
				s.set(d, c, float64(v)-mean[d])
			}
		case index.Cosine:
			s.setColumn(c, row, 1/max(x.norms[rows[c]], NormaliseEps))
		default:
			s.setColumn(c, row, 1)
		}
	})
	return s
}

// keepBest puts s into a list of the best n so far, best first.
func keepBest(list []scored, n int, s scored) []scored {
	if len(list) == n {
		if compareScored(s, list[n-1]) > 0 {
			return list
		}
		list = list[:n-1]
	}
	at, _ := slices.BinarySearchFunc(list, s, compareScored)
	return slices.Insert(list, at, s)
}
