package memory

import (
	"context"

	"membank/index"
	"membank/simd"
	"membank/store"
)

// viewBytes of rows are packed into panels at a time, which stay in the L2 cache
// while a batch of queries meets them.
const viewBytes = 512 << 10

// live is an index over one view of the bank, good for as long as the lock is held.
// It packs rows into panels block by block as a search asks for them.
func (b *Bank) live(view int, scope Scope) *index.Index {
	a := b.views[view]
	each := max(simd.PanelRows, viewBytes/(4*a.Dim)/simd.PanelRows*simd.PanelRows)
	return index.NewLive(index.Live{
		Rows: a.rows, Dim: a.Dim, MaxNorm: a.maxNorm,
		Blocks: int((a.rows + int64(each) - 1) / int64(each)),
		NewReader: func() func(int, func(*store.Block) error) error {
			r := &blockReader{bank: b, array: a, scope: scope, each: int64(each)}
			return r.view
		},
	})
}

// blockReader packs blocks for one goroutine.
type blockReader struct {
	bank  *Bank
	array *array
	scope Scope
	each  int64
	block store.Block
}

func (r *blockReader) view(i int, fn func(*store.Block) error) error {
	a, b := r.array, &r.block
	first := int64(i) * r.each
	last := min(first+r.each, a.rows)
	n := int(last - first)
	lanes := simd.Panels(n) * simd.PanelRows
	if cap(b.Row) < lanes {
		b.Panels = make([]float32, lanes*a.Dim)
		b.Row, b.Dead = make([]int64, lanes), make([]bool, lanes)
		b.Scale, b.Bias = make([]float32, lanes), make([]float32, lanes)
	}
	b.Rows, b.Lanes, b.Dim, b.MaxNorm, b.AnyDead = n, lanes, a.Dim, a.maxNorm, false
	b.Panels, b.Row, b.Dead = b.Panels[:lanes*a.Dim], b.Row[:lanes], b.Dead[:lanes]
	b.Scale, b.Bias = b.Scale[:lanes], b.Bias[:lanes]
	simd.Pack(b.Panels, a.matrix(first, last))
	copy(b.Scale, a.scale[first:last])
	copy(b.Bias, a.bias[first:last])
	for lane := range n {
		row := first + int64(lane)
		b.Row[lane] = r.bank.queue.position(row)
		b.Dead[lane] = !r.bank.inScope(row, r.scope)
		b.AnyDead = b.AnyDead || b.Dead[lane]
	}
	for lane := n; lane < lanes; lane++ {
		b.Row[lane], b.Dead[lane], b.Scale[lane], b.Bias[lane] = -1, true, 0, 0
	}
	return fn(b)
}

// inScope: of slots the default is all rows, of a queue those that were pushed.
func (b *Bank) inScope(row int64, s Scope) bool {
	if s == ScopeAll || s == ScopeDefault && b.c.Kind == KindSlots {
		return true
	}
	return b.version[row] >= 0
}

// scores calls fn with the scores ⟨q,x⟩ of all queries and some rows, block after
// block; those of rows out of scope are left as they are and dead says which. The
// lock is held. scores is [queries][lanes], borrowed.
func (b *Bank) scores(ctx context.Context, view int, scope Scope, queries simd.Matrix, fn func(block *store.Block, scores simd.Matrix) error) error {
	a := b.views[view]
	each := int64(max(simd.PanelRows, viewBytes/(4*a.Dim)/simd.PanelRows*simd.PanelRows))
	r := &blockReader{bank: b, array: a, scope: scope, each: each}
	ones := make([]float32, each)
	for i := range ones {
		ones[i] = 1
	}
	zeros := make([]float32, each)
	out := simd.NewMatrix(queries.Rows, int(each))
	for i := 0; int64(i)*each < a.rows; i++ {
		if err := ctx.Err(); err != nil {
			return err
		}
		err := r.view(i, func(block *store.Block) error {
			scores := simd.Matrix{Data: out.Data, Rows: queries.Rows, Dim: block.Lanes}
			for q := range queries.Rows {
				simd.Scan(scores.Row(q), block.Panels, ones[:block.Lanes], zeros[:block.Lanes], queries.Row(q))
			}
			return fn(block, scores)
		})
		if err != nil {
			return err
		}
	}
	return nil
}
