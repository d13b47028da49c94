package simd

import (
	"fmt"
	"testing"
)

func TestProductsStaysWithinItsMemory(t *testing.T) {
	everyLevel(t, func(t *testing.T) {
		for _, at := range places {
			for _, n := range []int{1, 2, 5, 64} {
				t.Run(fmt.Sprint(at.name, "/n=", n), func(t *testing.T) {
					a, b := make([]float64, n*StripColumns), make([]float64, ProductStrips*n*StripColumns)
					for i := range a {
						a[i] = float64(i%5) - 2
					}
					for i := range b {
						b[i] = float64(i%7) - 3
					}
					var want ProductTile
					Products(&want, a, b)
					got := &guarded[ProductTile](t, at, 1)[0]
					Products(got, guardedCopy(t, at, a), guardedCopy(t, at, b))
					if *got != want {
						t.Error("Products differs")
					}
				})
			}
		}
	})
}
