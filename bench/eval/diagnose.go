package eval

import (
	"context"
	"errors"
	"fmt"
	"math"
	"runtime"
	"slices"
	"time"

	"membank/index"
	"membank/store"
)

// Diagnose is a check-up of a bank: is this space healthy, or did it collapse? The
// zero value is the default.
type Diagnose struct {
	K            int          // neighbours of the figures about neighbours; 0: 10
	Metric       index.Metric // of these neighbours
	Temperatures []float64    // of the losses on views; nil: 0.1 and 0.5
	GroupBy      string       // attribute that says which rows are views of one object, for LiDAR; "key": the key up to its last '#'
	StepBy       string       // attribute that says when a row was last written; "": step

	// Figures that compare rows with rows take this many, chosen by Seed: 0 is
	// 32768 rows for neighbours, 8192 for all pairs of rows and for pairs of views.
	// Where the memory is too little for these, fewer are taken, and the result
	// says how many.
	NeighbourRows, PairRows, ViewPairs int
	Seed                               uint64
}

// Diagnosis is the figures of a bank and what they come to.
type Diagnosis struct {
	Figures
	Verdict Verdict   `json:"-"`
	Reasons []Reason  `json:"-"`
	Views   *Contrast `json:"-"` // nil without views
	// Spectrum is the eigenvalues of the covariance, largest first.
	Spectrum []float64 `json:"-"`
	// Occurrences is how often each row of the sample is among the neighbours of
	// others; nil where rows were too few.
	Occurrences []int64 `json:"-"`
	Seconds     float64 `json:"-"`
}

const (
	defaultNeighbourRows = 32768
	defaultPairRows      = 8192
	defaultViewPairs     = 8192
	nearDuplicate        = 0.999
	lidarObjects         = 1000 // with the rows below, what Thilak et al. recommend
	lidarViews           = 50
	lidarDelta           = 1e-4
	lidarEps             = 1e-8
	rankEps              = 1e-7
	noiseFrom            = 0.02 // of per_dim_std_l2norm_times_sqrtD: cosines then lie within 4e-4
)

// Run reads the bank twice from end to end (norms and means, then second moments)
// and compares the rows of one sample with each other, in one search for neighbours
// and one pass over all pairs. views, if not nil, holds a second view of the rows:
// rows of equal keys belong together. Beside the sample it holds two dim×dim
// matrices and 8 bytes a row.
//
// What cannot be computed (too few rows, no labels, no views) is missing with a
// reason, never NaN. The result does not depend on threads; ctx ends it within a
// fraction of a block, but for an eigenvalue problem.
func (d Diagnose) Run(ctx context.Context, bank, views *store.Snapshot, o RunOptions) (*Diagnosis, error) {
	start := time.Now()
	info := bank.Info()
	r := &diagnosing{Diagnose: d, bank: bank, o: o, dim: info.Dim, out: &Diagnosis{}}
	r.defaults()
	if views != nil && views.Dim() != info.Dim {
		return nil, fmt.Errorf("%w: %q has %d dimensions, its views in %q have %d", store.ErrDim, info.Bank, info.Dim, views.Bank(), views.Dim())
	}
	if err := r.check(ctx, views); err != nil {
		return nil, err
	}
	f := &r.out.Figures
	f.add("bank", info.Bank, "")
	if views != nil {
		f.add("views", views.Bank(), "")
	}
	f.add("generation", int64(info.Generation), "")
	f.add("rows", info.Rows, "")
	f.add("dim", int64(info.Dim), "")
	r.total = 2*info.Rows + int64(r.NeighbourRows)
	for _, part := range []func(context.Context) error{r.census, r.spectrum, r.staleness, r.sampled, r.lidarByGroup} {
		if err := part(ctx); err != nil {
			return nil, err
		}
	}
	if views != nil {
		if err := r.views(ctx, views); err != nil {
			return nil, err
		}
	}
	r.out.judge(info.Rows, info.Dim)
	r.out.Seconds = time.Since(start).Seconds()
	f.number("seconds", r.out.Seconds, "")
	return r.out, nil
}

var errNoRows = fmt.Errorf("%w: there are no rows", ErrTooFew)

// ErrTooFew: the banks hold fewer rows than the question needs.
var ErrTooFew = errors.New("too few rows")

// diagnosing is a diagnosis under way.
type diagnosing struct {
	Diagnose
	bank  *store.Snapshot
	o     RunOptions
	dim   int
	out   *Diagnosis
	seen  *census
	pairs [][]int64 // rows of the bank and of its views that belong together
	lost  int       // rows without a view
	done  int64
	total int64
}

