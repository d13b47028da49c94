package index

import (
	"context"
	"math"

	"membank/simd"
	"membank/store"
)

// A search that does not read every list of a grouped bank goes in rounds, each a
// set of pairs of a list and a query. All queries that read a list meet its panels
// together, in tiles, so a round reads each list once:
//
//	scout     floors of some rows of the nearest lists         scout.go
//	first     the nearest lists, with k rows at least; strays   sifted
//	rest      those further lists that can improve on that      sifted
//	more      what is missing to k hits, with four times as many lists
//
// A round that reads less than plainRows rows for a query does without codes, and
// so do all where the bank has none. Where nothing is scouted for many rows, the
// nearest lists with k rows are scanned before the others of the first round. Few
// rounds are best: vectors lie scattered, and what reads one row of a panel for one
// query has read most of it for all others.
//
// Within the lists it reads an answer is exact: the k best of their rows, bit for
// bit, however rows lie in blocks. Which lists a query reads depends on the query,
// on centroids and, with Options.Recall, on its floor after the first round, which is
// exact, too. So answers to one query are the same for any batch, number of
// threads and SIMD level.
//
// An exact search by lists goes the same way through all of them, in more rounds,
// and leaves out those in which no row can reach the floor (Lists.bound).

// runLists is run for a pass that reads lists by choice.
func (p *pass) runLists(ctx context.Context) error {
	most := p.lists.most
	nearest, err := p.group.nearest(ctx, p.rows, most, p.o.Threads)
	if err != nil {
		return err
	}
	first := make([][]near, len(nearest))
	effort := 0.0
	for q, lists := range nearest {
		if !p.o.ranged() { // otherwise there is a floor
			first[q] = lists[:p.lists.first(lists, p.o.K)]
		}
		for _, l := range first[q] {
			effort += float64(p.group.rows[l.list]) * float64(p.ix.dim)
		}
	}
	scouted, err := p.scout(ctx, first, effort)
	if err != nil {
		return err
	}
	blind := !scouted && p.many(effort) && !p.knowsFloors() && !p.o.ranged()
	var visits []visit
	taken := make([]int, p.queries.Rows) // lists that were read or passed over
	strays := p.group.rows[p.group.Strays()] > 0
	for q, lists := range first {
		taken[q] = len(lists)
		if blind {
			taken[q] = min(taken[q], p.group.holding(lists, p.o.K))
		}
		for _, l := range lists[:taken[q]] {
			visits = append(visits, visit{l.list, int32(q)})
		}
		if strays {
			visits = append(visits, visit{int32(p.group.Strays()), int32(q)})
		}
	}
	for open := true; open; blind = false {
		if err := p.round(ctx, visits, blind); err != nil {
			return err
		}
		open, visits = false, visits[:0]
		for q, lists := range nearest {
			floor := p.settle(q)
			end := p.lists.next(taken[q], len(first[q]), len(lists))
			for i, l := range lists[taken[q]:end] {
				if taken[q]+i < len(first[q]) || p.wants(q, l, floor) {
					visits = append(visits, visit{l.list, int32(q)})
				}
			}
			taken[q] = end
			open = open || end < len(lists)
		}
		open = open || len(visits) > 0
	}
	return p.moreLists(ctx, most)
}

// first is how many of the nearest lists a query reads before it looks at its floor
// to choose among the others.
func (r *route) first(nearest []near, k int) int {
	switch least := r.group.holding(nearest, k); {
	case r.bounded:
		return least
	case r.reach == everyList:
		return len(nearest)
	default:
		return min(len(nearest), max(least, (r.most+firstShare-1)/firstShare))
	}
}

// next is how many lists were read or passed over after the next round, if so many
// were.
func (r *route) next(taken, first, all int) int {
	switch {
	case taken < first:
		return first
	case r.bounded:
		return min(all, boundGrowth*max(1, taken))
	}
	return all
}

