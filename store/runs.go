package store

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// A grouped bank's block holds its rows sorted by list, and a runs record says
// where each list that it has begins: u32 list, u32 first lane, ascending in both.
// The last run ends with the last row. Lists are not padded to whole panels: a
// search reads the panels that a run touches.

// Run is the lanes of one list in one block.
type Run struct {
	List     int32
	From, To int32 // lanes [From, To)
}

// Runs returns the runs of a block in lane order; together they are all its rows,
// dead ones included. A block of a flat bank is one run of list 0. The slice is
// shared and must not be changed. Runs are read once and kept, some 12 bytes a
// list; it is safe for concurrent use and must not be called from within View.
func (s *Snapshot) Runs(block int) ([]Run, error) {
	if err := s.check(block); err != nil {
		return nil, err
	}
	ref := s.g.blocks[block]
	if ref.runs.number == 0 {
		return []Run{{0, 0, int32(ref.rows)}}, nil
	}
	s.g.runsMu.Lock()
	known := s.g.runs[block]
	s.g.runsMu.Unlock()
	if known != nil {
		return known, nil
	}
	runs, err := s.readRuns(block)
	if err != nil {
		return nil, err
	}
	s.g.runsMu.Lock()
	defer s.g.runsMu.Unlock()
	if s.g.runs == nil {
		s.g.runs = map[int][]Run{}
	}
	s.g.runs[block] = runs
	return runs, nil
}

// readRuns reads a block's runs from its record.
func (s *Snapshot) readRuns(block int) (runs []Run, err error) {
	ref := s.g.blocks[block]
	err = s.db.readRecord(place{s.g.bank, block}, kindRuns, ref.runs, func(h header, payload []byte) error {
		if int(h.rows) != ref.rows {
			return errors.New("it is of another block")
		}
		runs, err = decodeRuns(payload, ref.rows, s.g.listCount())
		return err
	})
	return runs, err
}

// encodeRuns writes the runs of rows that are sorted by list.
func encodeRuns(list []int32) []byte {
	b := make([]byte, headerSize, headerSize+64)
	for lane, l := range list {
		if lane == 0 || l != list[lane-1] {
			b = binary.LittleEndian.AppendUint32(b, uint32(l))
			b = binary.LittleEndian.AppendUint32(b, uint32(lane))
		}
	}
	return b
}

// decodeRuns is the inverse of encodeRuns.
func decodeRuns(payload []byte, rows, lists int) ([]Run, error) {
	n := len(payload) / 8
	if n == 0 || n*8 != len(payload) {
		return nil, fmt.Errorf("it has %d bytes", len(payload))
	}
	runs := make([]Run, n)
	for i := range runs {
		list, from := binary.LittleEndian.Uint32(payload[8*i:]), binary.LittleEndian.Uint32(payload[8*i+4:])
		switch {
		case int64(list) >= int64(lists):
			return nil, fmt.Errorf("run %d is of list %d of %d", i, list, lists)
		case int64(from) >= int64(rows) || i == 0 && from != 0:
			return nil, fmt.Errorf("run %d begins at row %d of %d", i, from, rows)
		case i > 0 && (int32(list) <= runs[i-1].List || int32(from) <= runs[i-1].From):
			return nil, fmt.Errorf("run %d is of list %d at row %d, after list %d at %d", i, list, from, runs[i-1].List, runs[i-1].From)
		}
		runs[i] = Run{List: int32(list), From: int32(from), To: int32(rows)}
		if i > 0 {
			runs[i-1].To = int32(from)
		}
	}
	return runs, nil
}
