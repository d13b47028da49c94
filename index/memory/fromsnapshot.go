package memory

import (
	"context"
	"io"
	"strconv"

	"membank/simd"
	"membank/store"
)

// SnapshotRows gives the live rows of a bank in row order, once.
type SnapshotRows struct {
	s     *store.Snapshot
	r     *store.Reader
	block int         // the next to be read
	rows  simd.Matrix // of the last one that were not handed out
}

// FromSnapshot returns the live rows of a bank for Create, with their labels (nil if
// none has one) and keys (nil if they are called by their numbers). The snapshot
// must stay open.
func FromSnapshot(ctx context.Context, s *store.Snapshot) (rows *SnapshotRows, labels []int64, keys []string, err error) {
	r := s.NewReader()
	decimal := true
	var some []string
	for block := range s.Blocks() {
		if err := ctx.Err(); err != nil {
			return nil, nil, nil, err
		}
		err := r.Columns(block, func(c *store.Columns) error {
			some = c.Keys(some[:0])
			for i := range c.Rows {
				if c.Dead[i] {
					continue
				}
				decimal = decimal && some[i] == strconv.Itoa(len(keys))
				labels, keys = append(labels, c.Label[i]), append(keys, some[i])
			}
			return nil
		})
		if err != nil {
			return nil, nil, nil, err
		}
	}
	if s.Info().Classes == 0 {
		labels = nil
	}
	if decimal {
		keys = nil
	}
	return &SnapshotRows{s: s, r: r}, labels, keys, nil
}

// Next implements Rows.
func (r *SnapshotRows) Next(ctx context.Context, m simd.Matrix) (int, error) {
	for r.rows.Rows == 0 {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		if r.block == r.s.Blocks() {
			return 0, io.EOF
		}
		if err := r.r.View(r.block, r.take); err != nil {
			return 0, err
		}
		r.block++
	}
	n := min(m.Rows, r.rows.Rows)
	copy(m.Data, r.rows.Data[:n*r.rows.Dim])
	r.rows = r.rows.Slice(n, r.rows.Rows)
	return n, nil
}

// take copies the live rows of a block.
func (r *SnapshotRows) take(b *store.Block) error {
	all := simd.NewMatrix(b.Rows, b.Dim)
	simd.Unpack(all, b.Panels)
	n := 0
	for i := range b.Rows {
		if !b.Dead[i] {
			copy(all.Row(n), all.Row(i))
			n++
		}
	}
	r.rows = all.Slice(0, n)
	return nil
}