const (
	// A search for a recall reads one of firstShare lists that it may read before it
	// looks at its floor.
	firstShare = 8
	// boundGrowth is how many times the lists of all rounds before an exact search
	// looks at in the next.
	boundGrowth = 4
)

// holding is how many of the nearest lists, at least one, have k rows together.
func (g *grouping) holding(nearest []near, k int) (count int) {
	for rows := int64(0); count < len(nearest) && (count == 0 || rows < int64(k)); count++ {
		rows += g.rows[nearest[count].list]
	}
	return count
}

// moreLists reads further lists for the queries that have not found K hits in their
// nearest most ones: four times as many, until they have or there are no more. A
// query that lacks hits has read all lists so far.
func (p *pass) moreLists(ctx context.Context, most int) error {
	if p.o.HasMinScore || p.known != nil {
		return nil // rows below the floor are not missed
	}
	for most < p.group.Count() {
		var short []int32
		for q := range p.tops {
			if p.settle(q); len(p.tops[q].hits) < p.o.K {
				short = append(short, int32(q))
			}
		}
		if len(short) == 0 {
			return nil
		}
		rows := simd.NewMatrix(len(short), p.rows.Dim)
		for i, q := range short {
			copy(rows.Row(i), p.rows.Row(int(q)))
		}
		next := min(4*most, p.group.Count())
		nearest, err := p.group.nearest(ctx, rows, next, p.o.Threads)
		if err != nil {
			return err
		}
		var visits []visit
		for i, lists := range nearest {
			for _, l := range lists[most:] {
				visits = append(visits, visit{l.list, short[i]})
			}
		}
		if err := p.round(ctx, visits, false); err != nil {
			return err
		}
		most = next
	}
	return nil
}

// everyList in place of a reach leaves no list out.
var everyList = math.Inf(1)

// settle makes the floor of a query that of the k-th best hit so far. No worker
// runs meanwhile.
func (p *pass) settle(q int) float32 {
	top := &p.tops[q]
	if len(top.hits) >= top.k {
		top.cut()
	}
	p.floors[q].store(top.Floor())
	return top.Floor()
}

// round reads lists for queries; visits are in the order of queries. Plain says that
// floors are not worth a look at the codes yet.
func (p *pass) round(ctx context.Context, visits []visit, plain bool) error {
	if len(visits) == 0 {
		return nil
	}
	for _, v := range visits {
		if int(v.list) != p.group.Strays() {
			p.stats.Lists++
		}
	}
	v := p.group.visitors(visits)
	runs, cuts, effort := p.group.pieces(v, p.o.Threads, p.ix.dim)
	coded := !plain && p.code(effort)
	return p.work(ctx, len(cuts)-1, effort, nil, func(w *worker, i int) error {
		part := runs[cuts[i]:cuts[i+1]]
		if !coded {
			return w.scanRuns(ctx, part, v)
		}
		return w.siftRuns(ctx, part, v)
	})
}

// plainRows for a query in the mean take less time than its codes.
var plainRows = 4096.0

// many says whether lists of so many multiply-adds have more.
func (p *pass) many(effort float64) bool { return effort >= plainRows*p.effort(1) }

// code says whether they are read by codes, for which it prepares the queries the first
// time.
func (p *pass) code(effort float64) bool {
	if p.cascade == nil && p.many(effort) && p.ix.useCodes(&p.o) {
		p.pairs = simd.NewPairQueries(p.rows)
		p.cascade = newCascade(p.ix.basis, p.o.Metric, p.rows, p, true)
	}
	return p.cascade != nil
}

// scanRuns answers the visitors of some runs of one block without codes.
func (w *worker) scanRuns(ctx context.Context, runs []run, v *visitors) error {
	w.some = w.some[:0]
	for _, r := range runs {
		panel := r.from / simd.PanelRows
		if n := len(w.some); n > 0 && w.some[n-1] == panel {
			panel++ // it has rows of both runs
		}
		for ; panel*simd.PanelRows < r.to; panel++ {
			w.some = append(w.some, panel)
		}
	}
	return w.view(int(runs[0].block), w.some, func(b *store.Block) error {
		for _, r := range runs {
			if err := w.scanRun(ctx, b, r, v.of(r.list)); err != nil {
				return err
			}
		}
		return nil
	})
}

