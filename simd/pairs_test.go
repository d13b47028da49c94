package simd

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
)

// A PairScorer has the bits of Scan, at every level, from panels at any offset, in
// any order of the pairs.
func TestPairs(t *testing.T) {
	const count, queryCount = 3, 19
	for _, dim := range []int{1, 2, 7, 16, 64, 100, 385} {
		rng := rand.New(rand.NewPCG(3, uint64(dim)))
		queries := NewMatrix(queryCount, dim)
		for i := range queries.Data {
			queries.Data[i] = float32(rng.NormFloat64())
		}
		q := NewPairQueries(queries)
		bytes := []byte{0}
		for range count * PanelRows * dim {
			b := math.Float32bits(float32(rng.NormFloat64()))
			bytes = append(bytes, byte(b), byte(b>>8), byte(b>>16), byte(b>>24))
		}
		panels := Floats(bytes[1:])
		scale, bias := make([]float32, count*PanelRows), make([]float32, count*PanelRows)
		for i := range scale {
			scale[i], bias[i] = rng.Float32(), float32(rng.NormFloat64())
		}
		for _, level := range Levels() {
			t.Run(fmt.Sprint(level, "/dim=", dim), func(t *testing.T) {
				defer Use(level)()
				want := make([][]float32, queryCount)
				for i := range want {
					want[i] = make([]float32, len(scale))
					Scan(want[i], panels, scale, bias, queries.Row(i))
				}
				var s PairScorer
				for n := range 200 {
					pairs := make([]Pair, n)
					for j := range pairs {
						lane := rng.Int32N(count * PanelRows)
						if n%4 > 0 { // runs of a panel, of all lengths
							lane = lane%PanelRows + int32(j/(1+n%41)%count*PanelRows)
						}
						pairs[j] = Pair{lane, rng.Int32N(queryCount)}
					}
					got := make([]float32, n)
					for j := range got {
						got[j] = float32(math.NaN())
					}
					s.Score(got, panels, scale, bias, q, pairs)
					for j, p := range pairs {
						if got[j] != want[p.Query][p.Lane] {
							t.Fatalf("pair %d of %d: %v, Scan %v", j, n, got[j], want[p.Query][p.Lane])
						}
					}
				}
			})
		}
	}
}
