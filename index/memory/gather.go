package memory

import (
	"context"
	"fmt"
	"math/bits"

	"membank/simd"
	"membank/store"
)

// Gather returns rows in the order asked for, of every view: [views] of
// [len(ids)][dim], copied. Of a queue ids are positions. A row that was never
// written holds its initial value. Errors: ErrID.
func (b *Bank) Gather(ctx context.Context, ids []int64) ([]simd.Matrix, error) {
	return b.GatherInto(ctx, ids, nil)
}

// GatherInto is Gather into matrices that are there already, one a view of at least
// len(ids) rows: a loop that uses its own spares the allocation, which takes as long
// as a quarter of a gather. It returns the part of each that was filled.
func (b *Bank) GatherInto(ctx context.Context, ids []int64, into []simd.Matrix) ([]simd.Matrix, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	b.mu.RLock()
	defer b.mu.RUnlock()
	if err := b.usable(); err != nil {
		return nil, err
	}
	return b.gather(ids, into)
}

// Rows is Gather and Columns of one moment: whatever others write meanwhile, a row
// and its version, label and key belong together. into is as for GatherInto. Errors:
// ErrID, ErrRows.
func (b *Bank) Rows(ctx context.Context, ids []int64, into []simd.Matrix) (Contents, error) {
	if err := ctx.Err(); err != nil {
		return Contents{}, err
	}
	b.mu.RLock()
	defer b.mu.RUnlock()
	if err := b.usable(); err != nil {
		return Contents{}, err
	}
	c := Contents{Positions: ids}
	var err error
	if c.Views, err = b.gather(ids, into); err == nil {
		c.Column, err = b.columns(ids)
	}
	return c, err
}

// gather is Gather with the lock held.
func (b *Bank) gather(ids []int64, into []simd.Matrix) ([]simd.Matrix, error) {
	if err := b.checkIDs(ids); err != nil {
		return nil, err
	}
	if into != nil && len(into) != len(b.views) {
		return nil, fmt.Errorf("%w: %d matrices for the rows of %d views", ErrRows, len(into), len(b.views))
	}
	out := make([]simd.Matrix, len(b.views))
	for v, a := range b.views {
		var m simd.Matrix
		switch {
		case into == nil:
			m = simd.NewMatrix(len(ids), a.Dim)
		case into[v].Dim != a.Dim || into[v].Rows < len(ids):
			return nil, fmt.Errorf("%w: a matrix of %d × %d for %d rows of view %d, which has %d dimensions", ErrRows, into[v].Rows, into[v].Dim, len(ids), v, a.Dim)
		default:
			m = into[v].Slice(0, len(ids))
		}
		rows := ids
		if b.queue.shift {
			rows = make([]int64, len(ids))
			for i, id := range ids {
				rows[i] = b.queue.row(id)
			}
		}
		a.copyApart(m, rows)
		out[v] = m
	}
	return out, nil
}

// Column is what a bank knows of rows beside their vectors.
type Column struct {
	Version []int64  // step of the last write, 0 for rows given at the creation, −1 for never
	Labels  []int64  // nil: no row has one; store.NoLabel for none
	Keys    []string // nil: no row has one
}

// Columns returns version, label and key of rows, in the order asked for. Nil ids
// are all rows, of a queue in the order of positions. Errors: ErrID.
func (b *Bank) Columns(ids []int64) (Column, error) {
	b.mu.RLock()
	defer b.mu.RUnlock()
	if err := b.usable(); err != nil {
		return Column{}, err
	}
	return b.columns(ids)
}

// columns is Columns with the lock held.
func (b *Bank) columns(ids []int64) (Column, error) {
	if err := b.checkIDs(ids); err != nil {
		return Column{}, err
	}
	n := len(ids)
	at := func(i int) int64 { return b.queue.row(ids[i]) }
	if ids == nil {
		n = int(b.c.Rows)
		at = func(i int) int64 { return b.queue.row(int64(i)) }
	}
	c := Column{Version: make([]int64, n)}
	for i := range n {
		c.Version[i] = b.version[at(i)]
	}
	if b.labels != nil {
		c.Labels = make([]int64, n)
		for i := range n {
			c.Labels[i] = b.labels[at(i)]
		}
	}
	if b.keys != nil {
		c.Keys = make([]string, n)
		for i := range n {
			c.Keys[i] = b.keys[at(i)]
		}
	}
	return c, nil
}

