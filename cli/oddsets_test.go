package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// oddSets are sets that break published evaluators. The first is none of them: the
// gallery or query set that others meet.
func oddSets() []*oddSet {
	r := rand.New(rand.NewPCG(11, 7))
	const dim = 8
	centres := make([][]float64, 10)
	for c := range centres {
		for range dim {
			centres[c] = append(centres[c], r.NormFloat64())
		}
	}
	row := func(class int64) (x []float32) {
		for _, v := range centres[class%10] {
			x = append(x, float32(v+0.4*r.NormFloat64()))
		}
		return x
	}
	of := func(labels ...int64) (rows [][]float32) {
		for _, l := range labels {
			rows = append(rows, row(l))
		}
		return rows
	}
	drawn := func(name string, labels ...int64) *oddSet { return &oddSet{name, of(labels...), labels} }
	line := func(name string, labels []int64, values ...float32) *oddSet {
		s := &oddSet{name: name, labels: labels}
		for _, v := range values {
			s.rows = append(s.rows, []float32{v})
		}
		return s
	}
	var sixty []int64
	for i := range int64(60) {
		sixty = append(sixty, i%10)
	}
	pairs := of(0, 1, 2, 3)
	pairs = [][]float32{pairs[0], pairs[0], pairs[1], pairs[1], pairs[2], pairs[2], pairs[3], pairs[3]}
	same := slices.Repeat(of(0), 6)
	zero := make([]float32, dim)
	zeros := of(0, 1, 2, 0, 1, 2)
	zeros[1], zeros[4] = zero, zero
	gaps := of(0, 1, 2, 0, 1, 2, 0, 1, 2, 0, 1, 2)
	return []*oddSet{
		drawn("normal", sixty...),
		drawn("eight", 0, 1, 2, 3, 4, 5, 6, 6),
		drawn("three", 0, 1, 2, 0, 1, 2, 0, 1, 2, 0, 1, 2),
		{"nolabels", of(0, 1, 2, 3, 4, 5), nil},
		{"some", of(0, 1, 2, 0, 1, 2, 0, 1), []int64{0, 1, unlabelled, 0, unlabelled, 2, unlabelled, 1}},
		{"gaps", gaps, slices.Repeat([]int64{7, 1000, math.MaxInt32}, 4)},
		drawn("one", 0),
		{"oneless", of(0), nil},
		drawn("two", 0, 1),
		drawn("twosame", 0, 0),
		{"same", same, make([]int64, 6)},
		{"clash", same, []int64{5, 4, 3, 2, 1, 0}},
		{"half", same, []int64{0, 1, 0, 1, 1, 1}},
		drawn("lone", 0, 0, 0, 0, 1),
		drawn("oneclass", 3, 3, 3, 3, 3, 3, 3),
		drawn("strangers", 50, 51, 52, 53),
		drawn("halfstrange", 0, 1, 52, 53),
		line("dim1", []int64{0, 0, 1, 1, 0}, 1, 2, -1, -4, 0.5),
		line("dim1pos", []int64{0, 1, 0, 1}, 1, 2, 4, 8),
		{"pairs", pairs, []int64{0, 0, 1, 1, 2, 2, 3, 3}},
		{"pairsclash", pairs, []int64{0, 1, 1, 2, 2, 3, 3, 0}},
		{"zeros", zeros, []int64{0, 1, 2, 0, 1, 2}},
		{"allzero", [][]float32{zero, zero, zero, zero}, []int64{0, 1, 0, 1}},
		{"onezero", [][]float32{zero}, []int64{0}},
	}
}

// Every set against every evaluator and diagnosis: the right answer, or a plain refusal
// with a remedy; never NaN, and no 0 or 100 % that the embeddings have no part in.
func TestOddSets(t *testing.T) {
	database(t)
	dir := t.TempDir()
	sets := oddSets()
	for _, s := range sets {
		s.ingest(t, dir, s.name)
	}
	o := &oddRun{T: t, dir: dir, normal: sets[0]}
	start := time.Now()
	for _, c := range []struct {
		name string
		of   func(*oddRun, *oddSet)
	}{
		{"eval knn", (*oddRun).knn}, {"eval fewshot", (*oddRun).fewshot}, {"eval pseudo-labels", (*oddRun).pseudo},
		{"eval retrieval", (*oddRun).retrieval}, {"eval clusters", (*oddRun).clusters}, {"eval groups", (*oddRun).groups},
		{"eval robustness", (*oddRun).robustness}, {"diagnose", (*oddRun).diagnose}, {"compare", (*oddRun).compare},
		{"label-errors", (*oddRun).labelErrors}, {"duplicates", (*oddRun).duplicates}, {"rank", (*oddRun).rank},
		{"select and graph", (*oddRun).selected}, {"cluster", (*oddRun).cluster}, {"report", (*oddRun).report},
		{"index", (*oddRun).index}, // which changes the banks, and so comes last
	} {
		t.Run(c.name, func(t *testing.T) {
			o.T = t
			for _, s := range sets {
				c.of(o, s)
			}
		})
	}
	if o.answers < 300 || o.refusals < 100 {
		t.Errorf("%d answers and %d refusals: some were not asked for", o.answers, o.refusals)
	}
	t.Logf("%d answers, %d refusals in %v", o.answers, o.refusals, time.Since(start).Round(time.Millisecond))
}

