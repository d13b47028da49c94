package store

import (
	"context"
	"fmt"

	"github.com/RoaringBitmap/roaring/v2/roaring64"
)

// RemoveBank deletes a bank and returns what it was. Snapshots that are open go
// on reading it. A bank whose manifest is damaged can be removed too; its Info is
// then little more than the name. Errors: ErrNoBank, ErrBusy, ErrReadOnly.
func (db *DB) RemoveBank(ctx context.Context, bank string) (Info, error) {
	if err := ctx.Err(); err != nil {
		return Info{}, err
	}
	info := Info{Bank: bank}
	g, err := db.reserve(bank, Replace)
	if err != nil {
		return Info{}, err
	}
	defer db.release(bank)
	if g != nil {
		info = g.info()
		defer (&Snapshot{db: db, g: g}).Close()
	} else {
		db.mu.Lock()
		_, known := db.state.find(bank)
		db.mu.Unlock()
		if !known {
			return Info{}, fmt.Errorf("%w: %q", ErrNoBank, bank)
		}
	}
	return info, db.flip(bank, nil, change{})
}

// DeleteRows marks rows as deleted and returns how many were alive until then;
// numbers that are absent or deleted already are passed over. Row numbers of the
// others do not change, and a deleted row's number is never used again; its key
// may be. Errors: ErrNoBank, ErrBusy, ErrReadOnly, ErrNoSpace.
func (db *DB) DeleteRows(ctx context.Context, bank string, rows []int64) (deleted int64, err error) {
	g, err := db.reserve(bank, Append)
	if err != nil {
		return 0, err
	}
	defer db.release(bank)
	s := &Snapshot{db: db, g: g}
	defer s.Close()
	dead := g.deadRows.Clone()
	for _, row := range rows {
		if s.Alive(row) {
			dead.Add(uint64(row))
		}
	}
	deleted = int64(dead.GetCardinality()) - g.dead
	if deleted == 0 {
		return 0, nil
	}
	lanes := dead
	if g.layout != nil {
		gone := dead.Clone()
		gone.AndNot(g.deadRows)
		at, err := s.positions(numbers(gone))
		if err != nil {
			return 0, err
		}
		lanes = g.deadLanes.Clone()
		for _, position := range at {
			lanes.Add(uint64(position))
		}
	}
	m := g.manifest.clone()
	m.generation++
	m.dead = int64(dead.GetCardinality())
	next := &generation{manifest: m, deadRows: dead, deadLanes: lanes, classes: g.classes}
	c := change{deleted: true, lanes: true}
	if g.classCount > 0 {
		c.classes = true
		next.classes = g.classes.clone()
		if next.classes.labels, err = db.liveLabels(ctx, next); err != nil {
			return 0, err
		}
		m.classCount = int(next.classes.labels.GetCardinality())
	}
	return deleted, db.flip(bank, next, c)
}

func numbers(set *roaring64.Bitmap) []int64 {
	rows := make([]int64, 0, set.GetCardinality())
	for it := set.Iterator(); it.HasNext(); {
		rows = append(rows, int64(it.Next()))
	}
	return rows
}

// liveLabels returns the labels that rows of a generation still have, as they are
// kept in classes.
func (db *DB) liveLabels(ctx context.Context, g *generation) (*roaring64.Bitmap, error) {
	g.countDead()
	labels, err := (&Snapshot{db: db, g: g}).Labels(ctx)
	if err != nil {
		return nil, err
	}
	set := roaring64.New()
	last := int64(NoLabel)
	for _, label := range labels {
		if label != NoLabel && label != last {
			set.Add(labelBit(label))
			last = label
		}
	}
	return set, nil
}
