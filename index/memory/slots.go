package memory

import (
	"context"
	"fmt"

	"membank/simd"
)

// Slots are rows that a training loop overwrites by id: a sample's embedding of the
// last epoch, or a moving average of all of them.
type Slots struct{ *Bank }

// Renorm says what happens to a row after the old and the new value were mixed.
type Renorm string

const (
	RenormL2     Renorm = "l2"      // x/max(‖x‖, 1e-12): InstDisc, CMC, NPID, PIRL, PyContrast, and the default ("")
	RenormL2Plus Renorm = "l2-plus" // x/(‖x‖+1e-10): ODC
	RenormNone   Renorm = "none"    // as it is: SimMatch, class probabilities
)

// Renorms are the names of all of them.
var Renorms = []Renorm{RenormL2, RenormL2Plus, RenormNone}

// UpdateOptions say how new rows go into their slots:
//
//	slot = renorm(KeepOld·old + (1−KeepOld)·new)
//
// Where that is a zero vector, as when new = −old at 0.5, the old row stays. The
// zero value overwrites and divides by the norm.
type UpdateOptions struct {
	// KeepOld is the weight of the old row, 0 to 1: InstDisc's m (0.5). Beware of
	// mmselfsup's momentum, which weights the new row: give 1−m for it (FromNew).
	KeepOld float32
	Renorm  Renorm
	// Compound mixes every occurrence of an id into the result of the one before
	// it. Otherwise each is mixed with the row as it was before the call, and the
	// last one in the batch wins.
	Compound bool
	// Step of the training loop, at least 1; 0 is one more than the largest so far.
	// A row's version is the largest step that wrote it.
	Step       int64
	Labels     []int64 // nil: labels stay; else one a row, store.NoLabel for none
	Durability Durability
	// Into, if set, is where GatherThenUpdate puts the rows it reads, as GatherInto
	// does.
	Into []simd.Matrix
}

// FromNew is the KeepOld of an implementation whose momentum weights the new row:
// mmselfsup's SimpleMemory and ODCMemory.
func FromNew(momentum float32) float32 { return 1 - momentum }

// Written says what an update or a push did.
type Written struct {
	Rows int64 `json:"rows"` // slots written
	// Kept are zero sums: rows that kept their old value in a view.
	Kept int64 `json:"kept"`
	Step int64 `json:"step"`
	// Of a queue, after the push.
	Cursor int64 `json:"cursor"`
	Fill   int64 `json:"fill"`
	// Dropped are rows of the batch that no position took.
	Dropped int64 `json:"dropped"`
}

// Update mixes rows into slots: rows[v] is what view v gets, [len(ids)][dim]; a view
// whose matrix has no rows is left alone. When it returns, the update is as durable
// as was asked. Errors change nothing: ErrID, ErrRows, ErrOptions, ErrStep,
// store.ErrNoSpace; but one of an fsync means that the update is in memory and may
// not be on disk.
//
// It reads and writes the rows concerned, and a log record of their size.
func (s *Slots) Update(ctx context.Context, ids []int64, rows []simd.Matrix, o UpdateOptions) (Written, error) {
	_, w, err := s.GatherThenUpdate(ctx, nil, ids, rows, o)
	return w, err
}

// GatherThenUpdate reads rows and then updates others, in one step: the logits of a
// batch are computed on the bank before the batch, whatever other ranks do at the
// same time. It returns rows gather of every view, as Gather does.
func (s *Slots) GatherThenUpdate(ctx context.Context, gather []int64, ids []int64, rows []simd.Matrix, o UpdateOptions) ([]simd.Matrix, Written, error) {
	if err := ctx.Err(); err != nil {
		return nil, Written{}, err
	}
	if err := s.checkUpdate(ids, rows, &o); err != nil {
		return nil, Written{}, err
	}
	s.lock()
	read, w, end, err := s.update(gather, ids, rows, o)
	s.unlock()
	if err == nil {
		err = s.synced(end, o.Durability)
	}
	if err != nil {
		return nil, Written{}, err
	}
	return read, w, nil
}

func (s *Slots) update(gather []int64, ids []int64, rows []simd.Matrix, o UpdateOptions) (read []simd.Matrix, w Written, end int64, err error) {
	if err := s.usable(); err != nil {
		return nil, w, 0, err
	}
	if gather != nil {
		if read, err = s.gather(gather, o.Into); err != nil {
			return nil, w, 0, err
		}
	}
	c, kept := s.mixed(ids, rows, o)
	c.state = s.state.next(o.Step)
	for i, id := range c.ids {
		c.version[i] = max(s.version[id], c.state.stepOf(o.Step))
	}
	if end, err = s.commit(c, o.Durability); err != nil {
		return nil, w, 0, err
	}
	return read, Written{Rows: int64(len(c.ids)), Kept: kept, Step: c.state.stepOf(o.Step), Fill: s.c.Rows}, end, nil
}

// next is the state after one more update.
func (s state) next(step int64) state {
	s.Updates++
	s.Step = max(s.Step, step)
	if step == 0 {
		s.Step++
	}
	return s
}

// stepOf is the step that a call counts as, after next.
func (s state) stepOf(step int64) int64 {
	if step == 0 {
		return s.Step
	}
	return step
}

