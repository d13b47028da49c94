package eval

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"testing"

	"membank/store"
	"membank/store/dump"
	"membank/store/dump/dumptest"
)

func contingency(t testing.TB, a, b []int64) *Contingency {
	t.Helper()
	c, err := NewContingency(a, b)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func within(t testing.TB, what string, got, want, relative float64) {
	t.Helper()
	if !(math.Abs(got-want) <= relative*max(math.Abs(want), 1e-300)) && got != want {
		t.Errorf("%s is %v, want %v", what, got, want)
	}
}

func TestAgreementVectors(t *testing.T) {
	c := contingency(t, []int64{0, 0, 1, 1}, []int64{0, 0, 1, 2})
	within(t, "arithmetic NMI", c.NMI(Arithmetic), 0.8, 1e-12)
	within(t, "geometric NMI", c.NMI(Geometric), math.Sqrt(2.0/3), 1e-12) // ln 2 / √(ln 2 · 1.5 ln 2)
	within(t, "min NMI", c.NMI(Min), 1, 1e-12)
	within(t, "max NMI", c.NMI(Max), 2.0/3, 1e-12)
	within(t, "ARI", c.ARI(), 4.0/7, 1e-12) // (1 - 1/3) / (3/2 - 1/3)
	within(t, "purity", c.Purity(), 0.75, 0)
	h, err := c.HungarianAccuracy(t.Context())
	within(t, "Hungarian accuracy", h, 0.75, 0)
	if err != nil {
		t.Error(err)
	}
}

// Small labelings against definitions: pairs counted one by one, all permutations
// for the expectation, all maps for the assignment.
func TestAgreementAgainstDefinitions(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 1))
	for trial := range 60 {
		n := 2 + r.IntN(6)
		a, b := pick(r, n, []int64{-5, 0, 3, 1 << 40}[:1+r.IntN(4)]), pick(r, n, []int64{7, 8, 9, -1}[:1+r.IntN(4)])
		c := contingency(t, a, b)
		name := fmt.Sprint(trial, a, b)
		mi, ha, hb := slowInformation(a, b), slowInformation(a, a), slowInformation(b, b)
		expected, count := 0.0, 0
		permutations(slices.Clone(b), func(p []int64) { expected += slowInformation(a, p); count++ })
		expected /= float64(count)
		same := math.Abs(mi-ha) < 1e-12 && math.Abs(mi-hb) < 1e-12
		for _, by := range []Normalisation{Arithmetic, Geometric, Min, Max} {
			mean := map[Normalisation]float64{Arithmetic: (ha + hb) / 2, Geometric: math.Sqrt(ha * hb), Min: min(ha, hb), Max: max(ha, hb)}[by]
			nmi, ami := mi/mean, (mi-expected)/(mean-expected)
			switch {
			case same:
				nmi, ami = 1, 1
			case mean < 1e-12:
				nmi, ami = 0, 0
			case mean-expected < 1e-12:
				ami = 0
			}
			if got := c.NMI(by); math.Abs(got-nmi) > 1e-12 {
				t.Errorf("%s: %s NMI %v, want %v", name, by, got, nmi)
			}
			if got := c.AMI(by); math.Abs(got-ami) > 1e-10 {
				t.Errorf("%s: %s AMI %v, want %v", name, by, got, ami)
			}
		}
		if got, want := c.ARI(), slowARI(a, b); math.Abs(got-want) > 1e-12 {
			t.Errorf("%s: ARI %v, want %v", name, got, want)
		}
		if got, err := c.HungarianAccuracy(t.Context()); err != nil || math.Abs(got-slowHungarian(a, b)) > 1e-12 {
			t.Errorf("%s: Hungarian accuracy %v, want %v (%v)", name, got, slowHungarian(a, b), err)
		}
	}
}

// slowInformation sums over pairs of rows' labels straight from the definition.
func slowInformation(a, b []int64) float64 {
	n, sum := float64(len(a)), 0.0
	for i := range a {
		var x, y, xy float64
		for j := range a {
			if a[j] == a[i] {
				x++
			}
			if b[j] == b[i] {
				y++
			}
			if a[j] == a[i] && b[j] == b[i] {
				xy++
			}
		}
		sum += math.Log(xy*n/(x*y)) / n
	}
	return sum
}

// slowARI is the chance-corrected Rand index of the four kinds of pairs.
func slowARI(a, b []int64) float64 {
	var both, onlyA, onlyB, neither float64
	for i := range a {
		for j := range i {
			switch {
			case a[i] == a[j] && b[i] == b[j]:
				both++
			case a[i] == a[j]:
				onlyA++
			case b[i] == b[j]:
				onlyB++
			default:
				neither++
			}
		}
	}
	if onlyA == 0 && onlyB == 0 {
		return 1
	}
	return 2 * (both*neither - onlyA*onlyB) / ((both+onlyA)*(onlyA+neither) + (both+onlyB)*(onlyB+neither))
}

func slowHungarian(a, b []int64) float64 {
	from := slices.Compact(slices.Sorted(slices.Values(a)))
	to := slices.Compact(slices.Sorted(slices.Values(b)))
	for len(to) < len(from) {
		to = append(to, store.NoLabel) // maps to nothing
	}
	best := 0
	permutations(to, func(p []int64) {
		right := 0
		for i := range a {
			if p[slices.Index(from, a[i])] == b[i] {
				right++
			}
		}
		best = max(best, right)
	})
	return float64(best) / float64(len(a))
}

