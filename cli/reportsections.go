package cli

import (
	"fmt"
	"math"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"membank/bench/eval"
	"membank/cli/figure"
	"membank/store"
)

// Limits of what a page shows of many classes.
const (
	matrixClasses = 30 // in a confusion matrix; more are a table of confusions
	barClasses    = 40 // with a bar each; more are the best and the worst
	namedClasses  = 10 // with a colour of their own on a map
)

// begin writes the head of the page.
func (r *reporting) begin() {
	f := r.results[r.focus]
	at, d := f.Results[r.at], r.checks[r.focus]
	title := r.c.String("title")
	if title == "" {
		title = "Embeddings of " + r.pairs[r.focus].train
		if n := len(r.pairs); n > 1 {
			title += fmt.Sprintf(" and %s", plural(n-1, "more bank"))
		}
	}
	r.page = &reportPage{Title: title, Line: r.s.line}
	rows := "each row classified by the others"
	if !r.rule.LeaveOneOut {
		rows = fmt.Sprintf("%s of %s classified by them", plural(f.TestRows, "row"), f.Test.Bank)
	}
	r.page.Intro = fmt.Sprintf("%s of %d dimensions in %d classes, %s. In detail: %s.", plural(f.TrainRows, "labelled row"), f.Dim, f.Classes, rows, f.Train.Bank)
	most := "of k = "
	for i, k := range f.Results {
		if i > 0 {
			most += ", "
		}
		most += strconv.Itoa(k.K)
	}
	r.page.Headline = []headline{
		{percent(at.Top1) + " %", fmt.Sprintf("top-1, k = %d", at.K), "the best " + most},
		{percent(at.Top5) + " %", fmt.Sprintf("top-5, k = %d", at.K), f.Protocol},
		{string(d.Verdict), "verdict on the space", fmt.Sprintf("%s below", plural(len(d.Reasons), "reason"))},
		{numberText(d.Figures, "rankme_raw"), "RankMe", fmt.Sprintf("of %d at most", min(int64(f.Dim), f.Train.Rows))},
	}
	if len(d.Reasons) == 0 {
		r.page.Headline[2].Note = "no threshold crossed"
	}
	r.page.Footer = "Written by membank " + version() + "."
	seen := map[string]bool{}
	for i := range r.results {
		for _, use := range []eval.BankUse{r.results[i].Train, r.results[i].Test} {
			if seen[use.Bank] {
				continue
			}
			seen[use.Bank] = true
			info := r.infos[use.Bank]
			line := reportBankUse{BankUse: use, Dim: info.Dim, Labels: info.Classes}
			for _, source := range info.Sources {
				for _, f := range source.Files {
					line.Files = append(line.Files, filepath.Base(f.Name)+" "+f.Checksum)
				}
			}
			r.page.Sources = append(r.page.Sources, line)
		}
	}
}

// runOf is a bank's name without its epoch.
func runOf(bank string) string {
	m := epochPattern.FindStringIndex(bank)
	if m == nil {
		return bank
	}
	return strings.Trim(bank[:m[0]]+"/"+bank[m[1]:], "/")
}

