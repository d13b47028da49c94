package kmeans

import (
	"context"
	"fmt"

	"membank/simd"
)

// A Source has rows to cluster, numbered from 0 in an order that stays, and reads
// them as often as it is asked. Its methods are called from several goroutines at
// once.
type Source interface {
	Rows() int
	Dim() int
	// Read copies rows first, first+1, … into to, as many as to has.
	Read(ctx context.Context, first int, to simd.Matrix) error
	// Gather copies the rows that are named into to; rows ascends.
	Gather(ctx context.Context, rows []int, to simd.Matrix) error
}

// Matrix is the Source of the rows of m, which must not change meanwhile.
func Matrix(m simd.Matrix) Source { return matrix{m} }

type matrix struct{ m simd.Matrix }

func (s matrix) Rows() int { return s.m.Rows }
func (s matrix) Dim() int  { return s.m.Dim }

func (s matrix) Read(_ context.Context, first int, to simd.Matrix) error {
	from := s.m.Slice(first, first+to.Rows)
	copy(to.Data[:to.Rows*to.Dim], from.Data)
	return nil
}

func (s matrix) Gather(_ context.Context, rows []int, to simd.Matrix) error {
	for i, row := range rows {
		copy(to.Row(i), s.m.Row(row))
	}
	return nil
}

// checkSource refuses what cannot be clustered.
func checkSource(s Source, clusters int) error {
	switch {
	case s.Dim() < 1:
		return fmt.Errorf("%w: rows of %d dimensions", ErrOptions, s.Dim())
	case s.Rows() < clusters:
		return fmt.Errorf("%w: %d rows, %d clusters (ask for %d clusters at most)", ErrTooFewRows, s.Rows(), clusters, s.Rows())
	}
	return nil
}
