package store

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/badger/v4/options"
)

func plainOptions(blocks string) badger.Options {
	return badger.DefaultOptions(blocks).WithSyncWrites(true).WithValueThreshold(1 << 10).
		WithValueLogFileSize(8 << 20).WithCompression(options.None).WithBlockCacheSize(0).
		WithIndexCacheSize(0).WithDetectConflicts(false).WithNumMemtables(2).WithMemTableSize(1 << 20).
		WithChecksumVerificationMode(options.OnTableRead).WithNumCompactors(2).WithLogger(nil)
}

// plainValue is the value of key i: small ones live in the LSM tree, large ones in
// the value log.
func plainValue(i int) []byte {
	n := 100
	if i%2 == 1 {
		n = 40 << 10
	}
	r := rand.New(rand.NewPCG(1, uint64(i)))
	b := make([]byte, n)
	for j := range b {
		b[j] = byte(r.Uint32())
	}
	return b
}

func plainKey(i int) []byte { return binary.BigEndian.AppendUint64([]byte("k"), uint64(i)) }

// putPlain opens blocks/ as Badger alone does, after a pre-flight, writes keys
// from..to and closes in order.
func putPlain(t testing.TB, dir string, from, to int) {
	t.Helper()
	report, err := preflight(context.Background(), dir)
	if err != nil {
		t.Fatal(err)
	}
	db, err := badger.Open(plainOptions(blocksDirectory(dir)))
	if err != nil {
		t.Fatal(err)
	}
	for i := from; i < to; i++ {
		if err := db.Update(func(txn *badger.Txn) error { return txn.Set(plainKey(i), plainValue(i)) }); err != nil {
			t.Fatal(err)
		}
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	if err := afterOpen(dir, report); err != nil {
		t.Fatal(err)
	}
	if err := markClosed(dir); err != nil {
		t.Fatal(err)
	}
}

// readPlain returns how many of keys 0..n are right, and which are not. A value
// that is wrong without being empty would be for the caller's checksum to find.
func readPlain(t testing.TB, dir string, n int) (right int, wrong []int) {
	t.Helper()
	db, err := badger.Open(plainOptions(blocksDirectory(dir)))
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
	}()
	for i := range n {
		err := db.View(func(txn *badger.Txn) error {
			item, err := txn.Get(plainKey(i))
			if err != nil {
				return err
			}
			return item.Value(func(v []byte) error {
				if !bytes.Equal(v, plainValue(i)) {
					return errors.New("another value")
				}
				return nil
			})
		})
		if err != nil {
			wrong = append(wrong, i)
		} else {
			right++
		}
	}
	return right, wrong
}

func newPlain(t testing.TB, n int) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.Mkdir(blocksDirectory(dir), 0o755); err != nil {
		t.Fatal(err)
	}
	putPlain(t, dir, 0, n)
	return dir
}

func filesOf(t testing.TB, dir, ext string) []string {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(blocksDirectory(dir), "*"+ext))
	if err != nil || len(names) == 0 {
		t.Fatalf("no %s files: %v", ext, err)
	}
	return names
}

func largest(t testing.TB, names []string) string {
	t.Helper()
	best, size := "", int64(-1)
	for _, name := range names {
		info, err := os.Stat(name)
		if err != nil {
			t.Fatal(err)
		}
		if info.Size() > size {
			best, size = name, info.Size()
		}
	}
	return best
}

func flip(t testing.TB, path string, offset int64) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var b [1]byte
	if _, err := f.ReadAt(b[:], offset); err != nil {
		t.Fatal(err)
	}
	b[0] ^= 0x10
	if _, err := f.WriteAt(b[:], offset); err != nil {
		t.Fatal(err)
	}
}

func wantCorrupt(t *testing.T, err error, file string) {
	t.Helper()
	if !errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), file) {
		t.Fatalf("got %v, want ErrCorrupt naming %s", err, file)
	}
}

