package kmeans

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync"
	"sync/atomic"

	"membank/index"
	"membank/simd"
)

const (
	// bufferBytes of rows are read, assigned and added up at a time.
	bufferBytes = 64 << 20
	// A part of them is what one goroutine asks at once: enough that preparing a
	// search costs nothing, and no more than partBytes.
	partRows  = 128 * simd.TileQueries
	partBytes = 8 << 20
	// Sums are shared out by slices of so many dimensions, and by centroids.
	sliceDims = 128
)

// run is one Source being clustered.
type run struct {
	source Source
	o      Options
	metric index.Metric
	basis  *index.Basis // nil: centroids get no codes

	// beat is the objective that a trial must get below to be kept; +Inf otherwise.
	beat float64

	labels []int32   // of each row; −1 before the first pass
	scores []float32 // cosine, or squared distance
	sums   []float64 // [clusters][dim]
	counts []int64   // [clusters]

	part   int         // rows
	buffer simd.Matrix // some parts
	order  []int32     // rows of the buffer by label
	starts []int32     // of each label in order
}

func newRun(s Source, o Options) *run {
	r := &run{source: s, o: o, metric: index.L2, beat: math.Inf(1)}
	if o.Spherical {
		r.metric = index.Cosine
	}
	r.size(s.Rows())
	r.counts = make([]int64, o.Clusters)
	r.sums = make([]float64, o.Clusters*s.Dim())
	r.starts = make([]int32, o.Clusters+1)
	return r
}

// size makes room for passes over so many rows.
func (r *run) size(rows int) {
	dim := r.source.Dim()
	r.part = min(partRows, partBytes/(4*dim)/simd.TileQueries*simd.TileQueries)
	r.part = max(r.part, simd.TileQueries)
	parts := max(1, bufferBytes/(4*dim*r.part))
	held := min(parts*r.part, rows)
	r.buffer = simd.NewMatrix(held, dim)
	r.order = make([]int32, held)
	r.labels, r.scores = make([]int32, rows), make([]float32, rows)
	r.forget()
}

// forget makes the next pass the first.
func (r *run) forget() {
	for i := range r.labels {
		r.labels[i] = -1
	}
}

// outcome is what a pass found.
type outcome struct {
	objective float64 // Σ‖x−c‖²
	cosines   float64 // Σ cos, if spherical
	changed   int64   // rows whose label is another one than before
	stats     index.Stats
}

// reader fills a buffer with rows from first on.
type reader func(ctx context.Context, first int, to simd.Matrix) error

// pass assigns rows 0, 1, … of read, as many as there are labels, to the nearest
// centroids, and adds them to the sums, if add is set.
func (r *run) pass(ctx context.Context, read reader, centroids simd.Matrix, add bool, progress func(rows int)) (out outcome, err error) {
	ix, err := r.index(centroids)
	if err != nil {
		return out, err
	}
	scale := norms(centroids)
	for first := 0; first < len(r.labels); first += r.buffer.Rows {
		held := r.buffer.Slice(0, min(r.buffer.Rows, len(r.labels)-first))
		parts := (held.Rows + r.part - 1) / r.part
		var changed atomic.Int64
		var mu sync.Mutex
		done := 0
		err := parallel(ctx, r.o.Threads, parts, func(ctx context.Context, i int) error {
			from, to := i*r.part, min((i+1)*r.part, held.Rows)
			rows := held.Slice(from, to)
			if err := read(ctx, first+from, rows); err != nil {
				return err
			}
			if r.o.Spherical {
				for i := range rows.Rows {
					simd.Normalize(rows.Row(i), rows.Row(i))
				}
			}
			n, stats, err := r.assign(ctx, ix, centroids, scale, rows, first+from)
			changed.Add(int64(n))
			mu.Lock()
			defer mu.Unlock()
			out.stats.Coded += stats.Coded
			out.stats.Scores += stats.Scores
			if done += rows.Rows; progress != nil && err == nil {
				progress(first + done)
			}
			return err
		})
		if err != nil {
			return out, err
		}
		out.changed += changed.Load()
		for _, s := range r.scores[first:][:held.Rows] {
			if r.o.Spherical {
				out.cosines += float64(s)
			} else {
				out.objective += float64(s)
			}
		}
		if add {
			if err := r.add(ctx, held, r.labels[first:][:held.Rows]); err != nil {
				return out, err
			}
		}
	}
	if r.o.Spherical {
		out.objective = 2 * (float64(len(r.labels)) - out.cosines)
	}
	return out, nil
}

// index packs the centroids.
func (r *run) index(centroids simd.Matrix) (*index.Index, error) {
	ix, err := index.FromMatrix(centroids, index.MatrixOptions{Basis: r.basis, NoCodes: r.basis == nil, Threads: r.o.Threads})
	if err != nil {
		return nil, fmt.Errorf("centroids: %w", err)
	}
	return ix, nil
}

