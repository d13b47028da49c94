package eval

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"membank/index"
	"membank/simd"
	"membank/store"
	"membank/store/dump/dumptest"

	"gonum.org/v1/gonum/mat"
)

func compare(t testing.TB, c Compare, banks ...*store.Snapshot) *Comparison {
	t.Helper()
	r, err := c.Run(t.Context(), banks, RunOptions{Threads: 2})
	if err != nil {
		t.Fatal(err)
	}
	checkFigures(t, r.Figures)
	return r
}

// Every pair of the reference, the collapsed methods' too: its neighbours are those of
// float64, and so are ours.
func comparisonOfReferences(t *testing.T) {
	shared, ok := dumptest.Shared(t)
	if !ok {
		t.Skip("the comparison of methods is in the shared reference data only")
	}
	text, err := os.ReadFile(filepath.Join(shared, "reference", "cross_method.json"))
	if err != nil {
		t.Fatal(err)
	}
	var want map[string]json.RawMessage
	if err := json.Unmarshal(text, &want); err != nil {
		t.Fatal(err)
	}
	db := open(t)
	var banks []*store.Snapshot
	for _, m := range dumptest.Methods(t) {
		banks = append(banks, write(t, db, m.Name, m.Train.Slice(0, 2000), m.TrainLabels[:2000]))
	}
	r := compare(t, Compare{}, banks...)
	compared := 0
	for name, tolerance := range map[string]float64{"linear_cka": 1e-5, "mutual_knn_k10_overlap": 1e-12, "mutual_knn_k10_jaccard": 1e-12} {
		var pairs map[string]float64
		if err := json.Unmarshal(want[name], &pairs); err != nil || len(pairs) != 28 {
			t.Fatalf("%s: %d pairs (%v)", name, len(pairs), err)
		}
		for pair, w := range pairs {
			a, b, _ := strings.Cut(pair, "|")
			got, ok := r.Lookup(name + ":" + a + "|" + b)
			if !ok {
				got, ok = r.Lookup(name + ":" + b + "|" + a)
			}
			if !ok || math.Abs(got-w) > tolerance*w {
				t.Errorf("%s of %s: %v (%v), want %v", name, pair, got, ok, w)
			}
			compared++
			reproduces("cross_method", name, pair)
		}
	}
	// The check of the formula: CKA of the first 1000 rows of two methods, which the
	// reference also has from Gram matrices of the rows.
	var check map[string]any
	if err := json.Unmarshal(want["check_gram_form_first1000"], &check); err != nil {
		t.Fatal(err)
	}
	first, second, _ := strings.Cut(check["pair"].(string), "|")
	var two []*store.Snapshot
	for _, name := range []string{first, second} {
		two = append(two, write(t, db, name+"/1000", dumptest.Lookup(t, name).Train.Slice(0, 1000), nil))
	}
	cka := number(t, compare(t, Compare{}, two...).Figures, "linear_cka")
	for _, form := range []string{"feature_form", "gram_form"} {
		within(t, form, cka, check[form].(float64), 1e-5)
		reproduces("cross_method", "check_gram_form_first1000", form)
	}
	if compared != 3*28 {
		t.Errorf("%d figures compared", compared)
	}
}

