package store

import (
	"encoding/binary"
	"fmt"
)

// checkLayout checks what a layout names beside blocks, and returns whether
// places can be relied on.
func (v *verifier) checkLayout(s *Snapshot) (whole bool) {
	g, l := s.g, s.g.layout
	if err := v.again(func() error { _, err := s.Lists(); return err }, l.opaque...); err != nil {
		v.add(g.bank, -1, err)
	}
	whole = true
	purged := int64(0)
	for i, ref := range l.places {
		err := v.again(func() error {
			return s.viewPlaces(i, func(payload []byte) error {
				n, err := checkPlaces(g, int64(i)*placeRows, payload)
				purged += n
				return err
			})
		}, ref)
		if err != nil {
			v.add(g.bank, -1, err)
			whole = false
		}
	}
	if whole && purged != l.purged {
		v.add(g.bank, -1, place{g.bank, -1}.damaged("places", fmt.Sprintf("%d rows have none, expected %d", purged, l.purged)))
	}
	return whole
}

// checkPlaces checks the places of the rows from first on and counts those that
// have none.
func checkPlaces(g *generation, first int64, payload []byte) (purged int64, err error) {
	lanes := g.lanes()
	for i := range len(payload) / 4 {
		row, p := first+int64(i), binary.LittleEndian.Uint32(payload[4*i:])
		switch {
		case p != nowhere && int64(p) >= lanes:
			return 0, fmt.Errorf("row %d stands at %d of %d", row, p, lanes)
		case p != nowhere:
		case !g.deadRows.Contains(uint64(row)):
			return 0, fmt.Errorf("row %d is alive and stands nowhere", row)
		default:
			purged++
		}
	}
	return purged, nil
}

// placed checks that the lanes of a block, whose columns are loaded, are dead if
// their row is deleted or stands elsewhere, and only then. It returns how many
// rows stand here: over all blocks these must be all rows that are not purged, so
// that each stands in one lane.
func (v *verifier) placed(r *Reader, block int) (here int64, err error) {
	g, c := r.s.g, &r.columns
	p := place{g.bank, block}
	name := fmt.Sprintf("columns %d", g.blocks[block].columns.number)
	for _, row := range c.Row {
		if row < 0 || row >= g.next {
			return 0, p.damaged(name, fmt.Sprintf("row %d of %d", row, g.next))
		}
	}
	at, err := r.s.positions(c.Row)
	if err != nil {
		return 0, err
	}
	for i, row := range c.Row {
		stands := at[i] == g.blocks[block].first+int64(i)
		if stands {
			here++
		}
		if dead := !stands || g.deadRows.Contains(uint64(row)); dead != c.Dead[i] {
			return here, p.damaged(name, fmt.Sprintf("row %d in lane %d: dead is %v; it stands at %d, deleted is %v",
				row, i, c.Dead[i], at[i], g.deadRows.Contains(uint64(row))))
		}
	}
	return here, nil
}
