package eval

import (
	"context"
	"fmt"
	"math"
	"slices"
	"time"

	"membank/store"
)

// PseudoLabels labels rows by their neighbours, for self-training: every row of a bank,
// labelled or not, gets the class with the largest vote and three measures of how far
// to believe it. The zero value accepts all.
type PseudoLabels struct {
	KNN           // with one number of neighbours; its LeaveOneOut asks each row of the gallery against the others
	MinConfidence float64
	MinMargin     float64
	MinAgreement  float64

	// Each, if set, is given every row in row order.
	Each func(PseudoLabel)
}

// PseudoLabel is what the neighbours say about one row.
type PseudoLabel struct {
	Row        int64
	Label      int64   // that the row has, store.NoLabel if none
	Class      int64   // label of the gallery
	Name       string  // of Class, "" if it has none
	Confidence float64 // of all votes, those for Class
	Margin     float64 // (first vote - second vote) / all votes
	Agreement  float64 // of the neighbours that voted, those of Class
	Accepted   bool    // all three reach their thresholds
}

// PseudoResult is how many rows could be labelled, and how rightly where that is known.
type PseudoResult struct {
	Protocol      string   `json:"protocol"`
	Rules         Protocol `json:"rules"`
	Train         BankUse  `json:"train"`
	Test          BankUse  `json:"test"`
	K             int      `json:"k"`
	Classes       int      `json:"classes"`
	MinConfidence float64  `json:"min_confidence"`
	MinMargin     float64  `json:"min_margin"`
	MinAgreement  float64  `json:"min_agreement"`
	Rows          int64    `json:"rows"`      // that were asked
	Accepted      int64    `json:"accepted"`  // that got a label
	Coverage      float64  `json:"coverage"`  // accepted / rows
	Labelled      int64    `json:"labelled"`  // accepted rows that have a label to compare with
	Precision     *float64 `json:"precision"` // of these, the right ones; null if there are none, or the gallery has no class of theirs

	// Results are the curve: what a least confidence alone would accept.
	Results []CoverageAt `json:"results"`
	Notes   []string     `json:"notes,omitempty"`
	Seconds float64      `json:"seconds"`
}

// CoverageAt is one point of the curve.
type CoverageAt struct {
	MinConfidence float64  `json:"min_confidence"`
	Accepted      int64    `json:"accepted"`
	Coverage      float64  `json:"coverage"`
	Labelled      int64    `json:"labelled"`
	Precision     *float64 `json:"precision"`
}

// The curve has a point each 0.05 of confidence.
const curvePoints = 20

// Evaluate asks all rows of test. A row without any neighbour that could vote gets no
// label; rows of test that are in the gallery too vote on themselves, unless
// LeaveOneOut asks for one Set against itself.
func (e PseudoLabels) Evaluate(ctx context.Context, train, test *Set, o RunOptions) (*PseudoResult, error) {
	start := time.Now()
	rule, err := e.Protocol()
	if err != nil {
		return nil, err
	}
	if len(e.K) == 0 {
		e.K = rule.K[:1] // several have DINO's list, whose quoted k is 20
		if slices.Contains(rule.K, 20) {
			e.K = []int{20}
		}
		if rule, err = e.Protocol(); err != nil {
			return nil, err
		}
	}
	if len(rule.K) != 1 {
		return nil, fmt.Errorf("%w: pseudo-labels need one number of neighbours, not %d", ErrProtocol, len(rule.K))
	}
	for _, t := range []float64{e.MinConfidence, e.MinMargin, e.MinAgreement} {
		if math.IsNaN(t) || t < 0 || t > 1 {
			return nil, fmt.Errorf("%w: a threshold is %v, and shares are 0 to 1", ErrProtocol, t)
		}
	}
	r := &PseudoResult{
		Protocol: rule.Name, Rules: rule, Train: train.use, Test: test.use,
		MinConfidence: e.MinConfidence, MinMargin: e.MinMargin, MinAgreement: e.MinAgreement,
	}
	curve := make([]counts, curvePoints+1)
	var accepted counts
	o.Each = func(p Prediction) {
		l := PseudoLabel{Row: p.Row, Label: p.Label, Class: p.Class, Name: nameOf(train.names, p.Class), Confidence: p.Share, Margin: p.Margin, Agreement: p.Agreement}
		l.Accepted = p.Class != store.NoLabel && l.Confidence >= e.MinConfidence && l.Margin >= e.MinMargin && l.Agreement >= e.MinAgreement
		r.Rows++
		if l.Accepted {
			accepted.add(p)
		}
		for i := range curve {
			if p.Class != store.NoLabel && p.Share >= float64(i)/curvePoints {
				curve[i].add(p)
			}
		}
		if e.Each != nil {
			e.Each(l)
		}
	}
	asked, err := e.run(ctx, train, test, o, true)
	if err != nil {
		return nil, err
	}
	r.K, r.Classes, r.Notes = asked.result.Results[0].K, asked.result.Classes, asked.result.Notes
	precision := counts.precision
	if n := asked.result.TestRows; n > 0 && asked.result.UnseenQueries == n { // none could be right
		precision = func(counts) *float64 { return nil }
	}
	r.Accepted, r.Labelled, r.Coverage, r.Precision = accepted.rows, accepted.labelled, share(accepted.rows, r.Rows), precision(accepted)
	for i, c := range curve {
		r.Results = append(r.Results, CoverageAt{float64(i) / curvePoints, c.rows, share(c.rows, r.Rows), c.labelled, precision(c)})
	}
	r.Seconds = time.Since(start).Seconds()
	return r, nil
}

// counts are accepted rows, those of them that have a label, and those it is right for.
type counts struct{ rows, labelled, right int64 }

func (c *counts) add(p Prediction) {
	c.rows++
	if p.Label != store.NoLabel {
		c.labelled++
	}
	if p.Right {
		c.right++
	}
}

func (c counts) precision() *float64 {
	if c.labelled == 0 {
		return nil
	}
	p := share(c.right, c.labelled)
	return &p
}
