package store

import (
	"context"
	"errors"
	"fmt"
	"math"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"membank/simd"
)

// Rows that cannot be stored are named by their place in the stream, and leave
// the bank as it was.
func TestBadRows(t *testing.T) {
	nan, inf := float32(math.NaN()), float32(math.Inf(-1))
	cases := map[string]struct {
		spoil func(r *Rows)
		dtype DType
		want  string
	}{
		"nan":       {func(r *Rows) { r.Vectors.Row(77)[3] = nan }, F32, "row 77: bad row: element 3 is NaN"},
		"inf":       {func(r *Rows) { r.Vectors.Row(77)[0] = inf }, F32, "row 77: bad row: element 0 is -Inf"},
		"nan half":  {func(r *Rows) { r.Vectors.Row(77)[3] = nan }, F16, "row 77: bad row: element 3 is NaN"},
		"long":      {func(r *Rows) { r.Vectors.Row(77)[1] = 2e18 }, F32, "row 77: bad row: its norm 2e+18 is above 1e+18"},
		"half":      {func(r *Rows) { r.Vectors.Row(77)[1] = 65520 }, F16, "row 77: bad row: element 1 is 65520, more than f16"},
		"empty key": {func(r *Rows) { r.Keys[77] = "" }, F32, "row 77: bad row: its key is empty"},
		"long key":  {func(r *Rows) { r.Keys[77] = strings.Repeat("k", 4097) }, F32, "has 4097 bytes"},
		"newline":   {func(r *Rows) { r.Keys[77] = "a\nb" }, F32, `row 77: bad row: key "a\nb" contains '\n'`},
		"nul":       {func(r *Rows) { r.Keys[77] = "a\x00b" }, F32, "contains '\\x00'"},
		"utf8":      {func(r *Rows) { r.Keys[77] = "a\xff" }, F32, "is not UTF-8"},
		"attribute": {func(r *Rows) { r.Attributes[0].Values[77] = Text("\xff") }, F32, `row 77: attribute "a": bad row`},
	}
	db := create(t)
	before := Rows{Vectors: gaussian(10, 5, 1), Keys: decimals(10), Labels: unlabelled(10)}
	write(t, db, "bank", before, WriterOptions{})
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			r := Rows{Vectors: gaussian(100, 5, 2), Keys: keysOf(100), Attributes: []Attribute{{"a", make([]Value, 100)}}}
			c.spoil(&r)
			_, err := tryWrite(db, "bank", r, WriterOptions{Mode: Replace, DType: c.dtype})
			var row *RowError
			if !errors.Is(err, ErrBadRow) || !errors.As(err, &row) || row.Row != 77 || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v, want %q", err, c.want)
			}
			equalRows(t, all(t, db, "bank"), before)
		})
	}
	report, err := db.Verify(context.Background(), VerifyOptions{})
	if err != nil || report.Orphans != 0 {
		t.Errorf("%d orphans: %v", report.Orphans, err)
	}
}

