package index

import (
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"membank/simd"
	"membank/store"
	"membank/store/dump/dumptest"
	"pgregory.net/rapid"
)

// graphOf runs Graph and keeps what it emits.
func graphOf(t failer, ix *Index, o GraphOptions) (rows []int64, hits [][]Hit, stats GraphStats) {
	t.Helper()
	stats, err := ix.Graph(context.Background(), o, func(row int64, list []Hit) error {
		if list == nil {
			t.Fatalf("row %d has nil for no neighbours", row)
		}
		rows, hits = append(rows, row), append(hits, slices.Clone(list))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	edges := int64(0)
	for _, list := range hits {
		edges += int64(len(list))
	}
	if stats.Rows != int64(len(rows)) || stats.Edges != edges {
		t.Fatalf("%d rows and %d edges, emitted %d and %d", stats.Rows, stats.Edges, len(rows), edges)
	}
	return rows, hits, stats
}

// neighbours is what a graph of b must be: every live row asks the reference.
func (b *bank) neighbours(o GraphOptions) (rows []int64, hits [][]Hit) {
	queries := simd.NewMatrix(b.Rows, b.Dim)
	queries.Rows = 0
	for i := range b.Rows {
		if !b.dead[i] && (o.Only == nil || o.Only(int64(i))) {
			queries.Rows++
			copy(queries.Row(queries.Rows-1), b.Row(i))
			rows = append(rows, int64(i))
		}
	}
	return rows, b.reference(queries, Options{K: o.K, Metric: o.Metric, MinScore: o.MinScore, HasMinScore: o.HasMinScore, Allow: o.Only, ExcludeRow: rows})
}

// On any gallery, however little memory there is and however rows are cut into
// batches, a graph is the reference's answer to each row, with ==.
func TestGraphProperty(t *testing.T) {
	names := make([]string, 0, len(galleries))
	for name := range galleries {
		names = append(names, name)
	}
	slices.Sort(names)
	rapid.Check(t, func(t *rapid.T) {
		rng := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0))
		gallery := galleries[rapid.SampledFrom(names).Draw(t, "gallery")]
		m := simd.NewMatrix(rapid.IntRange(1, 250).Draw(t, "rows"), rapid.IntRange(1, 24).Draw(t, "dim"))
		gallery(rng, m)
		deaths := rapid.SampledFrom([]int{0, 10, 90, 100}).Draw(t, "dead, percent")
		dead := make([]bool, m.Rows)
		for i := range dead {
			dead[i] = rng.IntN(100) < deaths
		}
		b := newBank(m, dead, 32*rapid.IntRange(1, 5).Draw(t, "panels a block"))
		o := GraphOptions{
			K:       rapid.IntRange(1, 280).Draw(t, "k"),
			Metric:  Metric(rapid.IntRange(0, 2).Draw(t, "metric")),
			Threads: rapid.IntRange(1, 4).Draw(t, "threads"),
			NoCodes: rapid.Bool().Draw(t, "no codes"),
		}
		if rapid.IntRange(0, 3).Draw(t, "only") == 0 {
			o.Only = func(row int64) bool { return row%3 != 1 }
		}
		wantRows, want := b.neighbours(o)
		if rapid.IntRange(0, 2).Draw(t, "range") == 0 && len(want) > 0 && len(want[0]) > 0 {
			o.HasMinScore, o.MinScore = true, want[0][rng.IntN(len(want[0]))].Score
			if rapid.Bool().Draw(t, "only range") {
				o.K = 0
			}
			_, want = b.neighbours(o)
			if o.K == 0 && rapid.Bool().Draw(t, "earlier") {
				o.Earlier = true
				for i := range want {
					want[i] = slices.DeleteFunc(want[i], func(h Hit) bool { return h.Row >= wantRows[i] })
				}
			}
		}
		// At least what the answer to one row takes.
		least := 2 * 5 * hitBytes * (m.Rows + 8)
		o.Memory = int64(rapid.SampledFrom([]int{0, least, 3 * least, 50 * least}).Draw(t, "memory"))
		rows, got, _ := graphOf(t, b.coded(t), o)
		if !slices.Equal(rows, wantRows) {
			t.Fatalf("rows %v, want %v", rows, wantRows)
		}
		mustEqual(t, got, want)
	})
}

