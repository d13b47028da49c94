package cli

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"membank/store/dump/dumptest"
)

// Every labelled row is a shot, so that nothing is left to the draw: the few-shot
// figures are those of the whole bank.
func TestEvalFewShot(t *testing.T) {
	moco(t)
	var r evaluated
	document(t, &r, "eval", "fewshot", "--train", "train", "--test", "test", "--per-class-shots", "1,100000", "--tries", "2", "-k", "20,200")
	m := dumptest.Lookup(t, "moco_v2")
	found := 0
	for _, at := range r.Results {
		if at["shots"] == 1.0 && at["k"] != 1.0 {
			t.Errorf("one shot is asked at k=%v", at["k"])
		}
		if k := at["k"].(float64); at["shots"] == 100000.0 && k <= 200 {
			want, _ := m.Figure(t, "knn", "dino_T0.07", fmt.Sprint(k), "top1")
			if got := at["top1"].(float64); math.Abs(100*got-want) > 1e-9 || at["top1_std"] != 0.0 || at["train_rows"] != 2000.0 {
				t.Errorf("k=%v: %v, want %v", k, at, want)
			}
			found++
		}
	}
	if found != 2 || len(r.Notes) == 0 {
		t.Errorf("%+v", r)
	}
	// The first 500 rows as a list are the bank of these rows.
	keys := ""
	for i := range 500 {
		keys += fmt.Sprintln(i)
	}
	list := write(t, filepath.Join(t.TempDir(), "list.txt"), keys)
	document(t, &r, "eval", "fewshot", "--train", "train", "--test", "test", "--list", list, "--protocol", "lightly")
	if r.Protocol != "lightly from lists" || len(r.Results) != 1 || r.Results[0]["train_rows"] != 500.0 {
		t.Errorf("%+v", r)
	}
	if out := must(t, "eval", "fewshot", "--train", "train", "--test", "test", "--tries", "1"); !strings.Contains(out, "mean of 1 try from seed 0") {
		t.Error(out)
	}
	for _, c := range []struct {
		line string
		code int
		says string
	}{
		{"", exitUsage, "--train"},
		{"--train train", exitUsage, "--test"},
		{"--train train --test test --tries 0", exitUsage, "--tries 0"},
		{"--train train --test test --per-class-shots 1,x", exitUsage, "1,5,10"},
		{"--train train --test test --seed -1", exitUsage, "--seed"},
		{"--train train --test test --list nowhere.txt", exitNotFound, "nowhere.txt"},
		{"--train train --test test --list nowhere.txt --tries 2", exitUsage, "--list and --tries"},
		{"--train nobody --test test", exitNotFound, "nobody"},
		{"--train train --test test --protocol x", exitUsage, "dinov2"},
	} {
		r := run(t, append([]string{"eval", "fewshot"}, strings.Fields(c.line)...)...)
		if r.code != c.code || !strings.Contains(r.err, c.says) || strings.Count(r.err, "\n") != 1 {
			t.Errorf("%s: exit %d, want %d: %s", c.line, r.code, c.code, r.err)
		}
	}
}

func TestEvalPseudoLabels(t *testing.T) {
	moco(t)
	dir := t.TempDir()
	path := filepath.Join(dir, "pseudo.csv")
	var r struct {
		K, Rows, Accepted, Labelled int64
		Coverage, Precision         float64
		Written                     bool
		Attributes                  []string
		Results                     []struct {
			Accepted  int64
			Precision *float64
		}
	}
	document(t, &r, "eval", "pseudo-labels", "--train", "train", "--test", "test", "--min-confidence", "0.5", "--write", "-o", path)
	m := dumptest.Lookup(t, "moco_v2")
	want, _ := m.Figure(t, "knn", "dino_T0.07", "20", "top1")
	// With every row accepted the precision is the kNN accuracy.
	if r.K != 20 || r.Results[0].Accepted != 1000 || math.Abs(100**r.Results[0].Precision-want) > 1e-9 {
		t.Errorf("%+v, want precision %v of all", r, want)
	}
	if r.Accepted != r.Results[10].Accepted || r.Accepted == 0 || r.Precision <= *r.Results[0].Precision || !r.Written || len(r.Attributes) != 5 {
		t.Errorf("%+v", r)
	}
	text, err := os.ReadFile(path)
	if err != nil || strings.Count(string(text), "\n") != 1001 || int64(strings.Count(string(text), ",true\n")) != r.Accepted {
		t.Errorf("CSV: %v", err)
	}
	// What was written selects as many rows.
	out := must(t, "rm", "test", "--where", "pseudo_confidence >= 0.5 and pseudo_label >= 0", "--dry-run")
	if !strings.Contains(out, fmt.Sprint(r.Accepted)) {
		t.Errorf("%d accepted: %s", r.Accepted, out)
	}
	if out := must(t, "eval", "pseudo-labels", "--train", "train", "--leave-one-out", "-k", "5"); !strings.Contains(out, "accepted: 2,000 of 2,000 rows") {
		t.Error(out)
	}
	for _, c := range []struct {
		line string
		says string
	}{
		{"", "--train"},
		{"--train train", "--test"},
		{"--train train --test test -k 1,2", "one number"},
		{"--train train --test test --min-margin 2", "0 to 1"},
		{"--train train --test test --min-agreement x", "--min-agreement"},
	} {
		r := run(t, append([]string{"eval", "pseudo-labels"}, strings.Fields(c.line)...)...)
		if r.code != exitUsage || !strings.Contains(r.err, c.says) || strings.Count(r.err, "\n") != 1 {
			t.Errorf("%s: exit %d: %s", c.line, r.code, r.err)
		}
	}
}

