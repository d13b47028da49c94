package index

import (
	"math"

	"membank/simd"
)

// A cascade answers most pairs of a query and a row from codes: an upper bound of
// the score, first from p₁ dims for all pairs, then from p₂ dims for those whose
// first bound reaches the floor, then from the same with the query in finer steps;
// what reaches it again is scored as if there were no codes. Whatever is left out has a score below the floor of its time, so the
// answer is that of the plain scan, bit for bit.
//
// # The bound
//
// For a query q, as the kernels get it, and a row x with N, u, v, y, c as in
// codes.go, any ā, w = q − āμ, z = Pw, and t·d + e = z with integers d:
//
//	⟨q,u⟩ = ⟨q,μ⟩ + ā⟨μ,v⟩ + ⟨w,v⟩                                        (1)
//	⟨w,v⟩ ≤ ⟨z,y⟩ + tail(w)·tail(v) + δ‖z‖‖y‖                              (2)
//	⟨z,y⟩ ≤ t·step·⟨d,c⟩ + ‖t·d‖·error + ‖e‖·reach                         (3)
//
// (1) is an identity. For (2) split v = Pᵀy + v⊥, so ⟨w,v⟩ = ⟨z,y⟩ + ⟨w,v⊥⟩, and
// w = Pᵀz + w⊥ in the second term: ⟨w⊥,v⊥⟩ + ⟨z,Pv⊥⟩. With E = PPᵀ−I, ‖E‖ ≤ δ:
// Pv⊥ = y − PPᵀy = −Ey, and ‖v⊥‖² = ‖v‖² − 2‖y‖² + yᵀPPᵀy ≤ ‖v‖² − (1−δ)‖y‖², which
// is tail(v)²; likewise w. P may hold the first p₁ directions only: its E is a part
// of E. (3) is y = step·c + r and Cauchy and Schwarz, twice: ⟨td,r⟩ + ⟨e,y⟩.
//
// Rounding. Row numbers contain theirs (codes.go). Let V = 1+‖μ‖, W = ‖q‖+ā‖μ‖, so
// that ‖y‖ ≤ (1+δ)V and ‖z‖ ≤ (1+δ)W. z is computed as rows are, its error
// √p·rounding(‖q‖, ā) goes into ‖e‖ and, as ‖z‖ ≥ ‖z̃‖ − that, into tail(w). ⟨q,μ⟩,
// ‖q‖ and all norms of queries are sums in float64; factors 1±2⁻³⁰ cover those.
// The score that the bound must reach is itself rounded:
//
//	cosine  chain·scale          ≤ ⟨q,u⟩ + (γ+3u)‖q‖
//	dot     chain                ≤ N·(⟨q,u⟩ + γ‖q‖)
//	L2      chain − ½‖x‖²        ≤ N·(⟨q,u⟩ + (γ+2u)‖q‖) − ½N²·(1−2⁻¹⁹)
//
// (the last is what the plain scan compares with the floor of bound.go, which is
// the floor here, too). The first stage is evaluated in float32, for a tile of
// queries at once. Its terms are at most: t·step·⟨d,c⟩ 4WV (the d and c overshoot
// by less than a half), ā·m WV, the errors and tails themselves. Weights and columns are
// rounded up where they are bounds, else by u; scale costs u, each of at most six
// FMAs u of its sum, N 3u: less than 64u·WV, plus 16u times errors and tails, which
// their weights include. Everything that does not depend on the row is
// called the slack of the query:
//
//	slack = (γ+4u)‖q‖ + δ(1+δ)²WV + 64u·W'V          W' the largest W of the tile
//
// # The first stage
//
// simd.CodeScan has one set of weights for the 12 queries of a tile, so t, ā and
// the largest weights of error and tail are the tile's, and what belongs to one query
// moves to its floor: for cosine, with A = ‖t·d‖,
//
//	t·step·⟨d,c⟩ + ā·m + A·error + tail(w)·tail(v) ≥ floor − ⟨q,μ⟩ − ‖e‖·reach − slack
//
// The second stage has (3) twice, for the head and the rest of the coordinates, each
// with steps of its own, and all numbers of the one query, in float64.
//
// # The third stage
//
// More than half of what is left between the second bound and the score is what the
// bytes of the query miss: ‖e‖·reach. So e has codes as well, e = t'd' + e' with t' a
// 254th of t, or a 126th, and with them (3) is
//
//	⟨z,y⟩ ≤ t·step·⟨d,c⟩ + t'·step·⟨d',c⟩ + ‖t·d + t'·d'‖·error + ‖e'‖·reach
//
// The row's codes are in the cache by now, and its vector is not: that is a few
// hundred lines, each from another place. At 400,000 × 384, k = 10, this leaves 102 of
// the 154 pairs of a query that would be scored otherwise.
//
// # Dot and L2
//
// For dot and L2 the row's N multiplies all of it, ⟨q,μ⟩ too. So there the tile has
// the largest ⟨q,μ⟩ + ‖e‖·reach + slack of its queries as the weight of a column N,
// and search sorts the queries by ⟨q,μ⟩ and begins a new tile where it has grown by
// too much. L2 adds a column −½N² of weight 1.
type cascade struct {
	*Basis
	metric Metric
	tiles  []sieve // nil where tiles are put together as lists are visited
	firsts []firstQuery
	codes  []int8 // of the first stage, [query][first]
	next   []nextQuery
	head   []int8 // of the second stage, [query][headDims]
	rest   []int8 // [query][dims-headDims]

	headFine, restFine []int8 // of the third
}

