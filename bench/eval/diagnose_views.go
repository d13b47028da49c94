package eval

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"

	"membank/simd"
	"membank/store"
)

// Parts of a batch of views that figures are taken of, too: losses depend on the
// number of candidates, so only equal numbers can be compared.
const (
	firstViews = 256
	viewBatch  = 250
)

// views compares the bank with a second view of its rows.
func (r *diagnosing) views(ctx context.Context, second *store.Snapshot) error {
	f := &r.out.Figures
	var sets [2]simd.Matrix
	for v, bank := range []*store.Snapshot{r.bank, second} {
		of, err := readRows(ctx, bank, r.pairs[v])
		if err != nil {
			return err
		}
		sets[v] = of.vectors
	}
	n := sets[0].Rows
	f.add("view_pairs", int64(n), "pairs of views that were compared with each other")
	f.add("unpaired_rows", int64(r.lost), "rows chosen whose key the views lack")
	if n < 2 {
		f.missing("align_alpha2", "it needs two pairs", "")
		return nil
	}
	c, err := Contrasts(ctx, sets[0], sets[1], r.Temperatures, r.o.Threads)
	if err != nil {
		return err
	}
	r.out.Views = c
	f.number("align_alpha2", c.Align2, "mean squared distance of a pair, unit rows; 0 to 4, small is good unless all is small")
	f.number("align_alpha1", c.Align1, "mean distance of a pair")
	f.number("uniform_t2_view1", c.Uniform[0], fmt.Sprintf("0 collapsed, %.2f all over the sphere", uniformFloor(r.dim)))
	f.number("uniform_t2_view2", c.Uniform[1], "")
	f.number("uniform_t2_mean", (c.Uniform[0]+c.Uniform[1])/2, "")
	f.number("mean_positive_cosine", c.PositiveCosine, "of a pair")
	f.number("mean_negative_cosine", c.NegativeCosine, "of a view with views of other rows")
	f.number("negative_cosine_variance", c.NegativeVar, "of an anchor's negatives, mean over anchors")
	f.add("positive_cosine_histogram", c.Positive.list(), "")
	f.add("negative_cosine_histogram", c.Negative.list(), "")
	f.number("instance_retrieval_top1_v1_to_v2", c.Retrieved, "share of views whose nearest view in the other set is their own")
	for _, l := range c.Losses {
		if err := r.losses(ctx, sets, l); err != nil {
			return err
		}
	}
	rank, ok := f.Lookup("rankme_raw")
	if ok {
		f.number("rankme_view1", rank, "of the whole bank")
	}
	if std, ok := f.Lookup("per_dim_std_l2norm_mean_ddof1"); ok {
		f.number("per_dim_std_l2norm_view1_mean_ddof1", std, "of the whole bank")
	}
	on, off, dims := Barlow(sets[0], sets[1], r.o.Threads)
	if dims == 0 {
		f.missing("barlow_on_diag_sum", "no dimension varies in both views", "")
		f.missing("barlow_off_diag_sq_sum", "no dimension varies in both views", "")
	} else {
		f.number("barlow_on_diag_sum", on, "")
		f.number("barlow_off_diag_sq_sum", off, "")
	}
	f.add("barlow_dims_used", int64(dims), "")
	if r.GroupBy != "" {
		return nil // LiDAR is that of the groups
	}
	pairs := simd.NewMatrix(2*n, r.dim)
	copy(pairs.Data, sets[0].Data)
	copy(pairs.Data[n*r.dim:], sets[1].Data)
	groups := make([][]int, n)
	for i := range groups {
		groups[i] = []int{i, n + i}
	}
	return r.lidar(ctx, pairs, groups)
}

// losses adds the figures of one temperature.
func (r *diagnosing) losses(ctx context.Context, sets [2]simd.Matrix, l ContrastLoss) error {
	f, n := &r.out.Figures, sets[0].Rows
	name := func(format string) string { return fmt.Sprintf(format, fmt.Sprintf("T%g", l.T)) }
	f.number(name("ntxent_%s_all"), l.NTXent, fmt.Sprintf("nats; chance is %.3f (SimCLR)", math.Log(float64(2*n-1))))
	part := func(from, to int) (*Contrast, error) {
		return Contrasts(ctx, sets[0].Slice(from, to), sets[1].Slice(from, to), []float64{l.T}, r.o.Threads)
	}
	if n >= firstViews {
		c, err := part(0, firstViews)
		if err != nil {
			return err
		}
		f.number(name("ntxent_%s_first256"), c.Losses[0].NTXent, "to compare sets of different size")
	}
	if n >= viewBatch {
		mean, batches := 0.0, n/viewBatch
		for b := range batches {
			c, err := part(b*viewBatch, (b+1)*viewBatch)
			if err != nil {
				return err
			}
			mean += c.Losses[0].NTXent / float64(batches)
		}
		f.number(name("ntxent_%s_mean_over_batches_of_250"), mean, "")
	}
	f.number(name("infonce_%s_v1_to_v2_all"), l.InfoNCE[0], fmt.Sprintf("nats; chance is %.3f", math.Log(float64(n))))
	f.number(name("infonce_%s_v2_to_v1_all"), l.InfoNCE[1], "")
	f.number(name("infonce_%s_symmetric_all"), l.Symmetric(), "")
	limit := math.Log(float64(n))
	f.number(name("infonce_%s_bound_nats"), limit-l.Symmetric(), fmt.Sprintf("views share at least so much information; %.3f is the most these many can show (CPC)", limit))
	f.number(name("infonce_%s_bound_of_cap"), (limit-l.Symmetric())/limit, "the same as a share")
	f.number(name("relic_kl_%s_all"), l.ReLIC, "nats; 0: both views rank the others alike (ReLIC)")
	f.number(name("mean_exp_positive_%s"), l.MeanPos, "")
	f.number(name("mean_exp_negative_%s"), l.MeanNegs, "")
	if n > firstViews {
		loss, err := QueueLoss(ctx, sets[0].Slice(0, firstViews), sets[1].Slice(0, firstViews), sets[1].Slice(firstViews, n), l.T, r.o.Threads)
		if err != nil {
			return err
		}
		f.number(name("moco_%s_q=v1[:256]_pos=v2[:256]_queue=v2[256:]"), loss, "nats, with the other views as the queue")
	}
	return nil
}

