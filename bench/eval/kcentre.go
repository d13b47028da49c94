package eval

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"runtime"
	"time"

	"membank/simd"
	"membank/store"
)

// KCentre chooses a diverse subset: rows such that no row is far from a chosen one
// (the core-set of Sener and Savarese 2018). The choice is greedy, farthest first
// (Gonzalez 1985): each next row is the one farthest from all chosen so far, and the
// farthest row that is left is at most twice as far as with the best choice of that
// many. Far means the distance of unit rows, √(2−2·cosine).
type KCentre struct {
	N    int    // rows to choose
	Seed uint64 // chooses the first row
}

// KCentreReport is the choice.
type KCentreReport struct {
	Bank     string  `json:"bank"`
	Rows     int64   `json:"rows"`
	Selected int     `json:"selected"` // fewer than asked for if the rest repeats these
	Zeros    int64   `json:"zero_rows"`
	Radius   float64 `json:"radius"` // distance of the farthest row from the nearest chosen one, 0 to 2
	Seed     uint64  `json:"seed"`
	Seconds  float64 `json:"seconds"`

	Found []Centre `json:"-"` // in the order of choice: every prefix is a choice, too
}

// Centre is a chosen row.
type Centre struct {
	Row      int64
	Distance float64 // from those chosen before it; that of the first is 0
}

// repeats: rows that near are the same row but for rounding.
const repeats = 1e-3

// Run reads the bank once a row that is chosen: the cost is rows·N·dim multiplications
// at the speed of memory. It holds 12 bytes a row. Ties go to the smaller row, and
// threads do not matter. Zero rows have no direction: they are not chosen, nor asked
// to be near. ctx ends it within a pass.
func (c KCentre) Run(ctx context.Context, s *store.Snapshot, o RunOptions) (*KCentreReport, error) {
	start := time.Now()
	info := s.Info()
	if c.N < 1 {
		return nil, fmt.Errorf("%w: choose one row at least", ErrProtocol)
	}
	if o.Threads <= 0 {
		o.Threads = runtime.GOMAXPROCS(0)
	}
	r := &KCentreReport{Bank: info.Bank, Rows: info.Rows, Seed: c.Seed}
	p := newPool(s, o.Threads)
	if err := p.open(ctx, r); err != nil {
		return nil, err
	}
	if info.Rows == r.Zeros {
		return nil, fmt.Errorf("%w: bank %q has no row that is not zero", ErrTooFew, info.Bank)
	}
	// The first: any row that is not zero, each as likely.
	left := rand.New(rand.NewPCG(c.Seed, 0x6365)).Int64N(info.Rows - r.Zeros)
	next := int64(0)
	for ; p.cosine[next] == chosen || left > 0; next++ {
		if p.cosine[next] != chosen {
			left--
		}
	}
	distance := 0.0
	for {
		r.Found = append(r.Found, Centre{next, distance})
		if o.Progress != nil {
			o.Progress(int64(len(r.Found)), int64(c.N))
		}
		var cosine float32
		var err error
		if next, cosine, err = p.add(ctx, next); err != nil {
			return nil, err
		}
		distance = math.Sqrt(max(0, 2-2*float64(cosine)))
		if next < 0 || distance < repeats {
			r.Radius = 0
			break
		}
		r.Radius = distance
		if len(r.Found) == c.N {
			break
		}
	}
	r.Selected = len(r.Found)
	r.Seconds = time.Since(start).Seconds()
	return r, nil
}

// pool is the rows that may be chosen, with their cosine to the nearest chosen row.
type pool struct {
	s       *store.Snapshot
	threads int
	cosine  []float32 // by row number; chosen: not to be chosen (again)
	readers []*store.Reader
	scores  [][]float32 // [threads] of a block
	zero    []float32   // as many biases as the largest block has lanes
}

// chosen is above every cosine.
const chosen = 4

