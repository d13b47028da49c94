package index

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"membank/simd"
	"pgregory.net/rapid"
)

// grouped is a gallery in memory whose rows lie by list, cut into blocks.
type grouped struct {
	*bank         // in the order of rows
	list  []int32 // of each row
	lists *Lists
}

// group assigns the rows of b to the nearest of some centroids and lays them out.
func (b *bank) group(t failer, metric Metric, centroids simd.Matrix) *grouped {
	t.Helper()
	g := &grouped{bank: b, list: make([]int32, b.Rows), lists: NewLists(metric, 1, centroids)}
	a, err := NewAssigner(g.lists, 1)
	if err != nil {
		t.Fatal(err)
	}
	scores, at := make([]float32, b.Rows), 0
	for _, k := range b.blocks {
		if err := a.Nearest(context.Background(), g.list[at:][:k.Rows], scores[at:], k); err != nil {
			t.Fatal(err)
		}
		at += k.Rows
	}
	g.lists.Survey(g.list, scores)
	return g
}

// index lays the rows out by list in blocks of so many rows.
func (g *grouped) index(t failer, blockRows int, coded bool) *Index {
	t.Helper()
	order := make([]int, g.Rows)
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(g.list[a], g.list[b]) })
	moved, dead := simd.NewMatrix(g.Rows, g.Dim), make([]bool, g.Rows)
	for i, row := range order {
		copy(moved.Row(i), g.Row(row))
		dead[i] = g.dead[row]
	}
	laid := newBank(moved, dead, blockRows)
	var runs []run
	for at, row := range order {
		block, lane := at/blockRows, at%blockRows
		laid.blocks[block].Row[lane] = int64(row)
		if n := len(runs); n == 0 || runs[n-1].list != g.list[row] || int(runs[n-1].block) != block {
			runs = append(runs, run{g.list[row], int32(block), int32(lane), int32(lane)})
		}
		runs[len(runs)-1].to++
	}
	ix := laid.index()
	if coded {
		ix = laid.coded(t)
	}
	group, err := newGrouping(g.lists, g.Dim, runs, 1)
	if err != nil {
		t.Fatal(err)
	}
	ix.grouping = func() (*grouping, error) { return group, nil }
	return ix
}

// nearest are all lists as query q sees them, best first, by scalar functions.
func (g *grouped) nearest(query []float32) []near {
	var all []near
	for j := range g.lists.Count() {
		c := g.lists.Centroids.Row(j)
		s := simd.Dot(c, query)
		if g.lists.Metric == L2 {
			s = -simd.SquaredDistance(query, c)
		}
		all = append(all, near{int32(j), float64(s)})
	}
	slices.SortStableFunc(all, func(a, b near) int { return cmp.Compare(b.score, a.score) })
	return all
}

// answer is what a search by lists must return for query q: the lists are chosen as
// probe.go says, and their rows compared by the reference.
func (g *grouped) answer(queries simd.Matrix, q int, o Options, most int, reach float64) []Hit {
	query := slices.Clone(queries.Row(q))
	if o.Metric == Cosine {
		simd.Normalize(query, query)
	}
	rows := make([]int64, g.lists.Count()+1)
	for _, j := range g.list {
		rows[j]++
	}
	all, read := g.nearest(query), map[int32]bool{int32(g.lists.Strays()): true}
	one := queries.Slice(q, q+1)
	ask := func() []Hit {
		p := o
		if o.ExcludeRow != nil {
			p.ExcludeRow = o.ExcludeRow[q : q+1]
		}
		p.Allow = func(row int64) bool {
			return read[g.list[row]] && (o.Allow == nil || o.Allow(row))
		}
		return g.reference(one, p)[0]
	}
	internal := func(hits []Hit) float64 {
		least := float64(lowest)
		if o.HasMinScore {
			least = float64(o.Metric.printed(o.MinScore))
		}
		if len(hits) < o.K {
			return least
		}
		return float64(o.Metric.printed(hits[o.K-1].Score))
	}
	asked := most
	most = min(most, len(all))
	taken, have, norm := 0, int64(0), simd.Norm(query)
	for taken < most && (taken == 0 || have < int64(o.K)) {
		read[all[taken].list] = true
		have += rows[all[taken].list]
		taken++
	}
	if reach != everyList { // and an eighth of the lists in question, rounded up
		for ; taken < most && 8*taken < asked; taken++ {
			read[all[taken].list] = true
		}
	}
	if taken < most {
		floor, next := internal(ask()), most
		for _, l := range all[taken:next] {
			if reach == everyList || g.lists.reaches(int(l.list), l.score, norm, reach) >= floor {
				read[l.list] = true
			}
		}
	}
	hits := ask()
	for most < len(all) && len(hits) < o.K && !o.HasMinScore {
		next := min(4*most, len(all))
		for _, l := range all[most:next] {
			read[l.list] = true
		}
		most, hits = next, ask()
	}
	return hits
}

