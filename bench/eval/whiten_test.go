package eval

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"membank/simd"
)

// Whitened rows of the set that was learnt from have, before they are normalised,
// moments that are known: with the covariance decomposed they are the identity. So
// cosines between them follow from the inverse of the matrix, which Gauss and Jordan
// find without any eigenvalue:
//
//	⟨Wx, Wy⟩ = xᵀ M⁻¹ y
func TestWhiteningAgainstInverse(t *testing.T) {
	const rows, dim = 60, 7
	r := rand.New(rand.NewPCG(3, 4))
	m := simd.NewMatrix(rows, dim)
	for i := range rows {
		common := r.NormFloat64()
		for d := range dim {
			m.Row(i)[d] = float32(5 + common + r.NormFloat64()*float64(d+1))
		}
	}
	db := open(t)
	s := set(t, write(t, db, "rows", m, nil))
	mean := make([]float64, dim)
	for i := range rows {
		for d, v := range m.Row(i) {
			mean[d] += float64(v) / rows
		}
	}
	for _, v := range WhiteningVariants() {
		w, err := LearnWhitening(t.Context(), s, v.Name, dim, 2)
		if err != nil {
			t.Fatal(err)
		}
		got, err := w.Apply(t.Context(), s, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		decomposed := make([][]float64, dim)
		for a := range dim {
			decomposed[a] = make([]float64, dim)
			for b := range dim {
				for i := range rows {
					x, y := float64(m.Row(i)[a]), float64(m.Row(i)[b])
					if v.Name != "dino" {
						x, y = x-mean[a], y-mean[b]
					}
					decomposed[a][b] += x * y
				}
			}
		}
		inverse := invert(decomposed)
		product := func(i, j int) (sum float64) {
			for a := range dim {
				for b := range dim {
					sum += (float64(m.Row(i)[a]) - mean[a]) * inverse[a][b] * (float64(m.Row(j)[b]) - mean[b])
				}
			}
			return sum
		}
		for i := range 10 {
			j := 13 + 3*i
			want := product(i, j) / math.Sqrt(product(i, i)*product(j, j))
			dot := 0.0
			for d, x := range got.rows.Row(i) {
				dot += float64(x) * float64(got.rows.Row(j)[d])
			}
			if math.Abs(dot-want) > 1e-5 {
				t.Errorf("%s: cosine of rows %d and %d is %v, want %v", v.Name, i, j, dot, want)
			}
		}
	}
}

// invert is Gauss and Jordan's, with pivots.
func invert(m [][]float64) [][]float64 {
	n := len(m)
	a := make([][]float64, n)
	for i := range a {
		a[i] = append(append([]float64{}, m[i]...), make([]float64, n)...)
		a[i][n+i] = 1
	}
	for c := range n {
		p := c
		for i := c; i < n; i++ {
			if math.Abs(a[i][c]) > math.Abs(a[p][c]) {
				p = i
			}
		}
		a[c], a[p] = a[p], a[c]
		pivot := a[c][c]
		for k := range a[c] {
			a[c][k] /= pivot
		}
		for i := range n {
			if i == c {
				continue
			}
			f := a[i][c]
			for k := range a[i] {
				a[i][k] -= f * a[c][k]
			}
		}
	}
	for i := range a {
		a[i] = a[i][n:]
	}
	return a
}

// Rows on a line have one direction. Where nothing floors the other eigenvalues they
// are left out, and what is left are the two ends of the line: no NaN, no noise.
func TestWhiteningWithoutVariance(t *testing.T) {
	db := open(t)
	s := set(t, write(t, db, "line", matrix(3, 1, 1, 1, 2, 2, 2, 3, 3, 3, 4, 4, 4), nil))
	for _, v := range WhiteningVariants() {
		w, err := LearnWhitening(t.Context(), s, v.Name, 0, 1)
		if err != nil {
			t.Fatal(err)
		}
		if want := map[string]int{"faiss": 2}[v.Name]; w.Dropped() != want {
			t.Errorf("%s drops %d directions, want %d", v.Name, w.Dropped(), want)
		}
		got, err := w.Apply(t.Context(), s, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		dot := 0.0
		for d, x := range got.rows.Row(0) {
			dot += float64(x) * float64(got.rows.Row(3)[d])
		}
		within(t, v.Name+": the ends", dot, -1, 1e-6)
	}
}

func TestWhiteningRefusals(t *testing.T) {
	db := open(t)
	s := set(t, write(t, db, "rows", matrix(2, 1, 0, 0, 1, 1, 1), nil))
	same := set(t, write(t, db, "same", matrix(2, 1, 2, 1, 2), nil))
	one := set(t, write(t, db, "one", matrix(2, 1, 2), nil))
	wide := set(t, write(t, db, "wide", matrix(3, 1, 2, 3), nil))
	for i, c := range []struct {
		s    *Set
		name string
		dims int
	}{{s, "zca", 0}, {s, "faiss", 3}, {s, "faiss", -1}, {same, "faiss", 0}, {one, "dino", 0}} {
		if _, err := LearnWhitening(t.Context(), c.s, c.name, c.dims, 1); !errors.Is(err, ErrWhitening) {
			t.Errorf("%d: %v", i, err)
		}
	}
	w, err := LearnWhitening(t.Context(), s, "vissl", 0, 1)
	if err != nil || w.Dropped() != 0 || fmt.Sprint(w) != "vissl whitening to 2 from rows" {
		t.Fatal(w, err)
	}
	if _, err := w.Apply(t.Context(), wide, 1<<20); !errors.Is(err, ErrWhitening) {
		t.Error(err)
	}
	if _, err := w.Apply(t.Context(), s, 10); !errors.Is(err, ErrWhitening) {
		t.Error(err)
	}
}

// Deleted rows take no part; those that are left keep labels and keys.
func TestWhiteningOfDeletedRows(t *testing.T) {
	db := open(t)
	write(t, db, "rows", matrix(2, 1, 0, 9, 9, 0, 1, 1, 1), []int64{1, 2, 3, 4}).Close()
	if _, err := db.DeleteRows(t.Context(), "rows", []int64{1}); err != nil {
		t.Fatal(err)
	}
	whole, part := set(t, snapshot(t, db, "rows")), set(t, write(t, db, "part", matrix(2, 1, 0, 0, 1, 1, 1), []int64{1, 3, 4}))
	for i, s := range []*Set{whole, part} {
		w, err := LearnWhitening(t.Context(), s, "faiss", 0, 1)
		if err != nil {
			t.Fatal(err)
		}
		got, err := w.Apply(t.Context(), part, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		same, err := w.Apply(t.Context(), whole, 1<<20)
		if err != nil || !slices.Equal(same.rows.Data, got.rows.Data) || !slices.Equal(same.labels, []int64{1, 3, 4}) || !slices.Equal(same.keys, []string{"0", "2", "3"}) {
			t.Errorf("%d: %+v %v, want %v", i, same, err, got.rows)
		}
	}
}