// check finds what is wrong with the question before the work begins.
func (r *diagnosing) check(ctx context.Context, views *store.Snapshot) (err error) {
	info := r.bank.Info()
	if info.Rows == 0 {
		return fmt.Errorf("%w in bank %q", errNoRows, info.Bank)
	}
	if r.GroupBy != "" && r.GroupBy != "key" {
		if err := hasAttribute(info, r.GroupBy); err != nil {
			return err
		}
	}
	if r.StepBy != defaultStep {
		if err := hasAttribute(info, r.StepBy); err != nil {
			return err
		}
	}
	if views != nil {
		r.pairs, r.lost, err = matchRows(ctx, []*store.Snapshot{r.bank, views}, chooseRows(r.bank, r.ViewPairs, r.Seed))
	}
	return err
}

func hasAttribute(info store.Info, name string) error {
	if !slices.Contains(info.Attributes, name) {
		return fmt.Errorf("%w: bank %q has no %q", ErrNoAttribute, info.Bank, name)
	}
	return nil
}

// Why figures of directions are missing.
const (
	allZero  = "all rows are zero, and have no direction"
	allAlike = "all rows point one way, and row numbers choose their neighbours"
)

// defaultStep is looked for, and not missed.
const defaultStep = "step"

func (r *diagnosing) defaults() {
	orElse := func(v *int, value int) {
		if *v <= 0 {
			*v = value
		}
	}
	orElse(&r.K, 10)
	orElse(&r.NeighbourRows, defaultNeighbourRows)
	orElse(&r.PairRows, defaultPairRows)
	orElse(&r.ViewPairs, defaultViewPairs)
	if r.Temperatures == nil {
		r.Temperatures = []float64{0.1, 0.5}
	}
	if r.StepBy == "" {
		r.StepBy = defaultStep
	}
	orElse(&r.o.Threads, runtime.GOMAXPROCS(0))
	if r.o.Memory <= 0 {
		r.o.Memory = 1 << 30
	}
	// The vectors of a sample, its copy in an index and its codes; strips of
	// float64 of one set, of two sets twice.
	most := func(v *int, share, each int64) {
		*v = max(2, min(*v, int(r.o.Memory/share/(each*int64(r.dim)))))
	}
	most(&r.NeighbourRows, 2, 10)
	most(&r.PairRows, 4, 8)
	most(&r.ViewPairs, 2, 40)
	r.NeighbourRows = min(r.NeighbourRows, int(min(r.bank.Info().Rows, math.MaxInt32)))
}

func (r *diagnosing) progress(within int64) {
	if r.o.Progress != nil {
		r.o.Progress(min(r.done+within, r.total), r.total)
	}
}

// census reads rows one by one: norms, means, equal rows.
func (r *diagnosing) census(ctx context.Context) (err error) {
	if r.seen, err = takeCensus(ctx, r.bank, r.o.Threads, r.o.Memory, r.progress); err != nil {
		return err
	}
	c, f, n := r.seen, &r.out.Figures, float64(r.seen.rows)
	r.done += c.rows
	if c.rows == 0 {
		return fmt.Errorf("%w in bank %q: no row is finite", errNoRows, r.bank.Bank())
	}
	f.add("nonfinite_rows", c.bad, "rows with NaN or Inf; ingest refuses them")
	f.add("zero_rows", c.zeros, "rows of norm 0; their cosine with everything is 0")
	f.number("mean_row_norm", c.normSum/n, "")
	f.number("min_row_norm", c.normMin, "")
	f.number("max_row_norm", c.normMax, "")
	if edges, counts := c.normHistogram(); counts == nil {
		f.missing("row_norm_histogram_edges", allZero, "")
		f.missing("row_norm_histogram", allZero, "")
	} else {
		f.add("row_norm_histogram_edges", edges, "")
		f.add("row_norm_histogram", counts, "")
	}
	const repeats = "rows whose bits an earlier row has"
	if c.hashes != nil {
		f.add("exact_duplicate_rows", c.repeated(), repeats)
	} else {
		f.missing("exact_duplicate_rows", "not enough memory for a hash of every row (raise --memory)", repeats)
	}
	_, unit := c.means()
	const length, cosine = "0 centred; 1 all rows point one way", "of different rows: 0 spread out, 1 all rows point one way"
	switch {
	case c.zeros == c.rows:
		f.missing("mean_unit_vector_norm", allZero, length)
		f.missing("mean_pairwise_cosine", allZero, cosine)
		return nil
	case c.rows > 1:
		f.number("mean_unit_vector_norm", math.Sqrt(squaredNorm(unit)), length)
		f.number("mean_pairwise_cosine", c.meanCosine(), cosine)
	default:
		f.number("mean_unit_vector_norm", math.Sqrt(squaredNorm(unit)), length)
		f.missing("mean_pairwise_cosine", "it needs two rows", cosine)
	}
	return nil
}

