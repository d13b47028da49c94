package memory

import (
	"context"
	"fmt"
	"math"

	"membank/simd"
	"membank/store"
)

// ZRule says where the normaliser of NCE comes from.
type ZRule string

const (
	// ZFirst estimates Z from the first batch and keeps it for good: InstDisc, CMC,
	// VISSL. The zero value.
	ZFirst ZRule = "first"
	// ZEMA goes on averaging: Z = decay·Z + (1−decay)·estimate, the first batch
	// being taken whole (K. He in CMC#23, with 0.99).
	ZEMA ZRule = "ema"
	// ZFixed takes NCEOptions.Z: LocalAggregation's 2.24556·N.
	ZFixed ZRule = "fixed"
)

// ZRules are the names of all of them.
var ZRules = []ZRule{ZFirst, ZEMA, ZFixed}

// Epsilons of NCE's logarithms.
const (
	NCEEpsilon      = 1e-7    // InstDisc, CMC
	NCEEpsilonVISSL = 1.19e-7 // VISSL
)

// NCEOptions say how noise-contrastive estimation is computed.
type NCEOptions struct {
	T       float64 // temperature; 0 is 0.07
	Rule    ZRule
	Decay   float64 // of ZEMA; 0 is 0.99
	Z       float64 // of ZFixed
	Epsilon float64 // 0 is NCEEpsilon

	Durability Durability // of a Z that changes
}

// Loss is what a batch of scores costs.
type Loss struct {
	Loss  float64   `json:"loss"` // mean of Each
	Each  []float64 `json:"each"` // per anchor
	Z     float64   `json:"z,omitempty"`
	Right float64   `json:"accuracy"` // share of anchors whose positive scores more than any negative
}

// NCELoss computes, for scores [B][1+K] whose column 0 is the positive's, a bank of N
// rows and a normaliser Z,
//
//	P_j = exp(s_j/T)/Z,   c = K/N
//	loss = −(1/B) Σ [ log(P_0/(P_0+c+ε)) + Σ_{j=1..K} log(c/(P_j+c+ε)) ]
//
// in float64. The sum over negatives is not divided by K, and N is the size of the
// bank (Wu et al. 2018, as lemniscate and CMC compute it).
func NCELoss(scores simd.Matrix, rows int64, t, z, epsilon float64) (Loss, error) {
	if err := checkScores(scores, t); err != nil {
		return Loss{}, err
	}
	if rows < 1 || !(z > 0) || epsilon < 0 {
		return Loss{}, fmt.Errorf("%w: NCE over %d rows with Z %v and epsilon %v", ErrOptions, rows, z, epsilon)
	}
	c := float64(scores.Dim-1) / float64(rows)
	logZ := math.Log(z)
	return eachAnchor(scores, func(s []float32) float64 {
		// P may leave float64 where s is far from 0: its logarithm l does not.
		l := float64(s[0])/t - logZ
		loss := 0.0
		if l <= 700 {
			loss = math.Log(math.Exp(l)+c+epsilon) - l
		}
		for _, x := range s[1:] {
			l := float64(x)/t - logZ
			if l > 700 {
				loss -= math.Log(c) - l
				continue
			}
			loss -= math.Log(c / (math.Exp(l) + c + epsilon))
		}
		return loss
	}), nil
}

// InfoNCE is the cross-entropy of [s_pos, s_1..s_K]/T with target 0, computed with
// the largest score subtracted first, in float64: MoCo, CMC's softmax, PyContrast.
func InfoNCE(scores simd.Matrix, t float64) (Loss, error) {
	if err := checkScores(scores, t); err != nil {
		return Loss{}, err
	}
	return eachAnchor(scores, func(s []float32) float64 { return logSumExp(s, t) - float64(s[0])/t }), nil
}

// EstimateZ is N times the mean of exp(s/T) over a whole block of scores, the
// positives' column included.
func EstimateZ(scores simd.Matrix, rows int64, t float64) (float64, error) {
	if err := checkScores(scores, t); err != nil {
		return 0, err
	}
	sum := 0.0
	for b := range scores.Rows {
		for _, s := range scores.Row(b) {
			sum += math.Exp(float64(s) / t)
		}
	}
	z := sum / float64(scores.Rows*scores.Dim) * float64(rows)
	if math.IsInf(z, 0) || !(z > 0) {
		return 0, fmt.Errorf("%w: exp(s/T) leaves float64 (divide the rows by their norms, or raise the temperature of %v)", ErrRows, t)
	}
	return z, nil
}

