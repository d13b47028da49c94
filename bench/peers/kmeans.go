package peers

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/klauspost/cpuid/v2"

	"membank/bench/perf"
	"membank/index/kmeans"
	"membank/simd"
)

// KMeansReport compares membank's k-means with FAISS's.
type KMeansReport struct {
	Time       time.Time      `json:"time"`
	CPU        string         `json:"cpu"`
	Threads    int            `json:"threads"`
	Level      string         `json:"level"`
	Rows       int64          `json:"rows"`
	Dim        int            `json:"dim"`
	Clusters   int            `json:"clusters"`
	Iterations int            `json:"iterations"`
	Rounds     int            `json:"rounds"`
	PeakBest   float64        `json:"peak_best"` // GFLOP/s in the rounds, as in SetReport
	PeakMedian float64        `json:"peak_median"`
	Results    []KMeansResult `json:"results"`
	Missing    []Missing      `json:"missing"`
}

// KMeansResult is what one contender did.
type KMeansResult struct {
	Name     string `json:"name"`
	Settings string `json:"settings"`
	Ours     bool   `json:"ours"`
	// Seconds are those of an iteration: the mean of the best round and the median of
	// the rounds' means. Total is a whole run, from rows to centroids, in its best
	// round.
	Best   float64 `json:"seconds_per_iteration"`
	Median float64 `json:"median"`
	Total  float64 `json:"total_seconds"`
	// Objective is Σ‖x−c‖² of all rows and their nearest centroids, as membank
	// assigns them: the mean of the rounds, each from another seed.
	Objective  float64 `json:"objective"`
	MeanCosine float64 `json:"mean_cosine"`
	// Ratio is how many times the iterations of membank from random rows, as FAISS
	// begins, are faster, by the best rounds; RatioMedian the median over rounds.
	// Worse is this objective divided by that of those, less 1.
	Ratio       float64 `json:"ratio"`
	RatioMedian float64 `json:"ratio_median"`
	Worse       float64 `json:"worse"`

	perIteration []float64 // of each round
}

// KMeans lets membank and FAISS cluster the set "ssl" of o in turns, round by round:
// spherical k-means of all rows with as many iterations for everyone. Of o it uses
// Rows, Dim, Threads, Rounds, Seed, Level, Dir, Offline and Progress.
func KMeans(ctx context.Context, o Options, clusters, iterations int) (report *KMeansReport, err error) {
	rounds := or(o.Rounds, 2)
	o = o.withDefaults()
	o.Queries, o.Rounds = 1, rounds
	if clusters < 1 || iterations < 1 || int64(clusters) > o.Rows {
		return nil, fmt.Errorf("%d clusters of %d rows in %d iterations", clusters, o.Rows, iterations)
	}
	if o.Level != "" {
		defer simd.Use(o.Level)()
	}
	dir, err := os.MkdirTemp(o.Dir, "membank-peers-")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	o.Progress.tell("making rows")
	t, err := newTask(ctx, dir, "ssl", o)
	if err != nil {
		return nil, err
	}
	rows, err := openRows(t)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	report = &KMeansReport{Time: time.Now().UTC().Truncate(time.Second), CPU: cpuid.CPU.BrandName, Threads: o.Threads,
		Level: string(simd.Active()), Rows: t.rows, Dim: t.dim, Clusters: clusters, Iterations: iterations, Rounds: rounds}
	m := &kmeansMatch{Options: o, task: t, rows: rows, clusters: clusters, iterations: iterations, report: report}
	report.Results = []KMeansResult{
		{Name: "membank", Settings: kmeans.RandomRows.String(), Ours: true},
		{Name: "membank", Settings: kmeans.PlusPlus.String(), Ours: true},
	}
	if err := m.find(ctx); err != nil {
		return nil, err
	}
	if m.faiss != nil {
		defer m.faiss.close()
	}
	return report, m.run(ctx)
}

