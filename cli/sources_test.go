package cli

import (
	"encoding/json"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"membank/store/dump/dumptest"
)

// Several files are one stream: rows, keys, labels and class names keep together
// across them, whatever numbers each file gives its names.
func TestSeveralFilesAreOneStream(t *testing.T) {
	database(t)
	dir := t.TempDir()
	a := write(t, filepath.Join(dir, "a.csv"), "key,label,f0,f1\na0,owl,1,0\na1,cat,2,0\n")
	b := write(t, filepath.Join(dir, "b.csv"), "key,label,f0,f1\nb0,dog,3,0\nb1,,4,0\nb2,owl,5,0\n")
	must(t, "ingest", "b", a, b)
	got := records(t, must(t, "get", "b", "--rows", "0,1,2,3,4", "--json"))
	if want := "0 a0 2 owl [1 0]; 1 a1 0 cat [2 0]; 2 b0 1 dog [3 0]; 3 b1 - [4 0]; 4 b2 2 owl [5 0]"; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	// Appended names are renumbered to the bank's, new ones come after them.
	c := write(t, filepath.Join(dir, "c.csv"), "key,label,f0,f1\nc0,ant,6,0\nc1,cat,7,0\n")
	must(t, "ingest", "b", c, "--append")
	got = records(t, must(t, "get", "b", "--rows", "4,5,6", "--json"))
	if want := "4 b2 2 owl [5 0]; 5 c0 3 ant [6 0]; 6 c1 0 cat [7 0]"; got != want {
		t.Errorf("appended: got  %s\nwant %s", got, want)
	}
	// Labels beside all rows overrule those inside the files; keys likewise.
	must(t, "ingest", "b", a, b, "--replace", "--labels", write(t, filepath.Join(dir, "l.txt"), "4\n3\n-1\n1\n0\n"), "--keys", write(t, filepath.Join(dir, "k.txt"), "v\nw\nx\ny\nz\n"))
	got = records(t, must(t, "get", "b", "--key", "z", "v", "x", "--json"))
	if want := "4 z 0 [5 0]; 0 v 4 [1 0]; 2 x - [3 0]"; got != want {
		t.Errorf("overruled: got  %s\nwant %s", got, want)
	}
	// One file with labels and one without cannot be one stream.
	bare := write(t, filepath.Join(dir, "bare.csv"), "f0,f1\n1,2\n")
	if r := run(t, "ingest", "c", a, bare); r.code != exitBadInput || !strings.Contains(r.err, "bare.csv") || !strings.Contains(r.err, "--keys") {
		t.Errorf("exit %d: %s", r.code, r.err)
	}
	named := write(t, filepath.Join(dir, "n.csv"), "key,label,f0,f1\nn0,7,6,0\n")
	if r := run(t, "ingest", "c", a, named); r.code != exitBadInput || !strings.Contains(r.err, "n.csv") || !strings.Contains(r.err, "names its classes") {
		t.Errorf("exit %d: %s", r.code, r.err)
	}
}

// records sets rows as "row key label class vector".
func records(t *testing.T, text string) string {
	t.Helper()
	var list []record
	if err := json.Unmarshal([]byte(text), &list); err != nil {
		t.Fatal(err)
	}
	var parts []string
	for _, r := range list {
		parts = append(parts, fmt.Sprint(r.Row, " ", r.Key, " ", labelText(r.Label, r.Class), " ", r.Vector))
	}
	return strings.Join(parts, "; ")
}

// Labels inside each .npz go with their rows.
func TestLabelsInsideArchives(t *testing.T) {
	database(t)
	dir := t.TempDir()
	csv := write(t, filepath.Join(dir, "a.csv"), "key,label,f0,f1\na0,1,1,0\na1,-1,2,0\n")
	must(t, "ingest", "a", csv)
	npz := filepath.Join(dir, "a.npz")
	must(t, "export", "a", "-o", npz)
	must(t, "ingest", "twice", npz, npz, "--labels-array", "labels", "--keys", write(t, filepath.Join(dir, "k.txt"), "p\nq\nr\ns\n"))
	if got, want := records(t, must(t, "get", "twice", "--rows", "0,1,2,3", "--json")), "0 p 1 [1 0]; 1 q - [2 0]; 2 r 1 [1 0]; 3 s - [2 0]"; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if r := run(t, "ingest", "no", npz, "--labels-array", "nope"); r.code != exitBadInput || !strings.Contains(r.err, "nope") || !strings.Contains(r.err, "a.npz") {
		t.Errorf("exit %d: %s", r.code, r.err)
	}
}

// show names what the rows come from with the checksums of the files, of those
// whose rows are read front to back and of the others.
func TestSourcesHaveChecksums(t *testing.T) {
	database(t)
	dir := t.TempDir()
	formats := dumptest.Testdata(t, "formats")
	vectors := []string{filepath.Join(formats, "f32_c.npy"), filepath.Join(formats, "f32_fortran.npy"), filepath.Join(formats, "compressed.npz"), filepath.Join(formats, "f16.npy")}
	keys := filepath.Join(dir, "keys.txt")
	f, err := os.Create(keys)
	if err != nil {
		t.Fatal(err)
	}
	var rows struct{ Rows int }
	if err := json.Unmarshal([]byte(must(t, append([]string{"ingest", "first", "--json"}, vectors...)...)), &rows); err != nil {
		t.Fatal(err)
	}
	for i := range rows.Rows {
		fmt.Fprintf(f, "key %d\n", i)
	}
	f.Close()
	must(t, append([]string{"ingest", "b", "--keys", keys}, vectors...)...)
	var shown struct {
		Sources []struct {
			Files []struct {
				Name, Checksum string
				Bytes          int64
			}
		}
	}
	if err := json.Unmarshal([]byte(must(t, "show", "b", "--json")), &shown); err != nil {
		t.Fatal(err)
	}
	if len(shown.Sources) != 1 || len(shown.Sources[0].Files) != len(vectors)+1 {
		t.Fatalf("sources: %+v", shown)
	}
	for i, path := range append(vectors, keys) {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		got := shown.Sources[0].Files[i]
		want := fmt.Sprintf("crc32c:%08x", crc32.Checksum(data, crc32.MakeTable(crc32.Castagnoli)))
		if got.Name != path || got.Bytes != int64(len(data)) || got.Checksum != want {
			t.Errorf("%s: shown as %+v, want %d bytes, %s", path, got, len(data), want)
		}
	}
}
