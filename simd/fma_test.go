package simd

import (
	"math"
	"math/big"
	"math/rand/v2"
	"slices"
	"testing"
)

// exactFMA is a*b+c with one rounding, by arithmetic of unbounded precision.
func exactFMA(a, b, c float32) float32 {
	s := big.NewFloat(float64(a)).SetPrec(2000)
	s.Mul(s, big.NewFloat(float64(b)))
	s.Add(s, big.NewFloat(float64(c)))
	if s.Sign() == 0 { // big cannot tell a sum that cancels from one of zeroes
		return a*b + c
	}
	r, _ := s.Float32()
	return r
}

// almostTie returns operands whose product is half a unit in the last place of c,
// a normal or denormal number of either sign, less a 2^-46th or so of it at most.
func almostTie(r *rand.Rand) (a, b, c float32) {
	c = float32(1<<23 + r.IntN(1<<23))
	exponent := r.IntN(140) - 70
	if r.IntN(2) == 0 {
		c, exponent = float32(1+r.IntN(1<<23)), -149 // so many denormals
	}
	c = float32(math.Ldexp(float64(c), exponent))
	below := float64(r.IntN(4)) * 0x1p-23
	a = float32(math.Ldexp(0.5*(1+below), exponent/2))
	b = float32(math.Ldexp(1-below, exponent-exponent/2))
	if r.IntN(2) == 0 {
		a = -a
	}
	if r.IntN(2) == 0 {
		c = -c
	}
	return a, b, c
}

func checkFMA(t *testing.T, a, b, c float32) {
	t.Helper()
	for _, x := range []float32{a, b, c} {
		if math.IsNaN(float64(x)) || math.IsInf(float64(x), 0) {
			return
		}
	}
	got, want := fma32(a, b, c), exactFMA(a, b, c)
	if math.Float32bits(got) != math.Float32bits(want) {
		t.Fatalf("fma32(%b, %b, %b) = %b, want %b", a, b, c, got, want)
	}
	if hard := float32(math.FMA(float64(a), float64(b), float64(c))); hard != want {
		doublyRounded++
	}
}

// doublyRounded counts inputs that a naive emulation gets wrong: a test that has
// met none proves nothing.
var doublyRounded int

func TestFMAIsRoundedOnce(t *testing.T) {
	doublyRounded = 0
	r := rand.New(rand.NewPCG(1, 2))
	random := func() float32 { return math.Float32frombits(r.Uint32()) }
	for range 50_000 {
		checkFMA(t, random(), random(), random())
	}
	// Near ties: c has its last bit at 2^0, a*b is half of that, give or take a
	// little that float64 drops.
	for range 50_000 {
		c := float32(1<<23 + r.IntN(1<<23))
		a := float32(1<<23+r.IntN(1<<23)) * 0x1p-23
		b := float32(0.5) / a
		scale := float32(math.Ldexp(1, r.IntN(60)-30))
		b = math.Nextafter32(b, float32(r.IntN(3)-1))
		checkFMA(t, a*scale, b, c*scale)
		checkFMA(t, -a*scale, b, c*scale)
		checkFMA(t, a*scale, b, -c*scale)
	}
	// A tie, but for less than float64 can hold beside c.
	for range 50_000 {
		a, b, c := almostTie(r)
		checkFMA(t, a, b, c)
	}
	// Denormal results.
	for range 50_000 {
		a := random()
		_, e := math.Frexp(float64(a))
		b := float32(math.Ldexp(float64(r.IntN(1<<24)), -126-24-e+r.IntN(8)))
		c := math.Float32frombits(r.Uint32() & 0x807fffff)
		checkFMA(t, a, b, c)
	}
	if doublyRounded < 1000 {
		t.Fatalf("only %d inputs would have been rounded twice", doublyRounded)
	}
}

func TestFMASpecialValues(t *testing.T) {
	inf, nan, negZero := float32(math.Inf(1)), float32(math.NaN()), float32(math.Copysign(0, -1))
	for _, c := range []struct{ a, b, c, want float32 }{
		{inf, 1, 1, inf}, {-inf, 1, 1, -inf}, {inf, 0, 1, nan}, {inf, 1, -inf, nan}, {1, 1, -inf, -inf},
		{nan, 1, 1, nan}, {1, 1, nan, nan}, {0, 0, 0, 0}, {negZero, 1, negZero, negZero}, {negZero, 1, 0, 0},
		{1, -1, 1, 0}, {math.MaxFloat32, 2, 0, inf}, {math.MaxFloat32, 2, -math.MaxFloat32, math.MaxFloat32},
		{-0x1p-149, 0.5, 0, negZero}, {0x1p-149, 0.5, 0x1p-149, 0x1p-148},
	} {
		var lanes, row [PanelRows]float32
		for i := range lanes {
			lanes[i], row[i] = c.c, c.a
		}
		row[3], lanes[3] = 1+0x1p-23, 0x1p-24 // a doubtful neighbour sends the others the slow way
		step(&lanes, &row, c.b)
		for _, got := range []float32{fma32(c.a, c.b, c.c), lanes[0], lanes[9]} {
			if math.Float32bits(got) != math.Float32bits(c.want) && !(got != got && c.want != c.want) {
				t.Errorf("fma(%g, %g, %g) = %g, want %g", c.a, c.b, c.c, got, c.want)
			}
		}
	}
}

// Each lane of each kernel must round once too, the CPU's and the twin's alike.
// One query serves all lanes, so they differ in c and in signs.
func TestEveryLaneIsRoundedOnce(t *testing.T) {
	everyLevel(t, func(t *testing.T) {
		r := rand.New(rand.NewPCG(5, 6))
		for range 200 {
			a, b, _ := almostTie(r)
			p := newProblem(PanelRows, TileQueries, 2, func() float32 { return 0 })
			want := make([]float32, PanelRows)
			for i := range want {
				c := math.Float32frombits(r.Uint32()&0x807fffff | math.Float32bits(a*b*0x1p24)&0x7f800000)
				x := []float32{a, -a, a * 0.7, a * 0.7, a * 0.3}[r.IntN(5)] // doubtful or not, beside others that are
				copy(p.rows.Row(i), []float32{c, x})
				p.scale[i], p.floor = 1, [TileQueries]float32{}
				want[i] = exactFMA(x, b, c)
			}
			for q := range TileQueries {
				copy(p.queries.Row(q), []float32{1, b})
			}
			p.pack()
			out, _ := p.tileOf(0)
			if scan := p.scan(0); !slices.Equal(scan, want) {
				t.Fatalf("Scan %b\nwant %b", scan, want)
			}
			for q := range out.Scores {
				if !slices.Equal(out.Scores[q][:], want) {
					t.Fatalf("Tile %b\nwant %b", out.Scores[q], want)
				}
			}
		}
	})
}

func FuzzFMA(f *testing.F) {
	f.Add(uint32(0x3f800001), uint32(0x33800000), uint32(0x3f800001))
	f.Add(uint32(0x00000001), uint32(0x3f000000), uint32(0x00000001))
	f.Fuzz(func(t *testing.T, a, b, c uint32) {
		checkFMA(t, math.Float32frombits(a), math.Float32frombits(b), math.Float32frombits(c))
	})
}
