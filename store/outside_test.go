package store

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

func outsideOf(sequence uint64) outsideRecord {
	return outsideRecord{Sequence: sequence, Banks: []outsideBank{
		{Name: "moco/train", Generation: sequence, Rows: int64(1000 * sequence), Digest: uint32(sequence) * 0x01010101},
		{Name: "b", Generation: 1, Rows: 0, Digest: 7},
	}}
}

func mustWriteOutside(t *testing.T, dir string, rec outsideRecord) {
	t.Helper()
	if err := writeOutside(dir, rec); err != nil {
		t.Fatal(err)
	}
}

func TestOutsideBytesAreAsDrawn(t *testing.T) {
	got, err := encodeOutside(outsideRecord{Sequence: 7, Banks: []outsideBank{{"a", 3, 5, 0x01020304}}})
	if err != nil {
		t.Fatal(err)
	}
	want := "4d42434f4d4d4954" + "01000000" + "37000000" + "0700000000000000" + "01000000" +
		"0100" + "61" + "0300000000000000" + "0500000000000000" + "04030201"
	if hex.EncodeToString(got[:len(got)-4]) != want {
		t.Fatalf("got  %x\nwant %s", got, want)
	}
}

func TestOutsideAlternatesAndKeepsThePredecessor(t *testing.T) {
	dir := t.TempDir()
	if _, err := readOutside(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("empty directory: %v", err)
	}
	for sequence := uint64(1); sequence <= 5; sequence++ {
		mustWriteOutside(t, dir, outsideOf(sequence))
		got, err := readOutside(dir)
		if err != nil || !reflect.DeepEqual(got, outsideOf(sequence)) {
			t.Fatalf("sequence %d: got %+v, %v", sequence, got, err)
		}
	}
	// 5 went to A, so B must hold 4.
	if b, err := readOutsideCopy(filepath.Join(dir, outsideNameB)); err != nil || b.Sequence != 4 {
		t.Fatalf("B: %+v, %v", b, err)
	}
	if err := writeOutside(dir, outsideOf(5)); err == nil {
		t.Fatal("a sequence that does not grow was accepted")
	}
}

// Every flip and every cut of one copy gives the other; of both, ErrCorrupt.
func TestOutsideDamage(t *testing.T) {
	dir := t.TempDir()
	mustWriteOutside(t, dir, outsideOf(1))
	mustWriteOutside(t, dir, outsideOf(2))
	for name, other := range map[string]uint64{outsideNameA: 2, outsideNameB: 1} {
		path := filepath.Join(dir, name)
		good, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		check := func(what string, damaged []byte) {
			t.Helper()
			if err := os.WriteFile(path, damaged, 0o644); err != nil {
				t.Fatal(err)
			}
			got, err := readOutside(dir)
			if err != nil || got.Sequence != other {
				t.Fatalf("%s %s: got %+v, %v; want sequence %d", name, what, got, err, other)
			}
		}
		for bit := range 8 * len(good) {
			damaged := bytes.Clone(good)
			damaged[bit/8] ^= 1 << (bit % 8)
			check(fmt.Sprint("bit ", bit), damaged)
		}
		for n := range good {
			check(fmt.Sprint("cut to ", n), good[:n])
		}
		check("one byte more", append(bytes.Clone(good), 0))
		if err := os.WriteFile(path, good, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{outsideNameA, outsideNameB} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("rubbish"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := readOutside(dir); !errors.Is(err, ErrCorrupt) {
		t.Fatalf("both damaged: %v", err)
	}
	os.Remove(filepath.Join(dir, outsideNameA))
	if _, err := readOutside(dir); !errors.Is(err, ErrCorrupt) {
		t.Fatalf("one damaged, one missing: %v", err)
	}
}

func TestOutsideOfANewerFormatIsRefused(t *testing.T) {
	dir := t.TempDir()
	b, _ := encodeOutside(outsideOf(9))
	b[8] = 2
	if err := os.WriteFile(filepath.Join(dir, outsideNameB), sealFrame(b[:len(b)-4]), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := readOutside(dir); !errors.Is(err, ErrNewerFormat) {
		t.Fatal(err)
	}
	if err := writeOutside(dir, outsideOf(10)); !errors.Is(err, ErrNewerFormat) {
		t.Fatal(err)
	}
}

// A process killed before each step of writeOutside leaves the old record or the
// new one, and the next commit succeeds.
func TestOutsideSurvivesAKillAtEveryStep(t *testing.T) {
	if dir := os.Getenv("OUTSIDE_KILL_DIR"); dir != "" {
		outsideStep = func(step string) {
			if step == os.Getenv("OUTSIDE_KILL_STEP") {
				killSelf()
				select {}
			}
		}
		writeOutside(dir, outsideOf(3))
		os.Exit(0)
	}
	for _, step := range []string{"create", "write", "write-rest", "sync", "rename", "sync-directory", "done"} {
		dir := t.TempDir()
		mustWriteOutside(t, dir, outsideOf(1))
		mustWriteOutside(t, dir, outsideOf(2))
		cmd := exec.Command(os.Args[0], "-test.run=^TestOutsideSurvivesAKillAtEveryStep$")
		cmd.Env = append(os.Environ(), "OUTSIDE_KILL_DIR="+dir, "OUTSIDE_KILL_STEP="+step)
		if err := cmd.Run(); err == nil || !strings.Contains(err.Error(), "killed") {
			t.Fatalf("%s: the child was not killed: %v", step, err)
		}
		want := uint64(2)
		if step == "sync-directory" || step == "done" {
			want = 3
		}
		got, err := readOutside(dir)
		if err != nil || !reflect.DeepEqual(got, outsideOf(want)) {
			t.Fatalf("%s: got %+v, %v; want sequence %d", step, got, err, want)
		}
		mustWriteOutside(t, dir, outsideOf(4))
		if got, err := readOutside(dir); err != nil || got.Sequence != 4 {
			t.Fatalf("%s: after the next commit: %+v, %v", step, got, err)
		}
	}
}

func FuzzDecodeOutside(f *testing.F) {
	for _, rec := range []outsideRecord{{}, outsideOf(1), outsideOf(1 << 40)} {
		b, _ := encodeOutside(rec)
		f.Add(b)
		f.Add(b[:len(b)-4])
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		decodeOutside(b)
		// Seal what the fuzzer made, so that the fields behind the checksum are
		// reached as well.
		if len(b) >= 28 {
			b = append(bytes.Clone(b), 0, 0, 0, 0)
			copy(b, outsideMagic)
			b[8], b[9], b[10], b[11] = outsideVersion, 0, 0, 0
			b = sealFrame(b[:len(b)-4])
			rec, err := decodeOutside(b)
			if err != nil {
				return
			}
			again, err := encodeOutside(rec)
			if err != nil || !bytes.Equal(again, b) {
				t.Fatalf("decode and encode differ: %v\n%x\n%x", err, b, again)
			}
		}
	})
}

func killSelf() {
	p, err := os.FindProcess(os.Getpid())
	if err == nil {
		err = p.Kill()
	}
	if err != nil {
		panic(err)
	}
}
