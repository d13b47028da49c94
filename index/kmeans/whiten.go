package kmeans

import (
	"context"
	"fmt"
	"math"
	"strings"
	"sync"

	"membank/simd"
)

// Whitening names how rows are rotated and scaled before they are clustered. Papers
// agree on the word and not on what it means, so a published figure needs the name.
type Whitening string

const (
	// DeepCluster, as VISSL: covariance about the mean, eigenvalues raised to 1e-5 of
	// the largest, rows divided by their length afterwards.
	DeepCluster Whitening = "deepcluster"
	// FAISS is PCAW,L2norm: covariance about the mean, eigenvalues as they are;
	// directions in which rows do not vary at all, to float64, are left out (faiss
	// divides by their root).
	FAISS Whitening = "faiss"
	// DINO: the mean is subtracted from rows, but the covariance is about the origin;
	// eigenvalues and lengths as DeepCluster's.
	DINO Whitening = "dino"
	// PCA only rotates and cuts: no scaling, no lengths.
	PCA Whitening = "pca"
)

// Whitenings are all of them.
var Whitenings = []Whitening{DeepCluster, FAISS, DINO, PCA}

// ParseWhitening is the inverse of the name; case does not matter.
func ParseWhitening(name string) (Whitening, error) {
	for _, w := range Whitenings {
		if strings.EqualFold(name, string(w)) {
			return w, nil
		}
	}
	return "", fmt.Errorf("%w: no such whitening: %q (known: %v)", ErrOptions, name, Whitenings)
}

// WhitenOptions say how Whiten rotates. Dim must be set.
type WhitenOptions struct {
	Dim     int       // directions kept, those of the largest eigenvalues; 1 … Source.Dim()
	How     Whitening // "" means DeepCluster
	Threads int       // 0 means GOMAXPROCS
	// Progress, if set, is told how far it is: in stages "mean" and "covariance",
	// rows. Calls do not overlap.
	Progress func(Progress)
}

// Whitened is the Source of the rows of another one, whitened: W·(x−μ), then of
// length 1 where the variant says so. It computes them whenever they are read, 2·dim
// operations a number; see Hold.
type Whitened struct {
	from      Source
	mean      []float32
	panels    []float32 // W, packed: [⌈dim/32⌉][from.Dim()][32]
	dim       int
	unit      bool
	variances []float64
	total     float64
	dropped   int       // directions that are left out
	buffers   sync.Pool // of *projection
}

const (
	// floorShare of the largest eigenvalue is the least that is divided by.
	floorShare = 1e-5
	// Below this share an eigenvalue is rounding of the float64 sums.
	noVariance = 1e-12
	// Rows are projected so many at a time.
	projectRows = 16 * simd.TileQueries
)

// Whiten learns the rotation from all rows of s, in two passes over them: the mean,
// then the covariance, both in float64. That costs rows·dim² operations of float64,
// the eigenvectors some 10·dim³ more on one core (a minute at 2,048 dimensions), and
// 16·dim² bytes; of fewer rows than dimensions rows²·dim and 10·rows³ instead (see
// fewRows). The same rows give the same bits on any number of threads.
func Whiten(ctx context.Context, s Source, o WhitenOptions) (*Whitened, error) {
	o.Threads = threadsOr(o.Threads)
	if o.How == "" {
		o.How = DeepCluster
	}
	how, err := ParseWhitening(string(o.How))
	if err != nil {
		return nil, err
	}
	switch {
	case o.Dim < 1 || o.Dim > s.Dim():
		return nil, fmt.Errorf("%w: %d directions of %d dimensions (keep 1 to %d)", ErrOptions, o.Dim, s.Dim(), s.Dim())
	case s.Rows() < 2:
		return nil, fmt.Errorf("%w: there is one row", ErrVariance)
	}
	mean, err := meanOf(ctx, s, o)
	if err != nil {
		return nil, err
	}
	about := mean
	if how == DINO {
		about = make([]float64, s.Dim())
	}
	side := manyRows
	if s.Rows() < s.Dim() {
		side = fewRows
	}
	values, vectors, total, err := side(ctx, s, about, o.Dim, o)
	if err != nil {
		return nil, err
	}
	middle := 0.0 // of the moments about the origin that is what equal rows have
	for _, x := range mean {
		middle += x * x
	}
	spread := total
	if how == DINO {
		spread -= middle
	}
	if spread <= noVariance*middle {
		return nil, fmt.Errorf("%w: all are equal, or differ by less than rounding", ErrVariance)
	}
	w := &Whitened{from: s, dim: o.Dim, unit: how != PCA, variances: values, total: total}
	directions := simd.NewMatrix(o.Dim, s.Dim())
	for i := range o.Dim {
		by := scaleOf(how, values[i], values[0])
		if by == 0 {
			w.dropped++
		}
		for d, x := range vectors[i*s.Dim():][:s.Dim()] {
			directions.Row(i)[d] = float32(by * x)
		}
	}
	w.panels = make([]float32, simd.Panels(o.Dim)*simd.PanelRows*s.Dim())
	simd.Pack(w.panels, directions)
	w.mean = make([]float32, s.Dim())
	for d, x := range mean {
		w.mean[d] = float32(x)
	}
	return w, nil
}

