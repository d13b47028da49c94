package store

import (
	"context"
	"encoding/binary"
	"errors"
	"math"
	"path/filepath"
	"slices"
	"testing"

	"github.com/dgraph-io/badger/v4"
)

// lived makes a grouped bank "bank" that was appended to, overwritten and deleted
// from, so that it has every record that a layout can have. The caller closes it.
func lived(t *testing.T) *DB {
	t.Helper()
	ctx := context.Background()
	db, err := Open(ctx, filepath.Join(t.TempDir(), "db"), Options{Create: true})
	if err != nil {
		t.Fatal(err)
	}
	const lists = 4
	assign := byFirst(lists)
	write(t, db, "bank", fullRows(100, 5, 1), WriterOptions{})
	if _, err := db.DeleteRows(ctx, "bank", []int64{2, 50}); err != nil {
		t.Fatal(err)
	}
	if _, err := db.Group(ctx, "bank", []byte("four lists"), assign, GroupOptions{Lists: lists, Basis: []byte("b"), Encode: sign("b")}); err != nil {
		t.Fatal(err)
	}
	write(t, db, "bank", fullRows(30, 5, 2), WriterOptions{Mode: Append, Assign: assign})
	if _, err := db.UpdateRows(ctx, "bank", []int64{0, 7, 120}, gaussian(3, 5, 3), assign); err != nil {
		t.Fatal(err)
	}
	if _, err := db.DeleteRows(ctx, "bank", []int64{7, 8}); err != nil {
		t.Fatal(err)
	}
	verify(t, db)
	return db
}

// Layouts that are well sealed and wrong, each in one way, as only a bug could
// write them: Verify finds them all.
func TestVerifyLayout(t *testing.T) {
	ctx := context.Background()
	whole := lived(t)
	if err := whole.Close(); err != nil {
		t.Fatal(err)
	}
	places := func(change func(s *Snapshot, positions []uint32)) func(*DB, *addition, *generation) error {
		return func(db *DB, a *addition, g *generation) error {
			s := &Snapshot{db: db, g: g}
			positions, err := s.readPlaces(0)
			if err != nil {
				return err
			}
			change(s, positions)
			a.m.layout.places[0] = a.add(kindPlaces, len(positions), encodePlaces(positions))
			return nil
		}
	}
	runs := func(change func(payload []byte) []byte) func(*DB, *addition, *generation) error {
		return func(db *DB, a *addition, g *generation) error {
			var payload []byte
			err := db.readRecord(place{g.bank, 0}, kindRuns, g.blocks[0].runs, func(_ header, p []byte) error {
				payload = slices.Clone(p)
				return nil
			})
			value := append(make([]byte, headerSize), change(payload)...)
			a.m.blocks[0].runs = a.add(kindRuns, g.blocks[0].rows, value)
			return err
		}
	}
	for what, corrupt := range map[string]func(*DB, *addition, *generation) error{
		"two places swapped":      places(func(_ *Snapshot, p []uint32) { p[3], p[4] = p[4], p[3] }),
		"two rows at one place":   places(func(_ *Snapshot, p []uint32) { p[3] = p[4] }),
		"a live row nowhere":      places(func(_ *Snapshot, p []uint32) { p[3] = nowhere }),
		"a deleted row elsewhere": places(func(_ *Snapshot, p []uint32) { p[7] = p[4] }),
		"a place behind all":      places(func(s *Snapshot, p []uint32) { p[3] = uint32(s.g.lanes()) }),
		"a purged row placed":     places(func(_ *Snapshot, p []uint32) { p[2] = 0 }),
		"a row where it was before": places(func(s *Snapshot, p []uint32) {
			err := s.NewReader().Columns(0, func(c *Columns) error { p[0] = uint32(slices.Index(c.Row, 0)); return nil })
			if err != nil {
				t.Fatal(err)
			}
		}),
		"another dead lane": func(db *DB, a *addition, g *generation) error {
			lanes := g.deadLanes.Clone()
			lanes.Remove(lanes.Minimum())
			for i := uint64(0); ; i++ {
				if !g.deadLanes.Contains(i) {
					lanes.Add(i)
					break
				}
			}
			value, err := encodeDeleted(lanes)
			a.m.layout.deadLanes = a.add(kindDeadLanes, 0, value)
			return err
		},
		"a run too late":  runs(func(p []byte) []byte { binary.LittleEndian.PutUint32(p[4:], 1); return p }),
		"runs descending": runs(func(p []byte) []byte { binary.LittleEndian.PutUint32(p[8:], 0); return p }),
		"a run of no list": runs(func(p []byte) []byte {
			binary.LittleEndian.PutUint32(p[len(p)-8:], 4)
			return p
		}),
		"a run behind the block": runs(func(p []byte) []byte {
			binary.LittleEndian.PutUint32(p[len(p)-4:], math.MaxUint16)
			return p
		}),
		"half a run": runs(func(p []byte) []byte { return p[:len(p)-4] }),
		"no runs":    runs(func(p []byte) []byte { return nil }),
	} {
		t.Run(what, func(t *testing.T) {
			db, err := Open(ctx, copyTree(t, whole.Dir()), Options{})
			if err != nil {
				t.Fatal(err)
			}
			s := snapshot(t, db, "bank")
			a := newAddition(db, s.g)
			_, err = a.finish(ctx, s.g, corrupt(db, a, s.g))
			s.Close()
			if err = errors.Join(err, db.Close()); err != nil {
				t.Fatal(err)
			}
			if db, err = Open(ctx, db.Dir(), Options{ReadOnly: true}); err != nil {
				t.Fatal(err)
			}
			defer db.Close()
			report, err := db.Verify(ctx, VerifyOptions{})
			if err != nil || len(report.Problems) == 0 {
				t.Fatalf("nothing is found: %v", err)
			}
			for _, p := range report.Problems {
				t.Log(named(t, p.Err), p.Err)
			}
		})
	}
}

