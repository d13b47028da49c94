package index

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math"

	"membank/simd"
)

// The record of a basis, all little endian:
//
//	 0  magic "mbbasis1"
//	 8  uint32 dim, rank, first, dims
//	24  float64 delta
//	32  float32 mean [dim]
//	 .  float32 rows [rank][dim]
//
// 32 + 4·dim·(rank+1) bytes: 394,784 at 384 dims and 256 directions. The store
// checks their integrity, as it does that of every record.

const (
	basisMagic  = "mbbasis1"
	basisHeader = 32
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Encode returns the record of b.
func (b *Basis) Encode() []byte {
	v := make([]byte, 0, basisHeader+4*b.dim*(b.rows.Rows+1))
	v = append(v, basisMagic...)
	for _, x := range []int{b.dim, b.rows.Rows, b.first, b.dims} {
		v = binary.LittleEndian.AppendUint32(v, uint32(x))
	}
	v = binary.LittleEndian.AppendUint64(v, math.Float64bits(b.delta))
	for _, x := range b.mean {
		v = binary.LittleEndian.AppendUint32(v, math.Float32bits(x))
	}
	for _, x := range b.rows.Data[:b.rows.Rows*b.dim] {
		v = binary.LittleEndian.AppendUint32(v, math.Float32bits(x))
	}
	return v
}

// DecodeBasis is the inverse of Encode. It copies what it keeps of v.
func DecodeBasis(v []byte) (*Basis, error) {
	if len(v) < basisHeader || string(v[:8]) != basisMagic {
		return nil, fmt.Errorf("%w: no basis in %d bytes", ErrCodes, len(v))
	}
	var n [4]uint32
	for i := range n {
		n[i] = binary.LittleEndian.Uint32(v[8+4*i:])
	}
	b := &Basis{dim: int(n[0]), first: int(n[2]), dims: int(n[3])}
	rank := int(n[1])
	b.delta = math.Float64frombits(binary.LittleEndian.Uint64(v[24:]))
	switch {
	case b.dim == 0 || b.dim > 1<<22 || rank == 0 || rank > b.dim || rank > maxRank,
		len(v) != basisHeader+4*b.dim*(rank+1),
		b.dims < rank || b.dims > maxRank || b.dims <= headDims || b.dims%dimStep != 0,
		b.first == 0 || b.first > b.dims || b.first%simd.CodeGroup != 0:
		return nil, fmt.Errorf("%w: a basis of %d directions in %d dimensions, %d and %d dims, in %d bytes",
			ErrCodes, rank, b.dim, b.first, b.dims, len(v))
	case !(b.delta >= 0 && b.delta < 0.5):
		return nil, fmt.Errorf("%w: a basis that is off by %v", ErrCodes, b.delta)
	}
	all := make([]float32, b.dim*(rank+1))
	for i := range all {
		all[i] = math.Float32frombits(binary.LittleEndian.Uint32(v[basisHeader+4*i:]))
		if !(all[i] >= -2 && all[i] <= 2) {
			return nil, fmt.Errorf("%w: a basis with %v in it", ErrCodes, all[i])
		}
	}
	b.mean = all[:b.dim]
	b.rows = simd.Matrix{Data: all[b.dim:], Rows: rank, Dim: b.dim}
	b.finish(crc32.Checksum(v, castagnoli))
	return b, nil
}

// seal makes a learnt basis the one that its record describes.
func (b *Basis) seal() { b.finish(crc32.Checksum(b.Encode(), castagnoli)) }
