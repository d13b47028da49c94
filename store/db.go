package store

import (
	"fmt"
	"io/fs"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dgraph-io/badger/v4"
)

// Options say how to open a database. The zero value opens an existing one for
// reading and writing.
type Options struct {
	ReadOnly bool         // share the database with other readers; nothing on disk changes
	Create   bool         // make the database if it is not there; ignored with ReadOnly
	Memory   int64        // bytes for the duplicate-key check of a commit, and for rows that are put in order; 0 is 256 MiB
	Logger   *slog.Logger // nil: no log
	// OnStep, if set, is called at the named steps of every commit (see Steps),
	// before the step is done. Crash tests kill the process in it.
	OnStep func(step string)
}

// Steps are the points of a commit that Options.OnStep is told of, in order.
// "blocks" comes once for every transaction of blocks.
var Steps = []string{"blocks", "sync", "check", "flip", "flip-sync", "outside", "acknowledged", "collect"}

// firstSequence is the commit sequence of a database that has just been created.
const firstSequence = 1

// DB is an open database. Its methods are safe for concurrent use.
type DB struct {
	dir      string
	readOnly bool
	memory   int64
	log      *slog.Logger
	onStep   func(string)

	anyway   bool  // open for Repair: what Badger holds stands, whatever else is known
	mismatch error // why it would not have opened otherwise

	// handle guards badger: readers share it for one record at a time, Close and
	// Compact take it alone.
	handle sync.RWMutex
	badger *badger.DB // nil once closed
	// wedged is set when Badger failed to read a value. It may hold a lock for
	// good then, on which its Close would wait.
	wedged atomic.Bool

	verifiedMu sync.RWMutex
	verified   map[uint64]struct{} // records whose checksum this process has computed

	commit     sync.Mutex // held from reading a generation to having replaced it
	nextRecord atomic.Uint64

	mu           sync.Mutex // guards what follows
	state        *state
	banks        map[string]*generation
	damaged      map[string]error // banks whose manifest cannot be read
	writing      map[string]bool  // banks that a Writer holds
	retired      []*generation    // no longer current, but a snapshot reads them
	garbage      []recordRef      // records that no current generation names, yet to be deleted
	nextBank     uint64
	deletedBytes int64 // of records deleted since the open
	broken       error // set when a commit failed half way: no more commits
}

// Dir returns the directory that Open was given.
func (db *DB) Dir() string { return db.dir }

// ReadOnly reports whether the database was opened for reading only.
func (db *DB) ReadOnly() bool { return db.readOnly }

// Banks returns the banks whose name is prefix, or begins with it and a '/', or
// all if prefix is empty, sorted by name. A bank whose manifest is damaged is not
// among them: the error is its *CorruptError then, and the infos are those of the
// banks that are whole.
func (db *DB) Banks(prefix string) ([]Info, error) {
	db.mu.Lock()
	defer db.mu.Unlock()
	var infos []Info
	var errs []error
	for _, entry := range db.state.banks {
		if prefix != "" && entry.Name != prefix && !strings.HasPrefix(entry.Name, strings.TrimSuffix(prefix, "/")+"/") {
			continue
		}
		if err := db.damaged[entry.Name]; err != nil {
			errs = append(errs, err)
			continue
		}
		infos = append(infos, db.banks[entry.Name].info())
	}
	switch len(errs) {
	case 0:
		return infos, nil
	case 1:
		return infos, errs[0]
	}
	return infos, fmt.Errorf("%w (and %d more banks are damaged: see membank verify)", errs[0], len(errs)-1)
}

// Close closes the database and records that it was closed in order. It waits for
// reads that are under way; open snapshots and writers fail with ErrClosed from
// then on. Space of removed banks is given back to the disk if it is a large part
// of the database (see Compact). Close may be called twice.
func (db *DB) Close() error {
	reclaim := db.worthReclaiming()
	db.handle.Lock()
	defer db.handle.Unlock()
	if db.badger == nil {
		return nil
	}
	err := db.closeBadger()
	if err != nil || db.readOnly || db.wedged.Load() {
		return err
	}
	if reclaim {
		if err := db.reclaim(); err != nil {
			return err
		}
	}
	db.mu.Lock()
	broken := db.broken
	db.mu.Unlock()
	if broken != nil {
		return nil // without a closing record the next open looks closely
	}
	return markClosed(db.dir)
}

// closeBadger closes Badger, whose Close can wait for ever on a lock that a
// damaged value left behind.
func (db *DB) closeBadger() error {
	b := db.badger
	db.badger = nil
	if b == nil {
		return nil
	}
	done := make(chan error, 1)
	go func() { done <- b.Close() }()
	if !db.wedged.Load() {
		return <-done
	}
	patience := 10 * time.Second // a writer flushes and syncs before it may hang
	if db.readOnly {
		patience = 300 * time.Millisecond
	}
	select {
	case err := <-done:
		return err
	case <-time.After(patience):
		db.log.Warn("Badger does not close after damage; leaving it to the end of the process")
		return nil
	}
}

// update runs fn in a writing transaction and commits it.
func (db *DB) update(fn func(txn *badger.Txn) error) error {
	txn := db.badger.NewTransaction(true)
	defer txn.Discard()
	if err := fn(txn); err != nil {
		return err
	}
	return txn.Commit()
}

// filesSize is the room that Badger's files take on the disk, holes not counted.
func filesSize(dir string) (n int64) {
	filepath.WalkDir(blocksDirectory(dir), func(_ string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			if info, err := d.Info(); err == nil {
				n += allocatedBytes(info)
			}
		}
		return nil
	})
	return n
}