// manyRows returns the count largest eigenvalues of the covariance of rows about a
// point, their eigenvectors [count][dim], and the sum of all eigenvalues.
func manyRows(ctx context.Context, s Source, about []float64, count int, o WhitenOptions) (values, vectors []float64, total float64, err error) {
	g, err := covarianceOf(ctx, s, about, o)
	if err != nil {
		return nil, nil, 0, err
	}
	values, vectors, err = eigen(ctx, g, s.Dim())
	if err != nil {
		return nil, nil, 0, err
	}
	for _, v := range values {
		total += max(v, 0)
	}
	return values[:count], vectors[:count*s.Dim()], total, nil
}

// scaleOf is what a direction of this variance is multiplied by.
func scaleOf(how Whitening, variance, largest float64) float64 {
	switch {
	case how == PCA:
		return 1
	case !(largest > 0):
		return 0 // rows that are all equal
	case how == FAISS && variance <= noVariance*largest:
		return 0
	case how == FAISS:
		return 1 / math.Sqrt(variance)
	}
	return 1 / math.Sqrt(max(variance, floorShare*largest))
}

// On is the same rotation of the rows of another source, of the same dimension: that
// of queries, say. The two share nothing that is written.
func (w *Whitened) On(s Source) (*Whitened, error) {
	if s.Dim() != w.from.Dim() {
		return nil, fmt.Errorf("%w: rows of %d dimensions, and the rotation was learnt from %d", ErrOptions, s.Dim(), w.from.Dim())
	}
	return &Whitened{
		from: s, mean: w.mean, panels: w.panels, dim: w.dim, unit: w.unit,
		variances: w.variances, total: w.total, dropped: w.dropped,
	}, nil
}

// Dropped is how many of the directions kept have no variance to divide by, and are 0
// in every row.
func (w *Whitened) Dropped() int { return w.dropped }

// Rows is that of the source whose rows are whitened.
func (w *Whitened) Rows() int { return w.from.Rows() }

// Dim is the number of directions kept.
func (w *Whitened) Dim() int { return w.dim }

// Rotation returns W, [Dim()][dim of the rows], and the mean μ [dim] that is
// subtracted before.
func (w *Whitened) Rotation() (rotation simd.Matrix, mean []float32) {
	rotation = simd.NewMatrix(w.dim, w.from.Dim())
	simd.Unpack(rotation, w.panels)
	return rotation, w.mean
}

// Kept is the share of the variance that lies in the directions kept.
func (w *Whitened) Kept() float64 {
	kept := 0.0
	for _, v := range w.variances {
		kept += max(v, 0)
	}
	return kept / w.total
}

// Read reads rows and whitens them.
func (w *Whitened) Read(ctx context.Context, first int, to simd.Matrix) error {
	return w.whiten(ctx, to, func(at int, part simd.Matrix) error { return w.from.Read(ctx, first+at, part) })
}

// Gather gathers rows and whitens them.
func (w *Whitened) Gather(ctx context.Context, rows []int, to simd.Matrix) error {
	return w.whiten(ctx, to, func(at int, part simd.Matrix) error { return w.from.Gather(ctx, rows[at:at+part.Rows], part) })
}

// projection is scratch for some rows.
type projection struct {
	rows   simd.Matrix
	tile   []float32
	scores simd.TileScores
}

func (w *Whitened) whiten(ctx context.Context, to simd.Matrix, read func(at int, part simd.Matrix) error) error {
	p, _ := w.buffers.Get().(*projection)
	if p == nil {
		p = &projection{rows: simd.NewMatrix(projectRows, w.from.Dim()), tile: make([]float32, simd.TileQueries*w.from.Dim())}
	}
	defer w.buffers.Put(p)
	for at := 0; at < to.Rows; at += projectRows {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		part := p.rows.Slice(0, min(projectRows, to.Rows-at))
		if err := read(at, part); err != nil {
			return err
		}
		for i := range part.Rows {
			row := part.Row(i)
			for d, m := range w.mean {
				row[d] -= m
			}
		}
		for i := 0; i < part.Rows; i += simd.TileQueries {
			w.project(p, part.Slice(i, min(i+simd.TileQueries, part.Rows)), to, at+i)
		}
	}
	return nil
}

// project multiplies up to a tile of rows, and puts them into to from row at on.
func (w *Whitened) project(p *projection, rows, to simd.Matrix, at int) {
	const n = simd.PanelRows
	simd.PackQueries(p.tile, rows)
	for first := 0; first < w.dim; first += n {
		simd.Tile(&p.scores, w.panels[first*rows.Dim:][:n*rows.Dim], ones[:], zeros[:], p.tile, &noFloor)
		for i := range rows.Rows {
			copy(to.Row(at + i)[first:], p.scores.Scores[i][:min(n, w.dim-first)])
		}
	}
	if !w.unit {
		return
	}
	for i := range rows.Rows {
		simd.Normalize(to.Row(at+i), to.Row(at+i))
	}
}

var (
	ones, zeros [simd.PanelRows]float32
	noFloor     [simd.TileQueries]float32
)

func init() {
	for i := range ones {
		ones[i] = 1
	}
	for i := range noFloor {
		noFloor[i] = float32(math.Inf(1))
	}
}

// Hold reads all rows of a source into memory, 4·dim bytes each, for one whose rows
// are dear to read as often as a clustering does.
func Hold(ctx context.Context, s Source, threads int) (Source, error) {
	m := simd.NewMatrix(s.Rows(), s.Dim())
	const each = 1024
	err := parallel(ctx, threadsOr(threads), (m.Rows+each-1)/each, func(ctx context.Context, i int) error {
		return s.Read(ctx, i*each, m.Slice(i*each, min((i+1)*each, m.Rows)))
	})
	return Matrix(m), err
}