// A search by lists returns the best rows of the lists that probe.go says it reads,
// bit for bit: with codes and without, for any layout, batch and number of threads,
// on thousands of small galleries of every kind.
func TestProbesAgainstReference(t *testing.T) {
	for _, level := range simd.Levels() {
		t.Run(string(level), func(t *testing.T) {
			defer simd.Use(level)()
			rapid.Check(t, func(t *rapid.T) {
				rng := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 5))
				kind := rapid.SampledFrom(clouds).Draw(t, "cloud")
				dim := rapid.OneOf(rapid.IntRange(1, 24), rapid.SampledFrom([]int{64, 257})).Draw(t, "dim")
				rows := rapid.IntRange(1, 400).Draw(t, "rows")
				if level == simd.Generic {
					rows, dim = min(rows, 90), min(dim, 64)
				}
				all := simd.NewMatrix(rows+20, dim)
				kind.fill(rng, all)
				var dead []bool
				if rapid.Bool().Draw(t, "deleted") {
					dead = make([]bool, rows)
					for i := range dead {
						dead[i] = rng.IntN(4) == 0
					}
				}
				metric := rapid.SampledFrom([]Metric{Cosine, Dot, L2}).Draw(t, "metric")
				nlist := rapid.IntRange(1, 25).Draw(t, "nlist")
				centroids := simd.NewMatrix(nlist, dim)
				for j := range nlist {
					copy(centroids.Row(j), all.Row(rng.IntN(all.Rows)))
				}
				g := newBank(all.Slice(0, rows), dead, 64).group(t, metric, centroids)
				for i := range g.list {
					if rng.IntN(30) == 0 {
						g.list[i] = int32(g.lists.Strays())
					}
				}
				queries := simd.NewMatrix(rapid.IntRange(1, 40).Draw(t, "queries"), dim)
				o := Options{Metric: metric, Threads: rapid.IntRange(1, 3).Draw(t, "threads"),
					K: rapid.OneOf(rapid.IntRange(1, 20), rapid.Just(rows)).Draw(t, "k")}
				for q := range queries.Rows {
					i := rng.IntN(all.Rows)
					copy(queries.Row(q), all.Row(i))
					o.ExcludeRow = append(o.ExcludeRow, int64(i))
				}
				if rapid.IntRange(0, 3).Draw(t, "allow") == 0 {
					o.Allow = func(row int64) bool { return row%3 != 1 }
				}
				if rapid.IntRange(0, 3).Draw(t, "range") == 0 {
					if hits := g.reference(queries, o)[0]; len(hits) > 0 {
						o.HasMinScore, o.MinScore = true, hits[rng.IntN(len(hits))].Score
					}
				}
				live := 0
				for _, d := range g.dead {
					if !d {
						live++
					}
				}
				o.K = max(1, min(o.K, live))
				most, reach := rapid.IntRange(1, nlist+2).Draw(t, "most"), everyList
				if rapid.Bool().Draw(t, "recall") {
					reach = rapid.SampledFrom([]float64{0, 0.5, 2, everyList}).Draw(t, "reach")
					g.lists.Tuned = []Tuning{{K: rows, Recall: 0.9, Probes: 1, Reach: reach, Most: most}}
					o.Recall = 0.8
				} else {
					o.Probes = most
				}
				ix := g.index(t, 32*rapid.IntRange(1, 9).Draw(t, "block"), rapid.Bool().Draw(t, "coded"))
				defer codeListsFrom(rapid.SampledFrom([]float64{0, 50, plainRows}).Draw(t, "coded from"))()
				r, err := ix.Search(t.Context(), queries, o)
				if errors.Is(err, ErrOverflow) {
					return
				}
				if err != nil {
					t.Fatal(err)
				}
				defer lookAtLists()()
				exact := o
				exact.Probes, exact.Recall = 0, 0
				whole, err := ix.Search(t.Context(), queries, exact)
				if err != nil {
					t.Fatal(err)
				}
				mustEqual(t, whole.Hits, g.reference(queries, exact))
				for q := range queries.Rows {
					want := g.answer(queries, q, o, most, reach)
					if !slices.Equal(r.Hits[q], want) {
						t.Fatalf("query %d:\n got %v\nwant %v", q, r.Hits[q], want)
					}
				}
			})
		})
	}
}

