package eval

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"sync"
	"time"

	"membank/index"
	"membank/simd"
	"membank/store"
)

// KNN is a weighted k-nearest-neighbour evaluation. The zero value is DINO's;
// Preset names another, and every other field overrides the preset only when it
// is set. Protocol says what they come to.
type KNN struct {
	Preset    string  // one of Protocols; "" is dino
	K         []int   // numbers of neighbours, any order; All lets every labelled row vote
	T         float64 // temperature
	Metric    Metric  // cosine, or dot or l2 of the rows as stored
	Normalise Switch  // On, Off: of both sides, whatever the metric

	// LeaveOneOut asks every labelled row of the gallery against the others. The
	// row itself is left out by its number: an exact duplicate of it still votes.
	LeaveOneOut bool
	PerClass    bool // fill KNNAtK.PerClass
}

// RunOptions are how an evaluation runs; none but Probes and Recall changes a number.
type RunOptions struct {
	Threads int   // 0: GOMAXPROCS
	Memory  int64 // bytes for queries, neighbours and votes; 0: 256 MiB
	NoCodes bool  // leave the codes of the gallery unread
	// Probes and Recall as in index.Options: neighbours are approximate then, and the
	// result has their recall, measured on a sample of the queries.
	Probes int
	Recall float64

	// Progress is told how many of the query rows are done. Calls do not overlap.
	Progress func(done, total int64)

	// Each is given every labelled query at every k, in row order and within a
	// row by ascending k, from one goroutine.
	Each func(Prediction)
}

// Prediction is what the neighbours say about one query.
type Prediction struct {
	Row       int64   // of the query bank
	Label     int64   // as the query bank has it
	K         int     // as asked
	Class     int64   // the gallery's label with the largest vote; NoLabel if nothing could vote
	Right     bool    // Class is the query's own
	Share     float64 // of all votes, those for Class: a confidence
	Own       float64 // of all votes, those for the query's own class
	Margin    float64 // (first vote - second vote) / all votes
	Agreement float64 // of the neighbours that voted, those of Class
	Tied      bool    // all neighbours are equally near, and so is the next: row numbers chose them, or nothing is left to choose
	Gap       float64 // similarity, or squared distance, between the last neighbour that voted and the next; +Inf if none is left
}

// Evaluate scores the gallery train with the labelled rows of test. Leave-one-out
// takes both from train, and test is nil or another snapshot of the same bank.
//
// One search at the largest k serves every k: neighbours have a total order
// (similarity, then row), so those of a smaller k are a prefix. Rows of the
// gallery without a label are left out of the search: they neither vote nor take
// a place among the k. k beyond the number of rows that can vote is cut to it. Where
// all vote (All, and no other k), they are scored and not ranked.
//
// The cost is that of searching all queries; the votes are noise beside it. Memory
// is 16 bytes a gallery row and 8 a query row for labels, plus batches of queries that fit
// RunOptions.Memory. The result is the same for any threads, memory and SIMD
// level, except for Seconds. ctx stops it between blocks.
func (e KNN) Evaluate(ctx context.Context, train, test *store.Snapshot, o RunOptions) (*KNNResult, error) {
	if _, err := e.Protocol(); err != nil {
		return nil, err
	}
	gallery, err := NewSet(ctx, train)
	if err != nil {
		return nil, err
	}
	queries := gallery // one generation, whatever was written between two snapshots
	if test != nil && !(e.LeaveOneOut && test.Bank() == train.Bank()) {
		if queries, err = NewSet(ctx, test); err != nil {
			return nil, err
		}
	}
	return e.EvaluateSets(ctx, gallery, queries, o)
}

// EvaluateSets is Evaluate on rows that need not be a bank's as they are stored.
// Leave-one-out wants one Set for both.
func (e KNN) EvaluateSets(ctx context.Context, train, test *Set, o RunOptions) (*KNNResult, error) {
	r, err := e.run(ctx, train, test, o, false)
	if err != nil {
		return nil, err
	}
	if r.result.TestRows == 0 {
		return nil, fmt.Errorf("%w in bank %q: nothing to ask (ingest it with labels)", ErrNoLabels, test.use.Bank)
	}
	return r.result, nil
}

