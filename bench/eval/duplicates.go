package eval

import (
	"cmp"
	"context"
	"fmt"
	"runtime"
	"slices"
	"time"

	"membank/index"
	"membank/store"
)

// Duplicates finds rows that are the same picture, or nearly: pairs whose cosine
// reaches MinScore. Every pair is found, and none that falls short: it is an exact
// join, not a clustering.
type Duplicates struct {
	MinScore float32 // −1 to 1; 0.98, say
}

// DuplicateReport is what a join found.
type DuplicateReport struct {
	Bank     string  `json:"bank"`
	In       string  `json:"in,omitempty"` // the bank whose rows the duplicates are of, where it is another
	MinScore float32 `json:"min_score"`
	Rows     int64   `json:"rows"`      // of Bank
	Pairs    int64   `json:"pairs"`     // that reach the score
	Groups   int64   `json:"groups"`    // of rows linked by pairs, through others too
	Grouped  int64   `json:"grouped"`   // rows in groups
	Drop     int64   `json:"drop"`      // rows to leave out
	Mixed    int64   `json:"conflicts"` // of these, rows with another label than the row that is kept
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

// Within finds the duplicates inside a bank. Rows are taken in row order: one is kept
// unless an earlier row that is kept reaches MinScore with it. So every row that is
// dropped has a kept one that near, whatever else its group holds: groups chain, and
// their ends may be far apart. The cost is that of the graph of all pairs that near,
// of which no more than some rows' is held at a time; beside it 11 bytes a row, and
// 40 a row that is found, and the labels. Thousands of equal rows take no more memory
// than others, but time for each of their pairs.
func (d Duplicates) Within(ctx context.Context, s *store.Snapshot, o RunOptions) (*DuplicateReport, error) {
	start := time.Now()
	info := s.Info()
	labels, err := s.Labels(ctx)
	if err != nil {
		return nil, err
	}
	r := &DuplicateReport{Bank: info.Bank, MinScore: d.MinScore, Rows: info.Rows}
	parent := make([]int64, info.Next) // union-find; the root is the smallest row
	for i := range parent {
		parent[i] = int64(i)
	}
	// Rows that are left out, that have pairs with earlier ones, and with later ones.
	dropped, after, before := make([]bool, info.Next), make([]bool, info.Next), make([]bool, info.Next)
	g := index.GraphOptions{MinScore: d.MinScore, HasMinScore: true, Earlier: true, NoCodes: o.NoCodes, Threads: o.Threads, Memory: o.Memory, Progress: o.Progress}
	_, err = index.New(s).Graph(ctx, g, func(row int64, earlier []index.Hit) error {
		if len(earlier) == 0 {
			return nil
		}
		found := Duplicate{Row: row, Of: -1}
		for _, h := range earlier { // best first
			r.Pairs++
			before[h.Row] = true
			link(parent, row, h.Row)
			if found.Of < 0 && !dropped[h.Row] {
				found.Of, found.Score = h.Row, h.Score
				found.Conflict = conflict(labels[row], labels[h.Row])
			}
		}
		after[row], dropped[row] = true, found.Of >= 0
		r.Found = append(r.Found, found)
		return nil
	})
	if err != nil {
		return nil, err
	}
	for row := range before {
		if before[row] && !after[row] {
			r.Found = append(r.Found, Duplicate{Row: int64(row), Of: -1})
		}
	}
	slices.SortFunc(r.Found, func(a, b Duplicate) int { return cmp.Compare(a.Row, b.Row) })
	for i := range r.Found {
		f := &r.Found[i]
		f.Group = root(parent, f.Row)
		if f.Group == f.Row {
			r.Groups++
		}
		r.drop(f)
	}
	r.Grouped = int64(len(r.Found))
	r.Seconds = time.Since(start).Seconds()
	return r, nil
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

// root follows parents, and shortens the way for the next time.
func root(parent []int64, row int64) int64 {
	for parent[row] != row {
		parent[row] = parent[parent[row]]
		row = parent[row]
	}
	return row
}

func link(parent []int64, a, b int64) {
	a, b = root(parent, a), root(parent, b)
	if a != b {
		parent[max(a, b)] = min(a, b)
	}
}

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
	if o.Threads <= 0 {
		o.Threads = runtime.GOMAXPROCS(0)
	}
	if o.Memory <= 0 {
		o.Memory = 256 << 20
	}
	r := &DuplicateReport{Bank: a.Bank, In: b.Bank, MinScore: d.MinScore, Rows: a.Rows}
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
