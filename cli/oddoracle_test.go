package cli

import (
	"cmp"
	"math"
	"slices"
	"strings"
)

// What the odd sets should come to, in float64, one pair of rows at a time. Nothing
// here is shared with the rooms below.

// unlabelled is a row without a label, as files have it.
const unlabelled = -1

// oddSet is one bank of the test.
type oddSet struct {
	name   string
	rows   [][]float32
	labels []int64 // nil: none at all
}

func (s *oddSet) label(i int) int64 {
	if s.labels == nil {
		return unlabelled
	}
	return s.labels[i]
}

// labelled are the rows with a label.
func (s *oddSet) labelled() (rows []int) {
	for i := range s.rows {
		if s.label(i) != unlabelled {
			rows = append(rows, i)
		}
	}
	return rows
}

// classes are the distinct labels, ascending.
func (s *oddSet) classes() []int64 {
	var list []int64
	for _, i := range s.labelled() {
		list = append(list, s.labels[i])
	}
	slices.Sort(list)
	return slices.Compact(list)
}

// lone says that no other row has the label of row i.
func (s *oddSet) lone(i int) bool {
	n := 0
	for j := range s.rows {
		if s.label(j) == s.label(i) {
			n++
		}
	}
	return n == 1
}

func product(a, b []float32) (sum float64) {
	for d := range a {
		sum += float64(a[d]) * float64(b[d])
	}
	return sum
}

func length(a []float32) float64 { return math.Sqrt(product(a, a)) }

// oddCosine is 0 with a zero row, as torch's normalize leaves it.
func oddCosine(a, b []float32) float64 {
	return product(a, b) / max(length(a), 1e-12) / max(length(b), 1e-12)
}

func distance(a, b []float32) float64 {
	sum := 0.0
	for d := range a {
		sum += (float64(a[d]) - float64(b[d])) * (float64(a[d]) - float64(b[d]))
	}
	return math.Sqrt(sum)
}

// preset is a published rule, as ssl.md 1.7 has it: how near a row is, larger nearer,
// and what its vote weighs against that of the nearest.
type preset struct {
	name   string
	ks     []int // 0: all
	near   func(a, b []float32) float64
	weight func(near, nearest float64) float64
}

func presetRules() []preset {
	exp := func(t float64) func(a, b float64) float64 {
		return func(near, nearest float64) float64 { return math.Exp((near - nearest) / t) }
	}
	one := func(float64, float64) float64 { return 1 }
	apart := func(a, b []float32) float64 { return -distance(a, b) }
	dino := []int{10, 20, 100, 200}
	return []preset{
		{"dino", dino, oddCosine, exp(0.07)}, {"dinov2", dino, oddCosine, exp(0.07)}, {"ibot", dino, oddCosine, exp(0.07)},
		{"instdisc", []int{200}, oddCosine, exp(0.07)}, {"lightly", []int{200}, oddCosine, exp(0.1)}, {"moco-demo", []int{200}, oddCosine, exp(0.1)},
		{"vissl", []int{200}, product, exp(0.1)},
		{"solo-cos", []int{20}, oddCosine, exp(0.07)},
		{"solo-l2", []int{20}, apart, func(near, _ float64) float64 { return 1 / (-near + 1e-5) }},
		{"msf-1", []int{1}, oddCosine, one}, {"msf-20", []int{20}, oddCosine, one},
		{"simsiam", []int{200}, oddCosine, exp(0.2)}, {"paws", []int{0}, oddCosine, exp(0.1)},
		{"sklearn", []int{5}, apart, one},
		{"sklearn-distance", []int{5}, apart, func(near, nearest float64) float64 {
			switch {
			case nearest < 0:
				return -1 / near
			case near < 0: // an exact match outvotes all that are none
				return 0
			}
			return 1
		}},
	}
}

