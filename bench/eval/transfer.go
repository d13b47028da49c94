package eval

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"membank/store"
)

// Transfer compares models over data sets: the same figures of every model on every data
// set, how models rank on each, and whether data sets agree about them. Cell evaluates
// one model on one data set, so that a table of any size holds two banks at a time;
// Table sets cells side by side.
type Transfer struct {
	// Rule is that of kNN, and without its K that of few-shot. K is one number; empty: 20
	// where the preset has it among its own, else the preset's first. LeaveOneOut is refused.
	// Its Metric, if set, is that of retrieval, too; else that is cosine.
	Rule  KNN
	Shots []int    // as in FewShot
	Tries int      // as in FewShot
	Seed  uint64   // as in FewShot
	Only  []string // some of TransferParts; empty: all
}

// TransferParts are what Transfer can evaluate, in the order of its figures.
func TransferParts() []string { return []string{"knn", "fewshot", "retrieval"} }

// TransferCell is one model on one data set.
type TransferCell struct {
	Model, Dataset string
	// Figures are, beside what was read, knn_top1; for every number n of shots
	// fewshot_n_top1, at the largest k that FewShot takes for n, and its deviation over
	// tries; map_full and R@1.
	Figures Figures
	Notes   []string
	Seconds float64
}

// TransferResult is the table. Figures within 1e-12 of each other are equal.
type TransferResult struct {
	Protocol string    `json:"protocol"`
	Rules    Protocol  `json:"rules"` // of kNN; few-shot has the same but for k
	Models   []string  `json:"models"`
	Datasets []string  `json:"datasets"`
	Ranked   []string  `json:"figures"` // by which models are ranked
	Results  []Figures `json:"results"` // one a model and data set, with name_rank behind each ranked figure
	// Means has one object a figure and model, over the data sets that have the figure of
	// every model; a model that has it nowhere is not waited for.
	Means []Figures `json:"means"`
	// Correlations has one object a figure and pair of data sets, over the models that
	// have it on both.
	Correlations []Figures       `json:"correlations"`
	Missing      []MissingFigure `json:"missing"`
	Notes        []string        `json:"notes,omitempty"`
	Seconds      float64         `json:"seconds"`
}

// MissingFigure says why a model has some figures not on a data set.
type MissingFigure struct {
	Model   string   `json:"model"`
	Dataset string   `json:"dataset"`
	Figures []string `json:"figures"`
	Reason  string   `json:"reason"`
}

// Protocol says how all cells are evaluated. Errors: ErrProtocol.
func (e Transfer) Protocol() (string, error) {
	e, rule, err := e.resolve()
	if err != nil {
		return "", err
	}
	var parts []string
	if e.has("knn") {
		parts = append(parts, fmt.Sprintf("kNN %s at k=%s", rule.Name, kName(rule.K[0])))
	}
	if e.has("fewshot") {
		free := e.Rule
		free.K = nil
		rule, err := free.Protocol()
		if err != nil {
			return "", err
		}
		parts = append(parts, fmt.Sprintf("few-shot %s, mean of tries: %d from seed %d", rule.Name, e.Tries, e.Seed))
	}
	if e.has("retrieval") {
		metric := cmp.Or(e.Rule.Metric, Cosine)
		parts = append(parts, fmt.Sprintf("retrieval by labels, %s", metric))
	}
	return "transfer: " + strings.Join(parts, "; "), nil
}

// Ranked are the names of the figures by which models are ranked.
func (e Transfer) Ranked() []string {
	e, _, _ = e.resolve()
	var names []string
	if e.has("knn") {
		names = append(names, "knn_top1")
	}
	if e.has("fewshot") {
		for _, n := range e.Shots {
			names = append(names, fewShotName(n))
		}
	}
	if e.has("retrieval") {
		names = append(names, "map_full", "R@1")
	}
	return names
}

func fewShotName(shots int) string { return "fewshot_" + strconv.Itoa(shots) + "_top1" }

func (e Transfer) has(part string) bool { return len(e.Only) == 0 || slices.Contains(e.Only, part) }

// resolve fills in what is left to defaults.
func (e Transfer) resolve() (Transfer, Protocol, error) {
	for _, part := range e.Only {
		if !slices.Contains(TransferParts(), part) {
			return e, Protocol{}, fmt.Errorf("%w: %q is none of %s", ErrProtocol, part, strings.Join(TransferParts(), ", "))
		}
	}
	if len(e.Shots) == 0 {
		e.Shots = []int{1, 5, 10}
	}
	e.Shots = slices.Compact(slices.Sorted(slices.Values(e.Shots)))
	e.Tries = cmp.Or(e.Tries, 5)
	e.Rule.Preset = cmp.Or(e.Rule.Preset, presets[0].Preset) // few-shot has another default
	rule, err := e.Rule.Protocol()
	switch {
	case err != nil:
		return e, rule, err
	case e.Shots[0] < 1:
		return e, rule, fmt.Errorf("%w: %d shots of each class", ErrProtocol, e.Shots[0])
	case e.Tries < 1:
		return e, rule, fmt.Errorf("%w: %d tries", ErrProtocol, e.Tries)
	case e.Rule.LeaveOneOut:
		return e, rule, fmt.Errorf("%w: transfer has no leave-one-out", ErrProtocol)
	case len(e.Rule.K) > 1:
		return e, rule, fmt.Errorf("%w: transfer takes one k, not %d", ErrProtocol, len(e.Rule.K))
	case len(e.Rule.K) == 0 && slices.Contains(rule.K, 20):
		rule.K = []int{20}
	case len(e.Rule.K) == 0:
		rule.K = rule.K[:1]
	}
	return e, rule, nil
}

