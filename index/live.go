package index

import "membank/store"

// Live describes rows that are kept outside of a store, in memory for instance: the
// blocks of them that a search reads, in the form that the store gives its own.
type Live struct {
	Rows    int64   // in all blocks, dead ones included
	Dim     int     // at least 1
	Blocks  int     // numbered from 0
	MaxNorm float64 // no row has a larger one
	// NewReader returns what lends the blocks to one goroutine: View calls fn with
	// block i, which fn may use until it returns. Row numbers are any distinct
	// numbers that are not negative.
	NewReader func() func(i int, fn func(*store.Block) error) error
}

// NewLive returns an index over rows that change: a search reads what the blocks
// hold while it runs, so whoever owns the rows keeps them still for that time if an
// answer must be of one moment. Options and answers are those of New; there are no
// codes.
func NewLive(l Live) *Index {
	return &Index{
		rows: l.Rows, dim: l.Dim, blocks: l.Blocks, maxNorm: l.MaxNorm,
		reader: func() view {
			lend := l.NewReader()
			return func(i int, _ []int32, fn func(*store.Block) error) error { return lend(i, fn) }
		},
	}
}
