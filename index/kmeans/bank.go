package kmeans

import (
	"context"
	"sort"

	"membank/simd"
	"membank/store"
)

// BankRows is the Source of the live rows of a bank, in the order of its blocks or,
// InRowOrder, in that of their numbers.
// It holds 8 bytes a row, and nothing of their vectors.
type BankRows struct {
	snapshot *store.Snapshot
	starts   []int   // first row of the source in each block, and their number
	numbers  []int64 // row number of each row, in the order of blocks
	order    []int   // place in numbers of each row of the source; nil: as they stand
}

// Bank returns the live rows of s, which must stay open as long as they are read.
// It reads the columns of every block once.
func Bank(ctx context.Context, s *store.Snapshot) (*BankRows, error) {
	b := &BankRows{snapshot: s, starts: make([]int, s.Blocks()+1)}
	b.numbers = make([]int64, 0, s.Info().Rows)
	r := s.NewReader()
	for block := range s.Blocks() {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		err := r.Columns(block, func(c *store.Columns) error {
			for i, row := range c.Row {
				if !c.Dead[i] {
					b.numbers = append(b.numbers, row)
				}
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
		b.starts[block+1] = len(b.numbers)
	}
	return b, nil
}

// Rows is the number of live rows.
func (b *BankRows) Rows() int { return len(b.numbers) }

// Dim is the dimension of the bank.
func (b *BankRows) Dim() int { return b.snapshot.Dim() }

// Number is the row number in the bank of row i of the source.
func (b *BankRows) Number(i int) int64 {
	if b.order != nil {
		i = b.order[i]
	}
	return b.numbers[i]
}

// Read copies rows first, first+1, … into to.
func (b *BankRows) Read(ctx context.Context, first int, to simd.Matrix) error {
	return b.read(ctx, to, func(i int) int { return first + i })
}

// Gather copies the rows that are named into to. A block of which no row is named
// is not read.
func (b *BankRows) Gather(ctx context.Context, rows []int, to simd.Matrix) error {
	return b.read(ctx, to.Slice(0, len(rows)), func(i int) int { return rows[i] })
}

func (b *BankRows) read(ctx context.Context, to simd.Matrix, at func(i int) int) error {
	if b.order != nil {
		return b.ordered(ctx, to, at)
	}
	return b.copy(ctx, to, at, nil)
}

// copy fills to with the rows that at names, in ascending order of blocks: the n-th
// goes to row place(n), or if that is nil to row n.
func (b *BankRows) copy(ctx context.Context, to simd.Matrix, at, place func(i int) int) error {
	r := b.snapshot.NewReader()
	for n := 0; n < to.Rows; {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		block := sort.SearchInts(b.starts, at(n)+1) - 1
		err := r.View(block, func(k *store.Block) error {
			first, end := b.starts[block], b.starts[block+1]
			lane, passed := 0, first // rows of the source before that lane
			for n < to.Rows && at(n) < end {
				row := at(n)
				if k.AnyDead {
					for k.Dead[lane] || passed < row {
						if !k.Dead[lane] {
							passed++
						}
						lane++
					}
				} else {
					lane = row - first
				}
				// Whole panels at once, as far as rows follow each other.
				if run := min(to.Rows-n, end-row) / simd.PanelRows * simd.PanelRows; run > 0 && !k.AnyDead && place == nil &&
					lane%simd.PanelRows == 0 && at(n+run-1) == row+run-1 {
					simd.Unpack(to.Slice(n, n+run), k.Panels[lane*k.Dim:][:run*k.Dim])
					n += run
					continue
				}
				into := n
				if place != nil {
					into = place(n)
				}
				simd.UnpackRow(to.Row(into), k.Panels, lane)
				n++
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}
