package eval

import (
	"context"
	"math"

	"membank/simd"
)

// Contrast is what contrastive losses say of stored pairs of views, all in float64:
// view i of the first set belongs to view i of the second.
type Contrast struct {
	Pairs int

	Align2, Align1 float64    // mean ‖x−y‖^α of the pairs, unit rows
	Uniform        [2]float64 // log mean exp(−2‖x−x′‖²) of each set
	PositiveCosine float64    // mean of the pairs
	NegativeCosine float64    // mean of an anchor with the other rows of the second set
	NegativeVar    float64    // variance of an anchor's negatives, mean over anchors
	Retrieved      float64    // share of first views whose nearest second view is their own

	Losses []ContrastLoss // by temperature

	Positive, Negative Histogram // cosines of pairs, and of anchors with other rows
}

// ContrastLoss are the losses at one temperature, in nats.
type ContrastLoss struct {
	T        float64
	NTXent   float64    // SimCLR: 2·Pairs anchors, 2·Pairs−1 candidates
	InfoNCE  [2]float64 // first view to the second ones, and back; Pairs candidates
	ReLIC    float64    // mean KL(p(·|x) ‖ p(·|y)): the views' distributions over the other set
	MeanPos  float64    // mean e^{cosine/T} of the pairs
	MeanNegs float64    // mean e^{cosine/T} of an anchor with the other rows of the second set
}

// Symmetric is the mean of the two directions of InfoNCE.
func (l ContrastLoss) Symmetric() float64 { return (l.InfoNCE[0] + l.InfoNCE[1]) / 2 }

// Histogram counts cosines: Counts[i] from −1+i/50 to −1+(i+1)/50.
type Histogram struct{ Counts [100]int64 }

func (h *Histogram) add(cosine float64) {
	h.Counts[min(max(int(math.Floor((cosine+1)*50)), 0), 99)]++
}

func (h *Histogram) join(o *Histogram) {
	for i, n := range o.Counts {
		h.Counts[i] += n
	}
}

func (h Histogram) list() []float64 {
	v := make([]float64, len(h.Counts))
	for i, n := range h.Counts {
		v[i] = float64(n)
	}
	return v
}

// anchor is what one pair contributes; means are taken over them in order.
type anchor struct {
	distance  float64 // squared
	positive  float64
	negatives [2]float64 // mean and variance of the cosines of other rows
	uniform   [2]float64 // Σ over later rows of the own set
	retrieved bool
	losses    []ContrastLoss
}

// Contrasts compares two sets of views of the same rows, each at least two. Rows are
// L2-normalised first; a zero row stays zero. All pairs of rows are compared, so the
// cost is 8·pairs²·dim and some exponentials for each pair and temperature; beside
// strips of both sets it holds some hundred bytes a pair. It does not depend on
// threads. ctx ends it.
func Contrasts(ctx context.Context, first, second simd.Matrix, temperatures []float64, threads int) (*Contrast, error) {
	n := first.Rows
	both := newStrips(first.Dim, 2*n)
	sets := [2]strips{unitColumns(first, threads), unitColumns(second, threads)}
	spread(threads, n, func(_, i int) {
		for v, m := range []simd.Matrix{first, second} {
			x := m.Row(i)
			both.setColumn(v*n+i, x, 1/max(simd.Norm(x), NormaliseEps))
		}
	})
	anchors := make([]anchor, n)
	histograms := make([][2]Histogram, max(threads, 1))
	lengths := squaredLengths(both)
	err := eachProducts(ctx, sets[:], both, threads, func(w, at, count int, products [2][][]float64) {
		for i := range count {
			anchors[at+i] = newAnchor(at+i, n, products[0][i], products[1][i], lengths, temperatures, &histograms[w])
		}
	})
	if err != nil {
		return nil, err
	}
	return summarise(anchors, temperatures, histograms), nil
}

