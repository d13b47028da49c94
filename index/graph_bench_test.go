package index

import (
	"context"
	"testing"
)

// BenchmarkGraph makes the graph of a gallery as encoders make them.
func BenchmarkGraph(b *testing.B) {
	ix := makeCoded(100_000, 384, 2720).ix
	for _, codes := range []string{"codes", "none"} {
		b.Run(codes, func(b *testing.B) {
			var s GraphStats
			for b.Loop() {
				var err error
				if s, err = ix.Graph(context.Background(), GraphOptions{K: 20, NoCodes: codes == "none"}, func(int64, []Hit) error { return nil }); err != nil {
					b.Fatal(err)
				}
			}
			pairs := float64(ix.rows) * float64(ix.rows)
			perOp := b.Elapsed().Seconds() / float64(b.N)
			b.ReportMetric(perOp*1e9/pairs*2, "core-ns/pair")
			b.ReportMetric(2*pairs*float64(ix.dim)/perOp/1e9, "effGOP/s")
			b.ReportMetric(100*float64(s.Second)/pairs, "%second")
			b.ReportMetric(100*float64(s.Exact)/pairs, "%exact")
			b.ReportMetric(100*float64(s.Scores)/pairs, "%fp32")
			b.ReportMetric(float64(s.Fallbacks), "floods")
		})
	}
}
