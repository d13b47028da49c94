package eval

import (
	"context"
	"math"

	"membank/simd"
	"membank/store"
)

// Pairs is what the cosines of all pairs of some rows say.
type Pairs struct {
	Uniform float64 // log mean exp(−2‖u−u′‖²) of different rows, u = x/‖x‖: 0 when all are equal
	// Rows of one class with each other, and with rows of other classes; rows
	// without a label are in neither.
	Same, Other         Histogram
	SameMean, OtherMean float64 // NaN where there is no such pair
}

// AllPairs compares all pairs of the rows of m, two at least; labels may be nil. It
// computes in float64: the cosines of a collapsed bank differ where float32 ends.
// The cost is 2·rows²·dim, half of it for nothing, and an exponential a pair.
func AllPairs(ctx context.Context, m simd.Matrix, labels []int64, threads int) (*Pairs, error) {
	u := unitColumns(m, threads)
	lengths := squaredLengths(u)
	type line struct{ uniform, same, other float64 }
	lines := make([]line, m.Rows)
	histograms := make([][2]Histogram, max(threads, 1))
	err := eachProducts(ctx, []strips{u}, u, threads, func(w, first, n int, products [2][][]float64) {
		for i := range n {
			at, l := first+i, &lines[first+i]
			for j := at + 1; j < m.Rows; j++ {
				c := products[0][i][j]
				l.uniform += math.Exp(-2 * max(0, lengths[at]+lengths[j]-2*c))
				switch {
				case labels == nil || labels[at] == store.NoLabel || labels[j] == store.NoLabel:
				case labels[at] == labels[j]:
					l.same += c
					histograms[w][0].add(c)
				default:
					l.other += c
					histograms[w][1].add(c)
				}
			}
		}
	})
	if err != nil {
		return nil, err
	}
	p := &Pairs{}
	for i := range histograms {
		p.Same.join(&histograms[i][0])
		p.Other.join(&histograms[i][1])
	}
	for _, l := range lines {
		p.Uniform += l.uniform
		p.SameMean += l.same
		p.OtherMean += l.other
	}
	n := float64(m.Rows)
	p.Uniform = math.Log(p.Uniform / (n * (n - 1) / 2))
	p.SameMean /= float64(p.Same.count())
	p.OtherMean /= float64(p.Other.count())
	return p, nil
}

func (h *Histogram) count() (n int64) {
	for _, c := range h.Counts {
		n += c
	}
	return n
}
