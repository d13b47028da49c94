package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"membank/bench/eval"
	"membank/simd"
	"membank/store/dump/dumptest"
)

var update = flag.Bool("update", false, "rewrite the golden transcripts; read the diff")

// result is what one command did.
type result struct {
	code     int
	out, err string
}

// run runs a command in-process.
func run(t testing.TB, args ...string) result {
	t.Helper()
	var out, errs bytes.Buffer
	code := Run(context.Background(), append([]string{"membank"}, args...), strings.NewReader(""), &out, &errs)
	return result{code, out.String(), errs.String()}
}

// must runs a command that succeeds and returns its stdout.
func must(t testing.TB, args ...string) string {
	t.Helper()
	r := run(t, args...)
	if r.code != exitOK {
		t.Fatalf("membank %s: exit %d: %s", strings.Join(args, " "), r.code, r.err)
	}
	return r.out
}

// database is an empty one that is verified when the test ends.
func database(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "db")
	t.Setenv("MEMBANK_DB", dir)
	t.Cleanup(func() {
		if _, err := os.Stat(dir); err == nil && !t.Failed() {
			if r := run(t, "verify", "--db", dir); r.code != exitOK {
				t.Errorf("verify after the test: exit %d\n%s%s", r.code, r.out, r.err)
			}
		}
	})
	return dir
}

// changing are the parts of a transcript that differ from run to run.
var changing = []struct {
	re   *regexp.Regexp
	with string
}{
	{regexp.MustCompile(`"seconds":[0-9.e-]+`), `"seconds":0`},
	{regexp.MustCompile(`\b[0-9.]+ (s|min)\b( [0-9]+ s)?`), "# s"},
	{regexp.MustCompile(`\([0-9.]+ [KMG]?i?B/s\)`), "(# B/s)"},
	{regexp.MustCompile(`[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9:.]+(Z|[+-][0-9:]+)?`), "DATE"},
	{regexp.MustCompile(`[0-9.]+ [KMG]iB`), "# MiB"},
	{regexp.MustCompile(`"(bytes|freed)":[0-9]+`), `"$1":0`},
	{regexp.MustCompile(`"(first|second|directions)":[0-9]+`), `"$1":0`},
	{regexp.MustCompile(`[0-9]+ and then [0-9]+ of `), "# and then # of "},
	{regexp.MustCompile(` {2,}`), "  "},
}

