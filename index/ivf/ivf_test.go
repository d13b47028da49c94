package ivf

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"membank/index"
	"membank/simd"
	"membank/store"
	"pgregory.net/rapid"
)

// life is a bank in a database, and all that it should hold in memory.
type life struct {
	t    failer
	dir  string
	db   *store.DB
	dim  int
	rows [][]float32 // nil: deleted
}

type failer interface {
	Helper()
	Fatal(...any)
	Fatalf(string, ...any)
	Errorf(string, ...any)
}

const bank = "train"

func (l *life) must(err error) {
	l.t.Helper()
	if err != nil {
		l.t.Fatal(err)
	}
}

func (l *life) open() {
	db, err := store.Open(context.Background(), l.dir, store.Options{Create: true})
	l.must(err)
	l.db = db
}

// end verifies what is on disk and closes the database.
func (l *life) end() {
	l.t.Helper()
	report, err := l.db.Verify(context.Background(), store.VerifyOptions{})
	if err != nil || len(report.Problems) > 0 {
		l.t.Errorf("verify: %v %+v", err, report.Problems)
	}
	l.must(l.db.Close())
}

// newLife begins a bank with rows that make fills.
func newLife(t failer, dir string, m simd.Matrix) *life {
	t.Helper()
	l := &life{t: t, dir: dir, dim: m.Dim}
	l.open()
	l.write(m, store.WriterOptions{})
	return l
}

func (l *life) write(m simd.Matrix, o store.WriterOptions) {
	l.t.Helper()
	ctx := context.Background()
	if o.Mode == store.Append {
		l.look(func(s *store.Snapshot) {
			var err error
			o.Assign, err = Assigner(s, 1)
			l.must(err)
		})
	}
	w, err := l.db.NewWriter(ctx, bank, m.Dim, o)
	l.must(err)
	defer w.Abort()
	rows := store.Rows{Vectors: m}
	for range m.Rows {
		rows.Keys = append(rows.Keys, fmt.Sprint("key ", len(l.rows)))
		l.rows = append(l.rows, slices.Clone(m.Row(len(rows.Keys)-1)))
	}
	l.must(w.Append(ctx, rows))
	_, err = w.Commit(ctx)
	l.must(err)
}

func (l *life) look(fn func(s *store.Snapshot)) {
	l.t.Helper()
	s, err := l.db.Snapshot(bank)
	l.must(err)
	defer s.Close()
	fn(s)
}

func (l *life) live() (rows []int64) {
	for i, r := range l.rows {
		if r != nil {
			rows = append(rows, int64(i))
		}
	}
	return rows
}

// nearest are all live rows by score, then row, computed one by one.
func (l *life) nearest(query []float32, metric index.Metric) (hits []index.Hit) {
	q := slices.Clone(query)
	if metric == index.Cosine {
		simd.Normalize(q, q)
	}
	for i, r := range l.rows {
		if r == nil {
			continue
		}
		h := index.Hit{Row: int64(i)}
		switch metric {
		case index.Cosine:
			h.Score = simd.Dot(r, q) * float32(1/max(simd.Norm(r), simd.Epsilon))
		case index.Dot:
			h.Score = simd.Dot(r, q)
		case index.L2:
			h.Score = simd.SquaredDistance(q, r)
		}
		hits = append(hits, h)
	}
	slices.SortFunc(hits, func(a, b index.Hit) int {
		if metric == index.L2 {
			return cmp.Or(cmp.Compare(a.Score, b.Score), cmp.Compare(a.Row, b.Row))
		}
		return cmp.Or(cmp.Compare(b.Score, a.Score), cmp.Compare(a.Row, b.Row))
	})
	return hits
}

