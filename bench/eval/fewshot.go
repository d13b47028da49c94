package eval

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"time"

	"membank/simd"
	"membank/store"
)

// FewShot is kNN accuracy from a few labelled rows: some of each class, drawn several
// times, or fixed lists of rows.
//
// Drawing follows DINOv2 (eval/knn.py, --n-per-class-list, --n-tries): try t has a
// seed of its own and takes the first n rows of a random order of each class, so fewer
// shots are a part of more; a class with less than n rows gives all it has; the
// numbers of neighbours are those of the rule that do not exceed n, and n itself, so
// one shot is asked at k = 1 only. Accuracies are averaged over tries. The order is
// ours, not torch's: the rows drawn differ from a run of the original, and depend on
// nothing but Seed, the try and the labels.
type FewShot struct {
	KNN           // its LeaveOneOut is refused; "" as Preset is dinov2
	Shots []int   // rows of each class; empty: 1, 5, 10, unless there are Lists
	Tries int     // 0: 5
	Seed  uint64  // try t draws with Seed+t
	Lists []Split // instead of drawing: each is a try, at all numbers of neighbours of the rule
}

// Split is the labelled rows of one fixed protocol, such as SimCLR's 1 % of ImageNet,
// by names as in GroundTruth.
type Split struct {
	Name string
	Keys []string
}

// FewShotResult is what tries come to.
type FewShotResult struct {
	Protocol string       `json:"protocol"`
	Rules    Protocol     `json:"rules"`
	Train    BankUse      `json:"train"`
	Test     BankUse      `json:"test"`
	TestRows int64        `json:"test_rows"` // that were asked
	Dim      int          `json:"dim"`
	Classes  int          `json:"classes"` // of all labelled rows of train
	Seed     *uint64      `json:"seed"`    // null for lists
	Tries    int          `json:"tries"`
	Results  []FewShotAtK `json:"results"`
	Notes    []string     `json:"notes,omitempty"`
	Seconds  float64      `json:"seconds"`
}

// FewShotAtK is the mean over tries at one number of neighbours. Deviations are of a
// sample (n-1), and 0 for one try.
type FewShotAtK struct {
	Shots     int       `json:"shots"` // of each class; 0: a list
	K         int       `json:"k"`
	Effective int       `json:"effective_k"` // the least of any try
	T         *float64  `json:"T"`
	Rows      float64   `json:"train_rows"` // that voted, mean over tries
	Top1      float64   `json:"top1"`
	Top5      float64   `json:"top5"`
	Top5Voted float64   `json:"top5_voted"`
	Top1Std   float64   `json:"top1_std"`
	Top5Std   float64   `json:"top5_std"`
	Top1Tries []float64 `json:"top1_of_tries"`
}

// Evaluate classifies the labelled rows of test by some of the labelled rows of train.
// Every try is one search over its own rows. Where they fit a part of RunOptions.Memory
// they are gathered once; else the bank is searched with the others left out.
func (e FewShot) Evaluate(ctx context.Context, train, test *Set, o RunOptions) (*FewShotResult, error) {
	start := time.Now()
	o.defaults()
	if e.Preset == "" {
		e.Preset = "dinov2"
	}
	rule, err := e.Protocol()
	if err != nil {
		return nil, err
	}
	if e.Tries == 0 {
		e.Tries = 5
	}
	if len(e.Shots) == 0 && len(e.Lists) == 0 {
		e.Shots = []int{1, 5, 10}
	}
	e.Shots = slices.Compact(slices.Sorted(slices.Values(e.Shots)))
	switch {
	case e.LeaveOneOut:
		return nil, fmt.Errorf("%w: few-shot has no leave-one-out", ErrProtocol)
	case len(e.Lists) > 0 && len(e.Shots) > 0:
		return nil, fmt.Errorf("%w: rows are drawn or listed, not both", ErrProtocol)
	case e.Tries < 1:
		return nil, fmt.Errorf("%w: %d tries", ErrProtocol, e.Tries)
	case len(e.Shots) > 0 && e.Shots[0] < 1:
		return nil, fmt.Errorf("%w: %d shots of each class", ErrProtocol, e.Shots[0])
	}
	classes := byClass(train.labels)
	if len(classes) == 0 {
		return nil, fmt.Errorf("%w in bank %q: nothing can vote (ingest it with labels)", ErrNoLabels, train.use.Bank)
	}
	f := &fewShot{FewShot: e, rule: rule, train: train, test: test, options: o, result: &FewShotResult{
		Rules: rule, Train: train.use, Test: test.use, Dim: train.dim, Classes: len(classes), Tries: e.Tries,
	}}
	if len(e.Lists) > 0 {
		err = f.listed(ctx)
	} else {
		err = f.drawn(ctx, classes)
	}
	if err != nil {
		return nil, err
	}
	f.result.Seconds = time.Since(start).Seconds()
	return f.result, nil
}

