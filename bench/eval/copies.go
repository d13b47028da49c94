package eval

import (
	"cmp"
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"time"

	"membank/index"
)

// Copies is copy detection as DISC scores it (Douze et al. 2021, SSCD): candidate
// pairs of a query and a reference are pooled over all queries, sorted by score, and
// judged against the true pairs. The zero value takes ten candidates a query.
type Copies struct {
	Truth  []Match
	K      int    // candidates of each query; 0 means 10
	Global int    // instead: so many candidate pairs of all queries together
	Metric Metric // "" is Cosine; L2 scores by -d²

	// Normalise subtracts from the scores of a query Beta times the mean of its
	// First-th to Last-th best similarities with Background, counted from 0 and both
	// included: SSCD's "1.0[0,2]". Nil: scores as they are.
	Normalise  *ScoreNorm
	Background *Set
}

// Match is a true pair, by names as in GroundTruth.
type Match struct{ Query, Reference string }

// ScoreNorm is score normalisation Beta[First,Last].
type ScoreNorm struct {
	Beta        float64
	First, Last int
}

func (n ScoreNorm) String() string { return fmt.Sprintf("%g[%d,%d]", n.Beta, n.First, n.Last) }

// ReadMatches reads true pairs as DISC keeps them: lines of query,reference, with or
// without the header query_id,reference_id. A query that copies nothing has an empty
// reference, and is no pair.
func ReadMatches(r io.Reader) ([]Match, error) {
	in := csv.NewReader(r)
	in.FieldsPerRecord = -1
	var list []Match
	seen := map[Match]bool{}
	for {
		fields, err := in.Read()
		if err == io.EOF {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("%w: %v", ErrGroundTruth, err)
		}
		line, _ := in.FieldPos(0)
		if len(fields) < 2 {
			return nil, fmt.Errorf("%w: line %d: no reference behind %q (write query,reference)", ErrGroundTruth, line, fields[0])
		}
		m := Match{strings.TrimSpace(fields[0]), strings.TrimSpace(fields[1])}
		if line == 1 {
			m.Query = strings.TrimPrefix(m.Query, "\ufeff")
		}
		if line == 1 && strings.EqualFold(m.Query, "query_id") || m.Reference == "" {
			continue
		}
		if m.Query == "" || seen[m] {
			return nil, fmt.Errorf("%w: line %d: %s (every pair once)", ErrGroundTruth, line, map[bool]string{true: "no query", false: "a pair for the second time"}[m.Query == ""])
		}
		seen[m] = true
		list = append(list, m)
	}
	if len(list) == 0 {
		return nil, fmt.Errorf("%w: no pair of a query and its reference in it", ErrGroundTruth)
	}
	return list, nil
}

// Evaluate scores queries against references. The results are one object:
//
//   - uAP, micro average precision: Σ (R_i − R_{i−1})·P_i down the pooled list,
//     recall counted in true pairs; of pairs with equal scores wrong ones come first.
//   - recall@P90, the largest recall at a precision of 0.9 or more, with its
//     threshold; both missing where no precision is that high.
//   - recall@1 and recall@10: the true pairs whose score at most so many candidates
//     of the query reach, itself included.
//
// All queries are asked, those without a true pair, too. It holds 32 bytes a
// candidate pair.
func (e Copies) Evaluate(ctx context.Context, queries, references *Set, o RunOptions) (*RetrievalResult, error) {
	start := time.Now()
	o.defaults()
	if err := e.defaults(); err != nil {
		return nil, err
	}
	truth, err := e.resolve(ctx, queries, references)
	if err != nil {
		return nil, err
	}
	r := &RetrievalResult{
		Metric: e.Metric, QuerySet: queries.use, Gallery: references.use, Dim: references.dim,
		Transforms: references.made, Exact: true,
	}
	r.named("copy detection", e.departures()...)
	bias, err := e.bias(ctx, queries, o)
	if err != nil {
		return nil, err
	}
	found := &candidates{e: e, bias: bias, references: int64(len(references.labels)), truth: truth}
	if err := found.collect(ctx, queries, references, o); err != nil {
		return nil, err
	}
	r.Results = []Figures{found.figures(queries.use.Rows)}
	r.Seconds = time.Since(start).Seconds()
	return r, nil
}

