package eval

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"

	"membank/simd"
	"membank/store"

	"gonum.org/v1/gonum/mat"
)

// spectrum is the eigenvalues of the second moments of a bank, largest first, as
// many as the smaller of rows and dimensions; none is below zero.
type spectrum struct {
	raw     []float64 // of Σ xxᵀ: squares of the singular values of the rows
	unit    []float64 // of Σ uuᵀ, u = x/‖x‖
	centred []float64 // of Σ (x−μ)(x−μ)ᵀ

	unitTrace, unitSquares float64   // of Σ (u−ū)(u−ū)ᵀ
	variance               []float64 // Σ (x−μ)², a dimension
	unitVariance           []float64 // Σ (u−ū)², a dimension
}

// momentRows is how many rows are multiplied at once: few enough that their strips
// stay in the L2 cache.
const momentRows = 256

// takeSpectrum reads the bank once more. Sums are float64 and taken of the rows
// less their mean, which the census knows: a collapsed bank is all mean, and its
// spectrum would drown in the rounding of it. The cost is 2·rows·dim² operations
// (half of it for each of the two matrices), and three eigenvalue problems.
func takeSpectrum(ctx context.Context, s *store.Snapshot, c *census, threads int, memory int64, progress func(rows int64)) (*spectrum, error) {
	smaller := min(c.rows, c.dim)
	if need := 6 * sumsBytes(int(smaller), int(smaller)); need > memory {
		return nil, fmt.Errorf("%w: spectra of %d dimensions take %d MiB", errSpectrum, c.dim, need>>20)
	}
	if c.rows < c.dim {
		return dualSpectrum(ctx, s, c, threads, progress)
	}
	dim := int(c.dim)
	mean, unitMean := c.means()
	centred, unit := newSums(dim, dim, true), newSums(dim, dim, true)
	rows, units := newStrips(momentRows, dim), newStrips(momentRows, dim)
	scratch := make([]simd.Matrix, max(threads, 1))
	for w := range scratch {
		scratch[w] = simd.NewMatrix(simd.PanelRows, dim)
	}
	r := s.NewReader()
	var done int64
	for block := range s.Blocks() {
		err := r.View(block, func(b *store.Block) error {
			for first := 0; first < b.Rows; first += momentRows {
				if ctx.Err() != nil {
					return context.Cause(ctx)
				}
				n := min(momentRows, b.Rows-first)
				x, u := rows.short(n), units.short(n)
				spread(threads, simd.Panels(n), func(w, p int) {
					from := first + p*simd.PanelRows
					simd.Unpack(scratch[w], b.Panels[from*dim:][:simd.PanelRows*dim])
					for i := range min(simd.PanelRows, b.Rows-from) {
						at, row := from-first+i, scratch[w].Row(i)
						if norm := simd.Norm(row); !b.Dead[from+i] && finite(norm) {
							x.setRow(at, row, 1, mean)
							u.setRow(at, row, 1/max(norm, NormaliseEps), unitMean)
						} else {
							x.clearRow(at)
							u.clearRow(at)
						}
					}
				})
				if err := beside(ctx, func() {
					centred.add(x, x, threads)
					unit.add(u, u, threads)
				}); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
		done += int64(s.BlockRows(block))
		progress(done)
	}
	sp := &spectrum{variance: make([]float64, dim), unitVariance: make([]float64, dim), unitSquares: unit.squares()}
	for d := range dim {
		sp.variance[d], sp.unitVariance[d] = centred.at(d, d), unit.at(d, d)
		sp.unitTrace += unit.at(d, d)
	}
	n := float64(c.rows)
	err := sp.solve(ctx, threads, dim, centred.at,
		func(i, j int) float64 { return centred.at(i, j) + n*mean[i]*mean[j] },
		func(i, j int) float64 { return unit.at(i, j) + n*unitMean[i]*unitMean[j] })
	if err != nil {
		return nil, err
	}
	sp.still(c)
	return sp, nil
}

// solve finds the eigenvalues of the three matrices, side by side: each problem is
// one thread's.
func (sp *spectrum) solve(ctx context.Context, threads, n int, centred, raw, unit func(i, j int) float64) error {
	problems := []func(i, j int) float64{centred, raw, unit}
	answers := []*[]float64{&sp.centred, &sp.raw, &sp.unit}
	errs := make([]error, len(problems))
	spread(threads, len(problems), func(_, i int) { *answers[i], errs[i] = eigenvalues(ctx, n, problems[i]) })
	return errors.Join(errs...)
}

// still takes for no variation at all what lies below the rounding of the mean:
// equal rows would have a spectrum of rounding errors.
func (sp *spectrum) still(c *census) {
	raw, _ := total(sp.raw)
	if all, _ := total(sp.centred); all <= rounding2*raw {
		clear(sp.centred)
		clear(sp.variance)
	}
	if sp.unitTrace <= rounding2*float64(c.rows) {
		sp.unitTrace, sp.unitSquares = 0, 0
		clear(sp.unitVariance)
	}
}

// rounding2 is far above the square of float64's rounding, far below that of
// float32's.
const rounding2 = 1e-24

var errSpectrum = errors.New("not enough memory")

// short is the first n rows' worth of room.
func (s strips) short(n int) strips {
	return strips{s.data[:n*padded(s.columns)], n, s.columns}
}

// dualSpectrum takes the products of rows with rows instead of dimensions with
// dimensions: where there are fewer rows their matrix is the smaller one, and has
// the same eigenvalues.
func dualSpectrum(ctx context.Context, s *store.Snapshot, c *census, threads int, progress func(rows int64)) (*spectrum, error) {
	mean, unitMean := c.means()
	n, dim := int(c.rows), int(c.dim)
	sp := &spectrum{variance: make([]float64, dim), unitVariance: make([]float64, dim)}
	var all [4]strips // raw, unit, both centred
	for i := range all {
		all[i] = newStrips(dim, n)
	}
	at := 0
	err := s.Batches(ctx, 256, func(b store.Batch) error {
		for i := range b.Vectors.Rows {
			x := b.Vectors.Row(i)
			norm := simd.Norm(x)
			if !finite(norm) {
				continue
			}
			scale := 1 / max(norm, NormaliseEps)
			all[0].setColumn(at, x, 1)
			all[1].setColumn(at, x, scale)
			for d, v := range x {
				raw, unit := float64(v)-mean[d], scale*float64(v)-unitMean[d]
				all[2].set(d, at, raw)
				all[3].set(d, at, unit)
				sp.variance[d] += raw * raw
				sp.unitVariance[d] += unit * unit
			}
			at++
		}
		progress(int64(at))
		return nil
	})
	if err != nil {
		return nil, err
	}
	var products [4]*sums
	for i := range products {
		products[i] = newSums(n, n, true)
		if err := beside(ctx, func() { products[i].add(all[i], all[i], threads) }); err != nil {
			return nil, err
		}
	}
	if err := sp.solve(ctx, threads, n, products[2].at, products[0].at, products[1].at); err != nil {
		return nil, err
	}
	sp.unitSquares = products[3].squares()
	for i := range n {
		sp.unitTrace += products[3].at(i, i)
	}
	sp.still(c)
	return sp, nil
}

// eigenvalues of a symmetric matrix, largest first; rounding below zero is zero.
func eigenvalues(ctx context.Context, n int, at func(i, j int) float64) ([]float64, error) {
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	m := mat.NewSymDense(n, nil)
	for i := range n {
		for j := i; j < n; j++ {
			m.SetSym(i, j, at(i, j))
		}
	}
	var e mat.EigenSym
	found := false
	if err := beside(ctx, func() { found = e.Factorize(m, false) }); err != nil {
		return nil, err
	}
	if !found {
		return nil, errors.New("eigenvalues did not converge")
	}
	values := e.Values(nil)
	slices.Reverse(values)
	for i, v := range values {
		values[i] = max(v, 0)
	}
	return values, nil
}

// RankMe is the effective rank of Garrido et al. 2023: exp of the entropy of
// p = σ/Σσ + eps over the singular values. It is 1 at least, their number at most
// (but for eps), and 0 if all are zero.
func RankMe(singular []float64, eps float64) float64 {
	total := 0.0
	for _, v := range singular {
		total += v
	}
	if total == 0 {
		return 0
	}
	entropy := 0.0
	for _, v := range singular {
		if p := v/total + eps; p > 0 {
			entropy -= p * math.Log(p)
		}
	}
	return math.Exp(entropy)
}

// roots are the singular values that eigenvalues are squares of.
func roots(values []float64) []float64 {
	s := make([]float64, len(values))
	for i, v := range values {
		s[i] = math.Sqrt(v)
	}
	return s
}

// participation is (Σλ)²/Σλ²: how many equal eigenvalues would weigh as much.
func participation(trace, squares float64) float64 { return trace * trace / squares }

func total(values []float64) (sum, squares float64) {
	for _, v := range values {
		sum += v
		squares += v * v
	}
	return sum, squares
}

// PowerLaw fits log λᵢ = −α·log i + b to the eigenvalues of a covariance, i from 11
// to 100 with weights 1/i (α-ReQ, Agrawal et al. 2022), and returns α and the
// weighted R². ok is false where fewer than ten of these eigenvalues are above the
// rounding of the largest.
func PowerLaw(values []float64) (alpha, r2 float64, ok bool) {
	var w, wx, wy, wxx, wxy, wyy float64
	n := 0
	for i := 11; i <= min(100, len(values)); i++ {
		v := values[i-1]
		if v <= values[0]*1e-14 {
			break
		}
		x, y, weight := math.Log(float64(i)), math.Log(v), 1/float64(i)
		w, wx, wy = w+weight, wx+weight*x, wy+weight*y
		wxx, wxy, wyy = wxx+weight*x*x, wxy+weight*x*y, wyy+weight*y*y
		n++
	}
	if n < 10 {
		return 0, 0, false
	}
	sxx, sxy, syy := wxx-wx*wx/w, wxy-wx*wy/w, wyy-wy*wy/w
	slope := sxy / sxx
	r2 = 1
	if syy > 0 {
		r2 = slope * sxy / syy
	}
	return -slope, r2, true
}