func newPool(s *store.Snapshot, threads int) *pool {
	p := &pool{s: s, threads: threads, cosine: make([]float32, s.Info().Next)}
	for range max(threads, 1) {
		p.readers, p.scores = append(p.readers, s.NewReader()), append(p.scores, nil)
	}
	for i := range s.Blocks() {
		if lanes := simd.Panels(s.BlockRows(i)) * simd.PanelRows; lanes > len(p.zero) {
			p.zero = make([]float32, lanes)
		}
	}
	return p
}

// open finds the rows that may be chosen.
func (p *pool) open(ctx context.Context, r *KCentreReport) error {
	for i := range p.cosine {
		p.cosine[i] = chosen
	}
	zeros := make([]int64, p.s.Blocks())
	err := p.blocks(ctx, func(w, block int, b *store.Block) {
		for lane := range b.Rows {
			switch {
			case b.Dead[lane]:
			case isZero(b, lane):
				zeros[block]++
			default:
				p.cosine[b.Row[lane]] = -2
			}
		}
	})
	for _, n := range zeros {
		r.Zeros += n
	}
	return err
}

// isZero says that a row of a block has no norm to divide by, and so no direction.
func isZero(b *store.Block, lane int) bool { return b.Scale[lane] >= 1/simd.Epsilon*0.999 }

// zeroRows counts the live rows without a direction.
func zeroRows(ctx context.Context, s *store.Snapshot) (n int64, err error) {
	r := s.NewReader()
	for block := range s.Blocks() {
		if ctx.Err() != nil {
			return 0, context.Cause(ctx)
		}
		err := r.View(block, func(b *store.Block) error {
			for lane := range b.Rows {
				if !b.Dead[lane] && isZero(b, lane) {
					n++
				}
			}
			return nil
		})
		if err != nil {
			return 0, err
		}
	}
	return n, nil
}

// add chooses a row, and returns the row that is now farthest, with its cosine to the
// nearest chosen row; −1 if none is left.
func (p *pool) add(ctx context.Context, row int64) (int64, float32, error) {
	got, err := p.s.Rows(ctx, []int64{row}, store.Want{Vector: true})
	if err != nil {
		return 0, 0, err
	}
	query := make([]float32, len(got[0].Vector))
	simd.Normalize(query, got[0].Vector)
	p.cosine[row] = chosen
	type farthest struct {
		row    int64
		cosine float32
	}
	best := make([]farthest, p.s.Blocks())
	err = p.blocks(ctx, func(w, block int, b *store.Block) {
		if len(p.scores[w]) < b.Lanes {
			p.scores[w] = make([]float32, b.Lanes)
		}
		scores := p.scores[w][:b.Lanes]
		simd.Scan(scores, b.Panels, b.Scale, p.zero[:b.Lanes], query)
		f := farthest{-1, chosen}
		for lane := range b.Rows {
			at := b.Row[lane]
			if b.Dead[lane] || p.cosine[at] == chosen {
				continue
			}
			near := max(p.cosine[at], scores[lane])
			p.cosine[at] = near
			if near < f.cosine || near == f.cosine && at < f.row {
				f = farthest{at, near}
			}
		}
		best[block] = f
	})
	if err != nil {
		return 0, 0, err
	}
	f := farthest{-1, chosen}
	for _, b := range best {
		if b.row >= 0 && (b.cosine < f.cosine || b.cosine == f.cosine && b.row < f.row) {
			f = b
		}
	}
	return f.row, f.cosine, nil
}

// blocks reads every block, on all threads.
func (p *pool) blocks(ctx context.Context, fn func(worker, block int, b *store.Block)) error {
	errs := make([]error, len(p.readers))
	spread(p.threads, p.s.Blocks(), func(w, i int) {
		if errs[w] == nil && ctx.Err() == nil {
			errs[w] = p.readers[w].View(i, func(b *store.Block) error {
				fn(w, i, b)
				return nil
			})
		}
	})
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return nil
}
