package eval

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"membank/index"
	"membank/store"
)

// Duplicates finds rows that are the same picture, or nearly: pairs whose cosine
// reaches MinScore. Every pair is found, and none that falls short: it is an exact
// join, not a clustering.
type Duplicates struct {
	MinScore float32 // −1 to 1; 0.98, say

	most int64 // pairs to find before they are too many; 0: some per row
}

// DuplicateReport is what a join found.
type DuplicateReport struct {
	Bank     string  `json:"bank"`
	In       string  `json:"in,omitempty"` // the bank whose rows the duplicates are of, where it is another
	MinScore float32 `json:"min_score"`
	Rows     int64   `json:"rows"`                     // of Bank
	Pairs    int64   `json:"pairs"`                    // that reach the score
	AtLeast  bool    `json:"pairs_at_least,omitempty"` // there are more: they were too many to count, and groups are known without
	Groups   int64   `json:"groups"`                   // of rows linked by pairs, through others too
	Grouped  int64   `json:"grouped"`                  // rows in groups
	Drop     int64   `json:"drop"`                     // rows to leave out
	Mixed    int64   `json:"conflicts"`                // of these, rows with another label than the row that is kept
	Zeros    int64   `json:"zero_rows"`                // of Bank: without a direction, they resemble nothing
	Seconds  float64 `json:"seconds"`

	// Found are the rows of Bank in groups, in row order.
	Found []Duplicate `json:"-"`
}

// Duplicate is a row that has duplicates.
type Duplicate struct {
	Row   int64
	Group int64 // the smallest row of the group
	// Of is the row that stands for this one and is kept: the nearest of those kept
	// before it, at MinScore at least. −1: the row itself is kept.
	Of       int64
	Score    float32 // with Of; 0 where there is none
	Conflict bool    // the two have different labels
}

// crowd is how many pairs a row may have in the mean, beside some millions, before they
// are too many to count.
const crowd = 16

// Within finds the duplicates inside a bank. Rows are taken in row order: one is kept
// unless an earlier row that is kept reaches MinScore with it. So every row that is
// dropped has a kept one that near, whatever else its group holds: groups chain, and
// their ends may be far apart. Rows of equal bits have cosine 1, whatever that rounds
// to, and share the fate of the first of them: they are found by a hash, and the first
// is compared for all, so that they cost one reading of the bank.
//
// The cost beyond that is that of the graph of all pairs that near, of which no more
// than some rows' is held at a time. Where rows have more than crowd each in the mean,
// as those of a collapsed encoder do, pairs are no longer counted: rows are compared with
// those that are kept, and groups joined where they may touch, see leaders. Groups and
// rows to drop are the same as from all pairs. Memory: 36 bytes a row, 40 a row
// that is found, and the labels; for leaders the rows that are kept, within
// RunOptions.Memory, without which all pairs are compared after all.
func (d Duplicates) Within(ctx context.Context, s *store.Snapshot, o RunOptions) (*DuplicateReport, error) {
	start := time.Now()
	if o.Memory <= 0 {
		o.Memory = index.DefaultMemory
	}
	o.defaults()
	info := s.Info()
	labels, err := s.Labels(ctx)
	if err != nil {
		return nil, err
	}
	zeros, err := directed(ctx, s)
	if err != nil {
		return nil, err
	}
	equal, err := findStandIns(ctx, s, o.Threads)
	if err != nil {
		return nil, err
	}
	r := &DuplicateReport{Bank: info.Bank, MinScore: d.MinScore, Rows: info.Rows, Zeros: zeros}
	most := d.most
	if most == 0 {
		most = 1<<22 + crowd*info.Rows
	}
	j := newJoin(s, d.MinScore, equal, o)
	switch err = j.pairs(ctx, most); {
	case errors.Is(err, errCrowded) || errors.Is(err, index.ErrMemory):
		j = newJoin(s, d.MinScore, equal, o)
		err = (&leaders{join: j}).run(ctx)
		j.found, r.AtLeast = most, true
		if errors.Is(err, errCrowded) {
			j, r.AtLeast = newJoin(s, d.MinScore, equal, o), false
			err = j.pairs(ctx, math.MaxInt64)
		}
	}
	if err != nil {
		return nil, err
	}
	r.Pairs = j.found
	j.report(r, labels)
	r.Seconds = time.Since(start).Seconds()
	return r, nil
}

// directed counts rows that are zero, and refuses a bank of nothing else.
func directed(ctx context.Context, s *store.Snapshot) (zeros int64, err error) {
	zeros, err = zeroRows(ctx, s)
	if err == nil && zeros > 0 && zeros == s.Info().Rows {
		err = fmt.Errorf("%w: bank %q has no row that is not zero, and zero rows have no cosine", ErrTooFew, s.Bank())
	}
	return zeros, err
}

func (r *DuplicateReport) drop(f *Duplicate) {
	if f.Of >= 0 {
		r.Drop++
	}
	if f.Conflict {
		r.Mixed++
	}
}

func conflict(a, b int64) bool { return a != store.NoLabel && b != store.NoLabel && a != b }

// Between finds the rows of queries that have a duplicate in gallery: test images
// that leaked into the training set. Each is found with its nearest row of gallery,
// which is its group; Pairs counts one a row. Labels are compared as KNN does, by
// name where both banks have names.
func (d Duplicates) Between(ctx context.Context, queries, gallery *store.Snapshot, o RunOptions) (*DuplicateReport, error) {
	start := time.Now()
	a, b := queries.Info(), gallery.Info()
	if a.Dim != b.Dim {
		return nil, fmt.Errorf("%w: %q has %d, %q has %d", store.ErrDim, a.Bank, a.Dim, b.Bank, b.Dim)
	}
	classes, err := gallery.Labels(ctx)
	if err != nil {
		return nil, err
	}
	dictionary, _ := newDictionary(classes, b.ClassNames)
	translate := newTranslation(dictionary, a.ClassNames)
	o.defaults()
	r := &DuplicateReport{Bank: a.Bank, In: b.Bank, MinScore: d.MinScore, Rows: a.Rows}
	if r.Zeros, err = directed(ctx, queries); err != nil {
		return nil, err
	}
	if _, err := directed(ctx, gallery); err != nil {
		return nil, err
	}
	groups := map[int64]bool{}
	ix := index.New(gallery)
	done := int64(0)
	size := int(max(1, min(8192, o.Memory/4/int64(16*a.Dim+256))))
	err = queries.Batches(ctx, size, func(in store.Batch) error {
		found, err := ix.Search(ctx, in.Vectors, index.Options{K: 1, MinScore: d.MinScore, HasMinScore: true, NoCodes: o.NoCodes, Threads: o.Threads, Memory: o.Memory})
		if err != nil {
			return fmt.Errorf("bank %q: %w", a.Bank, err)
		}
		for i, hits := range found.Hits {
			if len(hits) == 0 {
				continue
			}
			f := Duplicate{Row: in.Rows[i], Group: hits[0].Row, Of: hits[0].Row, Score: hits[0].Score}
			if in.Labels[i] != store.NoLabel && classes[f.Of] >= 0 {
				f.Conflict = int64(translate.class(in.Labels[i])) != classes[f.Of]
			}
			groups[f.Group] = true
			r.drop(&f)
			r.Found = append(r.Found, f)
		}
		done += int64(in.Vectors.Rows)
		if o.Progress != nil {
			o.Progress(done, a.Rows)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	r.Pairs, r.Grouped, r.Groups = int64(len(r.Found)), int64(len(r.Found)), int64(len(groups))
	r.Seconds = time.Since(start).Seconds()
	return r, nil
}
