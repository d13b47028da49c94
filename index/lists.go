package index

import (
	"encoding/binary"
	"fmt"
	"math"

	"membank/simd"
)

// Lists says how the rows of a bank are grouped. Every row belongs to one list:
// that of its nearest centroid when it was assigned, or, if it lies farther from
// that centroid than any row did when the lists were built, to the list of strays,
// whose number is behind the others and which every search reads. So what is said
// here of a list stays true for all rows that ever come to it, while the centroids
// stay.
//
// Rows are compared with centroids as the metric sees them: y = x/‖x‖ for cosine,
// y = x otherwise. A Lists does not change while an Index uses it.
type Lists struct {
	Metric    Metric
	Seed      uint64
	Centroids simd.Matrix // [lists][dim]; of length 1 for cosine, or 0
	Rows      []int64     // of each list when it was built
	// Near is the mean of ⟨y,c⟩ over a list (cosine), or of ‖y−c‖² (dot, L2).
	Near []float32
	// Radius is the largest angle between a row of a list and its centroid
	// (cosine, radians), or their largest distance, and a tenth more.
	Radius []float32
	Tuned  []Tuning // by K, then Recall
}

// Tuning says how a recall is reached for up to K neighbours, as found on queries
// whose exact answers were known, and what came out for other ones.
type Tuning struct {
	K      int
	Recall float64 // that was asked for
	// Probes is the least number of lists for all queries that has this
	// recall.
	Probes int
	// Reach and Most are how a search for a recall stops for each query by
	// itself: of the Most nearest lists it reads those whose best rows would
	// reach the floor if they lay Reach standard deviations above the mean.
	Reach   float64
	Most    int
	Lists   float64 // read by a query, in the mean
	Measure Measure // of a search for this recall
}

// Measure is a recall that was measured: the share of the exact answers' rows that
// a search found, K a query.
type Measure struct {
	Recall  float64
	K       int
	Queries int
	Own     bool // queries of the user; otherwise rows of the bank
}

// Count is the number of lists that have a centroid: nlist.
func (l *Lists) Count() int { return l.Centroids.Rows }

// Strays is the number of the list of strays.
func (l *Lists) Strays() int { return l.Centroids.Rows }

// ListCount is the nlist of a bank whose store has stored lists, 1 if it is flat.
func ListCount(stored int) int { return max(1, stored-1) }

// The record of the lists, little endian; n lists of dim dimensions:
//
//	 0  magic "mblists1"
//	 8  uint32 metric, n, dim, tunings
//	24  uint64 seed
//	32  tunings: uint32 k, probes, most, queries, own | float64 recall, reach,
//	    lists, measured recall
//	 .  uint64 rows[n]
//	 .  float32 near[n], radius[n]
//	 .  float32 centroids[n][dim]
//
// The store keeps a checksum of it.
const (
	listsMagic  = "mblists1"
	listsHeader = 32
	tuningBytes = 5*4 + 4*8
	// mostLists and mostTunings are what a record may hold.
	mostLists   = 1 << 24
	mostTunings = 4096
)

func listsBytes(n, dim, tunings int) int64 {
	return listsHeader + tuningBytes*int64(tunings) + int64(n)*(16+4*int64(dim))
}

// Encode returns the record of l, for store.DB.Group.
func (l *Lists) Encode() []byte {
	n, dim := l.Count(), l.Centroids.Dim
	b := make([]byte, 0, listsBytes(n, dim, len(l.Tuned)))
	b = append(b, listsMagic...)
	for _, v := range []int{int(l.Metric), n, dim, len(l.Tuned)} {
		b = binary.LittleEndian.AppendUint32(b, uint32(v))
	}
	b = binary.LittleEndian.AppendUint64(b, l.Seed)
	for _, t := range l.Tuned {
		own := 0
		if t.Measure.Own {
			own = 1
		}
		for _, v := range []int{t.K, t.Probes, t.Most, t.Measure.Queries, own} {
			b = binary.LittleEndian.AppendUint32(b, uint32(v))
		}
		for _, v := range []float64{t.Recall, t.Reach, t.Lists, t.Measure.Recall} {
			b = binary.LittleEndian.AppendUint64(b, math.Float64bits(v))
		}
	}
	for _, v := range l.Rows {
		b = binary.LittleEndian.AppendUint64(b, uint64(v))
	}
	for _, part := range [][]float32{l.Near, l.Radius, l.Centroids.Data[:n*dim]} {
		for _, v := range part {
			b = binary.LittleEndian.AppendUint32(b, math.Float32bits(v))
		}
	}
	return b
}

