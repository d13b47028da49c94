package kmeans

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"membank/simd"
)

// blobs are rows around some centres, some of them twice, with a zero row.
func blobs(rows, dim, centres int, seed uint64) simd.Matrix {
	rng := rand.New(rand.NewPCG(seed, 1))
	c := simd.NewMatrix(centres, dim)
	for i := range c.Data {
		c.Data[i] = float32(rng.NormFloat64())
	}
	m := simd.NewMatrix(rows, dim)
	for i := range rows {
		centre := c.Row(rng.IntN(centres))
		for d := range dim {
			m.Row(i)[d] = centre[d] + float32(0.4*rng.NormFloat64())
		}
		if i > 0 && i%50 == 0 {
			copy(m.Row(i), m.Row(i-1))
		}
	}
	if rows > 10 {
		clear(m.Row(7))
	}
	return m
}

// naive is Lloyd's algorithm, one row and one centroid at a time, in float64. Empty
// clusters keep their centroid.
func naive(m simd.Matrix, start simd.Matrix, spherical bool, iterations int) (labels []int32, objective float64, centroids [][]float64) {
	x := make([][]float64, m.Rows)
	for i := range x {
		x[i] = wide(m.Row(i), spherical)
	}
	for c := range start.Rows {
		centroids = append(centroids, wide(start.Row(c), spherical))
	}
	labels = make([]int32, m.Rows)
	for it := 0; ; it++ {
		objective = 0
		for i := range x {
			best := math.Inf(1)
			for c := range centroids {
				d := 0.0
				if spherical {
					d = 2
				}
				for j := range x[i] {
					if spherical {
						d -= 2 * x[i][j] * centroids[c][j]
					} else {
						d += (x[i][j] - centroids[c][j]) * (x[i][j] - centroids[c][j])
					}
				}
				if d < best {
					best, labels[i] = d, int32(c)
				}
			}
			objective += best
		}
		if it == iterations {
			return labels, objective, centroids
		}
		for c := range centroids {
			sum, n := make([]float64, m.Dim), 0.0
			for i := range x {
				if labels[i] == int32(c) {
					n++
					for j := range sum {
						sum[j] += x[i][j]
					}
				}
			}
			if n == 0 {
				continue
			}
			if spherical {
				n = 0
				for _, v := range sum {
					n += v * v
				}
				if n = math.Sqrt(n); n == 0 {
					continue
				}
			}
			for j := range sum {
				centroids[c][j] = sum[j] / n
			}
		}
	}
}

func wide(x []float32, unit bool) []float64 {
	w, n := make([]float64, len(x)), 1.0
	if unit {
		n = max(simd.Norm(x), 1e-12)
	}
	for i, v := range x {
		w[i] = float64(v) / n
	}
	return w
}

