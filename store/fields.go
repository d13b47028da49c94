package store

import (
	"encoding/binary"
	"fmt"
	"math"
)

// fields reads little-endian values off the front of a payload. After the first
// field that is not there every value is zero and err says what was missing, so a
// decoder checks once, at its end.
type fields struct {
	b   []byte
	err error
}

func (f *fields) take(n int) []byte {
	if f.err != nil || n < 0 || n > len(f.b) {
		if f.err == nil {
			f.err = fmt.Errorf("%d bytes expected, %d left", n, len(f.b))
		}
		return nil
	}
	b := f.b[:n:n]
	f.b = f.b[n:]
	return b
}

func (f *fields) u8() uint8 {
	if b := f.take(1); b != nil {
		return b[0]
	}
	return 0
}

func (f *fields) u16() uint16 {
	if b := f.take(2); b != nil {
		return binary.LittleEndian.Uint16(b)
	}
	return 0
}

func (f *fields) u32() uint32 {
	if b := f.take(4); b != nil {
		return binary.LittleEndian.Uint32(b)
	}
	return 0
}

func (f *fields) u64() uint64 {
	if b := f.take(8); b != nil {
		return binary.LittleEndian.Uint64(b)
	}
	return 0
}

func (f *fields) f64() float64   { return math.Float64frombits(f.u64()) }
func (f *fields) text16() string { return string(f.take(int(f.u16()))) }

func (f *fields) ref() recordRef {
	return recordRef{number: f.u64(), bytes: f.u64(), crc: f.u32()}
}

// count reads a 32-bit count of things that take at least size bytes each, so
// that a decoder may allocate for them.
func (f *fields) count(size int) int {
	n := f.u32()
	if f.err == nil && uint64(n)*uint64(size) > uint64(len(f.b)) {
		f.err = fmt.Errorf("%d entries of %d bytes announced, %d bytes left", n, size, len(f.b))
	}
	if f.err != nil {
		return 0
	}
	return int(n)
}

// end returns the first failure, or an error if bytes are left over.
func (f *fields) end() error {
	if f.err == nil && len(f.b) > 0 {
		return fmt.Errorf("%d bytes left over", len(f.b))
	}
	return f.err
}

func appendText16(b []byte, s string) []byte {
	return append(binary.LittleEndian.AppendUint16(b, uint16(len(s))), s...)
}

func appendRef(b []byte, r recordRef) []byte {
	b = binary.LittleEndian.AppendUint64(b, r.number)
	b = binary.LittleEndian.AppendUint64(b, r.bytes)
	return binary.LittleEndian.AppendUint32(b, r.crc)
}
