package cli

import (
	"archive/zip"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"membank/bench/eval"
	"membank/cli/figure"
	"membank/store"

	ucli "github.com/urfave/cli/v2"
)

func reportCommand() *ucli.Command {
	return &ucli.Command{
		Name: "report", Usage: "write a page of figures and plots about banks", ArgsUsage: "BANK…",
		Description: "One HTML file that loads nothing: kNN accuracy of every bank, over the epochs in\n" +
			"their names; class by class, confusion, spectrum, similarities, hubs, nearest\n" +
			"neighbours and maps of one of them, the last or --focus; the rows that moved most\n" +
			"between two checkpoints. Under each plot stands the protocol and the command that\n" +
			"gives its numbers. Without --test every row is\n" +
			"classified by the others.\n\n" +
			"  membank report train --test test -o report.html\n" +
			"  membank report 'simclr/*/train' --test 'simclr/*/test' --images images\n" +
			"  membank report train --views train/view1,train/view2 --plots plots",
		Flags: []ucli.Flag{
			&ucli.StringFlag{Name: "test", Usage: "the `BANK` whose rows are classified; one for each bank, or one for all", DefaultText: "each bank's own rows"},
			protocolFlag("dino"), kFlag(), temperatureFlag(), metricFlag(),
			&ucli.StringFlag{Name: "focus", Usage: "the `BANK` that is shown in detail", DefaultText: "the last"},
			&ucli.StringFlag{Name: "views", Usage: "`BANK,BANK` hold two views of rows, under equal keys: for similarities of pairs"},
			&ucli.StringFlag{Name: "images", Usage: "`DIR` where keys are paths of images"},
			&ucli.StringFlag{Name: "map-rows", Usage: "`N` rows on the maps", Value: "1500", DefaultText: "1500"},
			&ucli.StringFlag{Name: "title", Usage: "`TITLE` of the page", DefaultText: "the banks' names"},
			&ucli.StringFlag{Name: "plots", Usage: "write each plot to `DIR`, as .svg and .png"},
			seedFlag(),
			noCodesFlag(),
			cardFlag(),
			&ucli.StringFlag{Name: "output", Aliases: []string{"o"}, Usage: "write the page to `FILE`: .html, or .zip with its plots beside it", Value: "report.html", DefaultText: "report.html"},
		},
		Action: action([]string{"BANK…"}, runReport),
	}
}

// reporting is a report under way.
type reporting struct {
	s        *session
	c        *ucli.Context
	db       *store.DB
	rule     eval.KNN
	seed     uint64
	mapRows  int
	pictures *pictures

	asked   checkpoint // the banks as they were named, by patterns perhaps
	pairs   []checkpoint
	infos   map[string]store.Info // of the banks
	results []*eval.KNNResult
	checks  []*eval.Diagnosis
	focus   int // of pairs
	at      int // the k that is shown in detail, a place in the results
	views   *eval.Diagnosis
	layout  *eval.Projection // of the maps; nil: there is none
	// compared are the bank in focus and another checkpoint; nil: there is none.
	compared *eval.Comparison
	page     *reportPage
	plots    []*figure.Figure
}

// reported is what a report prints.
type reported struct {
	Page    string       `json:"page"`
	Bytes   int64        `json:"bytes"`
	Banks   []reportBank `json:"banks"`
	Focus   string       `json:"focus"`
	Plots   []string     `json:"plots"` // files
	Seconds float64      `json:"seconds"`

	Figures *reportFigures `json:"figures,omitempty"` // for a card only
}

// reportFigures are the numbers behind the plots of a page, and what the plots are.
type reportFigures struct {
	KNN       []*eval.KNNResult `json:"knn"`      // of each bank
	Diagnoses []*eval.Diagnosis `json:"diagnose"` // of each bank
	Views     *eval.Diagnosis   `json:"views,omitempty"`
	Compared  *eval.Comparison  `json:"compare,omitempty"`
	Map       *reportMap        `json:"map,omitempty"`
	Drawn     []drawnPlot       `json:"drawn"`
}

