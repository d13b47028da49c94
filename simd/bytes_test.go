package simd

import (
	"encoding/binary"
	"math"
	"math/rand/v2"
	"testing"
)

func TestBytesAndFloatsAreInverse(t *testing.T) {
	for _, n := range []int{0, 1, 7, 1000} {
		x := make([]float32, n)
		for i := range x {
			x[i] = float32(rand.NormFloat64())
		}
		b := Bytes(x)
		if len(b) != 4*n {
			t.Fatalf("%d bytes of %d floats", len(b), n)
		}
		back := Floats(b)
		for i, v := range x {
			if math.Float32bits(v) != binary.NativeEndian.Uint32(b[4*i:]) || back[i] != v {
				t.Fatalf("float %d of %d: %v, %v", i, n, v, b[4*i:4*i+4])
			}
		}
	}
}
