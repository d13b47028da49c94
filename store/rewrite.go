package store

import (
	"context"
	"fmt"
	"sync"

	"github.com/RoaringBitmap/roaring/v2/roaring64"
)

// rewrite writes a bank's live rows in the order of their lists, into a generation
// without deltas and dead lanes.
type rewrite struct {
	db     *DB
	s      *Snapshot
	o      GroupOptions
	lists  int    // 0: row order
	opaque []byte // nil: those there are
	// listsOf calls put with every live row of a block.
	listsOf func(r *Reader, block int, put func(row int64, list int32)) error

	slots    []uint32 // of each row: its list, later its position; nowhere for deleted rows
	ends     []int64  // of each list: the position behind its last row
	pipeline *pipeline

	progress sync.Mutex
	done     int64
	total    int64
}

// oneList puts all rows into list 0.
func (w *rewrite) oneList(r *Reader, block int, put func(row int64, list int32)) error {
	return r.Columns(block, func(c *Columns) error {
		for i, row := range c.Row {
			if !c.Dead[i] {
				put(row, 0)
			}
		}
		return nil
	})
}

// ownLists puts all rows into the lists they are in.
func (w *rewrite) ownLists(r *Reader, block int, put func(row int64, list int32)) error {
	runs, err := w.s.readRuns(block)
	if err != nil {
		return err
	}
	return r.Columns(block, func(c *Columns) error {
		for _, run := range runs {
			for i := run.From; i < run.To; i++ {
				if !c.Dead[i] {
					put(c.Row[i], run.List)
				}
			}
		}
		return nil
	})
}

func (w *rewrite) run(ctx context.Context) (Info, error) {
	g := w.s.g
	switch {
	case w.o.Encode == nil && w.o.Basis != nil:
		return Info{}, fmt.Errorf("bank %q: a basis and nothing to encode with", g.bank)
	case w.o.Encode != nil && w.o.Basis == nil && g.basis.number == 0:
		return Info{}, fmt.Errorf("bank %q has no basis yet to encode with", g.bank)
	case g.next-g.dead > maxLanes:
		return Info{}, fmt.Errorf("bank %q: more than %d rows", g.bank, int64(maxLanes))
	}
	keyed := g.keyed()
	gather := newGatherer(w.s, w.o.Threads, keyed, func(row int64) int64 {
		if w.slots[row] == nowhere {
			return -1
		}
		return int64(w.slots[row])
	})
	memory := w.o.Memory
	if memory == 0 {
		memory = groupMemory
	}
	live := g.next - g.dead
	window := gather.newWindow(memory, live)
	rows := int64(blockRows(g.dim, g.dtype))
	w.total = int64(len(g.blocks)) * (1 + window.windows(live))
	if w.o.Encode != nil {
		w.total += (live + rows - 1) / rows
	}
	gather.visited = w.step
	if err := w.place(ctx); err != nil {
		return Info{}, err
	}
	m := w.draft()
	w.pipeline = newPipeline(w.db, m)
	w.pipeline.last = func() error { return w.writeLayout(m) }
	err := w.write(ctx, gather, window, keyed)
	if err != nil {
		w.pipeline.fail(err)
	}
	err = w.pipeline.wait()
	m.attributes, m.blocks = w.pipeline.table()
	if m.layout != nil {
		m.layout.base = len(m.blocks)
	}
	next := &generation{manifest: m, deadRows: g.deadRows, deadLanes: roaring64.New(), classes: g.classes}
	a := &addition{db: w.db, m: m, written: w.pipeline.written}
	if err == nil && w.o.Encode != nil {
		err = w.encode(ctx, next, a)
	}
	return a.publish(ctx, next, change{}, err)
}

// step counts a block for Progress.
func (w *rewrite) step() {
	if w.o.Progress == nil {
		return
	}
	w.progress.Lock()
	defer w.progress.Unlock()
	w.done = min(w.done+1, w.total)
	w.o.Progress(w.done, w.total)
}

