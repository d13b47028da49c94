package cli

import (
	"math"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"membank/store/dump/dumptest"
)

func TestEvalClusters(t *testing.T) {
	moco(t)
	var r evaluated
	document(t, &r, "eval", "clusters", "train", "test", "-c", "10", "--seeds", "2", "--sample", "500")
	m := dumptest.Lookup(t, "moco_v2")
	if len(r.Results) != 2 || r.Results[0]["previous_nmi"] != nil || r.Results[1]["previous_rows"] != 1000.0 || r.Results[0]["silhouette_rows"] != 500.0 {
		t.Fatalf("%+v", r)
	}
	// The reference took the best of five seeds: as tight to a hundredth, and with the
	// labels as far as two optima agree.
	for name, slack := range map[string]float64{"mean_cosine_to_centroid": 0.01, "nmi_arithmetic": 0.03, "purity": 0.04} {
		want, ok := m.Figure(t, "kmeans", "k10", "faiss_spherical", name)
		if got, _ := r.Results[0][name].(float64); !ok || math.Abs(got-want) > slack {
			t.Errorf("%s is %v, the reference's %v", name, r.Results[0][name], want)
		}
	}
	document(t, &r, "eval", "clusters", "train", "-c", "3", "--seeds", "1", "--euclidean", "--whiten", "faiss", "--whiten-from", "test", "--whiten-dims", "8")
	if !strings.Contains(r.Protocol, "faiss whitening to 8 from test") || r.Results[0]["seeds_ari"] != nil || r.Results[0]["silhouette_euclidean"] == nil {
		t.Errorf("%+v", r)
	}
	if out := must(t, "eval", "clusters", "t*", "-c", "2", "--seeds", "1"); !strings.Contains(out, "test c=2  train c=2") || !strings.Contains(out, "without a value: one seed") {
		t.Error(out)
	}
	must(t, "ingest", "bare", filepath.Join(dumptest.Testdata(t, "ssl"), "moco_v2", "test_features.npy"))
	for _, c := range []struct {
		line string
		code int
		says string
	}{
		{"", exitUsage, "BANK"},
		{"train -c 0", exitUsage, "-c 0"},
		{"train --seeds 0", exitUsage, "--seeds"},
		{"train --sample 2", exitUsage, "--sample"},
		{"bare", exitBadInput, "say how many clusters"},
		{"train -c 2001 --seeds 1", exitBadInput, "2000 rows"},
		{"nobody", exitNotFound, "nobody"},
	} {
		r := run(t, append([]string{"eval", "clusters"}, strings.Fields(c.line)...)...)
		if r.code != c.code || !strings.Contains(r.err, c.says) || strings.Count(r.err, "\n") != 1 {
			t.Errorf("%s: exit %d, want %d: %s", c.line, r.code, c.code, r.err)
		}
	}
}

// Where an index keeps the rows is no part of a clustering: equal figures before and
// after it, with rows deleted, too.
func TestClustersDoNotDependOnTheLayout(t *testing.T) {
	moco(t)
	must(t, "rm", "train", "--where", "label == 3")
	type answer struct {
		clusters []map[string]any
		cluster  map[string]any
	}
	ask := func() (a answer) {
		var r evaluated
		document(t, &r, "eval", "clusters", "train", "-c", "7,30", "--seeds", "2", "--sample", "300")
		document(t, &a.cluster, "cluster", "train", "-c", "12", "--pca", "32")
		for name := range a.cluster {
			if strings.Contains(name, "seconds") || name == "previous" { // it remembers the first answer
				delete(a.cluster, name)
			}
		}
		a.clusters = r.Results
		return a
	}
	before := ask()
	must(t, "index", "build", "train", "--nlist", "24", "--seed", "5")
	after := ask()
	for i := range before.clusters {
		assertSame(t, after.clusters[i], before.clusters[i])
	}
	assertSame(t, after.cluster, before.cluster)
}

func assertSame(t *testing.T, after, before map[string]any) {
	t.Helper()
	if len(before) < 10 || len(after) != len(before) {
		t.Errorf("%d figures, and then %d", len(before), len(after))
	}
	for name, v := range before {
		if !reflect.DeepEqual(after[name], v) {
			t.Errorf("%s is %v, before index build %v", name, after[name], v)
		}
	}
}
