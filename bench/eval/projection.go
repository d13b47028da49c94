package eval

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"

	"membank/index"
	"membank/simd"
	"membank/store"

	"gonum.org/v1/gonum/mat"
)

// Project lays some rows of a bank out in the plane, for people to look at. The zero
// value is the default. A plane keeps little of a space: what a map shows is a
// question to ask of the figures, and its trustworthiness says how far to believe it.
type Project struct {
	Rows       int     // rows on the maps, chosen by Seed; 0: 1500
	Seed       uint64  //
	Perplexity float64 // of t-SNE; 0: 30, or a third of the rows where they are few
	Iterations int     // of t-SNE; 0: 1000
}

// Point is a place on a map.
type Point struct{ X, Y float64 }

// Projection is rows in the plane, twice. Rows, labels and points belong together by
// position.
type Projection struct {
	Rows   []int64
	Keys   []string
	Labels []int64 // store.NoLabel for none

	PCA    []Point    // coordinates along the two directions of most variance, of unit rows less their mean
	Shares [2]float64 // of the variance, along each

	TSNE       []Point
	Perplexity float64
	Iterations int
	KL         float64 // nats that t-SNE's map loses

	TrustK              int     // neighbours of the figures below
	TrustPCA, TrustTSNE float64 // 1 when all neighbours on the map are neighbours in the space, 0.5 by chance
}

const (
	projectedRows = 1500
	fewestMapped  = 8
	trustK        = 10
)

// Run takes a sample of the bank, L2-normalises it, and projects it twice: by PCA,
// and by t-SNE (van der Maaten and Hinton 2008) on the exact graph of its nearest
// neighbours, begun from the PCA, with no chance in it. It holds 12 bytes a number of
// the sample and is quadratic in its rows: that is what Rows is for. The result is
// the same for any number of threads. Errors: ErrTooFew below eight rows, or
// where all rows point one way.
func (p Project) Run(ctx context.Context, s *store.Snapshot, o RunOptions) (*Projection, error) {
	o.defaults()
	if p.Rows <= 0 {
		p.Rows = projectedRows
	}
	if p.Iterations <= 0 {
		p.Iterations = 1000
	}
	p.Rows = min(p.Rows, max(fewestMapped, int(o.Memory/16/int64(s.Dim()))))
	of, err := takeSample(ctx, s, p.Rows, p.Seed)
	if err != nil {
		return nil, err
	}
	n := len(of.rows)
	if n < fewestMapped {
		return nil, fmt.Errorf("%w for a map: bank %q has %d, and it takes %d", ErrTooFew, s.Bank(), n, fewestMapped)
	}
	out := &Projection{Rows: of.rows, Keys: of.keys, Labels: of.labels, Iterations: p.Iterations, TrustK: min(trustK, (n-1)/2)}
	centred, variance := centredUnits(of.vectors)
	if variance <= rounding2*float64(n) {
		return nil, fmt.Errorf("%w for a map: all rows of bank %q point one way", ErrTooFew, s.Bank())
	}
	if out.PCA, out.Shares, err = principal(ctx, centred, variance); err != nil {
		return nil, err
	}
	out.Perplexity = p.Perplexity
	if out.Perplexity <= 0 {
		out.Perplexity = 30
	}
	out.Perplexity = min(out.Perplexity, float64(n-1)/3)
	nb, err := findNeighbours(ctx, s, of, int(math.Ceil(3*out.Perplexity)), index.Cosine, RunOptions{Threads: o.Threads, Memory: o.Memory, NoCodes: o.NoCodes})
	if err != nil {
		return nil, err
	}
	if out.TSNE, out.KL, err = tsne(ctx, nb, out.PCA, out.Perplexity, p.Iterations, o); err != nil {
		return nil, err
	}
	if out.TrustPCA, err = Trustworthiness(ctx, of.vectors, out.PCA, out.TrustK, o.Threads); err != nil {
		return nil, err
	}
	out.TrustTSNE, err = Trustworthiness(ctx, of.vectors, out.TSNE, out.TrustK, o.Threads)
	return out, err
}

// centredUnits are the unit rows less their mean, and the sum of their squares.
func centredUnits(m simd.Matrix) (x *mat.Dense, squares float64) {
	x = mat.NewDense(m.Rows, m.Dim, nil)
	mean := make([]float64, m.Dim)
	for i := range m.Rows {
		row, to := m.Row(i), x.RawRowView(i)
		norm := max(simd.Norm(row), NormaliseEps)
		for d, v := range row {
			to[d] = float64(v) / norm
			mean[d] += to[d]
		}
	}
	for i := range m.Rows {
		for d, to := 0, x.RawRowView(i); d < m.Dim; d++ {
			to[d] -= mean[d] / float64(m.Rows)
			squares += to[d] * to[d]
		}
	}
	return x, squares
}

