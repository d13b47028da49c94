package index

import (
	"cmp"
	"context"
	"math"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"

	"membank/simd"
	"membank/store"
)

const (
	sampleRows = 16384 // a basis is learnt from at most
	spareRows  = 16    // vectors iterated beyond those wanted, so that the last ones converge
	rounds     = 3     // of subspace iteration
	heldOut    = 32    // rows of the sample that play queries when dims are chosen
	chosenFrom = 8192  // and rows that play the bank
)

// LearnBasis learns a basis from a sample of the live rows of a bank: one of every n
// neighbours, at most 16 Ki in all, and the same ones on any machine at any number of
// threads. It returns nil for a bank without rows, and for one whose
// dimension is so large (2²²) that float32 scores bound nothing. It holds the
// sample in memory, 4·dim bytes a row, and costs 2·16 Ki·dim² operations.
func LearnBasis(ctx context.Context, s *store.Snapshot, threads int) (*Basis, error) {
	info := s.Info()
	if threads <= 0 {
		threads = runtime.GOMAXPROCS(0)
	}
	stride := max(1, (info.Rows+sampleRows-1)/sampleRows)
	sample := simd.NewMatrix(int((info.Rows+stride-1)/stride), info.Dim)
	r, live, at, taken := s.NewReader(), int64(0), int64(0), 0
	for block := range s.Blocks() {
		if err := ctx.Err(); err != nil {
			return nil, context.Cause(ctx)
		}
		err := r.View(block, func(b *store.Block) error {
			for i := range b.Rows {
				if b.Dead[i] {
					continue
				}
				if live%stride == 0 {
					at = live + drawn(live/stride, stride)
				}
				if live == at && taken < sample.Rows {
					simd.UnpackRow(sample.Row(taken), b.Panels, i)
					taken++
				}
				live++
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return learn(sample.Slice(0, taken), aim{info.Rows, aimedK, strangers}, threads), nil
}

// drawn is which of n neighbours a sample takes. Not always the same: a bank often
// holds its images in the same order again and again, once for each view or epoch, and
// of 200 times 2,000 images every 25th row is a view of one of 80.
func drawn(window, n int64) int64 {
	return rand.New(rand.NewPCG(uint64(window), 3)).Int64N(n)
}

// aim is what searches a basis is to serve: for k hits among so many rows.
type aim struct {
	rows  int64
	k     int
	least int // the k-th best row of the sample is not looked for above this rank
}

// aimedK is what most searches of a bank ask for.
const aimedK = 20

// strangers is the rank in the sample that stands for the k-th best row of a bank. Rows
// of the sample play the queries, and where a bank holds many views of each image
// their nearest are nearer than those of an image that the bank has not seen: with
// 200 noisy copies of each row the least rank of 2 chose 8 dims, too few for any
// other query.
const strangers = 12

// learn makes a basis from a sample of the rows to be searched. It overwrites them.
func learn(x simd.Matrix, at aim, threads int) *Basis {
	if x.Rows == 0 || x.Dim == 0 || x.Dim > 1<<22 {
		return nil
	}
	mean := make([]float64, x.Dim)
	for i := range x.Rows {
		simd.Normalize(x.Row(i), x.Row(i))
		for d, v := range x.Row(i) {
			mean[d] += float64(v)
		}
	}
	b := &Basis{dim: x.Dim, mean: make([]float32, x.Dim)}
	for d := range mean {
		b.mean[d] = float32(mean[d] / float64(x.Rows))
	}
	for i := range x.Rows {
		row := x.Row(i)
		for d := range row {
			row[d] -= b.mean[d]
		}
	}
	b.rows = directions(covariance(x, threads), maxRank, threads)
	b.delta = measureDelta(b.rows, threads)
	b.choose(x, at, threads)
	b.seal()
	return b
}

// covariance returns XᵀX.
func covariance(x simd.Matrix, threads int) square {
	const chunk = 1024 // rows at a time: float32 sums of so many, float64 beyond
	const n = simd.PanelRows
	g := newSquare(x.Dim)
	for first := 0; first < x.Rows; first += chunk {
		part := x.Slice(first, min(first+chunk, x.Rows))
		// Columns of part as vectors: rows that lie side by side, as a panel
		// and a tile want them.
		tiles := make([]float32, (x.Dim+simd.TileQueries-1)/simd.TileQueries*simd.TileQueries*part.Rows)
		for d := 0; d < x.Dim; d += simd.TileQueries {
			for i := range part.Rows {
				copy(tiles[d*part.Rows+i*simd.TileQueries:][:simd.TileQueries], part.Row(i)[d:])
			}
		}
		p := products{dim: part.Rows, rows: x.Dim, tiles: tiles}
		parallel(threads, simd.Panels(x.Dim), func() func(int) {
			panel, scratch := make([]float32, n*part.Rows), new(simd.TileScores)
			out := make([]float32, n*x.Dim)
			return func(j int) {
				clear(panel)
				for i := range part.Rows {
					copy(panel[i*n:][:n], part.Row(i)[j*n:])
				}
				p.panel(out, x.Dim, panel, ones[:], scratch)
				for i := range min(n, x.Dim-j*n) {
					to := g.row(j*n + i)
					for d, v := range out[i*x.Dim:][:x.Dim] {
						to[d] += float64(v)
					}
				}
			}
		})
	}
	return g
}

// directions returns the eigenvectors of g with the largest eigenvalues, at most
// most: exactly where there are no more, otherwise by subspace iteration.
func directions(g square, most, threads int) simd.Matrix {
	if g.n <= most {
		_, v := eigen(g)
		return narrowed(v.a, g.n, g.n)
	}
	rank := min(g.n, most+spareRows)
	v := make([]float64, rank*g.n)
	rng := rand.New(rand.NewPCG(1, 2))
	for i := range v {
		v[i] = rng.NormFloat64()
	}
	scale := 0.0
	for _, x := range g.a {
		scale = max(scale, math.Abs(x))
	}
	if scale == 0 {
		scale = 1
	}
	m := simd.NewMatrix(g.n, g.n)
	for i, x := range g.a {
		m.Data[i] = float32(x / scale)
	}
	image := func() []float64 { // G·v, a row a vector
		p := newProducts(m)
		return widened(p.all(narrowed(v, rank, g.n), threads).Data[:rank*g.n])
	}
	orthonormalise(v, g.n)
	for range rounds {
		copy(v, image())
		orthonormalise(v, g.n)
	}
	// Rayleigh and Ritz: the eigenvectors within the subspace.
	w := image()
	small := newSquare(rank)
	for i := range rank {
		for j := range i + 1 {
			e := (dot64(v[i*g.n:][:g.n], w[j*g.n:][:g.n]) + dot64(v[j*g.n:][:g.n], w[i*g.n:][:g.n])) / 2
			small.row(i)[j], small.row(j)[i] = e, e
		}
	}
	_, turn := eigen(small)
	turned := make([]float64, most*g.n)
	parallel(threads, most, func() func(int) {
		return func(i int) {
			to := turned[i*g.n:][:g.n]
			for j, f := range turn.row(i) {
				for d, x := range v[j*g.n:][:g.n] {
					to[d] += f * x
				}
			}
		}
	})
	orthonormalise(turned, g.n)
	return narrowed(turned, most, g.n)
}

func narrowed(v []float64, rows, dim int) simd.Matrix {
	m := simd.NewMatrix(rows, dim)
	for i := range m.Data {
		m.Data[i] = float32(v[i])
	}
	return m
}

// Nanoseconds of one core, measured on Zen 4; only their ratios matter.
const (
	costDim   = 0.0045 // a dim of a pair in the first stage
	costPair  = 0.06   // the rest of a pair in the first stage
	costNext  = 5      // a pair that comes to the second stage
	costByte  = 0.035  // a dim there
	costExact = 0.7    // a dim of a pair that is scored exactly
	// Of a query, once: each direction it is projected on, for a dim, and each dim
	// of both stages that is quantised.
	costProject  = 0.018
	costQuantise = 2
)

// choose sets the dims of both stages to what such a search is predicted to cost least with: some rows of the sample x (centred) play queries,
// others the bank, and every prefix is tried. It drops the directions that no
// stage needs.
func (b *Basis) choose(x simd.Matrix, at aim, threads int) {
	rank := b.rows.Rows
	all := (rank + dimStep - 1) / dimStep * dimStep
	all = max(all, headDims+dimStep)
	b.first, b.dims = min(all, 32), all
	queries := min(heldOut, x.Rows/4)
	bank := min(x.Rows-queries, chosenFrom)
	if queries > 0 {
		b.cut(x, queries, bank, at, threads)
	}
	if b.dims < rank {
		b.rows = b.rows.Slice(0, b.dims)
		b.delta = measureDelta(b.rows, threads)
	}
}

// cut counts, for every prefix, the pairs whose bound reaches the floor, and sets
// first and dims.
func (b *Basis) cut(x simd.Matrix, queries, bank int, at aim, threads int) {
	const step = dimStep / 2
	// Queries are spread over the sample, which is in the order of the bank.
	asked := simd.NewMatrix(queries, x.Dim)
	stride := x.Rows / queries
	gallery := simd.NewMatrix(0, x.Dim)
	gallery.Data = make([]float32, 0, bank*x.Dim)
	for i := range x.Rows {
		if i%stride == stride/2 && i/stride < queries {
			copy(asked.Row(i/stride), x.Row(i))
		} else if keep := max(1, x.Rows/max(bank, 1)); i%keep == 0 && gallery.Rows < bank {
			gallery.Data = append(gallery.Data, x.Row(i)...)
			gallery.Rows++
		}
	}
	if gallery.Rows == 0 {
		return
	}
	onto := newProducts(b.rows)
	z, y := onto.all(asked, threads), onto.all(gallery, threads)
	whole := newProducts(asked)
	exact := whole.all(gallery, threads) // [gallery][queries]
	toMean := newProducts(simd.Matrix{Data: b.mean, Rows: 1, Dim: x.Dim})
	m := toMean.all(gallery, threads)
	norms := func(of simd.Matrix) []float64 {
		n := make([]float64, of.Rows)
		for i := range n {
			n[i] = simd.Norm(of.Row(i))
		}
		return n
	}
	askedNorm, galleryNorm := norms(asked), norms(gallery)

	prefixes := (b.rows.Rows + step - 1) / step
	passed, passedNext := make([]int64, prefixes), make([]int64, prefixes)
	var mu sync.Mutex
	nth := max(at.least, int(int64(at.k)*int64(gallery.Rows)/max(at.rows, 1)))
	nth = min(nth, gallery.Rows)
	parallel(threads, queries, func() func(int) {
		scores := make([]float32, gallery.Rows)
		count, countNext := make([]int64, prefixes), make([]int64, prefixes)
		return func(q int) {
			for i := range scores {
				scores[i] = exact.Row(i)[q] + m.Data[i]
			}
			order := slices.Clone(scores)
			slices.SortFunc(order, func(a, b float32) int { return cmp.Compare(b, a) })
			floor := float64(order[nth-1])
			clear(count)
			clear(countNext)
			zq := z.Row(q)
			head := min(headDims, len(zq))
			zStep, zRest := float64(simd.MaxAbs(zq[:head]))/127, float64(simd.MaxAbs(zq[head:]))/127
			for i := range scores {
				yi := y.Row(i)
				yStep, yRest := float64(simd.MaxAbs(yi[:head]))/127, float64(simd.MaxAbs(yi[head:]))/127
				var sum, zz, yy, zHead, yHead float64
				for p := range prefixes {
					for d := p * step; d < min((p+1)*step, len(zq)); d++ {
						a, c := float64(zq[d]), float64(yi[d])
						sum, zz, yy = sum+a*c, zz+a*a, yy+c*c
					}
					tail := math.Sqrt(max(0, askedNorm[q]*askedNorm[q]-zz) * max(0, galleryNorm[i]*galleryNorm[i]-yy))
					if (p+1)*step <= headDims {
						zHead, yHead = zz, yy
					}
					noise := func(dims int, a, b, c, d float64) float64 {
						return math.Sqrt(float64(dims)/12) * (a*math.Sqrt(b) + c*math.Sqrt(d))
					}
					bound := sum + tail + float64(m.Data[i])
					if bound+noise((p+1)*step, yStep, zz, zStep, yy) >= floor {
						count[p]++
					}
					if bound+noise(headDims, yStep, zHead, zStep, yHead)+
						noise(max(0, (p+1)*step-headDims), yRest, zz-zHead, zRest, yy-yHead) >= floor {
						countNext[p]++
					}
				}
			}
			mu.Lock()
			for p, c := range count {
				passed[p] += c
				passedNext[p] += countNext[p]
			}
			mu.Unlock()
		}
	})
	best := math.Inf(1)
	pairs := float64(queries) * float64(gallery.Rows)
	for p := range prefixes {
		for n := p; n < prefixes; n++ {
			first, dims := (p+1)*step, (n+1)*step
			if dims%dimStep != 0 && n != prefixes-1 {
				continue
			}
			dims = max((dims+dimStep-1)/dimStep*dimStep, headDims+dimStep)
			cost := costDim*float64(first) + costPair +
				float64(passed[p])/pairs*(costNext+costByte*float64(dims)) +
				float64(passedNext[n])/pairs*costExact*float64(b.dim) +
				(float64(dims)*(costProject*float64(b.dim)+costQuantise)+float64(first)*costQuantise)/float64(max(at.rows, 1))
			if cost < best {
				best, b.first, b.dims = cost, first, dims
			}
		}
	}
}
