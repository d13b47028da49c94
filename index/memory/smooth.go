package memory

import (
	"fmt"
	"math"

	"membank/simd"
	"membank/store"
)

// Probabilities are class probabilities, [Rows][Dim] in float64.
type Probabilities = Assignment

// CoMatch smooths class probabilities by those of similar rows in a memory
// (Li et al. 2021): with a = softmax(scores/T),
//
//	p' = α·p + (1−α)·Σ_j a_j·bank_j
//
// p is [B][C], scores [B][K] the dot products with the K rows of the memory, bank
// [K][C] the probabilities that are stored with them: un-smoothed, one-hot for
// labelled rows. Zero T is 0.1 (ImageNet; 0.2 on CIFAR), zero alpha 0.9. An empty
// memory leaves p as it is.
func CoMatch(p Probabilities, scores, bank simd.Matrix, t, alpha float64) (Probabilities, error) {
	if t == 0 {
		t = 0.1
	}
	if alpha == 0 {
		alpha = 0.9
	}
	if err := checkShare(alpha); err != nil {
		return p, err
	}
	if err := checkProbabilities(p); err != nil {
		return p, err
	}
	out := Probabilities{Data: append([]float64(nil), p.Data...), Rows: p.Rows, Dim: p.Dim}
	if bank.Rows == 0 {
		return out, nil
	}
	if err := checkScores(scores, t); err != nil {
		return p, err
	}
	if scores.Rows != p.Rows || scores.Dim != bank.Rows || bank.Dim != p.Dim {
		return p, fmt.Errorf("%w: probabilities of %d × %d, scores of %d × %d, memory of %d × %d", ErrOptions,
			p.Rows, p.Dim, scores.Rows, scores.Dim, bank.Rows, bank.Dim)
	}
	for i := range p.Rows {
		row := out.Row(i)
		for c := range row {
			row[c] *= alpha
		}
		for j, log := range logSoftmax(scores.Row(i), t) {
			w := (1 - alpha) * math.Exp(log)
			for c, x := range bank.Row(j) {
				row[c] += w * float64(x)
			}
		}
	}
	return out, nil
}

// Accepted says of each row whether its largest probability reaches a threshold,
// and which class that is: CoMatch takes 0.95 on CIFAR, 0.6 on ImageNet.
func Accepted(p Probabilities, threshold float64) (classes []int64, accepted []bool) {
	classes, accepted = make([]int64, p.Rows), make([]bool, p.Rows)
	for i := range p.Rows {
		best := 0
		for c, x := range p.Row(i) {
			if x > p.Row(i)[best] {
				best = c
			}
		}
		classes[i], accepted[i] = int64(best), p.Dim > 0 && p.Row(i)[best] >= threshold
	}
	return classes, accepted
}

// PseudoGraph is CoMatch's contrastive target: p'p'ᵀ with the diagonal set to 1,
// entries below the threshold dropped (0.8; 0.3 on ImageNet), rows divided by their
// sums.
func PseudoGraph(p Probabilities, threshold float64) Assignment {
	g := Assignment{Data: make([]float64, p.Rows*p.Rows), Rows: p.Rows, Dim: p.Rows}
	for i := range p.Rows {
		sum := 0.0
		for j := range p.Rows {
			w := 1.0
			if i != j {
				w = 0
				for c, x := range p.Row(i) {
					w += x * p.Row(j)[c]
				}
			}
			if w < threshold && i != j {
				w = 0
			}
			g.Row(i)[j] = w
			sum += w
		}
		for j := range p.Rows {
			g.Row(i)[j] /= sum
		}
	}
	return g
}

// Alignment divides class probabilities by their moving mean over the last batches
// and divides by the sum again (distribution alignment, CoMatch). The zero value
// averages 32 batches. It is for one goroutine.
type Alignment struct {
	Window int // batches; 0: 32
	means  [][]float64
}

