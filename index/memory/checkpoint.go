package memory

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"membank/simd"
	"membank/store"
	"membank/store/journal"
)

// Checkpoint is a state of a bank that was given a bank of its own to lie in, or
// one for each view: ordinary banks, which query, eval, diagnose and export read
// like any other. Row i is slot or position i; positions of a queue that nothing
// was pushed to are left out. Attribute "step" is the version of a row (null: never
// written), and "sample" the key that was pushed with a row of a queue.
type Checkpoint struct {
	Step  int64     `json:"step"`
	Bank  string    `json:"checkpoint"` // of the first view
	Banks []string  `json:"banks"`      // of all views, and of the prototypes
	Rows  int64     `json:"rows"`
	Time  time.Time `json:"time"`
	// Made are the times at which the banks were made: a bank of the same name made
	// at another time is another bank.
	Made  []time.Time `json:"made"`
	State state       `json:"state"`
}

// head is the first record of a log: what the bank is, what checkpoints there are,
// and to which of them the log applies.
type head struct {
	Format      int          `json:"format"`
	Config      Config       `json:"config"`
	Checkpoints []Checkpoint `json:"checkpoints"` // ascending steps
	Base        int          `json:"base"`        // −1: initial rows
}

const headFormat = 1

func (h head) encode() ([]byte, error) { return json.Marshal(h) }

func decodeHead(b []byte) (head, error) {
	var h head
	if err := json.Unmarshal(b, &h); err != nil {
		return h, fmt.Errorf("%w: head of the log: %w", ErrLost, err)
	}
	if h.Format != headFormat {
		return h, fmt.Errorf("%w: format %d of the log, this membank reads %d", store.ErrNewerFormat, h.Format, headFormat)
	}
	if err := h.Config.check(); err != nil {
		return h, fmt.Errorf("%w: head of the log: %w", ErrLost, err)
	}
	if h.Base < -1 || h.Base >= len(h.Checkpoints) {
		return h, fmt.Errorf("%w: head of the log: checkpoint %d of %d", ErrLost, h.Base, len(h.Checkpoints))
	}
	return h, nil
}

// find returns the place of the checkpoint of a step, or −1.
func (h *head) find(step int64) int {
	return slices.IndexFunc(h.Checkpoints, func(c Checkpoint) bool { return c.Step == step })
}

// with returns a head with one checkpoint more, to which the log applies.
func (h head) with(c Checkpoint) head {
	h.Checkpoints = slices.Clone(h.Checkpoints)
	at, _ := slices.BinarySearchFunc(h.Checkpoints, c.Step, func(c Checkpoint, step int64) int { return int(min(1, max(-1, c.Step-step))) })
	h.Checkpoints = slices.Insert(h.Checkpoints, at, c)
	h.Base = at
	return h
}

// forget takes the checkpoint of a step off the list, unless the log applies to it.
func (h *head) forget(step int64) {
	at := h.find(step)
	if at < 0 || at == h.Base {
		return
	}
	h.Checkpoints = slices.Delete(slices.Clone(h.Checkpoints), at, at+1)
	if h.Base > at {
		h.Base--
	}
}

// checkpointBank is the name of a checkpoint's bank; view len(Views) is that of the
// prototypes.
func (b *Bank) checkpointBank(step int64, view int) string {
	name := fmt.Sprintf("%s/step-%d", b.name, step)
	switch {
	case view == 0:
		return name
	case view == len(b.c.Views):
		return name + "/prototypes"
	}
	return fmt.Sprintf("%s/view-%d", name, view)
}

// provenance says whose checkpoint a bank is.
func (b *Bank) provenance() string { return "memory bank " + b.name }

