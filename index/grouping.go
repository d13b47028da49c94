package index

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"

	"membank/simd"
	"membank/store"
)

// grouping is what a search by lists knows of a grouped bank. It does not change.
type grouping struct {
	*Lists
	centroids *Index
	coarse    func() *coarse // made when it is first wanted
	runs      []run          // of all lists, in the order of blocks and lanes
	rows      []int64        // lanes of each list, strays last
	lanes     int64          // of all lists
}

// run is some neighbouring lanes of a block that belong to one list.
type run struct{ list, block, from, to int32 }

func (r *run) lanes() int { return int(r.to - r.from) }

// newGrouping checks lists against a bank of this dimension whose rows are laid out
// in these runs.
func newGrouping(l *Lists, dim int, runs []run, threads int) (*grouping, error) {
	if l.Centroids.Dim != dim {
		return nil, fmt.Errorf("%w: their centroids have %d dimensions, the bank %d", ErrLists, l.Centroids.Dim, dim)
	}
	g := &grouping{Lists: l, runs: runs, rows: make([]int64, l.Count()+1)}
	for _, r := range runs {
		if r.list < 0 || int(r.list) > l.Strays() {
			return nil, fmt.Errorf("%w: block %d has rows of list %d of %d", ErrLists, r.block, r.list, l.Count()+1)
		}
		g.rows[r.list] += int64(r.lanes())
		g.lanes += int64(r.lanes())
	}
	slices.SortFunc(g.runs, func(a, b run) int {
		return cmp.Or(cmp.Compare(a.block, b.block), cmp.Compare(a.from, b.from))
	})
	var err error
	g.centroids, err = FromMatrix(l.Centroids, MatrixOptions{NoCodes: true, Threads: threads})
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrLists, err)
	}
	g.coarse = sync.OnceValue(func() *coarse { return newCoarse(l.Centroids, g.centroids) })
	return g, nil
}

// readGrouping reads what a bank says of its lists.
func readGrouping(s *store.Snapshot) (*grouping, error) {
	record, err := s.Lists()
	if err != nil {
		return nil, err
	}
	l, err := DecodeLists(record)
	if err != nil {
		return nil, err
	}
	if have := s.Info().Lists; have != l.Count()+1 {
		return nil, fmt.Errorf("%w: %d centroids for %d lists", ErrLists, l.Count(), have)
	}
	var all []run
	for block := range s.Blocks() {
		runs, err := s.Runs(block)
		if err != nil {
			return nil, err
		}
		for _, r := range runs {
			all = append(all, run{r.List, int32(block), r.From, r.To})
		}
	}
	return newGrouping(l, s.Dim(), all, 0)
}

// near is a list as a query sees it.
type near struct {
	list  int32
	score float64 // of the centroid, see Lists.reaches
}

// nearest returns the lists whose centroids are nearest to each query, best first:
// [queries][count]. Queries are as the metric prepares them.
func (g *grouping) nearest(ctx context.Context, queries simd.Matrix, count, threads int) ([][]near, error) {
	o := Options{K: min(count, g.Count()), Metric: g.Metric, Threads: threads, Memory: 1 << 40}
	if o.Metric == Cosine {
		o.Metric = Dot // both sides have length 1 already
	}
	found, err := [][]Hit(nil), error(nil)
	if coarseServes(g.Metric, g.Centroids, o.K) {
		found, err = g.coarse().nearest(ctx, queries, o.K, threads)
	} else {
		var r Result
		r, err = g.centroids.Search(ctx, queries, o)
		found = r.Hits
	}
	if err != nil {
		return nil, err
	}
	flat := make([]near, 0, len(found)*o.K)
	all := make([][]near, len(found))
	for q, hits := range found {
		first := len(flat)
		for _, h := range hits {
			flat = append(flat, near{int32(h.Row), float64(g.Metric.printed(h.Score))})
		}
		all[q] = flat[first:len(flat):len(flat)]
	}
	return all, nil
}

// visit is a list that a query reads.
type visit struct{ list, query int32 }

// visitors are the queries that read each list.
type visitors struct {
	starts  []int32 // [lists+1], of each list's in queries
	queries []int32 // of a list, ascending
}

func (v *visitors) of(list int32) []int32 { return v.queries[v.starts[list]:v.starts[list+1]] }

// visitors sorts visits, which come in the order of their queries, by list.
func (g *grouping) visitors(all []visit) *visitors {
	v := &visitors{starts: make([]int32, len(g.rows)+1), queries: make([]int32, len(all))}
	for _, x := range all {
		v.starts[x.list]++
	}
	sum := int32(0)
	for i, n := range v.starts {
		v.starts[i] = sum
		sum += n
	}
	next := slices.Clone(v.starts)
	for _, x := range all {
		v.queries[next[x.list]] = x.query
		next[x.list]++
	}
	return v
}

// pieces divides the runs that have visitors into parts of one block each, of some
// work each: piece i is runs[cuts[i]:cuts[i+1]]. Effort is how many multiply-adds all
// are.
func (g *grouping) pieces(v *visitors, threads, dim int) (runs []run, cuts []int, effort float64) {
	total := 0.0
	for _, r := range g.runs {
		if n := len(v.of(r.list)); n > 0 && r.from < r.to {
			runs = append(runs, r)
			total += float64(n) * float64(r.lanes())
		}
	}
	limit := max(pieceWork/float64(dim), total/float64(2*piecesEach*threads))
	work := 0.0
	for i, r := range runs {
		if i == 0 || r.block != runs[i-1].block || work >= limit {
			cuts = append(cuts, i)
			work = 0
		}
		work += float64(len(v.of(r.list))) * float64(r.lanes())
	}
	return runs, append(cuts, len(runs)), total * float64(dim)
}
