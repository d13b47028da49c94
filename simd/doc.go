// Package simd holds everything that touches vectors at the speed of the machine:
// the layout of rows and queries, the kernels that score them, and the few vector
// operations around that. It knows no banks, metrics or top-k.
//
// # Scores
//
// A score is one sequential chain of fused multiply-adds over the elements, and
// one more for the epilogue:
//
//	chain = 0
//	for d = 0 .. dim-1:  chain = fma(row[d], query[d], chain)
//	score = fma(chain, scale, bias)
//
// An FMA rounds once, and the order is fixed, so a score has the same bits
// whichever kernel, level, batch size or thread computed it. Parallelism comes
// from the rows: each lane of a register is a chain of its own, and no lanes are
// ever added up. Scale and bias, a number a row, make a metric of it: 1/‖x‖ and 0
// the cosine of a normalised query, 1 and 0 the inner product, 1 and −½‖x‖² the
// order of L2. A bias of −Inf buries a row: padding, deleted, or filtered out.
//
// # Layout
//
// Rows are stored in panels of 32, transposed, so that a register load takes the
// same element of neighbouring rows. Pack and Unpack are the one place that knows.
//
//	panel, [dim][32]float32              tile, [dim][12]float32
//
//	         row 0  row 1  …  row 31              query 0  …  query 11
//	d = 0      ■      ■    …    ■        d = 0       ■     …      ■
//	d = 1      ■      ■    …    ■        d = 1       ■     …      ■
//	…                                    …
//
// Panels follow each other without gaps; the last one is padded with zero rows.
// They may start at any byte offset, odd ones too, as they are read where the
// store maps them. Scan takes one query through many panels and goes as fast as
// RAM does. Tile takes 12 queries through one panel, holding 12 × 32 chains in
// registers, and goes as fast as the FMA units do; it compares with a floor for
// each query on the way out, so that hits are bits to look at and misses are free.
//
//	one step of Tile, AVX-512: 14 loads feed 24 FMAs of 16 lanes
//
//	            rows 0-15   rows 16-31      ← 2 loads from the panel
//	query 0   →  chain 0a     chain 0b      ← 12 broadcasts from the tile
//	query 1   →  chain 1a     chain 1b
//	…
//	query 11  →  chain 11a    chain 11b
//
// AVX2 has half the lanes and half the registers: it takes that rectangle in four
// parts of 6 queries × 16 rows.
//
// # Levels
//
//	avx512   AVX-512 F, BW, DQ, VL            kernels_amd64.s
//	avx2     AVX2, FMA, F16C                  kernels_amd64.s
//	generic  any CPU                          generic.go
//
// The best one that CPU and operating system have serves from the start; the
// environment variable MEMBANK_SIMD or the function Use forces one (see
// LevelError). The generic level is the twin of the other two: it emulates FMA in
// float64 with an exact repair of double rounding (fma.go), and agrees with them
// bit for bit on all finite input. Which NaN comes out of several is the CPU's
// choice. The assembly is generated: go generate ./simd runs the module in
// simd/_gen, and its output is committed.
//
// # Cost
//
// One core of a Zen 4 server, dim 384, against what PeakFMA and ReadBytes reached
// in the same run (118 GFLOP/s and 30 GB/s on an idle machine):
//
//	Tile     AVX-512 97-99 %, AVX2 94-96 % of the peak while the panels of a batch
//	         lie in L2, at odd offsets too (packing into aligned memory first gains
//	         nothing); 92 and 88 % at dim 64; some 35 ns a call besides the FMAs
//	Scan     as fast as ReadBytes, give or take the noise, aligned or not
//	Dot      400 ns: one chain is bound by the latency of an FMA, 4 cycles
//	Products 57 GFLOP/s of float64 with AVX-512, 50 with AVX2, 2.8 generic
//	generic  2 GFLOP/s, or 2-4 GB/s in Scan
//	Norm     19 GB/s; Blend 12; Pack 24-32, Unpack alike; WidenHalf 50 (written), generic 1.6
//
// # Memory and concurrency
//
// Nothing but NewMatrix allocates. No function keeps a slice it was given, or
// shares state but for the level in use: all are safe to call at once. Outputs
// must not overlap inputs unless a function says so. Lengths that disagree panic:
// they are checked here for the assembly's sake, and data from outside is checked
// by who reads it.
package simd
