package index

import (
	"context"
	"errors"
	"math"
	"strings"
	"testing"

	"membank/simd"
	"membank/store"
)

// mustBuild gives a bank codes and compares what it says with what is there.
func mustBuild(t *testing.T, db *store.DB, bank string, o BuildOptions) BuildStats {
	t.Helper()
	var last, steps int64
	o.Progress = func(done, total int64) {
		if steps++; done != last+1 || done > total {
			t.Errorf("progress %d of %d after %d", done, total, last)
		}
		last = done
	}
	info, stats, err := BuildCodes(context.Background(), db, bank, o)
	if err != nil {
		t.Fatal(err)
	}
	s := mustSnapshot(t, db, bank)
	if now := s.Info(); info.Generation != now.Generation || info.Rows != now.Rows || info.Bytes != now.Bytes {
		t.Errorf("the bank is %+v, BuildCodes said %+v", now, info)
	}
	if steps != int64(stats.Encoded) {
		t.Errorf("%d steps for %d blocks", steps, stats.Encoded)
	}
	basis, err := s.Basis()
	if err != nil {
		t.Fatal(err)
	}
	bytes, coded, r := int64(len(basis)), 0, s.NewReader()
	for i := range s.Blocks() {
		if err := r.Codes(i, func(v []byte) error {
			bytes += int64(len(v))
			if v != nil {
				coded++
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
	}
	if c := stats.Codes; c.Bytes != bytes || c.Coded != coded || c.Blocks != s.Blocks() {
		t.Errorf("codes are %+v, but %d blocks of %d have %d bytes", c, coded, s.Blocks(), bytes)
	}
	return stats
}

func mustSnapshot(t *testing.T, db *store.DB, bank string) *store.Snapshot {
	t.Helper()
	s, err := db.Snapshot(bank)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// sameAnswers searches a bank with its codes, which must come to use, and without.
func sameAnswers(t *testing.T, db *store.DB, bank string, queries simd.Matrix) {
	t.Helper()
	ix := New(mustSnapshot(t, db, bank))
	for _, metric := range []Metric{Cosine, Dot, L2} {
		o := Options{K: 7, Metric: metric, Threads: 2}
		got := mustSearch(t, ix, queries, o)
		if got.Stats.Coded == 0 {
			t.Errorf("%v: no codes were used", metric)
		}
		o.NoCodes = true
		want := mustSearch(t, ix, queries, o)
		if want.Stats.Coded != 0 {
			t.Errorf("%v: codes were used though they should not", metric)
		}
		mustEqual(t, got.Hits, want.Hits)
	}
}

// A bank's life with codes: built, appended to, encoded on, thinned, learnt anew.
func TestBuildCodes(t *testing.T) {
	ctx := context.Background()
	db := mustOpen(t)
	const rows, dim = 20000, 64
	m := simd.NewMatrix(rows+3000, dim)
	sslLike(m, 11)
	for i := range m.Data {
		m.Data[i] = float32(math.Round(float64(m.Data[i])*1024) / 1024) // much the same in f16
	}
	queries := m.Slice(rows-40, rows+20)
	for _, dtype := range []store.DType{store.F32, store.F16} {
		t.Run(dtype.String(), func(t *testing.T) {
			bank := "bank/" + dtype.String()
			mustWrite(t, db, bank, m.Slice(0, rows), store.WriterOptions{DType: dtype})
			stats := mustBuild(t, db, bank, BuildOptions{Threads: 2})
			if !stats.Learnt || stats.Skipped != "" || stats.Encoded != stats.Codes.Blocks || stats.Codes.First == 0 ||
				stats.Codes.Second < stats.Codes.First || stats.Codes.Directions > dim {
				t.Errorf("%+v", stats)
			}
			sameAnswers(t, db, bank, queries)
			before := mustSnapshot(t, db, bank).Info().Generation
			if stats := mustBuild(t, db, bank, BuildOptions{}); stats.Encoded != 0 || stats.Learnt {
				t.Errorf("building twice: %+v", stats)
			}
			if now := mustSnapshot(t, db, bank).Info().Generation; now != before {
				t.Errorf("building twice writes generation %d after %d", now, before)
			}

			mustWrite(t, db, bank, m.Slice(rows, m.Rows), store.WriterOptions{Mode: store.Append})
			c, err := DescribeCodes(mustSnapshot(t, db, bank))
			if err != nil || c.Coded >= c.Blocks {
				t.Fatalf("after an append: %+v, %v", c, err)
			}
			if _, err := db.DeleteRows(ctx, bank, []int64{5, rows - 3, rows + 7}); err != nil {
				t.Fatal(err)
			}
			sameAnswers(t, db, bank, queries) // some blocks with codes, some without
			if stats := mustBuild(t, db, bank, BuildOptions{}); stats.Learnt || stats.Encoded != c.Blocks-c.Coded || stats.Codes.Coded != stats.Codes.Blocks {
				t.Errorf("after an append: %+v", stats)
			}
			sameAnswers(t, db, bank, queries)
			if stats := mustBuild(t, db, bank, BuildOptions{Relearn: true}); !stats.Learnt || stats.Encoded != stats.Codes.Blocks {
				t.Errorf("learning anew: %+v", stats)
			}
			sameAnswers(t, db, bank, queries)
		})
	}
}

// Codes for which there is no use are not made, and it is said why.
func TestBuildCodesOnlyWhereTheyPay(t *testing.T) {
	db := mustOpen(t)
	for name, shape := range map[string][2]int{"rows": {500, 128}, "dimensions": {17000, 8}} {
		m := simd.NewMatrix(shape[0], shape[1])
		sslLike(m, 3)
		mustWrite(t, db, name, m, store.WriterOptions{})
		stats := mustBuild(t, db, name, BuildOptions{Relearn: true})
		if !strings.Contains(stats.Skipped, name) || stats.Learnt || stats.Encoded != 0 || stats.Codes.Bytes != 0 {
			t.Errorf("%s: %+v", name, stats)
		}
	}
	if _, _, err := BuildCodes(context.Background(), db, "none", BuildOptions{}); !errors.Is(err, store.ErrNoBank) {
		t.Errorf("no bank: %v", err)
	}
}

// A cancelled build leaves the bank as it was.
func TestBuildCodesStops(t *testing.T) {
	db := mustOpen(t)
	m := simd.NewMatrix(17000, 64)
	sslLike(m, 5)
	mustWrite(t, db, "bank", m, store.WriterOptions{})
	for _, blocks := range []int64{0, 1} {
		ctx, cancel := context.WithCancel(context.Background())
		if blocks == 0 {
			cancel()
		}
		_, _, err := BuildCodes(ctx, db, "bank", BuildOptions{Threads: 1, Progress: func(done, _ int64) {
			if done == blocks {
				cancel()
			}
		}})
		cancel()
		if !errors.Is(err, context.Canceled) {
			t.Errorf("cancelled after %d blocks: %v", blocks, err)
		}
		if s := mustSnapshot(t, db, "bank"); s.CodedBlocks() != 0 || s.Info().Generation != 1 {
			t.Errorf("%d blocks have codes, generation %d", s.CodedBlocks(), s.Info().Generation)
		}
	}
	if _, _, err := BuildCodes(context.Background(), db, "bank", BuildOptions{}); err != nil {
		t.Error(err)
	}
}

// A basis that is none stops searches that would use it, and can be replaced.
func TestSearchNamesABrokenBasis(t *testing.T) {
	ctx := context.Background()
	db := mustOpen(t)
	m := simd.NewMatrix(17000, 64)
	sslLike(m, 6)
	mustWrite(t, db, "bank", m, store.WriterOptions{})
	encode := func(value []byte, _ *store.Block) ([]byte, error) { return append(value, "codes"...), nil }
	if _, err := db.WriteCodes(ctx, "bank", []byte("rubbish"), encode, store.CodesOptions{}); err != nil {
		t.Fatal(err)
	}
	ix := New(mustSnapshot(t, db, "bank"))
	if _, err := ix.Search(ctx, m.Slice(0, 1), Options{}); !errors.Is(err, ErrCodes) {
		t.Errorf("search: %v", err)
	}
	if r := mustSearch(t, ix, m.Slice(0, 1), Options{NoCodes: true}); r.Hits[0][0].Row != 0 {
		t.Errorf("without codes: %+v", r.Hits)
	}
	if _, _, err := BuildCodes(ctx, db, "bank", BuildOptions{}); !errors.Is(err, ErrCodes) {
		t.Errorf("build: %v", err)
	}
	mustBuild(t, db, "bank", BuildOptions{Relearn: true})
	sameAnswers(t, db, "bank", m.Slice(0, 20))
}

// A bank that holds the same images again and again, in the same order, does not hide
// all but some of them from the basis.
func TestBasisOfRowsInTurns(t *testing.T) {
	const dim, turns = 8, 2
	m := simd.NewMatrix(turns*sampleRows, dim)
	for i := range m.Rows {
		m.Row(i)[i%turns] = 1
	}
	db := mustOpen(t)
	mustWrite(t, db, "turns", m, store.WriterOptions{})
	fromBank, err := LearnBasis(t.Context(), mustSnapshot(t, db, "turns"), 2)
	if err != nil {
		t.Fatal(err)
	}
	for name, basis := range map[string]*Basis{"bank": fromBank, "matrix": LearnMatrix(m, m.Rows, 20, 2)} {
		for d := range turns {
			if got := basis.mean[d]; got < 0.45 || got > 0.55 {
				t.Errorf("%s: rows of kind %d are %.2f of the sample, half of all rows", name, d, got)
			}
		}
	}
}
