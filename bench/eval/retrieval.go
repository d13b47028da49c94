package eval

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"membank/index"
	"membank/store"
)

// Retrieval ranks all rows of a gallery for every query and scores the rankings. The
// zero value takes rows of the query's own class as relevant, by cosine; Truth
// replaces the labels by lists.
type Retrieval struct {
	K      []int  // of R@k, P@k and mP@k; nil: 1, 5, 10
	Metric Metric // "" is Cosine; Dot and L2 take the rows as they are

	// LeaveOneOut ranks the other rows of the bank for every row of it. The row is
	// left out by its number, so an exact duplicate of it is found.
	LeaveOneOut bool

	// Truth names the relevant rows of each query: the protocol of revisited Oxford
	// and Paris. Nil: labels decide.
	Truth *GroundTruth

	// Each, if set, is given every query that was scored, in row order.
	Each func(QueryScore)
}

// QueryScore is what one ranking comes to.
type QueryScore struct {
	Row        int64   // of the query set
	Difficulty string  // of GroundTruth; "" by labels
	Relevant   int64   // rows
	First      int64   // rank of the first relevant one, from 1
	IR         float64 // AP as mean precision at the relevant ranks
	Trapezoid  float64 // AP as area under the precision-recall polygon
}

// RetrievalResult is scored rankings and everything needed to believe them.
type RetrievalResult struct {
	Protocol     string    `json:"protocol"` // and in brackets what departs from it
	Metric       Metric    `json:"metric"`
	QuerySet     BankUse   `json:"query_set"`
	Gallery      BankUse   `json:"gallery"`
	Dim          int       `json:"dim"` // as searched
	Transforms   []string  `json:"transforms,omitempty"`
	SelfExcluded bool      `json:"self_excluded"`
	Exact        bool      `json:"exact"`
	Results      []Figures `json:"results"`
	Notes        []string  `json:"notes,omitempty"`
	Seconds      float64   `json:"seconds"`
}

// Evaluate ranks the whole gallery for every query that has something to find.
//
// By labels the results are one object: queries, skipped (with a label that no
// other row has), gallery (labelled rows), map_full, map_trapezoid, R@k, P@k,
// R_precision, MAP@R, MRR and NDCG@10_binary, where R is the number of relevant rows
// of the query. By Truth there is one object a difficulty.
//
//   - map_full is the mean of IR's AP, (1/P) Σ (j+1)/(r_j+1) over the 0-based ranks
//     r_j of the P relevant rows; map_trapezoid that of ½[j/r_j + (j+1)/(r_j+1)],
//     with 1 for j/r_j at r_j = 0, as retrieval benchmarks compute it.
//   - R@k is the share of queries with a relevant row among the first k, P@k the mean
//     share of relevant rows among them; k beyond the gallery counts what is there
//     and divides by k.
//   - MAP@R is (1/R) Σ_{i≤R} P(i)·rel(i) (Musgrave et al. 2020).
//   - NDCG@10_binary has gains 1 and discounts 1/log2(rank+1).
//
// Rankings are exact: by scores of float64, ties to the smaller row. Nothing is sorted
// but the relevant rows: the ranks of those are counted (rankings.go), in 2·dim operations
// of float64 for each query and row of the gallery, which is read twice for a batch of
// queries. Batches keep it within RunOptions.Memory (0: 1 GiB), of which a relevant row
// of a query takes some 50 bytes; one query is always asked.
// The figures are the same for any threads, memory and SIMD level.
func (e Retrieval) Evaluate(ctx context.Context, queries, gallery *Set, o RunOptions) (*RetrievalResult, error) {
	start := time.Now()
	if o.Memory <= 0 {
		o.Memory = index.DefaultMemory // every batch reads the gallery
	}
	o.defaults()
	if err := e.defaults(queries, gallery); err != nil {
		return nil, err
	}
	if e.LeaveOneOut {
		queries = gallery
	}
	if err := sameDim(queries, gallery); err != nil {
		return nil, err
	}
	r := &RetrievalResult{
		Metric: e.Metric, QuerySet: queries.use, Gallery: gallery.use, Dim: gallery.dim,
		Transforms: gallery.made, SelfExcluded: e.LeaveOneOut, Exact: true,
	}
	a := &asking{queries: queries, gallery: gallery, metric: e.Metric.search(), leave: e.LeaveOneOut, run: o}
	var err error
	if e.Truth != nil {
		err = e.byTruth(ctx, a, r)
	} else {
		err = e.byLabels(ctx, a, r)
	}
	if err != nil {
		return nil, err
	}
	if a.tied > 0 {
		r.note("equally near to all of the gallery, so that row numbers rank it: %s of %s", rowsText(a.tied), queries.use.Bank)
	}
	if queries.use == gallery.use && !e.LeaveOneOut {
		r.note("queries and gallery are one bank and every row finds itself (leave-one-out excludes that)")
	}
	r.Seconds = time.Since(start).Seconds()
	return r, nil
}

