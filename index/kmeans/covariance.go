package kmeans

import (
	"context"
	"errors"
	"math"
	"runtime"

	"membank/simd"

	"gonum.org/v1/gonum/mat"
)

// momentRows are added up at a time: strips of so many stay in the L2 cache.
const momentRows = 512

func threadsOr(threads int) int {
	if threads <= 0 {
		return runtime.GOMAXPROCS(0)
	}
	return threads
}

// meanOf adds up all rows, in order.
func meanOf(ctx context.Context, s Source, o WhitenOptions) ([]float64, error) {
	mean := make([]float64, s.Dim())
	err := chunks(ctx, s, o, "mean", func(rows simd.Matrix) error {
		slices := (rows.Dim + sliceDims - 1) / sliceDims
		return parallel(ctx, o.Threads, slices, func(_ context.Context, i int) error {
			sum := mean[i*sliceDims : min((i+1)*sliceDims, rows.Dim)]
			for r := range rows.Rows {
				for d, x := range rows.Row(r)[i*sliceDims:][:len(sum)] {
					sum[d] += float64(x)
				}
			}
			return nil
		})
	})
	for d := range mean {
		mean[d] /= float64(s.Rows())
		if math.IsNaN(mean[d]) || math.IsInf(mean[d], 0) {
			return nil, errors.Join(err, errNotFinite)
		}
	}
	return mean, err
}

var errNotFinite = errors.Join(ErrRow, errors.New("some row holds NaN or Inf"))

// covarianceOf returns Σ (x−about)(x−about)ᵀ / rows, [dim][dim].
func covarianceOf(ctx context.Context, s Source, about []float64, o WhitenOptions) ([]float64, error) {
	const strip, wide = simd.StripColumns, simd.ProductStrips * simd.StripColumns
	dim := s.Dim()
	groups := (dim + wide - 1) / wide // of columns on the right
	lefts := (dim + strip - 1) / strip
	// Tile i, j holds strip i against group j, for those that touch the diagonal or
	// lie above it.
	type place struct{ left, group int }
	var places []place
	for left := range lefts {
		for group := left * strip / wide; group < groups; group++ {
			places = append(places, place{left, group})
		}
	}
	tiles := make([]simd.ProductTile, len(places))
	strips := make([]float64, groups*wide*momentRows)
	err := chunks(ctx, s, o, "covariance", func(rows simd.Matrix) error {
		n := rows.Rows
		err := parallel(ctx, o.Threads, groups*simd.ProductStrips, func(_ context.Context, i int) error {
			to := strips[i*strip*n:][:strip*n]
			for r := range n {
				row := rows.Row(r)
				for c := range strip {
					to[r*strip+c] = 0
					if d := i*strip + c; d < dim {
						to[r*strip+c] = float64(row[d]) - about[d]
					}
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
		const some = 16 // tiles of a task
		return parallel(ctx, o.Threads, (len(places)+some-1)/some, func(_ context.Context, i int) error {
			for t := i * some; t < min((i+1)*some, len(places)); t++ {
				p := places[t]
				simd.Products(&tiles[t], strips[p.left*strip*n:][:strip*n], strips[p.group*wide*n:][:wide*n])
			}
			return nil
		})
	})
	if err != nil {
		return nil, err
	}
	g := make([]float64, dim*dim)
	for t, p := range places {
		for i := range strip {
			for j := range wide {
				a, b := p.left*strip+i, p.group*wide+j
				if a <= b && b < dim {
					v := tiles[t][i][j] / float64(s.Rows())
					g[a*dim+b], g[b*dim+a] = v, v
				}
			}
		}
	}
	return g, nil
}

// chunks calls do with momentRows rows of s after another.
func chunks(ctx context.Context, s Source, o WhitenOptions, stage string, do func(rows simd.Matrix) error) error {
	buffer := simd.NewMatrix(min(momentRows, s.Rows()), s.Dim())
	for first := 0; first < s.Rows(); first += buffer.Rows {
		rows := buffer.Slice(0, min(buffer.Rows, s.Rows()-first))
		if err := s.Read(ctx, first, rows); err != nil {
			return err
		}
		if err := do(rows); err != nil {
			return err
		}
		if o.Progress != nil {
			o.Progress(Progress{Stage: stage, Done: int64(first + rows.Rows), Total: int64(s.Rows())})
		}
	}
	return nil
}

// eigen returns the eigenvalues of a symmetric matrix, largest first, and its
// eigenvectors, one after another, each with its largest element positive. It returns
// when ctx is cancelled; what it has begun then ends by itself.
func eigen(ctx context.Context, g []float64, dim int) (values, vectors []float64, err error) {
	done := make(chan bool, 1)
	var e mat.EigenSym
	go func() { done <- e.Factorize(mat.NewSymDense(dim, g), true) }()
	select {
	case <-ctx.Done():
		return nil, nil, context.Cause(ctx)
	case ok := <-done:
		if !ok {
			return nil, nil, errors.New("the eigenvectors of the covariance do not converge")
		}
	}
	var v mat.Dense
	e.VectorsTo(&v)
	ascending := e.Values(nil)
	values, vectors = make([]float64, dim), make([]float64, dim*dim)
	for i := range dim {
		from := dim - 1 - i
		values[i] = ascending[from]
		to := vectors[i*dim:][:dim]
		for d := range to {
			to[d] = v.At(d, from)
		}
		positive(to)
	}
	return values, vectors, nil
}
