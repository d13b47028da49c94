package store

import (
	"cmp"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"
)

// manifest is one generation of a bank: the only record of it that ever changes.
// Whatever it names was written and synced before it.
type manifest struct {
	bank       string
	id         uint64
	generation uint64
	dtype      DType
	dim        int
	next       int64 // rows, deleted ones included
	dead       int64 // deleted rows
	zeros      int64 // rows written with norm 0
	classCount int   // distinct labels of live rows
	created    int64 // Unix nanoseconds
	deleted    recordRef
	classes    recordRef
	basis      recordRef // what the codes of blocks were made with
	attributes []string  // names, sorted
	sources    []Provenance
	blocks     []blockRef
	layout     *layout // nil: the blocks hold the rows in order, as in version 1
}

// blockRef is a line of the block table. Its lanes stand at the positions
// [first, first+rows) of the bank, which follow one another without a gap. Without
// a layout a position is a row number.
type blockRef struct {
	first      int64
	rows       int  // lanes, superseded ones included
	keyed      bool // rows have keys of their own; otherwise decimal row numbers
	maxNorm    float64
	panels     recordRef
	columns    recordRef
	codes      recordRef // number 0: none
	runs       recordRef // of a grouped bank: which lanes are of which list
	attributes []attributeRef
}

// attributeRef is the record of one attribute in one block.
type attributeRef struct {
	name int // index into manifest.attributes
	recordRef
}

// The payload of a manifest, little endian; text is u16 length and bytes, a ref
// is u64 number, u64 bytes, u32 CRC32C:
//
//	text bank | u64 next | u64 dead | u64 zeros | u32 classes | u64 created
//	ref deleted | ref classes | ref basis
//	u32 n, n × text attribute name
//	u32 n, n bytes of JSON: provenance
//	u32 n, n × block: u64 first | u32 rows | u8 keyed | f64 max norm |
//	                  ref panels | ref columns | ref codes | u32 m, m × (u16 name | ref attribute)
//
// and in version 2, where rows have a layout of their own (layout.go):
//
//	u32 lists | u32 base | u64 purged | ref dead lanes
//	u32 n, n × ref lists | u32 n, n × ref places
//	of a grouped bank: blocks × ref runs
//
// Version, generation, bank id, dtype and dim stand in the record's header.
func (m *manifest) encode() []byte {
	sources, err := json.Marshal(m.sources)
	if err != nil {
		panic(err) // plain strings, numbers and times
	}
	b := make([]byte, headerSize, headerSize+256+len(sources)+80*len(m.blocks))
	b = appendText16(b, m.bank)
	b = binary.LittleEndian.AppendUint64(b, uint64(m.next))
	b = binary.LittleEndian.AppendUint64(b, uint64(m.dead))
	b = binary.LittleEndian.AppendUint64(b, uint64(m.zeros))
	b = binary.LittleEndian.AppendUint32(b, uint32(m.classCount))
	b = binary.LittleEndian.AppendUint64(b, uint64(m.created))
	b = appendRef(b, m.deleted)
	b = appendRef(b, m.classes)
	b = appendRef(b, m.basis)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(m.attributes)))
	for _, name := range m.attributes {
		b = appendText16(b, name)
	}
	b = binary.LittleEndian.AppendUint32(b, uint32(len(sources)))
	b = append(b, sources...)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(m.blocks)))
	for _, r := range m.blocks {
		b = binary.LittleEndian.AppendUint64(b, uint64(r.first))
		b = binary.LittleEndian.AppendUint32(b, uint32(r.rows))
		b = append(b, boolByte(r.keyed))
		b = binary.LittleEndian.AppendUint64(b, math.Float64bits(r.maxNorm))
		b = appendRef(b, r.panels)
		b = appendRef(b, r.columns)
		b = appendRef(b, r.codes)
		b = binary.LittleEndian.AppendUint32(b, uint32(len(r.attributes)))
		for _, a := range r.attributes {
			b = binary.LittleEndian.AppendUint16(b, uint16(a.name))
			b = appendRef(b, a.recordRef)
		}
	}
	if m.layout != nil {
		b = m.layout.append(b, m.blocks)
	}
	sealRecord(b, m.header())
	return b
}