// kmeansMatch is the state of one comparison.
type kmeansMatch struct {
	Options
	task                 *task
	rows                 *fileRows
	clusters, iterations int
	faiss                *child
	tunings              [][]setting // of the results behind membank's
	report               *KMeansReport
}

// find starts FAISS, if it is there.
func (m *kmeansMatch) find(ctx context.Context) error {
	f := newFinder(m.Options)
	launches, err := f.find(ctx, "faiss")
	var missing *absent
	switch {
	case errors.As(err, &missing):
		m.report.Missing = append(m.report.Missing, Missing{"faiss", missing.reason, missing.remedy})
		return nil
	case err != nil:
		return err
	}
	l := launches[0] // the flat one, with its tunings
	l.index = "KMeans"
	m.Progress.tell("starting faiss")
	c, hello, err := start(ctx, l, m.task, m.Threads)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err != nil {
		m.report.Missing = append(m.report.Missing, Missing{Name: "faiss", Reason: err.Error()})
		return nil
	}
	m.faiss, m.tunings = c, l.tunings
	if len(m.tunings) == 0 {
		m.tunings = [][]setting{nil}
	}
	for _, tuning := range m.tunings {
		text := hello.Version + " " + hello.Level
		for _, s := range tuning {
			text += ", " + s.String()
		}
		m.report.Results = append(m.report.Results, KMeansResult{Name: hello.Name, Settings: text})
	}
	return nil
}

// run lets all contenders take turns.
func (m *kmeansMatch) run(ctx context.Context) error {
	var peaks []float64
	for round := range m.Rounds {
		peaks = append(peaks, perf.PeakFMA(ctx, m.Threads, 200*time.Millisecond)/1e9)
		for i := range m.report.Results {
			r := &m.report.Results[i]
			m.Progress.tell(fmt.Sprintf("round %d of %d: %s, %s", round+1, m.Rounds, r.Name, r.Settings))
			var centroids simd.Matrix
			var each, total float64
			var err error
			if r.Ours {
				centroids, each, total, err = m.ours(ctx, kmeans.Seeding(slices.Index(seedings, r.Settings)), round)
			} else {
				centroids, each, total, err = m.theirs(ctx, m.tunings[i-len(seedings)], round)
			}
			if err != nil {
				return err
			}
			a, err := kmeans.Assign(ctx, m.rows, centroids, kmeans.AssignOptions{Spherical: true, Threads: m.Threads})
			if err != nil {
				return err
			}
			r.perIteration = append(r.perIteration, each)
			r.Objective += a.Objective / float64(m.Rounds)
			r.MeanCosine += a.MeanCosine / float64(m.Rounds)
			if r.Total == 0 || total < r.Total {
				r.Total = total
			}
		}
	}
	m.report.PeakBest, m.report.PeakMedian = slices.Max(peaks), median(peaks)
	base := m.report.Results[0]
	for i := range m.report.Results {
		r := &m.report.Results[i]
		r.Best, r.Median = slices.Min(r.perIteration), median(r.perIteration)
		r.Ratio = r.Best / slices.Min(base.perIteration)
		ratios := make([]float64, m.Rounds)
		for j := range ratios {
			ratios[j] = r.perIteration[j] / base.perIteration[j]
		}
		r.RatioMedian = median(ratios)
		r.Worse = r.Objective/base.Objective - 1
	}
	return nil
}

// seedings are those of membank's results, by their numbers.
var seedings = []string{kmeans.PlusPlus.String(), kmeans.RandomRows.String()}

func (m *kmeansMatch) ours(ctx context.Context, seeding kmeans.Seeding, round int) (simd.Matrix, float64, float64, error) {
	r, err := kmeans.Train(ctx, m.rows, kmeans.Options{
		Clusters: m.clusters, Spherical: true, Iterations: m.iterations, Seeding: seeding, Seed: m.Seed + uint64(round), Threads: m.Threads,
	})
	if err != nil {
		return simd.Matrix{}, 0, 0, err
	}
	return r.Centroids, r.IterationSeconds, r.Seconds, nil
}

