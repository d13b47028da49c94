package simd

import "math"

// codeKernels is one level's implementation of int8.go. Lengths are checked by
// the exported functions.
type codeKernels struct {
	maxQuery int
	scan     func(hits *CodeHits, panels []uint8, columns []float32, t *CodeTile, floor *[TileQueries]float32) int
	scores   func(scores *CodeEstimates, panels []uint8, columns []float32, t *CodeTile)
	dots     func(out []int32, codes []uint8, rows []int32, query []int8, start int32) // len(rows) a multiple of 4
	quantize func(codes []uint8, x []float32, inverse float32)
	maxAbs   func(x []float32) float32
	peak     func(iterations int) int64
}

var codesGeneric = codeKernels{
	maxQuery: 127,
	scan:     codeScanGeneric,
	scores:   codeScoresGeneric,
	dots:     codeDotsGeneric,
	quantize: quantizeGeneric,
	maxAbs:   maxAbsGeneric,
	peak:     peakInt8Generic,
}

func codeScanGeneric(hits *CodeHits, panels []uint8, columns []float32, t *CodeTile, floor *[TileQueries]float32) (total int) {
	eachScoreGeneric(panels, columns, t, func(panel, q int, scores *[PanelRows]float32) {
		word := &hits[q][panel/2]
		if panel%2 == 0 {
			*word = 0
		}
		for i, s := range scores {
			if s >= floor[q] {
				*word |= 1 << (panel%2*PanelRows + i)
				total++
			}
		}
	})
	return total
}

func codeScoresGeneric(scores *CodeEstimates, panels []uint8, columns []float32, t *CodeTile) {
	eachScoreGeneric(panels, columns, t, func(panel, q int, of *[PanelRows]float32) {
		copy(scores[q][panel*PanelRows:], of[:])
	})
}

// eachScoreGeneric computes the scores of a panel and a query.
func eachScoreGeneric(panels []uint8, columns []float32, t *CodeTile, do func(panel, q int, scores *[PanelRows]float32)) {
	dim, terms := len(t.Queries)/TileQueries, len(t.Weights)
	for panel := range len(panels) / (PanelRows * dim) {
		codes := panels[panel*PanelRows*dim:][:PanelRows*dim]
		column := columns[panel*terms*PanelRows:][:terms*PanelRows]
		var scale, slack, scores [PanelRows]float32
		for i := range scale {
			scale[i] = t.Weights[0] * column[i]
		}
		for k := 1; k < terms; k++ {
			step(&slack, (*[PanelRows]float32)(column[k*PanelRows:]), t.Weights[k])
		}
		for q := range TileQueries {
			var sum [PanelRows]int32
			for i := range sum {
				sum[i] = t.Start[q]
			}
			for g := 0; g < dim; g += CodeGroup {
				d := (*[CodeGroup]int8)(t.Queries[g*TileQueries+q*CodeGroup:])
				d0, d1, d2, d3 := int32(d[0]), int32(d[1]), int32(d[2]), int32(d[3])
				group := (*[PanelRows * CodeGroup]uint8)(codes[g*PanelRows:])
				for i := range sum {
					c := group[i*CodeGroup:][:CodeGroup]
					sum[i] += int32(c[0])*d0 + int32(c[1])*d1 + int32(c[2])*d2 + int32(c[3])*d3
				}
			}
			for i, s := range sum {
				scores[i] = fma32(float32(s), scale[i], slack[i])
			}
			do(panel, q, &scores)
		}
	}
}

func codeDotsGeneric(out []int32, codes []uint8, rows []int32, query []int8, start int32) {
	for j, r := range rows {
		sum := start
		for i, c := range codes[int(r)*len(query):][:len(query)] {
			sum += int32(c) * int32(query[i])
		}
		out[j] = sum
	}
}

func quantizeGeneric(codes []uint8, x []float32, inverse float32) {
	for i, v := range x {
		v *= inverse
		if !(v > -127) {
			v = -127
		}
		codes[i] = uint8(128 + int(math.RoundToEven(float64(min(v, 127)))))
	}
}

func maxAbsGeneric(x []float32) (most float32) {
	for _, v := range x {
		if a := math.Float32frombits(math.Float32bits(v) &^ (1 << 31)); a > most {
			most = a
		}
	}
	return most
}

func peakInt8Generic(iterations int) int64 {
	var sum [PanelRows]int32
	for range iterations {
		for i := range sum {
			sum[i] += sum[i] * sum[i]
		}
	}
	return int64(iterations) * 2 * PanelRows
}
