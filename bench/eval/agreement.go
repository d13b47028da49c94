package eval

import (
	"context"
	"fmt"
	"math"

	"membank/store"
)

// Normalisation names the mean of two entropies that mutual information is divided
// by. A published NMI means little without it: scikit-learn's default changed from
// Geometric to Arithmetic in version 0.22.
type Normalisation string

const (
	Arithmetic Normalisation = "arithmetic" // (H(a)+H(b))/2
	Geometric  Normalisation = "geometric"  // √(H(a)·H(b))
	Min        Normalisation = "min"        // min(H(a), H(b))
	Max        Normalisation = "max"        // max(H(a), H(b))
)

func (n Normalisation) of(a, b float64) float64 {
	switch n {
	case Geometric:
		return math.Sqrt(a * b)
	case Min:
		return min(a, b)
	case Max:
		return max(a, b)
	}
	return (a + b) / 2
}

// Agreement says how far two labelings of the same rows group them alike. Names in
// JSON are those of the reference data.
type Agreement struct {
	Rows      int64   `json:"rows"`           // with a label in both
	Clusters  int     `json:"clusters"`       // distinct labels of the first
	Classes   int     `json:"classes"`        // distinct labels of the second
	NMI       float64 `json:"nmi_arithmetic"` // 0..1
	Geometric float64 `json:"nmi_geometric"`  // 0..1
	AMI       float64 `json:"ami"`            // 0 expected of chance, at most 1; arithmetic
	ARI       float64 `json:"ari"`            // 0 expected of chance, at most 1
	Purity    float64 `json:"purity"`         // of the first's groups by the second's labels; 1 when every row is alone
	Hungarian float64 `json:"hungarian_acc"`  // share of rows that agree under the best one-to-one map
}

// Agree compares two labelings, clusters of rows with their classes in the usual
// case: clusters[i] and classes[i] are of row i, and a row with NoLabel in either
// counts for nothing. All figures but Purity are symmetric. Errors: ErrAgreement
// when lengths differ or fewer than two rows have both labels.
//
// It holds 16 bytes for each pair of labels that occurs. The Hungarian map is by far
// the dearest part; ctx ends it.
func Agree(ctx context.Context, clusters, classes []int64) (Agreement, error) {
	t, err := NewContingency(clusters, classes)
	if err != nil {
		return Agreement{}, err
	}
	hungarian, err := t.HungarianAccuracy(ctx)
	if err != nil {
		return Agreement{}, err
	}
	return Agreement{
		Rows: t.rows, Clusters: len(t.a), Classes: len(t.b),
		NMI: t.NMI(Arithmetic), Geometric: t.NMI(Geometric), AMI: t.AMI(Arithmetic),
		ARI: t.ARI(), Purity: t.Purity(), Hungarian: hungarian,
	}, nil
}

// Foregone says why the figures would be the same for any embeddings, "" if they would
// not: asked is how many clusters were asked for.
func (a Agreement) Foregone(asked int) string {
	switch {
	case a.Classes == 1:
		return "all rows have one class, and any clusters agree with that or none"
	case asked == 1:
		return "one cluster was asked for, and says nothing of classes"
	case int64(a.Clusters) == a.Rows:
		return "every row with a label is a cluster of its own, and says nothing of classes"
	}
	return ""
}

// Contingency is how often each label of one labeling meets each of another.
type Contingency struct {
	rows  int64
	a, b  []int64      // rows of each label, in the order of first appearance
	pairs []pairCount  // non-zero ones, in the order of first appearance
	byA   [][]pairRest // the same, by label of a
}

type pairCount struct {
	a, b  int32
	count int64
}

type pairRest struct {
	b     int32
	count int64
}

// NewContingency counts the rows that have a label in both a and b. Labels may be
// any integers. O(rows).
func NewContingency(a, b []int64) (*Contingency, error) {
	if len(a) != len(b) {
		return nil, fmt.Errorf("%w: one labels %d rows, the other %d", ErrAgreement, len(a), len(b))
	}
	t := &Contingency{}
	placeA, placeB := map[int64]int32{}, map[int64]int32{}
	at := map[[2]int32]int{}
	place := func(places map[int64]int32, sums *[]int64, label int64) int32 {
		p, known := places[label]
		if !known {
			p = int32(len(*sums))
			places[label] = p
			*sums = append(*sums, 0)
		}
		(*sums)[p]++
		return p
	}
	for i, label := range a {
		if label == store.NoLabel || b[i] == store.NoLabel {
			continue
		}
		t.rows++
		pair := [2]int32{place(placeA, &t.a, label), place(placeB, &t.b, b[i])}
		p, known := at[pair]
		if !known {
			p = len(t.pairs)
			at[pair] = p
			t.pairs = append(t.pairs, pairCount{a: pair[0], b: pair[1]})
		}
		t.pairs[p].count++
	}
	if t.rows < 2 {
		return nil, fmt.Errorf("%w: %d rows have both labels, and less than two agree in nothing", ErrAgreement, t.rows)
	}
	t.byA = make([][]pairRest, len(t.a))
	for _, p := range t.pairs {
		t.byA[p.a] = append(t.byA[p.a], pairRest{p.b, p.count})
	}
	return t, nil
}

// Rows is the number of rows that have a label in both.
func (t *Contingency) Rows() int64 { return t.rows }

// Labels is the number of distinct labels of each.
func (t *Contingency) Labels() (a, b int) { return len(t.a), len(t.b) }

// same says that both labelings group the rows in one way.
func (t *Contingency) same() bool {
	return len(t.pairs) == len(t.a) && len(t.pairs) == len(t.b)
}

