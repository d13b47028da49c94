package kmeans

import (
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
func split(centroids simd.Matrix, counts []int64, rng *rand.Rand) (splits int) {
	k := len(counts)
	total := int64(0)
	for _, n := range counts {
		total += n
	}
	donor := 0
	for empty, n := range counts {
		if n > 0 {
			continue
		}
		found := false
		for try := 0; try < 10*k; try++ {
			p := float64(counts[donor]-1) / float64(max(total-int64(k), 1))
			if counts[donor] > 1 && rng.Float64() < p {
				found = true
				break
			}
			donor = (donor + 1) % k
		}
		if !found {
			donor = 0
			for j, n := range counts {
				if n > counts[donor] {
					donor = j
				}
			}
		}
		if counts[donor] < 2 {
			return splits // nothing to share
		}
		apart(centroids.Row(donor), centroids.Row(empty))
		counts[empty] = counts[donor] / 2
		counts[donor] -= counts[empty]
		splits++
		donor = (donor + 1) % k
	}
	return splits
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
