package memory

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
)

// SampleOptions say how negatives are drawn.
type SampleOptions struct {
	// N is how many ids each anchor gets, drawn with replacement: they may repeat,
	// and with Positives may hold the anchor itself, as in InstDisc.
	N int
	// Step and Rank make the draw: equal ones with equal options give equal ids.
	Step int64
	Rank int64
	// Positives holds each anchor's own id, of a queue its position; nil: Anchors
	// lines without any.
	Positives []int64
	Anchors   int // number of lines where Positives is nil; 0: one
	// PositiveFirst puts the positive before its N negatives, as NCE's scores want it.
	PositiveFirst bool
	// ExcludePositive draws again what is the anchor's positive (mmselfsup's
	// ensure_neg).
	ExcludePositive bool
	// Exclude holds ids that no anchor gets: PCL's negatives are drawn without the
	// prototypes of the batch.
	Exclude []int64
	// Weights, if set, are the odds of each id; nil is uniform.
	Weights *Alias
	Scope   Scope
	// Distinct draws without replacement, all ids equally likely: no line holds an id
	// twice.
	Distinct bool
}

// Sample draws negatives: a line of N ids (N+1 with PositiveFirst) for each anchor.
// The draw is a function of the bank's seed, Step, Rank and the options, and of
// which rows are in scope; line i does not depend on how many others there are.
// Errors: ErrOptions, ErrID, ErrEmpty when nothing can be drawn.
func (b *Bank) Sample(ctx context.Context, o SampleOptions) ([][]int64, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := b.checkSample(&o); err != nil {
		return nil, err
	}
	b.mu.RLock()
	defer b.mu.RUnlock()
	if err := b.usable(); err != nil {
		return nil, err
	}
	rows := b.c.Rows
	allowed := func(id int64) bool { return true }
	if b.c.Kind == KindQueue && o.Scope != ScopeAll {
		rows = b.state.Fill // positions 0 to Fill−1, however they are counted
	} else if o.Scope == ScopeWritten {
		allowed = func(id int64) bool { return b.version[id] >= 0 }
		if !slices.ContainsFunc(b.version, func(v int64) bool { return v >= 0 }) {
			rows = 0
		}
	}
	return drawLines(ctx, b.c.Seed, rows, allowed, o)
}

// maxSamples is how many ids one call draws at most: 1 GiB of them.
const maxSamples = 1 << 27

func (b *Bank) checkSample(o *SampleOptions) error {
	if err := o.Scope.check(); err != nil {
		return err
	}
	switch {
	case o.N < 0 || o.N > 1<<30:
		return fmt.Errorf("%w: %d samples an anchor", ErrOptions, o.N)
	case o.Anchors < 0 || o.Anchors > 1<<30 || o.Positives != nil && o.Anchors > 0 && o.Anchors != len(o.Positives):
		return fmt.Errorf("%w: %d anchors and %d positives", ErrOptions, o.Anchors, len(o.Positives))
	case o.Positives == nil && (o.PositiveFirst || o.ExcludePositive):
		return fmt.Errorf("%w: no positives are given", ErrOptions)
	case o.Distinct && o.Weights != nil:
		return fmt.Errorf("%w: a draw without replacement has no weights", ErrOptions)
	case o.Weights != nil && int64(len(o.Weights.odds)) != b.c.Rows:
		return fmt.Errorf("%w: %d weights for %d rows", ErrOptions, len(o.Weights.odds), b.c.Rows)
	}
	if o.Positives != nil {
		o.Anchors = len(o.Positives)
	} else if o.Anchors == 0 {
		o.Anchors = 1
	}
	if int64(o.Anchors)*int64(o.N+1) > maxSamples {
		return fmt.Errorf("%w: %d samples for each of %d anchors (at most %d together)", ErrOptions, o.N, o.Anchors, maxSamples)
	}
	if err := b.checkIDs(o.Positives); err != nil {
		return err
	}
	return b.checkIDs(o.Exclude)
}

