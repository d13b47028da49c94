package dump

import (
	"archive/zip"
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
	"unicode/utf8"

	"membank/simd"
)

// NPYWriter writes one array as an .npy of version 1, little endian, C order, byte
// for byte as numpy does, element after element. What is written must add up to
// the shape given at the start: Close says so if it does not. It buffers up to
// 64 KiB and is for one goroutine.
type NPYWriter struct {
	w     *bufio.Writer
	descr string
	left  int64 // elements still to come
	width int   // characters or bytes of a string element
	err   error
}

// NewNPYWriter writes the header of an array of the given shape. descr is the
// element type as numpy names it: "<f2", "<f4", "<f8", "|i1", "|u1", "|b1", "<i2",
// "<i4", "<i8" or, for strings of up to N characters or bytes, "<UN" or "|SN".
func NewNPYWriter(w io.Writer, descr string, shape ...int64) (*NPYWriter, error) {
	a := &NPYWriter{descr: descr, left: 1}
	for _, d := range shape {
		if d < 0 || d > 0 && a.left > math.MaxInt64/16/d {
			return nil, fmt.Errorf("dump: array of shape %s", shapeString(shape))
		}
		a.left *= d
	}
	if strings.HasPrefix(descr, "<U") || strings.HasPrefix(descr, "|S") {
		n, err := strconv.Atoi(descr[2:])
		if err != nil || n < 1 || n > elementLimit {
			return nil, fmt.Errorf("dump: no element type %q", descr)
		}
		a.width = n
	} else if !strings.Contains(" <f2 <f4 <f8 |i1 |u1 |b1 <i2 <i4 <i8 ", " "+descr+" ") {
		return nil, fmt.Errorf("dump: no element type %q", descr)
	}
	head := npyHeader(descr, shape)
	a.w = bufio.NewWriterSize(w, int(min(1<<16, int64(len(head))+8*a.left)))
	_, a.err = a.w.Write(head)
	return a, a.err
}

// npyHeader is the header as numpy 1.24 writes it: with blanks where a longer
// first size would fit, and the elements beginning at a multiple of 64 bytes.
func npyHeader(descr string, shape []int64) []byte {
	text := fmt.Sprintf("{'descr': '%s', 'fortran_order': False, 'shape': %s, }", descr, shapeString(shape))
	if len(shape) > 0 {
		text += strings.Repeat(" ", 21-len(strconv.FormatInt(shape[0], 10)))
	}
	text += strings.Repeat(" ", 63-(10+len(text))%64) + "\n"
	head := append([]byte(npyMagic), 1, 0)
	head = binary.LittleEndian.AppendUint16(head, uint16(len(text)))
	return append(head, text...)
}

// take checks that n more elements of the type fit.
func (a *NPYWriter) take(descr string, n int) error {
	switch {
	case a.err != nil:
		return a.err
	case descr != a.descr && (a.width == 0 || descr != a.descr[:2]):
		a.err = fmt.Errorf("dump: %s elements for an array of %s", descr, a.descr)
	case int64(n) > a.left:
		a.err = fmt.Errorf("dump: %d elements more than the array's shape has", int64(n)-a.left)
	default:
		a.left -= int64(n)
	}
	return a.err
}

// elements writes each of n elements of size bytes.
func (a *NPYWriter) elements(n, size int, put func(b []byte, i int)) error {
	for i := range n {
		if a.w.Available() < size {
			if a.err = a.w.Flush(); a.err != nil {
				return a.err
			}
		}
		b := a.w.AvailableBuffer()[:size]
		put(b, i)
		a.w.Write(b)
	}
	return nil
}

// Float32 appends elements to an array of "<f4".
func (a *NPYWriter) Float32(x []float32) error {
	if err := a.take("<f4", len(x)); err != nil {
		return err
	}
	if nativeLittle {
		_, a.err = a.w.Write(simd.Bytes(x)) // what does not fit the buffer passes it by
		return a.err
	}
	return a.elements(len(x), 4, func(b []byte, i int) { binary.LittleEndian.PutUint32(b, math.Float32bits(x[i])) })
}

// nativeLittle: numbers lie in memory as they do in files.
var nativeLittle = binary.NativeEndian.Uint16([]byte{1, 0}) == 1

// littleFloats writes floats little endian, as they lie in memory on such a machine.
func littleFloats(b []byte, x []float32) {
	if nativeLittle {
		copy(b, simd.Bytes(x))
		return
	}
	for i, v := range x {
		binary.LittleEndian.PutUint32(b[4*i:], math.Float32bits(v))
	}
}

// Float64 appends elements to an array of "<f8".
func (a *NPYWriter) Float64(x []float64) error {
	if err := a.take("<f8", len(x)); err != nil {
		return err
	}
	return a.elements(len(x), 8, func(b []byte, i int) { binary.LittleEndian.PutUint64(b, math.Float64bits(x[i])) })
}

// Half appends elements, the bits of half precision, to an array of "<f2".
func (a *NPYWriter) Half(x []uint16) error {
	if err := a.take("<f2", len(x)); err != nil {
		return err
	}
	return a.elements(len(x), 2, func(b []byte, i int) { binary.LittleEndian.PutUint16(b, x[i]) })
}

// Int64 appends elements to an array of "<i8".
func (a *NPYWriter) Int64(x []int64) error {
	if err := a.take("<i8", len(x)); err != nil {
		return err
	}
	return a.elements(len(x), 8, func(b []byte, i int) { binary.LittleEndian.PutUint64(b, uint64(x[i])) })
}