// squaredLengths are 1, or 0 for a zero row, of each column.
func squaredLengths(s strips) []float64 {
	lengths := make([]float64, s.columns)
	for c := range lengths {
		at := c/simd.StripColumns*s.rows*simd.StripColumns + c%simd.StripColumns
		for r := range s.rows {
			v := s.data[at+r*simd.StripColumns]
			lengths[c] += v * v
		}
	}
	return lengths
}

// newAnchor is pair i of n; a and b are the cosines of its two views with all first
// views and then all second ones.
func newAnchor(i, n int, a, b, lengths, temperatures []float64, h *[2]Histogram) anchor {
	out := anchor{positive: a[n+i], retrieved: true, losses: make([]ContrastLoss, len(temperatures))}
	out.distance = max(0, lengths[i]+lengths[n+i]-2*a[n+i])
	h[0].add(a[n+i])
	mean := 0.0
	for j, c := range a[n:] {
		if j == i {
			continue
		}
		mean += c
		h[1].add(c)
		if c > a[n+i] || c == a[n+i] && j < i {
			out.retrieved = false
		}
	}
	mean /= float64(n - 1)
	out.negatives[0] = mean
	for j, c := range a[n:] {
		if j != i {
			out.negatives[1] += (c - mean) * (c - mean) / float64(n-1)
		}
	}
	for j := i + 1; j < n; j++ {
		out.uniform[0] += math.Exp(-2 * max(0, lengths[i]+lengths[j]-2*a[j]))
		out.uniform[1] += math.Exp(-2 * max(0, lengths[n+i]+lengths[n+j]-2*b[n+j]))
	}
	for t, temperature := range temperatures {
		out.losses[t] = anchorLoss(i, n, a, b, temperature)
	}
	return out
}

// anchorLoss sums exponentials of (cosine−1)/T: none overflows, and the best of an
// anchor's own is no smaller than e^{−2/T}.
func anchorLoss(i, n int, a, b []float64, t float64) (l ContrastLoss) {
	var exps [2][2]float64 // of view a, view b; over first, second views
	for v, row := range [2][]float64{a, b} {
		for set := range 2 {
			for _, c := range row[set*n:][:n] {
				exps[v][set] += math.Exp((c - 1) / t)
			}
		}
	}
	self := [2]float64{math.Exp((a[i] - 1) / t), math.Exp((b[n+i] - 1) / t)}
	positive := (a[n+i] - 1) / t
	l.T = t
	for v := range 2 {
		l.NTXent += (math.Log(exps[v][0]+exps[v][1]-self[v]) - positive) / 2
		l.InfoNCE[v] = math.Log(exps[v][1-v]) - positive
	}
	// p over the second views given a, over the first given b: candidate j is the
	// other view of row j.
	logA, logB := math.Log(exps[0][1]), math.Log(exps[1][0])
	for j := range n {
		p, q := (a[n+j]-1)/t-logA, (b[j]-1)/t-logB
		l.ReLIC += math.Exp(p) * (p - q)
	}
	l.MeanPos = math.Exp(a[n+i] / t)
	l.MeanNegs = (exps[0][1] - math.Exp(positive)) * math.Exp(1/t) / float64(n-1)
	return l
}

func summarise(anchors []anchor, temperatures []float64, histograms [][2]Histogram) *Contrast {
	n := float64(len(anchors))
	c := &Contrast{Pairs: len(anchors), Losses: make([]ContrastLoss, len(temperatures))}
	var uniform [2]float64
	for i := range anchors {
		a := &anchors[i]
		c.Align2 += a.distance / n
		c.Align1 += math.Sqrt(a.distance) / n
		c.PositiveCosine += a.positive / n
		c.NegativeCosine += a.negatives[0] / n
		c.NegativeVar += a.negatives[1] / n
		if a.retrieved {
			c.Retrieved++
		}
		for v := range uniform {
			uniform[v] += a.uniform[v]
		}
		for t, l := range a.losses {
			to := &c.Losses[t]
			to.T = l.T
			to.NTXent += l.NTXent / n
			to.InfoNCE[0] += l.InfoNCE[0] / n
			to.InfoNCE[1] += l.InfoNCE[1] / n
			to.ReLIC += l.ReLIC / n
			to.MeanPos += l.MeanPos / n
			to.MeanNegs += l.MeanNegs / n
		}
	}
	c.Retrieved /= n
	for v := range uniform {
		c.Uniform[v] = math.Log(uniform[v] / (n * (n - 1) / 2))
	}
	for i := range histograms {
		c.Positive.join(&histograms[i][0])
		c.Negative.join(&histograms[i][1])
	}
	return c
}

