package store

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/dgraph-io/badger/v4"
)

// RepairOptions say how far Repair may go. The zero value only looks.
type RepairOptions struct {
	// Accept makes what Badger holds the acknowledged state, so that the database
	// opens again. What was lost before stays lost, without further notice.
	Accept bool
	// Drop removes banks that are not whole, with Accept.
	Drop bool
}

// RepairReport is what Repair found and did.
type RepairReport struct {
	Mismatch error // why the database does not open; nil if it does
	Banks    []BankState
	Accepted bool
	Dropped  []string
}

// BankState compares what is there of a bank with what was acknowledged.
type BankState struct {
	Bank                 string
	Generation, Expected uint64 // 0: not there, not expected
	Rows, ExpectedRows   int64
	Problems             []Problem // damaged blocks and records
}

// Whole reports whether the bank is the acknowledged one and reads to its end.
func (b BankState) Whole() bool {
	return len(b.Problems) == 0 && b.Generation == b.Expected && b.Generation > 0
}

// Repair is for a database that does not open (ErrRolledBack, or ErrCorrupt of
// the outside record or the marker) or that has damaged blocks. It reads all of
// it and reports, bank by bank, what is there against what was acknowledged. With
// Accept it then writes a new outside record of what is there. It cannot bring
// rows back: it is the last resort behind a backup. What the pre-flight put into
// lost+found stays there.
//
// Errors: ErrCorrupt when Badger itself cannot be opened; nothing is changed then.
func Repair(ctx context.Context, dir string, o RepairOptions) (RepairReport, error) {
	db, err := openAnyway(ctx, dir, o)
	var restore func() error
	if errors.Is(err, ErrCorrupt) {
		db, restore, err = openUnclosed(ctx, dir, o, err)
	}
	if err != nil {
		return RepairReport{}, err
	}
	report, err := db.repair(ctx, o)
	err = errors.Join(err, db.Close())
	if restore != nil {
		err = errors.Join(err, restore())
	}
	return report, err
}

func openAnyway(ctx context.Context, dir string, o RepairOptions) (*DB, error) {
	options := Options{ReadOnly: !o.Accept}
	db, err := newDB(dir, options)
	if err == nil {
		db.anyway = true
		err = db.open(ctx, options)
	}
	return db, err
}

// openUnclosed opens without the closing record, which holds the directory to
// what it was down to single files: a lost value log is then the loss of the
// blocks in it. restore puts the record back, unless a new one has been written.
func openUnclosed(ctx context.Context, dir string, o RepairOptions, mismatch error) (db *DB, restore func() error, err error) {
	path := filepath.Join(dir, closingName)
	aside := path + ".aside"
	if os.Rename(path, aside) != nil {
		return nil, nil, mismatch
	}
	restore = func() error {
		if o.Accept {
			return os.Remove(aside)
		}
		return os.Rename(aside, path)
	}
	db, err = openAnyway(ctx, dir, o)
	if err != nil {
		os.Rename(aside, path)
		return nil, nil, mismatch
	}
	db.mismatch = mismatch
	return db, restore, nil
}

func (db *DB) repair(ctx context.Context, o RepairOptions) (RepairReport, error) {
	report := RepairReport{Mismatch: db.mismatch}
	outside, err := readOutside(db.dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, ErrCorrupt) {
		return report, err
	}
	acknowledged := outside.Banks
	if err != nil || outside.Sequence < db.state.sequence {
		// An acknowledged state older than Badger's says nothing against it.
		acknowledged = db.state.banks
	}
	found, err := db.Verify(ctx, VerifyOptions{})
	if err != nil {
		return report, err
	}
	report.Banks = compareBanks(db.state.banks, acknowledged, found.Problems)
	if !o.Accept {
		return report, nil
	}
	for _, b := range report.Banks {
		if !o.Drop || b.Whole() {
			continue
		}
		report.Dropped = append(report.Dropped, b.Bank)
		db.state = db.state.with(b.Bank, nil)
		delete(db.banks, b.Bank)
		delete(db.damaged, b.Bank)
	}
	if err := db.accept(outside.Sequence, report.Dropped); err != nil {
		return report, err
	}
	report.Accepted = true
	return report, nil
}

// accept makes the state as it stands the acknowledged one, under a sequence that
// neither side has used. Records of dropped banks are orphans at the next open.
func (db *DB) accept(acknowledged uint64, dropped []string) error {
	next := *db.state
	next.sequence = max(db.state.sequence, acknowledged) + 1
	next.nextRecord, next.nextBank = db.nextRecord.Load(), db.nextBank
	err := db.update(func(txn *badger.Txn) error {
		for _, bank := range dropped {
			if err := txn.Delete(manifestKey(bank)); err != nil {
				return err
			}
		}
		return txn.Set(stateKey, next.encode())
	})
	if err == nil {
		err = db.badger.Sync()
	}
	if err == nil {
		err = writeOutside(db.dir, next.outside())
	}
	if err == nil && checkMarker(db.dir) != nil {
		err = replaceFile(db.dir, markerName, encodeMarker(), func(string) {})
	}
	if err != nil {
		return fmt.Errorf("accepting what is there: %w", err)
	}
	db.state = &next
	return nil
}

func compareBanks(have, want []outsideBank, problems []Problem) []BankState {
	states := map[string]*BankState{}
	at := func(name string) *BankState {
		if states[name] == nil {
			states[name] = &BankState{Bank: name}
		}
		return states[name]
	}
	for _, k := range have {
		at(k.Name).Generation, at(k.Name).Rows = k.Generation, k.Rows
	}
	for _, k := range want {
		at(k.Name).Expected, at(k.Name).ExpectedRows = k.Generation, k.Rows
	}
	for _, p := range problems {
		at(p.Bank).Problems = append(at(p.Bank).Problems, p)
	}
	var all []BankState
	for _, s := range states {
		all = append(all, *s)
	}
	slices.SortFunc(all, func(a, b BankState) int { return cmp.Compare(a.Bank, b.Bank) })
	return all
}
