package dump

import (
	"context"
	"io"
	"slices"

	"membank/simd"
)

// Array is any array of numbers, element after element: neighbours' rows and
// scores that were written earlier, weights, a mask. For embeddings use Reader and
// for labels Labels, which check what they should be.
type Array struct {
	a      *array
	member string // of a Stream
	err    error
}

// OpenArray opens an .npy, or the member of an .npz that o.Array names (or its only
// one), in C order if it has two dimensions or more.
func OpenArray(path string, o Options) (*Array, error) {
	a, err := openAnyArray(path, o)
	return a, at(path, err)
}

func openAnyArray(path string, o Options) (*Array, error) {
	in, err := identify(path)
	if err != nil {
		return nil, err
	}
	a, err := in.anyArray(o)
	if err != nil {
		in.f.Close()
		return nil, err
	}
	return &Array{a: a}, nil
}

func (in input) anyArray(o Options) (*array, error) {
	if in.kind == textFile {
		return nil, bad("is a text, not an array").fix("save it with np.save")
	}
	a, err := in.array(o.Array, wantNumbers)
	if err != nil {
		return nil, err
	}
	if a.fortran && len(a.shape) > 1 {
		return nil, at(a.path, bad("is in Fortran order").fix("np.save(path, np.ascontiguousarray(x))"))
	}
	a.rows, a.dim = 1, 1
	for _, d := range a.shape {
		a.rows *= d // checked by checkSize
	}
	return a, nil
}

// Shape is the array's shape; empty for a single number.
func (x *Array) Shape() []int64 { return slices.Clone(x.a.shape) }

// Len is the number of elements.
func (x *Array) Len() int64 { return x.a.rows }

// Name is the path, and for an .npz the member.
func (x *Array) Name() string { return x.a.path }

// Close closes the file.
func (x *Array) Close() error { return x.a.close() }

// Floats fills dst with the next elements of an array of floats, in C order, and
// returns how many; 0 and io.EOF after the last.
func (x *Array) Floats(dst []float32) (int, error) {
	if x.err == nil && x.a.kind != 'f' {
		x.err = at(x.a.path, bad("holds %s (%s), not floats", x.a.kindName(), x.a.descr))
	}
	return x.read(len(dst), func() (int, error) {
		return x.a.next(context.Background(), simd.Matrix{Data: dst, Rows: len(dst), Dim: 1})
	})
}

// Ints fills dst with the next elements of an array of integers or booleans, as
// Floats does.
func (x *Array) Ints(dst []int64) (int, error) {
	if x.err == nil && (x.a.kind == 'f' || x.a.kind == 'U' || x.a.kind == 'S') {
		x.err = at(x.a.path, bad("holds %s (%s), not integers", x.a.kindName(), x.a.descr))
	}
	return x.read(len(dst), func() (int, error) { return x.a.integers(dst, NoLabel) })
}

func (x *Array) read(want int, fill func() (int, error)) (int, error) {
	if x.err != nil || want == 0 {
		return 0, x.err
	}
	n, err := fill()
	if n == 0 && err == nil {
		err = io.EOF
	}
	if err != nil {
		if err != io.EOF {
			err = at(x.a.path, err)
		}
		x.err = err
		return 0, err
	}
	return n, nil
}
