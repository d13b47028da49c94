package index

import (
	"math"
	"math/rand/v2"
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
	basis := learn(live, int64(live.Rows), 2)
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
		v, err := basis.EncodeBlock(k)
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
				ix := b.coded(t)
				r, err := ix.Search(t.Context(), queries, o)
				if err != nil {
					t.Fatal(err)
				}
				mustEqual(t, r.Hits, want)
				o.NoCodes = true
				if r, err = ix.Search(t.Context(), queries, o); err != nil {
					t.Fatal(err)
				}
				mustEqual(t, r.Hits, want)
			})
		})
	}
}

// failer is a test, or a rapid test.
type failer interface {
	Helper()
	Fatal(...any)
	Fatalf(string, ...any)
}
