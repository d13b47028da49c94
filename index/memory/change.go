package memory

import (
	"encoding/binary"
	"fmt"
	"math"

	"membank/simd"
	"membank/store"
	"membank/store/journal"
)

// change is what one call does to a bank: the rows as they will be, so that
// replaying it needs no arithmetic and doing it twice does no harm. A row occurs
// once.
type change struct {
	ids     []int64
	version []int64       // one an id
	rows    []simd.Matrix // one a view: [len(ids)][dim]; Rows 0: the view is left alone
	labels  []int64       // nil: left alone
	keys    []string      // nil: left alone

	prototypeIDs []int64
	prototypes   simd.Matrix

	state state // as it will be
}

// commit logs a change as durably as is asked and then does it; b.mu is held
// alone. The caller gives the end to synced once the lock is released. An error
// leaves the bank as it was.
func (b *Bank) commit(c *change, d Durability) (end int64, err error) {
	switch {
	case b.log == nil:
		if d == Log || d == Sync {
			return 0, fmt.Errorf("%w: durability %q", ErrNoDatabase, d)
		}
	case b.db.ReadOnly():
		return 0, fmt.Errorf("%s: %w", b.db.Dir(), store.ErrReadOnly)
	case d == Memory:
		for _, id := range c.ids {
			b.dirty.add(id, b.c.Rows)
		}
		for _, id := range c.prototypeIDs {
			b.dirtyProto.add(id, b.c.Prototypes)
		}
	default:
		if end, err = b.log.Append(b.pieces(c)...); err != nil {
			return 0, err
		}
		b.dirty, b.dirtyProto = nil, nil
	}
	b.apply(c)
	return end, nil
}

// synced waits until what was logged up to end is on disk, if that is asked.
// b.mu is not held.
func (b *Bank) synced(end int64, d Durability) error {
	if d != Sync || b.log == nil {
		return nil
	}
	return b.log.Sync(end)
}

// checkDurability fills in the default.
func (b *Bank) checkDurability(d *Durability) error {
	if *d == "" {
		*d = Log
		if b.log == nil {
			*d = Memory
		}
	}
	if !contains(Durabilities, *d) {
		return fmt.Errorf("%w: durability %q (one of %v)", ErrOptions, *d, Durabilities)
	}
	return nil
}

// apply does a change. Nothing in it can fail.
func (b *Bank) apply(c *change) {
	for v, m := range c.rows {
		for i := range m.Rows {
			b.views[v].set(c.ids[i], m.Row(i))
		}
	}
	for i, id := range c.ids {
		b.version[id] = c.version[i]
	}
	if c.labels != nil {
		b.needLabels()
		for i, id := range c.ids {
			b.labels[id] = c.labels[i]
		}
	}
	if c.keys != nil {
		b.needKeys()
		for i, id := range c.ids {
			b.keys[id] = c.keys[i]
		}
	}
	for i, id := range c.prototypeIDs {
		b.prototypes.set(id, c.prototypes.Row(i))
	}
	b.state = c.state
	b.queue.cursor = c.state.Cursor
}

func (b *Bank) needLabels() {
	if b.labels != nil {
		return
	}
	b.labels = make([]int64, b.c.Rows)
	for i := range b.labels {
		b.labels[i] = store.NoLabel
	}
}

// Kinds of records.
const (
	kindChange = 1
	kindForget = 2 // the checkpoint of the record's step is no more
)

// pieceBytes is about how large a record becomes before a change takes another.
const pieceBytes = 16 << 20

// pieces are the records of a change and, before it, of what was changed in memory
// only since the last record: then the log is at a state that the bank was in.
func (b *Bank) pieces(c *change) (pieces []journal.Piece) {
	each := 16
	for _, v := range b.views {
		each += 4 * v.Dim
	}
	add := func(part *change) {
		p := journal.Piece{Kind: kindChange, Step: c.state.Step, Bytes: part.size(), Fill: part.encode}
		pieces = append(pieces, p)
	}
	for ids := b.dirty.rows(); len(ids) > 0; {
		n := min(len(ids), max(1, pieceBytes/each))
		add(b.current(ids[:n], c.state))
		ids = ids[n:]
	}
	for ids := b.dirtyProto.rows(); len(ids) > 0; {
		n := min(len(ids), max(1, pieceBytes/(4*b.prototypes.Dim)))
		add(&change{prototypeIDs: ids[:n], prototypes: b.prototypes.gather(ids[:n]), state: c.state})
		ids = ids[n:]
	}
	for _, part := range c.split(max(1, pieceBytes/each)) {
		add(part)
	}
	return pieces
}