// NCE computes NCELoss over the bank with the Z that it keeps: estimated at the
// first call, persisted, and from then on fixed or averaged as o.Rule says. So a
// resumed run has the loss it had.
func (b *Bank) NCE(ctx context.Context, scores simd.Matrix, o NCEOptions) (Loss, error) {
	if err := ctx.Err(); err != nil {
		return Loss{}, err
	}
	if err := b.checkNCE(&o); err != nil {
		return Loss{}, err
	}
	z, err := b.moveZ(scores, o)
	if err != nil {
		return Loss{}, err
	}
	l, err := NCELoss(scores, b.c.Rows, o.T, z, o.Epsilon)
	l.Z = z
	return l, err
}

func (b *Bank) checkNCE(o *NCEOptions) error {
	if o.T == 0 {
		o.T = 0.07
	}
	if o.Rule == "" {
		o.Rule = ZFirst
	}
	if o.Decay == 0 {
		o.Decay = 0.99
	}
	if o.Epsilon == 0 {
		o.Epsilon = NCEEpsilon
	}
	switch {
	case !contains(ZRules, o.Rule):
		return fmt.Errorf("%w: rule %q for Z (one of %v)", ErrOptions, o.Rule, ZRules)
	case !(o.Decay > 0 && o.Decay < 1):
		return fmt.Errorf("%w: decay of Z is %v (between 0 and 1)", ErrOptions, o.Decay)
	case (o.Rule == ZFixed) != (o.Z != 0) || o.Z < 0:
		return fmt.Errorf("%w: Z %v with rule %q", ErrOptions, o.Z, o.Rule)
	}
	return b.checkDurability(&o.Durability)
}

// moveZ returns the normaliser for a batch, and keeps it.
func (b *Bank) moveZ(scores simd.Matrix, o NCEOptions) (float64, error) {
	if o.Rule == ZFixed {
		return o.Z, nil
	}
	b.mu.RLock()
	have, err := b.state.Z, b.usable()
	b.mu.RUnlock()
	if err != nil || have > 0 && o.Rule == ZFirst {
		return have, err
	}
	estimate, err := EstimateZ(scores, b.c.Rows, o.T)
	if err != nil {
		return 0, err
	}
	b.lock()
	z, end, err := b.setZ(estimate, o)
	b.unlock()
	if err == nil {
		err = b.synced(end, o.Durability)
	}
	return z, err
}

func (b *Bank) setZ(estimate float64, o NCEOptions) (float64, int64, error) {
	if err := b.usable(); err != nil {
		return 0, 0, err
	}
	s := b.state
	switch {
	case s.Z == 0:
		s.Z = estimate
	case o.Rule == ZFirst: // another rank was first
		return s.Z, 0, nil
	default:
		s.Z = o.Decay*s.Z + (1-o.Decay)*estimate
	}
	s.ZCount++
	end, err := b.commit(&change{state: s}, o.Durability)
	return s.Z, end, err
}

// Scores are dot products of queries with rows of the bank: line i of ids belongs
// to query i, and the result is [len(queries)][len(ids[i])], as NCELoss and InfoNCE
// take it with the positive's id in column 0. All lines have one length. Errors:
// ErrID, ErrOptions.
func (b *Bank) Scores(ctx context.Context, view int, queries simd.Matrix, ids [][]int64) (simd.Matrix, error) {
	if err := b.checkQueries(view, queries); err != nil {
		return simd.Matrix{}, err
	}
	if len(ids) != queries.Rows {
		return simd.Matrix{}, fmt.Errorf("%w: %d lines of ids for %d queries", ErrOptions, len(ids), queries.Rows)
	}
	width := 0
	for i, line := range ids {
		if width = len(ids[0]); len(line) != width {
			return simd.Matrix{}, fmt.Errorf("%w: line %d has %d ids and line 0 has %d", ErrOptions, i, len(line), width)
		}
		if err := b.checkIDs(line); err != nil {
			return simd.Matrix{}, err
		}
	}
	out := simd.NewMatrix(queries.Rows, width)
	b.mu.RLock()
	defer b.mu.RUnlock()
	if err := b.usable(); err != nil {
		return simd.Matrix{}, err
	}
	a := b.views[view]
	for i, line := range ids {
		if err := ctx.Err(); err != nil {
			return simd.Matrix{}, err
		}
		for j, id := range line {
			out.Row(i)[j] = simd.Dot(queries.Row(i), a.row(b.queue.row(id)))
		}
	}
	return out, nil
}

