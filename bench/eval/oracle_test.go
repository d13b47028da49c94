package eval

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"membank/simd"
	"membank/store"
)

// naive is the evaluator again, without any of its cleverness: one query, one
// k, all rows sorted, float64, exp unshifted, a stable sort of the classes.
// rows and queries hold small dyadic numbers, so that every similarity is exact
// however it is computed and ties are ties.
type naive struct {
	top1, top5, voted5 int64
	predicted          []int64
	asked              map[int64][2]int64 // label: queries, right
	unseen             int64
}

func runNaive(p Protocol, leave bool, rows simd.Matrix, labels []int64, queries simd.Matrix, truths []int64, k int) naive {
	n := naive{asked: map[int64][2]int64{}}
	var classes []int64
	for _, l := range labels {
		if l != store.NoLabel && !slices.Contains(classes, l) {
			classes = append(classes, l)
		}
	}
	slices.Sort(classes)
	for q := range truths {
		if truths[q] == store.NoLabel {
			continue
		}
		type neighbour struct {
			row  int
			s, d float64
		}
		var all []neighbour
		for x := range labels {
			if labels[x] == store.NoLabel || leave && x == q {
				continue
			}
			s, d := similarity(p, queries.Row(q), rows.Row(x))
			all = append(all, neighbour{x, s, d})
		}
		slices.SortStableFunc(all, func(a, b neighbour) int {
			switch {
			case a.s > b.s:
				return -1
			case a.s < b.s:
				return 1
			}
			return 0
		})
		all = all[:min(k, len(all))]
		votes := make([]float64, len(classes))
		for _, x := range all {
			c := slices.Index(classes, labels[x.row])
			switch p.Weight {
			case Exp:
				votes[c] += math.Exp(x.s / p.T)
			case Count:
				votes[c]++
			case Inverse:
				if p.Offset == 0 && all[0].d == 0 {
					if x.d == 0 {
						votes[c]++
					}
				} else {
					votes[c] += 1 / (x.d + p.Offset)
				}
			}
		}
		order := make([]int, len(classes))
		for c := range order {
			order[c] = c
		}
		slices.SortStableFunc(order, func(a, b int) int {
			switch {
			case votes[a] > votes[b]:
				return -1
			case votes[a] < votes[b]:
				return 1
			}
			return 0
		})
		predicted := int64(store.NoLabel)
		if len(all) > 0 {
			predicted = classes[order[0]]
		}
		n.predicted = append(n.predicted, predicted)
		of := n.asked[truths[q]]
		of[0]++
		if predicted == truths[q] {
			n.top1++
			of[1]++
		}
		n.asked[truths[q]] = of
		if !slices.Contains(classes, truths[q]) {
			n.unseen++
		}
		for _, c := range order[:min(5, len(all), len(order))] {
			if classes[c] == truths[q] {
				n.top5++
				if votes[c] > 0 {
					n.voted5++
				}
			}
		}
	}
	return n
}

func similarity(p Protocol, q, x []float32) (s, d float64) {
	var dot, qq, xx, dd float64
	for i := range q {
		a, b := float64(q[i]), float64(x[i])
		dot, qq, xx, dd = dot+a*b, qq+a*a, xx+b*b, dd+(a-b)*(a-b)
	}
	if p.Normalise {
		dot /= max(math.Sqrt(qq), 1e-12) * max(math.Sqrt(xx), 1e-12)
		dd = 2 - 2*dot
	}
	if p.Metric == L2 {
		return -math.Sqrt(dd), math.Sqrt(dd)
	}
	return dot, 1 - dot
}

// dyadic rows have 0, 1, 4 or 16 entries, all ±½ or all ±1: norms are powers of
// two, so unit rows and every product and distance of them are exact.
func dyadic(r *rand.Rand, rows, dim int) simd.Matrix {
	m := simd.NewMatrix(rows, dim)
	for i := range rows {
		if i > 0 && r.IntN(4) == 0 {
			copy(m.Row(i), m.Row(r.IntN(i))) // an exact duplicate
			continue
		}
		size := 0.5 * float32(1+r.IntN(2))
		for _, j := range r.Perm(dim)[:[]int{0, 1, 4, 4, 16, 16, 16}[r.IntN(7)]] {
			m.Row(i)[j] = size * float32(1-2*r.IntN(2))
		}
	}
	return m
}

func pick(r *rand.Rand, n int, from []int64) []int64 {
	labels := make([]int64, n)
	for i := range labels {
		labels[i] = from[r.IntN(len(from))]
	}
	return labels
}