func (m *manifest) header() header {
	h := header{kind: kindManifest, version: 1, dtype: m.dtype, number: m.generation, bank: m.id, dim: uint32(m.dim)}
	if m.layout != nil {
		h.version = layoutVersion
	}
	return h
}

const (
	refSize       = 20
	blockRefSize  = 8 + 4 + 1 + 8 + 3*refSize + 4
	mostSources   = 64
	mostAttribute = math.MaxUint16
)

// decodeManifest is the inverse of encode. It checks every count against the
// bytes there are and every sum against its parts.
func decodeManifest(h header, payload []byte) (*manifest, error) {
	f := &fields{b: payload}
	m := &manifest{id: h.bank, generation: h.number, dtype: h.dtype, dim: int(h.dim)}
	m.bank = f.text16()
	m.next = int64(f.u64())
	m.dead = int64(f.u64())
	m.zeros = int64(f.u64())
	m.classCount = int(f.u32())
	m.created = int64(f.u64())
	m.deleted = f.ref()
	m.classes = f.ref()
	m.basis = f.ref()
	for range f.count(2) {
		m.attributes = append(m.attributes, f.text16())
	}
	sources := f.take(int(f.u32()))
	if n := f.count(blockRefSize); n > 0 {
		m.blocks = make([]blockRef, n)
	}
	for i := range m.blocks {
		r := &m.blocks[i]
		r.first = int64(f.u64())
		r.rows = int(f.u32())
		keyed := f.u8()
		r.keyed = keyed == 1
		if keyed > 1 && f.err == nil {
			f.err = fmt.Errorf("block %d: keyed is %d", i, keyed)
		}
		r.maxNorm = f.f64()
		r.panels = f.ref()
		r.columns = f.ref()
		r.codes = f.ref()
		for range f.count(2 + refSize) {
			r.attributes = append(r.attributes, attributeRef{name: int(f.u16()), recordRef: f.ref()})
		}
	}
	if h.version >= layoutVersion {
		m.layout = decodeLayout(f, m.blocks)
	}
	if err := f.end(); err != nil {
		return nil, err
	}
	if err := json.Unmarshal(sources, &m.sources); err != nil {
		return nil, fmt.Errorf("provenance: %v", err)
	}
	return m, m.check()
}

// check returns what is wrong with a manifest taken by itself.
func (m *manifest) check() error {
	switch {
	case CheckName(m.bank) != nil:
		return CheckName(m.bank)
	case m.dim < 1 || m.dim > MaxDim:
		return fmt.Errorf("dimension %d", m.dim)
	case m.dead < 0 || m.dead > m.next:
		return fmt.Errorf("%d rows, %d of them deleted", m.next, m.dead)
	case (m.dead > 0) != (m.deleted.number != 0):
		return fmt.Errorf("%d deleted rows and record %d of them", m.dead, m.deleted.number)
	case m.zeros < 0 || m.zeros > m.next:
		return fmt.Errorf("%d rows, %d of them zero", m.next, m.zeros)
	case !slices.IsSorted(m.attributes) || len(slices.Compact(slices.Clone(m.attributes))) != len(m.attributes):
		return errors.New("attribute names are not sorted")
	}
	var next int64
	for i, r := range m.blocks {
		switch {
		case r.first != next:
			return fmt.Errorf("block %d begins at %d, not %d", i, r.first, next)
		case r.rows < 1 || r.rows > maxBlockRows:
			return fmt.Errorf("block %d has %d rows", i, r.rows)
		case !(r.maxNorm >= 0 && r.maxNorm <= maxNorm):
			return fmt.Errorf("block %d has largest norm %g", i, r.maxNorm)
		case r.panels.number == 0 || r.panels.bytes != panelsBytes(r.rows, m.dim, m.dtype):
			return fmt.Errorf("block %d has panels of %d bytes", i, r.panels.bytes)
		case r.columns.number == 0 || r.columns.bytes < columnsBytes(r.rows):
			return fmt.Errorf("block %d has columns of %d bytes", i, r.columns.bytes)
		case r.codes.number != 0 && m.basis.number == 0:
			return fmt.Errorf("block %d has codes without a basis", i)
		}
		last := -1
		for _, a := range r.attributes {
			if a.name <= last || a.name >= len(m.attributes) || a.number == 0 {
				return fmt.Errorf("block %d names attribute %d after %d", i, a.name, last)
			}
			last = a.name
		}
		next += int64(r.rows)
	}
	if m.layout != nil {
		return m.layout.check(m)
	}
	if next != m.next {
		return fmt.Errorf("%d rows, but its blocks hold %d", m.next, next)
	}
	return nil
}

