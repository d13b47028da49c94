package eval

import (
	"context"
	"encoding/binary"
	"math"
	"slices"

	"membank/simd"
	"membank/store"

	"github.com/cespare/xxhash/v2"
)

// census is what one reading of all rows says of each alone: sums, norms, and
// which are equal.
type census struct {
	rows, dim int64     // rows of finite numbers
	sum       []float64 // of the rows
	unitSum   []float64 // of the L2-normalised rows; a zero row counts as zero
	normSum   float64
	normMin   float64
	normMax   float64
	zeros     int64 // rows of norm 0
	bad       int64 // rows with a NaN or infinite element, which count for nothing else
	norms     [normBins]int64
	hashes    []uint64 // of each row's bits; nil: no room for them
}

// Norms are counted in eighths of an octave, from 2⁻⁶⁴ to 2⁶⁴; what lies beyond is
// in the first and the last.
const (
	normBins      = 128 * normsPerBit
	normsPerBit   = 8
	lowestNormBit = -64
)

func normBin(norm float64) int {
	bin := int(math.Floor((math.Log2(norm) - lowestNormBit) * normsPerBit))
	return min(max(bin, 0), normBins-1)
}

// normEdge is the lower edge of a bin.
func normEdge(bin int) float64 { return math.Exp2(float64(bin)/normsPerBit + lowestNormBit) }

// takeCensus reads the bank once. Sums are taken block by block and added in block
// order, so they do not depend on threads.
func takeCensus(ctx context.Context, s *store.Snapshot, threads int, memory int64, progress func(rows int64)) (*census, error) {
	info := s.Info()
	c := newCensus(info.Dim)
	if 8*info.Rows <= memory/4 {
		c.hashes = make([]uint64, 0, info.Rows)
	}
	readers := make([]*store.Reader, max(threads, 1))
	for w := range readers {
		readers[w] = s.NewReader()
	}
	window := 2 * len(readers)
	parts := make([]*census, window)
	errs := make([]error, window)
	for first := 0; first < s.Blocks(); first += window {
		n := min(window, s.Blocks()-first)
		spread(threads, n, func(w, i int) {
			parts[i], errs[i] = blockCensus(readers[w], first+i, info.Dim, c.hashes != nil)
		})
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		for i := range n {
			if errs[i] != nil {
				return nil, errs[i]
			}
			c.join(parts[i])
		}
		progress(c.rows)
	}
	slices.Sort(c.hashes)
	return c, nil
}

func newCensus(dim int) *census {
	return &census{dim: int64(dim), sum: make([]float64, dim), unitSum: make([]float64, dim), normMin: math.Inf(1)}
}

func blockCensus(r *store.Reader, block, dim int, hash bool) (*census, error) {
	c := newCensus(dim)
	panel := simd.NewMatrix(simd.PanelRows, dim)
	bits := make([]byte, 0, 4*dim)
	err := r.View(block, func(b *store.Block) error {
		for lane := range b.Rows {
			if lane%simd.PanelRows == 0 {
				simd.Unpack(panel, b.Panels[lane*dim:][:simd.PanelRows*dim])
			}
			if b.Dead[lane] {
				continue
			}
			x := panel.Row(lane % simd.PanelRows)
			c.count(x)
			if hash {
				bits = bits[:0]
				for _, v := range x {
					bits = binary.LittleEndian.AppendUint32(bits, math.Float32bits(v+0)) // −0 is 0
				}
				c.hashes = append(c.hashes, xxhash.Sum64(bits))
			}
		}
		return nil
	})
	return c, err
}

func (c *census) count(x []float32) {
	norm := simd.Norm(x)
	if !finite(norm) {
		c.bad++
		return
	}
	c.rows++
	scale := 1 / max(norm, NormaliseEps)
	for d, v := range x {
		c.sum[d] += float64(v)
		c.unitSum[d] += scale * float64(v)
	}
	c.normSum += norm
	c.normMin, c.normMax = min(c.normMin, norm), max(c.normMax, norm)
	if norm == 0 {
		c.zeros++
		return
	}
	c.norms[normBin(norm)]++
}

// alike says that no row of a sample differs in direction from the first that has one:
// cosines have no order but that of rounding.
func (c *census) alike(of *sample) bool {
	if c.zeros == c.rows {
		return true
	}
	return c.zeros == 0 && sameDirection(of.vectors)
}

// sameDirection says that all rows are one but for their length, which is not zero.
func sameDirection(m simd.Matrix) bool {
	a := m.Row(0)
	long := simd.Norm(a)
	for i := 1; i < m.Rows; i++ {
		b := m.Row(i)
		dot := 0.0
		for d, v := range a {
			dot += float64(v) * float64(b[d])
		}
		if product := long * simd.Norm(b); !(product > 0) || dot < product*(1-1e-13) {
			return false
		}
	}
	return long > 0
}

// noDirection says that all rows are zero.
func noDirection(m simd.Matrix) bool {
	return !slices.ContainsFunc(m.Data, func(v float32) bool { return v != 0 })
}

// finite: a norm is NaN or infinite if an element is.
func finite(norm float64) bool { return norm <= math.MaxFloat64 }

func (c *census) join(o *census) {
	c.rows += o.rows
	for d := range c.sum {
		c.sum[d] += o.sum[d]
		c.unitSum[d] += o.unitSum[d]
	}
	c.normSum += o.normSum
	c.normMin, c.normMax = min(c.normMin, o.normMin), max(c.normMax, o.normMax)
	c.zeros += o.zeros
	c.bad += o.bad
	for i, n := range o.norms {
		c.norms[i] += n
	}
	c.hashes = append(c.hashes, o.hashes...)
}

// mean of the rows, and of the normalised rows.
func (c *census) means() (mean, unit []float64) {
	mean, unit = make([]float64, c.dim), make([]float64, c.dim)
	for d := range mean {
		mean[d], unit[d] = c.sum[d]/float64(c.rows), c.unitSum[d]/float64(c.rows)
	}
	return mean, unit
}

// repeated is how many rows have the bits of an earlier one.
func (c *census) repeated() (n int64) {
	for i := 1; i < len(c.hashes); i++ {
		if c.hashes[i] == c.hashes[i-1] {
			n++
		}
	}
	return n
}

// meanCosine is the mean of all pairs of different rows, from ‖Σu‖²: of each pair
// without looking at it.
func (c *census) meanCosine() float64 {
	n := float64(c.rows)
	return (squaredNorm(c.unitSum) - float64(c.rows-c.zeros)) / (n * (n - 1))
}

func squaredNorm(x []float64) (s float64) {
	for _, v := range x {
		s += v * v
	}
	return s
}

// normHistogram trims the bins to those that are used: counts[i] rows have a norm
// from edges[i] to edges[i+1].
func (c *census) normHistogram() (edges []float64, counts []float64) {
	first, last := 0, normBins-1
	for first < normBins && c.norms[first] == 0 {
		first++
	}
	for last >= first && c.norms[last] == 0 {
		last--
	}
	for i := first; i <= last; i++ {
		edges, counts = append(edges, normEdge(i)), append(counts, float64(c.norms[i]))
	}
	if len(edges) > 0 {
		edges = append(edges, normEdge(last+1))
	}
	return edges, counts
}
