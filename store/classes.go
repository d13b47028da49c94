package store

import (
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/RoaringBitmap/roaring/v2/roaring64"
)

// classes is what a bank knows of its labels beyond the labels themselves: which
// occur, and what they are called. Payload, little endian: u32 n, n × text name,
// then the labels as a 64-bit roaring bitmap of label + 2^63.
type classes struct {
	names  []string // name of label i; nil when labels are plain numbers
	labels *roaring64.Bitmap
}

func newClasses() *classes { return &classes{labels: roaring64.New()} }

// labelBit maps labels to bitmap positions in the order of the labels.
func labelBit(label int64) uint64 { return uint64(label) ^ 1<<63 }

func (c *classes) encode() ([]byte, error) {
	b := make([]byte, headerSize, headerSize+1024)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(c.names)))
	for _, name := range c.names {
		b = appendText16(b, name)
	}
	set, err := c.labels.ToBytes()
	return append(b, set...), err
}

func decodeClasses(payload []byte) (*classes, error) {
	f := &fields{b: payload}
	c := &classes{}
	for range f.count(2) {
		c.names = append(c.names, f.text16())
	}
	if f.err != nil {
		return nil, f.err
	}
	var err error
	c.labels, err = decodeBitmap(f.b)
	return c, err
}

func (c *classes) clone() *classes {
	return &classes{names: slices.Clone(c.names), labels: c.labels.Clone()}
}

// merge adds names that are new and returns what label i of a stream, called
// names[i], is in the bank.
func (c *classes) merge(names []string) ([]int64, error) {
	known := make(map[string]int64, len(c.names)+len(names))
	for i, name := range c.names {
		known[name] = int64(i)
	}
	in := make([]int64, len(names))
	seen := make(map[string]bool, len(names))
	for i, name := range names {
		switch {
		case seen[name]:
			return nil, fmt.Errorf("%w: class name %q occurs twice", ErrBadName, name)
		case name == "" || len(name) > maxKeyBytes || !printable(name):
			return nil, fmt.Errorf("%w: class name %.80q: 1 to %d bytes of UTF-8 without control characters", ErrBadName, name, maxKeyBytes)
		}
		seen[name] = true
		label, ok := known[name]
		if !ok {
			label = int64(len(c.names))
			c.names = append(c.names, name)
			known[name] = label
		}
		in[i] = label
	}
	return in, nil
}

// A deleted-rows record is a 64-bit roaring bitmap of row numbers.
func encodeDeleted(rows *roaring64.Bitmap) ([]byte, error) {
	set, err := rows.ToBytes()
	return append(make([]byte, headerSize, headerSize+len(set)), set...), err
}

// decodeBitmap copies, so the payload may be mapped memory. The bytes have passed
// their checksum; a bitmap that still fails to decode is our bug or a forgery,
// and becomes an error all the same.
func decodeBitmap(b []byte) (set *roaring64.Bitmap, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("bitmap: %v", p)
		}
	}()
	set = roaring64.New()
	err = set.UnmarshalBinary(slices.Clone(b))
	return set, err
}