// run asks the rows of test that have a label, or all of them.
func (e KNN) run(ctx context.Context, train, test *Set, o RunOptions, all bool) (*run, error) {
	start := time.Now()
	rule, err := e.Protocol()
	if err != nil {
		return nil, err
	}
	r, err := newRun(rule, e.LeaveOneOut, train, test, o)
	if err != nil {
		return nil, err
	}
	if r.all = all; r.voters == 0 {
		return nil, fmt.Errorf("%w: bank %q has one with a label, and leave-one-out needs two", ErrTooFew, train.use.Bank)
	}
	if err := r.foregone(); err != nil {
		return nil, err
	}
	if err := r.ask(ctx); err != nil {
		return nil, err
	}
	r.finish(e.PerClass)
	r.result.Seconds = time.Since(start).Seconds()
	return r, nil
}

// run is one evaluation under way.
type run struct {
	rule    Protocol
	leave   bool
	all     bool // queries without a label are asked, too
	options RunOptions
	train   *Set
	test    *Set
	gallery dictionary
	labels  translation
	classOf []int64 // class of each gallery row number, -1: none
	voters  int     // rows that can vote on one query
	ks      []int   // as asked, All resolved
	result  *KNNResult

	tallies []tally     // one a k
	ballots []*ballot   // one a thread
	scores  [][]float32 // [queries of a batch][rows], where all rows vote; else nil
	total   int64       // rows of the query bank
	done    int64
	unseen  map[int64]bool // labels that the gallery lacks
}

func newRun(rule Protocol, leave bool, train, test *Set, o RunOptions) (*run, error) {
	o.defaults()
	a, b := train.use, test.use
	if leave && test != train {
		return nil, fmt.Errorf("%w: %q and %q (give the same bank for both)", ErrLeaveOneOut, a.Bank, b.Bank)
	}
	if train.dim != test.dim {
		return nil, fmt.Errorf("%w: gallery %q has %d, queries %q have %d", store.ErrDim, a.Bank, train.dim, b.Bank, test.dim)
	}
	labels := slices.Clone(train.labels)
	gallery, labelled := newDictionary(labels, train.names)
	if labelled == 0 {
		return nil, fmt.Errorf("%w in bank %q: nothing can vote (ingest it with labels)", ErrNoLabels, a.Bank)
	}
	r := &run{
		rule: rule, leave: leave, options: o, train: train, test: test,
		gallery: gallery, labels: newTranslation(gallery, test.names), classOf: labels,
		voters: int(labelled), total: b.Rows, unseen: map[int64]bool{},
	}
	var lone int64
	if leave {
		r.voters--
		rows := make([]int, len(gallery.labels))
		for _, class := range labels {
			if class >= 0 {
				rows[class]++
			}
		}
		for _, n := range rows {
			if n == 1 {
				lone++
			}
		}
	}
	for _, k := range rule.K {
		if k == All {
			k = int(labelled)
		}
		r.ks = append(r.ks, k)
		r.tallies = append(r.tallies, newTally())
	}
	for range o.Threads {
		r.ballots = append(r.ballots, newBallot(rule, labels, len(gallery.labels)))
	}
	r.result = &KNNResult{
		Protocol: rule.Name, Rules: rule,
		TrainRows: labelled, Dim: train.dim, Classes: len(gallery.labels),
		Train: a, Test: b, Transforms: train.made,
		TrainUnlabelled: a.Rows - labelled,
		LabelsMatchedBy: r.labels.matchedBy(),
		SelfExcluded:    leave, LoneQueries: lone,
		Exact: true, Recall: 1,
	}
	return r, nil
}

// foregone says that labels settle the accuracy, whatever the embeddings.
func (r *run) foregone() error {
	a, b := r.train.use.Bank, r.test.use.Bank
	switch {
	case !r.all && !anyLabelled(r.test.labels):
		return nil // which is told apart
	case len(r.gallery.labels) == 1:
		return oneClass(a, r.gallery)
	case r.all:
		return nil // labels of queries settle nothing
	case r.leave:
		if r.result.LoneQueries == r.result.TrainRows {
			return fmt.Errorf("%w: no row of bank %q has the class of another, so that all would be wrong (evaluate rows of which two have a class)", ErrForegone, a)
		}
		return nil
	}
	for _, label := range r.test.labels {
		if label != store.NoLabel && r.labels.class(label) >= 0 {
			return nil
		}
	}
	return noneShared(a, b, r.labels)
}

// oneClass is the error of a gallery in which every neighbour is right, or none.
func oneClass(bank string, d dictionary) error {
	class := d.name(d.labels[0])
	if class == "" {
		class = strconv.FormatInt(d.labels[0], 10)
	}
	return fmt.Errorf("%w: all labelled rows of bank %q are of class %s, so that every query of it would be right (evaluate rows of two classes or more)", ErrForegone, bank, class)
}

