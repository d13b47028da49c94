package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/dgraph-io/badger/v4"
)

// Open opens the database in dir. A writing open takes Badger's lock alone, looks
// the directory over before Badger may touch it, compares what Badger holds with
// what was acknowledged outside of it, finishes a commit that a kill cut off, and
// removes what an interrupted write left behind. A read-only open does the same
// comparison under the shared lock.
//
// Errors: ErrNotMembank, ErrForeignBadger, ErrNewerFormat, ErrLocked,
// ErrReadOnly (no permission), ErrNoSpace, ErrCorrupt, ErrRolledBack. A bank
// whose manifest is damaged does not keep the others from opening: its own
// Snapshot fails, and Banks says so.
func Open(ctx context.Context, dir string, o Options) (*DB, error) {
	db, err := newDB(dir, o)
	if err == nil {
		err = db.open(ctx, o)
	}
	if err != nil {
		return nil, err
	}
	return db, nil
}

func newDB(dir string, o Options) (*DB, error) {
	if !littleEndian() {
		return nil, errors.New("membank reads vectors in place and needs a little-endian machine")
	}
	db := &DB{
		dir: dir, readOnly: o.ReadOnly, memory: o.Memory, log: o.Logger, onStep: o.OnStep,
		verified: map[uint64]struct{}{}, banks: map[string]*generation{},
		damaged: map[string]error{}, writing: map[string]bool{},
	}
	if db.memory <= 0 {
		db.memory = 256 << 20
	}
	if db.log == nil {
		db.log = slog.New(slog.DiscardHandler)
	}
	if db.onStep == nil {
		db.onStep = func(string) {}
	}
	return db, nil
}

func (db *DB) open(ctx context.Context, o Options) error {
	err := examine(db.dir)
	if db.anyway && errors.Is(err, ErrCorrupt) {
		db.mismatch, err = err, nil
	}
	switch {
	case errors.Is(err, fs.ErrNotExist) && o.Create && !o.ReadOnly:
		return db.create(ctx)
	case errors.Is(err, fs.ErrNotExist):
		return notThere(db.dir)
	case errors.Is(err, fs.ErrPermission):
		return mayNotRead(db.dir, err)
	case err != nil:
		return err
	case o.ReadOnly:
		return db.openReading(ctx)
	}
	return db.openWriting(ctx)
}

// create makes a database, or finishes making one. The marker comes last.
func (db *DB) create(ctx context.Context) error {
	if err := os.MkdirAll(blocksDirectory(db.dir), 0o755); err != nil {
		if errors.Is(err, fs.ErrPermission) {
			return noPermission(db.dir, err)
		}
		return err
	}
	return db.openWriting(ctx)
}

func (db *DB) openWriting(ctx context.Context) error {
	if err := canWrite(db.dir); err != nil {
		return err
	}
	if err := checkOpenSpace(db.dir); err != nil {
		return err
	}
	report, err := preflight(ctx, db.dir)
	if err != nil {
		return db.explain(err)
	}
	db.logReport(report)
	db.badger, err = openBadger(db.dir, false, db.log)
	if err != nil {
		return err
	}
	err = db.load()
	if err == nil && !db.anyway {
		err = db.finishOpen(ctx, report)
	}
	if err != nil {
		db.closeBadger()
		return err
	}
	return nil
}

// finishOpen does what only a writing open may, once the state stands.
func (db *DB) finishOpen(ctx context.Context, report preflightReport) error {
	outside, err := readOutside(db.dir)
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	if err != nil {
		return err
	}
	if outside.Sequence < db.state.sequence {
		if err := writeOutside(db.dir, db.state.outside()); err != nil {
			return err
		}
	}
	if checkMarker(db.dir) != nil {
		if err := replaceFile(db.dir, markerName, encodeMarker(), func(string) {}); err != nil {
			return err
		}
	}
	if err := afterOpen(db.dir, report); err != nil {
		return err
	}
	if err := db.collectOrphans(ctx); err != nil {
		return err
	}
	return ensureBallast(db.dir)
}