// All figures once more, from N×N kernels and sorted lists.
func TestComparisonNaively(t *testing.T) {
	const n, k = 41, 5
	a, b := dense(n, 6, 1), dense(n, 9, 2)
	for i := range n {
		for d := range 6 {
			b.Row(i)[d] += 1.5 * a.Row(i)[d]
			a.Row(i)[d]++ // the mean counts for nothing in CKA
		}
	}
	labels := make([]int64, n)
	for i := range labels {
		labels[i] = int64(i % 3)
	}
	db := open(t)
	r := compare(t, Compare{K: k, Moved: 4}, write(t, db, "a", a, labels), write(t, db, "b", b, nil))
	kernel := func(m simd.Matrix) [][]float64 {
		mean := make([]float64, m.Dim)
		for i := range n {
			for d, v := range m.Row(i) {
				mean[d] += float64(v) / n
			}
		}
		out := make([][]float64, n)
		for i := range out {
			out[i] = make([]float64, n)
			for j := range out[i] {
				for d := range m.Dim {
					out[i][j] += (float64(m.Row(i)[d]) - mean[d]) * (float64(m.Row(j)[d]) - mean[d])
				}
			}
		}
		return out
	}
	ka, kb := kernel(a), kernel(b)
	trace := func(x, y [][]float64) (s float64) {
		for i := range x {
			for j := range y {
				s += x[i][j] * y[j][i]
			}
		}
		return s
	}
	hollow := func(x [][]float64) [][]float64 {
		out := make([][]float64, n)
		for i := range x {
			out[i] = slices.Clone(x[i])
			out[i][i] = 0
		}
		return out
	}
	hsic := func(x, y [][]float64) float64 {
		x, y = hollow(x), hollow(y)
		var sx, sy, both float64
		for i := range n {
			for j := range n {
				sx, sy = sx+x[i][j], sy+y[i][j]
				for l := range n {
					both += x[i][j] * y[j][l]
				}
			}
		}
		return (trace(x, y) + sx*sy/((n-1)*(n-2)) - 2/float64(n-2)*both) / (n * (n - 3))
	}
	near := func(name string, want float64) {
		t.Helper()
		if got, ok := r.Lookup(name); !ok || math.Abs(got-want) > 1e-6*math.Abs(want) {
			t.Errorf("%s: %v (%v), want %v", name, got, ok, want)
		}
	}
	near("linear_cka", trace(ka, kb)/math.Sqrt(trace(ka, ka)*trace(kb, kb)))
	near("debiased_cka", hsic(ka, kb)/math.Sqrt(hsic(ka, ka)*hsic(kb, kb)))
	lists := func(m simd.Matrix) (out [][]int) {
		for i := range n {
			var order []int
			for j := range n {
				if j != i {
					order = append(order, j)
				}
			}
			slices.SortStableFunc(order, func(x, y int) int {
				p, _ := similarity(Protocol{Normalise: true, Metric: Cosine}, m.Row(i), m.Row(x))
				q, _ := similarity(Protocol{Normalise: true, Metric: Cosine}, m.Row(i), m.Row(y))
				return sign(q - p)
			})
			out = append(out, order[:k])
		}
		return out
	}
	la, lb := lists(a), lists(b)
	var overlap, jaccard float64
	perClass := map[int64][2]float64{}
	least := math.Inf(1)
	for i := range n {
		common := 0.0
		for _, x := range la[i] {
			if slices.Contains(lb[i], x) {
				common++
			}
		}
		overlap, jaccard = overlap+common/k/n, jaccard+common/(2*k-common)/n
		at := perClass[labels[i]]
		perClass[labels[i]] = [2]float64{at[0] + 1, at[1] + common/k}
		least = min(least, common/k)
	}
	near("mutual_knn_k5_overlap", overlap)
	near("mutual_knn_k5_jaccard", jaccard)
	if len(r.Moved) != 4 || r.Moved[0].Overlap != least || len(r.Moved[0].After) != k {
		t.Errorf("moved: %+v, the least overlap is %v", r.Moved, least)
	}
	for _, f := range r.Figures {
		if f.Name != "per_class" {
			continue
		}
		for _, class := range f.Value.([]ClassChange) {
			want := perClass[class.Label]
			if float64(class.Rows) != want[0] || math.Abs(class.Overlap-want[1]/want[0]) > 1e-12 {
				t.Errorf("class %+v, want %v", class, want)
			}
		}
	}
	if _, ok := r.Lookup("mean_row_cosine"); ok {
		t.Error("rows of different dimensions have a cosine")
	}
}

