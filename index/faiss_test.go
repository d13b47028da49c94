package index

import (
	"math"
	"slices"
	"testing"

	"membank/simd"
	"membank/store/dump/dumptest"
)

// FAISS's exact neighbours of real embeddings, for every method at hand. Ids are
// compared wherever neither neighbour in rank is closer in score than FAISS
// resolves: 1e-6 for cosines. For L2 it expands ‖x‖²+‖y‖²−2⟨x,y⟩ in float32, whose
// error grows with (‖x‖+‖y‖)²: up to 9 rounding units of that on these files
// against float64 (4e-4 absolute; 2e-4 on the first 50 queries); 16 are allowed.
// Ids of a collapsed method are rounding noise and not compared with FAISS's.
func TestNeighboursEqualFAISS(t *testing.T) {
	for _, m := range dumptest.Methods(t) {
		b := newBank(m.Train, nil, 512)
		for name, metric := range map[string]Metric{"ip": Cosine, "l2": L2} {
			t.Run(m.Name+"/"+metric.String(), func(t *testing.T) {
				want := m.NN(t, name)
				queries := m.Test.Slice(0, want.Queries)
				// One more, to see how far rank K is from its successor.
				got := mustSearch(t, b.index(), queries, Options{K: want.K + 1, Metric: metric})
				compared := 0
				for q, hits := range got.Hits {
					ids, scores := want.Row(q)
					tolerance, resolved := 1e-5, 1e-6
					if metric == L2 {
						norms := simd.Norm(queries.Row(q)) + b.index().maxNorm
						tolerance = 16 * unit * norms * norms
						resolved = 2 * tolerance
					}
					gap := func(rank int) float64 { // between rank and its successor
						switch {
						case rank < 0:
							return math.Inf(1)
						case rank+1 == want.K:
							return math.Abs(float64(hits[rank].Score) - float64(hits[rank+1].Score))
						}
						return math.Abs(float64(scores[rank]) - float64(scores[rank+1]))
					}
					for rank, h := range hits[:want.K] {
						if err := math.Abs(float64(h.Score) - float64(scores[rank])); err > tolerance {
							t.Fatalf("query %d, rank %d: score %v, FAISS %v", q, rank, h.Score, scores[rank])
						}
						if m.Noise || gap(rank-1) <= resolved || gap(rank) <= resolved {
							continue
						}
						compared++
						if h.Row != ids[rank] {
							t.Fatalf("query %d, rank %d: row %d, FAISS %d (scores %v, %v)",
								q, rank, h.Row, ids[rank], h.Score, scores[rank])
						}
					}
				}
				share := float64(compared) / float64(want.Queries*want.K)
				t.Logf("%d × %d neighbours, %.2f %% of the ids beyond rounding", want.Queries, want.K, 100*share)
				if !m.Noise && share < 0.9 {
					t.Errorf("only %.1f %% of the ids were compared", 100*share)
				}
			})
		}
	}
}

// Against float64, on the collapsed methods too: the row at each rank is, but for
// the rounding of one direct distance, as near as the row that belongs there.
func TestDistancesOfRealRowsAgainstFloat64(t *testing.T) {
	for _, m := range dumptest.Methods(t) {
		t.Run(m.Name, func(t *testing.T) {
			queries := m.Test.Slice(0, 25)
			got := mustSearch(t, newBank(m.Train, nil, 512).index(), queries, Options{K: 100, Metric: L2})
			n := float64(m.Train.Dim + 2)
			gamma := n * unit / (1 - n*unit)
			for q, hits := range got.Hits {
				all := make([]float64, m.Train.Rows)
				for i := range all {
					all[i], _ = naive(L2, queries.Row(q), m.Train.Row(i))
				}
				nearest := slices.Sorted(slices.Values(all))
				for rank, h := range hits {
					d := all[h.Row]
					if math.Abs(d-nearest[rank]) > 2*gamma*nearest[rank] || math.Abs(float64(h.Score)-d) > gamma*d {
						t.Fatalf("query %d, rank %d: row %d at %v (printed %v), the float64 order has %v there",
							q, rank, h.Row, d, h.Score, nearest[rank])
					}
				}
			}
			share := float64(got.Stats.Rescored) / float64(got.Stats.Scores)
			t.Logf("re-scored %.1f %% of the rows for k=100 of %d", 100*share, m.Train.Rows)
		})
	}
}
