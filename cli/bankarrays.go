package cli

import (
	"context"
	"io"
	"math"
	"path/filepath"
	"strconv"
	"strings"

	"membank/simd"
	"membank/store/dump"

	ucli "github.com/urfave/cli/v2"
)

// readMatrix reads a whole file of vectors: a batch, not a bank.
func (s *session) readMatrix(ctx context.Context, path string) (simd.Matrix, error) {
	if s.served != nil {
		a, err := s.served.array(path, "vectors")
		if err == nil && a.matrix.Dim == 0 {
			err = a.wrong("an array of floats in two dimensions")
		}
		if err != nil {
			return simd.Matrix{}, err
		}
		return a.matrix, nil
	}
	r, err := openFeatures(path, "")
	if err != nil {
		return simd.Matrix{}, err
	}
	defer r.Close()
	limit := s.memory / 4
	if limit == 0 {
		limit = 1 << 30
	}
	if r.Rows() > limit/int64(4*r.Dim()) {
		return simd.Matrix{}, badInput("%s: %s of %d dimensions are more than %s (give them in several batches, or raise --memory)", path, plural(r.Rows(), "row"), r.Dim(), size(limit))
	}
	m := simd.NewMatrix(int(r.Rows()), r.Dim())
	for at := 0; at < m.Rows; {
		n, err := r.Next(ctx, m.Slice(at, m.Rows))
		if err != nil {
			if err == io.EOF {
				err = badInput("%s: it ended after row %d of %d (wait until it is written)", path, at, m.Rows)
			}
			return simd.Matrix{}, err
		}
		at += n
	}
	return m, nil
}

// readMatrices reads a file for each view.
func (s *session) readMatrices(ctx context.Context, paths []string) ([]simd.Matrix, error) {
	list := make([]simd.Matrix, len(paths))
	for i, path := range paths {
		m, err := s.readMatrix(ctx, path)
		if err != nil {
			return nil, err
		}
		list[i] = m
	}
	return list, nil
}

// readIDs reads "0,5,9", or a file of integers.
func (s *session) readIDs(text string) ([]int64, error) {
	if strings.Trim(text, "0123456789, ") == "" {
		return parseRows(text)
	}
	if s.served != nil {
		a, err := s.served.array(text, "ids")
		if err == nil && a.ints == nil {
			err = a.wrong("an array of integers")
		}
		if err != nil {
			return nil, err
		}
		return a.ints, nil
	}
	own := int64(dump.NoLabel)
	l, err := dump.OpenLabels(text, dump.Options{NoLabel: &own})
	if err != nil {
		return nil, err
	}
	defer l.Close()
	if l.Names() != nil {
		return nil, badInput("%s: ids are numbers, and it holds %q (write one number a line, or an .npy of integers)", text, l.Names()[0])
	}
	ids := make([]int64, l.Rows())
	n, err := l.Next(ids)
	return ids, whole(n, err, len(ids), text)
}

// readLabels reads n labels; -1: however many there are.
func (s *session) readLabels(path string, n int64) ([]int64, error) {
	if s.served != nil {
		a, err := s.served.array(path, "labels")
		if err != nil {
			return nil, err
		}
		if n >= 0 && int64(len(a.ints)) != n {
			return nil, badInput("%s: %s for %s (every row needs exactly one, -1 for none)", a.name, plural(len(a.ints), "label"), plural(n, "row"))
		}
		return a.labels()
	}
	l, err := dump.OpenLabels(path, dump.Options{})
	if err != nil {
		return nil, err
	}
	defer l.Close()
	if l.Names() != nil {
		return nil, badInput("%s: labels of a memory bank are numbers, and it holds names (number them)", path)
	}
	if n < 0 {
		n = l.Rows()
	}
	if l.Rows() != n {
		return nil, badInput("%s: %s for %s (every row needs exactly one, -1 for none)", path, plural(l.Rows(), "label"), plural(n, "row"))
	}
	labels := make([]int64, n)
	got, err := l.Next(labels)
	return labels, whole(got, err, len(labels), path)
}

// readFloats reads an array of floats.
func (s *session) readFloats(path string) ([]float64, error) {
	if s.served != nil {
		a, err := s.served.array(path, "an array of floats")
		if err == nil && a.floats == nil {
			err = a.wrong("an array of floats in one dimension")
		}
		if err != nil {
			return nil, err
		}
		return a.floats, nil
	}
	a, err := dump.OpenArray(path, dump.Options{})
	if err != nil {
		return nil, err
	}
	defer a.Close()
	if a.Len() > 1<<32 {
		return nil, badInput("%s: %s are too many", path, plural(a.Len(), "number"))
	}
	some, list := make([]float32, 4096), make([]float64, 0, a.Len())
	for {
		n, err := a.Floats(some)
		if err == io.EOF {
			return list, nil
		}
		if err != nil {
			return nil, err
		}
		for _, x := range some[:n] {
			list = append(list, float64(x))
		}
	}
}

// matrices reads the files of several flags; one that ends in ? may be absent, and
// is a matrix without rows then.
func (s *session) matrices(ctx context.Context, c *ucli.Context, flags ...string) (map[string]simd.Matrix, error) {
	all := map[string]simd.Matrix{}
	for _, flag := range flags {
		flag, optional := strings.CutSuffix(flag, "?")
		path := c.String(flag)
		if path == "" && optional {
			continue
		}
		if path == "" {
			return nil, usage("%s: give %s FILE", s.name, dashed(flag))
		}
		m, err := s.readMatrix(ctx, path)
		if err != nil {
			return nil, err
		}
		if m.Rows == 0 {
			return nil, badInput("%s: holds no rows", path)
		}
		all[flag] = m
	}
	return all, nil
}

// affords refuses what would take more memory than a command may.
func (s *session) affords(bytes int64, what string) error {
	limit := s.memory / 2
	if limit == 0 {
		limit = 1 << 30
	}
	if bytes > limit {
		return badInput("%s takes %s, more than %s (give fewer rows at once, or raise --memory)", what, size(bytes), size(limit))
	}
	return nil
}

// positive is a number above 0; 0 if the flag is not given.
func positive(c *ucli.Context, flag string) (float64, error) {
	text := c.String(flag)
	if text == "" {
		return 0, nil
	}
	v, err := strconv.ParseFloat(text, 64)
	if err != nil || !(v > 0) || math.IsInf(v, 0) {
		return 0, usage("%s %s: not a number above 0", dashed(flag), text)
	}
	return v, nil
}

// namedArray is an array of a file that a command writes.
type namedArray struct {
	name  string
	data  any // as dump.WriteNPY takes it
	shape []int64
}

// writeArrays writes an .npz; with one as ".npy" the first array alone may go to such
// a file, too.
func (s *session) writeArrays(path, one string, arrays ...namedArray) error {
	switch extension := strings.ToLower(filepath.Ext(path)); {
	case extension == ".npy" && one == ".npy":
		return s.writeFile(path, func(w io.Writer) error { return dump.WriteNPY(w, arrays[0].data, arrays[0].shape...) })
	case extension != ".npz" && one == ".npy":
		return usage("-o %s: unknown kind of file (.npz or .npy)", path)
	case extension != ".npz":
		return usage("-o %s: unknown kind of file (.npz)", path)
	}
	return s.writeFile(path, func(w io.Writer) error {
		z := dump.NewNPZWriter(w)
		for _, a := range arrays {
			if err := z.Write(a.name, a.data, a.shape...); err != nil {
				return err
			}
		}
		return z.Close()
	})
}