// Models over data sets, each odd set asking itself: a cell is right, or says why it is not
// there, and a table without a figure is refused.
func TestOddTransfer(t *testing.T) {
	database(t)
	dir := t.TempDir()
	sets := slices.DeleteFunc(oddSets(), func(s *oddSet) bool {
		return slices.Contains([]string{"eight", "oneless", "two", "twosame", "half", "lone", "halfstrange", "dim1pos", "pairs"}, s.name) // much as another
	})
	for _, s := range sets {
		s.ingest(t, dir, "m/"+s.name+"/train")
		s.ingest(t, dir, "m/"+s.name+"/test")
	}
	o := &oddRun{T: t, dir: dir, normal: sets[0]}
	d := o.answer("eval transfer", "--banks", "*/*/train", "--per-class-shots", "100", "--tries", "1")
	cells := map[string]map[string]any{}
	for _, cell := range d.list("results") {
		cells[cell["dataset"].(string)] = cell
	}
	for _, s := range sets {
		cell := cells[s.name]
		why := refusal(s, s, false)
		for _, name := range []string{"knn_top1", "fewshot_100_top1", "map_full", "R@1"} {
			switch {
			case why != "" && (cell[name] != nil || !strings.Contains(fmt.Sprint(cell[name+"_missing"]), why)):
				t.Errorf("%s %s: %v, and why: %v; want %q", s.name, name, cell[name], cell[name+"_missing"], why)
			case why == "" && name == "knn_top1":
				o.near(s.name, name, cell[name], top1Of(accuracy(s, s, false, presetRules()[0], 20)))
			case why == "" && name == "map_full":
				o.near(s.name, name, cell[name], retrieval(s, s, false).ir)
			}
		}
	}
	o.refused("no labelled rows", "eval transfer", "--banks", "m/nolabels/train")
	o.refused("labels alone decide", "eval transfer", "--banks", "m/one/train,m/oneclass/train,m/onezero/train")
}

func top1Of(r right) float64 { return float64(r.top1) / float64(r.queries) }

// ingest writes the set to a bank. Group g has one row, and the others are in another.
func (s *oddSet) ingest(t *testing.T, dir, bank string) {
	var data []float32
	csv := "g,n\n"
	for i, row := range s.rows {
		data = append(data, row...)
		csv += fmt.Sprintf("%s,%d\n", map[bool]string{true: "single", false: "rest"}[i == 0], i)
	}
	file := filepath.Join(dir, s.name)
	if err := writeNPYFile(file+".npy", data, int64(len(s.rows)), int64(len(s.rows[0]))); err != nil {
		t.Fatal(err)
	}
	args := []string{"ingest", bank, file + ".npy", "--attributes", write(t, file+".csv", csv)}
	if s.labels != nil {
		if err := writeNPYFile(file+"-labels.npy", s.labels, int64(len(s.labels))); err != nil {
			t.Fatal(err)
		}
		args = append(args, "--labels", file+"-labels.npy")
	}
	must(t, args...)
}

// oddRun runs commands twice, for programs and for people, and looks at all that they say.
type oddRun struct {
	*testing.T
	brief             bool // for programs alone: people see what another line of the table prints
	dir               string
	normal            *oddSet
	answers, refusals int
}

func (o *oddRun) run(args ...string) result {
	o.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	var out, errs bytes.Buffer
	code := Run(ctx, append([]string{"membank", "--threads", "2"}, args...), strings.NewReader(""), &out, &errs)
	r := result{code, out.String(), errs.String()}
	if bad := unlike(r.out + r.err); bad != "" {
		o.Errorf("membank %s says %s:\n%s%s", strings.Join(args, " "), bad, r.out, r.err)
	}
	return r
}

// both runs a command for people and for programs.
func (o *oddRun) both(words []string) (human, r result) {
	r = o.run(append(words, "--json")...)
	if o.brief {
		said, _, _ := strings.Cut(r.err, "\n")
		return result{r.code, r.out, said + "\n"}, r
	}
	return o.run(words...), r
}

// split makes words of a command's name; the flags behind it may hold blanks.
func split(command string, args []string) []string { return append(strings.Fields(command), args...) }

