package kmeans

import "slices"

// Sizes say how rows are spread over clusters.
type Sizes struct {
	Counts []int64 // rows of each cluster
	Empty  int     // clusters without rows
	Min    int64   // rows of the smallest, the middle and the largest cluster
	Median float64
	Max    int64
	// Imbalance is k·Σ(n_c/N)², the factor by which a search of one list looks at
	// more rows than if all were equal; 1 is balanced.
	Imbalance float64
}

func sizesOf(labels []int32, clusters int) Sizes {
	s := Sizes{Counts: make([]int64, clusters)}
	for _, c := range labels {
		s.Counts[c]++
	}
	sorted := slices.Sorted(slices.Values(s.Counts))
	s.Min, s.Max = sorted[0], sorted[clusters-1]
	s.Median = (float64(sorted[(clusters-1)/2]) + float64(sorted[clusters/2])) / 2
	for _, n := range s.Counts {
		if n == 0 {
			s.Empty++
		}
		share := float64(n) / float64(max(len(labels), 1))
		s.Imbalance += float64(clusters) * share * share
	}
	return s
}