// spectrum reads them again, for variances and ranks.
func (r *diagnosing) spectrum(ctx context.Context) error {
	f, n := &r.out.Figures, float64(r.seen.rows)
	defer func() { r.done += r.seen.rows }()
	if n < 2 {
		f.missing("rankme_raw", "it needs two rows", "")
		f.missing("per_dim_std_l2norm_times_sqrtD", "it needs two rows", "")
		return nil
	}
	sp, err := takeSpectrum(ctx, r.bank, r.seen, r.o.Threads, r.o.Memory, r.progress)
	if errors.Is(err, errSpectrum) {
		f.missing("rankme_raw", err.Error()+" (raise --memory)", "")
		return nil
	}
	if err != nil {
		return err
	}
	var raw, unit, unitPopulation, dead float64
	for d := range r.dim {
		std := math.Sqrt(sp.variance[d] / (n - 1))
		raw += std / float64(r.dim)
		unit += math.Sqrt(sp.unitVariance[d]/(n-1)) / float64(r.dim)
		unitPopulation += math.Sqrt(sp.unitVariance[d]/n) / float64(r.dim)
		if std < 1e-6 {
			dead++
		}
	}
	f.number("per_dim_std_raw_mean", raw, "")
	f.number("per_dim_std_l2norm_mean_ddof1", unit, "of unit rows; 1/sqrt(dim) isotropic, 0 collapsed (SimSiam)")
	f.number("per_dim_std_l2norm_mean_ddof0", unitPopulation, "")
	f.number("per_dim_std_l2norm_times_sqrtD", unit*math.Sqrt(float64(r.dim)), "1 isotropic, 0 collapsed (SimSiam)")
	f.add("dims_with_std_raw_lt_1e6", int64(dead), "dimensions that do not vary")
	reading := fmt.Sprintf("effective rank, 1 to %d; compare runs of one method (Garrido et al. 2023)", len(sp.raw))
	f.number("rankme_raw", RankMe(roots(sp.raw), rankEps), reading)
	f.number("rankme_raw_eps0", RankMe(roots(sp.raw), 0), "without the 1e-7 added to each share")
	f.number("rankme_raw_eps1e-5", RankMe(roots(sp.raw), 1e-5), "stable-pretraining's")
	f.number("rankme_l2normalised", RankMe(roots(sp.unit), rankEps), "of unit rows")
	f.number("rankme_centred", RankMe(roots(sp.centred), rankEps), "of rows less their mean")
	f.number("effective_rank_covariance", RankMe(sp.centred, rankEps), "of the eigenvalues of the covariance (reptrix's RankMe)")
	trace, squares := total(sp.centred)
	const equal = "how many equal directions would hold the variance"
	f.number("participation_ratio_raw", participation(trace, squares), equal)
	f.number("participation_ratio_l2normalised", participation(sp.unitTrace, sp.unitSquares), "of unit rows")
	if trace > 0 {
		var shares []float64
		for _, v := range sp.centred[:min(5, len(sp.centred))] {
			shares = append(shares, v/trace)
		}
		f.add("covariance_top5_eigen_share", shares, "of the variance")
	} else {
		f.missing("covariance_top5_eigen_share", "the rows do not vary", "of the variance")
	}
	const slope = "near 1 good, larger collapse, smaller noise (Agrawal et al. 2022)"
	if alpha, r2, ok := PowerLaw(sp.centred); ok {
		f.number("alpha_req", alpha, slope)
		f.number("alpha_req_r2", r2, "of its fit, eigenvalues 11 to 100")
	} else {
		f.missing("alpha_req", "fewer than 20 eigenvalues above rounding", slope)
	}
	r.out.Spectrum = make([]float64, len(sp.centred))
	for i, v := range sp.centred {
		r.out.Spectrum[i] = v / (n - 1)
	}
	return nil
}

