package eval

import (
	"math"
	"slices"
	"testing"

	"membank/index"
)

// near compares with the figures of a table that is printed to four digits.
func near(t *testing.T, what string, got, want float64) {
	t.Helper()
	if math.Abs(got-want) > 0.5e-4*max(1, math.Abs(want)) {
		t.Errorf("%s is %.6f, want %.4f", what, got, want)
	}
}

// The worked example: neighbours A at 0.9, B and B at 0.8. Which class wins
// depends on the weight alone.
func TestVotesOfTheWorkedExample(t *testing.T) {
	const A, B = 0, 1
	hits := []index.Hit{{Row: 0, Score: 0.9}, {Row: 1, Score: 0.8}, {Row: 2, Score: 0.8}}
	classOf := []int64{A, B, B}
	exp := func(temperature float64) Protocol { return Protocol{Weight: Exp, Metric: Cosine, T: temperature} }
	inverse := func(offset float64) Protocol {
		return Protocol{Weight: Inverse, Metric: L2, Normalise: true, Offset: offset}
	}
	for _, c := range []struct {
		name   string
		rule   Protocol
		a, b   float64
		winner int32
	}{
		{"T=0.07", exp(0.07), 1, 0.4793, A},
		{"T=0.1", exp(0.1), 1, 0.7358, A},
		{"T=0.2", exp(0.2), 1, 1.2131, B},
		{"T=0.5", exp(0.5), 1, 1.6375, B},
		{"majority", Protocol{Weight: Count, Metric: Cosine}, 1, 2, B},
		{"1/(d+1e-5)", inverse(1e-5), 2.2360, 3.1622, B},
		{"1/(d+0.07)", inverse(0.07), 1.9334, 2.8472, B},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBallot(c.rule, classOf, 2)
			var out [2]outcome
			b.count(out[:], []int{1, 3}, hits, A)
			near(t, "vote of A", b.votes[A], c.a)
			near(t, "vote of B", b.votes[B], c.b)
			if out[0].class != A {
				t.Errorf("k=1 predicts %d: the nearest alone is A", out[0].class)
			}
			if out[1].class != c.winner {
				t.Errorf("k=3 predicts %d, want %d", out[1].class, c.winner)
			}
			near(t, "margin", out[1].margin, math.Abs(c.a-c.b)/(c.a+c.b))
			near(t, "share", out[1].share, max(c.a, c.b)/(c.a+c.b))
			near(t, "gap at k=1", out[0].gap, 0.1)
			if !math.IsInf(out[1].gap, 1) {
				t.Errorf("gap at k=3 is %v: no neighbour is left", out[1].gap)
			}
		})
	}
}

// Classes by vote, then by class; those without a vote after the others.
func TestClassOrder(t *testing.T) {
	// Six classes; 4 and 2 tie with one neighbour each, 3 has two; 0, 1, 5 none.
	classOf := []int64{4, 3, 3, 2}
	hits := []index.Hit{{Row: 0, Score: 1}, {Row: 1, Score: 1}, {Row: 2, Score: 1}, {Row: 3, Score: 1}}
	order := []int{3, 2, 4, 0, 1, 5}
	for place, class := range order {
		b := newBallot(Protocol{Weight: Count}, classOf, 6)
		var out [1]outcome
		b.count(out[:], []int{4}, hits, class)
		if out[0].rank != int32(place) {
			t.Errorf("class %d has rank %d, want %d", class, out[0].rank, place)
		}
		if voted := slices.Contains(order[:3], class); out[0].hasVote != voted {
			t.Errorf("class %d: hasVote is %v", class, out[0].hasVote)
		}
	}
}

// A ballot that is used again knows nothing of the query before.
func TestBallotForgets(t *testing.T) {
	b := newBallot(Protocol{Weight: Exp, T: 0.1}, []int64{0, 1, 2, 1}, 3)
	hits := []index.Hit{{Row: 0, Score: .5}, {Row: 1, Score: .4}, {Row: 2, Score: .3}, {Row: 3, Score: .2}}
	var fresh, again [3]outcome
	ks := []int{1, 2, 4}
	b.count(fresh[:], ks, hits, 1)
	b.count(again[:], ks, []index.Hit{{Row: 3, Score: 1000}}, 2)
	if again[2].class != 1 || again[2].share != 1 || again[2].rank != 2 {
		t.Errorf("one neighbour of class 1 gives %+v", again[2])
	}
	b.count(again[:], ks, hits, 1)
	if fresh != again {
		t.Errorf("got %+v, the first time %+v", again, fresh)
	}
}

// Inner products of raw features: the original's float32 exp is infinite beyond
// s/T = 88.72, the shifted one is not, and what is far behind votes 0 at worst.
func TestExpDoesNotOverflow(t *testing.T) {
	b := newBallot(Protocol{Weight: Exp, Metric: Dot, T: 0.1}, []int64{1, 0, 0, 2}, 3)
	var out [1]outcome
	b.count(out[:], []int{4}, []index.Hit{{Row: 0, Score: 3e4}, {Row: 1, Score: 29999.95}, {Row: 2, Score: 29999.9}, {Row: 3, Score: -3e4}}, 2)
	o := out[0]
	if o.class != 1 || !o.overflow || math.IsNaN(o.share) || o.hasVote {
		t.Errorf("got %+v", o)
	}
	if o.rank != 2 {
		t.Errorf("class 2, whose only weight is 0, has rank %d, want 2", o.rank)
	}
	for score, want := range map[float32]bool{8.87: false, 8.88: true} {
		if b.count(out[:], []int{1}, []index.Hit{{Row: 0, Score: score}}, 0); out[0].overflow != want {
			t.Errorf("a dot product of %v at T=0.1: overflow is %v", score, out[0].overflow)
		}
	}
}

// Without an offset 1/d has no value at 0: scikit-learn lets the rows at
// distance 0 decide alone.
func TestInverseWithoutOffset(t *testing.T) {
	b := newBallot(Protocol{Weight: Inverse, Metric: L2}, []int64{1, 0, 0, 0}, 2)
	var out [2]outcome
	b.count(out[:], []int{1, 4}, []index.Hit{{Row: 0, Score: 0}, {Row: 1, Score: 0.01}, {Row: 2, Score: 0.01}, {Row: 3, Score: 4}}, 1)
	if out[1].class != 1 || out[1].share != 1 {
		t.Errorf("a row at distance 0 does not decide: %+v", out[1])
	}
	b.count(out[:], []int{2, 4}, []index.Hit{{Row: 0, Score: 1}, {Row: 1, Score: 4}, {Row: 2, Score: 4}, {Row: 3, Score: 4}}, 1)
	if b.votes[1] != 1 || b.votes[0] != 1.5 {
		t.Errorf("votes are %v, want 1/1 and 3/2", b.votes)
	}
}

// One row left out of a bank of one: nothing votes, so nothing is right, though
// a class without votes is first in class order.
func TestNoNeighbours(t *testing.T) {
	b := newBallot(Protocol{Weight: Count}, []int64{0}, 1)
	var out [1]outcome
	b.count(out[:], []int{1}, nil, 0)
	if o := out[0]; o.class != -1 || o.share != 0 || o.margin != 0 || o.hasVote {
		t.Errorf("got %+v", o)
	}
	tl := newTally()
	tl.add(classKey{}, out[0], 0)
	if tl.correct1 != 0 || tl.correct5 != 0 {
		t.Errorf("counted as right: %+v", tl)
	}
}