func permutations(of []int64, fn func([]int64)) {
	var place func(k int)
	place = func(k int) {
		if k == len(of) {
			fn(of)
			return
		}
		for i := k; i < len(of); i++ {
			of[k], of[i] = of[i], of[k]
			place(k + 1)
			of[k], of[i] = of[i], of[k]
		}
	}
	place(0)
}

// A larger assignment, against the textbook method on the dense table.
func TestAssignmentAgainstDense(t *testing.T) {
	r := rand.New(rand.NewPCG(9, 2))
	for _, shape := range [][2]int{{1, 1}, {5, 60}, {60, 5}, {40, 40}} {
		for range 5 {
			sparse := make([][]pairRest, shape[0])
			dense := make([][]float64, shape[0])
			for i := range sparse {
				dense[i] = make([]float64, shape[1])
				for j := range dense[i] {
					if r.IntN(3) == 0 {
						n := int64(1 + r.IntN(50))
						sparse[i] = append(sparse[i], pairRest{int32(j), n})
						dense[i][j] = float64(n)
					}
				}
			}
			got, err := assign(t.Context(), sparse, shape[1])
			if want := denseAssignment(dense); err != nil || float64(got) != want {
				t.Errorf("%v: %d, want %v (%v)", shape, got, want, err)
			}
		}
	}
}

// denseAssignment is Bellman and Ford's: it augments along the longest path until
// none gains anything, without potentials.
func denseAssignment(w [][]float64) float64 {
	rows, columns := len(w), len(w[0])
	rowOf := make([]int, columns)
	for j := range rowOf {
		rowOf[j] = -1
	}
	matched := make([]bool, rows)
	total := 0.0
	for {
		gain, from := make([]float64, columns), make([]int, columns)
		for j := range gain {
			gain[j] = math.Inf(-1)
		}
		for i := range rows {
			for j := range columns {
				if !matched[i] && w[i][j] > gain[j] {
					gain[j], from[j] = w[i][j], i
				}
			}
		}
		for range columns {
			for j := range columns {
				if i := rowOf[j]; i >= 0 {
					for to := range columns {
						if g := gain[j] - w[i][j] + w[i][to]; g > gain[to] {
							gain[to], from[to] = g, i
						}
					}
				}
			}
		}
		best := -1
		for j := range columns {
			if rowOf[j] < 0 && (best < 0 || gain[j] > gain[best]) {
				best = j
			}
		}
		if best < 0 || gain[best] <= 0 {
			return total
		}
		total += gain[best]
		for j := best; ; {
			i := from[j]
			before := slices.Index(rowOf, i)
			rowOf[j] = i
			if before < 0 {
				matched[i] = true
				break
			}
			j = before
		}
	}
}

func TestAgreementRefusals(t *testing.T) {
	none := int64(store.NoLabel)
	for _, c := range [][2][]int64{
		{{1, 2}, {1}},
		{{}, {}},
		{{1}, {1}},
		{{none, 1, 2}, {1, 2, none}},
	} {
		if _, err := NewContingency(c[0], c[1]); !errors.Is(err, ErrAgreement) {
			t.Errorf("%v: %v", c, err)
		}
	}
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Agree(cancelled, []int64{1, 2}, []int64{1, 2}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

// Unlabelled rows count for nothing, whatever the other side says of them.
func TestAgreementLeavesOutUnlabelled(t *testing.T) {
	none := int64(store.NoLabel)
	with, err := Agree(t.Context(), []int64{0, 0, 1, 1, none, 5}, []int64{0, 0, 1, 2, 3, none})
	if err != nil {
		t.Fatal(err)
	}
	without, _ := Agree(t.Context(), []int64{0, 0, 1, 1}, []int64{0, 0, 1, 2})
	if with != without || with.Rows != 4 {
		t.Errorf("with unlabelled rows %+v, without %+v", with, without)
	}
}

// FAISS's clusters of the main method, and what scikit-learn and SciPy say of them.
func referenceAgreement(t *testing.T) {
	m := dumptest.Lookup(t, "simclr_last")
	dir, _ := dumptest.Shared(t)
	for _, k := range []string{"k10", "k100"} {
		l, err := dump.OpenLabels(filepath.Join(dir, "reference", "simclr_last_faiss_spherical_kmeans_"+k+".npz"), dump.Options{Array: "labels"})
		if err != nil {
			t.Fatal(err)
		}
		clusters := make([]int64, l.Rows())
		_, err = l.Next(clusters)
		l.Close()
		if err != nil {
			t.Fatal(err)
		}
		got, err := Agree(t.Context(), clusters, m.TrainLabels[:len(clusters)])
		if err != nil {
			t.Fatal(err)
		}
		for name, value := range map[string]float64{"nmi_arithmetic": got.NMI, "ari": got.ARI, "purity": got.Purity, "hungarian_acc": got.Hungarian} {
			want, ok := m.Figure(t, "kmeans", k, "faiss_spherical", name)
			if !ok {
				t.Fatalf("%s: no %s in the reference", k, name)
			}
			within(t, k+" "+name, value, want, 1e-9)
			reproduces("simclr_last", "kmeans", k, "faiss_spherical", name)
		}
	}
}
