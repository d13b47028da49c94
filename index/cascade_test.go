package index

import (
	"errors"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"membank/simd"
	"membank/store"
	"pgregory.net/rapid"
)

// coded returns an index that uses codes however few rows there are, and its
// basis. The codes lie in memory, at an odd offset as in a mapped file.
func (b *bank) coded(t failer, change ...func(*Basis)) *Index {
	t.Helper()
	live := simd.NewMatrix(b.Rows, b.Dim)
	live.Rows = 0
	for i := range b.Rows {
		if !b.dead[i] {
			live.Rows++
			copy(live.Row(live.Rows-1), b.Row(i))
		}
	}
	basis := learn(live, aim{int64(live.Rows), aimedK, strangers}, 2)
	ix := b.index()
	if basis == nil {
		return ix
	}
	for _, f := range change {
		f(basis)
		basis.seal()
	}
	ix.withCodes(t, basis, b.blocks)
	return ix
}

func (ix *Index) withCodes(t failer, basis *Basis, blocks []*store.Block) {
	records := make([][]byte, len(blocks))
	for i, k := range blocks {
		v, err := basis.EncodeBlock(nil, k)
		if err != nil {
			t.Fatal(err)
		}
		records[i] = append(make([]byte, 1, len(v)+1), v...)[1:]
	}
	ix.basis, ix.small = basis, true
	ix.codes = func() codesView {
		return func(i int, fn func([]byte) error) error { return fn(records[i]) }
	}
}

// cloud is a kind of gallery; fill makes its rows.
type cloud struct {
	name string
	fill func(rng *rand.Rand, m simd.Matrix)
}

func each(f func(rng *rand.Rand, i, d int) float64) func(*rand.Rand, simd.Matrix) {
	return func(rng *rand.Rand, m simd.Matrix) {
		for i := range m.Rows {
			for d := range m.Dim {
				m.Row(i)[d] = float32(f(rng, i, d))
			}
		}
	}
}

// clouds are the galleries that a bound is likely to fail on.
var clouds = []cloud{
	{"normal", each(func(r *rand.Rand, i, d int) float64 { return r.NormFloat64() })},
	{"all equal", each(func(r *rand.Rand, i, d int) float64 { return float64(d%5) - 1.3 })},
	{"few values", each(func(r *rand.Rand, i, d int) float64 { return float64(r.IntN(2)) })},
	{"ulps apart", each(func(r *rand.Rand, i, d int) float64 {
		return float64(math.Float32frombits(math.Float32bits(1+float32(d%3)) + uint32(r.IntN(3))))
	})},
	{"one huge dim", each(func(r *rand.Rand, i, d int) float64 {
		if d == 1 {
			return 1e6 * (1 + 1e-4*r.NormFloat64())
		}
		return r.NormFloat64()
	})},
	{"one huge row", each(func(r *rand.Rand, i, d int) float64 {
		if i == 3 {
			return 1e15 * r.NormFloat64()
		}
		return r.NormFloat64()
	})},
	{"heavy tails", each(func(r *rand.Rand, i, d int) float64 { return math.Exp(3 * r.NormFloat64()) })},
	{"zero rows", each(func(r *rand.Rand, i, d int) float64 { return float64(i%3/2) * r.NormFloat64() })},
	{"all zero", each(func(r *rand.Rand, i, d int) float64 { return 0 })},
	{"denormal", each(func(r *rand.Rand, i, d int) float64 { return 1e-42 * r.NormFloat64() })},
	{"tiny", each(func(r *rand.Rand, i, d int) float64 { return 1e-13 * r.NormFloat64() * float64(1+i%40) })},
	{"all sizes", each(func(r *rand.Rand, i, d int) float64 {
		return math.Pow(10, float64(i%50-35)) * (1 + r.NormFloat64())
	})},
	{"low rank", func(r *rand.Rand, m simd.Matrix) {
		a, b := r.NormFloat64(), r.NormFloat64()
		for i := range m.Rows {
			x, y := r.NormFloat64(), r.NormFloat64()
			for d := range m.Dim {
				m.Row(i)[d] = float32(3 + x*math.Sin(a*float64(d+1)) + y*math.Cos(b*float64(d+1)))
			}
		}
	}},
	{"ssl", func(r *rand.Rand, m simd.Matrix) { sslLike(m, r.Uint64()) }},
	{"close", each(func(r *rand.Rand, i, d int) float64 { return math.Sin(float64(d)) + 1e-6*r.NormFloat64() })},
}

