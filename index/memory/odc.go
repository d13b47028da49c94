package memory

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"

	"membank/index"
	"membank/index/kmeans"
	"membank/simd"
	"membank/store"
)

// ODCOptions say how online deep clustering moves labels (Zhan et al. 2020, as
// mmselfsup has it). The zero value is its own.
type ODCOptions struct {
	KeepOld       float32 // weight of the old row; 0 is 0.5
	Overwrite     bool    // KeepOld 0 is meant
	MinCluster    int64   // 0: 20 members, below which a cluster is dissolved
	CentroidsEach int64   // 0: all centroids are computed anew every 10 updates of the bank
	Step          int64
	Durability    Durability
}

// ODCStep is what one step did.
type ODCStep struct {
	Labels      []int64 `json:"labels"`       // new labels of the batch, before small clusters were dissolved
	ChangeRatio float64 `json:"change_ratio"` // share of the batch whose label changed
	Dissolved   int     `json:"dissolved"`    // clusters that were too small
	Moved       int64   `json:"moved"`        // rows that this moved, the batch's own changes not counted
	Empty       int     `json:"empty"`        // clusters without a row now
	Smallest    int64   `json:"smallest"`
	Largest     int64   `json:"largest"`
	Step        int64   `json:"step"`
}

// ODCStart gives the slots the labels of an initial clustering without empty
// clusters, and makes each prototype the mean of its rows, not divided by its norm.
func (s *Slots) ODCStart(ctx context.Context, labels []int64, d Durability) error {
	if err := s.checkDurability(&d); err != nil {
		return err
	}
	if s.c.Prototypes == 0 || int64(len(labels)) != s.c.Rows {
		return fmt.Errorf("%w: %d labels for %d slots with %d prototypes", ErrOptions, len(labels), s.c.Rows, s.c.Prototypes)
	}
	s.lock()
	end, err := s.odcStart(ctx, labels, d)
	s.unlock()
	if err != nil {
		return err
	}
	return s.synced(end, d)
}

func (s *Slots) odcStart(ctx context.Context, labels []int64, d Durability) (int64, error) {
	if err := s.usable(); err != nil {
		return 0, err
	}
	c := &change{state: s.state}
	sizes := make([]int64, s.c.Prototypes)
	for i, label := range labels {
		if label < 0 || label >= s.c.Prototypes {
			return 0, fmt.Errorf("%w: label %d of slot %d, with %d prototypes", ErrOptions, label, i, s.c.Prototypes)
		}
		sizes[label]++
		c.ids, c.version = append(c.ids, int64(i)), append(c.version, s.version[i])
	}
	for p, n := range sizes {
		if n == 0 {
			return 0, fmt.Errorf("%w: no slot has label %d (the first clustering may have no empty cluster)", ErrOptions, p)
		}
	}
	c.labels = labels
	o := &odc{s: s, c: c, labels: labels, rows: map[int64][]float32{}, centroids: map[int64][]float32{}}
	if err := o.means(ctx, nil); err != nil {
		return 0, err
	}
	o.finish()
	return s.commit(c, d)
}

// ODCUpdate mixes rows into slots, gives them the labels of the prototypes with the
// largest dot product, computes all prototypes anew at every CentroidsEach-th update,
// and dissolves small clusters: their rows go to the best of the large ones, and each
// of them gets half of what is the largest then. All of it is one change of the bank.
func (s *Slots) ODCUpdate(ctx context.Context, ids []int64, rows simd.Matrix, o ODCOptions) (ODCStep, error) {
	if o.KeepOld == 0 && !o.Overwrite {
		o.KeepOld = 0.5
	}
	if o.MinCluster == 0 {
		o.MinCluster = 20
	}
	if o.CentroidsEach == 0 {
		o.CentroidsEach = 10
	}
	u := UpdateOptions{KeepOld: o.KeepOld, Renorm: RenormL2Plus, Step: o.Step, Durability: o.Durability}
	if err := s.checkUpdate(ids, []simd.Matrix{rows}, &u); err != nil {
		return ODCStep{}, err
	}
	if s.c.Prototypes == 0 || o.MinCluster < 0 || o.CentroidsEach < 0 {
		return ODCStep{}, fmt.Errorf("%w: %d prototypes, small below %d, centroids every %d", ErrOptions, s.c.Prototypes, o.MinCluster, o.CentroidsEach)
	}
	s.lock()
	step, end, err := s.odcUpdate(ctx, ids, rows, u, o)
	s.unlock()
	if err == nil {
		err = s.synced(end, u.Durability)
	}
	if err != nil {
		return ODCStep{}, err
	}
	return step, nil
}

