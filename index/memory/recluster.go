package memory

import (
	"context"
	"fmt"

	"membank/index/kmeans"
	"membank/simd"
)

// Absent is the label of a sample that has no row, which cross-entropy ignores:
// DeepCluster-v2's −100.
const Absent = -100

// ReclusterOptions say how the rows of a finished epoch are clustered for the next.
type ReclusterOptions struct {
	// Heads are the numbers of prototypes, one a head: [3000, 3000, 3000]. Head h
	// clusters view h mod the number of views (the crops).
	Heads      []int
	Iterations int   // 0: 10; after the last rows are assigned once more
	Epoch      int64 // other epochs start from other rows
	// Slots are written in the order of the epoch, so Samples says of which sample
	// each slot is: [Rows]; where one occurs twice, as padding of a sampler, the later
	// slot wins. Nil: slot i is sample i.
	Samples []int64
	// Total is the number of samples; 0 is one more than the largest.
	Total int64
	// Absent labels samples that no slot has: 0 is the constant Absent; solo-learn
	// labels everything −1 before its first epoch ends.
	Absent  int64
	Threads int
}

// Head is the clustering of one head.
type Head struct {
	View      int
	Centroids simd.Matrix // [prototypes][dim], of length 1, to be copied into the prototypes' weights
	Labels    []int64     // [samples]
	kmeans.Sizes
	Objective float64
}

// Recluster runs the spherical k-means of DeepCluster-v2 over the rows that were
// written: it starts from random rows, a centroid is the normalised mean of its
// rows, and one without rows stays where it is and is never split. Writers wait
// meanwhile.
func (s *Slots) Recluster(ctx context.Context, o ReclusterOptions) ([]Head, error) {
	if o.Absent == 0 {
		o.Absent = Absent
	}
	if o.Iterations == 0 {
		o.Iterations = 10
	}
	if len(o.Heads) == 0 || o.Iterations < 0 {
		return nil, fmt.Errorf("%w: %d heads, %d iterations", ErrOptions, len(o.Heads), o.Iterations)
	}
	if o.Samples != nil && int64(len(o.Samples)) != s.c.Rows {
		return nil, fmt.Errorf("%w: samples of %d slots, the bank has %d", ErrOptions, len(o.Samples), s.c.Rows)
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	if err := s.usable(); err != nil {
		return nil, err
	}
	slots := make([]int64, 0, s.c.Rows)
	total := o.Total
	for slot, v := range s.version {
		if v < 0 {
			continue
		}
		sample := sampleOf(o.Samples, int64(slot))
		if sample < 0 || o.Total > 0 && sample >= o.Total {
			return nil, fmt.Errorf("%w: slot %d is of sample %d of %d", ErrOptions, slot, sample, o.Total)
		}
		total = max(total, sample+1)
		slots = append(slots, int64(slot))
	}
	heads := make([]Head, len(o.Heads))
	for h, clusters := range o.Heads {
		view := h % len(s.views)
		r, err := kmeans.Train(ctx, someRows{s.views[view], slots}, kmeans.Options{
			Clusters: clusters, Spherical: true, Seeding: kmeans.RandomRows, KeepEmpty: true, Iterations: o.Iterations,
			Seed: mix(s.c.Seed + mix(uint64(o.Epoch)<<16|uint64(h))), Threads: o.Threads,
		})
		if err != nil {
			return nil, fmt.Errorf("head %d: %w", h, err)
		}
		head := Head{View: view, Centroids: r.Centroids, Labels: make([]int64, total), Sizes: r.Sizes, Objective: r.Objective}
		for i := range head.Labels {
			head.Labels[i] = o.Absent
		}
		for i, slot := range slots {
			head.Labels[sampleOf(o.Samples, slot)] = int64(r.Labels[i])
		}
		heads[h] = head
	}
	return heads, nil
}

func sampleOf(samples []int64, slot int64) int64 {
	if samples == nil {
		return slot
	}
	return samples[slot]
}

// someRows are rows of an array as k-means reads them.
type someRows struct {
	a    *array
	rows []int64
}

func (s someRows) Rows() int { return len(s.rows) }
func (s someRows) Dim() int  { return s.a.Dim }

func (s someRows) Read(_ context.Context, first int, to simd.Matrix) error {
	for i := range to.Rows {
		copy(to.Row(i), s.a.row(s.rows[first+i]))
	}
	return nil
}

func (s someRows) Gather(_ context.Context, rows []int, to simd.Matrix) error {
	for i, r := range rows {
		copy(to.Row(i), s.a.row(s.rows[r]))
	}
	return nil
}
