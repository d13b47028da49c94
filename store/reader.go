package store

import (
	"errors"
	"fmt"

	"membank/simd"
)

// place is what a record belongs to, for the error that names it.
type place struct {
	bank  string
	block int // -1: none
}

func (p place) damaged(record, reason string) error {
	return &CorruptError{Bank: p.bank, Block: p.block, Record: record, Reason: reason}
}

// readRecord calls fn with a record that a manifest names, checked: its header
// each time, its checksum the first time in this process. An error of fn is
// damage too, as fn only decodes. fn must not read or write the store.
func (db *DB) readRecord(p place, kind recordKind, ref recordRef, fn func(h header, payload []byte) error) error {
	known := db.isVerified(ref.number)
	err := db.read(recordKey(ref.number), func(value []byte) error {
		h, payload, err := checkRecord(value, kind, ref, !known)
		if err == nil {
			err = fn(h, payload)
		}
		if err != nil {
			return &unreadable{err.Error()}
		}
		return nil
	})
	var u *unreadable
	switch {
	case errors.As(err, &u):
		return p.damaged(fmt.Sprintf("%v %d", kind, ref.number), u.reason)
	case err == nil && !known:
		db.setVerified(ref.number)
	}
	return err
}

func (db *DB) isVerified(number uint64) bool {
	db.verifiedMu.RLock()
	defer db.verifiedMu.RUnlock()
	_, ok := db.verified[number]
	return ok
}

func (db *DB) setVerified(number uint64) {
	db.verifiedMu.Lock()
	defer db.verifiedMu.Unlock()
	db.verified[number] = struct{}{}
}

// Reader reads blocks of one snapshot. It holds scratch memory (a block's
// columns, and the widened panels of an f16 bank), so each goroutine has its own;
// it needs no closing.
type Reader struct {
	s       *Snapshot
	block   Block
	widened []float32 // panels of an f16 block
	panel   simd.Matrix
	payload []byte // a columns record
	columns Columns
	values  map[string][]Value
}

// NewReader returns a Reader for one goroutine.
func (s *Snapshot) NewReader() *Reader { return &Reader{s: s} }

// View calls fn with a block, 0 ≤ block < Blocks. The panels lie in Badger's
// memory map, so nothing is copied but 16 bytes a row; the first touch in this
// process computes their checksum. Everything in b is valid until fn returns. fn
// must not call the store, and should not take longer than a scan does: while it
// runs, the value log file cannot be rotated or removed.
//
// Damage, and an I/O error while fn reads the panels, is a *CorruptError that
// names bank and block; fn's own error is returned as it is.
func (r *Reader) View(block int, fn func(b *Block) error) error {
	return r.ViewPanels(block, nil, fn)
}

// ViewPanels is View for who needs some panels only, ascending: what the block says
// of rows in other panels (Row, Scale, Bias) is not valid. For a few rows of many that
// is most of the time of a View. Nil means all.
func (r *Reader) ViewPanels(block int, panels []int32, fn func(b *Block) error) error {
	g, db := r.s.g, r.s.db
	if err := r.s.check(block); err != nil {
		return err
	}
	ref := g.blocks[block]
	p := place{g.bank, block}
	b := &r.block
	b.size(ref.rows, g.dim)
	b.MaxNorm = ref.maxNorm
	err := db.readRecord(p, kindColumns, ref.columns, func(h header, payload []byte) error {
		if err := checkPanels(h, ref.rows, g.dim, g.dtype); err != nil {
			return err
		}
		c, err := decodeColumns(payload, ref.rows, ref.keyed)
		if err == nil {
			b.fill(&c, panels)
		}
		return err
	})
	if err != nil {
		return err
	}
	g.markDead(b.Dead, &b.AnyDead, block)
	if g.dtype == F16 && len(r.widened) < b.Lanes*b.Dim {
		r.widened = make([]float32, b.Lanes*b.Dim)
	}
	var failed error
	err = db.readRecord(p, kindPanels, ref.panels, func(h header, payload []byte) error {
		if err := checkPanels(h, ref.rows, g.dim, g.dtype); err != nil {
			return err
		}
		b.Panels = decodePanels(payload, r.widened, g.dtype)
		failed = fn(b)
		b.Panels = nil
		return nil
	})
	if err != nil {
		return err
	}
	return failed
}

// size makes room for rows rows and their padding.
func (b *Block) size(rows, dim int) {
	b.Rows, b.Lanes, b.Dim = rows, lanesOf(rows), dim
	if cap(b.Row) < b.Lanes {
		b.Row = make([]int64, b.Lanes)
		b.Scale = make([]float32, b.Lanes)
		b.Bias = make([]float32, b.Lanes)
		b.Dead = make([]bool, b.Lanes)
	}
	b.Row, b.Dead = b.Row[:b.Lanes], b.Dead[:b.Lanes]
	b.Scale, b.Bias = b.Scale[:b.Lanes], b.Bias[:b.Lanes]
}

