package store

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"

	"membank/simd"
)

// Rows that are wanted in another order than they stand in are gathered: as many
// slots of the new order as fit the memory are filled by one sequential scan of
// the blocks, then the next ones. So n bytes of rows in m bytes of memory take n/m
// scans, each at the speed of the disk, and nothing else is written in between.

// window is a run of slots with the rows that belong there.
type window struct {
	from, to   int64 // slots
	vectors    simd.Matrix
	rows       []int64 // -1: the slot is empty
	keys       []string
	labels     []int64
	attributes []Attribute // every one the bank has
}

// gatherer fills windows from the live rows of a snapshot.
type gatherer struct {
	s       *Snapshot
	threads int
	keys    bool                  // whether keys are wanted
	slot    func(row int64) int64 // where a live row goes, -1 for nowhere
	visited func()                // called after each block, from several goroutines
	spans   []span                // of the blocks, once they were looked at
}

// span is the slots that a block's rows go to: [from, to), if known.
type span struct {
	known    bool
	from, to int64
}

func newGatherer(s *Snapshot, threads int, keys bool, slot func(row int64) int64) *gatherer {
	return &gatherer{s: s, threads: max(1, threads), keys: keys, slot: slot, spans: make([]span, len(s.g.blocks))}
}

// rowBytes is about what a row takes in a window.
func (g *generation) rowBytes(keys bool) int64 {
	var columns, attributes int64
	for _, r := range g.blocks {
		columns += int64(r.columns.bytes)
		for _, a := range r.attributes {
			attributes += int64(a.bytes)
		}
	}
	n := 4*int64(g.dim) + 16 + 40*int64(len(g.attributes)) + attributes/max(g.lanes(), 1)
	if keys {
		n += 16 + columns/max(g.lanes(), 1)
	}
	return n
}

// newWindow returns a window of as many slots as fit into bytes, at least one
// block's, at most total.
func (g *gatherer) newWindow(bytes, total int64) *window {
	gen := g.s.g
	slots := max(bytes/gen.rowBytes(g.keys), int64(blockRows(gen.dim, gen.dtype)))
	n := int(max(1, min(slots, total)))
	w := &window{vectors: simd.NewMatrix(n, gen.dim), rows: make([]int64, n), labels: make([]int64, n)}
	if g.keys {
		w.keys = make([]string, n)
	}
	for _, name := range gen.attributes {
		w.attributes = append(w.attributes, Attribute{name, make([]Value, n)})
	}
	return w
}

// windows is how many windows of that size there are.
func (w *window) windows(total int64) int64 {
	n := int64(w.vectors.Rows)
	return (total + n - 1) / n
}

// fill gathers the slots [from, from+…) up to total and returns how many of them
// have a row.
func (g *gatherer) fill(ctx context.Context, w *window, from, total int64) (filled int64, err error) {
	w.from, w.to = from, min(from+int64(w.vectors.Rows), total)
	for i := range w.rows {
		w.rows[i] = -1
	}
	err = g.s.eachBlock(ctx, g.threads, func(r *Reader, block int) error {
		if v := g.spans[block]; v.known && (v.to <= w.from || v.from >= w.to) {
			return nil
		}
		n, err := g.block(r, block, w)
		atomic.AddInt64(&filled, n)
		return err
	}, g.visited)
	return filled, err
}

// eachBlock calls fn with every block, from several goroutines with a Reader each,
// and done after each call.
func (s *Snapshot) eachBlock(ctx context.Context, threads int, fn func(r *Reader, block int) error, done func()) error {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	var next atomic.Int64
	var wg sync.WaitGroup
	for range min(max(1, threads), max(1, s.Blocks())) {
		wg.Go(func() {
			r := s.NewReader()
			for ctx.Err() == nil {
				block := int(next.Add(1)) - 1
				if block >= s.Blocks() {
					return
				}
				if err := fn(r, block); err != nil {
					stop(err)
					return
				}
				if done != nil {
					done()
				}
			}
		})
	}
	wg.Wait()
	return context.Cause(ctx)
}

// block copies the rows of a block that belong into the window.
func (g *gatherer) block(r *Reader, block int, w *window) (filled int64, err error) {
	gen := g.s.g
	p := place{gen.bank, block}
	if err := r.loadColumns(block, nil); err != nil {
		return 0, err
	}
	c := &r.columns
	slots := make([]int64, c.Rows) // relative to the window, -1: not in it
	v := span{known: true}
	for i, row := range c.Row {
		slots[i] = -1
		if c.Dead[i] {
			continue
		}
		if row < 0 || row >= gen.next {
			return 0, p.damaged("columns", fmt.Sprintf("row %d of %d", row, gen.next))
		}
		slot := g.slot(row)
		if slot < 0 {
			continue
		}
		if v.from == v.to {
			v.from, v.to = slot, slot+1
		}
		v.from, v.to = min(v.from, slot), max(v.to, slot+1)
		if slot >= w.from && slot < w.to {
			slots[i] = slot - w.from
			filled++
		}
	}
	g.spans[block] = v
	if filled == 0 {
		return 0, nil
	}
	for _, name := range gen.attributes {
		if err := r.loadAttribute(p, gen.blocks[block], name); err != nil {
			return 0, err
		}
	}
	for i, to := range slots {
		if to < 0 {
			continue
		}
		w.rows[to], w.labels[to] = c.Row[i], c.Label[i]
		if g.keys {
			w.keys[to] = c.Key(i)
		}
		for _, a := range w.attributes {
			a.Values[to] = c.Attribute(a.Name, i)
		}
	}
	return filled, r.View(block, func(b *Block) error {
		r.scatter(w.vectors, slots, b)
		return nil
	})
}

// scatter copies row i of a block to row to[i] of m, where that is not -1. A panel
// is turned around at once if several of its rows are wanted.
func (r *Reader) scatter(m simd.Matrix, to []int64, b *Block) {
	const several = 3
	if r.panel.Dim != b.Dim {
		r.panel = simd.NewMatrix(simd.PanelRows, b.Dim)
	}
	for first := 0; first < b.Rows; first += simd.PanelRows {
		some := to[first:min(first+simd.PanelRows, b.Rows)]
		wanted := 0
		for _, t := range some {
			if t >= 0 {
				wanted++
			}
		}
		if wanted == 0 {
			continue
		}
		panel := b.Panels[first*b.Dim:][:simd.PanelRows*b.Dim]
		if wanted >= several {
			simd.Unpack(r.panel, panel)
		}
		for i, t := range some {
			switch {
			case t < 0:
			case wanted >= several:
				copy(m.Row(int(t)), r.panel.Row(i))
			default:
				simd.UnpackRow(m.Row(int(t)), panel, i)
			}
		}
	}
}
