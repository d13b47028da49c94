package simd

func productsOfAVX512(c *ProductTile, a, b []float64) {
	productsAVX512(&c[0][0], base(a), base(b), 8*len(a), len(a)/StripColumns)
}

func productsOfAVX2(c *ProductTile, a, b []float64) {
	productsAVX2(&c[0][0], base(a), base(b), 8*len(a), len(a)/StripColumns)
}
