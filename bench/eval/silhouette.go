package eval

import (
	"context"
	"math"

	"membank/simd"
)

// silhouette is the mean of (b−a)/max(a,b) over the rows of m (Rousseeuw 1987): a is a
// row's mean distance to the others of its cluster, b the least mean distance to
// another cluster. A row alone in its cluster has 0. The distance is 1 − cosine, or
// with euclidean ‖x−y‖. It is NaN unless there are at least two clusters, and fewer
// than rows: then it says nothing.
//
// Sums of cosines need no pairs: the cosines of u with all of a cluster add up to its
// product with their sum. That costs rows·clusters·dim operations of float64;
// euclidean ones rows²·dim. The result does not depend on threads.
func silhouette(ctx context.Context, m simd.Matrix, clusters []int64, euclidean bool, threads int) (float64, error) {
	place := map[int64]int{}
	of := make([]int, m.Rows)
	var counts []float64
	for i, c := range clusters {
		p, known := place[c]
		if !known {
			p = len(counts)
			place[c] = p
			counts = append(counts, 0)
		}
		of[i] = p
		counts[p]++
	}
	if len(counts) < 2 || len(counts) >= m.Rows {
		return math.NaN(), nil
	}
	var sums [][]float64 // of the unit rows of each cluster
	units := make([]float64, m.Rows)
	if !euclidean {
		sums = make([][]float64, len(counts))
		for c := range sums {
			sums[c] = make([]float64, m.Dim)
		}
		for i := range m.Rows {
			units[i] = 1 / max(simd.Norm(m.Row(i)), NormaliseEps)
			for d, v := range m.Row(i) {
				sums[of[i]][d] += float64(v) * units[i]
			}
		}
	}
	values := make([]float64, m.Rows)
	parallel(m.Rows, threads, func(i int) {
		if ctx.Err() != nil || counts[of[i]] == 1 {
			return
		}
		// Sums of distances to each cluster; that to itself is 0 up to rounding.
		total := make([]float64, len(counts))
		x := m.Row(i)
		if euclidean {
			for j := range m.Rows {
				total[of[j]] += math.Sqrt(float64(simd.SquaredDistance(x, m.Row(j))))
			}
		} else {
			self := 0.0
			for _, v := range x {
				self += float64(v) * units[i] * float64(v) * units[i]
			}
			for c, sum := range sums {
				cosines := 0.0
				for d, v := range x {
					cosines += float64(v) * units[i] * sum[d]
				}
				total[c] = counts[c] - cosines
			}
			total[of[i]] -= 1 - self
		}
		a, b := total[of[i]]/(counts[of[i]]-1), math.Inf(1)
		for c, sum := range total {
			if c != of[i] {
				b = min(b, sum/counts[c])
			}
		}
		if most := max(a, b); most > 0 {
			values[i] = (b - a) / most
		}
	})
	if ctx.Err() != nil {
		return 0, context.Cause(ctx)
	}
	sum := 0.0
	for _, v := range values {
		sum += v
	}
	return sum / float64(m.Rows), nil
}
