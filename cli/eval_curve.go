package cli

import (
	"encoding/csv"
	"fmt"
	"io"
	"math"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"membank/bench/eval"
	"membank/store"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/plotutil"
	"gonum.org/v1/plot/vg"
)

// checkpoint is a pair of banks to evaluate.
type checkpoint struct {
	train, test string
	epoch       *int64 // in the name of train; nil: none
}

// checkpoints expands what --train and --test name: banks, lists of banks, patterns.
// As many of each are pairs in order, with patterns sorted by epoch and then by name;
// one test is that of all. several tells that lists or patterns were given.
func checkpoints(db *store.DB, train, test string) (pairs []checkpoint, several bool, err error) {
	several = strings.ContainsAny(train+test, ",*?[")
	trains, err := banksOf(db, train)
	if err != nil {
		return nil, false, err
	}
	tests := trains
	if test != train {
		if tests, err = banksOf(db, test); err != nil {
			return nil, false, err
		}
	}
	if len(tests) == 1 {
		for len(tests) < len(trains) {
			tests = append(tests, tests[0])
		}
	}
	if len(tests) != len(trains) {
		return nil, false, usage("--train names %s and --test %s (one test for each, or one for all): %s; %s",
			plural(len(trains), "bank"), plural(len(tests), "bank"), strings.Join(trains, ","), strings.Join(tests, ","))
	}
	for i, bank := range trains {
		pairs = append(pairs, checkpoint{bank, tests[i], epochOf(bank)})
	}
	return pairs, several, nil
}

// banksOf expands "a,b" and patterns, in which * stands for anything within a part of
// a name. A name that is no pattern need not exist: opening it says more.
func banksOf(db *store.DB, text string) (banks []string, err error) {
	for part := range strings.SplitSeq(text, ",") {
		part = strings.TrimSpace(part)
		if part == "" {
			return nil, usage("%q: a bank's name is empty (write BANK,BANK)", text)
		}
		if !strings.ContainsAny(part, "*?[") {
			banks = append(banks, part)
			continue
		}
		infos, err := db.Banks("")
		if err != nil {
			return nil, err
		}
		var found []string
		for _, info := range infos {
			ok, err := path.Match(part, info.Bank)
			if err != nil {
				return nil, usage("%q: not a pattern (%v)", part, err)
			}
			if ok {
				found = append(found, info.Bank)
			}
		}
		if len(found) == 0 {
			return nil, notFound("%q: no bank has such a name (membank ls names the %s)", part, plural(len(infos), "bank"))
		}
		slices.SortStableFunc(found, func(a, b string) int {
			x, y := epochOf(a), epochOf(b)
			if x == nil || y == nil || *x == *y {
				return 0
			}
			return int(min(1, max(-1, *x-*y)))
		})
		banks = append(banks, found...)
	}
	return banks, nil
}

var epochPattern = regexp.MustCompile(`(?i)(?:^|[/._-])(?:e|ep|epoch|step|it|iter|ckpt|checkpoint)[_-]?([0-9]{1,18})(?:$|[/._-])`)

// epochOf is the number behind e, ep, epoch, step or the like in a bank's name.
func epochOf(bank string) *int64 {
	m := epochPattern.FindStringSubmatch(bank)
	if m == nil {
		return nil
	}
	n, err := strconv.ParseInt(m[1], 10, 64)
	if err != nil {
		return nil
	}
	return &n
}

// curve is the accuracy of several checkpoints.
type curve struct {
	Protocol    string            `json:"protocol"`
	Results     []curvePoint      `json:"results"`
	Best        []curvePoint      `json:"best"` // at each k, the first of the highest
	Checkpoints []*eval.KNNResult `json:"checkpoints"`
	Seconds     float64           `json:"seconds"`
}

type curvePoint struct {
	Train string `json:"train"`
	Test  string `json:"test"`
	Epoch *int64 `json:"epoch"` // null: the name has none
	eval.KNNAtK
}

func newCurve(pairs []checkpoint, results []*eval.KNNResult) *curve {
	c := &curve{Protocol: results[0].Protocol, Checkpoints: results}
	for i, r := range results {
		c.Seconds += r.Seconds
		for j, at := range r.Results {
			at.PerClass = nil // stands under checkpoints
			p := curvePoint{pairs[i].train, pairs[i].test, pairs[i].epoch, at}
			c.Results = append(c.Results, p)
			switch {
			case i == 0:
				c.Best = append(c.Best, p)
			case at.Top1 > c.Best[j].Top1:
				c.Best[j] = p
			}
		}
	}
	return c
}

