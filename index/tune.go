package index

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"slices"

	"membank/simd"
	"membank/store"
)

// A recall is promised for what was measured. Tune asks some queries exactly and
// looks up, for each row that it should find, how far down the query's lists the
// row's own stands and how many standard deviations that list must be given credit
// for (Lists.deviations) to reach the score of the k-th best row. Half of the
// queries decide Probes, Most and Reach: the least with which enough of these rows
// are found. The other half says what comes out; in a small bank, where that is less
// than was asked for, more lists are read.
//
// A search reads a little more than that, as its floor stands below the k-th best
// score until it has found all.

// TuneOptions say what Tune does. The zero value tunes for the usual recalls and
// numbers of neighbours.
type TuneOptions struct {
	Recalls []float64 // 0..1, ascending; nil: TunedRecalls
	K       []int     // ascending; nil: TunedK, as far as the bank has ten times the rows
	Own     bool      // the queries are the user's own, not rows of the bank
	Threads int       // 0 means GOMAXPROCS
	Memory  int64     // as Options.Memory
}

// What is tuned for where nothing else is said.
var (
	TunedRecalls = []float64{0.9, 0.95, 0.99, 0.999}
	TunedK       = []int{1, 10, 20, 50, 100, 200, 500, 1000}
)

// leastTuned queries are needed, for two halves that say anything.
const leastTuned = 2

// Tune measures what a search must read of a grouped bank for some recalls, on
// queries of which exclude names the row that each does not get, as
// Options.ExcludeRow. s is the snapshot of the index. It costs an exact search of
// the queries and some by lists, and returns one Tuning for each K and recall.
func (ix *Index) Tune(ctx context.Context, s *store.Snapshot, queries simd.Matrix, exclude []int64, o TuneOptions) ([]Tuning, error) {
	if ix.grouping == nil {
		return nil, fmt.Errorf("%w: the bank is not grouped by list", ErrOptions)
	}
	g, err := ix.grouping()
	if err != nil {
		return nil, err
	}
	if queries.Rows < leastTuned {
		return nil, fmt.Errorf("%w: %d queries to tune with, at least %d are needed", ErrOptions, queries.Rows, leastTuned)
	}
	if o.Recalls == nil {
		o.Recalls = TunedRecalls
	}
	if o.K == nil {
		o.K = slices.Clone(TunedK)
		for len(o.K) > 1 && int64(o.K[len(o.K)-1]) > ix.rows/10 {
			o.K = o.K[:len(o.K)-1]
		}
		o.K[0] = max(1, min(o.K[0], int(ix.rows)))
	}
	listOf, err := listOfRows(ctx, s)
	if err != nil {
		return nil, err
	}
	lists := *g.Lists
	lists.Tuned = nil
	held := *g
	held.Lists = &lists
	tuned := *ix
	tuned.grouping = func() (*grouping, error) { return &held, nil }
	for _, k := range o.K {
		some, without := pairsOf(queries, exclude, max(leastAsked, tunedRows/k))
		ask := Options{K: k, Metric: g.Metric, Threads: o.Threads, Memory: o.Memory, ExcludeRow: without}
		exact, err := ix.Search(ctx, some, ask)
		if err != nil {
			return nil, err
		}
		c := calibration{group: g, queries: some, listOf: listOf, exact: exact.Hits}
		if err := c.look(ctx, max(1, o.Threads)); err != nil {
			return nil, err
		}
		wanted := c.wanted(k)
		test, out := halfOf(some, without)
		for _, recall := range o.Recalls {
			t := c.choose(wanted, recall)
			if ix.rows <= smallBank && (1-recall)*float64(len(wanted)) < 1 {
				t = c.all() // that one row is missed or none says nothing
			}
			t.K, t.Recall, t.Measure = k, recall, Measure{K: k, Own: o.Own}
			lists.Tuned = append(lists.Tuned, t)
			last := &lists.Tuned[len(lists.Tuned)-1]
			if err := tuned.measure(ctx, last, test, out, exact.Hits, ask); err != nil {
				return nil, err
			}
			for ix.rows <= smallBank && last.Measure.Recall < recall {
				c.widen(last)
				if err := tuned.measure(ctx, last, test, out, exact.Hits, ask); err != nil {
					return nil, err
				}
			}
		}
	}
	return lists.Tuned, nil
}

// Of many neighbours fewer queries say as much: tunedRows rows to find decide, and as
// many measure, but leastAsked queries each if there are so many.
const (
	tunedRows  = 5120
	leastAsked = 64
)

// pairsOf returns count neighbouring pairs of queries, evenly spread, or all.
func pairsOf(queries simd.Matrix, exclude []int64, count int) (some simd.Matrix, without []int64) {
	all := queries.Rows / 2
	count = min(count, all)
	some = simd.NewMatrix(2*count, queries.Dim)
	for i := range some.Rows {
		q := i/2*all/count*2 + i%2
		copy(some.Row(i), queries.Row(q))
		if exclude != nil {
			without = append(without, exclude[q])
		}
	}
	return some, without
}

// measure sets what comes out of a tuning for the second half of the queries.
func (ix *Index) measure(ctx context.Context, t *Tuning, queries simd.Matrix, exclude []int64, exact [][]Hit, o Options) error {
	o.Recall, o.ExcludeRow = t.Recall, exclude
	r, err := ix.Search(ctx, queries, o)
	if err != nil {
		return err
	}
	want := make([][]Hit, queries.Rows)
	for i := range want {
		want[i] = exact[2*i+1]
	}
	t.Measure.Recall, t.Measure.Queries = Recall(r.Hits, want), queries.Rows
	t.Lists = float64(r.Stats.Lists) / float64(queries.Rows)
	if !r.Approximate {
		g, _ := ix.grouping()
		t.Lists = float64(g.Count())
	}
	return nil
}