func (s *Slots) checkUpdate(ids []int64, rows []simd.Matrix, o *UpdateOptions) error {
	if o.Renorm == "" {
		o.Renorm = RenormL2
	}
	switch {
	case !(o.KeepOld >= 0 && o.KeepOld <= 1):
		return fmt.Errorf("%w: keep-old is %v (0 to 1)", ErrOptions, o.KeepOld)
	case !contains(Renorms, o.Renorm):
		return fmt.Errorf("%w: renorm %q (one of %v)", ErrOptions, o.Renorm, Renorms)
	case o.Step < 0:
		return fmt.Errorf("%w: %d (1 or more)", ErrStep, o.Step)
	}
	if err := s.checkDurability(&o.Durability); err != nil {
		return err
	}
	if err := s.checkIDs(ids); err != nil {
		return err
	}
	return s.checkRows(len(ids), rows, o.Labels, nil)
}

func (b *Bank) checkIDs(ids []int64) error {
	for i, id := range ids {
		if id < 0 || id >= b.c.Rows {
			return fmt.Errorf("%w: id %d at position %d (0 to %d)", ErrID, id, i, b.c.Rows-1)
		}
	}
	return nil
}

// checkRows looks at what a batch of n brings.
func (b *Bank) checkRows(n int, rows []simd.Matrix, labels []int64, keys []string) error {
	if len(rows) > len(b.c.Views) || len(rows) == 0 {
		return fmt.Errorf("%w: rows for %d views of %d", ErrRows, len(rows), len(b.c.Views))
	}
	if labels != nil && len(labels) != n || keys != nil && len(keys) != n {
		return fmt.Errorf("%w: %d labels and %d keys for a batch of %d", ErrRows, len(labels), len(keys), n)
	}
	given := false
	for v, m := range rows {
		if m.Rows == 0 && n > 0 {
			continue
		}
		given = true
		if m.Rows != n || m.Dim != b.c.Views[v].Dim {
			return fmt.Errorf("%w: %d of %d dimensions for view %d, expected %d of %d", ErrRows, m.Rows, m.Dim, v, n, b.c.Views[v].Dim)
		}
		for i := range m.Rows {
			if norm := simd.Norm(m.Row(i)); !(norm <= maxNorm) {
				return fmt.Errorf("%w: row %d of view %d holds NaN, Inf or numbers too large to square", ErrRows, i, v)
			}
		}
	}
	if !given && n > 0 {
		return fmt.Errorf("%w: no view has any", ErrRows)
	}
	for i, k := range keys {
		if len(k) > maxKeyBytes {
			return fmt.Errorf("%w: key %d has %d bytes (up to %d)", ErrRows, i, len(k), maxKeyBytes)
		}
	}
	return nil
}

const maxKeyBytes = 4096

// mixed computes what the slots become. kept counts zero sums.
func (s *Slots) mixed(ids []int64, rows []simd.Matrix, o UpdateOptions) (c *change, kept int64) {
	// at[i] is the row of the change that occurrence i goes to: ids occur once there.
	c = &change{ids: make([]int64, 0, len(ids)), rows: make([]simd.Matrix, len(rows))}
	at, place := make([]int, len(ids)), make(map[int64]int, len(ids))
	for i, id := range ids {
		p, again := place[id]
		if !again {
			p = len(c.ids)
			place[id] = p
			c.ids = append(c.ids, id)
		}
		at[i] = p
	}
	c.version = make([]int64, len(c.ids))
	if o.Labels != nil {
		c.labels = make([]int64, len(c.ids))
		for i, label := range o.Labels {
			c.labels[at[i]] = label
		}
	}
	written := make([]bool, len(c.ids))
	for v, m := range rows {
		if m.Rows == 0 {
			c.rows[v] = simd.Matrix{Dim: s.views[v].Dim}
			continue
		}
		before, out := s.scratch(2*v, len(c.ids), m.Dim), s.scratch(2*v+1, len(c.ids), m.Dim)
		s.views[v].copyRows(before, c.ids)
		clear(written)
		for i := range ids {
			old, to := before.Row(at[i]), out.Row(at[i])
			if o.Compound && written[at[i]] {
				old = to
			}
			if !blend(to, old, m.Row(i), o) {
				kept++
			}
			written[at[i]] = true
		}
		c.rows[v] = out
	}
	return c, kept
}

// scratch is a matrix that holds anything, for as long as the bank is held alone.
func (b *Bank) scratch(i, rows, dim int) simd.Matrix {
	for len(b.buffers) <= i {
		b.buffers = append(b.buffers, nil)
	}
	const keep = 1 << 22 // floats; larger batches are rare
	if rows*dim > keep {
		return simd.NewMatrix(rows, dim)
	}
	if cap(b.buffers[i]) < rows*dim {
		b.buffers[i] = make([]float32, rows*dim)
	}
	return simd.Matrix{Data: b.buffers[i][:rows*dim], Rows: rows, Dim: dim}
}

// blend sets to to the mix of old and fresh, and reports whether it is one: of a
// zero sum the old row stays. to may be old.
func blend(to, old, fresh []float32, o UpdateOptions) bool {
	sum := to
	var scratch []float32
	if &to[0] == &old[0] { // the old row must survive a zero sum
		scratch = make([]float32, len(to))
		sum = scratch
	}
	simd.Blend(sum, old, fresh, o.KeepOld)
	ok := o.Renorm == RenormNone
	if !ok {
		norm := simd.Norm(sum)
		switch {
		case norm == 0:
			copy(sum, old)
		case o.Renorm == RenormL2Plus:
			for i, x := range sum {
				sum[i] = float32(float64(x) / (norm + 1e-10))
			}
			ok = true
		default:
			simd.Normalize(sum, sum)
			ok = true
		}
	}
	if scratch != nil {
		copy(to, scratch)
	}
	return ok
}
