package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dgraph-io/badger/v4"
)

// closedDatabase makes a small database with every kind of record in it, closes
// it, and returns its directory and what it holds.
func closedDatabase(t *testing.T) (string, map[string]Rows) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "db")
	db, err := Open(context.Background(), dir, Options{Create: true})
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]Rows{
		"plain": {Vectors: gaussian(300, 8, 1), Keys: decimals(300), Labels: unlabelled(300)},
		"full":  {Vectors: gaussian(200, 33, 2), Keys: keysOf(200), Labels: make([]int64, 200), Attributes: []Attribute{{"n", make([]Value, 200)}}},
	}
	for i := range 200 {
		want["full"].Attributes[0].Values[i] = Int(int64(i))
		want["full"].Labels[i] = int64(i % 2)
	}
	for name, rows := range want {
		if name == "plain" {
			rows.Keys, rows.Labels = nil, nil
		}
		w := slice(rows, 0, rows.Vectors.Rows)
		write(t, db, name, w, WriterOptions{})
	}
	if _, err := db.DeleteRows(context.Background(), "full", []int64{199}); err != nil {
		t.Fatal(err)
	}
	want["full"] = slice(want["full"], 0, 199)
	verify(t, db)
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	return dir, want
}

func unlabelled(n int) []int64 {
	labels := make([]int64, n)
	for i := range labels {
		labels[i] = NoLabel
	}
	return labels
}

// copyTree copies a closed database. Hard links would share what is damaged.
func copyTree(t *testing.T, from string) string {
	t.Helper()
	to := filepath.Join(t.TempDir(), "copy")
	err := filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, _ := filepath.Rel(from, path)
		if d.IsDir() {
			return os.MkdirAll(filepath.Join(to, name), 0o755)
		}
		if d.Name() == ballastName { // never written, so a link will do
			return os.Link(path, filepath.Join(to, name))
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(to, name), b, 0o644)
	})
	if err != nil {
		t.Fatal(err)
	}
	return to
}

// outcome opens a damaged database and reads all of it: "right", or "error" for a
// named corruption. Anything else fails the test.
func outcome(t *testing.T, dir string, want map[string]Rows, o Options) (result string) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		db, err := Open(context.Background(), dir, o)
		if err != nil {
			result = named(t, err)
			return
		}
		defer db.Close()
		result = "right"
		for _, name := range []string{"full", "plain"} {
			if err := readAll(db, name, want[name]); err != nil {
				result = named(t, err)
			}
		}
		infos, err := db.Banks("")
		if err == nil && len(infos) != len(want) {
			t.Errorf("%d banks, want %d", len(infos), len(want))
		}
		report, err := db.Verify(context.Background(), VerifyOptions{})
		if err != nil {
			t.Errorf("verify: %v", err)
		}
		for _, p := range report.Problems {
			named(t, p.Err)
		}
		if result == "error" && len(report.Problems) == 0 {
			t.Errorf("reading failed and verify found nothing")
		}
	}()
	select {
	case <-done:
	case <-time.After(20 * time.Second):
		t.Fatal("hangs")
	}
	return result
}

func named(t *testing.T, err error) string {
	t.Helper()
	var c *CorruptError
	if !errors.Is(err, ErrCorrupt) || !errors.As(err, &c) || c.Reason == "" {
		t.Errorf("not a named corruption: %v", err)
	}
	return "error"
}

// readAll is damage or nil; wrong data is an error that named will not accept.
func readAll(db *DB, bank string, want Rows) error {
	s, err := db.Snapshot(bank)
	if err != nil {
		return err
	}
	defer s.Close()
	n := 0
	return s.Batches(context.Background(), 77, func(b Batch) error {
		w := slice(want, n, n+len(b.Rows))
		n += len(b.Rows)
		if !slices.Equal(b.Vectors.Data[:len(b.Rows)*b.Vectors.Dim], w.Vectors.Data[:len(b.Rows)*b.Vectors.Dim]) ||
			!slices.Equal(b.Keys, w.Keys) || !slices.Equal(b.Labels, w.Labels) {
			return fmt.Errorf("WRONG DATA in %q", bank)
		}
		return nil
	})
}

