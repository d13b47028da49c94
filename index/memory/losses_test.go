package memory

import (
	"math"
	"slices"
	"testing"

	"membank/simd"
	"membank/store"
)

// softmaxOf is the formula, in float64.
func softmaxOf(s []float32, t float64) []float64 {
	out, sum := make([]float64, len(s)), 0.0
	for i, x := range s {
		out[i] = math.Exp(float64(x) / t)
		sum += out[i]
	}
	for i := range out {
		out[i] /= sum
	}
	return out
}

func cosines(r interface{ Float64() float64 }, rows, dim int) simd.Matrix {
	m := simd.NewMatrix(rows, dim)
	for i := range m.Data {
		m.Data[i] = float32(2*r.Float64() - 1)
	}
	return m
}

// K = 0 in lemniscate: the softmax over the whole bank.
func TestFullSoftmaxEqualsALoop(t *testing.T) {
	for _, scope := range []Scope{"", ScopeWritten} {
		s := mustSlots(t, nil, Config{Rows: 3000, Views: []View{{Dim: 16}}, Seed: 1})
		r := generator(2)
		ids := []int64{5, 2999, 40, 41}
		mustUpdate(t, s, ids, random(r, 4, 16), UpdateOptions{})
		queries := unit(random(r, 4, 16))
		got, err := s.FullSoftmax(background, 0, queries, ids, .07, scope)
		if err != nil {
			t.Fatal(err)
		}
		want := 0.0
		for q, id := range ids {
			sum, own := 0.0, 0.0
			for row := range int64(3000) {
				if scope == ScopeWritten && !slices.Contains(ids, row) {
					continue
				}
				dot := 0.0
				for d, x := range s.views[0].row(row) {
					dot += float64(x) * float64(queries.Row(q)[d])
				}
				sum += math.Exp(dot / .07)
				if row == id {
					own = dot / .07
				}
			}
			want += (math.Log(sum) - own) / 4
		}
		near(t, "full softmax "+string(scope), got.Loss, want, 1e-5)
	}
}

// Z is estimated at the first batch, scaled by the bank's size, and survives.
func TestZIsKept(t *testing.T) {
	db := database(t)
	b := mustCreate(t, db, "npid", Config{Kind: KindSlots, Rows: 10, Views: []View{{Dim: 1}}}, CreateOptions{})
	scores := matrix(3, .5, .1, -.2)
	for range 2 {
		l, err := b.NCE(background, scores, NCEOptions{T: .5})
		if err != nil {
			t.Fatal(err)
		}
		near(t, "Z", l.Z, 15.36668, 1e-5)
		near(t, "loss", l.Loss, 1.28834, 1e-5)
		b = reopen(t, b)
	}
	if _, err := b.NCE(background, matrix(3, 1, 1, 1), NCEOptions{T: .5}); err != nil || math.Abs(b.state.Z-15.36668) > 1e-5 {
		t.Errorf("Z moved to %v, %v", b.state.Z, err)
	}
	l, err := b.NCE(background, matrix(3, 1, 1, 1), NCEOptions{T: .5, Rule: ZEMA, Decay: .75})
	if err != nil {
		t.Fatal(err)
	}
	near(t, "moving Z", l.Z, .75*15.36668+.25*10*math.Exp(2), 1e-4)
	if l, err = b.NCE(background, scores, NCEOptions{T: .5, Rule: ZFixed, Z: 22.4556}); err != nil || l.Z != 22.4556 {
		t.Errorf("fixed Z %v, %v", l.Z, err)
	}
}

