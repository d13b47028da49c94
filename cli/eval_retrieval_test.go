package cli

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"membank/store/dump/dumptest"
)

// moco ingests the small method that is always at hand as banks train and test.
func moco(t *testing.T) {
	t.Helper()
	database(t)
	ssl := dumptest.Testdata(t, "ssl")
	must(t, "ingest", "train", filepath.Join(ssl, "moco_v2", "train_features.npy"), "--labels", filepath.Join(ssl, "train_labels_2000.npy"))
	must(t, "ingest", "test", filepath.Join(ssl, "moco_v2", "test_features.npy"), "--labels", filepath.Join(ssl, "test_labels.npy"))
}

// document runs a command with --json and decodes what it prints.
func document(t *testing.T, into any, args ...string) {
	t.Helper()
	out := must(t, append(args, "--json")...)
	if err := json.Unmarshal([]byte(out), into); err != nil {
		t.Fatalf("membank %s: %v in %s", strings.Join(args, " "), err, out)
	}
}

// evaluated is what the evaluators' documents share.
type evaluated struct {
	Protocol string           `json:"protocol"`
	Results  []map[string]any `json:"results"`
	Notes    []string         `json:"notes"`
}

func TestEvalRetrieval(t *testing.T) {
	moco(t)
	var r evaluated
	csv := filepath.Join(t.TempDir(), "queries.csv")
	document(t, &r, "eval", "retrieval", "--gallery", "train", "--queries", "test", "-o", csv)
	if r.Protocol != "labels" || len(r.Results) != 1 {
		t.Fatalf("%+v", r)
	}
	m := dumptest.Lookup(t, "moco_v2")
	for _, name := range []string{"map_full", "R@1", "P@5", "NDCG@10_binary", "R_precision", "MAP@R", "MRR"} {
		want, ok := m.Figure(t, "retrieval", name)
		if got, _ := r.Results[0][name].(float64); !ok || math.Abs(got-want) > 1e-4*want {
			t.Errorf("%s is %v, want %v", name, r.Results[0][name], want)
		}
	}
	text, err := os.ReadFile(csv)
	if lines := strings.Split(strings.TrimSpace(string(text)), "\n"); err != nil || len(lines) != 1001 || !strings.HasPrefix(lines[1], "0,,") {
		t.Errorf("%d lines in the CSV: %v", len(lines), err)
	}
	document(t, &r, "eval", "retrieval", "--gallery", "train", "--leave-one-out", "--metric", "l2", "--whiten", "vissl", "--whiten-from", "test", "--whiten-dims", "20", "-k", "3")
	if r.Protocol != "labels (metric=l2, leave-one-out, vissl whitening to 20 from test)" || r.Results[0]["R@3"] == nil {
		t.Errorf("%+v", r)
	}
	out := must(t, "eval", "retrieval", "--gallery", "train", "--queries", "train")
	if !strings.Contains(out, "every row finds itself") {
		t.Error(out)
	}
}

func TestEvalRetrievalGroundTruth(t *testing.T) {
	moco(t)
	dir := t.TempDir()
	truth := filepath.Join(dir, "gnd.json")
	write(t, truth, `{"gnd": [{"easy": [5], "hard": [9], "junk": [2]}]}`)
	var r evaluated
	document(t, &r, "eval", "retrieval", "--gallery", "train", "--queries", "test", "--ground-truth", truth)
	if r.Protocol != "revisited" || len(r.Results) != 3 || r.Results[1]["difficulty"] != "medium" {
		t.Errorf("%+v", r)
	}
}

func TestEvalCopies(t *testing.T) {
	moco(t)
	dir := t.TempDir()
	// Rows of train, asked of train, are their own copies: found first, at once.
	pairs := "query_id,reference_id\n"
	for i := range 50 {
		pairs += fmt.Sprintf("%d,%d\n", i, i)
	}
	truth := filepath.Join(dir, "pairs.csv")
	write(t, truth, pairs)
	for _, more := range [][]string{nil, {"--score-norm", "1.0[0,2]", "--background", "test"}, {"--best-pairs", "2000"}, {"-k", "3"}} {
		var r evaluated
		document(t, &r, append([]string{"eval", "retrieval", "--gallery", "train", "--queries", "train", "--copies", truth}, more...)...)
		if r.Results[0]["recall@1"] != 1.0 || r.Results[0]["pairs"] != 50.0 {
			t.Errorf("%v: %+v", more, r)
		}
	}
}