// NMI is I(a;b) / mean(H(a), H(b)). Two labelings that group alike have 1, even
// where the entropies are 0; otherwise one without information has 0.
func (t *Contingency) NMI(by Normalisation) float64 {
	if t.same() {
		return 1
	}
	mean := by.of(entropy(t.a, t.rows), entropy(t.b, t.rows))
	if mean == 0 {
		return 0
	}
	return min(1, max(0, t.information()/mean))
}

// information is I(a;b) in nats.
func (t *Contingency) information() float64 {
	n := float64(t.rows)
	sum := 0.0
	for _, p := range t.pairs {
		c := float64(p.count)
		sum += c / n * math.Log(c*n/(float64(t.a[p.a])*float64(t.b[p.b])))
	}
	return sum
}

func entropy(counts []int64, rows int64) float64 {
	sum := 0.0
	for _, c := range counts {
		p := float64(c) / float64(rows)
		sum -= p * math.Log(p)
	}
	return sum
}

// AMI is NMI corrected for chance (Vinh, Epps and Bailey 2010):
//
//	(I − E[I]) / (mean(H(a), H(b)) − E[I])
//
// with the expectation over all labelings that have as many rows of each label. Two
// labelings that group alike have 1; where the mean leaves no room above chance, 0.
func (t *Contingency) AMI(by Normalisation) float64 {
	if t.same() {
		return 1
	}
	expected := t.expectedInformation()
	mean := by.of(entropy(t.a, t.rows), entropy(t.b, t.rows))
	if mean-expected <= 1e-15*max(1, mean) {
		return 0
	}
	return (t.information() - expected) / (mean - expected)
}

// expectedInformation is E[I] under the hypergeometric model. Labels of equal size
// share their terms. With x rows of one label and y of the other, n rows fall
// together with weight
//
//	w(n+1)/w(n) = (x−n)(y−n) / ((n+1)(N−x−y+n+1))
//
// Taken from the mode outwards, divided by their sum and cut where they vanish,
// these need no factorials and lose no digits.
func (t *Contingency) expectedInformation() float64 {
	n := float64(t.rows)
	sizesA, sizesB := sizes(t.a), sizes(t.b)
	total := 0.0
	for _, x := range sizesA {
		for _, y := range sizesB {
			a, b := float64(x.size), float64(y.size)
			lo, hi := max(0, a+b-n), min(a, b)
			term := func(k float64) float64 {
				if k == 0 {
					return 0
				}
				return k / n * math.Log(k*n/(a*b))
			}
			mode := min(hi, max(lo, math.Floor((a+1)*(b+1)/(n+2))))
			weights, sum := 1.0, term(mode)
			for k, w := mode, 1.0; k < hi && w > 1e-25; k++ {
				w *= (a - k) * (b - k) / ((k + 1) * (n - a - b + k + 1))
				weights += w
				sum += w * term(k+1)
			}
			for k, w := mode, 1.0; k > lo && w > 1e-25; k-- {
				w *= k * (n - a - b + k) / ((a - k + 1) * (b - k + 1))
				weights += w
				sum += w * term(k-1)
			}
			total += float64(x.labels) * float64(y.labels) * sum / weights
		}
	}
	return total
}

// single says that no two rows have a label in common, in either labeling.
func (t *Contingency) single() bool {
	return int64(len(t.a)) == t.rows && int64(len(t.b)) == t.rows
}

// labelSize is how many labels have so many rows.
type labelSize struct{ size, labels int64 }

func sizes(counts []int64) []labelSize {
	at := map[int64]int{}
	var list []labelSize
	for _, c := range counts {
		i, known := at[c]
		if !known {
			i = len(list)
			at[c] = i
			list = append(list, labelSize{size: c})
		}
		list[i].labels++
	}
	return list
}

// ARI is the share of pairs of rows on which both labelings agree, corrected for
// chance (Hubert and Arabie 1985):
//
//	(Σ C(n_ij,2) − E) / (½[Σ C(a_i,2) + Σ C(b_j,2)] − E),  E = Σ C(a_i,2)·Σ C(b_j,2) / C(N,2)
//
// Two labelings that group alike have 1.
func (t *Contingency) ARI() float64 {
	if t.same() {
		return 1
	}
	together := 0.0
	for _, p := range t.pairs {
		together += choose2(p.count)
	}
	a, b := 0.0, 0.0
	for _, c := range t.a {
		a += choose2(c)
	}
	for _, c := range t.b {
		b += choose2(c)
	}
	expected := a / choose2(t.rows) * b
	return (together - expected) / ((a+b)/2 - expected)
}

func choose2(n int64) float64 { return float64(n) * float64(n-1) / 2 }

// Purity is the share of rows that have the most frequent b among the rows of
// their a. It grows with the number of a's labels, to 1 when every row has its own.
func (t *Contingency) Purity() float64 {
	sum := int64(0)
	for _, row := range t.byA {
		most := int64(0)
		for _, p := range row {
			most = max(most, p.count)
		}
		sum += most
	}
	return float64(sum) / float64(t.rows)
}

// HungarianAccuracy is the share of rows that agree under the best one-to-one map
// of labels of a to labels of b; labels beyond the other side's number map to
// nothing and count as wrong. Over-clustering therefore caps it.
func (t *Contingency) HungarianAccuracy(ctx context.Context) (float64, error) {
	matched, err := assign(ctx, t.byA, len(t.b))
	return float64(matched) / float64(t.rows), err
}