// SetLabels changes labels and nothing else, not even versions. Errors: ErrID,
// ErrRows.
func (b *Bank) SetLabels(ctx context.Context, ids, labels []int64, d Durability) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := b.checkDurability(&d); err != nil {
		return err
	}
	if len(ids) != len(labels) {
		return fmt.Errorf("%w: %d labels for %d ids", ErrRows, len(labels), len(ids))
	}
	if err := b.checkIDs(ids); err != nil {
		return err
	}
	b.lock()
	end, err := b.setLabels(ids, labels, d)
	b.unlock()
	if err != nil {
		return err
	}
	return b.synced(end, d)
}

func (b *Bank) setLabels(ids, labels []int64, d Durability) (int64, error) {
	if err := b.usable(); err != nil {
		return 0, err
	}
	c := &change{state: b.state}
	place := map[int64]int{}
	for i, id := range ids {
		row := b.queue.row(id)
		if p, again := place[row]; again {
			c.labels[p] = labels[i]
			continue
		}
		place[row] = len(c.ids)
		c.ids = append(c.ids, row)
		c.version = append(c.version, b.version[row])
		c.labels = append(c.labels, labels[i])
	}
	return b.commit(c, d)
}

// Age is one bar of a staleness histogram: rows whose last write is Min to Max
// steps ago.
type Age struct {
	Min  int64 `json:"min"`
	Max  int64 `json:"max"`
	Rows int64 `json:"rows"`
}

// Staleness says how many steps ago rows were written, at a step (0: the bank's
// newest): bars of 0, 1, 2-3, 4-7, … steps, and how many rows were never written.
// Reshuffled epochs of E steps give a row drawn at random a mean age of 7/12·E.
func (b *Bank) Staleness(step int64) (ages []Age, never int64, mean float64, err error) {
	b.mu.RLock()
	defer b.mu.RUnlock()
	if err := b.usable(); err != nil {
		return nil, 0, 0, err
	}
	if step == 0 {
		step = b.state.Step
	}
	written := int64(0)
	for _, v := range b.version {
		if v < 0 {
			never++
			continue
		}
		age := max(step-v, 0)
		bar := bits.Len64(uint64(age))
		for n := len(ages); n <= bar; n++ {
			ages = append(ages, Age{Min: 1 << n >> 1, Max: 1<<n - 1})
		}
		ages[bar].Rows++
		mean += float64(age)
		written++
	}
	if written > 0 {
		mean /= float64(written)
	}
	return ages, never, mean, nil
}

// Prototypes returns the centroids kept with the bank, copied; no rows if it has
// none.
func (b *Bank) Prototypes() (simd.Matrix, error) {
	b.mu.RLock()
	defer b.mu.RUnlock()
	if err := b.usable(); err != nil {
		return simd.Matrix{}, err
	}
	if b.prototypes == nil {
		return simd.Matrix{Dim: b.c.Views[0].Dim}, nil
	}
	m := simd.NewMatrix(int(b.prototypes.rows), b.prototypes.Dim)
	copy(m.Data, b.prototypes.slab.data)
	return m, nil
}

// SetPrototypes replaces centroids: row i of m becomes prototype ids[i], or with
// nil ids prototype i. Errors: ErrID, ErrRows.
func (b *Bank) SetPrototypes(ctx context.Context, ids []int64, m simd.Matrix, d Durability) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := b.checkDurability(&d); err != nil {
		return err
	}
	if ids == nil {
		ids = make([]int64, m.Rows)
		for i := range ids {
			ids[i] = int64(i)
		}
	}
	if len(ids) != m.Rows || m.Dim != b.c.Views[0].Dim {
		return fmt.Errorf("%w: %d prototypes of %d dimensions for %d ids", ErrRows, m.Rows, m.Dim, len(ids))
	}
	seen := map[int64]bool{}
	for i, id := range ids {
		if id < 0 || id >= b.c.Prototypes || seen[id] {
			return fmt.Errorf("%w: prototype %d of %d (each once)", ErrID, id, b.c.Prototypes)
		}
		seen[id] = true
		if !(simd.Norm(m.Row(i)) <= maxNorm) {
			return fmt.Errorf("%w: prototype %d holds NaN, Inf or numbers too large to square", ErrRows, i)
		}
	}
	b.lock()
	err := b.usable()
	var end int64
	if err == nil {
		end, err = b.commit(&change{prototypeIDs: ids, prototypes: m, state: b.state}, d)
	}
	b.unlock()
	if err != nil {
		return err
	}
	return b.synced(end, d)
}

// labelAt is a row's label; the lock is held.
func (b *Bank) labelAt(row int64) int64 {
	if b.labels == nil {
		return store.NoLabel
	}
	return b.labels[row]
}
