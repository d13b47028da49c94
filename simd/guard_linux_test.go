package simd

import (
	"fmt"
	"os"
	"runtime/debug"
	"slices"
	"strings"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A place maps memory between two pages that nobody may touch, and hands out
// slices against either, so that a kernel that reads or writes one byte too many
// dies instead of passing.
type place struct {
	name string
	at   func(room, bytes int) int // where in the room the bytes start
}

var places = []place{
	{"against the page before", func(room, bytes int) int { return 0 }},
	{"against the page behind", func(room, bytes int) int { return room - bytes }},
	{"one byte in", func(room, bytes int) int { return 1 }},
	{"seven bytes before the end", func(room, bytes int) int { return room - bytes - 7 }},
	{"three bytes before the end", func(room, bytes int) int { return room - bytes - 3 }},
}

// guarded returns memory for n values of T.
func guarded[T any](t *testing.T, p place, n int) []T {
	t.Helper()
	var zero T
	page, bytes := os.Getpagesize(), n*int(unsafe.Sizeof(zero))
	room := (bytes + 8 + page - 1) / page * page
	m, err := unix.Mmap(-1, 0, room+2*page, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Munmap(m) })
	for _, side := range [][]byte{m[:page], m[page+room:]} {
		if err := unix.Mprotect(side, unix.PROT_NONE); err != nil {
			t.Fatal(err)
		}
	}
	return unsafe.Slice((*T)(unsafe.Pointer(&m[page+p.at(room, bytes)])), n)
}

func guardedCopy[T any](t *testing.T, p place, s []T) []T {
	g := guarded[T](t, p, len(s))
	copy(g, s)
	return g
}

func TestKernelsStayWithinTheirMemory(t *testing.T) {
	everyLevel(t, func(t *testing.T) {
		for _, at := range places {
			for _, dim := range []int{1, 2, 3, 4, 5, 7, 8, 13, 31, 64, 97, 384, 1024} {
				t.Run(fmt.Sprint(at.name, "/dim=", dim), func(t *testing.T) {
					p := newProblem(64, TileQueries, dim, reals(uint64(dim)))
					var wantTiles [2]TileScores
					for i := range wantTiles {
						wantTiles[i], _ = p.tileOf(i)
					}
					wantScan, wantDot, wantDistance := p.scan(0), Dot(p.rows.Row(0), p.rows.Row(1)), SquaredDistance(p.rows.Row(0), p.rows.Row(1))

					panels, scale, bias := guardedCopy(t, at, p.panels), guardedCopy(t, at, p.scale), guardedCopy(t, at, p.bias)
					query, tile := guardedCopy(t, at, p.queries.Row(0)), guardedCopy(t, at, p.tile)
					scores := guarded[float32](t, at, 64)
					Scan(scores, panels, scale, bias, query)
					if !slices.Equal(scores, wantScan) {
						t.Errorf("Scan differs")
					}
					out := &guarded[TileScores](t, at, 1)[0]
					floor := (*[TileQueries]float32)(guardedCopy(t, at, p.floor[:]))
					for i, want := range wantTiles {
						Tile(out, panels[i*PanelRows*dim:][:PanelRows*dim], scale[i*PanelRows:][:PanelRows], bias[i*PanelRows:][:PanelRows], tile, floor)
						if *out != want {
							t.Errorf("Tile of panel %d differs", i)
						}
					}
					a, b := guardedCopy(t, at, p.rows.Row(0)), guardedCopy(t, at, p.rows.Row(1))
					if Dot(a, b) != wantDot || SquaredDistance(a, b) != wantDistance {
						t.Errorf("Dot or SquaredDistance differs")
					}
					if Norm(a) != Norm(p.rows.Row(0)) {
						t.Errorf("Norm differs")
					}
					dst, want := guarded[float32](t, at, dim), make([]float32, dim)
					Normalize(dst, a)
					Normalize(want, p.rows.Row(0))
					if !slices.Equal(dst, want) {
						t.Errorf("Normalize differs")
					}
					Blend(dst, a, b, 0.9)
					Blend(want, p.rows.Row(0), p.rows.Row(1), 0.9)
					if !slices.Equal(dst, want) {
						t.Errorf("Blend differs")
					}
					halves, packed := guarded[uint16](t, at, dim), guarded[float32](t, at, 64*dim)
					NarrowHalf(halves, a)
					WidenHalf(dst, halves)
					WidenHalf(want, slices.Clone(halves))
					if !slices.Equal(dst, want) {
						t.Errorf("WidenHalf differs")
					}
					Pack(packed, Matrix{Data: guardedCopy(t, at, p.rows.Data), Rows: 64, Dim: dim})
					if !slices.Equal(packed, p.panels) {
						t.Errorf("Pack differs")
					}
					back := guarded[float32](t, at, 64*dim)
					Unpack(Matrix{Data: back, Rows: 64, Dim: dim}, packed)
					if !slices.Equal(back, p.rows.Data) {
						t.Errorf("Unpack differs")
					}
					if got, want := Norm(guardedCopy(t, at, p.rows.Row(0))), Norm(p.rows.Row(0)); got != want {
						t.Errorf("Norm differs")
					}
					bytes := guarded[byte](t, at, 511+dim)
					if ReadBytes(bytes) != 0 {
						t.Errorf("ReadBytes differs")
					}
				})
			}
		}
	})
}

// A level whose table names another's assembly would pass every test of results.
// Touching a forbidden page stops each kernel where it runs: the stack says which
// it was.
func TestEachLevelRunsItsOwnAssembly(t *testing.T) {
	m, err := unix.Mmap(-1, 0, 1<<16, unix.PROT_NONE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Munmap(m)
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	floats := unsafe.Slice((*float32)(unsafe.Pointer(&m[0])), 12*32)
	halves := unsafe.Slice((*uint16)(unsafe.Pointer(&m[0])), 32)
	suffix := map[Level]string{Generic: "Generic", AVX2: "AVX2", AVX512: "AVX512"}
	for _, k := range levels {
		chain, shared := suffix[k.level], suffix[k.level]
		if k.level != Generic {
			chain, shared = "FMA", "AVX2"
		}
		for want, call := range map[string]func(){
			"scan" + suffix[k.level]:      func() { k.scan(floats[:32], floats[:32], floats[:32], floats[:32], floats[:1]) },
			"tile" + suffix[k.level]:      func() { k.tile(new(TileScores), floats[:32], floats[:32], floats[:32], floats[:12], new([12]float32)) },
			"widenHalf" + suffix[k.level]: func() { k.widenHalf(make([]float32, 32), halves) },
			"readBytes" + suffix[k.level]: func() { k.readBytes(m) },
			"squares" + shared:            func() { k.squares(floats[:8]) },
			"transpose" + shared:          func() { k.transpose(make([]float32, 64), floats[:64], stride{8, 64}, stride{8, 64}, 1) },
			"dot" + chain:                 func() { k.dot(floats[:1], floats[:1]) },
			"squaredDistance" + chain:     func() { k.squaredDistance(floats[:1], floats[:1]) },
		} {
			if stack := stackOfFault(call); !strings.Contains(stack, "simd."+want+"(") {
				t.Errorf("%s: %s is not in\n%s", k.level, want, stack)
			}
		}
	}
}

func stackOfFault(f func()) (stack string) {
	defer func() {
		if recover() != nil {
			stack = string(debug.Stack())
		}
	}()
	f()
	return "no fault"
}
