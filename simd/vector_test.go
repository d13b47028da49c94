package simd

import (
	"math"
	"slices"
	"testing"
)

func TestNorm(t *testing.T) {
	for _, dim := range append(dims(), 0) {
		x := newProblem(1, 1, max(dim, 1), reals(uint64(dim))).rows.Data[:dim]
		var sum float64
		for _, v := range x {
			sum += float64(v) * float64(v)
		}
		want := math.Sqrt(sum)
		got := Norm(x)
		if math.Abs(got-want) > float64(dim+2)*0x1p-53*want {
			t.Fatalf("dim %d: %v, want %v", dim, got, want)
		}
		everyLevel(t, func(t *testing.T) {
			if again := Norm(slices.Clone(x)); again != got {
				t.Fatalf("dim %d: %v here, %v there", dim, again, got)
			}
		})
	}
	if got := Norm([]float32{math.MaxFloat32, math.MaxFloat32}); got != math.MaxFloat32*math.Sqrt2 {
		t.Fatalf("norm of the largest: %v", got)
	}
	if got := Norm([]float32{0x1p-149}); got != 0x1p-149 {
		t.Fatalf("norm of the smallest: %v", got)
	}
	if got := Norm([]float32{1, float32(math.NaN()), 1}); got == got {
		t.Fatalf("norm with NaN: %v", got)
	}
}

// The order of the sum is part of the format: stored norms carry it.
func TestNormSumsInItsDocumentedOrder(t *testing.T) {
	x := newProblem(1, 1, 379, reals(5)).rows.Data
	var s [8]float64
	for i, v := range x {
		s[i%8] += float64(v) * float64(v)
	}
	if got, want := Norm(x), math.Sqrt(((s[0]+s[4])+(s[2]+s[6]))+((s[1]+s[5])+(s[3]+s[7]))); got != want {
		t.Fatalf("%b, want %b", got, want)
	}
}

func TestNormalize(t *testing.T) {
	for _, dim := range dims() {
		for _, size := range []float32{1, 1e-6, 1e6, 1e30, 1e-30} {
			x := newProblem(1, 1, dim, reals(uint64(dim))).rows.Data
			for i := range x {
				x[i] *= size
			}
			norm := max(Norm(x), 1e-12)
			dst := make([]float32, dim)
			Normalize(dst, x)
			for i := range x {
				want := float64(x[i]) / norm
				if math.Abs(float64(dst[i])-want) > bound(2, math.Abs(want)) {
					t.Fatalf("dim %d, size %g, element %d: %v, want %v", dim, size, i, dst[i], want)
				}
			}
			Normalize(x, x)
			if !slices.Equal(x, dst) {
				t.Fatalf("dim %d: in place it differs", dim)
			}
		}
	}
	zero := make([]float32, 3)
	Normalize(zero, zero)
	if !slices.Equal(zero, make([]float32, 3)) {
		t.Fatalf("zero became %v", zero)
	}
	huge := []float32{3e38, -3e38}
	Normalize(huge, huge)
	if math.Abs(float64(huge[0])-math.Sqrt(0.5)) > 1e-7 || huge[1] != -huge[0] {
		t.Fatalf("huge became %v", huge)
	}
	Normalize(nil, nil)
}

// One product, one sum, each rounded, is what every level must give.
func TestLargest(t *testing.T) {
	for _, n := range append(dims(), 1, 2) {
		x := newProblem(1, 1, max(n, 1), reals(uint64(n)+9)).rows.Data[:max(n, 1)]
		for at := range min(len(x), 70) {
			one := slices.Clone(x)
			one[at] = 1e9
			for _, y := range [][]float32{x, one} {
				if got, want := Largest(y), slices.Max(y); got != want {
					t.Fatalf("%d numbers: %v, want %v", n, got, want)
				}
			}
		}
	}
	inf := float32(math.Inf(1))
	if got := Largest([]float32{-inf, -math.MaxFloat32, -inf}); got != -math.MaxFloat32 {
		t.Fatal(got)
	}
}

func TestBlend(t *testing.T) {
	for _, dim := range append(dims(), 0, 511, 512, 513, 1030) {
		old, new := make([]float32, dim), make([]float32, dim)
		r := reals(uint64(dim))
		for i := range old {
			old[i], new[i] = r(), r()
		}
		for _, keep := range []float32{0, 0.5, 0.9, 0.999, 1} {
			want := make([]float32, dim)
			for i := range want {
				want[i] = float32(keep*old[i]) + float32((1-keep)*new[i])
			}
			got := make([]float32, dim)
			Blend(got, old, new, keep)
			a, b := slices.Clone(old), slices.Clone(new)
			Blend(a, a, new, keep)
			Blend(b, old, b, keep)
			if !slices.Equal(got, want) || !slices.Equal(a, want) || !slices.Equal(b, want) {
				t.Fatalf("dim %d, keep %v: differs", dim, keep)
			}
		}
	}
}
