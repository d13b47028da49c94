package eval

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"membank/index"
	"membank/store"
)

// Groups is same-attribute retrieval by group, the fairness protocol of Goyal et al.
// 2022 (vissl, projects/fairness_indicators, indicator 3) that SEER reports: the
// queries of each group ask a gallery, and a neighbour is a hit if it shares the
// query's value of Match. There, faces of one data set ask another and share only
// gender; ages and skin types group the queries.
type Groups struct {
	Match       string          // the attribute that a hit shares; "" or "label": the label
	By          [][]string      // groupings: the attributes of queries that are crossed in each; nil: by Match
	Bins        map[string]Bins // how columns of numbers are cut
	K           []int           // nil: 1, 5, 10, 50, as the protocol
	Metric      Metric          // "" is Cosine
	LeaveOneOut bool            // the gallery asks itself

	// Floor is how many queries a group must have for its figures to be told: those
	// of fewer are missing, and take no part in gaps. 0: 30.
	Floor int

	// MinScore, with HasMinScore, is the similarity (by l2 the squared distance) that
	// a neighbour must reach to be counted at all: the protocol has none.
	MinScore    float32
	HasMinScore bool
}

// GroupsResult is figures by group.
type GroupsResult struct {
	Protocol     string    `json:"protocol"`
	Metric       Metric    `json:"metric"`
	Match        string    `json:"match"`
	QuerySet     BankUse   `json:"query_set"`
	Gallery      BankUse   `json:"gallery"`
	Dim          int       `json:"dim"`
	Asked        int64     `json:"queries"`           // with a value of Match
	Skipped      int64     `json:"queries_without"`   // a value of Match, so not asked
	Ranked       int64     `json:"gallery_ranked"`    // rows with a value of Match
	Unranked     int64     `json:"gallery_without"`   // rows that were left out of the search
	Unmatched    int64     `json:"queries_unmatched"` // asked, with a value that no (other) row of the gallery has
	Floor        int       `json:"floor"`
	SelfExcluded bool      `json:"self_excluded"`
	Results      []Figures `json:"results"` // a group each
	Gaps         []Figures `json:"gaps"`    // a grouping and k each
	Notes        []string  `json:"notes,omitempty"`
	Seconds      float64   `json:"seconds"`
}

