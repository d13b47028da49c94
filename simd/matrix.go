package simd

import "fmt"

// A Matrix is Rows vectors of Dim floats, row after row:
//
//	row i = Data[i*Dim : (i+1)*Dim]
//
// It is what people bring and take away; kernels read panels (see Pack). A Matrix
// is three words: pass it by value, it shares Data. Data may be longer than
// Rows*Dim; what follows the last row is never read.
type Matrix struct {
	Data []float32
	Rows int
	Dim  int
}

// NewMatrix returns a zeroed matrix of rows × dim floats.
func NewMatrix(rows, dim int) Matrix {
	if rows < 0 || dim < 0 {
		panic(fmt.Sprintf("simd: matrix of %d × %d", rows, dim))
	}
	return Matrix{Data: make([]float32, rows*dim), Rows: rows, Dim: dim}
}

// Row returns row i, in place. Its capacity ends where the row ends, so that an
// append cannot run into the next one.
func (m Matrix) Row(i int) []float32 {
	if uint(i) >= uint(m.Rows) {
		panic(fmt.Sprintf("simd: row %d of %d", i, m.Rows))
	}
	return m.Data[i*m.Dim : (i+1)*m.Dim : (i+1)*m.Dim]
}

// Slice returns rows [from, to), in place.
func (m Matrix) Slice(from, to int) Matrix {
	if from < 0 || from > to || to > m.Rows {
		panic(fmt.Sprintf("simd: rows %d to %d of %d", from, to, m.Rows))
	}
	return Matrix{Data: m.Data[from*m.Dim : to*m.Dim], Rows: to - from, Dim: m.Dim}
}

// check panics if Data cannot hold the rows the matrix claims.
func (m Matrix) check() {
	if m.Rows < 0 || m.Dim < 0 || len(m.Data) < m.Rows*m.Dim {
		panic(fmt.Sprintf("simd: matrix of %d × %d over %d floats", m.Rows, m.Dim, len(m.Data)))
	}
}
