package kmeans

import (
	"context"
	"errors"
	"math"
	"slices"
	"testing"

	"membank/simd"
)

// lopsided rows vary a lot in some directions and hardly in others, about a mean
// that is far from the origin.
func lopsided(rows, dim int) simd.Matrix {
	m := blobs(rows, dim, 5, 21)
	for i := range m.Rows {
		for d := range m.Row(i) {
			m.Row(i)[d] = m.Row(i)[d]*float32(math.Pow(0.9, float64(d))) + float32(d%3) + 2
		}
	}
	return m
}

func whitened(t *testing.T, m simd.Matrix, o WhitenOptions) simd.Matrix {
	t.Helper()
	w, err := Whiten(context.Background(), Matrix(m), o)
	if err != nil {
		t.Fatal(err)
	}
	held, err := Hold(context.Background(), w, 3)
	if err != nil {
		t.Fatal(err)
	}
	return held.(matrix).m
}

// What whitening promises, checked on what comes out in float64: rows before they
// get length 1 are uncorrelated with variance 1 (so, up to its length, is each row);
// PCA keeps distances within the directions kept, and their variance is the largest.
func TestPCAKeepsDistances(t *testing.T) {
	m := lopsided(400, 30)
	all := whitened(t, m, WhitenOptions{Dim: 30, How: PCA})
	for i := 0; i < 400; i += 37 {
		for j := 1; j < 400; j += 41 {
			want, got := squaredDistance(m.Row(i), m.Row(j)), squaredDistance(all.Row(i), all.Row(j))
			if math.Abs(want-got) > 1e-4*(1+want) {
				t.Fatalf("rows %d and %d: squared distance %v, rotated %v", i, j, want, got)
			}
		}
	}
	mean, cov := moments(all)
	for d := range mean {
		if math.Abs(mean[d]) > 1e-5 {
			t.Errorf("direction %d has mean %v", d, mean[d])
		}
		for e := range d {
			if math.Abs(cov[d][e]) > 1e-5*cov[0][0] {
				t.Errorf("directions %d and %d: covariance %v", d, e, cov[d][e])
			}
		}
		if d > 0 && cov[d][d] > cov[d-1][d-1]*(1+1e-5) {
			t.Errorf("variance %d is larger than the one before: %v, %v", d, cov[d][d], cov[d-1][d-1])
		}
	}
	// The share that is kept is the share of all variance.
	w, err := Whiten(context.Background(), Matrix(m), WhitenOptions{Dim: 7, How: PCA})
	if err != nil {
		t.Fatal(err)
	}
	_, raw := moments(m)
	kept, total := 0.0, 0.0
	for d := range raw {
		total += raw[d][d]
		if d < 7 {
			kept += cov[d][d]
		}
	}
	if math.Abs(w.Kept()-kept/total) > 1e-5 {
		t.Errorf("%v of the variance is kept, want %v", w.Kept(), kept/total)
	}
}

// Whitened rows have length 1, and are W·(x−μ) up to their length, with the W that
// float64 gets by another way: the rotation of PCA divided by the root of its
// variances.
func TestWhiteningVariants(t *testing.T) {
	m := lopsided(500, 24)
	for i := range m.Rows {
		m.Row(i)[23] = m.Row(i)[0] // a direction without variance
	}
	rotated := whitened(t, m, WhitenOptions{Dim: 24, How: PCA})
	_, cov := moments(rotated)
	for _, how := range []Whitening{DeepCluster, FAISS} {
		for _, dim := range []int{10, 24} {
			got := whitened(t, m, WhitenOptions{Dim: dim, How: how})
			for i := range m.Rows {
				want, sq := make([]float64, dim), 0.0
				for d := range want {
					v := cov[d][d]
					if how == DeepCluster {
						v = max(v, 1e-5*cov[0][0])
					} else if v < 1e-9*cov[0][0] {
						continue
					}
					want[d] = float64(rotated.Row(i)[d]) / math.Sqrt(v)
					sq += want[d] * want[d]
				}
				for d := range want {
					if diff := math.Abs(want[d]/math.Sqrt(sq) - float64(got.Row(i)[d])); diff > 2e-4 {
						t.Fatalf("%s, %d directions, row %d, direction %d: off by %v", how, dim, i, d, diff)
					}
				}
			}
		}
	}
	// DINO's directions are those about the origin: the first is nearly the mean.
	mean, _ := moments(m)
	w, err := Whiten(context.Background(), Matrix(m), WhitenOptions{Dim: 1, How: DINO})
	if err != nil {
		t.Fatal(err)
	}
	first := make([]float32, 24)
	simd.UnpackRow(first, w.panels, 0)
	dot, norm := 0.0, 0.0
	for d, x := range mean {
		dot += x * float64(first[d])
		norm += x * x
	}
	if cos := math.Abs(dot) / math.Sqrt(norm) / simd.Norm(first); cos < 0.95 {
		t.Errorf("cosine %v with the mean", cos)
	}
}