func TestPreflightOfASoundDatabase(t *testing.T) {
	if report, err := preflight(context.Background(), t.TempDir()); err != nil || report.Clean {
		t.Fatalf("new: %+v, %v", report, err)
	}
	dir := newPlain(t, 100)
	for round := range 4 {
		report, err := preflightReader(context.Background(), dir)
		if err != nil || !report.Clean || report.Kept != nil || report.Problems != nil {
			t.Fatalf("round %d, reading: %+v, %v", round, report, err)
		}
		report, err = preflight(context.Background(), dir)
		if err != nil || !report.Clean || report.Kept != nil || report.Problems != nil || report.Removed != nil {
			t.Fatalf("round %d: %+v, %v", round, report, err)
		}
		if right, wrong := readPlain(t, dir, 100); right != 100 {
			t.Fatalf("round %d: wrong %v", round, wrong)
		}
		if err := markClosed(dir); err != nil {
			t.Fatal(err)
		}
	}
	// Seals must not pile up: one log with values, the seal before the last open,
	// and the log that this open made.
	if n := len(filesOf(t, dir, ".vlog")); n > 3 {
		t.Fatalf("%d value logs after four empty opens", n)
	}
}

// Without the pre-flight Badger cuts the newest value log at the flip, in a
// database that was closed in order. With it one value is lost and no other.
func TestPreflightKeepsADamagedNewestLogFromBeingCut(t *testing.T) {
	const n = 60
	badgerAlone, saved := newPlain(t, n), newPlain(t, n)
	for _, dir := range []string{badgerAlone, saved} {
		log := largest(t, filesOf(t, dir, ".vlog"))
		flip(t, log, 100<<10)
	}
	if _, wrong := readPlain(t, badgerAlone, n); len(wrong) < 20 {
		t.Fatalf("Badger alone lost only %v: does it no longer cut?", wrong)
	}
	report, err := preflight(context.Background(), saved)
	if err != nil || !report.Clean {
		t.Fatal(report, err)
	}
	if _, wrong := readPlain(t, saved, n); len(wrong) != 1 {
		t.Fatalf("lost %v, want one", wrong)
	}
}

func TestPreflightFindsFilesOfAClosedDatabaseChanged(t *testing.T) {
	whole := newPlain(t, 100)
	cases := []struct {
		name    string
		damage  func(dir string) (file string)
		problem bool // reported, but no error
	}{
		{"MANIFEST missing", func(dir string) string { return removeFile(t, dir, "MANIFEST") }, false},
		{"MANIFEST cut", func(dir string) string { return cutFile(t, dir, "MANIFEST", 10) }, false},
		{"MANIFEST flipped", func(dir string) string { return flipFile(t, dir, "MANIFEST", 9) }, false},
		{"KEYREGISTRY flipped", func(dir string) string { return flipFile(t, dir, "KEYREGISTRY", 20) }, false},
		{"table missing", func(dir string) string { return removeFile(t, dir, "*.sst") }, false},
		{"table empty", func(dir string) string { return cutFile(t, dir, "*.sst", 0) }, false},
		{"table cut", func(dir string) string { return cutFile(t, dir, "*.sst", 500) }, false},
		{"table flipped", func(dir string) string { return flipFile(t, dir, "*.sst", 300) }, false},
		{"log missing", func(dir string) string { return removeFile(t, dir, "*.vlog") }, true},
		{"log cut", func(dir string) string { return cutFile(t, dir, "*.vlog", 5000) }, true},
		{"log empty", func(dir string) string { return cutFile(t, dir, "*.vlog", 0) }, false},
		{"log header", func(dir string) string { return flipFile(t, dir, "*.vlog", 3) }, false},
		{"foreign memtable", func(dir string) string {
			name := filepath.Join(blocksDirectory(dir), "00009.mem")
			if err := os.WriteFile(name, make([]byte, 100), 0o644); err != nil {
				t.Fatal(err)
			}
			return "00009.mem"
		}, false},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "db")
			if err := os.CopyFS(dir, os.DirFS(whole)); err != nil {
				t.Fatal(err)
			}
			file := c.damage(dir)
			for _, open := range []func(context.Context, string) (preflightReport, error){preflightReader, preflight} {
				report, err := open(context.Background(), dir)
				if c.problem {
					if err != nil || len(report.Problems) != 1 {
						t.Fatalf("%+v, %v", report, err)
					}
					err = report.Problems[0]
				}
				wantCorrupt(t, err, file)
			}
		})
	}
}

