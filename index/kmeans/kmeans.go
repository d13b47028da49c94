package kmeans

import (
	"context"
	"fmt"
	"math"
	"slices"
	"time"

	"membank/index"
	"membank/simd"
)

// Options say how rows are clustered. Clusters must be set; with all else zero it
// is Euclidean k-means: k-means++, then up to 25 iterations over all rows, empty
// clusters split.
type Options struct {
	Clusters int
	// Spherical normalises rows and centroids to length 1, and assigns by cosine. A
	// zero row has cosine 0 with every centroid.
	Spherical bool
	Seed      uint64
	Seeding   Seeding
	// SeedRows is how many rows, a sample, k-means++ draws from; they are held in
	// memory. 0 means 16 a cluster, at least 16,384 but no more than 256 MiB hold,
	// and never fewer than clusters.
	SeedRows int
	// Trials is how many rows k-means++ tries for each centroid, of which the one that
	// lowers the objective most is taken; 0 means 2+ln(Clusters), 1 is k-means++ as
	// it was first described.
	Trials int
	// Centroids, if it has rows, is where the first restart begins, instead of
	// Seeding: [Clusters][dim].
	Centroids simd.Matrix
	// Iterations is the most of each restart; 0 means 25. One that changes no
	// assignment is the last.
	Iterations int
	// Tolerance also ends a restart when an iteration lowers the objective by no
	// more than this share of it.
	Tolerance float64
	Restarts  int // runs from different seeds, of which the best is kept; 0 means 1
	// Refine, if set, looks for a better optimum when a restart has ended, with so
	// many clusters more for a while (refine.go); 5 is what its author uses. It takes
	// some dozens of iterations, each bounded by Iterations, and holds everything
	// twice. Not with Batch.
	Refine int
	// Swaps, if set, looks for a better optimum by so many random moves of a centroid
	// after that, each of some iterations (swap.go). 100 of them find what hundreds of
	// restarts do not, in about eight iterations each. Not with Batch.
	Swaps int
	// KeepEmpty lets an empty cluster keep its old centroid, as DeepCluster-v2 and
	// SwAV do, instead of giving it half of another one (see empty.go).
	KeepEmpty bool
	// MaxPerCluster, if set, trains on a sample of so many rows for each cluster. The
	// result is still the assignment of all rows.
	MaxPerCluster int
	// Batch, if set, makes each iteration a step of mini-batch k-means: so many rows,
	// another sample each time, move their centroids towards them, which remain the
	// means of all rows that ever were assigned to them. Empty clusters are looked
	// for whenever as many rows have gone by as there are. Tolerance and
	// MaxPerCluster have no part in it.
	Batch   int
	NoCodes bool // compare rows with centroids without codes; the result is the same
	Threads int  // 0 means GOMAXPROCS
	// Progress, if set, is told how far the run is. Calls do not overlap.
	Progress func(Progress)
}

// Progress says what a run is at.
type Progress struct {
	Stage       string // "seeding", "iterating", or "assigning" all rows at the end
	Restart     int    // from 0
	Iteration   int    // from 0; of that stage
	Done, Total int64  // rows of this pass, or centroids found
	// Objective is that of the iteration before, Σ‖x−c‖² over its rows; 0 if there
	// was none.
	Objective float64
}

// Result is a clustering of all rows of the source.
type Result struct {
	Centroids simd.Matrix // [clusters][dim]; of length 1 if spherical
	Labels    []int32     // cluster of each row
	Scores    []float32   // of each row with its centroid: cosine if spherical, else squared distance
	// Objective is Σ‖x−c‖² over all rows, less is better; spherical rows have length
	// 1, so that it is 2·Σ(1−cos).
	Objective  float64
	MeanCosine float64 // spherical only
	Iterations int     // of the restart that is kept
	Converged  bool    // its last iteration changed no assignment
	Splits     int     // empty clusters that were given half of another one
	Restart    int     // the one that is kept, from 0
	TrainRows  int     // rows that an iteration looked at
	SeedRows   int     // rows that k-means++ drew from; 0 if it was not used
	Sizes
	// History is the objective at each iteration of the restart that is kept, before
	// it moved the centroids.
	History []float64
	Seconds float64
	// IterationSeconds is what an iteration took, on average over all restarts,
	// without the pass at the end that assigns all rows.
	IterationSeconds float64
	Codes            bool // the last pass used codes
}

