package store

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"runtime/debug"
	"strings"
	"syscall"

	"github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/badger/v4/options"
)

const (
	// valueThreshold is the size from which on a value goes to the value log,
	// where it is mapped and never rewritten by a compaction. What a scan reads
	// should lie there; what is smaller is copied by Badger at each read.
	valueThreshold = 4 << 10
	// valueLogBytes is the size of a value log file; Badger maps twice that for
	// the newest. It bounds what a value log collection has to move.
	valueLogBytes = 256 << 20
	// maxRecordBytes is the largest record: far below a value log file's 4 GiB
	// limit, and a bound on what a reader allocates.
	maxRecordBytes = 1 << 30
)

func badgerOptions(dir string, readOnly bool, logger *slog.Logger) badger.Options {
	return badger.DefaultOptions(blocksDirectory(dir)).
		WithReadOnly(readOnly).
		WithSyncWrites(!faultNoSync). // db.Sync alone is no commit point
		WithValueThreshold(valueThreshold).
		WithValueLogFileSize(valueLogBytes).
		WithMemTableSize(memtableBytes).
		WithNumMemtables(2).
		WithNumCompactors(2).
		WithCompactL0OnClose(true).     // makes the figures that value log collection goes by
		WithCompression(options.None).  // floats do not compress, and compressed values are copies
		WithBlockCacheSize(0).          // legal without compression
		WithIndexCacheSize(0).          // indexes stay in memory: a few MiB a TiB
		WithDetectConflicts(false).     // commits are serialized here
		WithNumVersionsToKeep(1).       // records are never overwritten
		WithVerifyValueChecksum(false). // ours replaces it: once a record, not once a read
		WithChecksumVerificationMode(options.OnTableRead).
		WithMetricsEnabled(false). // Badger's metrics are global to the process
		WithLogger(badgerLogger{logger})
}

// openBadger opens Badger and turns what goes wrong into our errors. Badger
// panics on some damaged tables.
func openBadger(dir string, readOnly bool, logger *slog.Logger) (b *badger.DB, err error) {
	defer func() {
		if p := recover(); p != nil {
			b, err = nil, corruptFile(blocksName, "Badger panics on opening it: %.200s", firstLine(fmt.Sprint(p)))
		}
	}()
	b, err = badger.Open(badgerOptions(dir, readOnly, logger))
	switch {
	case err == nil:
		return b, nil
	case isLockFailure(err):
		return nil, lockError(dir, err)
	case errors.Is(err, fs.ErrPermission), errors.Is(err, syscall.EROFS), strings.Contains(err.Error(), "permission denied"):
		if readOnly {
			return nil, mayNotRead(dir, err)
		}
		return nil, noPermission(dir, err)
	case errors.Is(err, syscall.ENOSPC):
		return nil, fmt.Errorf("%s: %w: %v", dir, ErrNoSpace, err)
	case errors.Is(err, syscall.EMFILE), errors.Is(err, syscall.ENFILE), errors.Is(err, syscall.ENOMEM):
		return nil, fmt.Errorf("%s: %w", dir, err)
	}
	return nil, corruptFile(blocksName, "Badger cannot open it: %.300s", firstLine(err.Error()))
}

func noPermission(dir string, err error) error {
	return fmt.Errorf("%s: %w: this user may not write there: %v", dir, ErrReadOnly, err)
}

func mayNotRead(dir string, err error) error {
	return fmt.Errorf("%s: this user may not read it: %w", dir, err)
}

func firstLine(s string) string {
	s, _, _ = strings.Cut(s, "\n")
	return s
}

// errMissing is a key that Badger does not find. What names it knows that it was
// there, so it is damage to whoever asks.
var errMissing = errors.New("it is missing")

// read calls fn with the value of a key as it lies in Badger's memory map, valid
// until fn returns. All reads of values come through here. fn must not read or
// write the store: a value log's lock is held, and Go's RWMutex does not nest.
//
// Badger returns damaged values as empty ones, and panics on some; an I/O error
// on a mapped page is a fault. Each becomes an error. What fn itself panics with
// goes on its way, unless it is such a fault.
func (db *DB) read(key []byte, fn func(value []byte) error) (err error) {
	db.handle.RLock()
	defer db.handle.RUnlock()
	if db.badger == nil {
		return ErrClosed
	}
	inside := false
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		p := recover()
		if p == nil {
			return
		}
		if fault, ok := p.(interface{ Addr() uintptr }); ok {
			err = &unreadable{fmt.Sprintf("the disk cannot read it (fault at %#x)", fault.Addr())}
			return
		}
		if inside {
			panic(p)
		}
		db.wedged.Store(true)
		err = &unreadable{fmt.Sprintf("Badger panics on reading it: %.200s", firstLine(fmt.Sprint(p)))}
	}()
	txn := db.badger.NewTransaction(false)
	defer txn.Discard()
	item, err := txn.Get(key)
	if errors.Is(err, badger.ErrKeyNotFound) {
		return &unreadable{errMissing.Error()}
	}
	if err != nil {
		return &unreadable{fmt.Sprintf("Badger cannot find it: %v", err)}
	}
	return item.Value(func(value []byte) error {
		if len(value) == 0 {
			db.wedged.Store(true)
		}
		inside = true
		return fn(value)
	})
}

// unreadable is a failure of read itself, to be completed with the place.
type unreadable struct{ reason string }

func (u *unreadable) Error() string { return u.reason }

// badgerLogger sends Badger's log to slog. What Badger calls information is of
// interest only to who debugs it; its errors come back to us as errors.
type badgerLogger struct{ to *slog.Logger }

func (l badgerLogger) text(format string, args []any) string {
	return "badger: " + strings.TrimSpace(fmt.Sprintf(format, args...))
}
func (l badgerLogger) Errorf(f string, a ...any)   { l.to.Warn(l.text(f, a)) }
func (l badgerLogger) Warningf(f string, a ...any) { l.to.Info(l.text(f, a)) }
func (l badgerLogger) Infof(f string, a ...any)    { l.to.Debug(l.text(f, a)) }
func (l badgerLogger) Debugf(f string, a ...any)   { l.to.Debug(l.text(f, a)) }

// canWrite returns an error unless this user may create files in dir.
func canWrite(dir string) error {
	f, err := os.CreateTemp(dir, ".membank-*")
	if err != nil {
		if errors.Is(err, fs.ErrPermission) || errors.Is(err, syscall.EROFS) {
			return noPermission(dir, err)
		}
		if errors.Is(err, syscall.ENOSPC) {
			return nil // checkOpenSpace has the better sentence
		}
		return err
	}
	f.Close()
	return os.Remove(f.Name())
}
