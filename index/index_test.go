package index

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"testing"
	"time"

	"membank/simd"
	"membank/store"
	"pgregory.net/rapid"
)

var itoa = strconv.Itoa

// bank is a gallery in memory, in blocks as the store lends them, so that
// thousands of small galleries can be searched without a database each.
type bank struct {
	simd.Matrix
	dead   []bool
	blocks []*store.Block
}

func newBank(m simd.Matrix, dead []bool, blockRows int) *bank {
	if dead == nil {
		dead = make([]bool, m.Rows)
	}
	b := &bank{Matrix: m, dead: dead}
	for first := 0; first < m.Rows; first += blockRows {
		part := m.Slice(first, min(first+blockRows, m.Rows))
		lanes := simd.Panels(part.Rows) * simd.PanelRows
		k := &store.Block{
			Rows: part.Rows, Lanes: lanes, Dim: m.Dim,
			Panels: make([]float32, lanes*m.Dim),
			Row:    make([]int64, lanes),
			Scale:  make([]float32, lanes), Bias: make([]float32, lanes),
			Dead: make([]bool, lanes),
		}
		simd.Pack(k.Panels, part)
		for i := range lanes {
			k.Row[i], k.Dead[i] = -1, true
			if i >= part.Rows {
				continue
			}
			norm := simd.Norm(part.Row(i))
			k.Row[i] = int64(first + i)
			k.Scale[i] = float32(1 / max(norm, simd.Epsilon))
			k.Bias[i] = float32(-norm * norm / 2)
			k.Dead[i] = dead[first+i]
			k.MaxNorm = max(k.MaxNorm, norm)
		}
		b.blocks = append(b.blocks, k)
	}
	return b
}

func (b *bank) index() *Index {
	ix := &Index{dim: b.Dim, blocks: len(b.blocks)}
	for _, dead := range b.dead {
		if !dead {
			ix.rows++
		}
	}
	for _, k := range b.blocks {
		ix.maxNorm = max(ix.maxNorm, k.MaxNorm)
	}
	ix.reader = func() view {
		return func(i int, panels []int32, fn func(*store.Block) error) error {
			return fn(only(b.blocks[i], panels))
		}
	}
	return ix
}

// only is a block of which only some panels were asked for: the columns of the others
// are nonsense.
func only(b *store.Block, panels []int32) *store.Block {
	if panels == nil {
		return b
	}
	c := *b
	c.Row, c.Scale, c.Bias = slices.Clone(b.Row), slices.Clone(b.Scale), slices.Clone(b.Bias)
	for i := range c.Row {
		if !slices.Contains(panels, int32(i/simd.PanelRows)) {
			c.Row[i], c.Scale[i], c.Bias[i] = -7, 1e9, 1e9
		}
	}
	return &c
}

// reference scores one row at a time with the scalar functions and sorts: what
// Search must return, bit for bit.
func (b *bank) reference(queries simd.Matrix, o Options) [][]Hit {
	all := make([][]Hit, queries.Rows)
	for q := range all {
		query := slices.Clone(queries.Row(q))
		if o.Metric == Cosine {
			simd.Normalize(query, query)
		}
		var hits []Hit
		for i := range b.Rows {
			if b.dead[i] || o.ExcludeRow != nil && o.ExcludeRow[q] == int64(i) || o.Allow != nil && !o.Allow(int64(i)) {
				continue
			}
			var s float32
			switch o.Metric {
			case Cosine:
				s = simd.Dot(b.Row(i), query) * float32(1/max(simd.Norm(b.Row(i)), simd.Epsilon))
			case Dot:
				s = simd.Dot(b.Row(i), query)
			case L2:
				s = -simd.SquaredDistance(query, b.Row(i))
			}
			hits = append(hits, Hit{int64(i), s})
		}
		k, least := o.K, float32(lowest)
		if o.HasMinScore {
			least = o.MinScore
			if o.Metric == L2 {
				least = -least
			}
			if k <= 0 {
				k = len(hits)
			}
		}
		if o.Floors != nil && !math.IsNaN(float64(o.Floors[q])) && !math.IsInf(float64(o.Floors[q]), -1) {
			floor := o.Floors[q]
			if o.Metric == L2 {
				floor = -floor
			}
			least = max(least, floor)
		}
		hits = sorted(hits, k, least)
		if o.Metric == L2 {
			for i := range hits {
				hits[i].Score = float32(math.Abs(float64(hits[i].Score)))
			}
		}
		all[q] = hits
	}
	return all
}

