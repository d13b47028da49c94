package memory

import (
	"context"
	"fmt"

	"membank/index"
	"membank/simd"
	"membank/store"
)

// NearestOptions say what Nearest looks for: those of a search, and which rows. K 0
// is index.DefaultK; NNCLR and MSF ask for 1 and 5.
type NearestOptions struct {
	index.Options // Allow and ExcludeRow speak of ids, of a queue of positions
	View          int
	Scope         Scope
}

// Neighbours is an answer of Nearest: per query the ids of its nearest rows, best
// first, and what the bank knows of them.
type Neighbours struct {
	Hits    [][]index.Hit // Row is the id, of a queue the position
	Labels  [][]int64     // one a hit; nil: no row has a label
	Keys    [][]string    // one a hit; nil: no row has a key
	Version [][]int64     // one a hit
	Vectors []simd.Matrix // per query [hits][dim], if asked for: the rows as stored, not divided by their norms
	// Written is of PushThenNearest.
	Written Written
}

// Nearest finds the nearest rows, exactly, as index.Search does. The bank stands
// still for that time: writers wait. It costs a packing of all rows, which some
// dozens of queries at once make up for.
func (b *Bank) Nearest(ctx context.Context, queries simd.Matrix, vectors bool, o NearestOptions) (Neighbours, error) {
	if err := b.checkNearest(&o); err != nil {
		return Neighbours{}, err
	}
	b.mu.RLock()
	defer b.mu.RUnlock()
	return b.nearest(ctx, queries, vectors, o)
}

func (b *Bank) checkNearest(o *NearestOptions) error {
	if o.View < 0 || o.View >= len(b.c.Views) {
		return fmt.Errorf("%w: view %d of %d", ErrOptions, o.View, len(b.c.Views))
	}
	return o.Scope.check()
}

func (b *Bank) nearest(ctx context.Context, queries simd.Matrix, vectors bool, o NearestOptions) (Neighbours, error) {
	if err := b.usable(); err != nil {
		return Neighbours{}, err
	}
	r, err := b.live(o.View, o.Scope).Search(ctx, queries, o.Options)
	if err != nil {
		return Neighbours{}, err
	}
	return b.describe(Neighbours{Hits: r.Hits}, vectors, o.View)
}

// describe adds to hits what the bank knows of them.
func (b *Bank) describe(n Neighbours, vectors bool, view int) (Neighbours, error) {
	for _, hits := range n.Hits {
		ids := make([]int64, len(hits))
		for i, h := range hits {
			ids[i] = h.Row
		}
		c, err := b.columns(ids)
		if err != nil {
			return Neighbours{}, err
		}
		n.Version = append(n.Version, c.Version)
		if c.Labels != nil {
			n.Labels = append(n.Labels, c.Labels)
		}
		if c.Keys != nil {
			n.Keys = append(n.Keys, c.Keys)
		}
		if vectors {
			m := simd.NewMatrix(len(ids), b.views[view].Dim)
			for i, id := range ids {
				copy(m.Row(i), b.views[view].row(b.queue.row(id)))
			}
			n.Vectors = append(n.Vectors, m)
		}
	}
	return n, nil
}

// PushThenNearest writes a batch and then searches, in one step, as MSF and XBM do.
// With itself a row of the batch is among its own neighbours (MSF, by design);
// without, query i does not get the position that row i went to (XBM).
func (q *Queue) PushThenNearest(ctx context.Context, rows []simd.Matrix, p PushOptions, queries simd.Matrix, itself, vectors bool, o NearestOptions) (Neighbours, error) {
	if err := q.checkNearest(&o); err != nil {
		return Neighbours{}, err
	}
	if err := q.checkPush(rows, &p); err != nil {
		return Neighbours{}, err
	}
	if err := q.checkQueries(o.View, queries); err != nil {
		return Neighbours{}, err
	}
	if !itself && queries.Rows != rows[0].Rows {
		return Neighbours{}, fmt.Errorf("%w: %d queries for a batch of %d, each of which is kept from itself", ErrOptions, queries.Rows, rows[0].Rows)
	}
	q.lock()
	n, end, err := q.pushThenNearest(ctx, rows, p, queries, itself, vectors, o)
	q.unlock()
	if err == nil {
		err = q.synced(end, p.Durability)
	}
	return n, err
}

