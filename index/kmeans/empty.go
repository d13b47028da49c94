package kmeans

import (
	"math"
	"math/rand/v2"

	"membank/simd"
)

// nudge is how far the two halves of a split cluster start from each other: each
// coordinate by this share of itself, one up, the other down, in turn.
const nudge = 1.0 / 1024

// split gives every empty cluster half of another one, as faiss does: clusters are
// asked one after another, around and around, and cluster j of n_j rows agrees with
// probability (n_j−1)/(n−k), so that large ones are split more often; after 10·k
// refusals the largest is. Both go on from the centroid of the one, a little apart.
// It returns the number of splits. The random numbers begin anew in every
// iteration, so that a run that changes nothing is at its end.
//
// Clusters that are points (see points) and those of one row have nothing to share;
// where there are only such the others stay empty. A nil point means there are none.
func split(centroids simd.Matrix, counts []int64, point []bool, rng *rand.Rand) (splits int) {
	k := len(counts)
	total := int64(0)
	for _, n := range counts {
		total += n
	}
	shares := func(j int) bool { return counts[j] > 1 && (point == nil || !point[j]) }
	donor := 0
	for empty, n := range counts {
		if n > 0 {
			continue
		}
		largest := -1
		for j, n := range counts {
			if shares(j) && (largest < 0 || n > counts[largest]) {
				largest = j
			}
		}
		if largest < 0 {
			return splits
		}
		found := false
		for try := 0; try < 10*k; try++ {
			p := float64(counts[donor]-1) / float64(max(total-int64(k), 1))
			if shares(donor) && rng.Float64() < p {
				found = true
				break
			}
			donor = (donor + 1) % k
		}
		if !found {
			donor = largest
		}
		if point != nil {
			point[empty] = false
		}
		apart(centroids.Row(donor), centroids.Row(empty))
		counts[empty] = counts[donor] / 2
		counts[donor] -= counts[empty]
		splits++
		donor = (donor + 1) % k
	}
	return splits
}

// points says which clusters hold nothing but equal rows, up to the rounding of
// float32: no centroid is nearer to any of them, and half of such a cluster would be
// all of it or nothing, in turn, for ever. Clusters without a row among those of the
// last pass are points, too.
func (r *run) points(centroids simd.Matrix) []bool {
	// Of the square of their length, what lies between a row and the mean of rows
	// that equal it; and the error of a cosine of unit vectors.
	mean, cosine := 0x1p-44, 8*math.Sqrt(float64(centroids.Dim))*0x1p-24
	within := make([]float64, centroids.Rows)
	for c := range within {
		within[c] = 2 * cosine
		if !r.o.Spherical {
			n := simd.Norm(centroids.Row(c))
			within[c] = mean * n * n
		}
	}
	point := make([]bool, centroids.Rows)
	for c := range point {
		point[c] = true
	}
	for i, c := range r.labels {
		if c >= 0 && r.squared(r.scores[i]) > within[c] {
			point[c] = false
		}
	}
	return point
}

// apart sets two centroids a little to this and to that side of the first.
func apart(from, to []float32) {
	for d, x := range from {
		up, down := x*(1+nudge), x*(1-nudge)
		if d%2 == 1 {
			up, down = down, up
		}
		to[d], from[d] = up, down
	}
}
