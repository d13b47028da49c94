package dump

import (
	"encoding/binary"
	"math"
	"strings"
	"unicode/utf8"

	"membank/simd"
)

// floats converts len(dst) elements at the start of src to float32, for h of kind
// f. Half precision is widened exactly; float64 is rounded to nearest, ties to
// even, and what exceeds float32 becomes infinite, which the store refuses with
// the row. half is scratch of at least len(dst) for h.size 2.
func (h header) floats(dst []float32, src []byte, half []uint16) {
	switch {
	case h.size == 2:
		half = half[:len(dst)]
		src = src[:2*len(half)]
		if h.order == binary.LittleEndian {
			for i := range half {
				half[i] = binary.LittleEndian.Uint16(src[2*i:])
			}
		} else {
			for i := range half {
				half[i] = binary.BigEndian.Uint16(src[2*i:])
			}
		}
		if h.brain { // bfloat16 is the upper half of a float32
			for i, x := range half {
				dst[i] = math.Float32frombits(uint32(x) << 16)
			}
			return
		}
		simd.WidenHalf(dst, half)
	case h.size == 4 && h.order == binary.LittleEndian:
		for len(dst) >= 4 && len(src) >= 16 {
			d, s := (*[4]float32)(dst), (*[16]byte)(src)
			d[0] = math.Float32frombits(binary.LittleEndian.Uint32(s[0:4]))
			d[1] = math.Float32frombits(binary.LittleEndian.Uint32(s[4:8]))
			d[2] = math.Float32frombits(binary.LittleEndian.Uint32(s[8:12]))
			d[3] = math.Float32frombits(binary.LittleEndian.Uint32(s[12:16]))
			dst, src = dst[4:], src[16:]
		}
		for i := range dst {
			dst[i] = math.Float32frombits(binary.LittleEndian.Uint32(src[4*i:]))
		}
	case h.size == 4:
		for i := range dst {
			dst[i] = math.Float32frombits(binary.BigEndian.Uint32(src[4*i:]))
		}
	case h.order == binary.LittleEndian:
		for i := range dst {
			dst[i] = float32(math.Float64frombits(binary.LittleEndian.Uint64(src[8*i:])))
		}
	default:
		for i := range dst {
			dst[i] = float32(math.Float64frombits(binary.BigEndian.Uint64(src[8*i:])))
		}
	}
}

// native reports whether the elements lie in the file as they do in memory.
func (h header) native() bool {
	return h.kind == 'f' && h.size == 4 && h.order == binary.LittleEndian && binary.NativeEndian.Uint16([]byte{1, 0}) == 1
}

// integer converts the element at the start of src, for h of kind i, u or b. It
// is not ok for an unsigned value beyond int64.
func (h header) integer(src []byte) (v int64, ok bool) {
	var u uint64
	switch h.size {
	case 1:
		u = uint64(src[0])
	case 2:
		u = uint64(h.order.Uint16(src))
	case 4:
		u = uint64(h.order.Uint32(src))
	default:
		u = h.order.Uint64(src)
	}
	switch {
	case h.kind == 'i': // sign extension from the width of the element
		shift := 64 - 8*h.size
		return int64(u<<shift) >> shift, true
	case h.kind == 'b':
		return int64(min(u, 1)), true
	}
	return int64(u), u <= math.MaxInt64
}

// text converts the element at the start of src, for h of kind U (four bytes a
// character) or S (UTF-8). Both are padded with zeroes. It is not ok for what is
// not valid Unicode.
func (h header) text(src []byte) (s string, ok bool) {
	src = src[:h.size]
	if h.kind == 'S' {
		s = strings.TrimRight(string(src), "\x00")
		return s, utf8.ValidString(s)
	}
	var b strings.Builder
	for ; len(src) >= 4; src = src[4:] {
		r := h.order.Uint32(src)
		if r > utf8.MaxRune || !utf8.ValidRune(rune(r)) {
			return "", false
		}
		b.WriteRune(rune(r))
	}
	return strings.TrimRight(b.String(), "\x00"), true
}
