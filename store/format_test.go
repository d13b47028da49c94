package store

import (
	"context"
	"flag"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
)

var update = flag.Bool("update", false, "write testdata/format1 anew; do so only before the format is released")

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