// Train divides the rows of a source into clusters. It ends with an assignment of
// all rows to the centroids, so that labels, scores and objective belong together,
// and together to what is returned.
//
// A pass costs 2·rows·clusters·dim operations, or with codes a fraction of that, and
// reads every row once. A cancelled ctx ends it with its cause within a part of a
// pass that takes milliseconds. Errors: ErrOptions; ErrTooFewRows; ErrRow for a row
// with NaN or Inf; those of the source as they are.
func Train(ctx context.Context, s Source, o Options) (*Result, error) {
	start := time.Now()
	if err := o.check(s); err != nil {
		return nil, err
	}
	train, sampled := s, false
	if o.MaxPerCluster > 0 && o.Batch == 0 && o.MaxPerCluster < s.Rows()/o.Clusters+1 {
		train, sampled = Sample(s, o.MaxPerCluster*o.Clusters, o.Seed), true
	}
	r := newRun(train, o)
	if err := r.learn(ctx); err != nil {
		return nil, err
	}
	var best *Result
	iterations, spent := 0, 0.0
	for restart := range o.Restarts {
		begun := o.Centroids
		if restart > 0 || begun.Rows == 0 {
			var err error
			if begun, err = r.seed(ctx, restart); err != nil {
				return nil, err
			}
		}
		found, err := r.improve(ctx, begun, restart)
		if err == nil && o.Refine > 0 && o.Batch == 0 {
			err = r.refine(ctx, found)
		}
		if err == nil && o.Swaps > 0 && o.Batch == 0 {
			err = r.swap(ctx, found)
		}
		if err != nil {
			return nil, err
		}
		iterations += found.Iterations
		spent += found.IterationSeconds
		if best == nil || found.Objective < best.Objective {
			best = found
		}
	}
	if sampled || o.Restarts > 1 {
		r.source = s
		if err := r.finish(ctx, best); err != nil {
			return nil, err
		}
	}
	best.Labels, best.Scores = r.labels, r.scores
	best.Sizes = sizesOf(best.Labels, o.Clusters)
	best.IterationSeconds = spent / float64(max(iterations, 1))
	best.Seconds = time.Since(start).Seconds()
	best.Codes = r.basis != nil
	best.TrainRows = train.Rows()
	if o.Batch > 0 {
		best.TrainRows = o.Batch
	}
	if o.Seeding == PlusPlus && (o.Centroids.Rows == 0 || o.Restarts > 1) {
		best.SeedRows = min(o.SeedRows, train.Rows())
	}
	return best, nil
}

// check refuses options that can mean nothing, and fills in the defaults.
func (o *Options) check(s Source) error {
	switch {
	case o.Clusters < 1:
		return fmt.Errorf("%w: %d clusters", ErrOptions, o.Clusters)
	case o.Clusters > math.MaxInt32:
		return fmt.Errorf("%w: %d clusters, more than a label can name", ErrOptions, o.Clusters)
	case o.Iterations < 0 || o.Restarts < 0 || o.MaxPerCluster < 0 || o.Batch < 0 || o.SeedRows < 0 || o.Trials < 0 || o.Refine < 0 || o.Swaps < 0:
		return fmt.Errorf("%w: a negative number", ErrOptions)
	case !(o.Tolerance >= 0 && o.Tolerance < 1):
		return fmt.Errorf("%w: tolerance %v, from 0 to 1 makes sense", ErrOptions, o.Tolerance)
	case o.Seeding > RandomRows:
		return fmt.Errorf("%w: %v", ErrOptions, o.Seeding)
	case o.Centroids.Rows != 0 && (o.Centroids.Rows != o.Clusters || o.Centroids.Dim != s.Dim()):
		return fmt.Errorf("%w: %d centroids of %d dimensions to begin with, for %d clusters of %d",
			ErrOptions, o.Centroids.Rows, o.Centroids.Dim, o.Clusters, s.Dim())
	}
	if err := checkSource(s, o.Clusters); err != nil {
		return err
	}
	if o.Iterations == 0 {
		o.Iterations = 25
	}
	o.Restarts = max(o.Restarts, 1)
	o.Threads = threadsOr(o.Threads)
	if o.SeedRows == 0 {
		o.SeedRows = min(max(1<<14, 16*o.Clusters), 256<<20/(4*s.Dim()))
	}
	o.SeedRows = max(o.SeedRows, o.Clusters)
	if o.Trials == 0 {
		o.Trials = 2 + int(math.Log(float64(o.Clusters)))
	}
	o.Batch = min(o.Batch, s.Rows())
	return nil
}