func TestConsistencyLossesEqualTheFormulas(t *testing.T) {
	r := generator(4)
	a, b := cosines(r, 3, 7), cosines(r, 3, 7)
	co2, err := CO2(a, b, 0, 2)
	if err != nil {
		t.Fatal(err)
	}
	ressl, err := ReSSL(a, b, 0, 0)
	if err != nil {
		t.Fatal(err)
	}
	wantCO2, wantReSSL := 0.0, 0.0
	for i := range 3 {
		p, q := softmaxOf(a.Row(i), .05), softmaxOf(b.Row(i), .05)
		k, s := softmaxOf(a.Row(i), .04), softmaxOf(b.Row(i), .1)
		for j := range p {
			wantCO2 += (p[j]*math.Log(p[j]/q[j]) + q[j]*math.Log(q[j]/p[j])) / 3
			wantReSSL -= k[j] * math.Log(s[j]) / 3
		}
	}
	near(t, "CO2", co2.Loss, wantCO2, 1e-9*wantCO2)
	near(t, "ReSSL", ressl.Loss, wantReSSL, 1e-9*wantReSSL)

	logits := cosines(r, 5, 5)
	contrast, invariance, err := ReLIC(logits, .3, 2)
	if err != nil {
		t.Fatal(err)
	}
	wantContrast, wantKL := 0.0, 0.0
	for i := range 5 {
		column := make([]float32, 5)
		for j := range column {
			column[j] = logits.Row(j)[i]
		}
		p, q := softmaxOf(logits.Row(i), .3), softmaxOf(column, .3)
		wantContrast -= (math.Log(p[i]) + math.Log(q[i])) / 5
		for j := range p {
			wantKL += 2 * p[j] * math.Log(p[j]/q[j]) / 5
		}
	}
	near(t, "ReLIC contrastive", contrast, wantContrast, 1e-9)
	near(t, "ReLIC invariance", invariance, wantKL, 1e-9)
}

func TestSimilaritiesAreAllDots(t *testing.T) {
	q := mustQueue(t, nil, Config{Rows: 7, Views: []View{{Dim: 3}}, Order: OrderShift})
	r := generator(5)
	for range 3 {
		mustPush(t, q, random(r, 2, 3), PushOptions{})
	}
	queries := random(r, 2, 3)
	ids, scores, err := q.Similarities(background, 0, queries, "")
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(ids, []int64{0, 1, 2, 3, 4, 5}) {
		t.Fatalf("ids %v", ids)
	}
	for i := range queries.Rows {
		for j, id := range ids {
			near(t, "score", float64(scores.Row(i)[j]), float64(simd.Dot(queries.Row(i), gathered(t, q.Bank, id))), 0)
		}
	}
}

func TestSmoothingEqualsTheFormulas(t *testing.T) {
	r := generator(6)
	p := Probabilities{Rows: 2, Dim: 3, Data: []float64{.5, .3, .2, .1, .1, .8}}
	scores, bank := cosines(r, 2, 5), simd.NewMatrix(5, 3)
	labels := []int64{0, 2, store.NoLabel, 1, 2}
	for j := range 5 {
		bank.Row(j)[j%3] = 1
	}
	got, err := CoMatch(p, scores, bank, .2, .9)
	if err != nil {
		t.Fatal(err)
	}
	instance, class, err := SimMatch(p, scores, labels, .2, .8)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 2 {
		a := softmaxOf(scores.Row(i), .2)
		for c := range 3 {
			want := .9 * p.Row(i)[c]
			for j := range 5 {
				want += .1 * a[j] * float64(bank.Row(j)[c])
			}
			near(t, "CoMatch", got.Row(i)[c], want, 1e-12)
		}
		w := softmaxOf([]float32{scores.Row(i)[0], scores.Row(i)[1], scores.Row(i)[3], scores.Row(i)[4]}, .2)
		voting, sum := []int{0, 1, 3, 4}, 0.0
		for n, j := range voting {
			sum += w[n] * p.Row(i)[labels[j]]
		}
		for n, j := range voting {
			near(t, "SimMatch instance", instance.Row(i)[j], w[n]*p.Row(i)[labels[j]]/sum, 1e-12)
		}
		for c := range 3 {
			want := .8 * p.Row(i)[c]
			for n, j := range voting {
				if labels[j] == int64(c) {
					want += .2 * w[n]
				}
			}
			near(t, "SimMatch class", class.Row(i)[c], want, 1e-12)
		}
	}
	classes, accepted := Accepted(p, .6)
	if !slices.Equal(classes, []int64{0, 2}) || !slices.Equal(accepted, []bool{false, true}) {
		t.Errorf("accepted %v %v", classes, accepted)
	}
	// p₀·p₁ = .05+.03+.16 = .24
	g := PseudoGraph(p, .24)
	near(t, "graph", g.Row(0)[1], .24/1.24, 1e-12)
	if g = PseudoGraph(p, .25); g.Row(0)[1] != 0 || g.Row(0)[0] != 1 {
		t.Errorf("graph with the edge dropped: %v", g.Data)
	}
	align := Alignment{Window: 2}
	for range 3 { // means (.3,.2,.5) in the window
		if got, err = align.Align(p); err != nil {
			t.Fatal(err)
		}
	}
	sum := .5/.3 + .3/.2 + .2/.5
	near(t, "aligned", got.Row(0)[1], .3/.2/sum, 1e-12)
}

