package eval

import (
	"cmp"
	"fmt"
	"math"
	"slices"

	"gonum.org/v1/gonum/stat"
)

// Table ranks the models. Models and data sets stand in the order in which cells name
// them first; a pair without a cell is missing. Errors: ErrProtocol for a pair with two
// cells, ErrTransfer where no cell has a figure.
func (e Transfer) Table(cells []*TransferCell) (*TransferResult, error) {
	_, rule, err := e.resolve()
	if err != nil {
		return nil, err
	}
	if len(cells) == 0 {
		return nil, fmt.Errorf("%w: no model and no data set", ErrTransfer)
	}
	r := &TransferResult{Rules: rule, Ranked: e.Ranked(), Means: []Figures{}, Correlations: []Figures{}, Missing: []MissingFigure{}}
	if r.Protocol, err = e.Protocol(); err != nil {
		return nil, err
	}
	of := map[[2]string]*TransferCell{}
	for _, c := range cells {
		at := [2]string{c.Model, c.Dataset}
		if of[at] != nil {
			return nil, fmt.Errorf("%w: two cells of %s on %s", ErrProtocol, c.Model, c.Dataset)
		}
		of[at] = c
		if !slices.Contains(r.Models, c.Model) {
			r.Models = append(r.Models, c.Model)
		}
		if !slices.Contains(r.Datasets, c.Dataset) {
			r.Datasets = append(r.Datasets, c.Dataset)
		}
		r.Notes = append(r.Notes, c.Notes...)
		r.Seconds += c.Seconds
	}
	grid := make([][]*TransferCell, len(r.Models))
	for m, model := range r.Models {
		for _, dataset := range r.Datasets {
			c := of[[2]string{model, dataset}]
			if c == nil {
				c = e.Without(model, dataset, "not evaluated")
			}
			grid[m] = append(grid[m], c)
		}
	}
	some := false
	ranks := map[string][][]float64{} // [figure][model][data set]
	for _, name := range r.Ranked {
		values := valuesOf(grid, name)
		some = some || slices.ContainsFunc(slices.Concat(values...), func(v float64) bool { return !math.IsNaN(v) })
		ranks[name] = rankModels(values)
		r.mean(name, values, ranks[name])
		r.correlate(name, values)
	}
	for m := range grid {
		for d, c := range grid[m] {
			r.Results = append(r.Results, c.ranked(ranks, m, d))
			r.miss(c)
		}
	}
	if !some {
		lost := r.Missing[0]
		return nil, fmt.Errorf("%w: %s on %s: %s", ErrTransfer, lost.Model, lost.Dataset, lost.Reason)
	}
	for d := range r.Datasets {
		r.unlike(grid, d)
	}
	return r, nil
}

// valuesOf is one figure as [model][data set], NaN where it is missing.
func valuesOf(grid [][]*TransferCell, name string) [][]float64 {
	values := make([][]float64, len(grid))
	for m, row := range grid {
		for _, c := range row {
			v, ok := c.Figures.Lookup(name)
			if !ok {
				v = math.NaN()
			}
			values[m] = append(values[m], v)
		}
	}
	return values
}

// rankModels ranks the models that have a value on each data set, the largest first.
func rankModels(values [][]float64) [][]float64 {
	ranks := make([][]float64, len(values))
	for m := range ranks {
		ranks[m] = make([]float64, len(values[m]))
	}
	for d := range values[0] {
		var at []int
		var list []float64
		for m := range values {
			if ranks[m][d] = math.NaN(); !math.IsNaN(values[m][d]) {
				at, list = append(at, m), append(list, values[m][d])
			}
		}
		for i, rank := range meanRanks(list) {
			ranks[at[i]][d] = rank
		}
	}
	return ranks
}

// equalFigures is how far apart means of the same accuracies in another order can be.
const equalFigures = 1e-12

// meanRanks are the places from 1 of values in descending order; equal ones share the
// mean of theirs.
func meanRanks(values []float64) []float64 {
	order := make([]int, len(values))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(values[b], values[a]) })
	ranks := make([]float64, len(values))
	for first := 0; first < len(order); {
		last := first
		for last+1 < len(order) && values[order[last]]-values[order[last+1]] <= equalFigures {
			last++
		}
		for _, i := range order[first : last+1] {
			ranks[i] = float64(first+last)/2 + 1
		}
		first = last + 1
	}
	return ranks
}

