package eval

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"membank/index/kmeans"
	"membank/simd"
	"membank/store"
)

// Clusters says how well k-means finds the classes of a bank, and whether it finds the
// same twice. The zero value runs spherical k-means from five seeds at as many
// clusters as there are classes, and at ten times as many.
type Clusters struct {
	C          []int  // numbers of clusters; nil: the classes, and ten times that where it leaves ten rows a cluster
	Euclidean  bool   // distances between rows as they are; else cosines, rows and centroids of length 1
	Seeds      int    // runs at each number; 0: 5
	Seed       uint64 // of the first run; the others follow
	Iterations int    // the most of a run; 0: 50
	Sample     int    // rows for the silhouette; 0: 4096

	// Progress, if set, is told what is under way. Calls do not overlap.
	Progress func(what string, done, total int64)
}

// ClustersResult has one object of figures for each bank and number of clusters.
type ClustersResult struct {
	Protocol   string    `json:"protocol"`
	Banks      []BankUse `json:"banks"`
	Transforms []string  `json:"transforms,omitempty"` // of all banks, before clustering
	Seed       uint64    `json:"seed"`
	Seeds      int       `json:"seeds"`
	Results    []Figures `json:"results"`
	Notes      []string  `json:"notes,omitempty"`
	Seconds    float64   `json:"seconds"`
}

// Evaluate clusters banks one after another. Of each run of seeds the one with the
// lowest objective is judged:
//
//   - against labels, where rows have any: nmi_arithmetic, nmi_geometric, ami, ari,
//     purity and hungarian_acc (see Agreement); nmi_mean and nmi_std over seeds.
//   - against the other seeds: seeds_nmi and seeds_ari, the means over all pairs.
//   - against the bank before, rows matched by key: previous_nmi, previous_ari. So
//     checkpoints in order tell how a clustering settles.
//   - by itself: mean_cosine_to_centroid and inertia (Σ‖x−c‖², with unit centroids if
//     spherical), silhouette on a seeded sample of rows, sizes, and imbalance
//     k·Σ(n_c/N)², 1 if balanced.
//
// A figure that makes no sense for the rows is missing and says why. Errors:
// ErrNoLabels where C is left to the classes and there are none; those of
// kmeans.Train. The cost is that of the clusterings; it holds 4 bytes a row and seed
// beside what they take. Results are the same for any number of threads.
func (e Clusters) Evaluate(ctx context.Context, banks []*Set, o RunOptions) (*ClustersResult, error) {
	start := time.Now()
	o.defaults()
	if err := e.defaults(); err != nil {
		return nil, err
	}
	r := &ClustersResult{Protocol: e.name(), Seed: e.Seed, Seeds: e.Seeds}
	if len(banks) > 0 && len(banks[0].made) > 0 {
		r.Transforms = banks[0].made
		r.Protocol += " (" + strings.Join(r.Transforms, ", ") + ")"
	}
	var before *clustered
	for _, s := range banks {
		r.Banks = append(r.Banks, s.use)
		now := &clustered{set: s, best: map[int][]int64{}}
		cs, err := e.numbers(s, r)
		if err != nil {
			return nil, err
		}
		if now.source, now.number, err = s.source(ctx); err != nil {
			return nil, err
		}
		for _, c := range cs {
			f, err := e.judge(ctx, now, before, c, o)
			if err != nil {
				return nil, fmt.Errorf("bank %q: %w", s.use.Bank, err)
			}
			r.Results = append(r.Results, f)
		}
		before = now
	}
	r.Seconds = time.Since(start).Seconds()
	return r, nil
}

func (e *Clusters) defaults() error {
	if e.Seeds == 0 {
		e.Seeds = 5
	}
	if e.Iterations == 0 {
		e.Iterations = 50
	}
	if e.Sample == 0 {
		e.Sample = 4096
	}
	e.C = slices.Compact(slices.Sorted(slices.Values(e.C)))
	if e.Seeds < 1 || e.Iterations < 1 || e.Sample < 3 || len(e.C) > 0 && e.C[0] < 1 {
		return fmt.Errorf("%w: %d seeds, %d iterations, a sample of %d rows, %v clusters", ErrProtocol, e.Seeds, e.Iterations, e.Sample, e.C)
	}
	return nil
}

func (e *Clusters) name() string {
	name := "spherical k-means"
	if e.Euclidean {
		name = "k-means"
	}
	seeds := fmt.Sprintf("best of %d seeds", e.Seeds)
	if e.Seeds == 1 {
		seeds = "one seed"
	}
	return fmt.Sprintf("%s, %s, %d iterations at most", name, seeds, e.Iterations)
}

// overClustering is how many clusters a class gets the second time, and how many
// rows a cluster must have then.
const overClustering = 10