// answer is the document of a command that is to succeed.
func (o *oddRun) answer(command string, args ...string) oddDocument {
	o.Helper()
	words := split(command, args)
	line := "membank " + strings.Join(words, " ")
	human, r := o.both(words)
	o.answers++
	if r.code != exitOK || human.code != exitOK {
		o.Errorf("%s: exit %d and %d: %s", line, r.code, human.code, r.err)
		return oddDocument{o: o, line: line}
	}
	d := oddDocument{o: o, line: line}
	for decoder := json.NewDecoder(strings.NewReader(r.out)); ; {
		var v map[string]any
		if err := decoder.Decode(&v); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			o.Errorf("%s: %v in %s", line, err, r.out)
			break
		}
		d.checkNulls(v, "")
		d.lines = append(d.lines, v)
	}
	return d
}

// refused is a command that is to say no: in one line, with the bank and what to do.
func (o *oddRun) refused(why, command string, args ...string) {
	o.Helper()
	words := split(command, args)
	line := "membank " + strings.Join(words, " ")
	human, r := o.both(words)
	o.refusals++
	said, _, _ := strings.Cut(r.err, "\n")
	named := slices.ContainsFunc(words, func(w string) bool {
		return slices.ContainsFunc(strings.Split(w, ","), func(bank string) bool {
			return strings.Contains(said, `"`+bank+`"`) || strings.Contains(said, " "+bank+":")
		})
	})
	switch {
	case r.code != exitBadInput && r.code != exitUsage || r.code != human.code:
		o.Errorf("%s: exit %d and %d, and should be refused: %s%s", line, r.code, human.code, why, r.out)
	case r.out != "" || human.out != "":
		o.Errorf("%s: refused, and printed %s", line, r.out)
	case !strings.HasPrefix(said, "membank: ") || !strings.HasSuffix(said, ")") || strings.Count(human.err, "\n") != 1 || !strings.Contains(said, why) || !named:
		o.Errorf("%s: %q; want one line with %q, the bank, and what to do in brackets", line, r.err, why)
	}
}

// either refuses, or returns the answer.
func (o *oddRun) either(why, command string, args ...string) (d oddDocument, ok bool) {
	o.Helper()
	if why != "" {
		o.refused(why, command, args...)
		return d, false
	}
	d = o.answer(command, args...)
	return d, len(d.lines) > 0
}

func (o *oddRun) near(what, name string, got any, want float64) {
	o.Helper()
	v, ok := got.(float64)
	if !ok || math.Abs(v-want) > 2e-5*max(1, math.Abs(want)) {
		o.Errorf("%s: %s is %v, want %v", what, name, got, want)
	}
}

// oddDocument is what a command printed for programs.
type oddDocument struct {
	o     *oddRun
	line  string
	lines []map[string]any
}

// checkNulls: a value that is missing has a reason beside it, or the contract says when.
func (d oddDocument) checkNulls(v any, within string) {
	switch v := v.(type) {
	case []any:
		for _, one := range v {
			d.checkNulls(one, within)
		}
	case map[string]any:
		for name, value := range v {
			if value != nil {
				d.checkNulls(value, name)
				continue
			}
			reason, _ := v[name+"_missing"].(string)
			agreed, _ := v["agreement_missing"].(string)
			switch {
			case reason != "" || agreed != "":
			case name == "T" || name == "epoch" || name == "precision": // of votes without one; no number in the name; nothing to compare with
			case within == "found" || within == "neighbours": // of rows without a label, or kept
			case v["clusters"] != nil && slices.Contains([]string{"kept_variance", "mean_cosine", "previous", "hungarian_acc"}, name):
			case v["clusters"] != nil && v["against"] == "": // nothing to compare with
			default:
				d.o.Errorf("%s: %s is null, and nothing says why", d.line, name)
			}
		}
	}
}

func (d oddDocument) list(name string) (list []map[string]any) {
	if len(d.lines) == 0 {
		return nil
	}
	some, _ := d.lines[0][name].([]any)
	for _, one := range some {
		list = append(list, one.(map[string]any))
	}
	return list
}

func (d oddDocument) value(name string) any {
	if len(d.lines) == 0 {
		return nil
	}
	return d.lines[0][name]
}

func (d oddDocument) near(name string, want float64) {
	d.o.Helper()
	d.o.near(d.line, name, d.value(name), want)
}

// missing: these have no value, and say why (checkNulls).
func (d oddDocument) missing(names ...string) {
	d.o.Helper()
	for _, name := range names {
		if v, has := d.lines[0][name]; v != nil || !has {
			d.o.Errorf("%s: %s is %v (%v), and should be missing", d.line, name, v, has)
		}
	}
}

func (d oddDocument) notes(says string) {
	d.o.Helper()
	if text := fmt.Sprint(d.value("notes")); !strings.Contains(text, says) {
		d.o.Errorf("%s: notes %s; want %q", d.line, text, says)
	}
}

// mustRead is a file that a command wrote.
func (o *oddRun) mustRead(path string) string {
	data, err := os.ReadFile(path)
	if err != nil {
		o.Error(err)
	}
	return string(data)
}