func mustSearch(t testing.TB, ix *Index, queries simd.Matrix, o Options) Result {
	t.Helper()
	r, err := ix.Search(context.Background(), queries, o)
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Hits) != queries.Rows {
		t.Fatalf("%d answers to %d queries", len(r.Hits), queries.Rows)
	}
	return r
}

func mustEqual(t failer, got, want [][]Hit) {
	t.Helper()
	for q := range want {
		if slices.Equal(got[q], want[q]) {
			continue
		}
		for i := range min(len(got[q]), len(want[q])) {
			if got[q][i] != want[q][i] {
				t.Fatalf("query %d, rank %d: got %v, want %v", q, i, got[q][i], want[q][i])
			}
		}
		t.Fatalf("query %d: %d hits, want %d", q, len(got[q]), len(want[q]))
	}
}

// galleries are what breaks searches. Queries are partly rows.
var galleries = map[string]func(rng *rand.Rand, m simd.Matrix){
	"normal": func(rng *rand.Rand, m simd.Matrix) { fill(rng, m, 1) },
	"equal": func(rng *rand.Rand, m simd.Matrix) {
		fill(rng, m.Slice(0, min(1, m.Rows)), 1)
		for i := 1; i < m.Rows; i++ {
			copy(m.Row(i), m.Row(0))
		}
	},
	"few values": func(rng *rand.Rand, m simd.Matrix) {
		for i := range m.Data {
			m.Data[i] = float32(rng.IntN(2))
		}
	},
	"ulps apart": func(rng *rand.Rand, m simd.Matrix) {
		fill(rng, m.Slice(0, min(1, m.Rows)), 1)
		for i := 1; i < m.Rows; i++ {
			copy(m.Row(i), m.Row(0))
			for range 3 {
				d := rng.IntN(m.Dim)
				m.Row(i)[d] = math.Nextafter32(m.Row(i)[d], float32(rng.IntN(3)-1)*10)
			}
		}
	},
	"far from the origin": func(rng *rand.Rand, m simd.Matrix) {
		fill(rng, m, 1e-3)
		for i := range m.Data {
			m.Data[i] += 100
		}
	},
	"zero rows": func(rng *rand.Rand, m simd.Matrix) {
		fill(rng, m, 1)
		for i := range m.Rows {
			if rng.IntN(3) == 0 {
				clear(m.Row(i))
			}
		}
	},
	"denormal":  func(rng *rand.Rand, m simd.Matrix) { fill(rng, m, 1e-41) },
	"underflow": func(rng *rand.Rand, m simd.Matrix) { fill(rng, m, 1e-21) },
	"huge":      func(rng *rand.Rand, m simd.Matrix) { fill(rng, m, 1e16) },
	"one huge element": func(rng *rand.Rand, m simd.Matrix) {
		fill(rng, m, 1)
		for i := range m.Rows {
			m.Row(i)[i%m.Dim] = 1e9
		}
	},
	"mixed magnitudes": func(rng *rand.Rand, m simd.Matrix) {
		fill(rng, m, 1)
		for i := range m.Rows {
			by := float32(math.Pow(10, float64(rng.IntN(24)-12)))
			for d := range m.Row(i) {
				m.Row(i)[d] *= by
			}
		}
	},
	"falling order": func(rng *rand.Rand, m simd.Matrix) {
		for i := range m.Rows {
			for d := range m.Dim {
				m.Row(i)[d] = float32(i + 1)
			}
		}
	},
}

func fill(rng *rand.Rand, m simd.Matrix, scale float64) {
	for i := range m.Data[:m.Rows*m.Dim] {
		m.Data[i] = float32(scale * rng.NormFloat64())
	}
}

// some returns queries: rows of m, rows of m a little changed, and others.
func some(rng *rand.Rand, m simd.Matrix, n int, others func(*rand.Rand, simd.Matrix)) simd.Matrix {
	queries := simd.NewMatrix(n, m.Dim)
	others(rng, queries)
	for i := range n {
		if m.Rows > 0 && i%3 != 0 {
			copy(queries.Row(i), m.Row(rng.IntN(m.Rows)))
			if i%3 == 1 {
				queries.Row(i)[rng.IntN(m.Dim)] *= 1.5
			}
		}
	}
	return queries
}