func TestWhitenEdges(t *testing.T) {
	m := lopsided(60, 9)
	for name, o := range map[string]WhitenOptions{"none": {}, "too many": {Dim: 10}, "unknown": {Dim: 3, How: "zca"}} {
		if _, err := Whiten(context.Background(), Matrix(m), o); !errors.Is(err, ErrOptions) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := Whiten(context.Background(), Matrix(m.Slice(0, 1)), WhitenOptions{Dim: 1}); !errors.Is(err, ErrVariance) {
		t.Errorf("one row: %v", err)
	}
	bad := lopsided(60, 9)
	bad.Row(3)[3] = float32(math.Inf(1))
	if _, err := Whiten(context.Background(), Matrix(bad), WhitenOptions{Dim: 1}); !errors.Is(err, ErrRow) {
		t.Errorf("Inf: %v", err)
	}
	equal := lopsided(7, 9)
	for i := range equal.Rows {
		copy(equal.Row(i), m.Row(2))
	}
	for _, how := range Whitenings { // equal rows, and fewer rows than dimensions
		for name, m := range map[string]simd.Matrix{"zero": simd.NewMatrix(20, 4), "equal": equal} {
			if _, err := Whiten(context.Background(), Matrix(m), WhitenOptions{Dim: 4, How: how}); !errors.Is(err, ErrVariance) {
				t.Errorf("%s, %s: %v", how, name, err)
			}
		}
		for _, x := range whitened(t, lopsided(5, 70), WhitenOptions{Dim: 4, How: how}).Data {
			if math.IsNaN(float64(x)) || math.IsInf(float64(x), 0) {
				t.Fatalf("%s: %v", how, x)
			}
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := Whiten(ctx, Matrix(m), WhitenOptions{Dim: 3}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

// The same bits on any number of threads and levels, and a sample of whitened rows
// is the whitened sample.
func TestWhiteningIsDeterministic(t *testing.T) {
	m := lopsided(1300, 50)
	want := whitened(t, m, WhitenOptions{Dim: 20, Threads: 1})
	for _, level := range simd.Levels() {
		restore := simd.Use(level)
		got := whitened(t, m, WhitenOptions{Dim: 20, Threads: 5})
		restore()
		if !slices.Equal(got.Data, want.Data) {
			t.Errorf("%v: other bits", level)
		}
	}
	w, err := Whiten(context.Background(), Matrix(m), WhitenOptions{Dim: 20})
	if err != nil {
		t.Fatal(err)
	}
	rows := draw(random(1, 1, 1), 300, m.Rows)
	some := simd.NewMatrix(len(rows), 20)
	if err := w.Gather(context.Background(), rows, some); err != nil {
		t.Fatal(err)
	}
	for i, row := range rows {
		if !slices.Equal(some.Row(i), want.Row(row)) {
			t.Fatalf("row %d", row)
		}
	}
	r := mustTrain(t, w, Options{Clusters: 9, Spherical: true})
	held := mustTrain(t, Matrix(want), Options{Clusters: 9, Spherical: true})
	if !slices.Equal(r.Labels, held.Labels) || r.Objective != held.Objective {
		t.Errorf("rows that are held are clustered in another way")
	}
}

// moments are the mean and the covariance, one row at a time.
func moments(m simd.Matrix) (mean []float64, cov [][]float64) {
	mean, cov = make([]float64, m.Dim), make([][]float64, m.Dim)
	for i := range m.Rows {
		for d, x := range m.Row(i) {
			mean[d] += float64(x) / float64(m.Rows)
		}
	}
	for a := range cov {
		cov[a] = make([]float64, m.Dim)
		for b := range cov[a] {
			for i := range m.Rows {
				cov[a][b] += (float64(m.Row(i)[a]) - mean[a]) * (float64(m.Row(i)[b]) - mean[b]) / float64(m.Rows)
			}
		}
	}
	return mean, cov
}

func squaredDistance(a, b []float32) (sum float64) {
	for d := range a {
		x := float64(a[d]) - float64(b[d])
		sum += x * x
	}
	return sum
}

// Of fewer rows than dimensions the products of rows give what the covariance does:
// the same variances and total, the same directions where those differ, and
// orthonormal ones where there is no variance.
func TestFewRowsWhitenAsManyDo(t *testing.T) {
	for _, size := range []struct{ rows, dim, count int }{{2, 9, 9}, {12, 40, 5}, {12, 40, 40}, {39, 40, 40}, {30, 200, 64}} {
		m := lopsided(size.rows, size.dim)
		o := WhitenOptions{Threads: 3}
		for _, origin := range []bool{false, true} {
			about := make([]float64, size.dim)
			if !origin {
				for i := range m.Rows {
					for d, x := range m.Row(i) {
						about[d] += float64(x) / float64(m.Rows)
					}
				}
			}
			want, axes, sum, err := manyRows(context.Background(), Matrix(m), about, size.count, o)
			if err != nil {
				t.Fatal(err)
			}
			got, vectors, total, err := fewRows(context.Background(), Matrix(m), about, size.count, o)
			if err != nil {
				t.Fatal(err)
			}
			if math.Abs(total-sum) > 1e-10*sum || len(got) != size.count || len(vectors) != len(axes) {
				t.Errorf("%+v: total %v, want %v", size, total, sum)
			}
			dot := func(a, b []float64) (s float64) {
				for i := range a {
					s += a[i] * b[i]
				}
				return s
			}
			for i, v := range got {
				if math.Abs(v-want[i]) > 1e-10*want[0] {
					t.Errorf("%+v: variance %d is %v, want %v", size, i, v, want[i])
				}
				of := vectors[i*size.dim:][:size.dim]
				for j := range i + 1 {
					one := 0.0
					if i == j {
						one = 1
					}
					if d := dot(of, vectors[j*size.dim:][:size.dim]); math.Abs(d-one) > 1e-12 {
						t.Fatalf("%+v: directions %d and %d have product %v", size, i, j, d)
					}
				}
				alone := v > 1e-6*want[0]
				for _, j := range []int{i - 1, i + 1} {
					alone = alone && (j < 0 || j >= len(want) || math.Abs(v-want[j]) > 1e-3*v)
				}
				if d := dot(of, axes[i*size.dim:][:size.dim]); alone && math.Abs(d-1) > 1e-6 {
					t.Errorf("%+v: direction %d has product %v with that of the covariance", size, i, d)
				}
				if v == 0 {
					for r := range m.Rows {
						at := 0.0
						for d, x := range m.Row(r) {
							at += of[d] * (float64(x) - about[d])
						}
						if math.Abs(at) > 1e-4 {
							t.Fatalf("%+v: direction %d without variance: row %d lies at %v", size, i, r, at)
						}
					}
				}
			}
		}
	}
	enough := errors.New("enough")
	ctx, cancel := context.WithCancelCause(context.Background())
	cancel(enough)
	if _, _, _, err := fewRows(ctx, Matrix(lopsided(12, 40)), make([]float64, 40), 40, WhitenOptions{Threads: 2}); !errors.Is(err, enough) {
		t.Errorf("cancelled: %v", err)
	}
}
