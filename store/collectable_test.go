package store

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
)

// Damage to bytes that no bank needs must not cost a compaction what lies behind
// them, in the newest log or in an older one.
func TestCompactDoesNotSpreadDamage(t *testing.T) {
	for _, where := range []string{"newest", "older"} {
		t.Run(where, func(t *testing.T) {
			ctx := context.Background()
			db := create(t)
			dir := db.Dir()
			// A bank that is removed, then one that stays, in one log.
			rows := Rows{Vectors: gaussian(4000, 64, 1)}
			write(t, db, "gone", rows, WriterOptions{})
			kept := Rows{Vectors: gaussian(500, 64, 2)}
			write(t, db, "kept", kept, WriterOptions{})
			if _, err := db.RemoveBank(ctx, "gone"); err != nil {
				t.Fatal(err)
			}
			if err := db.Close(); err != nil {
				t.Fatal(err)
			}
			log := largest(t, filesOf(t, dir, ".vlog"))
			flip(t, log, 20000) // in the first block of the bank that is gone
			if where == "older" {
				db = open(t, dir, Options{})
				write(t, db, "more", Rows{Vectors: gaussian(10, 64, 3)}, WriterOptions{})
				if err := db.Close(); err != nil {
					t.Fatal(err)
				}
			}
			db = open(t, dir, Options{})
			_, err := db.Compact(ctx)
			if err != nil && !errors.Is(err, ErrCorrupt) {
				t.Fatal(err)
			}
			t.Log("Compact:", err)
			verify(t, db)
			got := all(t, db, "kept")
			kept.Keys, kept.Labels = got.Keys, got.Labels
			equalRows(t, got, kept)
		})
	}
}

// The torn entry of a killed writer is no reason not to compact.
func TestATornTailIsCollectable(t *testing.T) {
	db := create(t)
	dir := db.Dir()
	write(t, db, "a", Rows{Vectors: gaussian(500, 64, 2)}, WriterOptions{})
	if err := db.collectable(); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	log := largest(t, filesOf(t, dir, ".vlog"))
	f, err := os.OpenFile(log, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Write([]byte{0, 0, 17, 0x80, 0x80, 4, 0, 'r', 1, 2, 3}); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(dir, closingName)); err != nil {
		t.Fatal(err)
	}
	db = open(t, dir, Options{})
	if err := db.collectable(); err != nil {
		t.Fatal(err)
	}
	flip(t, log, 30) // its first entry, which is needed
	if err := db.collectable(); !errors.Is(err, ErrCorrupt) {
		t.Fatal(err)
	}
	flip(t, log, 30)
}
