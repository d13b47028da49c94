package store

import (
	"context"
	"flag"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"membank/simd"
)

var update = flag.Bool("update", false, "write testdata/format1 and format2 anew; do so only before the format is released")

// formatRows is what testdata/format1 holds, written out without the code under
// test: integers, so that f16 keeps them too.
func formatRows(n, dim int) Rows {
	r := Rows{Vectors: gaussian(n, dim, 0), Keys: keysOf(n), Labels: make([]int64, n), Attributes: []Attribute{{"size", make([]Value, n)}, {"split", make([]Value, n)}}}
	for i := range n {
		for d := range dim {
			r.Vectors.Row(i)[d] = float32((i*5+d*3)%23) - 11
		}
		r.Labels[i] = int64(i % 3)
		r.Attributes[0].Values[i] = Int(int64(100 * i))
		if i%2 == 0 {
			r.Attributes[1].Values[i] = Text("even")
		} else {
			r.Attributes[1].Values[i] = Float(0.5)
		}
	}
	return r
}

// A database of format 1 opens and answers as it did when it was written, for
// ever.
func TestFormat1(t *testing.T) {
	fixture := filepath.Join("testdata", "format1")
	if *update {
		writeFormat1(t, fixture)
	}
	wantSmall(t, fixture)
	dir := copyTree(t, fixture)
	for _, o := range []Options{{ReadOnly: true}, {}} {
		db := open(t, dir, o)
		full := formatRows(40, 5)
		equalRows(t, all(t, db, "demo/full"), slice(full, 1, 40))
		half := formatRows(700, 3)
		half.Keys, half.Attributes = decimals(700), nil
		equalRows(t, all(t, db, "half"), half)
		wantCodes(t, db, "demo/full", "")
		wantCodes(t, db, "half", "basis")
		info := snapshot(t, db, "demo/full").Info()
		if info.Generation != 3 || info.Rows != 39 || info.Next != 40 || info.Classes != 3 || info.ClassNames[2] != "cow" || info.Source().Command != "ingest more" {
			t.Errorf("%+v", info)
		}
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func wantSmall(t *testing.T, fixture string) {
	t.Helper()
	var size int64
	filepath.WalkDir(fixture, func(_ string, d fs.DirEntry, err error) error {
		if info, statErr := d.Info(); err == nil && statErr == nil && !d.IsDir() {
			size += info.Size()
		}
		return nil
	})
	if size > 200<<10 {
		t.Errorf("the fixture has %d bytes", size)
	}
}

// layoutRows is what bank "grouped" of testdata/format2 holds: rows 3 and 31 are
// overwritten, 5 and 33 are deleted.
func layoutRows() (written, now Rows) {
	written = formatRows(50, 5)
	now = slice(written, 0, 50)
	now.Vectors = simd.Matrix{Data: slices.Clone(written.Vectors.Data), Rows: 50, Dim: 5}
	for d := range 5 {
		now.Vectors.Row(3)[d], now.Vectors.Row(31)[d] = float32(d), float32(-d)
	}
	return written, now
}

// A database with layouts, manifests of version 2, opens and answers as it did
// when it was written, for ever: rows, the lists they stand in, what describes them.
func TestFormat2(t *testing.T) {
	fixture := filepath.Join("testdata", "format2")
	if *update {
		writeFormat2(t, fixture)
	}
	wantSmall(t, fixture)
	dir := copyTree(t, fixture)
	for _, o := range []Options{{ReadOnly: true}, {}} {
		db := open(t, dir, o)
		_, now := layoutRows()
		want := slice(now, 0, 5)
		for _, piece := range []Rows{slice(now, 6, 33), slice(now, 34, 50)} {
			want.Vectors.Data = append(slices.Clone(want.Vectors.Data[:want.Vectors.Rows*5]), piece.Vectors.Data[:piece.Vectors.Rows*5]...)
			want.Vectors.Rows += piece.Vectors.Rows
			want.Keys, want.Labels = append(slices.Clone(want.Keys), piece.Keys...), append(slices.Clone(want.Labels), piece.Labels...)
			for i := range want.Attributes {
				want.Attributes[i].Values = append(slices.Clone(want.Attributes[i].Values), piece.Attributes[i].Values...)
			}
		}
		equalRows(t, all(t, db, "grouped"), want)
		s := snapshot(t, db, "grouped")
		if i := s.Info(); i.Lists != 3 || i.Rows != 48 || i.Next != 50 || i.Lanes != 50 || i.Delta != 21 {
			t.Errorf("%+v", i)
		}
		if l, err := s.Lists(); err != nil || string(l) != "three lists" {
			t.Errorf("%q %v", l, err)
		}
		lists, err := listsOf(s)
		if err != nil || len(lists) != 48 {
			t.Errorf("%d rows in lists: %v", len(lists), err)
		}
		for row, list := range lists {
			if want := int32(now.Vectors.Row(int(row))[0]+11) % 3; list != want {
				t.Errorf("row %d is in list %d, not %d", row, list, want)
			}
		}
		wantCodes(t, db, "grouped", "basis", "")
		half := formatRows(40, 3)
		half.Keys, half.Attributes = decimals(40), nil
		half.Vectors.Row(7)[1] = 5
		equalRows(t, all(t, db, "slots"), half)
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func writeFormat2(t *testing.T, fixture string) {
	dir := filepath.Join(t.TempDir(), "db")
	ctx := context.Background()
	db, err := Open(ctx, dir, Options{Create: true})
	if err != nil {
		t.Fatal(err)
	}
	written, now := layoutRows()
	assign := func(list []int32, b *Block) error {
		for i := range b.Rows {
			list[i] = int32(b.Panels[i/32*32*b.Dim+i%32]+11) % 3
		}
		return nil
	}
	delete := func(row int64) {
		if _, err := db.DeleteRows(ctx, "grouped", []int64{row}); err != nil {
			t.Fatal(err)
		}
	}
	write(t, db, "grouped", slice(written, 0, 30), WriterOptions{})
	delete(5)
	if _, err := db.Group(ctx, "grouped", []byte("three lists"), assign, GroupOptions{Lists: 3, Basis: []byte("basis"), Encode: sign("basis")}); err != nil {
		t.Fatal(err)
	}
	write(t, db, "grouped", slice(written, 30, 50), WriterOptions{Mode: Append, Assign: assign})
	two := simd.Matrix{Data: append(slices.Clone(now.Vectors.Row(3)), now.Vectors.Row(31)...), Rows: 2, Dim: 5}
	if _, err := db.UpdateRows(ctx, "grouped", []int64{3, 31}, two, assign); err != nil {
		t.Fatal(err)
	}
	delete(33)
	half := formatRows(40, 3)
	write(t, db, "slots", Rows{Vectors: half.Vectors, Labels: half.Labels}, WriterOptions{DType: F16})
	one := half.Vectors.Slice(7, 8)
	one.Row(0)[1] = 5
	if _, err := db.UpdateRows(ctx, "slots", []int64{7}, one, nil); err != nil {
		t.Fatal(err)
	}
	saveFixture(t, db, fixture)
}

// saveFixture closes a database and puts it where fixtures are.
func saveFixture(t *testing.T, db *DB, fixture string) {
	t.Helper()
	dir := db.Dir()
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	os.RemoveAll(fixture)
	os.Remove(filepath.Join(dir, ballastName))
	os.Remove(filepath.Join(dir, blocksName, "DISCARD")) // estimates only, and a MiB
	if err := os.CopyFS(fixture, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
}

func writeFormat1(t *testing.T, fixture string) {
	dir := filepath.Join(t.TempDir(), "db")
	db, err := Open(context.Background(), dir, Options{Create: true})
	if err != nil {
		t.Fatal(err)
	}
	full, half := formatRows(40, 5), formatRows(700, 3)
	names := []string{"ant", "bee", "cow"}
	write(t, db, "demo/full", slice(full, 0, 20), WriterOptions{ClassNames: names, Source: Provenance{Command: "ingest"}})
	write(t, db, "demo/full", slice(full, 20, 40), WriterOptions{Mode: Append, ClassNames: names, Source: Provenance{Command: "ingest more"}})
	write(t, db, "half", Rows{Vectors: half.Vectors, Labels: half.Labels}, WriterOptions{DType: F16})
	if _, err := db.DeleteRows(context.Background(), "demo/full", []int64{0}); err != nil {
		t.Fatal(err)
	}
	if _, err := db.WriteCodes(context.Background(), "half", []byte("basis"), sign("basis"), CodesOptions{}); err != nil {
		t.Fatal(err)
	}
	saveFixture(t, db, fixture)
}
