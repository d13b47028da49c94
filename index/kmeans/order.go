package kmeans

import (
	"cmp"
	"context"
	"slices"

	"membank/simd"
)

// InRowOrder is the same rows in the order of their numbers. Clusters of it depend on
// the seed and on the rows, not on where a grouped bank keeps them: sums of centroids,
// draws and ties go by position. Of a bank that is in that order as it stands it is b;
// else it holds 8 bytes a row more, and passes take rows one by one from their blocks.
func (b *BankRows) InRowOrder() *BankRows {
	if slices.IsSorted(b.numbers) {
		return b
	}
	o := *b
	o.order = make([]int, len(b.numbers))
	for i := range o.order {
		o.order[i] = i
	}
	slices.SortFunc(o.order, func(x, y int) int { return cmp.Compare(b.numbers[x], b.numbers[y]) })
	return &o
}

// ordered copies the rows that at names, of those in order: each from its block, in
// the order of blocks, to where it belongs.
func (b *BankRows) ordered(ctx context.Context, to simd.Matrix, at func(i int) int) error {
	type wanted struct{ stored, row int }
	list := make([]wanted, to.Rows)
	for i := range list {
		list[i] = wanted{b.order[at(i)], i}
	}
	slices.SortFunc(list, func(x, y wanted) int { return cmp.Compare(x.stored, y.stored) })
	return b.copy(ctx, to, func(i int) int { return list[i].stored }, func(i int) int { return list[i].row })
}