// lookAtLists lets small exact searches look at lists, too.
func lookAtLists() (restore func()) {
	was := leastBounded
	leastBounded = 0
	return func() { leastBounded = was }
}

// codeListsFrom lets searches of so many rows for each query use codes.
func codeListsFrom(rows float64) (restore func()) {
	was := plainRows
	plainRows = rows
	return func() { plainRows = was }
}

// Where rows lie in tight clusters an exact search leaves most lists out.
func TestExactLeavesListsOut(t *testing.T) {
	defer lookAtLists()()
	defer codeListsFrom(0)()
	rng := rand.New(rand.NewPCG(4, 4))
	const clusters, dim = 60, 24
	centres := simd.NewMatrix(clusters, dim)
	for i := range centres.Data {
		centres.Data[i] = float32(rng.NormFloat64())
	}
	m := simd.NewMatrix(3100, dim)
	for i := range m.Rows {
		for d := range dim {
			m.Row(i)[d] = centres.Row(i % clusters)[d] + 0.05*float32(rng.NormFloat64())
		}
	}
	b := newBank(m.Slice(0, 3000), nil, 512)
	queries := m.Slice(3000, 3100)
	for _, metric := range []Metric{Cosine, Dot, L2} {
		ix := b.group(t, metric, centres).index(t, 512, true)
		for _, o := range []Options{{K: 5, Metric: metric}, {K: 1, Metric: metric, Threads: 1}, {K: 5, Metric: metric, Recall: 1}} {
			r := mustSearch(t, ix, queries, o)
			mustEqual(t, r.Hits, b.reference(queries, o))
			if r.Approximate || r.Stats.Lists == 0 || r.Stats.Lists > clusters/4*100 {
				t.Errorf("%v, k %d: %d pairs of a list and a query of %d, approximate %v", metric, o.K, r.Stats.Lists, clusters*100, r.Approximate)
			}
		}
	}
}