func eachLevel(t *testing.T, fn func(t *testing.T)) {
	for _, level := range simd.Levels() {
		t.Run(string(level), func(t *testing.T) {
			defer simd.Use(level)()
			fn(t)
		})
	}
}

// The heart of the matter: on every kind of gallery, for every metric, level,
// number of threads and batch size, Search returns what scoring each row by
// itself and sorting gives. With ==.
func TestSearchEqualsSortingEveryRow(t *testing.T) {
	for name, gallery := range galleries {
		t.Run(name, func(t *testing.T) {
			rng := rand.New(rand.NewPCG(1, uint64(len(name))))
			for _, size := range []struct{ rows, dim, blockRows, queries int }{
				{1, 1, 32, 1}, {1, 7, 32, 50}, {31, 1, 32, 5}, {33, 3, 64, 13},
				{400, 16, 96, 25}, {600, 5, 600, 12}, {300, 33, 128, 26},
			} {
				m := simd.NewMatrix(size.rows, size.dim)
				gallery(rng, m)
				dead := make([]bool, size.rows)
				for i := range dead {
					dead[i] = size.rows > 1 && rng.IntN(10) == 0
				}
				b := newBank(m, dead, size.blockRows)
				queries := some(rng, m, size.queries, gallery)
				exclude := make([]int64, queries.Rows)
				for q := range exclude {
					exclude[q] = int64(rng.IntN(size.rows+1)) - 1
				}
				for _, metric := range []Metric{Cosine, Dot, L2} {
					o := Options{K: size.rows, Metric: metric, ExcludeRow: exclude}
					all := b.reference(queries, o)
					for _, o.K = range []int{1, 10, size.rows, size.rows + 5} {
						want := make([][]Hit, len(all))
						for q := range all {
							want[q] = all[q][:min(o.K, len(all[q]))]
						}
						for _, level := range simd.Levels() {
							restore := simd.Use(level)
							o.Threads = 1 + rng.IntN(8)
							mustEqual(t, mustSearch(t, b.index(), queries, o).Hits, want)
							restore()
						}
					}
				}
			}
		})
	}
}

func TestBatchesAndThreadsDoNotMatter(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 6))
	m := simd.NewMatrix(600, 12)
	galleries["ulps apart"](rng, m)
	fill(rng, m.Slice(0, 300), 1)
	b := newBank(m, nil, 64)
	queries := some(rng, m, 50, galleries["normal"])
	eachLevel(t, func(t *testing.T) {
		for _, metric := range []Metric{Cosine, Dot, L2} {
			o := Options{K: 20, Metric: metric, Threads: 1}
			want := b.reference(queries, o)
			for batch := 1; batch <= 50; batch++ {
				o.Threads = 1 + batch%8
				mustEqual(t, mustSearch(t, b.index(), queries.Slice(0, batch), o).Hits, want[:batch])
			}
			for threads := 1; threads <= 8; threads++ {
				o.Threads = threads
				mustEqual(t, mustSearch(t, b.index(), queries, o).Hits, want)
			}
		}
	})
}

// One block, cut into pieces, with holes in it.
func TestOneBlockForManyWorkers(t *testing.T) {
	rng := rand.New(rand.NewPCG(23, 24))
	m := simd.NewMatrix(1500, 64)
	fill(rng, m, 1)
	dead := make([]bool, m.Rows)
	for i := range dead {
		dead[i] = i/100%3 == 1
	}
	b := newBank(m, dead, m.Rows)
	queries := some(rng, m, 1000, galleries["normal"])
	for _, metric := range []Metric{Cosine, L2} {
		o := Options{K: 7, Metric: metric, Threads: 8, Allow: func(row int64) bool { return row%5 != 0 }}
		want := b.reference(queries, o)
		p := newPass(b.index(), o, newBudget(1<<30), queries, make([]float64, queries.Rows), nil, route{})
		if p.cuts() < 4 {
			t.Fatalf("%d pieces are no test", p.cuts())
		}
		mustEqual(t, mustSearch(t, b.index(), queries, o).Hits, want)
		mustEqual(t, mustSearch(t, b.index(), queries.Slice(0, 1), o).Hits, want[:1])
	}
}

