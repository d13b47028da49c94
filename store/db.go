package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/RoaringBitmap/roaring/v2/roaring64"
	"github.com/dgraph-io/badger/v4"
)

// Options say how to open a database. The zero value opens an existing one for
// reading and writing.
type Options struct {
	ReadOnly bool         // share the database with other readers; nothing on disk changes
	Create   bool         // make the database if it is not there; ignored with ReadOnly
	Memory   int64        // bytes that the duplicate-key check of a commit may use; 0 is 256 MiB
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

// generation is a manifest in memory with the small records it names. It is
// immutable but for pins and retired, which DB.mu guards.
type generation struct {
	*manifest
	deadRows *roaring64.Bitmap
	classes  *classes
	deadIn   []uint32 // deleted rows of each block; nil when there are none
	pins     int      // snapshots that read it
	retired  bool     // no longer the bank's current generation
}

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

// loadGeneration reads the manifest that the state names, and the small records
// it names in turn.
func (db *DB) loadGeneration(entry outsideBank) (*generation, error) {
	g := &generation{}
	err := db.read(manifestKey(entry.Name), func(value []byte) error {
		h, payload, err := checkRecord(value, kindManifest, recordRef{}, true)
		if err == nil && (h.number != entry.Generation || h.crc != entry.Digest) {
			err = fmt.Errorf("it is generation %d with checksum %08x, expected %d with %08x", h.number, h.crc, entry.Generation, entry.Digest)
		}
		if err == nil {
			g.manifest, err = decodeManifest(h, payload)
		}
		if err == nil && (g.bank != entry.Name || g.next-g.dead != entry.Rows) {
			err = fmt.Errorf("it is of bank %q with %d rows, expected %d", g.bank, g.next-g.dead, entry.Rows)
		}
		if err != nil {
			return &unreadable{err.Error()}
		}
		return nil
	})
	var u *unreadable
	if errors.As(err, &u) {
		return nil, &CorruptError{Bank: entry.Name, Block: -1, Record: "manifest", Reason: u.reason}
	}
	if err != nil {
		return nil, err
	}
	return g, db.complete(g)
}

// complete reads the small records that a generation keeps in memory.
func (db *DB) complete(g *generation) error {
	p := place{bank: g.bank, block: -1}
	g.deadRows, g.classes = roaring64.New(), newClasses()
	if g.deleted.number != 0 {
		err := db.readRecord(p, kindDeleted, g.deleted, func(_ header, payload []byte) (err error) {
			g.deadRows, err = decodeBitmap(payload)
			if err == nil && (g.deadRows.GetCardinality() != uint64(g.dead) || g.deadRows.Maximum() >= uint64(g.next)) {
				err = fmt.Errorf("%d rows up to %d, expected %d below %d", g.deadRows.GetCardinality(), g.deadRows.Maximum(), g.dead, g.next)
			}
			return err
		})
		if err != nil {
			return err
		}
	}
	if g.manifest.classes.number != 0 {
		err := db.readRecord(p, kindClasses, g.manifest.classes, func(_ header, payload []byte) (err error) {
			g.classes, err = decodeClasses(payload)
			if err == nil && g.classes.labels.GetCardinality() != uint64(g.classCount) {
				err = fmt.Errorf("%d classes, expected %d", g.classes.labels.GetCardinality(), g.classCount)
			}
			return err
		})
		if err != nil {
			return err
		}
	}
	g.countDead()
	return nil
}

func (g *generation) countDead() {
	if g.dead == 0 {
		return
	}
	g.deadIn = make([]uint32, len(g.blocks))
	below := uint64(0)
	for i, r := range g.blocks {
		upTo := g.deadRows.Rank(uint64(r.first) + uint64(r.rows) - 1)
		g.deadIn[i] = uint32(upTo - below)
		below = upTo
	}
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
	return infos, errors.Join(errs...)
}

func (g *generation) info() Info { return g.manifest.info(g.classes.names) }

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
	select {
	case err := <-done:
		return err
	case <-time.After(2 * time.Second):
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

// filesSize is the bytes of Badger's files, as allocated on disk by length.
func filesSize(dir string) (n int64) {
	filepath.WalkDir(blocksDirectory(dir), func(_ string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			if info, err := d.Info(); err == nil {
				n += info.Size()
			}
		}
		return nil
	})
	return n
}