// ranked are the rows of a gallery that may be found by a query, nearest first, equally
// near ones by number.
func ranked(q []float32, gallery *oddSet, among []int, without int, near func(a, b []float32) float64) []int {
	order := slices.DeleteFunc(slices.Clone(among), func(i int) bool { return i == without })
	slices.SortStableFunc(order, func(i, j int) int {
		return cmp.Compare(near(q, gallery.rows[j]), near(q, gallery.rows[i]))
	})
	return order
}

// votes of the first k of a ranking, by class.
func votes(q []float32, gallery *oddSet, order []int, k int, p preset) map[int64]float64 {
	if k == 0 {
		k = len(order)
	}
	sums := map[int64]float64{}
	for _, i := range order[:min(k, len(order))] {
		sums[gallery.label(i)] += p.weight(p.near(q, gallery.rows[i]), p.near(q, gallery.rows[order[0]]))
	}
	return sums
}

// byVote are the classes by vote, then by label; those without one come last.
func byVote(sums map[int64]float64, classes []int64) []int64 {
	order := slices.Clone(classes)
	slices.SortStableFunc(order, func(a, b int64) int { return cmp.Compare(sums[b], sums[a]) })
	return order
}

// right are how many labelled queries a vote of k has right.
type right struct{ queries, top1, top5, voted5 int }

// accuracy asks a gallery; leave leaves the query itself out, where both are one bank.
func accuracy(gallery, queries *oddSet, leave bool, p preset, k int) (r right) {
	classes := gallery.classes()
	for _, i := range queries.labelled() {
		without := -1
		if leave {
			without = i
		}
		order := ranked(queries.rows[i], gallery, gallery.labelled(), without, p.near)
		sums := votes(queries.rows[i], gallery, order, k, p)
		list := byVote(sums, classes)
		all := k
		if k == 0 {
			all = len(order)
		}
		r.queries++
		own := queries.label(i)
		if list[0] == own && sums[own] > 0 {
			r.top1++
		}
		if slices.Contains(list[:min(5, min(all, len(order)), len(list))], own) {
			r.top5++
			if sums[own] > 0 {
				r.voted5++
			}
		}
	}
	return r
}

// refusal is what a refusal should say, "" where there is to be an answer: an accuracy
// over nothing, or one that labels alone settle, is no accuracy.
func refusal(gallery, queries *oddSet, leave bool) string {
	known := gallery.classes()
	switch {
	case len(gallery.rows[0]) != len(queries.rows[0]):
		return "dimension"
	case len(known) == 0:
		return "no labelled rows"
	case leave && len(gallery.labelled()) == 1:
		return "too few rows"
	case len(queries.labelled()) == 0:
		return "no labelled rows"
	case len(known) == 1:
		return "labels alone decide"
	case leave && !slices.ContainsFunc(gallery.labelled(), func(i int) bool { return !gallery.lone(i) }):
		return "labels alone decide"
	case !slices.ContainsFunc(queries.labelled(), func(i int) bool { return slices.Contains(known, queries.label(i)) }):
		return "labels alone decide"
	}
	return ""
}

// retrieved are means over the queries that have something to find.
type retrieved struct{ queries, ir, trapezoid, first1, precision5, mrr float64 }

func retrieval(gallery, queries *oddSet, leave bool) (r retrieved) {
	for _, i := range queries.labelled() {
		without := -1
		if leave {
			without = i
		}
		found, ir, area, first, in5 := 0.0, 0.0, 0.0, 0.0, 0.0
		for rank, j := range ranked(queries.rows[i], gallery, gallery.labelled(), without, oddCosine) {
			if gallery.label(j) != queries.label(i) {
				continue
			}
			before := 1.0
			if rank > 0 {
				before = found / float64(rank)
			}
			found++
			at := found / float64(rank+1)
			ir, area = ir+at, area+(before+at)/2
			if first == 0 {
				first = float64(rank + 1)
			}
			if rank < 5 {
				in5++
			}
		}
		if found == 0 {
			continue
		}
		r.queries++
		r.ir, r.trapezoid, r.mrr, r.precision5 = r.ir+ir/found, r.trapezoid+area/found, r.mrr+1/first, r.precision5+in5/5
		if first == 1 {
			r.first1++
		}
	}
	return retrieved{r.queries, r.ir / r.queries, r.trapezoid / r.queries, r.first1 / r.queries, r.precision5 / r.queries, r.mrr / r.queries}
}

