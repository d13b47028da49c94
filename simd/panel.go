package simd

import "fmt"

// PanelRows is the number of rows in a panel: two 512-bit registers of floats.
const PanelRows = 32

// Panels returns how many panels hold rows rows, the last one padded.
func Panels(rows int) int { return (rows + PanelRows - 1) / PanelRows }

// Pack transposes the rows of m into panels:
//
//	element d of row i = panels[(i/32*dim + d)*32 + i%32]
//
// len(panels) is Panels(m.Rows)*PanelRows*m.Dim; the lanes behind the last row are
// zeroed. Pack and its neighbours below are the only place that knows the
// interleave.
func Pack(panels []float32, m Matrix) {
	m.check()
	checkPanels(len(panels), m.Rows, m.Dim)
	for first := 0; first < m.Rows; first += PanelRows {
		panel := panels[first*m.Dim:][:PanelRows*m.Dim]
		rows := min(PanelRows, m.Rows-first)
		interleave(panel, PanelRows, m.Slice(first, first+rows))
	}
}

// PackRow puts row at position i of the panels, which hold rows of len(row)
// floats. The other lanes stay as they are.
func PackRow(panels, row []float32, i int) {
	lane := laneOf(panels, len(row), i)
	for d, x := range row {
		lane[d*PanelRows] = x
	}
}

// Unpack is the inverse of Pack: it fills the rows of m from the first m.Rows
// rows of the panels, bit for bit.
func Unpack(m Matrix, panels []float32) {
	m.check()
	checkPanels(len(panels), m.Rows, m.Dim)
	for first := 0; first < m.Rows; first += PanelRows {
		panel := panels[first*m.Dim:][:PanelRows*m.Dim]
		rows := min(PanelRows, m.Rows-first)
		deinterleave(m.Slice(first, first+rows), panel, PanelRows)
	}
}

// UnpackRow copies the row at position i of the panels into row, which is as long
// as the panels' rows are.
func UnpackRow(row, panels []float32, i int) {
	lane := laneOf(panels, len(row), i)
	for d := range row {
		row[d] = lane[d*PanelRows]
	}
}

// TileQueries is the number of queries in a tile: with two registers of rows each
// they fill 24 of the 32 registers AVX-512 has, and leave room for operands.
const TileQueries = 12

// PackQueries transposes up to TileQueries queries into a tile:
//
//	element d of query q = tile[d*12 + q]
//
// len(tile) is TileQueries*m.Dim; absent queries are zeroed.
func PackQueries(tile []float32, m Matrix) {
	m.check()
	if m.Rows > TileQueries || len(tile) != TileQueries*m.Dim {
		panic(fmt.Sprintf("simd: %d queries of %d floats in a tile of %d", m.Rows, m.Dim, len(tile)))
	}
	interleave(tile, TileQueries, m)
}

// part is how many dims of a panel are transposed at once: both sides stay in the
// L1 cache for the four stores that fill each of its lines.
const part = 128

// interleave writes element d of row i to out[d*lanes+i] and zeroes the lanes
// that have no row.
func interleave(out []float32, lanes int, m Matrix) {
	if m.Rows < lanes {
		clear(out)
	}
	rows, dims := m.Rows&^7, m.Dim&^7
	transpose := active.Load().transpose
	for d := 0; d < dims; d += part {
		for i := 0; i < rows; i += 8 {
			transpose(out[d*lanes+i:], m.Data[i*m.Dim+d:], stride{lanes, 8 * lanes}, stride{m.Dim, 8}, min(part, dims-d)/8)
		}
	}
	for i := range m.Rows {
		from := dims
		if i >= rows {
			from = 0
		}
		for d := from; d < m.Dim; d++ {
			out[d*lanes+i] = m.Data[i*m.Dim+d]
		}
	}
}

// deinterleave is the inverse of interleave for the rows of m.
func deinterleave(m Matrix, in []float32, lanes int) {
	rows, dims := m.Rows&^7, m.Dim&^7
	transpose := active.Load().transpose
	for d := 0; d < dims; d += part {
		for i := 0; i < rows; i += 8 {
			transpose(m.Data[i*m.Dim+d:], in[d*lanes+i:], stride{m.Dim, 8}, stride{lanes, 8 * lanes}, min(part, dims-d)/8)
		}
	}
	for i := range m.Rows {
		from := dims
		if i >= rows {
			from = 0
		}
		for d := from; d < m.Dim; d++ {
			m.Data[i*m.Dim+d] = in[d*lanes+i]
		}
	}
}

// stride is where squares of 8 rows of 8 floats lie: a row follows the last after
// row floats, a square after square floats.
type stride struct{ row, square int }

// laneOf returns the panels from element 0 of row i on; its element d is at
// d*PanelRows.
func laneOf(panels []float32, dim, i int) []float32 {
	if dim == 0 {
		return nil
	}
	first := i / PanelRows * PanelRows
	if i < 0 || len(panels) < (first+PanelRows)*dim {
		panic(fmt.Sprintf("simd: row %d of %d floats in panels of %d", i, dim, len(panels)))
	}
	return panels[first*dim+i%PanelRows : (first+PanelRows)*dim]
}

func checkPanels(floats, rows, dim int) {
	if floats != Panels(rows)*PanelRows*dim {
		panic(fmt.Sprintf("simd: %d rows of %d floats in panels of %d", rows, dim, floats))
	}
}
