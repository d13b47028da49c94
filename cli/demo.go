package cli

import (
	"context"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"membank/bench/eval"
	"membank/index"
	"membank/store"

	ucli "github.com/urfave/cli/v2"
)

//go:embed demo
var demoFiles embed.FS

// demoMethods are the two sets of features in the binary, worse first.
var demoMethods = []struct{ name, title string }{
	{"untrained", "untrained"},
	{"simclr", "SimCLR"},
}

// demoReport is what the demo did.
type demoReport struct {
	Out     string                        `json:"out"`
	DB      string                        `json:"db"`
	Page    string                        `json:"page"`
	Banks   []ingested                    `json:"banks"`
	Example answer                        `json:"example"`
	Index   demoLists                     `json:"index"`
	Eval    map[string]*eval.KNNResult    `json:"eval"`
	Wanted  map[string]map[string]float64 `json:"reference"` // top-1 by method and k
	Equal   bool                          `json:"equal"`     // every accuracy is the reference code's
	Seconds float64                       `json:"seconds"`
}

func demoCommand() *ucli.Command {
	return &ucli.Command{
		Name: "demo", Usage: "see it work on real embeddings, in seconds",
		Description: "Ingests real SimCLR embeddings of 2,500 Fashion-MNIST images, which the program\n" +
			"carries along, finds neighbours, exactly and by lists, checks the kNN accuracy\n" +
			"against the reference code's and writes an HTML page of images with their nearest\n" +
			"neighbours.\n\n" +
			"  membank demo\n" +
			"  membank demo --out /tmp/look",
		Flags: []ucli.Flag{
			&ucli.StringFlag{Name: "out", Usage: "write the database, the page and the files to `DIR`", Value: "membank-demo", DefaultText: "membank-demo"},
		},
		Action: action(nil, runDemo),
	}
}

func runDemo(ctx context.Context, s *session, c *ucli.Context, _ []string) error {
	start := time.Now()
	out := c.String("out")
	if c.IsSet("db") && s.dir != os.Getenv("MEMBANK_DB") {
		return usage("demo: it makes a database of its own, --db %s is not for it (say where with --out DIR)", s.dir)
	}
	if err := demoDirectory(out); err != nil {
		return err
	}
	s.dir = filepath.Join(out, "membank.db")
	r := demoReport{Out: out, DB: s.dir, Page: filepath.Join(out, "neighbours.html"), Eval: map[string]*eval.KNNResult{}, Equal: true}
	wanted, err := demoReference()
	if err != nil {
		return err
	}
	r.Wanted = wanted.byK()
	err = s.writing(ctx, true, func(db *store.DB) error {
		for _, m := range demoMethods {
			for _, part := range []string{"train", "test"} {
				result, err := s.demoIngest(ctx, db, out, m.name, part)
				if err != nil {
					return err
				}
				r.Banks = append(r.Banks, result)
			}
			result, err := s.demoEval(ctx, db, m.name, wanted.K)
			if err != nil {
				return err
			}
			r.Eval[m.name] = result
			r.Equal = r.Equal && wanted.equals(m.name, result)
		}
		if r.Index, err = s.demoIndex(ctx, db, "simclr/train", "simclr/test"); err != nil {
			return err
		}
		p, example, err := s.demoPage(ctx, db, r)
		if err != nil {
			return err
		}
		r.Example = example
		file, err := createFile(r.Page)
		if err != nil {
			return err
		}
		defer file.discard()
		if err := p.render(file); err != nil {
			return err
		}
		return file.keep()
	})
	if err != nil {
		return err
	}
	r.Seconds = time.Since(start).Seconds()
	if err := s.emit(r, func(w io.Writer) { printDemo(w, r, wanted) }); err != nil {
		return err
	}
	if !r.Equal {
		return errors.New("demo: an accuracy differs from the reference code's (please report it with the output of membank doctor)")
	}
	return nil
}

// demoMark is a file that only the demo writes: a directory that has it may be
// written over, any other that is not empty may not.
const demoMark = "NOTICE.md"

// demoDirectory writes the files of the binary into the directory.
func demoDirectory(out string) error {
	entries, err := os.ReadDir(out)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return usage("--out %s: %v (name a new directory)", out, errors.Unwrap(err))
	}
	mark, _ := demoFiles.ReadFile("demo/" + demoMark)
	found, _ := os.ReadFile(filepath.Join(out, demoMark))
	if len(entries) > 0 && string(found) != string(mark) {
		return usage("--out %s: the directory holds other files (name a new or an empty one)", out)
	}
	if err := os.MkdirAll(out, 0o755); err != nil {
		return err
	}
	// The mark comes first: a demo that was interrupted can be run again.
	if err := os.WriteFile(filepath.Join(out, demoMark), mark, 0o644); err != nil {
		return err
	}
	return fs.WalkDir(demoFiles, "demo", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := demoFiles.ReadFile(path)
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(out, filepath.Base(path)), data, 0o644)
	})
}

