package kmeans

import (
	"math"

	"membank/simd"
)

// update moves the centroids that have rows to the mean of them; if spherical, to
// the direction of the mean. Others, and those whose rows cancel out, stay.
func (r *run) update(centroids simd.Matrix) {
	dim := centroids.Dim
	for c, n := range r.counts {
		if n == 0 {
			continue
		}
		sum := r.sums[c*dim:][:dim]
		by := float64(n)
		if r.o.Spherical {
			sq := 0.0
			for _, x := range sum {
				sq += x * x
			}
			// Beneath that the direction is rounding.
			if by = math.Sqrt(sq); by <= 1e-7*float64(n) {
				continue
			}
		}
		row := centroids.Row(c)
		for d, x := range sum {
			row[d] = float32(x / by)
		}
	}
}

// reset empties the sums.
func (r *run) reset() {
	clear(r.sums)
	clear(r.counts)
}