// Any options at all, against the reference.
func TestSearchProperty(t *testing.T) {
	names := make([]string, 0, len(galleries))
	for name := range galleries {
		names = append(names, name)
	}
	slices.Sort(names)
	rapid.Check(t, func(t *rapid.T) {
		rng := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0))
		gallery := galleries[rapid.SampledFrom(names).Draw(t, "gallery")]
		m := simd.NewMatrix(rapid.IntRange(1, 400).Draw(t, "rows"), rapid.IntRange(1, 40).Draw(t, "dim"))
		gallery(rng, m)
		dead := make([]bool, m.Rows)
		deaths := rapid.SampledFrom([]int{0, 10, 90, 100}).Draw(t, "dead, percent")
		for i := range dead {
			dead[i] = rng.IntN(100) < deaths
		}
		b := newBank(m, dead, 32*rapid.IntRange(1, 5).Draw(t, "panels a block"))
		queries := some(rng, m, rapid.IntRange(1, 30).Draw(t, "queries"), gallery)
		o := Options{
			K:       rapid.IntRange(1, 450).Draw(t, "k"),
			Metric:  Metric(rapid.IntRange(0, 2).Draw(t, "metric")),
			Threads: rapid.IntRange(1, 4).Draw(t, "threads"),
		}
		if rapid.Bool().Draw(t, "exclude") {
			for range queries.Rows {
				o.ExcludeRow = append(o.ExcludeRow, int64(rng.IntN(m.Rows)))
			}
		}
		if modulus := rapid.IntRange(0, 4).Draw(t, "allow"); modulus > 0 {
			o.Allow = func(row int64) bool { return row/40%int64(modulus) == 0 }
		}
		if rapid.Bool().Draw(t, "range") {
			// Some score that occurs, so that equality is met.
			probe := o
			probe.K = 1 + rng.IntN(m.Rows)
			if hits := b.reference(queries, probe)[0]; len(hits) > 0 {
				o.HasMinScore, o.MinScore = true, hits[len(hits)-1].Score
			}
			if o.HasMinScore && rapid.Bool().Draw(t, "no k") {
				o.K = 0
			}
		}
		r, err := b.index().Search(context.Background(), queries, o)
		if err != nil {
			t.Fatal(err)
		}
		for q, want := range b.reference(queries, o) {
			if !slices.Equal(r.Hits[q], want) {
				t.Fatalf("query %d:\ngot  %v\nwant %v", q, r.Hits[q], want)
			}
		}
	})
}

// Independent of simd: float64, one row, one loop. The bound on a chain of n
// FMAs is γ·Σ|q·x|, with one more rounding for each of: the product by the
// scale, the scale itself, the normalised query and its norm.
func TestScoresAgainstFloat64(t *testing.T) {
	rng := rand.New(rand.NewPCG(7, 8))
	for _, dim := range []int{1, 2, 31, 128, 384, 1025} {
		m := simd.NewMatrix(200, dim)
		fill(rng, m, 3)
		queries := some(rng, m, 13, galleries["normal"])
		n := float64(dim)
		gamma := (n + 6) * unit / (1 - (n+6)*unit)
		for _, metric := range []Metric{Cosine, Dot, L2} {
			r := mustSearch(t, newBank(m, nil, 64).index(), queries, Options{K: m.Rows, Metric: metric})
			for q, hits := range r.Hits {
				if len(hits) != m.Rows {
					t.Fatalf("%d hits of %d", len(hits), m.Rows)
				}
				for rank, h := range hits {
					want, magnitude := naive(metric, queries.Row(q), m.Row(int(h.Row)))
					if err := math.Abs(float64(h.Score) - want); err > gamma*magnitude {
						t.Fatalf("%v, dim %d, query %d, row %d: %v, want %v (error %g, bound %g)",
							metric, dim, q, h.Row, h.Score, want, err, gamma*magnitude)
					}
					if rank > 0 && (metric == L2) == (h.Score < hits[rank-1].Score) && h.Score != hits[rank-1].Score {
						t.Fatalf("%v: rank %d out of order", metric, rank)
					}
				}
			}
		}
	}
}

