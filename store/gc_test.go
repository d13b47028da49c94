package store

import (
	"context"
	"testing"
)

// Space of replaced and removed banks goes back to the disk when the database is
// closed, without losing what is alive.
func TestCloseGivesSpaceBack(t *testing.T) {
	db := create(t)
	keep := Rows{Vectors: gaussian(3000, 256, 1), Keys: keysOf(3000), Labels: make([]int64, 3000)}
	big := Rows{Vectors: gaussian(40_000, 512, 2)} // 80 MB
	write(t, db, "keep", keep, WriterOptions{})
	write(t, db, "big", big, WriterOptions{})
	write(t, db, "big", big, WriterOptions{Mode: Replace})
	if _, err := db.RemoveBank(context.Background(), "big"); err != nil {
		t.Fatal(err)
	}
	db = reopen(t, db, Options{ReadOnly: true})
	if n := filesSize(db.Dir()); n > 24<<20 {
		t.Errorf("%d MiB on disk for 3 MiB of rows", n>>20)
	}
	equalRows(t, all(t, db, "keep"), keep)
}

func TestCompact(t *testing.T) {
	db := create(t)
	keep := Rows{Vectors: gaussian(3000, 256, 1), Keys: keysOf(3000), Labels: make([]int64, 3000)}
	write(t, db, "gone", Rows{Vectors: gaussian(8000, 512, 2)}, WriterOptions{})
	write(t, db, "keep", keep, WriterOptions{})
	pinned := snapshot(t, db, "gone")
	if _, err := db.RemoveBank(context.Background(), "gone"); err != nil {
		t.Fatal(err)
	}
	db = reopenPinned(t, db, pinned)
	freed, err := db.Compact(context.Background())
	if err != nil || freed < 10<<20 {
		t.Errorf("freed %d bytes: %v", freed, err)
	}
	equalRows(t, all(t, db, "keep"), keep)
	write(t, db, "more", keep, WriterOptions{})
	db = reopen(t, db, Options{})
	equalRows(t, all(t, db, "keep"), keep)
	equalRows(t, all(t, db, "more"), keep)
}

// reopenPinned first proves that the snapshot of a removed bank still reads.
func reopenPinned(t *testing.T, db *DB, s *Snapshot) *DB {
	t.Helper()
	r := s.NewReader()
	for block := range s.Blocks() {
		if err := r.View(block, func(*Block) error { return nil }); err != nil {
			t.Fatal(err)
		}
	}
	s.Close()
	report, err := db.Verify(context.Background(), VerifyOptions{})
	if err != nil || report.Orphans != 0 {
		t.Errorf("%d orphans after the last snapshot closed: %v", report.Orphans, err)
	}
	return reopen(t, db, Options{})
}
