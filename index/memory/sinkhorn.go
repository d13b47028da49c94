package memory

import (
	"fmt"
	"math"

	"membank/simd"
)

// SinkhornOptions say how scores become assignments. The zero value is SwAV's.
type SinkhornOptions struct {
	Epsilon    float64 // 0: 0.05
	Iterations int     // 0: 3
}

// Assignment is a soft assignment of samples to prototypes: [Rows][Dim] in float64,
// each row adding up to 1.
type Assignment struct {
	Data []float64
	Rows int // samples
	Dim  int // prototypes
}

// Row is the assignment of one sample, in place.
func (a Assignment) Row(i int) []float64 { return a.Data[i*a.Dim : (i+1)*a.Dim : (i+1)*a.Dim] }

// Sinkhorn assigns samples to prototypes so that all prototypes are used alike
// (SwAV, Caron et al. 2020). scores is [samples][prototypes], ⟨z,c⟩ of unit vectors
// as a rule; queue, if it has rows, are the scores of older samples with the same
// prototypes, which take part but are not returned. With Q = exp(scores/ε)ᵀ divided
// by its total, each iteration divides every prototype's row by its sum and the
// number of prototypes, then every sample's column by its sum and the number of
// samples; at the end columns add up to 1.
//
// The largest score is subtracted first and everything is float64, so nothing
// overflows, where fp32 without normalised features does (swav#67). A prototype
// whose weights all underflow gets none.
func Sinkhorn(queue, scores simd.Matrix, o SinkhornOptions) (Assignment, error) {
	if o.Epsilon == 0 {
		o.Epsilon = 0.05
	}
	if o.Iterations == 0 {
		o.Iterations = 3
	}
	if err := checkScores(scores, o.Epsilon); err != nil {
		return Assignment{}, err
	}
	if queue.Rows > 0 {
		if err := checkScores(queue, o.Epsilon); err != nil {
			return Assignment{}, fmt.Errorf("queue: %w", err)
		}
		if queue.Dim != scores.Dim {
			return Assignment{}, fmt.Errorf("%w: the queue has %d prototypes, the batch %d", ErrOptions, queue.Dim, scores.Dim)
		}
	}
	if o.Iterations < 1 {
		return Assignment{}, fmt.Errorf("%w: %d iterations", ErrOptions, o.Iterations)
	}
	samples, prototypes := queue.Rows+scores.Rows, scores.Dim
	q := Assignment{Data: make([]float64, samples*prototypes), Rows: samples, Dim: prototypes}
	most := math.Inf(-1)
	for _, m := range []simd.Matrix{queue, scores} {
		for _, s := range m.Data[:m.Rows*m.Dim] {
			most = max(most, float64(s))
		}
	}
	total, at := 0.0, 0
	for _, m := range []simd.Matrix{queue, scores} {
		for _, s := range m.Data[:m.Rows*m.Dim] {
			q.Data[at] = math.Exp((float64(s) - most) / o.Epsilon)
			total += q.Data[at]
			at++
		}
	}
	for i := range q.Data {
		q.Data[i] /= total
	}
	sums := make([]float64, prototypes)
	for range o.Iterations {
		clear(sums)
		for i := range samples {
			for k, v := range q.Row(i) {
				sums[k] += v
			}
		}
		for i := range samples {
			row, sum := q.Row(i), 0.0
			for k := range row {
				if sums[k] > 0 {
					row[k] /= sums[k] * float64(prototypes)
				}
				sum += row[k]
			}
			if sum == 0 { // every weight of this sample underflowed
				for k := range row {
					row[k] = 1 / float64(prototypes)
				}
				sum = 1
			}
			for k := range row {
				row[k] /= sum * float64(samples)
			}
		}
	}
	for i := range q.Data {
		q.Data[i] *= float64(samples)
	}
	return Assignment{Data: q.Data[queue.Rows*prototypes:], Rows: scores.Rows, Dim: prototypes}, nil
}

// PrototypeScores are ⟨row, prototype⟩ of every row and prototype: [rows][prototypes].
// SwAV computes those of its queue anew at every step, with the prototypes of now.
func PrototypeScores(rows, prototypes simd.Matrix) (simd.Matrix, error) {
	if rows.Dim != prototypes.Dim || rows.Dim == 0 {
		return simd.Matrix{}, fmt.Errorf("%w: rows of %d dimensions, prototypes of %d", ErrRows, rows.Dim, prototypes.Dim)
	}
	panels := make([]float32, simd.Panels(prototypes.Rows)*simd.PanelRows*prototypes.Dim)
	simd.Pack(panels, prototypes)
	lanes := simd.Panels(prototypes.Rows) * simd.PanelRows
	ones, zeros, scores := make([]float32, lanes), make([]float32, lanes), make([]float32, lanes)
	for i := range ones {
		ones[i] = 1
	}
	out := simd.NewMatrix(rows.Rows, prototypes.Rows)
	for i := range rows.Rows {
		simd.Scan(scores, panels, ones, zeros, rows.Row(i))
		copy(out.Row(i), scores)
	}
	return out, nil
}

// SwappedLoss is SwAV's loss of one pair of crops: the mean over samples of
// −Σ_k q_k·log softmax(scores/T)_k, q being the assignment of the other crop. T 0 is
// 0.1.
func SwappedLoss(q Assignment, scores simd.Matrix, t float64) (Loss, error) {
	if t == 0 {
		t = 0.1
	}
	if err := checkScores(scores, t); err != nil {
		return Loss{}, err
	}
	if q.Rows != scores.Rows || q.Dim != scores.Dim {
		return Loss{}, fmt.Errorf("%w: an assignment of %d × %d for scores of %d × %d", ErrOptions, q.Rows, q.Dim, scores.Rows, scores.Dim)
	}
	l := Loss{Each: make([]float64, q.Rows)}
	for i := range q.Rows {
		log := logSumExp(scores.Row(i), t)
		for k, p := range q.Row(i) {
			l.Each[i] -= p * (float64(scores.Row(i)[k])/t - log)
		}
		l.Loss += l.Each[i] / float64(q.Rows)
	}
	return l, nil
}