// naive returns the score, and the sum of the magnitudes of its terms.
func naive(metric Metric, query, row []float32) (score, magnitude float64) {
	var qq, xx float64
	for d := range query {
		q, x := float64(query[d]), float64(row[d])
		qq += q * q
		xx += x * x
		if metric == L2 {
			score += (q - x) * (q - x)
			magnitude += (q - x) * (q - x)
		} else {
			score += q * x
			magnitude += math.Abs(q * x)
		}
	}
	if metric == Cosine {
		by := max(math.Sqrt(qq), 1e-12) * max(math.Sqrt(xx), 1e-12)
		return score / by, magnitude / by
	}
	return score, magnitude
}

func TestZeroVectorsHaveCosineZero(t *testing.T) {
	m := simd.NewMatrix(40, 4)
	for i := range 40 {
		m.Row(i)[i%4] = float32(i % 3)
	}
	queries := simd.NewMatrix(2, 4)
	queries.Row(1)[0] = 1
	r := mustSearch(t, newBank(m, nil, 32).index(), queries, Options{K: 40})
	for rank, h := range r.Hits[0] {
		if h != (Hit{int64(rank), 0}) || math.Signbit(float64(h.Score)) {
			t.Fatalf("zero query, rank %d: %v", rank, h)
		}
	}
	for _, h := range r.Hits[1] {
		if h.Row%3 == 0 && h.Score != 0 {
			t.Fatalf("zero row: %v", h)
		}
	}
}

// A budget that holds a few queries splits the batch, or refuses it.
func TestMemory(t *testing.T) {
	rng := rand.New(rand.NewPCG(9, 10))
	m := simd.NewMatrix(5000, 4)
	fill(rng, m, 1)
	b := newBank(m, nil, 512)
	queries := some(rng, m, 30, galleries["normal"])
	ctx := context.Background()
	if _, err := b.index().Search(ctx, queries, Options{K: 5000, Memory: 30*5000*16 - 1}); !errors.Is(err, ErrMemory) {
		t.Errorf("known size: %v", err)
	}
	if _, err := b.index().Search(ctx, queries, Options{HasMinScore: true, MinScore: -1, Memory: 1 << 20}); !errors.Is(err, ErrMemory) {
		t.Errorf("range: %v", err)
	}
	if _, err := b.index().Search(ctx, queries, Options{HasMinScore: true, MinScore: 2, Memory: 1}); err != nil {
		t.Errorf("empty answer: %v", err)
	}
	o := Options{K: 4500}
	mustEqual(t, mustSearch(t, b.index(), queries, o).Hits, b.reference(queries, o))
}

func TestManyPasses(t *testing.T) {
	rng := rand.New(rand.NewPCG(11, 12))
	m := simd.NewMatrix(64, 1)
	fill(rng, m, 1)
	b := newBank(m, nil, 32)
	ix := b.index()
	o := Options{K: 3, Metric: L2}
	each := ix.passQueries(Options{K: slabK, Metric: L2})
	if each%simd.TileQueries != 0 || each < 100 {
		t.Fatalf("%d queries a pass", each)
	}
	o.K = slabK
	ix.rows = slabK // claimed, so that K stays
	queries := simd.NewMatrix(2*each+1, 1)
	fill(rng, queries, 1)
	o.ExcludeRow = make([]int64, queries.Rows)
	for i := range o.ExcludeRow {
		o.ExcludeRow[i] = int64(i % 64)
	}
	var last, total int64
	o.Progress = func(done, of int64) {
		if done < last {
			t.Errorf("progress fell from %d to %d", last, done)
		}
		last, total = done, of
	}
	r := mustSearch(t, ix, queries, o)
	mustEqual(t, r.Hits, b.reference(queries, o))
	if r.Stats.Passes != 3 || last != total || last == 0 {
		t.Errorf("%d passes, progress %d of %d", r.Stats.Passes, last, total)
	}
}

func TestStats(t *testing.T) {
	rng := rand.New(rand.NewPCG(13, 14))
	m := simd.NewMatrix(1000, 8)
	fill(rng, m, 1)
	dead := make([]bool, 1000)
	dead[3] = true
	b := newBank(m, dead, 128)
	r := mustSearch(t, b.index(), m.Slice(0, 20), Options{K: 5, Metric: L2})
	s := r.Stats
	if s.Rows != 999 || s.Scores != 20*999 || s.Bytes != 1024*8*4 || s.Passes != 1 {
		t.Errorf("%+v", s)
	}
	if s.Rescored < 5*20 || s.Rescored > s.Scores/2 {
		t.Errorf("re-scored %d of %d", s.Rescored, s.Scores)
	}
	// Panels without an allowed row are not read.
	r = mustSearch(t, b.index(), m.Slice(0, 20), Options{K: 5, Allow: func(row int64) bool { return row >= 990 }})
	if r.Stats.Bytes != 64*8*4 || r.Stats.Rows != 10 {
		t.Errorf("filtered: %+v", r.Stats)
	}
}

