package eval

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"

	"membank/index"
	"membank/index/kmeans"
	"membank/simd"
	"membank/store"
)

// Set is rows to ask or to rank: a bank as it is stored, or what a transform made of
// one (GeM, Whitening). It is safe for concurrent use until its snapshot is closed.
type Set struct {
	use    BankUse
	dim    int
	names  []string        // of labels
	labels []int64         // of each row number; store.NoLabel for none and for deleted rows
	ix     *index.Index    //
	snap   *store.Snapshot // of a stored set
	rows   simd.Matrix     // of a transformed set
	keys   []string        // of a transformed set, by row number
	made   []string        // the transforms, in order
}

// NewSet is a bank as it is stored. It holds 8 bytes a row, for labels.
func NewSet(ctx context.Context, s *store.Snapshot) (*Set, error) {
	labels, err := s.Labels(ctx)
	if err != nil {
		return nil, err
	}
	i := s.Info()
	return &Set{
		use: BankUse{i.Bank, i.Generation, i.DType.String(), i.Rows}, dim: i.Dim,
		names: i.ClassNames, labels: labels, ix: index.New(s), snap: s,
	}, nil
}

// Dim is the width of the rows as they are searched.
func (s *Set) Dim() int { return s.dim }

// Rows is the number of rows.
func (s *Set) Rows() int64 { return s.use.Rows }

// batches calls fn with all rows in row order, at most size at a time; what it is
// given is valid until it returns.
func (s *Set) batches(ctx context.Context, size int, fn func(rows []int64, vectors simd.Matrix) error) error {
	if s.snap != nil {
		return s.snap.Batches(ctx, size, func(b store.Batch) error { return fn(b.Rows, b.Vectors) })
	}
	numbers := make([]int64, 0, size)
	for first := 0; first < s.rows.Rows; first += size {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		last := min(first+size, s.rows.Rows)
		numbers = numbers[:0]
		for i := first; i < last; i++ {
			numbers = append(numbers, int64(i))
		}
		if err := fn(numbers, s.rows.Slice(first, last)); err != nil {
			return err
		}
	}
	return nil
}

// source is the rows as clustering reads them, by row number whatever an index has
// moved, and the row number of each: some are deleted.
func (s *Set) source(ctx context.Context) (_ kmeans.Source, number func(i int) int64, err error) {
	if s.snap == nil {
		return kmeans.Matrix(s.rows), func(i int) int64 { return int64(i) }, nil
	}
	bank, err := kmeans.Bank(ctx, s.snap)
	if err != nil {
		return nil, nil, err
	}
	bank = bank.InRowOrder()
	return bank, bank.Number, nil
}

// alive says that a row number is a row's.
func (s *Set) alive(row int64) bool { return s.snap == nil || s.snap.Alive(row) }

// Keys returns the key of every row number, "" for deleted rows.
func (s *Set) Keys(ctx context.Context) ([]string, error) {
	if s.snap == nil {
		return s.keys, nil
	}
	keys := make([]string, len(s.labels))
	r := s.snap.NewReader()
	for b := range s.snap.Blocks() {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		if err := r.Columns(b, func(c *store.Columns) error {
			for i, row := range c.Row {
				if !c.Dead[i] {
					keys[row] = c.Key(i)
				}
			}
			return nil
		}); err != nil {
			return nil, err
		}
	}
	return keys, nil
}

// asking is a search for the neighbours of many queries, a batch at a time.
type asking struct {
	queries, gallery *Set
	k                int64 // neighbours of each
	metric           index.Metric
	leave            bool                                         // a query does not get its own row number
	wanted           func(row int64) bool                         // which queries are asked; nil: all
	allow            func(row int64) bool                         // which rows are ranked; nil: all
	least            func(rows []int64) (score float32, has bool) // what hits must reach, as printed; nil: nothing
	run              RunOptions

	tied int64 // queries so far whose hits, two at least, all have one score
}

// each calls fn with the answers of one batch after another, in row order; hits are
// best first. Memory is bounded by run.Memory, except that one query is asked even
// where its ranking exceeds that.
func (a *asking) each(ctx context.Context, fn func(rows []int64, hits [][]index.Hit) error) error {
	if err := sameDim(a.queries, a.gallery); err != nil {
		return err
	}
	a.k = max(1, min(a.k, a.gallery.use.Rows))
	// A long answer grows by a quarter at a time, and what it grew from is still there.
	room := int64(16*a.gallery.dim) + 3*hitBytes*a.k
	size := int(max(1, min(a.run.Memory/room, 4096, a.queries.use.Rows)))
	batch := simd.NewMatrix(size, a.queries.dim)
	var rows []int64
	done := int64(0)
	ask := func() error {
		if len(rows) == 0 {
			return nil
		}
		hits, err := a.search(ctx, rows, batch.Slice(0, len(rows)), done)
		if err != nil {
			return err
		}
		for _, h := range hits {
			if len(h) > 1 && h[0].Score == h[len(h)-1].Score {
				a.tied++
			}
		}
		if err := fn(rows, hits); err != nil {
			return err
		}
		done += int64(len(rows))
		rows = rows[:0]
		return nil
	}
	err := a.queries.batches(ctx, min(size, 256), func(numbers []int64, vectors simd.Matrix) error {
		for i, row := range numbers {
			if a.wanted != nil && !a.wanted(row) {
				done++
				continue
			}
			copy(batch.Row(len(rows)), vectors.Row(i))
			if rows = append(rows, row); len(rows) == size {
				if err := ask(); err != nil {
					return err
				}
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	return ask()
}

func sameDim(queries, gallery *Set) error {
	if queries.dim != gallery.dim {
		return fmt.Errorf("%w: gallery %q has %d, queries %q have %d", store.ErrDim, gallery.use.Bank, gallery.dim, queries.use.Bank, queries.dim)
	}
	return nil
}

func (a *asking) search(ctx context.Context, rows []int64, vectors simd.Matrix, done int64) ([][]index.Hit, error) {
	o := index.Options{
		K: int(a.k), Metric: a.metric, Threads: a.run.Threads, NoCodes: a.run.NoCodes, Allow: a.allow,
		Memory: max(a.run.Memory, 4*hitBytes*a.k*int64(len(rows))),
	}
	if a.leave {
		o.ExcludeRow = rows
	}
	if a.least != nil {
		o.MinScore, o.HasMinScore = a.least(rows)
	}
	if a.run.Progress != nil {
		o.Progress = func(part, total int64) {
			a.run.Progress(done+int64(len(rows))*part/max(1, total), a.queries.use.Rows)
		}
	}
	found, err := a.gallery.ix.Search(ctx, vectors, o)
	if q := (*index.QueryError)(nil); errors.As(err, &q) {
		return nil, fmt.Errorf("bank %q row %d: %w", a.queries.use.Bank, rows[q.Query], q.Err)
	}
	return found.Hits, err
}

func (o *RunOptions) defaults() {
	if o.Threads <= 0 {
		o.Threads = runtime.GOMAXPROCS(0)
	}
	if o.Memory <= 0 {
		o.Memory = 256 << 20
	}
}

// parallel calls do for 0..n-1 from some goroutines.
func parallel(n, threads int, do func(i int)) {
	var wg sync.WaitGroup
	for t := range min(n, threads) {
		wg.Go(func() {
			for i := t; i < n; i += threads {
				do(i)
			}
		})
	}
	wg.Wait()
}
