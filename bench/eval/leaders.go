package eval

import (
	"context"
	"errors"
	"math"
	"slices"

	"membank/index"
	"membank/simd"
	"membank/store"
)

// leaders are the rows that are kept, each in the name of those that repeat it: the
// join where pairs are too many to be looked at. It finds the same groups and the same
// rows to drop, in three steps:
//
//  1. Rows are compared, in row order, with those kept before them. That decides what
//     is kept, and what each other row repeats: N·kept comparisons instead of N²/2.
//  2. Rows are compared with those kept after them, which may link groups.
//  3. What is left are pairs of two rows that are not kept, in different groups. Where
//     each is within angle θ of the row that it repeats, and of the other, it is
//     within 2θ of the row that the other repeats. Rows that have no kept row of
//     another group that near are done; the others are compared, group by group.
//
// A collapsed space is one group after the first step, and nothing is left. Of many
// collapsed groups close to each other the last step takes the time of a search for
// the nearest neighbour of every row; never more.
type leaders struct {
	*join
	chunks  []leaderChunk
	pending simd.Matrix // of the last chunk, which still grows
	kept    int64
}

// leaderChunk are some kept rows, by place.
type leaderChunk struct {
	ix   *index.Index
	rows []int64
}

// Variables, for tests with few rows.
var (
	leaderBatch = 512  // rows that ask at once
	leaderRows  = 4096 // kept rows of a chunk, no fewer than ask at once
	// crowdedGroup rows of a group in question are searched, fewer are joined.
	crowdedGroup = 1024
)

// cosineSlack is more than cosines of float32 rows round by.
const cosineSlack = 1e-4

func (l *leaders) run(ctx context.Context) error {
	l.pending = simd.NewMatrix(leaderRows, l.s.Dim())
	done := int64(0)
	err := l.rows(ctx, l.asks, func(m simd.Matrix, rows []int64) error {
		if done += int64(len(rows)); l.o.Progress != nil {
			l.o.Progress(done, l.s.Info().Rows)
		}
		return l.choose(ctx, m, rows)
	})
	if err != nil {
		return err
	}
	follows := func(row int64) bool { return l.asks(row) && l.of[row] != noStandIn }
	if l.groups(l.asks) > 1 {
		err = l.rows(ctx, follows, func(m simd.Matrix, rows []int64) error {
			return l.nearLeaders(ctx, l.chunks, m, l.least, func(i int, h index.Hit) { l.link(rows[i], h.Row) })
		})
	}
	if err != nil || l.groups(follows) <= 1 {
		return err
	}
	return l.touching(ctx, follows)
}

// groups counts the groups of some rows, as far as it matters: none, one, or more.
func (l *leaders) groups(of func(row int64) bool) (n int) {
	last := int64(noStandIn)
	for row := range int64(len(l.parent)) {
		if !of(row) {
			continue
		}
		if root := l.root(row); root != last {
			if n++; n > 1 {
				return n
			}
			last = root
		}
	}
	return n
}

// rows reads some rows, in row order, so many at a time.
func (l *leaders) rows(ctx context.Context, of func(row int64) bool, fn func(m simd.Matrix, rows []int64) error) error {
	some, rows := simd.NewMatrix(leaderBatch, l.s.Dim()), make([]int64, 0, leaderBatch)
	return l.s.Batches(ctx, leaderBatch, func(b store.Batch) error {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		rows = rows[:0]
		for i, row := range b.Rows {
			if of(row) {
				copy(some.Row(len(rows)), b.Vectors.Row(i))
				rows = append(rows, row)
			}
		}
		if len(rows) == 0 {
			return nil
		}
		return fn(some.Slice(0, len(rows)), rows)
	})
}

// choose decides which of some rows are kept, and what the others repeat.
func (l *leaders) choose(ctx context.Context, m simd.Matrix, rows []int64) error {
	err := l.nearLeaders(ctx, l.chunks, m, l.least, func(i int, h index.Hit) { l.take(rows[i], h) })
	if err != nil {
		return err
	}
	// Those that are near to none that is kept are compared with each other.
	free, at := simd.NewMatrix(len(rows), m.Dim), []int64(nil)
	for i, row := range rows {
		if l.of[row] == noStandIn {
			copy(free.Row(len(at)), m.Row(i))
			at = append(at, row)
		}
	}
	if len(at) == 0 {
		return nil
	}
	ix, err := index.FromMatrix(free.Slice(0, len(at)), index.MatrixOptions{NoCodes: true, Threads: l.o.Threads})
	if err != nil {
		return err
	}
	_, err = ix.Graph(ctx, l.graph(nil), func(i int64, earlier []index.Hit) error {
		for _, h := range earlier {
			l.take(at[i], index.Hit{Row: at[h.Row], Score: h.Score})
		}
		return nil
	})
	if err != nil {
		return err
	}
	kept := leaderChunk{}
	vectors := simd.NewMatrix(len(at), m.Dim)
	for i, row := range at {
		if l.of[row] == noStandIn {
			copy(vectors.Row(len(kept.rows)), free.Row(i))
			kept.rows = append(kept.rows, row)
		}
	}
	vectors = vectors.Slice(0, len(kept.rows))
	if kept.ix, err = index.FromMatrix(vectors, index.MatrixOptions{NoCodes: true, Threads: l.o.Threads}); err != nil {
		return err
	}
	// A row that repeats one kept before may be nearer to one of these.
	err = l.nearLeaders(ctx, []leaderChunk{kept}, m, l.least, func(i int, h index.Hit) {
		switch row := rows[i]; {
		case h.Row < row:
			l.take(row, h)
		case h.Row > row:
			l.link(row, h.Row)
		}
	})
	if err != nil {
		return err
	}
	return l.keep(vectors, kept.rows)
}