// With codes and without: the same hits, the same bits, and those of the scalar
// functions; on thousands of small galleries of every kind.
func TestCodesDoNotChangeAnswers(t *testing.T) {
	for _, level := range simd.Levels() {
		t.Run(string(level), func(t *testing.T) {
			defer simd.Use(level)()
			rapid.Check(t, func(t *rapid.T) {
				seed := rapid.Uint64().Draw(t, "seed")
				rng := rand.New(rand.NewPCG(seed, 4))
				kind := rapid.SampledFrom(clouds).Draw(t, "cloud")
				dim := rapid.OneOf(rapid.IntRange(1, 40), rapid.SampledFrom([]int{64, 96, 257, 300})).Draw(t, "dim")
				rows := rapid.IntRange(1, 500).Draw(t, "rows")
				if dim > maxRank {
					rows = min(rows, 60) // the basis takes its time
				}
				if level == simd.Generic {
					rows = min(rows, 120) // so does the scalar twin
				}
				all := simd.NewMatrix(rows+30, dim)
				kind.fill(rng, all)
				var dead []bool
				if rapid.Bool().Draw(t, "deleted") {
					dead = make([]bool, rows)
					for i := range dead {
						dead[i] = rng.IntN(3) == 0
					}
				}
				b := newBank(all.Slice(0, rows), dead, rapid.SampledFrom([]int{32, 96, 2048 + 128}).Draw(t, "block rows"))
				// Queries are rows and others; some zero, some scaled.
				queries := simd.NewMatrix(rapid.IntRange(1, 30).Draw(t, "queries"), dim)
				o := Options{
					Metric:  rapid.SampledFrom([]Metric{Cosine, Dot, L2}).Draw(t, "metric"),
					K:       rapid.OneOf(rapid.IntRange(1, 20), rapid.Just(rows)).Draw(t, "k"),
					Threads: rapid.IntRange(1, 3).Draw(t, "threads"),
				}
				for q := range queries.Rows {
					i := rng.IntN(all.Rows)
					copy(queries.Row(q), all.Row(i))
					if rng.IntN(20) == 0 {
						clear(queries.Row(q))
					}
					if rng.IntN(4) == 0 {
						factor := float32(math.Pow(10, float64(rng.IntN(9)-4)))
						for d := range queries.Row(q) {
							queries.Row(q)[d] *= factor
						}
					}
					if rapid.Bool().Draw(t, "exclude") {
						o.ExcludeRow = append(o.ExcludeRow, int64(i))
					} else {
						o.ExcludeRow = append(o.ExcludeRow, -1)
					}
				}
				if rapid.IntRange(0, 3).Draw(t, "allow") == 0 {
					o.Allow = func(row int64) bool { return row%3 != 1 }
				}
				want := b.reference(queries, o)
				if rapid.IntRange(0, 3).Draw(t, "range") == 0 && len(want[0]) > 0 {
					o.HasMinScore = true
					o.MinScore = want[0][rng.IntN(len(want[0]))].Score
					if rapid.Bool().Draw(t, "only range") {
						o.K = 0
					}
					want = b.reference(queries, o)
				}
				if draw := rapid.IntRange(0, 5).Draw(t, "floors"); draw < 4 {
					o.Floors = floorsOf(rng, want, draw < 2)
					want = b.reference(queries, o)
				}
				if rapid.Bool().Draw(t, "some dims") {
					o.firstDims = simd.CodeGroup * rapid.IntRange(1, 12).Draw(t, "groups")
				}
				ix := b.coded(t)
				r, err := ix.Search(t.Context(), queries, o)
				o.NoCodes = true
				plain, plainErr := ix.Search(t.Context(), queries, o)
				if errors.Is(err, ErrOverflow) && errors.Is(plainErr, ErrOverflow) {
					return // heavy tails, scaled up: refused either way
				}
				if err != nil || plainErr != nil {
					t.Fatal(err, plainErr)
				}
				mustEqual(t, r.Hits, want)
				mustEqual(t, plain.Hits, want)
			})
		})
	}
}