// ask compares exact answers with the oracle's bit by bit, and approximate ones with
// what they may be: rows of the bank with their own scores, in order, k of them, and
// all of the exact ones where every list is read.
func (l *life) ask(queries simd.Matrix, metric index.Metric, k int) {
	l.t.Helper()
	l.look(func(s *store.Snapshot) {
		ix := index.New(s)
		nlist := index.ListCount(s.Info().Lists)
		all := make([][]index.Hit, queries.Rows)
		for q := range all {
			all[q] = l.nearest(queries.Row(q), metric)
		}
		k = min(k, len(all[0]))
		for _, probes := range []int{1, 2, 5, nlist, 0} {
			r, err := ix.Search(context.Background(), queries, index.Options{K: k, Metric: metric, Probes: probes, Threads: 2})
			l.must(err)
			exact := make([][]index.Hit, queries.Rows)
			for q, hits := range r.Hits {
				exact[q] = all[q][:k]
				if len(hits) != k {
					l.t.Fatalf("nprobe %d: %d hits of %d", probes, len(hits), k)
				}
				place := 0
				for _, h := range hits {
					for place < len(all[q]) && all[q][place] != h {
						place++
					}
					if place == len(all[q]) {
						l.t.Fatalf("nprobe %d, query %d: row %d scores %v: not so, or not in this place", probes, q, h.Row, h.Score)
					}
					place++
				}
				if (probes == 0 || probes >= nlist) && !slices.Equal(hits, exact[q]) {
					l.t.Fatalf("nprobe %d of %d, query %d:\n got %v\nwant %v", probes, nlist, q, hits, exact[q])
				}
			}
		}
		r, err := ix.Search(context.Background(), queries, index.Options{K: k, Metric: metric, Recall: 0.9, Threads: 2})
		l.must(err)
		for q, hits := range r.Hits {
			if len(hits) != k {
				l.t.Fatalf("recall 0.9, query %d: %d hits of %d", q, len(hits), k)
			}
		}
	})
}

// Any interleaving of appends, replacements, deletions, builds, folds and restarts
// leaves a bank whose answers are those of its rows in memory.
func TestLifeOfAGroupedBank(t *testing.T) {
	// Each life writes its bank many times over, durably; -rapid.checks asks for more.
	if f := flag.Lookup("rapid.checks"); f.Value.String() == f.DefValue {
		f.Value.Set("6")
		defer f.Value.Set(f.DefValue)
	}
	// One database for all of them: opening one takes longer than a life.
	home := &life{t: t, dir: t.TempDir()}
	home.open()
	defer func() { home.end() }()
	rapid.Check(t, func(t *rapid.T) {
		rng := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 8))
		dim := rapid.IntRange(1, 40).Draw(t, "dim")
		centres := simd.NewMatrix(9, dim)
		for i := range centres.Data {
			centres.Data[i] = float32(rng.NormFloat64())
		}
		rows := func(n int) simd.Matrix {
			m := simd.NewMatrix(n, dim)
			spread := []float32{0, 0.1, 1}[rng.IntN(3)]
			for i := range n {
				for d := range dim {
					m.Row(i)[d] = centres.Row(rng.IntN(9))[d] + spread*float32(rng.NormFloat64())
				}
				if rng.IntN(15) == 0 {
					clear(m.Row(i))
				}
			}
			return m
		}
		l := &life{t: t, dir: home.dir, db: home.db, dim: dim}
		defer func() { home.db = l.db }()
		l.write(rows(1+rng.IntN(300)), store.WriterOptions{Mode: store.Replace})
		metric := rapid.SampledFrom([]index.Metric{index.Cosine, index.Dot, index.L2}).Draw(t, "metric")
		ctx := context.Background()
		for range rapid.IntRange(2, 9).Draw(t, "steps") {
			live := l.live()
			switch step := rapid.SampledFrom([]string{"append", "update", "delete", "build", "tune", "fold", "drop", "restart"}).Draw(t, "step"); step {
			case "append":
				l.write(rows(1+rng.IntN(80)), store.WriterOptions{Mode: store.Append})
			case "update":
				if len(live) == 0 {
					continue
				}
				rng.Shuffle(len(live), func(i, j int) { live[i], live[j] = live[j], live[i] })
				some := live[:1+rng.IntN(min(len(live), 30))]
				m := rows(len(some))
				var assign store.Assigner
				l.look(func(s *store.Snapshot) {
					var err error
					assign, err = Assigner(s, 1)
					l.must(err)
				})
				_, err := l.db.UpdateRows(ctx, bank, some, m, assign)
				l.must(err)
				for i, row := range some {
					l.rows[row] = slices.Clone(m.Row(i))
				}
			case "delete":
				var some []int64
				for _, row := range live {
					if rng.IntN(4) == 0 {
						some = append(some, row)
						l.rows[row] = nil
					}
				}
				_, err := l.db.DeleteRows(ctx, bank, some)
				l.must(err)
			case "build":
				o := BuildOptions{Lists: rng.IntN(25), Metric: metric, Seed: rng.Uint64(), Threads: 1 + rng.IntN(3), Iterations: 2, Memory: int64(1) << rng.IntN(21), Tune: TuneOptions{Sample: 40}}
				if _, err := Build(ctx, l.db, bank, o); err != nil && !(errors.Is(err, ErrEmpty) && len(live) == 0) {
					t.Fatal(err)
				}
			case "tune":
				if _, _, err := Tune(ctx, l.db, bank, TuneOptions{Queries: rows(20)}); err != nil && !errors.Is(err, store.ErrFlat) {
					t.Fatal(err)
				}
			case "fold":
				_, _, err := l.db.Fold(ctx, bank, 0, store.GroupOptions{Threads: 2})
				l.must(err)
			case "drop":
				if _, err := Drop(ctx, l.db, bank, BuildOptions{}); err != nil && !errors.Is(err, store.ErrFlat) {
					t.Fatal(err)
				}
			case "restart":
				l.end()
				l.open()
			}
			if len(l.live()) > 0 {
				l.ask(rows(3), metric, rapid.SampledFrom([]int{1, 7, 1000}).Draw(t, "k"))
			}
		}
		report, err := l.db.Verify(ctx, store.VerifyOptions{})
		if err != nil || len(report.Problems) > 0 {
			t.Fatalf("verify: %v %+v", err, report.Problems)
		}
	})
}