func (c *curve) print(w io.Writer) {
	columns := []column{left("train"), left("test"), number("epoch")}
	for _, best := range c.Best {
		columns = append(columns, number(fmt.Sprintf("top-1 %% k=%d", best.K)))
	}
	var rows [][]string
	for i, r := range c.Checkpoints {
		p := c.Results[i*len(c.Best)]
		row := []string{p.Train, p.Test, epochText(p.Epoch)}
		for j, at := range r.Results {
			text := percent(at.Top1)
			if c.Best[j].Train == p.Train && c.Best[j].Test == p.Test {
				text += " *"
			} else {
				text += "  "
			}
			row = append(row, text)
		}
		rows = append(rows, row)
	}
	printTable(w, columns, rows)
	for j, best := range c.Best {
		var line strings.Builder
		for i := range c.Checkpoints {
			line.WriteRune(c.bar(i, j))
		}
		fmt.Fprintf(w, "k=%-4d %s  best %s %% %s\n", best.K, line.String(), percent(best.Top1), best.Train)
	}
	fmt.Fprintf(w, "%s; %s (%s)\n", ruleText(c.Checkpoints[0]), plural(len(c.Checkpoints), "checkpoint"), seconds(c.Seconds))
	var told []string
	for i, r := range c.Checkpoints {
		for _, note := range r.Notes {
			if !slices.Contains(told, note) {
				told = append(told, note)
				fmt.Fprintf(w, "note: %s: %s\n", c.Results[i*len(c.Best)].Train, note)
			}
		}
	}
}

// bar draws checkpoint i at the j-th k between the lowest and the highest of that k.
func (c *curve) bar(i, j int) rune {
	low, high := math.Inf(1), math.Inf(-1)
	for _, r := range c.Checkpoints {
		low, high = min(low, r.Results[j].Top1), max(high, r.Results[j].Top1)
	}
	bars := []rune("▁▂▃▄▅▆▇█")
	if high == low {
		return bars[3]
	}
	return bars[int((c.Checkpoints[i].Results[j].Top1-low)/(high-low)*float64(len(bars)-1)+0.5)]
}

func epochText(epoch *int64) string {
	if epoch == nil {
		return ""
	}
	return count(*epoch)
}

func checkCurvePath(path string) error {
	switch strings.ToLower(filepath.Ext(path)) {
	case "", ".csv", ".svg", ".png":
		if path == "" || filepath.Ext(path) != "" {
			return nil
		}
	}
	return usage("-o %s: unknown kind of file (.csv, .svg or .png)", path)
}

// write writes the curve as a table or a plot.
func (c *curve) write(s *session, path string) error {
	file, err := s.createFile(path)
	if err != nil {
		return err
	}
	defer file.discard()
	if strings.EqualFold(filepath.Ext(path), ".csv") {
		err = c.writeCSV(file)
	} else {
		err = c.draw(file, strings.ToLower(filepath.Ext(path)[1:]))
	}
	if err != nil {
		return err
	}
	return file.keep()
}

func (c *curve) writeCSV(w io.Writer) error {
	out := csv.NewWriter(w)
	out.Write([]string{"protocol", "train", "test", "epoch", "k", "effective_k", "top1", "top5", "top5_voted"})
	number := func(v float64) string { return strconv.FormatFloat(v, 'g', -1, 64) }
	for _, p := range c.Results {
		epoch := ""
		if p.Epoch != nil {
			epoch = strconv.FormatInt(*p.Epoch, 10)
		}
		out.Write([]string{c.Protocol, p.Train, p.Test, epoch, strconv.Itoa(p.K), strconv.Itoa(p.EffectiveK), number(p.Top1), number(p.Top5), number(p.Top5Voted)})
	}
	out.Flush()
	return out.Error()
}

// draw sets a line for each k over the epochs, or over the order of the checkpoints
// where one has no epoch in its name.
func (c *curve) draw(w io.Writer, format string) error {
	p := plot.New()
	p.Title.Text = c.Protocol
	p.X.Label.Text, p.Y.Label.Text = "epoch", "top-1 accuracy, %"
	if slices.ContainsFunc(c.Results, func(p curvePoint) bool { return p.Epoch == nil }) {
		p.X.Label.Text = "checkpoint"
	}
	p.Add(plotter.NewGrid())
	var lines []any
	for j, best := range c.Best {
		var points plotter.XYs
		for i, r := range c.Checkpoints {
			x := float64(i + 1)
			if p.X.Label.Text == "epoch" {
				x = float64(*c.Results[i*len(c.Best)].Epoch)
			}
			points = append(points, plotter.XY{X: x, Y: 100 * r.Results[j].Top1})
		}
		lines = append(lines, fmt.Sprintf("k=%d", best.K), points)
	}
	if err := plotutil.AddLinePoints(p, lines...); err != nil {
		return err
	}
	p.Legend.Top = false
	to, err := p.WriterTo(16*vg.Centimeter, 10*vg.Centimeter, format)
	if err != nil {
		return err
	}
	_, err = to.WriteTo(w)
	return err
}
