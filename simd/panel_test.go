package simd

import (
	"fmt"
	"math"
	"slices"
	"testing"
)

// numbered gives every element a value of its own, so that a misplaced one shows.
func numbered(rows, dim int) Matrix {
	m := NewMatrix(rows, dim)
	for i := range m.Data {
		m.Data[i] = float32(i + 1)
	}
	return m
}

func TestPackPlacesEveryElement(t *testing.T) {
	everyLevel(t, placesEveryElement)
}

func placesEveryElement(t *testing.T) {
	for _, rows := range []int{0, 1, 2, 7, 8, 31, 32, 33, 64, 95} {
		for _, dim := range []int{0, 1, 7, 8, 9, 24, 130, 128, 263} {
			m := numbered(rows, dim)
			panels := make([]float32, Panels(rows)*PanelRows*dim)
			for i := range panels {
				panels[i] = float32(math.NaN())
			}
			Pack(panels, m)
			for i := range Panels(rows) * PanelRows {
				for d := range dim {
					var want float32
					if i < rows {
						want = m.Data[i*dim+d]
					}
					if got := panels[(i/32*dim+d)*32+i%32]; got != want {
						t.Fatalf("%d × %d: row %d element %d: got %v want %v", rows, dim, i, d, got, want)
					}
				}
			}
			back := NewMatrix(rows, dim)
			Unpack(back, panels)
			if !slices.Equal(back.Data, m.Data) {
				t.Fatalf("%d × %d: Unpack(Pack) differs", rows, dim)
			}
		}
	}
}

func TestPackRowTouchesOneLane(t *testing.T) {
	const rows, dim = 70, 9
	m := numbered(rows, dim)
	whole := make([]float32, Panels(rows)*PanelRows*dim)
	Pack(whole, m)
	single := make([]float32, len(whole))
	for _, i := range []int{69, 0, 32, 31, 33, 64} {
		before := slices.Clone(single)
		PackRow(single, m.Row(i), i)
		for j := range single {
			if single[j] != before[j] && single[j] != whole[j] {
				t.Fatalf("row %d: float %d is %v", i, j, single[j])
			}
		}
		row := make([]float32, dim)
		UnpackRow(row, single, i)
		if !slices.Equal(row, m.Row(i)) {
			t.Fatalf("row %d: %v", i, row)
		}
	}
	for i := range rows {
		PackRow(single, m.Row(i), i)
	}
	if !slices.Equal(single, whole) {
		t.Fatal("PackRow of every row differs from Pack")
	}
}

func TestPackQueries(t *testing.T) {
	for rows := range TileQueries + 1 {
		const dim = 19
		m := numbered(rows, dim)
		tile := make([]float32, TileQueries*dim)
		for i := range tile {
			tile[i] = -1
		}
		PackQueries(tile, m)
		for d := range dim {
			for q := range TileQueries {
				var want float32
				if q < rows {
					want = m.Row(q)[d]
				}
				if tile[d*12+q] != want {
					t.Fatalf("%d queries: element %d of query %d: %v", rows, d, q, tile[d*12+q])
				}
			}
		}
	}
}

func TestSizesThatDisagreePanic(t *testing.T) {
	f := func(n int) []float32 { return make([]float32, n) }
	for i, call := range []func(){
		func() { NewMatrix(-1, 2) },
		func() { NewMatrix(2, 2).Row(2) },
		func() { NewMatrix(2, 2).Slice(1, 3) },
		func() { Pack(f(64), Matrix{Data: f(3), Rows: 2, Dim: 2}) },
		func() { Pack(f(32), NewMatrix(2, 2)) },
		func() { Unpack(NewMatrix(33, 1), f(32)) },
		func() { PackRow(f(64), f(2), 32) },
		func() { UnpackRow(f(2), f(64), -1) },
		func() { PackQueries(f(24), NewMatrix(13, 2)) },
		func() { PackQueries(f(25), NewMatrix(3, 2)) },
		func() { Scan(f(31), f(31), f(31), f(31), f(1)) },
		func() { Scan(f(32), f(32), f(32), f(31), f(1)) },
		func() { Scan(f(32), f(32), f(33), f(32), f(1)) },
		func() { Scan(f(32), f(33), f(32), f(32), f(1)) },
		func() { Tile(&TileScores{}, f(32), f(32), f(32), f(13), new([TileQueries]float32)) },
		func() { Tile(&TileScores{}, f(31), f(32), f(32), f(12), new([TileQueries]float32)) },
		func() { Tile(&TileScores{}, f(32), f(31), f(32), f(12), new([TileQueries]float32)) },
		func() { Tile(&TileScores{}, f(32), f(32), f(0), f(12), new([TileQueries]float32)) },
		func() { Dot(f(2), f(3)) },
		func() { SquaredDistance(f(2), f(3)) },
		func() { Normalize(f(2), f(3)) },
		func() { Blend(f(2), f(2), f(3), 0) },
		func() { WidenHalf(f(2), make([]uint16, 3)) },
		func() { NarrowHalf(make([]uint16, 3), f(2)) },
		func() { Use("sse") },
	} {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			defer func() {
				if recover() == nil {
					t.Error("no panic")
				}
			}()
			call()
		})
	}
}