// floorsOf takes floors from answers: a score in it, one next to it, or with some
// none.
func floorsOf(rng *rand.Rand, answers [][]Hit, some bool) []float32 {
	floors := make([]float32, len(answers))
	for q, hits := range answers {
		none := []float32{float32(math.NaN()), float32(math.Inf(-1))}[rng.IntN(2)]
		if floors[q] = none; some && rng.IntN(3) == 0 {
			continue
		}
		if len(hits) > 0 {
			floors[q] = hits[rng.IntN(len(hits))].Score
		}
		switch rng.IntN(6) {
		case 0:
			floors[q] = math.Nextafter32(floors[q], 3)
		case 1:
			floors[q] = math.Nextafter32(floors[q], -3)
		case 2:
			floors[q] *= 1.01
		}
	}
	return floors
}

// failer is a test, or a rapid test.
type failer interface {
	Helper()
	Fatal(...any)
	Fatalf(string, ...any)
}

// The bound itself: for any query and row no score of the plain scan exceeds what
// either stage says, and what they say is not far above the float64 score.
func TestBoundHolds(t *testing.T) {
	for _, level := range simd.Levels() {
		t.Run(string(level), func(t *testing.T) {
			defer simd.Use(level)()
			for _, kind := range clouds {
				for _, dim := range []int{1, 3, 17, 90} {
					if level == simd.Generic && dim%3 != 0 {
						continue
					}
					testBound(t, kind, dim)
				}
			}
		})
	}
}

func testBound(t *testing.T, kind cloud, dim int) {
	rng := rand.New(rand.NewPCG(5, uint64(dim)))
	m := simd.NewMatrix(140, dim)
	kind.fill(rng, m)
	b := newBank(m.Slice(0, 120), nil, 120)
	ix := b.coded(t)
	queries := m.Slice(113, 140) // some are rows
	for _, metric := range []Metric{Cosine, Dot, L2} {
		o := Options{K: 1, Metric: metric, Threads: 1}
		norms, err := ix.check(queries, &o)
		if err != nil {
			t.Fatal(err)
		}
		p := newPass(ix, o, newBudget(1<<30), queries, norms, nil, route{})
		var c codes
		if err := ix.codes()(0, func(v []byte) (err error) {
			c, err = ix.basis.decodeCodes(v)
			return err
		}); err != nil {
			t.Fatal(err)
		}
		k := b.blocks[0]
		scale, bias := make([]float32, k.Lanes), make([]float32, k.Lanes)
		metric.Epilogue(scale, bias, k, 0)
		scores := make([]float32, k.Lanes)
		for tile := range p.tileCount() {
			v := &p.cascade.tiles[tile]
			if v.plain {
				continue
			}
			first, last := p.tileRange(tile)
			for q := first; q < last; q++ {
				simd.Scan(scores, k.Panels, scale, bias, p.rows.Row(q))
				n := &p.cascade.next[q]
				for i := range k.Rows {
					// Of the first stage: a hit with this very score as its floor.
					if !firstReaches(p, &c, tile, q-first, i, scores[i]) {
						t.Fatalf("%s, dim %d, %v: query %d, row %d of score %v fails the first stage", kind.name, dim, metric, q, i, scores[i])
					}
					of := productsOf(p, &c, q, i)
					if !n.reaches(&c, metric, i, of, float64(scores[i])) {
						t.Fatalf("%s, dim %d, %v: query %d, row %d of score %v fails the second stage", kind.name, dim, metric, q, i, scores[i])
					}
					if !n.reachesFine(&c, metric, i, of, float64(scores[i])) {
						t.Fatalf("%s, dim %d, %v: query %d, row %d of score %v fails the third stage", kind.name, dim, metric, q, i, scores[i])
					}
					if kind.name != "normal" || dim == 1 || metric != Cosine {
						continue
					}
					if n.reaches(&c, metric, i, of, float64(scores[i])+0.1) {
						t.Fatalf("dim %d: the bound of query %d, row %d is above its score %v by more than 0.1", dim, q, i, scores[i])
					}
					if n.reachesFine(&c, metric, i, of, float64(scores[i])+0.05) {
						t.Fatalf("dim %d: the finer bound of query %d, row %d is above its score %v by more than 0.05", dim, q, i, scores[i])
					}
				}
			}
		}
	}
}

