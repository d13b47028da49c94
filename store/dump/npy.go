package dump

import (
	"context"
	"errors"
	"io"
	"os"

	"membank/simd"
)

const (
	chunkBytes   = 1 << 20  // read at once from a C-order array
	columnsBytes = 16 << 20 // held of a Fortran-order array: 16,384 rows of 256 float32
)

// array is an .npy, alone or inside an .npz, whose header has been checked against
// the bytes that follow it.
type array struct {
	header
	path  string
	seq   io.Reader    // the elements, in file order
	at    io.ReaderAt  // the elements at any offset; nil inside a compressed .npz
	close func() error // the file

	rows, dim int64
	done      int64 // rows given out so far

	chunk []byte   // file bytes, at most max(chunkBytes, a row)
	half  []uint16 // float16 on the way to float32
	batch batch    // of a Fortran-order array
	texts []string // the elements, of a list in a pickle
}

// openArray reads the header at the start of f.
func openArray(path string, f *os.File, size int64) (*array, error) {
	h, err := readHeader(io.NewSectionReader(f, 0, size))
	if err != nil {
		return nil, err
	}
	if err := h.checkSize(size - h.offset); err != nil {
		return nil, err
	}
	data := io.NewSectionReader(f, h.offset, size-h.offset)
	return &array{header: h, path: path, seq: data, at: data, close: f.Close}, nil
}

// features checks that the array is one of embeddings: floats, rows by dimensions.
func (a *array) features() error {
	switch {
	case a.kind != 'f':
		return bad("holds %s (%s), and embeddings are float16, float32 or float64", a.kindName(), a.descr).fix(castRemedy)
	case len(a.shape) == 0:
		return bad("holds one number, and embeddings have rows and columns").fix("np.save(path, x[None, None])")
	case len(a.shape) == 1:
		return bad("has the shape %s, and embeddings have rows and columns", a.shapeString()).
			fix("one embedding: np.save(path, x[None, :]); embeddings of one number: np.save(path, x[:, None])")
	case len(a.shape) > 2:
		return bad("has the shape %s, and embeddings have two dimensions, rows and columns", a.shapeString()).
			fix("np.save(path, x.reshape(len(x), -1))")
	}
	a.rows, a.dim = a.shape[0], a.shape[1]
	return checkExtent(a.rows, a.dim)
}

// checkExtent refuses what is empty or wider than an embedding may be.
func checkExtent(rows, dim int64) error {
	switch {
	case rows == 0:
		return bad("holds no rows").fix("check the loop that filled it")
	case dim == 0:
		return bad("holds %d rows of 0 numbers", rows).fix("check the loop that filled it")
	case dim > dimLimit:
		return bad("holds embeddings of %d dimensions, and %d is the most", dim, dimLimit).
			fix("were feature maps saved before pooling? np.save(path, x.mean(axis=(2, 3)))")
	}
	return nil
}

// next fills m with the next rows, as Reader.Next.
func (a *array) next(ctx context.Context, m simd.Matrix) (int, error) {
	n := int(min(int64(m.Rows), a.rows-a.done))
	if n == 0 {
		return 0, io.EOF
	}
	var err error
	if a.fortran && a.dim > 1 && a.rows > 1 {
		err = a.columns(ctx, m.Slice(0, n))
	} else {
		err = a.rowsInOrder(ctx, m.Slice(0, n))
	}
	if err != nil {
		return 0, err
	}
	a.done += int64(n)
	if a.done == a.rows {
		err = a.finish()
	}
	return n, err
}

// rowsInOrder reads rows that lie one after another.
func (a *array) rowsInOrder(ctx context.Context, m simd.Matrix) error {
	row := int(a.dim * a.size)
	per := max(1, chunkBytes/row) // rows a chunk
	for from := 0; from < m.Rows; from += per {
		if err := ctx.Err(); err != nil {
			return err
		}
		part := m.Slice(from, min(from+per, m.Rows))
		if a.native() {
			if err := a.fill(simd.Bytes(part.Data)); err != nil {
				return err
			}
			continue
		}
		chunk := a.scratch(part.Rows * row)
		if err := a.fill(chunk); err != nil {
			return err
		}
		a.floats(part.Data, chunk, a.halves(len(part.Data)))
	}
	return nil
}

// fill reads the next len(p) bytes of the elements.
func (a *array) fill(p []byte) error {
	_, err := io.ReadFull(a.seq, p)
	return shrunk(err)
}

// shrunk explains an early end: the size was checked before, so the file changed
// meanwhile, or a compressed member says what it does not hold.
func shrunk(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return bad("ended while it was read").fix("is it still being written? wait, or copy it again")
	}
	return err
}

// finish is called after the last element. Inside an .npz this is where the
// checksum of the member is compared.
func (a *array) finish() error {
	if a.fortran && a.at != nil {
		return nil
	}
	switch n, err := a.seq.Read(make([]byte, 1)); {
	case n > 0:
		return bad("goes on after its last element").fix("the file is damaged: save it again")
	case err != nil && err != io.EOF:
		return shrunk(err)
	}
	return nil
}

// scratch is a buffer of n bytes, kept for the next call.
func (a *array) scratch(n int) []byte {
	if cap(a.chunk) < n {
		a.chunk = make([]byte, n)
	}
	return a.chunk[:n]
}

func (a *array) halves(n int) []uint16 {
	if a.size != 2 {
		return nil
	}
	if cap(a.half) < n {
		a.half = make([]uint16, n)
	}
	return a.half[:n]
}