// demoNumbers are the accuracies that the reference code computes.
type demoNumbers struct {
	K         []int     `json:"k"`
	Untrained []float64 `json:"untrained"`
	SimCLR    []float64 `json:"simclr"`
}

func demoReference() (n demoNumbers, err error) {
	data, err := demoFiles.ReadFile("demo/reference.json")
	if err != nil {
		return n, err
	}
	return n, json.Unmarshal(data, &n)
}

func (n demoNumbers) of(method string) []float64 {
	if method == "simclr" {
		return n.SimCLR
	}
	return n.Untrained
}

func (n demoNumbers) byK() map[string]map[string]float64 {
	all := map[string]map[string]float64{}
	for _, m := range demoMethods {
		all[m.name] = map[string]float64{}
		for i, k := range n.K {
			all[m.name][strconv.Itoa(k)] = n.of(m.name)[i]
		}
	}
	return all
}

// equals compares counts of correct queries: the reference is a fraction with
// three decimals of 500.
func (n demoNumbers) equals(method string, r *eval.KNNResult) bool {
	for i, at := range r.Results {
		if at.K != n.K[i] || at.Correct1 != int64(n.of(method)[i]*float64(r.TestRows)+0.5) {
			return false
		}
	}
	return len(r.Results) == len(n.K)
}

// demoIngest takes the same way as membank ingest, from the files in the directory.
func (s *session) demoIngest(ctx context.Context, db *store.DB, out, method, part string) (ingested, error) {
	names, err := readLines(filepath.Join(out, "class_names.txt"))
	if err != nil {
		return ingested{}, err
	}
	in := &sources{
		paths:  []string{filepath.Join(out, method+"_"+part+".npy")},
		labels: filepath.Join(out, part+"_labels.npy"),
		keys:   filepath.Join(out, part+"_keys.txt"),
	}
	if err := in.check(); err != nil {
		return ingested{}, err
	}
	o := store.WriterOptions{Mode: store.Replace, ClassNames: names}
	return s.ingest(ctx, db, method+"/"+part, in, o, time.Now())
}

func (s *session) demoEval(ctx context.Context, db *store.DB, method string, ks []int) (result *eval.KNNResult, err error) {
	err = snapshot(db, method+"/train", func(train *store.Snapshot) error {
		return snapshot(db, method+"/test", func(test *store.Snapshot) error {
			result, err = eval.KNN{K: ks}.Evaluate(ctx, train, test, eval.RunOptions{Threads: s.threads, Memory: s.memory / 2})
			return err
		})
	})
	return result, err
}

const (
	demoPerClass   = 5  // queries of each class on the page
	demoNeighbours = 10 // of each query
	demoTiles      = 50 // in a row of a sprite
)

// demoPage finds the neighbours of some test images in both feature spaces. It
// returns the answer to the first as an example.
func (s *session) demoPage(ctx context.Context, db *store.DB, r demoReport) (*page, answer, error) {
	p := &page{
		Title: "What SimCLR learnt to find alike",
		Intro: "Test images of Fashion-MNIST and their ten nearest training images by cosine, exact: in the features of a small CNN " +
			"before training, and after four epochs of SimCLR, which saw images but no labels.",
		Chart: &chart{Title: "kNN accuracy over k, top-1 %"},
		Footer: "Written by membank " + version() + ". Images: Fashion-MNIST, MIT licence, © 2017 Zalando SE " +
			"(Xiao, Rasul, Vollgraf 2017).",
	}
	if r.Equal {
		p.Chart.Note = "Weighted vote exp(s/0.07), 500 queries, 2,000 gallery images. Every number equals the reference code’s."
	}
	for _, name := range []string{"train", "test"} {
		data, err := demoFiles.ReadFile("demo/" + name + "_sprite.png")
		if err != nil {
			return nil, answer{}, err
		}
		p.Sheets = append(p.Sheets, newSheet(name, data, demoTiles))
	}
	var example answer
	for i, m := range demoMethods {
		series := chartSeries{Name: m.title, Class: []string{"first", "second"}[i]}
		for _, at := range r.Eval[m.name].Results {
			series.Y = append(series.Y, at.Top1)
		}
		p.Chart.Series = append(p.Chart.Series, series)
		err := snapshot(db, m.name+"/train", func(train *store.Snapshot) error {
			return snapshot(db, m.name+"/test", func(test *store.Snapshot) (err error) {
				example, err = s.demoAnswers(ctx, train, test, m.title, p)
				return err
			})
		})
		if err != nil {
			return nil, answer{}, err
		}
	}
	for _, at := range r.Eval["simclr"].Results {
		p.Chart.K = append(p.Chart.K, at.K)
	}
	return p, example, nil
}

