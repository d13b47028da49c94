package cli

import (
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"membank/store/dump/dumptest"
)

// The figures of a table are those of the single commands, and the reference's where it
// has them. The second data set asks the rows of the first by those that it asked.
func TestEvalTransfer(t *testing.T) {
	database(t)
	ssl := dumptest.Testdata(t, "ssl")
	// A copy of a model is its equal.
	models := map[string]string{"byol": "byol", "copy": "byol", "moco_v2": "moco_v2"}
	for name, m := range models {
		for bank, files := range map[string][2]string{
			"cifar/train": {"train_features.npy", "train_labels_2000.npy"}, "cifar/test": {"test_features.npy", "test_labels.npy"},
			"turned/train": {"test_features.npy", "test_labels.npy"}, "turned/test": {"train_features.npy", "train_labels_2000.npy"},
		} {
			must(t, "ingest", "r/"+name+"/"+bank, filepath.Join(ssl, m, files[0]), "--labels", filepath.Join(ssl, files[1]))
		}
	}
	test := filepath.Join(ssl, "byol", "test_features.npy")
	must(t, "ingest", "r/lone/cifar/train", test, "--labels", filepath.Join(ssl, "test_labels.npy"))
	must(t, "ingest", "r/bare/cifar/train", test)
	must(t, "ingest", "r/bare/cifar/test", test)
	var r struct {
		evaluated
		Models, Datasets, Figures []string
		Means, Correlations       []map[string]any
		Missing                   []struct{ Model, Dataset, Reason string }
	}
	csv := filepath.Join(t.TempDir(), "t.csv")
	document(t, &r, "eval", "transfer", "--banks", "r/*/*/*", "--tries", "2", "--per-class-shots", "1,5", "-o", csv)
	if got := strings.Join(r.Models, " ") + "; " + strings.Join(r.Datasets, " ") + "; " + strings.Join(r.Figures, " "); got != "r/bare r/byol r/copy r/lone r/moco_v2; cifar turned; knn_top1 fewshot_1_top1 fewshot_5_top1 map_full R@1" {
		t.Fatal(got)
	}
	for _, at := range r.Results {
		name := strings.TrimPrefix(at["model"].(string), "r/")
		if name == "bare" || name == "lone" {
			if at["knn_top1"] != nil || at["map_full_rank"] != nil || at["R@1_missing"] == nil {
				t.Errorf("%v", at)
			}
			continue
		}
		bank := "r/" + name + "/" + at["dataset"].(string)
		var knn, few, ranks evaluated
		document(t, &knn, "eval", "knn", "--train", bank+"/train", "--test", bank+"/test", "-k", "20")
		document(t, &few, "eval", "fewshot", "--train", bank+"/train", "--test", bank+"/test", "--tries", "2", "--per-class-shots", "1,5")
		document(t, &ranks, "eval", "retrieval", "--gallery", bank+"/train", "--queries", bank+"/test")
		for figure, want := range map[string]any{
			"knn_top1": knn.Results[0]["top1"], "fewshot_1_top1": few.Results[0]["top1"], "fewshot_5_top1": few.Results[1]["top1"],
			"map_full": ranks.Results[0]["map_full"], "R@1": ranks.Results[0]["R@1"],
		} {
			if at[figure] != want || want == nil {
				t.Errorf("%s: %s %v, want %v", bank, figure, at[figure], want)
			}
		}
		if at["dataset"] == "cifar" {
			want, _ := dumptest.Lookup(t, models[name]).Figure(t, "knn", "dino_T0.07", "20", "top1")
			rank := map[string]float64{"moco_v2": 1, "byol": 2.5, "copy": 2.5}[name] // 39.5 and 31.1 %
			if math.Abs(100*at["knn_top1"].(float64)-want) > 1e-9 || at["knn_top1_rank"] != rank {
				t.Errorf("%s: %v, want %v, rank %v", bank, at, want, rank)
			}
		}
	}
	if len(r.Results) != 10 || len(r.Means) != 25 || len(r.Correlations) != 5 || r.Correlations[0]["spearman"] == nil || r.Correlations[0]["models"] != 3.0 {
		t.Errorf("%d results, %d means, %v", len(r.Results), len(r.Means), r.Correlations)
	}
	if len(r.Missing) < 4 || !strings.Contains(r.Missing[len(r.Missing)-1].Reason, "r/lone/turned/test") {
		t.Errorf("%+v", r.Missing)
	}
	text, err := os.ReadFile(csv)
	if err != nil || strings.Count(string(text), "\n") != 11 || !strings.Contains(string(text), "there is no bank r/lone/cifar/test") {
		t.Errorf("%s %v", text, err)
	}
	out := must(t, "eval", "transfer", "--banks", "r/byol/cifar/train, r/moco_v2/cifar/test,r/byol/turned/test", "--only", "knn", "-k", "5")
	for _, want := range []string{"dino (k=5) at k=5", "models on both: 2, and 3 are needed", "mean of 2"} {
		if !strings.Contains(out, want) || strings.Contains(out, "missing:") {
			t.Errorf("%q is not in\n%s", want, out)
		}
	}
	if out := must(t, "eval", "transfer", "--banks", "r/byol/cifar/*", "--splits", "test,train", "--only", "retrieval,knn", "--protocol", "msf-1"); !strings.Contains(out, "1 model on 1 data set") {
		t.Error(out)
	}
	for _, c := range []struct {
		line string
		code int
		says string
	}{
		{"", exitUsage, "--banks"},
		{"--banks r/nobody/cifar/train", exitNotFound, "nobody"},
		{"--banks x/*/train", exitNotFound, "x/*/train"},
		{"--banks r/*/*/* --splits a,b", exitNotFound, "--splits"},
		{"--banks r/*/*/* --splits train", exitUsage, "--splits train"},
		{"--banks r/byol/cifar/test --splits train,val", exitUsage, "MODEL/DATASET/val"},
		{"--banks r/lone/*/train", exitNotFound, "r/lone/cifar/test"},
		{"--banks r/bare/*/train", exitBadInput, "labels"},
		{"--banks r/*/*/train -k 1,2", exitUsage, "one number"},
		{"--banks r/*/*/train --only x", exitUsage, "knn, fewshot, retrieval"},
		{"--banks r/*/*/train --tries 0", exitUsage, "--tries 0"},
		{"--banks r/*/*/train --protocol x", exitUsage, "dinov2"},
		{"--banks r/*/*/train -o t.svg", exitUsage, ".csv"},
	} {
		r := run(t, append([]string{"eval", "transfer"}, strings.Fields(c.line)...)...)
		if r.code != c.code || !strings.Contains(r.err, c.says) || strings.Count(r.err, "\n") != 1 {
			t.Errorf("%s: exit %d, want %d: %s", c.line, r.code, c.code, r.err)
		}
	}
}
