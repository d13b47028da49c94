package simd

import "unsafe"

// Floats reads little-endian bytes as floats without a copy; what is left of b
// behind the last four is not read. b may start at any offset: kernels and loads
// take it as it is.
func Floats(b []byte) []float32 {
	if len(b) < 4 {
		return nil
	}
	return unsafe.Slice((*float32)(unsafe.Pointer(unsafe.SliceData(b))), len(b)/4)
}

// Bytes is the inverse: the memory of x, to read little-endian floats into it or to
// write them from it.
func Bytes(x []float32) []byte {
	return unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(x))), 4*len(x))
}
