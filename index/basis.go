package index

import (
	"math"

	"membank/simd"
)

// A Basis is what the codes of a bank have in common: the mean of its unit rows,
// and the directions in which they vary most, learnt from a sample. Codes are the
// coordinates of a row in it, in steps of the row's own scale, and what the
// directions do not hold is kept as a norm; see codes.go for the codes and
// cascade.go for what a search proves with them. No property of the rows is
// assumed: a basis that suits them badly makes a search slow, not wrong.
//
// A Basis does not change and is safe for concurrent use.
type Basis struct {
	dim   int
	mean  []float32   // μ [dim], the mean of x/‖x‖
	rows  simd.Matrix // P [rank][dim], orthonormal within delta, by falling variance
	delta float64     // ≥ ‖PPᵀ−I‖₂
	first int         // dims of the first stage, a multiple of simd.CodeGroup
	dims  int         // of the second; ≥ rank and first, a multiple of dimStep, > headDims

	id       uint32     // checksum of the encoded basis: codes name theirs
	onto     products   // P, and behind it μ
	offset   []float64  // Pμ [rank]
	rounded  []float32  // offset
	meanNorm float64    // ‖μ‖, rounded up
	meanSq   [2]float64 // ‖μ‖², rounded down and up
}

const (
	maxRank = 512
	dimStep = 16
)

// Dims returns how many dims the two stages of the codes have.
func (b *Basis) Dims() (first, second int) { return b.first, b.dims }

// Directions returns how many directions of the rows' space the basis holds.
func (b *Basis) Directions() int { return b.rows.Rows }

// finish computes all that follows from what is stored.
func (b *Basis) finish(id uint32) {
	b.id = id
	all := simd.NewMatrix(b.rows.Rows+1, b.dim)
	copy(all.Data, b.rows.Data[:b.rows.Rows*b.dim])
	copy(all.Row(b.rows.Rows), b.mean)
	b.onto = newProducts(all)
	b.offset = make([]float64, b.rows.Rows)
	b.rounded = make([]float32, b.rows.Rows)
	mean := widened(b.mean)
	row := make([]float64, b.dim)
	for i := range b.offset {
		for d, x := range b.rows.Row(i) {
			row[d] = float64(x)
		}
		b.offset[i] = dot64(row, mean)
		b.rounded[i] = float32(b.offset[i])
	}
	sq := dot64(mean, mean)
	b.meanNorm = math.Sqrt(sq) * (1 + float)
	b.meanSq = [2]float64{sq * (1 - float), sq * (1 + float)}
}

// measureDelta returns the Frobenius norm of PPᵀ−I, rounded up: no less than the
// spectral norm.
func measureDelta(rows simd.Matrix, threads int) float64 {
	wide := widened(rows.Data[:rows.Rows*rows.Dim])
	squares := make([]float64, rows.Rows)
	parallel(threads, rows.Rows, func() func(int) {
		return func(i int) {
			for j := range i + 1 {
				e := dot64(wide[i*rows.Dim:][:rows.Dim], wide[j*rows.Dim:][:rows.Dim])
				if i == j {
					squares[i] += (e - 1) * (e - 1)
				} else {
					squares[i] += 2 * e * e
				}
			}
		}
	})
	sum := 0.0
	for _, s := range squares {
		sum += s
	}
	// Each of the rank² products has an error below (dim+2)·2⁻⁵³.
	return math.Sqrt(sum)*(1+float) + float64(rows.Rows)*float64(rows.Dim+2)*0x1p-52
}

func widened(x []float32) []float64 {
	wide := make([]float64, len(x))
	for i, v := range x {
		wide[i] = float64(v)
	}
	return wide
}