// accuracy is a curve over epochs where names have them, bars where there are several
// banks, and a curve over k.
func (r *reporting) accuracy() {
	s := reportSection{ID: "accuracy", Title: "Accuracy"}
	rule := ruleText(r.results[0])
	epochs := len(r.pairs) > 1
	var runs []string
	for _, p := range r.pairs {
		epochs = epochs && p.epoch != nil
		if run := runOf(p.train); !slices.Contains(runs, run) {
			runs = append(runs, run)
		}
	}
	ks := r.results[r.focus].Results
	if epochs {
		var curves []figure.Curve
		for _, run := range runs {
			for j, at := range ks {
				name := fmt.Sprintf("k = %d", at.K)
				if len(runs) > 1 {
					if j != r.at {
						continue
					}
					name = run
				}
				c := figure.Curve{Name: name, Dots: true}
				for i, p := range r.pairs {
					if runOf(p.train) == run {
						c.X, c.Y = append(c.X, float64(*p.epoch)), append(c.Y, 100*r.results[i].Results[j].Top1)
					}
				}
				curves = append(curves, c)
			}
		}
		caption := "One curve for each number of neighbours."
		if len(runs) > 1 {
			caption = fmt.Sprintf("One curve for each run, k = %d.", ks[r.at].K)
		}
		s.Plots = append(s.Plots, r.plot(figure.Lines("accuracy-epochs", "Top-1 accuracy over epochs",
			figure.Axis{Label: "epoch", Whole: true}, figure.Axis{Label: "top-1 accuracy, %"}, curves),
			reportPlot{Caption: caption, Protocol: rule, Line: r.evalLine(r.asked)}))
	} else if len(r.pairs) > 1 {
		var names, texts []string
		var values []float64
		for i, p := range r.pairs {
			top1 := r.results[i].Results[r.at].Top1
			names, values, texts = append(names, p.train), append(values, 100*top1), append(texts, percent(top1))
		}
		s.Plots = append(s.Plots, r.plot(figure.Bars("accuracy-banks", "Top-1 accuracy of the banks", fmt.Sprintf("top-1 accuracy, %%, k = %d", ks[r.at].K), names, values, texts, math.NaN()),
			reportPlot{Protocol: rule, Line: r.evalLine(r.asked)}))
	}
	if len(ks) > 1 {
		var curves []figure.Curve
		names := []string{}
		for i := range r.pairs {
			c := figure.Curve{Name: r.pairs[i].train, Dots: true}
			for j, at := range r.results[i].Results {
				c.X, c.Y = append(c.X, float64(j)), append(c.Y, 100*at.Top1)
				if i == 0 {
					names = append(names, strconv.Itoa(at.K))
				}
			}
			curves = append(curves, c)
		}
		s.Plots = append(s.Plots, r.plot(figure.Lines("accuracy-k", "Top-1 accuracy over k",
			figure.Axis{Label: "neighbours k", Names: names}, figure.Axis{Label: "top-1 accuracy, %"}, curves),
			reportPlot{Caption: "One search at the largest k serves all.", Protocol: rule, Line: r.evalLine(r.asked)}))
	}
	t := reportTable{Caption: "Accuracies in percent. " + rule + ".", Columns: []string{"bank", "test"}, Line: r.evalLine(r.asked)}
	for _, at := range ks {
		t.Columns = append(t.Columns, fmt.Sprintf("top-1 k=%d", at.K))
	}
	t.Columns = append(t.Columns, fmt.Sprintf("top-5 k=%d", ks[r.at].K), fmt.Sprintf("per class k=%d", ks[r.at].K))
	var notes []string
	for i, p := range r.pairs {
		row := []string{p.train, p.test}
		if r.rule.LeaveOneOut {
			row[1] = "itself, one left out"
		}
		for _, at := range r.results[i].Results {
			row = append(row, percent(at.Top1))
		}
		at := r.results[i].Results[r.at]
		t.Rows = append(t.Rows, append(row, percent(at.Top5), percent(at.MeanPerClass)))
		for _, note := range r.results[i].Notes {
			if note = p.train + ": " + note; !slices.Contains(notes, note) {
				notes = append(notes, note)
			}
		}
	}
	s.Tables, s.Text = []reportTable{t}, notes
	r.section(s)
}

// classes are the bars and the confusion of the bank in focus.
func (r *reporting) classes() {
	f := r.results[r.focus]
	at := f.Results[r.at]
	s := reportSection{ID: "classes", Title: "Class by class", Text: []string{fmt.Sprintf("%s, k = %d.", f.Train.Bank, at.K)}}
	ordered := slices.Clone(at.PerClass)
	slices.SortStableFunc(ordered, func(a, b eval.ClassAccuracy) int {
		switch {
		case a.Top1 > b.Top1:
			return -1
		case a.Top1 < b.Top1:
			return 1
		}
		return 0
	})
	caption := fmt.Sprintf("Best first; the dashed line is the mean over classes, %s %%.", percent(at.MeanPerClass))
	if n := len(ordered); n > barClasses {
		ordered = append(ordered[:barClasses/2:barClasses/2], ordered[n-barClasses/2:]...)
		caption = fmt.Sprintf("The best and the worst %d of %d classes; the dashed line is the mean over all, %s %%.", barClasses/2, n, percent(at.MeanPerClass))
	}
	var names, texts []string
	var values []float64
	for _, c := range ordered {
		names, values = append(names, classOf(c)), append(values, 100*c.Top1)
		texts = append(texts, percent(c.Top1))
	}
	line := r.evalLine(r.pairs[r.focus]) + " --per-class"
	s.Plots = append(s.Plots, r.plot(figure.Bars("classes", "Top-1 accuracy of each class", "top-1 accuracy, %", names, values, texts, 100*at.MeanPerClass),
		reportPlot{Caption: caption, Protocol: ruleText(f), Line: line}))
	r.confusion(&s, at, line)
	r.section(s)
}