// sieve is a tile of queries as the first stage takes it.
type sieve struct {
	simd.CodeTile
	plain bool // beyond what the bound covers: scanned without codes
	// Of each query: what its floor may come down by, without ‖e‖·reach.
	fixed, off [simd.TileQueries]float64
	step       float32 // t
	mean       float32 // ā
	norm       float32 // the largest ‖t·d‖
	tail       float32
}

// firstQuery is what a sieve takes of a query. Those of a tile have the same step
// and mean.
type firstQuery struct {
	fixed, off, norm, tail float64
	step, mean             float32
	start                  int32 // of d, see simd.CodeStart
	plain                  bool
}

// nextQuery is a query as the second stage takes it.
type nextQuery struct {
	head, rest part
	fixed      float64 // ⟨q,μ⟩ + slack
	tail       float64
	mean       float64 // ā
}

// part is the head or the rest of a quantised query.
type part struct {
	start int32   // see simd.CodeDots
	step  float64 // t
	norm  float64 // ‖t·d‖
	off   float64 // ‖e‖
	kept  float64 // ‖z‖, at least

	fine fine
}

// fine is what the third stage has beside the codes of a part.
type fine struct {
	start int32   // of d'
	step  float64 // t'
	norm  float64 // ‖t·d + t'·d'‖
	off   float64 // ‖e'‖
}

// pairProducts are those of the codes of some rows with those of a query; the fine
// ones are nil in the second stage.
type pairProducts struct{ head, rest, headFine, restFine []int32 }

// Scores of queries in this range, and rows that a bank can hold, neither overflow
// nor underflow in the first stage of dot and L2.
const (
	leastNorm = 1e-12
	mostNorm  = 1e17
	// tiny is far below any score of such a query, and above what is lost where
	// products underflow.
	tiny = 1e-33
)

// newCascade prepares queries, rows as the kernels take them, in the tiles of p; or,
// if loose, all of them for tiles of any make-up: then the whole pass has one step
// and one ā, which loosens the first bound by a little.
func newCascade(b *Basis, m Metric, queries simd.Matrix, p *pass, loose bool) *cascade {
	c := &cascade{Basis: b, metric: m,
		firsts: make([]firstQuery, queries.Rows),
		codes:  make([]int8, queries.Rows*b.first),
		next:   make([]nextQuery, queries.Rows),
		head:   make([]int8, queries.Rows*headDims),
		rest:   make([]int8, queries.Rows*(b.dims-headDims)),

		headFine: make([]int8, queries.Rows*headDims),
		restFine: make([]int8, queries.Rows*(b.dims-headDims)),
	}
	coordinates := b.onto.all(queries, p.o.Threads)
	mean := widened(b.mean)
	if loose {
		newSifter(c, mean, queries.Rows).all(queries, coordinates, p.o.Threads)
		return c
	}
	c.tiles = make([]sieve, p.tileCount())
	parallel(p.o.Threads, len(c.tiles), func() func(int) {
		s := newSifter(c, mean, simd.TileQueries)
		return func(t int) {
			first, last := p.tileRange(t)
			s.begin(queries.Slice(first, last), coordinates.Slice(first, last), first)
			for i := range s.q.Rows {
				s.measure(i)
			}
			s.agree()
			for i := range s.q.Rows {
				s.turn(i)
			}
			s.measureStep()
			for i := range s.q.Rows {
				s.quantise(i)
			}
			c.sieve(&c.tiles[t], p.tiles[t].queries)
		}
	})
	return c
}

// sieve fills v with queries of one step and mean.
func (c *cascade) sieve(v *sieve, queries []int32) {
	v.step, v.mean = c.firsts[queries[0]].step, c.firsts[queries[0]].mean
	v.plain = false
	var norm, tail float64
	for i, q := range queries {
		f := &c.firsts[q]
		v.plain = v.plain || f.plain
		v.fixed[i], v.off[i] = f.fixed, f.off
		norm, tail = max(norm, f.norm), max(tail, f.tail)
	}
	if v.plain {
		return
	}
	v.norm, v.tail = roundUp(norm*(1+16*unit)), roundUp(tail*(1+16*unit))
	simd.GatherCodeQueries(&v.CodeTile, c.codes, c.first, queries)
	for i, q := range queries {
		v.Start[i] = c.firsts[q].start
	}
}