func mustTrain(t testing.TB, s Source, o Options) *Result {
	t.Helper()
	r, err := Train(context.Background(), s, o)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// From the same centroids, every iteration has the objective, and at the end the
// labels and centroids, that the naive loop has.
func TestTrainIsLloyd(t *testing.T) {
	for _, spherical := range []bool{false, true} {
		for _, size := range []struct{ rows, dim, k int }{{40, 1, 3}, {300, 5, 7}, {500, 33, 20}, {700, 64, 1}, {90, 200, 40}} {
			if spherical && size.dim == 1 {
				continue // the cosine of numbers is ±1: nothing but ties
			}
			m := blobs(size.rows, size.dim, 2*size.k, 3)
			start := simd.NewMatrix(size.k, size.dim)
			for c := range size.k {
				copy(start.Row(c), m.Row(9+c))
			}
			for _, iterations := range []int{1, 2, 10} {
				t.Run(fmt.Sprint("spherical=", spherical, size, " iterations=", iterations), func(t *testing.T) {
					labels, objective, centroids := naive(m, start, spherical, iterations)
					r := mustTrain(t, Matrix(m), Options{
						Clusters: size.k, Spherical: spherical, Iterations: iterations, Centroids: start, KeepEmpty: true,
					})
					if math.Abs(r.Objective-objective) > 1e-5*objective+1e-5 {
						t.Errorf("objective %v, the naive one %v", r.Objective, objective)
					}
					differ := 0
					for i := range labels {
						if labels[i] != r.Labels[i] {
							differ++ // a near tie that float32 decides
						}
					}
					if differ > size.rows/200 {
						t.Errorf("%d of %d labels differ", differ, size.rows)
					}
					for c := range centroids {
						for d, x := range centroids[c] {
							if math.Abs(x-float64(r.Centroids.Row(c)[d])) > 1e-3 {
								t.Fatalf("centroid %d, dim %d: %v, the naive one %v", c, d, r.Centroids.Row(c)[d], x)
							}
						}
					}
					for i := 1; i < len(r.History); i++ {
						if r.History[i] > r.History[i-1]*(1+1e-6) {
							t.Errorf("the objective rises: %v", r.History)
						}
					}
				})
			}
		}
	}
}

// What is returned belongs together: labels are nearest centroids, scores and
// objective those of the labels, sizes their counts.
func TestResultBelongsTogether(t *testing.T) {
	m := blobs(900, 24, 30, 4)
	for name, o := range map[string]Options{
		"euclidean": {Clusters: 25},
		"spherical": {Clusters: 25, Spherical: true},
		"few":       {Clusters: 25, Iterations: 2},
		"tolerance": {Clusters: 25, Tolerance: 0.05},
		"restarts":  {Clusters: 25, Restarts: 3},
		"sample":    {Clusters: 25, MaxPerCluster: 8},
		"batches":   {Clusters: 25, Batch: 100, Iterations: 40},
		"sph batch": {Clusters: 25, Batch: 100, Iterations: 40, Spherical: true},
		"refine":    {Clusters: 25, Refine: 5},
		"sph ref":   {Clusters: 25, Refine: 3, Spherical: true, MaxPerCluster: 20},
		"random":    {Clusters: 25, Seeding: RandomRows, Spherical: true},
		"swaps":     {Clusters: 25, Swaps: 6},
		"sph swaps": {Clusters: 25, Swaps: 6, Refine: 2, Spherical: true, Iterations: 3, Restarts: 2},
	} {
		t.Run(name, func(t *testing.T) {
			r := mustTrain(t, Matrix(m), o)
			labels, objective, _ := naive(m, r.Centroids, o.Spherical, 0)
			differ := 0
			for i := range labels {
				if labels[i] != r.Labels[i] {
					differ++
				}
			}
			if differ > 2 || math.Abs(r.Objective-objective) > 1e-4*objective {
				t.Errorf("%d labels are not the nearest, objective %v instead of %v", differ, r.Objective, objective)
			}
			var total, squares float64
			counts := make([]int64, o.Clusters)
			for i, c := range r.Labels {
				counts[c]++
				if o.Spherical {
					total += 2 - 2*float64(r.Scores[i])
				} else {
					total += float64(r.Scores[i])
				}
			}
			if math.Abs(total-r.Objective) > 1e-6*total {
				t.Errorf("scores add up to %v, objective %v", total, r.Objective)
			}
			if !slices.Equal(counts, r.Counts) {
				t.Errorf("counts %v, of labels %v", r.Counts, counts)
			}
			for _, n := range counts {
				squares += float64(n) / 900 * float64(n) / 900
			}
			if math.Abs(r.Imbalance-25*squares) > 1e-9 {
				t.Errorf("imbalance %v, want %v", r.Imbalance, 25*squares)
			}
			for c := range r.Centroids.Rows {
				if n := simd.Norm(r.Centroids.Row(c)); o.Spherical && math.Abs(n-1) > 1e-6 {
					t.Errorf("centroid %d has length %v", c, n)
				}
			}
			again, err := Assign(context.Background(), Matrix(m), r.Centroids, AssignOptions{Spherical: o.Spherical})
			if err != nil || !slices.Equal(again.Labels, r.Labels) || !slices.Equal(again.Scores, r.Scores) || again.Objective != r.Objective {
				t.Errorf("Assign says otherwise: %v", err)
			}
		})
	}
}

// The same bits on any number of threads, at every level, with codes and without.
func TestThreadsAndLevelsDoNotMatter(t *testing.T) {
	m := blobs(5000, 70, 60, 5)
	small := m.Slice(0, 900)
	for name, c := range map[string]struct {
		m simd.Matrix
		o Options
	}{
		"euclidean": {small, Options{Clusters: 40, Iterations: 6}},
		"spherical": {small, Options{Clusters: 40, Iterations: 6, Spherical: true}},
		"batches":   {small, Options{Clusters: 40, Iterations: 20, Batch: 300}},
		"refine":    {small, Options{Clusters: 20, Iterations: 5, Refine: 3, Spherical: true}},
		"swaps":     {small, Options{Clusters: 20, Iterations: 5, Swaps: 4, Spherical: true}},
		"codes":     {m, Options{Clusters: 600, Iterations: 3, Spherical: true}},
		"codes l2":  {m, Options{Clusters: 600, Iterations: 2}},
	} {
		t.Run(name, func(t *testing.T) {
			var want *Result
			for _, level := range simd.Levels() {
				if level == simd.Generic && c.m.Rows > 1000 {
					continue // minutes
				}
				for _, threads := range []int{1, 7} {
					for _, noCodes := range []bool{false, true} {
						restore := simd.Use(level)
						c.o.Threads, c.o.NoCodes = threads, noCodes
						r, err := trainCoded(c.m, c.o)
						restore()
						if err != nil {
							t.Fatal(err)
						}
						if want == nil {
							want = r
						}
						if !slices.Equal(r.Labels, want.Labels) || !slices.Equal(r.Scores, want.Scores) ||
							!slices.Equal(r.Centroids.Data, want.Centroids.Data) || r.Objective != want.Objective {
							t.Fatalf("%v, %d threads, no codes %v: another result, objective %v and %v", level, threads, noCodes, r.Objective, want.Objective)
						}
					}
				}
			}
		})
	}
}

// trainCoded is Train, but learns codes for few centroids, too.
func trainCoded(m simd.Matrix, o Options) (*Result, error) {
	defer func(was int) { codesFrom = was }(codesFrom)
	codesFrom = 0
	return Train(context.Background(), Matrix(m), o)
}

// Swaps only ever lower the objective, and find the optimum that is there to find:
// groups of which two have one centroid and one has two.
func TestSwapsFindTheBetterOptimum(t *testing.T) {
	m := simd.NewMatrix(400, 3)
	rng := rand.New(rand.NewPCG(4, 4))
	for i := range m.Rows {
		for d := range m.Row(i) {
			m.Row(i)[d] = float32(rng.NormFloat64())
		}
		m.Row(i)[i%4%2] += float32(100 * (1 + i%4)) // four groups, far apart
	}
	start := simd.NewMatrix(4, 3)
	for c, row := range []int{0, 4, 8, 1} { // three in the first group
		copy(start.Row(c), m.Row(row))
	}
	stuck := mustTrain(t, Matrix(m), Options{Clusters: 4, Centroids: start})
	free := mustTrain(t, Matrix(m), Options{Clusters: 4, Centroids: start, Swaps: 40})
	if stuck.Objective < 1e5 {
		t.Fatalf("the start is too good to test with: %v", stuck.Objective)
	}
	// Variance 1 in three dimensions about each mean.
	if free.Objective > 400*3*1.2 || !free.Converged || slices.ContainsFunc(free.Counts, func(n int64) bool { return n != 100 }) {
		t.Errorf("objective %v with swaps, %v without; sizes %v, converged %v", free.Objective, stuck.Objective, free.Counts, free.Converged)
	}
}

func TestEmptyClusters(t *testing.T) {
	equal := simd.NewMatrix(100, 4)
	for i := range equal.Data {
		equal.Data[i] = float32(i%4) + 1
	}
	for _, spherical := range []bool{false, true} {
		r := mustTrain(t, Matrix(equal), Options{Clusters: 5, Spherical: spherical})
		if r.Max+r.Min*4 > 100 || len(r.Labels) != 100 || r.Objective > 1e-4 {
			t.Errorf("equal rows: sizes %v, objective %v", r.Counts, r.Objective)
		}
	}
	// Two far blobs, and all centroids begin in one of them: the others are empty
	// until they are given half of a cluster.
	m := simd.NewMatrix(200, 3)
	rng := rand.New(rand.NewPCG(1, 2))
	for i := range m.Data {
		m.Data[i] = float32(rng.NormFloat64()) + float32(100*(i/300))
	}
	start := simd.NewMatrix(8, 3)
	for c := range 8 {
		start.Row(c)[0] = 1e6 // no row is nearest to any but the first
	}
	clear(start.Row(0))
	kept := mustTrain(t, Matrix(m), Options{Clusters: 8, Centroids: start, KeepEmpty: true})
	if kept.Empty != 7 || kept.Splits != 0 || kept.Centroids.Row(5)[0] != 1e6 {
		t.Errorf("kept: %d empty, %d splits", kept.Empty, kept.Splits)
	}
	resolved := mustTrain(t, Matrix(m), Options{Clusters: 8, Centroids: start})
	if resolved.Empty != 0 || resolved.Splits < 7 || resolved.Objective > kept.Objective/10 {
		t.Errorf("split: %d empty, %d splits, objective %v", resolved.Empty, resolved.Splits, resolved.Objective)
	}
}

// The split itself, as ssl.md describes it.
func TestSplitHalvesADonor(t *testing.T) {
	centroids := simd.Matrix{Data: []float32{1, 2, 3, 9, 9, 9}, Rows: 2, Dim: 3}
	counts := []int64{7, 0}
	if n := split(centroids, counts, nil, random(1, streamSplit, 0)); n != 1 {
		t.Fatalf("%d splits", n)
	}
	const e = 1.0 / 1024
	want := []float32{1 * (1 - e), 2 * (1 + e), 3 * (1 - e), 1 * (1 + e), 2 * (1 - e), 3 * (1 + e)}
	if !slices.Equal(centroids.Data, want) || !slices.Equal(counts, []int64{4, 3}) {
		t.Errorf("%v %v", centroids.Data, counts)
	}
	// Large clusters give more often: of 1000 draws, n_j−1 of Σ(n_j−1) in the mean.
	given := 0
	for seed := range uint64(1000) {
		c := simd.NewMatrix(3, 1)
		n := []int64{0, 101, 301}
		split(c, n, nil, random(seed, streamSplit, 0))
		if n[2] < 301 {
			given++
		}
	}
	if given < 600 || given > 900 {
		t.Errorf("the larger of two gave %d times of 1000", given)
	}
	if n := split(simd.NewMatrix(3, 1), []int64{1, 0, 1}, nil, random(1, streamSplit, 0)); n != 0 {
		t.Errorf("clusters of one row gave %d times", n)
	}
}

// Rows of a few different values only: the run ends by itself, with one cluster for
// each value at most, the objective that the values allow, and the rest reported
// empty. A point is found to be one at any length and dimension.
func TestEqualRowsConverge(t *testing.T) {
	for _, spherical := range []bool{false, true} {
		for _, dim := range []int{2, 33, 512} {
			for _, c := range []struct{ different, k int }{{1, 5}, {2, 5}, {2, 2}, {12, 40}, {12, 299}} {
				for _, length := range []float32{1e-3, 1, 1e4} {
					values := simd.NewMatrix(c.different, dim)
					rng := rand.New(rand.NewPCG(uint64(dim), uint64(c.k)))
					for i := range values.Data {
						values.Data[i] = length * float32(rng.NormFloat64())
					}
					m := simd.NewMatrix(300, dim)
					for i := range m.Rows {
						copy(m.Row(i), values.Row(i*i%c.different))
					}
					used := map[int]bool{}
					for i := range m.Rows {
						used[i*i%c.different] = true
					}
					r := mustTrain(t, Matrix(m), Options{Clusters: c.k, Spherical: spherical})
					most := 1e-9 * float64(dim) * float64(length) * float64(length) * 300
					if spherical {
						most = 1e-5 * 300
					}
					if !r.Converged || r.Iterations > 10 || r.Objective > most {
						t.Errorf("spherical %v, dim %d, %+v, length %v: converged %v after %d, objective %v, %d splits", spherical, dim, c, length, r.Converged, r.Iterations, r.Objective, r.Splits)
					}
					of := map[int]int32{}
					for i, label := range r.Labels {
						if was, seen := of[i*i%c.different]; seen && was != label {
							t.Fatalf("equal rows have clusters %d and %d", was, label)
						}
						of[i*i%c.different] = label
					}
					if want := c.k - min(c.k, len(used)); r.Empty != want {
						t.Errorf("spherical %v, dim %d, %+v: %d empty, want %d", spherical, dim, c, r.Empty, want)
					}
				}
			}
		}
	}
}

func TestEdges(t *testing.T) {
	m := blobs(60, 8, 4, 6)
	for name, c := range map[string]struct {
		m    simd.Matrix
		o    Options
		want error
	}{
		"no clusters":     {m, Options{}, ErrOptions},
		"fewer rows":      {m, Options{Clusters: 61}, ErrTooFewRows},
		"no rows":         {simd.NewMatrix(0, 8), Options{Clusters: 1}, ErrTooFewRows},
		"negative":        {m, Options{Clusters: 2, Iterations: -1}, ErrOptions},
		"tolerance":       {m, Options{Clusters: 2, Tolerance: math.NaN()}, ErrOptions},
		"other centroids": {m, Options{Clusters: 2, Centroids: simd.NewMatrix(3, 8)}, ErrOptions},
	} {
		if _, err := Train(context.Background(), Matrix(c.m), c.o); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	bad := blobs(60, 8, 4, 6)
	bad.Row(41)[3] = float32(math.NaN())
	if _, err := Train(context.Background(), Matrix(bad), Options{Clusters: 3}); !errors.Is(err, ErrRow) {
		t.Errorf("NaN: %v", err)
	}
	// As many clusters as rows: every row its own, but for the equal ones.
	r := mustTrain(t, Matrix(m), Options{Clusters: 60})
	if r.Objective > 1e-4 { // what a split leaves apart
		t.Errorf("60 clusters of 60 rows: objective %v", r.Objective)
	}
	for _, dim := range []int{1, 8192} {
		wide := blobs(50, dim, 3, 7)
		if r := mustTrain(t, Matrix(wide), Options{Clusters: 3}); r.Empty != 0 || len(r.Labels) != 50 {
			t.Errorf("dim %d: sizes %v", dim, r.Counts)
		}
	}
	zero := simd.NewMatrix(40, 6)
	for _, spherical := range []bool{false, true} {
		if r := mustTrain(t, Matrix(zero), Options{Clusters: 3, Spherical: spherical}); len(r.Labels) != 40 {
			t.Errorf("zero rows: %v", r.Counts)
		}
	}
}

func TestCancel(t *testing.T) {
	m := blobs(3000, 40, 30, 8)
	cause := errors.New("enough")
	for stop := range 6 {
		ctx, cancel := context.WithCancelCause(context.Background())
		calls := 0
		_, err := Train(ctx, Matrix(m), Options{Clusters: 30, Progress: func(Progress) {
			if calls++; calls > stop*2 {
				cancel(cause)
			}
		}})
		if !errors.Is(err, cause) {
			t.Errorf("cancelled after %d reports: %v", 2*stop, err)
		}
	}
}

// Rows that occur often, as many clusters as there are different ones or more: each
// different row is a centroid once, and the seeding comes to an end.
func TestSeedingOfDuplicates(t *testing.T) {
	const different = 12
	one := blobs(different, 21, different, 9)
	m := simd.NewMatrix(10*different, 21)
	for i := range m.Rows {
		copy(m.Row(i), one.Row(i%different))
	}
	for _, spherical := range []bool{false, true} {
		for _, k := range []int{different, different + 5, m.Rows} {
			for seed := range uint64(5) {
				r := mustTrain(t, Matrix(m), Options{Clusters: k, Spherical: spherical, Seed: seed, Iterations: 1, KeepEmpty: true})
				zero := 2 * 10.0 * 1 // the zero row of blobs has cosine 0
				if !spherical {
					zero = 0
				}
				if r.Objective > zero+1e-4 || k == different && r.Empty > 0 && !spherical {
					t.Errorf("spherical %v, %d clusters: objective %v, %d empty", spherical, k, r.Objective, r.Empty)
				}
			}
		}
	}
}
