package eval

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"membank/index/kmeans"
	"membank/simd"
)

// WhiteningVariant is one of the PCA-whitenings of published code: rows less their
// mean, along principal directions, each divided by the root of its eigenvalue, then
// L2-normalised. A figure needs its name, as they differ in what is decomposed.
type WhiteningVariant struct {
	Name  string
	About string
	Dims  int // directions kept unless told otherwise; 0: all
	how   kmeans.Whitening
}

// WhiteningVariants are the variants by name.
func WhiteningVariants() []WhiteningVariant { return slices.Clone(whitenings) }

// VISSL does not divide its scatter by the number of rows, which is one factor for all
// directions and gone after L2: it is DeepCluster's with other dimensions.
var whitenings = []WhiteningVariant{
	{"dino", "copy detection of DINO: moments about the origin, though the mean is subtracted; eigenvalues at least 1e-5 of the largest", 0, kmeans.DINO},
	{"vissl", "covariance, eigenvalues at least 1e-5 of the largest, 512 directions", 512, kmeans.DeepCluster},
	{"deepcluster", "the same with 256 directions", 256, kmeans.DeepCluster},
	{"faiss", "PCAW,L2norm: covariance, eigenvalues as they are; directions without variance are left out", 0, kmeans.FAISS},
}

// Whitening is learnt from one bank and applied to others; formulas and costs are those
// of kmeans.Whiten.
type Whitening struct {
	Variant WhiteningVariant
	From    string // the bank it was learnt from
	w       *kmeans.Whitened
	dim     int // of the rows it takes
}

// LearnWhitening decomposes the rows of a set; dims 0 keeps what the variant keeps.
// Errors: ErrWhitening for a name that is none, fewer than two rows, rows that are all
// equal, and more directions than dimensions.
func LearnWhitening(ctx context.Context, s *Set, name string, dims, threads int) (*Whitening, error) {
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
	if equal, err := s.allEqual(ctx); err != nil || equal {
		return nil, errors.Join(err, fmt.Errorf("%w: all rows of bank %q are equal", ErrWhitening, s.use.Bank))
	}
	source, _, err := s.source(ctx)
	if err != nil {
		return nil, err
	}
	w, err := kmeans.Whiten(ctx, source, kmeans.WhitenOptions{Dim: dims, How: v.how, Threads: threads})
	if errors.Is(err, kmeans.ErrVariance) {
		return nil, fmt.Errorf("%w: bank %q: %v", ErrWhitening, s.use.Bank, err)
	}
	if err != nil {
		return nil, fmt.Errorf("bank %q: %w", s.use.Bank, err)
	}
	return &Whitening{Variant: v, From: s.use.Bank, w: w, dim: s.dim}, nil
}

// Dropped is how many directions had no variance, and are left out.
func (w *Whitening) Dropped() int { return w.w.Dropped() }

// String names the whitening for a protocol.
func (w *Whitening) String() string {
	return fmt.Sprintf("%s whitening to %d from %s", w.Variant.Name, w.w.Dim()-w.Dropped(), w.From)
}

// Apply whitens all rows of a set and L2-normalises them. The result is in memory, 8
// bytes a number; more than memory bytes is an ErrWhitening. Its row numbers are
// positions among the live rows.
func (w *Whitening) Apply(ctx context.Context, s *Set, memory int64) (*Set, error) {
	source, number, err := s.source(ctx)
	if err != nil {
		return nil, err
	}
	rotated, err := w.w.On(source)
	if err != nil {
		return nil, fmt.Errorf("%w: bank %q: %v", ErrWhitening, s.use.Bank, err)
	}
	if need := s.use.Rows * int64(rotated.Dim()) * 8; need > memory {
		return nil, fmt.Errorf("%w: the whitened rows of %q take %d MiB of %d (raise --memory, or keep fewer directions)", ErrWhitening, s.use.Bank, need>>20, memory>>20)
	}
	keys, err := s.Keys(ctx)
	if err != nil {
		return nil, err
	}
	to := &Set{use: s.use, dim: rotated.Dim(), names: s.names, made: append(slices.Clone(s.made), w.String())}
	to.rows = simd.NewMatrix(int(s.use.Rows), to.dim)
	place := make([]int, len(s.labels)) // of a row number among the live ones
	for row, label := range s.labels {
		if s.alive(int64(row)) {
			place[row] = len(to.labels)
			to.labels = append(to.labels, label)
			to.keys = append(to.keys, keys[row])
		}
	}
	part := simd.NewMatrix(min(4096, to.rows.Rows), to.dim)
	for first := 0; first < to.rows.Rows; first += part.Rows {
		some := part.Slice(0, min(part.Rows, to.rows.Rows-first))
		if err := rotated.Read(ctx, first, some); err != nil {
			return nil, err
		}
		for i := range some.Rows {
			copy(to.rows.Row(place[number(first+i)]), some.Row(i))
		}
	}
	return to, to.index()
}

// allEqual says that no row differs from the first.
func (s *Set) allEqual(ctx context.Context) (bool, error) {
	var first []float32
	differs := errors.New("a row differs")
	err := s.batches(ctx, 256, func(_ []int64, m simd.Matrix) error {
		for i := range m.Rows {
			if first == nil {
				first = slices.Clone(m.Row(i))
			}
			if !slices.Equal(first, m.Row(i)) {
				return differs
			}
		}
		return nil
	})
	if err == differs {
		return false, nil
	}
	return err == nil, err
}
