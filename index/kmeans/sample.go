package kmeans

import (
	"context"
	"math/rand/v2"

	"membank/simd"
)

// Streams of random numbers, so that one use does not shift another's.
const (
	streamSeeds = iota + 1
	streamSample
	streamSplit
	streamBatch
	streamCandidates
	streamSwap
)

// random is a stream of random numbers of a restart.
func random(seed uint64, stream, restart int) *rand.Rand {
	return rand.New(rand.NewPCG(seed, uint64(restart)<<8|uint64(stream)))
}

// draw returns n different numbers below all, ascending, every set of them as
// likely as any other (Knuth's algorithm S). O(all).
func draw(rng *rand.Rand, n, all int) []int {
	n = min(n, all)
	rows := make([]int, 0, n)
	for row := 0; len(rows) < n; row++ {
		if rng.IntN(all-row) < n-len(rows) {
			rows = append(rows, row)
		}
	}
	return rows
}

// sample is some rows of a Source. It holds their numbers, 8 bytes each.
type sample struct {
	Source
	rows []int
}

// Sample returns the Source of n rows of s, chosen by seed; of s itself if there are
// no more. Its rows are in the order of s.
func Sample(s Source, n int, seed uint64) Source {
	if n >= s.Rows() {
		return s
	}
	return &sample{s, draw(random(seed, streamSample, 0), n, s.Rows())}
}

func (s *sample) Rows() int { return len(s.rows) }

func (s *sample) Read(ctx context.Context, first int, to simd.Matrix) error {
	return s.Source.Gather(ctx, s.rows[first:first+to.Rows], to)
}

func (s *sample) Gather(ctx context.Context, rows []int, to simd.Matrix) error {
	named := make([]int, len(rows))
	for i, row := range rows {
		named[i] = s.rows[row]
	}
	return s.Source.Gather(ctx, named, to)
}