// The corners: few rows, equal rows, one list, one class a list, dims 1 and 8192.
func TestEdges(t *testing.T) {
	normal := func(rng *rand.Rand, i, d int) float64 { return rng.NormFloat64() }
	for _, c := range []struct {
		name             string
		rows, dim, lists int
		want             int // lists that there are
		fill             func(rng *rand.Rand, i, d int) float64
	}{
		{"fewer rows than lists", 5, 8, 50, 5, normal},
		{"one row", 1, 3, 4, 1, normal},
		{"all rows equal", 300, 16, 10, 10, func(_ *rand.Rand, i, d int) float64 { return float64(d) - 3 }},
		{"all rows zero", 100, 4, 3, 3, func(*rand.Rand, int, int) float64 { return 0 }},
		{"one list", 300, 16, 1, 1, normal},
		{"a class a list", 400, 12, 8, 8, func(rng *rand.Rand, i, d int) float64 {
			return 10*math.Sin(float64(1+i%8*31+d*7)) + 0.01*rng.NormFloat64()
		}},
		{"one dimension", 300, 1, 7, 7, normal},
		{"8192 dimensions", 60, 8192, 4, 4, normal},
	} {
		for _, metric := range []index.Metric{index.Cosine, index.Dot, index.L2} {
			t.Run(fmt.Sprint(c.name, "/", metric), func(t *testing.T) {
				rng := rand.New(rand.NewPCG(1, 2))
				m := simd.NewMatrix(c.rows, c.dim)
				for i := range m.Rows {
					for d := range m.Row(i) {
						m.Row(i)[d] = float32(c.fill(rng, i, d))
					}
				}
				l := newLife(t, t.TempDir(), m)
				defer l.end()
				b, err := Build(context.Background(), l.db, bank, BuildOptions{Lists: c.lists, Metric: metric})
				l.must(err)
				if b.Lists != c.want || b.Rows != int64(c.rows) {
					t.Errorf("%d lists of %d rows, want %d of %d", b.Lists, b.Rows, c.want, c.rows)
				}
				l.look(func(s *store.Snapshot) {
					d, err := Describe(context.Background(), s)
					l.must(err)
					sum := d.Strays
					for _, n := range d.Rows {
						sum += n
					}
					if sum != int64(c.rows) || d.Lists.Count() != c.want || d.Changed != 0 || math.Abs(d.Near-d.BuiltNear) > 1e-4*max(1, d.BuiltNear) {
						t.Errorf("described as %+v", d)
					}
				})
				for _, k := range []int{1, 10, c.rows} {
					l.ask(m.Slice(0, min(3, m.Rows)), metric, k)
				}
			})
		}
	}
}