func TestWrongShapes(t *testing.T) {
	db := create(t)
	ctx := context.Background()
	rows := Rows{Vectors: gaussian(3, 5, 1)}
	write(t, db, "bank", rows, WriterOptions{})
	if _, err := tryWrite(db, "bank", rows, WriterOptions{}); !errors.Is(err, ErrBankExists) {
		t.Error(err)
	}
	if _, err := tryWrite(db, "none", rows, WriterOptions{Mode: Append}); !errors.Is(err, ErrNoBank) {
		t.Error(err)
	}
	if _, err := db.NewWriter(ctx, "bank", 6, WriterOptions{Mode: Append}); !errors.Is(err, ErrDim) {
		t.Error(err)
	}
	if _, err := db.NewWriter(ctx, "bank", 5, WriterOptions{Mode: Append, DType: F16}); !errors.Is(err, ErrDType) {
		t.Error(err)
	}
	for _, dim := range []int{0, -1, MaxDim + 1} {
		if _, err := db.NewWriter(ctx, "x", dim, WriterOptions{}); !errors.Is(err, ErrDim) {
			t.Error(dim, err)
		}
	}
	for _, name := range []string{"", "/a", "a/", "a//b", ".a", "a b", "ä", strings.Repeat("a", 256), "-a", "a/.b"} {
		if _, err := db.NewWriter(ctx, name, 5, WriterOptions{}); !errors.Is(err, ErrBadName) {
			t.Error(name, err)
		}
	}
	bad := []Rows{
		{Vectors: gaussian(3, 4, 1)},
		{Vectors: rows.Vectors, Keys: []string{"a"}},
		{Vectors: rows.Vectors, Labels: []int64{1, 2}},
		{Vectors: rows.Vectors, Attributes: []Attribute{{"a", make([]Value, 2)}}},
		{Vectors: rows.Vectors, Attributes: []Attribute{{"", make([]Value, 3)}}},
	}
	for i, r := range bad {
		w, err := db.NewWriter(ctx, "bank", 5, WriterOptions{Mode: Replace})
		if err != nil {
			t.Fatal(err)
		}
		if err := w.Append(ctx, r); err == nil {
			t.Error(i, "is accepted")
		}
		if _, err := w.Commit(ctx); err == nil {
			t.Error(i, "is committed")
		}
	}
	w, err := db.NewWriter(ctx, "bank", 5, WriterOptions{Mode: Append})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := db.NewWriter(ctx, "bank", 5, WriterOptions{Mode: Append}); !errors.Is(err, ErrBusy) {
		t.Error(err)
	}
	if _, err := db.RemoveBank(ctx, "bank"); !errors.Is(err, ErrBusy) {
		t.Error(err)
	}
	w.Abort()
	w.Abort()
	if err := w.Append(ctx, rows); !errors.Is(err, ErrClosed) {
		t.Error(err)
	}
}

// --skip-bad: rows that are not finite are left out and counted, their neighbours
// keep their own keys and labels.
func TestSkipBad(t *testing.T) {
	db := create(t)
	r := Rows{Vectors: gaussian(100, 5, 2), Keys: keysOf(100), Labels: make([]int64, 100)}
	want := Rows{Vectors: simd.Matrix{Dim: 5}, Keys: []string{}, Labels: []int64{}}
	for i := range 100 {
		r.Labels[i] = int64(i)
		if i%9 == 0 {
			r.Vectors.Row(i)[i%5] = float32(math.Inf(1))
			continue
		}
		want.Vectors.Data = append(want.Vectors.Data, r.Vectors.Row(i)...)
		want.Vectors.Rows++
		want.Keys = append(want.Keys, r.Keys[i])
		want.Labels = append(want.Labels, r.Labels[i])
	}
	clear(r.Vectors.Row(50))
	clear(want.Vectors.Row(slices.Index(want.Labels, 50)))
	w, err := db.NewWriter(context.Background(), "bank", 5, WriterOptions{SkipBad: true})
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Append(context.Background(), r); err != nil {
		t.Fatal(err)
	}
	info, err := w.Commit(context.Background())
	if err != nil || w.Skipped() != 12 || w.Rows() != 88 || w.ZeroVectors() != 1 || info.ZeroVectors != 1 || info.Classes != 88 {
		t.Errorf("%+v %d %d %v", info, w.Skipped(), w.Rows(), err)
	}
	equalRows(t, all(t, db, "bank"), want)
	// A duplicate is named by its place in the stream, skipped rows included.
	r.Keys[98] = r.Keys[20]
	_, err = tryWrite(db, "other", r, WriterOptions{SkipBad: true})
	var d *DuplicateKeyError
	if !errors.As(err, &d) || d.Old != 20 || d.New != 98 || d.InBank {
		t.Errorf("%v", err)
	}
}