// Cell evaluates one model on one data set: train is the gallery, test the queries. What
// the rows cannot answer (no labels, no class in common, other dimensions) is a figure
// missing, with its reason, and no error. Time and memory are those of KNN, FewShot and
// Retrieval, one after the other.
func (e Transfer) Cell(ctx context.Context, model, dataset string, train, test *Set, o RunOptions) (*TransferCell, error) {
	start := time.Now()
	e, rule, err := e.resolve()
	if err != nil {
		return nil, err
	}
	c := &TransferCell{Model: model, Dataset: dataset}
	defer func() { c.Seconds = time.Since(start).Seconds() }()
	if why := c.describe(train, test); why != "" {
		c.without(e.Ranked(), why)
		return c, nil
	}
	free := e.Rule
	free.K = nil
	if e.has("knn") {
		knn := e.Rule
		knn.K = rule.K
		r, err := knn.EvaluateSets(ctx, train, test, o)
		if err := c.unless(err, "knn_top1"); err != nil {
			return nil, err
		}
		if r != nil {
			c.Figures.number("knn_top1", r.Results[0].Top1, "")
			c.tell(r.Notes)
		}
	}
	if e.has("fewshot") {
		var names []string
		for _, n := range e.Shots {
			names = append(names, fewShotName(n))
		}
		r, err := FewShot{KNN: free, Shots: e.Shots, Tries: e.Tries, Seed: e.Seed}.Evaluate(ctx, train, test, o)
		if err := c.unless(err, names...); err != nil {
			return nil, err
		}
		if r != nil {
			for i, at := range r.Results {
				if i+1 < len(r.Results) && r.Results[i+1].Shots == at.Shots {
					continue // a smaller k of the same shots
				}
				c.Figures.number(fewShotName(at.Shots), at.Top1, "")
				c.Figures.number(fewShotName(at.Shots)+"_std", at.Top1Std, "")
				c.Figures.add(fmt.Sprintf("fewshot_%d_k", at.Shots), int64(at.Effective), "")
			}
			c.tell(r.Notes)
		}
	}
	if e.has("retrieval") {
		r, err := Retrieval{K: []int{1}, Metric: e.Rule.Metric}.Evaluate(ctx, test, train, o)
		if err := c.unless(err, "map_full", "R@1"); err != nil {
			return nil, err
		}
		if r != nil {
			for _, name := range []string{"map_full", "R@1"} {
				v, _ := r.Results[0].Lookup(name)
				c.Figures.number(name, v, "")
			}
			c.tell(r.Notes)
		}
	}
	return c, nil
}

// Without is a cell that nothing can be evaluated of.
func (e Transfer) Without(model, dataset, why string) *TransferCell {
	c := &TransferCell{Model: model, Dataset: dataset}
	c.Figures.add("model", model, "")
	c.Figures.add("dataset", dataset, "")
	c.without(e.Ranked(), why)
	return c
}

func (c *TransferCell) without(names []string, why string) {
	for _, name := range names {
		c.Figures.missing(name, why, "")
	}
}

// unless makes figures missing where the rows do not suffice; other errors stay.
func (c *TransferCell) unless(err error, names ...string) error {
	for _, known := range []error{ErrNoLabels, ErrForegone, ErrTooFew, store.ErrDim} {
		if errors.Is(err, known) {
			c.without(names, err.Error())
			return nil
		}
	}
	return err
}

// describe says what a cell was made of, and why nothing can be evaluated; "": it can.
func (c *TransferCell) describe(train, test *Set) (why string) {
	labels := slices.Clone(train.labels)
	classes, voters := newDictionary(labels, train.names)
	translate := newTranslation(classes, test.names)
	asked, shared := int64(0), false
	for _, l := range test.labels {
		if l == store.NoLabel {
			continue
		}
		asked++
		shared = shared || translate.class(l) >= 0
	}
	f := &c.Figures
	f.add("model", c.Model, "")
	f.add("dataset", c.Dataset, "")
	f.add("train", train.use.Bank, "")
	f.add("train_generation", int64(train.use.Generation), "")
	f.add("test", test.use.Bank, "")
	f.add("test_generation", int64(test.use.Generation), "")
	f.add("train_rows", voters, "")
	f.add("test_rows", asked, "")
	f.add("dim", int64(train.dim), "")
	f.add("classes", int64(len(classes.labels)), "")
	switch {
	case voters == 0:
		return fmt.Sprintf("%v in bank %q (ingest it with labels)", ErrNoLabels, train.use.Bank)
	case asked == 0:
		return fmt.Sprintf("%v in bank %q (ingest it with labels)", ErrNoLabels, test.use.Bank)
	case !shared:
		return fmt.Sprintf("no class of bank %q has a row in %q", test.use.Bank, train.use.Bank)
	}
	return ""
}

func (c *TransferCell) tell(notes []string) {
	for _, note := range notes {
		if note = c.Model + " on " + c.Dataset + ": " + note; !slices.Contains(c.Notes, note) {
			c.Notes = append(c.Notes, note)
		}
	}
}
