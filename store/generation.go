package store

import (
	"errors"
	"fmt"
	"sync"

	"github.com/RoaringBitmap/roaring/v2/roaring64"
)

// generation is a manifest in memory with the small records it names. It is
// immutable but for pins and retired, which DB.mu guards, and the runs kept.
type generation struct {
	*manifest
	deadRows  *roaring64.Bitmap
	deadLanes *roaring64.Bitmap // positions of deleted and superseded rows; without a layout it is deadRows
	classes   *classes
	deadIn    []uint32 // dead lanes of each block; nil when there are none
	pins      int      // snapshots that read it
	retired   bool     // no longer the bank's current generation

	runsMu sync.Mutex
	runs   map[int][]Run // of the blocks that were asked for
}

// loadGeneration reads the manifest that the state names, and the small records
// it names in turn.
func (db *DB) loadGeneration(entry outsideBank) (*generation, error) {
	g := &generation{}
	newer := uint8(0)
	err := db.read(manifestKey(entry.Name), func(value []byte) error {
		if newer = laterVersion(value); newer > 0 {
			return nil
		}
		h, payload, err := checkRecord(value, kindManifest, recordRef{}, true)
		if err == nil && (h.number != entry.Generation || h.crc != entry.Digest) {
			err = fmt.Errorf("it is generation %d with checksum %08x, expected %d with %08x", h.number, h.crc, entry.Generation, entry.Digest)
		}
		if err == nil {
			g.manifest, err = decodeManifest(h, payload)
		}
		if err == nil && (g.bank != entry.Name || g.next-g.dead != entry.Rows) {
			err = fmt.Errorf("it is of bank %q with %d rows, expected %d", g.bank, g.next-g.dead, entry.Rows)
		}
		if err != nil {
			return &unreadable{err.Error()}
		}
		return nil
	})
	if newer > 0 {
		return nil, fmt.Errorf("bank %q: its manifest has format version %d, this membank reads up to %d: %w", entry.Name, newer, layoutVersion, ErrNewerFormat)
	}
	var u *unreadable
	if errors.As(err, &u) {
		return nil, &CorruptError{Bank: entry.Name, Block: -1, Record: "manifest", Reason: u.reason}
	}
	if err != nil {
		return nil, err
	}
	return g, db.complete(g)
}

// complete reads the small records that a generation keeps in memory.
func (db *DB) complete(g *generation) error {
	p := place{bank: g.bank, block: -1}
	g.deadRows, g.classes = roaring64.New(), newClasses()
	if g.deleted.number != 0 {
		err := db.readRecord(p, kindDeleted, g.deleted, func(_ header, payload []byte) (err error) {
			g.deadRows, err = decodeBitmap(payload)
			if err == nil && (g.deadRows.GetCardinality() != uint64(g.dead) || g.deadRows.Maximum() >= uint64(g.next)) {
				err = fmt.Errorf("%d rows up to %d, expected %d below %d", g.deadRows.GetCardinality(), g.deadRows.Maximum(), g.dead, g.next)
			}
			return err
		})
		if err != nil {
			return err
		}
	}
	if g.manifest.classes.number != 0 {
		err := db.readRecord(p, kindClasses, g.manifest.classes, func(_ header, payload []byte) (err error) {
			g.classes, err = decodeClasses(payload)
			if err == nil && g.classes.labels.GetCardinality() != uint64(g.classCount) {
				err = fmt.Errorf("%d classes, expected %d", g.classes.labels.GetCardinality(), g.classCount)
			}
			return err
		})
		if err != nil {
			return err
		}
	}
	if err := db.completeLayout(p, g); err != nil {
		return err
	}
	g.countDead()
	return nil
}

// completeLayout reads which lanes are dead.
func (db *DB) completeLayout(p place, g *generation) error {
	if g.layout == nil {
		g.deadLanes = g.deadRows
		return nil
	}
	g.deadLanes = roaring64.New()
	if g.layout.deadLanes.number == 0 {
		return nil
	}
	return db.readRecord(p, kindDeadLanes, g.layout.deadLanes, func(_ header, payload []byte) (err error) {
		g.deadLanes, err = decodeBitmap(payload)
		want := uint64(g.lanes() - (g.next - g.dead))
		if err == nil && (g.deadLanes.GetCardinality() != want || g.deadLanes.Maximum() >= uint64(g.lanes())) {
			err = fmt.Errorf("%d lanes up to %d, expected %d below %d", g.deadLanes.GetCardinality(), g.deadLanes.Maximum(), want, g.lanes())
		}
		return err
	})
}

// countDead counts the dead lanes of each block; deadLanes is set.
func (g *generation) countDead() {
	g.deadIn = nil
	if g.deadLanes == nil || g.deadLanes.IsEmpty() {
		return
	}
	g.deadIn = make([]uint32, len(g.blocks))
	below := uint64(0)
	for i, r := range g.blocks {
		upTo := g.deadLanes.Rank(uint64(r.first) + uint64(r.rows) - 1)
		g.deadIn[i] = uint32(upTo - below)
		below = upTo
	}
}

func (g *generation) info() Info { return g.manifest.info(g.classes.names) }