// QueueLoss is MoCo's: for each query the cross-entropy of its cosine with its key
// against those with the queue, over T, in nats. There is a row of keys for each of
// queries; rows are L2-normalised.
func QueueLoss(ctx context.Context, queries, keys, queue simd.Matrix, t float64, threads int) (float64, error) {
	losses := make([]float64, queries.Rows)
	q, k := unitColumns(queries, threads), unitColumns(keys, threads)
	err := eachProducts(ctx, []strips{q}, unitColumns(queue, threads), threads, func(_, at, count int, products [2][][]float64) {
		for i := range count {
			var own float64
			for d := range q.rows {
				own += q.at(d, at+i) * k.at(d, at+i)
			}
			sum := math.Exp((own - 1) / t)
			for _, c := range products[0][i] {
				sum += math.Exp((c - 1) / t)
			}
			losses[at+i] = math.Log(sum) - (own-1)/t
		}
	})
	if err != nil {
		return 0, err
	}
	mean := 0.0
	for _, l := range losses {
		mean += l / float64(len(losses))
	}
	return mean, nil
}

// Barlow is Barlow Twins' two terms of the cross-correlation C of two sets of views,
// each dimension standardised (population deviation): Σ(1−Cᵢᵢ)² and Σ_{i≠j} Cᵢⱼ², and
// how many dimensions vary in both sets, the others being left out.
func Barlow(first, second simd.Matrix, threads int) (onDiagonal, offDiagonal float64, dims int) {
	a, b, used := standardised(first, second)
	c := newSums(first.Dim, second.Dim, false)
	c.add(a, b, threads)
	n := float64(first.Rows)
	for i := range first.Dim {
		for j := range first.Dim {
			switch v := c.at(i, j) / n; {
			case !used[i] || !used[j]:
			case i == j:
				onDiagonal += (v - 1) * (v - 1)
				dims++
			default:
				offDiagonal += v * v
			}
		}
	}
	return onDiagonal, offDiagonal, dims
}

// standardised are the rows of both, each dimension less its mean and over its
// deviation, and which dimensions vary in both.
func standardised(first, second simd.Matrix) (a, b strips, used []bool) {
	used = make([]bool, first.Dim)
	for d := range used {
		used[d] = true
	}
	var out [2]strips
	for v, m := range []simd.Matrix{first, second} {
		mean, square := make([]float64, m.Dim), make([]float64, m.Dim)
		for i := range m.Rows {
			for d, x := range m.Row(i) {
				mean[d] += float64(x) / float64(m.Rows)
			}
		}
		for i := range m.Rows {
			for d, x := range m.Row(i) {
				square[d] += (float64(x) - mean[d]) * (float64(x) - mean[d]) / float64(m.Rows)
			}
		}
		out[v] = newStrips(m.Rows, m.Dim)
		for i := range m.Rows {
			for d, x := range m.Row(i) {
				if square[d] > rounding2*mean[d]*mean[d] {
					out[v].set(i, d, (float64(x)-mean[d])/math.Sqrt(square[d]))
				}
			}
		}
		for d := range used {
			used[d] = used[d] && square[d] > rounding2*mean[d]*mean[d]
		}
	}
	return out[0], out[1], used
}
