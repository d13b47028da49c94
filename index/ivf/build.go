package ivf

import (
	"context"
	"errors"
	"fmt"
	"math"
	"runtime"
	"slices"
	"time"

	"membank/index"
	"membank/index/kmeans"
	"membank/simd"
	"membank/store"
)

// BuildOptions say how Build runs. The zero value takes nlist from the number of
// rows, lists for cosine, and all cores.
type BuildOptions struct {
	Lists   int // nlist; 0 means DefaultLists, and more than rows means rows
	Metric  index.Metric
	Seed    uint64
	Threads int   // 0 means GOMAXPROCS
	Memory  int64 // bytes for rows on their way to their list; 0 means 256 MiB
	// Iterations of k-means, and rows a list that it is trained on: 0 means 10 and
	// 64. Every row is assigned at the end.
	Iterations, RowsPerList int
	Tune                    TuneOptions // Threads and Memory are those above
	// Progress, if set, is told how far a stage is: "training", "assigning",
	// "grouping" or "tuning". Calls do not overlap.
	Progress func(stage string, done, total int64)
}

const (
	defaultIterations  = 10
	defaultRowsPerList = 64
)

// Built is what Build did, and how long it took.
type Built struct {
	Info   store.Info
	Lists  int
	Rows   int64
	Strays int64 // rows that have no nearest centroid
	// Imbalance is nlist·Σ(n/N)² over the lists.
	Imbalance                     float64
	Train, Group, Tuning, Seconds float64
	Tuned                         []index.Tuning
}

// DefaultLists is the nlist for so many rows: √rows, but none of fewer than a panel of
// rows on average. More lists leave more rows out, at a price for each list: at
// 400,000 × 384, k = 10, recall 0.95, batches of 2,048, 632 lists read 33,300 rows a
// query in 163 µs of processor time, 1,265 read 28,600 in 184, 2,529 read 25,000 in
// 203; single queries rank the same way.
func DefaultLists(rows int64) int {
	lists := int(math.Round(math.Sqrt(float64(rows))))
	return max(1, min(lists, int(rows/simd.PanelRows)))
}

// ErrEmpty is returned for a bank without live rows, which cannot be grouped.
var ErrEmpty = errors.New("no rows to group by list")

// Build groups the rows of a bank by list, anew if it is grouped already: it trains
// centroids on a sample of the rows, assigns every row to the nearest one, rewrites
// the bank in the order of lists, and measures what a search must read for the usual
// recalls. Codes are written along, if the bank has a basis or is worth one.
//
// Readers go on meanwhile; an interruption leaves the bank as it was until the new
// order is in place, and after that grouped but not tuned. It takes the bank's size
// on disk and, beside o.Memory, 24 bytes a row and twice the centroids in memory.
// Equal rows in equal order, options and seed give the same lists on any number of
// threads. Errors: ErrEmpty, those of kmeans.Train, store.DB.Group and of ctx.
func Build(ctx context.Context, db *store.DB, bank string, o BuildOptions) (b Built, err error) {
	start := time.Now()
	o = o.filled()
	s, err := db.Snapshot(bank)
	if err != nil {
		return b, err
	}
	defer s.Close()
	rows := s.Info().Rows
	if rows == 0 {
		return b, fmt.Errorf("bank %q: %w", bank, ErrEmpty)
	}
	if o.Lists == 0 {
		o.Lists = DefaultLists(rows)
	}
	o.Lists = int(min(int64(o.Lists), rows))
	lists, listOf, err := train(ctx, s, o)
	if err != nil {
		return b, err
	}
	b.Train = time.Since(start).Seconds()

	if b.Info, err = regroup(ctx, db, s, lists, listOf, o); err != nil {
		return b, err
	}
	if b.Info.Generation != s.Info().Generation+1 {
		// Rows were written between the snapshot and the rewrite: what was found of
		// the lists may not hold for them.
		return Build(ctx, db, bank, o)
	}
	b.Group = time.Since(start).Seconds() - b.Train
	b.Lists, b.Rows, b.Imbalance = lists.Count(), b.Info.Rows, index.Imbalance(lists.Rows)
	b.Strays = b.Rows
	for _, n := range lists.Rows {
		b.Strays -= n
	}
	o.Tune.Threads, o.Tune.Memory = o.Threads, o.Memory
	o.Progress("tuning", 0, 1)
	b.Info, b.Tuned, err = Tune(ctx, db, bank, o.Tune)
	if errors.Is(err, ErrFewRows) {
		b.Info, err = s.Info(), nil
	}
	o.Progress("tuning", 1, 1)
	b.Seconds = time.Since(start).Seconds()
	b.Tuning = b.Seconds - b.Train - b.Group
	return b, err
}

func (o BuildOptions) filled() BuildOptions {
	if o.Threads <= 0 {
		o.Threads = runtime.GOMAXPROCS(0)
	}
	if o.Iterations == 0 {
		o.Iterations = defaultIterations
	}
	if o.RowsPerList == 0 {
		o.RowsPerList = defaultRowsPerList
	}
	if o.Progress == nil {
		o.Progress = func(string, int64, int64) {}
	}
	return o
}

