package eval

import (
	"encoding/json"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"membank/index"
	"membank/index/kmeans"
	"membank/simd"
	"membank/store/dump/dumptest"
)

// reproduced are the leaves of the reference's JSON that a test has compared with a
// figure of ours, as method/section/…/name.
var reproduced = map[string]bool{}

func reproduces(elem ...string) { reproduced[path.Join(elem...)] = true }

// leaves calls fn with every number, word and list element below v, in any order.
func leaves(at string, v any, fn func(at string, v any)) {
	switch v := v.(type) {
	case map[string]any:
		for key, inner := range v {
			leaves(path.Join(at, key), inner, fn)
		}
	case []any:
		for i, inner := range v {
			leaves(path.Join(at, strconv.Itoa(i)), inner, fn)
		}
	case nil:
	default:
		fn(at, v)
	}
}

// unreproduced are the leaves that no figure of ours can equal, and why. Each pattern
// (path.Match, of the whole leaf) has to match something.
var unreproduced = []struct{ pattern, why string }{
	// Not figures.
	{"*/method", "a name"}, {"*/checkpoint", "a name"}, {"*/dtype", "of the file"},
	{"cross_method/rows", "a setting"}, {"cross_method/check_gram_form_first1000/pair", "a name"},
	{"*/sha256_*", "of the arrays as they were exported; the features are compared with their neighbours in package dumptest"},
	{"*/versions/*", "of the reference's code"}, {"cross_method/methods/*", "names"},
	{"*/neighbours/k", "a setting"}, {"*/neighbours/queries", "a setting"},
	{"*/kmeans/rows", "a setting"}, {"*/kmeans/*/*/n_init", "a setting"}, {"*/kmeans/*/*/random_state", "a setting"},
	{"*/kmeans/*/*/niter", "a setting"}, {"*/kmeans/*/*/nredo", "a setting"}, {"*/kmeans/*/*/seeds_tried", "a setting"},
	{"*/ivf/*/nlist", "a setting"}, {"*/ivf/*/spherical_kmeans", "a setting"}, {"*/ivf/*/niter", "a setting"}, {"*/ivf/*/seed", "a setting"},
	{"*/ivf/*/curve/*/nprobe", "a setting"},
	// Rounding of the reference itself.
	{"*/neighbours/ip_ids_equal_float64_order_frac", "how far FAISS's float32 is from float64"},
	{"*/neighbours/adjacent_score_gaps_lt_1e6_frac", "the same"},
	{"*/neighbours/ip_self_max_abs_err_vs_float64", "the same"},
	{"*/*/float64_stable_T0.07/*/queries_*", "queries that float32 may decide otherwise; TestReferencePredictions compares the gap of each"},
	{"collapsed/knn/*/*/*", "cosines lie within float32's rounding: the data's README forbids to compare"},
	{"nostopgrad_mild/knn/*/*/*", "the same"},
	{"collapsed/neighbours/*", "the same, and FAISS's expanded L2 in float32"}, {"nostopgrad_mild/neighbours/*", "the same"},
	{"collapsed/diagnostics_views/instance_retrieval_top1_v1_to_v2", "the same"},
	{"nostopgrad_mild/diagnostics_views/instance_retrieval_top1_v1_to_v2", "the same"},
	{"collapsed/kmeans/*/faiss_spherical/inertia_unit_centroids", "1−cos below what float32 resolves"}, {"nostopgrad_mild/kmeans/*/faiss_spherical/inertia_unit_centroids", "the same"},
	{"collapsed/kmeans/*/faiss_spherical/best_seed", "the same"}, {"nostopgrad_mild/kmeans/*/faiss_spherical/best_seed", "the same"},
	{"collapsed/diagnostics_features/hubness_k10_euclidean_raw/*", "of float32 distances: TestEveryReferenceFigure/diagnosis wants the float64 truth"},
	{"nostopgrad_mild/diagnostics_features/hubness_k10_euclidean_raw/*", "the same"},
	{"simclr_ep02/diagnostics_features/hubness_k10_euclidean_raw/*", "the same, of one pair of neighbours"},
	// Of other partitions than ours: a k-means ends in one of many local optima.
	{"*/ivf/*/list_size/*", "of FAISS's lists, which are stored nowhere; the ladder of our own is in package index"},
	{"*/ivf/*/curve/*/*", "the same; what 1 means at all lists is asserted there, too"},
}