func (s *Slots) odcUpdate(ctx context.Context, ids []int64, rows simd.Matrix, u UpdateOptions, opt ODCOptions) (step ODCStep, end int64, err error) {
	if err := s.usable(); err != nil {
		return step, 0, err
	}
	if s.labels == nil {
		return step, 0, fmt.Errorf("%w: the slots have no labels (begin with ODCStart)", ErrOptions)
	}
	c, _ := s.mixed(ids, []simd.Matrix{rows}, u)
	c.state = s.state.next(u.Step)
	step.Step = c.state.stepOf(u.Step)
	o := &odc{s: s, c: c, labels: append([]int64(nil), s.labels...), rows: map[int64][]float32{}, centroids: map[int64][]float32{}}
	for i, id := range c.ids {
		c.version[i] = max(s.version[id], step.Step)
		o.rows[id] = c.rows[0].Row(i)
	}
	best, err := o.best(ctx, c.rows[0], nil)
	if err != nil {
		return step, 0, err
	}
	changed := 0
	for i, id := range c.ids {
		if o.labels[id] != best[i] {
			changed++
		}
		o.labels[id] = best[i]
	}
	step.ChangeRatio = float64(changed) / float64(max(len(c.ids), 1))
	for _, id := range ids {
		step.Labels = append(step.Labels, o.labels[id])
	}
	if c.state.Updates%opt.CentroidsEach == 0 {
		if err := o.means(ctx, nil); err != nil {
			return step, 0, err
		}
	}
	if step.Dissolved, err = o.dissolve(ctx, opt.MinCluster); err != nil {
		return step, 0, err
	}
	step.Moved = o.finish()
	step.Empty, step.Smallest, step.Largest = extremes(o.sizes())
	end, err = s.commit(c, u.Durability)
	return step, end, err
}

// odc is a step under way: what labels, rows and prototypes will be.
type odc struct {
	s         *Slots
	c         *change
	labels    []int64             // of all slots
	rows      map[int64][]float32 // of the batch
	centroids map[int64][]float32 // that change
}

func (o *odc) row(id int64) []float32 {
	if x, ok := o.rows[id]; ok {
		return x
	}
	return o.s.views[0].row(id)
}

func (o *odc) centroid(p int64) []float32 {
	if x, ok := o.centroids[p]; ok {
		return x
	}
	return o.s.prototypes.row(p)
}

func (o *odc) sizes() []int64 {
	sizes := make([]int64, o.s.c.Prototypes)
	for _, label := range o.labels {
		if label >= 0 && label < int64(len(sizes)) {
			sizes[label]++
		}
	}
	return sizes
}

// best is the prototype with the largest dot product for each row, the smaller one
// of equals; only allowed ones, if that is set.
func (o *odc) best(ctx context.Context, rows simd.Matrix, allowed func(int64) bool) ([]int64, error) {
	m := simd.NewMatrix(int(o.s.c.Prototypes), rows.Dim)
	for p := range m.Rows {
		copy(m.Row(p), o.centroid(int64(p)))
	}
	ix, err := index.FromMatrix(m, index.MatrixOptions{NoCodes: true})
	if err != nil {
		return nil, err
	}
	r, err := ix.Search(ctx, rows, index.Options{K: 1, Metric: index.Dot, Allow: allowed})
	if err != nil {
		return nil, err
	}
	best := make([]int64, rows.Rows)
	for i, hits := range r.Hits {
		if len(hits) > 0 {
			best[i] = hits[0].Row
		}
	}
	return best, nil
}

// means makes prototypes the means of their rows: those listed, or all; zero
// without rows. It sums in float64, in row order.
func (o *odc) means(ctx context.Context, some []int64) error {
	dim := o.s.views[0].Dim
	sums, members := map[int64][]float64{}, map[int64]int64{}
	if some == nil {
		for p := range o.s.c.Prototypes {
			sums[p] = make([]float64, dim)
		}
	}
	for _, p := range some {
		sums[p] = make([]float64, dim)
	}
	for id, label := range o.labels {
		if id%8192 == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		sum := sums[label]
		if sum == nil {
			continue
		}
		members[label]++
		for d, x := range o.row(int64(id)) {
			sum[d] += float64(x)
		}
	}
	for p, sum := range sums {
		mean := make([]float32, dim)
		for d := range mean {
			mean[d] = float32(sum[d] / float64(max(members[p], 1)))
		}
		o.centroids[p] = mean
	}
	return nil
}

