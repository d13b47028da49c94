package memory

import (
	"errors"
	"testing"

	"membank/simd"
	"membank/store"
	"membank/store/journal"
)

// An update that the disk has no room for did not happen, in memory or on disk; the
// next one with room takes with it what was written in memory only.
func TestFullDiskChangesNothing(t *testing.T) {
	b := mustCreate(t, database(t), "slots", Config{Kind: KindSlots, Rows: 100, Views: []View{{Dim: 64}}}, CreateOptions{})
	if err := b.log.Close(); err != nil {
		t.Fatal(err)
	}
	full := false
	var err error
	b.log, err = journal.Open(b.dir(), journal.Options{Space: func(int64) error {
		if full {
			return store.ErrNoSpace
		}
		return nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	s, _ := b.Slots()
	r := generator(1)
	ids := make([]int64, 100)
	for i := range ids {
		ids[i] = int64(i)
	}
	if _, err := s.Update(background, ids[:3], []simd.Matrix{random(r, 3, 64)}, UpdateOptions{Durability: Memory}); err != nil {
		t.Fatal(err)
	}
	full = true
	before, failed := contentsOf(t, b), 0
	for range 1000 { // the room that was granted before runs out
		_, err := s.Update(background, ids, []simd.Matrix{random(r, 100, 64)}, UpdateOptions{})
		if err == nil {
			before = contentsOf(t, b)
			continue
		}
		if !errors.Is(err, store.ErrNoSpace) {
			t.Fatal(err)
		}
		if failed++; failed == 3 {
			break
		}
	}
	if failed != 3 || !contentsOf(t, b).same(before) {
		t.Fatalf("%d updates failed, and the bank changed", failed)
	}
	if _, err := b.Checkpoint(background, 0); !errors.Is(err, store.ErrNoSpace) || !contentsOf(t, b).same(before) {
		t.Fatalf("checkpoint on a full disk: %v", err)
	}
	if _, err := s.Update(background, ids[:3], []simd.Matrix{random(r, 3, 64)}, UpdateOptions{Durability: Memory}); err != nil {
		t.Fatal(err)
	}
	full = false
	if _, err := s.Update(background, ids[50:51], []simd.Matrix{random(r, 1, 64)}, UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	want := contentsOf(t, b)
	if !contentsOf(t, reopen(t, b)).same(want) {
		t.Error("the reopened bank differs")
	}
}

// A bank of a database that is open for reading can be read, and nothing else.
func TestReadOnlyBank(t *testing.T) {
	dir := t.TempDir() + "/db"
	db, err := store.Open(background, dir, store.Options{Create: true})
	if err != nil {
		t.Fatal(err)
	}
	b, err := Create(background, db, "run/slots", Config{Kind: KindSlots, Rows: 9, Views: []View{{Dim: 3}}}, CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Create(background, db, "run/slots", b.Config(), CreateOptions{}); !errors.Is(err, journal.ErrBusy) && !errors.Is(err, ErrExists) {
		t.Errorf("a second bank of that name: %v", err)
	}
	want := contentsOf(t, b)
	if err := errors.Join(b.Close(), db.Close()); err != nil {
		t.Fatal(err)
	}
	if db, err = store.Open(background, dir, store.Options{ReadOnly: true}); err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if names, err := List(db, "run"); err != nil || len(names) != 1 || names[0] != "run/slots" {
		t.Errorf("list %v, %v", names, err)
	}
	if b, err = Open(background, db, "run/slots"); err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	if !contentsOf(t, b).same(want) {
		t.Error("it differs")
	}
	s, _ := b.Slots()
	for _, d := range Durabilities {
		if _, err := s.Update(background, []int64{0}, []simd.Matrix{simd.NewMatrix(1, 3)}, UpdateOptions{Durability: d}); !errors.Is(err, store.ErrReadOnly) {
			t.Errorf("update %s: %v", d, err)
		}
	}
	if _, err := b.Checkpoint(background, 0); !errors.Is(err, store.ErrReadOnly) {
		t.Errorf("checkpoint: %v", err)
	}
	if _, err := Open(background, db, "other"); !errors.Is(err, ErrNone) {
		t.Errorf("no such bank: %v", err)
	}
}

// Something that is no checkpoint is never overwritten by one.
func TestCheckpointsTakeNobodysPlace(t *testing.T) {
	db := database(t)
	w, err := db.NewWriter(background, "slots/step-3", 2, store.WriterOptions{})
	if err == nil {
		err = w.Append(background, store.Rows{Vectors: matrix(2, 1, 2)})
	}
	if err == nil {
		_, err = w.Commit(background)
	}
	if err != nil {
		t.Fatal(err)
	}
	b := mustCreate(t, db, "slots", Config{Kind: KindSlots, Rows: 4, Views: []View{{Dim: 2}}}, CreateOptions{})
	s, _ := b.Slots()
	mustUpdate(t, s, []int64{1}, matrix(2, 1, 0), UpdateOptions{Step: 3})
	if _, err := b.Checkpoint(background, 0); !errors.Is(err, store.ErrBankExists) {
		t.Fatalf("got %v", err)
	}
	if _, err := b.Checkpoint(background, 2); !errors.Is(err, ErrStep) {
		t.Errorf("a step that has passed: %v", err)
	}
	first, err := b.Checkpoint(background, 4)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := b.Checkpoint(background, 0); err != nil || again.Time != first.Time {
		t.Errorf("the same state again: %v, %v", again, err)
	}
	mustUpdate(t, s, []int64{2}, matrix(2, 1, 0), UpdateOptions{Step: 4})
	if _, err := b.Checkpoint(background, 0); !errors.Is(err, ErrStep) {
		t.Errorf("another state of the same step: %v", err)
	}
	if err := b.Forget(background, 4); !errors.Is(err, ErrStep) {
		t.Errorf("forget what the log applies to: %v", err)
	}
	if _, err := b.Checkpoint(background, 5); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Restore(background, 4); err != nil {
		t.Fatal(err)
	}
	// Training goes on from step 4 and comes to another step 5.
	mustUpdate(t, s, []int64{0}, matrix(2, 0, 1), UpdateOptions{Step: 5})
	want := contentsOf(t, b)
	if _, err := b.Checkpoint(background, 5); err != nil {
		t.Fatal(err)
	}
	b = reopen(t, b)
	if !contentsOf(t, b).same(want) {
		t.Error("the new step 5 differs")
	}
	if err := b.Forget(background, 4); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Restore(background, 4); !errors.Is(err, ErrNoCheckpoint) {
		t.Errorf("restore of what was forgotten: %v", err)
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	if err := Remove(background, db, "slots"); err != nil {
		t.Fatal(err)
	}
	infos, err := db.Banks("")
	if err != nil || len(infos) != 1 || infos[0].Bank != "slots/step-3" {
		t.Errorf("left: %v, %v", infos, err)
	}
}
