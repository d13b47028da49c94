package eval

import (
	"fmt"
	"math"
	"math/bits"
	"slices"

	"membank/index"
	"membank/simd"
)

// place is where a row stands in a ranking.
type place struct {
	row, rank int64 // rank from 1
}

// ranking counts the rows before each marked row of one query. Larger scores are nearer.
// Workers count side by side, each for itself.
type ranking struct {
	row    int64 // the query's number
	leave  bool  // which is not ranked
	x      []float32
	norm   float64
	marks  []int64   // ascending row numbers
	scores []float64 // of the marks; NaN of those that are not ranked

	best   []scored   // the marks that are, best first
	counts [][]uint32 // [worker][len(best)] rows behind the mark before, down to this one
	equal  []int64    // [worker] rows seen, where all marks and all rows so far score the same
	apart  []bool     // [worker] some row scores otherwise

	// A grid over the scores, the best first, says where in best to look: cell c holds
	// best[starts[c]] to best[starts[c+1]-1].
	top, inverse float64
	starts       []int32
	keys         []uint64 // of the scores of best, in the order of numbers, and a least one
}

const (
	cellsEach = 2 // a mark: most cells hold one or none
	mostCells = 1 << 18
)

func newRanking(row int64, x []float32, marks []int64, leave bool, threads int) (*ranking, error) {
	q := &ranking{row: row, leave: leave, x: slices.Clone(x), norm: simd.Norm(x),
		marks: marks, scores: make([]float64, len(marks)),
		counts: make([][]uint32, threads), equal: make([]int64, threads), apart: make([]bool, threads)}
	if math.IsNaN(q.norm) || math.IsInf(q.norm, 0) {
		return nil, fmt.Errorf("%w: it holds NaN or Inf", index.ErrQuery)
	}
	for i := range q.scores {
		q.scores[i] = math.NaN()
	}
	return q, nil
}

// bytes is what the query will take: its vector, once as a column, and for every mark
// its score, once more with the row, the key, cells, counters and the place.
func (q *ranking) bytes() int64 {
	threads := int64(len(q.counts))
	return 12*int64(len(q.x)) + 512 + 64*threads + int64(len(q.marks))*(8+16+8+4*threads+16) + 4*int64(cellsOf(len(q.marks)))
}

// meet calls fn with each mark that is among numbers, and where.
func (q *ranking) meet(numbers []int64, fn func(mark, at int)) {
	at := 0
	mark, _ := slices.BinarySearch(q.marks, numbers[0])
	for ; mark < len(q.marks) && at < len(numbers); mark++ {
		step, found := slices.BinarySearch(numbers[at:], q.marks[mark])
		at += step
		if found && !(q.leave && q.marks[mark] == q.row) {
			fn(mark, at)
		}
	}
}

// arrange sorts the marks that were met.
func (q *ranking) arrange() {
	for i, s := range q.scores {
		if s == s {
			q.best = append(q.best, scored{q.marks[i], s})
		}
	}
	q.scores = nil
	slices.SortFunc(q.best, compareScored)
	for w := range q.counts {
		q.counts[w] = make([]uint32, len(q.best))
	}
	if len(q.best) == 0 {
		return
	}
	q.keys = make([]uint64, len(q.best)+1)
	for i, m := range q.best {
		q.keys[i] = keyOf(m.score)
	}
	cells := cellsOf(len(q.best))
	q.top = q.best[0].score
	q.inverse = float64(cells-1) / (q.top - q.best[len(q.best)-1].score)
	if math.IsInf(q.inverse, 0) {
		q.inverse = 0 // one score, or all but one
	}
	q.starts = make([]int32, cells+1)
	for _, m := range q.best {
		q.starts[1+int((q.top-m.score)*q.inverse)]++
	}
	for c := range cells {
		q.starts[c+1] += q.starts[c]
	}
}

func cellsOf(marks int) int { return min(cellsEach*marks, mostCells) }

// keyOf orders as the numbers do that it is made of; 0 and -0 are one.
func keyOf(score float64) uint64 {
	b := math.Float64bits(score + 0)
	return b ^ (uint64(int64(b)>>63) | 1<<63)
}