func TestEvalCurve(t *testing.T) {
	database(t)
	ssl := dumptest.Testdata(t, "ssl")
	for bank, method := range map[string]string{"run/e10": "byol", "run/e9": "moco_v2"} {
		must(t, "ingest", bank+"/train", filepath.Join(ssl, method, "train_features.npy"), "--labels", filepath.Join(ssl, "train_labels_2000.npy"))
		must(t, "ingest", bank+"/test", filepath.Join(ssl, method, "test_features.npy"), "--labels", filepath.Join(ssl, "test_labels.npy"))
	}
	dir := t.TempDir()
	var r struct {
		Protocol      string
		Results, Best []struct {
			Train, Test string
			Epoch, K    int64
			Top1        float64
		}
		Checkpoints []struct{ Seconds float64 }
	}
	// Epoch 9 comes before 10, though its name does not.
	document(t, &r, "eval", "knn", "--train", "run/*/train", "--test", "run/*/test", "-k", "20,200", "-o", filepath.Join(dir, "curve.csv"))
	if len(r.Results) != 4 || len(r.Checkpoints) != 2 || len(r.Best) != 2 || r.Results[0].Epoch != 9 || r.Results[2].Test != "run/e10/test" {
		t.Fatalf("%+v", r)
	}
	for i, method := range []string{"moco_v2", "byol"} {
		for j, k := range []string{"20", "200"} {
			want, _ := dumptest.Lookup(t, method).Figure(t, "knn", "dino_T0.07", k, "top1")
			if got := r.Results[2*i+j].Top1; math.Abs(100*got-want) > 1e-9 {
				t.Errorf("%s k=%s: %v, want %v", method, k, got, want)
			}
		}
	}
	if r.Best[0].Train != "run/e9/train" {
		t.Errorf("best %+v", r.Best)
	}
	if text, err := os.ReadFile(filepath.Join(dir, "curve.csv")); err != nil || strings.Count(string(text), "\n") != 5 {
		t.Errorf("%s %v", text, err)
	}
	for _, ext := range []string{".svg", ".png"} {
		path := filepath.Join(dir, "curve"+ext)
		out := must(t, "eval", "knn", "--train", "run/e9/train,run/e10/train", "--leave-one-out", "-k", "20", "-o", path)
		if text, err := os.ReadFile(path); err != nil || len(text) < 2000 || !strings.Contains(out, "2 checkpoints") {
			t.Errorf("%s: %d bytes %v %s", ext, len(text), err, out)
		}
	}
	for _, c := range []struct {
		line string
		code int
		says string
	}{
		{"--train run/*/train --test run/e9/test,run/e10/test,run/e9/test", exitUsage, "one test for each"},
		{"--train run/*/trian --leave-one-out", exitNotFound, "trian"},
		{"--train run/e9/train,nobody --leave-one-out", exitNotFound, "nobody"},
		{"--train run/e9/train,, --leave-one-out", exitUsage, "empty"},
		{"--train run/[ --leave-one-out", exitUsage, "pattern"},
		{"--train run/e9/train --leave-one-out -o x.pdf", exitUsage, ".svg"},
	} {
		r := run(t, append([]string{"eval", "knn"}, strings.Fields(c.line)...)...)
		if r.code != c.code || !strings.Contains(r.err, c.says) || strings.Count(r.err, "\n") != 1 {
			t.Errorf("%s: exit %d, want %d: %s", c.line, r.code, c.code, r.err)
		}
	}
}

func TestEpochOf(t *testing.T) {
	for name, want := range map[string]int64{
		"simclr/e100/train": 100, "a/ep02": 2, "x-epoch_7-test": 7, "run/step12000": 12000, "ckpt-3": 3,
		"resnet50/train": -1, "dino/v2": -1, "e/100": -1, "moe5/train": -1, "e99999999999999999999": -1,
	} {
		got := int64(-1)
		if e := epochOf(name); e != nil {
			got = *e
		}
		if got != want {
			t.Errorf("%s: %d, want %d", name, got, want)
		}
	}
}