func TestRefusals(t *testing.T) {
	rng := rand.New(rand.NewPCG(15, 16))
	m := simd.NewMatrix(40, 4)
	fill(rng, m, 1)
	b := newBank(m, nil, 32)
	nan, inf := float32(math.NaN()), float32(math.Inf(1))
	bad := func(x float32) simd.Matrix {
		q := simd.NewMatrix(3, 4)
		q.Row(2)[1] = x
		return q
	}
	for name, c := range map[string]struct {
		queries simd.Matrix
		o       Options
		want    error
	}{
		"NaN query":  {bad(nan), Options{}, ErrQuery},
		"Inf query":  {bad(inf), Options{}, ErrQuery},
		"dim":        {simd.NewMatrix(1, 5), Options{}, ErrQuery},
		"overflow":   {bad(3e38), Options{Metric: L2}, ErrOverflow},
		"negative k": {bad(0), Options{K: -1}, ErrOptions},
		"NaN score":  {bad(0), Options{HasMinScore: true, MinScore: nan}, ErrOptions},
		"exclude":    {bad(0), Options{ExcludeRow: []int64{1}}, ErrOptions},
		"metric":     {bad(0), Options{Metric: 9}, ErrOptions},
	} {
		_, err := b.index().Search(context.Background(), c.queries, c.o)
		if !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
		var at *QueryError
		if errors.As(err, &at) && name != "dim" && at.Query != 2 {
			t.Errorf("%s: query %d", name, at.Query)
		}
	}
	if r := mustSearch(t, b.index(), simd.NewMatrix(0, 4), Options{}); len(r.Hits) != 0 {
		t.Error("an empty batch has answers")
	}
	empty := newBank(simd.NewMatrix(0, 4), nil, 32)
	if r := mustSearch(t, empty.index(), m.Slice(0, 2), Options{}); r.Hits[0] == nil || len(r.Hits[1]) != 0 {
		t.Error("an empty bank has answers")
	}
}

// A search of what would take minutes ends as soon as it is told, inside a
// block, with the cause.
func TestCancel(t *testing.T) {
	m := simd.NewMatrix(20000, 64)
	fill(rand.New(rand.NewPCG(17, 18)), m, 1)
	b := newBank(m, nil, 20000)
	queries := simd.NewMatrix(20000, 64)
	copy(queries.Data, m.Data)
	defer simd.Use(simd.Generic)()
	cause := errors.New("enough")
	ctx, stop := context.WithCancelCause(context.Background())
	time.AfterFunc(50*time.Millisecond, func() { stop(cause) })
	start := time.Now()
	_, err := b.index().Search(ctx, queries, Options{Threads: 2})
	if !errors.Is(err, cause) {
		t.Fatalf("got %v after %v", err, time.Since(start))
	}
	ended, stop2 := context.WithCancel(context.Background())
	stop2()
	if _, err := b.index().Search(ended, queries, Options{}); !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v", err)
	}
}

// An error of the store comes through, from whatever block, and ends the others.
func TestReadErrorsComeThrough(t *testing.T) {
	m := simd.NewMatrix(2000, 8)
	fill(rand.New(rand.NewPCG(19, 20)), m, 1)
	b := newBank(m, nil, 64)
	ix := b.index()
	broken := errors.New("checksum")
	ix.reader = func() view {
		return func(i int, _ []int32, fn func(*store.Block) error) error {
			if i == 20 {
				return fmt.Errorf("block %d: %w", i, broken)
			}
			return fn(b.blocks[i])
		}
	}
	for _, threads := range []int{1, 4} {
		if _, err := ix.Search(context.Background(), m.Slice(0, 30), Options{Threads: threads}); !errors.Is(err, broken) {
			t.Errorf("%d threads: %v", threads, err)
		}
	}
}
