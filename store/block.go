package store

import (
	"encoding/binary"
	"fmt"
	"unsafe"

	"membank/simd"
)

// A block is some rows stored together: a record of panels, which kernels
// read in place, a record of columns, and a record an attribute.
//
// The payload of a panels record is nothing but panels (see simd.Pack): element d
// of row i at element (i/32*dim + d)*32 + i%32, the lanes behind the last row
// zero; float32 or, in an f16 bank, IEEE half precision, little endian.

const (
	// blockBytes is about how large the panels of a block are. 4 MiB is what
	// Badger takes and returns at full speed; a scan still has hundreds of blocks
	// to spread over cores.
	blockBytes = 4 << 20
	// maxBlockRows bounds the columns of a block when vectors are short.
	maxBlockRows = 16384
	// maxNorm is the largest ‖x‖ that is stored: its square fits a float32.
	maxNorm = 1e18
	// epsilon is the least norm that cosine divides by, as in torch.
	epsilon = 1e-12
)

// Block is one block as a kernel sees it. Its slices are valid only inside the
// function that View was given and must not be written: Panels is Badger's
// memory map itself and may start at any byte offset (of an f16 bank it is the
// Reader's scratch). Lanes is Rows rounded up to a multiple of simd.PanelRows.
type Block struct {
	Rows, Lanes, Dim int
	Panels           []float32 // [Lanes/32][Dim][32], see simd.Pack
	Row              []int64   // [Lanes] row numbers; -1 in padding lanes
	Scale            []float32 // [Lanes] 1/max(‖x‖, 1e-12); 0 in padding lanes
	Bias             []float32 // [Lanes] -‖x‖²/2; 0 in padding lanes
	Dead             []bool    // [Lanes] deleted rows, rows overwritten since, and padding lanes
	AnyDead          bool      // whether one of the first Rows lanes is dead
	MaxNorm          float64   // largest ‖x‖ of the block, deleted rows included
}

// blockRows is how many rows a full block has: a multiple of simd.PanelRows.
func blockRows(dim int, t DType) int {
	rows := blockBytes / (dim * t.size()) / simd.PanelRows * simd.PanelRows
	return min(max(rows, simd.PanelRows), maxBlockRows)
}

// lanesOf is rows rounded up to whole panels.
func lanesOf(rows int) int { return simd.Panels(rows) * simd.PanelRows }

// panelsBytes is the size of a panels record, header included.
func panelsBytes(rows, dim int, t DType) uint64 {
	return headerSize + uint64(lanesOf(rows))*uint64(dim)*uint64(t.size())
}

// encodePanels packs the rows of m into their part of the payload. scratch has room
// for these panels of an f16 bank as float32.
func encodePanels(payload []byte, scratch []float32, m simd.Matrix, t DType) {
	switch t {
	case F16:
		scratch = scratch[:lanesOf(m.Rows)*m.Dim]
		simd.Pack(scratch, m)
		simd.NarrowHalf(view[uint16](payload), scratch)
	default:
		simd.Pack(view[float32](payload), m)
	}
}

// decodePanels is the inverse: the payload itself for f32, scratch filled for f16.
func decodePanels(payload []byte, scratch []float32, t DType) []float32 {
	if t == F16 {
		half := view[uint16](payload)
		simd.WidenHalf(scratch[:len(half)], half)
		return scratch[:len(half)]
	}
	return view[float32](payload)
}

// checkPanels compares a panels record with the bank and block it should be of.
func checkPanels(h header, rows, dim int, t DType) error {
	if h.dtype != t || int(h.rows) != rows || int(h.dim) != dim {
		return fmt.Errorf("it holds %d rows of %d %v, expected %d rows of %d %v", h.rows, h.dim, h.dtype, rows, dim, t)
	}
	return nil
}

// view reads bytes as little-endian elements without a copy, at any alignment.
// It is the one use of unsafe outside simd; Open refuses big-endian machines.
func view[T float32 | uint16 | int64](b []byte) []T {
	var element T
	if len(b) == 0 {
		return nil
	}
	return unsafe.Slice((*T)(unsafe.Pointer(unsafe.SliceData(b))), len(b)/int(unsafe.Sizeof(element)))
}

func littleEndian() bool { return binary.NativeEndian.Uint16([]byte{1, 0}) == 1 }