// place finds the list of every row, and then its position: by list, then by row.
func (w *rewrite) place(ctx context.Context) error {
	g := w.s.g
	w.slots = make([]uint32, g.next)
	for i := range w.slots {
		w.slots[i] = nowhere
	}
	err := w.s.eachBlock(ctx, w.o.Threads, func(r *Reader, block int) error {
		stray := int64(-1)
		err := w.listsOf(r, block, func(row int64, list int32) {
			if row < 0 || row >= g.next || w.slots[row] != nowhere {
				stray = row
				return
			}
			w.slots[row] = uint32(list)
		})
		if err == nil && stray >= 0 {
			err = place{g.bank, block}.damaged("columns", fmt.Sprintf("row %d stands there twice or is not of this bank", stray))
		}
		return err
	}, w.step)
	if err != nil {
		return err
	}
	sizes := make([]int64, max(1, w.lists))
	found := int64(0)
	for _, list := range w.slots {
		if list != nowhere {
			sizes[list]++
			found++
		}
	}
	if found != g.next-g.dead {
		return place{g.bank, -1}.damaged("columns", fmt.Sprintf("its blocks hold %d live rows, expected %d", found, g.next-g.dead))
	}
	position := int64(0)
	for list, n := range sizes {
		sizes[list] = position
		position += n
	}
	for row, list := range w.slots {
		if list != nowhere {
			w.slots[row] = uint32(sizes[list])
			sizes[list]++
		}
	}
	w.ends = sizes // every list's next position is now its end
	return nil
}

// draft is the next manifest, less its blocks and the records of its layout.
func (w *rewrite) draft() *manifest {
	m := w.s.g.manifest.clone()
	m.generation++
	m.blocks, m.attributes = nil, nil
	old := m.layout
	m.layout = nil
	if w.lists > 0 || m.dead > 0 {
		m.layout = &layout{lists: w.lists, purged: m.dead}
		if w.lists > 0 && w.opaque == nil {
			m.layout.opaque = old.opaque
		}
	}
	return m
}

// write gathers all rows in their new order and sends them off in blocks.
func (w *rewrite) write(ctx context.Context, gather *gatherer, window *window, keyed bool) error {
	g := w.s.g
	live := g.next - g.dead
	d := feed{pipeline: w.pipeline}
	list := 0
	for from := int64(0); from < live; from = window.to {
		n, err := gather.fill(ctx, window, from, live)
		if err != nil {
			return err
		}
		if n != window.to-from {
			return place{g.bank, -1}.damaged("columns", fmt.Sprintf("%d of %d rows are there", n, window.to-from))
		}
		rows := Rows{Keys: window.keys, Attributes: window.attributes}
		for i := range int(n) {
			if err := d.makeRoom(ctx, keyed); err != nil {
				return err
			}
			f := d.filling
			if _, err := f.addVector(window.vectors.Row(i)); err != nil {
				return place{g.bank, -1}.damaged("panels", fmt.Sprintf("row %d: %v", window.rows[i], err))
			}
			f.numbers = append(f.numbers, window.rows[i])
			if w.lists > 0 {
				for w.ends[list] <= from+int64(i) {
					list++
				}
				f.list = append(f.list, int32(list))
			}
			f.addColumns(rows, i, window.labels[i])
		}
	}
	return d.seal(ctx)
}

// writeLayout writes what the layout names beside the blocks' own records.
func (w *rewrite) writeLayout(m *manifest) (err error) {
	if m.layout == nil {
		return nil
	}
	add := func(kind recordKind, rows int, value []byte) (recordRef, error) {
		return w.pipeline.add(kind, header{dtype: m.dtype, bank: m.id, rows: uint32(rows), dim: uint32(m.dim)}, value)
	}
	if w.opaque != nil {
		if m.layout.opaque, err = addLists(w.opaque, add); err != nil {
			return err
		}
	}
	for from := int64(0); from < m.next; from += placeRows {
		some := w.slots[from:min(from+placeRows, m.next)]
		ref, err := add(kindPlaces, len(some), encodePlaces(some))
		if err != nil {
			return err
		}
		m.layout.places = append(m.layout.places, ref)
	}
	return nil
}

// encode makes the codes of all new blocks, which are written and not yet named.
func (w *rewrite) encode(ctx context.Context, next *generation, a *addition) error {
	next.countDead()
	c := &coder{addition: a, s: &Snapshot{db: w.db, g: next}, encode: w.o.Encode, progress: func(int64, int64) { w.step() }}
	if w.o.Basis != nil {
		value := append(make([]byte, headerSize, headerSize+len(w.o.Basis)), w.o.Basis...)
		c.m.basis = c.add(kindBasis, 0, value)
	}
	for i := range c.m.blocks {
		c.blocks = append(c.blocks, i)
	}
	return c.run(ctx, max(1, w.o.Threads))
}