// What a recall promises comes out on queries that it was not tuned on; build gives
// the same lists on any number of threads.
func TestBuildIsTunedAndRepeatable(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 3))
	centres := simd.NewMatrix(40, 32)
	for i := range centres.Data {
		centres.Data[i] = float32(rng.NormFloat64())
	}
	m := simd.NewMatrix(4400, 32)
	for i := range m.Rows {
		c := rng.IntN(40)
		for d := range m.Row(i) {
			m.Row(i)[d] = centres.Row(c)[d] + 0.7*float32(rng.NormFloat64())
		}
	}
	var records [][]byte
	for _, threads := range []int{1, 3} {
		l := newLife(t, t.TempDir(), m.Slice(0, 4000))
		b, err := Build(context.Background(), l.db, bank, BuildOptions{Threads: threads, Seed: 5})
		l.must(err)
		if b.Lists != DefaultLists(4000) || len(b.Tuned) == 0 {
			t.Fatalf("%d lists, tuned %v", b.Lists, b.Tuned)
		}
		l.look(func(s *store.Snapshot) {
			record, err := s.Lists()
			l.must(err)
			records = append(records, record)
			ix, queries := index.New(s), m.Slice(4000, 4400)
			exact, err := ix.Search(context.Background(), queries, index.Options{K: 10})
			l.must(err)
			for _, recall := range TunedRecalls() {
				r, err := ix.Search(context.Background(), queries, index.Options{K: 10, Recall: recall})
				l.must(err)
				found := index.Recall(r.Hits, exact.Hits)
				t.Logf("recall %v: %.4f with %.1f lists, tuned %.4f with %.1f", recall, found,
					float64(r.Stats.Lists)/400, r.Tuned.Measure.Recall, r.Tuned.Lists)
				if found < recall-3*math.Sqrt(recall*(1-recall)/4000)-0.01*(1-recall) {
					t.Errorf("recall %v asked for, %v found", recall, found)
				}
				if !r.Approximate || r.Stats.Lists >= int64(400*b.Lists) {
					t.Errorf("recall %v reads all lists", recall)
				}
			}
		})
		l.end()
	}
	if !slices.Equal(records[0], records[1]) {
		t.Error("lists depend on threads")
	}
}

// TunedRecalls is a copy of those that are tuned for.
func TunedRecalls() []float64 { return slices.Clone(index.TunedRecalls) }

// An interruption at any time leaves a bank that answers as before.
func TestBuildCanBeCancelled(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 9))
	m := simd.NewMatrix(3000, 16)
	for i := range m.Data {
		m.Data[i] = float32(rng.NormFloat64())
	}
	l := newLife(t, t.TempDir(), m)
	defer l.end()
	stop := errors.New("stopped here")
	for _, at := range []string{"training", "grouping", "tuning"} {
		ctx, cancel := context.WithCancelCause(context.Background())
		_, err := Build(ctx, l.db, bank, BuildOptions{Progress: func(stage string, _, _ int64) {
			if stage == at {
				cancel(stop)
			}
		}})
		if !errors.Is(err, stop) && !errors.Is(err, context.Canceled) {
			t.Errorf("at %s: %v", at, err)
		}
		cancel(nil)
		l.ask(m.Slice(0, 2), index.Cosine, 5)
	}
}