// noneShared is the error of queries of which none can be right.
func noneShared(gallery, queries string, t translation) error {
	return fmt.Errorf("%w: no row of bank %q has a class of bank %q (compared by %s), so that all would be wrong (label both alike)", ErrForegone, queries, gallery, t.matchedBy())
}

// batch is some labelled queries and what they came to.
type batch struct {
	vectors simd.Matrix // room for cap(rows) queries
	rows    []int64
	labels  []int64
	truths  []int     // class of the gallery, -1: it lacks it
	out     []outcome // [query][k]
}

// ask streams the query bank through batches.
func (r *run) ask(ctx context.Context) error {
	size := r.batchSize()
	if r.everyone() {
		r.scores = make([][]float32, size)
		for i := range r.scores {
			r.scores[i] = make([]float32, len(r.classOf))
		}
	}
	b := &batch{
		vectors: simd.NewMatrix(size, r.result.Dim),
		out:     make([]outcome, size*len(r.ks)),
	}
	err := r.test.batches(ctx, min(size, 256), func(rows []int64, vectors simd.Matrix) error {
		for i, row := range rows {
			label := r.test.labels[row]
			if label == store.NoLabel && !r.all {
				r.result.TestUnlabelled++
				r.done++
				continue
			}
			if len(b.rows) == size {
				if err := r.vote(ctx, b); err != nil {
					return err
				}
			}
			copy(b.vectors.Row(len(b.rows)), vectors.Row(i))
			truth := -1
			if label != store.NoLabel {
				if truth = r.labels.class(label); truth < 0 {
					r.unseen[label] = true
					r.result.UnseenQueries++
				}
			}
			b.rows, b.labels, b.truths = append(b.rows, row), append(b.labels, label), append(b.truths, truth)
		}
		return nil
	})
	if err != nil {
		return err
	}
	return r.vote(ctx, b)
}

const hitBytes = 16

// batchSize is how many queries fit the memory budget, with their neighbours
// (the search keeps up to 2k candidates beside the k it returns) and their
// packed copies. A batch scans the gallery once, so it is as large as is useful.
func (r *run) batchSize() int {
	k := min(r.deepest()+1, r.voters)
	each := int64(16*r.result.Dim) + 3*hitBytes*int64(k) + 64*int64(len(r.ks))
	if r.everyone() {
		each = int64(16*r.result.Dim) + 4*int64(len(r.classOf)) + 64
	}
	size := min(r.options.Memory/2/each, 8192, r.total)
	if size > simd.TileQueries {
		size -= size % simd.TileQueries
	}
	return max(1, int(size))
}

func (r *run) deepest() int { return min(r.ks[len(r.ks)-1], r.voters) }

// vote searches for a batch, counts it and empties it.
func (r *run) vote(ctx context.Context, b *batch) error {
	n := len(b.rows)
	if n == 0 {
		return nil
	}
	var hits [][]index.Hit
	var err error
	if r.scores != nil {
		err = r.scoreAll(ctx, b)
	} else {
		hits, err = r.neighbours(ctx, b)
	}
	if err != nil {
		return err
	}
	each := (n + len(r.ballots) - 1) / len(r.ballots)
	var wg sync.WaitGroup
	for t, ballot := range r.ballots {
		wg.Go(func() {
			for i := t * each; i < min(n, (t+1)*each); i++ {
				if r.scores != nil {
					b.out[i] = ballot.countAll(r.scores[i], b.truths[i])
					continue
				}
				ballot.count(b.out[i*len(r.ks):][:len(r.ks)], r.ks, hits[i], b.truths[i])
			}
		})
	}
	wg.Wait()
	for i := range n {
		r.tell(b, i)
	}
	r.done += int64(n)
	r.progress(0)
	b.rows, b.labels, b.truths = b.rows[:0], b.labels[:0], b.truths[:0]
	return nil
}

// everyone says that all labelled rows vote on every query, and nothing else is asked:
// then nothing need be ranked (PAWS). A search of some lists, or for a recall, still is.
func (r *run) everyone() bool {
	return r.rule.K[0] == All && r.options.Probes == 0 && (r.options.Recall == 0 || r.options.Recall == 1)
}

// scoreAll scores all rows that may vote, for every query of the batch.
func (r *run) scoreAll(ctx context.Context, b *batch) error {
	none := float32(math.NaN())
	scores := r.scores[:len(b.rows)]
	parallel(len(scores), r.options.Threads, func(i int) {
		for j := range scores[i] {
			scores[i][j] = none
		}
	})
	err := r.train.ix.Scores(ctx, b.vectors.Slice(0, len(b.rows)), r.searchOptions(b), scores)
	if q := (*index.QueryError)(nil); errors.As(err, &q) {
		return fmt.Errorf("bank %q row %d: %w", r.result.Test.Bank, b.rows[q.Query], q.Err)
	}
	return err
}

