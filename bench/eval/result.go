package eval

import (
	"encoding/json"
	"fmt"
	"slices"

	"membank/store"
)

// KNNResult is a kNN accuracy and everything needed to believe it. Accuracies
// are fractions of the queries that have a label, 0..1.
type KNNResult struct {
	Protocol string   `json:"protocol"` // the preset, and in brackets what departs from it
	Rules    Protocol `json:"rules"`    // the same, spelt out

	TrainRows int64 `json:"train_rows"` // gallery rows with a label: those that can vote
	TestRows  int64 `json:"test_rows"`  // query rows with a label: those that were asked
	Dim       int   `json:"dim"`
	Classes   int   `json:"classes"` // distinct labels of the gallery

	Train           BankUse  `json:"train"`
	Test            BankUse  `json:"test"`
	Transforms      []string `json:"transforms,omitempty"`     // of both, before anything else
	TrainUnlabelled int64    `json:"train_unlabelled"`         // rows that neither voted nor took a place among the k
	TestUnlabelled  int64    `json:"test_unlabelled"`          // rows that were not asked
	UnseenQueries   int64    `json:"unseen_queries"`           // asked, but their class has no row in the gallery: always wrong
	LoneQueries     int64    `json:"lone_queries,omitempty"`   // leave-one-out: asked, but no other row has their class: always wrong
	UnseenClasses   int      `json:"unseen_classes"`           // how many such classes
	LabelsMatchedBy string   `json:"labels_matched_by"`        // "name" or "number"
	SelfExcluded    bool     `json:"self_excluded"`            // leave-one-out: no row voted on itself
	OverflowQueries int64    `json:"overflow_queries"`         // where exp(s/T) in float32, as the original takes it, is infinite
	TiedQueries     int64    `json:"tied_queries,omitempty"`   // whose neighbours at the largest k are all equally near, as is the next: row numbers chose them
	Exact           bool     `json:"exact"`                    // every row was compared
	Recall          float64  `json:"recall"`                   // of the search, 1 when exact
	RecallK         int      `json:"recall_k,omitempty"`       // neighbours that it was measured at
	RecallQueries   int      `json:"recall_queries,omitempty"` // and queries that it was measured on

	Results []KNNAtK `json:"results"`
	Notes   []string `json:"notes,omitempty"` // what a reader of the numbers should know
	Seconds float64  `json:"seconds"`
}

// BankUse names a bank as it was read.
type BankUse struct {
	Bank       string `json:"bank"`
	Generation uint64 `json:"generation"`
	DType      string `json:"dtype"`
	Rows       int64  `json:"rows"` // with a label or without
}

// KNNAtK are the figures at one k.
type KNNAtK struct {
	K          int      `json:"k"`           // as asked; for All, the rows that can vote
	EffectiveK int      `json:"effective_k"` // at most the rows that could vote
	T          *float64 `json:"T"`           // null where the rule has no temperature
	Top1       float64  `json:"top1"`
	Top5       float64  `json:"top5"`       // own class among the first min(5,k) of the class order, which ends with the classes that have no vote
	Top5Voted  float64  `json:"top5_voted"` // the same, if it has a vote

	MeanPerClass float64 `json:"mean_per_class"` // top-1, averaged over the classes that were asked for
	Correct1     int64   `json:"correct1"`       // queries, as the fractions above
	Correct5     int64   `json:"correct5"`
	Correct5Vote int64   `json:"correct5_voted"`

	PerClass []ClassAccuracy `json:"per_class,omitempty"` // on request, by label
}

// ClassAccuracy are the figures of the queries of one class.
type ClassAccuracy struct {
	Label    int64   `json:"label"` // the gallery's; the query set's where Unseen
	Name     string  `json:"name,omitempty"`
	Unseen   bool    `json:"unseen,omitempty"` // the gallery has no row of it
	Queries  int64   `json:"queries"`
	Top1     float64 `json:"top1"`
	Top5     float64 `json:"top5"`
	Correct1 int64   `json:"correct1"`
	Correct5 int64   `json:"correct5"`

	// Taken counts the queries by the gallery's label that they were taken for, a line
	// of the confusion matrix; store.NoLabel: nothing voted.
	Taken map[int64]int64 `json:"-"`
}

// JSONSchema describes what MarshalJSON writes.
func (Protocol) JSONSchema() map[string]any {
	text := map[string]any{"type": "string"}
	return map[string]any{"type": "object", "required": []string{"k", "neighbour_order", "class_order"}, "properties": map[string]any{
		"k":             map[string]any{"type": "array", "items": map[string]any{"anyOf": []any{map[string]any{"type": "integer"}, map[string]any{"const": "all"}}}},
		"normalise_eps": map[string]any{"type": "number"}, "neighbour_order": text, "class_order": text}}
}

