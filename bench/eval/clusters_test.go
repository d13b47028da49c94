package eval

import (
	"errors"
	"math"
	"math/rand/v2"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"membank/simd"
	"membank/store/dump"
	"membank/store/dump/dumptest"
)

// scikit-learn's silhouettes of FAISS's clusters and of the classes, in float64 from
// float32 rows.
func referenceSilhouette(t *testing.T) {
	m := dumptest.Lookup(t, "simclr_last")
	dir, _ := dumptest.Shared(t)
	l, err := dump.OpenLabels(filepath.Join(dir, "reference", "simclr_last_faiss_spherical_kmeans_k10.npz"), dump.Options{Array: "labels"})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	clusters := make([]int64, l.Rows())
	if _, err := l.Next(clusters); err != nil {
		t.Fatal(err)
	}
	for name, of := range map[string][]int64{
		"silhouette_cosine_faiss_first3000":       clusters,
		"silhouette_cosine_true_labels_first3000": m.TrainLabels,
	} {
		got, err := silhouette(t.Context(), m.Train.Slice(0, 3000), of[:3000], false, 2)
		want, ok := m.Figure(t, "kmeans", "k10", name)
		if !ok || err != nil {
			t.Fatal(name, err)
		}
		within(t, name, got, want, 1e-5)
		reproduces("simclr_last", "kmeans", "k10", name)
	}
}

// All pairs, in float64.
func TestSilhouetteAgainstDefinition(t *testing.T) {
	r := rand.New(rand.NewPCG(6, 6))
	m := dyadic(r, 40, 16)
	clusters := pick(r, 40, []int64{3, 4, -8})
	clusters[7] = 99 // alone
	for _, euclidean := range []bool{false, true} {
		distance := func(i, j int) float64 {
			p := Protocol{Metric: Cosine, Normalise: true}
			if euclidean {
				p = Protocol{Metric: L2}
			}
			s, d := similarity(p, m.Row(i), m.Row(j))
			if euclidean {
				return d
			}
			return 1 - s
		}
		want := 0.0
		for i := range m.Rows {
			sums, counts := map[int64]float64{}, map[int64]float64{}
			for j := range m.Rows {
				if j != i {
					sums[clusters[j]] += distance(i, j)
					counts[clusters[j]]++
				}
			}
			if counts[clusters[i]] == 0 {
				continue
			}
			a, b := sums[clusters[i]]/counts[clusters[i]], math.Inf(1)
			for c := range sums {
				if c != clusters[i] {
					b = math.Min(b, sums[c]/counts[c])
				}
			}
			if most := math.Max(a, b); most > 0 {
				want += (b - a) / most / float64(m.Rows)
			}
		}
		got, err := silhouette(t.Context(), m, clusters, euclidean, 3)
		if err != nil || math.Abs(got-want) > 1e-9 {
			t.Errorf("euclidean %v: %v, want %v (%v)", euclidean, got, want, err)
		}
	}
	for _, none := range [][]int64{make([]int64, 40), nil} {
		part := m
		if none == nil {
			part, none = m.Slice(0, 3), []int64{1, 2, 3}
		}
		if v, err := silhouette(t.Context(), part, none, false, 1); err != nil || !math.IsNaN(v) {
			t.Errorf("silhouette without meaning: %v %v", v, err)
		}
	}
}

// blobs are tight groups far apart, in turn.
func blobs(r *rand.Rand, rows, dim, groups int) (m simd.Matrix, labels []int64) {
	m = simd.NewMatrix(rows, dim)
	for i := range rows {
		labels = append(labels, int64(i%groups)*10)
		for d := range dim {
			m.Row(i)[d] = float32(0.02 * r.NormFloat64())
		}
		m.Row(i)[i%groups]++
	}
	return m, labels
}

func TestClustersOfBlobs(t *testing.T) {
	m, labels := blobs(rand.New(rand.NewPCG(1, 1)), 600, 8, 4)
	db := open(t)
	s := set(t, write(t, db, "blobs", m, labels))
	// The second bank has the same keys in the same order, so the same clusters.
	again := set(t, write(t, db, "again", m, labels))
	for _, euclidean := range []bool{false, true} {
		e := Clusters{Euclidean: euclidean, Seeds: 3}
		r, err := e.Evaluate(t.Context(), []*Set{s, again}, RunOptions{Threads: 2})
		if err != nil {
			t.Fatal(err)
		}
		if len(r.Results) != 4 {
			t.Fatalf("%d results", len(r.Results))
		}
		f := r.Results[0]
		for _, name := range []string{"nmi_arithmetic", "ami", "ari", "purity", "hungarian_acc", "seeds_ari", "seeds_nmi", "nmi_mean"} {
			within(t, name, number(t, f, name), 1, 1e-12)
		}
		within(t, "previous_ari", number(t, r.Results[2], "previous_ari"), 1, 0)
		within(t, "previous_rows", number(t, r.Results[2], "previous_rows"), 600, 0)
		if c := number(t, r.Results[1], "clusters"); c != 40 {
			t.Errorf("over-clustering to %v", c)
		}
		if h := number(t, r.Results[1], "hungarian_acc"); h > 0.5 || number(t, r.Results[1], "purity") != 1 {
			t.Errorf("over-clustering: %v", r.Results[1])
		}
		name := map[bool]string{false: "silhouette_cosine", true: "silhouette_euclidean"}[euclidean]
		if v := number(t, f, name); v < 0.8 {
			t.Errorf("%s of blobs is %v", name, v)
		}
		other, err := e.Evaluate(t.Context(), []*Set{s, again}, RunOptions{Threads: 5})
		if err != nil || !reflect.DeepEqual(other.Results, r.Results) {
			t.Errorf("with five threads %v, with two %v (%v)", other, r, err)
		}
	}
}