// dissolve empties clusters of fewer than least rows and gives each half of what is
// the largest cluster then.
func (o *odc) dissolve(ctx context.Context, least int64) (int, error) {
	sizes := o.sizes()
	small := map[int64]bool{}
	var order []int64
	for p, n := range sizes {
		if n < least {
			small[int64(p)] = true
			order = append(order, int64(p))
		}
	}
	if len(order) == 0 || len(order) == len(sizes) {
		return 0, nil // none is large enough to take the others in
	}
	var ids []int64
	for id, label := range o.labels {
		if small[label] {
			ids = append(ids, int64(id))
		}
	}
	m := simd.NewMatrix(len(ids), o.s.views[0].Dim)
	for i, id := range ids {
		copy(m.Row(i), o.row(id))
	}
	best, err := o.best(ctx, m, func(p int64) bool { return !small[p] })
	if err != nil {
		return 0, err
	}
	for i, id := range ids {
		o.labels[id] = best[i]
	}
	for _, empty := range order {
		if err := o.halve(ctx, empty); err != nil {
			return 0, err
		}
	}
	return len(order), nil
}

// halve gives an empty cluster half of the largest one, the smaller number of
// equals, and makes both prototypes means again.
func (o *odc) halve(ctx context.Context, empty int64) error {
	sizes, largest := o.sizes(), int64(0)
	for p, n := range sizes {
		if n > sizes[largest] {
			largest = int64(p)
		}
	}
	if sizes[largest] < 2 {
		return nil
	}
	var ids []int64
	for id, label := range o.labels {
		if label == largest {
			ids = append(ids, int64(id))
		}
	}
	m := simd.NewMatrix(len(ids), o.s.views[0].Dim)
	for i, id := range ids {
		copy(m.Row(i), o.row(id))
	}
	r, err := kmeans.Train(ctx, kmeans.Matrix(m), kmeans.Options{Clusters: 2, Iterations: 20, KeepEmpty: true})
	if err != nil {
		return err
	}
	second := 0
	for _, label := range r.Labels {
		second += int(label)
	}
	side := func(i int) bool { return r.Labels[i] == 1 }
	if second == 0 || second == len(ids) { // equal rows: halves at random
		half := make([]bool, len(ids))
		for _, i := range rand.New(rand.NewPCG(o.s.c.Seed, mix(uint64(empty)+uint64(o.c.state.Updates)))).Perm(len(ids))[:len(ids)/2] {
			half[i] = true
		}
		side = func(i int) bool { return half[i] }
	}
	for i, id := range ids {
		if side(i) {
			o.labels[id] = empty
		}
	}
	return o.means(ctx, []int64{largest, empty})
}

// finish puts what the step decided into the change, and returns how many slots
// beside the batch it relabelled.
func (o *odc) finish() (moved int64) {
	c, s := o.c, o.s
	batch := make(map[int64]bool, len(c.ids))
	for _, id := range c.ids {
		batch[id] = true
	}
	for id, label := range o.labels {
		if batch[int64(id)] || s.labels != nil && s.labels[id] == label {
			continue
		}
		moved++
		c.ids, c.version = append(c.ids, int64(id)), append(c.version, s.version[id])
	}
	if len(c.rows) > 0 && moved > 0 { // rows that only change their label stay as they are
		m := simd.NewMatrix(len(c.ids), c.rows[0].Dim)
		copy(m.Data, c.rows[0].Data[:c.rows[0].Rows*c.rows[0].Dim])
		for i := c.rows[0].Rows; i < len(c.ids); i++ {
			copy(m.Row(i), s.views[0].row(c.ids[i]))
		}
		c.rows[0] = m
	}
	c.labels = make([]int64, len(c.ids))
	for i, id := range c.ids {
		c.labels[i] = o.labels[id]
	}
	for p := range s.c.Prototypes {
		if x, ok := o.centroids[p]; ok {
			c.prototypeIDs = append(c.prototypeIDs, p)
			c.prototypes.Data = append(c.prototypes.Data, x...)
		}
	}
	c.prototypes.Rows, c.prototypes.Dim = len(c.prototypeIDs), s.views[0].Dim
	return moved
}

func extremes(sizes []int64) (empty int, smallest, largest int64) {
	smallest = math.MaxInt64
	for _, n := range sizes {
		if n == 0 {
			empty++
		}
		smallest, largest = min(smallest, n), max(largest, n)
	}
	return empty, smallest, largest
}

// ODCWeights are the weights of classes in ODC's loss, in proportion to
// (n_c+1e-10)^−½ and adding up to 1.
func (s *Slots) ODCWeights() ([]float64, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if err := s.usable(); err != nil {
		return nil, err
	}
	if s.c.Prototypes == 0 {
		return nil, fmt.Errorf("%w: the bank has no prototypes", ErrOptions)
	}
	w, sum := make([]float64, s.c.Prototypes), 0.0
	for id := range s.c.Rows {
		if label := s.labelAt(id); label != store.NoLabel && label >= 0 && label < int64(len(w)) {
			w[label]++
		}
	}
	for p, n := range w {
		w[p] = 1 / math.Sqrt(n+1e-10)
		sum += w[p]
	}
	for p := range w {
		w[p] /= sum
	}
	return w, nil
}
