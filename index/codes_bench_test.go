package index

import (
	"fmt"
	"math"
	"os"
	"sync"
	"testing"
	"time"

	"membank/simd"
)

// encoderLike makes rows as bench/perf.Gallery does: a mean direction, classes, 64
// directions with a falling spectrum, a little noise, norms that vary. Row i
// depends on the seed and i only.
func encoderLike(m simd.Matrix, first int, seed uint64) {
	const ranks, classes = 64, 100
	shared := newNoise(seed, 0)
	spread := make([]float32, ranks)
	energy := 0.0
	for r := range spread {
		spread[r] = float32(1 / math.Sqrt(float64(r+1)))
		energy += float64(spread[r] * spread[r])
	}
	centres := simd.NewMatrix(classes, ranks)
	for i := range centres.Data {
		centres.Data[i] = shared.normal() * spread[i%ranks]
	}
	energy *= 5
	mean := make([]float32, m.Dim)
	for d := range mean {
		mean[d] = shared.normal() * float32(math.Sqrt(0.8*energy/float64(m.Dim)))
	}
	directions := simd.NewMatrix(m.Dim, ranks)
	for i := range directions.Data {
		directions.Data[i] = shared.normal() / float32(math.Sqrt(float64(m.Dim)))
	}
	noise := float32(math.Sqrt(0.05 * energy / float64(m.Dim)))
	onto := newProducts(directions)
	const chunk = 4096
	for from := 0; from < m.Rows; from += chunk {
		part := m.Slice(from, min(from+chunk, m.Rows))
		latent := simd.NewMatrix(part.Rows, ranks)
		for i := range part.Rows {
			r := newNoise(seed, uint64(first+from+i)+1)
			c := int(uint64(r) % classes)
			for j := range ranks {
				latent.Row(i)[j] = centres.Row(c)[j] + 2*spread[j]*r.normal()
			}
		}
		rows := onto.all(latent, 2)
		parallel(2, part.Rows, func() func(int) {
			return func(i int) {
				r := newNoise(seed+1, uint64(first+from+i)+1)
				row := part.Row(i)
				for d, x := range rows.Row(i) {
					row[d] = x + mean[d] + noise*r.normal()
				}
				norm := 1 + 0.15*r.normal()
				simd.Normalize(row, row)
				for d := range row {
					row[d] *= norm
				}
			}
		})
	}
}

// noise is splitmix64.
type noise uint64

func newNoise(seed, row uint64) noise {
	n := noise(seed*0x9e3779b97f4a7c15 ^ row*0xd1342543de82ef95)
	n.next()
	return n
}

func (n *noise) next() uint64 {
	*n += 0x9e3779b97f4a7c15
	z := uint64(*n)
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}

func (n *noise) normal() float32 {
	z := n.next()
	sum := int32(z&0xffff) + int32(z>>16&0xffff) + int32(z>>32&0xffff) + int32(z>>48)
	return float32(sum-2*0xffff) * (1.7320508 / 0x10000)
}

type codedBank struct {
	ix      *Index
	queries simd.Matrix
}

var codedBanks = map[int]func() codedBank{
	384:  sync.OnceValue(func() codedBank { return makeCoded(400_000, 384, 2720) }),
	2048: sync.OnceValue(func() codedBank { return makeCoded(100_000, 2048, 512) }),
}

func makeCoded(rows, dim, blockRows int) codedBank {
	if testing.Short() {
		rows /= 10
	}
	m := simd.NewMatrix(rows, dim)
	encoderLike(m, 0, 7)
	b := newBank(m, nil, blockRows)
	start := time.Now()
	stride := (rows + sampleRows - 1) / sampleRows
	sample := simd.NewMatrix((rows+stride-1)/stride, dim)
	for i := range sample.Rows {
		copy(sample.Row(i), m.Row(i*stride))
	}
	b.Data = nil
	basis := learn(sample, aim{int64(rows), aimedK, strangers}, 2)
	learnt := time.Since(start)
	ix := b.index()
	records := make([][]byte, len(b.blocks))
	start = time.Now()
	parallel(2, len(b.blocks), func() func(int) {
		return func(i int) { records[i], _ = basis.EncodeBlock(nil, b.blocks[i]) }
	})
	encoded := time.Since(start)
	ix.basis = basis
	ix.codes = func() codesView {
		return func(i int, fn func([]byte) error) error { return fn(records[i]) }
	}
	fmt.Fprintf(os.Stderr, "%d × %d: learnt in %v, encoded in %v (%.2f GB/s), dims %d and %d, delta %.2g\n",
		rows, dim, learnt, encoded, float64(rows)*float64(dim)*4/1e9/encoded.Seconds(), basis.first, basis.dims, basis.delta)
	queries := simd.NewMatrix(2048, dim)
	encoderLike(queries, rows, 7)
	return codedBank{ix, queries}
}

// BenchmarkCodes compares searches with codes and without, in turns, and checks
// that they agree.
func BenchmarkCodes(b *testing.B) {
	for _, dim := range []int{384, 2048} {
		for _, c := range []struct {
			metric     Metric
			queries, k int
		}{{Cosine, 2048, 20}, {Cosine, 2048, 200}, {Dot, 2048, 20}, {L2, 2048, 20}, {Cosine, 12, 20}, {Cosine, 1, 20}, {L2, 1, 20}} {
			b.Run(fmt.Sprintf("dim=%d/%v/queries=%d/k=%d", dim, c.metric, c.queries, c.k), func(b *testing.B) {
				bank := codedBanks[dim]()
				o := Options{K: c.k, Metric: c.metric}
				var plain, coded Result
				var slow, fast time.Duration
				var slowCPU, fastCPU float64
				n := 0
				for b.Loop() {
					first := n * c.queries % (2048 - c.queries + 1)
					q := bank.queries.Slice(first, first+c.queries)
					n++
					o.NoCodes = false
					start, used := time.Now(), busy()
					coded = mustSearch(b, bank.ix, q, o)
					fast += time.Since(start)
					fastCPU += busy() - used
					o.NoCodes = true
					start, used = time.Now(), busy()
					plain = mustSearch(b, bank.ix, q, o)
					slow += time.Since(start)
					slowCPU += busy() - used
					mustEqual(b, coded.Hits, plain.Hits)
				}
				s := coded.Stats
				b.ReportMetric(0, "ns/op")
				b.ReportMetric(float64(c.queries*n)/fast.Seconds(), "queries/s")
				b.ReportMetric(float64(c.queries*n)/slow.Seconds(), "plain/s")
				b.ReportMetric(slow.Seconds()/fast.Seconds(), "ratio")
				b.ReportMetric(slowCPU/fastCPU, "cpuratio")
				b.ReportMetric(100*float64(s.Second)/float64(s.Coded), "%second")
				b.ReportMetric(float64(s.Exact)/float64(c.queries), "exact/query")
				b.ReportMetric(float64(s.Fallbacks), "fallbacks")
			})
		}
	}
}
