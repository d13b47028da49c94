package store

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"

	"github.com/cespare/xxhash/v2"
)

// The payload of a columns record, little endian, n rows:
//
//	u32 flags            1: labels follow, 2: keys follow
//	u64 row[n]           row numbers
//	f32 scale[n]         1/max(‖x‖, 1e-12)
//	f32 bias[n]          -‖x‖²/2
//	i64 label[n]         if flagged; otherwise no row has one
//	u64 hash[n]          if keys are flagged: XXH64 of the keys, ascending
//	u32 lane[n]          the row of the block that each hash is of
//	u32 end[n]           where each row's key ends in the text
//	    text             the keys in row order, end to end
//
// Without keys of their own rows are called by their decimal row number.
const (
	flagLabels = 1 << iota
	flagKeys

	// maxKeyBytes is the length of the longest key.
	maxKeyBytes = 4096
)

// columnsBytes is the least size of a columns record, header included.
func columnsBytes(rows int) uint64 { return headerSize + 4 + 16*uint64(rows) }

// blockColumns is what encodeColumns is given: one element a row. labels is nil
// when no row has one, keys is nil when rows are called by their number.
type blockColumns struct {
	row         []int64
	scale, bias []float32
	label       []int64
	key         []string
}

func encodeColumns(c blockColumns) []byte {
	n := len(c.row)
	size := int(columnsBytes(n)) + 8*len(c.label) + 16*len(c.key)
	flags := uint32(0)
	if c.label != nil {
		flags |= flagLabels
	}
	if c.key != nil {
		flags |= flagKeys
		for _, k := range c.key {
			size += len(k)
		}
	}
	b := make([]byte, headerSize, size)
	b = binary.LittleEndian.AppendUint32(b, flags)
	for _, v := range c.row {
		b = binary.LittleEndian.AppendUint64(b, uint64(v))
	}
	for _, v := range c.scale {
		b = binary.LittleEndian.AppendUint32(b, math.Float32bits(v))
	}
	for _, v := range c.bias {
		b = binary.LittleEndian.AppendUint32(b, math.Float32bits(v))
	}
	for _, v := range c.label {
		b = binary.LittleEndian.AppendUint64(b, uint64(v))
	}
	if c.key == nil {
		return b
	}
	hashes := make([]keyHash, n)
	for i, k := range c.key {
		hashes[i] = keyHash{hashKey(k), uint32(i)}
	}
	slices.SortFunc(hashes, func(a, b keyHash) int {
		return cmp.Or(cmp.Compare(a.hash, b.hash), cmp.Compare(a.lane, b.lane))
	})
	for _, h := range hashes {
		b = binary.LittleEndian.AppendUint64(b, h.hash)
	}
	for _, h := range hashes {
		b = binary.LittleEndian.AppendUint32(b, h.lane)
	}
	end := uint32(0)
	for _, k := range c.key {
		end += uint32(len(k))
		b = binary.LittleEndian.AppendUint32(b, end)
	}
	for _, k := range c.key {
		b = append(b, k...)
	}
	return b
}

type keyHash struct {
	hash uint64
	lane uint32
}

func hashKey(key string) uint64 { return xxhash.Sum64String(key) }

// columnsView reads a columns payload where it lies.
type columnsView struct {
	n                         int
	rows, scales, biases      []byte
	labels                    []byte // nil: none has one
	hashes, lanes, ends, text []byte
	keyed                     bool
}

// decodeColumns is the inverse of encodeColumns. It checks sizes only, so that a
// scan pays for no more than it reads; see checkKeys.
func decodeColumns(payload []byte, rows int, keyed bool) (columnsView, error) {
	f := &fields{b: payload}
	c := columnsView{n: rows, keyed: keyed}
	flags := f.u32()
	c.rows = f.take(8 * rows)
	c.scales = f.take(4 * rows)
	c.biases = f.take(4 * rows)
	if flags&flagLabels != 0 {
		c.labels = f.take(8 * rows)
	}
	if flags&flagKeys != 0 {
		c.hashes = f.take(8 * rows)
		c.lanes = f.take(4 * rows)
		c.ends = f.take(4 * rows)
		c.text = f.take(len(f.b))
	}
	if err := f.end(); err != nil {
		return columnsView{}, err
	}
	if flags &^= flagLabels; flags != 0 && flags != flagKeys || (flags == flagKeys) != keyed {
		return columnsView{}, fmt.Errorf("columns have flags %d, keyed is %v", flags, keyed)
	}
	return c, nil
}

