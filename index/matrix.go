package index

import (
	"fmt"
	"math"
	"runtime"
	"sync"

	"membank/simd"
	"membank/store"
)

// MatrixOptions say how FromMatrix prepares its rows. The zero value packs them,
// and learns codes from them where those pay.
type MatrixOptions struct {
	// Basis, if set, makes the codes, however few rows there are: that of a bank
	// from which the queries come, say, or the one that LearnMatrix learnt.
	Basis *Basis
	// NoCodes leaves codes out.
	NoCodes bool
	// Threads is the number of workers; 0 means GOMAXPROCS.
	Threads int
}

const (
	// matrixBlock rows make a block of an index in memory: one run of the first
	// stage of codes, and pieces for workers where there are several blocks.
	matrixBlock = simd.CodeRun * simd.PanelRows
	// The largest norm of a row, as in a bank: half its square fits a float32.
	mostRowNorm = 1e18
)

// FromMatrix returns an index over the rows of m, [rows][dim] row-major, in memory:
// centroids, prototypes, a batch. Hits name row i of m as row i, and answers are
// those of a bank of the same rows, bit for bit, for all Options.
//
// It copies the rows once, 4·dim bytes each, and with codes some dims+44 bytes each
// beside that; m may change afterwards. Without Options.Basis, codes are learnt from
// the rows if there are 4,096 or more, of 64 dimensions or more, which costs what
// LearnBasis costs. The index needs no closing and is safe for concurrent use. A
// row with NaN or Inf in it, or of a norm beyond 1e18, is an ErrRows.
func FromMatrix(m simd.Matrix, o MatrixOptions) (*Index, error) {
	if m.Dim < 1 || m.Rows < 0 || len(m.Data) < m.Rows*m.Dim {
		return nil, fmt.Errorf("%w: %d rows of %d dimensions in %d numbers", ErrRows, m.Rows, m.Dim, len(m.Data))
	}
	if o.Basis != nil && o.Basis.dim != m.Dim {
		return nil, fmt.Errorf("%w: rows of %d dimensions and a basis of %d", ErrRows, m.Dim, o.Basis.dim)
	}
	if o.Threads <= 0 {
		o.Threads = runtime.GOMAXPROCS(0)
	}
	norms := make([]float64, m.Rows)
	parallel(o.Threads, m.Rows, func() func(int) {
		return func(i int) { norms[i] = simd.Norm(m.Row(i)) }
	})
	for i, n := range norms {
		switch {
		case math.IsNaN(n) || math.IsInf(n, 0):
			return nil, fmt.Errorf("%w: row %d holds NaN or Inf", ErrRows, i)
		case n > mostRowNorm:
			return nil, fmt.Errorf("%w: row %d has norm %.3g, more than %.0g (scale the vectors down)", ErrRows, i, n, mostRowNorm)
		}
	}
	blocks := make([]*store.Block, (m.Rows+matrixBlock-1)/matrixBlock)
	parallel(o.Threads, len(blocks), func() func(int) {
		return func(i int) {
			first := i * matrixBlock
			last := min(first+matrixBlock, m.Rows)
			blocks[i] = blockOf(m.Slice(first, last), norms[first:last], first)
		}
	})
	ix := &Index{rows: int64(m.Rows), dim: m.Dim, blocks: len(blocks), inMemory: true, spare: new(sync.Pool)}
	for _, b := range blocks {
		ix.maxNorm = max(ix.maxNorm, b.MaxNorm)
	}
	lend := view(func(i int, _ []int32, fn func(*store.Block) error) error { return fn(blocks[i]) })
	ix.reader = func() view { return lend }
	if o.NoCodes {
		return ix, nil
	}
	basis := o.Basis
	if basis == nil && m.Rows >= codesFrom && m.Dim >= buildDim {
		basis = LearnMatrix(m, m.Rows, aimedK, o.Threads)
	}
	if basis == nil {
		return ix, nil
	}
	ix.small = o.Basis != nil
	return ix, ix.encode(basis, blocks, o.Threads)
}

// LearnMatrix learns a basis from the rows of m, as LearnBasis does from those of a
// bank: of one of every n, at most 16 Ki. It is to serve searches for k hits among so
// many rows that are like those of m. It returns nil where there is none.
func LearnMatrix(m simd.Matrix, rows, k, threads int) *Basis {
	if threads <= 0 {
		threads = runtime.GOMAXPROCS(0)
	}
	stride := max(1, (m.Rows+sampleRows-1)/sampleRows)
	sample := simd.NewMatrix((m.Rows+stride-1)/stride, m.Dim)
	for i := range sample.Rows {
		at := i*stride + int(drawn(int64(i), int64(stride)))
		copy(sample.Row(i), m.Row(min(at, m.Rows-1)))
	}
	return learn(sample, aim{int64(rows), k, 2}, threads)
}

// blockOf packs rows of these norms, numbered from first on.
func blockOf(m simd.Matrix, norms []float64, first int) *store.Block {
	lanes := simd.Panels(m.Rows) * simd.PanelRows
	b := &store.Block{
		Rows: m.Rows, Lanes: lanes, Dim: m.Dim,
		Panels: make([]float32, lanes*m.Dim),
		Row:    make([]int64, lanes),
		Scale:  make([]float32, lanes),
		Bias:   make([]float32, lanes),
		Dead:   make([]bool, lanes),
	}
	simd.Pack(b.Panels, m)
	for i := range lanes {
		if i >= m.Rows {
			b.Row[i], b.Dead[i] = -1, true
			continue
		}
		b.Row[i] = int64(first + i)
		b.Scale[i] = float32(1 / max(norms[i], simd.Epsilon))
		b.Bias[i] = float32(-norms[i] * norms[i] / 2)
		b.MaxNorm = max(b.MaxNorm, norms[i])
	}
	return b
}

// encode gives the index codes in memory.
func (ix *Index) encode(basis *Basis, blocks []*store.Block, threads int) error {
	records := make([][]byte, len(blocks))
	errs := make([]error, len(blocks))
	parallel(threads, len(blocks), func() func(int) {
		return func(i int) { records[i], errs[i] = basis.EncodeBlock(nil, blocks[i]) }
	})
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	lend := codesView(func(i int, fn func([]byte) error) error { return fn(records[i]) })
	ix.basis = basis
	ix.codes = func() codesView { return lend }
	return nil
}