func TestAgainstOracle(t *testing.T) {
	none := int64(store.NoLabel)
	for _, c := range []struct {
		name           string
		rows, queries  int
		gallery, asked []int64 // labels to draw from
	}{
		{"ten classes", 110, 50, []int64{0, 1, 2, 3, 4, 5, 6, 7, 8, 9}, []int64{0, 1, 2, 3, 4, 5, 6, 7, 8, 9}},
		{"gaps and negatives", 90, 30, []int64{-1, -70000, 3, 999, 1 << 40}, []int64{-1, 3, 999}},
		{"unlabelled and unseen", 100, 40, []int64{none, none, 4, 5, 6, 7, 8, 9}, []int64{none, 1, 4, 5, 1000}},
		{"three classes", 70, 20, []int64{2, 5, 8}, []int64{2, 5, 8}},
		{"eight queries", 40, 8, []int64{0, 1, 2, 3, 4, 5}, []int64{0, 1, 2}},
		{"three rows", 3, 5, []int64{7, 8}, []int64{7, 8, 9}},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := rand.New(rand.NewPCG(3, uint64(c.rows)))
			rows, queries := dyadic(r, c.rows, 16), dyadic(r, c.queries, 16)
			labels, truths := pick(r, c.rows, c.gallery), pick(r, c.queries, c.asked)
			truths[0] = c.asked[len(c.asked)-1]
			labels[0], labels[1], labels[2] = c.gallery[len(c.gallery)-1], c.gallery[len(c.gallery)-1], c.gallery[len(c.gallery)-2]
			db := open(t)
			train, test := write(t, db, "train", rows, labels), write(t, db, "test", queries, truths)
			ks := []int{1, 2, 5, 20, 1000, All}
			for _, preset := range Protocols() {
				for _, leave := range []bool{false, true} {
					variants := []KNN{{}, {Metric: L2}}
					if preset.Weight == Inverse {
						variants = []KNN{{}, {Metric: Cosine}, {Metric: L2, Normalise: On}}
					}
					for _, e := range variants { // one class, or one row, would be refused
						e.Preset, e.K, e.LeaveOneOut, e.PerClass = preset.Preset, ks, leave, true
						p, err := e.Protocol()
						if err != nil {
							t.Fatal(err)
						}
						name := p.Name
						asked, answers, snapshot := queries, truths, test
						if leave {
							asked, answers, snapshot = rows, labels, nil
						}
						got, predictions := evaluate(t, e, train, snapshot, RunOptions{Threads: 3, Memory: 40 << 10})
						compareNaive(t, name, got, predictions, p, func(k int) naive {
							return runNaive(p, leave, rows, labels, asked, answers, k)
						})
					}
				}
			}
		})
	}
}

func compareNaive(t *testing.T, name string, got *KNNResult, predictions []Prediction, p Protocol, want func(k int) naive) {
	t.Helper()
	for j, k := range p.K {
		w, g := want(k), got.Results[j]
		what := fmt.Sprintf("%s at k=%s", name, kName(k))
		if g.Correct1 != w.top1 || g.Correct5 != w.top5 || g.Correct5Vote != w.voted5 {
			t.Errorf("%s: right %d, %d, %d; want %d, %d, %d", what, g.Correct1, g.Correct5, g.Correct5Vote, w.top1, w.top5, w.voted5)
		}
		if got.UnseenQueries != w.unseen || got.TestRows != int64(len(w.predicted)) {
			t.Errorf("%s: %d unseen of %d, want %d of %d", what, got.UnseenQueries, got.TestRows, w.unseen, len(w.predicted))
		}
		if n := float64(got.TestRows); g.Top1 != float64(w.top1)/n || g.Top5 != float64(w.top5)/n || g.Top5Voted != float64(w.voted5)/n {
			t.Errorf("%s: accuracies %v are not the counts", what, g)
		}
		for i, class := range w.predicted {
			if at := predictions[i*len(p.K)+j]; at.Class != class || at.Right != (class == at.Label) {
				t.Errorf("%s: query %d is %d, want %d", what, i, at.Class, class)
			}
		}
		mean := 0.0
		if len(g.PerClass) != len(w.asked) {
			t.Errorf("%s: %d classes asked, want %d", what, len(g.PerClass), len(w.asked))
		}
		for _, c := range g.PerClass {
			if of := w.asked[c.Label]; c.Queries != of[0] || c.Correct1 != of[1] {
				t.Errorf("%s: class %d has %d of %d, want %d of %d", what, c.Label, c.Correct1, c.Queries, of[1], of[0])
			}
		}
		for _, of := range w.asked {
			mean += float64(of[1]) / float64(of[0]) / float64(len(w.asked))
		}
		if math.Abs(mean-g.MeanPerClass) > 1e-12 {
			t.Errorf("%s: mean per class %v, want %v", what, g.MeanPerClass, mean)
		}
	}
}