// MarshalJSON writes All as "all".
func (p Protocol) MarshalJSON() ([]byte, error) {
	type plain Protocol
	ks := make([]any, len(p.K))
	for i, k := range p.K {
		if ks[i] = k; k == All {
			ks[i] = "all"
		}
	}
	return json.Marshal(struct {
		plain
		K              []any   `json:"k"`
		Eps            float64 `json:"normalise_eps,omitempty"`
		NeighbourOrder string  `json:"neighbour_order"`
		ClassOrder     string  `json:"class_order"`
	}{plain(p), ks, p.eps(), NeighbourOrder, ClassOrder})
}

func (p Protocol) eps() float64 {
	if p.Normalise {
		return NormaliseEps
	}
	return 0
}

// tally counts the outcomes of one k.
type tally struct {
	correct1, correct5, voted5 int64
	classes                    map[classKey]*ClassAccuracy
}

// classKey is a class that was asked for: one of the gallery's, or, with class
// -1, a label the gallery lacks.
type classKey struct {
	class int
	label int64
}

func newTally() tally { return tally{classes: map[classKey]*ClassAccuracy{}} }

// add counts one query; k is the number of neighbours that voted.
func (t *tally) add(key classKey, o outcome, k int) {
	c := t.classes[key]
	if c == nil {
		c = &ClassAccuracy{Taken: map[int64]int64{}}
		t.classes[key] = c
	}
	c.Queries++
	c.Taken[int64(o.class)]++ // a class until figures makes it a label
	if o.rank == 0 && o.hasVote {
		t.correct1++
		c.Correct1++
	}
	if o.rank >= 0 && int(o.rank) < min(5, k) {
		t.correct5++
		c.Correct5++
		if o.hasVote {
			t.voted5++
		}
	}
}

// figures turns the counts into accuracies.
func (t *tally) figures(queries int64, tr translation, perClass bool) KNNAtK {
	r := KNNAtK{
		Top1: share(t.correct1, queries), Top5: share(t.correct5, queries), Top5Voted: share(t.voted5, queries),
		Correct1: t.correct1, Correct5: t.correct5, Correct5Vote: t.voted5,
	}
	classes := make([]ClassAccuracy, 0, len(t.classes))
	for key, c := range t.classes {
		c.Top1, c.Top5 = share(c.Correct1, c.Queries), share(c.Correct5, c.Queries)
		if key.class >= 0 {
			c.Label = tr.gallery.labels[key.class]
			c.Name = tr.gallery.name(c.Label)
		} else {
			c.Label, c.Name, c.Unseen = key.label, nameOf(tr.names, key.label), true
		}
		taken := make(map[int64]int64, len(c.Taken))
		for class, n := range c.Taken {
			if class < 0 {
				taken[store.NoLabel] = n
			} else {
				taken[tr.gallery.labels[class]] = n
			}
		}
		c.Taken = taken
		classes = append(classes, *c)
	}
	// A fixed order, for the reader and because the mean below adds in it.
	slices.SortFunc(classes, func(a, b ClassAccuracy) int {
		switch {
		case a.Unseen != b.Unseen && b.Unseen:
			return -1
		case a.Unseen != b.Unseen:
			return 1
		case a.Label < b.Label:
			return -1
		case a.Label > b.Label:
			return 1
		}
		return 0
	})
	for _, c := range classes {
		r.MeanPerClass += c.Top1
	}
	r.MeanPerClass /= float64(max(1, len(classes)))
	if perClass {
		r.PerClass = classes
	}
	return r
}

func share(part, whole int64) float64 {
	if whole == 0 {
		return 0
	}
	return float64(part) / float64(whole)
}

// notes are the sentences that keep a number from being misread.
func (r *KNNResult) notes(p Protocol) []string {
	var notes []string
	note := func(format string, args ...any) { notes = append(notes, fmt.Sprintf(format, args...)) }
	if r.OverflowQueries > 0 {
		note("exp(s/T) in float32, as the original computes it, overflows for %d of %d queries; the votes here are shifted by the best similarity and do not", r.OverflowQueries, r.TestRows)
	}
	if r.UnseenQueries > 0 {
		note("the gallery has no row of the class of %d of %d queries (classes: %d), which count as wrong", r.UnseenQueries, r.TestRows, r.UnseenClasses)
	}
	if r.LoneQueries > 0 {
		note("no other row has the class of %d of %d queries, which count as wrong", r.LoneQueries, r.TestRows)
	}
	if r.TiedQueries > 0 {
		note("%d queries are equally near to all of their neighbours, and to the next if there is one: row numbers chose them, and their votes say nothing", r.TiedQueries)
	}
	if deepest := r.Results[len(r.Results)-1].EffectiveK; r.Classes <= 5 && deepest >= r.Classes {
		note("there are %d classes, so that top-5 is right for every query of one of them; top-5 voted asks for a vote at least", r.Classes)
	}
	if r.Train.Bank == r.Test.Bank && !r.SelfExcluded {
		note("gallery and query set are one bank and rows vote on themselves (leave-one-out excludes that)")
	}
	for _, k := range r.Results {
		if k.EffectiveK < k.K && p.K[len(p.K)-1] != All {
			note("k=%d: only %s can vote", k.K, rowsText(int64(k.EffectiveK)))
		}
	}
	return notes
}
