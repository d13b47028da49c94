package peers

import (
	"context"
	"fmt"
	"math"
	"path/filepath"
	"slices"
	"time"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/plotutil"
	"gonum.org/v1/plot/vg"

	"github.com/jedib0t/go-pretty/v6/table"

	"membank/index"
	"membank/index/ivf"
)

// DefaultLists is the nlist of a comparison of so many rows, 0 for the default: FAISS's
// guidelines say 4 to 16 times the root.
func DefaultLists(rows int64) int { return max(1, int(4*math.Sqrt(float64(or(rows, 400_000))))) }

// recallSettings are the recalls that membank is asked for, in ten-thousandths.
const recallSetting = "recall per 10,000"

var recallSettings = []setting{{recallSetting, 8000}, {recallSetting, 9000}, {recallSetting, 9500}, {recallSetting, 9900}, {recallSetting, 9990}}

// group makes lists of the rows, anew if there are any, and tunes them for k neighbours
// on the queries from one on: recall is measured on those before. Snapshots of before
// keep their rows as they were.
func (b *bank) group(ctx context.Context, lists int, k []int, from int) (*path, error) {
	begin := time.Now()
	recalls := []float64{}
	for _, s := range recallSettings {
		recalls = append(recalls, float64(s.value)/10000)
	}
	tune := ivf.TuneOptions{Recalls: recalls, K: slices.Sorted(slices.Values(k))}
	if b.queries.Rows-from >= 2 { // as many as can be tuned with
		tune.Queries = b.queries.Slice(from, b.queries.Rows)
	}
	_, err := ivf.Build(ctx, b.db, "gallery", ivf.BuildOptions{Lists: lists, Threads: b.threads, Tune: tune})
	if err != nil {
		return nil, err
	}
	seconds := time.Since(begin).Seconds()
	listed, err := b.db.Snapshot("gallery")
	if err != nil {
		return nil, err
	}
	b.listed = append(b.listed, listed)
	return &path{bank: b, name: fmt.Sprintf("IVF%d, codes", lists), build: b.build + seconds, ix: index.New(listed), lists: true}, nil
}

// WriteCurves draws rate over recall as DIR/SET-MODE-kK-recall.svg, a line for each
// index, and returns the paths. Single queries have the recall that the batch had.
func (r *Report) WriteCurves(dir string) ([]string, error) {
	var paths []string
	for _, s := range r.Sets {
		recall := map[string]float64{}
		for _, one := range s.Results {
			if one.Recall != nil {
				recall[one.id()] = *one.Recall
			}
		}
		for _, part := range parts(s.Results) {
			path := filepath.Join(dir, fmt.Sprintf("%s-%s-k%d-recall.svg", s.Set, part[0].Mode, part[0].K))
			if err := drawCurves(path, s, part, recall); err != nil {
				return paths, err
			}
			paths = append(paths, path)
		}
	}
	return paths, nil
}

// id is what a contender has in common in both modes.
func (r *Result) id() string { return fmt.Sprintln(r.K, r.Name, r.Index, r.Settings) }

func drawCurves(path string, s SetReport, part []Result, recall map[string]float64) error {
	lines := map[string]plotter.XYs{}
	for _, one := range part {
		at, known := recall[one.id()]
		if !known || one.Best <= 0 {
			continue
		}
		name := one.Name + " " + one.Index
		// Recall 1 has no place on an axis of misses; it stands at the edge.
		lines[name] = append(lines[name], plotter.XY{X: -math.Log10(max(1-at, 1e-4)), Y: one.Best})
	}
	p := plot.New()
	p.Title.Text = fmt.Sprintf("%s: %s × %d, %s, k = %d", s.Set, grouped(float64(s.Rows)), s.Dim, part[0].Mode, part[0].K)
	p.X.Label.Text, p.Y.Label.Text = "recall", "queries a second"
	p.X.Tick.Marker = plot.ConstantTicks{{Value: 0.30103, Label: "0.5"}, {Value: 1, Label: "0.9"}, {Value: 1.30103, Label: "0.95"},
		{Value: 2, Label: "0.99"}, {Value: 3, Label: "0.999"}, {Value: 4, Label: "1"}}
	p.Y.Scale, p.Y.Tick.Marker = plot.LogScale{}, plot.LogTicks{Prec: -1}
	var all []any
	for _, name := range slices.Sorted(func(yield func(string) bool) {
		for name := range lines {
			if !yield(name) {
				return
			}
		}
	}) {
		points := lines[name]
		slices.SortFunc(points, func(a, b plotter.XY) int { return compareFloat(a.X, b.X) })
		all = append(all, name, points)
	}
	if err := plotutil.AddLinePoints(p, all...); err != nil {
		return err
	}
	p.Legend.Top = true
	return p.Save(18*vg.Centimeter, 13*vg.Centimeter, path)
}

// AtRecall is the best rate of an index with a recall, by its widths that have it.
type AtRecall struct {
	Mode   string  `json:"mode"`
	K      int     `json:"k"`
	Recall float64 `json:"recall"`
	Index  string  `json:"index"`
	Ours   bool    `json:"ours"`
	Exact  bool    `json:"exact"`
	Rate   float64 `json:"rate"` // of the best round; 0: no width has it
	By     string  `json:"by"`   // the width
}

// atRecalls is a table of such rates.
func atRecalls(list []AtRecall) table.Writer {
	t := grid(2, "", "index", "recall", "k", "queries/s", "ms", "by")
	for _, a := range list {
		t.AppendRow(table.Row{a.Mode, a.Index, a.Recall, a.K, digits(a.Rate), digits(1000 / a.Rate), a.By})
	}
	return t
}

// AtRecalls says how fast each index of a set is at some recalls.
func (s *SetReport) AtRecalls() (all []AtRecall) {
	recall := map[string]float64{}
	for _, one := range s.Results {
		if one.Recall != nil {
			recall[one.id()] = *one.Recall
		}
	}
	for _, part := range parts(s.Results) {
		for _, want := range []float64{0.95, 0.99, 0.999} {
			best := map[string]AtRecall{}
			for _, one := range part {
				name := one.Name + " " + one.Index
				if at, known := recall[one.id()]; known && at >= want && one.Best > best[name].Rate {
					best[name] = AtRecall{one.Mode, one.K, want, name, one.Ours, one.Exact, one.Best, one.Settings}
				}
			}
			for _, a := range best {
				all = append(all, a)
			}
		}
	}
	slices.SortStableFunc(all, func(a, b AtRecall) int {
		switch {
		case a.Mode != b.Mode:
			if a.Mode == Batch {
				return -1
			}
			return 1
		case a.K != b.K:
			return a.K - b.K
		case a.Recall != b.Recall:
			return compareFloat(a.Recall, b.Recall)
		}
		return compareFloat(b.Rate, a.Rate)
	})
	return all
}