// The floor that scouts find is reached by K rows that a query may have, in the lists
// it reads, and by few more.
func TestScoutsFindFloors(t *testing.T) {
	defer codeListsFrom(0)()
	ctx := context.Background()
	m := simd.NewMatrix(4100, 96)
	sslLike(m, 5)
	dead := make([]bool, 4000)
	for i := range dead {
		dead[i] = i%7 == 0
	}
	b := newBank(m.Slice(0, 4000), dead, 512)
	queries := m.Slice(4000, 4100)
	for _, metric := range []Metric{Cosine, Dot, L2} {
		g := b.group(t, metric, m.Slice(100, 140))
		ix := g.index(t, 512, true)
		for _, k := range []int{1, 10, 40} {
			allow := func(row int64) bool { return row%5 != 0 }
			o := Options{K: k, Metric: metric, Threads: 2, Allow: allow}
			norms, err := ix.check(queries, &o)
			if err != nil {
				t.Fatal(err)
			}
			group, err := ix.grouping()
			if err != nil {
				t.Fatal(err)
			}
			p := newPass(ix, o, newBudget(1<<30), queries, norms, nil, route{group: group, most: 12, reach: everyList})
			p.exclude = make([]int64, queries.Rows)
			nearest, err := group.nearest(ctx, p.rows, 12, 2)
			if err != nil {
				t.Fatal(err)
			}
			best := mustSearch(t, ix, queries, Options{K: 1, Metric: metric})
			for q := range p.exclude {
				p.exclude[q] = best.Hits[q][0].Row
			}
			if ok, err := p.scout(ctx, nearest, p.effort(int(ix.rows))); err != nil || !ok {
				t.Fatalf("%v, k %d: scouted %v, %v", metric, k, ok, err)
			}
			above := 0
			for q := range p.tops {
				read := map[int32]bool{}
				for _, l := range nearest[q] {
					read[l.list] = true
				}
				r := o
				r.K, r.ExcludeRow = 4000, p.exclude[q:q+1]
				r.Allow = func(row int64) bool { return allow(row) && read[g.list[row]] }
				count := 0
				for _, h := range b.reference(queries.Slice(q, q+1), r)[0] {
					if metric.printed(h.Score) >= p.floors[q].load() {
						count++
					}
				}
				if count < k || len(p.tops[q].hits) > 0 {
					t.Fatalf("%v, k %d, query %d: %d rows reach the floor %v, %d hits are kept", metric, k, q, count, p.floors[q].load(), len(p.tops[q].hits))
				}
				above += count
			}
			if t.Logf("%v, k %d: %.1f rows reach the floor", metric, k, float64(above)/100); above > 100*(2*k+2) {
				t.Errorf("%v, k %d: %.1f rows reach the floor", metric, k, float64(above)/100)
			}
		}
	}
}

// The share of exact answers found rises with the number of lists and is 1, with
// the same bits, when all are read.
func TestRecallLadder(t *testing.T) {
	defer codeListsFrom(0)()
	m := simd.NewMatrix(4200, 48)
	sslLike(m, 3)
	b := newBank(m.Slice(0, 4000), nil, 512)
	queries := m.Slice(4000, 4200)
	for _, metric := range []Metric{Cosine, Dot, L2} {
		g := b.group(t, metric, m.Slice(100, 164))
		ix := g.index(t, 512, metric != Dot)
		exact := mustSearch(t, ix, queries, Options{K: 10, Metric: metric, Threads: 2})
		last := 0.0
		for _, probes := range []int{1, 2, 4, 8, 16, 32, 63, 64, 1000} {
			r := mustSearch(t, ix, queries, Options{K: 10, Metric: metric, Probes: probes, Threads: 2})
			found := Recall(r.Hits, exact.Hits)
			t.Logf("%v nprobe %d: recall %.4f, %d lists, %d scores, %d coded", metric, probes, found, r.Stats.Lists, r.Stats.Scores, r.Stats.Coded)
			if found < last || probes == 16 && found < 0.85 {
				t.Errorf("%v: recall %v with %d probes after %v with fewer", metric, found, probes, last)
			}
			last = found
			if probes >= 64 {
				mustEqual(t, r.Hits, exact.Hits)
			}
		}
	}
}