// Rotation, scale and shift change neither CKA nor Procrustes nor, but for the
// shift, neighbours; a bank agrees with itself in everything.
func TestComparisonKnownAnswers(t *testing.T) {
	const n = 60
	a := dense(n, 2, 3)
	turned := simd.NewMatrix(n, 2)
	for i := range n {
		x, y := a.Row(i)[0], a.Row(i)[1]
		turned.Row(i)[0], turned.Row(i)[1] = 3*(0.6*x-0.8*y), 3*(0.8*x+0.6*y)
	}
	db := open(t)
	r := compare(t, Compare{}, write(t, db, "a", a, nil), write(t, db, "turned", turned, nil))
	for name, want := range map[string]float64{
		"linear_cka": 1, "debiased_cka": 1, "procrustes_distance": 0, "mutual_knn_k10_overlap": 1,
		"neighbour_rank_correlation_k10": 1, "mean_row_cosine": 0.6,
	} {
		if got, ok := r.Lookup(name); !ok || math.Abs(got-want) > 1e-3 {
			t.Errorf("%s: %v, want %v", name, got, want)
		}
	}
	// One axis each: the other bank's is orthogonal, and a third of the variance is shared.
	common, rho := agreement([]index.Hit{{Row: 1}, {Row: 2}}, []index.Hit{{Row: 3}, {Row: 2}})
	// Places 1, 2, 3 against 3, 2, 1.
	if common != 1 || rho != -1 {
		t.Errorf("%d in common, correlation %v", common, rho)
	}
	if common, rho := agreement([]index.Hit{{Row: 4}}, []index.Hit{{Row: 4}}); common != 1 || rho != 1 {
		t.Errorf("one and the same: %d, %v", common, rho)
	}
}

