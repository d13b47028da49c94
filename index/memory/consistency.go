package memory

import (
	"context"
	"fmt"
	"math"

	"membank/simd"
	"membank/store"
)

// CO2 is the consistency regulariser of lightly: p and q are the softmax over
// [positive ‖ negatives] at temperature T of the two views' scores [B][1+K], and the
// loss is α/2·(KL(p‖q)+KL(q‖p)), averaged over the batch. Zero T is 0.05, zero
// alpha 1.
func CO2(a, b simd.Matrix, t, alpha float64) (Loss, error) {
	if t == 0 {
		t = 0.05
	}
	if alpha == 0 {
		alpha = 1
	}
	return pairLoss(a, b, t, func(p, q []float64) float64 { return alpha / 2 * (kl(p, q) + kl(q, p)) })
}

// ReLIC is contrastive cross-entropy for both orders of the views plus
// α·KL(p(·|a) ‖ p(·|b)): logits is [n][n], ⟨a_i,b_j⟩, the diagonal being the
// positives and staying in. The divergence is between the softmax of rows and that of
// columns, averaged over the batch, and no gradient is meant to flow through the
// second. Zero T is 0.1, zero alpha 1.
func ReLIC(logits simd.Matrix, t, alpha float64) (contrastive, invariance float64, err error) {
	if t == 0 {
		t = 0.1
	}
	if alpha == 0 {
		alpha = 1
	}
	if err := checkScores(logits, t); err != nil {
		return 0, 0, err
	}
	n := logits.Rows
	if logits.Dim != n {
		return 0, 0, fmt.Errorf("%w: logits of %d × %d, each of one batch must meet each of the other", ErrOptions, n, logits.Dim)
	}
	transposed := simd.NewMatrix(n, n)
	for i := range n {
		for j := range n {
			transposed.Row(j)[i] = logits.Row(i)[j]
		}
	}
	for i := range n {
		p, q := logSoftmax(logits.Row(i), t), logSoftmax(transposed.Row(i), t)
		contrastive -= (p[i] + q[i]) / float64(n)
		invariance += alpha * kl(p, q) / float64(n)
	}
	return contrastive, invariance, nil
}

// ReSSL is −Σ_j softmax(key scores/0.04)_j · log softmax(query scores/0.1)_j over a
// queue [B][K], without a positive's column. Zero temperatures are those.
func ReSSL(keys, queries simd.Matrix, tKey, tQuery float64) (Loss, error) {
	if tKey == 0 {
		tKey = 0.04
	}
	if tQuery == 0 {
		tQuery = 0.1
	}
	if err := checkScores(keys, tKey); err != nil {
		return Loss{}, err
	}
	if err := checkScores(queries, tQuery); err != nil {
		return Loss{}, err
	}
	if keys.Rows != queries.Rows || keys.Dim != queries.Dim {
		return Loss{}, fmt.Errorf("%w: scores of %d × %d and %d × %d", ErrOptions, keys.Rows, keys.Dim, queries.Rows, queries.Dim)
	}
	l := Loss{Each: make([]float64, keys.Rows)}
	for i := range keys.Rows {
		p, q := logSoftmax(keys.Row(i), tKey), logSoftmax(queries.Row(i), tQuery)
		for j := range p {
			l.Each[i] -= math.Exp(p[j]) * q[j]
		}
		l.Loss += l.Each[i] / float64(keys.Rows)
	}
	return l, nil
}

// Similarities are dot products of queries with all rows in scope, [queries][rows],
// and the ids of those rows: what CO2, ReSSL and CoMatch take. Of a queue positions
// count as Config.Order says. It returns 4·queries·rows bytes, at most 1 GiB of them:
// beyond that it is an ErrOptions.
func (b *Bank) Similarities(ctx context.Context, view int, queries simd.Matrix, scope Scope) (ids []int64, scores simd.Matrix, err error) {
	if err := b.checkSimilar(view, queries, scope); err != nil {
		return nil, scores, err
	}
	b.mu.RLock()
	defer b.mu.RUnlock()
	if err := b.usable(); err != nil {
		return nil, scores, err
	}
	return b.similarities(ctx, view, queries, scope)
}

func (b *Bank) checkSimilar(view int, queries simd.Matrix, scope Scope) error {
	if err := b.checkQueries(view, queries); err != nil {
		return err
	}
	if most := int64(1<<28) / b.c.Rows; int64(queries.Rows) > most {
		return fmt.Errorf("%w: the scores of %d queries and %d rows are more than 1 GiB (ask %d queries at once)", ErrOptions, queries.Rows, b.c.Rows, most)
	}
	return scope.check()
}

// similarities is Similarities with the lock held.
func (b *Bank) similarities(ctx context.Context, view int, queries simd.Matrix, scope Scope) (ids []int64, scores simd.Matrix, err error) {
	place := make([]int, b.c.Rows) // column of each id
	for id := range b.c.Rows {
		if b.inScope(b.queue.row(id), scope) {
			place[id] = len(ids)
			ids = append(ids, id)
		}
	}
	scores = simd.NewMatrix(queries.Rows, len(ids))
	err = b.scores(ctx, view, scope, queries, func(block *store.Block, part simd.Matrix) error {
		for q := range queries.Rows {
			line, row := scores.Row(q), part.Row(q)
			for lane := range block.Rows {
				if !block.Dead[lane] {
					line[place[block.Row[lane]]] = row[lane]
				}
			}
		}
		return nil
	})
	return ids, scores, err
}

// pairLoss averages a loss of two lines of log-probabilities.
func pairLoss(a, b simd.Matrix, t float64, loss func(p, q []float64) float64) (Loss, error) {
	if err := checkScores(a, t); err != nil {
		return Loss{}, err
	}
	if err := checkScores(b, t); err != nil {
		return Loss{}, err
	}
	if a.Rows != b.Rows || a.Dim != b.Dim {
		return Loss{}, fmt.Errorf("%w: scores of %d × %d and %d × %d", ErrOptions, a.Rows, a.Dim, b.Rows, b.Dim)
	}
	l := Loss{Each: make([]float64, a.Rows)}
	for i := range a.Rows {
		l.Each[i] = loss(logSoftmax(a.Row(i), t), logSoftmax(b.Row(i), t))
		l.Loss += l.Each[i] / float64(a.Rows)
	}
	return l, nil
}

// kl is Σ exp(p)·(p−q) of log-probabilities.
func kl(p, q []float64) (sum float64) {
	for j := range p {
		if w := math.Exp(p[j]); w > 0 {
			sum += w * (p[j] - q[j])
		}
	}
	return sum
}

// logSoftmax is log softmax(s/t).
func logSoftmax(s []float32, t float64) []float64 {
	log := logSumExp(s, t)
	out := make([]float64, len(s))
	for j, x := range s {
		out[j] = float64(x)/t - log
	}
	return out
}
