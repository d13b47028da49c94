package simd

import (
	"fmt"
	"testing"
	"time"
)

// Each benchmark prints its rate and, as "of-limit", its share of what PeakFMA or
// ReadBytes reaches at the same level in the same run: machines differ, and this
// one may be busy.

const benchDim = 384

// limit returns the best rate, in units a second, of some short runs of f.
func limit(f func() (units int64)) float64 {
	var best float64
	for range 5 {
		start := time.Now()
		units := f()
		best = max(best, float64(units)/time.Since(start).Seconds())
	}
	return best
}

func benchLevels(b *testing.B, bench func(b *testing.B)) {
	for _, l := range Levels() {
		b.Run(string(l), func(b *testing.B) {
			defer Use(l)()
			bench(b)
		})
	}
}

// report prints the rate of b.N rounds of so many units, in billions.
func report(b *testing.B, units int, name string, limit float64) {
	rate := float64(b.N) * float64(units) / b.Elapsed().Seconds()
	b.ReportMetric(rate/1e9, name)
	b.ReportMetric(rate/limit, "of-limit")
	b.ReportMetric(0, "ns/op")
}

// BenchmarkScan reads 384 MiB of panels, more than caches hold.
func BenchmarkScan(b *testing.B) {
	rows := 8192 * PanelRows
	panels := make([]byte, rows*benchDim*4+16)
	for i := range panels {
		panels[i] = byte(i % 7)
	}
	columns, query := make([]float32, rows), make([]float32, benchDim)
	scores := make([]float32, rows)
	benchLevels(b, func(b *testing.B) {
		peak := limit(func() int64 { ReadBytes(panels); return int64(len(panels)) })
		for _, offset := range []int{0, 13} {
			b.Run(fmt.Sprint("offset=", offset), func(b *testing.B) {
				view := floatsAt(panels, offset, rows*benchDim)
				for b.Loop() {
					Scan(scores, view, columns, columns, query)
				}
				report(b, len(panels), "GB/s", peak)
			})
		}
	})
}

// BenchmarkTile goes through its operands as a batch search does: a group of
// panels, then each tile of queries, then each panel of the group.
func BenchmarkTile(b *testing.B) {
	const tiles = 8
	benchLevels(b, func(b *testing.B) {
		peak := limit(func() int64 { return PeakFMA(1 << 18) })
		for _, group := range []int{1, 2, 4, 8, 16, 32} {
			b.Run(fmt.Sprint("panels=", group), func(b *testing.B) {
				p := newProblem(group*PanelRows, TileQueries, benchDim, reals(1))
				var all [tiles][]float32
				for i := range all {
					all[i] = append([]float32(nil), p.tile...)
				}
				for q := range p.floor {
					p.floor[q] = 1e9
				}
				var out TileScores
				for b.Loop() {
					for _, tile := range all {
						for i := range group {
							first := i * PanelRows
							Tile(&out, p.panels[first*benchDim:][:PanelRows*benchDim], p.scale[first:][:PanelRows], p.bias[first:][:PanelRows], tile, &p.floor)
						}
					}
				}
				report(b, 2*tiles*group*TileQueries*PanelRows*benchDim, "GFLOP/s", peak)
			})
		}
	})
}

func BenchmarkDot(b *testing.B)             { benchPair(b, Dot) }
func BenchmarkSquaredDistance(b *testing.B) { benchPair(b, SquaredDistance) }

func benchPair(b *testing.B, f func(x, y []float32) float32) {
	p := newProblem(2, 1, benchDim, reals(1))
	benchLevels(b, func(b *testing.B) {
		for b.Loop() {
			f(p.rows.Row(0), p.rows.Row(1))
		}
	})
}

// The rest reads and writes vectors that lie in the first cache.

func BenchmarkNorm(b *testing.B) {
	x := newProblem(1, 1, benchDim, reals(1)).rows.Data
	b.SetBytes(4 * benchDim)
	for b.Loop() {
		Norm(x)
	}
}

func BenchmarkNormalize(b *testing.B) {
	x := newProblem(1, 1, benchDim, reals(1)).rows.Data
	b.SetBytes(4 * benchDim)
	for b.Loop() {
		Normalize(x, x)
	}
}

func BenchmarkBlend(b *testing.B) {
	p := newProblem(2, 1, benchDim, reals(1))
	b.SetBytes(4 * benchDim)
	for b.Loop() {
		Blend(p.rows.Row(0), p.rows.Row(0), p.rows.Row(1), 0.5)
	}
}

func BenchmarkWidenHalf(b *testing.B) {
	dst, src := make([]float32, 4096), make([]uint16, 4096)
	benchLevels(b, func(b *testing.B) {
		b.SetBytes(4 * int64(len(dst)))
		for b.Loop() {
			WidenHalf(dst, src)
		}
	})
}

func BenchmarkNarrowHalf(b *testing.B) {
	dst, src := make([]uint16, 4096), newProblem(1, 1, 4096, reals(1)).rows.Data
	b.SetBytes(4 * int64(len(src)))
	for b.Loop() {
		NarrowHalf(dst, src)
	}
}

func BenchmarkPack(b *testing.B) {
	m := newProblem(2048, 1, benchDim, reals(1)).rows
	panels := make([]float32, len(m.Data))
	b.SetBytes(4 * int64(len(panels)))
	for b.Loop() {
		Pack(panels, m)
	}
}

func BenchmarkUnpack(b *testing.B) {
	m := newProblem(2048, 1, benchDim, reals(1)).rows
	panels := make([]float32, len(m.Data))
	b.SetBytes(4 * int64(len(panels)))
	for b.Loop() {
		Unpack(m, panels)
	}
}

func BenchmarkPackQueries(b *testing.B) {
	m := newProblem(12, 1, benchDim, reals(1)).rows
	tile := make([]float32, len(m.Data))
	b.SetBytes(4 * int64(len(tile)))
	for b.Loop() {
		PackQueries(tile, m)
	}
}