// productsOf multiplies the codes of a query and a lane.
func productsOf(p *pass, c *codes, q, lane int) pairProducts {
	n, dims := &p.cascade.next[q], c.dims-headDims
	head, rest := c.head[lane*headDims:][:headDims], c.rest[lane*dims:][:dims]
	one := func(codes []uint8, query []int8, start int32) []int32 {
		return []int32{simd.CodeDot(codes, query, start)}
	}
	return pairProducts{
		head:     one(head, p.cascade.head[q*headDims:][:headDims], n.head.start),
		rest:     one(rest, p.cascade.rest[q*dims:][:dims], n.rest.start),
		headFine: one(head, p.cascade.headFine[q*headDims:][:headDims], n.head.fine.start),
		restFine: one(rest, p.cascade.restFine[q*dims:][:dims], n.rest.fine.start),
	}
}

// reaches asks the second stage about one lane, reachesFine the third.
func (n *nextQuery) reaches(c *codes, m Metric, lane int, p pairProducts, floor float64) bool {
	p.headFine, p.restFine = nil, nil
	return n.reachesFine(c, m, lane, p, floor)
}

func (n *nextQuery) reachesFine(c *codes, m Metric, lane int, p pairProducts, floor float64) bool {
	return n.keep(c, m, []int32{int32(lane)}, p, floor) == 1
}

// firstReaches runs the first stage over one panel and reads one bit.
func firstReaches(p *pass, c *codes, tile, i, lane int, floor float32) bool {
	const n = simd.PanelRows
	v, panel := &p.cascade.tiles[tile], lane/n
	first, last := p.tileRange(tile)
	ct := v.CodeTile
	ct.Weights = v.weights(nil, p.o.Metric, c.reach[partFirst], last-first)
	floors := noFloor
	floors[i] = v.floor(i, floor, p.o.Metric, c.reach[partFirst])
	var hits simd.CodeHits
	columns := c.columnsOf(make([]float32, n*p.o.Metric.terms()), p.o.Metric, panel, 1)
	simd.CodeScan(&hits, c.panels[panel*n*c.first:][:n*c.first], columns, &ct, &floors)
	return hits[i][0]>>(lane%n)&1 == 1
}

