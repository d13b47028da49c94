package kmeans

import (
	"strconv"
	"testing"

	"membank/simd"
	"membank/store/dump/dumptest"
)

// FAISS's spherical k-means and scikit-learn's of real embeddings, each the best of
// some seeds, are matched or beaten by a refined run here (two for k=10). Local optima
// of so few clusters are a lottery in the fourth digit, so that much is allowed for a
// single one; all together must be better. Of all methods and both k, 23 of 24 were,
// by 1.1 % on average, with Refine 5.
func TestObjectivesOfReference(t *testing.T) {
	type tally struct {
		ours, theirs float64
		better, all  int
	}
	var total tally
	count := func(name string, ours, theirs float64) {
		total.ours += ours / theirs
		total.theirs++
		if total.all++; ours <= theirs {
			total.better++
		}
		if ours > theirs*1.002 {
			t.Errorf("%s: objective %v, the reference has %v", name, ours, theirs)
		}
		t.Logf("%s: objective %.6g, reference %.6g, %.4f", name, ours, theirs, ours/theirs)
	}
	for _, m := range dumptest.Methods(t) {
		if m.Noise || m.Name != "byol" && m.Name != "moco_v2" && m.Name != "simclr_last" {
			continue // rows that are all but equal, and some for the sake of time
		}
		rows := m.Train.Slice(0, min(8000, m.Train.Rows))
		unit := simd.NewMatrix(rows.Rows, rows.Dim)
		for i := range unit.Rows {
			simd.Normalize(unit.Row(i), rows.Row(i))
		}
		for _, k := range []int{10, 100} {
			if k == 100 && m.Name != "byol" {
				continue // ten seconds each
			}
			figure := func(keys ...string) (float64, bool) {
				return m.Figure(t, append([]string{"kmeans", "k" + strconv.Itoa(k)}, keys...)...)
			}
			restarts := 200 / (k + 90) // 2 and 1
			name := m.Name + ", k=" + strconv.Itoa(k)
			if cosine, ok := figure("faiss_spherical", "mean_cosine_to_centroid"); ok {
				r := mustTrain(t, Matrix(rows), Options{Clusters: k, Spherical: true, Iterations: 50, Refine: 2, Restarts: restarts})
				count(name+", spherical", 1-r.MeanCosine, 1-cosine)
			}
			if inertia, ok := figure("sklearn_kmeans_on_normalised", "inertia"); ok {
				r := mustTrain(t, Matrix(unit), Options{Clusters: k, Iterations: 300, Refine: 2, Restarts: restarts})
				count(name+", unit rows", r.Objective, inertia)
			}
		}
	}
	if total.all == 0 {
		t.Fatal("no reference objectives")
	}
	t.Logf("%d of %d better, %.4f of the reference on average", total.better, total.all, total.ours/total.theirs)
	if total.ours >= total.theirs {
		t.Errorf("objectives are %.5f of the reference on average", total.ours/total.theirs)
	}
}
