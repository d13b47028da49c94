package simd

import "github.com/klauspost/cpuid/v2"

//go:generate go -C _gen run . -kernels int8 -out ../int8_amd64.s -stubs ../int8_stubs_amd64.go -pkg simd

// codesBest returns the kernels for codes of the avx512 level: a CPU that has
// AVX-512 without VNNI (Skylake-X) takes those of AVX2.
func codesBest() *codeKernels {
	if cpuid.CPU.Supports(cpuid.AVX512VNNI) {
		return &codesVNNI
	}
	return &codesAVX2
}

var codesVNNI = codeKernels{
	maxQuery: 127,
	scan: func(hits *CodeHits, panels []uint8, columns []float32, t *CodeTile, floor *[TileQueries]float32) int {
		dim := len(t.Queries) / TileQueries
		return codeScanAVX512(&hits[0][0], base(panels), base(columns), base(t.Queries), &t.Start[0],
			base(t.Weights), &floor[0], len(panels)/(PanelRows*dim), dim/CodeGroup, len(t.Weights))
	},
	scores: func(scores *CodeEstimates, panels []uint8, columns []float32, t *CodeTile) {
		dim := len(t.Queries) / TileQueries
		codeScoresAVX512(&scores[0][0], base(panels), base(columns), base(t.Queries), &t.Start[0],
			base(t.Weights), len(panels)/(PanelRows*dim), dim/CodeGroup, len(t.Weights))
	},
	dots: func(out []int32, codes []uint8, rows []int32, query []int8, start int32) {
		codeDotsAVX512(base(out), base(codes), base(rows), len(rows)/4, base(query), len(query), start)
	},
	quantize: func(codes []uint8, x []float32, inverse float32) {
		whole := len(x) / 16
		quantizeAVX512(base(codes), base(x), whole, inverse)
		quantizeGeneric(codes[whole*16:], x[whole*16:], inverse)
	},
	maxAbs: func(x []float32) float32 {
		whole := len(x) / 16
		return max(maxAbsAVX512(base(x), whole), maxAbsGeneric(x[whole*16:]))
	},
	peak: func(iterations int) int64 {
		peakInt8AVX512(iterations)
		return int64(iterations) * 24 * 64 * 2
	},
}

var codesAVX2 = codeKernels{
	maxQuery: 63,
	scan: func(hits *CodeHits, panels []uint8, columns []float32, t *CodeTile, floor *[TileQueries]float32) int {
		dim := len(t.Queries) / TileQueries
		return codeScanAVX2(&hits[0][0], base(panels), base(columns), base(t.Queries), &t.Start[0],
			base(t.Weights), &floor[0], len(panels)/(PanelRows*dim), dim/CodeGroup, len(t.Weights))
	},
	scores: func(scores *CodeEstimates, panels []uint8, columns []float32, t *CodeTile) {
		dim := len(t.Queries) / TileQueries
		codeScoresAVX2(&scores[0][0], base(panels), base(columns), base(t.Queries), &t.Start[0],
			base(t.Weights), len(panels)/(PanelRows*dim), dim/CodeGroup, len(t.Weights))
	},
	dots: func(out []int32, codes []uint8, rows []int32, query []int8, start int32) {
		codeDotsAVX2(base(out), base(codes), base(rows), len(rows)/4, base(query), len(query), start)
	},
	quantize: func(codes []uint8, x []float32, inverse float32) {
		whole := len(x) / 8
		quantizeAVX2(base(codes), base(x), whole, inverse)
		quantizeGeneric(codes[whole*8:], x[whole*8:], inverse)
	},
	maxAbs: func(x []float32) float32 {
		whole := len(x) / 8
		return max(maxAbsAVX2(base(x), whole), maxAbsGeneric(x[whole*8:]))
	},
	peak: func(iterations int) int64 {
		peakInt8AVX2(iterations)
		return int64(iterations) * 24 * 32 * 2
	},
}
