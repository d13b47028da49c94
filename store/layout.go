package store

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"
)

// A bank is written in row order. Grouping it by list, overwriting rows and
// dropping deleted ones all part a row's number from where it stands, and the
// manifest gets a layout, which says so:
//
//	row      what the user knows; never changes, is never used again
//	position where a lane stands: the block's first, plus the lane
//	places   row → position, records of placeRows rows each (places.go)
//	runs     of each block of a grouped bank: which lanes are of which list (runs.go)
//
// A lane is live if its row is placed there and not deleted. The positions of all
// other lanes, those of deleted rows and those that a later write of the same row
// has superseded, are kept as a bitmap, so that a reader need not ask places.
// Deleted rows lose their lanes when their block is written again: they are
// purged, and have no place from then on.
type layout struct {
	lists     int   // 0: the bank is flat
	base      int   // blocks that the last Group or Fold wrote; the others are deltas
	purged    int64 // deleted rows without a lane
	deadLanes recordRef
	opaque    []recordRef // pieces of the lists record
	places    []recordRef
}

// append encodes a layout behind the manifest's block table.
func (l *layout) append(b []byte, blocks []blockRef) []byte {
	b = binary.LittleEndian.AppendUint32(b, uint32(l.lists))
	b = binary.LittleEndian.AppendUint32(b, uint32(l.base))
	b = binary.LittleEndian.AppendUint64(b, uint64(l.purged))
	b = appendRef(b, l.deadLanes)
	for _, refs := range [][]recordRef{l.opaque, l.places} {
		b = binary.LittleEndian.AppendUint32(b, uint32(len(refs)))
		for _, ref := range refs {
			b = appendRef(b, ref)
		}
	}
	if l.lists > 0 {
		for _, r := range blocks {
			b = appendRef(b, r.runs)
		}
	}
	return b
}

func decodeLayout(f *fields, blocks []blockRef) *layout {
	l := &layout{lists: int(f.u32()), base: int(f.u32()), purged: int64(f.u64()), deadLanes: f.ref()}
	for _, refs := range []*[]recordRef{&l.opaque, &l.places} {
		for range f.count(refSize) {
			*refs = append(*refs, f.ref())
		}
	}
	if l.lists > 0 {
		for i := range blocks {
			blocks[i].runs = f.ref()
		}
	}
	return l
}

// check returns what is wrong with a layout in a manifest that is otherwise right.
func (l *layout) check(m *manifest) error {
	lanes, live := m.lanes(), m.next-m.dead
	switch {
	case l.lists > math.MaxInt32:
		return fmt.Errorf("%d lists", l.lists)
	case l.base > len(m.blocks):
		return fmt.Errorf("%d blocks, %d of them written at once", len(m.blocks), l.base)
	case l.purged < 0 || l.purged > m.dead:
		return fmt.Errorf("%d deleted rows, %d of them purged", m.dead, l.purged)
	case lanes > maxLanes:
		return fmt.Errorf("%d lanes, at most %d can be told apart", lanes, int64(maxLanes))
	case lanes < m.next-l.purged:
		return fmt.Errorf("%d rows have lanes, but its blocks hold %d", m.next-l.purged, lanes)
	case (lanes > live) != (l.deadLanes.number != 0):
		return fmt.Errorf("%d live rows in %d lanes and record %d of dead ones", live, lanes, l.deadLanes.number)
	case (l.lists > 0) != (len(l.opaque) > 0):
		return fmt.Errorf("%d lists and %d records of them", l.lists, len(l.opaque))
	case int64(len(l.places)) != (m.next+placeRows-1)/placeRows:
		return fmt.Errorf("%d rows and %d records of places", m.next, len(l.places))
	}
	for i, ref := range l.opaque {
		if ref.number == 0 {
			return fmt.Errorf("record %d of the lists is not there", i)
		}
	}
	for i, ref := range l.places {
		if rows := placesIn(i, m.next); ref.number == 0 || ref.bytes != placesBytes(rows) {
			return fmt.Errorf("places of %d rows have %d bytes", rows, ref.bytes)
		}
	}
	for i, r := range m.blocks {
		if (l.lists > 0) != (r.runs.number != 0) {
			return fmt.Errorf("block %d has runs %d in a bank of %d lists", i, r.runs.number, l.lists)
		}
	}
	return nil
}

func (l *layout) refs(fn func(kind recordKind, ref recordRef)) {
	if l.deadLanes.number != 0 {
		fn(kindDeadLanes, l.deadLanes)
	}
	for _, ref := range l.opaque {
		fn(kindLists, ref)
	}
	for _, ref := range l.places {
		fn(kindPlaces, ref)
	}
}

func (l *layout) clone() *layout {
	if l == nil {
		return nil
	}
	c := *l
	c.opaque, c.places = slices.Clone(l.opaque), slices.Clone(l.places)
	return &c
}

// listCount is 0 for a flat bank.
func (m *manifest) listCount() int {
	if m.layout == nil {
		return 0
	}
	return m.layout.lists
}

// deltaLanes is how many lanes were written since the bank was last whole.
func (m *manifest) deltaLanes() int64 {
	if m.layout == nil || m.layout.base == len(m.blocks) {
		return 0
	}
	return m.lanes() - m.blocks[m.layout.base].first
}
