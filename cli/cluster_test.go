package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"math"
	"path/filepath"
	"strings"
	"testing"

	"membank/store/dump"
)

// clusterJSON runs membank cluster and reads what it prints.
func clusterJSON(t *testing.T, args ...string) (r map[string]any) {
	t.Helper()
	text := must(t, append([]string{"cluster", "--json"}, args...)...)
	if err := json.Unmarshal([]byte(text), &r); err != nil {
		t.Fatal(err, text)
	}
	return r
}

// Twenty far groups of rows: their clusters are the classes, and every figure that
// compares the two says so.
func TestClusterFindsGroups(t *testing.T) {
	database(t)
	dir := t.TempDir()
	x, labels := manyRows(t, dir, "train", 900, 3)
	must(t, "ingest", "train", x, "--labels", labels)
	before := state(t)
	for _, how := range [][]string{{}, {"--spherical"}, {"--pca", "30"}, {"--refine", "2", "--restarts", "2"}, {"--swaps", "3"}, {"--pca", "40", "--whiten", "pca", "--spherical"}} {
		r := clusterJSON(t, append([]string{"train", "-c", "20", "--no-attribute"}, how...)...)
		for _, name := range []string{"nmi", "ami", "ari", "purity", "hungarian_acc"} {
			if v, _ := r[name].(float64); math.Abs(v-1) > 1e-9 {
				t.Errorf("%v: %s is %v", how, name, r[name])
			}
		}
		if r["clusters"] != 20.0 || r["empty"] != 0.0 || r["against"] != "labels" || r["compared_rows"] != 900.0 || r["converged"] != true {
			t.Errorf("%v: %v", how, r)
		}
		if (len(how) > 0 && how[len(how)-1] == "--spherical") != (r["mean_cosine"] != nil) {
			t.Errorf("%v: mean cosine %v", how, r["mean_cosine"])
		}
	}
	if after := state(t); after != before {
		t.Errorf("--no-attribute changed the bank:\n%s%s", before, after)
	}
}

// The clusters become an attribute; rows that are deleted have none; the next run
// is compared with it; the file holds what the attribute does.
func TestClusterWritesAttributeAndFile(t *testing.T) {
	database(t)
	dir := t.TempDir()
	x, labels := manyRows(t, dir, "train", 600, 4)
	must(t, "ingest", "train", x, "--labels", labels)
	must(t, "rm", "train", "--where", "row >= 100 && row < 150")
	file := filepath.Join(dir, "c.npz")
	r := clusterJSON(t, "train", "-c", "7", "--seed", "5", "-o", file, "--restarts", "2")
	if r["rows"] != 550.0 || r["previous"] != nil || r["attribute"] != "cluster" {
		t.Errorf("%v", r)
	}
	got := map[string][]float64{}
	for _, name := range []string{"labels", "scores", "centroids"} {
		got[name] = array(t, file, name)
	}
	if len(got["labels"]) != 600 || len(got["scores"]) != 600 || len(got["centroids"]) != 7*64 {
		t.Fatalf("%d labels, %d scores, %d numbers of centroids", len(got["labels"]), len(got["scores"]), len(got["centroids"]))
	}
	features := array(t, x, "")
	total := 0.0
	for row, label := range got["labels"] {
		if dead := row >= 100 && row < 150; dead {
			if label != -1 || !math.IsNaN(got["scores"][row]) {
				t.Fatalf("deleted row %d has label %v, score %v", row, label, got["scores"][row])
			}
			continue
		}
		best, least := -1, math.Inf(1)
		for c := range 7 {
			d := 0.0
			for i := range 64 {
				e := features[row*64+i] - got["centroids"][c*64+i]
				d += e * e
			}
			if d < least {
				best, least = c, d
			}
		}
		total += least
		if float64(best) != label || math.Abs(least-got["scores"][row]) > 1e-4*least {
			t.Fatalf("row %d: label %v at %v, nearest is %d at %v", row, label, got["scores"][row], best, least)
		}
	}
	if o, _ := r["objective"].(float64); math.Abs(o-total) > 1e-4*total {
		t.Errorf("objective %v, the file says %v", o, total)
	}
	var first struct{ Attributes map[string]any }
	line, _, _ := strings.Cut(must(t, "get", "train", "--rows", "3", "--json"), "\n")
	if err := json.Unmarshal([]byte(strings.Trim(line, "[]")), &first); err != nil {
		t.Fatal(err, line)
	}
	if first.Attributes["cluster"] != got["labels"][3] {
		t.Errorf("row 3 has attribute %v, label %v", first.Attributes["cluster"], got["labels"][3])
	}
	// The same again: nothing changes. With another seed and name it is compared
	// with the first.
	r = clusterJSON(t, "train", "-c", "7", "--seed", "5", "--restarts", "2", "--threads", "3")
	if p, _ := r["previous"].(map[string]any); p == nil || p["changed"] != 0.0 || p["nmi"] != 1.0 {
		t.Errorf("previous: %v", r["previous"])
	}
	r = clusterJSON(t, "train", "-c", "9", "--seed", "6", "--attribute", "other", "--against", "cluster")
	if r["against"] != "cluster" || r["previous"] != nil || r["hungarian_acc"] != nil || r["nmi"] == nil {
		t.Errorf("%v", r)
	}
	if text := must(t, "show", "train"); !strings.Contains(text, "cluster, other") {
		t.Error(text)
	}
	if text := must(t, "cluster", "train", "-c", "9", "--attribute", "other"); !strings.Contains(text, "against before") || !strings.Contains(text, "imbalance") {
		t.Error(text)
	}
}

