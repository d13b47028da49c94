package simd

import (
	"encoding/binary"
	"math"
)

// The scalar twins: what every kernel computes, one lane after the other. They
// serve CPUs without AVX2, and are what the kernels are tested against, bit for
// bit.

var generic = kernels{
	level:           Generic,
	scan:            scanGeneric,
	tile:            tileGeneric,
	dot:             dotGeneric,
	pairs:           pairsGeneric,
	products:        productsGeneric,
	squaredDistance: squaredDistanceGeneric,
	squares:         squaresGeneric,
	transpose:       transposeGeneric,
	widenHalf:       widenHalfGeneric,
	peakFMA:         peakFMAGeneric,
	readBytes:       readBytesGeneric,
	codes:           &codesGeneric,
}

func scanGeneric(scores, panels, scale, bias, query []float32) {
	for first := 0; first < len(scores); first += PanelRows {
		panel := panels[first*len(query):][:PanelRows*len(query)]
		var chain [PanelRows]float32
		for d, q := range query {
			step(&chain, (*[PanelRows]float32)(panel[d*PanelRows:]), q)
		}
		for i, c := range chain {
			scores[first+i] = fma32(c, scale[first+i], bias[first+i])
		}
	}
}

func tileGeneric(out *TileScores, panel, scale, bias, tile []float32, floor *[TileQueries]float32) bool {
	out.Scores = [TileQueries][PanelRows]float32{}
	for d := range len(tile) / TileQueries {
		row := (*[PanelRows]float32)(panel[d*PanelRows:])
		for q, x := range tile[d*TileQueries:][:TileQueries] {
			step(&out.Scores[q], row, x)
		}
	}
	var any uint32
	for q := range out.Scores {
		var hits uint32
		for i, c := range &out.Scores[q] {
			s := fma32(c, scale[i], bias[i])
			out.Scores[q][i] = s
			if s >= floor[q] {
				hits |= 1 << i
			}
		}
		out.Hits[q] = hits
		any |= hits
	}
	return any != 0
}

// step is one link of 32 chains: chain[i] = fma(row[i], q, chain[i]). Four lanes
// go together so that their conversions overlap, and share one branch.
func step(chain, row *[PanelRows]float32, q float32) {
	x := float64(q)
	for i := 0; i < PanelRows; i += 4 {
		p0, c0 := float64(row[i])*x, float64(chain[i])
		p1, c1 := float64(row[i+1])*x, float64(chain[i+1])
		p2, c2 := float64(row[i+2])*x, float64(chain[i+2])
		p3, c3 := float64(row[i+3])*x, float64(chain[i+3])
		s0, s1, s2, s3 := p0+c0, p1+c1, p2+c2, p3+c3
		if doubtful(math.Float64bits(s0)) || doubtful(math.Float64bits(s1)) ||
			doubtful(math.Float64bits(s2)) || doubtful(math.Float64bits(s3)) {
			chain[i] = roundOdd(p0, c0, s0)
			chain[i+1] = roundOdd(p1, c1, s1)
			chain[i+2] = roundOdd(p2, c2, s2)
			chain[i+3] = roundOdd(p3, c3, s3)
			continue
		}
		chain[i] = float32(s0)
		chain[i+1] = float32(s1)
		chain[i+2] = float32(s2)
		chain[i+3] = float32(s3)
	}
}

func pairsGeneric(_ *PairScorer, chains, panels []float32, q *PairQueries, p []Pair) {
	for j, v := range p {
		chain := float32(0)
		panel := panels[int(v.Lane)/PanelRows*PanelRows*q.dim:]
		for d, x := range q.row(int(v.Query)) {
			chain = fma32(panel[d*PanelRows+int(v.Lane)%PanelRows], x, chain)
		}
		chains[j] = chain
	}
}

func dotGeneric(a, b []float32) float32 {
	var chain float32
	for i, x := range a {
		chain = fma32(b[i], x, chain)
	}
	return chain
}

func squaredDistanceGeneric(a, b []float32) float32 {
	var chain float32
	for i, x := range a {
		d := x - b[i]
		chain = fma32(d, d, chain)
	}
	return chain
}

func squaresGeneric(x []float32) (s [8]float64) {
	for ; len(x) >= 8; x = x[8:] {
		v := (*[8]float32)(x)
		s[0] += float64(v[0]) * float64(v[0])
		s[1] += float64(v[1]) * float64(v[1])
		s[2] += float64(v[2]) * float64(v[2])
		s[3] += float64(v[3]) * float64(v[3])
		s[4] += float64(v[4]) * float64(v[4])
		s[5] += float64(v[5]) * float64(v[5])
		s[6] += float64(v[6]) * float64(v[6])
		s[7] += float64(v[7]) * float64(v[7])
	}
	return s
}

func transposeGeneric(out, in []float32, o, i stride, squares int) {
	for q := range squares {
		to, from := out[q*o.square:], in[q*i.square:]
		for r := range 8 {
			x := (*[8]float32)(from[r*i.row:])
			to[r] = x[0]
			to[o.row+r] = x[1]
			to[2*o.row+r] = x[2]
			to[3*o.row+r] = x[3]
			to[4*o.row+r] = x[4]
			to[5*o.row+r] = x[5]
			to[6*o.row+r] = x[6]
			to[7*o.row+r] = x[7]
		}
	}
}

func widenHalfGeneric(dst []float32, src []uint16) {
	for i, h := range src {
		dst[i] = widen(h)
	}
}

func peakFMAGeneric(iterations int) int64 {
	var chain, row [PanelRows]float32
	for range iterations {
		step(&chain, &row, 1)
	}
	return int64(iterations) * 2 * PanelRows
}

func readBytesGeneric(b []byte) uint64 {
	var s0, s1, s2, s3 uint64
	for len(b) >= 32 {
		s0 ^= binary.LittleEndian.Uint64(b)
		s1 ^= binary.LittleEndian.Uint64(b[8:])
		s2 ^= binary.LittleEndian.Uint64(b[16:])
		s3 ^= binary.LittleEndian.Uint64(b[24:])
		b = b[32:]
	}
	s0 ^= s1 ^ s2 ^ s3
	for i, x := range b {
		s0 ^= uint64(x) << (i % 8 * 8)
	}
	return s0
}