// improve moves centroids until nothing changes, or enough iterations are done. Its
// last pass assigns the rows of the run to what is returned.
func (r *run) improve(ctx context.Context, begun simd.Matrix, restart int) (*Result, error) {
	b := &Result{Centroids: simd.NewMatrix(begun.Rows, begun.Dim), Restart: restart}
	copy(b.Centroids.Data, begun.Data[:begun.Rows*begun.Dim])
	if r.o.Spherical {
		for c := range b.Centroids.Rows {
			simd.Normalize(b.Centroids.Row(c), b.Centroids.Row(c))
		}
	}
	if r.o.Batch > 0 {
		return b, r.improveByBatches(ctx, b)
	}
	r.forget()
	least, idle := math.Inf(1), 0
	for {
		began, last := time.Now(), b.Iterations == r.o.Iterations
		p := Progress{Stage: "iterating", Restart: restart, Iteration: b.Iterations, Objective: b.Objective}
		if last {
			p.Stage = "assigning"
		}
		r.reset()
		out, err := r.pass(ctx, r.source.Read, b.Centroids, !last, r.counter(p))
		if err != nil {
			return nil, err
		}
		before := b.Objective
		b.Objective = out.objective
		if r.o.Spherical {
			b.MeanCosine = out.cosines / float64(len(r.labels))
		}
		if last {
			return b, nil
		}
		if out.changed == 0 {
			b.Converged = true
			return b, nil
		}
		b.History = append(b.History, out.objective)
		if b.Iterations > 0 && r.hopeless(before, out.objective, r.o.Iterations-b.Iterations) {
			return b, nil
		}
		if b.Iterations > 0 && r.o.Tolerance > 0 && before-out.objective <= r.o.Tolerance*before {
			return b, nil
		}
		if idle++; out.objective < least*(1-1e-7) {
			least, idle = out.objective, 0
		}
		r.judgeCodes(out)
		r.update(b.Centroids)
		if !r.o.KeepEmpty && idle < patience {
			b.Splits += r.split(b.Centroids, restart)
		}
		b.Iterations++
		b.IterationSeconds += time.Since(began).Seconds()
	}
}

// hopeless says whether so many more iterations would not lead below the objective that
// is to be beaten, if each lowered it by as much as the last one did. They seldom lower
// it by more.
func (r *run) hopeless(before, now float64, left int) bool {
	return now-float64(left)*max(before-now, 0) > r.beat
}

// patience is how many iterations may go by without a lower objective until clusters
// that are empty stay so: they have been split in vain. What is left is Lloyd's
// algorithm, which comes to an end.
const patience = 4

// split gives empty clusters half of others, where they have something to share.
func (r *run) split(centroids simd.Matrix, restart int) int {
	if !slices.Contains(r.counts, 0) {
		return 0
	}
	splits := split(centroids, r.counts, r.points(centroids), random(r.o.Seed, streamSplit, restart))
	if splits > 0 && r.o.Spherical {
		for c := range centroids.Rows {
			simd.Normalize(centroids.Row(c), centroids.Row(c))
		}
	}
	return splits
}

// finish assigns all rows of the source to the centroids of a result.
func (r *run) finish(ctx context.Context, b *Result) error {
	r.size(r.source.Rows())
	out, err := r.pass(ctx, r.source.Read, b.Centroids, false, r.counter(Progress{
		Stage: "assigning", Restart: b.Restart, Iteration: b.Iterations, Objective: b.Objective,
	}))
	if err != nil {
		return err
	}
	b.Objective = out.objective
	if r.o.Spherical {
		b.MeanCosine = out.cosines / float64(len(r.labels))
	}
	return nil
}

// counter tells the progress of a pass.
func (r *run) counter(p Progress) func(rows int) {
	p.Total = int64(len(r.labels))
	return func(rows int) {
		p.Done = int64(rows)
		r.tell(p)
	}
}

func (r *run) tell(p Progress) {
	if r.o.Progress != nil {
		r.o.Progress(p)
	}
}

// Codes cost some microseconds a row, whatever the number of centroids, and comparing
// it with all of them without codes 20 ps a number of theirs, measured on Zen 4: so
// many numbers make them pay. A variable for tests.
var codesFrom = 350_000

const (
	codesDim = 64
	codesK   = 512
	// With more of the pairs scored exactly than this share codes only cost time.
	codesShare = 0.3
	basisRows  = 16384
)

// learn makes a basis for codes of the centroids, from a sample of the rows, where
// that pays.
func (r *run) learn(ctx context.Context) error {
	dim := r.source.Dim()
	if r.o.NoCodes || dim < codesDim || r.o.Clusters < codesK || r.o.Clusters*dim < codesFrom {
		return nil
	}
	rows, err := r.gather(ctx, draw(random(r.o.Seed, streamSample, 0), basisRows, r.source.Rows()))
	if err != nil {
		return err
	}
	r.basis = index.LearnMatrix(rows, r.o.Clusters, 1, r.o.Threads)
	return nil
}

// judgeCodes gives codes up where they hardly spared any work.
func (r *run) judgeCodes(out outcome) {
	if float64(out.stats.Scores) > codesShare*float64(len(r.labels))*float64(r.o.Clusters) {
		r.basis = nil
	}
}
