package eval

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// Copy detection by its definition: all pairs in a table, sorted, cut, judged.
func TestCopiesAgainstDefinition(t *testing.T) {
	for trial, c := range []struct {
		e    Copies
		norm bool
	}{
		{Copies{}, false},
		{Copies{K: 3}, false},
		{Copies{K: 1000, Metric: Dot}, false},
		{Copies{K: 4, Metric: L2}, false},
		{Copies{Global: 60}, false},
		{Copies{Global: 25, Metric: L2}, false},
		{Copies{Global: 1 << 20}, false},
		{Copies{K: 5, Normalise: &ScoreNorm{1, 0, 2}}, true},
		{Copies{Global: 40, Normalise: &ScoreNorm{0.5, 1, 3}, Metric: Dot}, true},
	} {
		r := rand.New(rand.NewPCG(11, uint64(trial)))
		rows, queries, back := dyadic(r, 50, 16), dyadic(r, 20, 16), dyadic(r, 30, 16)
		e := c.e
		truth := map[pairOf]bool{}
		for range 15 {
			q, x := int64(r.IntN(20)), int64(r.IntN(50))
			if r.IntN(2) == 0 {
				copy(queries.Row(int(q)), rows.Row(int(x)))
			}
			if !truth[pairOf{q, x}] {
				truth[pairOf{q, x}] = true
				e.Truth = append(e.Truth, Match{fmt.Sprint(q), fmt.Sprint(x)})
			}
		}
		db := open(t)
		refs, asked := set(t, write(t, db, "refs", rows, nil)), set(t, write(t, db, "queries", queries, nil))
		if c.norm {
			e.Background = set(t, write(t, db, "back", back, nil))
		}
		metric := e.Metric
		if metric == "" {
			metric = Cosine
		}
		p := Protocol{Metric: metric, Normalise: metric == Cosine}
		score := func(a, b []float32) float64 {
			s, d := similarity(p, a, b)
			if metric == L2 {
				return -d * d
			}
			return s
		}
		var pairs []candidate
		for q := range queries.Rows {
			bias := 0.0
			if n := e.Normalise; n != nil {
				var all []float64
				for x := range back.Rows {
					all = append(all, score(queries.Row(q), back.Row(x)))
				}
				slices.Sort(all)
				slices.Reverse(all)
				for _, s := range all[n.First : n.Last+1] {
					bias += n.Beta * s / float64(n.Last-n.First+1)
				}
			}
			var own []candidate
			for x := range rows.Rows {
				pair := pairOf{int64(q), int64(x)}
				own = append(own, candidate{pair, float32(score(queries.Row(q), rows.Row(x)) - bias), truth[pair]})
			}
			slices.SortStableFunc(own, func(a, b candidate) int { return cmp.Compare(b.score, a.score) })
			if e.Global == 0 {
				k := e.K
				if k == 0 {
					k = 10
				}
				own = own[:min(k, len(own))]
			}
			pairs = append(pairs, own...)
		}
		slices.SortStableFunc(pairs, func(a, b candidate) int { return cmp.Compare(b.score, a.score) })
		if e.Global > 0 {
			pairs = pairs[:min(e.Global, len(pairs))]
		}
		// Precision and recall at a place in a run of ties: all its wrong ones before.
		ap, p90 := 0.0, math.NaN()
		for i, c := range pairs {
			if !c.true {
				continue
			}
			right, wrong := 0.0, 0.0
			for j, other := range pairs {
				if other.true && (other.score > c.score || other.score == c.score && j <= i) {
					right++
				}
				if !other.true && other.score >= c.score {
					wrong++
				}
			}
			ap += right / (right + wrong) / float64(len(truth))
			if recall := right / float64(len(truth)); right/(right+wrong) >= 0.9 && !(recall < p90) {
				p90 = recall
			}
		}
		at := map[int]float64{}
		for _, c := range pairs {
			rank := 0
			for _, other := range pairs {
				if other.query == c.query && other.score >= c.score {
					rank++
				}
			}
			for _, k := range []int{1, 10} {
				if c.true && rank <= k {
					at[k] += 1 / float64(len(truth))
				}
			}
		}
		got, err := e.Evaluate(t.Context(), asked, refs, RunOptions{Memory: 30 << 10, Threads: 2})
		if err != nil {
			t.Fatal(err)
		}
		f := got.Results[0]
		if n := number(t, f, "candidates"); n != float64(len(pairs)) {
			t.Errorf("%s: %v candidates, want %d", got.Protocol, n, len(pairs))
		}
		within(t, got.Protocol+" uAP", number(t, f, "uAP"), ap, 1e-9)
		within(t, got.Protocol+" recall@1", number(t, f, "recall@1"), at[1], 1e-9)
		within(t, got.Protocol+" recall@10", number(t, f, "recall@10"), at[10], 1e-9)
		switch v, has := f.Lookup("recall@P90"); {
		case has != !math.IsNaN(p90):
			t.Errorf("%s: recall@P90 %v (%v), want %v", got.Protocol, v, has, p90)
		case has:
			within(t, got.Protocol+" recall@P90", v, p90, 1e-9)
		}
	}
}

