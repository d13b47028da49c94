package store

import (
	"context"
	"fmt"

	"membank/simd"
)

// Batch is a run of live rows, one element a row in each slice.
type Batch struct {
	Vectors    simd.Matrix // borrowed: overwritten by the next batch
	Rows       []int64     // borrowed likewise
	Keys       []string
	Labels     []int64     // borrowed likewise; NoLabel for none
	Attributes []Attribute // of every attribute the bank has; values borrowed likewise
}

// Batches calls fn with all live rows in row order, at most size at a time (every
// batch but the last has as many). It holds one batch, and of a bank in row order
// one block. Of any other bank it gathers as many rows at a time as fit into
// Options.Memory, and reads the bank as many times as it is larger.
func (s *Snapshot) Batches(ctx context.Context, size int, fn func(Batch) error) error {
	if size < 1 {
		return fmt.Errorf("batches of %d rows", size)
	}
	b := &batcher{size: int(min(int64(size), max(s.g.next, 1))), fn: fn}
	b.out.Vectors = simd.NewMatrix(b.size, s.g.dim)
	for _, name := range s.g.attributes {
		b.out.Attributes = append(b.out.Attributes, Attribute{Name: name})
	}
	var err error
	if s.g.layout == nil {
		err = s.batchBlocks(ctx, b)
	} else {
		err = s.batchWindows(ctx, b)
	}
	if err != nil {
		return err
	}
	return b.flush()
}

// batchBlocks is Batches for a bank in row order.
func (s *Snapshot) batchBlocks(ctx context.Context, b *batcher) error {
	g := s.g
	largest := 0
	for _, ref := range g.blocks {
		largest = max(largest, ref.rows)
	}
	r := s.NewReader()
	rows := simd.NewMatrix(largest, g.dim)
	var keys []string
	for block, ref := range g.blocks {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := r.unpack(block, rows.Slice(0, ref.rows)); err != nil {
			return err
		}
		if err := r.loadColumns(block, g.attributes); err != nil {
			return err
		}
		c := &r.columns
		keys = c.Keys(keys[:0])
		for i := range c.Rows {
			if c.Dead[i] {
				continue
			}
			for a := range b.out.Attributes {
				b.value(a, c.Attribute(b.out.Attributes[a].Name, i))
			}
			if err := b.row(rows.Row(i), c.Row[i], keys[i], c.Label[i]); err != nil {
				return err
			}
		}
	}
	return nil
}

// batchWindows is Batches for rows that stand in any order.
func (s *Snapshot) batchWindows(ctx context.Context, b *batcher) error {
	g := s.g
	gather := newGatherer(s, 1, true, func(row int64) int64 { return row })
	w := gather.newWindow(s.db.memory, g.next)
	found := int64(0)
	for from := int64(0); from < g.next; from = w.to {
		n, err := gather.fill(ctx, w, from, g.next)
		if err != nil {
			return err
		}
		found += n
		for i, row := range w.rows[:w.to-w.from] {
			if row < 0 {
				continue
			}
			for a := range b.out.Attributes {
				b.value(a, w.attributes[a].Values[i])
			}
			if err := b.row(w.vectors.Row(i), row, w.keys[i], w.labels[i]); err != nil {
				return err
			}
		}
	}
	if live := g.next - g.dead; found != live {
		return place{g.bank, -1}.damaged("columns", fmt.Sprintf("its blocks hold %d live rows, expected %d", found, live))
	}
	return nil
}

// batcher makes batches of equal size of rows that come one by one.
type batcher struct {
	size int
	n    int
	out  Batch
	fn   func(Batch) error
}

// value adds the a-th attribute of the row that comes next.
func (b *batcher) value(a int, v Value) {
	b.out.Attributes[a].Values = append(b.out.Attributes[a].Values, v)
}

func (b *batcher) row(vector []float32, row int64, key string, label int64) error {
	copy(b.out.Vectors.Row(b.n), vector)
	b.out.Rows = append(b.out.Rows, row)
	b.out.Keys = append(b.out.Keys, key)
	b.out.Labels = append(b.out.Labels, label)
	if b.n++; b.n == b.size {
		return b.flush()
	}
	return nil
}

func (b *batcher) flush() error {
	if b.n == 0 {
		return nil
	}
	full := b.out
	full.Vectors = b.out.Vectors.Slice(0, b.n)
	b.n = 0
	err := b.fn(full)
	b.out.Rows, b.out.Labels, b.out.Keys = b.out.Rows[:0], b.out.Labels[:0], nil
	for i := range b.out.Attributes {
		b.out.Attributes[i].Values = b.out.Attributes[i].Values[:0]
	}
	return err
}