func (e *Retrieval) defaults(queries, gallery *Set) error {
	if len(e.K) == 0 {
		e.K = []int{1, 5, 10}
	}
	e.K = slices.Compact(slices.Sorted(slices.Values(e.K)))
	if e.K[0] < 1 {
		return fmt.Errorf("%w: k is %d, the least is 1", ErrProtocol, e.K[0])
	}
	if e.Metric == "" {
		e.Metric = Cosine
	}
	if !slices.Contains([]Metric{Cosine, Dot, L2}, e.Metric) {
		return fmt.Errorf("%w: metric %q is none of cosine, dot, l2", ErrProtocol, e.Metric)
	}
	if e.LeaveOneOut && queries != nil && queries.use.Bank != gallery.use.Bank {
		return fmt.Errorf("%w: %q and %q (give the same bank for both)", ErrLeaveOneOut, gallery.use.Bank, queries.use.Bank)
	}
	return nil
}

// search is the metric that ranks by m.
func (m Metric) search() index.Metric {
	switch m {
	case Dot:
		return index.Dot
	case L2:
		return index.L2
	}
	return index.Cosine
}

// rowsText is "1 row", "2 rows".
func rowsText(n int64) string {
	if n == 1 {
		return "1 row"
	}
	return fmt.Sprintf("%d rows", n)
}

func (r *RetrievalResult) note(format string, args ...any) {
	r.Notes = append(r.Notes, fmt.Sprintf(format, args...))
}

// named is a protocol's name with what departs from it in brackets.
func (r *RetrievalResult) named(protocol string, departs ...string) {
	if r.Metric != Cosine {
		departs = append(departs, "metric="+string(r.Metric))
	}
	if r.SelfExcluded {
		departs = append(departs, "leave-one-out")
	}
	departs = append(departs, r.Transforms...)
	if r.Protocol = protocol; len(departs) > 0 {
		r.Protocol += " (" + strings.Join(departs, ", ") + ")"
	}
}

// byLabels takes rows of the query's own class as relevant. Rows without a label are
// neither asked nor ranked.
func (e *Retrieval) byLabels(ctx context.Context, a *asking, r *RetrievalResult) error {
	r.named("labels")
	classOf := slices.Clone(a.gallery.labels)
	classes, labelled := newDictionary(classOf, a.gallery.names)
	if labelled == 0 {
		return fmt.Errorf("%w in bank %q: nothing is relevant (ingest it with labels)", ErrNoLabels, a.gallery.use.Bank)
	}
	switch {
	case a.leave && labelled == 1:
		return fmt.Errorf("%w: bank %q has one with a label, and leave-one-out needs two", ErrTooFew, a.gallery.use.Bank)
	case len(classes.labels) == 1 && anyLabelled(a.queries.labels):
		return oneClass(a.gallery.use.Bank, classes)
	}
	sizes := make([]int64, len(classes.labels))
	for _, c := range classOf {
		if c >= 0 {
			sizes[c]++
		}
	}
	labels := newTranslation(classes, a.queries.names)
	// relevant is the class of a query and how many rows it should find.
	relevant := func(row int64) (class int, rows int64) {
		if a.queries.labels[row] == store.NoLabel {
			return -1, 0
		}
		if class = labels.class(a.queries.labels[row]); class < 0 {
			return class, 0
		}
		if rows = sizes[class]; a.leave {
			rows--
		}
		return class, rows
	}
	asked, skipped, unlabelled := int64(0), int64(0), int64(0)
	if unranked := a.gallery.use.Rows - labelled; unranked > 0 {
		a.allow = func(row int64) bool { return classOf[row] >= 0 }
		r.note("not ranked, for want of a label: %s of %s", rowsText(unranked), a.gallery.use.Bank)
	}
	a.wanted = func(row int64) bool {
		_, rows := relevant(row)
		switch {
		case rows > 0:
			asked++
		case a.queries.labels[row] == store.NoLabel:
			unlabelled++
		default:
			skipped++
		}
		return rows > 0
	}
	members := make([][]int64, len(classes.labels)) // ascending
	for row, c := range classOf {
		if c >= 0 {
			members[c] = append(members[c], int64(row))
		}
	}
	marked := func(row int64) []int64 {
		class, _ := relevant(row)
		return members[class]
	}
	sum := newRankSums(e.K)
	if err := a.rankings(ctx, marked, func(rows []int64, places [][]place) error {
		scores := make([]*rankScore, len(rows))
		parallel(len(rows), a.run.Threads, func(i int) {
			_, n := relevant(rows[i])
			scores[i] = newRankScore(e.K, n)
			for _, p := range places[i] {
				scores[i].find(p.rank)
			}
		})
		for i, s := range scores {
			sum.add(s)
			if e.Each != nil {
				e.Each(s.query(rows[i], ""))
			}
		}
		return nil
	}); err != nil {
		return err
	}
	if unlabelled > 0 {
		r.note("not asked, for want of a label: %s of %s", rowsText(unlabelled), a.queries.use.Bank)
	}
	switch {
	case asked > 0:
	case skipped == 0:
		return fmt.Errorf("%w in bank %q: nothing to ask (ingest it with labels)", ErrNoLabels, a.queries.use.Bank)
	case a.leave:
		return fmt.Errorf("%w: no row of bank %q has the class of another, so that nothing is to be found (evaluate rows of which two have a class)", ErrForegone, a.gallery.use.Bank)
	default:
		return noneShared(a.gallery.use.Bank, a.queries.use.Bank, labels)
	}
	if skipped > 0 {
		r.note("left out of every mean, as no other row has their class: %s of %s", rowsText(skipped), a.queries.use.Bank)
	}
	ranked := labelled
	if a.leave {
		ranked--
	}
	if k := int64(e.K[len(e.K)-1]); k > ranked {
		r.note("only %s can be ranked: R@k and P@k of a larger k, up to %d, look at these, and P@k divides by k", rowsText(ranked), k)
	}
	var f Figures
	f.add("queries", asked, "rows with something to find")
	f.add("skipped", skipped, "with a label that no other row has")
	f.add("gallery", labelled, "rows with a label")
	r.Results = []Figures{append(f, sum.figures()...)}
	return nil
}

