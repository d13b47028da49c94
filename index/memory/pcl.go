package memory

import (
	"context"
	"fmt"
	"math"
	"slices"

	"membank/simd"
)

// Concentrations are PCL's temperatures of clusters (Li et al. 2021). labels says
// which centroid each row belongs to.
//
//	φ_c = mean‖x−c‖ / log(n_c+10)
//
// A cluster of one row or none gets the largest φ; then all are clipped to the 10th
// and 90th percentile (linearly interpolated, as numpy does) and scaled to a mean of
// t, 0 being 0.2.
func Concentrations(rows simd.Matrix, labels []int64, centroids simd.Matrix, t float64) ([]float64, error) {
	if rows.Dim != centroids.Dim || len(labels) != rows.Rows || centroids.Rows < 1 {
		return nil, fmt.Errorf("%w: %d rows of %d dimensions, %d labels, %d centroids of %d", ErrOptions,
			rows.Rows, rows.Dim, len(labels), centroids.Rows, centroids.Dim)
	}
	s := newSpread(centroids)
	for i, c := range labels {
		if err := s.add(int64(i), rows.Row(i), c); err != nil {
			return nil, err
		}
	}
	return s.concentrations(t)
}

// spread sums the distances of rows from their centroids.
type spread struct {
	centroids simd.Matrix
	distances []float64
	members   []float64
}

func newSpread(centroids simd.Matrix) *spread {
	return &spread{centroids: centroids, distances: make([]float64, centroids.Rows), members: make([]float64, centroids.Rows)}
}

func (s *spread) add(id int64, row []float32, c int64) error {
	if c < 0 || c >= int64(s.centroids.Rows) {
		return fmt.Errorf("%w: row %d is of cluster %d of %d", ErrOptions, id, c, s.centroids.Rows)
	}
	square, centroid := 0.0, s.centroids.Row(int(c))
	for d, x := range row {
		e := float64(x) - float64(centroid[d])
		square += e * e
	}
	s.distances[c] += math.Sqrt(square)
	s.members[c]++
	return nil
}

func (s *spread) concentrations(t float64) ([]float64, error) {
	if t == 0 {
		t = 0.2
	}
	if !(t > 0) || math.IsInf(t, 0) {
		return nil, fmt.Errorf("%w: temperature %v (above 0)", ErrOptions, t)
	}
	phi := s.distances
	for c, n := range s.members {
		if phi[c] /= math.Log(n+10) * max(n, 1); n <= 1 {
			phi[c] = 0
		}
	}
	largest := slices.Max(phi)
	for c, n := range s.members {
		if n <= 1 {
			phi[c] = largest
		}
	}
	sorted := slices.Sorted(slices.Values(phi))
	low, high, mean := percentile(sorted, 0.1), percentile(sorted, 0.9), 0.0
	for c := range phi {
		phi[c] = min(max(phi[c], low), high)
		mean += phi[c] / float64(len(phi))
	}
	if !(mean > 0) {
		return nil, fmt.Errorf("%w: every row lies on its centroid, so no temperature can be told", ErrRows)
	}
	for c := range phi {
		phi[c] *= t / mean
	}
	return phi, nil
}

// percentile of sorted numbers, linear between them.
func percentile(sorted []float64, share float64) float64 {
	at := share * float64(len(sorted)-1)
	i := int(at)
	if i+1 >= len(sorted) {
		return sorted[len(sorted)-1]
	}
	return sorted[i] + (at-float64(i))*(sorted[i+1]-sorted[i])
}

// PrototypeLoss is PCL's loss of one clustering: cross-entropy of each anchor's
// scores with its own prototype (column 0) and negative ones, each divided by the
// concentration of its prototype. scores is [B][1+r], prototypes the number of the
// prototype behind each score.
func PrototypeLoss(scores simd.Matrix, prototypes [][]int64, concentrations []float64) (Loss, error) {
	if err := checkScores(scores, 1); err != nil {
		return Loss{}, err
	}
	if len(prototypes) != scores.Rows {
		return Loss{}, fmt.Errorf("%w: %d lines of prototypes for %d of scores", ErrOptions, len(prototypes), scores.Rows)
	}
	scaled := simd.NewMatrix(scores.Rows, scores.Dim)
	each := make([]float64, scores.Rows)
	for i, line := range prototypes {
		if len(line) != scores.Dim {
			return Loss{}, fmt.Errorf("%w: %d prototypes for %d scores of anchor %d", ErrOptions, len(line), scores.Dim, i)
		}
		var sum runningSum
		own := 0.0
		for j, p := range line {
			if p < 0 || p >= int64(len(concentrations)) || !(concentrations[p] > 0) {
				return Loss{}, fmt.Errorf("%w: prototype %d of %d, or its concentration is not positive", ErrOptions, p, len(concentrations))
			}
			x := float64(scores.Row(i)[j]) / concentrations[p]
			scaled.Row(i)[j] = float32(x)
			sum.add(x)
			if j == 0 {
				own = x
			}
		}
		each[i] = sum.log() - own
	}
	at := -1
	return eachAnchor(scaled, func([]float32) float64 { at++; return each[at] }), nil
}

// NegativePrototypes draws n of so many prototypes without repetition and without
// those that are positives of the batch: PCL's r = 16,384. The draw is a function of
// seed, step and the positives. ErrEmpty if fewer are left.
func NegativePrototypes(ctx context.Context, prototypes int64, positives []int64, n int, seed uint64, step int64) ([]int64, error) {
	o := SampleOptions{N: n, Step: step, Anchors: 1, Distinct: true, Exclude: positives}
	for _, p := range positives {
		if p < 0 || p >= prototypes {
			return nil, fmt.Errorf("%w: prototype %d of %d", ErrID, p, prototypes)
		}
	}
	lines, err := drawLines(ctx, seed, prototypes, func(int64) bool { return true }, o)
	if err != nil {
		return nil, err
	}
	return lines[0], nil
}
