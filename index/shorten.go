package index

import (
	"math"

	"membank/simd"
)

// The first stage of codes has as many dims as a search for some nearest rows takes,
// whose floor is near to what many rows have. Where the floor is given and high, as
// in a join, a few of these dims do: the bound holds for any of the first dims, if
// what the others hold goes into the tail,
//
//	‖v‖² − (1−δ)‖y′‖² ≤ tail² + ‖y″‖² ≤ tail² + (step·‖c″‖ + error)²
//
// for the coordinates y′ that are kept and y″ that are not, with δ and error those of
// all, which are no smaller. How many dims is tried on a block, so the answer and
// what it costs do not depend on the clock. Of 1,281,167 SSL-like rows × 384, whose
// codes have 64 dims, a join at 0.95 takes 16.

const (
	// So many queries or more are worth the trial, and so many of them are tried.
	shortenFrom, shortenSample = 256, 4 * simd.TileQueries
	shortest                   = 16
)

// shortened is the basis whose first stage has fewer dims.
func (b *Basis) shortened(dims int) *Basis {
	short := *b
	short.first = dims
	return &short
}

// firstDims returns how many dims of the codes the first stage of the pass takes.
func (p *pass) firstDims() int {
	all := p.ix.basis.first
	switch {
	case p.o.firstDims > 0:
		return min(p.o.firstDims, all)
	case !p.o.HasMinScore || p.queries.Rows < shortenFrom && !p.ix.small:
		return all
	}
	best, least := all, math.Inf(1)
	for _, dims := range []int{shortest, 24, 32, 48, 64, 96} {
		if dims >= all {
			break
		}
		if cost := p.tryDims(dims); cost < least {
			best, least = dims, cost
		}
	}
	if least < p.tryDims(all) {
		return best
	}
	return all
}

// tryDims predicts what a pair costs with so many dims in the first stage, from some
// queries and the codes of one block. A block that cannot be read, for the search to
// say, costs nothing with all dims.
func (p *pass) tryDims(dims int) (cost float64) {
	order := make([]int, min(shortenSample, p.queries.Rows))
	for i := range order {
		order[i] = i * p.queries.Rows / len(order)
	}
	asked := p.asked()
	some := asked.pick(order)
	o := p.o
	o.firstDims, o.Progress = dims, nil
	w := p.ix.newWorker()
	w.begin(newPass(p.ix, o, newBudget(o.Memory), some.queries, some.norms, some.known, route{}), 0, 1)
	cost = math.Inf(1)
	err := w.sift.codes(p.ix.blocks/2, func(v []byte) error {
		if v == nil {
			return nil
		}
		if err := w.decode(v); err != nil {
			return err
		}
		panels := w.sift.c.lanes / simd.PanelRows
		w.shorten(0, panels)
		codes, columns := w.beginRun(0, panels)
		for _, t := range w.all {
			if t.sieve.plain {
				return nil
			}
			if first, second := w.siftTile(&t, 0, w.sift.c.lanes, codes, columns); !first || !second {
				return nil
			}
		}
		pairs := float64(w.stats.Coded)
		cost = costPair + costDim*float64(dims) + float64(w.stats.Second)/pairs*(costNext+costByte*float64(w.cascade.dims))
		return nil
	})
	if err != nil {
		return math.Inf(1)
	}
	return cost
}

// decode makes the codes of a block those at hand.
func (w *worker) decode(v []byte) (err error) {
	w.sift.c, err = w.ix.basis.decodeCodes(v)
	return err
}

// shorten leaves of the codes at hand, in panels from..to, the dims that the first
// stage takes.
func (w *worker) shorten(from, to int) {
	const n = simd.PanelRows
	s, c := w.sift, &w.sift.c
	dims, all := w.cascade.first, c.first
	if dims == all {
		return
	}
	if need := c.lanes * dims; cap(s.short) < need {
		s.short, s.shortColumns = make([]uint8, need), make([]float32, c.lanes*firstColumns)
	}
	short, columns := s.short[:c.lanes*dims], s.shortColumns[:c.lanes*firstColumns]
	for p := from; p < to; p++ {
		panel := c.panels[p*n*all:][:n*all]
		copy(short[p*n*dims:][:n*dims], panel)
		var left [n]int32 // ‖c″‖²
		for d := n * dims; d < len(panel); d += n * simd.CodeGroup {
			group := (*[n * simd.CodeGroup]uint8)(panel[d:])
			for i := range left {
				a, b := int32(group[4*i])-128, int32(group[4*i+1])-128
				e, f := int32(group[4*i+2])-128, int32(group[4*i+3])-128
				left[i] += a*a + b*b + e*e + f*f
			}
		}
		out := columns[p*n*firstColumns:][:n*firstColumns]
		copy(out, c.columns[p*n*firstColumns:])
		step, off, tail := out[:n], out[2*n:3*n], out[3*n:4*n]
		for i, sum := range left {
			rest := float64(step[i])*math.Sqrt(float64(sum)) + float64(off[i])
			tail[i] = roundUp(math.Sqrt(float64(tail[i])*float64(tail[i])+rest*rest) * (1 + float))
		}
	}
	c.first, c.panels, c.columns = dims, short, columns
}
