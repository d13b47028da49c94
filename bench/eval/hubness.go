package eval

import (
	"math"
	"slices"
)

// Hubness says how unequally rows occur among the k nearest neighbours of the
// others: N(x) is how many rows have x among theirs, k on average. Many SSL spaces
// have hubs, which are everybody's neighbour and spoil kNN votes.
type Hubness struct {
	Skew         float64 // m₃/m₂^1.5 of N, population moments (Radovanović et al. 2010)
	SkewUnbiased float64 // the same with the correction for the number of rows; NaN below 3 rows
	MaxCount     int64   // the largest N
	Antihubs     float64 // share of rows with N = 0
	HubShare     float64 // of all neighbour places, those that rows with N ≥ 2k hold
	RobinHood    float64 // ½Σ|N−k|/ΣN: the share to be taken from hubs to make all equal
	Groupie      float64 // the most that one row holds of its places: max N/(rows·k)
	Gini         float64 // of N: 0 all equal, towards 1 one row has everything
	Atkinson     float64 // of N, ε = 0.5
}

// NewHubness computes it from counts[x] = N(x); k is the number of neighbours that
// each row has. Skew is 0 when all counts are equal. Definitions are those of
// scikit-hubness. counts is left as it is.
func NewHubness(counts []int64, k int) Hubness {
	n := float64(len(counts))
	var h Hubness
	var sum, rootSum float64
	for _, c := range counts {
		sum += float64(c)
		rootSum += math.Sqrt(float64(c))
		h.MaxCount = max(h.MaxCount, c)
	}
	mean := sum / n
	var m2, m3, robin, hubs, antihubs float64
	for _, c := range counts {
		d := float64(c) - mean
		m2 += d * d
		m3 += d * d * d
		robin += math.Abs(float64(c) - float64(k))
		if c == 0 {
			antihubs++
		}
		if c >= int64(2*k) {
			hubs += float64(c)
		}
	}
	m2, m3 = m2/n, m3/n
	if m2 > 0 {
		h.Skew = m3 / math.Pow(m2, 1.5)
	}
	h.SkewUnbiased = math.NaN()
	if n > 2 {
		h.SkewUnbiased = h.Skew * math.Sqrt(n*(n-1)) / (n - 2)
	}
	h.Antihubs = antihubs / n
	h.HubShare, h.RobinHood = hubs/sum, robin/2/sum
	h.Groupie = float64(h.MaxCount) / (n * float64(k))
	h.Gini = gini(counts, sum)
	h.Atkinson = 1 - (rootSum/n)*(rootSum/n)/mean
	return h
}

// gini is Σᵢ(2i−n−1)·xᵢ / (n·Σx) over the sorted x, i from 1.
func gini(counts []int64, sum float64) float64 {
	sorted := slices.Clone(counts)
	slices.Sort(sorted)
	n := float64(len(sorted))
	weighted := 0.0
	for i, c := range sorted {
		weighted += (2*float64(i+1) - n - 1) * float64(c)
	}
	return weighted / (n * sum)
}

// figures adds them under the prefix.
func (h Hubness) figures(f *Figures, prefix string) {
	f.number(prefix+"skew_biased", h.Skew, "0 no hubs; above 1.4 noticeable (Radovanović et al. 2010)")
	f.number(prefix+"skew_unbiased", h.SkewUnbiased, "")
	f.add(prefix+"max_count", h.MaxCount, "occurrences of the greatest hub; k on average")
	f.number(prefix+"antihub_frac", h.Antihubs, "share of rows that are nobody's neighbour")
	f.number(prefix+"hub_share", h.HubShare, "share of neighbour places held by rows with 2k or more")
	f.number(prefix+"robin_hood", h.RobinHood, "share of places to move until all are equal")
	f.number(prefix+"groupie", h.Groupie, "share of rows' places that the greatest hub holds")
	f.number(prefix+"gini", h.Gini, "0 equal, 1 one row has all")
	f.number(prefix+"atkinson", h.Atkinson, "0 equal, 1 one row has all; epsilon 0.5")
}