// TestEveryReferenceFigure runs the comparisons with the reference data, and then looks
// at every leaf of every JSON file there: a test has compared it, or unreproduced says
// why not. Counts are compared exactly, the rest to 1e-5 or closer; where the reference
// is float32, the tests say so.
func TestEveryReferenceFigure(t *testing.T) {
	shared, whole := dumptest.Shared(t)
	ran := 0
	for _, part := range []struct {
		name string
		test func(*testing.T)
	}{
		{"accuracies", referenceAccuracies},
		{"accuracies of fewer rows", referenceAccuraciesOfFewerRows},
		{"retrieval", referenceRetrieval},
		{"diagnosis", diagnosisOfReferences},
		{"diagnosis of views", diagnosisOfReferenceViews},
		{"comparison", comparisonOfReferences},
		{"neighbours", referenceNeighbours},
		{"agreement", referenceAgreement},
		{"silhouette", referenceSilhouette},
		{"clusters from the same start", referenceClustersFromTheSameStart},
		{"partitions", referencePartitions},
		{"duplicates", referenceDuplicates},
		{"shapes", referenceShapes},
	} {
		t.Run(part.name, func(t *testing.T) { ran++; part.test(t) })
	}
	if !whole || ran < 13 || t.Failed() {
		return // parts were asked for, or part of the data is here
	}
	used := make([]int, len(unreproduced))
	compared, explained := 0, 0
	files, err := filepath.Glob(filepath.Join(shared, "reference", "*.json"))
	if err != nil || len(files) < 10 {
		t.Fatalf("%d files (%v)", len(files), err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var v any
		if err := json.Unmarshal(text, &v); err != nil {
			t.Fatal(file, err)
		}
		leaves(strings.TrimSuffix(filepath.Base(file), ".json"), v, func(at string, v any) {
			if reproduced[at] {
				compared++
				return
			}
			for i, u := range unreproduced {
				if ok, err := path.Match(u.pattern, at); err != nil {
					t.Fatal(u.pattern, err)
				} else if ok {
					used[i]++
					explained++
					return
				}
			}
			t.Errorf("%s = %v: neither compared nor explained", at, v)
		})
	}
	for i, u := range unreproduced {
		if used[i] == 0 {
			t.Errorf("%s (%s) is a figure of nothing, or of what is compared", u.pattern, u.why)
		}
		t.Logf("%4d %s: %s", used[i], u.pattern, u.why)
	}
	t.Logf("%d leaves compared, %d explained", compared, explained)
}

// The means of FAISS's neighbour scores, in float32.
func referenceNeighbours(t *testing.T) {
	for _, m := range dumptest.Methods(t) {
		want, ok := m.JSON(t)["neighbours"].(map[string]any)
		if !ok || m.Noise {
			continue
		}
		queries, k := int(want["queries"].(float64)), int(want["k"].(float64))
		ix, err := index.FromMatrix(m.Train, index.MatrixOptions{})
		if err != nil {
			t.Fatal(err)
		}
		for name, metric := range map[string]index.Metric{"ip_scores_mean": index.Cosine, "l2_sqdist_mean": index.L2} {
			found, err := ix.Search(t.Context(), m.Test.Slice(0, queries), index.Options{K: k, Metric: metric})
			if err != nil {
				t.Fatal(err)
			}
			mean := 0.0
			for _, list := range found.Hits {
				for _, h := range list {
					mean += float64(h.Score) / float64(queries*k)
				}
			}
			within(t, m.Name+" "+name, mean, want[name].(float64), 1e-5)
			reproduces(m.Name, "neighbours", name)
		}
	}
}

// startOfFAISS is the rows that FAISS's k-means takes for its first centroids: the
// first k of a random permutation, by the 32-bit Mersenne Twister, seeded by one more
// than the clustering's seed.
func startOfFAISS(rows, k int, seed uint32) []int {
	twister := newTwister(seed + 1)
	order := make([]int, rows)
	for i := range order {
		order[i] = i
	}
	for i := range rows - 1 {
		j := i + int(twister.next())%(rows-i)
		order[i], order[j] = order[j], order[i]
	}
	return order[:k]
}

// twister is MT19937 (Matsumoto and Nishimura 1998).
type twister struct {
	state [624]uint32
	at    int
}

func newTwister(seed uint32) *twister {
	w := &twister{at: 624}
	w.state[0] = seed
	for i := 1; i < 624; i++ {
		w.state[i] = 1812433253*(w.state[i-1]^w.state[i-1]>>30) + uint32(i)
	}
	return w
}

func (w *twister) next() uint32 {
	if w.at == 624 {
		for i := range w.state {
			y := w.state[i]&0x80000000 | w.state[(i+1)%624]&0x7fffffff
			w.state[i] = w.state[(i+397)%624] ^ y>>1 ^ (y&1)*0x9908b0df
		}
		w.at = 0
	}
	y := w.state[w.at]
	w.at++
	y ^= y >> 11
	y ^= y << 7 & 0x9d2c5680
	y ^= y << 15 & 0xefc60000
	return y ^ y>>18
}

// The ten-thousandth number of seed 5489, which the C++ standard demands.
func TestTwister(t *testing.T) {
	w := newTwister(5489)
	for range 9999 {
		w.next()
	}
	if v := w.next(); v != 4123659995 {
		t.Errorf("%d", v)
	}
}

// From the rows that FAISS's spherical k-means starts from, ours ends in its
// partitions: every figure of it.
func referenceClustersFromTheSameStart(t *testing.T) {
	for _, m := range dumptest.Methods(t) {
		all, ok := m.JSON(t)["kmeans"].(map[string]any)
		if !ok || m.Noise {
			continue
		}
		rows := m.Train.Slice(0, min(8000, m.Train.Rows))
		for _, k := range []int{10, 100} {
			section := "k" + strconv.Itoa(k)
			figures := all[section].(map[string]any)
			want := figures["faiss_spherical"].(map[string]any)
			var best *kmeans.Result
			bestSeed := 0
			var cosines []float64
			for seed := range int(want["seeds_tried"].(float64)) {
				start := simd.NewMatrix(k, rows.Dim)
				for i, row := range startOfFAISS(rows.Rows, k, uint32(seed)) {
					simd.Normalize(start.Row(i), rows.Row(row))
				}
				r, err := kmeans.Train(t.Context(), kmeans.Matrix(rows), kmeans.Options{Clusters: k, Spherical: true, Iterations: 50, Centroids: start})
				if err != nil {
					t.Fatal(err)
				}
				cosines = append(cosines, r.MeanCosine)
				if best == nil || r.MeanCosine > best.MeanCosine {
					best, bestSeed = r, seed
				}
			}
			slices.Sort(cosines)
			n := len(cosines)
			labels := make([]int64, rows.Rows)
			for i, l := range best.Labels {
				labels[i] = int64(l)
			}
			a, err := Agree(t.Context(), labels, m.TrainLabels[:rows.Rows])
			if err != nil {
				t.Fatal(err)
			}
			spread := want["single_run_mean_cosine_over_seeds"].(map[string]any)
			sizes := want["cluster_sizes_minmax"].([]any)
			for _, f := range []struct {
				of, name string
				ours     float64
				theirs   any
			}{
				{"", "mean_cosine_to_centroid", best.MeanCosine, want["mean_cosine_to_centroid"]},
				{"", "inertia_unit_centroids", best.Objective, want["inertia_unit_centroids"]},
				{"", "faiss_last_obj", best.MeanCosine * float64(rows.Rows), want["faiss_last_obj"]},
				{"", "best_seed", float64(bestSeed), want["best_seed"]},
				{"single_run_mean_cosine_over_seeds", "min", cosines[0], spread["min"]},
				{"single_run_mean_cosine_over_seeds", "median", (cosines[(n-1)/2] + cosines[n/2]) / 2, spread["median"]},
				{"single_run_mean_cosine_over_seeds", "max", cosines[n-1], spread["max"]},
				{"cluster_sizes_minmax", "0", float64(best.Min), sizes[0]},
				{"cluster_sizes_minmax", "1", float64(best.Max), sizes[1]},
				{"", "nmi_arithmetic", a.NMI, want["nmi_arithmetic"]},
				{"", "ari", a.ARI, want["ari"]},
				{"", "purity", a.Purity, want["purity"]},
				{"", "hungarian_acc", a.Hungarian, want["hungarian_acc"]},
			} {
				within(t, fmt.Sprint(m.Name, " ", section, " ", f.of, f.name), f.ours, f.theirs.(float64), 1e-5)
				reproduces(m.Name, "kmeans", section, "faiss_spherical", f.of, f.name)
			}
			first := min(3000, rows.Rows)
			for name, of := range map[string][]int64{"silhouette_cosine_faiss_first": labels, "silhouette_cosine_true_labels_first": m.TrainLabels} {
				name += strconv.Itoa(first)
				theirs, has := figures[name]
				if !has {
					continue
				}
				ours, err := silhouette(t.Context(), rows.Slice(0, first), of[:first], false, 2)
				if err != nil {
					t.Fatal(err)
				}
				within(t, fmt.Sprint(m.Name, " ", section, " ", name), ours, theirs.(float64), 1e-5)
				reproduces(m.Name, "kmeans", section, name)
			}
		}
	}
}

// The numbers of rows and dimensions that all figures are of.
func referenceShapes(t *testing.T) {
	for _, m := range dumptest.Methods(t) {
		for name, rows := range map[string]simd.Matrix{"train_shape": m.Train, "test_shape": m.Test} {
			shape, ok := m.JSON(t)[name].([]any)
			if !ok || len(shape) != 2 || shape[0] != float64(rows.Rows) || shape[1] != float64(rows.Dim) {
				t.Errorf("%s: %s is %v, ours %d × %d", m.Name, name, shape, rows.Rows, rows.Dim)
			}
			reproduces(m.Name, name, "0")
			reproduces(m.Name, name, "1")
		}
	}
}
