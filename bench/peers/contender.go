package peers

import (
	"context"
	"strings"
)

// engine answers queries: a child or a path of our own.
type engine interface {
	// batch asks the first n queries at once; ids are [n][k], −1 pads.
	batch(ctx context.Context, k, n int) (ids []int64, seconds float64, err error)
	// single asks n queries one by one, from query first on and around.
	single(ctx context.Context, k, n, first int) (seconds []float64, err error)
	set(ctx context.Context, s setting) error
}

// contender is one index with one width of search. Several may share an engine.
type contender struct {
	engine
	about   *Index
	tunings [][]setting // never empty; a nil one asks nothing
	width   *setting    // nil: the index has none
	loops   bool        // a batch is a loop over queries, so a part of it tells the rate
	ours    *path       // nil for a peer
	failed  error       // set by the first request that failed; it is left out from then on
}

// contendersOf are the contenders of one running peer.
func contendersOf(l launch, e engine, about *Index) []*contender {
	c := contender{engine: e, about: about, tunings: l.tunings, loops: l.loops}
	if len(c.tunings) == 0 {
		c.tunings = [][]setting{nil}
	}
	if len(l.settings) == 0 {
		return []*contender{&c}
	}
	var all []*contender
	for _, width := range l.settings {
		next := c
		next.width = &width
		all = append(all, &next)
	}
	return all
}

// prepare makes an engine what this contender is, tuned so.
func (c *contender) prepare(ctx context.Context, tuning []setting) error {
	for _, s := range tuning {
		if err := c.set(ctx, s); err != nil {
			return err
		}
	}
	if c.width != nil {
		return c.set(ctx, *c.width)
	}
	return nil
}

// settings names the width and the tuning.
func (c *contender) settings(tuning []setting) string {
	var words []string
	if c.width != nil {
		words = append(words, c.width.String())
	}
	for _, s := range tuning {
		words = append(words, s.String())
	}
	return strings.Join(words, ", ")
}