// drawLines draws the lines of a sample from ids 0 to rows−1.
func drawLines(ctx context.Context, seed uint64, rows int64, allowed func(int64) bool, o SampleOptions) ([][]int64, error) {
	excluded := make(map[int64]bool, len(o.Exclude))
	for _, id := range o.Exclude {
		excluded[id] = true
	}
	base := mix(mix(seed+0x5a17) + mix(uint64(o.Step)) + mix(mix(uint64(o.Rank))))
	lines := make([][]int64, o.Anchors)
	var pcg rand.PCG
	draw := rand.New(&pcg)
	for i := range lines {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		pcg.Seed(base, mix(uint64(i)))
		positive := int64(-1)
		line := make([]int64, 0, o.N+1)
		if o.Positives != nil {
			positive = o.Positives[i]
		}
		if o.PositiveFirst {
			line = append(line, positive)
		}
		may := func(id int64) bool {
			return allowed(id) && !excluded[id] && !(o.ExcludePositive && id == positive)
		}
		if o.Distinct {
			some, err := drawDistinct(draw, rows, o.N, may)
			if err != nil {
				return nil, err
			}
			lines[i] = append(line, some...)
			continue
		}
		checked := false
		for range o.N {
			id := int64(-1)
			for refused := 0; ; refused++ {
				if rows == 0 {
					return nil, fmt.Errorf("%w: nothing to draw from", ErrEmpty)
				}
				if o.Weights != nil {
					id = o.Weights.draw(draw)
				} else {
					id = draw.Int64N(rows)
				}
				if id < rows && may(id) {
					break
				}
				if refused == 1000 && !checked { // is there anything at all?
					if !drawable(rows, o.Weights, may) {
						return nil, fmt.Errorf("%w: every id with a weight is ruled out", ErrEmpty)
					}
					checked = true
				}
			}
			line = append(line, id)
		}
		lines[i] = line
	}
	return lines, nil
}

// drawDistinct draws n of the ids that may be drawn, by the first n steps of a
// shuffle of all of them. It takes time and memory in proportion to rows.
func drawDistinct(draw *rand.Rand, rows int64, n int, may func(int64) bool) ([]int64, error) {
	var ids []int64
	for id := range rows {
		if may(id) {
			ids = append(ids, id)
		}
	}
	if len(ids) < n {
		return nil, fmt.Errorf("%w: %d different ids of the %d that may be drawn", ErrEmpty, n, len(ids))
	}
	for i := range n {
		j := i + draw.IntN(len(ids)-i)
		ids[i], ids[j] = ids[j], ids[i]
	}
	return ids[:n], nil
}

func drawable(rows int64, w *Alias, may func(int64) bool) bool {
	for id := range rows {
		if may(id) && (w == nil || w.weighted(id)) {
			return true
		}
	}
	return false
}

// Alias draws indices by weight in constant time, by Walker's method with Vose's
// tables (1991): one uniform number picks a column and, within it, the index or its
// alias. It takes 24 bytes a weight and is safe for concurrent use.
type Alias struct {
	odds    []float64 // of staying in the column
	other   []int64   // the alias
	nothing []bool    // weight 0
}

// NewAlias makes the tables from weights, which need not add up to 1. Errors:
// ErrOptions for weights that are negative, NaN, Inf or all 0.
func NewAlias(weights []float64) (*Alias, error) {
	n, sum := len(weights), 0.0
	for i, w := range weights {
		if !(w >= 0) || math.IsInf(w, 0) {
			return nil, fmt.Errorf("%w: weight %d is %v", ErrOptions, i, w)
		}
		sum += w
	}
	if sum == 0 || math.IsInf(sum, 0) {
		return nil, fmt.Errorf("%w: the weights add up to %v", ErrOptions, sum)
	}
	a := &Alias{odds: make([]float64, n), other: make([]int64, n), nothing: make([]bool, n)}
	var small, large []int
	for i, w := range weights {
		a.odds[i], a.other[i], a.nothing[i] = w*float64(n)/sum, int64(i), w == 0
		if a.odds[i] < 1 {
			small = append(small, i)
		} else {
			large = append(large, i)
		}
	}
	for len(small) > 0 && len(large) > 0 {
		s, l := small[len(small)-1], large[len(large)-1]
		small = small[:len(small)-1]
		a.other[s] = int64(l)
		// What s lacks of a whole column comes from l.
		if a.odds[l] -= 1 - a.odds[s]; a.odds[l] < 1 {
			large = large[:len(large)-1]
			small = append(small, l)
		}
	}
	// What is left is 1 but for rounding. A weight of 0 never stays in its column.
	best := slices.Index(weights, slices.Max(weights))
	for _, i := range append(small, large...) {
		if a.odds[i] = 1; a.nothing[i] {
			a.odds[i], a.other[i] = 0, int64(best)
		}
	}
	return a, nil
}

func (a *Alias) draw(r *rand.Rand) int64 {
	i := r.Int64N(int64(len(a.odds)))
	if r.Float64() < a.odds[i] {
		return i
	}
	return a.other[i]
}

func (a *Alias) weighted(i int64) bool { return !a.nothing[i] }

// Probability is how often index i is drawn, as the tables have it: its weight's
// share but for rounding. It takes time proportional to the number of weights.
func (a *Alias) Probability(i int64) float64 {
	p := a.odds[i]
	for j, other := range a.other {
		if other == i && int64(j) != i {
			p += 1 - a.odds[j]
		}
	}
	return p / float64(len(a.odds))
}
