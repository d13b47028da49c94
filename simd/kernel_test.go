package simd

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"unsafe"
)

// everyLevel runs a test at each level this machine has.
func everyLevel(t *testing.T, test func(t *testing.T)) {
	t.Helper()
	for _, l := range Levels() {
		t.Run(string(l), func(t *testing.T) {
			defer Use(l)()
			test(t)
		})
	}
}

// dims are all small ones, where every tail occurs, and those that models have.
func dims() []int {
	var d []int
	for i := 1; i <= 130; i++ {
		d = append(d, i)
	}
	return append(d, 256, 384, 768, 2048, 4096)
}

// A problem is rows and queries with the columns that go with them.
type problem struct {
	rows, queries Matrix
	panels, tile  []float32 // packed
	scale, bias   []float32 // a number a lane
	floor         [TileQueries]float32
}

func newProblem(rows, queries, dim int, value func() float32) *problem {
	p := &problem{rows: NewMatrix(rows, dim), queries: NewMatrix(queries, dim)}
	lanes := Panels(rows) * PanelRows
	p.scale, p.bias = make([]float32, lanes), make([]float32, lanes)
	for _, s := range [][]float32{p.rows.Data, p.queries.Data, p.scale, p.bias, p.floor[:]} {
		for i := range s {
			s[i] = value()
		}
	}
	p.pack()
	return p
}

func (p *problem) pack() {
	p.panels = make([]float32, len(p.scale)*p.rows.Dim)
	Pack(p.panels, p.rows)
	p.tile = make([]float32, TileQueries*p.rows.Dim)
	PackQueries(p.tile, p.queries)
}

func (p *problem) scan(query int) []float32 {
	scores := make([]float32, len(p.scale))
	Scan(scores, p.panels, p.scale, p.bias, p.queries.Row(query))
	return scores
}

// tileOf calls Tile on a panel of the problem, into memory that held other things.
func (p *problem) tileOf(panel int) (out TileScores, any bool) {
	for q := range out.Scores {
		for i := range out.Scores[q] {
			out.Scores[q][i] = 12345
		}
		out.Hits[q] = 0x5a5a5a5a
	}
	first, dim := panel*PanelRows, p.rows.Dim
	any = Tile(&out, p.panels[first*dim:][:PanelRows*dim], p.scale[first:][:PanelRows], p.bias[first:][:PanelRows], p.tile, &p.floor)
	return out, any
}

func integers(seed uint64) func() float32 {
	r := rand.New(rand.NewPCG(seed, 7))
	return func() float32 { return float32(r.IntN(9) - 4) }
}

func reals(seed uint64) func() float32 {
	r := rand.New(rand.NewPCG(seed, 8))
	return func() float32 { return float32(r.NormFloat64()) }
}

// anything draws from all bit patterns: every magnitude, denormals, Inf and NaN.
func anything(seed uint64) func() float32 {
	r := rand.New(rand.NewPCG(seed, 9))
	return func() float32 {
		switch r.IntN(8) {
		case 0:
			return math.Float32frombits(r.Uint32())
		case 1:
			return math.Float32frombits(r.Uint32() & 0x807fffff)
		case 2:
			return float32(math.Copysign(0, float64(r.IntN(2))-0.5))
		}
		return math.Float32frombits(r.Uint32()&0x80ffffff | 0x3f000000)
	}
}

// Small integers make every sum exact, whatever its order, so == is the right
// test, and the oracle can count.
func TestScoresOfIntegersAreExact(t *testing.T) {
	everyLevel(t, func(t *testing.T) {
		for _, dim := range dims() {
			p := newProblem(70, TileQueries, dim, integers(uint64(dim)))
			want := func(q, i int) float32 {
				var sum int64
				if i < p.rows.Rows {
					for d, x := range p.rows.Row(i) {
						sum += int64(x) * int64(p.queries.Row(q)[d])
					}
				}
				return float32(sum*int64(p.scale[i]) + int64(p.bias[i]))
			}
			for q := range p.queries.Rows {
				for i, got := range p.scan(q) {
					if got != want(q, i) {
						t.Fatalf("dim %d: Scan of query %d, row %d: got %v want %v", dim, q, i, got, want(q, i))
					}
				}
			}
			for panel := range Panels(p.rows.Rows) {
				out, any := p.tileOf(panel)
				var hit bool
				for q := range out.Scores {
					for i, got := range out.Scores[q] {
						want := want(q, panel*PanelRows+i)
						if got != want {
							t.Fatalf("dim %d: Tile of query %d, row %d of panel %d: got %v want %v", dim, q, i, panel, got, want)
						}
						if reached := want >= p.floor[q]; reached != (out.Hits[q]>>i&1 == 1) {
							t.Fatalf("dim %d: query %d, row %d: score %v, floor %v, hits %032b", dim, q, i, want, p.floor[q], out.Hits[q])
						}
						hit = hit || want >= p.floor[q]
					}
				}
				if any != hit {
					t.Fatalf("dim %d: Tile says %v, want %v", dim, any, hit)
				}
			}
		}
	})
}

