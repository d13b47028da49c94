package index

import (
	"context"
	"slices"

	"membank/simd"
	"membank/store"
)

// A search by lists wants good floors before it reads the first list: a floor of one
// list lets through ten times the pairs that that of the answer does. So each query
// scouts some of its nearest lists. The first stage of codes, without what it adds
// to be a bound, says about how near their rows are; the vectors of the few that
// look best are read, and the k-th best of their scores is one that is reached.
//
// Only that floor is kept. The rows are met again when their list is read, as a
// TopK must not meet a row twice.

const (
	// A query scouts its nearest lists until they have scoutRows rows, and scoutShare
	// times K.
	scoutRows, scoutShare = 4096, 16
	// Where they have less than scoutLeast times K, it is not worth the while.
	scoutLeast = 4
	// mostScouted is the largest K for it: beyond, memory is better spent on hits.
	mostScouted = 1024
)

// scouts is how many rows of the lists of a query are scored: some more than K, as
// estimates err, and a query may exclude a row.
func (o *Options) scouts() int { return o.K + o.K/8 + 2 }

// scout raises the floors. It reports false where it has nothing to go by; nearest
// are the lists that queries read without a condition, and effort what that takes.
func (p *pass) scout(ctx context.Context, nearest [][]near, effort float64) (bool, error) {
	if p.knowsFloors() || p.o.ranged() || p.o.K > mostScouted {
		return false, nil
	}
	var visits []visit
	all := int64(0)
	for q, lists := range nearest {
		rows := int64(0)
		for _, l := range lists {
			if rows >= max(scoutRows, scoutShare*int64(p.o.K)) {
				break
			}
			rows += p.group.rows[l.list]
			visits = append(visits, visit{l.list, int32(q)})
		}
		all += rows
	}
	if all < scoutLeast*int64(p.o.K)*int64(len(nearest)) {
		return false, nil // most of the rows would be scored
	}
	if !p.code(effort) {
		return false, nil
	}
	best := p.o.scouts()
	p.scouted = make([]TopK, p.queries.Rows)
	slab := make([]Hit, 2*best*len(p.scouted))
	for q := range p.scouted {
		p.scouted[q].Reset(best, best, lowest, slab[2*best*q:][:0:2*best])
	}
	v := p.group.visitors(visits)
	runs, cuts, effort := p.group.pieces(v, p.o.Threads, p.ix.dim)
	if err := p.work(ctx, len(cuts)-1, effort, nil, func(w *worker, i int) error {
		return w.estimate(ctx, runs[cuts[i]:cuts[i+1]], v)
	}); err != nil {
		return false, err
	}
	if err := p.scoreScouted(ctx); err != nil {
		return false, err
	}
	p.scouted = nil
	for q := range p.tops {
		floor, top := p.settle(q), &p.tops[q]
		top.Reset(top.k, top.room, floor, top.hits)
	}
	return true, nil
}

// A place is where a row of a bank lies, as the row of a Hit.
func placeOf(block, lane int) int64 { return int64(block)<<32 | int64(lane) }

func blockOfPlace(place int64) int { return int(place >> 32) }

func laneOfPlace(place int64) int32 { return int32(place) }

// estimate offers the rows of some runs of one block, by their codes, to the scouts
// of those who visit them.
func (w *worker) estimate(ctx context.Context, runs []run, v *visitors) error {
	const n = simd.PanelRows
	s, block := w.sift, int(runs[0].block)
	if err := w.bar(block, runs); err != nil {
		return err
	}
	return s.codes(block, func(record []byte) (err error) {
		if record == nil {
			return nil
		}
		if s.c, err = w.cascade.decodeCodes(record); err != nil {
			return err
		}
		for _, r := range runs {
			if int(r.to) > s.c.lanes {
				return w.misfit(block, int(r.to))
			}
			codes, columns := w.beginRun(int(r.from)/n, (int(r.to)+n-1)/n)
			for queries := range slices.Chunk(v.of(r.list), simd.TileQueries) {
				if err := ctx.Err(); err != nil {
					return context.Cause(ctx)
				}
				if w.cascade.sieve(&s.gathered, queries); !s.gathered.plain {
					w.estimateTile(queries, r, codes, columns)
				}
			}
		}
		return nil
	})
}

// bar notes the lanes of some runs that are in no answer, if there can be any.
func (w *worker) bar(block int, runs []run) error {
	s := w.sift
	s.barred = nil
	if w.o.Allow == nil && w.pass.group.lanes == w.ix.rows {
		return nil
	}
	return w.view(block, nil, func(b *store.Block) error {
		s.barred = make([]bool, b.Lanes)
		for _, r := range runs {
			if int(r.to) > b.Lanes {
				return w.misfit(block, int(r.to))
			}
			for i := r.from; i < r.to; i++ {
				s.barred[i] = b.Dead[i] || w.o.Allow != nil && !w.o.Allow(b.Row[i])
			}
		}
		return nil
	})
}

// estimateTile is estimate for the gathered tile of queries and one run.
func (w *worker) estimateTile(queries []int32, r run, codes []uint8, columns []float32) {
	const n = simd.PanelRows
	s := w.sift
	s.tile = s.gathered.CodeTile
	s.weights = s.gathered.estimates(s.weights, w.o.Metric, len(queries))
	s.tile.Weights = s.weights
	if s.estimates == nil {
		s.estimates = new(simd.CodeEstimates)
	}
	first, size, terms := int(r.from)/n, n*s.c.first, n*len(s.weights)
	panels := len(codes) / size
	for from := 0; from < panels; from += simd.CodeRun {
		to := min(from+simd.CodeRun, panels)
		simd.CodeScores(s.estimates, codes[from*size:to*size], columns[from*terms:to*terms], &s.tile)
		begin := (first + from) * n // the lane of estimate 0
		for i, q := range queries {
			top := &w.scouted[q]
			top.Lock()
			least := top.Floor()
			for lane := max(int(r.from), begin); lane < min(int(r.to), (first+to)*n); lane++ {
				if score := s.estimates[i][lane-begin]; score >= least && (s.barred == nil || !s.barred[lane]) {
					top.Offer(placeOf(int(r.block), lane), score)
					least = top.Floor()
				}
			}
			top.Unlock()
		}
	}
	w.stats.Coded += int64(panels * n * len(queries))
}

// scoreScouted scores what the scouts found, block by block.
func (p *pass) scoreScouted(ctx context.Context) error {
	starts := make([]int32, p.ix.blocks+1)
	for q := range p.scouted {
		for _, h := range p.scouted[q].kept() {
			starts[blockOfPlace(h.Row)+1]++
		}
	}
	var blocks []int
	for i := range p.ix.blocks {
		if starts[i+1] > 0 {
			blocks = append(blocks, i)
		}
		starts[i+1] += starts[i]
	}
	next, all := slices.Clone(starts), make([]survivor, starts[p.ix.blocks])
	for q := range p.scouted {
		for _, h := range p.scouted[q].kept() {
			at := &next[blockOfPlace(h.Row)]
			all[*at] = survivor{int32(q), laneOfPlace(h.Row)}
			*at++
		}
	}
	return p.work(ctx, len(blocks), float64(len(all))*float64(p.ix.dim), nil, func(w *worker, i int) error {
		w.sift.survivors = append(w.sift.survivors[:0], all[starts[blocks[i]]:starts[blocks[i]+1]]...)
		return w.view(blocks[i], w.sift.panels(true), func(b *store.Block) error { return w.score(ctx, b) })
	})
}