// No row of a list scores more than its bound says, for any row that Assign lets
// into it.
func TestListBound(t *testing.T) {
	for _, kind := range clouds {
		for _, metric := range []Metric{Cosine, Dot, L2} {
			for _, dim := range []int{1, 2, 9, 130} {
				rng := rand.New(rand.NewPCG(9, uint64(dim)))
				m := simd.NewMatrix(260, dim)
				kind.fill(rng, m)
				b := newBank(m.Slice(0, 200), nil, 200)
				g := b.group(t, metric, m.Slice(20, 29))
				late := newBank(m.Slice(200, 240), nil, 40)
				a, err := NewAssigner(g.lists, 1)
				if err != nil {
					t.Fatal(err)
				}
				lists := make([]int32, 40)
				if err := a.Assign(lists, late.blocks[0]); err != nil {
					t.Fatal(err)
				}
				for q := 200; q < 260; q++ {
					query := slices.Clone(m.Row(q))
					if metric == Cosine {
						simd.Normalize(query, query)
					}
					all := make([]Hit, 240)
					one := newBank(m.Slice(0, 240), nil, 240).reference(m.Slice(q, q+1), Options{K: 240, Metric: metric})[0]
					for _, h := range one {
						all[h.Row] = h
					}
					for _, l := range g.nearest(query) {
						norm, most := simd.Norm(query), 0.0
						for i := range 240 {
							most = max(most, simd.Norm(m.Row(i)))
						}
						bound := g.lists.bound(int(l.list), l.score, norm, most)
						for row, h := range all {
							of := lists[max(0, row-200)]
							if row < 200 {
								of = g.list[row]
							}
							if of == l.list && float64(metric.printed(h.Score)) > bound {
								t.Fatalf("%s, dim %d, %v: row %d of list %d scores %v, bound %v", kind.name, dim, metric, row, l.list, h.Score, bound)
							}
						}
					}
				}
			}
		}
	}
}

// What is encoded comes back; what is cut, longer or altered does not.
func TestListsRecord(t *testing.T) {
	m := simd.NewMatrix(50, 7)
	sslLike(m, 1)
	g := newBank(m, nil, 64).group(t, L2, m.Slice(0, 6))
	g.lists.Tuned = []Tuning{{K: 10, Recall: 0.9, Probes: 3, Reach: 1.5, Most: 4, Lists: 2.5, Measure: Measure{Recall: 0.93, K: 10, Queries: 99, Own: true}}}
	record := g.lists.Encode()
	got, err := DecodeLists(record)
	if err != nil {
		t.Fatal(err)
	}
	if a, b := fmt.Sprint(*got), fmt.Sprint(*g.lists); a != b {
		t.Fatalf("got %s, want %s", a, b)
	}
	for n := range record {
		if _, err := DecodeLists(record[:n]); !errors.Is(err, ErrLists) {
			t.Fatalf("%d bytes of %d: %v", n, len(record), err)
		}
	}
	if _, err := DecodeLists(append(record, 0)); !errors.Is(err, ErrLists) {
		t.Fatal(err)
	}
	nan := slices.Clone(record)
	for i := range 4 {
		nan[len(nan)-4+i] = byte(math.Float32bits(float32(math.NaN())) >> (8 * i))
	}
	if _, err := DecodeLists(nan); !errors.Is(err, ErrLists) {
		t.Fatal(err)
	}
}

// Bounds of cosine lists count on centroids of length 1, however long the vectors
// were that they came from.
func TestCentroidsHaveLength1(t *testing.T) {
	sizes := []float32{0x1p-149, 3e-44, 1e-38, 1e-31, 1e-19, 1e-13, 7e-13, 1e-6, 1, 1e6, 1e30, 3e38, 0}
	m := simd.NewMatrix(len(sizes), 3)
	for i, s := range sizes {
		m.Row(i)[1] = s
	}
	l := NewLists(Cosine, 1, m)
	for i, s := range sizes {
		want := float32(1)
		if s == 0 {
			want = 0
		}
		if c := l.Centroids.Row(i); math.Abs(float64(c[1]-want)) > 1e-6 {
			t.Errorf("a vector of length %g became a centroid of length %g", s, c[1])
		}
	}
	copy(l.Centroids.Row(2), []float32{0, 2e-7, 0})
	if _, err := DecodeLists(l.Encode()); !errors.Is(err, ErrLists) {
		t.Errorf("a centroid of length 2e-7 was read: %v", err)
	}
}

func FuzzDecodeLists(f *testing.F) {
	m := simd.NewMatrix(5, 3)
	sslLike(m, 1)
	f.Add(NewLists(Cosine, 7, m).Encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		if l, err := DecodeLists(b); err == nil && !slices.Equal(l.Encode(), b) {
			t.Fatal("it does not come back")
		}
	})
}
