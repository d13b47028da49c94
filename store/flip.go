package store

import (
	"fmt"

	"github.com/RoaringBitmap/roaring/v2/roaring64"
	"github.com/dgraph-io/badger/v4"
)

func (db *DB) newRecord() uint64 { return db.nextRecord.Add(1) - 1 }

func (db *DB) newBankID() uint64 {
	db.mu.Lock()
	defer db.mu.Unlock()
	id := db.nextBank
	db.nextBank++
	return id
}

// generationAfterDamage is the first generation of a bank without a readable
// manifest: 1, or one more than the damaged one had.
func (db *DB) generationAfterDamage(bank string) uint64 {
	db.mu.Lock()
	defer db.mu.Unlock()
	if i, ok := db.state.find(bank); ok {
		return db.state.banks[i].Generation + 1
	}
	return 1
}

// write starts a transaction; done is called from another goroutine once it is
// durable or has failed. When write itself fails done is not called.
func (db *DB) write(entries []*badger.Entry, done func(error)) error {
	db.handle.RLock()
	defer db.handle.RUnlock()
	if db.badger == nil {
		return ErrClosed
	}
	txn := db.badger.NewTransaction(true)
	for _, e := range entries {
		if err := txn.SetEntry(e); err != nil {
			txn.Discard()
			return err
		}
	}
	txn.CommitWith(done)
	return nil
}

func (db *DB) sync() error {
	db.handle.RLock()
	defer db.handle.RUnlock()
	if db.badger == nil {
		return ErrClosed
	}
	if faultNoSync {
		return nil
	}
	return db.badger.Sync()
}

// change says which small records of a generation are new with it.
type change struct {
	classes bool
	deleted bool
	lanes   bool // dead ones, of a bank with a layout
}

// flip makes g the current generation of a bank, or removes the bank if g is nil:
// the manifest (with the small records that change with it) and the state in one
// transaction, then the outside record. The caller holds the bank (reserve). What
// a failure leaves behind on disk is not known, so it ends all commits of this
// process; the next open sorts it out.
func (db *DB) flip(bank string, g *generation, c change) error {
	db.commit.Lock()
	defer db.commit.Unlock()
	db.mu.Lock()
	broken, old, before, nextBank := db.broken, db.banks[bank], db.state, db.nextBank
	db.mu.Unlock()
	if broken != nil {
		return broken
	}
	entries, next, err := db.prepareFlip(bank, g, c, before)
	if err != nil {
		return err
	}
	next.nextRecord, next.nextBank = db.nextRecord.Load(), nextBank
	bytes := int64(1 << 20)
	for _, e := range entries {
		bytes += int64(len(e.Value))
	}
	if err := checkSpace(db.dir, bytes); err != nil {
		return err
	}
	if err := db.publish(bank, g == nil, entries, next); err != nil {
		err = fmt.Errorf("a commit to bank %q failed half way, no more are possible until the database is opened again: %w", bank, err)
		db.mu.Lock()
		db.broken = err
		db.mu.Unlock()
		return err
	}
	db.mu.Lock()
	db.state = next
	delete(db.damaged, bank)
	if g == nil {
		delete(db.banks, bank)
	} else {
		db.banks[bank] = g
	}
	db.retire(old, g)
	db.mu.Unlock()
	db.onStep("collect")
	db.collectGarbage()
	return nil
}

// prepareFlip encodes the records of a flip and the state after it.
func (db *DB) prepareFlip(bank string, g *generation, c change, before *state) ([]*badger.Entry, *state, error) {
	var entries []*badger.Entry
	if g == nil {
		return entries, before.with(bank, nil), nil
	}
	if g.deadRows == nil {
		g.deadRows = roaring64.New()
	}
	if g.layout == nil || g.deadLanes == nil {
		g.deadLanes = g.deadRows
	}
	add := func(kind recordKind, value []byte, err error) (recordRef, error) {
		if err != nil {
			return recordRef{}, err
		}
		number := db.newRecord()
		entries = append(entries, badger.NewEntry(recordKey(number), value))
		return sealRecord(value, header{kind: kind, dtype: g.dtype, number: number, bank: g.id, dim: uint32(g.dim)}), nil
	}
	var err error
	if c.classes {
		if g.manifest.classes = (recordRef{}); !g.classes.labels.IsEmpty() || g.classes.names != nil {
			value, encodeErr := g.classes.encode()
			if g.manifest.classes, err = add(kindClasses, value, encodeErr); err != nil {
				return nil, nil, err
			}
		}
	}
	if c.deleted {
		value, encodeErr := encodeDeleted(g.deadRows)
		if g.deleted, err = add(kindDeleted, value, encodeErr); err != nil {
			return nil, nil, err
		}
	}
	if c.lanes && g.layout != nil {
		if g.layout.deadLanes = (recordRef{}); !g.deadLanes.IsEmpty() {
			value, encodeErr := encodeDeleted(g.deadLanes)
			if g.layout.deadLanes, err = add(kindDeadLanes, value, encodeErr); err != nil {
				return nil, nil, err
			}
		}
	}
	if err := g.check(); err != nil {
		return nil, nil, fmt.Errorf("bank %q: refusing to commit a senseless manifest: %w", bank, err)
	}
	g.countDead()
	value := g.encode()
	if len(value) > maxRecordBytes {
		return nil, nil, fmt.Errorf("bank %q: its manifest would have %d bytes", bank, len(value))
	}
	h, _, err := openRecord(value)
	if err != nil {
		return nil, nil, err
	}
	entries = append(entries, badger.NewEntry(manifestKey(bank), value))
	entry := outsideBank{Name: bank, Generation: g.generation, Rows: g.next - g.dead, Digest: h.crc}
	return entries, before.with(bank, &entry), nil
}

// publish is the commit point.
func (db *DB) publish(bank string, removed bool, entries []*badger.Entry, next *state) error {
	db.handle.RLock()
	defer db.handle.RUnlock()
	if db.badger == nil {
		return ErrClosed
	}
	if faultOrder {
		if err := writeOutside(db.dir, next.outside()); err != nil {
			return err
		}
	}
	db.onStep("flip")
	err := db.update(func(txn *badger.Txn) error {
		for _, e := range entries {
			if err := txn.SetEntry(e); err != nil {
				return err
			}
		}
		if removed {
			if err := txn.Delete(manifestKey(bank)); err != nil {
				return err
			}
		}
		return txn.Set(stateKey, next.encode())
	})
	if err != nil {
		return err
	}
	db.onStep("flip-sync")
	// A failing sync of the value log is only logged by the transaction itself.
	if !faultNoSync {
		if err := db.badger.Sync(); err != nil {
			return err
		}
	}
	db.onStep("outside")
	if !faultOrder {
		if err := writeOutside(db.dir, next.outside()); err != nil {
			return err
		}
	}
	db.onStep("acknowledged")
	return nil
}
