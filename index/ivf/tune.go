package ivf

import (
	"context"
	"errors"
	"fmt"

	"membank/index"
	"membank/simd"
	"membank/store"
)

// TuneOptions say what Tune measures with.
type TuneOptions struct {
	// Queries, [queries][dim], are the user's own. Without them rows of the bank are
	// asked, Sample of them, 0 means 1024, each without itself as an answer.
	Queries simd.Matrix
	Sample  int
	// Recalls and K as in index.TuneOptions.
	Recalls []float64
	K       []int
	Threads int
	Memory  int64
}

// defaultSample rows ask for recalls up to 0.999: half of them with 10 neighbours
// each are 5,120 rows to find, of which 5 may be missed.
const defaultSample = 1024

// ErrFewRows is returned where there are not enough live rows, or queries, to
// measure a recall.
var ErrFewRows = errors.New("too few to tune with")

// Tune measures what a search of a grouped bank must read for some recalls, and
// keeps it with the bank; see index.Tune. Errors: store.ErrFlat, ErrFewRows, those
// of the store, of a search, and of ctx.
func Tune(ctx context.Context, db *store.DB, bank string, o TuneOptions) (store.Info, []index.Tuning, error) {
	s, err := db.Snapshot(bank)
	if err != nil {
		return store.Info{}, nil, err
	}
	defer s.Close()
	record, err := s.Lists()
	if err == nil && record == nil {
		err = fmt.Errorf("bank %q: %w", bank, store.ErrFlat)
	}
	if err != nil {
		return s.Info(), nil, err
	}
	lists, err := index.DecodeLists(record)
	if err != nil {
		return s.Info(), nil, err
	}
	queries, exclude := o.Queries, []int64(nil)
	own := queries.Rows > 0
	if !own {
		if queries, exclude, err = sampleRows(ctx, s, o.Sample); err != nil {
			return s.Info(), nil, err
		}
	}
	if queries.Rows < 2 {
		return s.Info(), nil, fmt.Errorf("bank %q: %w: %d queries", bank, ErrFewRows, queries.Rows)
	}
	lists.Tuned, err = index.New(s).Tune(ctx, s, queries, exclude, index.TuneOptions{
		Recalls: o.Recalls, K: o.K, Own: own, Threads: o.Threads, Memory: o.Memory,
	})
	if err != nil {
		return s.Info(), nil, err
	}
	info, err := db.WriteLists(ctx, bank, lists.Encode())
	return info, lists.Tuned, err
}

// sampleRows takes live rows of a bank, evenly by row number, and their numbers.
func sampleRows(ctx context.Context, s *store.Snapshot, count int) (simd.Matrix, []int64, error) {
	if count == 0 {
		count = defaultSample
	}
	info := s.Info()
	count = int(min(int64(count), info.Rows))
	var numbers []int64
	for i := range int64(count) {
		row := i * info.Next / int64(count)
		if n := len(numbers); n > 0 {
			row = max(row, numbers[n-1]+1)
		}
		for row < info.Next && !s.Alive(row) {
			row++
		}
		if row < info.Next {
			numbers = append(numbers, row)
		}
	}
	rows, err := s.Rows(ctx, numbers, store.Want{Vector: true})
	if err != nil {
		return simd.Matrix{}, nil, err
	}
	queries := simd.NewMatrix(len(rows), info.Dim)
	for i, r := range rows {
		copy(queries.Row(i), r.Vector)
	}
	return queries, numbers, nil
}