// keep adds rows to the last chunk, or begins another.
func (l *leaders) keep(m simd.Matrix, rows []int64) error {
	l.kept += int64(len(rows))
	if l.kept*int64(m.Dim)*4 > l.o.Memory/2 {
		return errCrowded
	}
	n := len(l.chunks)
	if n == 0 || len(l.chunks[n-1].rows)+len(rows) > leaderRows {
		l.chunks = append(l.chunks, leaderChunk{})
		n++
	}
	last := &l.chunks[n-1]
	for i := range rows {
		copy(l.pending.Row(len(last.rows)+i), m.Row(i))
	}
	last.rows = append(last.rows, rows...)
	var err error
	last.ix, err = index.FromMatrix(l.pending.Slice(0, len(last.rows)), index.MatrixOptions{NoCodes: true, Threads: l.o.Threads})
	return err
}

// nearLeaders calls visit with every pair of a row of m and a row of the chunks whose
// cosine reaches least.
func (l *leaders) nearLeaders(ctx context.Context, chunks []leaderChunk, m simd.Matrix, least float32, visit func(i int, h index.Hit)) error {
	o := index.Options{MinScore: least, HasMinScore: true, Threads: l.o.Threads, Memory: max(l.o.Memory/4, int64(16*leaderRows))}
	var ask func(c leaderChunk, from, to int) error
	ask = func(c leaderChunk, from, to int) error {
		found, err := c.ix.Search(ctx, m.Slice(from, to), o)
		if errors.Is(err, index.ErrMemory) && to-from > 1 {
			half := (from + to) / 2
			if err = ask(c, from, half); err == nil {
				err = ask(c, half, to)
			}
			return err
		}
		if err != nil {
			return err
		}
		for i, hits := range found.Hits {
			for _, h := range hits {
				visit(from+i, index.Hit{Row: c.rows[h.Row], Score: h.Score})
			}
		}
		return nil
	}
	for _, c := range chunks {
		if err := ask(c, 0, m.Rows); err != nil {
			return err
		}
	}
	return nil
}

// touching compares rows that are not kept with those of other groups, where there may
// be pairs of them.
func (l *leaders) touching(ctx context.Context, follows func(int64) bool) error {
	leads := make([]bool, len(l.parent))
	for row := range int64(len(l.parent)) {
		if follows(row) {
			leads[l.of[row]] = true
		}
	}
	theta := math.Acos(float64(l.least))
	reach := float32(-2) // all: beyond a right angle, where zeros are, nothing follows
	if 2*theta < math.Pi {
		reach = float32(math.Cos(2*theta) - cosineSlack)
	}
	open := make([]bool, len(l.parent)) // rows that may have such a pair
	err := l.rows(ctx, follows, func(m simd.Matrix, rows []int64) error {
		return l.nearLeaders(ctx, l.chunks, m, reach, func(i int, h index.Hit) {
			if leads[h.Row] && l.root(h.Row) != l.root(rows[i]) {
				open[rows[i]] = true
			}
		})
	})
	if err != nil {
		return err
	}
	// Groups as they stand, the largest first; then by their first row.
	members := map[int64]int{}
	group := make([]int64, len(l.parent))
	for row := range int64(len(open)) {
		if open[row] {
			group[row] = l.root(row)
			members[group[row]]++
		}
	}
	var large []int64
	for root, n := range members {
		if n >= crowdedGroup {
			large = append(large, root)
		}
	}
	slices.SortFunc(large, func(a, b int64) int {
		if members[a] != members[b] {
			return members[b] - members[a]
		}
		return int(min(1, max(-1, a-b)))
	})
	ix := index.New(l.s)
	for _, g := range large {
		o := index.Options{K: 1, MinScore: l.least, HasMinScore: true, NoCodes: l.o.NoCodes, Threads: l.o.Threads, Memory: l.o.Memory,
			Allow: func(row int64) bool { return open[row] && group[row] == g }}
		others := func(row int64) bool { return open[row] && l.root(row) != l.root(g) }
		err := l.rows(ctx, others, func(m simd.Matrix, rows []int64) error {
			found, err := ix.Search(ctx, m, o)
			for i, hits := range found.Hits {
				for _, h := range hits {
					l.link(rows[i], h.Row)
				}
			}
			return err
		})
		if err != nil {
			return err
		}
		for row := range int64(len(open)) { // it is compared with all others
			open[row] = open[row] && group[row] != g
		}
	}
	_, err = ix.Graph(ctx, l.graph(func(row int64) bool { return open[row] }), func(row int64, earlier []index.Hit) error {
		for _, h := range earlier {
			l.link(row, h.Row)
		}
		return nil
	})
	return err
}