// demoAnswers adds one method's neighbours to the queries of the page.
func (s *session) demoAnswers(ctx context.Context, train, test *store.Snapshot, title string, p *page) (answer, error) {
	rows, err := demoRows(ctx, test)
	if err != nil {
		return answer{}, err
	}
	o := index.Options{K: demoNeighbours, Threads: s.threads}
	ask := asking{asked: asked{rows: rows}, snap: test, batch: len(rows)}
	base := answering{s: s, snap: train, options: o}
	var example answer
	err = ask.batches(ctx, func(q questions) error {
		found, err := index.New(train).Search(ctx, q.vectors, o)
		if err != nil {
			return err
		}
		list, err := base.named(ctx, 0, q, found.Hits)
		if err != nil {
			return err
		}
		example = list[0]
		classNames := test.Info().ClassNames
		if p.Queries == nil {
			p.Classes = classNames
			for i, row := range q.rows {
				p.Queries = append(p.Queries, pageQuery{Picture: tile("test", row), Key: q.keys[i], Class: className(classNames, q.labels[i])})
			}
		}
		for i, a := range list {
			shown := pageAnswer{Name: title}
			for _, n := range a.Neighbours {
				shown.Hits = append(shown.Hits, pageHit{Picture: tile("train", n.Row), Key: n.Key, Class: n.Class, Score: scoreText(n.Score), Verdict: verdict(&q.labels[i], n.Label)})
			}
			shown.judge()
			p.Queries[i].Answers = append(p.Queries[i].Answers, shown)
		}
		return nil
	})
	return example, err
}

// demoRows are the first test rows of each class, taken in turn.
func demoRows(ctx context.Context, test *store.Snapshot) ([]int64, error) {
	labels, err := test.Labels(ctx)
	if err != nil {
		return nil, err
	}
	var rows []int64
	for turn := range demoPerClass {
		for class := range int64(len(test.Info().ClassNames)) {
			left := turn
			for row, l := range labels {
				if l != class {
					continue
				}
				if left == 0 {
					rows = append(rows, int64(row))
					break
				}
				left--
			}
		}
	}
	return rows, nil
}

// tile is the picture of a row in a sprite.
func tile(sheet string, row int64) picture {
	return picture{Sheet: sheet, X: int(row % demoTiles), Y: int(row / demoTiles)}
}

func printDemo(w io.Writer, r demoReport, wanted demoNumbers) {
	fmt.Fprint(w, "Real embeddings: 2,500 Fashion-MNIST images in 256 dimensions, from a small CNN\nbefore training (untrained) and after four epochs of SimCLR.\n\n")
	rows := [][]string{}
	for _, b := range r.Banks {
		rows = append(rows, []string{b.Bank, count(b.Rows), strconv.Itoa(b.Dim), strconv.Itoa(b.Classes), size(b.Bytes), seconds(b.Seconds)})
	}
	printTable(w, []column{left("ingested"), number("rows"), number("dim"), number("classes"), number("size"), number("durable in")}, rows)

	fmt.Fprintf(w, "\nNearest to %s in simclr/train:\n", r.Example.Key)
	rows = rows[:0]
	for i, n := range r.Example.Neighbours[:5] {
		rows = append(rows, []string{strconv.Itoa(i + 1), n.Key, n.Class, strconv.FormatFloat(float64(n.Score), 'f', 5, 32)})
	}
	printTable(w, []column{number("rank"), left("key"), left("class"), number("cosine")}, rows)

	fmt.Fprint(w, "\nkNN accuracy, top-1 %, beside the reference code's:\n")
	rows = rows[:0]
	for i, k := range wanted.K {
		row := []string{strconv.Itoa(k)}
		for _, m := range demoMethods {
			row = append(row, percent(r.Eval[m.name].Results[i].Top1), percent(wanted.of(m.name)[i]))
		}
		rows = append(rows, row)
	}
	printTable(w, []column{number("k"), number("untrained"), number("reference"), number("SimCLR"), number("reference")}, rows)
	if r.Equal {
		fmt.Fprintf(w, "All %d accuracies equal the reference code's.\n", len(demoMethods)*len(wanted.K))
	}
	printDemoLists(w, r.Index)
	fmt.Fprintf(w, "\nOpen %s to see the neighbours.\n", r.Page)
	fmt.Fprintf(w, "\nOn your own files (features from np.save, labels as integers or names):\n")
	for _, line := range demoTry {
		fmt.Fprintf(w, "  %s %s\n", programName(), line)
	}
}

var demoTry = []string{
	"ingest mine features.npy --labels labels.npy",
	"query mine --row 0 --exclude-self -k 5",
	"eval knn --train mine --leave-one-out",
}

// programName is how the person started the program.
func programName() string {
	if exe, err := os.Executable(); err == nil && strings.Contains(exe, "go-build") {
		return "go run ./cli/membank"
	}
	return "membank"
}
