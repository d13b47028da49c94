package store

import (
	"context"
	"errors"
	"slices"

	"github.com/dgraph-io/badger/v4"
)

// retire puts an old generation aside and notes what only it named. db.mu is held.
func (db *DB) retire(old, g *generation) {
	if old == nil {
		return
	}
	old.retired = true
	if old.pins > 0 {
		db.retired = append(db.retired, old)
	}
	named := map[uint64]bool{}
	if g != nil {
		g.refs(func(_ int, _ recordKind, ref recordRef) { named[ref.number] = true })
	}
	old.refs(func(_ int, _ recordKind, ref recordRef) {
		if !named[ref.number] {
			db.garbage = append(db.garbage, ref)
		}
	})
}

// collectGarbage deletes the records that no current generation names and no
// snapshot reads. A failure costs space only: they are orphans at the next open.
func (db *DB) collectGarbage() {
	db.mu.Lock()
	db.retired = slices.DeleteFunc(db.retired, func(g *generation) bool { return g.pins == 0 })
	pinned := map[uint64]bool{}
	for _, g := range db.retired {
		g.refs(func(_ int, _ recordKind, ref recordRef) { pinned[ref.number] = true })
	}
	var now, later []recordRef
	for _, ref := range db.garbage {
		if pinned[ref.number] {
			later = append(later, ref)
		} else {
			now = append(now, ref)
		}
	}
	db.garbage = later
	db.mu.Unlock()
	if err := db.deleteRecords(now); err != nil {
		db.log.Info("records of no bank stay until the next open", "records", len(now), "error", err)
	}
}