// Equal scores, wrong first: a detector that scores everything alike has the
// precision of its whole list.
func TestCopiesTies(t *testing.T) {
	c := candidates{truth: map[pairOf]bool{{0, 1}: true, {1, 1}: true}}
	for q := range int64(2) {
		for x := range int64(2) {
			c.add(pairOf{q, x}, 0.5)
		}
	}
	f := c.figures(2)
	within(t, "uAP", number(t, f, "uAP"), (1.0/3+2.0/4)/2, 1e-12)
	within(t, "recall@1", number(t, f, "recall@1"), 0, 0)
	within(t, "recall@10", number(t, f, "recall@10"), 1, 0)
	if _, has := f.Lookup("recall@P90"); has {
		t.Error("recall@P90 at a precision that is never reached")
	}
}

func TestReadMatches(t *testing.T) {
	got, err := ReadMatches(strings.NewReader("\ufeffquery_id,reference_id\nQ1,R1\nQ2,\nQ3 , R2,x\n"))
	if err != nil || !slices.Equal(got, []Match{{"Q1", "R1"}, {"Q3", "R2"}}) {
		t.Errorf("%v %v", got, err)
	}
	for _, text := range []string{"", "a\n", "Q1,\n", "Q1,R1\nQ1,R1\n", ",R1\n", "\"a,b\n"} {
		if _, err := ReadMatches(strings.NewReader(text)); !errors.Is(err, ErrGroundTruth) {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func TestCopiesRefusals(t *testing.T) {
	db := open(t)
	s := set(t, write(t, db, "rows", matrix(2, 1, 0, 0, 1), nil))
	truth := []Match{{"0", "1"}}
	for _, c := range []struct {
		e    Copies
		want error
	}{
		{Copies{}, ErrGroundTruth},
		{Copies{Truth: []Match{{"0", "9"}}}, ErrGroundTruth},
		{Copies{Truth: truth, K: -1}, ErrProtocol},
		{Copies{Truth: truth, Metric: "x"}, ErrProtocol},
		{Copies{Truth: truth, Normalise: &ScoreNorm{1, 0, 2}}, ErrProtocol},
		{Copies{Truth: truth, Normalise: &ScoreNorm{1, 0, 2}, Background: s}, ErrProtocol},
		{Copies{Truth: truth, Normalise: &ScoreNorm{1, 1, 0}, Background: s}, ErrProtocol},
		{Copies{Truth: truth, Normalise: &ScoreNorm{1, 0, 0}, Background: s, Metric: L2}, ErrProtocol},
	} {
		if _, err := c.e.Evaluate(t.Context(), s, s, RunOptions{}); !errors.Is(err, c.want) {
			t.Errorf("%+v: %v", c.e, err)
		}
	}
}