// assign finds the centroids of some rows, which are numbered from first on, and
// says how many have another one than before.
func (r *run) assign(ctx context.Context, ix *index.Index, centroids simd.Matrix, scale []float32, rows simd.Matrix, first int) (changed int, stats index.Stats, err error) {
	labels, scores := r.labels[first:][:rows.Rows], r.scores[first:][:rows.Rows]
	if r.basis == nil {
		nearest := make([]int32, rows.Rows)
		if err := ix.Nearest(ctx, rows, r.metric, nearest, scores); err != nil {
			return 0, stats, ofRow(err, first)
		}
		for i, label := range nearest {
			if label != labels[i] {
				labels[i] = label
				changed++
			}
		}
		return changed, index.Stats{Scores: int64(rows.Rows) * int64(centroids.Rows)}, nil
	}
	floors := make([]float32, rows.Rows)
	for i := range floors {
		floors[i] = r.floor(rows.Row(i), centroids, scale, labels[i])
	}
	found, err := ix.Search(ctx, rows, index.Options{K: 1, Metric: r.metric, Floors: floors, Threads: 1})
	if err != nil {
		return 0, stats, ofRow(err, first)
	}
	for i, hits := range found.Hits {
		if len(hits) == 0 {
			return 0, stats, fmt.Errorf("row %d: no centroid reaches its floor %v", first+i, floors[i])
		}
		if label := int32(hits[0].Row); label != labels[i] {
			labels[i] = label
			changed++
		}
		scores[i] = hits[0].Score
	}
	return changed, found.Stats, nil
}

// floor is a score that a row has with its last centroid; NaN if it had none.
func (r *run) floor(row []float32, centroids simd.Matrix, scale []float32, label int32) float32 {
	switch {
	case label < 0:
		return float32(math.NaN())
	case r.metric == index.L2:
		return simd.SquaredDistance(row, centroids.Row(int(label)))
	}
	// The search normalises the row once more. The chain of that and this one
	// differ by a few units for each dimension.
	slack := float64(len(row)+16) * 0x1p-23
	return float32(float64(simd.Dot(row, centroids.Row(int(label))))*float64(scale[label]) - slack)
}

// norms returns 1/‖c‖ of each centroid, as the index has it.
func norms(centroids simd.Matrix) []float32 {
	scale := make([]float32, centroids.Rows)
	for i := range scale {
		scale[i] = float32(1 / max(simd.Norm(centroids.Row(i)), simd.Epsilon))
	}
	return scale
}

// ofRow names the row of the source instead of that of the batch.
func ofRow(err error, first int) error {
	var bad *index.QueryError
	if errors.As(err, &bad) {
		return fmt.Errorf("%w %d: %w", ErrRow, first+bad.Query, bad.Err)
	}
	return err
}

// add adds rows to the sums of their centroids, each in row order.
func (r *run) add(ctx context.Context, rows simd.Matrix, labels []int32) error {
	clear(r.starts)
	for _, c := range labels {
		r.starts[c+1]++
		r.counts[c]++
	}
	for c := range r.counts {
		r.starts[c+1] += r.starts[c]
	}
	order := r.order[:len(labels)]
	for i, c := range labels { // starts[c] comes to be the end of c
		order[r.starts[c]] = int32(i)
		r.starts[c]++
	}
	// Tasks are slices of the dimensions, and in each of them some centroids.
	slices := (rows.Dim + sliceDims - 1) / sliceDims
	each := max(1, min(4*r.o.Threads/slices, len(labels)))
	return parallel(ctx, r.o.Threads, slices*each, func(_ context.Context, i int) error {
		slice, share := i/each, i%each
		from, to := slice*sliceDims, min((slice+1)*sliceDims, rows.Dim)
		begin, end := len(order)*share/each, len(order)*(share+1)/each
		// A centroid belongs to the share in which its first row lies.
		for begin > 0 && begin < len(order) && labels[order[begin]] == labels[order[begin-1]] {
			begin++
		}
		for end > 0 && end < len(order) && labels[order[end]] == labels[order[end-1]] {
			end++
		}
		for at := begin; at < end; at++ {
			row := int(order[at])
			sum := r.sums[int(labels[row])*rows.Dim:][from:to]
			addTo(sum, rows.Row(row)[from:to])
		}
		return nil
	})
}

// addTo adds x to sum, eight elements at a time without bounds to check.
func addTo(sum []float64, x []float32) {
	for ; len(sum) >= 8 && len(x) >= 8; sum, x = sum[8:], x[8:] {
		s, v := (*[8]float64)(sum), (*[8]float32)(x)
		s[0] += float64(v[0])
		s[1] += float64(v[1])
		s[2] += float64(v[2])
		s[3] += float64(v[3])
		s[4] += float64(v[4])
		s[5] += float64(v[5])
		s[6] += float64(v[6])
		s[7] += float64(v[7])
	}
	for d, v := range x {
		sum[d] += float64(v)
	}
}

// parallel calls do(i) for every i below n on some goroutines, until one fails.
func parallel(ctx context.Context, threads, n int, do func(ctx context.Context, i int) error) error {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	var next atomic.Int64
	var wg sync.WaitGroup
	for range min(threads, n) {
		wg.Go(func() {
			for {
				i := int(next.Add(1)) - 1
				if i >= n || ctx.Err() != nil {
					return
				}
				if err := do(ctx, i); err != nil {
					stop(err)
					return
				}
			}
		})
	}
	wg.Wait()
	return context.Cause(ctx)
}
