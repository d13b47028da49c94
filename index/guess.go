package index

import (
	"math"
	"slices"

	"membank/simd"
	"membank/store"
)

// A search with codes scores the seed exactly before all else: some panels spread
// over the bank. The k-th best of it is a poor floor, as the seed is so small: the
// true one lies at k·f rows of it, for its share f of the bank. So a floor is
// guessed: the score of seed row r, with r so large that there are hardly ever
// fewer than k rows above it in the bank. If the search ends with k hits that reach
// the guess, then nothing below it could have been an answer, and the hits are
// proven; the few other queries are asked again without a guess.

// guessRisk is the share of queries that may have to be asked again, at each guess.
const guessRisk = 0.003

// A large K is approached slowly: when a share f of the bank has been read, the
// k-th best stands at k/f, and a first guess at some hundreds more than k. So floors
// are guessed again, the same way, from what was read of all blocks when these
// parts of each have been.
const (
	firstStop, secondStop = 1, 4
	wholeBlock            = 8
	// That takes a pass over more blocks than a few, and more than a few queries,
	// for what it saves: for k=20 no less than it costs.
	stopsFromK, stopsFromQueries, stopsFromBlocks = 64, 64, 16
)

// stops lists the parts of each block after which floors are guessed, and the
// whole.
func (p *pass) stops() []int {
	large := p.o.K >= stopsFromK && p.queries.Rows >= stopsFromQueries && p.ix.blocks >= stopsFromBlocks
	if p.cascade == nil || p.cautious || p.o.ranged() || p.known != nil || !large && !p.ix.small {
		return []int{wholeBlock}
	}
	return []int{firstStop, secondStop, wholeBlock}
}

// mostSeedBytes is what an index keeps of the seed at most: every search wants the same
// rows, and for one query finding them in the store would be a fifth of its time.
const mostSeedBytes = 16 << 20

// seedPart is what a block has of the seed: its first panels.
type seedPart struct{ block, panels int }

// seed lends the panels of a block that are scored before all others.
func (w *worker) seed(block int, fn func(b *store.Block) error) error {
	const n = simd.PanelRows
	keep := w.ix.seeds != nil
	name := seedPart{block, w.seedPanels}
	if keep {
		if kept, ok := w.ix.seeds.Load(name); ok {
			return fn(kept.(*store.Block))
		}
	}
	panels := make([]int32, w.seedPanels)
	for i := range panels {
		panels[i] = int32(i)
	}
	return w.view(block, panels, func(b *store.Block) error {
		part := *b
		part.Lanes = min(w.seedPanels*n, b.Lanes)
		part.Rows = min(part.Lanes, b.Rows)
		part.Panels = b.Panels[:part.Lanes*b.Dim]
		part.Row, part.Dead = b.Row[:part.Lanes], b.Dead[:part.Lanes]
		part.Scale, part.Bias = b.Scale[:part.Lanes], b.Bias[:part.Lanes]
		blocks := (w.ix.blocks + w.seedStride - 1) / w.seedStride
		if keep && 4*b.Dim*part.Lanes*blocks <= mostSeedBytes {
			kept := part
			kept.Panels = slices.Clone(part.Panels)
			kept.Row, kept.Dead = slices.Clone(part.Row), slices.Clone(part.Dead)
			kept.Scale, kept.Bias = slices.Clone(part.Scale), slices.Clone(part.Bias)
			w.ix.seeds.Store(name, &kept)
		}
		return fn(&part)
	})
}

// guess raises the floors by what has been scored so far.
func (p *pass) guess() {
	if p.cautious || p.o.ranged() {
		return
	}
	rank := seedRank(float64(p.o.K) * float64(p.seen.Load()) / float64(max(p.ix.rows, 1)))
	if rank >= p.o.K {
		return
	}
	if p.guesses == nil {
		p.guesses = make([]float32, p.queries.Rows)
		for q := range p.guesses {
			p.guesses[q] = lowest
		}
	}
	for q := range p.guesses {
		top := &p.tops[q]
		if len(top.hits) <= rank {
			continue
		}
		selectBest(top.hits, rank)
		p.guesses[q] = max(p.guesses[q], top.hits[rank-1].Score)
		p.floors[q].store(max(p.floors[q].load(), p.guesses[q]))
	}
}

func (p *pass) guessOf(q int) float32 {
	if p.guesses == nil {
		return lowest
	}
	return p.guesses[q]
}

// proven says whether the sorted hits of a query are what they would be without a
// guess.
func (p *pass) proven(q int, best []Hit) bool {
	guess := p.guessOf(q)
	return guess <= p.least(q) || len(best) == p.o.K && best[len(best)-1].Score >= guess
}

// seedRank is the least r that a Poisson variable with this mean reaches with a
// probability below guessRisk.
func seedRank(mean float64) (r int) {
	if mean > 500 {
		return int(mean + 4*math.Sqrt(mean))
	}
	term := math.Exp(-mean)
	for above := 1 - term; ; above -= term {
		r++
		if above < guessRisk {
			return r
		}
		term *= mean / float64(r)
	}
}

// repeat asks the queries again whose guess was too high.
func (p *pass) repeat(hits [][]Hit, ask func(b batch, cautious bool) (*pass, [][]Hit, error)) error {
	for _, q := range p.again {
		p.budget.take(-int64(len(hits[q])) * hitBytes)
	}
	asked := p.asked()
	_, better, err := ask(asked.pick(p.again), true)
	if err != nil {
		return err
	}
	for i, q := range p.again {
		hits[q] = better[i]
	}
	return nil
}