// Each part of the bound is needed: without any one of them some row of some
// gallery would be lost. (A test that cannot fail proves nothing.)
func TestBoundNeedsItsParts(t *testing.T) {
	errors := func(c *codes) { c.reach[partHead], c.reach[partRest] = 0, 0; spoilNext(c, 1); spoilNext(c, 3) }
	for name, spoilt := range map[string]struct {
		stage int // in which rows must be lost
		spoil func(*codes)
	}{
		"tail of the first stage":             {1, func(c *codes) { spoilColumn(c, 3, 0) }},
		"mean of the first stage":             {1, func(c *codes) { spoilColumn(c, 1, -2) }},
		"errors and reach of the first stage": {1, func(c *codes) { c.reach[partFirst] = 0; spoilColumn(c, 2, 0) }},
		"tail of the second":                  {2, func(c *codes) { spoilNext(c, 5) }},
		"errors and reach of the second":      {2, errors},
		"tail of the third":                   {3, func(c *codes) { spoilNext(c, 5) }},
		"errors of the third":                 {3, func(c *codes) { spoilNext(c, 1); spoilNext(c, 3) }},
	} {
		t.Run(name, func(t *testing.T) {
			rng := rand.New(rand.NewPCG(6, 6))
			m := simd.NewMatrix(640, 40)
			clouds[0].fill(rng, m)
			ix := newBank(m, nil, 640).coded(t, func(b *Basis) {
				// Few dims, so that the tails of both stages count.
				b.first, b.dims = 16, 32
				b.rows = b.rows.Slice(0, 32)
			})
			o := Options{K: 1, Metric: Cosine, Threads: 1}
			norms, err := ix.check(m, &o)
			if err != nil {
				t.Fatal(err)
			}
			p := newPass(ix, o, newBudget(1<<30), m, norms, nil, route{})
			lost := 0
			err = ix.codes()(0, func(v []byte) error {
				c, err := ix.basis.decodeCodes(append([]byte(nil), v...))
				if err != nil {
					return err
				}
				spoilt.spoil(&c)
				for q := range 120 {
					n := &p.cascade.next[q]
					for i := range m.Rows {
						score := simd.Dot(p.rows.Row(q), m.Row(i)) * float32(1/simd.Norm(m.Row(i)))
						of, reaches := productsOf(p, &c, q, i), false
						switch spoilt.stage {
						case 1:
							reaches = firstReaches(p, &c, q/simd.TileQueries, q%simd.TileQueries, i, score)
						case 2:
							reaches = n.reaches(&c, Cosine, i, of, float64(score))
						case 3:
							reaches = n.reachesFine(&c, Cosine, i, of, float64(score))
						}
						if !reaches {
							lost++
						}
					}
				}
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
			if lost == 0 {
				t.Error("no row was lost without it")
			}
		})
	}
}

func spoilColumn(c *codes, k int, value float32) {
	for i := range c.lanes {
		c.columns[i/simd.PanelRows*firstColumns*simd.PanelRows+k*simd.PanelRows+i%simd.PanelRows] = value
	}
}

func spoilNext(c *codes, k int) {
	for i := range c.lanes {
		c.next[i*nextColumns+k] = 0
	}
}

// A guessed floor that is too high costs a second pass and nothing else: here the
// rows near the queries all lie in the seed.
func TestWrongGuess(t *testing.T) {
	rng := rand.New(rand.NewPCG(8, 8))
	m := simd.NewMatrix(8192, 24)
	clouds[0].fill(rng, m)
	for i := range 16 {
		copy(m.Row(i), m.Row(40)) // the seed is what comes first
		m.Row(i)[0] += float32(i) * 1e-3
	}
	b := newBank(m, nil, 8192)
	ix := b.coded(t)
	queries := m.Slice(0, 5)
	for _, metric := range []Metric{Cosine, Dot, L2} {
		o := Options{K: 40, Metric: metric}
		r := mustSearch(t, ix, queries, o)
		if r.Stats.Repeated == 0 {
			t.Error("no guess was wrong; this tests nothing")
		}
		mustEqual(t, r.Hits, b.reference(queries, o))
	}
}

// So does one that is made on the way: here they lie in what is read before the
// first stop, and not in the seed.
func TestWrongGuessAtAStop(t *testing.T) {
	const blockRows, near = 512, 2
	rng := rand.New(rand.NewPCG(9, 9))
	m := simd.NewMatrix(32*blockRows, 24)
	clouds[0].fill(rng, m)
	for first := simd.PanelRows; first < m.Rows; first += blockRows {
		for i := range near {
			copy(m.Row(first+i), m.Row(0))
			m.Row(first + i)[0] += rng.Float32() * 1e-2
		}
	}
	b := newBank(m, nil, blockRows)
	ix := b.coded(t)
	for _, metric := range []Metric{Cosine, Dot, L2} {
		for _, c := range []struct {
			queries     simd.Matrix
			least, most int64 // asked again; of any queries a percent may be
		}{{m.Slice(0, 1), 1, 1}, {m.Slice(5*blockRows+100, 5*blockRows+130), 0, 3}} {
			o := Options{K: 100, Metric: metric}
			r := mustSearch(t, ix, c.queries, o)
			if r.Stats.Repeated < c.least || r.Stats.Repeated > c.most {
				t.Errorf("%v: %d of %d queries asked again", metric, r.Stats.Repeated, c.queries.Rows)
			}
			mustEqual(t, r.Hits, b.reference(c.queries, o))
		}
	}
}

// The codes must leave most rows out, or they are of no use.
func TestCodesLeaveRowsOut(t *testing.T) {
	m := simd.NewMatrix(20_000, 128)
	sslLike(m, 1)
	b := newBank(m, nil, 4096)
	ix := b.coded(t)
	queries := simd.NewMatrix(48, 128)
	sslLike(queries, 2)
	for _, metric := range []Metric{Cosine, Dot, L2} {
		o := Options{K: 10, Metric: metric}
		r := mustSearch(t, ix, queries, o)
		s := r.Stats
		if s.Coded < 12_000*48 || s.Second > s.Coded/5 || s.Exact > s.Coded/20 {
			t.Errorf("%v: %d pairs, %d in the second stage, %d scored", metric, s.Coded, s.Second, s.Exact)
		}
		o.NoCodes = true
		mustEqual(t, r.Hits, mustSearch(t, ix, queries, o).Hits)
	}
}

// Equal rows give equal bases at any number of threads, and a basis survives its
// record.
func TestBasisIsDeterministic(t *testing.T) {
	for _, dim := range []int{5, 100} {
		var records [][]byte
		for threads := 1; threads <= 3; threads++ {
			m := simd.NewMatrix(400, dim)
			sslLike(m, 3)
			records = append(records, learn(m, aim{400, aimedK, strangers}, threads).Encode())
		}
		b, err := DecodeBasis(records[0])
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range append(records, b.Encode()) {
			if !slices.Equal(r, records[0]) {
				t.Fatalf("dim %d: bases differ", dim)
			}
		}
		if b.delta > 1e-5 {
			t.Errorf("dim %d: delta %g", dim, b.delta)
		}
	}
}

// Subspace iteration finds nearly the variance that the eigenvectors have, and the
// same bits at any number of threads.
func TestDirections(t *testing.T) {
	m := simd.NewMatrix(2000, 120)
	sslLike(m, 3)
	variance := func(v simd.Matrix) (sum float64) {
		p := newProducts(v)
		for _, x := range p.all(m, 2).Data[:m.Rows*v.Rows] {
			sum += float64(x) * float64(x)
		}
		return sum
	}
	g := covariance(m, 2)
	first := directions(g, 20, 1)
	for threads := 2; threads <= 3; threads++ {
		if again := directions(g, 20, threads); !slices.Equal(again.Data, first.Data) {
			t.Fatalf("%d threads find other directions", threads)
		}
	}
	if delta := measureDelta(first, 1); delta > 1e-5 {
		t.Errorf("delta %g", delta)
	}
	best := directions(covariance(m, 1), m.Dim, 1).Slice(0, 20)
	if got, most := variance(first), variance(best); got < 0.99*most {
		t.Errorf("directions hold %.4g of the variance, eigenvectors %.4g", got, most)
	}
}

func FuzzDecodeBasis(f *testing.F) {
	m := simd.NewMatrix(60, 5)
	sslLike(m, 3)
	f.Add(learn(m, aim{60, aimedK, strangers}, 1).Encode())
	f.Fuzz(func(t *testing.T, v []byte) {
		b, err := DecodeBasis(v)
		if err == nil && !slices.Equal(b.Encode(), v) {
			t.Error("a basis changed by decoding")
		}
	})
}

func FuzzDecodeCodes(f *testing.F) {
	m := simd.NewMatrix(60, 5)
	sslLike(m, 3)
	b := newBank(m, nil, 60)
	basis := b.coded(f).basis
	v, err := basis.EncodeBlock(nil, b.blocks[0])
	if err != nil {
		f.Fatal(err)
	}
	f.Add(v)
	f.Fuzz(func(t *testing.T, v []byte) {
		c, err := basis.decodeCodes(v)
		if err != nil {
			return
		}
		if len(c.columns) != c.lanes*firstColumns || len(c.head) != c.lanes*headDims || len(c.rest) != c.lanes*(c.dims-headDims) ||
			len(c.panels) != c.lanes*c.first || len(c.next) != c.lanes*nextColumns || len(c.norms) != c.lanes || c.rows > c.lanes {
			t.Error("views of the wrong length")
		}
	})
}
