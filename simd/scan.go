package simd

import "fmt"

// Scan scores every row of some panels against one query:
//
//	chain = 0; for d in 0..dim-1: chain = fma(row[d], query[d], chain)
//	scores[i] = fma(chain, scale[i], bias[i])
//
// panels holds [len(scores)] rows of [len(query)] floats, interleaved as Pack
// leaves them, so len(scores) is a multiple of PanelRows; scale and bias are as
// long. They carry the metric; a bias of -Inf keeps a padding lane or a deleted
// row out of every answer, so neither costs the kernel a branch.
//
// panels may start at any byte offset: blocks are read in place from the mapped
// value log. Scan reads it once, 4*len(panels) bytes, allocates nothing, and is
// safe for concurrent use; scores must not overlap an input. It panics if lengths
// disagree, which only a bug in this module can cause. The chain makes the bits
// those of every level, and of Tile. A call cannot be interrupted, and the garbage
// collector waits for it: pass some MiB at a time (4 MiB take 0.2 ms).
func Scan(scores, panels, scale, bias, query []float32) {
	if len(scores)%PanelRows != 0 || len(panels) != len(scores)*len(query) ||
		len(scale) != len(scores) || len(bias) != len(scores) {
		panic(fmt.Sprintf("simd: scan of %d rows of %d floats: panels of %d, %d scales, %d biases",
			len(scores), len(query), len(panels), len(scale), len(bias)))
	}
	if len(scores) == 0 {
		return
	}
	active.Load().scan(scores, panels, scale, bias, query)
}
