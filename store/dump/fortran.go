package dump

import (
	"context"

	"membank/simd"
)

// A Fortran-order array stores column after column: element (i, j) of rows × dim
// is number j*rows+i, so a row is dim pieces, rows*size bytes apart. Reading them
// row by row would be a system call a number. Instead a batch of rows is read as
// dim long pieces and turned around in memory; the batch is as large as
// columnsBytes allows, so a piece is 64 KiB at 256 dimensions of float32 and still
// 256 bytes at the limit of 65,536.
type batch struct {
	first, rows int64     // rows held; rows is 0 before the first
	data        []float32 // [dim][rows]
}

// columns fills m with the next rows of a Fortran-order array.
func (a *array) columns(ctx context.Context, m simd.Matrix) error {
	for got := 0; got < m.Rows; {
		from := a.done + int64(got)
		b := &a.batch
		if b.rows == 0 || from >= b.first+b.rows {
			if err := a.readBatch(ctx, from); err != nil {
				return err
			}
		}
		n := int(min(b.first+b.rows-from, int64(m.Rows-got)))
		turn(m.Slice(got, got+n), b.data, int(b.rows), int(from-b.first))
		got += n
	}
	return nil
}

// readBatch reads the rows from first on, one piece a column.
func (a *array) readBatch(ctx context.Context, first int64) error {
	// A batch holds float32s and comes from pieces of the file's width.
	rows := min(max(1, columnsBytes/(4*a.dim)), a.rows-first)
	b := &a.batch
	b.rows = 0
	if need := int(rows * a.dim); cap(b.data) < need {
		b.data = make([]float32, need)
	} else {
		b.data = b.data[:need]
	}
	per := max(1, chunkBytes/a.size) // elements a read
	for j := range a.dim {
		if err := ctx.Err(); err != nil {
			return err
		}
		column := b.data[j*rows : (j+1)*rows]
		for at := int64(0); at < rows; at += per {
			part := column[at:min(at+per, rows)]
			piece := a.scratch(len(part) * int(a.size))
			n, err := a.at.ReadAt(piece, (j*a.rows+first+at)*a.size)
			if n < len(piece) {
				return shrunk(err)
			}
			a.floats(part, piece, a.halves(len(part)))
		}
	}
	b.first, b.rows = first, rows
	return nil
}

// turn writes rows [from, from+m.Rows) of columns, [dim][stride], into m, in tiles
// that stay in the first-level cache on both sides.
func turn(m simd.Matrix, columns []float32, stride, from int) {
	const tile = 16
	for i0 := 0; i0 < m.Rows; i0 += tile {
		i1 := min(i0+tile, m.Rows)
		for j0 := 0; j0 < m.Dim; j0 += tile {
			j1 := min(j0+tile, m.Dim)
			for j := j0; j < j1; j++ {
				column := columns[j*stride+from+i0 : j*stride+from+i1]
				for i, v := range column {
					m.Data[(i0+i)*m.Dim+j] = v
				}
			}
		}
	}
}
