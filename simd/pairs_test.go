package simd

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
)

// Pairs has the bits of Scan, at every level, from a panel at any offset.
func TestPairs(t *testing.T) {
	for _, dim := range []int{1, 2, 7, 64, 385} {
		rng := rand.New(rand.NewPCG(3, uint64(dim)))
		rows, queries := NewMatrix(PanelRows, dim), NewMatrix(9, dim)
		for i := range rows.Data {
			rows.Data[i] = float32(rng.NormFloat64())
		}
		for i := range queries.Data {
			queries.Data[i] = float32(rng.NormFloat64())
		}
		packed := make([]float32, PanelRows*dim)
		Pack(packed, rows)
		var bytes []byte
		bytes = append(bytes, 0)
		for _, x := range packed {
			b := math.Float32bits(x)
			bytes = append(bytes, byte(b), byte(b>>8), byte(b>>16), byte(b>>24))
		}
		panel := Floats(bytes[1:])
		scale, bias := make([]float32, PanelRows), make([]float32, PanelRows)
		for i := range scale {
			scale[i], bias[i] = rng.Float32(), float32(rng.NormFloat64())
		}
		want := make([]float32, PanelRows)
		for _, level := range Levels() {
			t.Run(fmt.Sprint(level, "/dim=", dim), func(t *testing.T) {
				defer Use(level)()
				for n := range 14 {
					lanes, of := make([]int32, n), make([]int32, n)
					for j := range lanes {
						lanes[j], of[j] = rng.Int32N(PanelRows), rng.Int32N(9)
					}
					got := make([]float32, n)
					Pairs(got, panel, scale, bias, lanes, queries, of)
					for j := range got {
						Scan(want, panel, scale, bias, queries.Row(int(of[j])))
						if got[j] != want[lanes[j]] {
							t.Fatalf("pair %d of %d: %v, Scan %v", j, n, got[j], want[lanes[j]])
						}
					}
				}
			})
		}
	}
}