// before is the number of marks that are nearer than a row of that score. The grid and
// what follows only compare, and its cells are in the order of scores: it is exact.
func (q *ranking) before(score float64, row int64) int {
	cell := (q.top - score) * q.inverse
	if !(cell < float64(len(q.starts)-1)) {
		return len(q.best)
	}
	c := uint(max(0, int(cell)))
	from, to := int(q.starts[c]), int(q.starts[c+1])
	if to-from < 2 {
		// Whether the one mark is nearer is a coin's toss, so it is added, not branched
		// on. Where there is none, the next one is farther.
		key, mark := keyOf(score), q.keys[from]
		_, nearer := bits.Sub64(key, mark, 0)
		if key != mark {
			return from + int(nearer)
		}
	}
	at, _ := slices.BinarySearchFunc(q.best[from:to], scored{row, score}, compareScored)
	return from + at
}

// count takes rows and their inner products with the query; scale makes them scores.
func (q *ranking) count(worker int, numbers []int64, products, scale []float64) {
	if len(q.best) == 0 {
		return
	}
	q.leaveOut(numbers, products)
	scale = scale[:len(products)]
	if q.level(worker) {
		for i, v := range products {
			q.look(worker, v*scale[i])
		}
	}
	counts := q.counts[worker]
	for i, v := range products {
		score := v * scale[i]
		if b := q.before(score, numbers[i]); b < len(counts) {
			counts[b]++
		}
	}
}

// countDistances takes rows and their inner products with the query.
func (q *ranking) countDistances(worker int, p *piece, products []float64) {
	if len(q.best) == 0 {
		return
	}
	products = products[:len(p.numbers)]
	q.leaveOut(p.numbers, products)
	level, counts := q.level(worker), q.counts[worker]
	// Each chain errs by dim·2⁻⁵³ of the sum of its absolute terms, and these sums are
	// (‖q‖+‖x‖)² at most, of the product, the norms and the differences together.
	relative := float64(2*len(q.x)+16) * 0x1p-52
	for i, product := range products {
		row := p.numbers[i]
		if math.IsInf(product, -1) {
			continue
		}
		norm := p.norms[i]
		rough := 2*product - q.norm*q.norm - norm*norm
		slack := relative * (q.norm + norm) * (q.norm + norm)
		b := q.before(rough+slack, row)
		if b != q.before(rough-slack, row) || level && math.Abs(rough-q.top) <= slack {
			rough = -squaredDifference(q.x, p.rows.Row(i))
			b = q.before(rough, row)
		}
		if b < len(counts) {
			counts[b]++
		}
		if level {
			q.look(worker, rough)
		}
	}
}

// leaveOut puts the query's own row behind all others, where it is not ranked.
func (q *ranking) leaveOut(numbers []int64, scores []float64) {
	if !q.leave {
		return
	}
	if at, found := slices.BinarySearch(numbers, q.row); found {
		scores[at] = math.Inf(-1)
	}
}

// level: all marks score the same, and what the worker has seen does, too.
func (q *ranking) level(worker int) bool {
	return !q.apart[worker] && q.best[len(q.best)-1].score == q.top
}

// look takes a score for tied.
func (q *ranking) look(worker int, score float64) {
	switch {
	case score == q.top:
		q.equal[worker]++
	case !math.IsInf(score, -1):
		q.apart[worker] = true
	}
}

// tied: there are two rows at least, and all have one score.
func (q *ranking) tied() bool {
	rows := int64(0)
	for w := range q.equal {
		if len(q.best) == 0 || !q.level(w) {
			return false
		}
		rows += q.equal[w]
	}
	return rows > 1
}

// places are the marks that were ranked, best first.
func (q *ranking) places() []place {
	places := make([]place, len(q.best))
	rank := int64(0)
	for i, m := range q.best {
		for _, counts := range q.counts {
			rank += int64(counts[i])
		}
		places[i] = place{m.row, rank}
	}
	return places
}
