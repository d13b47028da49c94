package eval

import (
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"testing"

	"membank/index/kmeans"
	"membank/simd"
	"membank/store/dump/dumptest"
)

// partitions are the labels of k-means runs that testdata/partitions.py has made anew,
// one run after another. Normalised rows were so in float64 and then rounded.
func partitions(t *testing.T, name string, rows int) (runs [][]int64) {
	t.Helper()
	labels := dumptest.Labels(t, filepath.Join("testdata", name+".npy"))
	if len(labels) == 0 || len(labels)%rows != 0 {
		t.Fatalf("%s: %d labels of %d rows", name, len(labels), rows)
	}
	for run := range slices.Chunk(labels, rows) {
		runs = append(runs, run)
	}
	return runs
}

// centroidsOf are the means of the rows of each cluster, or their directions.
func centroidsOf(rows simd.Matrix, labels []int64, k int, spherical bool) simd.Matrix {
	sums, counts := make([]float64, k*rows.Dim), make([]float64, k)
	for i, c := range labels {
		counts[c]++
		for d, v := range rows.Row(i) {
			sums[int(c)*rows.Dim+d] += float64(v)
		}
	}
	centroids := simd.NewMatrix(k, rows.Dim)
	for i, v := range sums {
		centroids.Data[i] = float32(v / max(1, counts[i/rows.Dim]))
	}
	if spherical {
		for c := range k {
			simd.Normalize(centroids.Row(c), slices.Clone(centroids.Row(c)))
		}
	}
	return centroids
}

// scikit-learn's partitions, with what it says of them; of the collapsed methods
// FAISS's, too. Agreement with the classes to 1e-9; the inertia to 1e-5, as that of the
// partition that our assignment makes of their centroids.
func referencePartitions(t *testing.T) {
	for _, m := range dumptest.Methods(t) {
		all := m.JSON(t)["kmeans"].(map[string]any)
		raw := m.Train.Slice(0, min(8000, m.Train.Rows))
		unit := simd.NewMatrix(raw.Rows, raw.Dim)
		for i := range unit.Rows {
			norm := simd.Norm(raw.Row(i))
			for d, v := range raw.Row(i) {
				unit.Row(i)[d] = float32(float64(v) / norm)
			}
		}
		for _, k := range []int{10, 100} {
			section := "k" + strconv.Itoa(k)
			figures := all[section].(map[string]any)
			for _, of := range []struct {
				file, name string
				rows       simd.Matrix
			}{
				{"sklearn", "sklearn_kmeans_on_normalised", unit},
				{"sklearn_raw", "sklearn_kmeans_on_raw", raw},
			} {
				want, has := figures[of.name].(map[string]any)
				if !has {
					continue
				}
				at := path.Join(m.Name, "kmeans", section, of.name)
				runs := partitions(t, m.Name+"_"+section+"_"+of.file, raw.Rows)
				assertAgreement(t, at, runs[0], m.TrainLabels, want)
				inertias := make([]float64, len(runs))
				for i, labels := range runs {
					a, err := kmeans.Assign(t.Context(), kmeans.Matrix(of.rows), centroidsOf(of.rows, labels, k, false), kmeans.AssignOptions{})
					if err != nil {
						t.Fatal(err)
					}
					inertias[i] = a.Objective
				}
				assertFigure(t, at, "inertia", inertias[0], want["inertia"], 1e-5)
				if single, has := want["single_run_inertia"].(map[string]any); has {
					assertFigure(t, at+"/single_run_inertia", "min", slices.Min(inertias[1:]), single["min"], 1e-5)
					assertFigure(t, at+"/single_run_inertia", "max", slices.Max(inertias[1:]), single["max"], 1e-5)
				}
			}
			if m.Noise {
				assertNoisePartitions(t, m, section, k, figures, raw)
			}
		}
	}
}