// numbers are the numbers of clusters for a bank.
func (e *Clusters) numbers(s *Set, r *ClustersResult) ([]int, error) {
	if len(e.C) > 0 {
		return e.C, nil
	}
	classes := int64(len(byClass(s.labels)))
	if classes == 0 {
		return nil, fmt.Errorf("%w in bank %q, so no number of classes: say how many clusters", ErrNoLabels, s.use.Bank)
	}
	cs := []int{int(classes)}
	if classes*overClustering*overClustering <= s.use.Rows {
		cs = append(cs, int(classes*overClustering))
	} else {
		r.Notes = append(r.Notes, fmt.Sprintf("%s: no over-clustering, as %d clusters would have less than %d rows each", s.use.Bank, classes*overClustering, overClustering))
	}
	return cs, nil
}

// clustered is a bank with the best clusters of each number.
type clustered struct {
	set    *Set
	source kmeans.Source
	number func(i int) int64
	best   map[int][]int64 // by row number, store.NoLabel for deleted rows
}

// byNumber spreads labels of the source over row numbers.
func (c *clustered) byNumber(labels []int32) []int64 {
	of := make([]int64, len(c.set.labels))
	for i := range of {
		of[i] = store.NoLabel
	}
	for i, l := range labels {
		of[c.number(i)] = int64(l)
	}
	return of
}

// judge clusters a bank from all seeds.
func (e *Clusters) judge(ctx context.Context, now, before *clustered, c int, o RunOptions) (f Figures, err error) {
	var best *kmeans.Result
	bestSeed := e.Seed
	var runs [][]int64
	for s := range e.Seeds {
		found, err := kmeans.Train(ctx, now.source, kmeans.Options{
			Clusters: c, Spherical: !e.Euclidean, Seed: e.Seed + uint64(s), Iterations: e.Iterations,
			Threads: o.Threads, NoCodes: o.NoCodes, Progress: e.progress(now.set.use.Bank, c, s),
		})
		if err != nil {
			return nil, err
		}
		runs = append(runs, now.byNumber(found.Labels))
		if best == nil || found.Objective < best.Objective {
			best, bestSeed = found, e.Seed+uint64(s)
			now.best[c] = runs[s]
		}
	}
	f.add("bank", now.set.use.Bank, "")
	f.add("clusters", int64(c), "")
	f.add("rows", now.set.use.Rows, "")
	f.add("best_seed", int64(bestSeed), "the run with the lowest objective, of which all below is")
	f.add("iterations", int64(best.Iterations), "")
	if e.Euclidean {
		f.number("inertia", best.Objective, "sum of squared distances to the means")
	} else {
		f.number("mean_cosine_to_centroid", best.MeanCosine, "higher is tighter")
		f.number("inertia_unit_centroids", best.Objective, "2·rows·(1 - mean cosine)")
	}
	if err := againstLabels(ctx, &f, now, c, runs); err != nil {
		return nil, err
	}
	if err := againstSeeds(&f, runs); err != nil {
		return nil, err
	}
	if err := againstBefore(ctx, &f, now, before, c); err != nil {
		return nil, err
	}
	if err := e.silhouette(ctx, &f, now, best, o); err != nil {
		return nil, err
	}
	f.add("size_min", best.Min, "rows of the smallest cluster")
	f.add("size_median", best.Median, "")
	f.add("size_max", best.Max, "")
	f.add("empty", int64(best.Empty), "clusters without rows")
	f.number("imbalance", best.Imbalance, "k·Σ(n/N)², 1 if all are equal")
	return f, nil
}

func (e *Clusters) progress(bank string, c, seed int) func(kmeans.Progress) {
	if e.Progress == nil {
		return nil
	}
	return func(p kmeans.Progress) {
		e.Progress(fmt.Sprintf("%s, %d clusters, seed %d of %d: %s", bank, c, seed+1, e.Seeds, p.Stage), p.Done, p.Total)
	}
}

// againstLabels adds the agreement with the classes of the rows.
func againstLabels(ctx context.Context, f *Figures, now *clustered, c int, runs [][]int64) error {
	names := []string{"nmi_arithmetic", "nmi_geometric", "ami", "ari", "purity", "hungarian_acc"}
	readings := []string{"mutual information with the labels, by the mean of the entropies", "the same, by their geometric mean", "corrected for chance", "pairs of rows alike in both, corrected for chance", "rows of their cluster's most frequent class", "rows that agree under the best one-to-one map"}
	labelled := 0
	for i, l := range now.set.labels {
		if l != store.NoLabel && now.best[c][i] != store.NoLabel {
			labelled++
		}
	}
	if labelled < 2 {
		for _, name := range append(names, "nmi_mean", "nmi_std") {
			f.missing(name, "fewer than two rows have a label", "")
		}
		return nil
	}
	a, err := Agree(ctx, now.best[c], now.set.labels)
	if err != nil {
		return err
	}
	if why := a.Foregone(c); why != "" {
		for _, name := range append(names, "nmi_mean", "nmi_std") {
			f.missing(name, why, "")
		}
		return nil
	}
	f.add("classes", int64(a.Classes), "")
	for i, v := range []float64{a.NMI, a.Geometric, a.AMI, a.ARI, a.Purity, a.Hungarian} {
		f.number(names[i], v, readings[i])
	}
	mean, square := 0.0, 0.0
	for _, run := range runs {
		t, err := NewContingency(run, now.set.labels)
		if err != nil {
			return err
		}
		v := t.NMI(Arithmetic)
		mean += v / float64(len(runs))
		square += v * v
	}
	f.number("nmi_mean", mean, "nmi_arithmetic over the seeds")
	if len(runs) < 2 {
		f.missing("nmi_std", "one seed", "")
	} else {
		n := float64(len(runs))
		f.number("nmi_std", math.Sqrt(max(0, square-n*mean*mean)/(n-1)), "its deviation")
	}
	return nil
}