func (b *Block) fill(c *columnsView, panels []int32) {
	rows, scales, biases := view[int64](c.rows), view[float32](c.scales), view[float32](c.biases)
	if panels == nil {
		copy(b.Row, rows)
		copy(b.Scale, scales)
		copy(b.Bias, biases)
	}
	for _, panel := range panels {
		first := min(int(panel)*simd.PanelRows, c.n)
		last := min(first+simd.PanelRows, c.n)
		copy(b.Row[first:last], rows[first:last])
		copy(b.Scale[first:last], scales[first:last])
		copy(b.Bias[first:last], biases[first:last])
	}
	for i := c.n; i < b.Lanes; i++ {
		b.Row[i], b.Scale[i], b.Bias[i] = -1, 0, 0
	}
}

// markDead fills dead for a block: the lanes of its deleted and superseded rows,
// and all behind the last.
func (g *generation) markDead(dead []bool, any *bool, block int) {
	r := g.blocks[block]
	clear(dead[:r.rows])
	for i := r.rows; i < len(dead); i++ {
		dead[i] = true
	}
	*any = g.deadIn != nil && g.deadIn[block] > 0
	if !*any {
		return
	}
	it := g.deadLanes.Iterator()
	it.AdvanceIfNeeded(uint64(r.first))
	for it.HasNext() {
		position := int64(it.Next())
		if position >= r.first+int64(r.rows) {
			return
		}
		dead[position-r.first] = true
	}
}

// Columns is what a block knows of its rows beside their vectors. It is valid
// until the function that Reader.Columns was given returns, strings excepted.
type Columns struct {
	Rows    int
	Row     []int64 // row numbers
	Label   []int64 // NoLabel for none
	Dead    []bool  // deleted rows, and rows that stand elsewhere since they were overwritten
	AnyDead bool
	view    columnsView
	values  map[string][]Value
}

// Key returns the key of the i-th row of the block.
func (c *Columns) Key(i int) string { return c.view.key(i) }

// Keys appends the keys of all rows of the block to to; they share memory.
func (c *Columns) Keys(to []string) []string { return c.view.keys(to) }

// Attribute returns an attribute of the i-th row; null if the row has none, or if
// Reader.Columns was not asked for that name.
func (c *Columns) Attribute(name string, i int) Value {
	if values := c.values[name]; i < len(values) {
		return values[i]
	}
	return Value{}
}

// Columns calls fn with the columns of a block, and with the attributes that are
// named. It touches no panels, and holds no lock while fn runs.
func (r *Reader) Columns(block int, fn func(c *Columns) error, attributes ...string) error {
	if err := r.loadColumns(block, attributes); err != nil {
		return err
	}
	return fn(&r.columns)
}

func (r *Reader) loadColumns(block int, attributes []string) error {
	g, db, c := r.s.g, r.s.db, &r.columns
	if err := r.s.check(block); err != nil {
		return err
	}
	ref := g.blocks[block]
	p := place{g.bank, block}
	err := db.readRecord(p, kindColumns, ref.columns, func(h header, payload []byte) (err error) {
		if err := checkPanels(h, ref.rows, g.dim, g.dtype); err != nil {
			return err
		}
		r.payload = append(r.payload[:0], payload...)
		c.view, err = decodeColumns(r.payload, ref.rows, ref.keyed)
		if err == nil {
			err = c.view.checkKeys()
		}
		return err
	})
	if err != nil {
		return err
	}
	c.Rows = ref.rows
	if cap(c.Row) < ref.rows {
		c.Row, c.Label, c.Dead = make([]int64, ref.rows), make([]int64, ref.rows), make([]bool, ref.rows)
	}
	c.Row, c.Label, c.Dead = c.Row[:ref.rows], c.Label[:ref.rows], c.Dead[:ref.rows]
	for i := range ref.rows {
		c.Row[i], c.Label[i] = c.view.row(i), c.view.label(i)
	}
	g.markDead(c.Dead, &c.AnyDead, block)
	c.values = nil
	for _, name := range attributes {
		if err := r.loadAttribute(p, ref, name); err != nil {
			return err
		}
	}
	return nil
}

func (r *Reader) loadAttribute(p place, ref blockRef, name string) error {
	g := r.s.g
	for _, a := range ref.attributes {
		if g.attributes[a.name] != name {
			continue
		}
		return r.s.db.readRecord(p, kindAttribute, a.recordRef, func(h header, payload []byte) error {
			if r.values == nil {
				r.values = map[string][]Value{}
			}
			values, err := decodeAttribute(r.values[name], payload, ref.rows)
			if err != nil {
				return err
			}
			r.values[name] = values
			if r.columns.values == nil {
				r.columns.values = map[string][]Value{}
			}
			r.columns.values[name] = values
			return nil
		})
	}
	return nil
}

// unpack copies all rows of a block into m, which has as many.
func (r *Reader) unpack(block int, m simd.Matrix) error {
	return r.View(block, func(b *Block) error {
		simd.Unpack(m, b.Panels)
		return nil
	})
}
