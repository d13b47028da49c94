package eval

import (
	"context"
	"fmt"
	"slices"
	"time"

	"membank/store"
)

// LabelErrors finds rows whose label their neighbours doubt. The vote is that of a
// leave-one-out kNN; the threshold is confident learning's (Northcutt et al. 2021)
// and comes from the data: a row labelled i is a candidate for j if the votes for j
// hold at least the share that rows labelled j have of their own on average.
type LabelErrors struct {
	Preset string // of KNN; "" is dino
	K      int    // 0: 20
}

// LabelErrorReport is what it found.
type LabelErrorReport struct {
	Bank       string  `json:"bank"`
	Protocol   string  `json:"protocol"`
	K          int     `json:"k"`
	Rows       int64   `json:"rows"` // with a label
	Classes    int     `json:"classes"`
	Lone       int64   `json:"lone_rows,omitempty"` // the only ones of their class, for whose label nothing can speak: no candidates
	Disagree   int64   `json:"disagree"`            // judged rows whose neighbours vote for another class
	Candidates int64   `json:"candidates"`          // of these, those beyond the threshold
	Tied       int64   `json:"tied_rows,omitempty"` // whose neighbours are all equally near, as is the next, so that row numbers chose them: no candidates
	Seconds    float64 `json:"seconds"`

	// Thresholds are the mean shares of votes for the own class, by class of two rows or more.
	Thresholds []ClassThreshold `json:"thresholds"`
	// Found are the candidates, the most doubtful first: by share of the suggested
	// class less share of the given one, then by row.
	Found []LabelError `json:"-"`
}

// ClassThreshold is a class's mean share of votes for itself.
type ClassThreshold struct {
	Label int64   `json:"label"`
	Name  string  `json:"name,omitempty"`
	Share float64 `json:"share"`
}

// LabelError is a row and what its neighbours say.
type LabelError struct {
	Row        int64
	Label      int64   // as given
	Suggested  int64   // by its neighbours
	Own, Votes float64 // shares of the votes: for the label given, for the one suggested
}

// Doubt is how much more of the votes the suggestion has.
func (e LabelError) Doubt() float64 { return e.Votes - e.Own }

// Run costs a leave-one-out kNN evaluation and 40 bytes a labelled row.
func (l LabelErrors) Run(ctx context.Context, s *store.Snapshot, o RunOptions) (*LabelErrorReport, error) {
	start := time.Now()
	if l.K <= 0 {
		l.K = 20
	}
	var all []LabelError
	tied := map[int64]bool{}
	o.Each = func(p Prediction) {
		if p.Class != store.NoLabel {
			all = append(all, LabelError{p.Row, p.Label, p.Class, p.Own, p.Share})
		}
		if p.Tied {
			tied[p.Row] = true
		}
	}
	knn, err := KNN{Preset: l.Preset, K: []int{l.K}, LeaveOneOut: true}.Evaluate(ctx, s, nil, o)
	if err != nil {
		return nil, err
	}
	r := &LabelErrorReport{Bank: s.Bank(), Protocol: knn.Protocol, K: knn.Results[0].EffectiveK, Rows: knn.TestRows, Classes: knn.Classes, Tied: knn.TiedQueries, Lone: knn.LoneQueries}
	mean := map[int64]struct{ own, rows float64 }{}
	for _, e := range all {
		m := mean[e.Label]
		m.own, m.rows = m.own+e.Own, m.rows+1
		mean[e.Label] = m
	}
	for label, m := range mean {
		if m.rows < 2 {
			continue // nothing could speak for it: a share of 0 says nothing
		}
		r.Thresholds = append(r.Thresholds, ClassThreshold{label, nameOf(s.Info().ClassNames, label), m.own / m.rows})
	}
	slices.SortFunc(r.Thresholds, func(a, b ClassThreshold) int {
		if a.Label < b.Label {
			return -1
		}
		return 1
	})
	judged := 0
	for _, e := range all {
		if tied[e.Row] || mean[e.Label].rows == 1 {
			continue
		}
		if judged++; e.Suggested == e.Label {
			continue
		}
		r.Disagree++
		// A class of which fewer than two rows were asked has no threshold: it cannot be
		// suggested.
		if m := mean[e.Suggested]; m.rows > 1 && e.Votes >= m.own/m.rows && e.Votes > e.Own {
			r.Found = append(r.Found, e)
		}
	}
	if judged == 0 {
		return nil, fmt.Errorf("%w: no label of bank %q can be doubted: of %d rows, the neighbours of %d are all equally near, and %d are alone in their class (membank diagnose says what these embeddings are worth)",
			ErrTooFew, s.Bank(), r.Rows, r.Tied, r.Lone)
	}
	slices.SortStableFunc(r.Found, func(a, b LabelError) int {
		if a.Doubt() == b.Doubt() {
			return 0
		}
		return sign(b.Doubt() - a.Doubt())
	})
	r.Candidates = int64(len(r.Found))
	r.Seconds = time.Since(start).Seconds()
	return r, nil
}
