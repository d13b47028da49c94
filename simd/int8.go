package simd

import (
	"encoding/binary"
	"fmt"
	"slices"
)

// A code is a byte c+128 with c within ±127, a coordinate of a row in steps of
// the row's own scale. Queries are bytes d of the same kind, signed. Kernels give
// integer products
//
//	Σ (c+128)·d − 128·Σ d = Σ c·d
//
// which are exact, so that every level agrees. The number of dims is a multiple
// of CodeGroup.

// CodeGroup is the number of neighbouring dims whose codes share 32 bits, as one
// VPDPBUSD takes them.
const CodeGroup = 4

// CodeRun is the largest number of panels that one CodeScan takes.
const CodeRun = 64

// CodeHits is a set of rows for each query of a tile: bit i%64 of word i/64 is row
// i of the run of panels.
type CodeHits [TileQueries][CodeRun * PanelRows / 64]uint64

// CodeEstimates are scores of the rows of a run of panels for each query of a tile.
type CodeEstimates [TileQueries][CodeRun * PanelRows]float32

// A CodeTile is TileQueries quantised queries over the same dims, and what turns
// their products into scores. PackCodeQueries fills all but Weights.
type CodeTile struct {
	Queries []int8             // [dim/CodeGroup][TileQueries][CodeGroup]
	Start   [TileQueries]int32 // −128·Σ d, where a product starts
	Weights []float32          // of the columns: see CodeScan
}

// MaxQueryCode is the largest absolute value a query may have at the active level:
// 127, or 63 where the kernels (AVX2) add products of neighbours in 16 bits.
func MaxQueryCode() int { return active.Load().codes.maxQuery }

// PackCodes interleaves up to PanelRows rows of dim codes into a panel:
//
//	dim d of row i = panel[d/4*128 + i*4 + d%4]
//
// len(panel) is PanelRows*dim. Lanes without a row become 128, which is the code
// of zero.
func PackCodes(panel, rows []uint8, dim int) {
	n := checkCodes(panel, rows, dim)
	for i := range n {
		row := rows[i*dim:][:dim]
		for d := 0; d < dim; d += CodeGroup {
			four := binary.LittleEndian.Uint32(row[d:])
			binary.LittleEndian.PutUint32(panel[d*PanelRows+i*CodeGroup:], four)
		}
	}
	for d := 0; d < dim; d += CodeGroup {
		absent := panel[d*PanelRows:][n*CodeGroup : PanelRows*CodeGroup]
		for i := range absent {
			absent[i] = 128
		}
	}
}

// UnpackCodes is the inverse of PackCodes: it fills len(rows)/dim rows.
func UnpackCodes(rows, panel []uint8, dim int) {
	for i := range checkCodes(panel, rows, dim) {
		row := rows[i*dim:][:dim]
		for d := 0; d < dim; d += CodeGroup {
			four := binary.LittleEndian.Uint32(panel[d*PanelRows+i*CodeGroup:])
			binary.LittleEndian.PutUint32(row[d:], four)
		}
	}
}

func checkCodes(panel, rows []uint8, dim int) (n int) {
	if dim <= 0 || dim%CodeGroup != 0 || len(panel) != PanelRows*dim || len(rows)%dim != 0 || len(rows) > len(panel) {
		panic(fmt.Sprintf("simd: %d bytes of rows of %d codes in a panel of %d", len(rows), dim, len(panel)))
	}
	return len(rows) / dim
}