func (m *kmeansMatch) theirs(ctx context.Context, tuning []setting, round int) (c simd.Matrix, each, total float64, err error) {
	for _, s := range tuning {
		if err := m.faiss.set(ctx, s); err != nil {
			return c, 0, 0, err
		}
	}
	path := filepath.Join(filepath.Dir(m.task.gallery), "centroids.f32")
	a, err := m.faiss.ask(ctx, fmt.Sprintf("kmeans %d %d %d %s", m.clusters, m.iterations, 1234+round, path))
	if err != nil {
		return c, 0, 0, err
	}
	if len(a.Calls) != m.iterations {
		return c, 0, 0, fmt.Errorf("faiss: %d iterations of %d", len(a.Calls), m.iterations)
	}
	for _, s := range a.Calls {
		each += s / float64(len(a.Calls))
	}
	c, err = readAll(path, m.clusters, m.task.dim)
	return c, each, a.Seconds, err
}

// fileRows is the gallery's file as membank reads it: from the page cache, in every
// pass anew.
type fileRows struct {
	*os.File
	rows, dim int
}

func openRows(t *task) (*fileRows, error) {
	f, err := os.Open(t.gallery)
	return &fileRows{f, int(t.rows), t.dim}, err
}

func (f *fileRows) Rows() int { return f.rows }
func (f *fileRows) Dim() int  { return f.dim }

func (f *fileRows) Read(_ context.Context, first int, to simd.Matrix) error {
	bytes := make([]byte, 4*to.Rows*to.Dim)
	if _, err := f.ReadAt(bytes, 4*int64(f.dim)*int64(first)); err != nil {
		return err
	}
	for i := range to.Data[:to.Rows*to.Dim] {
		to.Data[i] = math.Float32frombits(binary.LittleEndian.Uint32(bytes[4*i:]))
	}
	return nil
}

func (f *fileRows) Gather(ctx context.Context, rows []int, to simd.Matrix) error {
	for i, row := range rows {
		if err := f.Read(ctx, row, to.Slice(i, i+1)); err != nil {
			return err
		}
	}
	return nil
}

// Write prints a table for people.
func (r *KMeansReport) Write(w io.Writer) error { return r.write(w, table.Writer.Render) }

// WriteMarkdown prints it for documents.
func (r *KMeansReport) WriteMarkdown(w io.Writer) error {
	return r.write(w, table.Writer.RenderMarkdown)
}

func (r *KMeansReport) write(w io.Writer, render func(table.Writer) string) error {
	fmt.Fprintf(w, "spherical k-means, %s × %d, %s clusters, %d iterations; %s, %s, %s, membank at %s\n",
		grouped(float64(r.Rows)), r.Dim, grouped(float64(r.Clusters)), r.Iterations, r.CPU, plural(r.Threads, "thread"), plural(r.Rounds, "round"), r.Level)
	fmt.Fprintf(w, "FMA peak %s GFLOP/s at best, %s in the median round\n\n", digits(r.PeakBest), digits(r.PeakMedian))
	t := grid(2, "contender", "settings", "s/iteration", "median", "whole run s", "objective", "mean cosine", "membank is", "median", "objective is worse by")
	for _, x := range r.Results {
		t.AppendRow(table.Row{x.Name, x.Settings, digits(x.Best), digits(x.Median), digits(x.Total), fmt.Sprintf("%.6g", x.Objective),
			fmt.Sprintf("%.6f", x.MeanCosine), times(x.Ratio), times(x.RatioMedian), fmt.Sprintf("%+.3f %%", 100*x.Worse)})
	}
	fmt.Fprintln(w, render(t))
	for _, x := range r.Missing {
		fmt.Fprintf(w, "missing: %s: %s (%s)\n", x.Name, x.Reason, x.Remedy)
	}
	return nil
}
