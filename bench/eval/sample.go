package eval

import (
	"context"
	"math/rand/v2"
	"slices"

	"membank/simd"
	"membank/store"
)

// sample is some live rows of a bank, or all of them, in row order.
type sample struct {
	rows    []int64
	keys    []string
	labels  []int64
	vectors simd.Matrix
	whole   bool // every live row
}

// chooseRows picks n live rows, or all if there are no more, each set of them
// equally likely; the same seed gives the same rows.
func chooseRows(s *store.Snapshot, n int, seed uint64) []int64 {
	info := s.Info()
	wanted, left := min(int64(n), info.Rows), info.Rows
	rows := make([]int64, 0, wanted)
	rng := rand.New(rand.NewPCG(seed, 0x6d656d62616e6b))
	for row := int64(0); row < info.Next && wanted > 0; row++ {
		if !s.Alive(row) {
			continue
		}
		// Knuth's algorithm S: of the rows left, take each with the share wanted.
		if wanted == left || rng.Int64N(left) < wanted {
			rows = append(rows, row)
			wanted--
		}
		left--
	}
	return rows
}

// readRows reads the rows of the given numbers.
func readRows(ctx context.Context, s *store.Snapshot, rows []int64) (*sample, error) {
	out := &sample{
		rows: rows, keys: make([]string, 0, len(rows)), labels: make([]int64, 0, len(rows)),
		vectors: simd.NewMatrix(len(rows), s.Dim()), whole: int64(len(rows)) == s.Info().Rows,
	}
	at := 0
	for part := range slices.Chunk(rows, 4096) {
		got, err := s.Rows(ctx, part, store.Want{Vector: true})
		if err != nil {
			return nil, err
		}
		for _, r := range got {
			copy(out.vectors.Row(at), r.Vector)
			out.keys, out.labels = append(out.keys, r.Key), append(out.labels, r.Label)
			at++
		}
	}
	return out, nil
}

// takeSample reads n rows, or all.
func takeSample(ctx context.Context, s *store.Snapshot, n int, seed uint64) (*sample, error) {
	return readRows(ctx, s, chooseRows(s, n, seed))
}

// thin is n rows of a sample, at equal distances.
func (s *sample) thin(n int) *sample {
	if n >= len(s.rows) {
		return s
	}
	out := &sample{vectors: simd.NewMatrix(n, s.vectors.Dim)}
	for i := range n {
		at := int(int64(i) * int64(len(s.rows)) / int64(n))
		out.rows, out.keys, out.labels = append(out.rows, s.rows[at]), append(out.keys, s.keys[at]), append(out.labels, s.labels[at])
		copy(out.vectors.Row(i), s.vectors.Row(at))
	}
	return out
}
