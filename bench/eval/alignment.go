package eval

import (
	"context"
	"math"

	"gonum.org/v1/gonum/mat"
)

// alignments adds what compares two spaces as wholes, whatever their dimensions.
// X and Y are the rows less their means:
//
//	linear CKA    ‖YᵀX‖²_F / (‖XᵀX‖_F·‖YᵀY‖_F)                    (Kornblith 2019)
//	debiased CKA  the same with the unbiased estimator of HSIC    (Song 2012)
//	Procrustes    2 − 2·‖XᵀY‖_* / (‖X‖_F·‖Y‖_F)                   (Ding 2021)
func alignments(ctx context.Context, out *Comparison, suffix string, a, b *space, threads int) error {
	const cka, debiased, procrustes = "1 same up to rotation and scale; upward biased where rows are few", "the same without the bias; 0 unrelated", "squared, 0 same up to rotation and scale, 2 at most"
	why := ""
	switch {
	case a.gram == 0 || b.gram == 0:
		why = "the rows of a bank are all equal"
	case len(a.rows) == 2:
		why = "any two rows are alike to any other two, up to rotation and scale"
	}
	if why != "" {
		for _, f := range [][2]string{{"linear_cka", cka}, {"debiased_cka", debiased}, {"procrustes_distance", procrustes}} {
			out.missing(f[0]+suffix, why, f[1])
		}
		drift(out, suffix, a, b)
		return nil
	}
	cross, m, err := crossMatrix(ctx, a, b, threads)
	if err != nil {
		return err
	}
	out.number("linear_cka"+suffix, cross/(a.gram*b.gram), cka)
	switch value, ok := debiasedCKA(a, b, cross); {
	case len(a.rows) < 4:
		out.missing("debiased_cka"+suffix, "it needs four rows", debiased)
	case !ok:
		out.missing("debiased_cka"+suffix, "these rows are too few for their spread", debiased)
	default:
		out.number("debiased_cka"+suffix, value, debiased)
	}
	nuclear, ok, err := nuclearNorm(ctx, m)
	if err != nil {
		return err
	}
	if ok {
		squareA, _ := total(a.distances)
		squareB, _ := total(b.distances)
		out.number("procrustes_distance"+suffix, max(0, 2-2*nuclear/math.Sqrt(squareA*squareB)), procrustes)
	} else {
		out.missing("procrustes_distance"+suffix, "its singular values did not converge", procrustes)
	}
	drift(out, suffix, a, b)
	return nil
}

// nuclearNorm is the sum of the singular values of m, which is not to be used any more.
// ok is false where they do not converge.
func nuclearNorm(ctx context.Context, m *mat.Dense) (sum float64, ok bool, err error) {
	var values []float64
	err = beside(ctx, func() {
		var svd mat.SVD
		if svd.Factorize(m, mat.SVDNone) {
			values = svd.Values(nil)
		}
	})
	if err != nil || values == nil {
		return 0, false, err
	}
	sum, _ = total(values)
	return sum, true, nil
}

// crossMatrix returns ‖XᵀY‖²_F and a matrix with the singular values of XᵀY: that itself,
// or where both dimensions are larger than the number of rows, and a dim×dim matrix
// would mostly be zeros in its own basis, R_x·R_yᵀ of Xᵀ = Q_x·R_x and Yᵀ = Q_y·R_y.
func crossMatrix(ctx context.Context, a, b *space, threads int) (squares float64, m *mat.Dense, err error) {
	if a.products == nil || b.products == nil {
		products, err := crossProducts(ctx, a, b, threads)
		if err != nil {
			return 0, nil, err
		}
		m = mat.NewDense(a.vectors.Dim, b.vectors.Dim, nil)
		for i := range a.vectors.Dim {
			for j := range b.vectors.Dim {
				m.Set(i, j, products.at(i, j))
			}
		}
		return products.squares(), m, nil
	}
	// ‖XᵀY‖²_F = tr(XXᵀ·YYᵀ).
	for i := range a.rows {
		for j := range a.rows {
			squares += a.products.at(i, j) * b.products.at(i, j)
		}
	}
	var product mat.Dense
	err = beside(ctx, func() { product.Mul(a.triangle(), b.triangle().T()) })
	return squares, &product, err
}

// triangle is R, [rows][rows], of the QR factors of the transposed rows less their
// mean, [dim][rows].
func (s *space) triangle() mat.Matrix {
	columns := mat.NewDense(s.vectors.Dim, len(s.rows), nil)
	for i := range s.rows {
		for d, v := range s.vectors.Row(i) {
			columns.Set(d, i, float64(v)-s.mean[d])
		}
	}
	var qr mat.QR
	qr.Factorize(columns)
	var r mat.Dense
	qr.RTo(&r)
	return r.Slice(0, len(s.rows), 0, len(s.rows))
}

// debiasedCKA is HSIC(K,L)/√(HSIC(K,K)·HSIC(L,L)) for linear kernels, with
//
//	HSIC = [tr(K̃L̃) + ΣK̃·ΣL̃/((m−1)(m−2)) − 2/(m−2)·1ᵀK̃L̃1] / (m(m−3))
//
// K̃ being K = XXᵀ with its diagonal zeroed. As the rows add up to zero, so do those
// of K, and K̃1 = −diag K: nothing of m×m is needed. cross is ‖YᵀX‖²_F = tr(KL).
func debiasedCKA(a, b *space, cross float64) (float64, bool) {
	m := float64(len(a.rows))
	hsic := func(x, y []float64, cross float64) float64 {
		var sx, sy, both float64
		for i := range x {
			sx, sy, both = sx+x[i], sy+y[i], both+x[i]*y[i]
		}
		return (cross - both + sx*sy/((m-1)*(m-2)) - 2/(m-2)*both) / (m * (m - 3))
	}
	xx, yy := hsic(a.distances, a.distances, a.gram*a.gram), hsic(b.distances, b.distances, b.gram*b.gram)
	if m < 4 || !(xx > 0) || !(yy > 0) {
		return 0, false
	}
	return hsic(a.distances, b.distances, cross) / math.Sqrt(xx*yy), true
}

// drift is how far rows turned between two spaces of one width, coordinate for
// coordinate: between epochs of one run, say.
func drift(out *Comparison, suffix string, a, b *space) {
	const reading = "mean of a row with itself, coordinate for coordinate: drift between epochs of one run"
	if a.vectors.Dim != b.vectors.Dim {
		out.missing("mean_row_cosine"+suffix, "the banks have different dimensions", reading)
		return
	}
	mean, zeros := 0.0, 0
	for i := range a.rows {
		var xy, xx, yy float64
		y := b.vectors.Row(i)
		for d, v := range a.vectors.Row(i) {
			xy, xx, yy = xy+float64(v)*float64(y[d]), xx+float64(v)*float64(v), yy+float64(y[d])*float64(y[d])
		}
		if xx == 0 || yy == 0 {
			zeros++
		}
		mean += xy / (max(math.Sqrt(xx), NormaliseEps) * max(math.Sqrt(yy), NormaliseEps)) / float64(len(a.rows))
	}
	if zeros == len(a.rows) {
		out.missing("mean_row_cosine"+suffix, "every row is zero in a bank, and has no direction", reading)
		return
	}
	out.number("mean_row_cosine"+suffix, mean, reading)
}
