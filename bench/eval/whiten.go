package eval

import (
	"context"
	"fmt"
	"math"
	"slices"

	"membank/simd"
	"membank/store"

	"gonum.org/v1/gonum/blas"
	"gonum.org/v1/gonum/blas/blas64"
	"gonum.org/v1/gonum/mat"
)

// WhiteningVariant is one of the PCA-whitenings that published code computes. All of
// them take rows as stored, subtract the mean, rotate to principal directions, divide
// each coordinate by the root of its eigenvalue, and L2-normalise what comes out.
// They differ in what is decomposed:
type WhiteningVariant struct {
	Name    string
	About   string
	Centred bool    // covariance; else the second moments, mean and all
	PerRow  bool    // divided by the number of rows; after L2 it matters only with other variants
	Floor   float64 // eigenvalues are raised to this share of the largest
	Dims    int     // directions kept unless told otherwise; 0: all
}

// WhiteningVariants are the variants by name.
func WhiteningVariants() []WhiteningVariant { return slices.Clone(whitenings) }

var whitenings = []WhiteningVariant{
	{"dino", "DINO's copy detection: un-centred moments, though the mean is subtracted", false, true, 1e-5, 0},
	{"vissl", "VISSL: centred scatter, not divided by the rows, 512 directions", true, false, 1e-5, 512},
	{"deepcluster", "DeepCluster: faiss PCAMatrix with eigenvalue power -1/2, 256 directions", true, true, 0, 256},
	{"faiss", "faiss PCAW: covariance, no floor, all directions", true, true, 0, 0},
}

// Whitening is learnt from one bank and applied to others.
type Whitening struct {
	Variant WhiteningVariant
	Dims    int    // directions kept
	From    string // the bank it was learnt from
	// Dropped is how many of the directions had no variance. Where nothing floors
	// their eigenvalue faiss divides by zero; here they are left out.
	Dropped int

	mean []float64
	w    blas64.General // [Dims][dim]
}

// noVariance is the share of the largest eigenvalue below which one is rounding.
const noVariance = 1e-12

// LearnWhitening decomposes the rows of a bank: two readings of it in float64, and one
// eigenvalue problem of its dimension. dims 0 keeps what the variant keeps. The mean
// is taken off before anything is multiplied, so a bank that is nearly all mean
// loses no digits. Errors: ErrWhitening for a name that is none, fewer than two rows,
// rows without any variance, and more directions than dimensions.
func LearnWhitening(ctx context.Context, s *Set, name string, dims int) (*Whitening, error) {
	at := slices.IndexFunc(whitenings, func(v WhiteningVariant) bool { return v.Name == name })
	if at < 0 {
		return nil, fmt.Errorf("%w: %q is none of dino, vissl, deepcluster, faiss", ErrWhitening, name)
	}
	v := whitenings[at]
	if dims == 0 {
		if dims = s.dim; v.Dims > 0 {
			dims = min(v.Dims, s.dim)
		}
	}
	switch {
	case dims < 1 || dims > s.dim:
		return nil, fmt.Errorf("%w: %d directions of %d dimensions", ErrWhitening, dims, s.dim)
	case s.use.Rows < 2:
		return nil, fmt.Errorf("%w: bank %q has %d rows, and directions need two at least", ErrWhitening, s.use.Bank, s.use.Rows)
	}
	mean, scatter, err := moments(ctx, s)
	if err != nil {
		return nil, err
	}
	n := float64(s.use.Rows)
	if !v.Centred { // Σ xxᵀ = Σ (x−μ)(x−μ)ᵀ + n·μμᵀ
		scatter.SymRankOne(scatter, n, mat.NewVecDense(s.dim, mean))
	}
	if v.PerRow {
		scatter.ScaleSym(1/n, scatter)
	}
	var eigen mat.EigenSym
	if !eigen.Factorize(scatter, true) {
		return nil, fmt.Errorf("%w: the eigenvalues of bank %q do not converge", ErrWhitening, s.use.Bank)
	}
	values := eigen.Values(nil) // ascending
	var vectors mat.Dense
	eigen.VectorsTo(&vectors)
	most := values[s.dim-1]
	if !(most > 0) {
		return nil, fmt.Errorf("%w: all rows of bank %q are equal", ErrWhitening, s.use.Bank)
	}
	w := &Whitening{Variant: v, Dims: dims, From: s.use.Bank, mean: mean, w: blas64.General{Rows: dims, Cols: s.dim, Stride: s.dim, Data: make([]float64, dims*s.dim)}}
	for i := range dims {
		value := max(values[s.dim-1-i], v.Floor*most)
		if value <= noVariance*most {
			w.Dropped++
			continue
		}
		for d := range s.dim {
			w.w.Data[i*s.dim+d] = vectors.At(d, s.dim-1-i) / math.Sqrt(value)
		}
	}
	return w, nil
}