// Align takes a batch into the mean and returns it aligned.
func (a *Alignment) Align(p Probabilities) (Probabilities, error) {
	if err := checkProbabilities(p); err != nil {
		return p, err
	}
	if len(a.means) > 0 && len(a.means[0]) != p.Dim {
		return p, fmt.Errorf("%w: %d classes, earlier batches had %d", ErrOptions, p.Dim, len(a.means[0]))
	}
	mean := make([]float64, p.Dim)
	for i := range p.Rows {
		for c, x := range p.Row(i) {
			mean[c] += x / float64(p.Rows)
		}
	}
	window := a.Window
	if window <= 0 {
		window = 32
	}
	if a.means = append(a.means, mean); len(a.means) > window {
		a.means = a.means[len(a.means)-window:]
	}
	moving := make([]float64, p.Dim)
	for _, m := range a.means {
		for c, x := range m {
			moving[c] += x / float64(len(a.means))
		}
	}
	out := Probabilities{Data: append([]float64(nil), p.Data...), Rows: p.Rows, Dim: p.Dim}
	for i := range out.Rows {
		row, sum := out.Row(i), 0.0
		for c := range row {
			if moving[c] > 0 {
				row[c] /= moving[c]
			}
			sum += row[c]
		}
		for c := range row {
			row[c] /= sum
		}
	}
	return out, nil
}

// SimMatch propagates labels through a bank of labelled rows (Zheng et al. 2022).
// p is [B][C] class probabilities, scores [B][N] dot products with the bank's rows,
// labels their classes, 0 to C−1; rows without a class take no part. With
// w = softmax(scores/T),
//
//	instance_j = w_j·p[y_j], divided by the sum
//	class_c    = α·p_c + (1−α)·Σ_{j: y_j=c} w_j
//
// Zero T is 0.1, zero alpha 0.9.
func SimMatch(p Probabilities, scores simd.Matrix, labels []int64, t, alpha float64) (instance, class Probabilities, err error) {
	if t == 0 {
		t = 0.1
	}
	if alpha == 0 {
		alpha = 0.9
	}
	if err := checkShare(alpha); err != nil {
		return p, p, err
	}
	if err := checkProbabilities(p); err != nil {
		return p, p, err
	}
	if err := checkScores(scores, t); err != nil {
		return p, p, err
	}
	if scores.Rows != p.Rows || scores.Dim != len(labels) {
		return p, p, fmt.Errorf("%w: probabilities of %d rows, scores of %d × %d, %d labels", ErrOptions, p.Rows, scores.Rows, scores.Dim, len(labels))
	}
	var voting []int
	for j, y := range labels {
		if y == store.NoLabel {
			continue
		}
		if y < 0 || y >= int64(p.Dim) {
			return p, p, fmt.Errorf("%w: label %d of row %d, with %d classes", ErrOptions, y, j, p.Dim)
		}
		voting = append(voting, j)
	}
	if len(voting) == 0 {
		return p, p, fmt.Errorf("%w: no row of it has a label", ErrEmpty)
	}
	instance = Probabilities{Data: make([]float64, p.Rows*len(labels)), Rows: p.Rows, Dim: len(labels)}
	class = Probabilities{Data: make([]float64, len(p.Data)), Rows: p.Rows, Dim: p.Dim}
	some := make([]float32, len(voting))
	for i := range p.Rows {
		for n, j := range voting {
			some[n] = scores.Row(i)[j]
		}
		w, sum := logSoftmax(some, t), 0.0
		for c, x := range p.Row(i) {
			class.Row(i)[c] = alpha * x
		}
		for n, j := range voting {
			weight := math.Exp(w[n])
			instance.Row(i)[j] = weight * p.Row(i)[labels[j]]
			sum += instance.Row(i)[j]
			class.Row(i)[labels[j]] += (1 - alpha) * weight
		}
		for j := range instance.Row(i) {
			if sum > 0 {
				instance.Row(i)[j] /= sum
			}
		}
	}
	return instance, class, nil
}

func checkShare(alpha float64) error {
	if !(alpha >= 0 && alpha <= 1) {
		return fmt.Errorf("%w: alpha is %v (0 to 1)", ErrOptions, alpha)
	}
	return nil
}

func checkProbabilities(p Probabilities) error {
	if p.Rows < 1 || p.Dim < 1 || len(p.Data) != p.Rows*p.Dim {
		return fmt.Errorf("%w: probabilities of %d × %d over %d numbers", ErrOptions, p.Rows, p.Dim, len(p.Data))
	}
	for i, x := range p.Data {
		if !(x >= 0) || math.IsInf(x, 0) {
			return fmt.Errorf("%w: probability %d of row %d is %v", ErrRows, i%p.Dim, i/p.Dim, x)
		}
	}
	return nil
}