// terms is the number of columns that the first stage has for a metric.
func (m Metric) terms() int {
	switch m {
	case Dot:
		return firstColumns + 1
	case L2:
		return firstColumns + 2
	}
	return firstColumns
}

// weights fills in what CodeScan multiplies the columns with, for a block.
func (v *sieve) weights(to []float32, m Metric, reach float64, queries int) []float32 {
	to = append(to[:0], v.step, v.mean, v.norm, v.tail)
	if m == Cosine {
		return to
	}
	most := math.Inf(-1)
	for i := range queries {
		most = max(most, v.fixed[i]+v.off[i]*reach)
	}
	to = append(to, roundUp(most))
	if m == L2 {
		to = append(to, 1)
	}
	return to
}

// estimates fills in the weights for scores instead of bounds, for queries of about
// the same ⟨q,μ⟩.
func (v *sieve) estimates(to []float32, m Metric, queries int) []float32 {
	to = append(to[:0], v.step, v.mean, 0, 0)
	if m == Cosine {
		return to
	}
	sum := 0.0
	for _, x := range v.fixed[:queries] {
		sum += x
	}
	to = append(to, float32(sum/float64(queries)))
	if m == L2 {
		to = append(to, 1)
	}
	return to
}

// floor is what the first stage of query i of the tile must reach if its score
// must reach exact.
func (v *sieve) floor(i int, exact float32, m Metric, reach float64) float32 {
	if m == Cosine {
		return roundDown(float64(exact) - v.fixed[i] - v.off[i]*reach)
	}
	return roundDown(float64(exact) - tiny)
}

// columns multiplies the columns of some panels by the norms of the rows, as dot
// and L2 take them, into to: [panels][terms][32].
func (c *codes) columnsOf(to []float32, m Metric, panel, panels int) []float32 {
	const n = simd.PanelRows
	if m == Cosine {
		return c.columns[panel*firstColumns*n:][:panels*firstColumns*n]
	}
	to = to[:panels*m.terms()*n]
	for p := range panels {
		from := c.columns[(panel+p)*firstColumns*n:][:firstColumns*n]
		norms := c.norms[(panel+p)*n:][:n]
		out := to[p*m.terms()*n:][:m.terms()*n]
		for i := range min(n, c.rows-(panel+p)*n) {
			norm := norms[i]
			for k := range firstColumns {
				out[k*n+i] = from[k*n+i] * norm
			}
			out[firstColumns*n+i] = norm
			if m == L2 {
				out[(firstColumns+1)*n+i] = halfSquare(norm)
			}
		}
		for i := max(0, c.rows-(panel+p)*n); i < n; i++ {
			for k := range m.terms() {
				out[k*n+i] = 0
			}
			out[n+i] = float32(math.Inf(-1))
		}
	}
	return to
}

// halfSquare is a float32 no less than −½‖x‖² as the kernels know it, for the
// norm that codes keep. N is raised to 1e-12 for tiny rows, so zero is right there.
func halfSquare(norm float32) float32 {
	if norm < 1e-10 {
		return 0
	}
	return -0.5 * norm * norm * (1 - 0x1p-19)
}

// keep moves those lanes to the front, with their products of head and rest, that
// can have a score of floor or more by the bound of the second stage, or the third if
// there are fine products. It returns their number. It does not branch on what it
// finds, which no predictor knows.
func (n *nextQuery) keep(c *codes, m Metric, lanes []int32, p pairProducts, floor float64) (kept int) {
	head, rest, headNorm, restNorm := n.head.step, n.rest.step, n.head.norm, n.rest.norm
	headFine, restFine := n.head.fine.step, n.rest.fine.step
	fixed := n.head.off*c.reach[partHead] + n.rest.off*c.reach[partRest]
	if p.headFine != nil {
		headNorm, restNorm = n.head.fine.norm, n.rest.fine.norm
		fixed = n.head.fine.off*c.reach[partHead] + n.rest.fine.off*c.reach[partRest]
	}
	fixed += n.fixed
	heads, rests := p.head[:len(lanes)], p.rest[:len(lanes)]
	for j, lane := range lanes {
		col := (*[nextColumns]float32)(c.next[int(lane)*nextColumns:])
		first, second := head*float64(heads[j]), rest*float64(rests[j])
		if p.headFine != nil {
			first += headFine * float64(p.headFine[j])
			second += restFine * float64(p.restFine[j])
		}
		bound := (fixed + first*float64(col[0]) + headNorm*float64(col[1])) +
			(second*float64(col[2]) + restNorm*float64(col[3])) +
			(n.mean*float64(col[4]) + n.tail*float64(col[5]))
		if m != Cosine {
			norm := c.norms[lane]
			bound = bound*float64(norm) + tiny
			if m == L2 {
				bound += float64(halfSquare(norm))
			}
		}
		lanes[kept], heads[kept], rests[kept] = lane, heads[j], rests[j]
		kept += 1 - int(math.Float64bits(bound-floor)>>63)
	}
	return kept
}
