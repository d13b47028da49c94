package memory

import (
	"context"
	"fmt"

	"membank/simd"
)

// Queue is slots that are written in turn: the last Rows embeddings that came by.
// Its ids are positions, counted as Config.Order says.
type Queue struct{ *Bank }

// PushOptions say what a push brings beside rows.
type PushOptions struct {
	Labels     []int64  // nil: labels stay as they are; store.NoLabel for single rows without
	Keys       []string // nil: keys stay as they are
	Step       int64    // as in UpdateOptions
	Durability Durability
}

// Push writes a batch at the cursor: rows[v] is what view v gets, [batch][dim]. All
// views move together, so all of them must be given. What becomes of a batch that
// does not fit is Config.Wrap's business. Rows are taken as they are, not divided
// by a norm. Errors change nothing: ErrRows, ErrBatch, ErrStep, store.ErrNoSpace.
func (q *Queue) Push(ctx context.Context, rows []simd.Matrix, o PushOptions) (Written, error) {
	_, w, err := q.push(ctx, nil, rows, o)
	return w, err
}

// ReadThenPush reads the queue as it was before the batch, as Read does, and pushes
// the batch, in one step: MoCo's logits.
func (q *Queue) ReadThenPush(ctx context.Context, scope Scope, rows []simd.Matrix, o PushOptions) (Contents, Written, error) {
	if err := scope.check(); err != nil {
		return Contents{}, Written{}, err
	}
	var before Contents
	_, w, err := q.push(ctx, func() error {
		var err error
		before, err = q.read(scope, false)
		return err
	}, rows, o)
	return before, w, err
}

// push writes a batch; first, if set, is called with the lock held before that.
func (q *Queue) push(ctx context.Context, first func() error, rows []simd.Matrix, o PushOptions) (positions []int64, w Written, err error) {
	if err := ctx.Err(); err != nil {
		return nil, w, err
	}
	if err := q.checkPush(rows, &o); err != nil {
		return nil, w, err
	}
	q.lock()
	positions, w, end, err := q.pushLocked(first, rows, o)
	q.unlock()
	if err == nil {
		err = q.synced(end, o.Durability)
	}
	return positions, w, err
}

func (q *Queue) pushLocked(first func() error, rows []simd.Matrix, o PushOptions) (positions []int64, w Written, end int64, err error) {
	if err := q.usable(); err != nil {
		return nil, w, 0, err
	}
	if first != nil {
		if err := first(); err != nil {
			return nil, w, 0, err
		}
	}
	c, w := q.pushed(rows, o)
	if end, err = q.commit(c, o.Durability); err != nil {
		return nil, Written{}, 0, err
	}
	positions = make([]int64, len(c.ids))
	for i, row := range c.ids {
		positions[i] = q.queue.position(row)
	}
	return positions, w, end, nil
}

func (q *Queue) checkPush(rows []simd.Matrix, o *PushOptions) error {
	if o.Step < 0 {
		return fmt.Errorf("%w: %d (1 or more)", ErrStep, o.Step)
	}
	if err := q.checkDurability(&o.Durability); err != nil {
		return err
	}
	if len(rows) != len(q.c.Views) {
		return fmt.Errorf("%w: rows for %d views of %d, which move together", ErrRows, len(rows), len(q.c.Views))
	}
	n := rows[0].Rows
	for v, m := range rows {
		if m.Rows != n {
			return fmt.Errorf("%w: %d for view %d and %d for view 0, which move together", ErrRows, m.Rows, v, n)
		}
	}
	if err := q.checkRows(n, rows, o.Labels, o.Keys); err != nil {
		return err
	}
	k := q.c.Rows
	switch {
	case q.c.Wrap == WrapAssert && n > 0 && k%int64(n) != 0:
		return fmt.Errorf("%w: capacity %d is no multiple of the batch of %d", ErrBatch, k, n)
	case q.c.Wrap == WrapBounded && int64(n) > k:
		return fmt.Errorf("%w: a batch of %d for a capacity of %d", ErrBatch, n, k)
	}
	return nil
}

