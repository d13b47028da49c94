package memory

import (
	"errors"
	"math"
	"slices"
	"testing"

	"membank/index"
	"membank/simd"
	"membank/store"
)

// The tables give every weight its share exactly, but for rounding.
func TestAliasTablesHoldTheWeights(t *testing.T) {
	r := generator(1)
	for range 50 {
		w, sum := make([]float64, 1+r.IntN(40)), 0.0
		for i := range w {
			if w[i] = r.ExpFloat64(); r.IntN(3) == 0 {
				w[i] = 0
			}
			sum += w[i]
		}
		a, err := NewAlias(w)
		if sum == 0 {
			if !errors.Is(err, ErrOptions) {
				t.Fatalf("weights of 0: %v", err)
			}
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		for i := range w {
			near(t, "probability", a.Probability(int64(i)), w[i]/sum, 1e-12)
		}
	}
	for _, w := range [][]float64{nil, {-1, 2}, {math.NaN()}, {math.Inf(1)}} {
		if _, err := NewAlias(w); !errors.Is(err, ErrOptions) {
			t.Errorf("weights %v: %v", w, err)
		}
	}
}

func sample(t *testing.T, b *Bank, o SampleOptions) [][]int64 {
	t.Helper()
	lines, err := b.Sample(background, o)
	if err != nil {
		t.Fatal(err)
	}
	return lines
}

// chiSquare of counts against equal shares; with many cells it is normal with mean
// n−1 and variance 2(n−1).
func chiSquare(counts []int, shares []float64, draws int) (z float64) {
	x, cells := 0.0, 0
	for i, n := range counts {
		if shares[i] == 0 {
			continue
		}
		cells++
		e := shares[i] * float64(draws)
		x += (float64(n) - e) * (float64(n) - e) / e
	}
	return (x - float64(cells-1)) / math.Sqrt(2*float64(cells-1))
}

func TestSamplesFollowTheirWeights(t *testing.T) {
	const rows = 50
	s := mustSlots(t, nil, Config{Rows: rows, Views: []View{{Dim: 1}}, Seed: 3})
	uniform, weighted := make([]float64, rows), make([]float64, rows)
	total := 0.0
	for i := range weighted {
		uniform[i] = 1.0 / rows
		if weighted[i] = float64(i % 7); i%7 == 0 {
			weighted[i] = 0
		}
		total += weighted[i]
	}
	alias, err := NewAlias(weighted)
	if err != nil {
		t.Fatal(err)
	}
	for i := range weighted {
		weighted[i] /= total
	}
	for name, c := range map[string]struct {
		alias  *Alias
		shares []float64
	}{"uniform": {nil, uniform}, "weighted": {alias, weighted}} {
		counts := make([]int, rows)
		for _, line := range sample(t, s.Bank, SampleOptions{N: 1000, Anchors: 50, Weights: c.alias}) {
			for _, id := range line {
				counts[id]++
			}
		}
		for i, n := range counts {
			if c.shares[i] == 0 && n > 0 {
				t.Errorf("%s: id %d has no weight and was drawn %d times", name, i, n)
			}
		}
		if z := chiSquare(counts, c.shares, 50000); math.Abs(z) > 5 {
			t.Errorf("%s: off by %.1f standard deviations", name, z)
		}
	}
}

// The draw is a function of seed, step, rank and line.
func TestSamplesAreRepeatable(t *testing.T) {
	c := Config{Rows: 1000, Views: []View{{Dim: 1}}, Seed: 3}
	s := mustSlots(t, nil, c)
	first := sample(t, s.Bank, SampleOptions{N: 20, Anchors: 4, Step: 7, Rank: 1})
	if again := sample(t, mustSlots(t, nil, c).Bank, SampleOptions{N: 20, Anchors: 2, Step: 7, Rank: 1}); !slices.EqualFunc(first[:2], again, slices.Equal) {
		t.Error("the same draw differs")
	}
	seen := [][]int64{first[0], first[1]}
	for _, o := range []SampleOptions{{N: 20, Step: 8, Rank: 1}, {N: 20, Step: 7, Rank: 2}, {N: 20, Step: 1, Rank: 7}} {
		seen = append(seen, sample(t, s.Bank, o)[0])
	}
	c.Seed = 4
	seen = append(seen, sample(t, mustSlots(t, nil, c).Bank, SampleOptions{N: 20, Step: 7, Rank: 1})[0])
	for i, a := range seen {
		for _, b := range seen[:i] {
			if slices.Equal(a, b) {
				t.Errorf("two draws are the same: %v", a)
			}
		}
	}
}

func TestSamplesLeaveOut(t *testing.T) {
	s := mustSlots(t, nil, Config{Rows: 4, Views: []View{{Dim: 1}}})
	with := sample(t, s.Bank, SampleOptions{N: 200, Positives: []int64{2}, PositiveFirst: true})[0]
	if len(with) != 201 || with[0] != 2 || !slices.Contains(with[1:], 2) {
		t.Errorf("NCE's line begins with its positive, which may come again: %v…", with[:5])
	}
	without := sample(t, s.Bank, SampleOptions{N: 200, Positives: []int64{2}, ExcludePositive: true, Exclude: []int64{0}})[0]
	if slices.Contains(without, 2) || slices.Contains(without, 0) || !slices.Contains(without, 1) || !slices.Contains(without, 3) {
		t.Errorf("drawn without 0 and 2: %v", without)
	}
	if _, err := s.Sample(background, SampleOptions{N: 1, Exclude: []int64{0, 1, 2, 3}}); !errors.Is(err, ErrEmpty) {
		t.Errorf("all left out: %v", err)
	}
	if _, err := s.Sample(background, SampleOptions{N: 1, Scope: ScopeWritten}); !errors.Is(err, ErrEmpty) {
		t.Errorf("nothing written: %v", err)
	}
	if got := sample(t, s.Bank, SampleOptions{N: 3, Distinct: true, Exclude: []int64{1}})[0]; !slices.Equal(slices.Sorted(slices.Values(got)), []int64{0, 2, 3}) {
		t.Errorf("distinct: %v", got)
	}
	if _, err := s.Sample(background, SampleOptions{N: 5, Distinct: true}); !errors.Is(err, ErrEmpty) {
		t.Errorf("5 different of 4: %v", err)
	}
	q := mustQueue(t, nil, Config{Rows: 100, Views: []View{{Dim: 1}}})
	mustPush(t, q, one1(1, 2, 3), PushOptions{})
	if most := slices.Max(sample(t, q.Bank, SampleOptions{N: 200})[0]); most != 2 {
		t.Errorf("position %d of a queue that holds 3", most)
	}
	if most := slices.Max(sample(t, q.Bank, SampleOptions{N: 200, Scope: ScopeAll})[0]); most < 50 {
		t.Errorf("all positions: only up to %d", most)
	}
	if got, err := NegativePrototypes(background, 6, []int64{0, 3, 3}, 4, 1, 1); err != nil || !slices.Equal(slices.Sorted(slices.Values(got)), []int64{1, 2, 4, 5}) {
		t.Errorf("negative prototypes: %v, %v", got, err)
	}
}

// naive ranks all rows of a bank by the metric in float64, larger first; equal ones
// by id.
func naive(b *Bank, view int, query []float32, metric index.Metric) []index.Hit {
	var hits []index.Hit
	for id := range b.c.Rows {
		row := b.views[view].row(b.queue.row(id))
		dot, qq, xx := 0.0, 0.0, 0.0
		for d, q := range query {
			dot += float64(q) * float64(row[d])
			qq += float64(q) * float64(q)
			xx += float64(row[d]) * float64(row[d])
		}
		score := dot
		switch metric {
		case index.Cosine:
			score = dot / math.Max(math.Sqrt(qq), 1e-12) / math.Max(math.Sqrt(xx), 1e-12)
		case index.L2:
			score = -(qq - 2*dot + xx)
		}
		hits = append(hits, index.Hit{Row: id, Score: float32(score)})
	}
	slices.SortStableFunc(hits, func(a, b index.Hit) int {
		switch {
		case a.Score > b.Score:
			return -1
		case a.Score < b.Score:
			return 1
		}
		return 0
	})
	return hits
}

// Searches of a live bank find what a loop finds, whatever its shape, and after
// updates.
func TestNearestEqualsALoop(t *testing.T) {
	r := generator(8)
	for _, rows := range []int64{1, 31, 33, 5000} {
		for _, dim := range []int{1, 7, 128} {
			s := mustSlots(t, nil, Config{Rows: rows, Views: []View{{Dim: 2}, {Dim: dim}}, Seed: uint64(dim)})
			if _, err := s.Update(background, []int64{0, rows - 1}, []simd.Matrix{{}, random(r, 2, dim)}, UpdateOptions{Renorm: RenormNone}); err != nil {
				t.Fatal(err)
			}
			queries := random(r, 3, dim)
			for _, metric := range []index.Metric{index.Cosine, index.Dot, index.L2} {
				n, err := s.Nearest(background, queries, false, NearestOptions{Options: index.Options{K: 9, Metric: metric}, View: 1})
				if err != nil {
					t.Fatal(err)
				}
				for q := range queries.Rows {
					want := naive(s.Bank, 1, queries.Row(q), metric)
					for i, h := range n.Hits[q] {
						score := h.Score
						if metric == index.L2 {
							score = -score
						}
						if math.Abs(float64(score-want[i].Score)) > 1e-4*(1+math.Abs(float64(score))) {
							t.Errorf("%d × %d, %v: hit %d is %v, want %v", rows, dim, metric, i, h, want[i])
						}
					}
					if len(n.Hits[q]) != int(min(rows, 9)) {
						t.Errorf("%d hits of %d rows", len(n.Hits[q]), rows)
					}
				}
			}
		}
	}
}

// Hard negatives are the top of the ranking less positives; semi-hard ones score less
// than the positive.
func TestHardNegatives(t *testing.T) {
	const rows = 400
	s := mustSlots(t, nil, Config{Rows: rows, Views: []View{{Dim: 6}}, Seed: 2})
	labels, ids := make([]int64, rows), make([]int64, rows)
	for i := range labels {
		ids[i], labels[i] = int64(i), int64(i%3)
		if i%10 == 0 {
			labels[i] = store.NoLabel
		}
	}
	if err := s.SetLabels(background, ids, labels, Memory); err != nil {
		t.Fatal(err)
	}
	queries := unit(random(generator(3), 5, 6))
	o := HardOptions{NearestOptions: NearestOptions{Options: index.Options{K: 40, Metric: index.Dot}},
		Positives: []int64{1, 2, 3, 4, 5}, Labels: []int64{0, 1, 2, store.NoLabel, 1}, Below: []float32{.9, .5, .2, 0, -.9}}
	n, err := s.HardNegatives(background, queries, true, o)
	if err != nil {
		t.Fatal(err)
	}
	for q := range queries.Rows {
		var want []int64
		for _, h := range naive(s.Bank, 0, queries.Row(q), index.Dot) {
			if h.Row == o.Positives[q] || h.Score >= o.Below[q] || o.Labels[q] != store.NoLabel && labels[h.Row] == o.Labels[q] {
				continue
			}
			if want = append(want, h.Row); len(want) == o.K {
				break
			}
		}
		var got []int64
		for i, h := range n.Hits[q] {
			got = append(got, h.Row)
			sameRow(t, "vector", n.Vectors[q].Row(i), gathered(t, s.Bank, h.Row))
		}
		if !slices.Equal(got, want) {
			t.Errorf("query %d: %v, want %v", q, got, want)
		}
	}
	o.HasMinScore, o.MinScore, o.Below = true, 0.5, nil
	if n, err = s.HardNegatives(background, queries, false, o); err != nil {
		t.Fatal(err)
	}
	for q, hits := range n.Hits {
		for _, h := range hits {
			if h.Score < 0.5 {
				t.Errorf("query %d: %v is below the floor", q, h)
			}
		}
	}
}
