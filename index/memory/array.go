package memory

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"

	"membank/simd"
)

// array is the rows of one view, row after row: a gather of scattered rows touches
// the cache lines of those rows and no others, which panels, where a row's elements
// lie 128 bytes apart, would take sixteen times as many of. A search packs what it
// reads (view.go); that is a tenth of its work for the batches that come here.
type array struct {
	View
	rows    int64
	slab    slab
	scale   []float32 // 1/max(‖x‖, 1e-12), as the store computes it
	bias    []float32 // −‖x‖²/2
	maxNorm float64   // of all rows that were ever there
}

// maxNorm is the largest norm the store takes: its square fits a float32.
const maxNorm = 1e18

func newArray(rows int64, v View) (*array, error) {
	s, err := newSlab(rows * int64(v.Dim))
	if err != nil {
		return nil, fmt.Errorf("memory for %d rows of %d dimensions: %w", rows, v.Dim, err)
	}
	return &array{View: v, rows: rows, slab: s, scale: make([]float32, rows), bias: make([]float32, rows)}, nil
}

func (a *array) row(i int64) []float32 {
	d := int64(a.Dim)
	return a.slab.data[i*d : (i+1)*d : (i+1)*d]
}

// matrix is rows from..to, in place.
func (a *array) matrix(from, to int64) simd.Matrix {
	d := int64(a.Dim)
	return simd.Matrix{Data: a.slab.data[from*d : to*d], Rows: int(to - from), Dim: a.Dim}
}

// touched are rows whose cache lines are asked for before they are copied: copies
// one by one wait for one row at a time. With 4,096 rows of 512 bytes that saves a
// fifth of the time.
const touched = 32

// copyRows copies rows into m.
func (a *array) copyRows(m simd.Matrix, rows []int64) {
	const line = 64 / 4
	sum := float32(0)
	for at := 0; at < len(rows); at += touched {
		some := rows[at:min(at+touched, len(rows))]
		for _, id := range some {
			row := a.row(id)
			for d := 0; d < len(row); d += line {
				sum += row[d]
			}
		}
		for i, id := range some {
			copy(m.Row(at+i), a.row(id))
		}
	}
	runtime.KeepAlive(sum)
}

// apart is how many rows are copied at a time by one of two goroutines: a scattered
// row is some misses of the cache, and each core waits for its own.
const apart = 256

// copyApart is copyRows with two goroutines where there is enough to do. A helper
// that the system lets wait finds nothing left, and nobody waits for it.
func (a *array) copyApart(m simd.Matrix, rows []int64) {
	parts := (len(rows) + apart - 1) / apart
	if parts < 4 || runtime.GOMAXPROCS(0) < 2 {
		a.copyRows(m, rows)
		return
	}
	var next atomic.Int64
	var left sync.WaitGroup
	left.Add(parts)
	work := func() {
		for {
			i := int(next.Add(1)) - 1
			if i >= parts {
				return
			}
			from, to := i*apart, min((i+1)*apart, len(rows))
			a.copyRows(m.Slice(from, to), rows[from:to])
			left.Done()
		}
	}
	go work()
	work()
	left.Wait()
}

// set writes a row and what follows from it.
func (a *array) set(i int64, x []float32) {
	copy(a.row(i), x)
	a.maxNorm = max(a.maxNorm, a.columns(i))
}

// columns computes what the metrics need of row i, and returns its norm.
func (a *array) columns(i int64) float64 {
	norm := simd.Norm(a.row(i))
	a.scale[i] = float32(1 / max(norm, simd.Epsilon))
	a.bias[i] = float32(-0.5 * norm * norm)
	return norm
}

// initialise gives every row its initial value; seed is the bank's, view the
// array's number.
func (a *array) initialise(ctx context.Context, seed uint64, view int) error {
	const piece = 4096
	threads := runtime.GOMAXPROCS(0)
	pieces := make(chan int64)
	var wg sync.WaitGroup
	var mu sync.Mutex
	for range threads {
		wg.Go(func() {
			draw := newDrawer(a.View, seed, view)
			most := 0.0
			for first := range pieces {
				for i := first; i < min(first+piece, a.rows); i++ {
					draw.row(a.row(i), i)
					most = max(most, a.columns(i))
				}
			}
			mu.Lock()
			a.maxNorm = max(a.maxNorm, most)
			mu.Unlock()
		})
	}
	var err error
	for first := int64(0); first < a.rows; first += piece {
		if err = ctx.Err(); err != nil {
			break
		}
		pieces <- first
	}
	close(pieces)
	wg.Wait()
	return err
}

// drawer makes initial rows. Each row has a generator of its own, so any of them
// can be made again at any time, in any order.
type drawer struct {
	View
	seed    uint64
	view    int
	pcg     rand.PCG
	uniform *rand.Rand
	one     []float32 // of one rank
}

func newDrawer(v View, seed uint64, view int) *drawer {
	d := &drawer{View: v, seed: seed, view: view, one: make([]float32, v.Dim)}
	d.uniform = rand.New(&d.pcg)
	return d
}

func (d *drawer) row(x []float32, i int64) {
	if d.Ranks <= 1 {
		d.rank(x, i, 0)
		return
	}
	clear(x)
	for r := range d.Ranks {
		d.rank(d.one, i, r)
		for j, v := range d.one {
			x[j] += v
		}
	}
	for j := range x {
		x[j] /= float32(d.Ranks)
	}
}

// rank draws row i as one of several ranks would. A rank's stream is another one,
// as VISSL puts the rank into the seed.
func (d *drawer) rank(x []float32, i int64, rank int) {
	d.pcg.Seed(mix(d.seed+mix(uint64(d.view)<<32|uint64(rank))), mix(uint64(i)))
	switch d.Init {
	case InitUnit:
		for j := range x {
			x[j] = float32(d.uniform.NormFloat64())
		}
	case InitUniform, InitUniformUnit:
		a := math.Sqrt(3 / float64(len(x)))
		for j := range x {
			x[j] = float32((2*d.uniform.Float64() - 1) * a)
		}
	default:
		clear(x)
	}
	if d.Init == InitUnit || d.Init == InitUniformUnit {
		simd.Normalize(x, x)
	}
}

// mix is the finaliser of SplitMix64 (Steele, Lea, Flood 2014) after one step: near
// seeds become far ones.
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}
