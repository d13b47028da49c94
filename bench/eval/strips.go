package eval

import (
	"context"
	"sync"

	"membank/simd"
)

// strips is a matrix of float64 laid out for simd.Products: columns in strips of 8,
// zero columns behind the last up to a multiple of 24.
//
//	element r of column c = data[(c/8*rows + r)*8 + c%8]
type strips struct {
	data          []float64
	rows, columns int
}

const tileColumns = simd.ProductStrips * simd.StripColumns

// padded is n rounded up to whole tiles.
func padded(n int) int { return (n + tileColumns - 1) / tileColumns * tileColumns }

func newStrips(rows, columns int) strips {
	return strips{make([]float64, rows*padded(columns)), rows, columns}
}

// at and set are one element.
func (s strips) at(r, c int) float64 {
	return s.data[(c/simd.StripColumns*s.rows+r)*simd.StripColumns+c%simd.StripColumns]
}

func (s strips) set(r, c int, v float64) {
	s.data[(c/simd.StripColumns*s.rows+r)*simd.StripColumns+c%simd.StripColumns] = v
}

// strip is columns 8i to 8i+7, tile columns 24j to 24j+23.
func (s strips) strip(i int) []float64 {
	n := s.rows * simd.StripColumns
	return s.data[i*n:][:n]
}

func (s strips) tile(j int) []float64 {
	n := s.rows * tileColumns
	return s.data[j*n:][:n]
}

// setRow puts scale·x − shift into row r; a nil shift is zero.
func (s strips) setRow(r int, x []float32, scale float64, shift []float64) {
	for c := 0; c < len(x); c += simd.StripColumns {
		to := s.data[(c/simd.StripColumns*s.rows+r)*simd.StripColumns:][:simd.StripColumns]
		part := x[c:min(c+simd.StripColumns, len(x))]
		if shift == nil {
			for i, v := range part {
				to[i] = scale * float64(v)
			}
			continue
		}
		for i, v := range part {
			to[i] = scale*float64(v) - shift[c+i]
		}
	}
}

// clearRow makes row r zero: it adds nothing to a product.
func (s strips) clearRow(r int) {
	for c := 0; c < s.columns; c += simd.StripColumns {
		clear(s.data[(c/simd.StripColumns*s.rows+r)*simd.StripColumns:][:simd.StripColumns])
	}
}

// setColumn puts scale·x into column c: the layout of rows whose inner products with
// each other are wanted.
func (s strips) setColumn(c int, x []float32, scale float64) {
	at := c/simd.StripColumns*s.rows*simd.StripColumns + c%simd.StripColumns
	for i, v := range x {
		s.data[at+i*simd.StripColumns] = scale * float64(v)
	}
}

// unitColumns are the rows of m, L2-normalised in float64, as columns.
func unitColumns(m simd.Matrix, threads int) strips {
	s := newStrips(m.Dim, m.Rows)
	spread(threads, m.Rows, func(_, i int) {
		x := m.Row(i)
		s.setColumn(i, x, 1/max(simd.Norm(x), NormaliseEps))
	})
	return s
}

// sums are the inner products of the columns of two matrices, summed over their
// rows as they come: AᵀB, [a columns][b columns]. Each is one chain of FMAs in the
// order of the rows, so neither threads nor the sizes of the parts matter.
type sums struct {
	rows, columns int // of the product
	symmetric     bool
	tiles         []simd.ProductTile // [rows/8][columns/24]
}

// newSums is zero. Of symmetric sums (a matrix with itself) only the tiles that
// reach the diagonal are computed.
func newSums(rows, columns int, symmetric bool) *sums {
	return &sums{rows, columns, symmetric, make([]simd.ProductTile, padded(rows)/simd.StripColumns*(padded(columns)/tileColumns))}
}

// sumsBytes is what newSums takes.
func sumsBytes(rows, columns int) int64 { return 8 * int64(padded(rows)) * int64(padded(columns)) }

// add adds AᵀB for some rows of both.
func (p *sums) add(a, b strips, threads int) {
	across := padded(p.columns) / tileColumns
	spread(threads, across*(padded(p.rows)/simd.StripColumns), func(_, at int) {
		i, j := at/across, at%across
		if p.symmetric && (j+1)*tileColumns <= i*simd.StripColumns {
			return
		}
		simd.Products(&p.tiles[at], a.strip(i), b.tile(j))
	})
}

// at is the product of column i of a and column j of b.
func (p *sums) at(i, j int) float64 {
	if p.symmetric && j < i {
		i, j = j, i
	}
	across := padded(p.columns) / tileColumns
	return p.tiles[i/simd.StripColumns*across+j/tileColumns][i%simd.StripColumns][j%tileColumns]
}

// squares is the sum of the squares of all elements: ‖AᵀB‖²_F.
func (p *sums) squares() (s float64) {
	for i := range p.rows {
		for j := range p.columns {
			v := p.at(i, j)
			s += v * v
		}
	}
	return s
}

// eachProducts calls fn with the inner products of eight columns with all columns of
// b, eight after eight: products[v][i][j] is that of column first+i of as[v], one
// matrix or two of equal width, with column j. n of the eight exist. Calls come from
// several goroutines at once, each of which has a number.
func eachProducts(ctx context.Context, as []strips, b strips, threads int, fn func(worker, first, n int, products [2][][]float64)) error {
	type room struct {
		tile simd.ProductTile
		rows [2][simd.StripColumns][]float64
	}
	rooms := make([]room, max(threads, 1))
	for w := range rooms {
		for v := range as {
			for i := range rooms[w].rows[v] {
				rooms[w].rows[v][i] = make([]float64, padded(b.columns))
			}
		}
	}
	columns := as[0].columns
	spread(threads, (columns+simd.StripColumns-1)/simd.StripColumns, func(w, strip int) {
		if ctx.Err() != nil {
			return
		}
		r := &rooms[w]
		first := strip * simd.StripColumns
		n := min(simd.StripColumns, columns-first)
		var products [2][][]float64
		for v, a := range as {
			for j := range padded(b.columns) / tileColumns {
				r.tile = simd.ProductTile{}
				simd.Products(&r.tile, a.strip(strip), b.tile(j))
				for i := range r.rows[v] {
					copy(r.rows[v][i][j*tileColumns:], r.tile[i][:])
				}
			}
			for i := range n {
				products[v] = append(products[v], r.rows[v][i][:b.columns])
			}
		}
		fn(w, first, n, products)
	})
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return nil
}

// spread calls fn with 0..n-1, from as many goroutines as threads says, each of
// which has a number. Which of them gets what is chance: what fn writes must depend
// on i alone.
func spread(threads, n int, fn func(worker, i int)) {
	threads = min(max(threads, 1), n)
	if threads <= 1 {
		for i := range n {
			fn(0, i)
		}
		return
	}
	// Small pieces, so that a slow thread does not hold up the others.
	piece := max(1, n/(8*threads))
	var mu sync.Mutex
	next := 0
	var wg sync.WaitGroup
	for w := range threads {
		wg.Go(func() {
			for {
				mu.Lock()
				from := next
				next += piece
				mu.Unlock()
				if from >= n {
					return
				}
				for i := from; i < min(from+piece, n); i++ {
					fn(w, i)
				}
			}
		})
	}
	wg.Wait()
}
