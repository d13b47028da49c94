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
// row's own stands. Half of the queries decide Probes and Most by it: the least with
// which enough of these rows are found. These queries are asked again, for what their
// first lists hold, and Reach is what further lists must be given credit for
// (Lists.deviations) to reach the k-th score of that, as a search will have it.
// The other half of the queries says what comes out, and if that is not what was asked
// for and a little more (see holds), all is decided again with more to spare, until
// it is.

// TuneOptions say what Tune does. The zero value tunes for the usual recalls and
// numbers of neighbours.
type TuneOptions struct {
	Recalls []float64 // 0..1, ascending; nil: TunedRecalls
	K       []int     // ascending; nil: TunedK, as far as the bank has ten times the rows
	Own     bool      // the queries are the user's own, not rows of the bank
	Threads int       // 0 means GOMAXPROCS
	Memory  int64     // as Options.Memory, but leastTuneMemory at least
}

// What is tuned for where nothing else is said.
var (
	TunedRecalls = []float64{0.9, 0.95, 0.99, 0.999}
	TunedK       = []int{1, 10, 20, 50, 100, 200, 500, 1000}
)

const (
	// leastTuned queries are needed, for two halves that say anything.
	leastTuned = 2
	// leastTuneMemory has room for the answers to all queries that a K is tuned on.
	leastTuneMemory = 16 << 20
)

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
	if o.Memory > 0 {
		o.Memory = max(o.Memory, leastTuneMemory)
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
		c := calibration{group: g, queries: some, exclude: without, listOf: listOf, exact: exact.Hits}
		if err := c.look(ctx, max(1, o.Threads)); err != nil {
			return nil, err
		}
		wanted := c.wanted(k)
		test, out := halfOf(some, without, 1)
		found := 0
		for i := range test.Rows {
			found += len(exact.Hits[2*i+1])
		}
		for _, recall := range o.Recalls {
			lists.Tuned = append(lists.Tuned, c.all(k, recall))
			t := &lists.Tuned[len(lists.Tuned)-1]
			measure := func() error {
				t.Measure.Own = o.Own
				return tuned.measure(ctx, t, test, out, exact.Hits, ask)
			}
			small, tries := ix.rows <= smallBank, safeties
			if small {
				tries = safeties[1:]
			}
			if len(wanted) == 0 || small && (1-recall)*float64(len(wanted)) < 1 {
				tries = nil // that one row is missed or none says nothing: all lists are read
				if err := measure(); err != nil {
					return nil, err
				}
			}
			for _, safety := range tries {
				*t = c.choose(wanted, k, recall, safety)
				if err := tuned.reach(ctx, t, &c, wanted, safety, ask); err != nil {
					return nil, err
				}
				if err := measure(); err != nil {
					return nil, err
				}
				if holds(t, recall, found) {
					break
				}
			}
			for !holds(t, recall, found) {
				c.widen(t)
				if err := measure(); err != nil {
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

// reach sets the reach of a tuning that has the rest.
func (ix *Index) reach(ctx context.Context, t *Tuning, c *calibration, rows []want, safety float64, o Options) error {
	half, without := halfOf(c.queries, c.exclude, 0)
	o.Recall, o.ExcludeRow = t.Recall, without
	t.Reach = math.Inf(-1) // no further lists are read
	r, err := ix.Search(ctx, half, o)
	if err != nil {
		return err
	}
	first := route{group: c.group, most: t.Most, reach: t.Reach}
	reach := make([]float64, len(rows))
	for i, w := range rows {
		lists := c.nearest[w.query]
		switch {
		case w.rank < first.first(lists, t.K):
		case w.rank >= t.Most:
			reach[i] = math.Inf(1)
		default:
			floor := float64(lowest)
			if hits := r.Hits[w.query]; len(hits) >= o.K {
				floor = float64(c.group.Metric.printed(hits[o.K-1].Score))
			}
			l := lists[w.rank]
			reach[i] = c.group.deviations(int(l.list), l.score, c.norms[w.query], floor)
		}
	}
	slices.Sort(reach)
	t.Reach = reach[atShare(len(rows), safer(t.Recall, safety))]
	return nil
}

// halfOf returns every other query, from the first or the second on.
func halfOf(queries simd.Matrix, exclude []int64, from int) (half simd.Matrix, without []int64) {
	half = simd.NewMatrix((queries.Rows+1-from)/2, queries.Dim)
	for i := range half.Rows {
		copy(half.Row(i), queries.Row(2*i+from))
		if exclude != nil {
			without = append(without, exclude[2*i+from])
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
	exclude []int64 // nil, or one a query
	listOf  []int32 // of each row number
	exact   [][]Hit
	norms   []float64
	nearest [][]near  // all lists of each query of the first half
	rank    [][]int32 // and where each list stands there
}

// look compares the queries of the first half with all centroids.
func (c *calibration) look(ctx context.Context, threads int) error {
	half, _ := halfOf(c.queries, nil, 0)
	c.norms = make([]float64, half.Rows)
	for i := range half.Rows {
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
	query int // of the first half
	rank  int // of its list; −1: it is found anyway
}

// wanted are the rows of the exact answers with k neighbours.
func (c *calibration) wanted(k int) (all []want) {
	for i := range c.nearest {
		hits := c.exact[2*i]
		for _, h := range hits[:min(k, len(hits))] {
			w := want{i, -1}
			if list := c.listOf[h.Row]; int(list) != c.group.Strays() {
				w.rank = int(c.rank[i][list])
			}
			all = append(all, w)
		}
	}
	return all
}

// choose finds the least that finds the share recall of the rows, and a little more:
// as many rows are missed in other samples as in this one only on average.
func (c *calibration) choose(rows []want, k int, recall, safety float64) Tuning {
	t, count := c.all(k, recall), c.group.Count()
	byRank := slices.SortedFunc(slices.Values(rows), func(a, b want) int { return cmp.Compare(a.rank, b.rank) })
	within := func(share float64) int { return max(0, byRank[atShare(len(rows), share)].rank) + 1 }
	recall = safer(recall, safety)
	t.Probes = within(recall)
	t.Most = min(count, max(t.Probes, within(1-(1-recall)*byMost)))
	return t
}

// all reads every list.
func (c *calibration) all(k int, recall float64) Tuning {
	count := c.group.Count()
	return Tuning{K: k, Recall: recall, Probes: count, Most: count, Reach: everyList, Measure: Measure{K: k}}
}

// holds says whether a tuning, measured on so many rows to find, has the recall that
// was asked for: it may miss fewer of them than that allows, by a standard deviation,
// as of several tries the first to pass owes some of it to luck. Of 5,120 rows that is
// 0.9044 for 0.9, 0.953 for 0.95, 0.9914 for 0.99 and 0.9994 for 0.999. Of 160 recalls
// for other queries, of five distributions, 6 were missed, and 18 without it.
func holds(t *Tuning, recall float64, rows int) bool {
	allowed := (1 - recall) * float64(rows)
	missed := (1 - t.Measure.Recall) * float64(rows)
	return missed < 0.5 || missed <= allowed-math.Sqrt(allowed)
}

// widen makes a tuning read more: every list in the end.
func (c *calibration) widen(t *Tuning) {
	count := c.group.Count()
	t.Probes, t.Most, t.Reach = min(count, 2*t.Probes), min(count, 2*t.Most), t.Reach+1
	if t.Most == count {
		t.Probes, t.Reach = count, everyList
	}
}

// smallBank rows and fewer are read in no time, so that a recall which so few queries
// cannot show need not be missed: more lists are read from the beginning, or all. Of
// larger banks there are queries enough.
const smallBank = 4096

// byMost is the share of the misses that Tuning.Most may cause, at most.
const byMost = 0.25

// safeties are shares of the misses that are allowed, which are not used up, as they
// are tried.
var safeties = []float64{0.1, 0.3, 0.5, 0.7, 0.9}

// safer is the recall to aim at for another to come out.
func safer(recall, safety float64) float64 { return min(1, recall+(1-recall)*safety) }

// atShare is where the least of count sorted values stands that a share reaches.
func atShare(count int, share float64) int {
	return max(0, min(count, int(math.Ceil(share*float64(count))))-1)
}
