package journal

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
)

var background = context.Background()

func text(kind uint8, step int64, s string) Piece {
	return Piece{Kind: kind, Step: step, Bytes: len(s), Fill: func(b []byte) { copy(b, s) }}
}

func mustAppend(t *testing.T, j *Journal, p ...Piece) int64 {
	t.Helper()
	end, err := j.Append(p...)
	if err != nil {
		t.Fatal(err)
	}
	return end
}

// records lists what Replay gives, as "kind step more payload".
func records(t *testing.T, j *Journal) (list []string) {
	t.Helper()
	err := j.Replay(background, func(r Record) error {
		list = append(list, fmt.Sprint(r.Kind, " ", r.Step, " ", r.More, " ", string(r.Payload)))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func mustOpen(t *testing.T, dir string) *Journal {
	t.Helper()
	j, err := Open(dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	return j
}

func TestWhatWasAppendedComesBack(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "b")
	if _, err := Open(dir, Options{}); !errors.Is(err, ErrNone) {
		t.Fatalf("open of nothing: %v", err)
	}
	j, err := Create(dir, []byte("head"), Options{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Open(dir, Options{}); !errors.Is(err, ErrBusy) {
		t.Fatalf("second open: %v", err)
	}
	mustAppend(t, j, text(1, 7, "one"))
	mustAppend(t, j, text(2, -8, ""), text(3, 9, "three"))
	want := []string{"1 7 false one", "2 -8 true ", "3 9 false three"}
	if got := records(t, j); !slices.Equal(got, want) {
		t.Fatalf("got %q", got)
	}
	for range 2 { // closed in order twice
		if err := j.Close(); err != nil {
			t.Fatal(err)
		}
		j = mustOpen(t, dir)
		if got := records(t, j); !slices.Equal(got, want) || string(j.Head()) != "head" || j.Torn() != 0 {
			t.Fatalf("got %q, head %q, %d torn", got, j.Head(), j.Torn())
		}
		want = append(want, "4 1 false more")
		mustAppend(t, j, text(4, 1, "more"))
	}
	if err := j.Rotate([]byte("new")); err != nil {
		t.Fatal(err)
	}
	mustAppend(t, j, text(5, 5, "after"))
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := j.Append(text(1, 1, "")); !errors.Is(err, ErrClosed) {
		t.Fatalf("append to a closed log: %v", err)
	}
	j = mustOpen(t, dir)
	if got := records(t, j); !slices.Equal(got, []string{"5 5 false after"}) || string(j.Head()) != "new" {
		t.Fatalf("after rotation: %q, head %q", got, j.Head())
	}
	j.Close()
	if names, err := Find(filepath.Dir(filepath.Dir(dir))); err != nil || !slices.Equal(names, []string{"a/b"}) {
		t.Fatalf("found %v, %v", names, err)
	}
	if err := Remove(filepath.Dir(filepath.Dir(dir)), dir); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Dir(dir)); !os.IsNotExist(err) {
		t.Fatalf("the directory above is still there: %v", err)
	}
}

// A log that ends anywhere gives the changes that are whole, and goes on from there.
func TestTornTailIsCutAtEveryByte(t *testing.T) {
	dir := t.TempDir()
	j, err := Create(dir, []byte("h"), Options{})
	if err != nil {
		t.Fatal(err)
	}
	first := j.Size()
	ends := []int64{first}
	want := [][]string{nil}
	var list []string
	for i := range 4 {
		pieces := []Piece{text(1, int64(i), "payload"), text(2, int64(i), "second")}[:1+i%2]
		for k, p := range pieces {
			b := make([]byte, p.Bytes)
			p.Fill(b)
			list = append(list, fmt.Sprint(p.Kind, " ", p.Step, " ", k+1 < len(pieces), " ", string(b)))
		}
		ends = append(ends, mustAppend(t, j, pieces...))
		want = append(want, slices.Clone(list))
	}
	whole, err := os.ReadFile(filepath.Join(dir, fileName))
	if err != nil {
		t.Fatal(err)
	}
	j.Close()
	for size := first; size <= int64(len(whole)); size++ {
		at, _ := slices.BinarySearch(ends, size+1)
		at--
		torn := t.TempDir()
		if err := os.WriteFile(filepath.Join(torn, fileName), whole[:size], 0o644); err != nil {
			t.Fatal(err)
		}
		j, err := Open(torn, Options{ReadOnly: true})
		if err != nil {
			t.Fatalf("%d bytes, to read: %v", size, err)
		}
		if got := records(t, j); !slices.Equal(got, want[at]) {
			t.Fatalf("%d bytes, to read: got %q, want %q", size, got, want[at])
		}
		j.Close()
		if size%5 != 0 && !slices.Contains(ends, size) {
			continue // an fsync each
		}
		j = mustOpen(t, torn)
		if got := records(t, j); !slices.Equal(got, want[at]) || j.Torn() != size-ends[at] {
			t.Fatalf("%d bytes: got %q and %d torn, want %q and %d", size, got, j.Torn(), want[at], size-ends[at])
		}
		mustAppend(t, j, text(9, 9, "next"))
		j.Close()
		j = mustOpen(t, torn)
		if got := records(t, j); !slices.Equal(got, append(slices.Clone(want[at]), "9 9 false next")) {
			t.Fatalf("%d bytes: %q after an append", size, got)
		}
		j.Close()
	}
}

// Every damaged byte of what was durable is noticed; so is one of the head. What was
// not known to be durable is cut.
func TestDamageIsToldFromATornTail(t *testing.T) {
	dir := t.TempDir()
	j, err := Create(dir, []byte("head"), Options{})
	if err != nil {
		t.Fatal(err)
	}
	headEnd := j.Size()
	if err := j.Sync(mustAppend(t, j, text(1, 1, "durable"))); err != nil {
		t.Fatal(err)
	}
	durable := j.Size()
	mustAppend(t, j, text(1, 2, "logged"))
	logged := j.Size()
	mustAppend(t, j, text(1, 3, "last"))
	whole, err := os.ReadFile(filepath.Join(dir, fileName))
	if err != nil {
		t.Fatal(err)
	}
	j.Close()
	for at := range whole {
		damaged := bytes.Clone(whole)
		damaged[at] ^= 0x40
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, fileName), damaged, 0o644); err != nil {
			t.Fatal(err)
		}
		j, err := Open(dir, Options{})
		switch {
		case int64(at) < headEnd || int64(at) < durable:
			if !errors.Is(err, ErrDamaged) && !errors.Is(err, ErrNewer) {
				t.Fatalf("byte %d: %v", at, err)
			}
		case err != nil:
			t.Fatalf("byte %d: %v", at, err)
		default:
			want := []string{"1 1 false durable", "1 2 false logged"}
			if int64(at) < logged {
				want = want[:1]
			}
			if got := records(t, j); !slices.Equal(got, want) {
				t.Fatalf("byte %d: got %q, want %q", at, got, want)
			}
		}
		if err == nil {
			j.Close()
		}
	}
}

// Closing in order vouches for the last record, too.
func TestDamageOfTheLastRecordIsNoticedAfterAnOrderlyClose(t *testing.T) {
	dir := t.TempDir()
	j, err := Create(dir, nil, Options{})
	if err != nil {
		t.Fatal(err)
	}
	end := mustAppend(t, j, text(1, 1, "last"))
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, fileName)
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	b[end-1] ^= 1
	if err := os.WriteFile(path, b, 0o644); err != nil {
		t.Fatal(err)
	}
	var damage *DamageError
	if _, err := Open(dir, Options{}); !errors.As(err, &damage) || damage.Path != path {
		t.Fatalf("got %v", err)
	}
}

func TestNewerFormatIsRefused(t *testing.T) {
	dir := t.TempDir()
	j, err := Create(dir, nil, Options{})
	if err != nil {
		t.Fatal(err)
	}
	j.Close()
	path := filepath.Join(dir, fileName)
	b, _ := os.ReadFile(path)
	binary.LittleEndian.PutUint32(b[8:], 2)
	os.WriteFile(path, b, 0o644)
	if _, err := Open(dir, Options{}); !errors.Is(err, ErrNewer) {
		t.Fatalf("got %v", err)
	}
}

// A log that may not grow stays as it was.
func TestNoSpaceChangesNothing(t *testing.T) {
	dir := t.TempDir()
	room := int64(1 << 20)
	full := errors.New("full")
	j, err := Create(dir, nil, Options{Space: func(n int64) error {
		if n > room {
			return full
		}
		return nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	mustAppend(t, j, text(1, 1, "fits"))
	room = 0
	size := j.Size()
	if _, err := j.Append(Piece{Kind: 1, Bytes: 2 << 20}); !errors.Is(err, full) {
		t.Fatalf("got %v", err)
	}
	if err := j.Rotate([]byte("new")); !errors.Is(err, full) {
		t.Fatalf("got %v", err)
	}
	if j.Size() != size || len(records(t, j)) != 1 {
		t.Fatalf("%d bytes, %d before", j.Size(), size)
	}
	if _, err := j.Append(Piece{Kind: 1, Bytes: MaxRecord + 1}); !errors.Is(err, ErrTooLarge) {
		t.Fatalf("got %v", err)
	}
}

func TestReadersChangeNothing(t *testing.T) {
	dir := t.TempDir()
	j, err := Create(dir, nil, Options{})
	if err != nil {
		t.Fatal(err)
	}
	r, err := Open(dir, Options{ReadOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.Append(text(1, 1, "x")); !errors.Is(err, ErrReadOnly) {
		t.Fatalf("got %v", err)
	}
	if err := r.Rotate(nil); !errors.Is(err, ErrReadOnly) {
		t.Fatalf("got %v", err)
	}
	if err := errors.Join(r.Close(), j.Close()); err != nil {
		t.Fatal(err)
	}
}

func TestSyncIsShared(t *testing.T) {
	j, err := Create(t.TempDir(), nil, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	var wg sync.WaitGroup
	var appending sync.Mutex
	for i := range 8 {
		wg.Go(func() {
			for k := range 20 {
				appending.Lock()
				end, err := j.Append(text(1, int64(i*100+k), "x"))
				appending.Unlock()
				if err == nil {
					err = j.Sync(end)
				}
				if err != nil {
					t.Error(err)
				}
				if func() bool { j.mu.Lock(); defer j.mu.Unlock(); return j.synced < end }() {
					t.Error("not durable")
				}
			}
		})
	}
	wg.Wait()
	if got := len(records(t, j)); got != 160 {
		t.Fatalf("%d records", got)
	}
}

func FuzzOpen(f *testing.F) {
	dir := f.TempDir()
	j, err := Create(dir, []byte("head"), Options{})
	if err != nil {
		f.Fatal(err)
	}
	j.Append(text(1, 1, "one"), text(2, 2, "two"))
	j.Close()
	b, err := os.ReadFile(filepath.Join(dir, fileName))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add(b[:len(b)-3])
	f.Fuzz(func(t *testing.T, b []byte) {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, fileName), b, 0o644); err != nil {
			t.Fatal(err)
		}
		j, err := Open(dir, Options{})
		if err != nil {
			return
		}
		defer j.Close()
		records(t, j)
	})
}
