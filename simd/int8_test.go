package simd

import (
	"fmt"
	"math"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"
	"time"
)

// codeDims are all that occur, every tail among them, and a few beyond.
func codeDims() []int {
	var dims []int
	for d := 4; d <= 256; d += 4 {
		dims = append(dims, d)
	}
	return append(dims, 300, 768, 2048)
}

// A codeProblem is rows of codes and a tile of queries, with columns and floors.
type codeProblem struct {
	dim     int
	rows    []uint8 // [panels*32][dim]
	queries []int8  // [12][dim]
	panels  []uint8
	columns []float32
	tile    CodeTile
	floor   [TileQueries]float32
}

// newCodeProblem draws codes from code and queries, clamped to what the level
// takes, from query.
func newCodeProblem(panels, dim, terms int, code func() uint8, query func() int8, value func() float32) *codeProblem {
	p := &codeProblem{
		dim:     dim,
		rows:    make([]uint8, panels*PanelRows*dim),
		queries: make([]int8, TileQueries*dim),
		panels:  make([]uint8, panels*PanelRows*dim),
		columns: make([]float32, panels*terms*PanelRows),
	}
	for i := range p.rows {
		p.rows[i] = code()
	}
	most := int8(MaxQueryCode())
	for i := range p.queries {
		p.queries[i] = max(min(query(), most), -most)
	}
	for i := range p.columns {
		p.columns[i] = value()
	}
	for i := range panels {
		PackCodes(p.panels[i*PanelRows*dim:][:PanelRows*dim], p.rows[i*PanelRows*dim:][:PanelRows*dim], dim)
	}
	PackCodeQueries(&p.tile, p.queries, dim)
	p.tile.Weights = make([]float32, terms)
	for i := range p.tile.Weights {
		p.tile.Weights[i] = value()
	}
	return p
}

// count is the oracle of all products: Σ (code−128)·d, one at a time.
func (p *codeProblem) count(q, row int) (sum int64) {
	for i := range p.dim {
		sum += (int64(p.rows[row*p.dim+i]) - 128) * int64(p.queries[q*p.dim+i])
	}
	return sum
}

// scan calls CodeScan into memory that held other things.
func (p *codeProblem) scan() (hits CodeHits, total int) {
	for q := range hits {
		for i := range hits[q] {
			hits[q][i] = 0x5a5a5a5a5a5a5a5a
		}
	}
	total = CodeScan(&hits, p.panels, p.columns, &p.tile, &p.floor)
	return hits, total
}

// scores are those of query q, from the products of count.
func (p *codeProblem) scores(q int) (scores []float32) {
	terms := len(p.tile.Weights)
	for row := range len(p.rows) / p.dim {
		column := p.columns[row/PanelRows*terms*PanelRows+row%PanelRows:]
		var slack float32
		for k := 1; k < terms; k++ {
			slack = fma32(column[k*PanelRows], p.tile.Weights[k], slack)
		}
		scores = append(scores, fma32(float32(p.count(q, row)), column[0]*p.tile.Weights[0], slack))
	}
	return scores
}

// median puts floors amid the scores, so that bits of both kinds occur.
func (p *codeProblem) median() {
	for q := range p.floor {
		scores := p.scores(q)
		slices.Sort(scores)
		p.floor[q] = scores[len(scores)*q/TileQueries]
	}
}

func randomCodes(seed uint64) (code func() uint8, query func() int8) {
	r := rand.New(rand.NewPCG(seed, 10))
	return func() uint8 { return uint8(r.Uint32()) }, func() int8 { return int8(r.Uint32()) }
}

func constantCodes(c uint8, d int8) (code func() uint8, query func() int8) {
	return func() uint8 { return c }, func() int8 { return d }
}

// extremeCodes are nothing but the ends of both ranges, in random order.
func extremeCodes(seed uint64) (code func() uint8, query func() int8) {
	r := rand.New(rand.NewPCG(seed, 11))
	return func() uint8 { return uint8(255 * r.IntN(2)) }, func() int8 { return int8(254*r.IntN(2) - 127) }
}

func TestPackCodesPlacesEveryByte(t *testing.T) {
	for _, dim := range []int{4, 8, 16, 36, 256} {
		for _, n := range []int{0, 1, 5, 31, 32} {
			rows := make([]uint8, n*dim)
			for i := range rows {
				rows[i] = uint8(i*7 + i/256)
			}
			panel := make([]uint8, PanelRows*dim)
			PackCodes(panel, rows, dim)
			for i := range PanelRows {
				for d := range dim {
					want := uint8(128)
					if i < n {
						want = rows[i*dim+d]
					}
					if got := panel[d/4*128+i*4+d%4]; got != want {
						t.Fatalf("%d × %d: row %d, dim %d: got %d want %d", n, dim, i, d, got, want)
					}
				}
			}
			back := make([]uint8, len(rows))
			UnpackCodes(back, panel, dim)
			if !slices.Equal(back, rows) {
				t.Fatalf("%d × %d: UnpackCodes(PackCodes) differs", n, dim)
			}
		}
	}
}

