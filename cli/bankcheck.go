package cli

import (
	"context"
	"io"

	"membank/index/memory"
	"membank/simd"
)

// checkBank refuses what would be refused when the bank is made: options that
// contradict each other, and rows of files that are not finite.
func (s *session) checkBank(ctx context.Context, config memory.Config, vectors []string, given bool) error {
	if !given {
		return config.Check()
	}
	for _, path := range vectors {
		var err error
		if s.served != nil {
			a, e := s.served.array(path, "vectors")
			if e != nil {
				return e
			}
			err = checkRows(path, a.matrix, 0)
		} else {
			err = checkFinite(ctx, path)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// checkFinite reads a file of vectors once and names the first row that no bank can
// keep.
func checkFinite(ctx context.Context, path string) error {
	r, err := openFeatures(path, "")
	if err != nil {
		return err
	}
	defer r.Close()
	m := simd.NewMatrix(max(1, batchBytes/(4*r.Dim())), r.Dim())
	for row := 0; ; {
		n, err := r.Next(ctx, m)
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		if err := checkRows(path, m.Slice(0, n), row); err != nil {
			return err
		}
		row += n
	}
}

// checkRows names the first row that is not finite; first is the number of row 0.
func checkRows(path string, m simd.Matrix, first int) error {
	for i := range m.Rows {
		if norm := simd.Norm(m.Row(i)); !(norm <= 1e18) {
			return badInput("%s: row %d holds NaN, Inf or numbers too large to square (take it out, or scale the vectors down)", path, first+i)
		}
	}
	return nil
}
