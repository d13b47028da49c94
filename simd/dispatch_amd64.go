package simd

import (
	"unsafe"

	"github.com/klauspost/cpuid/v2"
)

//go:generate go -C _gen run . -out ../kernels_amd64.s -stubs ../stubs_amd64.go -pkg simd

// native returns the levels of this CPU, best first. cpuid reports a feature only
// if the operating system saves the registers it needs (XCR0), zmm included.
func native() []*kernels {
	var found []*kernels
	if cpuid.CPU.Supports(cpuid.AVX512F, cpuid.AVX512BW, cpuid.AVX512DQ, cpuid.AVX512VL) && hasAVX2() {
		avx512.codes = codesBest()
		found = append(found, &avx512)
	}
	if hasAVX2() {
		found = append(found, &avx2)
	}
	return found
}

func hasAVX2() bool { return cpuid.CPU.Supports(cpuid.AVX2, cpuid.FMA3, cpuid.F16C) }

var avx512 = kernels{
	level: AVX512,
	scan: func(scores, panels, scale, bias, query []float32) {
		scanAVX512(base(scores), base(panels), base(scale), base(bias), base(query), len(scores)/PanelRows, len(query))
	},
	tile: func(out *TileScores, panel, scale, bias, tile []float32, floor *[TileQueries]float32) bool {
		return tileAVX512(&out.Scores[0][0], &out.Hits[0], base(panel), base(scale), base(bias), base(tile), &floor[0], len(tile)/TileQueries) != 0
	},
	dot:             dot,
	squaredDistance: squaredDistance,
	pairs:           pairsAVX512,
	products:        productsOfAVX512,
	squares:         squares,
	transpose:       transpose,
	widenHalf: func(dst []float32, src []uint16) {
		whole := len(src) / 16
		widenHalfAVX512(base(dst), base(src), whole)
		widenHalfGeneric(dst[whole*16:], src[whole*16:])
	},
	peakFMA: func(iterations int) int64 {
		peakFMAAVX512(iterations)
		return int64(iterations) * 24 * 16 * 2
	},
	readBytes: func(b []byte) uint64 {
		var sum [64]byte
		half := len(b) / 2 / 256 * 256
		readBytesAVX512(base(b), half, half/256, &sum[0])
		return readBytesGeneric(sum[:]) ^ readBytesGeneric(b[2*half:])
	},
}

var avx2 = kernels{
	level: AVX2,
	codes: &codesAVX2,
	scan: func(scores, panels, scale, bias, query []float32) {
		scanAVX2(base(scores), base(panels), base(scale), base(bias), base(query), len(scores)/PanelRows, len(query))
	},
	tile: func(out *TileScores, panel, scale, bias, tile []float32, floor *[TileQueries]float32) bool {
		return tileAVX2(&out.Scores[0][0], &out.Hits[0], base(panel), base(scale), base(bias), base(tile), &floor[0], len(tile)/TileQueries) != 0
	},
	dot:             dot,
	squaredDistance: squaredDistance,
	pairs:           pairs,
	products:        productsOfAVX2,
	squares:         squares,
	transpose:       transpose,
	widenHalf: func(dst []float32, src []uint16) {
		whole := len(src) / 8
		widenHalfAVX2(base(dst), base(src), whole)
		widenHalfGeneric(dst[whole*8:], src[whole*8:])
	},
	peakFMA: func(iterations int) int64 {
		peakFMAAVX2(iterations)
		return int64(iterations) * 24 * 8 * 2
	},
	readBytes: func(b []byte) uint64 {
		var sum [32]byte
		half := len(b) / 2 / 256 * 256
		readBytesAVX2(base(b), half, half/256, &sum[0])
		return readBytesGeneric(sum[:]) ^ readBytesGeneric(b[2*half:])
	},
}

func dot(a, b []float32) float32 { return dotFMA(base(a), base(b), len(a)) }

func squaredDistance(a, b []float32) float32 { return squaredDistanceFMA(base(a), base(b), len(a)) }

func squares(x []float32) (sums [8]float64) {
	squaresAVX2(&sums[0], base(x), len(x)/8)
	return sums
}

func transpose(out, in []float32, o, i stride, squares int) {
	transposeAVX2(base(out), base(in), 4*o.row, 4*i.row, 4*o.square, 4*i.square, squares)
}

// base points to the first element, or to nothing: a kernel reads as many as
// its lengths say. Unlike &s[0] it takes an empty slice.
func base[T any](s []T) *T { return unsafe.SliceData(s) }
