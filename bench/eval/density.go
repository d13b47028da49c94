package eval

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"membank/index"
	"membank/store"
)

// Density ranks rows by the company they keep among their k nearest others, by
// cosine: how dense it is around them, how much like another row they are, and
// whether they lie outside of what their neighbours call near.
type Density struct {
	K int // 0: 10
}

// DensityReport has a value for every live row.
type DensityReport struct {
	Bank       string  `json:"bank"`
	K          int     `json:"k"` // as many as there are, if fewer
	Rows       int64   `json:"rows"`
	Zeros      int64   `json:"zero_rows"`  // without a direction: their cosine with everything is 0
	Density    float64 `json:"density"`    // mean of the rows
	Uniqueness float64 `json:"uniqueness"` // mean of the rows
	Outliers   int64   `json:"outliers"`   // rows with an Outlier above OutlierFrom
	Seconds    float64 `json:"seconds"`

	Found []RowDensity `json:"-"` // in row order
}

// OutlierFrom is the local outlier factor above which a row is counted as an
// outlier: scikit-learn's, after Breunig et al. 2000.
const OutlierFrom = 1.5

// nearestResolved is a distance below which cosines of float32 rows are rounding: rows
// nearer than that are equally dense, or an outlier would be what rounds differently.
const nearestResolved = 1e-6

// RowDensity is what the neighbours of a row say of it.
type RowDensity struct {
	Row        int64
	Density    float64 // mean cosine to the k nearest: larger is denser
	Uniqueness float64 // 1 − cosine to the nearest: 0 is a duplicate
	// Outlier is the local outlier factor on d = 1−cosine: the mean density of the
	// neighbours over the row's own, density being 1/mean max(d, k-distance of the
	// neighbour). About 1 inside a cluster, of whatever density.
	Outlier float64
	Nearest int64 // row of the largest cosine
}

// Run costs the graph of the k nearest neighbours, which it holds: 12·k+24 bytes a
// row. Errors: ErrTooFew for fewer than two rows, index.ErrMemory where the graph
// does not fit into RunOptions.Memory.
func (d Density) Run(ctx context.Context, s *store.Snapshot, o RunOptions) (*DensityReport, error) {
	start := time.Now()
	info := s.Info()
	if d.K <= 0 {
		d.K = 10
	}
	if info.Rows < 2 {
		return nil, fmt.Errorf("%w: bank %q has %d, and neighbours need two", ErrTooFew, info.Bank, info.Rows)
	}
	zeros, err := zeroRows(ctx, s)
	if err != nil {
		return nil, err
	}
	if zeros == info.Rows {
		return nil, fmt.Errorf("%w: bank %q has no row that is not zero", ErrTooFew, info.Bank)
	}
	k := int(min(int64(d.K), info.Rows-1))
	if o.Memory <= 0 {
		o.Memory = 1 << 30
	}
	if need := info.Next * int64(12*k+24); need > o.Memory*3/4 {
		return nil, fmt.Errorf("%w: the %d neighbours of %d rows take %d MiB (ask for fewer with -k, or raise --memory)", index.ErrMemory, k, info.Rows, need>>20)
	}
	rows := make([]int64, 0, info.Rows)
	place := make([]int64, info.Next) // of a row among the live ones
	near := make([]int64, 0, info.Rows*int64(k))
	distance := make([]float32, 0, info.Rows*int64(k))
	g := index.GraphOptions{K: k, NoCodes: o.NoCodes, Threads: o.Threads, Memory: o.Memory / 4, Progress: o.Progress}
	_, err = index.New(s).Graph(ctx, g, func(row int64, hits []index.Hit) error {
		place[row] = int64(len(rows))
		rows = append(rows, row)
		for _, h := range hits {
			near, distance = append(near, h.Row), append(distance, max(0, 1-h.Score))
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	r := &DensityReport{Bank: info.Bank, K: k, Rows: info.Rows, Zeros: zeros, Found: make([]RowDensity, len(rows))}
	reach := make([]float64, len(rows)) // local reachability density
	for i, row := range rows {
		sum, reached := 0.0, 0.0
		for j := i * k; j < (i+1)*k; j++ {
			other := place[near[j]]
			sum += 1 - float64(distance[j])
			reached += float64(max(distance[j], distance[other*int64(k)+int64(k)-1]))
		}
		reach[i] = 1 / max(reached/float64(k), nearestResolved)
		r.Found[i] = RowDensity{Row: row, Density: sum / float64(k), Uniqueness: float64(distance[i*k]), Nearest: near[i*k]}
	}
	for i := range rows {
		sum := 0.0
		for _, other := range near[i*k : (i+1)*k] {
			sum += reach[place[other]]
		}
		f := &r.Found[i]
		f.Outlier = sum / float64(k) / reach[i]
		if f.Outlier > OutlierFrom {
			r.Outliers++
		}
		r.Density += f.Density
		r.Uniqueness += f.Uniqueness
	}
	r.Density /= float64(len(rows))
	r.Uniqueness /= float64(len(rows))
	slices.SortFunc(r.Found, func(a, b RowDensity) int { return cmp.Compare(a.Row, b.Row) })
	r.Seconds = time.Since(start).Seconds()
	return r, nil
}