// fewShot is an evaluation under way.
type fewShot struct {
	FewShot
	rule        Protocol
	train, test *Set
	options     RunOptions
	result      *FewShotResult
	done, steps int
}

// classRows are the rows of one label, ascending.
type classRows struct {
	label int64
	rows  []int64
}

func byClass(labels []int64) []classRows {
	of := map[int64]int{}
	var list []classRows
	for row, l := range labels {
		if l == store.NoLabel {
			continue
		}
		at, known := of[l]
		if !known {
			at = len(list)
			of[l] = at
			list = append(list, classRows{label: l})
		}
		list[at].rows = append(list[at].rows, int64(row))
	}
	return list
}

// draw is the first n rows of the try's order of each class, ascending.
func draw(classes []classRows, n int, seed uint64) (rows []int64) {
	for _, c := range classes {
		rng := rand.New(rand.NewPCG(seed, uint64(c.label)))
		// The head of a Fisher-Yates shuffle: the same for any n behind it.
		order := slices.Clone(c.rows)
		for i := range min(n, len(order)) {
			j := i + rng.IntN(len(order)-i)
			order[i], order[j] = order[j], order[i]
		}
		rows = append(rows, order[:min(n, len(order))]...)
	}
	slices.Sort(rows)
	return rows
}

func (f *fewShot) drawn(ctx context.Context, classes []classRows) error {
	r := f.result
	r.Protocol = f.rule.Name + " few-shot"
	if f.Preset == "dinov2" && len(f.K) == 0 { // k follows from the shots
		r.Protocol = "dinov2 few-shot"
	}
	r.Seed = &f.Seed
	f.steps = len(f.Shots) * f.Tries
	least := math.MaxInt
	for _, c := range classes {
		least = min(least, len(c.rows))
	}
	for _, n := range f.Shots {
		e := f.KNN
		if e.K = f.shotK(n); n > least {
			r.Notes = append(r.Notes, fmt.Sprintf("%d shots: some classes have fewer rows (the smallest %d) and give all they have", n, least))
		}
		var tries []*KNNResult
		for t := range f.Tries {
			result, err := f.try(ctx, e, draw(classes, n, f.Seed+uint64(t)))
			if err != nil {
				return err
			}
			tries = append(tries, result)
		}
		f.average(n, tries)
	}
	return nil
}

// shotK is the numbers of neighbours for n shots.
func (f *fewShot) shotK(n int) []int {
	ks := []int{n}
	for _, k := range f.rule.K {
		if k == All {
			return []int{All} // a vote of all rows stays one
		}
		if k <= n {
			ks = append(ks, k)
		}
	}
	slices.Sort(ks)
	return slices.Compact(ks)
}

func (f *fewShot) listed(ctx context.Context) error {
	r := f.result
	r.Tries, f.steps = len(f.Lists), len(f.Lists)
	r.Protocol = f.rule.Name + " from lists"
	names, err := newByName(ctx, f.train)
	if err != nil {
		return err
	}
	var tries []*KNNResult
	for _, list := range f.Lists {
		var rows []int64
		unlabelled := 0
		for _, key := range list.Keys {
			row, err := names.row(key)
			if err != nil {
				return fmt.Errorf("%s: %w", list.Name, err)
			}
			if f.train.labels[row] == store.NoLabel {
				unlabelled++
				continue
			}
			rows = append(rows, row)
		}
		if unlabelled > 0 {
			r.Notes = append(r.Notes, fmt.Sprintf("%s: not voting, for want of a label: %s", list.Name, rowsText(int64(unlabelled))))
		}
		slices.Sort(rows)
		if unique := slices.Compact(slices.Clone(rows)); len(unique) < len(rows) {
			return fmt.Errorf("%w: %s names %d rows twice", ErrGroundTruth, list.Name, len(rows)-len(unique))
		}
		if len(rows) == 0 {
			return fmt.Errorf("%w among those of %s: nothing can vote", ErrNoLabels, list.Name)
		}
		result, err := f.try(ctx, f.KNN, rows)
		if err != nil {
			return err
		}
		tries = append(tries, result)
	}
	f.average(0, tries)
	return nil
}