// golden compares a transcript with testdata/NAME.golden.
func golden(t *testing.T, name, transcript string) {
	t.Helper()
	path := filepath.Join("testdata", name+".golden")
	if *update {
		if err := os.WriteFile(path, []byte(transcript), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	got, wanted := strings.Split(transcript, "\n"), strings.Split(string(want), "\n")
	for i := range max(len(got), len(wanted)) {
		if i >= len(got) || i >= len(wanted) || got[i] != wanted[i] {
			t.Errorf("%s:%d differs (go test ./cli -update rewrites it; read the diff)\n got %s\nwant %s", path, i+1, lineAt(got, i), lineAt(wanted, i))
			return
		}
	}
}

func lineAt(lines []string, i int) string {
	if i < len(lines) {
		return lines[i]
	}
	return "(the end)"
}

// transcript runs command lines and writes down what was typed and what came.
// $SSL and $OUT in them stand for directories.
func transcript(t *testing.T, replace map[string]string, lines string) string {
	t.Helper()
	var b strings.Builder
	for _, line := range strings.Split(strings.TrimSpace(lines), "\n") {
		line = strings.TrimSpace(line)
		fmt.Fprintf(&b, "$ %s\n", line)
		args := words(line)
		for i := range args {
			for from, to := range replace {
				args[i] = strings.ReplaceAll(args[i], from, to)
			}
		}
		r := run(t, args[1:]...)
		text := r.out + r.err
		if r.code != exitOK {
			text += fmt.Sprintf("[exit %d]\n", r.code)
		}
		for from, to := range replace {
			text = strings.ReplaceAll(text, to, from)
		}
		for _, c := range changing {
			text = c.re.ReplaceAllString(text, c.with)
		}
		b.WriteString(text + "\n")
	}
	return b.String()
}

// words splits a command line at blanks outside single quotes.
func words(line string) []string {
	var list []string
	for i, part := range strings.Split(line, "'") {
		if i%2 == 1 {
			list = append(list, part)
			continue
		}
		list = append(list, strings.Fields(part)...)
	}
	return list
}

// sessionFiles is a directory with what the session reads beside the features.
func sessionFiles(t *testing.T) string {
	t.Helper()
	out := t.TempDir()
	table := "key,place,year\n"
	for i := range 2000 {
		year := strconv.Itoa(2000 + i%20)
		if i%5 == 0 {
			year = ""
		}
		table += fmt.Sprintf("%d,room %d,%s\n", i, i%3, year)
	}
	write(t, filepath.Join(out, "where.csv"), table)
	write(t, filepath.Join(out, "leaked.txt"), "7\n11\n")
	write(t, filepath.Join(out, "names.txt"), "airplane\nautomobile\nbird\ncat\ndeer\ndog\nfrog\nhorse\nship\ntruck\n")
	return out
}

const sessionLines = `
		membank ls
		membank ingest moco/train $SSL/moco_v2/train_features.npy --labels $SSL/train_labels_2000.npy --attributes $OUT/where.csv --class-names $OUT/names.txt
		membank ingest --json moco/test $SSL/moco_v2/test_features.npy --dtype f16 --labels $SSL/test_labels.npy
		membank ls
		membank ls moco/te --json
		membank show moco/train
		membank show --json moco/test
		membank get moco/train --rows 0,1999
		membank get moco/train --key 5 6
		membank query moco/train --row 3,4 -k 3 --exclude-self
		membank query moco/train --json --row 7,8,9 -k 2 --metric l2 --where 'row < 5'
		membank query moco/train --row 0 -k 2 --where 'year == nil and place == "room 1" and class in ["cat","dog"]'
		membank query moco/train --row 0 --nprobe 4 -k 1
		membank query moco/train --row 0 --min-score 0.95 -k 0
		membank query moco/train --from moco/test -k 5 -o $OUT/nn.npz
		membank query moco/train --row 0,1 -k 2 -o $OUT/nn.csv --json
		membank eval knn --train moco/train --test moco/test
		membank eval knn --train moco/train --leave-one-out -k 20 --protocol lightly
		membank eval knn --train moco/train --test moco/test --json -k 10
		membank export moco/test -o $OUT/test.npz
		membank ingest again $OUT/test.npz --array features --labels-array labels
		membank ingest again $OUT/test.npz --array features
		membank ingest again $OUT/test.npz --array features --append --keys $OUT/leaked.txt
		membank rm moco/train --keys $OUT/leaked.txt --dry-run
		membank rm moco/train --keys $OUT/leaked.txt --json
		membank rm moco/train --keys $OUT/leaked.txt
		membank rm moco/train --where 'class == "frog" or year > 2015'
		membank get moco/train --rows 7
		membank show moco/train
		membank rm again
		membank rm again
		membank verify
		membank query moco/tran --row 0
		membank query moco/train --row 0 --where 'classs == "cat"'
		membank query moco/train --row 0 --where 'year == "x"'
		membank query moco/train --row 0 --where 'row + 1'
		membank query moco/train --key nope --json
		membank query moco/train --vectors $OUT/missing.npy`

// A whole session on real features. The transcript is read by a person; what it
// says about neighbours and accuracies is checked against the references by the
// tests below.
func TestSession(t *testing.T) {
	dir := database(t)
	out := sessionFiles(t)
	golden(t, "session", transcript(t, map[string]string{"$SSL": dumptest.Testdata(t, "ssl"), "$OUT": out, "$DB": dir}, sessionLines))
	if got, err := os.ReadFile(filepath.Join(out, "nn.csv")); err != nil || strings.Count(string(got), "\n") != 5 {
		t.Errorf("nn.csv: %v\n%s", err, got)
	}
}

func write(t testing.TB, path, text string) string {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// ingestMethod brings a reference method's train and test features in.
func ingestMethod(t *testing.T, m dumptest.Method) {
	t.Helper()
	must(t, "ingest", "train", m.TrainPath, "--labels", labelsFile(t, m.TrainLabels))
	must(t, "ingest", "test", m.TestPath, "--labels", labelsFile(t, m.TestLabels))
}

func labelsFile(t *testing.T, labels []int64) string {
	var b strings.Builder
	for _, l := range labels {
		fmt.Fprintln(&b, l)
	}
	return write(t, filepath.Join(t.TempDir(), "labels.txt"), b.String())
}

// Every accuracy of the contract's JSON is the reference code's count.
func TestEvalEqualsReference(t *testing.T) {
	for _, m := range dumptest.Methods(t) {
		if m.Noise {
			continue
		}
		t.Run(m.Name, func(t *testing.T) {
			database(t)
			ingestMethod(t, m)
			var r eval.KNNResult
			if err := json.Unmarshal([]byte(must(t, "eval", "knn", "--train", "train", "--test", "test", "--json", "-k", "10,20,100,200")), &r); err != nil {
				t.Fatal(err)
			}
			if r.Protocol != "dino" || len(r.Results) != 4 || r.TestRows != int64(m.Test.Rows) {
				t.Fatalf("protocol %q, %d results, %d test rows", r.Protocol, len(r.Results), r.TestRows)
			}
			for _, at := range r.Results {
				want, ok := m.Figure(t, "knn", "dino_T0.07", strconv.Itoa(at.K), "top1")
				if !ok {
					t.Fatalf("no reference at k=%d", at.K)
				}
				if math.Round(at.Top1*float64(r.TestRows)) != math.Round(want/100*float64(r.TestRows)) {
					t.Errorf("k=%d: top-1 %.2f, reference %.2f", at.K, 100*at.Top1, want)
				}
			}
		})
	}
}

// The arrays of -o F.npz hold FAISS's neighbours, in the shape and types of the
// contract.
func TestQueryFileEqualsFAISS(t *testing.T) {
	m := dumptest.Lookup(t, "moco_v2")
	database(t)
	ingestMethod(t, m)
	for metric, reference := range map[string]string{"cosine": "ip", "l2": "l2"} {
		want := m.NN(t, reference)
		file := filepath.Join(t.TempDir(), "nn.npz")
		must(t, "query", "train", "--from", "test", "-k", strconv.Itoa(want.K), "--metric", metric, "-o", file)
		scores := dumptest.Features(t, file) // the only array of floats
		if scores.Rows != m.Test.Rows || scores.Dim != want.K {
			t.Fatalf("%s: scores [%d][%d]", metric, scores.Rows, scores.Dim)
		}
		lines := strings.Split(strings.TrimSpace(must(t, "query", "train", "--from", "test", "-k", strconv.Itoa(want.K), "--metric", metric, "--json")), "\n")
		for q := range want.Queries {
			ids, reference := want.Row(q)
			var a answer
			if err := json.Unmarshal([]byte(lines[q]), &a); err != nil {
				t.Fatal(err)
			}
			if a.Query != int64(q) || len(a.Neighbours) != want.K {
				t.Fatalf("line %d: query %d with %d neighbours", q, a.Query, len(a.Neighbours))
			}
			for j, n := range a.Neighbours {
				if n.Score != scores.Row(q)[j] {
					t.Fatalf("%s query %d rank %d: %v in JSON, %v in the .npz", metric, q, j, n.Score, scores.Row(q)[j])
				}
				// FAISS computes squared distances by the expanded form in float32.
				slack := 1e-5
				if metric == "l2" {
					slack = 2.5e-4
				}
				if math.Abs(float64(n.Score-reference[j])) > slack {
					t.Fatalf("%s query %d rank %d: score %v, FAISS %v", metric, q, j, n.Score, reference[j])
				}
				apart := func(i int) bool { return math.Abs(float64(reference[i]-reference[j])) > 2*slack }
				if n.Row != ids[j] && (j == 0 || apart(j-1)) && (j+1 == want.K || apart(j+1)) && j+1 < want.K {
					t.Errorf("%s query %d rank %d: row %d, FAISS %d", metric, q, j, n.Row, ids[j])
				}
			}
		}
	}
}

// A range search whose answers outgrow the budget is answered in parts, and the
// answers are the same.
func TestRangeSearchWithinMemory(t *testing.T) {
	m := dumptest.Lookup(t, "moco_v2")
	database(t)
	ingestMethod(t, m)
	args := []string{"query", "train", "--from", "train", "--min-score", "-2", "-k", "0", "-o"}
	whole, parts := filepath.Join(t.TempDir(), "whole.npz"), filepath.Join(t.TempDir(), "parts.npz")
	must(t, append(args, whole)...)
	must(t, append(args, parts, "--memory", "64MiB", "--threads", "1")...)
	a, b := dumptest.Features(t, whole), dumptest.Features(t, parts)
	if a.Rows != 2000 || a.Dim != 2000 || !sameBits(a, b) {
		t.Errorf("[%d][%d] scores within memory differ from those of one batch", a.Rows, a.Dim)
	}
}

// What goes in comes out, bit for bit, through every format.
func TestExportIsWhatWentIn(t *testing.T) {
	m := dumptest.Lookup(t, "byol")
	database(t)
	out := t.TempDir()
	must(t, "ingest", "full", m.TestPath, "--labels", labelsFile(t, m.TestLabels))
	must(t, "ingest", "half", m.TestPath, "--dtype", "f16")
	for _, bank := range []string{"full", "half"} {
		for _, ext := range []string{".npy", ".npz", ".csv"} {
			file := filepath.Join(out, bank+ext)
			must(t, "export", bank, "-o", file)
			if got := dumptest.Features(t, file); !sameBits(got, m.Test) {
				t.Errorf("%s%s differs from what went in", bank, ext)
			}
			must(t, "ingest", "back", file, "--replace")
			if ext == ".csv" && bank == "full" {
				line := must(t, "ls", "back", "--json")
				if !strings.Contains(line, `"classes":10`) {
					t.Errorf("labels are lost in the .csv: %s", line)
				}
			}
		}
	}
	must(t, "get", "full", "--rows", "3,1", "-o", filepath.Join(out, "two.npy"))
	two := dumptest.Features(t, filepath.Join(out, "two.npy"))
	if two.Rows != 2 || two.Row(0)[5] != m.Test.Row(3)[5] || two.Row(1)[5] != m.Test.Row(1)[5] {
		t.Error("get -o wrote other rows than were asked for")
	}
}

func sameBits(a, b simd.Matrix) bool {
	if a.Rows != b.Rows || a.Dim != b.Dim {
		return false
	}
	for i := range a.Data {
		if math.Float32bits(a.Data[i]) != math.Float32bits(b.Data[i]) {
			return false
		}
	}
	return true
}

// The demo's figures are those of its reference file, and it can be run again.
func TestDemo(t *testing.T) {
	out := filepath.Join(t.TempDir(), "demo")
	for range 2 {
		var r demoReport
		if err := json.Unmarshal([]byte(must(t, "demo", "--json", "--out", out)), &r); err != nil {
			t.Fatal(err)
		}
		if !r.Equal || len(r.Banks) != 4 || len(r.Eval["simclr"].Results) != 6 {
			t.Fatalf("equal %v, %d banks", r.Equal, len(r.Banks))
		}
		page, err := os.ReadFile(r.Page)
		if err != nil {
			t.Fatal(err)
		}
		text := string(page)
		if strings.Contains(text, "http") || strings.Count(text, "<article") != 10*demoPerClass || strings.Contains(text, "ZgotmplZ") {
			t.Errorf("page: %d queries, links %v, refused by the template %v", strings.Count(text, "<article"), strings.Contains(text, "http"), strings.Contains(text, "ZgotmplZ"))
		}
	}
	must(t, "verify", "--db", filepath.Join(out, "membank.db"))
	if text := must(t, "demo", "--out", out); !strings.Contains(text, "All 12 accuracies equal") {
		t.Error(text)
	}
	foreign := t.TempDir()
	write(t, filepath.Join(foreign, "thesis.tex"), "x")
	if r := run(t, "demo", "--out", foreign); r.code != exitUsage || !strings.Contains(r.err, "holds other files") {
		t.Errorf("a directory of other files: exit %d, %s", r.code, r.err)
	}
}
