// Command gen writes the kernels of package simd, each for AVX2 and for AVX-512:
//
//	cd simd/_gen && go run . -out ../kernels_amd64.s -stubs ../stubs_amd64.go -pkg simd
//
// which is what go generate ./simd does. It is a module of its own, so that
// nobody who builds membank needs avo.
package main

import (
	"flag"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

const (
	panelRows   = 32 // simd.PanelRows
	tileQueries = 12 // simd.TileQueries
)

// A width is what differs between the levels: how many floats a register holds.
type width struct {
	suffix string
	floats int
	vector func() reg.VecVirtual
}

var (
	avx2   = width{"AVX2", 8, YMM}
	avx512 = width{"AVX512", 16, ZMM}
)

func (w width) bytes() int { return 4 * w.floats }

// zero returns a register of zeroes.
func (w width) zero() reg.VecVirtual {
	v := w.vector()
	w.clear(v)
	return v
}

func (w width) clear(v reg.VecVirtual) { w.xor(v, v) }

// xor is into ^= x: of zmm the integer form, as VXORPS there needs AVX512DQ.
func (w width) xor(x Op, into reg.VecVirtual) {
	if w.floats == 16 {
		VPXORQ(x, into, into)
	} else {
		VPXOR(x, into, into)
	}
}

var file = flag.String("kernels", "float", "which file to write: float, int8, pairs or products")

func main() {
	flag.Parse()
	ConstraintExpr("amd64")
	switch *file {
	case "int8":
		codeKernels()
	case "pairs":
		pairs()
		pairs16()
	case "products":
		products(avx512)
		products(avx2)
	default:
		floatKernels()
	}
	Generate()
}

func floatKernels() {
	for _, w := range []width{avx512, avx2} {
		scan(w)
		tile(w)
		widenHalf(w)
		peakFMA(w)
		readBytes(w)
	}
	dot()
	squaredDistance()
	squares()
	transpose()
}

func codeKernels() {
	for _, keep := range []bool{false, true} {
		codeScanAVX512(keep)
		codeScanAVX2(keep)
	}
	for _, w := range []width{avx512, avx2} {
		codeDots(w)
		quantize(w)
		maxAbs(w)
		peakInt8(w)
	}
}

// function opens a function whose arguments are all pointers and ints: the Go
// side has checked every length.
func function(name, signature string, doc ...string) {
	TEXT(name, NOSPLIT, signature)
	Pragma("noescape")
	Doc(doc...)
}

func pointer(name string) reg.GPVirtual {
	r := GP64()
	Load(Param(name), r)
	return r
}

func at(base reg.Register, bytes int) Mem { return Mem{Base: base, Disp: bytes} }

// loop runs body as often as left says, not at all if that is zero.
func loop(left reg.GPVirtual, body func()) {
	TESTQ(left, left)
	JZ(LabelRef("done"))
	Label("loop")
	body()
	DECQ(left)
	JNZ(LabelRef("loop"))
	Label("done")
}