// PackCodeQueries puts up to TileQueries queries of dim codes, row after row, into
// the tile; absent queries are zeroed. It keeps the tile's memory if there is
// enough of it. It panics if a query is beyond MaxQueryCode: a tile serves at the
// level it was packed for.
func PackCodeQueries(t *CodeTile, queries []int8, dim int) {
	if dim <= 0 || dim%CodeGroup != 0 || len(queries)%dim != 0 || len(queries) > TileQueries*dim {
		panic(fmt.Sprintf("simd: %d bytes of queries of %d codes in a tile", len(queries), dim))
	}
	if cap(t.Queries) < TileQueries*dim {
		t.Queries = make([]int8, TileQueries*dim)
	}
	t.Queries = t.Queries[:TileQueries*dim]
	clear(t.Queries)
	t.Start = [TileQueries]int32{}
	most := int8(MaxQueryCode())
	for q := range len(queries) / dim {
		for i, d := range queries[q*dim:][:dim] {
			if d > most || d < -most {
				panic(fmt.Sprintf("simd: query code %d beyond %d", d, most))
			}
			t.Queries[i/CodeGroup*CodeGroup*TileQueries+q*CodeGroup+i%CodeGroup] = d
			t.Start[q] -= 128 * int32(d)
		}
	}
}

// GatherCodeQueries is PackCodeQueries of some rows of a larger matrix of codes,
// [rows][dim], without the starts, which the caller knows from CodeStart: those of
// absent queries become 0. It does not look at the codes.
func GatherCodeQueries(t *CodeTile, codes []int8, dim int, rows []int32) {
	if dim <= 0 || dim%CodeGroup != 0 || len(rows) > TileQueries {
		panic(fmt.Sprintf("simd: %d queries of %d codes in a tile", len(rows), dim))
	}
	if cap(t.Queries) < TileQueries*dim {
		t.Queries = make([]int8, TileQueries*dim)
	}
	t.Queries = t.Queries[:TileQueries*dim]
	if len(rows) < TileQueries {
		clear(t.Queries)
	}
	t.Start = [TileQueries]int32{}
	for q, r := range rows {
		row := codes[int(r)*dim:][:dim]
		to := t.Queries[q*CodeGroup:]
		for d := 0; d < dim; d += CodeGroup {
			*(*[CodeGroup]int8)(to[d*TileQueries:]) = [CodeGroup]int8(row[d:])
		}
	}
}

// CodeScan finds the rows of up to CodeRun panels whose scores reach the floors of
// a tile of queries, and returns how many pairs did. For query q, and row i of a
// panel with its columns:
//
//	scale = weights[0]·columns[0][i]
//	slack = 0; for k = 1...: slack = fma(columns[k][i], weights[k], slack)
//	hit   = fma(float32(Σ c·d), scale, slack) >= floor[q]
//
// each step rounded once to float32, in every level alike. NaN never hits; a
// column that holds -Inf with a weight of 1 keeps a row out, as a floor of NaN
// does a query. A product within ±2^24 (any of up to 1040 dims) converts exactly.
//
// panels is [panels][dim/4][32][4] codes, each panel as PackCodes leaves it, and
// columns [panels][len(Weights)][32] floats; either may start at any byte offset.
// hits is written for as many rows as there are, rounded up to whole words. It
// costs dim/4·24 steps of VPDPBUSD a panel and about 50 more for the scores; the
// tile stays in the L1 cache, so panels that come from L2 feed it at full speed:
// pass one run of panels to many tiles. CodeScan allocates nothing and is safe for
// concurrent use. It panics if lengths disagree.
func CodeScan(hits *CodeHits, panels []uint8, columns []float32, t *CodeTile, floor *[TileQueries]float32) (total int) {
	count := checkCodeScan(panels, columns, t)
	if count == 0 {
		return 0
	}
	if count%2 == 1 {
		for q := range hits {
			hits[q][count/2] = 0
		}
	}
	return active.Load().codes.scan(hits, panels, columns, t, floor)
}

// CodeScores writes what CodeScan compares with the floors:
//
//	scores[q][i] = fma(float32(Σ c·d), scale, slack)
//
// for as many rows as there are. It takes what CodeScan does, and panics where that
// does.
func CodeScores(scores *CodeEstimates, panels []uint8, columns []float32, t *CodeTile) {
	if checkCodeScan(panels, columns, t) > 0 {
		active.Load().codes.scores(scores, panels, columns, t)
	}
}