// In a small bank a recall that is stated comes out, and where the rows are too few to
// tell every list is read.
func TestSmallBanksKeepTheirRecall(t *testing.T) {
	for _, rows := range []int{12, 90, 600} {
		for seed := range uint64(3) {
			rng := rand.New(rand.NewPCG(seed, uint64(rows)))
			m := simd.NewMatrix(rows, 24)
			for i := range m.Data {
				m.Data[i] = float32(rng.NormFloat64())
			}
			l := newLife(t, t.TempDir(), m)
			b, err := Build(context.Background(), l.db, bank, BuildOptions{Lists: max(2, rows/8), Seed: seed})
			l.must(err)
			l.look(func(s *store.Snapshot) {
				nearest := make([][]index.Hit, rows)
				for q := range nearest {
					nearest[q] = l.nearest(m.Row(q), index.Cosine)
				}
				for _, tuning := range b.Tuned {
					if tuning.Measure.Recall < tuning.Recall {
						t.Errorf("%d rows, k=%d: recall %v is stated, %v was measured with %v lists of %d", rows, tuning.K, tuning.Recall, tuning.Measure.Recall, tuning.Lists, b.Lists)
					}
					r, err := index.New(s).Search(context.Background(), m, index.Options{K: tuning.K, Recall: tuning.Recall})
					l.must(err)
					exact := make([][]index.Hit, rows)
					for q := range exact {
						exact[q] = nearest[q][:tuning.K]
					}
					share := index.Recall(r.Hits, exact)
					// Half of the queries had it; the other half, and rows that are their own
					// neighbours, may err by what so many rows vary.
					all := float64(rows * tuning.K)
					if share < tuning.Recall-4*math.Sqrt(tuning.Recall*(1-tuning.Recall)/all) {
						t.Errorf("%d rows, k=%d: recall %v is stated, %v found", rows, tuning.K, tuning.Recall, share)
					}
				}
			})
			l.end()
		}
	}
}

// Rows without a direction are in no list: they count as strays from the beginning,
// the lists are described without them, and they are no reason to build anew.
func TestStraysAreCountedApart(t *testing.T) {
	rng := rand.New(rand.NewPCG(8, 1))
	m := simd.NewMatrix(900, 16)
	for i := range m.Rows {
		for d := range m.Row(i) {
			if i%3 > 0 {
				m.Row(i)[d] = 5 + float32(rng.NormFloat64())
			}
		}
	}
	l := newLife(t, t.TempDir(), m)
	defer l.end()
	b, err := Build(context.Background(), l.db, bank, BuildOptions{Lists: 6})
	l.must(err)
	l.look(func(s *store.Snapshot) {
		d, err := Describe(context.Background(), s)
		l.must(err)
		listed, sum := 0.0, 0.0
		for _, n := range d.Rows {
			listed += float64(n)
			sum += float64(n) * float64(n)
		}
		if b.Strays != 300 || d.Strays != 300 || listed != 600 || d.Built != 600 || math.Abs(d.Imbalance-6*sum/600/600) > 1e-12 || b.Imbalance != d.Imbalance {
			t.Errorf("build says %d strays, imbalance %v; described as %+v", b.Strays, b.Imbalance, d)
		}
		if d.Rebuild != "" || math.Abs(d.Near-d.BuiltNear) > 1e-4 {
			t.Errorf("build anew: %q; near %v, %v at build", d.Rebuild, d.Near, d.BuiltNear)
		}
		r, err := index.New(s).Search(context.Background(), m.Slice(1, 3), index.Options{K: 5, Probes: 4})
		l.must(err)
		if r.Stats.Lists != 8 {
			t.Errorf("two queries of 4 lists read %d, that of strays not counted", r.Stats.Lists)
		}
	})
	// What comes later and lies far off is in no list either, and is a reason.
	far := simd.NewMatrix(60, 16)
	for i := range far.Rows {
		for d := range far.Row(i) {
			far.Row(i)[d] = float32(rng.NormFloat64()) - 5
		}
	}
	l.write(far, store.WriterOptions{Mode: store.Append})
	l.look(func(s *store.Snapshot) {
		d, err := Describe(context.Background(), s)
		l.must(err)
		if d.Strays != 360 || d.Built != 600 || d.Rebuild == "" || math.Abs(d.Near-d.BuiltNear) > 1e-4 {
			t.Errorf("%d strays, near %v, %v at build, build anew: %q", d.Strays, d.Near, d.BuiltNear, d.Rebuild)
		}
	})
}
