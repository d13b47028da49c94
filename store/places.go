package store

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"math"
	"slices"
)

// A places record says where placeRows rows stand, in row order: u32 position, or
// nowhere for a purged row. Record i of a bank begins with row i·placeRows. An
// overwritten row costs a new record of 256 KiB at most, and a bank of a million
// rows has 16 of them.
const (
	placeRows = 1 << 16
	nowhere   = math.MaxUint32
	maxLanes  = nowhere // positions are 0..maxLanes-1
)

// placesIn is how many rows record i has in a bank of next rows.
func placesIn(i int, next int64) int { return int(min(next-int64(i)*placeRows, placeRows)) }

func placesBytes(rows int) uint64 { return headerSize + 4*uint64(rows) }

func encodePlaces(positions []uint32) []byte {
	b := make([]byte, headerSize, placesBytes(len(positions)))
	for _, p := range positions {
		b = binary.LittleEndian.AppendUint32(b, p)
	}
	return b
}

// viewPlaces calls fn with the payload of places record i.
func (s *Snapshot) viewPlaces(i int, fn func(payload []byte) error) error {
	rows := placesIn(i, s.g.next)
	return s.db.readRecord(place{s.g.bank, -1}, kindPlaces, s.g.layout.places[i], func(h header, payload []byte) error {
		if int(h.rows) != rows || len(payload) != 4*rows {
			return fmt.Errorf("it has %d places, expected %d", h.rows, rows)
		}
		return fn(payload)
	})
}

// positions returns where rows stand, -1 for purged ones. Rows are in 0..next-1,
// in any order; each places record that is concerned is read once.
func (s *Snapshot) positions(rows []int64) ([]int64, error) {
	if s.g.layout == nil {
		return slices.Clone(rows), nil
	}
	at := make([]int64, len(rows))
	order := make([]int, len(rows))
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(a, b int) int { return cmp.Compare(rows[a], rows[b]) })
	lanes := s.g.lanes()
	for len(order) > 0 {
		i := int(rows[order[0]] / placeRows)
		err := s.viewPlaces(i, func(payload []byte) error {
			for len(order) > 0 && int(rows[order[0]]/placeRows) == i {
				row := rows[order[0]]
				p := binary.LittleEndian.Uint32(payload[4*(row%placeRows):])
				at[order[0]] = int64(p)
				if p == nowhere {
					at[order[0]] = -1
				} else if int64(p) >= lanes {
					return fmt.Errorf("row %d stands at %d of %d", row, p, lanes)
				}
				order = order[1:]
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return at, nil
}

// blockOf returns the block and lane of a row that has a place.
func (s *Snapshot) blockOf(row int64) (block, lane int, err error) {
	at, err := s.positions([]int64{row})
	if err != nil {
		return 0, 0, err
	}
	if at[0] < 0 {
		return 0, 0, place{s.g.bank, -1}.damaged("places", fmt.Sprintf("row %d has none", row))
	}
	block = s.g.blockAt(at[0])
	return block, int(at[0] - s.g.blocks[block].first), nil
}

// readPlaces returns the places of the rows of record i as numbers; of a bank in
// row order they are the row numbers.
func (s *Snapshot) readPlaces(i int) ([]uint32, error) {
	positions := make([]uint32, placesIn(i, s.g.next))
	if s.g.layout == nil {
		for k := range positions {
			positions[k] = uint32(i*placeRows + k)
		}
		return positions, nil
	}
	err := s.viewPlaces(i, func(payload []byte) error {
		for k := range positions {
			positions[k] = binary.LittleEndian.Uint32(payload[4*k:])
		}
		return nil
	})
	return positions, err
}

// moves collects where rows go that are written in addition to a bank: rows of its
// own, and new ones behind them, which come in order but for those of one block.
// It keeps 16 bytes for each of the bank's own and one record of the new.
type moves struct {
	s     *Snapshot
	add   func(value []byte, rows int) (recordRef, error)
	own   []move // of rows below start
	refs  []recordRef
	start int64    // first row that has no record among refs
	tail  []uint32 // places of the rows from start on
}

type move struct {
	row      int64
	position uint32
}

// newMoves begins with the places that the bank has. add writes a record.
func newMoves(s *Snapshot, add func(value []byte, rows int) (recordRef, error)) (*moves, error) {
	m := &moves{s: s, add: add, start: s.g.next / placeRows * placeRows}
	whole := int(m.start / placeRows)
	if s.g.layout != nil {
		m.refs = slices.Clone(s.g.layout.places[:whole])
	} else {
		m.refs = make([]recordRef, whole)
	}
	var err error
	if s.g.next > m.start {
		m.tail, err = s.readPlaces(whole)
	}
	return m, err
}

// move puts a row at a position, nowhere if it is purged.
func (m *moves) move(row int64, position uint32) {
	if row < m.start {
		m.own = append(m.own, move{row, position})
		return
	}
	for int64(len(m.tail)) <= row-m.start {
		m.tail = append(m.tail, nowhere)
	}
	m.tail[row-m.start] = position
}

// block moves all rows of a block that begins at first, and writes what is full.
func (m *moves) block(first int64, rows []int64) error {
	if first+int64(len(rows)) > maxLanes {
		return fmt.Errorf("bank %q: its blocks would hold more than %d rows, overwritten ones included", m.s.g.bank, int64(maxLanes))
	}
	for lane, row := range rows {
		m.move(row, uint32(first)+uint32(lane))
	}
	for len(m.tail) > placeRows {
		if err := m.flush(placeRows); err != nil {
			return err
		}
	}
	return nil
}

// flush writes the first n places of the tail.
func (m *moves) flush(n int) error {
	ref, err := m.add(encodePlaces(m.tail[:n]), n)
	if err != nil {
		return err
	}
	m.refs = append(m.refs, ref)
	m.tail = append(m.tail[:0], m.tail[n:]...)
	m.start += int64(n)
	return nil
}

// finish writes the rest and returns the references of all places.
func (m *moves) finish() ([]recordRef, error) {
	slices.SortStableFunc(m.own, func(a, b move) int { return cmp.Compare(a.row, b.row) })
	own := m.own
	for i := range m.refs {
		n := 0
		for n < len(own) && own[n].row/placeRows == int64(i) {
			n++
		}
		some := own[:n]
		own = own[n:]
		if n == 0 && m.refs[i].number != 0 {
			continue
		}
		positions, err := m.s.readPlaces(i)
		if err != nil {
			return nil, err
		}
		for _, v := range some {
			positions[v.row%placeRows] = v.position
		}
		if m.refs[i], err = m.add(encodePlaces(positions), len(positions)); err != nil {
			return nil, err
		}
	}
	if len(m.tail) > 0 {
		if err := m.flush(len(m.tail)); err != nil {
			return nil, err
		}
	}
	return m.refs, nil
}