const unit = 0x1p-24 // half the distance from 1 to the next float32

// bound is how far n rounded steps over terms of this total magnitude may stray:
// γn of Higham, and what denormals lose absolutely.
func bound(n int, magnitude float64) float64 {
	return float64(n)*unit/(1-float64(n)*unit)*magnitude + float64(n)*0x1p-149
}

func TestScoresOfRealsAreWithinTheBound(t *testing.T) {
	everyLevel(t, func(t *testing.T) {
		for _, dim := range dims() {
			p := newProblem(33, 3, dim, reals(uint64(dim)))
			for q := range p.queries.Rows {
				for i, got := range p.scan(q)[:p.rows.Rows] {
					var sum, magnitude float64
					for d, x := range p.rows.Row(i) {
						product := float64(x) * float64(p.queries.Row(q)[d])
						sum, magnitude = sum+product, magnitude+math.Abs(product)
					}
					scale, bias := float64(p.scale[i]), float64(p.bias[i])
					want := scale*sum + bias
					limit := bound(dim, magnitude)*math.Abs(scale)*(1+unit) + unit*math.Abs(want)
					if off := math.Abs(float64(got) - want); !(off <= limit) {
						t.Fatalf("dim %d: query %d, row %d: got %v want %v, off by %g of %g", dim, q, i, got, want, off, limit)
					}
				}
			}
		}
	})
}

// same compares bits, and takes one NaN for another: which payload survives an
// operation is the CPU's business.
func same(a, b float32) bool {
	return math.Float32bits(a) == math.Float32bits(b) || a != a && b != b
}

func TestLevelsAgreeBitForBit(t *testing.T) {
	everyLevel(t, func(t *testing.T) {
		for name, values := range map[string]func(uint64) func() float32{"reals": reals, "anything": anything} {
			for _, dim := range dims() {
				p := newProblem(40, TileQueries, dim, values(uint64(dim)))
				for q := range p.queries.Rows {
					got, want := p.scan(q), make([]float32, len(p.scale))
					scanGeneric(want, p.panels, p.scale, p.bias, p.queries.Row(q))
					if !slices.EqualFunc(got, want, same) {
						t.Fatalf("%s, dim %d, query %d: Scan\n%v\ntwin\n%v", name, dim, q, got, want)
					}
				}
				for panel := range Panels(p.rows.Rows) {
					got, any := p.tileOf(panel)
					first := panel * PanelRows
					var want TileScores
					wantAny := tileGeneric(&want, p.panels[first*dim:][:PanelRows*dim], p.scale[first:], p.bias[first:], p.tile, &p.floor)
					for q := range want.Scores {
						if !slices.EqualFunc(got.Scores[q][:], want.Scores[q][:], same) {
							t.Fatalf("%s, dim %d, query %d: Tile\n%v\ntwin\n%v", name, dim, q, got.Scores[q], want.Scores[q])
						}
					}
					if got.Hits != want.Hits || any != wantAny {
						t.Fatalf("%s, dim %d: hits %x %v, twin %x %v", name, dim, got.Hits, any, want.Hits, wantAny)
					}
				}
				a, b := p.rows.Row(0), p.queries.Row(0)
				if got, want := Dot(a, b), dotGeneric(a, b); !same(got, want) {
					t.Fatalf("%s, dim %d: Dot %b, twin %b", name, dim, got, want)
				}
				if got, want := SquaredDistance(a, b), squaredDistanceGeneric(a, b); !same(got, want) {
					t.Fatalf("%s, dim %d: SquaredDistance %b, twin %b", name, dim, got, want)
				}
			}
		}
	})
}