// classOf names a class.
func classOf(c eval.ClassAccuracy) string {
	name := classText(&c.Label, c.Name)
	if c.Unseen {
		name += " (not in the bank)"
	}
	return name
}

func (r *reporting) confusion(s *reportSection, at eval.KNNAtK, line string) {
	f := r.results[r.focus]
	info := r.infos[f.Train.Bank]
	seen := map[int64]bool{}
	for _, c := range at.PerClass {
		if !c.Unseen {
			seen[c.Label] = true
		}
		for label := range c.Taken {
			seen[label] = true
		}
	}
	var columns []int64
	for label := range seen {
		columns = append(columns, label)
	}
	slices.Sort(columns)
	name := func(label int64) string {
		if label == store.NoLabel {
			return "no vote"
		}
		return classText(&label, className(info.ClassNames, label))
	}
	if len(columns) <= matrixClasses && len(at.PerClass) <= matrixClasses {
		var rows, heads []string
		counts := make([][]int64, len(at.PerClass))
		for _, label := range columns {
			heads = append(heads, name(label))
		}
		for i, c := range at.PerClass {
			rows = append(rows, classOf(c))
			for _, label := range columns {
				counts[i] = append(counts[i], c.Taken[label])
			}
		}
		s.Plots = append(s.Plots, r.plot(figure.Matrix("confusion", "Confusion of classes", "true class", "taken for", rows, heads, counts),
			reportPlot{Caption: "Percent of the rows of each class, rows sum to 100.", Protocol: ruleText(f), Line: line}))
		return
	}
	type pair struct {
		c     eval.ClassAccuracy
		label int64
		n     int64
	}
	var pairs []pair
	for _, c := range at.PerClass {
		for label, n := range c.Taken {
			if label != c.Label || c.Unseen {
				pairs = append(pairs, pair{c, label, n})
			}
		}
	}
	slices.SortFunc(pairs, func(a, b pair) int {
		switch {
		case a.n != b.n:
			return int(min(1, max(-1, b.n-a.n)))
		case a.c.Label != b.c.Label:
			return int(min(1, max(-1, a.c.Label-b.c.Label)))
		}
		return int(min(1, max(-1, a.label-b.label)))
	})
	t := reportTable{Caption: fmt.Sprintf("The commonest confusions of %d classes.", f.Classes), Columns: []string{"true class", "taken for", "rows", "% of the class"}, Line: line}
	for _, p := range pairs[:min(len(pairs), 25)] {
		t.Rows = append(t.Rows, []string{classOf(p.c), name(p.label), count(p.n), percent(float64(p.n) / float64(p.c.Queries))})
	}
	s.Tables = append(s.Tables, t)
}

// geometry are the figures of the spaces.
func (r *reporting) geometry() {
	focus, d := r.pairs[r.focus].train, r.checks[r.focus]
	s := reportSection{ID: "geometry", Title: "Geometry of the space"}
	s.Text = append(s.Text, fmt.Sprintf("Verdict on %s: %s.", focus, d.Verdict))
	for _, reason := range d.Reasons {
		s.Text = append(s.Text, reason.String())
	}
	var spectra []figure.Curve
	for i, check := range r.checks {
		c := figure.Curve{Name: r.pairs[i].train}
		for j, v := range check.Spectrum {
			if v > check.Spectrum[0]*1e-12 {
				c.X, c.Y = append(c.X, float64(j+1)), append(c.Y, v/check.Spectrum[0])
			}
		}
		if len(c.X) > 1 {
			spectra = append(spectra, c)
		}
	}
	if len(spectra) > 0 {
		s.Plots = append(s.Plots, r.plot(figure.Lines("spectrum", "Spectrum of the covariance", figure.Axis{Label: "eigenvalue", Log: true}, figure.Axis{Label: "share of the largest", Log: true}, spectra),
			reportPlot{Caption: "A space that uses all its dimensions falls slowly; a cliff is dimensional collapse.", Protocol: "all rows as stored, less their mean; float64" + r.eachBank(), Line: r.diagnoseLine(focus)}))
	}
	r.similarities(&s, focus, d)
	if r.views != nil {
		views := strings.Split(r.c.String("views"), ",")
		first := strings.TrimSpace(views[0])
		s.Plots = append(s.Plots, r.histograms("similarity-views", "Cosines of views", "pairs of views of one row", "views of different rows", "positive", "negative", r.views,
			reportPlot{Protocol: strings.Join(views, " with "), Line: r.diagnoseLine(first) + " --views " + strings.TrimSpace(views[1])})...)
	}
	if d.Occurrences != nil {
		s.Plots = append(s.Plots, r.hubs(focus, d))
	}
	s.Tables = append(s.Tables, r.figures())
	r.section(s)
}

