package simd

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"reflect"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// MEMBANK_REQUIRE=avx512,avx2 names levels that must not be skipped: where a CPU
// is known to have them, losing one silently would lose its tests too.
func TestRequiredLevels(t *testing.T) {
	for name := range strings.SplitSeq(os.Getenv("MEMBANK_REQUIRE"), ",") {
		if name != "" && !slices.Contains(Levels(), Level(name)) {
			t.Errorf("MEMBANK_REQUIRE names %s, but this machine has %v", name, Levels())
		}
	}
}

// Each level must bring kernels of its own: one that fell back to the twin would
// pass every other test.
func TestLevelsShareNoKernel(t *testing.T) {
	type kernel struct {
		level Level
		name  string
	}
	seen := map[uintptr]kernel{}
	for _, k := range levels {
		v := reflect.ValueOf(k).Elem()
		for i := range v.NumField() {
			if v.Field(i).Kind() != reflect.Func {
				continue
			}
			this := kernel{k.level, v.Type().Field(i).Name}
			other, taken := seen[v.Field(i).Pointer()]
			// One chain has no width to gain, and squares of 8 no use for more.
			shared := slices.Contains([]string{"dot", "squaredDistance", "pairs", "squares", "transpose"}, this.name)
			if taken && !(shared && other.level != Generic) {
				t.Errorf("%v is %v", this, other)
			}
			seen[v.Field(i).Pointer()] = this
		}
	}
}

// The exported functions must reach the level in use. Every kernel is replaced by
// one that counts and calls the real one.
func TestCallsReachTheLevelInUse(t *testing.T) {
	for _, k := range slices.Clone(levels) {
		counts := map[string]int{}
		counted := *k
		v := reflect.ValueOf(&counted).Elem()
		counted.scan = func(a, b, c, d, e []float32) { counts["scan"]++; k.scan(a, b, c, d, e) }
		counted.tile = func(out *TileScores, b, c, d, e []float32, f *[TileQueries]float32) bool {
			counts["tile"]++
			return k.tile(out, b, c, d, e, f)
		}
		counted.dot = func(a, b []float32) float32 { counts["dot"]++; return k.dot(a, b) }
		counted.squaredDistance = func(a, b []float32) float32 { counts["squaredDistance"]++; return k.squaredDistance(a, b) }
		counted.pairs = func(s *PairScorer, a, b []float32, q *PairQueries, p []Pair) {
			counts["pairs"]++
			k.pairs(s, a, b, q, p)
		}
		counted.products = func(c *ProductTile, a, b []float64) { counts["products"]++; k.products(c, a, b) }
		counted.squares = func(a []float32) [8]float64 { counts["squares"]++; return k.squares(a) }
		counted.transpose = func(a, b []float32, c, d stride, n int) { counts["transpose"]++; k.transpose(a, b, c, d, n) }
		counted.widenHalf = func(a []float32, b []uint16) { counts["widenHalf"]++; k.widenHalf(a, b) }
		counted.peakFMA = func(n int) int64 { counts["peakFMA"]++; return k.peakFMA(n) }
		counted.readBytes = func(b []byte) uint64 { counts["readBytes"]++; return k.readBytes(b) }

		before := active.Swap(&counted)
		p := newProblem(32, 12, 8, reals(1))
		p.scan(0)
		p.tileOf(0)
		Dot(p.rows.Row(0), p.rows.Row(1))
		SquaredDistance(p.rows.Row(0), p.rows.Row(1))
		new(PairScorer).Score(make([]float32, 2), make([]float32, 32), make([]float32, 32), make([]float32, 32), NewPairQueries(NewMatrix(1, 1)), []Pair{{Lane: 1}, {Lane: 2}})
		Products(new(ProductTile), make([]float64, 8), make([]float64, 24))
		Norm(p.rows.Row(0))
		Unpack(NewMatrix(8, 8), make([]float32, 32*8))
		WidenHalf(make([]float32, 20), make([]uint16, 20))
		flops := PeakFMA(10)
		ReadBytes(make([]byte, 1024))
		active.Store(before)

		for i := range v.NumField() {
			if name := v.Type().Field(i).Name; v.Field(i).Kind() == reflect.Func && counts[name] == 0 {
				t.Errorf("%s: %s was not called", k.level, name)
			}
		}
		if want := map[Level]int64{Generic: 640, AVX2: 3840, AVX512: 7680}[k.level]; flops != want {
			t.Errorf("%s: PeakFMA(10) did %d operations, want %d", k.level, flops, want)
		}
	}
}

// Tests under MEMBANK_SIMD must run under what it says. Reading it here, too, keeps
// go test from answering with the cached result of another setting.
func TestTheLevelAskedForServes(t *testing.T) {
	if asked := Level(os.Getenv("MEMBANK_SIMD")); LevelError() != nil || asked != "" && Active() != asked {
		t.Errorf("MEMBANK_SIMD=%s: %s serves, error %v", asked, Active(), LevelError())
	}
}

func TestUseRestores(t *testing.T) {
	before := Active()
	for _, l := range Levels() {
		restore := Use(l)
		if Active() != l {
			t.Errorf("Use(%s) left %s", l, Active())
		}
		restore()
	}
	if Active() != before {
		t.Errorf("%s became %s", before, Active())
	}
	if last := Levels()[len(Levels())-1]; last != Generic {
		t.Errorf("the last level is %s", last)
	}
}

func TestSettingsOfTheEnvironment(t *testing.T) {
	for _, l := range []Level{"", Generic, AVX2, AVX512, "sse", "AVX2"} {
		k, err := choose(string(l))
		switch {
		case l == "" || slices.Contains(Levels(), l):
			if err != nil || l != "" && k.level != l || l == "" && k != levels[0] {
				t.Errorf("MEMBANK_SIMD=%s chooses %s, error %v", l, k.level, err)
			}
		case err == nil || !strings.Contains(err.Error(), "MEMBANK_SIMD="+string(l)+": "):
			t.Errorf("MEMBANK_SIMD=%s: error %v", l, err)
		}
	}
}

// The environment is read once, when a process starts.
func TestEnvironmentForcesTheLevel(t *testing.T) {
	if os.Getenv("MEMBANK_SIMD_CHILD") != "" {
		fmt.Printf("level %s, error %v\n", Active(), LevelError())
		return
	}
	for set, want := range map[string]string{
		"generic": "level generic, error <nil>\n",
		"sse":     "error MEMBANK_SIMD=sse: no such SIMD level (known: generic, avx2, avx512)\n",
	} {
		child := exec.Command(os.Args[0], "-test.run=^TestEnvironmentForcesTheLevel$")
		child.Env = append(os.Environ(), "MEMBANK_SIMD_CHILD=1", "MEMBANK_SIMD="+set)
		got, err := child.CombinedOutput()
		if errors.Is(err, syscall.ENOEXEC) {
			t.Skip("the test runs under an emulator that its children do not have")
		}
		if err != nil || !strings.Contains(string(got), want) {
			t.Errorf("MEMBANK_SIMD=%s: %v\n%swant\n%s", set, err, got, want)
		}
	}
}
