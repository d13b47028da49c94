package eval

import (
	"cmp"
	"encoding/json"
	"fmt"
	"math"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"membank/index"
	"membank/simd"
	"membank/store/dump/dumptest"
)

// diagnose runs d and holds every result to what all have in common: JSON without
// NaN, and a reason for what is missing.
func diagnose(t testing.TB, d Diagnose, bank, views simd.Matrix, labels []int64) *Diagnosis {
	t.Helper()
	db := open(t)
	a := write(t, db, "a", bank, labels)
	b := a
	if views.Rows > 0 {
		b = write(t, db, "b", views, nil)
	} else {
		b = nil
	}
	r, err := d.Run(t.Context(), a, b, RunOptions{Threads: 2})
	if err != nil {
		t.Fatal(err)
	}
	checkFigures(t, r.Figures)
	return r
}

func checkFigures(t testing.TB, f Figures) {
	t.Helper()
	text, err := json.Marshal(f)
	if err != nil {
		t.Fatal(err)
	}
	var flat map[string]any
	if err := json.Unmarshal(text, &flat); err != nil {
		t.Fatal(err)
	}
	for _, g := range f {
		if _, twice := flat[g.Name]; !twice || (g.Value == nil) != (g.Missing != "") {
			t.Errorf("figure %q: value %v, missing %q", g.Name, g.Value, g.Missing)
		}
		delete(flat, g.Name)
		delete(flat, g.Name+"_missing")
	}
	if len(flat) > 0 {
		t.Errorf("names that are no figure, or twice: %v", flat)
	}
}

// assertFigures compares every figure of a part of the reference.
func assertFigures(t *testing.T, m dumptest.Method, part string, skip func(name string) bool, got ...*Diagnosis) {
	t.Helper()
	want, at := map[string]float64{}, map[string]string{}
	leaves("", m.JSON(t)[part], func(leaf string, v any) {
		if name := strings.ReplaceAll(leaf, "/", "_"); !strings.HasPrefix(name, "covariance") { // a list, compared elsewhere
			want[name], at[name] = v.(float64), path.Join(m.Name, part, leaf)
		}
	})
	if len(want) < 15 {
		t.Fatalf("%s has %d figures under %s", m.Name, len(want), part)
	}
	compared := 0
	for name, w := range want {
		if skip(name) {
			continue
		}
		reproduces(at[name])
		name = map[string]string{"N": "rows", "D": "dim"}[name] + strings.TrimPrefix(strings.TrimPrefix(name, "N"), "D")
		found := false
		for _, d := range got {
			v, ok := d.Lookup(name)
			if !ok {
				continue
			}
			found = true
			if math.Abs(v-w) > 1e-5*math.Abs(w) {
				t.Errorf("%s: %s is %.12g, the reference %.12g", m.Name, name, v, w)
			}
		}
		if !found {
			t.Errorf("%s: no figure %s", m.Name, name)
		}
		compared++
	}
	t.Logf("%s: %d figures equal the reference's", m.Name, compared)
}

// inFloat32 are the methods whose hubness by raw Euclidean distance the reference
// took from float32 distances, ‖a‖²+‖b‖²−2⟨a,b⟩: of those whose rows lie close to
// each other, relative to their length, neighbours changed places. Ours have to equal
// the float64 truth there, which naiveHubness is.
var inFloat32 = map[string]bool{"simclr_ep02": true, "nostopgrad_mild": true, "collapsed": true}