// reportMap is how far the maps can be believed.
type reportMap struct {
	Rows       int        `json:"rows"`
	Shares     [2]float64 `json:"pca_variance"`
	TrustPCA   float64    `json:"trustworthiness_pca"`
	TrustTSNE  float64    `json:"trustworthiness_tsne"`
	TrustK     int        `json:"trustworthiness_k"`
	Perplexity float64    `json:"perplexity"`
	Iterations int        `json:"iterations"`
	KL         float64    `json:"kl"`
}

// drawnPlot is a plot of the page, and the command that gives its numbers.
type drawnPlot struct {
	Name     string `json:"name"`
	Title    string `json:"title"`
	Protocol string `json:"protocol"`
	Command  string `json:"command"`
}

type reportBank struct {
	Train   string       `json:"train"`
	Test    string       `json:"test"`
	Epoch   *int64       `json:"epoch"`
	K       int          `json:"k"`
	Top1    float64      `json:"top1"`
	Verdict eval.Verdict `json:"verdict"`
}

func runReport(ctx context.Context, s *session, c *ucli.Context, args []string) error {
	start := time.Now()
	r := &reporting{s: s, c: c, infos: map[string]store.Info{}}
	var err error
	if r.rule, err = knnFlags(c); err != nil {
		return err
	}
	if r.seed, err = seedOf(c, 63); err != nil {
		return err
	}
	if r.mapRows, err = countFlag(c, "map-rows"); err != nil {
		return err
	}
	path := c.String("output")
	kind := strings.ToLower(filepath.Ext(path))
	switch {
	case kind != ".html" && kind != ".zip":
		return usage("-o %s: unknown kind of file (.html, or .zip for the page and its plots)", path)
	case kind == ".zip" && c.String("plots") != "":
		return usage("-o %s: holds the plots, too (leave out --plots)", path)
	}
	if list := c.String("views"); list != "" && len(strings.Split(list, ",")) != 2 {
		return usage("--views %s: it takes two banks, of the first and of the second views (write BANK,BANK)", list)
	}
	images := c.String("images")
	if s.served != nil {
		images = s.served.images
	}
	if r.pictures, err = openPictures(images); err != nil {
		return err
	}
	defer r.pictures.close()
	if dir := c.String("plots"); dir != "" {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return usage("--plots %s: cannot be made (%v)", dir, errors.Unwrap(err))
		}
	}
	var file *newFile
	if !s.card.computesAgain() {
		if file, err = s.createFile(path); err != nil {
			return err
		}
		defer file.discard()
	}
	err = s.reading(ctx, func(db *store.DB) error {
		r.db = db
		return r.compute(ctx, strings.Join(args, ","))
	})
	if err != nil {
		return err
	}
	out := reported{Page: path, Focus: r.pairs[r.focus].train, Plots: []string{}}
	if file != nil {
		if err := r.writePage(file, kind); err != nil {
			return err
		}
		out.Bytes = file.size()
	}
	if s.card != nil {
		out.Figures = r.figuresForCard()
	}
	for i, p := range r.pairs {
		out.Banks = append(out.Banks, reportBank{p.train, p.test, p.epoch, r.results[i].Results[r.at].K, r.results[i].Results[r.at].Top1, r.checks[i].Verdict})
	}
	if dir := c.String("plots"); dir != "" {
		if out.Plots, err = writePlots(dir, r.plots); err != nil {
			return err
		}
	}
	out.Seconds = time.Since(start).Seconds()
	return s.emit(out, func(w io.Writer) { printReported(w, out) })
}

// writePage writes the page, as such or with its plots.
func (r *reporting) writePage(file *newFile, kind string) (err error) {
	if kind == ".zip" {
		err = r.writeZip(file)
	} else {
		err = reportTemplate.Execute(file, r.page)
	}
	if err != nil {
		return err
	}
	return file.keep()
}

// figuresForCard are the numbers that the page shows.
func (r *reporting) figuresForCard() *reportFigures {
	f := &reportFigures{KNN: r.results, Diagnoses: r.checks, Views: r.views, Compared: r.compared}
	if m := r.layout; m != nil {
		f.Map = &reportMap{len(m.Rows), m.Shares, m.TrustPCA, m.TrustTSNE, m.TrustK, m.Perplexity, m.Iterations, m.KL}
	}
	for _, s := range r.page.Sections {
		for _, p := range s.Plots {
			if p.Line == r.s.line { // without the names of files
				p.Line = commandLine(append([]string{"membank"}, r.s.card.Argv...))
			}
			f.Drawn = append(f.Drawn, drawnPlot{p.Name, p.Title, p.Protocol, p.Line})
		}
	}
	return f
}