// sampled compares rows with rows.
func (r *diagnosing) sampled(ctx context.Context) error {
	f := &r.out.Figures
	if r.seen.rows < 2 {
		f.missing("uniform_t2", "it needs two rows", "")
		return nil
	}
	of, err := takeSample(ctx, r.bank, r.NeighbourRows, r.Seed)
	if err != nil {
		return err
	}
	f.add("seed", int64(r.Seed), "of the samples")
	f.add("neighbour_rows", int64(len(of.rows)), "that were searched for each other")
	if std, ok := f.Lookup("per_dim_std_l2norm_times_sqrtD"); ok && std < noiseFrom {
		f.add("neighbour_remark", "cosines differ by little more than float32 resolves: which rows are near is partly rounding", "")
	}
	o := r.o
	o.Progress = func(done, _ int64) { r.progress(done) }
	o.Memory /= 4
	nb, err := findNeighbours(ctx, r.bank, of, r.K, r.Metric, o)
	if err != nil {
		return err
	}
	r.done += int64(len(of.rows))
	r.neighbours(of, nb)
	few := of.thin(r.PairRows)
	p, err := AllPairs(ctx, few.vectors, few.labels, r.o.Threads)
	if err != nil {
		return err
	}
	f.add("pair_rows", int64(len(few.rows)), "of which all pairs were compared")
	f.number("uniform_t2", p.Uniform, fmt.Sprintf("0 collapsed; %.2f for points all over the sphere (Wang and Isola 2020)", uniformFloor(r.dim)))
	if p.Same.count() > 0 && p.Other.count() > 0 {
		f.number("same_class_cosine", p.SameMean, "mean of pairs of one class")
		f.number("other_class_cosine", p.OtherMean, "mean of pairs of two classes")
		f.add("same_class_cosine_histogram", p.Same.list(), "")
		f.add("other_class_cosine_histogram", p.Other.list(), "")
	} else {
		f.missing("same_class_cosine", "it needs rows of two classes, and two of one", "")
	}
	return nil
}

// uniformFloor is the uniformity of points spread evenly over the sphere: log E
// e^{4c−4}, c the cosine of two random directions, and E e^{4c} = Σ 4^m/(m!·(D/2)_m),
// (x)_m = x(x+1)…(x+m−1).
func uniformFloor(dim int) float64 {
	sum, term := 1.0, 1.0
	for m := 1; m < 200; m++ {
		term *= 4 / (float64(m) * (float64(dim)/2 + float64(m) - 1))
		sum += term
	}
	return math.Log(sum) - 4
}

// neighbours adds the figures of the one search.
func (r *diagnosing) neighbours(of *sample, nb *neighbourhood) {
	f := &r.out.Figures
	prefix := fmt.Sprintf("hubness_k%d_%s_", r.K, metricName(r.Metric))
	alike := r.Metric == index.Cosine && r.seen.alike(of)
	switch {
	case nb.k < r.K:
		f.missing(prefix+"skew_biased", fmt.Sprintf("%d rows are too few for %d neighbours each", len(of.rows), r.K), "")
	case alike:
		f.missing(prefix+"skew_biased", allAlike, "")
	default:
		r.out.Occurrences = nb.occurrences()
		NewHubness(r.out.Occurrences, nb.k).figures(f, prefix)
	}
	if r.Metric == index.Cosine {
		mean, near := nb.nearest(nearDuplicate)
		f.number("nearest_neighbour_cosine", mean, "mean")
		f.number("near_duplicate_frac_cos_gt_0.999", float64(near)/float64(len(of.rows)), "of the rows searched")
		f.number("koleo", nb.koleo(of.vectors), "-mean log distance to the nearest; smaller spreads better (DINOv2)")
	} else {
		f.missing("koleo", "it needs neighbours by cosine", "")
	}
	name := fmt.Sprintf("knn_k%d_leave_one_out_top1", nb.k)
	const vote = "share of rows whose neighbours vote for their class (dino)"
	right, commonest, asked := nb.vote(of.labels)
	switch {
	case asked < 2:
		f.missing(name, "fewer than two rows have a label", vote)
		return
	case commonest == 1:
		f.missing(name, "all labelled rows are of one class", vote)
	case commonest*float64(asked) < 1.5:
		f.missing(name, "no two rows are of one class", vote)
	case alike:
		f.missing(name, allAlike, vote)
	default:
		f.number(name, right, vote)
	}
	f.number("commonest_class_share", commonest, "what naming always one class would get")
}

// metricName is how figures call it.
func metricName(m index.Metric) string {
	if m == index.L2 {
		return "euclidean_raw"
	}
	return m.String()
}
