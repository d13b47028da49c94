package eval

import (
	"cmp"
	"errors"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"membank/index"
	"membank/simd"
	"membank/store"

	"gonum.org/v1/gonum/mat"
)

// groups are rows around three directions.
func groups(n, dim int, spread float32) (simd.Matrix, []int64) {
	rng := rand.New(rand.NewPCG(3, 4))
	m, labels := simd.NewMatrix(n, dim), make([]int64, n)
	for i := range n {
		labels[i] = int64(i % 3)
		for d := range dim {
			m.Row(i)[d] = spread * float32(rng.NormFloat64())
		}
		m.Row(i)[i%3] += 1
	}
	return m, labels
}

// The coordinates of PCA are those of a singular value decomposition.
func TestPCAIsSVD(t *testing.T) {
	m, _ := groups(90, 11, 0.3)
	m.Row(5)[0] *= 7 // length must not count
	x, squares := centredUnits(m)
	points, shares, err := principal(t.Context(), x, squares)
	if err != nil {
		t.Fatal(err)
	}
	var svd mat.SVD
	if !svd.Factorize(x, mat.SVDThin) {
		t.Fatal("no SVD")
	}
	var u mat.Dense
	svd.UTo(&u)
	for c, of := range []func(Point) float64{func(p Point) float64 { return p.X }, func(p Point) float64 { return p.Y }} {
		s := svd.Values(nil)[c]
		if want := s * s / squares; math.Abs(shares[c]-want) > 1e-9 {
			t.Errorf("share %d is %v, want %v", c, shares[c], want)
		}
		sign := math.Copysign(1, of(points[0])*u.At(0, c))
		for i, p := range points {
			if want := sign * s * u.At(i, c); math.Abs(of(p)-want) > 1e-5 {
				t.Fatalf("row %d, coordinate %d: %v, want %v", i, c, of(p), want)
			}
		}
	}
}

// Trustworthiness against the definition, sorted ranks and all.
func TestTrustworthiness(t *testing.T) {
	m, _ := groups(60, 5, 0.4)
	rng := rand.New(rand.NewPCG(5, 6))
	points := make([]Point, m.Rows)
	for i := range points {
		points[i] = Point{float64(m.Row(i)[0]) + 0.3*rng.NormFloat64(), float64(m.Row(i)[1])}
	}
	const k = 7
	n := float64(m.Rows)
	sum := 0.0
	for i := range m.Rows {
		order := func(distance func(j int) float64) []int {
			var others []int
			for j := range m.Rows {
				if j != i {
					others = append(others, j)
				}
			}
			slices.SortStableFunc(others, func(a, b int) int { return cmp.Compare(distance(a), distance(b)) })
			return others
		}
		space := order(func(j int) float64 {
			dot, a, b := 0.0, 0.0, 0.0
			for d := range m.Dim {
				x, y := float64(m.Row(i)[d]), float64(m.Row(j)[d])
				dot, a, b = dot+x*y, a+x*x, b+y*y
			}
			return -dot / math.Sqrt(a*b)
		})
		plane := order(func(j int) float64 { return math.Hypot(points[i].X-points[j].X, points[i].Y-points[j].Y) })
		for _, j := range plane[:k] {
			if rank := slices.Index(space, j) + 1; rank > k {
				sum += float64(rank - k)
			}
		}
	}
	want := 1 - 2/(n*k*(2*n-3*k-1))*sum
	got, err := Trustworthiness(t.Context(), m, points, k, 2)
	if err != nil || math.Abs(got-want) > 1e-12 || want > 0.999 {
		t.Errorf("%v %v, want %v", got, err, want)
	}
}