// The products themselves, seen through CodeScan: with a scale of 1 and no slack a
// floor at the product hits, and one above it does not.
func TestCodeScanFindsExactProducts(t *testing.T) {
	everyLevel(t, func(t *testing.T) {
		for _, dim := range codeDims() {
			for name, draw := range map[string]func() (func() uint8, func() int8){
				"random":           func() (func() uint8, func() int8) { return randomCodes(uint64(dim)) },
				"extremes":         func() (func() uint8, func() int8) { return extremeCodes(uint64(dim)) },
				"255 and the most": func() (func() uint8, func() int8) { return constantCodes(255, 127) },
				"255, the least":   func() (func() uint8, func() int8) { return constantCodes(255, -127) },
				"0 and the most":   func() (func() uint8, func() int8) { return constantCodes(0, 127) },
				"0 and the least":  func() (func() uint8, func() int8) { return constantCodes(0, -127) },
			} {
				code, query := draw()
				p := newCodeProblem(1, dim, 1, code, query, func() float32 { return 1 })
				row := dim % PanelRows
				for above := range 2 {
					for q := range p.floor {
						p.floor[q] = float32(p.count(q, row) + int64(above))
					}
					hits, total := p.scan()
					var want int
					for q := range hits {
						for i := range PanelRows {
							hit := float32(p.count(q, i)) >= p.floor[q]
							if hit {
								want++
							}
							if got := hits[q][0]>>i&1 == 1; got != hit {
								t.Fatalf("dim %d, %s: query %d, row %d: product %d, floor %v, hit %v", dim, name, q, i, p.count(q, i), p.floor[q], got)
							}
						}
						if hits[q][0]>>PanelRows != 0 {
							t.Fatalf("dim %d, %s: hits %x of one panel", dim, name, hits[q][0])
						}
					}
					if total != want {
						t.Fatalf("dim %d, %s: %d hits, want %d", dim, name, total, want)
					}
				}
			}
		}
	})
}

// The products are exact, and each step behind them is rounded once, so the scores
// have the bits of the oracle.
func TestCodeScores(t *testing.T) {
	everyLevel(t, func(t *testing.T) {
		for _, dim := range codeDims() {
			panels, terms := 1+dim/4%5, 1+dim/4%7
			if dim == 64 {
				panels = CodeRun
			}
			code, query := randomCodes(uint64(dim))
			p := newCodeProblem(panels, dim, terms, code, query, reals(uint64(dim)))
			scores := new(CodeEstimates)
			for q := range scores {
				for i := range scores[q] {
					scores[q][i] = 1e30
				}
			}
			CodeScores(scores, p.panels, p.columns, &p.tile)
			for q := range scores {
				if got, want := scores[q][:panels*PanelRows], p.scores(q); !slices.Equal(got, want) {
					t.Fatalf("dim %d, %d columns, query %d: got %v\nwant %v", dim, terms, q, got, want)
				}
				for i, s := range scores[q][panels*PanelRows:] {
					if s != 1e30 {
						t.Fatalf("dim %d: score %d of %d rows was written", dim, panels*PanelRows+i, panels*PanelRows)
					}
				}
			}
		}
	})
}

func TestCodeScanAgreesWithTheTwin(t *testing.T) {
	everyLevel(t, func(t *testing.T) {
		for name, values := range map[string]func(uint64) func() float32{"reals": reals, "anything": anything} {
			for _, dim := range codeDims() {
				panels, terms := 1+dim/4%5, 1+dim/4%7
				if dim == 64 {
					panels = CodeRun
				}
				code, query := randomCodes(uint64(dim))
				p := newCodeProblem(panels, dim, terms, code, query, values(uint64(dim)))
				p.median()
				got, total := p.scan()
				want := got
				for q := range want {
					clear(want[q][:(panels+1)/2])
				}
				wantTotal := codeScanGeneric(&want, p.panels, p.columns, &p.tile, &p.floor)
				if got != want || total != wantTotal {
					words := (panels + 1) / 2
					for q := range got {
						if !slices.Equal(got[q][:], want[q][:]) {
							t.Errorf("query %d: hits\n%x, twin\n%x", q, got[q][:words], want[q][:words])
						}
					}
					t.Fatalf("%s, dim %d, %d panels: %d hits, twin %d", name, dim, panels, total, wantTotal)
				}
				if name == "reals" && (total < panels*PanelRows || total > panels*PanelRows*TileQueries) {
					t.Fatalf("dim %d: %d hits of %d pairs prove nothing", dim, total, panels*PanelRows*TileQueries)
				}
			}
		}
	})
}

