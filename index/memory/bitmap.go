package memory

import "math/bits"

// bitmap is a set of rows, one bit each; nil is empty.
type bitmap []uint64

func (b *bitmap) add(i, rows int64) {
	if *b == nil {
		*b = make(bitmap, (rows+63)/64)
	}
	(*b)[i/64] |= 1 << (i % 64)
}

func (b bitmap) count() (n int64) {
	for _, w := range b {
		n += int64(bits.OnesCount64(w))
	}
	return n
}

// rows lists the members in ascending order.
func (b bitmap) rows() (rows []int64) {
	for i, w := range b {
		for ; w != 0; w &= w - 1 {
			rows = append(rows, int64(i*64+bits.TrailingZeros64(w)))
		}
	}
	return rows
}