// The transformed score is s + 2λ(1−λ)(1−s), never above s; draws lie where they
// should, and are repeatable.
func TestTransformMakesPositivesHarder(t *testing.T) {
	r := generator(7)
	q, k, m := unit(random(r, 6, 5)), unit(random(r, 6, 5)), random(r, 40, 5)
	lambdas, betas := 0.0, 0.0
	for step := range int64(400) {
		o := TransformOptions{Seed: 1, Step: step}
		x, err := Transform(q, k, m, o)
		if err != nil {
			t.Fatal(err)
		}
		l := x.Lambda[0]
		if !(l > 1 && l < 2) || !(x.Beta[0] > 0 && x.Beta[0] < 1) || len(x.Lambda) != 1 {
			t.Fatalf("λ %v, β %v", x.Lambda, x.Beta)
		}
		lambdas, betas = lambdas+l/400, betas+x.Beta[0]/400
		for i := range 6 {
			s := float64(simd.Dot(q.Row(i), k.Row(i)))
			got := float64(simd.Dot(x.Queries.Row(i), x.Keys.Row(i)))
			near(t, "score", got, s+2*l*(1-l)*(1-s), 1e-5)
		}
		for i, p := range x.Permutation {
			near(t, "negative", float64(x.Negatives.Row(i)[2]), x.Beta[0]*float64(m.Row(i)[2])+(1-x.Beta[0])*float64(m.Row(p)[2]), 1e-6)
		}
		if sorted := slices.Sorted(slices.Values(x.Permutation)); sorted[0] != 0 || sorted[39] != 39 || len(slices.Compact(sorted)) != 40 {
			t.Fatalf("no permutation: %v", x.Permutation)
		}
		again, err := Transform(q, k, m, o)
		if err != nil || !slices.Equal(again.Negatives.Data, x.Negatives.Data) || !slices.Equal(again.Queries.Data, x.Queries.Data) {
			t.Fatal("the same step differs", err)
		}
	}
	near(t, "mean λ", lambdas, 1.5, 0.05) // Beta(2,2) has standard deviation 0.22
	near(t, "mean β", betas, 0.5, 0.05)
	for how, lengths := range map[Elementwise][2]int{ElementwisePos: {5, 1}, ElementwiseNeg: {1, 5}, ElementwiseBoth: {5, 5}} {
		x, err := Transform(q, k, m, TransformOptions{Elementwise: how, Renormalise: true, Uniform: true})
		if err != nil || len(x.Lambda) != lengths[0] || len(x.Beta) != lengths[1] {
			t.Errorf("%s: %d and %d numbers, %v", how, len(x.Lambda), len(x.Beta), err)
		}
		near(t, "renormalised", simd.Norm(x.Queries.Row(0)), 1, 1e-6)
	}
}

// The variance of Beta(α,α) is 1/(4(2α+1)).
func TestBetaHasItsVariance(t *testing.T) {
	r := generator(9)
	for _, alpha := range []float64{.2, .5, 1, 1.6, 2, 10} {
		sum, square := 0.0, 0.0
		const n = 20000
		for range n {
			x := beta(r, alpha)
			sum += x / n
			square += x * x / n
		}
		near(t, "mean", sum, .5, .02)
		want := 1 / (4 * (2*alpha + 1))
		near(t, "variance", square-sum*sum, want, .05*want)
	}
}