func (b *Bank) checkQueries(view int, queries simd.Matrix) error {
	if view < 0 || view >= len(b.c.Views) {
		return fmt.Errorf("%w: view %d of %d", ErrOptions, view, len(b.c.Views))
	}
	if queries.Dim != b.c.Views[view].Dim {
		return fmt.Errorf("%w: queries of %d dimensions, view %d has %d", ErrRows, queries.Dim, view, b.c.Views[view].Dim)
	}
	for i := range queries.Rows {
		if !(simd.Norm(queries.Row(i)) <= maxNorm) {
			return fmt.Errorf("%w: query %d holds NaN, Inf or numbers too large to square", ErrRows, i)
		}
	}
	return nil
}

// FullSoftmax is the cross-entropy of ⟨query, row⟩/T over all rows in scope with
// target ids[i]: lemniscate's NCE with K = 0, the exact N-way softmax. It holds a
// block of rows at a time and sums in float64. Errors: ErrID when a target is out
// of scope.
func (b *Bank) FullSoftmax(ctx context.Context, view int, queries simd.Matrix, ids []int64, t float64, scope Scope) (Loss, error) {
	if err := b.checkQueries(view, queries); err != nil {
		return Loss{}, err
	}
	if err := scope.check(); err != nil {
		return Loss{}, err
	}
	if len(ids) != queries.Rows || !(t > 0) {
		return Loss{}, fmt.Errorf("%w: %d targets for %d queries at temperature %v", ErrOptions, len(ids), queries.Rows, t)
	}
	if err := b.checkIDs(ids); err != nil {
		return Loss{}, err
	}
	b.mu.RLock()
	defer b.mu.RUnlock()
	if err := b.usable(); err != nil {
		return Loss{}, err
	}
	sums, target := make([]runningSum, queries.Rows), make([]float64, queries.Rows)
	for i, id := range ids {
		if !b.inScope(b.queue.row(id), scope) {
			return Loss{}, fmt.Errorf("%w: target %d was never written", ErrID, id)
		}
		target[i] = float64(simd.Dot(queries.Row(i), b.views[view].row(b.queue.row(id)))) / t
	}
	err := b.scores(ctx, view, scope, queries, func(block *store.Block, scores simd.Matrix) error {
		for q := range queries.Rows {
			for lane, s := range scores.Row(q)[:block.Rows] {
				if !block.Dead[lane] {
					sums[q].add(float64(s) / t)
				}
			}
		}
		return nil
	})
	if err != nil {
		return Loss{}, err
	}
	l := Loss{Each: make([]float64, queries.Rows)}
	for q := range sums {
		l.Each[q] = sums[q].log() - target[q]
		l.Loss += l.Each[q] / float64(max(len(sums), 1))
		if target[q] >= sums[q].most {
			l.Right += 1 / float64(len(sums))
		}
	}
	return l, nil
}

// runningSum is Σexp(x) as exp(most)·sum, so that no x is too large.
type runningSum struct {
	most, sum float64
	any       bool
}

func (r *runningSum) add(x float64) {
	switch {
	case !r.any:
		*r = runningSum{x, 1, true}
	case x <= r.most:
		r.sum += math.Exp(x - r.most)
	default:
		r.sum = r.sum*math.Exp(r.most-x) + 1
		r.most = x
	}
}

func (r *runningSum) log() float64 { return r.most + math.Log(r.sum) }

// logSumExp is log Σ exp(s/t).
func logSumExp(s []float32, t float64) float64 {
	var r runningSum
	for _, x := range s {
		r.add(float64(x) / t)
	}
	return r.log()
}

func checkScores(scores simd.Matrix, t float64) error {
	if scores.Rows < 1 || scores.Dim < 1 || !(t > 0) {
		return fmt.Errorf("%w: scores of %d × %d at temperature %v", ErrOptions, scores.Rows, scores.Dim, t)
	}
	for i, s := range scores.Data[:scores.Rows*scores.Dim] {
		if math.IsNaN(float64(s)) || math.IsInf(float64(s), 0) {
			return fmt.Errorf("%w: score %d of line %d is %v", ErrRows, i%scores.Dim, i/scores.Dim, s)
		}
	}
	return nil
}

// eachAnchor sums up the losses of single anchors.
func eachAnchor(scores simd.Matrix, loss func(s []float32) float64) Loss {
	l := Loss{Each: make([]float64, scores.Rows)}
	for b := range scores.Rows {
		s := scores.Row(b)
		l.Each[b] = loss(s)
		l.Loss += l.Each[b] / float64(scores.Rows)
		right := 1.0
		for _, x := range s[1:] {
			if x >= s[0] {
				right = 0
			}
		}
		l.Right += right / float64(scores.Rows)
	}
	return l
}