// Evaluate asks every query once at the largest k; all groupings count the same
// neighbours. Both sets are stored banks.
//
// For each group there are n, P@k = Σ hits/(k·n), hit@k, the share of queries with a
// hit among the first k, and their intervals _low and _high: Wilson's, of 95 %, over
// n trials. Of a group whose queries all have a value that no row of the gallery has,
// figures are missing: they would be 0 for any embeddings. Of hit@k (and P@1) these are exact trials; the k neighbours of one query
// are not independent, so P@k for k > 1 takes the n queries as its trials, which is the
// widest it can be. With MinScore, P@k divides by the neighbours that reach it, and
// coverage@k is the share of queries that have one. k beyond the rows that can be ranked
// is cut to them. Gaps are max − min, and ratios min/max, over the groups of a grouping
// that reach the floor.
//
// Rows of the gallery without a value of Match are left out of the search, as rows
// without a label are elsewhere. Memory is bounded by o.Memory and some 12 bytes a row.
func (e Groups) Evaluate(ctx context.Context, queries, gallery *Set, o RunOptions) (*GroupsResult, error) {
	start := time.Now()
	o.defaults()
	if err := e.defaults(queries, gallery); err != nil {
		return nil, err
	}
	if e.LeaveOneOut {
		queries = gallery
	}
	g := &grouping{Groups: e, result: &GroupsResult{
		Metric: e.Metric, Match: e.Match, QuerySet: queries.use, Gallery: gallery.use, Dim: gallery.dim,
		Floor: e.Floor, SelfExcluded: e.LeaveOneOut,
	}}
	if err := g.read(ctx, queries, gallery); err != nil {
		return nil, err
	}
	least := g.result.Ranked
	if e.LeaveOneOut {
		least--
	}
	if least < 1 {
		return nil, fmt.Errorf("%w: bank %q has one row with a value of %q, and leave-one-out needs two (ingest more rows)", ErrTooFew, gallery.use.Bank, e.Match)
	}
	g.ks = make([]int, len(e.K))
	for i, k := range e.K {
		g.ks[i] = int(min(int64(k), least))
	}
	a := &asking{
		queries: queries, gallery: gallery, k: int64(g.ks[len(g.ks)-1]), metric: e.Metric.search(), leave: e.LeaveOneOut, run: o,
		wanted: func(row int64) bool { return g.want[row] != -1 },
	}
	if g.result.Unranked > 0 {
		a.allow = func(row int64) bool { return g.have[row] >= 0 }
	}
	if e.HasMinScore {
		a.least = func([]int64) (float32, bool) { return e.MinScore, true }
	}
	err := a.each(ctx, func(rows []int64, hits [][]index.Hit) error {
		for i, row := range rows {
			g.count(row, hits[i])
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	g.tied = a.tied
	g.finish()
	g.result.Seconds = time.Since(start).Seconds()
	return g.result, nil
}

func (e *Groups) defaults(queries, gallery *Set) error {
	if len(e.K) == 0 {
		e.K = []int{1, 5, 10, 50}
	}
	e.K = slices.Compact(slices.Sorted(slices.Values(e.K)))
	if e.Metric == "" {
		e.Metric = Cosine
	}
	if e.Match == "" {
		e.Match = "label"
	}
	if len(e.By) == 0 {
		e.By = [][]string{{e.Match}}
	}
	if e.Floor == 0 {
		e.Floor = 30
	}
	switch {
	case e.K[0] < 1:
		return fmt.Errorf("%w: k is %d, the least is 1", ErrProtocol, e.K[0])
	case !slices.Contains([]Metric{Cosine, Dot, L2}, e.Metric):
		return fmt.Errorf("%w: metric %q is none of cosine, dot, l2", ErrProtocol, e.Metric)
	case e.Floor < 1:
		return fmt.Errorf("%w: a floor of %d queries, the least is 1", ErrProtocol, e.Floor)
	case e.LeaveOneOut && queries != nil && queries.use.Bank != gallery.use.Bank:
		return fmt.Errorf("%w: %q and %q (give the same bank for both)", ErrLeaveOneOut, gallery.use.Bank, queries.use.Bank)
	case gallery.snap == nil || !e.LeaveOneOut && queries.snap == nil:
		return fmt.Errorf("%w: only stored banks have attributes", ErrGroups)
	}
	for _, by := range e.By {
		if len(by) == 0 || slices.Contains(by, "") {
			return fmt.Errorf("%w: a grouping by nothing", ErrProtocol)
		}
	}
	return nil
}

// grouping is an evaluation under way.
type grouping struct {
	Groups
	result *GroupsResult
	ks     []int           // as K, at most the rows that can be ranked
	want   []int64         // of each query row: the value of Match it looks for; −1 none, −2 one that the gallery lacks
	have   []int64         // of each gallery row: its value; −1 none
	rows   map[int64]int64 // of the gallery, of each value
	tables []groupTable
	tied   int64 // queries whose neighbours are all equally near
}

// groupTable counts one grouping.
type groupTable struct {
	by     string
	of     *coded // of query rows; nil: all are one group
	tally  []groupTally
	absent int64 // queries that were asked and lack a value
}

type groupTally struct {
	n, unmatched                int64
	hits, kept, queries, covers []int64 // [k]: neighbours that hit, that count; queries with a hit, with a neighbour
}

func newGroupTally(ks int) groupTally {
	return groupTally{hits: make([]int64, ks), kept: make([]int64, ks), queries: make([]int64, ks), covers: make([]int64, ks)}
}

// read codes the columns that match and group.
func (g *grouping) read(ctx context.Context, queries, gallery *Set) error {
	if err := g.matches(ctx, queries, gallery); err != nil {
		return err
	}
	all := groupTable{by: "all", tally: []groupTally{newGroupTally(len(g.K))}}
	g.tables = append(g.tables, all)
	columns := map[string]*coded{}
	for _, by := range g.By {
		var crossed []*coded
		for _, name := range by {
			if columns[name] == nil {
				c, err := readColumn(ctx, queries, name, g.Bins[name])
				if err != nil {
					return err
				}
				columns[name] = c
			}
			crossed = append(crossed, columns[name])
		}
		of, err := cross(crossed)
		if err != nil {
			return err
		}
		t := groupTable{by: strings.Join(by, "+"), of: of}
		for range of.names {
			t.tally = append(t.tally, newGroupTally(len(g.K)))
		}
		g.tables = append(g.tables, t)
	}
	for name := range g.Bins {
		if columns[name] == nil {
			return fmt.Errorf("%w: bins for %q, by which nothing is grouped", ErrProtocol, name)
		}
	}
	return g.foregone()
}

// foregone says that values settle who hits, whatever the embeddings.
func (g *grouping) foregone() error {
	gallery, queries := g.result.Gallery, g.result.QuerySet
	switch {
	case g.LeaveOneOut && g.result.Ranked == 1:
		return nil // which is told apart
	case len(g.rows) == 1:
		return fmt.Errorf("%w: all rows of bank %q that can be ranked have one value of %q, so that every query of it hits with all (match by an attribute of two values or more)", ErrForegone, gallery.Bank, g.Match)
	case g.result.Unmatched == g.result.Asked && g.LeaveOneOut:
		return fmt.Errorf("%w: no row of bank %q has the value of %q of another, so that nothing can hit (evaluate rows of which two have a value)", ErrForegone, gallery.Bank, g.Match)
	case g.result.Unmatched == g.result.Asked:
		return fmt.Errorf("%w: no query of bank %q has a value of %q that a row of bank %q has, so that nothing can hit (name values alike in both)", ErrForegone, queries.Bank, g.Match, gallery.Bank)
	}
	return nil
}

// matches fills want and have.
func (g *grouping) matches(ctx context.Context, queries, gallery *Set) error {
	if g.Match == "label" && !slices.Contains(gallery.snap.Info().Attributes, "label") {
		g.have = slices.Clone(gallery.labels)
		classes, _ := newDictionary(g.have, gallery.names)
		translate := newTranslation(classes, queries.names)
		g.want = make([]int64, len(queries.labels))
		for row, label := range queries.labels {
			g.want[row] = -1
			if label != store.NoLabel {
				if g.want[row] = int64(translate.class(label)); g.want[row] < 0 {
					g.want[row] = -2
				}
			}
		}
	} else {
		in, err := readColumn(ctx, gallery, g.Match, nil)
		if err != nil {
			return err
		}
		from, err := readColumn(ctx, queries, g.Match, nil)
		if err != nil {
			return err
		}
		places := map[string]int64{}
		for i, name := range in.names {
			places[name] = int64(i)
		}
		g.have, g.want = make([]int64, len(in.code)), make([]int64, len(from.code))
		for row, c := range in.code {
			g.have[row] = int64(c)
		}
		for row, c := range from.code {
			g.want[row] = -1
			if c >= 0 {
				at, ok := places[from.names[c]]
				if !ok {
					at = -2
				}
				g.want[row] = at
			}
		}
	}
	g.rows = map[int64]int64{}
	for row, v := range g.have {
		if v >= 0 {
			g.result.Ranked++
			g.rows[v]++
		} else if gallery.alive(int64(row)) {
			g.result.Unranked++
		}
	}
	for row, v := range g.want {
		if v >= 0 && g.LeaveOneOut && g.rows[v] == 1 { // its own
			v, g.want[row] = -2, -2
		}
		switch {
		case v == -1 && queries.alive(int64(row)):
			g.result.Skipped++
		case v == -2:
			g.result.Unmatched++
			g.result.Asked++
		case v >= 0:
			g.result.Asked++
		}
	}
	if g.result.Ranked == 0 || g.result.Asked == 0 {
		return fmt.Errorf("%w: %d rows of %q and %d queries of %q have a value of %q (ingest it with the banks)",
			ErrGroups, g.result.Ranked, gallery.use.Bank, g.result.Asked, queries.use.Bank, g.Match)
	}
	return nil
}

// count takes the neighbours of one query into every grouping.
func (g *grouping) count(row int64, hits []index.Hit) {
	found := make([]int64, len(g.ks)) // hits among the first k
	n, done := int64(0), 0
	for i, k := range g.ks {
		for ; done < min(k, len(hits)); done++ {
			if g.have[hits[done].Row] == g.want[row] {
				n++
			}
		}
		found[i] = n
	}
	for t := range g.tables {
		table := &g.tables[t]
		at := int32(0)
		if table.of != nil {
			at = table.of.code[row]
		}
		if at < 0 {
			table.absent++
			continue
		}
		tally := &table.tally[at]
		tally.n++
		if g.want[row] == -2 {
			tally.unmatched++
		}
		for i, k := range g.ks {
			kept := int64(min(k, len(hits)))
			tally.hits[i] += found[i]
			tally.kept[i] += kept
			tally.queries[i] += min(found[i], 1)
			tally.covers[i] += min(kept, 1)
		}
	}
}

func (g *grouping) finish() {
	g.result.Protocol = g.name()
	for _, t := range g.tables {
		names := []string{"all"}
		if t.of != nil {
			names = t.of.names
		}
		below, unmatched := 0, 0
		for i, tally := range t.tally {
			if tally.n < int64(g.Floor) {
				below++
			} else if tally.unmatched == tally.n {
				unmatched++
			}
			g.result.Results = append(g.result.Results, g.figures(t.by, names[i], tally))
		}
		if t.of == nil {
			continue
		}
		for i, k := range g.K {
			g.result.Gaps = append(g.result.Gaps, g.gap(t, i, k))
		}
		if below > 0 {
			g.note("by %s: %d of %d groups have fewer than %d queries; their figures are not told and take no part in gaps", t.by, below, len(t.tally), g.Floor)
		}
		if unmatched > 0 {
			g.note("by %s: the queries of %d of %d groups have values of %s that no other row has; their figures are not told and take no part in gaps", t.by, unmatched, len(t.tally), g.Match)
		}
		if t.absent > 0 {
			g.note("by %s: %d queries that were asked lack a value and are in no group", t.by, t.absent)
		}
	}
	if g.tied > 0 {
		g.note("equally near to all that was ranked for them, so that row numbers chose: %s of %s", rowsText(g.tied), g.result.QuerySet.Bank)
	}
	for i, k := range g.K {
		if g.ks[i] < k {
			g.note("k=%d: only %s can be ranked", k, rowsText(int64(g.ks[i])))
		}
	}
	if g.result.Unmatched > 0 {
		g.note("with a value of %s that no other row of the gallery has, so that they hit nothing: %s", g.Match, rowsText(g.result.Unmatched))
	}
	if g.result.QuerySet.Bank == g.result.Gallery.Bank && !g.LeaveOneOut {
		g.note("queries and gallery are one bank and every row finds itself (leave-one-out excludes that)")
	}
}

func (g *grouping) note(format string, args ...any) {
	g.result.Notes = append(g.result.Notes, fmt.Sprintf(format, args...))
}

func (g *grouping) name() string {
	departs := []string{}
	if g.Metric != Cosine {
		departs = append(departs, "metric="+string(g.Metric))
	}
	if g.HasMinScore {
		departs = append(departs, fmt.Sprintf("min-score=%g", g.MinScore))
	}
	if g.LeaveOneOut {
		departs = append(departs, "leave-one-out")
	}
	name := "same-" + g.Match + " retrieval by group"
	if len(departs) > 0 {
		name += " (" + strings.Join(departs, ", ") + ")"
	}
	return name
}

// figures are those of one group.
func (g *grouping) figures(by, name string, t groupTally) Figures {
	var f Figures
	f.add("by", by, "")
	f.add("group", name, "")
	f.add("n", t.n, "")
	for i, k := range g.K {
		p, of, ok := g.precision(t, i)
		g.share(&f, fmt.Sprintf("P@%d", k), p, of, ok, t)
		g.share(&f, fmt.Sprintf("hit@%d", k), share(t.queries[i], t.n), t.n, t.n > 0, t)
		if g.HasMinScore {
			g.share(&f, fmt.Sprintf("coverage@%d", k), share(t.covers[i], t.n), t.n, t.n > 0, t)
		}
	}
	return f
}

// precision is P@k of a group, and over how many trials its interval is.
func (g *grouping) precision(t groupTally, i int) (p float64, trials int64, ok bool) {
	if g.HasMinScore {
		return share(t.hits[i], t.kept[i]), t.covers[i], t.kept[i] > 0
	}
	of := t.n * int64(g.ks[i])
	return share(t.hits[i], of), t.n, of > 0
}

// share adds a share and its interval, if the group is large enough for it.
func (g *grouping) share(f *Figures, name string, p float64, trials int64, ok bool, t groupTally) {
	why := ""
	switch {
	case t.n < int64(g.Floor):
		why = fmt.Sprintf("fewer than %d queries", g.Floor)
	case t.unmatched == t.n:
		why = "no other row of the gallery has their value of " + g.Match
	case !ok:
		why = "no neighbour reaches the least score"
	}
	if why != "" {
		for _, end := range []string{"", "_low", "_high"} {
			f.missing(name+end, why, "")
		}
		return
	}
	low, high := wilson(p, trials)
	f.number(name, p, "")
	f.number(name+"_low", low, "")
	f.number(name+"_high", high, "")
}

// gap compares the groups of a grouping that reach the floor.
func (g *grouping) gap(t groupTable, i, k int) Figures {
	var f Figures
	f.add("by", t.by, "")
	f.add("k", int64(k), "")
	for _, kind := range []string{"P", "hit"} {
		least, most, groups := -1, -1, 0
		value := make([]float64, len(t.tally))
		for j, tally := range t.tally {
			p, _, ok := g.precision(tally, i)
			if kind == "hit" {
				p, ok = share(tally.queries[i], tally.n), tally.n > 0
			}
			if value[j] = p; !ok || tally.n < int64(g.Floor) || tally.unmatched == tally.n {
				continue
			}
			groups++
			if least < 0 || p < value[least] {
				least = j
			}
			if most < 0 || p > value[most] {
				most = j
			}
		}
		if groups < 2 {
			why := fmt.Sprintf("%d groups have figures, and a gap is between two", groups)
			for _, name := range []string{"_gap", "_ratio", "_lowest", "_highest"} {
				f.missing(kind+name, why, "")
			}
			continue
		}
		f.number(kind+"_gap", value[most]-value[least], "")
		if value[most] == 0 {
			f.missing(kind+"_ratio", "no group has a hit", "")
		} else {
			f.number(kind+"_ratio", value[least]/value[most], "")
		}
		if least == most {
			f.missing(kind+"_lowest", "all groups are equal", "")
			f.missing(kind+"_highest", "all groups are equal", "")
			continue
		}
		f.add(kind+"_lowest", t.of.names[least], "")
		f.add(kind+"_highest", t.of.names[most], "")
	}
	return f
}

// wilson is Wilson's interval (1927) of 95 % for a share p of n trials: the shares
// that a test at this level would not reject. Unlike p ± 1.96 σ it stays within 0 and
// 1, and has a width at both.
func wilson(p float64, n int64) (low, high float64) {
	const z = 1.959963984540054
	of := float64(n)
	centre := p + z*z/(2*of)
	half := z * math.Sqrt(p*(1-p)/of+z*z/(4*of*of))
	below := 1 + z*z/of
	return max(0, (centre-half)/below), min(1, (centre+half)/below)
}
