package eval

import (
	"context"
	"errors"
	"fmt"

	"membank/simd"

	"gonum.org/v1/gonum/mat"
)

// LiDAR is the effective rank of linear discriminant analysis between objects, each
// seen in several views (Thilak et al. 2023):
//
//	Σb = 1/(n−1) Σᵢ (μᵢ−μ)(μᵢ−μ)ᵀ                 μᵢ the mean of object i's views
//	Σw = 1/Σᵢ(qᵢ−1) Σᵢⱼ (xᵢⱼ−μᵢ)(xᵢⱼ−μᵢ)ᵀ + δI
//	λ of Σw^−½ Σb Σw^−½;  p = λ/Σλ + ε;  exp(−Σ p log p)
//
// The rows of m are used as they are, not normalised; groups[i] are the rows of
// object i, two at least, and there are two objects at least. δ is above zero. The
// value is 0 if the objects do not differ at all, and at most min(dim, n−1) but for
// ε. The cost is 2·rows·dim² and an eigenvalue problem of dim.
func LiDAR(ctx context.Context, m simd.Matrix, groups [][]int, delta, eps float64, threads int) (float64, error) {
	if len(groups) < 2 {
		return 0, fmt.Errorf("%w: it needs two objects, there are %d", errLiDAR, len(groups))
	}
	n, dim, rows := len(groups), m.Dim, 0
	within, between := newFeeder(dim, threads), newFeeder(dim, threads)
	centre := make([]float64, dim)
	objects := make([][]float64, n)
	x := make([]float64, dim)
	for i, g := range groups {
		if len(g) < 2 {
			return 0, fmt.Errorf("%w: it needs two views of every object", errLiDAR)
		}
		if ctx.Err() != nil {
			return 0, context.Cause(ctx)
		}
		object := make([]float64, dim)
		for _, r := range g {
			for d, v := range m.Row(r) {
				object[d] += float64(v) / float64(len(g))
			}
		}
		for _, r := range g {
			for d, v := range m.Row(r) {
				x[d] = float64(v) - object[d]
			}
			within.add(x)
		}
		for d := range centre {
			centre[d] += object[d] / float64(n)
		}
		objects[i] = object
		rows += len(g)
	}
	var spread, level float64
	for _, object := range objects {
		for d := range x {
			x[d] = object[d] - centre[d]
			spread, level = spread+x[d]*x[d], level+centre[d]*centre[d]
		}
		between.add(x)
	}
	if spread <= rounding2*level {
		return 0, fmt.Errorf("%w: all objects are one point", errLiDAR)
	}
	w := within.matrix(1 / float64(rows-n))
	for d := range dim {
		w.SetSym(d, d, w.At(d, d)+delta)
	}
	values, err := discriminants(ctx, w, between.matrix(1/float64(n-1)))
	if err != nil {
		return 0, err
	}
	return RankMe(values[:min(dim, n-1)], eps), nil
}

var errLiDAR = errors.New("LiDAR is undefined")

// discriminants are the eigenvalues of L⁻¹·between·L⁻ᵀ with within = L·Lᵀ, which are
// those of within^−½·between·within^−½, largest first.
func discriminants(ctx context.Context, within, between *mat.SymDense) ([]float64, error) {
	var whole mat.Dense
	var failed error
	if err := beside(ctx, func() { failed = solveTwice(&whole, within, between) }); err != nil {
		return nil, err
	}
	if failed != nil {
		return nil, fmt.Errorf("%w: %v", errLiDAR, failed)
	}
	return eigenvalues(ctx, within.SymmetricDim(), func(i, j int) float64 { return (whole.At(i, j) + whole.At(j, i)) / 2 })
}

// solveTwice sets to to L⁻¹·between·L⁻ᵀ.
func solveTwice(to *mat.Dense, within, between *mat.SymDense) error {
	var c mat.Cholesky
	if !c.Factorize(within) {
		return errors.New("the spread of views within objects is not positive")
	}
	var lower mat.TriDense
	c.LTo(&lower)
	var half mat.Dense
	if err := half.Solve(&lower, between); err != nil {
		return err
	}
	return to.Solve(&lower, half.T())
}

// feeder sums the outer products of rows that come one by one.
type feeder struct {
	to      *sums
	part    strips
	filled  int
	threads int
}

func newFeeder(dim, threads int) *feeder {
	return &feeder{newSums(dim, dim, true), newStrips(momentRows, dim), 0, threads}
}

func (f *feeder) add(x []float64) {
	for c, v := range x {
		f.part.set(f.filled, c, v)
	}
	if f.filled++; f.filled == momentRows {
		f.flush()
	}
}

func (f *feeder) flush() {
	for r := f.filled; r < momentRows; r++ {
		f.part.clearRow(r)
	}
	f.to.add(f.part, f.part, f.threads)
	f.filled = 0
}

// matrix is the sum of all, scaled.
func (f *feeder) matrix(scale float64) *mat.SymDense {
	if f.filled > 0 {
		f.flush()
	}
	m := mat.NewSymDense(f.to.rows, nil)
	for i := range f.to.rows {
		for j := i; j < f.to.rows; j++ {
			m.SetSym(i, j, scale*f.to.at(i, j))
		}
	}
	return m
}
