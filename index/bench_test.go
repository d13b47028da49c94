//go:build unix

package index

import (
	"math"
	"math/rand/v2"
	"runtime"
	"sync"
	"syscall"
	"testing"
	"time"

	"membank/simd"
)

// sslLike fills a gallery as encoders leave them: a common mean, a few hundred
// clusters, and a spectrum that falls off.
func sslLike(m simd.Matrix, seed uint64) {
	const clusters = 300
	rng := rand.New(rand.NewPCG(seed, 1))
	spectrum := make([]float32, m.Dim)
	for d := range spectrum {
		spectrum[d] = float32(math.Pow(float64(d+1), -0.4))
	}
	centres := simd.NewMatrix(clusters, m.Dim)
	fill(rand.New(rand.NewPCG(99, 1)), centres, 1)
	for i := range m.Rows {
		row, centre := m.Row(i), centres.Row(rng.IntN(clusters))
		for d := range row {
			row[d] = spectrum[d] * (0.5 + centre[d] + 0.7*float32(rng.NormFloat64()))
		}
	}
}

// busy is the processor time of this process. On a machine that others use as
// well, a rate per processor second, against a limit measured likewise, says
// more than wall time does.
func busy() float64 {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err)
	}
	seconds := func(t syscall.Timeval) float64 { return float64(t.Sec) + float64(t.Usec)/1e6 }
	return seconds(u.Utime) + seconds(u.Stime)
}

// onAllCores runs fn once for each core at the same time and returns the amounts
// done a second of wall time, and a second of processor time.
func onAllCores(fn func(core, cores int) float64) (wall, cpu float64) {
	var wg sync.WaitGroup
	var mu sync.Mutex
	var amount float64
	start, used := time.Now(), busy()
	cores := runtime.GOMAXPROCS(0)
	for core := range cores {
		wg.Go(func() {
			done := fn(core, cores)
			mu.Lock()
			amount += done
			mu.Unlock()
		})
	}
	wg.Wait()
	return amount / time.Since(start).Seconds(), amount / (busy() - used)
}

// peak is the FMA rate of all cores, in FLOP/s.
func peak(int, int) float64 {
	var flops int64
	for range 50 {
		flops += simd.PeakFMA(1 << 16)
	}
	return float64(flops)
}

// report runs search, which says how much it did each time, and compares its
// rates with the limit, measured before and after.
func report(b *testing.B, unit string, limit func(core, cores int) float64, search func() float64) {
	wall0, cpu0 := onAllCores(limit)
	used := busy()
	var amount float64
	for b.Loop() {
		amount += search()
	}
	used = busy() - used
	wall1, cpu1 := onAllCores(limit)
	wall, cpu := amount/b.Elapsed().Seconds(), amount/used
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(wall/1e9, unit)
	b.ReportMetric(100*wall/max(wall0, wall1), "%limit")
	b.ReportMetric(cpu/1e9, unit+"/cpu")
	b.ReportMetric(100*cpu/max(cpu0, cpu1), "%limit/cpu")
}

var benchBank = sync.OnceValue(func() *bank {
	rows := 400_000
	if testing.Short() {
		rows = 40_000
	}
	m := simd.NewMatrix(rows, 384)
	sslLike(m, 1)
	b := newBank(m, nil, 2720) // 4 MiB
	b.Data = nil
	// As in a mapped value log: panels at an odd multiple of 4 bytes.
	for _, k := range b.blocks {
		moved := make([]float32, len(k.Panels)+3)
		copy(moved[3:], k.Panels)
		k.Panels = moved[3:]
	}
	return b
})

// BenchmarkBatch is 2,048 queries at once; its limit is the FMA rate.
func BenchmarkBatch(b *testing.B) {
	ix := benchBank().index()
	queries := simd.NewMatrix(2048, 384)
	sslLike(queries, 2)
	for _, metric := range []Metric{Cosine, L2} {
		for _, k := range []int{1, 20, 200} {
			b.Run(metric.String()+"/k="+itoa(k), func(b *testing.B) {
				var s Stats
				report(b, "GFLOP/s", peak, func() float64 {
					s = mustSearch(b, ix, queries, Options{K: k, Metric: metric}).Stats
					return 2 * 384 * float64(s.Scores)
				})
				if metric == L2 {
					b.ReportMetric(float64(s.Rescored)/2048, "rescored/query")
				}
			})
		}
	}
}

// BenchmarkFew is one to some dozen queries; the limit is reading the panels.
func BenchmarkFew(b *testing.B) {
	bank := benchBank()
	read := func(core, cores int) (bytes float64) {
		scores := make([]float32, 1)
		for i := core; i < len(bank.blocks); i += cores {
			scores[0] += sum(bank.blocks[i].Panels)
			bytes += 4 * float64(len(bank.blocks[i].Panels))
		}
		return bytes
	}
	for _, n := range []int{1, 2, 3, 4, 6, 12, 24, 36} {
		queries := simd.NewMatrix(n, 384)
		sslLike(queries, 2)
		b.Run("queries="+itoa(n), func(b *testing.B) {
			report(b, "GB/s", read, func() float64 {
				return float64(mustSearch(b, bank.index(), queries, Options{K: 20}).Stats.Bytes)
			})
		})
	}
}

// sum touches every cache line of v.
func sum(v []float32) float32 {
	var a, b, c, d float32
	for ; len(v) >= 64; v = v[64:] {
		a, b, c, d = a+v[0], b+v[16], c+v[32], d+v[48]
	}
	return a + b + c + d
}
