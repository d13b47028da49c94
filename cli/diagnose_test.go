package cli

import (
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"membank/store/dump/dumptest"
)

// The JSON is one flat object under the reference's names, and its numbers are the
// reference's.
func TestDiagnoseCommand(t *testing.T) {
	m := dumptest.Lookup(t, "moco_v2")
	database(t)
	must(t, "ingest", "train", m.TrainPath)
	text := must(t, "diagnose", "train", "--json")
	d := decode(t, text)
	for _, name := range []string{"rankme_raw", "participation_ratio_raw", "mean_pairwise_cosine", "per_dim_std_l2norm_times_sqrtD"} {
		want, ok := m.Figure(t, "diagnostics_features", name)
		if got, _ := d[name].(float64); !ok || math.Abs(got-want) > 1e-5*want {
			t.Errorf("%s is %v, want %v", name, d[name], want)
		}
	}
	for name, v := range d {
		if _, nested := v.(map[string]any); nested {
			t.Errorf("%s is an object", name)
		}
		if v == nil && d[name+"_missing"] == nil {
			t.Errorf("%s is null without a reason", name)
		}
	}
	if d["bank"] != "train" || d["rows"] != 2000.0 || d["verdict"] != "healthy" || d["neighbour_rows"] != 2000.0 || d["lidar"] != nil {
		t.Errorf("%s", text)
	}
	people := must(t, "diagnose", "train", "--neighbour-rows", "500", "--pair-rows", "300", "--seed", "5")
	for _, want := range []string{"verdict: healthy", "rankme_raw", "neighbour_rows", "500", "300"} {
		if !strings.Contains(people, want) {
			t.Errorf("no %q in\n%s", want, people)
		}
	}
	// A bank that collapsed is called so, and why.
	must(t, "ingest", "flat", features(t, filepath.Join(t.TempDir(), "flat.npy"), 40, func(x []float32) {
		for i := range x {
			x[i] = float32(i % 4)
		}
	}))
	people = must(t, "diagnose", "flat")
	for _, want := range []string{"verdict: complete collapse", "SimSiam", "below 0.05"} {
		if !strings.Contains(people, want) {
			t.Errorf("no %q in\n%s", want, people)
		}
	}
	views := decode(t, must(t, "diagnose", "train", "--views", "train", "-T", "0.2", "--view-pairs", "300", "--json"))
	if v, ok := views["align_alpha2"].(float64); !ok || math.Abs(v) > 1e-9 || views["instance_retrieval_top1_v1_to_v2"] != 1.0 || views["ntxent_T0.2_all"] == nil || views["lidar"] == nil {
		t.Errorf("a bank as its own views: %v", views)
	}
}

func TestCompareCommand(t *testing.T) {
	a, b := dumptest.Lookup(t, "moco_v2"), dumptest.Lookup(t, "byol")
	database(t)
	must(t, "ingest", "moco", a.TrainPath, "--labels", dumptest.Testdata(t, "ssl", "train_labels_2000.npy"))
	must(t, "ingest", "byol", b.TrainPath)
	dir := t.TempDir()
	d := decode(t, must(t, "compare", "moco", "byol", "--json", "--moved", "3", "-o", filepath.Join(dir, "m.csv")))
	// cross_method.json: CKA 0.7418260035453959, overlap 0.236.
	if v, _ := d["linear_cka"].(float64); math.Abs(v-0.7418260035453959) > 1e-6 {
		t.Errorf("linear_cka is %v", v)
	}
	if v, _ := d["mutual_knn_k10_overlap"].(float64); math.Abs(v-0.236) > 2e-4 {
		t.Errorf("mutual_knn_k10_overlap is %v", v)
	}
	if d["bank"] != "moco" || d["bank2"] != "byol" || len(d["per_class"].([]any)) != 10 || len(d["moved"].([]any)) != 3 {
		t.Errorf("%v", d)
	}
	rows := readCSV(t, filepath.Join(dir, "m.csv"))
	if len(rows) != 2000 || rows[0]["overlap"] == "" || rows[0]["label"] == "" {
		t.Errorf("%d rows, the first %v", len(rows), rows[0])
	}
	people := must(t, "compare", "moco", "byol", "moco", "--moved", "2", "-o", filepath.Join(dir, "m.html"))
	for _, want := range []string{"linear_cka:moco|byol", "linear_cka:byol|moco", "class by class", "neighbours changed most"} {
		if !strings.Contains(people, want) {
			t.Errorf("no %q in\n%s", want, people)
		}
	}
	page, err := os.ReadFile(filepath.Join(dir, "m.html"))
	if err != nil || strings.Count(string(page), "<article") != 2 {
		t.Errorf("%d rows on the page (%v)", strings.Count(string(page), "<article"), err)
	}
	var flat map[string]any
	if err := json.Unmarshal([]byte(must(t, "compare", "moco", "byol", "moco", "--json", "--rows", "200")), &flat); err != nil || flat["rows"] != 200.0 {
		t.Errorf("%v %v", err, flat["rows"])
	}
}
