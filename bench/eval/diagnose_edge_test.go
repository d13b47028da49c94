package eval

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"

	"membank/simd"
	"membank/store"
)

// Sets that break the originals: a figure is right or missing with a reason, and
// nothing is NaN (checkFigures).
func TestDiagnoseOddSets(t *testing.T) {
	same := simd.NewMatrix(40, 6)
	for i := range same.Data {
		same.Data[i] = float32(i%6) + 1
	}
	one := make([]int64, 40)
	for name, c := range map[string]struct {
		rows    simd.Matrix
		labels  []int64
		verdict Verdict
		want    map[string]float64 // NaN: missing
	}{
		"a single row": {dense(1, 5, 1), []int64{3}, Undetermined, map[string]float64{
			"rows": 1, "exact_duplicate_rows": 0, "mean_unit_vector_norm": 1,
			"mean_pairwise_cosine": math.NaN(), "rankme_raw": math.NaN(), "uniform_t2": math.NaN(),
		}},
		"two rows": {matrix(2, 1, 0, 0, 1), nil, Undetermined, map[string]float64{
			"mean_pairwise_cosine": 0, "uniform_t2": -4, "rankme_raw_eps0": 2, "participation_ratio_raw": 1,
			"hubness_k10_cosine_skew_biased": math.NaN(), "nearest_neighbour_cosine": 0, "alpha_req": math.NaN(),
		}},
		"identical rows": {same, one, CompleteCollapse, map[string]float64{
			"exact_duplicate_rows": 39, "mean_pairwise_cosine": 1, "mean_unit_vector_norm": 1, "uniform_t2": 0,
			"per_dim_std_l2norm_times_sqrtD": 0, "rankme_raw_eps0": 1, "dims_with_std_raw_lt_1e6": 6,
			"near_duplicate_frac_cos_gt_0.999": 1, "participation_ratio_raw": math.NaN(), "same_class_cosine": math.NaN(),
			"knn_k10_leave_one_out_top1": math.NaN(), "commonest_class_share": 1, "hubness_k10_cosine_skew_biased": math.NaN(),
		}},
		"identical rows that round": {repeatRow(dense(1, 50, 8), 43), nil, CompleteCollapse, map[string]float64{
			"exact_duplicate_rows": 42, "uniform_t2": 0, "per_dim_std_raw_mean": 0, "rankme_centred": 0, "participation_ratio_raw": math.NaN(),
			"participation_ratio_l2normalised": math.NaN(), "alpha_req": math.NaN(), "covariance_top5_eigen_share": math.NaN(),
		}},
		"zero rows": {simd.NewMatrix(33, 4), nil, CompleteCollapse, map[string]float64{
			"zero_rows": 33, "exact_duplicate_rows": 32, "mean_row_norm": 0, "mean_unit_vector_norm": math.NaN(),
			"mean_pairwise_cosine": math.NaN(), "uniform_t2": 0, "rankme_raw": 0,
		}},
		"fewer rows than dimensions": {dense(20, 300, 2), nil, Undetermined, map[string]float64{
			"rows": 20, "dim": 300, "zero_rows": 0,
		}},
		"one class": {dense(64, 8, 3), make([]int64, 64), Healthy, map[string]float64{
			"same_class_cosine": math.NaN(), "knn_k10_leave_one_out_top1": math.NaN(),
		}},
	} {
		t.Run(name, func(t *testing.T) {
			d := diagnose(t, Diagnose{}, c.rows, simd.Matrix{}, c.labels)
			if d.Verdict != c.verdict {
				t.Errorf("%s, want %s: %v", d.Verdict, c.verdict, d.Reasons)
			}
			for figure, want := range c.want {
				got, ok := d.Lookup(figure)
				if ok == math.IsNaN(want) || ok && math.Abs(got-want) > 1e-6 {
					t.Errorf("%s is %v (%v), want %v", figure, got, ok, want)
				}
			}
			// Views that are the rows themselves.
			v := diagnose(t, Diagnose{}, c.rows, c.rows, c.labels)
			if got, ok := v.Lookup("align_alpha2"); ok && math.Abs(got) > 1e-12 {
				t.Errorf("equal views are %v apart", got)
			}
		})
	}
}

