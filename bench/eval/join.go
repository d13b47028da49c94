package eval

import (
	"context"
	"errors"

	"membank/index"
	"membank/store"
)

// join is the pairs of rows above a cosine, as far as they are wanted: which rows have
// one, which hang together through them, and which kept row each dropped one repeats.
// Rows are those that stand for themselves; report tells of their equals, too.
type join struct {
	s     *store.Snapshot
	least float32
	equal *standIns
	o     RunOptions

	found  int64     // pairs, with those of equal rows
	parent []int64   // union-find; the root is the smallest row
	paired []bool    // rows that have a pair
	of     []int64   // the row that each repeats; noStandIn: it is kept
	score  []float32 // with that
}

// errCrowded: there are too many pairs, or too many rows are kept.
var errCrowded = errors.New("too many near rows")

func newJoin(s *store.Snapshot, least float32, equal *standIns, o RunOptions) *join {
	n := s.Info().Next
	j := &join{s: s, least: least, equal: equal, o: o, parent: make([]int64, n), paired: make([]bool, n), of: make([]int64, n), score: make([]float32, n)}
	for i := range j.parent {
		j.parent[i], j.of[i] = int64(i), noStandIn
	}
	return j
}

// asks reports whether a row is compared with others: it stands for itself, and is not
// zero where zeros reach nothing.
func (j *join) asks(row int64) bool {
	return j.equal.alone(row) && !(row == j.equal.zero && j.least > 0)
}

// graph are the options of a graph of these pairs, each as the later row asks.
func (j *join) graph(only func(row int64) bool) index.GraphOptions {
	return index.GraphOptions{MinScore: j.least, HasMinScore: true, Earlier: true, Only: only, NoCodes: j.o.NoCodes, Threads: j.o.Threads, Memory: j.o.Memory}
}

// pairs takes all pairs one by one; errCrowded: there are more than so many.
func (j *join) pairs(ctx context.Context, most int64) error {
	var only func(int64) bool
	if j.equal.repeated > 0 {
		only = j.asks
	}
	g := j.graph(only)
	g.Progress = j.o.Progress
	seen := int64(0)
	_, err := index.New(j.s).Graph(ctx, g, func(row int64, earlier []index.Hit) error {
		if seen += int64(len(earlier)); seen > most {
			return errCrowded
		}
		for _, h := range earlier { // best first
			j.found += int64(j.equal.rows[row]) * int64(j.equal.rows[h.Row])
			j.take(row, h)
		}
		return nil
	})
	return err
}

// take links two rows, of which the later one repeats the other if that is kept and
// none that is nearer is known.
func (j *join) take(row int64, earlier index.Hit) {
	j.link(row, earlier.Row)
	if j.of[earlier.Row] != noStandIn {
		return
	}
	if j.of[row] == noStandIn || earlier.Score > j.score[row] || earlier.Score == j.score[row] && earlier.Row < j.of[row] {
		j.of[row], j.score[row] = earlier.Row, earlier.Score
	}
}

func (j *join) link(a, b int64) {
	j.paired[a], j.paired[b] = true, true
	if a, b = j.root(a), j.root(b); a != b {
		j.parent[max(a, b)] = min(a, b)
	}
}

// root follows parents, and shortens the way for the next time.
func (j *join) root(row int64) int64 {
	for j.parent[row] != row {
		j.parent[row] = j.parent[j.parent[row]]
		row = j.parent[row]
	}
	return row
}

// report tells what was found, of equal rows too, in row order.
func (j *join) report(r *DuplicateReport, labels []int64) {
	for at, first := range j.equal.first {
		if first == noStandIn {
			continue
		}
		row, equals := int64(at), j.equal.rows[first] > 1 && j.equal.score(first) >= j.least
		if !j.paired[first] && !equals {
			continue
		}
		f := Duplicate{Row: row, Group: j.root(first), Of: j.of[first], Score: j.score[first]}
		if row != first && f.Of == noStandIn {
			f.Of, f.Score = first, j.equal.score(first)
		}
		if row == first && equals && !r.AtLeast {
			n := int64(j.equal.rows[first])
			r.Pairs += n * (n - 1) / 2
		}
		if f.Of != noStandIn {
			f.Conflict = conflict(labels[row], labels[f.Of])
		}
		if f.Group == row {
			r.Groups++
		}
		r.drop(&f)
		r.Found = append(r.Found, f)
	}
	r.Grouped = int64(len(r.Found))
}