// Checkpoint writes the bank as it is to banks of its own, named after a step (0:
// the newest step of an update), and begins the log anew: everything up to here is
// durable then, however it was acknowledged. Readers go on meanwhile, writers wait.
// A kill at any moment leaves the state before or this one, with the same rows.
//
// A checkpoint of that step is replaced if the log does not apply to it, as after
// Restore to an earlier one; else it is returned as it is if nothing was written
// since, and ErrStep if something was. ErrStep, too, for a step that the bank has
// passed.
func (b *Bank) Checkpoint(ctx context.Context, step int64) (Checkpoint, error) {
	b.writing.Lock()
	defer b.writing.Unlock()
	b.mu.Lock()
	step, c, old, err := b.admit(step)
	b.mu.Unlock()
	if err != nil || old {
		return c, err
	}
	b.mu.RLock()
	c, err = b.write(ctx, step)
	b.mu.RUnlock()
	if err != nil {
		return Checkpoint{}, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := b.restart(b.head.with(c)); err != nil {
		return Checkpoint{}, err
	}
	b.state, b.dirty, b.dirtyProto = c.State, nil, nil
	return c, nil
}

// admit says whether there may be a checkpoint of a step, and which step it is;
// old: there is one of this very state.
func (b *Bank) admit(step int64) (_ int64, c Checkpoint, old bool, err error) {
	if err := b.usable(); err != nil {
		return step, c, false, err
	}
	switch {
	case b.log == nil:
		return step, c, false, ErrNoDatabase
	case b.db.ReadOnly():
		return step, c, false, fmt.Errorf("%s: %w", b.db.Dir(), store.ErrReadOnly)
	case step == 0:
		step = b.state.Step
	case step < b.state.Step:
		return step, c, false, fmt.Errorf("%w: %d, and the bank is at step %d", ErrStep, step, b.state.Step)
	}
	at := b.head.find(step)
	switch {
	case at < 0:
		return step, c, false, nil
	case at != b.head.Base:
		// Forget it first: no head may name a bank that is being replaced.
		return step, c, false, b.forget(step)
	}
	if base := b.head.Checkpoints[at]; base.State == b.state && b.dirty == nil && b.dirtyProto == nil {
		return step, base, true, nil
	}
	return step, c, false, fmt.Errorf("%w: %d has a checkpoint, and the bank was written since (name another step)", ErrStep, step)
}

// restart begins the log anew.
func (b *Bank) restart(h head) error {
	encoded, err := h.encode()
	if err == nil {
		err = b.log.Rotate(encoded)
	}
	if err == nil {
		b.head = h
	}
	return err
}

// forget notes durably that there is no checkpoint of a step any more.
func (b *Bank) forget(step int64) error {
	end, err := b.log.Append(journal.Piece{Kind: kindForget, Step: step})
	if err == nil {
		err = b.log.Sync(end)
	}
	if err == nil {
		b.head.forget(step)
	}
	return err
}

// write fills the checkpoint's banks.
func (b *Bank) write(ctx context.Context, step int64) (Checkpoint, error) {
	c := Checkpoint{Step: step, Bank: b.checkpointBank(step, 0), Rows: b.filled(), Time: time.Now().UTC(), State: b.state}
	c.State.Step = step
	for v, a := range b.views {
		info, err := b.writeView(ctx, b.checkpointBank(step, v), a, c.Rows, v == 0)
		if err != nil {
			return c, err
		}
		c.Banks, c.Made = append(c.Banks, info.Bank), append(c.Made, info.Created)
	}
	if b.prototypes != nil {
		info, err := b.writeView(ctx, b.checkpointBank(step, len(b.views)), b.prototypes, b.prototypes.rows, false)
		if err != nil {
			return c, err
		}
		c.Banks, c.Made = append(c.Banks, info.Bank), append(c.Made, info.Created)
	}
	return c, nil
}

// filled is how many positions have something to keep.
func (b *Bank) filled() int64 {
	if b.c.Kind == KindQueue {
		return b.state.Fill
	}
	return b.c.Rows
}

func (b *Bank) writeView(ctx context.Context, bank string, a *array, rows int64, columns bool) (store.Info, error) {
	if s, err := b.db.Snapshot(bank); err == nil {
		mine := s.Info().Source().Command == b.provenance()
		s.Close()
		if !mine {
			return store.Info{}, fmt.Errorf("%w: %q, which is no checkpoint (name another step, or remove that bank)", store.ErrBankExists, bank)
		}
	}
	w, err := b.db.NewWriter(ctx, bank, a.Dim, store.WriterOptions{Mode: store.Replace, Source: store.Provenance{Command: b.provenance(), Time: time.Now().UTC()}})
	if err != nil {
		return store.Info{}, err
	}
	defer w.Abort()
	const piece = 2048
	scratch := simd.NewMatrix(piece, a.Dim)
	for at := int64(0); at < rows; at += piece {
		n := min(piece, rows-at)
		part := store.Rows{Vectors: scratch.Slice(0, int(n))}
		versions, samples := make([]store.Value, n), []store.Value(nil)
		for i := range n {
			row := at + i
			if a != b.prototypes {
				row = b.queue.row(at + i)
			}
			copy(scratch.Row(int(i)), a.row(row))
			if !columns {
				continue
			}
			if v := b.version[row]; v >= 0 {
				versions[i] = store.Int(v)
			}
			if b.labels != nil {
				part.Labels = append(part.Labels, b.labels[row])
			}
			switch {
			case b.keys == nil:
			case b.c.Kind == KindSlots:
				part.Keys = append(part.Keys, b.keys[row])
			case b.keys[row] == "":
				samples = append(samples, store.Value{})
			default:
				samples = append(samples, store.Text(b.keys[row]))
			}
		}
		if columns {
			part.Attributes = append(part.Attributes, store.Attribute{Name: "step", Values: versions})
		}
		if samples != nil {
			part.Attributes = append(part.Attributes, store.Attribute{Name: "sample", Values: samples})
		}
		if err := w.Append(ctx, part); err != nil {
			return store.Info{}, err
		}
	}
	return w.Commit(ctx)
}

// loadBase fills the arrays with what the log applies to.
func (b *Bank) loadBase(ctx context.Context) error {
	if b.head.Base < 0 {
		if b.c.Views[0].Init == InitRows {
			return fmt.Errorf("%w (membank bank drop removes it; then make it again)", ErrIncomplete)
		}
		return b.initialise(ctx)
	}
	return b.loadCheckpoint(ctx, b.head.Checkpoints[b.head.Base])
}

// loadCheckpoint fills the arrays with a checkpoint.
func (b *Bank) loadCheckpoint(ctx context.Context, c Checkpoint) error {
	if err := b.checkBanks(c); err != nil {
		return err
	}
	if c.Rows < b.c.Rows {
		if err := b.initialise(ctx); err != nil {
			return err
		}
	}
	b.state, b.queue.cursor = c.State, c.State.Cursor
	b.labels, b.keys = nil, nil
	for v, bank := range c.Banks {
		a, rows := b.prototypes, b.c.Prototypes
		if v < len(b.views) {
			a, rows = b.views[v], c.Rows
		}
		if err := b.readView(ctx, bank, c.Made[v], a, rows, v == 0); err != nil {
			return err
		}
	}
	return nil
}

// checkpointSnapshot pins a bank of a checkpoint if it is the one that was made then.
func (b *Bank) checkpointSnapshot(bank string, made time.Time, dim int, rows int64) (*store.Snapshot, error) {
	s, err := b.db.Snapshot(bank)
	if errors.Is(err, store.ErrNoBank) {
		return nil, fmt.Errorf("%w: bank %q is gone", ErrLost, bank)
	}
	if err != nil {
		return nil, err
	}
	info := s.Info()
	if info.Rows != rows || info.Next != rows || info.Dim != dim || !info.Created.Equal(made) {
		s.Close()
		return nil, fmt.Errorf("%w: bank %q has %d rows of %d dimensions made %v, expected %d of %d made %v",
			ErrLost, bank, info.Rows, info.Dim, info.Created.UTC(), rows, dim, made.UTC())
	}
	return s, nil
}

func (b *Bank) readView(ctx context.Context, bank string, made time.Time, a *array, rows int64, columns bool) error {
	s, err := b.checkpointSnapshot(bank, made, a.Dim, rows)
	if err != nil {
		return err
	}
	defer s.Close()
	labelled := s.Info().Classes > 0
	at := int64(0)
	return s.Batches(ctx, 1024, func(batch store.Batch) error {
		for i := range batch.Vectors.Rows {
			row := at
			if a != b.prototypes {
				row = b.queue.row(at)
			}
			at++
			a.set(row, batch.Vectors.Row(i))
			if !columns {
				continue
			}
			b.version[row] = -1
			if labelled {
				b.needLabels()
				b.labels[row] = batch.Labels[i]
			}
			for _, attribute := range batch.Attributes {
				switch v := attribute.Values[i]; {
				case v.IsNull():
				case attribute.Name == "step":
					b.version[row] = v.Int()
				case attribute.Name == "sample" && b.c.Kind == KindQueue:
					b.needKeys()
					b.keys[row] = v.Text()
				}
			}
			if b.c.Kind == KindSlots {
				b.readKey(row, batch.Keys[i])
			}
		}
		return nil
	})
}

// readKey takes the key of a slot, in order. Decimal row numbers are what rows
// without keys are called, and cost nothing until another key comes.
func (b *Bank) readKey(row int64, key string) {
	if b.keys == nil {
		if key == strconv.FormatInt(row, 10) {
			return
		}
		b.needKeys()
		for i := range row {
			b.keys[i] = strconv.FormatInt(i, 10)
		}
	}
	b.keys[row] = key
}

func (b *Bank) needKeys() {
	if b.keys == nil {
		b.keys = make([]string, b.c.Rows)
	}
}