// Whatever is guessed, an answer is right or is said to be asked again.
func TestSearchFromAnyGuess(t *testing.T) {
	for name, gallery := range galleries {
		t.Run(name, func(t *testing.T) {
			rng := rand.New(rand.NewPCG(8, uint64(len(name))))
			m := simd.NewMatrix(300, 24)
			gallery(rng, m)
			dead := make([]bool, m.Rows)
			dead[5], dead[200] = true, true
			b := newBank(m, dead, 96)
			ix := b.coded(t)
			for _, metric := range []Metric{Cosine, Dot, L2} {
				o := Options{K: 6, Metric: metric}
				queries := some(rng, m, 60, gallery)
				guesses := make([]float32, queries.Rows)
				for range guesses {
					o.ExcludeRow = append(o.ExcludeRow, int64(rng.IntN(m.Rows)))
				}
				want := b.reference(queries, o)
				inf := float32(math.Inf(1))
				for q, list := range want {
					near := metric.printed(list[rng.IntN(len(list))].Score)
					guesses[q] = []float32{near, near * 0.99, near * 1.01, near - 1, inf, -inf, float32(math.NaN()), metric.printed(list[5].Score)}[q%8]
				}
				r, again, err := ix.searchFrom(t.Context(), queries, o, guesses, func(float64) {})
				if err != nil {
					t.Fatal(err)
				}
				for q := range want {
					last := metric.printed(want[q][len(want[q])-1].Score)
					switch repeat := slices.Contains(again, q); {
					case !repeat:
						mustEqual(t, r.Hits[q:q+1], want[q:q+1])
					case guesses[q] <= last:
						t.Errorf("%v query %d: guess %v, the last is %v, and it is asked again", metric, q, guesses[q], last)
					}
				}
			}
		})
	}
}

// Rows that lie in clusters are expected to have what their neighbours have, and
// nearly all of it turns out right.
func TestGraphExpects(t *testing.T) {
	rng := rand.New(rand.NewPCG(6, 7))
	m := simd.NewMatrix(3000, 16)
	centres := simd.NewMatrix(30, 16)
	fill(rng, centres, 1)
	fill(rng, m, 0.3)
	for i := range m.Rows {
		for d, x := range centres.Row(i % 30) {
			m.Row(i)[d] += x
		}
	}
	b := newBank(m, nil, 320)
	for _, metric := range []Metric{Cosine, Dot, L2} {
		o := GraphOptions{K: 5, Metric: metric, Memory: 1 << 20}
		_, want := b.neighbours(o)
		_, got, stats := graphOf(t, b.coded(t), o)
		mustEqual(t, got, want)
		if stats.Repeated == 0 || stats.Repeated > stats.Rows/10 {
			t.Errorf("%v: %d of %d rows were asked again", metric, stats.Repeated, stats.Rows)
		}
	}
}

// The graph of real features is what Search answers to each of their rows, in any
// number of threads, from a database with deleted rows.
func TestGraphEqualsSearchOnRealFeatures(t *testing.T) {
	ctx := context.Background()
	for _, m := range dumptest.Methods(t) {
		db := mustOpen(t)
		mustWrite(t, db, "train", m.Train, store.WriterOptions{})
		if _, err := db.DeleteRows(ctx, "train", []int64{0, 17, 18, int64(m.Train.Rows) - 1}); err != nil {
			t.Fatal(err)
		}
		s, err := db.Snapshot("train")
		if err != nil {
			t.Fatal(err)
		}
		ix := New(s)
		for _, metric := range []Metric{Cosine, Dot, L2} {
			o := Options{K: 12, Metric: metric}
			var rows []int64
			var want [][]Hit
			if err := s.Batches(ctx, 100, func(b store.Batch) error {
				o.ExcludeRow = b.Rows
				want = append(want, mustSearch(t, ix, b.Vectors, o).Hits...)
				rows = append(rows, b.Rows...)
				return nil
			}); err != nil {
				t.Fatal(err)
			}
			for threads := 1; threads <= 4; threads++ {
				memory := []int64{0, 4 << 20, 1 << 20, 200 << 10}[threads-1]
				gotRows, got, _ := graphOf(t, ix, GraphOptions{K: o.K, Metric: metric, Threads: threads, Memory: memory})
				if !slices.Equal(gotRows, rows) {
					t.Fatalf("%d rows, want %d", len(gotRows), len(rows))
				}
				mustEqual(t, got, want)
			}
		}
		s.Close()
	}
}

// With codes a join by a high floor looks at few of their dims, and at each pair
// once; what it finds is the naive join.
func TestJoinTakesFewDims(t *testing.T) {
	rng := rand.New(rand.NewPCG(11, 12))
	m := simd.NewMatrix(6000, 96)
	for i := range m.Rows {
		for d := range m.Dim { // a falling spectrum
			m.Row(i)[d] = float32(rng.NormFloat64() / math.Sqrt(float64(d+1)))
		}
		if i%50 == 49 { // nearly a row before
			for d, x := range m.Row(rng.IntN(i)) {
				m.Row(i)[d] = x + 0.05*m.Row(i)[d]
			}
		}
	}
	b := newBank(m, nil, 512)
	ix := b.coded(t)
	ix.small = false
	p := newPass(ix, Options{K: unlimited, HasMinScore: true, MinScore: 0.95, Threads: 1}, newBudget(1<<20), m.Slice(0, 600), make([]float64, 600), nil, route{})
	if all := ix.basis.first; p.cascade.first >= all {
		t.Fatalf("%d dims of %d", p.cascade.first, all)
	}
	_, hits, stats := graphOf(t, ix, GraphOptions{HasMinScore: true, MinScore: 0.95, Earlier: true})
	pairs, unit := int64(0), make([][]float64, m.Rows)
	for i := range unit {
		norm := simd.Norm(m.Row(i))
		for _, x := range m.Row(i) {
			unit[i] = append(unit[i], float64(x)/norm)
		}
	}
	for i := range unit {
		found := map[int64]bool{}
		for _, h := range hits[i] {
			found[h.Row] = true
		}
		for j := range i {
			score := 0.0
			for d, x := range unit[i] {
				score += x * unit[j][d]
			}
			if math.Abs(score-0.95) < 1e-6 {
				t.Fatalf("rows %d and %d: %v is too near to the floor for this test", i, j, score)
			}
			if score >= 0.95 {
				pairs++
			}
			if found[int64(j)] != (score >= 0.95) {
				t.Fatalf("rows %d and %d: cosine %v, found: %v", i, j, score, found[int64(j)])
			}
		}
	}
	if stats.Edges != pairs || pairs < 100 {
		t.Errorf("%d pairs, want %d", stats.Edges, pairs)
	}
	if whole := int64(m.Rows) * int64(m.Rows); stats.Coded > whole*3/4 {
		t.Errorf("%d pairs compared of %d: later rows are looked at", stats.Coded, whole)
	}
}