func (e *Copies) defaults() error {
	if e.Metric == "" {
		e.Metric = Cosine
	}
	if e.K == 0 {
		e.K = 10
	}
	switch {
	case !slices.Contains([]Metric{Cosine, Dot, L2}, e.Metric):
		return fmt.Errorf("%w: metric %q is none of cosine, dot, l2", ErrProtocol, e.Metric)
	case e.K < 1 || e.Global < 0:
		return fmt.Errorf("%w: %d candidates a query, %d in all", ErrProtocol, e.K, e.Global)
	case len(e.Truth) == 0:
		return fmt.Errorf("%w: no true pairs", ErrGroundTruth)
	case e.Normalise == nil:
		return nil
	case e.Background == nil:
		return fmt.Errorf("%w: score normalisation needs a background bank", ErrProtocol)
	case e.Metric == L2:
		return fmt.Errorf("%w: score normalisation is of similarities, and l2 is a distance", ErrProtocol)
	}
	if n := e.Normalise; n.First < 0 || n.Last < n.First || math.IsNaN(n.Beta) || math.IsInf(n.Beta, 0) {
		return fmt.Errorf("%w: score normalisation %v", ErrProtocol, n)
	}
	if int64(e.Normalise.Last) >= e.Background.use.Rows {
		return fmt.Errorf("%w: score normalisation %v needs %d background rows, bank %q has %d",
			ErrProtocol, e.Normalise, e.Normalise.Last+1, e.Background.use.Bank, e.Background.use.Rows)
	}
	return nil
}

func (e *Copies) departures() (departs []string) {
	if e.Global > 0 {
		departs = append(departs, fmt.Sprintf("best %d pairs", e.Global))
	} else if e.K != 10 {
		departs = append(departs, fmt.Sprintf("k=%d", e.K))
	}
	if e.Normalise != nil {
		departs = append(departs, "score norm "+e.Normalise.String()+" on "+e.Background.use.Bank)
	}
	return departs
}

// pairOf is a query's and a reference's row.
type pairOf struct{ query, reference int64 }

func (e *Copies) resolve(ctx context.Context, queries, references *Set) (map[pairOf]bool, error) {
	q, err := newByName(ctx, queries)
	if err != nil {
		return nil, err
	}
	r, err := newByName(ctx, references)
	if err != nil {
		return nil, err
	}
	truth := make(map[pairOf]bool, len(e.Truth))
	for _, m := range e.Truth {
		query, err1 := q.row(m.Query)
		reference, err2 := r.row(m.Reference)
		if err := errors.Join(err1, err2); err != nil {
			return nil, err
		}
		pair := pairOf{query, reference}
		if truth[pair] {
			return nil, fmt.Errorf("%w: query %q and reference %q are a pair twice", ErrGroundTruth, m.Query, m.Reference)
		}
		truth[pair] = true
	}
	return truth, nil
}

// bias is what normalisation adds to the scores of each query row; nil: nothing.
func (e *Copies) bias(ctx context.Context, queries *Set, o RunOptions) ([]float64, error) {
	if e.Normalise == nil {
		return nil, nil
	}
	n := e.Normalise
	bias := make([]float64, len(queries.labels))
	o.Progress = nil
	a := &asking{queries: queries, gallery: e.Background, k: int64(n.Last) + 1, metric: e.Metric.search(), run: o}
	return bias, a.each(ctx, func(rows []int64, hits [][]index.Hit) error {
		for i, row := range rows {
			sum := 0.0
			for _, h := range hits[i][n.First : n.Last+1] {
				sum += float64(h.Score)
			}
			bias[row] = -n.Beta * sum / float64(n.Last-n.First+1)
		}
		return nil
	})
}

// candidates are pooled pairs.
type candidates struct {
	e          Copies
	bias       []float64
	references int64 // row numbers of them
	truth      map[pairOf]bool
	pairs      []candidate
}

type candidate struct {
	pairOf
	score float32
	true  bool
}