// refs calls fn for every record that the manifest names, with the block it
// belongs to or -1.
func (m *manifest) refs(fn func(block int, kind recordKind, ref recordRef)) {
	if m.deleted.number != 0 {
		fn(-1, kindDeleted, m.deleted)
	}
	if m.classes.number != 0 {
		fn(-1, kindClasses, m.classes)
	}
	if m.basis.number != 0 {
		fn(-1, kindBasis, m.basis)
	}
	if m.layout != nil {
		m.layout.refs(func(kind recordKind, ref recordRef) { fn(-1, kind, ref) })
	}
	for i, r := range m.blocks {
		fn(i, kindPanels, r.panels)
		fn(i, kindColumns, r.columns)
		if r.codes.number != 0 {
			fn(i, kindCodes, r.codes)
		}
		if r.runs.number != 0 {
			fn(i, kindRuns, r.runs)
		}
		for _, a := range r.attributes {
			fn(i, kindAttribute, a.recordRef)
		}
	}
}

// bytes is the size of all records that the manifest names.
func (m *manifest) bytes() int64 {
	var n int64
	m.refs(func(_ int, _ recordKind, ref recordRef) { n += int64(ref.bytes) })
	return n
}

// lanes is how many rows the blocks hold, superseded ones included: positions are
// 0..lanes-1.
func (m *manifest) lanes() int64 {
	if len(m.blocks) == 0 {
		return 0
	}
	last := m.blocks[len(m.blocks)-1]
	return last.first + int64(last.rows)
}

// keyed reports whether any rows have keys of their own.
func (m *manifest) keyed() bool {
	return slices.ContainsFunc(m.blocks, func(r blockRef) bool { return r.keyed })
}

// blockAt returns the block of a position in 0..lanes-1.
func (m *manifest) blockAt(position int64) int {
	i, found := slices.BinarySearchFunc(m.blocks, position, func(r blockRef, position int64) int {
		return cmp.Compare(r.first, position)
	})
	if !found {
		i--
	}
	return i
}

func (m *manifest) maxNorm() float64 {
	var n float64
	for _, r := range m.blocks {
		n = max(n, r.maxNorm)
	}
	return n
}

// clone is a copy whose slices can be appended to without touching the original.
func (m *manifest) clone() *manifest {
	c := *m
	c.attributes = slices.Clone(m.attributes)
	c.sources = slices.Clone(m.sources)
	c.blocks = slices.Clone(m.blocks)
	c.layout = m.layout.clone()
	return &c
}

func (m *manifest) addSource(p Provenance) {
	m.sources = append(m.sources, p)
	if len(m.sources) > mostSources {
		m.sources = slices.Delete(m.sources, 1, 2)
	}
}

func (m *manifest) info(classNames []string) Info {
	return Info{
		Bank: m.bank, Rows: m.next - m.dead, Next: m.next, Dim: m.dim, DType: m.dtype,
		Classes: m.classCount, Lists: m.listCount(), Lanes: m.lanes(), Delta: m.deltaLanes(), Bytes: m.bytes(), Generation: m.generation,
		ZeroVectors: m.zeros, Attributes: slices.Clone(m.attributes), ClassNames: slices.Clone(classNames),
		Sources: slices.Clone(m.sources), Created: time.Unix(0, m.created).UTC(),
	}
}

func boolByte(b bool) byte {
	if b {
		return 1
	}
	return 0
}
