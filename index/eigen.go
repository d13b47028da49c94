package index

import (
	"math"
	"slices"
)

// square is an n × n matrix of float64, row after row.
type square struct {
	n int
	a []float64
}

func newSquare(n int) square { return square{n, make([]float64, n*n)} }

func (s square) row(i int) []float64 { return s.a[i*s.n : (i+1)*s.n] }

// eigen returns the eigenvalues of a symmetric matrix, largest first, and the
// eigenvectors in the rows of a square, by cyclic Jacobi rotations. It overwrites
// s. O(n³) a sweep, and some eight sweeps.
func eigen(s square) (values []float64, vectors square) {
	n := s.n
	v := newSquare(n)
	for i := range n {
		v.row(i)[i] = 1
	}
	for range 30 {
		var off, all float64
		for i := range n {
			for j, x := range s.row(i) {
				all += x * x
				if i != j {
					off += x * x
				}
			}
		}
		if off <= 1e-22*all {
			break
		}
		small := math.Sqrt(off) / float64(n) * 1e-3
		for p := range n - 1 {
			for q := p + 1; q < n; q++ {
				if math.Abs(s.row(p)[q]) > small {
					s.rotate(v, p, q)
				}
			}
		}
	}
	order := make([]int, n)
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int {
		switch x, y := s.row(a)[a], s.row(b)[b]; {
		case x > y:
			return -1
		case x < y:
			return 1
		}
		return 0
	})
	values, vectors = make([]float64, n), newSquare(n)
	for i, from := range order {
		values[i] = s.row(from)[from]
		copy(vectors.row(i), v.row(from))
	}
	return values, vectors
}

// rotate makes element p,q of s zero by a rotation, and turns v along.
func (s square) rotate(v square, p, q int) {
	a, b := s.row(p), s.row(q)
	theta := (b[q] - a[p]) / (2 * a[q])
	t := 1 / (math.Abs(theta) + math.Sqrt(theta*theta+1))
	if theta < 0 {
		t = -t
	}
	c := 1 / math.Sqrt(t*t+1)
	sn := t * c
	app, bqq, apq := a[p], b[q], a[q]
	turn(a, b, c, sn)
	a[p], b[q] = app-t*apq, bqq+t*apq
	a[q], b[p] = 0, 0
	// s is symmetric: its columns are its rows.
	for i := range s.n {
		if i != p && i != q {
			s.a[i*s.n+p], s.a[i*s.n+q] = a[i], b[i]
		}
	}
	turn(v.row(p), v.row(q), c, sn)
}

func turn(x, y []float64, c, s float64) {
	y = y[:len(x)]
	for i, xi := range x {
		yi := y[i]
		x[i], y[i] = c*xi-s*yi, s*xi+c*yi
	}
}

// orthonormalise makes the rows of v, each of dim numbers, orthonormal from first
// to last (Gram and Schmidt, modified, twice where digits were lost). A row that
// depends on those before it becomes one that does not.
func orthonormalise(v []float64, dim int) {
	for i := 0; i*dim < len(v); i++ {
		x := v[i*dim:][:dim]
		for try := 0; ; {
			before := norm64(x)
			for j := range i {
				y := v[j*dim:][:dim]
				d := dot64(x, y)
				for k := range x {
					x[k] -= d * y[k]
				}
			}
			after := norm64(x)
			if after > 1e-9*before && after > 1e-150 {
				for k := range x {
					x[k] /= after
				}
				if after > 0.5*before {
					break
				}
				continue
			}
			clear(x)
			x[(i+try)%dim] = 1
			try++
		}
	}
}

func dot64(a, b []float64) (sum float64) {
	b = b[:len(a)]
	var s0, s1, s2, s3 float64
	i := 0
	for ; i+4 <= len(a); i += 4 {
		s0 += a[i] * b[i]
		s1 += a[i+1] * b[i+1]
		s2 += a[i+2] * b[i+2]
		s3 += a[i+3] * b[i+3]
	}
	for ; i < len(a); i++ {
		s0 += a[i] * b[i]
	}
	return (s0 + s1) + (s2 + s3)
}

func norm64(x []float64) float64 { return math.Sqrt(dot64(x, x)) }
