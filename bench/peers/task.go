package peers

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"

	"membank/bench/perf"
	"membank/simd"
	"membank/store/dump"
)

// task is what everyone is asked: files of bare little-endian float32 rows of unit
// length, as drivers read them.
type task struct {
	name    string
	note    string // where the rows are from
	gallery string // path
	rows    int64
	dim     int
	queries string // path
	count   int    // queries
}

// filler makes rows first, first+1, … of some list.
type filler func(rows simd.Matrix, first int64)

// newTask makes the files of one set in dir.
func newTask(ctx context.Context, dir, set string, o Options) (*task, error) {
	t := &task{name: set, rows: o.Rows, count: o.Queries,
		gallery: filepath.Join(dir, "gallery.f32"), queries: filepath.Join(dir, "queries.f32")}
	var rows, queries filler
	switch set {
	case "ssl":
		maker, err := perf.NewMaker(perf.Gallery{Rows: o.Rows, Dim: o.Dim, Seed: o.Seed, Threads: o.Threads})
		if err != nil {
			return nil, err
		}
		t.dim, t.note = o.Dim, "made as self-supervised encoders make them"
		rows = func(m simd.Matrix, first int64) { maker.Fill(m, nil, first) }
		queries = func(m simd.Matrix, first int64) { maker.Fill(m, nil, o.Rows+first) }
	case "real":
		f, err := readFeatures(ctx, o.Features)
		if err != nil {
			return nil, err
		}
		q, err := readFeatures(ctx, o.FeatureQueries)
		if err != nil {
			return nil, err
		}
		if f.Dim != q.Dim {
			return nil, fmt.Errorf("%s has %d dimensions, %s %d", o.Features, f.Dim, o.FeatureQueries, q.Dim)
		}
		t.dim, t.note = f.Dim, fmt.Sprintf("%d embeddings of %s, repeated with noise", f.Rows, featureName(o.Features))
		rows, queries = tiled(f, o.Seed), tiled(q, o.Seed+1)
	default:
		return nil, fmt.Errorf("no set called %q (there are %v)", set, SetNames)
	}
	if err := writeRows(ctx, t.gallery, t.rows, t.dim, rows); err != nil {
		return nil, err
	}
	return t, writeRows(ctx, t.queries, int64(t.count), t.dim, queries)
}

// noise is the length of what is added to a unit row that repeats: the same picture
// seen through another augmentation.
const noise = 0.1

// tiled repeats f; every repetition but the first has noise of its own.
func tiled(f simd.Matrix, seed uint64) filler {
	return func(m simd.Matrix, first int64) {
		for i := range m.Rows {
			at, row := first+int64(i), m.Row(i)
			simd.Normalize(row, f.Row(int(at%int64(f.Rows))))
			if at < int64(f.Rows) {
				continue
			}
			r := rand.New(rand.NewPCG(seed, uint64(at)))
			for j := range row {
				row[j] += float32(noise / math.Sqrt(float64(m.Dim)) * r.NormFloat64())
			}
		}
	}
}

// featureName is a feature file's name with its directory, which tells more.
func featureName(path string) string {
	return filepath.ToSlash(filepath.Join(filepath.Base(filepath.Dir(path)), filepath.Base(path)))
}

func readFeatures(ctx context.Context, path string) (simd.Matrix, error) {
	r, err := dump.Open(path, dump.Options{})
	if err != nil {
		return simd.Matrix{}, err
	}
	defer r.Close()
	if r.Rows() < 1 {
		return simd.Matrix{}, fmt.Errorf("%s: holds no rows, or does not say how many", path)
	}
	m := simd.NewMatrix(int(r.Rows()), r.Dim())
	for done := 0; done < m.Rows; {
		n, err := r.Next(ctx, m.Slice(done, m.Rows))
		if err != nil {
			return simd.Matrix{}, err
		}
		done += n
	}
	return m, nil
}

// part is how many rows are made or read at once.
func part(dim int) int { return max(1, (4<<20)/(4*dim)) }

// writeRows writes rows, made by fill and brought to unit length.
func writeRows(ctx context.Context, path string, rows int64, dim int, fill filler) (err error) {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	w := bufio.NewWriterSize(f, 1<<20)
	m := simd.NewMatrix(part(dim), dim)
	for first := int64(0); first < rows; first += int64(m.Rows) {
		if err := ctx.Err(); err != nil {
			return err
		}
		some := m.Slice(0, int(min(int64(m.Rows), rows-first)))
		fill(some, first)
		for i := range some.Rows {
			simd.Normalize(some.Row(i), some.Row(i))
		}
		if err := binary.Write(w, binary.LittleEndian, some.Data[:some.Rows*dim]); err != nil {
			return err
		}
	}
	return w.Flush()
}

// readRows reads rows [first, first+m.Rows) of such a file.
func readRows(f io.ReaderAt, m simd.Matrix, first int64, buffer []byte) error {
	buffer = buffer[:4*m.Rows*m.Dim]
	if _, err := f.ReadAt(buffer, 4*int64(m.Dim)*first); err != nil {
		return err
	}
	_, err := binary.Decode(buffer, binary.LittleEndian, m.Data[:m.Rows*m.Dim])
	return err
}

// readAll reads a whole file of rows.
func readAll(path string, rows, dim int) (simd.Matrix, error) {
	f, err := os.Open(path)
	if err != nil {
		return simd.Matrix{}, err
	}
	defer f.Close()
	m := simd.NewMatrix(rows, dim)
	return m, readRows(f, m, 0, make([]byte, 4*rows*dim))
}