// DecodeLists is the inverse of Encode. Its error is an ErrLists.
func DecodeLists(b []byte) (*Lists, error) {
	if len(b) < listsHeader || string(b[:8]) != listsMagic {
		return nil, fmt.Errorf("%w: no lists in %d bytes", ErrLists, len(b))
	}
	var head [4]int
	for i := range head {
		head[i] = int(binary.LittleEndian.Uint32(b[8+4*i:]))
	}
	metric, n, dim, tunings := head[0], head[1], head[2], head[3]
	if metric >= len(metricNames) || n < 1 || n > mostLists || dim < 1 || tunings > mostTunings ||
		listsBytes(n, dim, tunings) != int64(len(b)) {
		return nil, fmt.Errorf("%w: %d lists of %d dimensions, metric %d, in %d bytes", ErrLists, n, dim, metric, len(b))
	}
	l := &Lists{Metric: Metric(metric), Seed: binary.LittleEndian.Uint64(b[24:])}
	b = b[listsHeader:]
	word := func() (v int) {
		v = int(binary.LittleEndian.Uint32(b))
		b = b[4:]
		return v
	}
	long := func() (v uint64) {
		v = binary.LittleEndian.Uint64(b)
		b = b[8:]
		return v
	}
	for range tunings {
		t := Tuning{K: word(), Probes: word(), Most: word()}
		t.Measure.K, t.Measure.Queries, t.Measure.Own = t.K, word(), word() != 0
		t.Recall, t.Reach = math.Float64frombits(long()), math.Float64frombits(long())
		t.Lists, t.Measure.Recall = math.Float64frombits(long()), math.Float64frombits(long())
		if t.K < 1 || t.Most < 1 || t.Probes < 1 || !(t.Recall > 0 && t.Recall <= 1) || t.Reach != t.Reach {
			return nil, fmt.Errorf("%w: tuning %+v", ErrLists, t)
		}
		l.Tuned = append(l.Tuned, t)
	}
	l.Rows = make([]int64, n)
	for i := range l.Rows {
		l.Rows[i] = int64(long())
	}
	floats := func(n int) []float32 {
		to := make([]float32, n)
		for i := range to {
			to[i] = math.Float32frombits(uint32(word()))
		}
		return to
	}
	l.Near, l.Radius = floats(n), floats(n)
	l.Centroids = simd.Matrix{Data: floats(n * dim), Rows: n, Dim: dim}
	for i := range n {
		if norm := simd.Norm(l.Centroids.Row(i)); math.IsNaN(norm) || math.IsInf(norm, 0) || !(l.Radius[i] >= 0) || l.Near[i] != l.Near[i] {
			return nil, fmt.Errorf("%w: list %d holds NaN or Inf", ErrLists, i)
		} else if l.Metric == Cosine && norm != 0 && math.Abs(norm-1) > 1e-3 {
			return nil, fmt.Errorf("%w: the centroid of list %d has length %g, not 1", ErrLists, i, norm)
		}
	}
	return l, nil
}

// tuning finds what is known for a recall and k: the tuning with the smallest K and
// Recall that are no less. known is false if there is none, and then Reach says
// nothing: a search reads all lists.
func (l *Lists) tuning(recall float64, k int) (best Tuning, known bool) {
	for _, t := range l.Tuned {
		if t.K < k || t.Recall < recall {
			continue
		}
		if !known || t.K < best.K || t.K == best.K && t.Recall < best.Recall {
			best, known = t, true
		}
	}
	return best, known
}

// A list is judged by the score s of its centroid for a query, an internal score
// of the metric: ⟨q,c⟩, with q of length 1 for cosine, or −‖q−c‖².

// reaches estimates the score of list's rows that lie z standard deviations above
// the mean, for a query of that norm. Residuals y−c are taken to have no direction
// of their own.
func (l *Lists) reaches(list int, s, norm, z float64) float64 {
	near := float64(l.Near[list])
	switch l.Metric {
	case Cosine:
		return s*near + z*math.Sqrt(max(0, 1-s*s)*max(0, 1-near*near))
	case Dot:
		return s + z*norm*math.Sqrt(near)
	}
	return s - near + 2*z*math.Sqrt(max(0, -s)*near)
}

// deviations is the z at which a list reaches a score: the inverse of reaches.
func (l *Lists) deviations(list int, s, norm, score float64) float64 {
	mean := l.reaches(list, s, norm, 0)
	if score <= mean {
		return 0
	}
	one := l.reaches(list, s, norm, 1) - mean
	if one <= 0 {
		return math.Inf(1)
	}
	return (score - mean) / one
}

// bound is a score that no row of the list exceeds, for a query of that norm.
//
// With α the angle between q and c and ρ ≥ that between c and y, the angle between
// q and y is α−ρ at least, so a cosine is at most cos(max(0, α−ρ)). For dot
// ⟨q,y⟩ = ⟨q,c⟩ + ⟨q,y−c⟩ ≤ ⟨q,c⟩ + ‖q‖R, for L2 ‖q−y‖ ≥ ‖q−c‖ − R.
//
// Rounding. s errs by γ(‖q‖‖c‖) or γs (bound.go), as does the row's own score; c, q
// and y for cosine have lengths within 2⁻²⁰ of 1 (simd.Normalize; a scale is
// rounded to float32), which moves their products by as much. margin is four times
// the sum of these: (4n+64)u relative to the largest product there can be.
func (l *Lists) bound(list int, s, norm, rowNorm float64) float64 {
	radius := float64(l.Radius[list])
	margin := 4 * (float64(l.Centroids.Dim) + 64) * unit
	switch l.Metric {
	case Cosine:
		if norm < 0.999 {
			return math.Inf(1) // a query too small to be brought to length 1
		}
		angle := math.Acos(min(1, s+margin)) - radius
		return math.Cos(max(0, angle)) + margin
	case Dot:
		return s + norm*radius + margin*norm*(rowNorm+radius)
	}
	d := math.Sqrt(max(0, -s)*(1-margin)) - radius
	return -max(0, d)*max(0, d)*(1-margin) + 1e-37
}