// naiveHubness is the skew, the maximum and the share of zeros of the number of times
// that each row is among the ten nearest of another, by float64 distances; and in how
// many rows the tenth and the eleventh are closer than float32 tells apart.
func naiveHubness(m simd.Matrix) (figures map[string]float64, close int) {
	counts := make([]float64, m.Rows)
	var mu sync.Mutex
	spread(2, m.Rows, func(_, i int) {
		type pair struct {
			row    int
			square float64
		}
		list := make([]pair, 0, m.Rows)
		longest := 0.0
		for j := range m.Rows {
			square, norm := 0.0, 0.0
			for d, v := range m.Row(j) {
				w := float64(v) - float64(m.Row(i)[d])
				square, norm = square+w*w, norm+float64(v)*float64(v)
			}
			longest = max(longest, norm)
			if j != i {
				list = append(list, pair{j, square})
			}
		}
		slices.SortStableFunc(list, func(a, b pair) int { return cmp.Compare(a.square, b.square) })
		mu.Lock()
		defer mu.Unlock()
		for _, p := range list[:10] {
			counts[p.row]++
		}
		if list[10].square-list[9].square < 8*0x1p-24*longest {
			close++
		}
	})
	var m2, m3, most, none float64
	for _, c := range counts {
		m2, m3, most = m2+(c-10)*(c-10), m3+(c-10)*(c-10)*(c-10), max(most, c)
		if c == 0 {
			none++
		}
	}
	n := float64(m.Rows)
	return map[string]float64{
		"skew_biased": m3 / n / math.Pow(m2/n, 1.5), "max_count": most, "antihub_frac": none / n,
	}, close
}

func diagnosisOfReferences(t *testing.T) {
	for _, m := range dumptest.Methods(t) {
		t.Run(m.Name, func(t *testing.T) {
			cosine := diagnose(t, Diagnose{PairRows: 100}, m.Train, simd.Matrix{}, m.TrainLabels)
			l2 := diagnose(t, Diagnose{Metric: index.L2, PairRows: 100}, m.Train, simd.Matrix{}, nil)
			assertFigures(t, m, "diagnostics_features", func(name string) bool {
				return inFloat32[m.Name] && strings.HasPrefix(name, "hubness_k10_euclidean_raw")
			}, cosine, l2)
			if inFloat32[m.Name] {
				truth, close := naiveHubness(m.Train)
				for name, want := range truth {
					within(t, name, number(t, l2.Figures, "hubness_k10_euclidean_raw_"+name), want, 1e-12)
				}
				if close == 0 {
					t.Error("float32 tells all neighbours apart: the reference should be right")
				}
			}
			var shares []float64
			for _, v := range m.JSON(t)["diagnostics_features"].(map[string]any)["covariance_top5_eigen_share"].([]any) {
				shares = append(shares, v.(float64))
			}
			for _, f := range cosine.Figures {
				if f.Name != "covariance_top5_eigen_share" {
					continue
				}
				for i, v := range f.Value.([]float64) {
					if math.Abs(v-shares[i]) > 1e-5*shares[i] {
						t.Errorf("eigenvalue %d holds %v, the reference %v", i, v, shares[i])
					}
					reproduces(m.Name, "diagnostics_features", f.Name, strconv.Itoa(i))
				}
			}
		})
	}
}

// viewsOf are the projections of two views that come with a method.
func viewsOf(t testing.TB, m dumptest.Method) (a, b simd.Matrix, ok bool) {
	if _, shared := dumptest.Shared(t); !shared {
		return a, b, false
	}
	dir := filepath.Dir(m.TrainPath)
	return dumptest.Features(t, filepath.Join(dir, "view1.npy")), dumptest.Features(t, filepath.Join(dir, "view2.npy")), true
}

func diagnosisOfReferenceViews(t *testing.T) {
	for _, m := range dumptest.Methods(t) {
		t.Run(m.Name, func(t *testing.T) {
			a, b, ok := viewsOf(t, m)
			if !ok {
				t.Skip("views are in the shared reference data only")
			}
			d := diagnose(t, Diagnose{}, a, b, nil)
			// Which view is nearest the reference took from float32 cosines: of the
			// collapsed methods that is rounding.
			assertFigures(t, m, "diagnostics_views", func(name string) bool {
				return m.Noise && strings.HasPrefix(name, "instance")
			}, d)
		})
	}
}

// ofEqualSize are the diagnoses of the first 2000 rows of a method, and of its first
// 500 pairs of views if they are at hand: as many as every method has.
func ofEqualSize(t *testing.T, m dumptest.Method) (rows, views *Diagnosis) {
	if known, ok := equalSizes[m.Name]; ok {
		return known[0], known[1]
	}
	rows = diagnose(t, Diagnose{PairRows: 100}, m.Train.Slice(0, 2000), simd.Matrix{}, m.TrainLabels[:2000])
	if a, b, ok := viewsOf(t, m); ok {
		views = diagnose(t, Diagnose{PairRows: 100}, a.Slice(0, 500), b.Slice(0, 500), nil)
	}
	equalSizes[m.Name] = [2]*Diagnosis{rows, views}
	return rows, views
}

