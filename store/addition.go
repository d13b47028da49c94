package store

import (
	"context"
	"fmt"

	"github.com/dgraph-io/badger/v4"
)

// addition is the next generation of a bank in the making that has the rows of
// the last one, and more records to them: codes, attributes. Records go to Badger
// in transactions as they come. It is for one goroutine at a time.
type addition struct {
	db      *DB
	m       *manifest
	batch   []*badger.Entry
	bytes   int64 // of the batch
	small   int64 // of these, what goes to the LSM tree
	written []recordRef
}

func newAddition(db *DB, g *generation) *addition {
	a := &addition{db: db, m: g.manifest.clone()}
	a.m.generation++
	return a
}

// add seals a record, its header left free in front of the payload.
func (a *addition) add(kind recordKind, rows int, value []byte) recordRef {
	number := a.db.newRecord()
	ref := sealRecord(value, header{kind: kind, dtype: a.m.dtype, number: number, bank: a.m.id, rows: uint32(rows), dim: uint32(a.m.dim)})
	a.batch = append(a.batch, badger.NewEntry(recordKey(number), value))
	a.bytes += int64(len(value))
	if len(value) < valueThreshold {
		a.small += int64(len(value)) + 64
	}
	a.written = append(a.written, ref)
	return ref
}

// writeFull writes the batch if it fills a transaction.
func (a *addition) writeFull() error {
	if a.bytes < transactionBytes && a.small < transactionSmall && len(a.batch) < transactionRecords {
		return nil
	}
	return a.write()
}

// write makes the batch durable.
func (a *addition) write() error {
	if len(a.batch) == 0 {
		return nil
	}
	if err := checkSpace(a.db.dir, a.bytes+1<<20); err != nil {
		return err
	}
	a.db.onStep("blocks")
	written := make(chan error, 1)
	if err := a.db.write(a.batch, func(err error) { written <- err }); err != nil {
		return err
	}
	if err := <-written; err != nil {
		return fmt.Errorf("writing records of bank %q: %w", a.m.bank, err)
	}
	a.batch, a.bytes, a.small = nil, 0, 0
	return nil
}

// finish makes the addition the bank's generation after g, or drops its records if
// something has failed.
func (a *addition) finish(ctx context.Context, g *generation, err error) (Info, error) {
	next := &generation{manifest: a.m, deadRows: g.deadRows, deadLanes: g.deadLanes, classes: g.classes}
	return a.publish(ctx, next, change{}, err)
}

// publish makes next, which has the addition's manifest, the bank's generation, or
// drops the addition's records if something has failed.
func (a *addition) publish(ctx context.Context, next *generation, c change, err error) (Info, error) {
	if err == nil {
		err = a.write()
	}
	if err == nil {
		a.db.onStep("sync")
		err = a.db.sync()
	}
	if err == nil {
		err = ctx.Err()
	}
	if err == nil {
		err = a.db.flip(a.m.bank, next, c)
	}
	if err != nil {
		if dropped := a.db.deleteRecords(a.written); dropped != nil {
			a.db.log.Info("unused records stay until the next open", "bank", a.m.bank, "error", dropped)
		}
		return Info{}, err
	}
	return next.info(), nil
}