// halfOf returns every other query, from the second on.
func halfOf(queries simd.Matrix, exclude []int64) (half simd.Matrix, without []int64) {
	half = simd.NewMatrix(queries.Rows/2, queries.Dim)
	for i := range half.Rows {
		copy(half.Row(i), queries.Row(2*i+1))
		if exclude != nil {
			without = append(without, exclude[2*i+1])
		}
	}
	return half, without
}

// listOfRows returns the list of every live row number, −1 for others.
func listOfRows(ctx context.Context, s *store.Snapshot) ([]int32, error) {
	all := make([]int32, s.Info().Next)
	for i := range all {
		all[i] = -1
	}
	r := s.NewReader()
	for block := range s.Blocks() {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		runs, err := s.Runs(block)
		if err != nil {
			return nil, err
		}
		err = r.Columns(block, func(c *store.Columns) error {
			for _, r := range runs {
				for i := r.From; i < r.To; i++ {
					if !c.Dead[i] {
						all[c.Row[i]] = r.List
					}
				}
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return all, nil
}

// calibration is what is known of some queries.
type calibration struct {
	group   *grouping
	queries simd.Matrix
	listOf  []int32 // of each row number
	exact   [][]Hit
	norms   []float64
	nearest [][]near  // all lists of each query of the first half
	rank    [][]int32 // and where each list stands there
}

// look compares the queries of the first half with all centroids.
func (c *calibration) look(ctx context.Context, threads int) error {
	half := simd.NewMatrix((c.queries.Rows+1)/2, c.queries.Dim)
	c.norms = make([]float64, half.Rows)
	for i := range half.Rows {
		copy(half.Row(i), c.queries.Row(2*i))
		if c.group.Metric == Cosine {
			simd.Normalize(half.Row(i), half.Row(i))
		}
		c.norms[i] = simd.Norm(half.Row(i))
	}
	var err error
	c.nearest, err = c.group.nearest(ctx, half, c.group.Count(), threads)
	if err != nil {
		return err
	}
	c.rank = make([][]int32, half.Rows)
	for i, lists := range c.nearest {
		c.rank[i] = make([]int32, len(lists))
		for at, l := range lists {
			c.rank[i][l.list] = int32(at)
		}
	}
	return nil
}

// want is a row that a search should find.
type want struct {
	rank  int     // of its list; −1: it is found anyway
	reach float64 // that its list must be given
}

// wanted are the rows of the exact answers with k neighbours.
func (c *calibration) wanted(k int) (all []want) {
	for i, lists := range c.nearest {
		hits := c.exact[2*i]
		hits = hits[:min(k, len(hits))]
		if len(hits) == 0 {
			continue
		}
		floor := float64(c.group.Metric.printed(hits[len(hits)-1].Score))
		first := c.group.holding(lists, k)
		for _, h := range hits {
			list := c.listOf[h.Row]
			if int(list) == c.group.Strays() {
				all = append(all, want{-1, 0})
				continue
			}
			w := want{rank: int(c.rank[i][list])}
			if w.rank >= first {
				w.reach = c.group.deviations(int(list), lists[w.rank].score, c.norms[i], floor)
			}
			all = append(all, w)
		}
	}
	return all
}

// choose finds the least that finds the share recall of the rows, and a little more:
// as many rows are missed in other samples as in this one only on average.
func (c *calibration) choose(rows []want, recall float64) (t Tuning) {
	count := c.group.Count()
	if len(rows) == 0 {
		return c.all()
	}
	byRank := slices.SortedFunc(slices.Values(rows), func(a, b want) int { return cmp.Compare(a.rank, b.rank) })
	within := func(share float64) int {
		return max(0, byRank[min(len(rows)-1, int(math.Ceil(share*float64(len(rows))))-1)].rank) + 1
	}
	recall = min(1, recall+(1-recall)*safety)
	t.Probes = within(recall)
	t.Most = min(count, max(t.Probes, within(1-(1-recall)*byMost)))
	reach := make([]float64, len(rows))
	for i, w := range rows {
		if reach[i] = w.reach; w.rank >= t.Most {
			reach[i] = math.Inf(1)
		}
	}
	slices.Sort(reach)
	t.Reach = reach[min(len(rows)-1, int(math.Ceil(recall*float64(len(rows))))-1)]
	return t
}

// all reads every list.
func (c *calibration) all() Tuning {
	count := c.group.Count()
	return Tuning{Probes: count, Most: count, Reach: everyList}
}

// widen makes a tuning read more: every list in the end.
func (c *calibration) widen(t *Tuning) {
	count := c.group.Count()
	t.Probes, t.Most, t.Reach = min(count, 2*t.Probes), min(count, 2*t.Most), t.Reach+1
	if t.Most == count {
		t.Probes, t.Reach = count, everyList
	}
}

// smallBank rows and fewer are read in no time, so that a recall which the second half
// of the queries did not have, or which so few cannot show, need not be missed: more
// lists are read, or all. Of larger banks there are queries enough.
const smallBank = 4096

const (
	safety = 0.1  // share of the misses that are allowed, which is not used up
	byMost = 0.25 // share of the misses that Tuning.Most may cause, at most
)