// searchOptions are what both ways to score have in common.
func (r *run) searchOptions(b *batch) index.Options {
	o := index.Options{Metric: r.rule.search(), Threads: r.options.Threads, NoCodes: r.options.NoCodes}
	if r.leave {
		o.ExcludeRow = b.rows
	}
	if r.result.TrainUnlabelled > 0 {
		o.Allow = func(row int64) bool { return r.classOf[row] >= 0 }
	}
	if r.options.Progress != nil {
		o.Progress = func(done, total int64) {
			r.progress(int64(len(b.rows)) * done / max(1, total))
		}
	}
	return o
}

// neighbours finds the rows that may vote, for every query of the batch.
func (r *run) neighbours(ctx context.Context, b *batch) ([][]index.Hit, error) {
	k := r.deepest()
	if k == 0 { // one labelled row, left out
		return make([][]index.Hit, len(b.rows)), nil
	}
	// One more tells whether row numbers chose who votes. Of lists that are cut short
	// the neighbours asked for are part of the answer: their recall is.
	if exact := r.options.Probes == 0 && (r.options.Recall == 0 || r.options.Recall == 1); exact || r.options.Each != nil {
		k++
	}
	o := r.searchOptions(b)
	o.K, o.Probes, o.Recall = k, r.options.Probes, r.options.Recall
	// One query is asked even where its neighbours exceed the budget.
	o.Memory = max(r.options.Memory, 4*hitBytes*int64(k)*int64(len(b.rows)))
	found, err := r.train.ix.Search(ctx, b.vectors.Slice(0, len(b.rows)), o)
	if q := (*index.QueryError)(nil); errors.As(err, &q) {
		return nil, fmt.Errorf("bank %q row %d: %w", r.result.Test.Bank, b.rows[q.Query], q.Err)
	}
	if err == nil && found.Approximate {
		err = r.measure(ctx, b.vectors.Slice(0, len(b.rows)), found, o)
	}
	return found.Hits, err
}

// sampled queries of the first batch are asked again, exactly, where the search is
// approximate.
const sampled = 200

// measure says how good the neighbours are.
func (r *run) measure(ctx context.Context, queries simd.Matrix, found index.Result, o index.Options) error {
	if !r.result.Exact {
		return nil
	}
	m, err := r.train.ix.MeasureRecall(ctx, queries, found.Hits, o, sampled)
	r.result.Exact = false
	r.result.Recall, r.result.RecallK, r.result.RecallQueries = m.Recall, m.K, m.Queries
	return err
}

func (r *run) progress(within int64) {
	if r.options.Progress != nil {
		r.options.Progress(r.done+within, r.total)
	}
}

// tell counts query i of the batch, and reports it where that was asked for.
func (r *run) tell(b *batch, i int) {
	labelled := b.labels[i] != store.NoLabel
	if labelled {
		r.result.TestRows++
	} else {
		r.result.TestUnlabelled++
	}
	key := classKey{class: b.truths[i]}
	if key.class < 0 {
		key.label = b.labels[i]
	}
	for j, o := range b.out[i*len(r.ks):][:len(r.ks)] {
		if labelled {
			r.tallies[j].add(key, o, min(r.ks[j], r.voters))
		}
		if o.tied && j == len(r.ks)-1 {
			r.result.TiedQueries++
		}
		if o.overflow && j == 0 {
			r.result.OverflowQueries++
		}
		if r.options.Each == nil {
			continue
		}
		p := Prediction{
			Row: b.rows[i], Label: b.labels[i], K: r.ks[j], Class: store.NoLabel,
			Share: o.share, Own: o.own, Margin: o.margin, Agreement: o.agreement, Tied: o.tied, Gap: o.gap,
		}
		if o.class >= 0 {
			p.Class, p.Right = r.gallery.labels[o.class], int(o.class) == b.truths[i]
		}
		r.options.Each(p)
	}
}

// finish turns counts into the result.
func (r *run) finish(perClass bool) {
	r.result.UnseenClasses = len(r.unseen)
	for j := range r.tallies {
		at := r.tallies[j].figures(r.result.TestRows, r.labels, perClass)
		at.K, at.EffectiveK = r.ks[j], min(r.ks[j], r.voters)
		if r.rule.Weight == Exp {
			t := r.rule.T
			at.T = &t
		}
		r.result.Results = append(r.result.Results, at)
	}
	r.result.Notes = r.result.notes(r.rule)
}
