package perf

import (
	"context"
	"fmt"
	"math"
	"runtime"
	"slices"
	"sync/atomic"
	"time"

	"membank/simd"
)

// readSink keeps the compiler from leaving out what is only read.
var readSink atomic.Uint64

// KernelOptions say what Kernels measures. The zero value is what a person wants.
type KernelOptions struct {
	Dim      int           // 0: 384
	Threads  []int         // numbers of threads to measure; nil: 1 and GOMAXPROCS
	Rounds   int           // 0: 5
	Time     time.Duration // of one measurement; 0: 50 ms
	Bytes    int64         // of the buffer that Scan reads from memory; 0: 256 MiB
	Progress Progress
}

// Kernels measures the kernels of every level the CPU has: tile on panels that stay
// in the cache, against the FMA peak of that level; scan over panels in memory,
// against plain reading; the scan of codes at some numbers of dims, in the cache,
// against the int8 peak; and products of codes of rows that lie apart in memory, as
// few survive a first stage, against plain reading. It forces the levels one by one through
// simd.Use, so nothing else in the process should compute meanwhile.
func Kernels(ctx context.Context, o KernelOptions) ([]Figure, error) {
	o.Dim, o.Rounds, o.Time, o.Bytes = or(o.Dim, 384), or(o.Rounds, 5), or(o.Time, 50*time.Millisecond), or(o.Bytes, 256<<20)
	if o.Threads == nil {
		o.Threads = []int{1, runtime.GOMAXPROCS(0)}
	}
	o.Threads = slices.Compact(slices.Clone(o.Threads))
	buffer := pages(o.Bytes)
	k := newKernelData(o, buffer)
	var figures []Figure
	for _, level := range simd.Levels() {
		restore := simd.Use(level)
		part, err := k.level(ctx, level, buffer)
		restore()
		if err != nil {
			return nil, err
		}
		figures = append(figures, part...)
	}
	return figures, nil
}

// kernelData is what the kernels read.
type kernelData struct {
	KernelOptions
	far         []float32 // panels that fit no cache
	scale, bias []float32 // of all of them
	scores      []float32
	query       []float32
	codes       []uint8 // rows of them that fit no cache
}

// Dims of codes: the first stage of a search takes the smaller ones, the second
// dotsDim. One row in dotsApart comes to it.
var codeDims = []int{32, 64, 128}

const (
	dotsDim   = 256
	dotsApart = 5
)

func newKernelData(o KernelOptions, buffer []byte) *kernelData {
	panel := simd.PanelRows * o.Dim
	panels := max(int(o.Bytes)/(4*panel), 4)
	k := &kernelData{KernelOptions: o, far: make([]float32, panels*panel), query: make([]float32, o.Dim)}
	for i := range k.far {
		k.far[i] = float32(i%7) - 3
	}
	for i := range k.query {
		k.query[i] = float32(i%5) - 2
	}
	lanes := panels * simd.PanelRows
	k.scale, k.bias, k.scores = make([]float32, lanes), make([]float32, lanes), make([]float32, lanes)
	for i := range k.scale {
		k.scale[i] = 1
	}
	k.codes = buffer[:len(buffer)/dotsDim*dotsDim]
	return k
}

func (k *kernelData) level(ctx context.Context, level simd.Level, buffer []byte) ([]Figure, error) {
	var all []*measure
	for _, threads := range k.Threads {
		on := " " + string(level) + " " + threadsName(threads)
		add := func(name, unit string, limit *measure, scale float64, run func() float64) *measure {
			m := &measure{name: name + on, unit: unit, limit: limit, run: func() (float64, error) { return run() / scale, nil }}
			all = append(all, m)
			return m
		}
		peak := add("fma peak", "GFLOP/s", nil, 1e9, func() float64 { return PeakFMA(ctx, threads, k.Time) })
		add("tile", "GFLOP/s", peak, 1e9, func() float64 { return onThreads(threads, func(t int) float64 { return k.tile(ctx, t) }) })
		read := add("memory read", "GB/s", nil, 1e9, func() float64 { return ReadMemory(ctx, buffer, threads, k.Time) })
		add("scan", "GB/s", read, 1e9, func() float64 { return onThreads(threads, func(t int) float64 { return k.scan(ctx, t, threads) }) })
		int8Peak := add("int8 peak", "GOP/s", nil, 1e9, func() float64 { return PeakInt8(ctx, threads, k.Time) })
		for _, dim := range codeDims {
			add(fmt.Sprintf("code scan, %d dims,", dim), "GOP/s", int8Peak, 1e9, func() float64 {
				return onThreads(threads, func(int) float64 { return k.codeScan(ctx, dim) })
			})
		}
		add(fmt.Sprintf("code dots, %d dims, every %dth row,", dotsDim, dotsApart), "GB/s", read, 1e9, func() float64 {
			return onThreads(threads, func(t int) float64 { return k.codeDots(ctx, t, threads) })
		})
	}
	if err := takeTurns(ctx, k.Rounds, k.Progress, all...); err != nil {
		return nil, err
	}
	var figures []Figure
	for _, m := range all {
		figures = append(figures, m.figure())
	}
	return figures, nil
}

