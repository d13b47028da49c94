package index

import (
	"context"
	"math/bits"
	"slices"

	"membank/simd"
)

// The rows of a graph know one another, though the score of i for j does not have
// the bits of that of j for i. Where row i has named j as its neighbour, the k-th
// score of j is likely to be a little less than that of i: both lie in the same
// part of the bank. So j starts with a guessed floor, the highest k-th score of the
// rows before it that named it, less a margin; like every guess (guess.go) it is
// proven by the answer or taken back. That spares j the seed, and rows that reach the
// seed's poorer guess. Measured by BenchmarkGraph, 100,000 × 384, k = 20: a fifth fewer
// pairs scored exactly, a sixth fewer in the second stage, 11 to 14 % less processor time.
// While few rows have been named, at the start of a bank, it gains nothing.
//
// Other ways were weighed. A floor that is proven beforehand needs k known scores,
// and a row is named by k others only when nearly all have asked. Each pair of
// blocks compared once would halve the first stage, a third of the time, but needs
// two floors a pair in its kernel and every row's hits in memory at once.
//
// The margin is learnt from the rows before: all but missShare of them would have
// been guessed right. It is another one for each class of how many rows named j.
//
// All scores here are internal ones; dot products are divided by the norm of the
// row that asks, as they grow with it.
type expectation struct {
	limit  int64     // of row numbers that are kept
	floors []float32 // of each row number: the highest k-th score of rows that named it
	named  []uint8   // by how many rows, up to 255
	offs   [namings][]float32
	next   [namings]int // position in offs, once it is full
	margin [namings]float32
	known  [namings]bool // whether there is a margin

	offsNeeded  int // before a class is guessed
	guessedFrom int // fewer rows are not worth a pass of their own
}

const (
	namings     = 6    // classes: named by 1, 2, 3-4, 5-8, 9-16, or more rows
	missShare   = 0.02 // rows that ask twice, as their guess was too high
	offsKept    = 4096 // of the latest rows in each class
	expectBytes = 5    // a row number
)

// newExpectation may take so many bytes; with few it knows the first rows only. Eager
// is for small banks: it guesses as soon as it can.
func newExpectation(memory int64, eager bool) *expectation {
	e := &expectation{limit: memory / expectBytes, offsNeeded: 256, guessedFrom: 64}
	if eager {
		e.offsNeeded, e.guessedFrom = 1, 1
	}
	return e
}

// class says how often a row was named, −1 never.
func (e *expectation) class(row int64) int {
	if row >= int64(len(e.named)) || e.named[row] == 0 {
		return -1
	}
	return min(bits.Len8(e.named[row]-1), namings-1)
}

// guess is a score that the k-th of a row is expected to reach.
func (e *expectation) guess(row int64) (score float32, known bool) {
	c := e.class(row)
	if c < 0 || !e.known[c] {
		return 0, false
	}
	return e.floors[row] + e.margin[c], true
}

// check compares what was expected of a row with its k-th score.
func (e *expectation) check(row int64, kth float32) {
	c := e.class(row)
	if c < 0 {
		return
	}
	off := kth - e.floors[row]
	if len(e.offs[c]) < offsKept {
		e.offs[c] = append(e.offs[c], off)
		return
	}
	e.offs[c][e.next[c]] = off
	e.next[c] = (e.next[c] + 1) % offsKept
}

// name says that a row with this k-th score has another one as its neighbour.
func (e *expectation) name(row int64, kth float32) {
	if row >= e.limit {
		return
	}
	if more := row + 1 - int64(len(e.named)); more > 0 {
		e.named = append(e.named, make([]uint8, more)...)
		e.floors = append(e.floors, make([]float32, more)...)
	}
	if e.named[row] == 0 || kth > e.floors[row] {
		e.floors[row] = kth
	}
	if e.named[row] < 255 {
		e.named[row]++
	}
}

// learn sets the margins by what was checked.
func (e *expectation) learn() {
	for c, offs := range e.offs {
		if len(offs) >= e.offsNeeded {
			sorted := slices.Sorted(slices.Values(offs))
			e.margin[c], e.known[c] = sorted[int(missShare*float64(len(sorted)))], true
		}
	}
}

// searchFrom is Search with a guessed floor for each query, without codes' seed.
// It also returns the queries whose guess was too high: their hits are not the
// answer. The queries must have been asked for K hits, by codes.
func (ix *Index) searchFrom(ctx context.Context, queries simd.Matrix, o Options, guesses []float32, progress func(done float64)) (r Result, again []int, err error) {
	norms, err := ix.check(queries, &o)
	if err != nil {
		return r, nil, err
	}
	r.Hits = make([][]Hit, queries.Rows)
	budget, each := newBudget(o.Memory), ix.passQueries(o)
	for first := 0; first < queries.Rows; first += each {
		last := min(first+each, queries.Rows)
		part := ix.arranged(o.batch(queries, norms, first, last), &o, false)
		p := newPass(ix, o, budget, part.queries, part.norms, nil, route{})
		p.exclude = part.exclude
		p.cautious, p.seedPanels = true, 0
		p.guesses = make([]float32, last-first)
		for q := range p.guesses {
			p.guesses[q] = guesses[first+part.from(q)]
			p.floors[q].store(max(p.floors[q].load(), p.guesses[q]))
		}
		p.progress = func(done float64) {
			progress((float64(first) + done*float64(last-first)) / float64(queries.Rows))
		}
		if err := p.run(ctx); err != nil {
			return r, nil, err
		}
		hits, err := p.answers()
		if err != nil {
			return r, nil, err
		}
		for q, list := range hits {
			r.Hits[first+part.from(q)] = list
		}
		for _, q := range p.again {
			again = append(again, first+part.from(q))
		}
		r.Stats.add(p.stats)
		r.Stats.Passes++
	}
	return r, again, nil
}