// One flipped bit, one cut, one loss of any file of a closed database: the right
// answer or a named error, for reading and for writing opens.
func TestDamagedFiles(t *testing.T) {
	dir, want := closedDatabase(t)
	if got := outcome(t, copyTree(t, dir), want, Options{ReadOnly: true}); got != "right" {
		t.Fatalf("the undamaged database is %s", got)
	}
	rng := rand.New(rand.NewPCG(42, 0))
	counts := map[string]int{}
	cases := 6
	if testing.Short() {
		cases = 1
	}
	for _, name := range filesIn(t, dir) {
		b, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		damage := map[string]func(path string) error{"missing": os.Remove, "empty": func(p string) error { return os.WriteFile(p, nil, 0o644) }}
		for range cases {
			if len(b) == 0 {
				break
			}
			at, bit := rng.IntN(len(b)), rng.IntN(8)
			if rng.IntN(2) == 0 {
				at = min(at, rng.IntN(200)) // headers
			}
			damage[fmt.Sprintf("flip %d.%d", at, bit)] = func(path string) error {
				c := slices.Clone(b)
				c[at] ^= 1 << bit
				return os.WriteFile(path, c, 0o644)
			}
			cut := rng.IntN(len(b))
			damage[fmt.Sprintf("cut at %d", cut)] = func(path string) error { return os.WriteFile(path, b[:cut], 0o644) }
		}
		for what, do := range damage {
			for _, o := range []Options{{ReadOnly: true}, {}} {
				t.Run(fmt.Sprintf("%s/%s/readonly=%v", name, what, o.ReadOnly), func(t *testing.T) {
					damaged := copyTree(t, dir)
					if err := do(filepath.Join(damaged, name)); err != nil {
						t.Fatal(err)
					}
					counts[outcome(t, damaged, want, o)]++
				})
			}
		}
	}
	t.Logf("%v", counts)
}

// Altered values, written through Badger so that its own checksums fit, are
// noticed in every record kind; for every byte see TestRecordFlips.
func TestAlteredRecords(t *testing.T) {
	dir, want := closedDatabase(t)
	damaged := copyTree(t, dir)
	keys := map[string][]byte{}
	withBadger(t, damaged, func(b *badger.DB) {
		txn := b.NewTransaction(false)
		defer txn.Discard()
		it := txn.NewIterator(badger.DefaultIteratorOptions)
		defer it.Close()
		for it.Rewind(); it.Valid(); it.Next() {
			value, err := it.Item().ValueCopy(nil)
			if err != nil {
				t.Fatal(err)
			}
			keys[string(it.Item().Key())] = value
		}
	})
	rng := rand.New(rand.NewPCG(7, 0))
	kinds := map[recordKind]int{}
	for key, value := range keys {
		kinds[recordKind(value[5])]++
		for _, at := range []int{0, headerSize + rng.IntN(len(value)-headerSize)} {
			altered := slices.Clone(value)
			altered[at] ^= 1 << rng.IntN(8)
			check := func(what string, altered []byte) {
				t.Helper()
				withBadger(t, damaged, func(b *badger.DB) { set(t, b, key, altered) })
				if got := outcome(t, damaged, want, Options{ReadOnly: true}); got != "error" {
					t.Errorf("%v with byte %d %s reads %s", recordKind(value[5]), at, what, got)
				}
			}
			check("flipped", altered)
			if at == 0 {
				check("empty", nil)
			}
		}
		withBadger(t, damaged, func(b *badger.DB) { set(t, b, key, value) })
	}
	for k := kindState; k <= kindClasses; k++ {
		if kinds[k] == 0 {
			t.Errorf("no record of kind %v was altered", k)
		}
	}
	if got := outcome(t, damaged, want, Options{ReadOnly: true}); got != "right" {
		t.Errorf("after putting everything back: %s", got)
	}
}

// withBadger opens the inside of a database behind the store's back.
func withBadger(t *testing.T, dir string, fn func(*badger.DB)) {
	t.Helper()
	os.Remove(filepath.Join(dir, closingName))
	o := badgerOptions(dir, false, nil).WithLogger(nil)
	b, err := badger.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	fn(b)
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
}

func set(t *testing.T, b *badger.DB, key string, value []byte) {
	t.Helper()
	if err := b.Update(func(txn *badger.Txn) error { return txn.Set([]byte(key), value) }); err != nil {
		t.Fatal(err)
	}
}

// An older copy of Badger's files under a newer outside record is the silent loss
// that the outside record is there for.
func TestRolledBack(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "db")
	db, err := Open(context.Background(), dir, Options{Create: true})
	if err != nil {
		t.Fatal(err)
	}
	write(t, db, "train", Rows{Vectors: gaussian(10, 4, 1)}, WriterOptions{})
	db.Close()
	old := copyTree(t, dir)
	db = open(t, dir, Options{})
	for range 3 {
		write(t, db, "train", Rows{Vectors: gaussian(10, 4, 1)}, WriterOptions{Mode: Append})
	}
	verify(t, db)
	db.Close()
	for _, name := range []string{outsideNameA, outsideNameB} {
		b, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(old, name), b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, o := range []Options{{}, {ReadOnly: true}} {
		_, err := Open(context.Background(), old, o)
		if !errors.Is(err, ErrRolledBack) || !errors.Is(err, ErrCorrupt) ||
			!strings.Contains(err.Error(), `bank "train" is at generation 1, expected 4`) {
			t.Errorf("%+v: %v", o, err)
		}
	}
}

func writeFile(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func withForeignBadger(t *testing.T, dir string) {
	t.Helper()
	b, err := badger.Open(badger.DefaultOptions(dir).WithLogger(nil))
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
}

// filesIn returns the files of a database but the ballast, relative to it.
func filesIn(t *testing.T, dir string) (files []string) {
	t.Helper()
	filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if name, _ := filepath.Rel(dir, path); err == nil && !d.IsDir() && d.Name() != ballastName {
			files = append(files, name)
		}
		return nil
	})
	return files
}