func TestCodeFloors(t *testing.T) {
	inf, nan := float32(math.Inf(1)), float32(math.NaN())
	everyLevel(t, func(t *testing.T) {
		code, query := constantCodes(129, 1)
		p := newCodeProblem(3, 8, 2, code, query, func() float32 { return 1 })
		for i := range p.columns {
			p.columns[i] = float32((i/PanelRows + 1) % 2) // scale 1, slack 0: every score is 8
		}
		second := p.columns[(1*2+1)*PanelRows:][:PanelRows] // slack in the panel in the middle
		second[3], second[30], second[7], second[31] = -inf, -inf, nan, inf
		p.floor = [TileQueries]float32{8, 9, math.Nextafter32(8, 9), -inf, -math.MaxFloat32, inf, nan, 7.5, -nan, 0, 1e30, -1}
		const all, lanes = 1<<64 - 1, 1<<32 - 1
		dead, bad, best := uint64(1<<3|1<<30)<<32, uint64(1<<7)<<32, uint64(1<<31)<<32
		alive := all &^ dead &^ bad
		first := [TileQueries]uint64{alive, best, best, all &^ bad, alive, best, 0, alive, 0, alive, best, alive}
		hits, total := p.scan()
		var want int
		for q, word := range first {
			last := uint64(0)
			if word&lanes != 0 {
				last = lanes
			}
			if hits[q][0] != word || hits[q][1] != last {
				t.Errorf("floor %v: hits %x, want %x %x", p.floor[q], hits[q][:2], word, last)
			}
			if hits[q][2] != 0x5a5a5a5a5a5a5a5a {
				t.Errorf("wrote beyond the run")
			}
			for i := range 64 {
				want += int(word>>i&1) + int(last>>i&1)
			}
		}
		if total != want {
			t.Errorf("%d hits, want %d", total, want)
		}
		if CodeScan(&hits, nil, nil, &p.tile, &p.floor) != 0 {
			t.Errorf("hits in no panel")
		}
	})
}

func TestCodeDots(t *testing.T) {
	everyLevel(t, func(t *testing.T) {
		for _, dim := range codeDims() {
			for _, draw := range []func(uint64) (func() uint8, func() int8){randomCodes, extremeCodes} {
				code, query := draw(uint64(dim))
				p := newCodeProblem(1, dim, 1, code, query, func() float32 { return 1 })
				r := rand.New(rand.NewPCG(uint64(dim), 12))
				for n := range 40 {
					rows, out := make([]int32, n), make([]int32, n)
					for j := range rows {
						rows[j] = int32(r.IntN(PanelRows))
					}
					q := n % TileQueries
					d := p.queries[q*dim:][:dim]
					CodeDots(out, p.rows, rows, d, CodeStart(d))
					for j, row := range rows {
						if want := p.count(q, int(row)); int64(out[j]) != want {
							t.Fatalf("dim %d: product %d of %d, of row %d: got %d want %d", dim, j, n, row, out[j], want)
						}
					}
				}
				d := p.queries[:dim]
				if got, want := CodeDot(p.rows[3*dim:][:dim], d, p.tile.Start[0]), p.count(0, 3); int64(got) != want {
					t.Fatalf("dim %d: CodeDot: got %d want %d", dim, got, want)
				}
			}
		}
	})
}

func TestQuantizeRow(t *testing.T) {
	everyLevel(t, func(t *testing.T) {
		for n := range 100 {
			x, codes := make([]float32, n), make([]uint8, n)
			r := rand.New(rand.NewPCG(uint64(n), 13))
			var most float64
			for i := range x {
				x[i] = float32(r.NormFloat64())
				if i%3 == 0 {
					x[i] = float32(r.IntN(400)-200) / 2 // halves go to the even neighbour
				}
				most = max(most, math.Abs(float64(x[i])))
			}
			for _, inverse := range []float32{1, 0.5, 40, 3.3, 0} {
				QuantizeRow(codes, x, inverse)
				for i, v := range x {
					want := 128 + math.RoundToEven(max(-127, min(127, float64(float32(v*inverse)))))
					if float64(codes[i]) != want {
						t.Fatalf("%v × %v became %d, want %v", v, inverse, codes[i], want)
					}
				}
			}
			if got := MaxAbs(x); float64(got) != most {
				t.Fatalf("MaxAbs %v, want %v", got, most)
			}
		}
	})
}

