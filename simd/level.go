package simd

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"sync/atomic"
)

// A Level names a set of kernels. Every level gives the same bits; they differ in
// speed.
type Level string

const (
	Generic Level = "generic" // plain Go, everywhere
	AVX2    Level = "avx2"    // AVX2, FMA and F16C: x86-64-v3
	AVX512  Level = "avx512"  // AVX-512 F, BW, DQ, VL: x86-64-v4
)

// kernels is one level's implementation of everything that has more than one.
// Lengths are checked by the exported functions.
type kernels struct {
	level           Level
	scan            func(scores, panels, scale, bias, query []float32)
	tile            func(out *TileScores, panel, scale, bias, tile []float32, floor *[TileQueries]float32) bool
	dot             func(a, b []float32) float32
	squaredDistance func(a, b []float32) float32
	pairs           func(s *PairScorer, chains, panels []float32, q *PairQueries, p []Pair)
	products        func(c *ProductTile, a, b []float64)
	squares         func(x []float32) (sums [8]float64) // len(x) is a multiple of 8
	transpose       func(out, in []float32, o, i stride, squares int)
	widenHalf       func(dst []float32, src []uint16)
	peakFMA         func(iterations int) int64
	readBytes       func(b []byte) uint64
	codes           *codeKernels
}

// levels holds what this CPU and its operating system run, best first.
var levels = append(native(), &generic)

var (
	active   atomic.Pointer[kernels]
	levelErr error
)

func init() {
	k, err := choose(os.Getenv("MEMBANK_SIMD"))
	active.Store(k)
	levelErr = err
}

// choose returns the level that a setting of MEMBANK_SIMD asks for, the best one
// if it asks for none; with an error, too.
func choose(setting string) (*kernels, error) {
	if setting == "" {
		return levels[0], nil
	}
	k, err := find(Level(setting))
	if err != nil {
		return levels[0], fmt.Errorf("MEMBANK_SIMD=%s: %w", setting, err)
	}
	return k, nil
}

// LevelError says why the level that the environment variable MEMBANK_SIMD asks
// for cannot be had, or is nil. A program should stop with it at its start: until
// then the best level serves.
func LevelError() error { return levelErr }

// Levels returns the levels this machine has, best first; the last is Generic.
func Levels() []Level {
	names := make([]Level, len(levels))
	for i, k := range levels {
		names[i] = k.level
	}
	return names
}

// Active returns the level that serves: the best one, or what MEMBANK_SIMD or Use
// chose.
func Active() Level { return active.Load().level }

// Use makes level l serve until restore is called. It is for tests and benchmarks:
// it changes the level of the whole process, and calls under way finish at their
// own. It panics if the machine lacks the level.
func Use(l Level) (restore func()) {
	k, err := find(l)
	if err != nil {
		panic("simd: " + err.Error())
	}
	before := active.Swap(k)
	return func() { active.Store(before) }
}

func find(l Level) (*kernels, error) {
	for _, k := range levels {
		if k.level == l {
			return k, nil
		}
	}
	if !slices.Contains([]Level{Generic, AVX2, AVX512}, l) {
		return nil, fmt.Errorf("no such SIMD level (known: generic, avx2, avx512)")
	}
	var have []string
	for _, k := range levels {
		have = append(have, string(k.level))
	}
	return nil, fmt.Errorf("this machine lacks SIMD level %s (it has: %s)", l, strings.Join(have, ", "))
}