// collect asks all queries. The best pairs of all together are one TopK whose row
// is that of the query times the references plus that of the reference.
func (c *candidates) collect(ctx context.Context, queries, references *Set, o RunOptions) error {
	a := &asking{queries: queries, gallery: references, k: int64(c.e.K), metric: c.e.Metric.search(), run: o}
	var best index.TopK
	if c.e.Global > 0 {
		// One query alone may have all the best pairs.
		a.k = int64(c.e.Global)
		best.Reset(c.e.Global, c.e.Global, -math.MaxFloat32, nil)
		a.least = func(rows []int64) (float32, bool) { return c.least(rows, best.Floor()) }
	}
	err := a.each(ctx, func(rows []int64, hits [][]index.Hit) error {
		for i, row := range rows {
			for _, h := range hits[i] {
				score := h.Score
				if c.e.Metric == L2 {
					score = -score
				}
				if c.bias != nil {
					score = float32(float64(score) + c.bias[row])
				}
				if c.e.Global == 0 {
					c.add(pairOf{row, h.Row}, score)
					continue
				}
				if score < best.Floor() {
					break // the rest of this query's is worse still
				}
				best.Offer(row*c.references+h.Row, score)
			}
		}
		return nil
	})
	if err != nil || c.e.Global == 0 {
		return err
	}
	for _, h := range best.Best() {
		c.add(pairOf{h.Row / c.references, h.Row % c.references}, h.Score)
	}
	return nil
}

// least is the score below which no hit of some queries can still become one of the
// best pairs, a little less where rounding is involved.
func (c *candidates) least(rows []int64, floor float32) (float32, bool) {
	if floor == -math.MaxFloat32 {
		return 0, false
	}
	least := float64(floor)
	if c.bias != nil {
		least = math.Inf(1)
		for _, row := range rows {
			least = min(least, float64(floor)-c.bias[row])
		}
		least -= 1e-6 * (1 + math.Abs(least) + math.Abs(float64(floor)))
	}
	if c.e.Metric == L2 {
		return float32(-least), true
	}
	return float32(least), true
}

func (c *candidates) add(p pairOf, score float32) {
	c.pairs = append(c.pairs, candidate{p, score, c.truth[p]})
}

// figures judges the pooled pairs.
func (c *candidates) figures(queries int64) (f Figures) {
	slices.SortFunc(c.pairs, func(a, b candidate) int {
		switch {
		case a.score != b.score:
			return cmp.Compare(b.score, a.score)
		case a.true != b.true && b.true: // wrong ones first
			return -1
		case a.true != b.true:
			return 1
		case a.query != b.query:
			return cmp.Compare(a.query, b.query)
		}
		return cmp.Compare(a.reference, b.reference)
	})
	total := float64(len(c.truth))
	ap, found := 0.0, 0
	recall, threshold := math.NaN(), math.NaN()
	of := map[int64][]candidate{} // of each query that has a true pair among its candidates
	for i, p := range c.pairs {
		if !p.true {
			continue
		}
		of[p.query] = nil
		found++
		precision := float64(found) / float64(i+1)
		ap += precision
		if precision >= 0.9 {
			recall, threshold = float64(found)/total, float64(p.score)
		}
	}
	for _, p := range c.pairs {
		if list, has := of[p.query]; has {
			of[p.query] = append(list, p)
		}
	}
	at1, at10 := 0, 0
	for _, list := range of {
		for i, p := range list {
			if !p.true {
				continue
			}
			rank := i + 1
			for rank < len(list) && list[rank].score == p.score {
				rank++
			}
			if rank <= 1 {
				at1++
			}
			if rank <= 10 {
				at10++
			}
		}
	}
	f.add("queries", queries, "all rows of the query bank")
	f.add("pairs", int64(len(c.truth)), "true ones")
	f.add("candidates", int64(len(c.pairs)), "pairs that were judged")
	f.number("uAP", ap/total, "micro average precision, ties worst first")
	const never = "precision is below 0.9 at every threshold"
	if math.IsNaN(recall) {
		f.missing("recall@P90", never, "")
		f.missing("threshold@P90", never, "")
	} else {
		f.number("recall@P90", recall, "largest recall at a precision of 0.9")
		f.number("threshold@P90", threshold, "the score that gives it")
	}
	f.number("recall@1", float64(at1)/total, "true pairs that are their query's best")
	f.number("recall@10", float64(at10)/total, "true pairs among the best 10 of their query")
	return f
}
