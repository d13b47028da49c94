package simd

import (
	"fmt"
	"slices"
	"testing"
)

func TestCodeKernelsStayWithinTheirMemory(t *testing.T) {
	everyLevel(t, func(t *testing.T) {
		for _, at := range places {
			for _, dim := range []int{4, 8, 12, 28, 32, 36, 60, 64, 68, 96, 124, 128, 252, 256} {
				for _, panels := range []int{1, 2, 3} {
					t.Run(fmt.Sprint(at.name, "/dim=", dim, "/panels=", panels), func(t *testing.T) {
						code, query := randomCodes(uint64(dim))
						p := newCodeProblem(panels, dim, 1+dim/4%4, code, query, reals(uint64(dim)))
						p.median()
						want, wantTotal := p.scan()

						q := *p
						q.panels, q.columns = guardedCopy(t, at, p.panels), guardedCopy(t, at, p.columns)
						tile := &CodeTile{guardedCopy(t, at, p.tile.Queries), p.tile.Start, guardedCopy(t, at, p.tile.Weights)}
						hits := &guarded[CodeHits](t, at, 1)[0]
						floor := (*[TileQueries]float32)(guardedCopy(t, at, p.floor[:]))
						total := CodeScan(hits, q.panels, q.columns, tile, floor)
						for i := range hits {
							if words := (panels + 1) / 2; !slices.Equal(hits[i][:words], want[i][:words]) {
								t.Errorf("CodeScan differs")
							}
						}
						if total != wantTotal {
							t.Errorf("%d hits, want %d", total, wantTotal)
						}

						scores := &guarded[CodeEstimates](t, at, 1)[0]
						CodeScores(scores, q.panels, q.columns, tile)
						for i := range scores {
							if !slices.Equal(scores[i][:panels*PanelRows], p.scores(i)) {
								t.Errorf("CodeScores differs")
							}
						}

						n := 20 + panels
						rows, out := guarded[int32](t, at, n), guarded[int32](t, at, n)
						for j := range rows {
							rows[j] = int32((panels*PanelRows - 1) * (j % 2)) // the first and the last
						}
						codes, d := guardedCopy(t, at, p.rows), guardedCopy(t, at, p.queries[:dim])
						CodeDots(out, codes, rows, d, p.tile.Start[0])
						for j, row := range rows {
							if want := p.count(0, int(row)); int64(out[j]) != want {
								t.Errorf("CodeDots of row %d: got %d want %d", row, out[j], want)
							}
						}

						values := newProblem(1, 1, dim-panels, reals(uint64(dim)))
						x := guardedCopy(t, at, values.rows.Data)
						quantized, twin := guarded[uint8](t, at, len(x)), make([]uint8, len(x))
						QuantizeRow(quantized, x, 40)
						quantizeGeneric(twin, x, 40)
						if !slices.Equal(quantized, twin) || MaxAbs(x) != maxAbsGeneric(x) {
							t.Errorf("QuantizeRow or MaxAbs differs")
						}
						panel := guarded[uint8](t, at, PanelRows*dim)
						PackCodes(panel, codes[:PanelRows*dim], dim)
						UnpackCodes(codes[:PanelRows*dim], panel, dim)
						if !slices.Equal(panel, p.panels[:len(panel)]) || !slices.Equal(codes, p.rows) {
							t.Errorf("PackCodes or UnpackCodes differs")
						}
					})
				}
			}
		}
	})
}