// pushed computes what a push does.
func (q *Queue) pushed(rows []simd.Matrix, o PushOptions) (*change, Written) {
	k, n := q.c.Rows, int64(rows[0].Rows)
	s := q.state.next(o.Step)
	from, to := int64(0), n // of the batch
	switch {
	case q.c.Wrap == WrapDropTail:
		to = min(n, k-s.Cursor)
	case n > k:
		from = n - k
	}
	count := to - from
	var start int64
	if q.queue.shift {
		start = (s.Cursor - count + k) % k
		s.Cursor = start
	} else {
		// A larger batch wraps as often as it does, and the cursor with it.
		start = (s.Cursor + from) % k
		s.Cursor = (s.Cursor + to) % k
	}
	s.Fill = min(k, s.Fill+count)
	s.Pushed += count
	c := &change{state: s, ids: make([]int64, count), version: make([]int64, count)}
	for i := range c.ids {
		c.ids[i] = (start + int64(i)) % k
		c.version[i] = max(q.version[c.ids[i]], s.stepOf(o.Step))
	}
	for _, m := range rows {
		c.rows = append(c.rows, m.Slice(int(from), int(to)))
	}
	if o.Labels != nil {
		c.labels = o.Labels[from:to]
	}
	if o.Keys != nil {
		c.keys = o.Keys[from:to]
	}
	return c, Written{Rows: count, Step: s.stepOf(o.Step), Cursor: s.Cursor, Fill: s.Fill, Dropped: n - count}
}

// Contents are rows of a bank in some order, with their versions, labels and keys.
type Contents struct {
	Positions []int64
	Views     []simd.Matrix // [views] of [len(Positions)][dim]
	Column
}

// Read returns the rows of the queue, copied: in the order of positions, as the
// reference implementations hold them. ScopeDefault and ScopeWritten leave out
// positions that nothing was pushed to; ScopeAll takes their initial values in, as
// MoCo's logits do.
func (q *Queue) Read(ctx context.Context, scope Scope) (Contents, error) {
	return q.readLocked(ctx, scope, false)
}

// Ordered returns the rows that were pushed, copied, oldest first, as
// stable-pretraining's OrderedQueue does.
func (q *Queue) Ordered(ctx context.Context) (Contents, error) {
	return q.readLocked(ctx, ScopeWritten, true)
}

func (q *Queue) readLocked(ctx context.Context, scope Scope, ordered bool) (Contents, error) {
	if err := ctx.Err(); err != nil {
		return Contents{}, err
	}
	if err := scope.check(); err != nil {
		return Contents{}, err
	}
	q.mu.RLock()
	defer q.mu.RUnlock()
	if err := q.usable(); err != nil {
		return Contents{}, err
	}
	return q.read(scope, ordered)
}

func (q *Queue) read(scope Scope, ordered bool) (c Contents, err error) {
	n := q.state.Fill
	if scope == ScopeAll {
		n = q.c.Rows
	}
	c.Positions = make([]int64, n)
	for i := range c.Positions {
		c.Positions[i] = int64(i)
		if ordered {
			c.Positions[i] = q.oldest(int64(i))
		}
	}
	if c.Views, err = q.gather(c.Positions, nil); err == nil {
		c.Column, err = q.columns(c.Positions)
	}
	return c, err
}

// oldest is the position of the i-th oldest row that was pushed.
func (q *Queue) oldest(i int64) int64 {
	if q.queue.shift {
		return q.state.Fill - 1 - i
	}
	if q.state.Fill < q.c.Rows {
		return i
	}
	return (q.state.Cursor + i) % q.c.Rows
}

// Ready reports whether the queue is full: SwAV leaves its queue unused until the
// oldest row is not zero.
func (q *Queue) Ready() (bool, error) {
	q.mu.RLock()
	defer q.mu.RUnlock()
	if err := q.usable(); err != nil {
		return false, err
	}
	return q.state.Fill == q.c.Rows, nil
}

// CapacityFor reduces a wanted length to a multiple of the batch, as SwAV does with
// its queue: at least one batch.
func CapacityFor(length, batch int64) int64 {
	if batch < 1 {
		return length
	}
	return max(length-length%batch, batch)
}
