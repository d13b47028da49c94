package kmeans

import (
	"context"
	"fmt"

	"membank/simd"
)

// AssignOptions say how Assign compares rows with centroids.
type AssignOptions struct {
	Spherical bool // by cosine; else by distance
	NoCodes   bool // without codes; the answer is the same
	Threads   int  // 0 means GOMAXPROCS
	Progress  func(Progress)
}

// Assignment says which centroid each row of a source is nearest to.
type Assignment struct {
	Labels    []int32   // of equal ones the first
	Scores    []float32 // cosine if spherical, else squared distance
	Objective float64   // Σ‖x−c‖², as in Result; likewise the mean cosine
	// MeanCosine is that of rows with their centroids, spherical only.
	MeanCosine float64
	Sizes
}

// Assign assigns every row of s to the nearest of the centroids, [clusters][dim],
// as the last pass of Train does: the same bits. There may be fewer rows than
// centroids.
func Assign(ctx context.Context, s Source, centroids simd.Matrix, o AssignOptions) (*Assignment, error) {
	if centroids.Rows < 1 || centroids.Dim != s.Dim() {
		return nil, fmt.Errorf("%w: %d centroids of %d dimensions, rows of %d", ErrOptions, centroids.Rows, centroids.Dim, s.Dim())
	}
	options := Options{Clusters: 1, Spherical: o.Spherical, NoCodes: o.NoCodes, Threads: o.Threads, Progress: o.Progress}
	if s.Rows() == 0 {
		return &Assignment{Sizes: sizesOf(nil, centroids.Rows)}, nil
	}
	if err := options.check(s); err != nil {
		return nil, err
	}
	options.Clusters = centroids.Rows
	r := newRun(s, options)
	if err := r.learn(ctx); err != nil {
		return nil, err
	}
	b := &Result{Centroids: centroids}
	if err := r.finish(ctx, b); err != nil {
		return nil, err
	}
	return &Assignment{
		Labels: r.labels, Scores: r.scores, Objective: b.Objective, MeanCosine: b.MeanCosine,
		Sizes: sizesOf(r.labels, centroids.Rows),
	}, nil
}
