package peers

import (
	"context"
	"fmt"
	"slices"
	"time"

	"membank/bench/perf"
)

// Modes of asking.
const (
	Batch  = "batch"
	Single = "single"
)

// contest is everyone's turns in one mode with one k.
type contest struct {
	mode     string
	k        int
	queries  int           // of the batch, or calls of a turn
	budget   time.Duration // of a turn
	threads  int
	truth    *truth
	entries  []*entry
	peaks    []float64 // the machine's FMA peak in each round, operations a second
	progress func(done string)
}

// entry is what a contender does in a contest with one of its tunings.
type entry struct {
	*contender
	tuning []setting
	n      int           // queries of a turn
	spent  time.Duration // in turns
	rates  []float64     // queries a second in each round, 0 where it had no turn
	calls  []float64     // seconds of every single call
	ids    []int64       // of the latest batch
}

func (e *entry) best() float64 {
	if len(e.rates) == 0 {
		return 0
	}
	return slices.Max(e.rates)
}

const (
	// pause lets the threads of one contender stop spinning before the next starts.
	pause = 30 * time.Millisecond
	// peakTime is how long the machine's peak is measured in each round.
	peakTime = 100 * time.Millisecond
	// hopeless is the share of a contender's best tuning below which another one
	// gets no second turn.
	hopeless = 0.5
)

// run lets all contenders take turns, with every tuning. Only ctx and our own errors
// end it: a peer that fails is marked so and left out.
func (c *contest) run(ctx context.Context, all []*contender, rounds int) error {
	c.progress("warming up")
	for _, one := range all {
		for _, tuning := range one.tunings {
			e := &entry{contender: one, tuning: tuning}
			c.entries = append(c.entries, e)
			if err := c.attempt(ctx, e, func() error { return c.warm(ctx, e) }); err != nil {
				return err
			}
		}
	}
	for round := range rounds {
		c.progress(fmt.Sprintf("round %d of %d", round+1, rounds))
		c.peaks = append(c.peaks, perf.PeakFMA(ctx, c.threads, peakTime))
		for _, e := range c.entries {
			e.rates = append(e.rates, 0)
			if !c.due(e, round, rounds) {
				continue
			}
			if err := c.attempt(ctx, e, func() error { return c.turn(ctx, e, round) }); err != nil {
				return err
			}
		}
	}
	return nil
}

// due reports whether a contender has another turn: all have the first one, after
// that a tuning must not be hopeless, nor the time of all turns be used up.
func (c *contest) due(e *entry, round, rounds int) bool {
	if round == 0 {
		return true
	}
	for _, other := range c.entries {
		if other.contender == e.contender && e.best() < hopeless*other.best() {
			return false
		}
	}
	turn := time.Duration(float64(e.n) / max(e.best(), 1e-9) * float64(time.Second))
	return e.ours != nil || e.spent+turn <= time.Duration(rounds)*c.budget
}

// attempt does something unless the contender has failed, and keeps it if it does.
func (c *contest) attempt(ctx context.Context, e *entry, do func() error) error {
	if e.failed != nil {
		return nil
	}
	e.failed = do()
	if err := ctx.Err(); err != nil {
		return context.Cause(ctx)
	}
	if e.ours != nil {
		return e.failed
	}
	return nil
}

// warm asks a few queries, so that memory is touched and threads are started, and
// decides how many a turn has. A batch is asked whole: its rate is no straight line
// (that of FAISS grows sixfold from 269 queries to 2,048), so a part of it says
// nothing about the rest. Only single calls, and peers that know nothing else, are
// asked as many as fit the budget.
func (c *contest) warm(ctx context.Context, e *entry) error {
	if err := e.prepare(ctx, e.tuning); err != nil {
		return err
	}
	n := min(c.queries, 4)
	_, err := c.ask(ctx, e, n, 0)
	if err != nil {
		return err
	}
	e.n = c.queries
	if c.mode == Single || e.loops {
		var spent float64
		spent, err = c.ask(ctx, e, n, 0)
		fit := float64(n) / max(spent, 1e-9) * c.budget.Seconds()
		e.n = int(min(float64(c.queries), max(1, fit)))
	}
	e.calls = nil // those of a cold index
	return err
}

// ask asks n queries and returns the seconds they took.
func (c *contest) ask(ctx context.Context, e *entry, n, first int) (seconds float64, err error) {
	if c.mode == Batch {
		e.ids, seconds, err = e.batch(ctx, c.k, n)
		return seconds, err
	}
	calls, err := e.single(ctx, c.k, n, first)
	for _, s := range calls {
		seconds += s
	}
	e.calls = append(e.calls, calls...)
	return seconds, err
}

func (c *contest) turn(ctx context.Context, e *entry, round int) error {
	time.Sleep(pause)
	if err := e.prepare(ctx, e.tuning); err != nil {
		return err
	}
	seconds, err := c.ask(ctx, e, e.n, round*e.n)
	if err != nil {
		return err
	}
	e.spent += time.Duration(seconds * float64(time.Second))
	e.rates[round] = float64(e.n) / max(seconds, 1e-9)
	return nil
}

// fastest are the entries of the contenders that held out, one each.
func (c *contest) fastest() []*entry {
	var all []*entry
	for _, e := range c.entries {
		last := len(all) - 1
		switch {
		case e.failed != nil || e.best() == 0:
		case last >= 0 && all[last].contender == e.contender:
			if e.best() > all[last].best() {
				all[last] = e
			}
		default:
			all = append(all, e)
		}
	}
	return all
}

// results are the figures of each contender's fastest tuning. Ratios refer to the
// fastest of our own.
func (c *contest) results(t *task) ([]Result, error) {
	entries := c.fastest()
	var first *entry
	for _, e := range entries {
		if e.ours != nil && e.about.Exact && (first == nil || e.best() > first.best()) {
			first = e
		}
	}
	var all []Result
	for _, e := range entries {
		taken := slices.DeleteFunc(slices.Clone(e.rates), func(rate float64) bool { return rate == 0 })
		r := Result{
			Mode: c.mode, K: c.k, Name: e.about.Name, Index: e.about.Index, Settings: e.settings(e.tuning),
			Ours: e.ours != nil, Exact: e.about.Exact, Queries: e.n, Rounds: len(taken),
			Best: e.best(), Median: median(taken), Ratio: first.best() / e.best(),
		}
		r.GFLOPS = 2 * r.Best * float64(t.rows) * float64(t.dim) / 1e9
		var paired []float64
		for i, rate := range e.rates {
			if rate > 0 && first.rates[i] > 0 {
				paired = append(paired, first.rates[i]/rate)
			}
		}
		r.RatioMedian = median(paired)
		if c.mode == Single {
			r.MedianMS = median(e.calls) * 1e3
			r.MeanMS = 1e3 / r.Best
		} else {
			share, asked, err := c.truth.recall(e.ids, c.k)
			if err != nil {
				return nil, err
			}
			r.Recall, r.RecallQueries = &share, asked
		}
		all = append(all, r)
	}
	return all, nil
}

func median(list []float64) float64 {
	if len(list) == 0 {
		return 0
	}
	list = slices.Sorted(slices.Values(list))
	return (list[(len(list)-1)/2] + list[len(list)/2]) / 2
}