// With fewer rows than dimensions the rank comes from the other side, and is the same.
func TestDualSpectrum(t *testing.T) {
	wide := dense(30, 64, 4)
	tall := simd.NewMatrix(90, 64) // every row three times: eigenvalues times three
	for i := range tall.Rows {
		copy(tall.Row(i), wide.Row(i%30))
	}
	a, b := diagnose(t, Diagnose{}, wide, simd.Matrix{}, nil), diagnose(t, Diagnose{}, tall, simd.Matrix{}, nil)
	for _, name := range []string{
		"rankme_raw_eps0", "rankme_l2normalised", "rankme_centred", "participation_ratio_raw", "participation_ratio_l2normalised",
		"per_dim_std_l2norm_mean_ddof0", "mean_row_norm",
	} {
		x, _ := a.Lookup(name)
		y, ok := b.Lookup(name)
		if !ok || math.Abs(x-y) > 1e-4*math.Abs(y) {
			t.Errorf("%s: %v and %v", name, x, y)
		}
	}
	n, _ := b.Lookup("exact_duplicate_rows")
	if n != 60 {
		t.Errorf("%v repeated rows", n)
	}
}

// Deleted rows count for nothing; nor do threads, samples aside.
func TestDiagnoseDeletedRowsAndThreads(t *testing.T) {
	m := dense(700, 12, 5)
	db := open(t)
	whole := write(t, db, "rest", m.Slice(0, 600), nil)
	write(t, db, "cut", m, nil)
	var rows []int64
	for i := int64(600); i < 700; i++ {
		rows = append(rows, i)
	}
	if _, err := db.DeleteRows(t.Context(), "cut", rows); err != nil {
		t.Fatal(err)
	}
	cut := snapshot(t, db, "cut")
	run := func(s *store.Snapshot, threads int, d Diagnose) string {
		r, err := d.Run(t.Context(), s, nil, RunOptions{Threads: threads})
		if err != nil {
			t.Fatal(err)
		}
		r.Figures[0].Value, r.Figures[1].Value, r.Figures[len(r.Figures)-1].Value = "", 0, 0
		for i := range r.Figures {
			if r.Figures[i].Name == "seconds" || r.Figures[i].Name == "generation" {
				r.Figures[i].Value = 0
			}
		}
		return fmt.Sprint(r.Figures)
	}
	for _, d := range []Diagnose{{}, {NeighbourRows: 200, PairRows: 100, Seed: 7}} {
		want := run(whole, 1, d)
		if got := run(whole, 3, d); got != want {
			t.Errorf("three threads\n%s\none\n%s", got, want)
		}
		if got := run(cut, 2, d); d.NeighbourRows == 0 && got != want {
			t.Errorf("rows deleted\n%s\nnever there\n%s", got, want)
		}
	}
	if a, b := run(whole, 2, Diagnose{NeighbourRows: 200, Seed: 1}), run(whole, 2, Diagnose{NeighbourRows: 200, Seed: 2}); a == b {
		t.Error("another seed takes the same sample")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := (Diagnose{}).Run(ctx, whole, nil, RunOptions{}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

// A closed form: objects at ±4 and ±2 along two axes, views ±1 around each along
// both, so Σw is 2 in each direction and Σb has 32/3 and 8/3.
func TestLiDAR(t *testing.T) {
	var m []float32
	var groups [][]int
	for _, o := range [][2]float32{{4, 0}, {-4, 0}, {0, 2}, {0, -2}} {
		var g []int
		for _, v := range [][2]float32{{1, 1}, {-1, -1}, {1, -1}, {-1, 1}} {
			g = append(g, len(m)/2)
			m = append(m, o[0]+v[0], o[1]+v[1])
		}
		groups = append(groups, g)
	}
	// λ = 8 and 2 up to a common factor: p = 0.8, 0.2.
	want := math.Exp(-0.8*math.Log(0.8) - 0.2*math.Log(0.2))
	got, err := LiDAR(t.Context(), matrix(2, m...), groups, 1e-12, 0, 2)
	if err != nil || math.Abs(got-want) > 1e-6 {
		t.Errorf("%v, want %v (%v)", got, want, err)
	}
	for _, bad := range [][][]int{nil, {{0, 1}}, {{0, 1}, {2}}} {
		if _, err := LiDAR(t.Context(), matrix(2, m...), bad, 1e-4, 0, 1); !errors.Is(err, errLiDAR) {
			t.Errorf("%v: %v", bad, err)
		}
	}
	// The same through a bank, objects named by an attribute and by keys.
	db := open(t)
	w, err := db.NewWriter(t.Context(), "views", 2, store.WriterOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Abort()
	rows := store.Rows{Vectors: matrix(2, m...), Attributes: []store.Attribute{{Name: "object"}, {Name: "step"}}}
	for i := range 16 {
		rows.Keys = append(rows.Keys, fmt.Sprintf("img%d.png#%d", i/4, i%4))
		rows.Attributes[0].Values = append(rows.Attributes[0].Values, store.Int(int64(i/4)))
		step := store.Int(int64(100 - 2*i))
		if i == 3 {
			step = store.Value{}
		}
		rows.Attributes[1].Values = append(rows.Attributes[1].Values, step)
	}
	if err := w.Append(t.Context(), rows); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	s := snapshot(t, db, "views")
	for _, by := range []string{"object", "key"} {
		d, err := Diagnose{GroupBy: by}.Run(t.Context(), s, nil, RunOptions{})
		if err != nil {
			t.Fatal(err)
		}
		checkFigures(t, d.Figures)
		if v, ok := d.Lookup("lidar"); !ok || math.Abs(v-want) > 1e-4 {
			t.Errorf("by %s: %v, want %v", by, v, want)
		}
		for name, want := range map[string]float64{"rows_never_updated": 1, "age_max": 30, "age_mean": 234.0 / 15} {
			if v, ok := d.Lookup(name); !ok || math.Abs(v-want) > 1e-9 {
				t.Errorf("%s is %v, want %v", name, v, want)
			}
		}
	}
	for _, d := range []Diagnose{{GroupBy: "colour"}, {StepBy: "epoch"}} {
		if _, err := d.Run(t.Context(), s, nil, RunOptions{}); !errors.Is(err, ErrNoAttribute) {
			t.Errorf("an attribute that is not there: %v", err)
		}
	}
}

func TestDiagnoseRefuses(t *testing.T) {
	db := open(t)
	a, b := write(t, db, "a", dense(8, 4, 1), nil), write(t, db, "b", dense(8, 5, 1), nil)
	if _, err := (Diagnose{}).Run(t.Context(), a, b, RunOptions{}); !errors.Is(err, store.ErrDim) || !strings.Contains(err.Error(), "5") {
		t.Errorf("views of another dimension: %v", err)
	}
	w, err := db.NewWriter(t.Context(), "c", 4, store.WriterOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Abort()
	if err := w.Append(t.Context(), store.Rows{Vectors: dense(1, 4, 2), Keys: []string{"other"}}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := (Diagnose{}).Run(t.Context(), a, snapshot(t, db, "c"), RunOptions{}); !errors.Is(err, ErrUnmatched) {
		t.Errorf("views of no row: %v", err)
	}
}

func repeatRow(m simd.Matrix, times int) simd.Matrix {
	out := simd.NewMatrix(times, m.Dim)
	for i := range times {
		copy(out.Row(i), m.Row(0))
	}
	return out
}

// A row that is not finite, which no bank should hold, is counted and spoils nothing.
func TestCensusCountsWhatIsNotFinite(t *testing.T) {
	c := newCensus(2)
	for _, x := range [][]float32{{3, 4}, {float32(math.NaN()), 1}, {1, float32(math.Inf(1))}, {0, 0}} {
		c.count(x)
	}
	if c.bad != 2 || c.rows != 2 || c.zeros != 1 || c.normSum != 5 || c.sum[0] != 3 || c.unitSum[1] != 0.8 {
		t.Errorf("%+v", c)
	}
}
