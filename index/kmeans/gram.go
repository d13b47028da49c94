package kmeans

import (
	"context"
	"math"

	"membank/simd"

	"gonum.org/v1/gonum/floats"
)

// fewRows returns what covarianceOf and eigen together do, values [count] and vectors
// [count][dim], for fewer rows than dimensions: from the products of rows with rows,
// whose eigenvalues are the same but for zeros. With B the rows about their origin,
// BBᵀu = λu makes Bᵀu an eigenvector of BᵀB of the same λ. Directions in which the
// rows do not vary are any that are orthogonal to the others. total is the sum of all
// eigenvalues. It costs rows²·dim + 10·rows³ + count²·dim operations and 8 bytes for
// each number of the rows and of the vectors.
func fewRows(ctx context.Context, s Source, about []float64, count int, o WhitenOptions) (values, vectors []float64, total float64, err error) {
	n, dim := s.Rows(), s.Dim()
	b := make([]float64, n*dim)
	first := 0
	err = chunks(ctx, s, o, "covariance", func(rows simd.Matrix) error {
		for i := range rows.Rows {
			to := b[(first+i)*dim:][:dim]
			for d, x := range rows.Row(i) {
				to[d] = float64(x) - about[d]
			}
		}
		first += rows.Rows
		return nil
	})
	if err != nil {
		return nil, nil, 0, err
	}
	g := make([]float64, n*n)
	err = parallel(ctx, o.Threads, n, func(ctx context.Context, i int) error {
		for j := range i + 1 {
			if j%gramStep == 0 && ctx.Err() != nil {
				return context.Cause(ctx)
			}
			v := floats.Dot(b[i*dim:][:dim], b[j*dim:][:dim]) / float64(n)
			g[i*n+j], g[j*n+i] = v, v
		}
		return nil
	})
	if err != nil {
		return nil, nil, 0, err
	}
	all, of, err := eigen(ctx, g, n)
	if err != nil {
		return nil, nil, 0, err
	}
	for _, v := range all {
		total += max(v, 0)
	}
	values, vectors = make([]float64, count), make([]float64, count*dim)
	found := 0 // those with variance; all has the largest first
	for found < min(n, count) && all[found] > noVariance*all[0] {
		values[found] = all[found]
		found++
	}
	err = parallel(ctx, o.Threads, found, func(ctx context.Context, i int) error {
		to := vectors[i*dim:][:dim]
		for j, x := range of[i*n:][:n] {
			if j%gramStep == 0 && ctx.Err() != nil {
				return context.Cause(ctx)
			}
			floats.AddScaled(to, x, b[j*dim:][:dim])
		}
		return nil
	})
	if err != nil {
		return nil, nil, 0, err
	}
	return values, vectors, total, orthonormal(ctx, vectors, dim, found)
}

// gramStep products of two rows are computed between looks at the context.
const gramStep = 256

// orthonormal makes unit vectors of the first found ones, orthogonal to those before
// them, and takes axes for the others, what is left of each after the vectors before
// it; each has its largest element positive. Twice is enough (Kahan and Parlett).
func orthonormal(ctx context.Context, vectors []float64, dim, found int) error {
	axis := 0
	for i := 0; i*dim < len(vectors); {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		v := vectors[i*dim:][:dim]
		if i >= found {
			clear(v)
			v[axis] = 1
			axis++
		}
		left := 1.0
		for range 2 {
			floats.Scale(1/floats.Norm(v, 2), v)
			for j := range i {
				before := vectors[j*dim:][:dim]
				floats.AddScaled(v, -floats.Dot(v, before), before)
			}
			left = min(left, floats.Norm(v, 2))
			if left < leastLeft {
				break
			}
		}
		if i >= found && left < leastLeft {
			continue // the axis lies all but within the others: the next one
		}
		floats.Scale(1/floats.Norm(v, 2), v)
		positive(v)
		i++
	}
	return nil
}

// leastLeft of an axis must be outside of the vectors before it: of dim axes, those
// of a complement of any dimension have 1/√dim of it or more.
const leastLeft = 1e-3

// positive turns a vector so that its largest element is positive.
func positive(v []float64) {
	largest := 0.0
	for _, x := range v {
		if math.Abs(x) > math.Abs(largest) {
			largest = x
		}
	}
	if largest < 0 {
		floats.Scale(-1, v)
	}
}