// momentBatch rows are multiplied at once.
const momentBatch = 256

// moments are the mean and the centred scatter matrix Σ (x−μ)(x−μ)ᵀ, summed in row
// order.
func moments(ctx context.Context, s *Set) (mean []float64, scatter *mat.SymDense, err error) {
	mean = make([]float64, s.dim)
	if err := s.batches(ctx, momentBatch, func(_ []int64, m simd.Matrix) error {
		for i := range m.Rows {
			for d, v := range m.Row(i) {
				mean[d] += float64(v)
			}
		}
		return nil
	}); err != nil {
		return nil, nil, err
	}
	for d := range mean {
		mean[d] /= float64(s.use.Rows)
	}
	scatter = mat.NewSymDense(s.dim, nil)
	centred := make([]float64, momentBatch*s.dim)
	err = s.batches(ctx, momentBatch, func(_ []int64, m simd.Matrix) error {
		x := centre(centred, m, mean)
		blas64.Syrk(blas.Trans, 1, x, 1, scatter.RawSymmetric())
		return nil
	})
	return mean, scatter, err
}

// centre is the rows of m less the mean, in to.
func centre(to []float64, m simd.Matrix, mean []float64) blas64.General {
	for i := range m.Rows {
		row := to[i*m.Dim:][:m.Dim]
		for d, v := range m.Row(i) {
			row[d] = float64(v) - mean[d]
		}
	}
	return blas64.General{Rows: m.Rows, Cols: m.Dim, Stride: m.Dim, Data: to[:m.Rows*m.Dim]}
}

// String names the whitening for a protocol.
func (w *Whitening) String() string {
	return fmt.Sprintf("%s whitening to %d from %s", w.Variant.Name, w.Dims-w.Dropped, w.From)
}

// Apply whitens all rows of a set and L2-normalises them. The result is in memory,
// 8·Dims bytes a row; more than memory bytes is an ErrWhitening. Its row numbers
// are positions among the live rows.
func (w *Whitening) Apply(ctx context.Context, s *Set, memory int64) (*Set, error) {
	if s.dim != w.w.Cols {
		return nil, fmt.Errorf("%w: bank %q has %d, the whitening from %q %d", store.ErrDim, s.use.Bank, s.dim, w.From, w.w.Cols)
	}
	if need := s.use.Rows * int64(w.Dims) * 8; need > memory {
		return nil, fmt.Errorf("%w: the whitened rows of %q take %d MiB of %d (raise --memory, or keep fewer directions)", ErrWhitening, s.use.Bank, need>>20, memory>>20)
	}
	keys, err := s.rowKeys(ctx)
	if err != nil {
		return nil, err
	}
	to := &Set{use: s.use, dim: w.Dims, names: s.names, made: append(slices.Clone(s.made), w.String())}
	to.rows = simd.NewMatrix(int(s.use.Rows), w.Dims)
	x, y := make([]float64, momentBatch*s.dim), make([]float64, momentBatch*w.Dims)
	if err := s.batches(ctx, momentBatch, func(rows []int64, m simd.Matrix) error {
		product := blas64.General{Rows: m.Rows, Cols: w.Dims, Stride: w.Dims, Data: y[:m.Rows*w.Dims]}
		blas64.Gemm(blas.NoTrans, blas.Trans, 1, centre(x, m, w.mean), w.w, 0, product)
		for i, row := range rows {
			whitened := y[i*w.Dims:][:w.Dims]
			norm := 0.0
			for _, v := range whitened {
				norm += v * v
			}
			norm = max(math.Sqrt(norm), NormaliseEps)
			out := to.rows.Row(len(to.labels))
			for d, v := range whitened {
				out[d] = float32(v / norm)
			}
			to.labels = append(to.labels, s.labels[row])
			to.keys = append(to.keys, keys[row])
		}
		return nil
	}); err != nil {
		return nil, err
	}
	return to, to.index()
}
