package index

import (
	"fmt"
	"os"
	"runtime/pprof"
	"testing"

	"membank/simd"
)

func TestProfile(t *testing.T) {
	bank := codedBanks[384]()
	mustSearch(t, bank.ix, bank.queries, Options{K: 20})
	for range 3 {
		used := busy()
		r := mustSearch(t, bank.ix, bank.queries, Options{K: 20})
		c := busy() - used
		used = busy()
		mustSearch(t, bank.ix, bank.queries.Slice(0, 512), Options{K: 20, NoCodes: true})
		p := (busy() - used) * 4
		fmt.Printf("cpu %.3f, plain %.3f: %.1f; wall %.3f; %+v\n", c, p, p/c, r.Stats.Seconds, r.Stats)
	}
	f, _ := os.Create("/tmp/prof")
	pprof.StartCPUProfile(f)
	for range 10 {
		mustSearch(t, bank.ix, bank.queries, Options{K: 20})
	}
	pprof.StopCPUProfile()
}

func TestScratch(t *testing.T) {
	rows, dim := 100000, 384
	m := simd.NewMatrix(rows, dim)
	encoderLike(m, 0, 7)
	b := newBank(m, nil, 2720)
	sample := simd.NewMatrix(8192, dim)
	for i := range sample.Rows {
		copy(sample.Row(i), m.Row(i*12))
	}
	basis := learn(sample, int64(rows), 2)
	fmt.Println("chosen", basis.first, basis.dims, basis.meanNorm)
	queries := simd.NewMatrix(48, dim)
	encoderLike(queries, rows, 7)
	ix := b.index()
	want := mustSearch(t, ix, queries, Options{K: 20})
	for _, f := range []int{16, 24, 32, 48, 64, 96} {
		for _, d := range []int{64, 128, 256} {
			if d < f {
				continue
			}
			nb := *basis
			nb.first, nb.dims = f, d
			nb.rows = basis.rows.Slice(0, min(d, 256))
			nb.seal()
			ix.withCodes(t, &nb, b.blocks)
			var s Stats
			for q := range queries.Rows {
				r := mustSearch(t, ix, queries.Slice(q, q+1), Options{K: 20, HasMinScore: true, MinScore: want.Hits[q][19].Score})
				s.add(r.Stats)
			}
			fmt.Printf("first %d dims %d: second %.1f/query (%.3f %%), exact %.1f\n", f, d, float64(s.Second)/48, 100*float64(s.Second)/float64(s.Coded), float64(s.Exact)/48)
		}
	}
}