// The promise that index builds on: a score does not depend on the kernel.
func TestDotScanAndTileAgree(t *testing.T) {
	everyLevel(t, func(t *testing.T) {
		for _, dim := range dims() {
			p := newProblem(64, TileQueries, dim, reals(uint64(dim)))
			for i := range p.scale {
				p.scale[i], p.bias[i] = 1, 0
			}
			for panel := range 2 {
				out, _ := p.tileOf(panel)
				for q := range p.queries.Rows {
					scan := p.scan(q)
					for i, got := range out.Scores[q] {
						row := panel*PanelRows + i
						if dot := Dot(p.rows.Row(row), p.queries.Row(q)); got != scan[row] || got != dot {
							t.Fatalf("dim %d: query %d, row %d: Tile %b, Scan %b, Dot %b", dim, q, row, got, scan[row], dot)
						}
					}
				}
			}
		}
	})
}

func TestFloors(t *testing.T) {
	inf, nan := float32(math.Inf(1)), float32(math.NaN())
	everyLevel(t, func(t *testing.T) {
		p := newProblem(PanelRows, TileQueries, 5, func() float32 { return 1 })
		for q := range p.floor {
			p.floor[q] = math.MaxFloat32
		}
		if out, any := p.tileOf(0); any || out.Hits != [TileQueries]uint32{} {
			t.Fatalf("hits %x under a floor that nothing reaches", out.Hits)
		}
		// All scores are fma(5, 1, bias): 6 here, dead in lanes 3 and 30, NaN in 7.
		p.bias[3], p.bias[30], p.bias[7], p.bias[31] = -inf, -inf, nan, 2
		const lanes = 1<<32 - 1
		nobody, dead, bad := uint32(0), uint32(1<<3|1<<30), uint32(1<<7)
		p.floor = [TileQueries]float32{6, 7, math.Nextafter32(7, 8), -inf, -math.MaxFloat32, inf, nan, 5.5, math.Nextafter32(6, 7), 0, 8, -1}
		want := [TileQueries]uint32{lanes &^ dead &^ bad, 1 << 31, nobody, lanes &^ bad, lanes &^ dead &^ bad, nobody, nobody,
			lanes &^ dead &^ bad, 1 << 31, lanes &^ dead &^ bad, nobody, lanes &^ dead &^ bad}
		if out, any := p.tileOf(0); out.Hits != want || !any {
			t.Fatalf("hits\n%032b\nwant\n%032b", out.Hits, want)
		}
		// A single hit, in each place in turn.
		for q := range TileQueries {
			for i := range PanelRows {
				for j := range p.floor {
					p.floor[j] = 100
				}
				clear(p.bias)
				p.floor[q], p.bias[i] = 6, 1
				var want [TileQueries]uint32
				want[q] = 1 << i
				if out, any := p.tileOf(0); out.Hits != want || !any {
					t.Fatalf("query %d, row %d: hits %x", q, i, out.Hits)
				}
			}
		}
	})
}

// A lane that holds NaN, Inf or denormals must not reach its neighbours.
func TestLanesAreIndependent(t *testing.T) {
	everyLevel(t, func(t *testing.T) {
		const dim = 37
		p := newProblem(64, 1, dim, reals(1))
		want := p.scan(0)
		for lane := range p.rows.Rows {
			for _, bad := range []float32{float32(math.NaN()), float32(math.Inf(1)), float32(math.Inf(-1)), 0x1p-149, math.MaxFloat32} {
				before := slices.Clone(p.rows.Row(lane))
				for d := range before {
					p.rows.Row(lane)[d] = bad
				}
				p.pack()
				got := p.scan(0)
				got[lane] = want[lane]
				if !slices.Equal(got, want) {
					t.Fatalf("%v in lane %d shows elsewhere", bad, lane)
				}
				copy(p.rows.Row(lane), before)
			}
		}
	})
}

func TestNoDimensionsScoreTheBias(t *testing.T) {
	everyLevel(t, func(t *testing.T) {
		p := newProblem(32, 12, 0, reals(1))
		out, _ := p.tileOf(0)
		if !slices.Equal(p.scan(0), p.bias) || !slices.Equal(out.Scores[11][:], p.bias) || Dot(nil, nil) != 0 || SquaredDistance(nil, nil) != 0 {
			t.Fatal("a sum over nothing is not 0")
		}
		Scan(nil, nil, nil, nil, []float32{1})
	})
}