func TestEvalRetrievalUsage(t *testing.T) {
	moco(t)
	dir := t.TempDir()
	bad, pairs := filepath.Join(dir, "bad.json"), filepath.Join(dir, "pairs.csv")
	write(t, bad, `{"gnd": [{"easy": ["nobody"]}]}`)
	write(t, pairs, "0,0\n")
	for _, c := range []struct {
		line string
		code int
		says string
	}{
		{"", exitUsage, "--gallery"},
		{"--gallery train", exitUsage, "--leave-one-out"},
		{"--gallery train --queries nobody", exitNotFound, "nobody"},
		{"--gallery train --queries test -k 0", exitUsage, "-k 0"},
		{"--gallery train --queries test --metric x", exitUsage, "cosine"},
		{"--gallery train --queries test --leave-one-out", exitUsage, "same bank"},
		{"--gallery train --queries test --ground-truth $DIR/none.json", exitNotFound, "none.json"},
		{"--gallery train --queries test --ground-truth $DIR/bad.json", exitBadInput, "bad.json: query 0"},
		{"--gallery train --queries test --score-norm 1[0,1]", exitUsage, "--copies"},
		{"--gallery train --queries test --copies $DIR/pairs.csv --score-norm 1[0,1]", exitUsage, "--background"},
		{"--gallery train --queries test --copies $DIR/pairs.csv --score-norm 1 --background test", exitUsage, "1.0[0,2]"},
		{"--gallery train --queries test --copies $DIR/pairs.csv -k 1,2", exitUsage, "one number"},
		{"--gallery train --queries test --copies $DIR/pairs.csv -o x.csv", exitUsage, "--output"},
		{"--gallery train --queries test --gem-class cls", exitUsage, "--gem"},
		{"--gallery train --queries test --gem 3", exitBadInput, "'#'"},
		{"--gallery train --queries test --whiten zca --whiten-from test", exitUsage, "zca"},
		{"--gallery train --queries test --whiten dino", exitUsage, "--whiten-from"},
		{"--gallery train --queries test --whiten-dims 3", exitUsage, "--whiten"},
		{"--gallery train --queries test --whiten dino --whiten-from test --whiten-dims 300", exitBadInput, "300"},
	} {
		line := strings.ReplaceAll(c.line, "$DIR", dir)
		r := run(t, append([]string{"eval", "retrieval"}, strings.Fields(line)...)...)
		if r.code != c.code || !strings.Contains(r.err, c.says) || strings.Count(r.err, "\n") != 1 {
			t.Errorf("%s: exit %d, want %d: %s", c.line, r.code, c.code, r.err)
		}
	}
}

// An IVF index moves rows in the bank and changes none: the figures stay.
func TestEvalsOfIndexedBank(t *testing.T) {
	moco(t)
	must(t, "ingest", "plain", filepath.Join(dumptest.Testdata(t, "ssl"), "moco_v2", "train_features.npy"), "--labels", filepath.Join(dumptest.Testdata(t, "ssl"), "train_labels_2000.npy"))
	must(t, "index", "build", "train", "--nlist", "16")
	for _, line := range []string{
		"retrieval --queries test --gallery",
		"retrieval --leave-one-out --whiten dino --whiten-from test --whiten-dims 32 --gallery",
		"retrieval --queries test --whiten faiss --whiten-from plain --whiten-dims 16 --gallery",
		"fewshot --test test --per-class-shots 5,50 --tries 2 --train",
		"pseudo-labels --test test --min-agreement 0.3 --train",
	} {
		var plain, indexed evaluated
		document(t, &plain, append(append([]string{"eval"}, strings.Fields(line)...), "plain")...)
		document(t, &indexed, append(append([]string{"eval"}, strings.Fields(line)...), "train")...)
		for i, want := range plain.Results {
			for name, value := range want {
				if w, is := value.(float64); is && math.Abs(w-indexed.Results[i][name].(float64)) > 1e-9 {
					t.Errorf("%s: %s is %v of the indexed bank, %v of the other", line, name, indexed.Results[i][name], w)
				}
			}
		}
	}
}
