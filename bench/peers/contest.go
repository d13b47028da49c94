package peers

import (
	"context"
	"fmt"
	"slices"
	"time"
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
	truth    *truth
	entries  []*entry
	progress func(done string)
}

// entry is what a contender does in a contest.
type entry struct {
	*contender
	tuning []setting
	n      int       // queries of a turn
	rates  []float64 // queries a second, of each round
	calls  []float64 // seconds of every single call
	ids    []int64   // of the latest batch
}

// pause lets the threads of one contender stop spinning before the next has its turn.
const pause = 30 * time.Millisecond

// run calibrates all contenders and lets them take turns. Only ctx and our own
// errors end it: a peer that fails is marked so and left out.
func (c *contest) run(ctx context.Context, all []*contender, rounds int) error {
	c.progress("calibrating")
	for _, one := range all {
		e := &entry{contender: one}
		c.entries = append(c.entries, e)
		if err := c.attempt(ctx, e, func() error { return c.calibrate(ctx, e) }); err != nil {
			return err
		}
	}
	for round := range rounds {
		c.progress(fmt.Sprintf("round %d of %d", round+1, rounds))
		for _, e := range c.entries {
			if err := c.attempt(ctx, e, func() error { return c.turn(ctx, e, round) }); err != nil {
				return err
			}
		}
	}
	return nil
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

// calibrate finds the fastest tuning and how many queries fit a turn. It also warms
// up: memory is touched, libraries start their threads.
func (c *contest) calibrate(ctx context.Context, e *entry) error {
	best := 0.0
	for _, tuning := range e.tunings {
		if err := e.prepare(ctx, tuning); err != nil {
			return err
		}
		n, rate, err := c.grow(ctx, e)
		if err != nil {
			return err
		}
		if rate > best {
			best, e.tuning, e.n = rate, tuning, n
		}
	}
	return nil
}

// grow asks more and more queries until a turn's budget is in sight, and returns how
// many fill it and the last rate.
func (c *contest) grow(ctx context.Context, e *entry) (n int, rate float64, err error) {
	n = min(c.queries, 8)
	if c.mode == Single {
		n = 1
	}
	for {
		spent, err := c.ask(ctx, e, n, 0)
		if err != nil {
			return 0, 0, err
		}
		rate = float64(n) / max(spent, 1e-9)
		fit := min(c.queries, max(1, int(rate*c.budget.Seconds())))
		if e.ours != nil { // every query counts, to compare the paths
			fit = c.queries
		}
		if n >= fit || spent > c.budget.Seconds()/4 {
			return fit, rate, nil
		}
		n = min(fit, 16*n)
	}
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
	if round == 0 {
		e.calls = nil // those of calibration
	}
	seconds, err := c.ask(ctx, e, e.n, round*e.n)
	e.rates = append(e.rates, float64(e.n)/max(seconds, 1e-9))
	return err
}

// results are the figures of all entries that held out. Ratios refer to the best of
// our own.
func (c *contest) results(t *task) ([]Result, error) {
	var first *entry
	for _, e := range c.entries {
		if e.ours != nil && e.failed == nil && (first == nil || slices.Max(e.rates) > slices.Max(first.rates)) {
			first = e
		}
	}
	var all []Result
	for _, e := range c.entries {
		if e.failed != nil || len(e.rates) == 0 {
			continue
		}
		r := Result{
			Mode: c.mode, K: c.k, Name: e.about.Name, Index: e.about.Index, Settings: e.settings(e.tuning),
			Ours: e.ours != nil, Exact: e.about.Exact, Queries: e.n, Rounds: len(e.rates),
			Best: slices.Max(e.rates), Median: median(e.rates),
			Ratio: slices.Max(first.rates) / slices.Max(e.rates),
		}
		r.GFLOPS = 2 * r.Best * float64(t.rows) * float64(t.dim) / 1e9
		var paired []float64
		for i := range min(len(e.rates), len(first.rates)) {
			paired = append(paired, first.rates[i]/e.rates[i])
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