func (q *Queue) pushThenNearest(ctx context.Context, rows []simd.Matrix, p PushOptions, queries simd.Matrix, itself, vectors bool, o NearestOptions) (Neighbours, int64, error) {
	if err := q.usable(); err != nil {
		return Neighbours{}, 0, err
	}
	// Whatever the search would refuse must be refused before the push.
	if _, err := q.nearest(ctx, queries.Slice(0, 0), false, NearestOptions{Options: o.Options, View: o.View, Scope: o.Scope}); err != nil {
		return Neighbours{}, 0, err
	}
	positions, w, end, err := q.pushLocked(nil, rows, p)
	if err != nil {
		return Neighbours{}, 0, err
	}
	if !itself {
		o.ExcludeRow = make([]int64, queries.Rows)
		for i := range o.ExcludeRow {
			o.ExcludeRow[i] = -1
			// The last rows of a batch were written, or with drop-tail the first.
			at := i - (queries.Rows - len(positions))
			if q.c.Wrap == WrapDropTail {
				at = i
			}
			if at >= 0 && at < len(positions) {
				o.ExcludeRow[i] = positions[at]
			}
		}
	}
	n, err := q.nearest(ctx, queries, vectors, o)
	n.Written = w
	return n, end, err
}

// HardOptions say which rows are hard negatives of a query.
type HardOptions struct {
	NearestOptions // K negatives a query; MinScore is the floor: easier ones are left out
	// Positives, if set, is the id of each query's own sample, which it does not get.
	Positives []int64
	// Labels, if set, is each query's label: rows of it are no negatives. A query
	// without one (store.NoLabel) gets rows of any label.
	Labels []int64
	// Below, if set, is each query's score with its positive: semi-hard negatives
	// are those that score less. For L2 it is a squared distance, and they are
	// farther away.
	Below []float32
}

// HardNegatives finds the highest-scoring rows that are negatives, by exact search:
// the top of the ranking, less what Positives, Labels and Below rule out.
func (b *Bank) HardNegatives(ctx context.Context, queries simd.Matrix, vectors bool, o HardOptions) (Neighbours, error) {
	if err := b.checkNearest(&o.NearestOptions); err != nil {
		return Neighbours{}, err
	}
	for _, n := range []int{len(o.Positives), len(o.Labels), len(o.Below)} {
		if n > 0 && n != queries.Rows {
			return Neighbours{}, fmt.Errorf("%w: %d positives, %d labels, %d scores of positives for %d queries",
				ErrOptions, len(o.Positives), len(o.Labels), len(o.Below), queries.Rows)
		}
	}
	if o.K <= 0 {
		o.K = index.DefaultK
	}
	b.mu.RLock()
	defer b.mu.RUnlock()
	if err := b.usable(); err != nil {
		return Neighbours{}, err
	}
	if o.Positives != nil {
		o.ExcludeRow = o.Positives
	}
	all := Neighbours{Hits: make([][]index.Hit, queries.Rows)}
	waiting := make([]int, queries.Rows)
	for i := range waiting {
		waiting[i] = i
	}
	// Rows that are ruled out stand among the best: ask for more until enough are
	// left, or there are no more.
	for k := int64(o.K); len(waiting) > 0; k = min(4*k, b.c.Rows) {
		part, exclude := simd.NewMatrix(len(waiting), queries.Dim), []int64(nil)
		for i, q := range waiting {
			copy(part.Row(i), queries.Row(q))
			if o.ExcludeRow != nil {
				exclude = append(exclude, o.ExcludeRow[q])
			}
		}
		ask := o.NearestOptions
		ask.K, ask.ExcludeRow = int(k), exclude
		n, err := b.nearest(ctx, part, false, ask)
		if err != nil {
			return Neighbours{}, err
		}
		var short []int
		for i, q := range waiting {
			kept := b.negatives(q, n.Hits[i], o)
			if len(kept) < o.K && int64(len(n.Hits[i])) == k && k < b.c.Rows {
				short = append(short, q)
				continue
			}
			all.Hits[q] = kept
		}
		waiting = short
	}
	return b.describe(all, vectors, o.View)
}

// negatives are the first K hits that may be negatives of query q.
func (b *Bank) negatives(q int, hits []index.Hit, o HardOptions) []index.Hit {
	kept := make([]index.Hit, 0, o.K)
	for _, h := range hits {
		if len(kept) == o.K {
			break
		}
		if o.Below != nil && (h.Score >= o.Below[q]) != (o.Metric == index.L2) {
			continue
		}
		if o.Labels != nil && o.Labels[q] != store.NoLabel && b.labelAt(b.queue.row(h.Row)) == o.Labels[q] {
			continue
		}
		kept = append(kept, h)
	}
	return kept
}
