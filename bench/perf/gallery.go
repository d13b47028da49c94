package perf

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"runtime"
	"sync"

	"membank/simd"
	"membank/store/dump"
)

// Gallery describes rows as self-supervised encoders make them: a common mean
// direction, classes around centres, a spectrum that falls quickly (a few dozen
// directions hold nearly all the variance), a little noise in every dimension, and
// norms that vary. Row i depends on Seed and i only, so any part can be made by
// anyone at any time; rows beyond the gallery are queries it has not seen.
type Gallery struct {
	Rows    int64
	Dim     int
	Classes int // 0: 100
	Rank    int // directions with structure; 0: 64
	// Noise is the energy of what is in no direction, as a share of the
	// structure's; 0: 0.05.
	Noise   float64
	Seed    uint64 // another seed is another encoder
	Threads int    // 0: GOMAXPROCS; does not change a bit
}

const (
	decay      = 0.5  // standard deviation along direction r: (r+1)^-decay
	within     = 2.0  // spread within a class, in units of that between centres
	meanShare  = 0.8  // energy of the mean, in units of the structure's
	normSpread = 0.15 // standard deviation of the norms, whose mean is 1
)

// A Maker makes the rows of a Gallery. It is safe for concurrent use.
//
//	row = norm · unit( mean + Σ_r latent_r · direction_r + noise )
//
// The sum is a matrix product, and simd.Tile, whose bits are the same at every
// level, computes it for 32 rows and 12 dimensions at a time.
type Maker struct {
	Gallery
	first   int64 // row number of the first row in the encoder's endless list
	ranks   int
	spread  []float32   // [ranks]
	centres simd.Matrix // [Classes][ranks]
	mean    []float32   // [Dim]
	noise   float32
	tiles   [][]float32 // directions, 12 dimensions a tile, each [ranks][12]
}

// NewMaker computes what all rows share.
func NewMaker(g Gallery) (*Maker, error) {
	g.Classes, g.Rank, g.Noise, g.Threads = or(g.Classes, 100), or(g.Rank, 64), or(g.Noise, 0.05), or(g.Threads, runtime.GOMAXPROCS(0))
	if g.Rows < 1 || g.Dim < 1 || g.Classes < 1 || g.Rank < 1 || !(g.Noise >= 0) || g.Threads < 1 {
		return nil, fmt.Errorf("a gallery of %d rows, %d dimensions, %d classes, rank %d, noise %v", g.Rows, g.Dim, g.Classes, g.Rank, g.Noise)
	}
	m := &Maker{Gallery: g, ranks: min(g.Rank, g.Dim)}
	r := newRandom(g.Seed, shared, 0)
	energy := 0.0
	for i := range m.ranks {
		s := math.Pow(float64(i+1), -decay)
		energy += s * s
		m.spread = append(m.spread, float32(s))
	}
	m.centres = simd.NewMatrix(g.Classes, m.ranks)
	for i := range m.centres.Data {
		m.centres.Data[i] = r.normal() * m.spread[i%m.ranks]
	}
	energy *= 1 + within*within
	m.noise = float32(math.Sqrt(g.Noise * energy / float64(g.Dim)))
	m.mean = make([]float32, g.Dim)
	for i := range m.mean {
		m.mean[i] = r.normal() * float32(math.Sqrt(meanShare*energy/float64(g.Dim)))
	}
	for d := 0; d < g.Dim; d += simd.TileQueries {
		directions := simd.NewMatrix(min(simd.TileQueries, g.Dim-d), m.ranks)
		for i := range directions.Data {
			directions.Data[i] = r.normal() / float32(math.Sqrt(float64(g.Dim)))
		}
		tile := make([]float32, simd.TileQueries*m.ranks)
		simd.PackQueries(tile, directions)
		m.tiles = append(m.tiles, tile)
	}
	return m, nil
}

// Fill makes rows first, first+1, … into rows, and their labels if labels is not
// nil, on Threads goroutines.
func (m *Maker) Fill(rows simd.Matrix, labels []int64, first int64) {
	var wg sync.WaitGroup
	per := (rows.Rows + m.Threads - 1) / m.Threads
	per = max(simd.PanelRows, (per+simd.PanelRows-1)/simd.PanelRows*simd.PanelRows)
	for from := 0; from < rows.Rows; from += per {
		to := min(from+per, rows.Rows)
		wg.Go(func() {
			s := newShaper(m)
			for at := from; at < to; at += simd.PanelRows {
				end := min(at+simd.PanelRows, to)
				var part []int64
				if labels != nil {
					part = labels[at:end]
				}
				s.panel(rows.Slice(at, end), part, m.first+first+int64(at))
			}
		})
	}
	wg.Wait()
}

// shaper is the scratch of one goroutine.
type shaper struct {
	*Maker
	latent simd.Matrix // [32][ranks]
	packed []float32
	scale  []float32
	bias   []float32
	floor  [simd.TileQueries]float32
	scores simd.TileScores
}