// array reads an array of an .npz, or an .npy, as float64.
func array(t *testing.T, path, name string) []float64 {
	t.Helper()
	a, err := dump.OpenArray(path, dump.Options{Array: name})
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	out := make([]float64, a.Len())
	if name == "labels" {
		ints := make([]int64, len(out))
		if _, err := a.Ints(ints); err != nil {
			t.Fatal(err)
		}
		for i, v := range ints {
			out[i] = float64(v)
		}
		return out
	}
	floats := make([]float32, len(out))
	if _, err := a.Floats(floats); err != nil {
		t.Fatal(err)
	}
	for i, v := range floats {
		out[i] = float64(v)
	}
	return out
}

func TestClusterRefuses(t *testing.T) {
	database(t)
	dir := t.TempDir()
	x, labels := manyRows(t, dir, "train", 40, 4)
	must(t, "ingest", "train", x, "--labels", labels)
	before := state(t)
	for _, c := range []struct {
		args string
		code int
		want string
	}{
		{"train", exitUsage, "give -c K"},
		{"train -c 0", exitUsage, "write 1 or more"},
		{"train -c 41", exitBadInput, "40 rows, 41 clusters"},
		{"nosuch -c 3", exitNotFound, "no"},
		{"train -c 3 --pca 65", exitUsage, "64 dimensions"},
		{"train -c 3 --whiten dino", exitUsage, "--pca D"},
		{"train -c 3 --pca 4 --whiten zca", exitUsage, "deepcluster"},
		{"train -c 3 --init best", exitUsage, "kmeans++ or random"},
		{"train -c 3 --seed -1", exitUsage, "whole number"},
		{"train -c 3 --tolerance 2", exitUsage, "0.001"},
		{"train -c 3 --batch 10 --tolerance 0.1", exitUsage, "leave them out"},
		{"train -c 3 --against nothing", exitNotFound, "no such attribute"},
		{"train -c 3 -o c.csv", exitUsage, ".npz"},
		{"train -c 3 --no-attribute --attribute a", exitUsage, "leave one out"},
		{"train -c 3 -o " + dir + "/none/c.npz", exitNotFound, "make it first"},
	} {
		r := run(t, append([]string{"cluster"}, strings.Fields(c.args)...)...)
		if r.code != c.code || !strings.Contains(r.err, c.want) || strings.Count(r.err, "\n") != 1 {
			t.Errorf("cluster %s: exit %d, %q", c.args, r.code, r.err)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	var out, errs bytes.Buffer
	if code := Run(ctx, []string{"membank", "cluster", "train", "-c", "3"}, strings.NewReader(""), &out, &errs); code != exitInterrupted {
		t.Errorf("interrupted: exit %d, %s", code, errs.String())
	}
	if after := state(t); after != before {
		t.Errorf("the bank changed:\n%s%s", before, after)
	}
}
