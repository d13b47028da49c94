package store

import (
	"cmp"
	"fmt"
	"slices"

	"membank/simd"
)

// Assigner says which list each of the first b.Rows rows of a block belongs to:
// list[i] is set to 0 ≤ list < the number of lists; what it says of dead rows does
// not matter. It is called from several goroutines at once, with blocks that are
// stored and with such as are about to be, and must not call the store.
type Assigner func(list []int32, b *Block) error

// checkAssigned returns an error unless an Assigner kept its promise for the rows
// that are alive.
func checkAssigned(list []int32, b *Block, lists int) error {
	for i, l := range list {
		if (l < 0 || int(l) >= lists) && !b.Dead[i] {
			return fmt.Errorf("row %d is assigned to list %d of %d", b.Row[i], l, lists)
		}
	}
	return nil
}

// sorter puts the rows of a full block into the order of their lists. It keeps a
// block of vectors.
type sorter struct {
	assign Assigner
	lists  int
	panels []float32 // of an f16 bank
	spare  simd.Matrix
	block  Block
}

// byList assigns the rows of f and sorts them by list; rows of one list stay in
// the order they came in.
func (s *sorter) byList(f *filling) error {
	if s.spare.Rows == 0 {
		s.spare = simd.NewMatrix(f.capacity, f.panel.Dim)
		if f.dtype == F16 {
			s.panels = make([]float32, f.capacity*f.panel.Dim)
		}
	}
	b := &s.block
	b.size(f.rows, f.panel.Dim)
	b.MaxNorm = f.maxNorm
	b.Panels = decodePanels(f.panels()[headerSize:], s.panels, f.dtype)
	clear(b.Dead)
	copy(b.Row, f.numbers)
	copy(b.Scale, f.scale)
	copy(b.Bias, f.bias)
	for i := f.rows; i < b.Lanes; i++ {
		b.Row[i], b.Scale[i], b.Bias[i], b.Dead[i] = -1, 0, 0, true
	}
	f.list = slices.Grow(f.list[:0], f.rows)[:f.rows]
	if err := s.assign(f.list, b); err != nil {
		return fmt.Errorf("assigning rows to lists: %w", err)
	}
	if err := checkAssigned(f.list, b, s.lists); err != nil {
		return err
	}
	order := make([]int, f.rows)
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(f.list[a], f.list[b]) })
	simd.Unpack(s.spare.Slice(0, f.rows), b.Panels)
	f.permute(order, s.spare)
	return nil
}

// permute puts row order[i] into place i. vectors are the rows as they were.
func (f *filling) permute(order []int, vectors simd.Matrix) {
	f.rows = 0
	for _, from := range order {
		copy(f.panel.Row(f.rows%simd.PanelRows), vectors.Row(from))
		f.added(1)
	}
	f.numbers, f.list = permuted(f.numbers, order), permuted(f.list, order)
	f.scale, f.bias = permuted(f.scale, order), permuted(f.bias, order)
	f.labels = permuted(f.labels, order)
	if f.keyed {
		f.keys = permuted(f.keys, order)
	}
	for name, values := range f.attributes {
		for len(values) < f.rows {
			values = append(values, Value{})
		}
		f.attributes[name] = permuted(values, order)
	}
}

func permuted[T any](values []T, order []int) []T {
	out := make([]T, len(order))
	for i, from := range order {
		out[i] = values[from]
	}
	return out
}
