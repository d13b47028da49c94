package memory

import (
	"context"
	"fmt"

	"membank/simd"
	"membank/store"
)

// Here are the formulas of smoothing, consistency, feature transformation and
// prototypes over the rows that a bank holds, all read in one moment.

// CoMatch is the function CoMatch over a memory of two views: embeddings, and the
// class probabilities that were stored with them (view 1, un-smoothed). queries is
// [B][dim], p [B][classes].
func (b *Bank) CoMatch(ctx context.Context, queries simd.Matrix, p Probabilities, scope Scope, t, alpha float64) (Probabilities, error) {
	if len(b.c.Views) < 2 || b.c.Views[1].Dim != p.Dim {
		return p, fmt.Errorf("%w: CoMatch wants a bank of two views, embeddings and %d class probabilities (make it with --dim D,%d)", ErrOptions, p.Dim, p.Dim)
	}
	ids, scores, err := b.pinned(ctx, queries, scope)
	if err != nil {
		return p, err
	}
	defer b.mu.RUnlock()
	probabilities, err := b.viewRows(ctx, 1, ids)
	if err != nil {
		return p, err
	}
	return CoMatch(p, scores, probabilities, t, alpha)
}

// SimMatch is the function SimMatch over the rows of a bank and their labels; ids are
// the rows that the columns of instance stand for. A bank whose rows have no labels is
// an ErrEmpty.
func (b *Bank) SimMatch(ctx context.Context, queries simd.Matrix, p Probabilities, scope Scope, t, alpha float64) (ids []int64, instance, class Probabilities, err error) {
	ids, scores, err := b.pinned(ctx, queries, scope)
	if err != nil {
		return nil, p, p, err
	}
	defer b.mu.RUnlock()
	labels := make([]int64, len(ids))
	for i, id := range ids {
		labels[i] = b.labelAt(b.queue.row(id))
	}
	if len(ids) == 0 {
		return nil, p, p, fmt.Errorf("%w: nothing has been written yet", ErrEmpty)
	}
	instance, class, err = SimMatch(p, scores, labels, t, alpha)
	return ids, instance, class, err
}

// CO2 is the function CO2 for two views of a batch, [B][dim] each: the candidates are
// the other view's row, in column 0, and the rows of the bank.
func (b *Bank) CO2(ctx context.Context, x, y simd.Matrix, scope Scope, t, alpha float64) (Loss, error) {
	sx, sy, err := b.bothScores(ctx, x, y, scope)
	if err != nil {
		return Loss{}, err
	}
	positive := func(s simd.Matrix) simd.Matrix {
		m := simd.NewMatrix(s.Rows, 1+s.Dim)
		for i := range s.Rows {
			m.Row(i)[0] = simd.Dot(x.Row(i), y.Row(i))
			copy(m.Row(i)[1:], s.Row(i))
		}
		return m
	}
	return CO2(positive(sx), positive(sy), t, alpha)
}

// ReSSL is the function ReSSL for keys and queries, [B][dim] each, over the rows of
// the bank. ErrEmpty if there are none.
func (b *Bank) ReSSL(ctx context.Context, keys, queries simd.Matrix, scope Scope, tKey, tQuery float64) (Loss, error) {
	sk, sq, err := b.bothScores(ctx, keys, queries, scope)
	if err != nil {
		return Loss{}, err
	}
	if sk.Dim == 0 {
		return Loss{}, fmt.Errorf("%w: ReSSL compares with its rows", ErrEmpty)
	}
	return ReSSL(sk, sq, tKey, tQuery)
}

// ReLIC is the function ReLIC for two views of a batch, [B][dim] each, whose
// candidates are the batch itself; the bank only says of which dimension they are.
func (b *Bank) ReLIC(x, y simd.Matrix, t, alpha float64) (contrastive, invariance float64, err error) {
	for _, m := range []simd.Matrix{x, y} {
		if err := b.checkQueries(0, m); err != nil {
			return 0, 0, err
		}
	}
	logits, err := PrototypeScores(x, y)
	if err != nil {
		return 0, 0, err
	}
	return ReLIC(logits, t, alpha)
}

// bothScores are the similarities of two views with the rows in scope.
func (b *Bank) bothScores(ctx context.Context, x, y simd.Matrix, scope Scope) (sx, sy simd.Matrix, err error) {
	if x.Rows != y.Rows || x.Dim != y.Dim {
		return sx, sy, fmt.Errorf("%w: views of %d × %d and %d × %d", ErrRows, x.Rows, x.Dim, y.Rows, y.Dim)
	}
	both := simd.NewMatrix(2*x.Rows, x.Dim)
	copy(both.Data, x.Data[:x.Rows*x.Dim])
	copy(both.Data[x.Rows*x.Dim:], y.Data[:y.Rows*y.Dim])
	_, scores, err := b.Similarities(ctx, 0, both, scope)
	if err != nil {
		return sx, sy, err
	}
	return scores.Slice(0, x.Rows), scores.Slice(x.Rows, 2*x.Rows), nil
}