// tile scores four panels against a tile of queries, again and again; no score
// reaches the floor, as in a search that has found its best.
func (k *kernelData) tile(ctx context.Context, thread int) float64 {
	const group = 4
	panel := simd.PanelRows * k.Dim
	panels := slices.Clone(k.far[:group*panel])
	tile := make([]float32, simd.TileQueries*k.Dim)
	for i := range tile {
		tile[i] = float32((i+thread)%5) - 2
	}
	var floor [simd.TileQueries]float32
	for i := range floor {
		floor[i] = float32(math.Inf(1))
	}
	var out simd.TileScores
	scale, bias := k.scale[:simd.PanelRows], k.bias[:simd.PanelRows]
	return rate(ctx, k.Time, func() float64 {
		for i := range group {
			simd.Tile(&out, panels[i*panel:(i+1)*panel], scale, bias, tile, &floor)
		}
		return float64(2 * group * panel * simd.TileQueries)
	})
}

// scan scores a thread's part of all panels against one query.
func (k *kernelData) scan(ctx context.Context, thread, threads int) float64 {
	panel := simd.PanelRows * k.Dim
	panels := len(k.far) / panel
	from, to := panels*thread/threads, panels*(thread+1)/threads
	lo, hi := from*simd.PanelRows, to*simd.PanelRows
	return rate(ctx, k.Time, func() float64 {
		simd.Scan(k.scores[lo:hi], k.far[from*panel:to*panel], k.scale[lo:hi], k.bias[lo:hi], k.query)
		return float64(4 * (to - from) * panel)
	})
}

// codeScan takes a run of panels of codes past a tile of queries, again and again;
// no score reaches the floor.
func (k *kernelData) codeScan(ctx context.Context, dim int) float64 {
	panels := slices.Clone(k.codes[:min(simd.CodeRun, len(k.codes)/(simd.PanelRows*dim))*simd.PanelRows*dim])
	rows := len(panels) / dim
	queries := make([]int8, simd.TileQueries*dim)
	for i := range queries {
		queries[i] = int8(i%127) - 63
	}
	tile := simd.CodeTile{Weights: []float32{1, 1, 1}}
	simd.PackCodeQueries(&tile, queries, dim)
	columns := make([]float32, len(tile.Weights)*rows)
	var floor [simd.TileQueries]float32
	for i := range floor {
		floor[i] = float32(math.Inf(1))
	}
	hits := new(simd.CodeHits)
	return rate(ctx, k.Time, func() float64 {
		simd.CodeScan(hits, panels, columns, &tile, &floor)
		return 2 * simd.TileQueries * float64(len(panels))
	})
}

// codeDots multiplies some of a thread's part of all rows of codes with a query.
func (k *kernelData) codeDots(ctx context.Context, thread, threads int) float64 {
	all := len(k.codes) / dotsDim
	part := k.codes[all*thread/threads*dotsDim : all*(thread+1)/threads*dotsDim]
	var rows []int32
	for r := 0; r < len(part)/dotsDim; r += dotsApart {
		rows = append(rows, int32(r))
	}
	query, out := make([]int8, dotsDim), make([]int32, len(rows))
	for i := range query {
		query[i] = int8(i%127) - 63
	}
	start := simd.CodeStart(query)
	return rate(ctx, k.Time, func() float64 {
		simd.CodeDots(out, part, rows, query, start)
		return float64(len(rows) * dotsDim)
	})
}

func threadsName(n int) string { return counted(n, "thread") }
