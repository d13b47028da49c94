package index

import (
	"fmt"
	"math"
	"sync/atomic"

	"membank/simd"
)

// A pass is one reading of the bank for a part of a batch: the queries in the
// form that the kernels want, and a TopK for each of them.
type pass struct {
	ix      *Index
	o       Options
	budget  *budget
	queries simd.Matrix // as given
	norms   []float64
	rows    simd.Matrix // the queries, as the metric prepares them
	bounds  []int       // first query of each tile, and their number
	tiles   []tile      // neighbouring queries, packed
	tops    []TopK      // one a query
	floors  []floor     // of tops, as last published: to be read without the lock
	exclude []int64     // nil, or one a query
	known   []float32   // Options.Floors of the queries
	dense   [][]float32 // nil, or where Scores wants the score of each row of each query
	bound   *bound      // nil where the first score is the last
	slab    bool        // the buffers of tops are parts of one slab
	stats   Stats

	group   *grouping // nil: all blocks are read
	lists   route
	workers []*worker
	scouted []TopK // one a query while lists are scouted: estimates of rows, by place

	progress func(done float64) // nil, or told the part of the pass that is done

	cascade    *cascade // nil: codes are not used
	pairs      *simd.PairQueries
	seedStride int  // of each so many blocks the first has
	seedPanels int  // panels scored before all others, for first floors
	cautious   bool // floors are never guessed
	guesses    []float32
	seen       atomic.Int64 // lanes that the guesses rest on
	after      int          // of each block, so many parts have been read
	upTo       int          // and so many are being read, out of wholeBlock
	again      []int        // queries whose guess was too high, once answers were taken
}

const (
	slabK     = 4096     // up to this k every query gets its buffer at the start
	passBytes = 64 << 20 // for the buffers of a pass, and again for its tiles
	hitBytes  = 16
)

// passQueries is how many queries are answered in one reading of the bank. A
// tile of queries is used for as long as a group of panels stays in the cache,
// so some thousands cost no more than some hundreds, and save readings.
func (ix *Index) passQueries(o Options) int {
	n := passBytes / (4 * max(ix.dim, 1))
	if !o.ranged() {
		n = min(n, passBytes/(hitBytes*(o.K+o.room())))
	}
	n -= n % simd.TileQueries
	return max(n, simd.TileQueries)
}

// ranged: there is no K, so the size of the answer is known when it is there.
func (o *Options) ranged() bool { return o.K == unlimited }

// room is the TopK's. More of it saves cuts, less of it hits: a scan of N rows in
// random order meets k·log2(N/k) hits with a room of k, a fifth less with k/4,
// which pays only where every hit is scored anew.
func (o *Options) room() int {
	if o.Metric == L2 {
		return max(1, o.K/4)
	}
	return max(1, o.K)
}

func newPass(ix *Index, o Options, b *budget, queries simd.Matrix, norms []float64, known []float32, lists route) *pass {
	p := &pass{ix: ix, o: o, budget: b, queries: queries, norms: norms, known: known, group: lists.group, lists: lists,
		tops: make([]TopK, queries.Rows), floors: make([]floor, queries.Rows)}
	if o.Metric == L2 {
		p.bound = newBound(ix.dim, norms)
	}

	p.rows = queries
	if o.Metric == Cosine {
		p.rows = simd.NewMatrix(queries.Rows, ix.dim)
		for q := range queries.Rows {
			simd.Normalize(p.rows.Row(q), queries.Row(q))
		}
	}
	if p.group == nil {
		p.bounds = ix.tileBounds(o, queries)
		p.packTiles()
	}

	each := 0 // a big k takes memory when hits arrive
	if o.K <= slabK {
		each = o.K + o.room()
	}
	p.slab = each > 0
	if p.group == nil {
		p.plan()
	}
	slab := make([]Hit, each*queries.Rows)
	for q := range p.tops {
		p.tops[q].Reset(o.K, o.room(), p.least(q), slab[q*each:][:0:each])
		p.floors[q].store(p.tops[q].Floor())
	}
	return p
}

// tile is up to simd.TileQueries queries that panels meet together.
type tile struct {
	number  int       // of the pass
	queries []int32   // of the pass
	floats  []float32 // [dim][simd.TileQueries], prepared by the metric
	sieve   *sieve    // nil: codes are not used
}

func (p *pass) packTiles() {
	size, numbers := simd.TileQueries*p.ix.dim, make([]int32, p.rows.Rows)
	for q := range numbers {
		numbers[q] = int32(q)
	}
	p.tiles = make([]tile, len(p.bounds)-1)
	floats := make([]float32, len(p.tiles)*size)
	for t := range p.tiles {
		first, last := p.tileRange(t)
		p.tiles[t] = tile{number: t, queries: numbers[first:last], floats: floats[t*size:][:size]}
		simd.PackQueries(p.tiles[t].floats, p.rows.Slice(first, last))
	}
}

func (p *pass) tileCount() int { return len(p.tiles) }

func (p *pass) tileRange(t int) (first, last int) { return p.bounds[t], p.bounds[t+1] }

// answers takes the hits out of the pass, in the metric's own scores.
func (p *pass) answers() ([][]Hit, error) {
	all := make([][]Hit, len(p.tops))
	parallel(p.o.Threads, len(p.tops), func() func(int) {
		return func(q int) { all[q] = p.tops[q].Best() }
	})
	for q, best := range all {
		if !p.proven(q, best) {
			p.again = append(p.again, q)
		}
		// A buffer that grew by itself may become the answer, unless too
		// much of it is empty.
		if p.slab || cap(best)-len(best) > len(best)/2 {
			if !p.budget.take(int64(len(best)) * hitBytes) {
				return nil, p.budget.exceeded()
			}
			kept := make([]Hit, len(best))
			copy(kept, best)
			if !p.slab {
				p.budget.take(int64(-cap(best)) * hitBytes)
			}
			p.tops[q].hits = nil
			best = kept
		}
		if p.o.Metric == L2 {
			for i := range best {
				best[i].Score = p.o.Metric.printed(best[i].Score)
			}
		}
		all[q] = best
	}
	return all, nil
}

// floor is a float32 that many may read while one writes.
type floor struct{ bits atomic.Uint32 }

func (f *floor) load() float32   { return math.Float32frombits(f.bits.Load()) }
func (f *floor) store(x float32) { f.bits.Store(math.Float32bits(x)) }

// budget counts down the bytes that the answers of a search may take.
type budget struct {
	total int64
	left  atomic.Int64
}

func newBudget(total int64) *budget {
	b := &budget{total: total}
	b.left.Store(total)
	return b
}

func (b *budget) take(bytes int64) bool { return b.left.Add(-bytes) >= 0 }

// holds says whether n answers of k hits fit.
func (b *budget) holds(n, k int64) bool {
	return float64(n)*float64(k)*hitBytes <= float64(b.left.Load())
}

func (b *budget) exceeded() error {
	return fmt.Errorf("%w of %d bytes (ask fewer queries at once, a smaller k, or a higher minimal score)",
		ErrMemory, b.total)
}