func newShaper(m *Maker) *shaper {
	s := &shaper{
		Maker: m, latent: simd.NewMatrix(simd.PanelRows, m.ranks),
		packed: make([]float32, simd.PanelRows*m.ranks),
		scale:  make([]float32, simd.PanelRows), bias: make([]float32, simd.PanelRows),
	}
	for i := range s.scale {
		s.scale[i] = 1
	}
	for i := range s.floor {
		s.floor[i] = float32(math.Inf(1))
	}
	return s
}

// panel makes up to 32 rows.
func (s *shaper) panel(rows simd.Matrix, labels []int64, first int64) {
	for i := range rows.Rows {
		r := newRandom(s.Seed, latents, uint64(first)+uint64(i))
		class := int(r.next() % uint64(s.Classes))
		if labels != nil {
			labels[i] = int64(class)
		}
		for j, c := range s.centres.Row(class) {
			s.latent.Row(i)[j] = c + float32(within)*s.spread[j]*r.normal()
		}
	}
	simd.Pack(s.packed, s.latent)
	for t, tile := range s.tiles {
		simd.Tile(&s.scores, s.packed, s.scale, s.bias, tile, &s.floor)
		d := t * simd.TileQueries
		for q := range min(simd.TileQueries, s.Dim-d) {
			for i := range rows.Rows {
				rows.Data[i*s.Dim+d+q] = s.scores.Scores[q][i] + s.mean[d+q]
			}
		}
	}
	for i := range rows.Rows {
		r := newRandom(s.Seed, noises, uint64(first)+uint64(i))
		norm := 1 + normSpread*r.normal()
		row := rows.Row(i)
		for j := 0; j < len(row); j += 2 {
			a, b := r.pair()
			row[j] += s.noise * a
			if j+1 < len(row) {
				row[j+1] += s.noise * b
			}
		}
		simd.Normalize(row, row)
		for j := range row {
			row[j] *= norm
		}
	}
}

// Batches makes the whole gallery, size rows at a time, into the same memory.
func (m *Maker) Batches(ctx context.Context, size int, fn func(first int64, rows simd.Matrix, labels []int64) error) error {
	rows, labels := simd.NewMatrix(size, m.Dim), make([]int64, size)
	for first := int64(0); first < m.Rows; first += int64(size) {
		if err := ctx.Err(); err != nil {
			return err
		}
		n := int(min(int64(size), m.Rows-first))
		m.Fill(rows.Slice(0, n), labels[:n], first)
		if err := fn(first, rows.Slice(0, n), labels[:n]); err != nil {
			return err
		}
	}
	return nil
}

// after is the maker of the n rows that follow the gallery.
func (m *Maker) after(n int64) *Maker {
	next := *m
	next.first, next.Rows = m.first+m.Rows, n
	return &next
}

// batchRows is how many rows are made at once: 8 MiB of them.
func batchRows(dim int) int { return max(simd.PanelRows, (8<<20)/(4*dim)) }

// WriteNPY writes the gallery as float32 to path, and its labels as int64 to
// labelsPath unless that is empty. Both are synced.
func (m *Maker) WriteNPY(ctx context.Context, path, labelsPath string, p Progress) (err error) {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	w, err := dump.NewNPYWriter(f, "<f4", m.Rows, int64(m.Dim))
	if err != nil {
		return err
	}
	var all []int64
	err = m.Batches(ctx, batchRows(m.Dim), func(first int64, rows simd.Matrix, labels []int64) error {
		if labelsPath != "" {
			all = append(all, labels...)
		}
		p.tell("writing "+path, first, m.Rows)
		return w.Float32(rows.Data[:rows.Rows*rows.Dim])
	})
	if err = errors.Join(err, w.Close()); err != nil || labelsPath == "" {
		return errors.Join(err, f.Sync())
	}
	l, err := os.Create(labelsPath)
	if err != nil {
		return err
	}
	return errors.Join(dump.WriteNPY(l, all), l.Sync(), l.Close(), f.Sync())
}

// random is splitmix64: a stream for each purpose and row, of integer arithmetic
// only, so that it is the same everywhere.
type random uint64

// Purposes of streams.
const (
	shared = iota
	latents
	noises
)

func newRandom(seed uint64, purpose, row uint64) random {
	r := random(seed ^ purpose<<62)
	r = random(r.next() ^ row*0xd1342543de82ef95)
	return random(r.next())
}

func (r *random) next() uint64 {
	*r += 0x9e3779b97f4a7c15
	z := uint64(*r)
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}

// normal is nearly normal, mean 0, variance 1: the sum of four uniform numbers.
func (r *random) normal() float32 {
	z := r.next()
	sum := int32(z&0xffff) + int32(z>>16&0xffff) + int32(z>>32&0xffff) + int32(z>>48)
	return float32(sum-2*0xffff) * (1.7320508 / 0x10000)
}

// pair is two numbers of mean 0 and variance 1, each the sum of two uniform ones.
func (r *random) pair() (a, b float32) {
	z := r.next()
	a = float32(int32(z&0xffff)+int32(z>>16&0xffff)-0xffff) * (2.4494898 / 0x10000)
	b = float32(int32(z>>32&0xffff)+int32(z>>48)-0xffff) * (2.4494898 / 0x10000)
	return a, b
}
