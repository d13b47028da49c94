package simd

import (
	"fmt"
	"math"
)

//go:generate go -C _gen run . -kernels products -out ../products_amd64.s -stubs ../products_stubs_amd64.go -pkg simd

const (
	// StripColumns is the number of columns in a strip: a 512-bit register of
	// float64.
	StripColumns = 8
	// ProductStrips is the number of strips that Products takes on its right side.
	ProductStrips = 3
)

// ProductTile holds the inner products of 8 columns with 24.
type ProductTile [StripColumns][ProductStrips * StripColumns]float64

// Products goes on with 8 × 24 chains of float64, one an element of c:
//
//	for r in 0..n-1:  c[i][j] = fma(a[r][i], b[r][j], c[i][j])
//
// a is one strip, [n][8]; b is three strips one after another, [3][n][8], column j
// being column j%8 of strip j/8. A matrix laid out in strips so gives AᵀB, tile by
// tile, and as a chain has one order and each step one rounding, its bits depend
// neither on tiling nor on the level: sums over any number of rows may be taken
// some rows at a time.
//
// It does 384·n operations on 256·n bytes: some hundreds of rows at a time keep
// strips in the L1 and L2 caches. It allocates nothing and is safe for concurrent
// use; c must not overlap a or b. It panics if lengths disagree.
func Products(c *ProductTile, a, b []float64) {
	if len(a)%StripColumns != 0 || len(b) != ProductStrips*len(a) {
		panic(fmt.Sprintf("simd: products of a strip of %d floats and strips of %d", len(a), len(b)))
	}
	active.Load().products(c, a, b)
}

func productsGeneric(c *ProductTile, a, b []float64) {
	for s := range ProductStrips {
		strip := b[s*len(a):][:len(a)]
		for r := 0; r < len(a); r += StripColumns {
			x, y := a[r:][:StripColumns], strip[r:][:StripColumns]
			for i, v := range x {
				to := c[i][s*StripColumns:][:StripColumns]
				for j, w := range y {
					to[j] = math.FMA(v, w, to[j])
				}
			}
		}
	}
}