// The reference's own k-means, five seeds of FAISS, finds clusters as tight, and as
// near to the classes, as ours. Two local optima are two clusterings, so agreement
// with the labels is compared roughly: seeds differ by 0.01.
func TestReferenceClusters(t *testing.T) {
	m := dumptest.Lookup(t, "simclr_last")
	db := open(t)
	s := set(t, write(t, db, "train", m.Train, m.TrainLabels))
	r, err := Clusters{C: []int{10}, Seeds: 5}.Evaluate(t.Context(), []*Set{s}, RunOptions{})
	if err != nil {
		t.Fatal(err)
	}
	want := func(keys ...string) float64 {
		v, ok := m.Figure(t, append([]string{"kmeans", "k10", "faiss_spherical"}, keys...)...)
		if !ok {
			t.Fatal(keys)
		}
		return v
	}
	f := r.Results[0]
	if got, least := number(t, f, "mean_cosine_to_centroid"), want("single_run_mean_cosine_over_seeds", "median"); got < least {
		t.Errorf("mean cosine %v, FAISS's median %v", got, least)
	}
	within(t, "inertia", number(t, f, "inertia_unit_centroids"), want("inertia_unit_centroids"), 0.005)
	for _, name := range []string{"nmi_arithmetic", "ari", "purity", "hungarian_acc"} {
		if got := number(t, f, name); math.Abs(got-want(name)) > 0.03 {
			t.Errorf("%s is %v, FAISS's %v", name, got, want(name))
		}
	}
}

// Sets that break others: the figures that make no sense are missing, not 0 or 1.
func TestClustersEdges(t *testing.T) {
	db := open(t)
	equal := write(t, db, "equal", matrix(2, 1, 1, 1, 1, 1, 1, 1, 1), []int64{1, 1, 2, 2})
	for _, c := range []struct {
		s       *Set
		e       Clusters
		missing []string
	}{
		{set(t, write(t, db, "one", matrix(2, 1, 0), []int64{4})), Clusters{C: []int{1}}, []string{"nmi_arithmetic", "seeds_ari", "silhouette_cosine", "previous_nmi"}},
		{set(t, write(t, db, "bare", matrix(2, 1, 0, 0, 1, 1, 1), nil)), Clusters{C: []int{2}}, []string{"ari", "purity", "nmi_std", "previous_ari"}},
		{set(t, write(t, db, "class", matrix(2, 1, 0, 0, 1, 1, 1), []int64{3, 3, 3})), Clusters{C: []int{2}}, []string{"nmi_arithmetic", "purity"}},
		{set(t, equal), Clusters{C: []int{1}, Seeds: 1}, []string{"silhouette_cosine", "seeds_nmi", "nmi_std"}},
	} {
		r, err := c.e.Evaluate(t.Context(), []*Set{c.s}, RunOptions{})
		if err != nil {
			t.Fatal(c.s.use.Bank, err)
		}
		text, err := r.Results[0].MarshalJSON()
		if err != nil || strings.Contains(string(text), "NaN") {
			t.Error(string(text), err)
		}
		for _, name := range c.missing {
			if v, has := r.Results[0].Lookup(name); has || !strings.Contains(string(text), `"`+name+`":null`) {
				t.Errorf("%s: %s is %v, want none", c.s.use.Bank, name, v)
			}
		}
	}
	bare := set(t, snapshot(t, db, "bare"))
	if _, err := (Clusters{}).Evaluate(t.Context(), []*Set{bare}, RunOptions{}); !errors.Is(err, ErrNoLabels) {
		t.Error(err)
	}
	for _, e := range []Clusters{{C: []int{0}}, {Seeds: -1}, {Iterations: -1}, {Sample: 1}} {
		if _, err := e.Evaluate(t.Context(), []*Set{bare}, RunOptions{}); !errors.Is(err, ErrProtocol) {
			t.Errorf("%+v: %v", e, err)
		}
	}
	if _, err := (Clusters{C: []int{4}}).Evaluate(t.Context(), []*Set{bare}, RunOptions{}); err == nil {
		t.Error("three rows make four clusters")
	}
}