// try lets some rows of the gallery vote.
func (f *fewShot) try(ctx context.Context, e KNN, rows []int64) (*KNNResult, error) {
	part, err := f.train.subset(ctx, rows, f.options.Memory/4)
	if err != nil {
		return nil, err
	}
	o := f.options
	if o.Progress != nil {
		o.Progress = func(done, total int64) {
			f.options.Progress(int64(f.done)*total+done, int64(f.steps)*total)
		}
	}
	r, err := e.EvaluateSets(ctx, part, f.test, o)
	f.done++
	return r, err
}

// average adds the results of one number of shots.
func (f *fewShot) average(shots int, tries []*KNNResult) {
	f.result.TestRows = tries[0].TestRows
	n := float64(len(tries))
	for i, first := range tries[0].Results {
		a := FewShotAtK{Shots: shots, K: first.K, Effective: first.EffectiveK, T: first.T}
		for _, t := range tries {
			at := t.Results[i]
			a.K, a.Effective = max(a.K, at.K), min(a.Effective, at.EffectiveK)
			a.Rows += float64(t.TrainRows) / n
			a.Top1 += at.Top1 / n
			a.Top5 += at.Top5 / n
			a.Top5Voted += at.Top5Voted / n
			a.Top1Tries = append(a.Top1Tries, at.Top1)
		}
		for _, t := range tries {
			a.Top1Std += (t.Results[i].Top1 - a.Top1) * (t.Results[i].Top1 - a.Top1)
			a.Top5Std += (t.Results[i].Top5 - a.Top5) * (t.Results[i].Top5 - a.Top5)
		}
		a.Top1Std, a.Top5Std = math.Sqrt(a.Top1Std/max(1, n-1)), math.Sqrt(a.Top5Std/max(1, n-1))
		f.result.Results = append(f.result.Results, a)
	}
	for _, t := range tries {
		for _, note := range t.Notes {
			if !slices.Contains(f.result.Notes, note) {
				f.result.Notes = append(f.result.Notes, note)
			}
		}
	}
}

// subset is some rows of a set, ascending: gathered in memory where that takes no
// more than memory bytes, else all rows with the labels of the others taken away.
// Scores and ties are the same either way; only row numbers differ.
func (s *Set) subset(ctx context.Context, rows []int64, memory int64) (*Set, error) {
	part := &Set{use: s.use, dim: s.dim, names: s.names, made: s.made}
	if int64(len(rows))*int64(s.dim)*8 > memory {
		part.snap, part.rows, part.keys, part.ix = s.snap, s.rows, s.keys, s.ix
		part.labels = make([]int64, len(s.labels))
		for i := range part.labels {
			part.labels[i] = store.NoLabel
		}
		for _, row := range rows {
			part.labels[row] = s.labels[row]
		}
		return part, nil
	}
	part.use.Rows = int64(len(rows))
	part.rows = simd.NewMatrix(len(rows), s.dim)
	for i, row := range rows {
		part.labels = append(part.labels, s.labels[row])
		if s.snap == nil {
			copy(part.rows.Row(i), s.rows.Row(int(row)))
		}
	}
	at := 0
	for some := range slices.Chunk(rows, 4096) {
		if s.snap == nil {
			break
		}
		got, err := s.snap.Rows(ctx, some, store.Want{Vector: true})
		if err != nil {
			return nil, err
		}
		for _, r := range got {
			copy(part.rows.Row(at), r.Vector)
			at++
		}
	}
	return part, part.index()
}