func printReported(w io.Writer, r reported) {
	var rows [][]string
	for _, b := range r.Banks {
		rows = append(rows, []string{b.Train, b.Test, epochText(b.Epoch), percent(b.Top1), string(b.Verdict)})
	}
	printTable(w, []column{left("bank"), left("test"), number("epoch"), number(fmt.Sprintf("top-1 %% k=%d", r.Banks[0].K)), left("verdict")}, rows)
	fmt.Fprintf(w, "%s written (%s, %s", r.Page, size(r.Bytes), seconds(r.Seconds))
	if len(r.Plots) > 0 {
		fmt.Fprintf(w, "; %s in %s", plural(len(r.Plots), "file"), filepath.Dir(r.Plots[0]))
	}
	fmt.Fprintln(w, ")")
}

// writePlots writes each plot as DIR/NAME.svg and DIR/NAME.png.
func writePlots(dir string, plots []*figure.Figure) (paths []string, err error) {
	for _, f := range plots {
		for ext, write := range map[string]func(io.Writer) error{".svg": f.WriteSVG, ".png": f.WritePNG} {
			path := filepath.Join(dir, f.Name+ext)
			file, err := createFile(path)
			if err == nil {
				if err = write(file); err == nil {
					err = file.keep()
				}
				file.discard()
			}
			if err != nil {
				return paths, err
			}
			paths = append(paths, path)
		}
	}
	slices.Sort(paths)
	return paths, nil
}

// writeZip writes the page as report.html, and each plot as plots/NAME.svg and .png.
func (r *reporting) writeZip(to io.Writer) error {
	z := zip.NewWriter(to)
	w, err := z.Create("report.html")
	if err != nil {
		return err
	}
	if err := reportTemplate.Execute(w, r.page); err != nil {
		return err
	}
	for _, f := range r.plots {
		if w, err = z.Create("plots/" + f.Name + ".svg"); err == nil {
			err = f.WriteSVG(w)
		}
		if err != nil {
			return err
		}
		if w, err = z.CreateHeader(&zip.FileHeader{Name: "plots/" + f.Name + ".png"}); err == nil {
			err = f.WritePNG(w)
		}
		if err != nil {
			return err
		}
	}
	return z.Close()
}

// compute evaluates and diagnoses every pair, then fills the page.
func (r *reporting) compute(ctx context.Context, banks string) (err error) {
	test := r.c.String("test")
	r.rule.LeaveOneOut, r.rule.PerClass = test == "", true
	if test == "" {
		test = banks
	}
	r.asked = checkpoint{train: banks, test: test}
	if r.pairs, _, err = checkpoints(r.db, banks, test); err != nil {
		return err
	}
	if err := r.chooseFocus(); err != nil {
		return err
	}
	mistakes := newMistakes()
	for i, p := range r.pairs {
		if err := r.evaluate(ctx, i, p, mistakes); err != nil {
			return err
		}
	}
	r.at = bestAt(r.results[r.focus])
	if list := r.c.String("views"); list != "" {
		first, second, _ := strings.Cut(list, ",")
		if r.views, err = r.diagnose(ctx, strings.TrimSpace(first), strings.TrimSpace(second)); err != nil {
			return err
		}
	}
	r.begin()
	r.accuracy()
	r.classes()
	r.geometry()
	if err := r.maps(ctx); err != nil {
		return err
	}
	if err := r.moved(ctx); err != nil {
		return err
	}
	return r.neighbours(ctx, mistakes.of(r.results[r.focus].Results[r.at].K))
}

func (r *reporting) chooseFocus() error {
	r.focus = len(r.pairs) - 1
	name := r.c.String("focus")
	if name == "" {
		return nil
	}
	var names []string
	for i, p := range r.pairs {
		if p.train == name {
			r.focus = i
			return nil
		}
		names = append(names, p.train)
	}
	return usage("--focus %s: not among the banks of the report (%s)", name, strings.Join(names, ", "))
}