// lidarByGroup computes LiDAR where views lie in the bank itself.
func (r *diagnosing) lidarByGroup(ctx context.Context) error {
	if r.GroupBy == "" {
		return nil
	}
	objects, err := groupRows(ctx, r.bank, r.GroupBy, lidarViews)
	if err != nil {
		return err
	}
	objects = slices.DeleteFunc(objects, func(g []int64) bool { return len(g) < 2 })
	rng := rand.New(rand.NewPCG(r.Seed, 0x6c69646172))
	rng.Shuffle(len(objects), func(i, j int) { objects[i], objects[j] = objects[j], objects[i] })
	objects = objects[:min(len(objects), lidarObjects)]
	var rows []int64
	groups := make([][]int, len(objects))
	for i, g := range objects {
		for _, row := range g {
			groups[i] = append(groups[i], len(rows))
			rows = append(rows, row)
		}
	}
	of, err := readRows(ctx, r.bank, rows)
	if err != nil {
		return err
	}
	return r.lidar(ctx, of.vectors, groups)
}

func (r *diagnosing) lidar(ctx context.Context, m simd.Matrix, groups [][]int) error {
	f := &r.out.Figures
	reading := fmt.Sprintf("effective rank between objects, 1 to %d (Thilak et al. 2023)", min(m.Dim, len(groups)-1))
	v, err := LiDAR(ctx, m, groups, lidarDelta, lidarEps, r.o.Threads)
	if errors.Is(err, errLiDAR) {
		f.missing("lidar", err.Error(), reading)
		return nil
	}
	if err != nil {
		return err
	}
	f.number("lidar", v, reading)
	f.add("lidar_objects", int64(len(groups)), "")
	f.number("lidar_delta", lidarDelta, "added to the spread within objects")
	f.number("lidar_eps", lidarEps, "added to each share")
	return nil
}

// groupRows are the rows of each object, at most so many of one, objects in the
// order of their first rows. by is an attribute, or "key" for the key up to its last
// '#'. Rows without the attribute are in no group.
func groupRows(ctx context.Context, s *store.Snapshot, by string, most int) ([][]int64, error) {
	var groups [][]int64
	of := map[any]int{}
	r := s.NewReader()
	for block := range s.Blocks() {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		err := r.Columns(block, func(c *store.Columns) error {
			for i, row := range c.Row {
				var object any
				if by == "key" {
					key := c.Key(i)
					object = key
					if at := strings.LastIndexByte(key, '#'); at >= 0 {
						object = key[:at]
					}
				} else if v := c.Attribute(by, i); !v.IsNull() {
					object = v
				}
				if c.Dead[i] || object == nil {
					continue
				}
				at, known := of[object]
				if !known {
					at = len(groups)
					of[object] = at
					groups = append(groups, nil)
				}
				if len(groups[at]) < most {
					groups[at] = append(groups[at], row)
				}
			}
			return nil
		}, by)
		if err != nil {
			return nil, err
		}
	}
	return groups, nil
}

// ErrNoAttribute: a bank has no attribute of that name.
var ErrNoAttribute = errors.New("no such attribute")

// staleness reads when rows were last written, where the bank knows.
func (r *diagnosing) staleness(ctx context.Context) error {
	if !slices.Contains(r.bank.Info().Attributes, r.StepBy) {
		return nil
	}
	var steps []float64
	without := int64(0)
	reader := r.bank.NewReader()
	for block := range r.bank.Blocks() {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		err := reader.Columns(block, func(c *store.Columns) error {
			for i := range c.Rows {
				if c.Dead[i] {
					continue
				}
				switch v := c.Attribute(r.StepBy, i); v.Kind() {
				case store.KindInt:
					steps = append(steps, float64(v.Int()))
				case store.KindFloat:
					if math.IsNaN(v.Float()) || math.IsInf(v.Float(), 0) {
						without++
						continue
					}
					steps = append(steps, v.Float())
				default:
					without++
				}
			}
			return nil
		}, r.StepBy)
		if err != nil {
			return err
		}
	}
	f := &r.out.Figures
	f.add("rows_never_updated", without, "rows without a "+r.StepBy)
	if len(steps) == 0 {
		f.missing("age_mean", "no row has a number in "+r.StepBy, "")
		return nil
	}
	slices.Sort(steps)
	last, mean := steps[len(steps)-1], 0.0
	for _, s := range steps {
		mean += (last - s) / float64(len(steps))
	}
	f.number("age_mean", mean, "steps behind the newest row")
	f.number("age_median", last-steps[(len(steps)-1)/2], "")
	f.number("age_max", last-steps[0], "")
	return nil
}
