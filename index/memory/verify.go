package memory

import (
	"context"
	"errors"
	"fmt"

	"membank/store"
	"membank/store/journal"
)

// Verify reads a memory bank's log and looks at what it names, without the rows: every
// record's checksum and numbers, and whether the checkpoints' banks are there as they
// were made. What the banks hold is store.DB.Verify's business. Errors:
// journal.ErrDamaged, ErrLost, ErrIncomplete; ErrNone.
func Verify(ctx context.Context, db *store.DB, name string) error {
	dir, err := db.MemoryDir(name)
	if err != nil {
		return err
	}
	log, err := journal.Open(dir, journal.Options{ReadOnly: true})
	if errors.Is(err, journal.ErrNone) {
		return fmt.Errorf("%w: %q", ErrNone, name)
	}
	if err != nil {
		return err
	}
	defer log.Close()
	b := &Bank{db: db, name: name, log: log}
	if b.head, err = decodeHead(log.Head()); err != nil {
		return err
	}
	b.c = b.head.Config
	for _, v := range b.c.Views { // a change is decoded by the shape of the rows
		b.views = append(b.views, &array{View: v, rows: b.c.Rows})
	}
	if b.c.Prototypes > 0 {
		b.prototypes = &array{View: View{Dim: b.c.Views[0].Dim}, rows: b.c.Prototypes}
	}
	err = log.Replay(ctx, func(r journal.Record) error {
		switch r.Kind {
		case kindForget:
			b.head.forget(r.Step)
			return nil
		case kindChange:
			if _, err := b.decodeChange(r.Payload); err != nil {
				return fmt.Errorf("%w: %w", journal.ErrDamaged, err)
			}
			return nil
		}
		return fmt.Errorf("%w: a record of kind %d", journal.ErrDamaged, r.Kind)
	})
	if err != nil {
		return err
	}
	if b.head.Base < 0 && b.c.Views[0].Init == InitRows {
		return ErrIncomplete
	}
	for _, c := range b.head.Checkpoints {
		if err := b.checkBanks(c); err != nil {
			return err
		}
	}
	return nil
}

// checkBanks says whether the banks of a checkpoint are there as they were made.
func (b *Bank) checkBanks(c Checkpoint) error {
	want := len(b.views)
	if b.prototypes != nil {
		want++
	}
	if len(c.Banks) != want || len(c.Made) != want || c.Rows > b.c.Rows || c.Rows != b.c.Rows && b.c.Kind == KindSlots {
		return fmt.Errorf("%w: step %d: %d banks of %d rows", ErrLost, c.Step, len(c.Banks), c.Rows)
	}
	for v, bank := range c.Banks {
		a, rows := b.prototypes, b.c.Prototypes
		if v < len(b.views) {
			a, rows = b.views[v], c.Rows
		}
		s, err := b.checkpointSnapshot(bank, c.Made[v], a.Dim, rows)
		if err != nil {
			return err
		}
		s.Close()
	}
	return nil
}