func TestSquaredDistance(t *testing.T) {
	everyLevel(t, func(t *testing.T) {
		for _, dim := range dims() {
			p := newProblem(1, 1, dim, integers(uint64(dim)))
			a, b := p.rows.Data, p.queries.Data
			var count int64
			for i := range a {
				count += int64(a[i]-b[i]) * int64(a[i]-b[i])
			}
			if got := SquaredDistance(a, b); got != float32(count) {
				t.Fatalf("dim %d: got %v want %d", dim, got, count)
			}
			p = newProblem(1, 1, dim, reals(uint64(dim)))
			a, b = p.rows.Data, p.queries.Data
			var want float64
			for i := range a {
				d := float64(a[i]) - float64(b[i])
				want += d * d
			}
			if got := float64(SquaredDistance(a, b)); math.Abs(got-want) > bound(dim+2, want) { // a difference errs by 1 unit, its square by 2
				t.Fatalf("dim %d: got %v want %v", dim, got, want)
			}
		}
	})
}

func TestReadBytesReadsAll(t *testing.T) {
	b := make([]byte, 5000)
	r := rand.New(rand.NewPCG(4, 4))
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	everyLevel(t, func(t *testing.T) {
		for from := range 3 {
			for _, n := range []int{0, 1, 7, 8, 31, 32, 255, 511, 512, 513, 1024, 1543, 2048, 4997} {
				part := b[from:][:n]
				var want uint64
				for i := 0; i < n; i += 8 {
					var word [8]byte
					copy(word[:], part[i:])
					want ^= binary.LittleEndian.Uint64(word[:])
				}
				if got := ReadBytes(part); got != want {
					t.Fatalf("%d bytes from %d: %x, want %x", n, from, got, want)
				}
			}
		}
	})
}

func FuzzLevelsAgree(f *testing.F) {
	f.Add([]byte("some sixteen bytes, and then some more of them"))
	f.Fuzz(func(t *testing.T, b []byte) {
		var v []float32
		for ; len(b) >= 4; b = b[4:] {
			v = append(v, math.Float32frombits(binary.LittleEndian.Uint32(b)))
		}
		dim := min(len(v)/2, 64)
		if dim == 0 {
			return
		}
		i := 0
		p := newProblem(PanelRows, TileQueries, dim, func() float32 { i++; return v[(i*7+i/len(v))%len(v)] })
		restore := Use(Generic)
		want, _ := p.tileOf(0)
		restore()
		for _, l := range Levels() {
			restore := Use(l)
			got, _ := p.tileOf(0)
			scan := p.scan(0)
			restore()
			for q := range want.Scores {
				if !slices.EqualFunc(got.Scores[q][:], want.Scores[q][:], same) {
					t.Fatal(fmt.Sprint(l), q, got.Scores[q], want.Scores[q])
				}
			}
			if !slices.EqualFunc(scan, want.Scores[0][:], same) || got.Hits != want.Hits {
				t.Fatal(fmt.Sprint(l), scan, want.Scores[0])
			}
		}
	})
}

// floatsAt views n floats from a byte offset on, as store does with mapped bytes.
func floatsAt(b []byte, offset, n int) []float32 {
	return unsafe.Slice((*float32)(unsafe.Pointer(&b[offset:][:4*n][0])), n)
}

func TestKernelsDoNotAllocate(t *testing.T) {
	everyLevel(t, func(t *testing.T) {
		p := newProblem(64, TileQueries, 20, reals(1))
		scores, halves, out := make([]float32, 64), make([]uint16, 20), new(TileScores)
		a, b := p.rows.Row(0), p.rows.Row(1)
		if n := testing.AllocsPerRun(10, func() {
			Pack(p.panels, p.rows)
			PackQueries(p.tile, p.queries)
			Scan(scores, p.panels, p.scale, p.bias, a)
			Tile(out, p.panels[:PanelRows*20], p.scale[:PanelRows], p.bias[:PanelRows], p.tile, &p.floor)
			Dot(a, b)
			SquaredDistance(a, b)
			Norm(a)
			Normalize(a, b)
			Blend(a, a, b, 0.5)
			NarrowHalf(halves, a)
			WidenHalf(a, halves)
			Unpack(p.rows, p.panels)
		}); n != 0 {
			t.Fatalf("%v allocations", n)
		}
	})
}
