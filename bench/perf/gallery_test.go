package perf

import (
	"context"
	"io"
	"math"
	"path/filepath"
	"slices"
	"testing"

	"membank/simd"
	"membank/store/dump"
)

func made(t testing.TB, g Gallery) (simd.Matrix, []int64) {
	t.Helper()
	m, err := NewMaker(g)
	if err != nil {
		t.Fatal(err)
	}
	rows, labels := simd.NewMatrix(int(g.Rows), g.Dim), make([]int64, g.Rows)
	m.Fill(rows, labels, 0)
	return rows, labels
}

// A row depends on the seed and its number, and on nothing else.
func TestGalleryIsTheSameHoweverItIsMade(t *testing.T) {
	for _, dim := range []int{1, 5, 12, 64, 100} {
		g := Gallery{Rows: 517, Dim: dim, Seed: 7, Threads: 1}
		want, wantLabels := made(t, g)
		for _, level := range simd.Levels() {
			restore := simd.Use(level)
			g.Threads = 5
			m, err := NewMaker(g)
			if err != nil {
				t.Fatal(err)
			}
			err = m.Batches(context.Background(), 37, func(first int64, rows simd.Matrix, labels []int64) error {
				from, to := int(first), int(first)+rows.Rows
				if !slices.Equal(rows.Data[:rows.Rows*dim], want.Slice(from, to).Data) || !slices.Equal(labels, wantLabels[from:to]) {
					t.Errorf("dim %d, %s: rows %d to %d differ", dim, level, from, to)
				}
				return nil
			})
			restore()
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	a, _ := made(t, Gallery{Rows: 3, Dim: 8, Seed: 1})
	b, _ := made(t, Gallery{Rows: 3, Dim: 8, Seed: 2})
	if slices.Equal(a.Data, b.Data) || slices.Equal(a.Row(0), a.Row(1)) {
		t.Error("seeds or rows give the same numbers")
	}
	m, err := NewMaker(Gallery{Rows: 10, Dim: 8, Seed: 1})
	if err != nil {
		t.Fatal(err)
	}
	all, some := simd.NewMatrix(14, 8), simd.NewMatrix(4, 8)
	m.Fill(all, nil, 0)
	m.after(4).Fill(some, nil, 0)
	if !slices.Equal(some.Data, all.Slice(10, 14).Data) {
		t.Error("the rows after a gallery are others than those beyond it")
	}
}

// What makes features of an encoder different from noise: a mean, classes that
// neighbours tell, few directions with most of the variance, norms that vary.
func TestGalleryLooksLikeFeatures(t *testing.T) {
	rows, labels := made(t, Gallery{Rows: 3000, Dim: 96, Classes: 10, Seed: 3})
	mean := make([]float64, rows.Dim)
	var norms, squares float64
	for i := range rows.Rows {
		n := simd.Norm(rows.Row(i))
		norms, squares = norms+n, squares+n*n
		for j, v := range rows.Row(i) {
			mean[j] += float64(v) / float64(rows.Rows)
		}
	}
	average := norms / float64(rows.Rows)
	spread := math.Sqrt(squares/float64(rows.Rows) - average*average)
	var common float64
	for _, v := range mean {
		common += v * v
	}
	if math.Abs(average-1) > 0.05 || spread < 0.1 || spread > 0.2 || common < 0.2 || common > 0.7 {
		t.Errorf("norms %.3f ± %.3f, squared norm of the mean %.3f", average, spread, common)
	}
	// Participation ratio: trace(C)² / trace(C²), here by pairs of rows.
	var trace, square float64
	n := 400
	centred := func(i, j int) float64 {
		var s float64
		for d := range rows.Dim {
			s += (float64(rows.Row(i)[d]) - mean[d]) * (float64(rows.Row(j)[d]) - mean[d])
		}
		return s
	}
	for i := range n {
		trace += centred(i, i) / float64(n)
		for j := range i {
			square += 2 * math.Pow(centred(i, j), 2) / float64(n*(n-1))
		}
	}
	if ratio := trace * trace / square; ratio < 5 || ratio > 48 {
		t.Errorf("participation ratio %.1f of %d dimensions", ratio, rows.Dim)
	}
	right := 0
	for i := range 300 {
		best, class := math.Inf(-1), int64(-1)
		for j := 300; j < rows.Rows; j++ {
			if s := float64(simd.Dot(rows.Row(i), rows.Row(j))) / simd.Norm(rows.Row(j)); s > best {
				best, class = s, labels[j]
			}
		}
		if class == labels[i] {
			right++
		}
	}
	if right < 100 || right > 297 {
		t.Errorf("the nearest row has the right class for %d of 300, chance is 30", right)
	}
	t.Logf("norms %.3f ± %.3f, mean² %.3f, participation ratio %.1f, 1-NN %d of 300", average, spread, common, trace*trace/square, right)
}

// Rank is how many directions the rows have beside the mean, Noise what is in none:
// here by how much of a row other rows cannot make up.
func TestGalleryRankAndNoise(t *testing.T) {
	const dim, rank = 64, 5
	left := func(noise float64) (most float64) {
		rows, _ := made(t, Gallery{Rows: 40, Dim: dim, Rank: rank, Noise: noise, Seed: 2})
		var basis [][]float64
		for i := range rows.Rows {
			row := make([]float64, dim)
			for d, v := range rows.Row(i) {
				row[d] = float64(v) / simd.Norm(rows.Row(i))
			}
			for _, b := range basis {
				var dot float64
				for d := range row {
					dot += row[d] * b[d]
				}
				for d := range row {
					row[d] -= dot * b[d]
				}
			}
			var norm float64
			for _, v := range row {
				norm += v * v
			}
			norm = math.Sqrt(norm)
			if len(basis) <= rank { // the mean, too
				for d := range row {
					row[d] /= norm
				}
				basis = append(basis, row)
			} else {
				most = max(most, norm)
			}
		}
		return most
	}
	if none, much := left(1e-10), left(1); none > 1e-2 || much < 0.2 {
		t.Errorf("beside %d directions and the mean: %.3g without noise, %.3g with much", rank, none, much)
	}
}

func TestWriteNPY(t *testing.T) {
	g := Gallery{Rows: 1000, Dim: 33, Seed: 5}
	want, wantLabels := made(t, g)
	m, err := NewMaker(g)
	if err != nil {
		t.Fatal(err)
	}
	file, labelsFile := filepath.Join(t.TempDir(), "x.npy"), filepath.Join(t.TempDir(), "y.npy")
	if err := m.WriteNPY(context.Background(), file, labelsFile, nil); err != nil {
		t.Fatal(err)
	}
	r, err := dump.Open(file, dump.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	got := simd.NewMatrix(1001, 33)
	if n, err := r.Next(context.Background(), got); n != 1000 || err != nil || !slices.Equal(got.Data[:33000], want.Data) {
		t.Errorf("%d rows, %v", n, err)
	}
	l, err := dump.OpenLabels(labelsFile, dump.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	labels := make([]int64, 1000)
	if n, err := l.Next(labels); n != 1000 || err != nil || !slices.Equal(labels, wantLabels) {
		t.Errorf("%d labels, %v", n, err)
	}
	if _, err := l.Next(labels); err != io.EOF {
		t.Error(err)
	}
	if _, err := NewMaker(Gallery{Rows: 0, Dim: 4}); err == nil {
		t.Error("an empty gallery passes")
	}
}

func BenchmarkFill(b *testing.B) {
	m, err := NewMaker(Gallery{Rows: 1 << 20, Dim: 384})
	if err != nil {
		b.Fatal(err)
	}
	rows := simd.NewMatrix(4096, 384)
	b.SetBytes(4096 * 384 * 4)
	for b.Loop() {
		m.Fill(rows, nil, 0)
	}
}