// Counts of a layout that do not fit its blocks are refused before they are
// written.
func TestLayoutCheck(t *testing.T) {
	db := lived(t)
	defer db.Close()
	s := snapshot(t, db, "bank")
	if err := s.g.manifest.check(); err != nil {
		t.Fatal(err)
	}
	for what, change := range map[string]func(l *layout, m *manifest){
		"lists":      func(l *layout, m *manifest) { l.lists = 0 },
		"too many":   func(l *layout, m *manifest) { l.lists = math.MaxUint32 },
		"base":       func(l *layout, m *manifest) { l.base = len(m.blocks) + 1 },
		"purged":     func(l *layout, m *manifest) { l.purged = m.dead + 1 },
		"unpurged":   func(l *layout, m *manifest) { l.purged = -1 },
		"dead lanes": func(l *layout, m *manifest) { l.deadLanes = recordRef{} },
		"opaque":     func(l *layout, m *manifest) { l.opaque = nil },
		"no opaque":  func(l *layout, m *manifest) { l.opaque[0] = recordRef{} },
		"places":     func(l *layout, m *manifest) { l.places = nil },
		"short":      func(l *layout, m *manifest) { l.places[0].bytes -= 4 },
		"no place":   func(l *layout, m *manifest) { l.places[0].number = 0 },
		"runs":       func(l *layout, m *manifest) { m.blocks[1].runs = recordRef{} },
		"rows":       func(l *layout, m *manifest) { m.next++ },
		"deleted":    func(l *layout, m *manifest) { m.dead -= 3 },
	} {
		m := s.g.manifest.clone()
		change(m.layout, m)
		if err := m.check(); err == nil {
			t.Errorf("%s: nothing is found", what)
		}
		// What is encoded is decoded, or refused.
		if h, payload, err := openRecord(m.encode()); err != nil {
			t.Error(err)
		} else if _, err := decodeManifest(h, payload); err == nil {
			t.Errorf("%s: it is decoded", what)
		}
	}
	value := s.g.manifest.encode()
	h, payload, err := openRecord(value)
	if err != nil || h.version != layoutVersion {
		t.Fatal(h, err)
	}
	m, err := decodeManifest(h, payload)
	if err != nil || !slices.Equal(m.encode(), value) {
		t.Errorf("decoding and encoding is not the identity: %v", err)
	}
	for cut := range payload {
		if _, err := decodeManifest(h, payload[:cut]); err == nil {
			t.Errorf("a manifest cut at %d is decoded", cut)
		}
	}
}

// A bank that a newer membank has written is not called damaged, and the others
// are there.
func TestNewerManifest(t *testing.T) {
	db := lived(t)
	write(t, db, "other", Rows{Vectors: gaussian(5, 3, 1)}, WriterOptions{})
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	key := string(manifestKey("bank"))
	withBadger(t, db.Dir(), func(b *badger.DB) {
		var value []byte
		err := b.View(func(txn *badger.Txn) error {
			item, err := txn.Get([]byte(key))
			if err == nil {
				value, err = item.ValueCopy(nil)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		value[4] = layoutVersion + 1
		binary.LittleEndian.PutUint32(value[crcOffset:], recordChecksum(value))
		set(t, b, key, value)
	})
	db, err := Open(context.Background(), db.Dir(), Options{ReadOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.Snapshot("bank"); !errors.Is(err, ErrNewerFormat) || errors.Is(err, ErrCorrupt) {
		t.Error(err)
	}
	if n := all(t, db, "other").Vectors.Rows; n != 5 {
		t.Errorf("%d rows in the other bank", n)
	}
}

// One altered bit of any record that a layout names is a named error, and so is a
// record that is gone.
func TestDamagedLayout(t *testing.T) {
	db := lived(t)
	s := snapshot(t, db, "bank")
	l := s.g.layout
	refs := map[recordKind]recordRef{kindLists: l.opaque[0], kindPlaces: l.places[0], kindDeadLanes: l.deadLanes, kindRuns: s.g.blocks[1].runs}
	s.Close()
	dir := db.Dir()
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	for kind, ref := range refs {
		for _, gone := range []bool{false, true} {
			damaged := copyTree(t, dir)
			withBadger(t, damaged, func(b *badger.DB) {
				err := b.Update(func(txn *badger.Txn) error {
					item, err := txn.Get(recordKey(ref.number))
					if err != nil {
						return err
					}
					if gone {
						return txn.Delete(recordKey(ref.number))
					}
					value, err := item.ValueCopy(nil)
					if err != nil {
						return err
					}
					value[len(value)-1] ^= 2
					return txn.Set(recordKey(ref.number), value)
				})
				if err != nil {
					t.Fatal(err)
				}
			})
			db, err := Open(context.Background(), damaged, Options{ReadOnly: true})
			if err != nil {
				t.Fatal(err)
			}
			report, err := db.Verify(context.Background(), VerifyOptions{})
			if err != nil || len(report.Problems) == 0 {
				t.Errorf("%v gone %v: nothing is found: %v", kind, gone, err)
			}
			for _, p := range report.Problems {
				named(t, p.Err)
				if p.Bank != "bank" {
					t.Errorf("%v: bank %q", kind, p.Bank)
				}
			}
			if kind == kindDeadLanes {
				if _, err := db.Snapshot("bank"); !errors.Is(err, ErrCorrupt) {
					t.Errorf("a bank whose dead lanes are not known is read: %v", err)
				}
			}
			db.Close()
		}
	}
}
