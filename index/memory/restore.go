package memory

import (
	"context"
	"errors"
	"fmt"

	"membank/store"
	"membank/store/journal"
)

// Restore brings the bank back to the checkpoint of a step, as when training
// resumes from its own; what was written since is gone. Later checkpoints stay
// until a checkpoint of the same step takes their place. Errors: ErrNoCheckpoint,
// and the bank is as it was; ErrLost, store.ErrCorrupt, and the bank must be opened
// again (it is then at its last durable state).
func (b *Bank) Restore(ctx context.Context, step int64) (Checkpoint, error) {
	b.lock()
	defer b.unlock()
	if err := b.usable(); err != nil {
		return Checkpoint{}, err
	}
	if b.log == nil {
		return Checkpoint{}, ErrNoDatabase
	}
	if b.db.ReadOnly() {
		return Checkpoint{}, fmt.Errorf("%s: %w", b.db.Dir(), store.ErrReadOnly)
	}
	c, err := b.restore(ctx, step)
	if err != nil && !errors.Is(err, ErrNoCheckpoint) {
		b.broken = err
	}
	return c, err
}

// restore is Restore, alone with the bank.
func (b *Bank) restore(ctx context.Context, step int64) (Checkpoint, error) {
	h := b.head
	if h.Base = h.find(step); h.Base < 0 {
		steps := make([]int64, len(h.Checkpoints))
		for i, c := range h.Checkpoints {
			steps[i] = c.Step
		}
		return Checkpoint{}, fmt.Errorf("%w: step %d of %q (there are %v)", ErrNoCheckpoint, step, b.name, steps)
	}
	c := h.Checkpoints[h.Base]
	err := b.loadCheckpoint(ctx, c)
	if err == nil {
		err = b.restart(h)
	}
	if err != nil {
		return Checkpoint{}, fmt.Errorf("memory bank %q: %w", b.name, err)
	}
	b.dirty, b.dirtyProto = nil, nil
	return c, nil
}

// OpenAt opens a memory bank at the checkpoint of a step, as Open and Restore do, and
// reads neither the checkpoint that its log applies to nor what the log says: it is
// the way back when that checkpoint is lost. An error leaves everything as it was.
func OpenAt(ctx context.Context, db *store.DB, name string, step int64) (*Bank, Checkpoint, error) {
	if db.ReadOnly() {
		return nil, Checkpoint{}, fmt.Errorf("%s: %w", db.Dir(), store.ErrReadOnly)
	}
	b, err := openLog(db, name)
	if err != nil {
		return nil, Checkpoint{}, err
	}
	var c Checkpoint
	if b.head, err = decodeHead(b.log.Head()); err == nil {
		b.c = b.head.Config
		err = b.log.Replay(ctx, func(r journal.Record) error {
			if r.Kind == kindForget {
				b.head.forget(r.Step)
			}
			return nil
		})
	}
	if err == nil {
		err = b.allocate()
	}
	if err == nil {
		c, err = b.restore(ctx, step)
	}
	if err != nil {
		b.Close()
		return nil, c, err
	}
	return b, c, nil
}

// Forget removes the checkpoint of a step and its banks. The one that the log
// applies to cannot be removed: ErrStep.
func (b *Bank) Forget(ctx context.Context, step int64) error {
	b.lock()
	defer b.unlock()
	if err := b.usable(); err != nil {
		return err
	}
	if b.log == nil {
		return ErrNoDatabase
	}
	if b.db.ReadOnly() {
		return fmt.Errorf("%s: %w", b.db.Dir(), store.ErrReadOnly)
	}
	at := b.head.find(step)
	switch {
	case at < 0:
		return fmt.Errorf("%w: step %d of %q", ErrNoCheckpoint, step, b.name)
	case at == b.head.Base:
		return fmt.Errorf("%w: the log applies to checkpoint %d (make a later one first)", ErrStep, step)
	}
	banks := b.head.Checkpoints[at].Banks
	if err := b.forget(step); err != nil {
		return err
	}
	for _, bank := range banks {
		if _, err := b.db.RemoveBank(ctx, bank); err != nil && !errors.Is(err, store.ErrNoBank) {
			return err
		}
	}
	return nil
}