// againstSeeds adds how far two runs agree.
func againstSeeds(f *Figures, runs [][]int64) error {
	if len(runs) < 2 || len(runs[0]) < 2 {
		f.missing("seeds_nmi", "one seed, or one row", "")
		f.missing("seeds_ari", "one seed, or one row", "")
		return nil
	}
	nmi, ari, pairs, whole, single := 0.0, 0.0, 0.0, true, true
	for i, a := range runs {
		for _, b := range runs[:i] {
			t, err := NewContingency(a, b)
			if err != nil {
				f.missing("seeds_nmi", err.Error(), "")
				f.missing("seeds_ari", err.Error(), "")
				return nil
			}
			whole, single = whole && len(t.a) == 1 && len(t.b) == 1, single && t.single()
			nmi += t.NMI(Arithmetic)
			ari += t.ARI()
			pairs++
		}
	}
	why := ""
	switch {
	case whole:
		why = "all rows are one cluster, whatever the seed"
	case single:
		why = "every row is a cluster of its own, whatever the seed"
	}
	if why != "" {
		f.missing("seeds_nmi", why, "")
		f.missing("seeds_ari", why, "")
		return nil
	}
	f.number("seeds_nmi", nmi/pairs, "mean of all pairs of seeds; 1: all find the same")
	f.number("seeds_ari", ari/pairs, "")
	return nil
}

// againstBefore adds how far the clusters are those of the bank before.
func againstBefore(ctx context.Context, f *Figures, now, before *clustered, c int) error {
	why := ""
	var old []int64
	switch {
	case before == nil:
		why = "no bank before it"
	case before.best[c] == nil:
		why = "the bank before it was not divided into as many clusters"
	default:
		keys, err := now.set.Keys(ctx)
		if err != nil {
			return err
		}
		earlier, err := before.set.Keys(ctx)
		if err != nil {
			return err
		}
		rows := make(map[string]int, len(earlier))
		for row, key := range earlier {
			if key != "" {
				rows[key] = row
			}
		}
		for _, key := range keys {
			cluster := int64(store.NoLabel)
			if row, has := rows[key]; has && key != "" {
				cluster = before.best[c][row]
			}
			old = append(old, cluster)
		}
	}
	if why == "" {
		t, err := NewContingency(now.best[c], old)
		switch {
		case err != nil:
			why = "fewer than two keys are those of the bank before"
		case len(t.a) == 1 && len(t.b) == 1:
			why = "all rows are one cluster, now and before"
		case t.single():
			why = "every row is a cluster of its own, now and before"
		default:
			f.number("previous_nmi", t.NMI(Arithmetic), "with the clusters of the bank before, rows matched by key")
			f.number("previous_ari", t.ARI(), "")
			f.add("previous_rows", t.rows, "that both banks have")
			return nil
		}
	}
	for _, name := range []string{"previous_nmi", "previous_ari", "previous_rows"} {
		f.missing(name, why, "")
	}
	return nil
}

// silhouette adds that of a sample of rows.
func (e *Clusters) silhouette(ctx context.Context, f *Figures, now *clustered, best *kmeans.Result, o RunOptions) error {
	name := "silhouette_cosine"
	if e.Euclidean {
		name = "silhouette_euclidean"
	}
	rng := rand.New(rand.NewPCG(e.Seed, 0x73696c))
	var rows []int
	for i, left := 0, min(e.Sample, len(best.Labels)); left > 0; i++ {
		if rng.IntN(len(best.Labels)-i) < left {
			rows = append(rows, i)
			left--
		}
	}
	sample := simd.NewMatrix(len(rows), now.set.dim)
	if err := now.source.Gather(ctx, rows, sample); err != nil {
		return err
	}
	clusters := make([]int64, len(rows))
	for i, row := range rows {
		clusters[i] = int64(best.Labels[row])
	}
	v, err := silhouette(ctx, sample, clusters, e.Euclidean, o.Threads)
	if err != nil {
		return err
	}
	if math.IsNaN(v) {
		f.missing(name, "needs two clusters at least, and fewer than rows", "")
	} else {
		f.number(name, v, "-1 to 1: how much nearer rows are to their own cluster than to the next")
	}
	f.add("silhouette_rows", int64(len(rows)), "rows of that sample")
	return nil
}