// Duplicates are found within the stream and against the bank, explicit keys and
// row numbers alike, under any memory budget.
func TestDuplicateKeys(t *testing.T) {
	const n = 20_000
	keys := func(prefix string, n int) []string {
		k := make([]string, n)
		for i := range k {
			k[i] = prefix + fmt.Sprint(i)
		}
		return k
	}
	m := gaussian(n, 2, 1)
	for _, memory := range []int64{0, 4096} {
		t.Run(fmt.Sprint("memory ", memory), func(t *testing.T) {
			db := create(t)
			db.memory = max(memory, 1)
			if memory == 0 {
				db.memory = 1 << 20
			} else {
				db.memory = n * 16 / 7
			}
			fails := func(bank string, r Rows, mode WriteMode, want DuplicateKeyError) {
				t.Helper()
				_, err := tryWrite(db, bank, r, WriterOptions{Mode: mode})
				var d *DuplicateKeyError
				if !errors.As(err, &d) || *d != want || !errors.Is(err, ErrDuplicateKey) {
					t.Errorf("%v, want %v", err, &want)
				}
			}
			twice := keys("k", n)
			twice[n-1], twice[15_000], twice[16_000] = "k3", "k70", "k70"
			fails("bank", Rows{Vectors: m, Keys: twice}, Create, DuplicateKeyError{Key: "k70", Old: 70, New: 15_000})
			write(t, db, "bank", Rows{Vectors: m, Keys: keys("k", n)}, WriterOptions{})
			again := keys("x", 100)
			again[42] = "k19999"
			fails("bank", Rows{Vectors: m.Slice(0, 100), Keys: again}, Append, DuplicateKeyError{Key: "k19999", Old: 19_999, New: 42, InBank: true})
			if _, err := db.DeleteRows(context.Background(), "bank", []int64{19_999}); err != nil {
				t.Fatal(err)
			}
			write(t, db, "bank", Rows{Vectors: m.Slice(0, 100), Keys: again}, WriterOptions{Mode: Append})
			// Row numbers from n+100 on, one of which a key takes.
			write(t, db, "bank", Rows{Vectors: m.Slice(0, 50)}, WriterOptions{Mode: Append})
			fails("bank", Rows{Vectors: m.Slice(0, 2), Keys: []string{"fine", "20149"}}, Append, DuplicateKeyError{Key: "20149", Old: 20_149, New: 1, InBank: true})
			write(t, db, "bank", Rows{Vectors: m.Slice(0, 3), Keys: []string{"7", "20155", "020149"}}, WriterOptions{Mode: Append})
			fails("bank", Rows{Vectors: m.Slice(0, 9)}, Append, DuplicateKeyError{Key: "20155", Old: 20_151, New: 2, InBank: true})
			rows, err := snapshot(t, db, "bank").Lookup(context.Background(), []string{"k19999", "k0", "nobody", "20149", "7", "20155", "020149", "19999", "k0", "07"})
			if want := []int64{20_042, 0, -1, 20_149, 20_150, 20_151, 20_152, -1, 0, -1}; err != nil || !slices.Equal(rows, want) {
				t.Errorf("%v %v, want %v", rows, err, want)
			}
		})
	}
}