// principal are the coordinates of rows along the two directions of most variance,
// by subspace iteration: some directions are turned until the variances of the first
// two stand still. Where these are equal, any two directions will do. The sum of the
// cubes of the coordinates is positive, which settles the signs.
func principal(ctx context.Context, x *mat.Dense, squares float64) (points []Point, shares [2]float64, err error) {
	rows, dim := x.Dims()
	width := min(8, rows, dim)
	rng := rand.New(rand.NewPCG(1, 2))
	basis := mat.NewDense(dim, width, nil)
	basis.Apply(func(int, int, float64) float64 { return rng.NormFloat64() }, basis)
	var at, turned mat.Dense
	var last [2]float64
	for range 500 {
		if ctx.Err() != nil {
			return nil, shares, context.Cause(ctx)
		}
		var qr mat.QR
		qr.Factorize(basis)
		var q mat.Dense
		qr.QTo(&q)
		basis.Copy(q.Slice(0, dim, 0, width))
		at.Reset()
		at.Mul(x, basis)
		gram := mat.NewSymDense(width, nil)
		gram.SymOuterK(1, at.T())
		var e mat.EigenSym
		if !e.Factorize(gram, true) {
			return nil, shares, errors.New("principal directions did not converge")
		}
		var v mat.Dense
		e.VectorsTo(&v)
		turned.Reset()
		turned.Mul(&at, &v) // columns by ascending variance
		values := e.Values(nil)
		now := [2]float64{values[width-1], 0}
		if width > 1 {
			now[1] = values[width-2]
		}
		still := math.Abs(now[0]-last[0])+math.Abs(now[1]-last[1]) <= 1e-12*squares
		if last = now; still {
			break
		}
		basis.Mul(x.T(), &at)
	}
	points = make([]Point, rows)
	var cubes [2]float64
	for i := range points {
		points[i].X = turned.At(i, width-1)
		if width > 1 {
			points[i].Y = turned.At(i, width-2)
		}
		cubes[0] += math.Pow(points[i].X, 3)
		cubes[1] += math.Pow(points[i].Y, 3)
	}
	for i := range points {
		points[i].X = math.Copysign(1, cubes[0]) * points[i].X
		points[i].Y = math.Copysign(1, cubes[1]) * points[i].Y
	}
	return points, [2]float64{max(0, last[0]) / squares, max(0, last[1]) / squares}, nil
}

// Trustworthiness says whether neighbours on a map are neighbours in the space (Venna
// and Kaski 2001): of each row's k nearest on the map, by how many places they
// miss its k nearest by cosine in m.
//
//	1 − 2/(nk(2n−3k−1)) Σᵢ Σ_{j among the k nearest of i on the map} max(0, rank(i,j)−k)
//
// It is 1 if none does. k is below half the rows; at equal distance the smaller row
// is nearer. The cost is 2·rows²·dim.
func Trustworthiness(ctx context.Context, m simd.Matrix, points []Point, k, threads int) (float64, error) {
	u := unitColumns(m, threads)
	misses := make([]float64, m.Rows)
	err := eachProducts(ctx, []strips{u}, u, threads, func(_, first, n int, products [2][][]float64) {
		for i := range n {
			at := first + i
			cosines := products[0][i]
			for _, j := range nearestPoints(points, at, k) {
				rank := 1
				for l, c := range cosines {
					if l != at && (c > cosines[j] || c == cosines[j] && l < j) {
						rank++
					}
				}
				misses[at] += float64(max(0, rank-k))
			}
		}
	})
	if err != nil {
		return 0, err
	}
	sum := 0.0
	for _, v := range misses {
		sum += v
	}
	rows, neighbours := float64(m.Rows), float64(k)
	return 1 - sum*2/(rows*neighbours*(2*rows-3*neighbours-1)), nil
}

// nearestPoints are the k points nearest to that of row i.
func nearestPoints(points []Point, i, k int) []int {
	var top index.TopK
	top.Reset(k, k, -math.MaxFloat32, make([]index.Hit, 0, 2*k))
	for j, p := range points {
		if dx, dy := p.X-points[i].X, p.Y-points[i].Y; j != i {
			top.Offer(int64(j), float32(-dx*dx-dy*dy))
		}
	}
	var near []int
	for _, h := range top.Best() {
		near = append(near, int(h.Row))
	}
	return near
}