func pick(t *testing.T, dir, pattern string) string {
	t.Helper()
	names, _ := filepath.Glob(filepath.Join(blocksDirectory(dir), pattern))
	return largest(t, names)
}
func removeFile(t *testing.T, dir, pattern string) string {
	t.Helper()
	path := pick(t, dir, pattern)
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	return filepath.Base(path)
}
func cutFile(t *testing.T, dir, pattern string, size int64) string {
	t.Helper()
	path := pick(t, dir, pattern)
	if err := os.Truncate(path, size); err != nil {
		t.Fatal(err)
	}
	return filepath.Base(path)
}
func flipFile(t *testing.T, dir, pattern string, offset int64) string {
	t.Helper()
	path := pick(t, dir, pattern)
	flip(t, path, offset)
	return filepath.Base(path)
}

// A database that was not closed in order has no closing record to lean on.
func TestPreflightAfterACrash(t *testing.T) {
	whole := newPlain(t, 100)
	if err := os.Remove(filepath.Join(whole, closingName)); err != nil {
		t.Fatal(err)
	}
	copyWhole := func(t *testing.T) string {
		dir := filepath.Join(t.TempDir(), "db")
		if err := os.CopyFS(dir, os.DirFS(whole)); err != nil {
			t.Fatal(err)
		}
		return dir
	}
	for name, damage := range map[string]func(dir string) string{
		"MANIFEST missing": func(dir string) string { return removeFile(t, dir, "MANIFEST") },
		"table missing":    func(dir string) string { return removeFile(t, dir, "*.sst") },
		"table empty":      func(dir string) string { return cutFile(t, dir, "*.sst", 0) },
		"log header":       func(dir string) string { return flipFile(t, dir, "*.vlog", 3) },
	} {
		t.Run(name, func(t *testing.T) {
			dir := copyWhole(t)
			file := damage(dir)
			_, err := preflight(context.Background(), dir)
			wantCorrupt(t, err, file)
		})
	}
	t.Run("every byte of a table", func(t *testing.T) {
		dir := copyWhole(t)
		path := pick(t, dir, "*.sst")
		good, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		step := max(1, len(good)/300)
		for at := 0; at < len(good); at++ {
			if at%step != 0 && at < len(good)-200 {
				continue
			}
			damaged := bytes.Clone(good)
			damaged[at] ^= byte(1 << (at % 8))
			if err := os.WriteFile(path, damaged, 0o644); err != nil {
				t.Fatal(err)
			}
			if err := checkTable(path); err == nil {
				t.Fatalf("byte %d of %d flipped: not noticed", at, len(good))
			}
			if err := os.WriteFile(path, good[:at], 0o644); err != nil {
				t.Fatal(err)
			}
			if err := checkTable(path); err == nil {
				t.Fatalf("cut to %d of %d: not noticed", at, len(good))
			}
		}
		if err := os.WriteFile(path, good, 0o644); err != nil {
			t.Fatal(err)
		}
		if err := checkTable(path); err != nil {
			t.Fatal(err)
		}
	})
	t.Run("short MANIFEST", func(t *testing.T) {
		dir := copyWhole(t)
		cutFile(t, dir, "MANIFEST", 8) // Badger alone: an empty store, tables deleted
		table := pick(t, dir, "*.sst")
		content, err := os.ReadFile(table)
		if err != nil {
			t.Fatal(err)
		}
		report, err := preflight(context.Background(), dir)
		if err != nil || len(report.Kept) < 2 {
			t.Fatalf("%+v, %v", report, err)
		}
		readPlain(t, dir, 1)
		if _, err := os.Stat(table); err == nil {
			t.Fatal("Badger did not delete the table: is the pre-flight still needed?")
		}
		kept, err := os.ReadFile(filepath.Join(dir, lostName, filepath.Base(table)))
		if err != nil || !bytes.Equal(kept, content) {
			t.Fatalf("the table is not in lost+found: %v", err)
		}
		if err := afterOpen(dir, report); err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(filepath.Join(dir, lostName)); err == nil {
			t.Fatal("lost+found is still there")
		}
		// One that was there before, like that of a file system's root, stays.
		if err := os.Mkdir(filepath.Join(dir, lostName), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := afterOpen(dir, preflightReport{}); err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(filepath.Join(dir, lostName)); err != nil {
			t.Fatal(err)
		}
	})
	t.Run("empty logs", func(t *testing.T) {
		dir := copyWhole(t)
		for _, name := range []string{"000090.vlog", "00090.mem"} {
			if err := os.WriteFile(filepath.Join(blocksDirectory(dir), name), nil, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		report, err := preflight(context.Background(), dir)
		if err != nil || len(report.Removed) != 2 {
			t.Fatalf("%+v, %v", report, err)
		}
		if right, wrong := readPlain(t, dir, 100); right != 100 {
			t.Fatal(wrong)
		}
	})
	t.Run("a log that is being deleted", func(t *testing.T) {
		// Badger empties a log and then removes it, newer ones or not.
		dir := copyWhole(t)
		if err := os.WriteFile(filepath.Join(blocksDirectory(dir), "000089.vlog"), nil, 0o644); err != nil {
			t.Fatal(err)
		}
		if err := writeSeal(dir, 90); err != nil {
			t.Fatal(err)
		}
		report, err := preflight(context.Background(), dir)
		if err != nil || len(report.Removed) != 1 || filepath.Base(report.Removed[0]) != "000089.vlog" {
			t.Fatalf("%+v, %v", report, err)
		}
		if right, wrong := readPlain(t, dir, 100); right != 100 {
			t.Fatal(wrong)
		}
	})
	t.Run("DISCARD of nonsense", func(t *testing.T) {
		dir := copyWhole(t)
		if err := os.WriteFile(filepath.Join(blocksDirectory(dir), "DISCARD"), bytes.Repeat([]byte{0xff}, 1<<20), 0o644); err != nil {
			t.Fatal(err)
		}
		report, err := preflight(context.Background(), dir)
		if err != nil || len(report.Removed) != 1 {
			t.Fatalf("%+v, %v", report, err)
		}
	})
}

// A killed writer's logs: nothing it wrote is lost, for a writing and a reading
// open alike, and a damaged memtable log is kept whole in lost+found.
func TestPreflightAfterAKill(t *testing.T) {
	if dir := os.Getenv("PREFLIGHT_KILL_DIR"); dir != "" {
		db, err := badger.Open(plainOptions(blocksDirectory(dir)))
		if err != nil {
			panic(err)
		}
		for i := range 50 {
			if err := db.Update(func(txn *badger.Txn) error { return txn.Set(plainKey(i), plainValue(i)) }); err != nil {
				panic(err)
			}
		}
		killSelf()
		select {}
	}
	kill := func(t *testing.T) string {
		dir := t.TempDir()
		if err := os.Mkdir(blocksDirectory(dir), 0o755); err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command(os.Args[0], "-test.run=^TestPreflightAfterAKill$")
		cmd.Env = append(os.Environ(), "PREFLIGHT_KILL_DIR="+dir)
		if out, err := cmd.CombinedOutput(); err == nil || !strings.Contains(err.Error(), "killed") {
			t.Fatalf("the child was not killed: %v\n%s", err, out)
		}
		return dir
	}
	t.Run("writing", func(t *testing.T) {
		dir := kill(t)
		report, err := preflight(context.Background(), dir)
		if err != nil || report.Clean || report.Kept != nil {
			t.Fatalf("%+v, %v", report, err)
		}
		if info, err := os.Stat(largest(t, filesOf(t, dir, ".vlog"))); err != nil || info.Size() > 2<<20 {
			t.Fatalf("the newest log is still %d bytes long, %v", info.Size(), err)
		}
		if right, wrong := readPlain(t, dir, 50); right != 50 {
			t.Fatal(wrong)
		}
	})
	t.Run("reading", func(t *testing.T) {
		dir := kill(t)
		if _, err := preflightReader(context.Background(), dir); err != nil {
			t.Fatal(err)
		}
		db, err := badger.Open(plainOptions(blocksDirectory(dir)).WithReadOnly(true))
		if err != nil {
			t.Fatal(err)
		}
		if err := db.View(func(txn *badger.Txn) error { _, err := txn.Get(plainKey(49)); return err }); err != nil {
			t.Fatal(err)
		}
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
	})
	t.Run("damaged memtable log", func(t *testing.T) {
		dir := kill(t)
		mem := pick(t, dir, "*.mem")
		flip(t, mem, 1000)
		damaged, err := os.ReadFile(mem)
		if err != nil {
			t.Fatal(err)
		}
		report, err := preflight(context.Background(), dir)
		if err != nil || len(report.Kept) != 1 {
			t.Fatalf("%+v, %v", report, err)
		}
		kept, err := os.ReadFile(filepath.Join(dir, report.Kept[0]))
		if err != nil || len(kept) < 2000 || !bytes.HasPrefix(damaged, kept) {
			t.Fatalf("%d bytes kept, %v", len(kept), err)
		}
		if right, _ := readPlain(t, dir, 50); right == 50 {
			t.Fatal("the flip changed nothing")
		}
	})
	t.Run("logEnd agrees with Badger", func(t *testing.T) {
		dir := kill(t)
		mem := pick(t, dir, "*.mem")
		whole, err := os.ReadFile(mem)
		if err != nil {
			t.Fatal(err)
		}
		for _, at := range []int{21, 22, 25, 60, 300, 700, 1500, 2500} {
			copied := filepath.Join(t.TempDir(), "db")
			if err := os.CopyFS(copied, os.DirFS(dir)); err != nil {
				t.Fatal(err)
			}
			damaged := bytes.Clone(whole)
			damaged[at] ^= 1
			if err := os.WriteFile(pick(t, copied, "*.mem"), damaged, 0o644); err != nil {
				t.Fatal(err)
			}
			end, err := logEnd(bytes.NewReader(damaged), int64(len(damaged)))
			if err != nil {
				t.Fatal(err)
			}
			// Badger alone, then we: as many keys must survive.
			byBadger, _ := readPlain(t, copied, 50)
			if _, err := preflight(context.Background(), dir); err != nil {
				t.Fatal(err)
			}
			ours := filepath.Join(t.TempDir(), "db")
			if err := os.CopyFS(ours, os.DirFS(dir)); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(pick(t, ours, "*.mem"), whole[:end], 0o644); err != nil {
				t.Fatal(err)
			}
			if byUs, _ := readPlain(t, ours, 50); byUs != byBadger {
				t.Fatalf("flip at %d: Badger keeps %d keys, we %d (end %d)", at, byBadger, byUs, end)
			}
		}
	})
}

func TestPreflightLeavesADatabaseInUseAlone(t *testing.T) {
	dir := newPlain(t, 10)
	db, err := badger.Open(plainOptions(blocksDirectory(dir)))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	for _, open := range []func(context.Context, string) (preflightReport, error){preflight, preflightReader} {
		_, err := open(context.Background(), dir)
		if !errors.Is(err, ErrLocked) || !strings.Contains(err.Error(), fmt.Sprint("process ", os.Getpid())) {
			t.Fatal(err)
		}
	}
	if err := markClosed(dir); err != nil {
		t.Fatal(err)
	}
}

func TestPreflightNoticesThatBlocksAreGone(t *testing.T) {
	dir := newPlain(t, 10)
	if err := os.RemoveAll(blocksDirectory(dir)); err != nil {
		t.Fatal(err)
	}
	_, err := preflight(context.Background(), dir)
	wantCorrupt(t, err, blocksName)
}

func TestLastByteOfASparseFile(t *testing.T) {
	const size = 300 << 20
	for _, at := range [][]int64{nil, {0}, {5 << 20}, {1, 90 << 20}, {size - 1}} {
		f, err := os.Create(filepath.Join(t.TempDir(), "sparse"))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if err := f.Truncate(size); err != nil {
			t.Fatal(err)
		}
		want := int64(-1)
		for _, offset := range at {
			if _, err := f.WriteAt([]byte{1}, offset); err != nil {
				t.Fatal(err)
			}
			want = max(want, offset)
		}
		if got, err := lastByte(f, size); got != want || err != nil {
			t.Fatalf("bytes at %v: %d, %v", at, got, err)
		}
	}
}

func FuzzDecodeClosing(f *testing.F) {
	f.Add(encodeClosing(nil))
	f.Add(encodeClosing(closingRecord{{"MANIFEST", 30, 7}, {"000001.vlog", 1 << 40, 0}}))
	f.Fuzz(func(t *testing.T, b []byte) {
		decodeClosing(b)
		if len(b) >= 20 {
			b = append([]byte(nil), b...)
			copy(b, closingMagic)
			binary.LittleEndian.PutUint32(b[8:], closingVersion)
			b = sealFrame(b)
			if rec, err := decodeClosing(b); err == nil && !bytes.Equal(encodeClosing(rec), b) {
				t.Fatalf("decode and encode differ: %x", b)
			}
		}
	})
}

func FuzzLogEnd(f *testing.F) {
	f.Add(make([]byte, 64))
	f.Fuzz(func(t *testing.T, b []byte) {
		end, err := logEnd(bytes.NewReader(b), int64(len(b)))
		if err != nil || end < logHeaderSize || end > max(int64(len(b)), logHeaderSize) {
			t.Fatal(end, err)
		}
	})
}
