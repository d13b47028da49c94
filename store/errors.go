package store

import (
	"errors"
	"fmt"
	"strings"
)

// Errors of opening a directory.
var (
	// ErrNotMembank: the path holds no database: it is absent, empty, a plain
	// file, or a directory of something else.
	ErrNotMembank = errors.New("not a membank database")
	// ErrForeignBadger: the directory is a Badger database of another program.
	ErrForeignBadger = errors.New("a Badger database of another program")
	// ErrNewerFormat: a newer membank wrote the database.
	ErrNewerFormat = errors.New("written by a newer membank")
	// ErrLocked: another process holds the database. The error text says which.
	ErrLocked = errors.New("the database is in use")
	// ErrReadOnly: a write was asked of a database opened with Options.ReadOnly,
	// or of a directory this user may not write.
	ErrReadOnly = errors.New("read-only database")
	// ErrClosed: the database, snapshot or writer was closed before the call.
	ErrClosed = errors.New("already closed")
)

// Errors of what the disk holds.
var (
	// ErrNoSpace: the file system has too little room for the write. Nothing was
	// written: Badger dies of a full disk, so room is asked for beforehand.
	ErrNoSpace = errors.New("not enough free disk space")
	// ErrCorrupt: stored bytes are not those that were written. The error is a
	// *CorruptError that names bank, block and record where they are known.
	ErrCorrupt = errors.New("the database is damaged")
	// ErrRolledBack: Badger holds an older state than the last acknowledged
	// commit. It is an ErrCorrupt too.
	ErrRolledBack = fmt.Errorf("%w: it holds an older state than was committed", ErrCorrupt)
)

// Errors of a call's arguments.
var (
	// ErrNoBank: no bank has that name.
	ErrNoBank = errors.New("no such bank")
	// ErrBankExists: a Writer with mode Create found the bank there already.
	ErrBankExists = errors.New("the bank exists already")
	// ErrBadName: a bank or attribute name breaks the rules of CheckName.
	ErrBadName = errors.New("not a valid name")
	// ErrBusy: another Writer of this process holds the bank.
	ErrBusy = errors.New("the bank is being written")
	// ErrDim: vectors have another dimension than the bank, or one outside
	// 1..MaxDim.
	ErrDim = errors.New("wrong dimension")
	// ErrDType: an append asked for another element type than the bank has.
	ErrDType = errors.New("wrong element type")
	// ErrBadRow: a row cannot be stored: NaN, Inf, a norm whose square overflows,
	// a bad key or label. The error is a *RowError.
	ErrBadRow = errors.New("bad row")
	// ErrDuplicateKey: two live rows of a bank would share a key.
	ErrDuplicateKey = errors.New("duplicate key")
	// ErrNoRow: no live row has that number.
	ErrNoRow = errors.New("no such row")
	// ErrGrouped: rows were added to a grouped bank without saying which lists
	// they belong to.
	ErrGrouped = errors.New("the bank is grouped by list")
	// ErrFlat: the bank is not grouped by list.
	ErrFlat = errors.New("the bank is not grouped by list")
	// ErrNoKey: no live row has that key.
	ErrNoKey = errors.New("no such key")
)

// CorruptError is damage, as precisely as it is known.
type CorruptError struct {
	Bank   string // "" when the damage is not inside one bank
	Block  int    // -1 when the damage is not inside one block
	Record string // what is damaged: "panels 17", "manifest", "COMMIT.a and COMMIT.b"
	Reason string
	Cause  error // ErrCorrupt unless set: ErrRolledBack, or what Badger said
}

func (e *CorruptError) Error() string {
	var s strings.Builder
	s.WriteString(ErrCorrupt.Error())
	if e.Cause != nil && errors.Is(e.Cause, ErrRolledBack) {
		s.Reset()
		s.WriteString(ErrRolledBack.Error())
	}
	if e.Bank != "" {
		fmt.Fprintf(&s, ": bank %q", e.Bank)
		if e.Block >= 0 {
			fmt.Fprintf(&s, " block %d", e.Block)
		}
	}
	if e.Record != "" {
		s.WriteString(": " + e.Record)
	}
	s.WriteString(": " + e.Reason)
	return s.String()
}

// Unwrap lets errors.Is find ErrCorrupt, and the cause where there is one.
func (e *CorruptError) Unwrap() []error {
	if e.Cause == nil {
		return []error{ErrCorrupt}
	}
	return []error{ErrCorrupt, e.Cause}
}

// RowError is a row that cannot be stored.
type RowError struct {
	Row int64 // position in the Writer's stream, from 0; not the row number in the bank
	Err error // wraps ErrBadRow
}

func (e *RowError) Error() string { return fmt.Sprintf("row %d: %v", e.Row, e.Err) }
func (e *RowError) Unwrap() error { return e.Err }

// DuplicateKeyError names both rows of a key. It is an ErrDuplicateKey.
type DuplicateKeyError struct {
	Key string
	// Old and New are positions in the Writer's stream; when InBank is set, Old is
	// the row number of a row that the bank held before.
	Old, New int64
	InBank   bool
}

func (e *DuplicateKeyError) Error() string {
	if e.InBank {
		return fmt.Sprintf("%v %q: row %d of the input and row %d of the bank", ErrDuplicateKey, e.Key, e.New, e.Old)
	}
	return fmt.Sprintf("%v %q: rows %d and %d of the input", ErrDuplicateKey, e.Key, e.Old, e.New)
}
func (e *DuplicateKeyError) Unwrap() error { return ErrDuplicateKey }