func TestEarlierTakesARange(t *testing.T) {
	b := newBank(simd.NewMatrix(5, 3), nil, 32)
	if _, err := b.index().Graph(t.Context(), GraphOptions{K: 2, Earlier: true}, nil); !errors.Is(err, ErrOptions) {
		t.Errorf("the 2 nearest of earlier rows: %v", err)
	}
}

// All pairs above a score are more than memory holds: rows are asked fewer at a
// time until they fit, and all edges come out.
func TestRangeGraphFitsItsMemory(t *testing.T) {
	m := simd.NewMatrix(900, 4)
	galleries["equal"](rand.New(rand.NewPCG(3, 4)), m)
	b := newBank(m, nil, 128)
	const memory = 2 * 40 * 900 * hitBytes // some 20 rows at a time
	rows, hits, stats := graphOf(t, b.index(), GraphOptions{HasMinScore: true, MinScore: 0.5, Memory: memory})
	if len(rows) != 900 || stats.Edges != 900*899 {
		t.Fatalf("%d rows, %d edges", len(rows), stats.Edges)
	}
	for i, list := range hits {
		for j, h := range list {
			want := int64(j)
			if j >= i {
				want++
			}
			if h.Row != want {
				t.Fatalf("row %d, rank %d: row %d, want %d: equal scores are in row order", i, j, h.Row, want)
			}
		}
	}
	if stats.Passes > 4*900/20 {
		t.Errorf("%d passes: rows are asked one by one", stats.Passes)
	}
	// What one row alone cannot have is refused.
	_, err := b.index().Graph(t.Context(), GraphOptions{HasMinScore: true, MinScore: 0.5, Memory: 1 << 10}, func(int64, []Hit) error { return nil })
	if !errors.Is(err, ErrMemory) {
		t.Errorf("a kilobyte: %v", err)
	}
}

func TestGraphRefusesAndStops(t *testing.T) {
	m := simd.NewMatrix(100, 3)
	fill(rand.New(rand.NewPCG(1, 1)), m, 1)
	ix := newBank(m, nil, 32).index()
	emitted := 0
	count := func(int64, []Hit) error { emitted++; return nil }
	if _, err := ix.Graph(t.Context(), GraphOptions{K: -1}, count); !errors.Is(err, ErrOptions) || emitted > 0 {
		t.Errorf("k −1: %v after %d rows", err, emitted)
	}
	if _, err := newBank(simd.NewMatrix(0, 3), nil, 32).index().Graph(t.Context(), GraphOptions{K: -1}, count); !errors.Is(err, ErrOptions) {
		t.Errorf("k −1 of no rows: %v", err)
	}
	if stats, err := newBank(simd.NewMatrix(0, 3), nil, 32).index().Graph(t.Context(), GraphOptions{}, count); err != nil || stats.Rows != 0 {
		t.Errorf("no rows: %v", err)
	}
	full := errors.New("disk full")
	if _, err := ix.Graph(t.Context(), GraphOptions{}, func(int64, []Hit) error { return full }); err != full {
		t.Errorf("an error of emit comes back as %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := ix.Graph(ctx, GraphOptions{}, count); !errors.Is(err, context.Canceled) || emitted > 0 {
		t.Errorf("cancelled: %v after %d rows", err, emitted)
	}
	m.Row(40)[1] = 1e38
	_, err := newBank(m, nil, 32).index().Graph(t.Context(), GraphOptions{Metric: Dot}, count)
	if !errors.Is(err, ErrOverflow) || !strings.HasPrefix(err.Error(), "row ") {
		t.Errorf("overflow: %v", err)
	}
}

// Progress counts rows and ends at all of them.
func TestGraphTellsProgress(t *testing.T) {
	m := simd.NewMatrix(500, 3)
	fill(rand.New(rand.NewPCG(1, 1)), m, 1)
	var last int64
	graphOf(t, newBank(m, nil, 64).index(), GraphOptions{Memory: 100 << 10, Progress: func(done, total int64) {
		if done < last || total != 500 {
			t.Errorf("%d of %d after %d", done, total, last)
		}
		last = done
	}})
	if last != 500 {
		t.Errorf("ends at %d", last)
	}
}
