package simd

import "fmt"

//go:generate go -C _gen run . -kernels pairs -out ../pairs_amd64.s -stubs ../pairs_stubs_amd64.go -pkg simd

// Pairs scores some pairs of a row of one panel and a query, as Scan would:
//
//	scores[j] = fma(chain(row lanes[j], query rows[j]), scale[lanes[j]], bias[lanes[j]])
//
// The bits are those of Scan and Tile. It takes about a cycle a dim and pair, so it
// pays where few of the pairs of a panel and a tile are wanted, and the queries
// need not be packed. panel may start at any byte offset. Pairs allocates nothing
// and is safe for concurrent use. It panics if lengths disagree, or a lane or row
// is out of range.
func Pairs(scores, panel, scale, bias []float32, lanes []int32, queries Matrix, rows []int32) {
	if len(panel) != PanelRows*queries.Dim || len(scale) != PanelRows || len(bias) != PanelRows ||
		len(scores) != len(lanes) || len(rows) != len(lanes) {
		panic(fmt.Sprintf("simd: %d scores of %d lanes and %d queries of %d floats, panel of %d, %d scales, %d biases",
			len(scores), len(lanes), len(rows), queries.Dim, len(panel), len(scale), len(bias)))
	}
	queries.check()
	for j, r := range rows {
		if uint32(r) >= uint32(queries.Rows) || uint32(lanes[j]) >= PanelRows {
			panic(fmt.Sprintf("simd: pair of lane %d and query %d of %d", lanes[j], r, queries.Rows))
		}
	}
	active.Load().pairs(scores, panel, lanes, queries, rows)
	for j, lane := range lanes {
		scores[j] = fma32(scores[j], scale[lane], bias[lane])
	}
}