var equalSizes = map[string][2]*Diagnosis{}

func TestVerdicts(t *testing.T) {
	want := map[string]Verdict{
		"collapsed": CompleteCollapse, "nostopgrad_mild": CompleteCollapse, "random_init": Weak,
		"byol": Healthy, "moco_v2": Healthy, "simclr_ep02": Healthy, "simclr_ep06": Healthy, "simclr_last": Healthy,
	}
	for _, m := range dumptest.Methods(t) {
		d, v := ofEqualSize(t, m)
		if d.Verdict != want[m.Name] {
			t.Errorf("%s is %s, want %s: %v", m.Name, d.Verdict, want[m.Name], d.Reasons)
		}
		for _, r := range d.Reasons {
			if r.Source == "" || r.Says == "" || (r.Value < r.Threshold) != r.Below {
				t.Errorf("%s: reason %+v", m.Name, r)
			}
		}
		if v == nil {
			continue
		}
		if good := want[m.Name] == Healthy; (v.Verdict == Healthy) != good {
			t.Errorf("the views of %s are %s: %v", m.Name, v.Verdict, v.Reasons)
		}
	}
}

// Other images, another encoder: the demo set.
func TestVerdictsOfTheDemoSet(t *testing.T) {
	for name, want := range map[string]Verdict{"untrained": Weak, "simclr": Healthy} {
		d := diagnose(t, Diagnose{PairRows: 100}, dumptest.Features(t, filepath.Join(demo(t), name+"_train.npy")), simd.Matrix{}, nil)
		if d.Verdict != want {
			t.Errorf("%s is %s, want %s: %v", name, d.Verdict, want, d.Reasons)
		}
	}
}

// Along the epochs of one run every figure that should rise does.
func TestEpochsAreOrdered(t *testing.T) {
	last := map[string]float64{}
	for _, name := range []string{"simclr_ep02", "simclr_ep06", "simclr_last"} {
		m := dumptest.Lookup(t, name)
		d, v := ofEqualSize(t, m)
		for figure, of := range map[string]*Diagnosis{
			"rankme_raw": d, "participation_ratio_raw": d, "knn_k10_leave_one_out_top1": d,
			"infonce_T0.1_bound_nats": v, "instance_retrieval_top1_v1_to_v2": v,
		} {
			value, ok := of.Lookup(figure)
			if !ok || value <= last[figure] {
				t.Errorf("%s: %s is %v after %v", name, figure, value, last[figure])
			}
			last[figure] = value
		}
		uniform, _ := v.Lookup("uniform_t2_mean")
		if uniform >= last["uniform"] {
			t.Errorf("%s: uniformity is %v after %v", name, uniform, last["uniform"])
		}
		last["uniform"] = uniform
	}
}