// train finds centroids, and the list of every row number, −1 for those that are
// not live.
func train(ctx context.Context, s *store.Snapshot, o BuildOptions) (*index.Lists, []int32, error) {
	rows, err := kmeans.Bank(ctx, s)
	if err != nil {
		return nil, nil, err
	}
	source := &directions{rows, make([]bool, rows.Rows())}
	passes := int64(o.Iterations + 1)
	trained, err := kmeans.Train(ctx, source, kmeans.Options{
		Clusters: o.Lists, Spherical: o.Metric == index.Cosine, Seed: o.Seed,
		Iterations: o.Iterations, MaxPerCluster: o.RowsPerList, Threads: o.Threads,
		Progress: func(p kmeans.Progress) {
			switch {
			case p.Total == 0:
			case p.Stage == "iterating":
				o.Progress("training", int64(p.Iteration)*1000+1000*p.Done/p.Total, passes*1000)
			case p.Stage == "assigning":
				o.Progress("assigning", p.Done, p.Total)
			}
		},
	})
	if err != nil {
		return nil, nil, err
	}
	lists := index.NewLists(o.Metric, o.Seed, trained.Centroids)
	surveyed := trained.Labels
	if o.Metric == index.Cosine && slices.Contains(source.without, true) {
		surveyed = slices.Clone(surveyed)
		for i, without := range source.without {
			if without {
				surveyed[i] = -1 // a stray, see index.Assigner
			}
		}
	}
	lists.Survey(surveyed, trained.Scores)
	listOf := make([]int32, s.Info().Next)
	for i := range listOf {
		listOf[i] = -1
	}
	for i, list := range trained.Labels {
		listOf[source.Number(i)] = list
	}
	return lists, listOf, nil
}

// directions are the rows of a bank. It notes which of those that are read have none.
type directions struct {
	*kmeans.BankRows
	without []bool
}

func (d *directions) Read(ctx context.Context, first int, to simd.Matrix) error {
	if err := d.BankRows.Read(ctx, first, to); err != nil {
		return err
	}
	for i := range to.Rows {
		d.without[first+i] = directionless(to.Row(i))
	}
	return nil
}

// directionless is what index.Assigner calls so: too short for an angle to a centroid.
func directionless(row []float32) bool {
	for _, x := range row {
		if x >= 2*simd.Epsilon || x <= -2*simd.Epsilon {
			return false // nearly always the first
		}
	}
	return float32(1/max(simd.Norm(row), simd.Epsilon)) > 1/(2*simd.Epsilon)
}

// regroup rewrites the bank by list.
func regroup(ctx context.Context, db *store.DB, s *store.Snapshot, lists *index.Lists, listOf []int32, o BuildOptions) (store.Info, error) {
	later, err := index.NewAssigner(lists, o.Threads)
	if err != nil {
		return store.Info{}, err
	}
	group, err := groupOptions(ctx, s, o)
	if err != nil {
		return store.Info{}, err
	}
	group.Lists = lists.Count() + 1
	return db.Group(ctx, s.Bank(), lists.Encode(), func(list []int32, b *store.Block) error {
		return later.Known(list, b, listOf)
	}, group)
}

// groupOptions say how a bank is rewritten: with codes if it has a basis or is worth
// one.
func groupOptions(ctx context.Context, s *store.Snapshot, o BuildOptions) (store.GroupOptions, error) {
	g := store.GroupOptions{Threads: o.Threads, Memory: o.Memory,
		Progress: func(done, total int64) { o.Progress("grouping", done, total) }}
	record, err := s.Basis()
	if err != nil {
		return g, err
	}
	var basis *index.Basis
	if record != nil {
		if basis, err = index.DecodeBasis(record); err != nil {
			return g, err
		}
	} else if ok, _ := index.PaysOff(s.Info().Rows, s.Dim()); ok {
		if basis, err = index.LearnBasis(ctx, s, o.Threads); err != nil {
			return g, err
		}
		if basis != nil {
			g.Basis = basis.Encode()
		}
	}
	if basis != nil {
		g.Encode = basis.EncodeBlock
	}
	return g, nil
}

// Drop puts a bank back into row order, without lists. Its options are those of
// Build that concern rewriting.
func Drop(ctx context.Context, db *store.DB, bank string, o BuildOptions) (store.Info, error) {
	o = o.filled()
	s, err := db.Snapshot(bank)
	if err != nil {
		return store.Info{}, err
	}
	defer s.Close()
	if s.Info().Lists == 0 {
		return store.Info{}, fmt.Errorf("bank %q: %w", bank, store.ErrFlat)
	}
	group, err := groupOptions(ctx, s, o)
	if err != nil {
		return store.Info{}, err
	}
	return db.Ungroup(ctx, bank, group)
}
