package ivf

import (
	"context"
	"fmt"
	"slices"

	"membank/index"
	"membank/simd"
	"membank/store"
)

// Description is how a grouped bank stands.
type Description struct {
	Info  store.Info
	Lists *index.Lists
	Rows  []int64 // live rows of each list now
	// Strays are live rows that lie outside of all lists, so that every search
	// reads them.
	Strays    int64
	Min, Max  int64
	Median    float64
	Empty     int
	Imbalance float64 // nlist·Σ(n/N)²
	Changed   float64 // share of the live rows that came or moved since the build
	Built     int64   // rows of all lists when it was built
	// Near is the mean score of a row's nearest centroid in a sample of the rows that
	// are in lists, for cosine; otherwise the mean squared distance. BuiltNear is that
	// when the lists were made, of all of them.
	Near, BuiltNear float64
	far             float64 // strays that new lists could take, as far as the sample tells
	Rebuild         string  // why to build anew; "" if there is no reason
}

// When to build anew. A search reads lists in proportion to their rows, so a list
// that has grown costs as much more; strays cost every search.
const (
	mostStrays    = 0.02
	mostChanged   = 0.5
	mostImbalance = 1.5 // times that at build
	mostFarther   = 1.2 // times as far from the centroids

	nearSample = 2048
)

// Describe counts what is in the lists of a bank. It reads the columns of every
// block, no vectors. Errors: store.ErrFlat, index.ErrLists, those of the store and
// of ctx.
func Describe(ctx context.Context, s *store.Snapshot) (d Description, err error) {
	d.Info = s.Info()
	record, err := s.Lists()
	if err != nil {
		return d, err
	}
	if record == nil {
		return d, fmt.Errorf("bank %q: %w", s.Bank(), store.ErrFlat)
	}
	if d.Lists, err = index.DecodeLists(record); err != nil {
		return d, err
	}
	rows, numbers, err := sampleRows(ctx, s, nearSample)
	if err != nil {
		return d, err
	}
	stray := map[int64]bool{} // of those rows
	for _, row := range numbers {
		stray[row] = false
	}
	nlist := d.Lists.Count()
	all := make([]int64, nlist+1)
	r := s.NewReader()
	for block := range s.Blocks() {
		if ctx.Err() != nil {
			return d, context.Cause(ctx)
		}
		runs, err := s.Runs(block)
		if err != nil {
			return d, err
		}
		err = r.Columns(block, func(c *store.Columns) error {
			for _, run := range runs {
				if run.List < 0 || int(run.List) > nlist {
					return fmt.Errorf("%w: block %d has rows of list %d of %d", index.ErrLists, block, run.List, nlist+1)
				}
				for i := run.From; i < run.To; i++ {
					if c.Dead[i] {
						continue
					}
					all[run.List]++
					if _, asked := stray[c.Row[i]]; asked && int(run.List) == nlist {
						stray[c.Row[i]] = true
					}
				}
			}
			return nil
		})
		if err != nil {
			return d, err
		}
	}
	d.Rows, d.Strays = all[:nlist], all[nlist]
	d.Imbalance = index.Imbalance(d.Rows)
	sorted := slices.Sorted(slices.Values(d.Rows))
	d.Min, d.Max = sorted[0], sorted[nlist-1]
	d.Median = float64(sorted[(nlist-1)/2]+sorted[nlist/2]) / 2
	for _, n := range d.Rows {
		if n == 0 {
			d.Empty++
		}
	}
	for _, n := range d.Lists.Rows {
		d.Built += n
	}
	if changed := d.Info.Delta; d.Info.Rows > 0 {
		d.Changed = min(1, float64(changed)/float64(d.Info.Rows))
	}
	listed, strays, far := simd.NewMatrix(0, rows.Dim), 0, 0
	for i, row := range numbers {
		switch {
		case !stray[row]:
			listed.Data = append(listed.Data, rows.Row(i)...)
			listed.Rows++
		case d.Lists.Metric != index.Cosine || !directionless(rows.Row(i)):
			far++
			fallthrough
		default:
			strays++
		}
	}
	if err := d.near(ctx, listed); err != nil {
		return d, err
	}
	d.far = float64(d.Strays) * float64(far) / float64(max(strays, 1))
	if strays == 0 {
		d.far = float64(d.Strays) // too few to be in the sample
	}
	d.Rebuild = d.advice()
	return d, nil
}

// near compares how far rows of lists are from their centroids with how far they
// were.
func (d *Description) near(ctx context.Context, rows simd.Matrix) error {
	for j, n := range d.Lists.Near {
		d.BuiltNear += float64(n) * float64(d.Lists.Rows[j]) / float64(max(d.Built, 1))
	}
	if rows.Rows == 0 {
		d.Near = d.BuiltNear // nothing has come to the lists that says otherwise
		return nil
	}
	a, err := index.NewAssigner(d.Lists, 0)
	if err != nil {
		return err
	}
	d.Near, err = a.MeanScore(ctx, rows)
	return err
}

func (d *Description) advice() string {
	built := index.Imbalance(d.Lists.Rows)
	share := d.far / float64(max(d.Info.Rows, 1))
	switch {
	case share > mostStrays:
		return fmt.Sprintf("%.1f %% of the rows lie outside of all lists, and every search reads them", 100*share)
	case float64(d.Info.Rows-d.Strays) > (1+mostChanged)*float64(d.Built):
		return fmt.Sprintf("the lists have %d rows, and had %d when they were made", d.Info.Rows-d.Strays, d.Built)
	case d.farther() > mostFarther:
		return fmt.Sprintf("rows lie %.2f times as far from their centroids as when the lists were made", d.farther())
	case d.Imbalance > mostImbalance*built:
		return fmt.Sprintf("the lists have grown unevenly (imbalance %.2f, %.2f when they were made)", d.Imbalance, built)
	}
	return ""
}

// farther is the mean squared distance of rows from their centroids, as a multiple of
// what it was.
func (d *Description) farther() float64 {
	was, is := d.BuiltNear, d.Near
	if d.Lists.Metric == index.Cosine {
		was, is = 1-was, 1-is // of unit vectors, half of it
	}
	return (is + 1e-6) / (was + 1e-6)
}