func TestQuantizeSpecialValues(t *testing.T) {
	inf, nan := float32(math.Inf(1)), float32(math.NaN())
	everyLevel(t, func(t *testing.T) {
		x := []float32{inf, -inf, nan, -nan, 1e38, -1e38, 0, float32(math.Copysign(0, -1)), 126.5, 127.49, -126.5, -128, 0x1p-149, 0.5, -0.5, 1.5}
		want := []uint8{255, 1, 1, 1, 255, 1, 128, 128, 254, 255, 2, 1, 128, 128, 128, 130}
		got := make([]uint8, len(x))
		QuantizeRow(got, x, 1)
		if !slices.Equal(got, want) {
			t.Errorf("got %v\nwant %v", got, want)
		}
		for i := range x {
			one := make([]uint8, 1)
			QuantizeRow(one, x[i:i+1], 1)
			if one[0] != want[i] {
				t.Errorf("%v alone: %d, want %d", x[i], one[0], want[i])
			}
			y := make([]float32, 37)
			y[i*2], y[3] = x[i], 1
			m := max(1, float32(math.Abs(float64(x[i]))))
			if x[i] != x[i] {
				m = 1
			}
			if i*2 == 3 {
				continue
			}
			if got := MaxAbs(y); got != m {
				t.Errorf("MaxAbs with %v: %v", x[i], got)
			}
		}
	})
	if MaxAbs(nil) != 0 || MaxAbs([]float32{nan}) != 0 {
		t.Error("MaxAbs of nothing")
	}
}

// Kernels for codes are a level's own, unless the CPU lacks VNNI, and the exported
// functions reach those of the level in use.
func TestCodesReachTheLevelInUse(t *testing.T) {
	seen := map[*codeKernels]Level{}
	for _, k := range levels {
		if other, taken := seen[k.codes]; taken && !(other == AVX512 && k.level == AVX2) {
			t.Errorf("%s shares the kernels of %s", k.level, other)
		}
		seen[k.codes] = k.level
		counts := map[string]int{}
		codes, level := *k.codes, *k
		level.codes = &codes
		codes.scan = func(h *CodeHits, a []uint8, b []float32, t *CodeTile, f *[TileQueries]float32) int {
			counts["scan"]++
			return k.codes.scan(h, a, b, t, f)
		}
		codes.scores = func(s *CodeEstimates, a []uint8, b []float32, t *CodeTile) {
			counts["scores"]++
			k.codes.scores(s, a, b, t)
		}
		codes.dots = func(a []int32, b []uint8, c []int32, d []int8, e int32) {
			counts["dots"]++
			k.codes.dots(a, b, c, d, e)
		}
		codes.quantize = func(a []uint8, b []float32, c float32) { counts["quantize"]++; k.codes.quantize(a, b, c) }
		codes.maxAbs = func(a []float32) float32 { counts["maxAbs"]++; return k.codes.maxAbs(a) }
		codes.peak = func(n int) int64 { counts["peak"]++; return k.codes.peak(n) }
		before := active.Swap(&level)
		c, d := randomCodes(1)
		p := newCodeProblem(1, 8, 1, c, d, reals(1))
		p.scan()
		CodeScores(new(CodeEstimates), p.panels, p.columns, &p.tile)
		CodeDots(make([]int32, 1), make([]uint8, 8), make([]int32, 1), make([]int8, 8), 0)
		QuantizeRow(make([]uint8, 20), make([]float32, 20), 1)
		MaxAbs(make([]float32, 20))
		operations := PeakInt8(10)
		active.Store(before)
		v := reflect.ValueOf(codes)
		for i := range v.NumField() {
			if name := v.Type().Field(i).Name; v.Field(i).Kind() == reflect.Func && counts[name] != 1 {
				t.Errorf("%s: %s was called %d times", k.level, name, counts[name])
			}
		}
		want := map[*codeKernels]int64{&codesGeneric: 640}[k.codes]
		if want == 0 {
			want = 24 * 2 * 10 * map[int]int64{63: 32, 127: 64}[codes.maxQuery]
		}
		if operations != want {
			t.Errorf("%s: PeakInt8(10) did %d operations, want %d", k.level, operations, want)
		}
	}
}