// mean adds the means of one figure.
func (r *TransferResult) mean(name string, values, ranks [][]float64) {
	has := func(v float64) bool { return !math.IsNaN(v) }
	var common []int
	for d := range r.Datasets {
		all, any := true, false
		for m := range values {
			if slices.ContainsFunc(values[m], has) {
				all, any = all && has(values[m][d]), any || has(values[m][d])
			}
		}
		if all && any {
			common = append(common, d)
		}
	}
	for m, model := range r.Models {
		var f Figures
		f.add("figure", name, "")
		f.add("model", model, "")
		f.add("datasets", int64(len(common)), "")
		switch {
		case !slices.ContainsFunc(values[m], has):
			f.missing("mean", "the model has the figure on no data set", "")
			f.missing("mean_rank", "the model has the figure on no data set", "")
		case len(common) == 0:
			f.missing("mean", "no data set has the figure of every model", "")
			f.missing("mean_rank", "no data set has the figure of every model", "")
		default:
			var sum, places float64
			for _, d := range common {
				sum, places = sum+values[m][d], places+ranks[m][d]
			}
			f.number("mean", sum/float64(len(common)), "")
			f.number("mean_rank", places/float64(len(common)), "")
		}
		r.Means = append(r.Means, f)
	}
}

// correlate adds Pearson's correlation of one figure, and Spearman's, which is Pearson's
// of the mean ranks, for every pair of data sets.
func (r *TransferResult) correlate(name string, values [][]float64) {
	for a := range r.Datasets {
		for b := a + 1; b < len(r.Datasets); b++ {
			var x, y []float64
			for m := range values {
				if !math.IsNaN(values[m][a]) && !math.IsNaN(values[m][b]) {
					x, y = append(x, values[m][a]), append(y, values[m][b])
				}
			}
			var f Figures
			f.add("figure", name, "")
			f.add("dataset_a", r.Datasets[a], "")
			f.add("dataset_b", r.Datasets[b], "")
			f.add("models", int64(len(x)), "")
			why := ""
			switch {
			case len(x) < 3:
				why = fmt.Sprintf("models on both: %d, and 3 are needed", len(x))
			case constant(x):
				why = "all models are equal on " + r.Datasets[a]
			case constant(y):
				why = "all models are equal on " + r.Datasets[b]
			}
			if why != "" {
				f.missing("spearman", why, "")
				f.missing("pearson", why, "")
			} else {
				f.number("spearman", correlation(meanRanks(x), meanRanks(y)), "")
				f.number("pearson", correlation(x, y), "")
			}
			r.Correlations = append(r.Correlations, f)
		}
	}
}

// constant agrees with meanRanks about what is equal.
func constant(x []float64) bool {
	ranks := meanRanks(x)
	return slices.Min(ranks) == slices.Max(ranks)
}

// correlation is Pearson's, without what rounding adds beyond 1.
func correlation(x, y []float64) float64 { return min(1, max(-1, stat.Correlation(x, y, nil))) }

// ranked is the cell's figures with a rank behind each that is ranked.
func (c *TransferCell) ranked(ranks map[string][][]float64, m, d int) (list Figures) {
	for _, f := range c.Figures {
		list = append(list, f)
		switch of, ok := ranks[f.Name]; {
		case ok && f.Value == nil:
			list.missing(f.Name+"_rank", f.Missing, "")
		case ok:
			list.number(f.Name+"_rank", of[m][d], "")
		}
	}
	return list
}

// miss names the figures that a cell lacks, those of one reason together.
func (r *TransferResult) miss(c *TransferCell) {
	first := len(r.Missing)
	for _, f := range c.Figures {
		if f.Value != nil {
			continue
		}
		at := slices.IndexFunc(r.Missing[first:], func(m MissingFigure) bool { return m.Reason == f.Missing })
		if at < 0 {
			at = len(r.Missing) - first
			r.Missing = append(r.Missing, MissingFigure{Model: c.Model, Dataset: c.Dataset, Reason: f.Missing})
		}
		r.Missing[first+at].Figures = append(r.Missing[first+at].Figures, f.Name)
	}
}

// unlike notes a data set of which models hold different numbers of rows or classes.
func (r *TransferResult) unlike(grid [][]*TransferCell, d int) {
	sizes := func(c *TransferCell) (s [3]float64, ok bool) {
		for i, name := range []string{"train_rows", "test_rows", "classes"} {
			s[i], ok = c.Figures.Lookup(name)
		}
		return s, ok
	}
	var first *TransferCell
	for m := range grid {
		c := grid[m][d]
		is, ok := sizes(c)
		if !ok {
			continue
		}
		if first == nil {
			first = c
			continue
		}
		if was, _ := sizes(first); was != is {
			r.Notes = append(r.Notes, fmt.Sprintf("%s is not the same for all: %s has %v train rows, %v test rows, %v classes with labels, %s %v, %v, %v; ranks compare unlike tasks",
				c.Dataset, first.Model, was[0], was[1], was[2], c.Model, is[0], is[1], is[2]))
			return
		}
	}
}
