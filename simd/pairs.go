package simd

import "fmt"

//go:generate go -C _gen run . -kernels pairs -out ../pairs_amd64.s -stubs ../pairs_stubs_amd64.go -pkg simd

// A Pair is a row of some panels and a query.
type Pair struct {
	Lane  int32 // panel·PanelRows + row of the panel
	Query int32
}

// PairQueries are queries as a PairScorer wants them: a row each, with gaps, as
// the same dims of rows that begin at multiples of a page would fight for the same
// lines of a cache.
type PairQueries struct {
	dim, stride int
	data        []float32
}

// NewPairQueries copies queries. It takes 4·dim + 64 bytes each.
func NewPairQueries(queries Matrix) *PairQueries {
	queries.check()
	q := &PairQueries{dim: queries.Dim, stride: queries.Dim + 16}
	q.data = make([]float32, queries.Rows*q.stride)
	for i := range queries.Rows {
		copy(q.row(i), queries.Row(i))
	}
	return q
}

func (q *PairQueries) row(i int) []float32 { return q.data[i*q.stride:][:q.dim] }

// pairsPart dims of a panel stay in the L1 cache while all its pairs go through
// them, and those of a thousand queries in the L2. It is a multiple of 16.
const pairsPart = 64

// A PairScorer scores pairs of rows and queries. It holds scratch, some 17 bytes
// for each of the most pairs it met, so each goroutine has its own; the zero value
// is ready.
type PairScorer struct {
	groups []pairGroup
	loose  []Pair // in no group
	of     []int32
	chains []float32 // of loose
}

// pairGroup is sixteen pairs of one panel, or a few less.
type pairGroup struct {
	panel, count   int
	chains         [16]float32
	lanes, queries [16]int32
	pairs          [16]int32 // whose the chains are
}

// Score scores some pairs, as Scan would:
//
//	scores[j] = fma(chain(row p[j].Lane, query p[j].Query), scale[p[j].Lane], bias[p[j].Lane])
//
// The bits are those of Scan and Tile. panels is [panels][dim][PanelRows] from any
// byte offset, scale and bias have a value for each lane.
//
// It pays where a small part of the pairs of panels and queries is wanted: a pair
// takes one or two cycles a dim, AVX-512 sixteen of one panel, side by side in p,
// six or seven. All pairs go through some dims before the next, so that those dims
// of the queries stay in the cache: pass the pairs of several panels, in the order
// of panels.
//
// It panics if lengths disagree, or a lane or query is out of range.
func (s *PairScorer) Score(scores, panels, scale, bias []float32, q *PairQueries, p []Pair) {
	if len(scores) != len(p) || len(scale)%PanelRows != 0 || len(bias) != len(scale) || len(panels) != len(scale)*q.dim || len(panels) > 1<<31-1 {
		panic(fmt.Sprintf("simd: %d scores of %d pairs, queries of %d floats, panels of %d, %d scales, %d biases",
			len(scores), len(p), q.dim, len(panels), len(scale), len(bias)))
	}
	for _, v := range p {
		if uint(v.Lane) >= uint(len(scale)) || v.Query < 0 || int(v.Query)*q.stride >= len(q.data) {
			panic(fmt.Sprintf("simd: pair of lane %d of %d and query %d of %d", v.Lane, len(scale), v.Query, len(q.data)/q.stride))
		}
	}
	active.Load().pairs(s, scores, panels, q, p)
	for j, v := range p {
		scores[j] = fma32(scores[j], scale[v.Lane], bias[v.Lane])
	}
}