func TestCodesRefuseWhatTheyCannotTake(t *testing.T) {
	everyLevel(t, func(t *testing.T) {
		most := int8(MaxQueryCode())
		var hits CodeHits
		var floor [TileQueries]float32
		tile := &CodeTile{Queries: make([]int8, 12*8), Weights: make([]float32, 2)}
		for name, call := range map[string]func(){
			"a query beyond the level": func() { PackCodeQueries(new(CodeTile), []int8{0, 0, most, -most - 1}, 4) },
			"dims of no group":         func() { PackCodes(make([]uint8, 32*6), make([]uint8, 6), 6) },
			"33 rows":                  func() { PackCodes(make([]uint8, 32*4), make([]uint8, 33*4), 4) },
			"13 queries":               func() { PackCodeQueries(new(CodeTile), make([]int8, 13*4), 4) },
			"a row out of range":       func() { CodeDots(make([]int32, 1), make([]uint8, 8), []int32{1}, make([]int8, 8), 0) },
			"a negative row":           func() { CodeDots(make([]int32, 1), make([]uint8, 8), []int32{-1}, make([]int8, 8), 0) },
			"a column short":           func() { CodeScan(&hits, make([]uint8, 32*8), make([]float32, 32), tile, &floor) },
			"a run too long":           func() { CodeScan(&hits, make([]uint8, 65*32*8), make([]float32, 65*64), tile, &floor) },
			"half a panel":             func() { CodeScan(&hits, make([]uint8, 16*8), make([]float32, 64), tile, &floor) },
			"no weights":               func() { CodeScan(&hits, make([]uint8, 32*8), nil, &CodeTile{Queries: make([]int8, 96)}, &floor) },
		} {
			func() {
				defer func() {
					if recover() == nil {
						t.Errorf("%s passed", name)
					}
				}()
				call()
			}()
		}
		if most == 127 {
			PackCodeQueries(new(CodeTile), []int8{0, 0, 127, -127}, 4)
		}
	})
}

func BenchmarkCodeScan(b *testing.B) {
	for _, l := range Levels() {
		if l == Generic {
			continue
		}
		for _, dim := range []int{16, 32, 64, 128, 256} {
			b.Run(fmt.Sprint(l, "/dim=", dim), func(b *testing.B) {
				defer Use(l)()
				code, query := randomCodes(1)
				panels := min(CodeRun, 128<<10/(PanelRows*dim))
				p := newCodeProblem(panels, dim, 5, code, query, reals(1))
				for q := range p.floor {
					p.floor[q] = 1e9
				}
				var hits CodeHits
				var rate, peak float64
				for range b.N {
					rate = max(rate, perSecond(func() int64 {
						for range 8 {
							CodeScan(&hits, p.panels, p.columns, &p.tile, &p.floor)
						}
						return int64(8 * 2 * TileQueries * len(p.panels))
					}))
					peak = max(peak, perSecond(func() int64 { return PeakInt8(5000) }))
				}
				b.ReportMetric(rate/1e9, "GOP/s")
				b.ReportMetric(rate/peak, "of-peak")
			})
		}
	}
}

// perSecond times one burst, short enough to come between the neighbours of a
// busy machine: the best of many is the rate of the core.
func perSecond(burst func() (operations int64)) float64 {
	start := time.Now()
	operations := burst()
	return float64(operations) / time.Since(start).Seconds()
}

func BenchmarkCodeDots(b *testing.B) {
	for _, l := range Levels() {
		if l == Generic {
			continue
		}
		for _, dim := range []int{64, 128, 256} {
			for _, size := range []int{256 << 10, 64 << 20} {
				b.Run(fmt.Sprint(l, "/dim=", dim, "/bytes=", size), func(b *testing.B) {
					defer Use(l)()
					codes, query := make([]uint8, size), make([]int8, dim)
					r := rand.New(rand.NewPCG(1, 1))
					for i := range codes {
						codes[i] = uint8(i * 7)
					}
					rows, out := make([]int32, 4096), make([]int32, 4096)
					for i := range rows {
						rows[i] = int32(r.IntN(size / dim))
					}
					slices.Sort(rows)
					var rate float64
					for range b.N {
						rate = max(rate, perSecond(func() int64 {
							CodeDots(out, codes, rows, query, 0)
							return int64(len(rows))
						}))
					}
					b.ReportMetric(1e9/rate, "ns/row")
				})
			}
		}
	}
}

func BenchmarkQuantizeRow(b *testing.B) {
	x, codes := newProblem(1, 1, 256, reals(1)).rows.Data, make([]uint8, 256)
	for _, l := range Levels() {
		b.Run(string(l), func(b *testing.B) {
			defer Use(l)()
			b.SetBytes(4 * 256)
			for range b.N {
				QuantizeRow(codes, x, 127/MaxAbs(x))
			}
		})
	}
}