// evaluate scores and diagnoses pair i.
func (r *reporting) evaluate(ctx context.Context, i int, p checkpoint, m *mistakes) error {
	err := snapshot(r.db, p.train, func(train *store.Snapshot) error {
		return snapshot(r.db, p.test, func(test *store.Snapshot) error {
			r.infos[p.train], r.infos[p.test] = train.Info(), test.Info()
			if err := r.s.uses(ctx, train, test); err != nil {
				return err
			}
			progress := r.s.newBar(fmt.Sprintf("report: eval knn %d of %d", i+1, len(r.pairs)), "queries", test.Info().Rows)
			defer progress.close()
			o := r.s.runOptions(progress)
			o.NoCodes = r.c.Bool("no-codes")
			if i == r.focus {
				o.Each = m.see
			}
			result, err := r.rule.Evaluate(ctx, train, test, o)
			r.results = append(r.results, result)
			return err
		})
	})
	if err != nil {
		return err
	}
	d, err := r.diagnose(ctx, p.train, "")
	r.checks = append(r.checks, d)
	return err
}

func (r *reporting) diagnose(ctx context.Context, bank, views string) (d *eval.Diagnosis, err error) {
	err = snapshot(r.db, bank, func(rows *store.Snapshot) error {
		if err := r.s.uses(ctx, rows); err != nil {
			return err
		}
		progress := r.s.newBar("report: diagnose "+bank, "rows", -1)
		defer progress.close()
		o := r.s.runOptions(progress)
		o.NoCodes = r.c.Bool("no-codes")
		run := func(views *store.Snapshot) (err error) {
			if views != nil {
				if err := r.s.uses(ctx, views); err != nil {
					return err
				}
			}
			d, err = eval.Diagnose{Seed: r.seed}.Run(ctx, rows, views, o)
			return err
		}
		if views == "" {
			return run(nil)
		}
		return snapshot(r.db, views, run)
	})
	return d, err
}

// bestAt is the place of the first k with the highest accuracy.
func bestAt(r *eval.KNNResult) (at int) {
	for j, result := range r.Results {
		if result.Top1 > r.Results[at].Top1 {
			at = j
		}
	}
	return at
}

// mistakes keeps the wrong predictions that neighbours were surest of, for every k.
type mistakes struct {
	byK map[int][]eval.Prediction
}

const shownMistakes = 6

func newMistakes() *mistakes { return &mistakes{byK: map[int][]eval.Prediction{}} }

func (m *mistakes) see(p eval.Prediction) {
	if p.Right || p.Class == store.NoLabel {
		return
	}
	list := append(m.byK[p.K], p)
	slices.SortStableFunc(list, func(a, b eval.Prediction) int {
		switch {
		case a.Share > b.Share:
			return -1
		case a.Share < b.Share:
			return 1
		}
		return 0
	})
	m.byK[p.K] = list[:min(len(list), shownMistakes)]
}

func (m *mistakes) of(k int) []eval.Prediction { return m.byK[k] }

// evalLine is the command that gives the accuracies of a pair.
func (r *reporting) evalLine(p checkpoint) string {
	var k []string
	for _, at := range r.results[r.focus].Results {
		k = append(k, strconv.Itoa(at.K))
	}
	words := []string{"membank", "eval", "knn", "--train", p.train}
	if r.rule.LeaveOneOut {
		words = append(words, "--leave-one-out")
	} else {
		words = append(words, "--test", p.test)
	}
	words = append(words, "--protocol", r.c.String("protocol"), "-k", strings.Join(k, ","))
	for _, name := range []string{"T", "metric"} {
		if v := r.c.String(name); v != "" {
			words = append(words, dashed(name), v)
		}
	}
	return commandLine(words)
}

// diagnoseLine is that of the figures of a bank.
func (r *reporting) diagnoseLine(bank string) string {
	words := []string{"membank", "diagnose", bank}
	if r.seed != 0 {
		words = append(words, "--seed", strconv.FormatUint(r.seed, 10))
	}
	return commandLine(words)
}