// checkCodeScan returns the number of panels.
func checkCodeScan(panels []uint8, columns []float32, t *CodeTile) (count int) {
	dim, terms := len(t.Queries)/TileQueries, len(t.Weights)
	if dim == 0 || dim%CodeGroup != 0 || len(t.Queries) != TileQueries*dim || terms == 0 {
		panic(fmt.Sprintf("simd: code tile of %d bytes, %d weights", len(t.Queries), terms))
	}
	count = len(panels) / (PanelRows * dim)
	if count > CodeRun || len(panels) != count*PanelRows*dim || len(columns) != count*terms*PanelRows {
		panic(fmt.Sprintf("simd: code scan of %d dims, %d columns: panels of %d bytes, columns of %d",
			dim, terms, len(panels), len(columns)))
	}
	return count
}

// CodeDots multiplies some rows of codes with one query:
//
//	out[j] = start + Σ codes[rows[j]*dim + i]·query[i], dim = len(query)
//
// with start = −128·Σ d for the product of c and d (see CodeStart). codes is
// row-major and may start at any byte offset; rows may come in any order, and
// falling on the same lines or pages of memory makes them cheaper. Codes of the
// query are within MaxQueryCode. len(out) is len(rows). CodeDots allocates nothing
// and is safe for concurrent use. It panics if lengths disagree or a row is out of
// range.
func CodeDots(out []int32, codes []uint8, rows []int32, query []int8, start int32) {
	dim := len(query)
	if dim == 0 || dim%CodeGroup != 0 || len(codes)%dim != 0 || len(out) != len(rows) {
		panic(fmt.Sprintf("simd: %d products of %d dims from %d codes, %d rows", len(out), dim, len(codes), len(rows)))
	}
	last, beyond := int64(len(codes)/dim)-1, int64(0)
	for _, r := range rows {
		beyond |= int64(r) | (last - int64(r))
	}
	if beyond < 0 {
		panic(fmt.Sprintf("simd: rows %d to %d of %d", slices.Min(rows), slices.Max(rows), last+1))
	}
	dots := active.Load().codes.dots
	if whole := len(rows) &^ 3; whole > 0 {
		dots(out[:whole], codes, rows[:whole], query, start)
		out, rows = out[whole:], rows[whole:]
	}
	if len(rows) > 0 {
		var four [4]int32
		var again = [4]int32{rows[0], rows[0], rows[0], rows[0]}
		copy(again[:], rows)
		dots(four[:], codes, again[:], query, start)
		copy(out, four[:])
	}
}

// CodeDot is CodeDots of one row.
func CodeDot(codes []uint8, query []int8, start int32) int32 {
	var out, row [1]int32
	CodeDots(out[:], codes, row[:], query, start)
	return out[0]
}

// CodeStart returns −128·Σ d, where the products of a query start.
func CodeStart(query []int8) (start int32) {
	for _, d := range query {
		start -= 128 * int32(d)
	}
	return start
}

// QuantizeRow makes codes of x in steps of 1/inverse:
//
//	codes[i] = 128 + round(clamp(x[i]·inverse, ±127))
//
// with the product rounded to float32 and halves going to the even neighbour. NaN
// counts as -127. It panics if lengths disagree.
func QuantizeRow(codes []uint8, x []float32, inverse float32) {
	if len(codes) != len(x) {
		panic(fmt.Sprintf("simd: %d codes of %d floats", len(codes), len(x)))
	}
	active.Load().codes.quantize(codes, x, inverse)
}

// MaxAbs returns the largest absolute value in x, 0 if there is none. It leaves
// out NaN.
func MaxAbs(x []float32) float32 { return active.Load().codes.maxAbs(x) }

// PeakInt8 is PeakFMA for the products of codes: a loop of nothing but VPDPBUSD,
// or of what stands in for it at AVX2. It returns the operations done, two a
// product.
func PeakInt8(iterations int) (operations int64) {
	return active.Load().codes.peak(max(iterations, 0))
}
