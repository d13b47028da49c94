package store

import (
	"context"
	"fmt"
)

// The lists of a grouped bank are described by bytes whose meaning the store does
// not know (centroids and what was measured of them, see index). They are kept in
// as many records as pieces of listsPiece make.
const listsPiece = 4 << 20

// addLists writes the pieces of a lists record with add.
func addLists(lists []byte, add func(kind recordKind, rows int, value []byte) (recordRef, error)) ([]recordRef, error) {
	var refs []recordRef
	for from := 0; from < len(lists); from += listsPiece {
		piece := lists[from:min(from+listsPiece, len(lists))]
		value := append(make([]byte, headerSize, headerSize+len(piece)), piece...)
		ref, err := add(kindLists, 0, value)
		if err != nil {
			return nil, err
		}
		refs = append(refs, ref)
	}
	return refs, nil
}

// Lists returns a copy of what Group or WriteLists was given last, nil for a flat
// bank.
func (s *Snapshot) Lists() ([]byte, error) {
	if s.g.layout == nil {
		return nil, nil
	}
	var lists []byte
	for _, ref := range s.g.layout.opaque {
		err := s.db.readRecord(place{s.g.bank, -1}, kindLists, ref, func(_ header, payload []byte) error {
			lists = append(lists, payload...)
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return lists, nil
}

// WriteLists replaces the description of a grouped bank's lists; rows stay where
// they are, and so does their number. Errors: ErrNoBank, ErrBusy, ErrReadOnly,
// ErrNoSpace; ErrFlat when the bank is not grouped.
func (db *DB) WriteLists(ctx context.Context, bank string, lists []byte) (Info, error) {
	g, err := db.reserve(bank, Append)
	if err != nil {
		return Info{}, err
	}
	defer db.release(bank)
	defer (&Snapshot{db: db, g: g}).Close()
	if g.listCount() == 0 {
		return Info{}, fmt.Errorf("bank %q: %w", bank, ErrFlat)
	}
	if len(lists) == 0 {
		return Info{}, fmt.Errorf("bank %q: an empty description of %d lists", bank, g.listCount())
	}
	a := newAddition(db, g)
	a.m.layout.opaque, err = addLists(lists, func(kind recordKind, rows int, value []byte) (recordRef, error) {
		return a.add(kind, rows, value), a.writeFull()
	})
	return a.finish(ctx, g, err)
}