func TestComparisonOddSets(t *testing.T) {
	same := repeatRow(dense(1, 7, 1), 30)
	db := open(t)
	a, flat := write(t, db, "a", dense(30, 7, 2), nil), write(t, db, "flat", same, nil)
	r := compare(t, Compare{}, a, flat)
	if _, ok := r.Lookup("linear_cka"); ok {
		t.Error("equal rows have a CKA")
	}
	two := compare(t, Compare{}, write(t, db, "two", dense(2, 3, 1), nil), write(t, db, "both", dense(2, 3, 5), nil))
	// Two points less their mean are one direction, as any two others are.
	for _, name := range []string{"linear_cka", "procrustes_distance", "debiased_cka", "mutual_knn_k10_overlap"} {
		if v, ok := two.Lookup(name); ok {
			t.Errorf("two rows: %s is %v", name, v)
		}
	}
	// All others are neighbours of everybody; equal rows have those of the smallest numbers.
	for name, r := range map[string]*Comparison{
		"k+1 rows":   compare(t, Compare{K: 29}, a, a),
		"equal rows": compare(t, Compare{K: 3}, a, flat),
		"zero rows":  compare(t, Compare{K: 3}, a, write(t, db, "zero", simd.NewMatrix(30, 7), nil)),
	} {
		for _, f := range r.Figures {
			if k := strings.Contains(f.Name, "_k"); (k || f.Name == "moved") && f.Value != nil {
				t.Errorf("%s: %s is %v", name, f.Name, f.Value)
			}
		}
		if len(r.Moved) > 0 {
			t.Errorf("%s: %v moved", name, r.Moved)
		}
	}
	if turned, ok := r.Lookup("mean_row_cosine"); !ok || math.Abs(turned) > 0.5 {
		t.Errorf("equal rows are turned by cosine %v", turned)
	}
	one := write(t, db, "one", dense(1, 3, 1), nil)
	if _, err := (Compare{}).Run(t.Context(), []*store.Snapshot{one, one}, RunOptions{}); !errors.Is(err, ErrTooFew) {
		t.Errorf("one row: %v", err)
	}
	if _, err := (Compare{}).Run(t.Context(), []*store.Snapshot{a}, RunOptions{}); !errors.Is(err, ErrTooFew) {
		t.Errorf("one bank: %v", err)
	}
	// Keys decide which rows are compared, not places.
	w, err := db.NewWriter(t.Context(), "shuffled", 7, store.WriterOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Abort()
	m, rows := dense(30, 7, 2), store.Rows{Vectors: simd.NewMatrix(25, 7)}
	for i := range 25 {
		copy(rows.Vectors.Row(i), m.Row(29-i))
		rows.Keys = append(rows.Keys, fmt.Sprint(29-i))
		if i == 3 {
			rows.Keys[i] = "elsewhere"
		}
	}
	if err := w.Append(t.Context(), rows); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	s := compare(t, Compare{}, a, snapshot(t, db, "shuffled"))
	for name, want := range map[string]float64{"rows": 24, "unmatched_rows": 1, "mutual_knn_k10_overlap": 1, "mean_row_cosine": 1} {
		if got, ok := s.Lookup(name); !ok || math.Abs(got-want) > 1e-9 {
			t.Errorf("%s: %v, want %v", name, got, want)
		}
	}
}

// Rows that are fewer than the dimensions of both banks, of one, and of none have the
// figures that zero columns beside them do not change.
func TestComparisonOfFewRows(t *testing.T) {
	const n = 12
	wide := func(m simd.Matrix, dim int) simd.Matrix {
		out := simd.NewMatrix(m.Rows, dim)
		for i := range m.Rows {
			copy(out.Row(i), m.Row(i))
		}
		return out
	}
	db := open(t)
	a, b := dense(n, 5, 3), dense(n, 7, 4)
	narrow := compare(t, Compare{K: 3}, write(t, db, "a", a, nil), write(t, db, "b", b, nil))
	for name, banks := range map[string][2]simd.Matrix{
		"both": {wide(a, 40), wide(b, 33)}, "first": {wide(a, 40), b}, "last": {a, wide(b, 13)},
	} {
		r := compare(t, Compare{K: 3}, write(t, db, name+"/a", banks[0], nil), write(t, db, name+"/b", banks[1], nil))
		for _, figure := range []string{"linear_cka", "debiased_cka", "procrustes_distance", "mutual_knn_k3_overlap"} {
			want, _ := narrow.Lookup(figure)
			if got, ok := r.Lookup(figure); !ok || math.Abs(got-want) > 1e-9 {
				t.Errorf("%s wide: %s is %v, want %v", name, figure, got, want)
			}
		}
	}
	// So many dimensions that a dim×dim matrix would not end in the time of a test.
	huge := write(t, db, "huge", dense(20, 8192, 5), nil)
	r := compare(t, Compare{K: 3}, huge, huge)
	for figure, want := range map[string]float64{"linear_cka": 1, "procrustes_distance": 0, "mutual_knn_k3_overlap": 1, "mutual_knn_k3_jaccard": 1} {
		if got, ok := r.Lookup(figure); !ok || math.Abs(got-want) > 1e-9 || strings.HasPrefix(figure, "mutual") && got != want {
			t.Errorf("20 rows of 8192 dimensions: %s is %v, want %v", figure, got, want)
		}
	}
}

// A factorisation of a thousand dimensions takes longer than a person waits; ending it
// does not.
func TestFactorisationsEnd(t *testing.T) {
	const n = 700
	wide := dense(n, n, 3)
	at := func(i, j int) float64 { return float64(wide.Row(min(i, j))[max(i, j)]) }
	for name, work := range map[string]func(ctx context.Context) error{
		"singular values": func(ctx context.Context) error {
			m := mat.NewDense(n, n, nil)
			m.Apply(func(i, j int, _ float64) float64 { return float64(wide.Row(i)[j]) }, m)
			_, _, err := nuclearNorm(ctx, m)
			return err
		},
		"eigenvalues": func(ctx context.Context) error { _, err := eigenvalues(ctx, n, at); return err },
	} {
		// The work is caught in the act: it ends late, and the call at once.
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(20*time.Millisecond, cancel)
		if err := work(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v", name, err)
		}
	}
	started, release := make(chan bool), make(chan bool)
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-started; cancel() }()
	if err := beside(ctx, func() { close(started); <-release }); !errors.Is(err, context.Canceled) { // else it hangs
		t.Error(err)
	}
	close(release)
	// Left alone it is the sum of the singular values: of a diagonal, its own.
	if sum, ok, err := nuclearNorm(t.Context(), mat.NewDense(2, 3, []float64{3, 0, 0, 0, -4, 0})); err != nil || !ok || math.Abs(sum-7) > 1e-12 {
		t.Errorf("%v %v %v", sum, ok, err)
	}
}