// Names of classes are one list a bank; an appended stream is renumbered.
func TestClassNames(t *testing.T) {
	db := create(t)
	m := gaussian(4, 2, 1)
	info := write(t, db, "b", Rows{Vectors: m, Labels: []int64{0, 1, 1, NoLabel}}, WriterOptions{ClassNames: []string{"cat", "dog"}})
	if info.Classes != 2 || !slices.Equal(info.ClassNames, []string{"cat", "dog"}) {
		t.Errorf("%+v", info)
	}
	info = write(t, db, "b", Rows{Vectors: m, Labels: []int64{0, 1, 2, NoLabel}}, WriterOptions{Mode: Append, ClassNames: []string{"ant", "cat", "dog"}})
	if info.Classes != 3 || !slices.Equal(info.ClassNames, []string{"cat", "dog", "ant"}) {
		t.Errorf("%+v", info)
	}
	if got, want := all(t, db, "b").Labels, []int64{0, 1, 1, NoLabel, 2, 0, 1, NoLabel}; !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	if _, err := tryWrite(db, "b", Rows{Vectors: m, Labels: []int64{0, 1, 3, 0}}, WriterOptions{Mode: Append, ClassNames: []string{"ant", "cat", "dog"}}); !errors.Is(err, ErrBadRow) {
		t.Error(err)
	}
	write(t, db, "numbers", Rows{Vectors: m, Labels: []int64{5, -6, 5, 7}}, WriterOptions{})
	if _, err := tryWrite(db, "numbers", Rows{Vectors: m, Labels: []int64{0, 0, 0, 0}}, WriterOptions{Mode: Append, ClassNames: []string{"x"}}); err == nil {
		t.Error("names join numbers")
	}
	if _, err := db.DeleteRows(context.Background(), "numbers", []int64{1, 0}); err != nil {
		t.Fatal(err)
	}
	db = reopen(t, db, Options{ReadOnly: true})
	infos, err := db.Banks("numbers")
	if err != nil || infos[0].Classes != 2 || infos[0].Rows != 2 || infos[0].Next != 4 {
		t.Errorf("%+v %v", infos, err)
	}
}

// A Writer's memory does not grow with what passes through it.
func TestWriterMemory(t *testing.T) {
	db := create(t)
	ctx := context.Background()
	w, err := db.NewWriter(ctx, "bank", 512, WriterOptions{})
	if err != nil {
		t.Fatal(err)
	}
	rows := gaussian(4096, 512, 1) // 8 MiB
	var peak uint64
	for range 40 { // 320 MiB
		if err := w.Append(ctx, Rows{Vectors: rows}); err != nil {
			t.Fatal(err)
		}
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		peak = max(peak, m.HeapInuse)
	}
	if _, err := w.Commit(ctx); err != nil {
		t.Fatal(err)
	}
	if peak > 200<<20 {
		t.Errorf("heap in use up to %d MiB", peak>>20)
	}
	t.Logf("heap in use up to %d MiB for 320 MiB of rows", peak>>20)
}

// A cancelled write leaves nothing.
func TestCancel(t *testing.T) {
	db := create(t)
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	w, err := db.NewWriter(ctx, "bank", 512, WriterOptions{})
	if err != nil {
		t.Fatal(err)
	}
	rows := gaussian(4096, 512, 1)
	for err == nil {
		err = w.Append(ctx, Rows{Vectors: rows})
	}
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
	w.Abort()
	if _, err := db.Snapshot("bank"); !errors.Is(err, ErrNoBank) {
		t.Error(err)
	}
	if report, err := db.Verify(context.Background(), VerifyOptions{}); err != nil || report.Orphans != 0 {
		t.Errorf("%d orphans %v", report.Orphans, err)
	}
}

// A thousand attributes of long vectors are a thousand small records a block,
// which must not outgrow Badger's transactions.
func TestManyAttributes(t *testing.T) {
	db := create(t)
	r := Rows{Vectors: gaussian(400, 4096, 1)}
	for a := range 1500 {
		values := make([]Value, 400)
		for i := range values {
			values[i] = Int(int64(a * i))
		}
		r.Attributes = append(r.Attributes, Attribute{fmt.Sprint("a", a), values})
	}
	write(t, db, "wide", r, WriterOptions{})
	rows, err := snapshot(t, db, "wide").Rows(context.Background(), []int64{399}, Want{Attributes: true})
	if err != nil || len(rows[0].Attributes) != 1500 || rows[0].Attributes["a1234"].Int() != 1234*399 {
		t.Errorf("%d attributes: %v", len(rows[0].Attributes), err)
	}
}
