package eval

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"membank/index"
	"membank/simd"
)

// crowded rows: some far from all others, some that float32 scores cannot tell apart,
// some equal to others, one zero.
func crowded(r *rand.Rand, rows, dim int, offset float64) simd.Matrix {
	m := simd.NewMatrix(rows, dim)
	for i := range rows {
		spread := []float64{1, 1e-3, 2e-6}[i%3]
		for d := range m.Row(i) {
			m.Row(i)[d] = float32(offset + math.Sin(float64(d)) + spread*r.NormFloat64())
		}
		if i%7 == 6 {
			copy(m.Row(i), m.Row(r.IntN(i)))
		}
	}
	clear(m.Row(rows / 2))
	return m
}

// The places of marked rows are those of all rows sorted by scores of float64, ties by
// number, whatever is marked, left out or cut into pieces.
func TestRankingsAreThoseOfFloat64(t *testing.T) {
	const dim = 10
	r := rand.New(rand.NewPCG(8, 1))
	for _, offset := range []float64{0, 30} {
		rows := crowded(r, 700, dim, offset)
		db := open(t)
		gallery := set(t, write(t, db, "bank", rows, nil))
		score := func(metric index.Metric, a, b []float32) float64 {
			var xy, yy, square float64
			for d, v := range a {
				x, y := float64(v), float64(b[d])
				xy, yy, square = xy+x*y, yy+y*y, square+(x-y)*(x-y)
			}
			switch metric {
			case index.Dot:
				return xy
			case index.L2:
				return -square
			}
			return xy / max(math.Sqrt(yy), 1e-12)
		}
		for _, metric := range []index.Metric{index.Cosine, index.Dot, index.L2} {
			for _, o := range []RunOptions{{Threads: 1, Memory: 1 << 30}, {Threads: 3, Memory: 100 << 10}} {
				allow := func(row int64) bool { return row%11 != 3 }
				a := &asking{queries: gallery, gallery: gallery, metric: metric, leave: o.Threads > 1, allow: allow, run: o}
				a.wanted = func(row int64) bool { return row%9 == 2 || row == 350 }
				marked := func(row int64) (marks []int64) {
					every := []int64{1, 17, 400}[row%3]
					for x := row % every; x < 700; x += every {
						marks = append(marks, x)
					}
					return marks
				}
				asked := 0
				err := a.rankings(t.Context(), marked, func(queries []int64, places [][]place) error {
					for i, q := range queries {
						asked++
						var order []int64
						scores := make([]float64, rows.Rows)
						for x := range rows.Rows {
							if scores[x] = score(metric, rows.Row(int(q)), rows.Row(x)); allow(int64(x)) && !(a.leave && int64(x) == q) {
								order = append(order, int64(x))
							}
						}
						slices.SortStableFunc(order, func(x, y int64) int {
							return compareScored(scored{x, scores[x]}, scored{y, scores[y]})
						})
						var want []place
						marks := marked(q)
						for at, x := range order {
							if _, is := slices.BinarySearch(marks, x); is {
								want = append(want, place{x, int64(at + 1)})
							}
						}
						if len(want) != len(places[i]) {
							t.Fatalf("%v: query %d has %d places, want %d", metric, q, len(places[i]), len(want))
						}
						for j, p := range places[i] {
							near := p.rank > 0 && math.Abs(scores[p.row]-scores[order[p.rank-1]]) <= 1e-14*math.Abs(scores[p.row])
							if p != want[j] && (!near || p.rank != want[j].rank && len(marks) == rows.Rows) {
								t.Fatalf("%v, offset %v: place %d of query %d is %v, want %v", metric, offset, j, q, p, want[j])
							}
						}
					}
					return nil
				})
				if err != nil || asked != 79 {
					t.Fatalf("%d queries asked (%v)", asked, err)
				}
			}
		}
	}
}

// Ranks that are counted give the figures of rankings that are searched for, where
// float32 resolves all scores.
func TestRankingsAreThoseOfTheSearch(t *testing.T) {
	r := rand.New(rand.NewPCG(4, 4))
	rows := dyadic(r, 500, 16)
	labels := pick(r, 500, []int64{0, 1, 2})
	db := open(t)
	gallery := set(t, write(t, db, "bank", rows, labels))
	for _, metric := range []Metric{Cosine, Dot, L2} {
		found, err := gallery.ix.Search(t.Context(), rows, index.Options{K: 500, Metric: metric.search()})
		if err != nil {
			t.Fatal(err)
		}
		at := 0
		retrieve(t, Retrieval{Metric: metric, Each: func(got QueryScore) {
			sum, hits := 0.0, 0.0
			for i, h := range found.Hits[at] {
				if labels[h.Row] == labels[at] {
					hits++
					sum += hits / float64(i+1)
				}
			}
			within(t, fmt.Sprint(metric, " AP of ", at), got.IR, sum/hits, 1e-12)
			at++
		}}, gallery, gallery, RunOptions{})
		if at != 500 {
			t.Errorf("%d queries were scored", at)
		}
	}
}

// Only a ranking in which all rows score the same is told as tied.
func TestTiedRankings(t *testing.T) {
	for _, c := range []struct {
		rows  simd.Matrix
		leave bool
		tied  int64
	}{
		{matrix(2, 1, 1, 1, 1, 2, 2), false, 3},
		{matrix(2, 1, 1, 1, 1, 2, 1), false, 0},
		{matrix(2, 1, 1, 1, 1, 2, 1), true, 1}, // the other two of row 2 are one
		{matrix(2, 1, 1, 1, 2), true, 0},       // one row is no tie
		{matrix(2, 1, 1), false, 0},
	} {
		db := open(t)
		gallery := set(t, write(t, db, "bank", c.rows, nil))
		a := &asking{queries: gallery, gallery: gallery, leave: c.leave, run: RunOptions{Threads: 2, Memory: 1 << 20}}
		err := a.rankings(t.Context(), func(row int64) []int64 { return []int64{0, 1} }, func([]int64, [][]place) error { return nil })
		if err != nil || a.tied != c.tied {
			t.Errorf("%v rows, %v: %d tied, want %d (%v)", c.rows.Rows, c.leave, a.tied, c.tied, err)
		}
	}
}

func TestRankingsCancel(t *testing.T) {
	db := open(t)
	gallery := set(t, write(t, db, "bank", crowded(rand.New(rand.NewPCG(1, 1)), 3000, 8, 0), nil))
	ctx, cancel := context.WithCancelCause(t.Context())
	why := errors.New("enough")
	a := &asking{queries: gallery, gallery: gallery, run: RunOptions{Threads: 2, Memory: 1 << 20, Progress: func(done, total int64) { cancel(why) }}}
	err := a.rankings(ctx, func(int64) []int64 { return []int64{1, 2} }, func([]int64, [][]place) error { return nil })
	if !errors.Is(err, why) {
		t.Errorf("%v", err)
	}
}
