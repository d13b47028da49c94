package eval

import (
	"math"

	"membank/index"
)

// ballot counts the votes of one query at a time. It is scratch of one
// goroutine: 8 bytes a class, whatever k.
type ballot struct {
	rule    Protocol
	classOf []int64   // class index of each gallery row, -1 without a label
	votes   []float64 // [classes]
	counts  []int32   // [classes] neighbours that voted so
	voted   []int32   // classes with a vote so far, in neighbour order
	total   float64
	voters  int32
}

// outcome is what one query comes to at one k.
type outcome struct {
	class     int32   // first of the class order, -1 if nothing voted
	rank      int32   // place of the query's own class in the class order, from 0; -1 if the gallery lacks it
	hasVote   bool    // the query's own class has one
	share     float64 // first vote / all votes
	own       float64 // vote of the query's own class / all votes
	margin    float64 // (first vote - second vote) / all votes
	agreement float64 // of the neighbours that voted, those for class
	gap       float64 // similarity of the last that voted - that of the next; +Inf if there is none
	overflow  bool    // exp(s/T) of the nearest overflows float32
	tied      bool    // the neighbours are all equally near, and so is the next, or there is none
}

func newBallot(rule Protocol, classOf []int64, classes int) *ballot {
	return &ballot{rule: rule, classOf: classOf, votes: make([]float64, classes), counts: make([]int32, classes)}
}

// count fills out[i] with the outcome at ks[i] (ascending) for a query of class
// truth (-1: one the gallery lacks), whose neighbours are hits, best first. Every
// k is a prefix of the same neighbours, and votes are added in their order, in
// float64: nothing here depends on batches or threads.
func (b *ballot) count(out []outcome, ks []int, hits []index.Hit, truth int) {
	b.reset()
	done := 0
	for i, k := range ks {
		k = min(k, len(hits))
		for ; done < k; done++ {
			b.add(hits[done].Row, b.weight(hits[done].Score, hits[0].Score))
		}
		out[i] = b.result(truth)
		out[i].gap = b.gap(hits, k)
		out[i].overflow = len(hits) > 0 && b.overflows(hits[0].Score)
		next := min(k, len(hits)-1) // the last that votes where no more were searched
		out[i].tied = next > 0 && hits[0].Score == hits[next].Score
	}
}

func (b *ballot) reset() {
	for _, c := range b.voted {
		b.votes[c], b.counts[c] = 0, 0
	}
	b.voted, b.total, b.voters = b.voted[:0], 0, 0
}

// add leaves out a weight of 0 (far beyond the best, in units of T): a class
// has a vote or it has none.
func (b *ballot) add(row int64, weight float64) {
	if weight == 0 {
		return
	}
	c := int32(b.classOf[row])
	if b.votes[c] == 0 {
		b.voted = append(b.voted, c)
	}
	b.votes[c] += weight
	b.total += weight
	b.counts[c]++
	b.voters++
}

// countAll is the outcome where every row with a score votes: NaN has none. Votes are
// added in row order; nothing is ranked.
func (b *ballot) countAll(scores []float32, truth int) outcome {
	b.reset()
	far := b.rule.search() == index.L2
	best, voters := float32(math.NaN()), 0
	tied := true
	for _, s := range scores {
		if s != s {
			continue
		}
		if voters++; voters == 1 {
			best = s
			continue
		}
		tied = tied && s == best
		if s > best != far && s != best {
			best = s
		}
	}
	for row, s := range scores {
		if s == s {
			b.add(int64(row), b.weight(s, best))
		}
	}
	o := b.result(truth)
	o.gap = math.Inf(1)
	o.tied = tied && voters > 1
	o.overflow = voters > 0 && b.overflows(best)
	return o
}

// weight of a neighbour of that score, the nearest having the best.
func (b *ballot) weight(score, nearest float32) float64 {
	s, best := float64(score), float64(nearest)
	switch b.rule.Weight {
	case Exp:
		if b.rule.Metric == L2 {
			// Similarity of a distance is its negative.
			s, best = -b.distance(s), -b.distance(best)
		}
		return math.Exp((s - best) / b.rule.T)
	case Inverse:
		d := b.distance(s)
		if b.rule.Offset > 0 {
			return 1 / (d + b.rule.Offset)
		}
		if b.distance(best) > 0 {
			return 1 / d
		}
		if d > 0 {
			return 0
		}
		return 1
	default:
		return 1
	}
}

// distance turns a printed score into the distance of the rule. Rounding can
// leave a cosine a little above 1, and no distance is negative.
func (b *ballot) distance(score float64) float64 {
	switch {
	case b.rule.Metric == L2 && b.rule.Normalise:
		return math.Sqrt(max(0, 2-2*score))
	case b.rule.Metric == L2:
		return math.Sqrt(score)
	default:
		return max(0, 1-score)
	}
}

// result ranks the classes: by vote, then by class; those without a vote come
// after the others, in class order.
func (b *ballot) result(truth int) outcome {
	o := outcome{class: -1, rank: -1}
	var first, second float64
	for _, c := range b.voted {
		switch v := b.votes[c]; {
		case v > first || v == first && c < o.class:
			first, second, o.class = v, first, c
		case v > second:
			second = v
		}
	}
	if b.total > 0 {
		o.share, o.margin = first/b.total, (first-second)/b.total
		o.agreement = float64(b.counts[o.class]) / float64(b.voters)
	}
	if truth >= 0 {
		o.rank, o.hasVote = b.rank(truth), b.votes[truth] > 0
		if b.total > 0 {
			o.own = b.votes[truth] / b.total
		}
	}
	return o
}

// rank is how many classes come before class c.
func (b *ballot) rank(c int) int32 {
	own, ahead := b.votes[c], 0
	if own == 0 {
		ahead = c // every smaller class, with a vote or without
	}
	for _, other := range b.voted {
		switch v := b.votes[other]; {
		case own == 0 && int(other) < c: // counted already
		case v > own || v == own && int(other) < c:
			ahead++
		}
	}
	return int32(ahead)
}

// gap is how far the k-th neighbour is ahead of the next, in printed units.
func (b *ballot) gap(hits []index.Hit, k int) float64 {
	if k == 0 || k >= len(hits) {
		return math.Inf(1)
	}
	return math.Abs(float64(hits[k-1].Score) - float64(hits[k].Score))
}

// overflows reports whether float32's exp(s/T), which the references take
// without a shift, is infinite for the nearest neighbour. They then report NaN
// or a tie of all classes.
func (b *ballot) overflows(best float32) bool {
	const limit = 88.72283905206835 // ln(MaxFloat32)
	return b.rule.Weight == Exp && b.rule.Metric != L2 && float64(best)/b.rule.T > limit
}