// eachBank says that a command of one bank stands for all.
func (r *reporting) eachBank() string {
	if len(r.pairs) == 1 {
		return ""
	}
	return "; the command is run for each bank"
}

func (r *reporting) similarities(s *reportSection, bank string, d *eval.Diagnosis) {
	rows := numberText(d.Figures, "pair_rows")
	if n, ok := d.Lookup("pair_rows"); ok {
		rows = count(int64(n))
	}
	s.Plots = append(s.Plots, r.histograms("similarity-classes", "Cosines of rows", "of one class", "of two classes", "same_class", "other_class", d,
		reportPlot{Caption: "The less they overlap, the better a threshold tells classes apart.", Protocol: "all pairs of " + rows + " rows of " + bank, Line: r.diagnoseLine(bank)})...)
}

// histograms draws two histograms of cosines, if the diagnosis has them.
func (r *reporting) histograms(name, title, near, far, first, second string, d *eval.Diagnosis, p reportPlot) []reportPlot {
	var edges []float64
	for i := range 101 {
		edges = append(edges, -1+float64(i)/50)
	}
	var parts []figure.Shares
	for i, list := range []string{first, second} {
		for _, f := range d.Figures {
			counts, ok := f.Value.([]float64)
			if ok && f.Name == list+"_cosine_histogram" && slices.Max(counts) > 0 {
				parts = append(parts, figure.Shares{Name: []string{near, far}[i], Edges: edges, Counts: counts})
			}
		}
	}
	if len(parts) < 2 {
		return nil
	}
	return []reportPlot{r.plot(figure.Histogram(name, title, "cosine", parts), p)}
}

// hubs is how often rows are among the neighbours of others.
func (r *reporting) hubs(bank string, d *eval.Diagnosis) reportPlot {
	most := slices.Max(d.Occurrences)
	wide := max(1, (most+40)/40)
	counts := make([]float64, most/wide+1)
	edges := make([]float64, len(counts)+1)
	for i := range edges {
		edges[i] = float64(int64(i) * wide)
	}
	for _, n := range d.Occurrences {
		counts[n/wide]++
	}
	skew := numberText(d.Figures, "hubness_k10_cosine_skew_biased")
	return r.plot(figure.Histogram("hubness", "Hubness: how often a row is a neighbour", "rows that have it among their 10 nearest", []figure.Shares{{Name: bank, Edges: edges, Counts: counts}}),
		reportPlot{Caption: fmt.Sprintf("Skewness %s; 10 on average, %d at most. Above 1.4 is noticeable (Radovanović et al. 2010).", skew, most),
			Protocol: fmt.Sprintf("the 10 nearest of %s by cosine, each without itself, exact", plural(len(d.Occurrences), "row")), Line: r.diagnoseLine(bank)})
}

// figures is the table of what diagnose says of every bank.
func (r *reporting) figures() reportTable {
	t := reportTable{Caption: "Figures of every bank" + r.eachBank() + ".", Columns: []string{"figure"}, Line: r.diagnoseLine(r.pairs[r.focus].train)}
	verdicts := []string{"verdict"}
	for i, p := range r.pairs {
		t.Columns = append(t.Columns, p.train)
		verdicts = append(verdicts, string(r.checks[i].Verdict))
	}
	t.Columns = append(t.Columns, "reading")
	t.Rows = append(t.Rows, append(verdicts, ""))
	for _, name := range []string{
		"rankme_raw", "rankme_centred", "participation_ratio_l2normalised", "alpha_req", "per_dim_std_l2norm_times_sqrtD",
		"mean_pairwise_cosine", "uniform_t2", "same_class_cosine", "other_class_cosine", "hubness_k10_cosine_skew_biased",
		"hubness_k10_cosine_antihub_frac", "koleo", "near_duplicate_frac_cos_gt_0.999", "exact_duplicate_rows", "zero_rows",
	} {
		row, reading := []string{name}, ""
		for _, d := range r.checks {
			row = append(row, numberText(d.Figures, name))
			for _, f := range d.Figures {
				if f.Name == name && f.Reading != "" {
					reading = f.Reading
				}
			}
		}
		t.Rows = append(t.Rows, append(row, reading))
	}
	return t
}