// doubted counts the candidates of confident learning, and the rows that can be judged.
func doubted(s *oddSet, k int) (candidates, judged int) {
	p := presetRules()[0]
	type vote struct {
		own, best float64
		suggested int64
		skip      bool
	}
	all := map[int]vote{}
	sum, rows := map[int64]float64{}, map[int64]float64{}
	for _, i := range s.labelled() {
		order := ranked(s.rows[i], s, s.labelled(), i, oddCosine)
		shares := votes(s.rows[i], s, order, k, p)
		total := 0.0
		for _, v := range shares {
			total += v
		}
		best := byVote(shares, s.classes())[0]
		next := min(k, len(order)-1)
		tied := next > 0 && math.Abs(oddCosine(s.rows[i], s.rows[order[0]])-oddCosine(s.rows[i], s.rows[order[next]])) < 1e-9
		all[i] = vote{shares[s.label(i)] / total, shares[best] / total, best, tied || s.lone(i)}
		sum[s.label(i)] += shares[s.label(i)] / total
		rows[s.label(i)]++
	}
	for i, v := range all {
		if v.skip {
			continue
		}
		judged++
		if v.suggested != s.label(i) && v.best > v.own && rows[v.suggested] > 1 && v.best >= sum[v.suggested]/rows[v.suggested] {
			candidates++
		}
	}
	return candidates, judged
}

// flips are the least angles, in degrees and ascending, by which labelled queries must
// turn until another row of the gallery is nearest; 180 where none ever is.
func flips(gallery, queries *oddSet) (angles []float64) {
	unit := func(x []float32) []float64 {
		u, norm := make([]float64, len(x)), max(length(x), 1e-12)
		for d, v := range x {
			u[d] = float64(v) / norm
		}
		return u
	}
	for _, i := range queries.labelled() {
		if length(queries.rows[i]) == 0 {
			continue // no direction to turn
		}
		q := unit(queries.rows[i])
		order := ranked(queries.rows[i], gallery, gallery.labelled(), -1, oddCosine)
		a, least := unit(gallery.rows[order[0]]), 180.0
		for _, j := range order[1:] {
			b := unit(gallery.rows[j])
			ahead, apart := 0.0, 0.0
			for d := range q {
				ahead += q[d] * (a[d] - b[d])
				apart += (a[d] - b[d]) * (a[d] - b[d])
			}
			if apart > 1e-18 {
				least = min(least, math.Asin(max(0, min(1, ahead/math.Sqrt(apart))))*180/math.Pi)
			}
		}
		angles = append(angles, least)
	}
	slices.Sort(angles)
	return angles
}

// directions are the rows that point elsewhere than all before them; zero rows do not.
func directions(s *oddSet) (n int) {
	for i, x := range s.rows {
		if length(x) > 0 && !slices.ContainsFunc(s.rows[:i], func(y []float32) bool { return oddCosine(x, y) > 1-1e-9 }) {
			n++
		}
	}
	return n
}

// zeroRows are the rows without a direction.
func zeroRows(s *oddSet) (n int) {
	for _, x := range s.rows {
		if length(x) == 0 {
			n++
		}
	}
	return n
}

// unlike says that a text holds something that is no number, or a value of Go's.
func unlike(text string) string {
	text = strings.ReplaceAll(text, "rows with NaN or Inf; ingest refuses them", "") // the sentence of a count
	for _, bad := range []string{"NaN", "+Inf", "-Inf", "Infinity", "<nil>", "%!", "panic", "goroutine "} {
		if strings.Contains(text, bad) {
			return bad
		}
	}
	return ""
}