// checkKeys returns an error unless every key lies within the text and every
// lane within the block: what key and find rely on.
func (c *columnsView) checkKeys() error {
	if !c.keyed {
		return nil
	}
	last := uint32(0)
	for i := range c.n {
		end := binary.LittleEndian.Uint32(c.ends[4*i:])
		if end < last {
			return fmt.Errorf("key %d ends at %d, before it begins", i, end)
		}
		last = end
		if lane := binary.LittleEndian.Uint32(c.lanes[4*i:]); int(lane) >= c.n {
			return fmt.Errorf("hash %d is of row %d of %d", i, lane, c.n)
		}
	}
	if int(last) != len(c.text) {
		return fmt.Errorf("keys end at %d, their text at %d", last, len(c.text))
	}
	return nil
}

// checkAll returns what is wrong with columns whose checkKeys passed: Verify's
// second look at what the writer promised. Row numbers begin with first, unless
// that is negative, when they may be any.
func (c *columnsView) checkAll(first int64) error {
	seen := make([]bool, c.n)
	for i := range c.n {
		if row := c.row(i); first >= 0 && row != first+int64(i) {
			return fmt.Errorf("row %d stands where %d belongs", row, first+int64(i))
		}
		if !c.keyed {
			continue
		}
		h, lane := c.hash(i), c.lane(i)
		switch {
		case i > 0 && c.hash(i-1) > h:
			return errors.New("key hashes are not sorted")
		case seen[lane] || hashKey(c.key(lane)) != h:
			return fmt.Errorf("hash %d is not that of its key", i)
		case checkKey(c.key(i)) != nil:
			return fmt.Errorf("row %d: %w", c.row(i), checkKey(c.key(i)))
		}
		seen[lane] = true
	}
	return nil
}

func (c *columnsView) row(i int) int64 { return int64(binary.LittleEndian.Uint64(c.rows[8*i:])) }

func (c *columnsView) label(i int) int64 {
	if c.labels == nil {
		return NoLabel
	}
	return int64(binary.LittleEndian.Uint64(c.labels[8*i:]))
}

func (c *columnsView) hash(i int) uint64 { return binary.LittleEndian.Uint64(c.hashes[8*i:]) }
func (c *columnsView) lane(i int) int    { return int(binary.LittleEndian.Uint32(c.lanes[4*i:])) }

func (c *columnsView) span(i int) (from, to int) {
	if i > 0 {
		from = int(binary.LittleEndian.Uint32(c.ends[4*i-4:]))
	}
	return from, int(binary.LittleEndian.Uint32(c.ends[4*i:]))
}

func (c *columnsView) key(i int) string {
	if !c.keyed {
		return strconv.FormatInt(c.row(i), 10)
	}
	from, to := c.span(i)
	return string(c.text[from:to])
}

// keys appends all keys; they share one allocation.
func (c *columnsView) keys(to []string) []string {
	if c.keyed {
		text := string(c.text)
		for i := range c.n {
			from, end := c.span(i)
			to = append(to, text[from:end])
		}
		return to
	}
	b := make([]byte, 0, 8*c.n)
	ends := make([]int, c.n)
	for i := range c.n {
		b = strconv.AppendInt(b, c.row(i), 10)
		ends[i] = len(b)
	}
	text, from := string(b), 0
	for _, end := range ends {
		to = append(to, text[from:end])
		from = end
	}
	return to
}

// find calls fn for each row of the block whose key has that hash, from position
// from of the sorted hashes on, and returns where larger hashes begin.
func (c *columnsView) find(hash uint64, from int, fn func(i int)) int {
	// Callers ask in ascending order, so the answer is mostly near.
	step := 1
	hi := from
	for hi < c.n && c.hash(hi) < hash {
		from = hi + 1
		hi += step
		step *= 2
	}
	hi = min(hi, c.n)
	for from < hi {
		if mid := (from + hi) / 2; c.hash(mid) < hash {
			from = mid + 1
		} else {
			hi = mid
		}
	}
	for from < c.n && c.hash(from) == hash {
		fn(c.lane(from))
		from++
	}
	return from
}

// defaultRow returns the row number that a key stands for where rows have no
// keys of their own: the inverse of strconv.FormatInt on 0, 1, 2, …
func defaultRow(key string) (row int64, ok bool) {
	if key == "" || len(key) > 19 || key[0] == '0' && len(key) > 1 {
		return 0, false
	}
	for _, c := range []byte(key) {
		if c < '0' || c > '9' {
			return 0, false
		}
	}
	row, err := strconv.ParseInt(key, 10, 64)
	return row, err == nil
}