func (db *DB) deleteRecords(refs []recordRef) error {
	if len(refs) == 0 {
		return nil
	}
	db.handle.RLock()
	defer db.handle.RUnlock()
	if db.badger == nil {
		return ErrClosed
	}
	if err := checkSpace(db.dir, 1<<20); err != nil {
		return err
	}
	for some := range slices.Chunk(refs, transactionRecords) {
		bytes := int64(0)
		err := db.update(func(txn *badger.Txn) error {
			for _, ref := range some {
				bytes += int64(ref.bytes)
				if err := txn.Delete(recordKey(ref.number)); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
		db.mu.Lock()
		db.deletedBytes += bytes
		db.mu.Unlock()
	}
	return nil
}

// records calls fn with the number and about the size of every record there is,
// in order. It reads keys only.
func (db *DB) records(fn func(ref recordRef)) error {
	db.handle.RLock()
	defer db.handle.RUnlock()
	if db.badger == nil {
		return ErrClosed
	}
	txn := db.badger.NewTransaction(false)
	defer txn.Discard()
	options := badger.DefaultIteratorOptions
	options.PrefetchValues = false
	options.Prefix = recordPrefix
	it := txn.NewIterator(options)
	defer it.Close()
	for it.Rewind(); it.Valid(); it.Next() {
		if number, ok := recordNumber(it.Item().Key()); ok {
			fn(recordRef{number: number, bytes: uint64(it.Item().EstimatedSize())})
		}
	}
	return nil
}

// orphans returns the records that no bank names. While a bank's manifest is
// damaged it cannot be known what it names, and whole is false.
func (db *DB) orphans() (refs []recordRef, whole bool, err error) {
	db.mu.Lock()
	named := map[uint64]bool{}
	for _, g := range db.banks {
		g.refs(func(_ int, _ recordKind, ref recordRef) { named[ref.number] = true })
	}
	for _, g := range db.retired {
		g.refs(func(_ int, _ recordKind, ref recordRef) { named[ref.number] = true })
	}
	whole = len(db.damaged) == 0
	db.mu.Unlock()
	err = db.records(func(ref recordRef) {
		if !named[ref.number] {
			refs = append(refs, ref)
		}
	})
	return refs, whole, err
}

// collectOrphans deletes what an interrupted write left behind, and sees to it
// that no number is used twice.
func (db *DB) collectOrphans(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	refs, whole, err := db.orphans()
	if err != nil {
		return err
	}
	if n := len(refs); n > 0 {
		db.nextRecord.Store(max(db.nextRecord.Load(), refs[n-1].number+1))
	}
	if !whole || len(refs) == 0 {
		return nil
	}
	db.log.Info("removing what an interrupted write left behind", "records", len(refs))
	if err := db.deleteRecords(refs); err != nil && !errors.Is(err, ErrNoSpace) {
		return err
	}
	return nil
}

const (
	// reclaimBytes and reclaimShare are how much of a database must be garbage for
	// Close to give it back: collection first reads all that is alive.
	reclaimBytes = 64 << 20
	reclaimShare = 0.25
	// discardRatio is how much of a value log file must be garbage for the rest of
	// it to be moved.
	discardRatio = 0.3
)

// liveBytes is what all banks name.
func (db *DB) liveBytes() (n int64) {
	db.mu.Lock()
	defer db.mu.Unlock()
	for _, g := range db.banks {
		n += g.bytes()
	}
	return n
}

// worthReclaiming tells whether so much was deleted since the open that Close
// should give it back, and whether it may: all records that are to be kept must
// be whole and collectable, because Badger stops at the first damaged entry of a
// value log, and removes the file all the same.
func (db *DB) worthReclaiming() bool {
	live := db.liveBytes()
	db.mu.Lock()
	deleted, broken := db.deletedBytes, db.broken
	db.mu.Unlock()
	if broken != nil || deleted < reclaimBytes || float64(deleted) < reclaimShare*float64(live) {
		return false
	}
	report, err := db.Verify(context.Background(), VerifyOptions{})
	if err != nil || len(report.Problems) > 0 || db.wedged.Load() {
		return false
	}
	if err := db.collectable(); err != nil {
		db.log.Warn("the space of deleted records is not given back", "error", err)
		return false
	}
	return true
}

// Compact gives the space of removed banks, replaced rows and aborted writes back
// to the disk, and returns how much less room the files take. It reads every
// record first, because collecting a damaged value log would lose what lies
// behind the damage: ErrCorrupt, and nothing is moved. It waits for reads that
// are under way; others wait for it. ErrBusy while a Writer is open.
func (db *DB) Compact(ctx context.Context) (freed int64, err error) {
	if db.readOnly {
		return 0, ErrReadOnly
	}
	db.commit.Lock()
	defer db.commit.Unlock()
	db.mu.Lock()
	busy, broken := len(db.writing) > 0, db.broken
	db.mu.Unlock()
	if busy {
		return 0, ErrBusy
	}
	if broken != nil {
		return 0, broken
	}
	if err := db.collectOrphans(ctx); err != nil {
		return 0, err
	}
	report, err := db.Verify(ctx, VerifyOptions{})
	if err != nil {
		return 0, err
	}
	if len(report.Problems) > 0 {
		return 0, report.Problems[0].Err
	}
	if err := db.collectable(); err != nil {
		return 0, err
	}
	db.handle.Lock()
	defer db.handle.Unlock()
	if db.badger == nil {
		return 0, ErrClosed
	}
	if err := checkSpace(db.dir, valueLogBytes); err != nil {
		return 0, err
	}
	before := filesSize(db.dir)
	if err := db.closeBadger(); err != nil {
		return 0, err
	}
	err = errors.Join(db.reclaim(), sealNewest(db.dir))
	after := filesSize(db.dir)
	reopened, openErr := openBadger(db.dir, false, db.log)
	if openErr != nil {
		return 0, errors.Join(err, openErr)
	}
	db.badger = reopened
	db.verifiedMu.Lock()
	clear(db.verified) // values have moved
	db.verifiedMu.Unlock()
	return max(before-after, 0), err
}

// reclaim runs Badger's value log collection on the closed database. Its figures
// of what can be discarded come from compactions only, so the deletions, which
// are in tables since Badger's Close, are compacted first.
func (db *DB) reclaim() error {
	if err := sealNewest(db.dir); err != nil {
		return err
	}
	b, err := openBadger(db.dir, false, db.log)
	if err != nil {
		return err
	}
	err = b.Flatten(2)
	for err == nil {
		err = b.RunValueLogGC(discardRatio)
	}
	if errors.Is(err, badger.ErrNoRewrite) {
		err = nil
	}
	return errors.Join(err, b.Close())
}