// assertNoisePartitions compares what FAISS's spherical k-means says of the rows of a
// collapsed method. Cosines there differ in their seventh digit, so they are compared
// to 1e-6, and their sum, which FAISS takes in float32, to 1e-5; 1−cos is rounding, and
// so are the inertia and which run is the best.
func assertNoisePartitions(t *testing.T, m dumptest.Method, section string, k int, figures map[string]any, rows simd.Matrix) {
	want := figures["faiss_spherical"].(map[string]any)
	at := path.Join(m.Name, "kmeans", section, "faiss_spherical")
	runs := partitions(t, m.Name+"_"+section+"_faiss", rows.Rows)
	best := runs[int(want["best_seed"].(float64))]
	assertAgreement(t, at, best, m.TrainLabels, want)
	sizes := make([]int, k)
	for _, c := range best {
		sizes[c]++
	}
	minmax := want["cluster_sizes_minmax"].([]any)
	assertFigure(t, at, "cluster_sizes_minmax/0", float64(slices.Min(sizes)), minmax[0], 0)
	assertFigure(t, at, "cluster_sizes_minmax/1", float64(slices.Max(sizes)), minmax[1], 0)
	cosines := make([]float64, len(runs))
	for i, labels := range runs {
		a, err := kmeans.Assign(t.Context(), kmeans.Matrix(rows), centroidsOf(rows, labels, k, true), kmeans.AssignOptions{Spherical: true})
		if err != nil {
			t.Fatal(err)
		}
		cosines[i] = a.MeanCosine
	}
	slices.Sort(cosines)
	n := len(cosines)
	spread := want["single_run_mean_cosine_over_seeds"].(map[string]any)
	assertFigure(t, at+"/single_run_mean_cosine_over_seeds", "min", cosines[0], spread["min"], 1e-6)
	assertFigure(t, at+"/single_run_mean_cosine_over_seeds", "median", (cosines[(n-1)/2]+cosines[n/2])/2, spread["median"], 1e-6)
	assertFigure(t, at+"/single_run_mean_cosine_over_seeds", "max", cosines[n-1], spread["max"], 1e-6)
	assertFigure(t, at, "mean_cosine_to_centroid", cosines[n-1], want["mean_cosine_to_centroid"], 1e-6)
	assertFigure(t, at, "faiss_last_obj", cosines[n-1]*float64(rows.Rows), want["faiss_last_obj"], 1e-5)
	if k == 10 {
		for name, labels := range map[string][]int64{"silhouette_cosine_faiss_first2000": best, "silhouette_cosine_true_labels_first2000": m.TrainLabels} {
			ours, err := silhouette(t.Context(), rows, labels, false, 2)
			if err != nil {
				t.Fatal(err)
			}
			assertFigure(t, path.Join(m.Name, "kmeans", section), name, ours, figures[name], 1e-5)
		}
	}
}

// assertAgreement wants the agreement of a partition with the classes.
func assertAgreement(t *testing.T, at string, labels, classes []int64, want map[string]any) {
	t.Helper()
	a, err := Agree(t.Context(), labels, classes[:len(labels)])
	if err != nil {
		t.Fatal(err)
	}
	assertFigure(t, at, "nmi_arithmetic", a.NMI, want["nmi_arithmetic"], 1e-9)
	assertFigure(t, at, "ari", a.ARI, want["ari"], 1e-9)
	assertFigure(t, at, "purity", a.Purity, want["purity"], 1e-9)
	assertFigure(t, at, "hungarian_acc", a.Hungarian, want["hungarian_acc"], 1e-9)
}

// assertFigure wants a leaf of the reference, and notes that it is reproduced.
func assertFigure(t *testing.T, at, name string, ours float64, theirs any, relative float64) {
	t.Helper()
	v, is := theirs.(float64)
	if !is {
		t.Errorf("%s/%s: the reference has %v", at, name, theirs)
		return
	}
	within(t, at+"/"+name, ours, v, relative)
	reproduces(at, name)
}