// rankScore walks down one ranking.
type rankScore struct {
	k        []int
	relevant int64 // in all
	found    int64
	first    int64   // rank of the first found, from 1
	inR      int64   // found among the first `relevant` rows
	mapR     float64 // Σ precision at those
	ir, area float64
	gain     float64 // DCG of the first 10
	hits     []int64 // found among the first k
}

func newRankScore(k []int, relevant int64) *rankScore {
	return &rankScore{k: k, relevant: relevant, hits: make([]int64, len(k))}
}

// find takes the rank of the next relevant row, from 1.
func (s *rankScore) find(rank int64) {
	before := 1.0
	if rank > 1 {
		before = float64(s.found) / float64(rank-1)
	}
	s.found++
	precision := float64(s.found) / float64(rank)
	s.ir += precision
	s.area += (before + precision) / 2
	if s.first == 0 {
		s.first = rank
	}
	if rank <= s.relevant {
		s.inR++
		s.mapR += precision
	}
	if rank <= ndcgDepth {
		s.gain += 1 / math.Log2(float64(rank+1))
	}
	for i, k := range s.k {
		if rank <= int64(k) {
			s.hits[i]++
		}
	}
}

const ndcgDepth = 10

func (s *rankScore) query(row int64, difficulty string) QueryScore {
	n := float64(s.relevant)
	return QueryScore{Row: row, Difficulty: difficulty, Relevant: s.relevant, First: s.first, IR: s.ir / n, Trapezoid: s.area / n}
}

// rankSums adds queries up.
type rankSums struct {
	k                            []int
	queries                      int64
	ir, area, r, mapR, mrr, ndcg float64
	ideal                        [ndcgDepth + 1]float64 // DCG of so many relevant rows at the top
	recall, precision            []float64
}

func newRankSums(k []int) *rankSums {
	s := &rankSums{k: k, recall: make([]float64, len(k)), precision: make([]float64, len(k))}
	for i := range ndcgDepth {
		s.ideal[i+1] = s.ideal[i] + 1/math.Log2(float64(i+2))
	}
	return s
}

func (s *rankSums) add(q *rankScore) {
	n := float64(q.relevant)
	s.queries++
	s.ir += q.ir / n
	s.area += q.area / n
	s.r += float64(q.inR) / n
	s.mapR += q.mapR / n
	if q.first > 0 {
		s.mrr += 1 / float64(q.first)
	}
	s.ndcg += q.gain / s.ideal[min(q.relevant, ndcgDepth)]
	for i, hits := range q.hits {
		if hits > 0 {
			s.recall[i]++
		}
		s.precision[i] += float64(hits) / float64(s.k[i])
	}
}

func (s *rankSums) figures() (f Figures) {
	n := float64(s.queries)
	f.number("map_full", s.ir/n, "mean AP of the full ranking, as information retrieval has it")
	f.number("map_trapezoid", s.area/n, "the same, as retrieval benchmarks have it")
	for i, k := range s.k {
		f.number("R@"+strconv.Itoa(k), s.recall[i]/n, fmt.Sprintf("queries with a hit in the first %d", k))
	}
	for i, k := range s.k {
		f.number("P@"+strconv.Itoa(k), s.precision[i]/n, fmt.Sprintf("hits in the first %d", k))
	}
	f.number("R_precision", s.r/n, "hits in the first R, of R rows to find")
	f.number("MAP@R", s.mapR/n, "AP cut at R")
	f.number("MRR", s.mrr/n, "mean of 1/rank of the first hit")
	f.number("NDCG@10_binary", s.ndcg/n, "discounted hits in the first 10")
	return f
}
