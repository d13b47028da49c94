package index

import (
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"testing"

	"membank/simd"
	"pgregory.net/rapid"
)

// An index in memory answers what sorting every row answers, bit for bit: with
// codes and without, with floors and filters, on the galleries that break bounds.
func TestMatrixAnswersAsSortingDoes(t *testing.T) {
	for _, level := range simd.Levels() {
		t.Run(string(level), func(t *testing.T) {
			defer simd.Use(level)()
			rapid.Check(t, func(t *rapid.T) { checkMatrix(t, level) })
		})
	}
}

func checkMatrix(t *rapid.T, level simd.Level) {
	seed := rapid.Uint64().Draw(t, "seed")
	rng := rand.New(rand.NewPCG(seed, 5))
	kind := rapid.SampledFrom(clouds).Draw(t, "cloud")
	dim := rapid.OneOf(rapid.IntRange(1, 40), rapid.SampledFrom([]int{64, 130})).Draw(t, "dim")
	rows := rapid.IntRange(1, 300).Draw(t, "rows")
	if dim < 20 && level != simd.Generic && rapid.IntRange(0, 9).Draw(t, "blocks") == 0 {
		rows += matrixBlock
	}
	if level == simd.Generic {
		rows = min(rows, 100)
	}
	m := simd.NewMatrix(rows, dim)
	kind.fill(rng, m)
	queries := some(rng, m, rapid.IntRange(1, 30).Draw(t, "queries"), kind.fill)
	o := Options{
		Metric:  rapid.SampledFrom([]Metric{Cosine, Dot, L2}).Draw(t, "metric"),
		K:       rapid.OneOf(rapid.Just(1), rapid.IntRange(1, 20)).Draw(t, "k"),
		Threads: rapid.IntRange(1, 3).Draw(t, "threads"),
	}
	if rapid.IntRange(0, 3).Draw(t, "allow") == 0 {
		o.Allow = func(row int64) bool { return row%3 != 1 }
	}
	b := newBank(m, nil, 96)
	if rapid.IntRange(0, 2).Draw(t, "floors") > 0 {
		o.Floors = floorsOf(rng, b.reference(queries, o), rapid.Bool().Draw(t, "some"))
	}
	want := b.reference(queries, o)
	with := MatrixOptions{NoCodes: true, Threads: 2}
	if rapid.Bool().Draw(t, "codes") {
		with = MatrixOptions{Basis: LearnMatrix(m, m.Rows, 1, 2), Threads: 2}
	}
	ix, err := FromMatrix(m, with)
	if err != nil {
		t.Fatal(err)
	}
	r, err := ix.Search(context.Background(), queries, o)
	if errors.Is(err, ErrOverflow) {
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	mustEqual(t, r.Hits, want)
}

// Codes come of themselves where they pay, and floors spare their work.
func TestMatrixCodesAndFloorsSpareWork(t *testing.T) {
	m := simd.NewMatrix(6000, 160)
	sslLike(m, 9)
	gallery, queries := m.Slice(0, 5500), m.Slice(5500, 6000)
	ix, err := FromMatrix(gallery, MatrixOptions{})
	if err != nil {
		t.Fatal(err)
	}
	plain := mustSearch(t, ix, queries, Options{K: 1, NoCodes: true})
	coded := mustSearch(t, ix, queries, Options{K: 1})
	mustEqual(t, coded.Hits, plain.Hits)
	if coded.Stats.Coded == 0 || coded.Stats.Scores > plain.Stats.Scores/4 {
		t.Errorf("codes are not used, or in vain: %+v", coded.Stats)
	}
	floors := make([]float32, queries.Rows)
	for q, hits := range plain.Hits {
		floors[q] = hits[0].Score
	}
	known := mustSearch(t, ix, queries, Options{K: 1, Floors: floors})
	mustEqual(t, known.Hits, plain.Hits)
	if known.Stats.Exact > coded.Stats.Exact || known.Stats.Scores > coded.Stats.Scores/2 {
		t.Errorf("scored with floors %d, without %d", known.Stats.Scores, coded.Stats.Scores)
	}
}

func TestMatrixRefusesBadRows(t *testing.T) {
	good := simd.NewMatrix(40, 3)
	for name, m := range map[string]simd.Matrix{
		"NaN":   withElement(good, float32(math.NaN())),
		"Inf":   withElement(good, float32(math.Inf(-1))),
		"norm":  withElement(good, 1.1e18),
		"short": {Data: good.Data[:119], Rows: 40, Dim: 3},
		"dim 0": {Rows: 1},
	} {
		if _, err := FromMatrix(m, MatrixOptions{}); !errors.Is(err, ErrRows) {
			t.Errorf("%s: %v", name, err)
		}
	}
	basis := LearnMatrix(simd.NewMatrix(40, 4), 40, 1, 1)
	if _, err := FromMatrix(good, MatrixOptions{Basis: basis}); !errors.Is(err, ErrRows) {
		t.Errorf("a basis of another dimension: %v", err)
	}
	empty, err := FromMatrix(simd.NewMatrix(0, 3), MatrixOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if hits := mustSearch(t, empty, good, Options{}).Hits[7]; len(hits) != 0 {
		t.Errorf("hits %v among no rows", hits)
	}
	ix, _ := FromMatrix(good, MatrixOptions{})
	if _, err := ix.Search(context.Background(), good, Options{Floors: make([]float32, 39)}); !errors.Is(err, ErrOptions) {
		t.Errorf("39 floors for 40 queries: %v", err)
	}
}

func withElement(m simd.Matrix, x float32) simd.Matrix {
	bad := simd.NewMatrix(m.Rows, m.Dim)
	bad.Row(17)[2] = x
	return bad
}