// Test vectors of the published formulas.
func TestFormulas(t *testing.T) {
	near := func(name string, got, want float64) {
		t.Helper()
		if math.Abs(got-want) > 5e-5 {
			t.Errorf("%s: %v, want %v", name, got, want)
		}
	}
	near("RankMe of diag(3,1)", RankMe([]float64{3, 1}, 0), 1.7548)
	near("RankMe of its squares", RankMe([]float64{9, 1}, 0), 1.3841)
	h := NewHubness([]int64{4, 1, 1, 0, 0, 0}, 1)
	near("skew", h.Skew, 1.4142)
	near("Robin Hood", h.RobinHood, 0.5)
	near("hub share", h.HubShare, 4.0/6)
	near("antihubs", h.Antihubs, 0.5)
	near("groupie", h.Groupie, 4.0/6)
	near("Gini", h.Gini, 48.0/72) // Σᵢⱼ|xᵢ−xⱼ|/(2n²·mean)
	near("Atkinson", h.Atkinson, 1-16.0/36)
	triangle := matrix(2, 1, 0, -0.5, float32(math.Sqrt(0.75)), -0.5, -float32(math.Sqrt(0.75)))
	p, err := AllPairs(t.Context(), triangle, nil, 1)
	if err != nil {
		t.Fatal(err)
	}
	near("uniformity of a triangle", p.Uniform, -6)
	for dim, floor := range map[int]float64{8: -3.08, 32: -3.75, 128: -3.94, 512: -3.98} {
		if got := uniformFloor(dim); math.Abs(got-floor) > 5e-3 {
			t.Errorf("uniformity in %d dimensions: %v, want %v", dim, got, floor)
		}
	}
	// λ = i^−1.5 exactly.
	values := make([]float64, 120)
	for i := range values {
		values[i] = math.Pow(float64(i+1), -1.5)
	}
	alpha, r2, ok := PowerLaw(values)
	if !ok {
		t.Error("no power law")
	}
	near("alpha", alpha, 1.5)
	near("R²", r2, 1)
	// Two pairs of views: NT-Xent of ssl vectors by hand.
	a, b := matrix(2, 1, 0, 0, 1), matrix(2, 1, 0, 0, 2)
	c, err := Contrasts(t.Context(), a, b, []float64{0.5}, 1)
	if err != nil {
		t.Fatal(err)
	}
	near("alignment of equal views", c.Align2, 0)
	near("InfoNCE", c.Losses[0].InfoNCE[0], math.Log(1+math.Exp(-2)))
	near("NT-Xent", c.Losses[0].NTXent, math.Log(1+2*math.Exp(-2)))
	near("ReLIC of equal views", c.Losses[0].ReLIC, 0)
	q, err := QueueLoss(t.Context(), matrix(2, 1, 0), matrix(2, 1, 1), matrix(2, 0, 1), 0.5, 1)
	if err != nil {
		t.Fatal(err)
	}
	near("queue", q, math.Log(1+math.Exp(-math.Sqrt2)))
}

// The losses once more, one pair after another.
func TestContrastsNaively(t *testing.T) {
	const n, dim, temperature = 37, 5, 0.3
	a, b := dense(n, dim, 1), dense(n, dim, 2)
	for i := range a.Data {
		b.Data[i] = a.Data[i] + b.Data[i]/2
	}
	cosine := func(x, y []float32) float64 {
		var xy, xx, yy float64
		for i := range x {
			xy, xx, yy = xy+float64(x[i])*float64(y[i]), xx+float64(x[i])*float64(x[i]), yy+float64(y[i])*float64(y[i])
		}
		return xy / math.Sqrt(xx*yy)
	}
	var relic, negatives, variance, exps float64
	for i := range n {
		var p, q []float64
		var sp, sq float64
		for j := range n {
			p = append(p, math.Exp(cosine(a.Row(i), b.Row(j))/temperature))
			q = append(q, math.Exp(cosine(b.Row(i), a.Row(j))/temperature))
			sp, sq = sp+p[j], sq+q[j]
		}
		var list []float64
		for j := range n {
			relic += p[j] / sp * math.Log(p[j]/sp/(q[j]/sq)) / n
			if j != i {
				list = append(list, cosine(a.Row(i), b.Row(j)))
				exps += p[j] / (n - 1) / n
			}
		}
		mean := 0.0
		for _, v := range list {
			mean += v / float64(len(list))
		}
		for _, v := range list {
			variance += (v - mean) * (v - mean) / float64(len(list)) / n
		}
		negatives += mean / n
	}
	var first *Contrast
	for _, threads := range []int{1, 3} {
		c, err := Contrasts(t.Context(), a, b, []float64{temperature}, threads)
		if err != nil {
			t.Fatal(err)
		}
		for name, pair := range map[string][2]float64{
			"ReLIC": {c.Losses[0].ReLIC, relic}, "negatives": {c.NegativeCosine, negatives},
			"variance": {c.NegativeVar, variance}, "exponentials": {c.Losses[0].MeanNegs, exps},
		} {
			if math.Abs(pair[0]-pair[1]) > 1e-9*math.Abs(pair[1]) {
				t.Errorf("%s: %v, want %v", name, pair[0], pair[1])
			}
		}
		if c.Positive.count() != n || c.Negative.count() != n*(n-1) {
			t.Errorf("%d and %d cosines counted", c.Positive.count(), c.Negative.count())
		}
		if first == nil {
			first = c
		} else if fmt.Sprint(*c) != fmt.Sprint(*first) {
			t.Errorf("%d threads differ from one", threads)
		}
	}
}