// current is the change that makes rows what they are.
func (b *Bank) current(ids []int64, s state) *change {
	c := &change{ids: ids, state: s, version: make([]int64, len(ids))}
	for _, a := range b.views {
		c.rows = append(c.rows, a.gather(ids))
	}
	if b.labels != nil {
		c.labels = make([]int64, len(ids))
	}
	if b.keys != nil {
		c.keys = make([]string, len(ids))
	}
	for i, id := range ids {
		c.version[i] = b.version[id]
		if c.labels != nil {
			c.labels[i] = b.labels[id]
		}
		if c.keys != nil {
			c.keys[i] = b.keys[id]
		}
	}
	return c
}

func (a *array) gather(ids []int64) simd.Matrix {
	m := simd.NewMatrix(len(ids), a.Dim)
	a.copyRows(m, ids)
	return m
}

// split cuts a change into parts of at most n rows and n prototypes.
func (c *change) split(n int) []*change {
	if len(c.ids) <= n && len(c.prototypeIDs) <= n {
		return []*change{c}
	}
	var parts []*change
	for at := 0; at < max(len(c.ids), len(c.prototypeIDs)); at += n {
		p := &change{state: c.state}
		if from, to := at, min(at+n, len(c.ids)); from < to {
			p.ids, p.version = c.ids[from:to], c.version[from:to]
			for _, m := range c.rows {
				if m.Rows > 0 {
					m = m.Slice(from, to)
				}
				p.rows = append(p.rows, m)
			}
			if c.labels != nil {
				p.labels = c.labels[from:to]
			}
			if c.keys != nil {
				p.keys = c.keys[from:to]
			}
		}
		if from, to := at, min(at+n, len(c.prototypeIDs)); from < to {
			p.prototypeIDs, p.prototypes = c.prototypeIDs[from:to], c.prototypes.Slice(from, to)
		}
		parts = append(parts, p)
	}
	return parts
}

// The payload of a change, little endian, of n rows in v views and p prototypes:
//
//	u32 n, u32 p
//	u64 views         bit i: view i follows
//	u8  flags         1: labels follow, 2: keys follow; 7 bytes 0
//	    state         i64 step, updates, cursor, fill, pushed; f64 z; i64 batches in z
//	i64 id[n], version[n]
//	i64 label[n]      if flagged
//	f32 row[n][dim]   for each view that follows
//	i64 id[p], f32 row[p][dim]
//	u32 length, text  n times, if keys are flagged
const (
	changeHeader = 4 + 4 + 8 + 8 + 7*8

	flagLabels = 1
	flagKeys   = 2
)

func (c *change) size() int {
	n := changeHeader + 16*len(c.ids) + 8*len(c.labels) + 8*len(c.prototypeIDs)
	for _, m := range c.rows {
		n += 4 * m.Rows * m.Dim
	}
	if len(c.prototypeIDs) > 0 {
		n += 4 * c.prototypes.Rows * c.prototypes.Dim
	}
	for _, k := range c.keys {
		n += 4 + len(k)
	}
	return n
}

// encode fills b, of size bytes.
func (c *change) encode(b []byte) {
	le := binary.LittleEndian
	le.PutUint32(b, uint32(len(c.ids)))
	le.PutUint32(b[4:], uint32(len(c.prototypeIDs)))
	views, flags := uint64(0), uint64(0)
	for v, m := range c.rows {
		if m.Rows > 0 {
			views |= 1 << v
		}
	}
	if c.labels != nil {
		flags |= flagLabels
	}
	if c.keys != nil {
		flags |= flagKeys
	}
	le.PutUint64(b[8:], views)
	le.PutUint64(b[16:], flags)
	s := c.state
	for i, v := range []int64{s.Step, s.Updates, s.Cursor, s.Fill, s.Pushed, int64(math.Float64bits(s.Z)), s.ZCount} {
		le.PutUint64(b[24+8*i:], uint64(v))
	}
	b = b[changeHeader:]
	words := func(list []int64) {
		for i, v := range list {
			le.PutUint64(b[8*i:], uint64(v))
		}
		b = b[8*len(list):]
	}
	floats := func(m simd.Matrix) {
		n := m.Rows * m.Dim
		copy(simd.Floats(b[:4*n]), m.Data[:n])
		b = b[4*n:]
	}
	words(c.ids)
	words(c.version)
	words(c.labels)
	for _, m := range c.rows {
		floats(m)
	}
	if len(c.prototypeIDs) > 0 {
		words(c.prototypeIDs)
		floats(c.prototypes)
	}
	for _, k := range c.keys {
		le.PutUint32(b, uint32(len(k)))
		b = b[4+copy(b[4:], k):]
	}
}