// Int32 appends elements to an array of "<i4".
func (a *NPYWriter) Int32(x []int32) error {
	if err := a.take("<i4", len(x)); err != nil {
		return err
	}
	return a.elements(len(x), 4, func(b []byte, i int) { binary.LittleEndian.PutUint32(b, uint32(x[i])) })
}

// Bool appends elements to an array of "|b1".
func (a *NPYWriter) Bool(x []bool) error {
	if err := a.take("|b1", len(x)); err != nil {
		return err
	}
	return a.elements(len(x), 1, func(b []byte, i int) {
		b[0] = 0
		if x[i] {
			b[0] = 1
		}
	})
}

// Strings appends elements to an array of "<UN"; none may be longer than N
// characters, or not be UTF-8.
func (a *NPYWriter) Strings(x []string) error {
	if err := a.take("<U", len(x)); err != nil {
		return err
	}
	b := make([]byte, 0, 4*a.width)
	for _, s := range x {
		if !utf8.ValidString(s) || utf8.RuneCountInString(s) > a.width {
			a.err = fmt.Errorf("dump: the string %s does not fit %s", quote(s), a.descr)
			return a.err
		}
		b = b[:0]
		for _, r := range s {
			b = binary.LittleEndian.AppendUint32(b, uint32(r))
		}
		if _, a.err = a.w.Write(append(b, make([]byte, 4*a.width-len(b))...)); a.err != nil {
			return a.err
		}
	}
	return nil
}

// Bytes appends elements to an array of "|SN"; none may be longer than N bytes, or
// end in a zero byte, which numpy would not give back.
func (a *NPYWriter) Bytes(x []string) error {
	if err := a.take("|S", len(x)); err != nil {
		return err
	}
	for _, s := range x {
		if len(s) > a.width || strings.HasSuffix(s, "\x00") {
			a.err = fmt.Errorf("dump: the bytes %s do not fit %s", quote(s), a.descr)
			return a.err
		}
		if _, a.err = a.w.WriteString(s + strings.Repeat("\x00", a.width-len(s))); a.err != nil {
			return a.err
		}
	}
	return nil
}

// Close writes out what is buffered. It does not close the writer underneath.
func (a *NPYWriter) Close() error {
	if a.err == nil && a.left > 0 {
		a.err = fmt.Errorf("dump: %d elements fewer than the array's shape has", a.left)
	}
	if a.err == nil {
		a.err = a.w.Flush()
	}
	return a.err
}

// WriteNPY writes one array that is in memory. data is []float32, []float64,
// []int64, []int32, []bool, []string, or []uint16 for half precision; its length is
// the product of shape. Without a shape the array has one dimension.
func WriteNPY(w io.Writer, data any, shape ...int64) error {
	descr, n, write := elementsOf(data)
	if write == nil {
		return fmt.Errorf("dump: no array of %T", data)
	}
	if len(shape) == 0 {
		shape = []int64{int64(n)}
	}
	a, err := NewNPYWriter(w, descr, shape...)
	if err != nil {
		return err
	}
	if err := write(a); err != nil {
		return err
	}
	return a.Close()
}

// elementsOf says how a slice is written.
func elementsOf(data any) (descr string, n int, write func(*NPYWriter) error) {
	switch x := data.(type) {
	case []float32:
		return "<f4", len(x), func(a *NPYWriter) error { return a.Float32(x) }
	case []float64:
		return "<f8", len(x), func(a *NPYWriter) error { return a.Float64(x) }
	case []uint16:
		return "<f2", len(x), func(a *NPYWriter) error { return a.Half(x) }
	case []int64:
		return "<i8", len(x), func(a *NPYWriter) error { return a.Int64(x) }
	case []int32:
		return "<i4", len(x), func(a *NPYWriter) error { return a.Int32(x) }
	case []bool:
		return "|b1", len(x), func(a *NPYWriter) error { return a.Bool(x) }
	case []string:
		width := 1
		for _, s := range x {
			width = max(width, utf8.RuneCountInString(s))
		}
		return "<U" + strconv.Itoa(width), len(x), func(a *NPYWriter) error { return a.Strings(x) }
	}
	return "", 0, nil
}

// NPZWriter writes several arrays into one .npz, stored as they are, so that they
// can be mapped. Arrays are written one after another. Equal arrays give equal
// bytes: no times are recorded.
type NPZWriter struct{ z *zip.Writer }

// NewNPZWriter begins an .npz.
func NewNPZWriter(w io.Writer) *NPZWriter { return &NPZWriter{zip.NewWriter(w)} }

// Array begins an array; descr and shape are as for NewNPYWriter. Close it before
// the next begins.
func (z *NPZWriter) Array(name, descr string, shape ...int64) (*NPYWriter, error) {
	w, err := z.z.CreateHeader(&zip.FileHeader{Name: name + ".npy", Method: zip.Store})
	if err != nil {
		return nil, err
	}
	return NewNPYWriter(w, descr, shape...)
}

// Write writes an array that is in memory; see WriteNPY.
func (z *NPZWriter) Write(name string, data any, shape ...int64) error {
	w, err := z.z.CreateHeader(&zip.FileHeader{Name: name + ".npy", Method: zip.Store})
	if err != nil {
		return err
	}
	return WriteNPY(w, data, shape...)
}

// Close ends the archive. It does not close the writer underneath.
func (z *NPZWriter) Close() error { return z.z.Close() }
