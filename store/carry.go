package store

import (
	"context"
	"slices"

	"github.com/RoaringBitmap/roaring/v2/roaring64"
	"membank/simd"
)

// carried is what a write does to the lanes that a bank has: those from first on
// are written again, with the rows that are new.
type carried struct {
	first      int64   // position
	purged     []int64 // deleted rows whose lanes were not taken along
	superseded []int64 // positions before first of rows that were overwritten
}

// reopen takes the last block of a bank back into a filling when it is not full,
// without the rows that leave refuses (nil refuses none); otherwise the filling is
// nil. Blocks before it are kept. In a bank with a layout only deltas are
// reopened, and what is dead in them is left behind.
func (p *pipeline) reopen(ctx context.Context, s *Snapshot, leave func(row int64) bool) (*filling, carried, error) {
	g := s.g
	last := len(g.blocks) - 1
	fixed := 0
	if g.layout != nil {
		fixed = g.layout.base
	} else if p.moves != nil {
		fixed = len(g.blocks) // rows in order make the first blocks of the layout
	}
	if last < fixed || g.blocks[last].rows >= blockRows(g.dim, g.dtype) {
		p.keep(g.manifest, len(g.blocks))
		return nil, carried{first: g.lanes()}, nil
	}
	p.keep(g.manifest, last)
	f, err := p.empty(ctx)
	if err != nil {
		return nil, carried{}, err
	}
	ref := g.blocks[last]
	f.first, f.keyed = ref.first, ref.keyed
	c := carried{first: ref.first}
	if p.moves == nil {
		return f, c, f.takeBack(s, last)
	}
	c.purged, err = f.takeLive(s, last, leave)
	for _, row := range c.purged {
		p.moves.move(row, nowhere)
	}
	return f, c, err
}

// takeBack fills f with all rows of a block, as they are.
func (f *filling) takeBack(s *Snapshot, block int) error {
	ref := s.g.blocks[block]
	f.maxNorm = ref.maxNorm
	r := s.NewReader()
	err := r.View(block, func(b *Block) error {
		for f.rows < ref.rows {
			n := min(simd.PanelRows, ref.rows-f.rows)
			simd.Unpack(f.panel.Slice(0, n), b.Panels[f.rows*b.Dim:][:simd.PanelRows*b.Dim])
			f.added(n)
		}
		f.scale = append(f.scale, b.Scale[:ref.rows]...)
		f.bias = append(f.bias, b.Bias[:ref.rows]...)
		return nil
	})
	if err != nil {
		return err
	}
	return r.Columns(block, func(c *Columns) error {
		f.labels = append(f.labels, c.Label...)
		if ref.keyed {
			f.keys = c.Keys(f.keys)
		}
		for name, values := range c.values {
			f.attributes[name] = slices.Clone(values)
		}
		return nil
	}, s.g.attributes...)
}

// takeLive fills f with the live rows of a block that leave does not refuse, and
// returns the deleted rows that it passed over.
func (f *filling) takeLive(s *Snapshot, block int, leave func(row int64) bool) (purged []int64, err error) {
	g := s.g
	r := s.NewReader()
	vectors := simd.NewMatrix(g.blocks[block].rows, g.dim)
	if err := r.unpack(block, vectors); err != nil {
		return nil, err
	}
	err = r.Columns(block, func(c *Columns) error {
		rows := Rows{Vectors: vectors}
		if f.keyed {
			rows.Keys = c.Keys(nil)
		}
		for name, values := range c.values {
			rows.Attributes = append(rows.Attributes, Attribute{name, slices.Clone(values)})
		}
		for i, row := range c.Row {
			if c.Dead[i] {
				continue
			}
			if leave != nil && leave(row) {
				continue
			}
			if _, err := f.addVector(vectors.Row(i)); err != nil {
				return place{g.bank, block}.damaged("panels", err.Error())
			}
			f.numbers = append(f.numbers, row)
			f.addColumns(rows, i, c.Label[i])
		}
		return nil
	}, g.attributes...)
	if err != nil {
		return nil, err
	}
	return s.deletedHere(block)
}

// deletedHere returns the deleted rows whose place is in a block.
func (s *Snapshot) deletedHere(block int) (rows []int64, err error) {
	first := s.g.blocks[block].first
	var dead, stand []int64
	err = s.NewReader().Columns(block, func(c *Columns) error {
		for i, row := range c.Row {
			if c.Dead[i] && s.g.deadRows.Contains(uint64(row)) {
				dead, stand = append(dead, row), append(stand, first+int64(i))
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	at, err := s.positions(dead)
	if err != nil {
		return nil, err
	}
	for i, row := range dead {
		if at[i] == stand[i] { // otherwise it was overwritten before
			rows = append(rows, row)
		}
	}
	return rows, nil
}

// settle gives a generation with a layout the dead lanes that the write leaves.
// before are those of the bank as it was.
func (c carried) settle(g *generation, before *roaring64.Bitmap) {
	g.deadLanes = before.Clone()
	if !g.deadLanes.IsEmpty() {
		g.deadLanes.RemoveRange(uint64(c.first), g.deadLanes.Maximum()+1)
	}
	for _, position := range c.superseded {
		g.deadLanes.Add(uint64(position))
	}
	g.layout.purged += int64(len(c.purged))
}

// relocate makes the pipeline keep the layout of m, the next manifest of the bank
// that s reads: places of rows, and lists if there are any.
func (p *pipeline) relocate(m *manifest, s *Snapshot, assign Assigner) (err error) {
	if m.layout.lists > 0 {
		p.sort = &sorter{assign: assign, lists: m.layout.lists}
	}
	p.moves, err = newMoves(s, func(value []byte, rows int) (recordRef, error) {
		return p.add(kindPlaces, header{dtype: p.dtype, bank: p.bank, rows: uint32(rows), dim: uint32(p.dim)}, value)
	})
	p.last = func() error {
		places, err := p.moves.finish()
		m.layout.places = places
		return err
	}
	return err
}
