//go:build unix

package index

import (
	"context"
	"syscall"
	"testing"
)

// BenchmarkGraph makes the graph of a gallery as encoders make them, with what rows
// expect of one another and without. Seconds are those of the processor, as others
// may use the machine, too.
func BenchmarkGraph(b *testing.B) {
	bank := makeCoded(100_000, 384, 2720)
	for _, name := range []string{"expecting", "alone"} {
		b.Run(name, func(b *testing.B) {
			var s GraphStats
			before := processorSeconds()
			for b.Loop() {
				var err error
				o := GraphOptions{K: 20, alone: name == "alone"}
				if s, err = bank.ix.Graph(context.Background(), o, func(int64, []Hit) error { return nil }); err != nil {
					b.Fatal(err)
				}
			}
			pairs := float64(bank.ix.rows) * float64(bank.ix.rows)
			b.ReportMetric((processorSeconds()-before)*1e9/float64(b.N)/pairs, "core-ns/pair")
			b.ReportMetric(100*float64(s.Second)/pairs, "%second")
			b.ReportMetric(100*float64(s.Exact)/pairs, "%exact")
			b.ReportMetric(100*float64(s.Scores)/pairs, "%fp32")
			b.ReportMetric(100*float64(s.Repeated)/float64(s.Rows), "%repeated")
		})
	}
}

func processorSeconds() float64 {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return float64(u.Utime.Sec+u.Stime.Sec) + float64(u.Utime.Usec+u.Stime.Usec)/1e6
}