// decodeChange is the inverse of encode, for a bank. It borrows b.
func (b *Bank) decodeChange(p []byte) (*change, error) {
	le := binary.LittleEndian
	if len(p) < changeHeader {
		return nil, fmt.Errorf("a change of %d bytes", len(p))
	}
	n, prototypes := int(le.Uint32(p)), int(le.Uint32(p[4:]))
	views, flags := le.Uint64(p[8:]), le.Uint64(p[16:])
	var s [7]int64
	for i := range s {
		s[i] = int64(le.Uint64(p[24+8*i:]))
	}
	c := &change{state: state{s[0], s[1], s[2], s[3], s[4], math.Float64frombits(uint64(s[5])), s[6]}}
	p = p[changeHeader:]
	var failed error
	take := func(bytes int) []byte {
		if failed != nil || bytes < 0 || bytes > len(p) {
			failed = fmt.Errorf("a change that ends early")
			return nil
		}
		part := p[:bytes]
		p = p[bytes:]
		return part
	}
	words := func(n int) []int64 {
		part := take(8 * n)
		list := make([]int64, len(part)/8)
		for i := range list {
			list[i] = int64(le.Uint64(part[8*i:]))
		}
		return list
	}
	floats := func(rows, dim int) simd.Matrix {
		return simd.Matrix{Data: simd.Floats(take(4 * rows * dim)), Rows: rows, Dim: dim}
	}
	c.ids, c.version = words(n), words(n)
	if flags&flagLabels != 0 {
		c.labels = words(n)
	}
	for v, a := range b.views {
		m := simd.Matrix{Dim: a.Dim}
		if views>>v&1 == 1 {
			m = floats(n, a.Dim)
		}
		c.rows = append(c.rows, m)
	}
	if prototypes > 0 {
		if b.prototypes == nil {
			return nil, fmt.Errorf("%d prototypes in a bank that has none", prototypes)
		}
		c.prototypeIDs = words(prototypes)
		c.prototypes = floats(prototypes, b.prototypes.Dim)
	}
	if flags&flagKeys != 0 && failed == nil {
		c.keys = make([]string, n)
		for i := range c.keys {
			if length := take(4); length != nil {
				c.keys[i] = string(take(int(le.Uint32(length))))
			}
		}
	}
	if failed == nil && len(p) > 0 {
		failed = fmt.Errorf("%d bytes behind a change", len(p))
	}
	if failed == nil {
		failed = c.within(b.c.Rows, b.c.Prototypes)
	}
	return c, failed
}

// within checks the numbers that index something.
func (c *change) within(rows, prototypes int64) error {
	for _, id := range c.ids {
		if id < 0 || id >= rows {
			return fmt.Errorf("row %d of %d", id, rows)
		}
	}
	for _, id := range c.prototypeIDs {
		if id < 0 || id >= prototypes {
			return fmt.Errorf("prototype %d of %d", id, prototypes)
		}
	}
	if s := c.state; s.Cursor < 0 || s.Cursor >= rows || s.Fill < 0 || s.Fill > rows {
		return fmt.Errorf("cursor %d and fill %d of %d rows", s.Cursor, s.Fill, rows)
	}
	return nil
}

// replay does what a record says.
func (b *Bank) replay(r journal.Record) error {
	switch r.Kind {
	case kindChange:
	case kindForget:
		b.head.forget(r.Step)
		return nil
	default:
		return fmt.Errorf("%w: a record of kind %d", journal.ErrDamaged, r.Kind)
	}
	c, err := b.decodeChange(r.Payload)
	if err != nil {
		return fmt.Errorf("%w: %w", journal.ErrDamaged, err)
	}
	b.apply(c)
	return nil
}