// Affinities are symmetric, sum to 1, and each row's own have the perplexity.
func TestAffinities(t *testing.T) {
	nb := &neighbourhood{k: 2, hits: [][]index.Hit{{{Row: 1, Score: 0.9}, {Row: 2, Score: 0.2}}, {{Row: 0, Score: 0.9}, {Row: 3, Score: 0.8}}, {{Row: 3, Score: 0.7}, {Row: 0, Score: 0.2}}, {{Row: 1, Score: 0.8}, {Row: 2, Score: 0.7}}}}
	var dense [4][4]float64
	sum := 0.0
	for i, list := range affinities(nb, 1.5) {
		for _, a := range list {
			dense[i][a.row] += a.p
			sum += a.p
		}
	}
	for i := range dense {
		for j := range dense {
			if math.Abs(dense[i][j]-dense[j][i]) > 1e-15 {
				t.Errorf("rows %d and %d attract each other by %v and %v", i, j, dense[i][j], dense[j][i])
			}
		}
	}
	if math.Abs(sum-1) > 1e-12 {
		t.Errorf("affinities sum to %v", sum)
	}
	squares := []float64{0.1, 0.11, 0.3, 0.5, 0.9, 1.4, 1.5}
	entropy := 0.0
	for _, p := range bandwidth(squares, math.Log(3)) {
		entropy -= p * math.Log(p)
	}
	if math.Abs(math.Exp(entropy)-3) > 1e-5 {
		t.Errorf("perplexity %v, want 3", math.Exp(entropy))
	}
	for _, p := range bandwidth([]float64{0.2, 0.2, 0.2, 0.2}, math.Log(2)) {
		if math.Abs(p-0.25) > 1e-12 {
			t.Errorf("neighbours equally far have a share of %v, want 1/4", p)
		}
	}
}

// Groups far apart stay apart on the map, neighbours are those of the space,
// and threads change no bit.
func TestProjection(t *testing.T) {
	m, labels := groups(240, 16, 0.1)
	labels[7] = store.NoLabel
	copy(m.Row(9), m.Row(12)) // equal rows are no trouble
	s := write(t, open(t), "b", m, labels)
	p := Project{Rows: 200, Seed: 3, Iterations: 400}
	one, err := p.Run(t.Context(), s, RunOptions{Threads: 1})
	if err != nil {
		t.Fatal(err)
	}
	two, err := p.Run(t.Context(), s, RunOptions{Threads: 3})
	if err != nil || !slices.Equal(one.TSNE, two.TSNE) || !slices.Equal(one.PCA, two.PCA) || one.TrustTSNE != two.TrustTSNE || one.KL != two.KL {
		t.Errorf("three threads differ from one: %v", err)
	}
	if len(one.Rows) != 200 || one.TrustTSNE < 0.9 || one.TrustPCA < 0.6 || one.TrustPCA > one.TrustTSNE || one.Perplexity != 30 {
		t.Errorf("%d rows, trust %v by t-SNE, %v by PCA, perplexity %v", len(one.Rows), one.TrustTSNE, one.TrustPCA, one.Perplexity)
	}
	for i, row := range one.Rows {
		if one.Labels[i] != labels[row] {
			t.Fatalf("row %d has label %d, want %d", row, one.Labels[i], labels[row])
		}
		same := 0
		for _, j := range nearestPoints(one.TSNE, i, 5) {
			if one.Rows[j]%3 == row%3 {
				same++
			}
		}
		if same < 4 {
			t.Errorf("row %d has %d of 5 neighbours of its group on the map", row, same)
		}
	}
}

// What cannot be mapped is refused, and what is hard to map has finite places.
func TestProjectionEdges(t *testing.T) {
	db := open(t)
	same := simd.NewMatrix(30, 4)
	for i := range 30 {
		same.Row(i)[1] = float32(i + 1)
	}
	few, _ := groups(7, 3, 1)
	for name, m := range map[string]simd.Matrix{"same": same, "few": few} {
		if _, err := (Project{}).Run(t.Context(), write(t, db, name, m, nil), RunOptions{}); !errors.Is(err, ErrTooFew) {
			t.Errorf("%s: %v, want ErrTooFew", name, err)
		}
	}
	line := simd.NewMatrix(9, 1)
	for i := range 9 {
		line.Row(i)[0] = float32(i%2*2 - 1)
	}
	for name, m := range map[string]simd.Matrix{"line": line} {
		p, err := Project{}.Run(t.Context(), write(t, db, name, m, nil), RunOptions{})
		if err != nil {
			t.Fatal(err)
		}
		for i := range p.TSNE {
			if v := p.TSNE[i].X + p.TSNE[i].Y + p.PCA[i].X + p.PCA[i].Y; math.IsNaN(v) || math.IsInf(v, 0) {
				t.Errorf("%s: row %d is at %v and %v", name, i, p.TSNE[i], p.PCA[i])
			}
		}
	}
}
