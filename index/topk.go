package index

import (
	"math"
	"math/bits"
	"slices"
	"sync"
)

// Hit is one row of an answer.
type Hit struct {
	Row   int64
	Score float32 // cosine or dot product; with L2 the squared distance
}

// better is the total order of all answers, and the only place where ties are
// broken: the higher score, then the smaller row. No two rows are equal in it,
// so the best k of a set do not depend on the order in which they were met.
func better(a, b Hit) bool {
	return a.Score > b.Score || a.Score == b.Score && a.Row < b.Row
}

func compare(a, b Hit) int {
	switch {
	case better(a, b):
		return -1
	case better(b, a):
		return 1
	}
	return 0
}

// TopK keeps the best k of the hits it is offered. Internally larger is always
// nearer: L2 offers −d².
//
// Hits are appended to a buffer with room for some more than k; when it is full,
// a quickselect cuts it back to the best k, and the worst of these becomes the
// floor below which nothing need be offered any more. That is O(1) an offer,
// against O(log k) for a heap, for a floor that lags by at most room hits. A big k
// costs memory only as hits arrive.
//
// All workers of a search share the TopK of a query, each method between Lock
// and Unlock: then its floor is the tightest there is, and nothing is left to
// merge. Hits are rare once floors have risen, so the lock is seldom taken.
type TopK struct {
	sync.Mutex
	k     int
	room  int // hits beyond k that are taken in before a cut
	worst Hit // the k-th best after the last cut: nothing worse can enter
	hits  []Hit
}

// lowest is the floor of a TopK that takes everything. It is finite, while dead
// lanes score −Inf: they fail the comparison of the kernel without a branch.
const lowest = -math.MaxFloat32

// Reset empties t for the best k hits that score minScore or more, and hands it
// a buffer to fill (its length is ignored; it grows beyond its capacity, up to
// k+room). k and room are at least 1.
func (t *TopK) Reset(k, room int, minScore float32, buffer []Hit) {
	t.k, t.room = k, room
	t.worst = Hit{Row: math.MaxInt64, Score: minScore}
	t.hits = buffer[:0]
}

// Floor is the score that a hit must reach. A hit that equals it may still lose
// by its row. A floor only rises.
func (t *TopK) Floor() float32 { return t.worst.Score }

// Offer adds a hit unless it is certain to lose. NaN always loses.
func (t *TopK) Offer(row int64, score float32) {
	h := Hit{row, score}
	if !better(h, t.worst) {
		return
	}
	t.hits = append(t.hits, h)
	if len(t.hits)-t.k >= t.room { // k+room may not fit an int: k may be MaxInt
		t.cut()
	}
}

// cut keeps the best k hits, in no order but with the worst of them last.
func (t *TopK) cut() {
	selectBest(t.hits, t.k)
	t.hits = t.hits[:t.k]
	t.worst = t.hits[t.k-1]
}

// kept returns what was kept in no order: at most k hits of the buffer of t.
func (t *TopK) kept() []Hit {
	if len(t.hits) > t.k {
		t.cut()
	}
	return t.hits
}

// Best sorts what was kept and returns it, best first: at most k hits. The
// slice is the buffer of t.
func (t *TopK) Best() []Hit {
	slices.SortFunc(t.kept(), compare)
	return t.hits
}

// selectBest reorders hits so that the best k come first and the worst of
// these stands at k−1 (Hoare's quickselect, median of three). Where the pivots
// turn out badly it sorts instead, so the cost is O(n) in practice and
// O(n log n) at worst.
func selectBest(hits []Hit, k int) {
	want := k - 1
	lo, hi := 0, len(hits)-1
	for rounds := 4 * bits.Len(uint(len(hits))); lo < hi; rounds-- {
		if rounds == 0 {
			slices.SortFunc(hits[lo:hi+1], compare)
			return
		}
		mid := int(uint(lo+hi) >> 1)
		if better(hits[mid], hits[lo]) {
			hits[mid], hits[lo] = hits[lo], hits[mid]
		}
		if better(hits[hi], hits[lo]) {
			hits[hi], hits[lo] = hits[lo], hits[hi]
		}
		if better(hits[hi], hits[mid]) {
			hits[hi], hits[mid] = hits[mid], hits[hi]
		}
		pivot := hits[mid]
		i, j := lo, hi
		for i <= j {
			for better(hits[i], pivot) {
				i++
			}
			for better(pivot, hits[j]) {
				j--
			}
			if i <= j {
				hits[i], hits[j] = hits[j], hits[i]
				i++
				j--
			}
		}
		// [lo,j] are no worse than the pivot, [i,hi] no better; between the
		// two at most the pivot itself.
		switch {
		case want <= j:
			hi = j
		case want >= i:
			lo = i
		default:
			return
		}
	}
}
