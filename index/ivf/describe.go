package ivf

import (
	"context"
	"fmt"
	"slices"

	"membank/index"
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
	Built     int64   // rows when it was built
	// Near is the mean score of a row's nearest centroid in a sample of the rows, for
	// cosine; otherwise the mean squared distance. BuiltNear is that when the lists
	// were made, of all rows.
	Near, BuiltNear float64
	Rebuild         string // why to build anew; "" if there is no reason
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
				for _, dead := range c.Dead[run.From:run.To] {
					if !dead {
						all[run.List]++
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
	if err := d.near(ctx, s); err != nil {
		return d, err
	}
	d.Rebuild = d.advice()
	return d, nil
}

// near compares how far rows are from their centroids with how far they were.
func (d *Description) near(ctx context.Context, s *store.Snapshot) error {
	for j, n := range d.Lists.Near {
		d.BuiltNear += float64(n) * float64(d.Lists.Rows[j]) / float64(max(d.Built, 1))
	}
	rows, _, err := sampleRows(ctx, s, nearSample)
	if err != nil || rows.Rows == 0 {
		return err
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
	share := float64(d.Strays) / float64(max(d.Info.Rows, 1))
	switch {
	case share > mostStrays:
		return fmt.Sprintf("%.1f %% of the rows lie outside of all lists, and every search reads them", 100*share)
	case float64(d.Info.Rows) > (1+mostChanged)*float64(d.Built):
		return fmt.Sprintf("the bank has %d rows, and had %d when the lists were made", d.Info.Rows, d.Built)
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