func (db *DB) openReading(ctx context.Context) error {
	// A reader that finds the database unclean mends it under the lock alone; who
	// comes at that moment waits a little.
	for attempt := 0; ; attempt++ {
		err := db.tryReading(ctx)
		if err == nil || !errors.Is(err, ErrLocked) || attempt == 20 {
			return err
		}
		if h, ok := LockHolder(db.dir); ok && !h.Reading && attempt > 2 {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func (db *DB) tryReading(ctx context.Context) error {
	report, err := preflightReader(ctx, db.dir)
	if err != nil {
		return db.explain(err)
	}
	db.logReport(report)
	db.badger, err = openBadger(db.dir, true, db.log)
	if err != nil && strings.Contains(err.Error(), badger.ErrTruncateNeeded.Error()) {
		// Closed by a kill: Badger replays its log only when it may write.
		db.log.Info("the database was not closed in order: opening it once for writing")
		writer, openErr := Open(ctx, db.dir, Options{Logger: db.log})
		if openErr != nil {
			return fmt.Errorf("%s was not closed in order and must be opened once for writing: %w", db.dir, openErr)
		}
		if err := writer.Close(); err != nil {
			return err
		}
		db.badger, err = openBadger(db.dir, true, db.log)
	}
	if err != nil {
		return err
	}
	if err := db.load(); err != nil {
		db.closeBadger()
		return err
	}
	return nil
}

func (db *DB) explain(err error) error {
	if errors.Is(err, fs.ErrPermission) && !errors.Is(err, ErrReadOnly) {
		if db.readOnly {
			return mayNotRead(db.dir, err)
		}
		return noPermission(db.dir, err)
	}
	if errors.Is(err, fs.ErrNotExist) && !errors.Is(err, ErrCorrupt) {
		return corruptFile(blocksName, "%v", err)
	}
	return err
}

func (db *DB) logReport(report preflightReport) {
	for _, name := range report.Kept {
		db.log.Info("kept before opening", "file", name)
	}
	for _, problem := range report.Problems {
		db.log.Warn("damaged file", "problem", problem)
	}
}

// load reads the state, holds it against the outside record, and reads every
// manifest.
func (db *DB) load() error {
	outside, outsideErr := readOutside(db.dir)
	if errors.Is(outsideErr, fs.ErrNotExist) {
		outsideErr = nil
	}
	missing, err := db.loadState()
	switch {
	case outsideErr != nil:
		err = outsideErr
	case missing && outside.Sequence == 0:
		return db.loadNew()
	case missing:
		err = &CorruptError{Block: -1, Record: "state", Cause: ErrRolledBack, Reason: fmt.Sprintf(
			"the database is empty, expected commit %d%s", outside.Sequence, differences(nil, outside.Banks))}
	case err == nil && outside.Sequence == 0 && (db.state.sequence > firstSequence || len(db.state.banks) > 0):
		err = corruptFile(outsideNameA+" and "+outsideNameB, "are missing, the database is at commit %d", db.state.sequence)
	case err == nil && outside.Sequence > 0:
		err = compareStates(db.state, outside)
	}
	if err != nil {
		if !db.anyway || db.state == nil && !missing {
			return err
		}
		db.mismatch = err
		if missing {
			db.state = &state{nextRecord: 1, nextBank: 1}
		}
	}
	db.nextRecord.Store(db.state.nextRecord)
	db.nextBank = db.state.nextBank
	for _, entry := range db.state.banks {
		g, err := db.loadGeneration(entry)
		if err != nil {
			db.damaged[entry.Name] = err
			continue
		}
		db.banks[entry.Name] = g
	}
	return nil
}

// loadState reads the state record; missing says that Badger has none.
func (db *DB) loadState() (missing bool, err error) {
	err = db.read(stateKey, func(value []byte) error {
		h, payload, err := checkRecord(value, kindState, recordRef{}, true)
		if err != nil {
			return &unreadable{err.Error()}
		}
		s, err := decodeState(h, payload)
		if err != nil {
			return &unreadable{err.Error()}
		}
		db.state = s
		return nil
	})
	var u *unreadable
	if errors.As(err, &u) {
		return u.reason == errMissing.Error(), &CorruptError{Block: -1, Record: "state", Reason: u.reason}
	}
	return false, err
}

// loadNew gives a database its first state: nothing was ever acknowledged, so a
// creation was cut off.
func (db *DB) loadNew() error {
	if db.readOnly || db.anyway {
		return notThere(db.dir)
	}
	db.state = &state{sequence: firstSequence, nextRecord: 1, nextBank: 1}
	db.nextRecord.Store(1)
	db.nextBank = 1
	if err := db.update(func(txn *badger.Txn) error { return txn.Set(stateKey, db.state.encode()) }); err != nil {
		return err
	}
	return db.badger.Sync()
}
