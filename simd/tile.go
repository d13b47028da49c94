package simd

import "fmt"

// TileScores is what Tile leaves: a score for each query and row of the panel,
// and per query a bit for each row whose score reaches the query's floor.
type TileScores struct {
	Scores [TileQueries][PanelRows]float32
	Hits   [TileQueries]uint32
}

// Tile scores the 32 rows of one panel against the queries of one tile:
//
//	out.Scores[q][i] = fma(chain(query q, row i), scale[i], bias[i])
//	out.Hits[q] bit i = out.Scores[q][i] >= floor[q]
//
// with the chain of Scan, so the bits are the same. It reports whether any bit is
// set: with floors at the k-th best so far, most calls end there. NaN never hits.
// A floor of -Inf admits whatever is no NaN, rows with a bias of -Inf too; start
// at -math.MaxFloat32 to keep those out.
//
// tile is [dim][TileQueries] as PackQueries leaves it, panel [dim][PanelRows] at
// any byte offset; scale and bias have a number for each of the 32 lanes. Tile
// writes all of out, allocates nothing, and is safe for concurrent use. It panics
// if lengths disagree.
func Tile(out *TileScores, panel, scale, bias, tile []float32, floor *[TileQueries]float32) bool {
	dim := len(tile) / TileQueries
	if len(tile) != dim*TileQueries || len(panel) != dim*PanelRows ||
		len(scale) != PanelRows || len(bias) != PanelRows {
		panic(fmt.Sprintf("simd: tile of %d floats: panel of %d, %d scales, %d biases",
			len(tile), len(panel), len(scale), len(bias)))
	}
	return active.Load().tile(out, panel, scale, bias, tile, floor)
}