// pinned is Similarities of view 0 that leaves the read lock held unless it fails.
func (b *Bank) pinned(ctx context.Context, queries simd.Matrix, scope Scope) (ids []int64, scores simd.Matrix, err error) {
	if err := b.checkSimilar(0, queries, scope); err != nil {
		return nil, scores, err
	}
	b.mu.RLock()
	if err = b.usable(); err == nil {
		ids, scores, err = b.similarities(ctx, 0, queries, scope)
	}
	if err != nil {
		b.mu.RUnlock()
	}
	return ids, scores, err
}

// Transform is the function Transform with the rows of view 0 as negatives and the
// seed of the bank, whatever o.Seed is.
func (b *Bank) Transform(ctx context.Context, queries, keys simd.Matrix, scope Scope, o TransformOptions) (Mixed, error) {
	if err := b.checkQueries(0, queries); err != nil {
		return Mixed{}, err
	}
	if err := b.checkQueries(0, keys); err != nil {
		return Mixed{}, fmt.Errorf("keys: %w", err)
	}
	negatives, err := b.negativeRows(ctx, scope)
	if err != nil {
		return Mixed{}, err
	}
	o.Seed = b.c.Seed
	return Transform(queries, keys, negatives, o)
}

func (b *Bank) negativeRows(ctx context.Context, scope Scope) (simd.Matrix, error) {
	if err := scope.check(); err != nil {
		return simd.Matrix{}, err
	}
	b.mu.RLock()
	defer b.mu.RUnlock()
	if err := b.usable(); err != nil {
		return simd.Matrix{}, err
	}
	var ids []int64
	for id := range b.c.Rows {
		if b.inScope(b.queue.row(id), scope) {
			ids = append(ids, id)
		}
	}
	return b.viewRows(ctx, 0, ids)
}

// Concentrations are PCL's temperatures of clusters of the rows of view 0. Nil labels
// are those of the bank, centroids without rows the prototypes that it keeps; a row
// whose label is store.NoLabel takes no part. Zero t is 0.2. Writers wait meanwhile.
func (b *Bank) Concentrations(ctx context.Context, labels []int64, centroids simd.Matrix, t float64) ([]float64, error) {
	if labels != nil && int64(len(labels)) != b.c.Rows {
		return nil, fmt.Errorf("%w: %d labels for %d rows", ErrOptions, len(labels), b.c.Rows)
	}
	var err error
	if centroids.Rows == 0 {
		if centroids, err = b.Prototypes(); err != nil {
			return nil, err
		}
	}
	if centroids.Rows == 0 {
		return nil, fmt.Errorf("%w: the bank keeps no prototypes, and no centroids were given", ErrOptions)
	}
	if err := b.checkQueries(0, centroids); err != nil {
		return nil, fmt.Errorf("centroids: %w", err)
	}
	s := newSpread(centroids)
	b.mu.RLock()
	defer b.mu.RUnlock()
	if err := b.usable(); err != nil {
		return nil, err
	}
	for id := range b.c.Rows {
		if id%4096 == 0 && ctx.Err() != nil {
			return nil, ctx.Err()
		}
		row := b.queue.row(id)
		label := b.labelAt(row)
		if labels != nil {
			label = labels[id]
		}
		if label == store.NoLabel {
			continue
		}
		if err := s.add(id, b.views[0].row(row), label); err != nil {
			return nil, err
		}
	}
	return s.concentrations(t)
}

// PrototypeLoss is PCL's loss of rows [B][dim] with prototypes [B], their own ones,
// and n negative ones, which NegativePrototypes draws by the bank's seed and step.
// centroids without rows are the prototypes that the bank keeps.
func (b *Bank) PrototypeLoss(ctx context.Context, rows simd.Matrix, own []int64, n int, centroids simd.Matrix, concentrations []float64, step int64) (Loss, error) {
	if err := b.checkQueries(0, rows); err != nil {
		return Loss{}, err
	}
	var err error
	if centroids.Rows == 0 {
		if centroids, err = b.Prototypes(); err != nil {
			return Loss{}, err
		}
	}
	if len(own) != rows.Rows || len(concentrations) != centroids.Rows || centroids.Rows == 0 {
		return Loss{}, fmt.Errorf("%w: %d prototypes of %d rows, %d concentrations of %d prototypes", ErrOptions, len(own), rows.Rows, len(concentrations), centroids.Rows)
	}
	if err := b.checkQueries(0, centroids); err != nil {
		return Loss{}, fmt.Errorf("centroids: %w", err)
	}
	negatives, err := NegativePrototypes(ctx, int64(centroids.Rows), own, n, b.c.Seed, step)
	if err != nil {
		return Loss{}, err
	}
	scores, lines := simd.NewMatrix(rows.Rows, 1+len(negatives)), make([][]int64, rows.Rows)
	for i := range lines {
		lines[i] = append([]int64{own[i]}, negatives...)
		for j, p := range lines[i] {
			scores.Row(i)[j] = simd.Dot(rows.Row(i), centroids.Row(int(p)))
		}
	}
	return PrototypeLoss(scores, lines, concentrations)
}