// scanTiles tiles of one list are packed at a time.
const scanTiles = 8

// scanRun scores some queries over a run.
func (w *worker) scanRun(ctx context.Context, b *store.Block, r run, queries []int32) error {
	const each = scanTiles * simd.TileQueries
	for len(queries) > 0 {
		some := queries[:min(each, len(queries))]
		queries = queries[len(some):]
		if err := w.scan(ctx, b, int(r.from), int(r.to), w.packed(some)); err != nil {
			return err
		}
	}
	return nil
}

// packed makes tiles of some queries, which are valid until the next call.
func (w *worker) packed(queries []int32) []tile {
	size := simd.TileQueries * w.ix.dim
	if w.loose == nil {
		w.loose = make([]tile, scanTiles)
		w.gathered = simd.NewMatrix(simd.TileQueries, w.ix.dim)
	}
	tiles := w.loose[:0]
	for len(queries) > 0 {
		t := w.loose[len(tiles)]
		t.queries = queries[:min(simd.TileQueries, len(queries))]
		queries = queries[len(t.queries):]
		if len(t.queries) >= tileFrom {
			if t.floats == nil {
				t.floats = make([]float32, size)
			}
			for i, q := range t.queries {
				copy(w.gathered.Row(i), w.rows.Row(int(q)))
			}
			simd.PackQueries(t.floats, w.gathered.Slice(0, len(t.queries)))
		}
		tiles = append(tiles, t)
	}
	return tiles
}

// flood is a tile that gained nothing from the codes of a run.
type flood struct {
	run     run
	queries []int32
}

// siftRuns answers the visitors of some runs of one block by its codes, if it has
// any.
func (w *worker) siftRuns(ctx context.Context, runs []run, v *visitors) error {
	const n = simd.PanelRows
	s, block := w.sift, int(runs[0].block)
	s.survivors, s.floods = s.survivors[:0], s.floods[:0]
	coded, rows := false, 0
	err := s.codes(block, func(record []byte) (err error) {
		if record == nil {
			return nil
		}
		if s.c, err = w.cascade.decodeCodes(record); err != nil {
			return err
		}
		coded, rows = true, s.c.rows
		for _, r := range runs {
			if int(r.to) > s.c.lanes {
				return w.misfit(block, int(r.to))
			}
			codes, columns := w.beginRun(int(r.from)/n, (int(r.to)+n-1)/n)
			for queries := v.of(r.list); len(queries) > 0; {
				some := queries[:min(simd.TileQueries, len(queries))]
				queries = queries[len(some):]
				if err := ctx.Err(); err != nil {
					return context.Cause(ctx)
				}
				t := tile{queries: some, sieve: &s.gathered}
				w.cascade.sieve(t.sieve, some)
				if !t.sieve.plain {
					if first, second := w.siftTile(&t, int(r.from), int(r.to), codes, columns); first && second {
						continue
					}
				}
				s.floods = append(s.floods, flood{r, some})
				w.stats.Fallbacks++
			}
		}
		return nil
	})
	if err != nil || coded && len(s.survivors) == 0 && len(s.floods) == 0 {
		return err
	}
	return w.view(block, s.panels(coded && len(s.floods) == 0), func(b *store.Block) error {
		if !coded {
			for _, r := range runs {
				if err := w.scanRun(ctx, b, r, v.of(r.list)); err != nil {
					return err
				}
			}
			return nil
		}
		if b.Rows != rows {
			return w.misfit(block, b.Rows)
		}
		for _, f := range s.floods {
			if err := w.scanRun(ctx, b, f.run, f.queries); err != nil {
				return err
			}
		}
		return w.score(ctx, b)
	})
}
