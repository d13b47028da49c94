package eval

import (
	"context"
	"fmt"
	"math"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"membank/index"
	"membank/store"
)

// Compare says how alike two or more banks see the same rows: epochs of one run,
// or encoders. Rows are matched by key. The zero value is the default.
type Compare struct {
	K     int // neighbours of a row; 0: 10
	Rows  int // compare this many, chosen by Seed; 0: 32768
	Seed  uint64
	Moved int // rows to name whose neighbours changed most; 0: 20
}

// Comparison is the figures of every pair of banks. With two banks the figures have
// plain names; with more, each name ends in ":A|B".
type Comparison struct {
	Figures
	// Rows are the compared ones in the order of the first bank, with how far their
	// neighbourhoods agree between the first bank and the last; Moved are those that
	// agree least, worst first.
	Rows  []RowChange `json:"-"`
	Moved []RowChange `json:"-"`
}

// RowChange is one row in two banks.
type RowChange struct {
	Row             int64 // in the first bank
	Key             string
	Label           int64
	Overlap         float64     // share of the k neighbours that both banks give it
	RankCorrelation float64     // Spearman's, of the neighbours of either
	Before, After   []index.Hit // rows of the first and of the last bank; of Moved only
}

// Run compares every pair. The sample is held in memory, 4 bytes a dimension, row
// and bank; where memory is too little for the rows asked for, fewer are taken, and
// the figures say how many. A comparison costs one search for neighbours in each
// bank, and a pair 2·rows·dim² operations and the singular values of a dim×dim matrix,
// rows×rows where rows are fewer; these go on for a while beside when ctx ends. It does not depend on threads.
func (c Compare) Run(ctx context.Context, banks []*store.Snapshot, o RunOptions) (*Comparison, error) {
	start := time.Now()
	if len(banks) < 2 {
		return nil, fmt.Errorf("%w: a comparison needs two banks", ErrTooFew)
	}
	for v, value := range map[*int]int{&c.K: 10, &c.Rows: defaultNeighbourRows, &c.Moved: 20, &o.Threads: runtime.GOMAXPROCS(0)} {
		if *v <= 0 {
			*v = value
		}
	}
	if o.Memory <= 0 {
		o.Memory = 1 << 30
	}
	each, widest := int64(0), 0
	for _, b := range banks {
		each += 4*int64(b.Dim()) + 16*int64(c.K+margin(c.K)) + 128
		widest = max(widest, b.Dim())
	}
	c.Rows = max(2, min(c.Rows, int(o.Memory/2/(each+16*int64(widest)))))
	rows, lost, err := c.match(ctx, banks)
	if err != nil {
		return nil, err
	}
	if len(rows[0]) < 2 {
		var names []string
		for _, b := range banks {
			names = append(names, strconv.Quote(b.Bank()))
		}
		return nil, fmt.Errorf("%w: %s is in all of %s, and two are needed", ErrTooFew, rowsText(int64(len(rows[0]))), strings.Join(names, ", "))
	}
	spaces := make([]*space, len(banks))
	for i, b := range banks {
		if spaces[i], err = newSpace(ctx, b, rows[i], c.K, o); err != nil {
			return nil, fmt.Errorf("bank %q: %w", b.Bank(), err)
		}
	}
	out := &Comparison{}
	for i, b := range banks {
		name := "bank"
		if i > 0 {
			name = fmt.Sprintf("bank%d", i+1)
		}
		out.add(name, b.Bank(), "")
	}
	out.add("rows", int64(len(rows[0])), "that were compared")
	out.add("unmatched_rows", int64(lost), "rows chosen, of the smallest bank, whose key another lacks")
	out.add("seed", int64(c.Seed), "of the sample")
	for i := range banks {
		for j := i + 1; j < len(banks); j++ {
			suffix := ""
			if len(banks) > 2 {
				suffix = ":" + banks[i].Bank() + "|" + banks[j].Bank()
			}
			if err := c.pair(ctx, out, suffix, spaces[i], spaces[j], o); err != nil {
				return nil, err
			}
		}
	}
	c.moved(out, spaces[0], spaces[len(spaces)-1])
	out.number("seconds", time.Since(start).Seconds(), "")
	return out, nil
}

// match chooses rows of the smallest bank, so that a few rows of many are found, and
// finds them in the others.
func (c Compare) match(ctx context.Context, banks []*store.Snapshot) (rows [][]int64, lost int, err error) {
	smallest := 0
	for i, b := range banks {
		if b.Info().Rows < banks[smallest].Info().Rows {
			smallest = i
		}
	}
	order := slices.Clone(banks)
	order[0], order[smallest] = order[smallest], order[0]
	rows, lost, err = matchRows(ctx, order, chooseRows(order[0], c.Rows, c.Seed))
	if err == nil {
		rows[0], rows[smallest] = rows[smallest], rows[0]
	}
	return rows, lost, err
}

// space is one bank of a comparison.
type space struct {
	*sample
	names      []string // of classes
	mean       []float64
	distances  []float64 // squared, of each row from the mean
	alike      bool      // no row differs from another in direction
	gram       float64   // ‖XᵀX‖_F of the rows less their mean
	products   *sums     // XXᵀ of the same, where rows are fewer than dimensions; else nil
	neighbours *neighbourhood
}

func newSpace(ctx context.Context, s *store.Snapshot, rows []int64, k int, o RunOptions) (*space, error) {
	of, err := readRows(ctx, s, rows)
	if err != nil {
		return nil, err
	}
	of.whole = false // positions are those of the first bank's rows
	o.Memory /= 4
	nb, err := findNeighbours(ctx, s, of, k, index.Cosine, o)
	if err != nil {
		return nil, err
	}
	sp := &space{sample: of, names: s.Info().ClassNames, mean: make([]float64, s.Dim()), distances: make([]float64, len(rows)), neighbours: nb}
	sp.alike = sameDirection(of.vectors) || noDirection(of.vectors)
	for i := range rows {
		for d, v := range of.vectors.Row(i) {
			sp.mean[d] += float64(v)
		}
	}
	var raw float64
	for d := range sp.mean {
		sp.mean[d] /= float64(len(rows))
		raw += sp.mean[d] * sp.mean[d]
	}
	var all float64
	for i := range rows {
		for d, v := range of.vectors.Row(i) {
			x := float64(v) - sp.mean[d]
			sp.distances[i] += x * x
		}
		all += sp.distances[i]
	}
	if all <= rounding2*raw*float64(len(rows)) { // equal rows
		clear(sp.distances)
		return sp, nil
	}
	if len(rows) < s.Dim() {
		if err := beside(ctx, func() { sp.products = sp.rowProducts(o.Threads) }); err != nil {
			return nil, err
		}
		sp.gram = math.Sqrt(sp.products.squares())
		return sp, nil
	}
	products, err := crossProducts(ctx, sp, sp, o.Threads)
	if err != nil {
		return nil, err
	}
	sp.gram = math.Sqrt(products.squares())
	return sp, nil
}

// rowProducts is XXᵀ of the rows less their mean.
func (s *space) rowProducts(threads int) *sums {
	n, dim := len(s.rows), s.vectors.Dim
	x := newStrips(dim, n)
	spread(threads, n, func(_, i int) {
		for d, v := range s.vectors.Row(i) {
			x.set(d, i, float64(v)-s.mean[d])
		}
	})
	out := newSums(n, n, true)
	out.add(x, x, threads)
	return out
}

// crossProducts is XᵀY of the rows of two spaces less their means.
func crossProducts(ctx context.Context, a, b *space, threads int) (*sums, error) {
	out := newSums(a.vectors.Dim, b.vectors.Dim, a == b)
	x := newStrips(momentRows, a.vectors.Dim)
	y := x
	if a != b {
		y = newStrips(momentRows, b.vectors.Dim)
	}
	for first := 0; first < len(a.rows); first += momentRows {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		n := min(momentRows, len(a.rows)-first)
		p, q := x.short(n), y.short(n)
		spread(threads, n, func(_, i int) {
			p.setRow(i, a.vectors.Row(first+i), 1, a.mean)
			if a != b {
				q.setRow(i, b.vectors.Row(first+i), 1, b.mean)
			}
		})
		if err := beside(ctx, func() { out.add(p, q, threads) }); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// pair adds the figures of two spaces.
func (c Compare) pair(ctx context.Context, out *Comparison, suffix string, a, b *space, o RunOptions) error {
	if err := alignments(ctx, out, suffix, a, b, o.Threads); err != nil {
		return err
	}
	n := len(a.rows)
	name := func(format string) string { return fmt.Sprintf(format, c.K) + suffix }
	if why := c.noNeighbours(a, b); why != "" {
		for _, format := range []string{"mutual_knn_k%d_overlap", "mutual_knn_k%d_jaccard", "neighbour_rank_correlation_k%d"} {
			out.missing(name(format), why, "")
		}
		return nil
	}
	var overlap, jaccard, correlation float64
	type class struct{ rows, overlap, jaccard float64 }
	classes := map[int64]class{}
	for i := range n {
		inter, rho := agreement(a.neighbours.hits[i], b.neighbours.hits[i])
		share, union := float64(inter)/float64(c.K), float64(inter)/float64(2*c.K-inter)
		overlap, jaccard, correlation = overlap+share, jaccard+union, correlation+rho
		if l := a.labels[i]; l != store.NoLabel {
			at := classes[l]
			classes[l] = class{at.rows + 1, at.overlap + share, at.jaccard + union}
		}
	}
	out.number(name("mutual_knn_k%d_overlap"), overlap/float64(n), fmt.Sprintf("share of neighbours in common; unrelated spaces have %.3g", float64(c.K)/float64(n-1)))
	out.number(name("mutual_knn_k%d_jaccard"), jaccard/float64(n), "in common, of those of either")
	out.number(name("neighbour_rank_correlation_k%d"), correlation/float64(n), "Spearman's, of the neighbours of either; 1 same order")
	var table []ClassChange
	for label, at := range classes {
		table = append(table, ClassChange{label, nameOf(a.names, label), int64(at.rows), at.overlap / at.rows, at.jaccard / at.rows})
	}
	slices.SortFunc(table, func(x, y ClassChange) int {
		if x.Label < y.Label {
			return -1
		}
		return 1
	})
	if len(table) > 0 {
		out.add("per_class"+suffix, table, "")
	}
	return nil
}

// noNeighbours says why the neighbourhoods of two spaces cannot be compared, "" if they can.
func (c Compare) noNeighbours(a, b *space) string {
	switch n := len(a.rows); {
	case n <= c.K+1: // all others are everybody's neighbours
		return fmt.Sprintf("%d rows are too few for a choice of %d neighbours each", n, c.K)
	case a.alike || b.alike:
		return "all rows of a bank point one way, or are zero: row numbers choose their neighbours"
	}
	return ""
}

// ClassChange is how far the neighbourhoods of one class agree.
type ClassChange struct {
	Label   int64   `json:"label"`
	Name    string  `json:"name,omitempty"`
	Rows    int64   `json:"rows"`
	Overlap float64 `json:"overlap"`
	Jaccard float64 `json:"jaccard"`
}

// agreement of two lists of neighbours of equal length k: how many both have, and
// Spearman's correlation of their places over the neighbours of either. A neighbour
// that a list lacks shares the mean of the places behind its end.
func agreement(a, b []index.Hit) (common int, rho float64) {
	k := len(a)
	places := make(map[int64][2]float64, 2*k)
	for i, h := range a {
		places[h.Row] = [2]float64{float64(i + 1), 0}
	}
	for i, h := range b {
		p, both := places[h.Row]
		if both {
			common++
		}
		p[1] = float64(i + 1)
		places[h.Row] = p
	}
	union := len(places)
	if union < 2 {
		return common, 1
	}
	// Both sets of places have the mean (union+1)/2.
	mean, behind := float64(union+1)/2, float64(k+1+union)/2
	var xx, xy, yy float64
	add := func(p [2]float64) {
		for v := range p {
			if p[v] == 0 {
				p[v] = behind
			}
		}
		x, y := p[0]-mean, p[1]-mean
		xx, xy, yy = xx+x*x, xy+x*y, yy+y*y
	}
	for _, h := range a {
		add(places[h.Row])
	}
	for _, h := range b {
		if p := places[h.Row]; p[0] == 0 {
			add(p)
		}
	}
	return common, xy / math.Sqrt(xx*yy)
}

// moved fills in what became of each row between two spaces.
func (c Compare) moved(out *Comparison, a, b *space) {
	if why := c.noNeighbours(a, b); why != "" {
		out.missing("moved", why, "")
		return
	}
	for i, row := range a.rows {
		common, rho := agreement(a.neighbours.hits[i], b.neighbours.hits[i])
		out.Rows = append(out.Rows, RowChange{
			Row: row, Key: a.keys[i], Label: a.labels[i], Overlap: float64(common) / float64(c.K), RankCorrelation: rho,
		})
	}
	worst := make([]int, len(out.Rows))
	for i := range worst {
		worst[i] = i
	}
	slices.SortStableFunc(worst, func(i, j int) int {
		x, y := out.Rows[i], out.Rows[j]
		switch {
		case x.Overlap != y.Overlap:
			return sign(x.Overlap - y.Overlap)
		case x.RankCorrelation != y.RankCorrelation:
			return sign(x.RankCorrelation - y.RankCorrelation)
		}
		return 0
	})
	for _, i := range worst[:min(c.Moved, len(worst))] {
		r := out.Rows[i]
		r.Before, r.After = a.named(i), b.named(i)
		out.Moved = append(out.Moved, r)
	}
	var list []movedRow
	for _, r := range out.Moved {
		list = append(list, movedRow{r.Row, r.Key, r.Overlap, r.RankCorrelation})
	}
	out.add("moved", list, "")
}

// named are the neighbours of a row by their numbers in the bank.
func (s *space) named(i int) []index.Hit {
	hits := slices.Clone(s.neighbours.hits[i])
	for j := range hits {
		hits[j].Row = s.rows[hits[j].Row]
	}
	return hits
}

// movedRow is how a row that moved is printed.
type movedRow struct {
	Row             int64   `json:"row"`
	Key             string  `json:"key"`
	Overlap         float64 `json:"overlap"`
	RankCorrelation float64 `json:"rank_correlation"`
}

func sign(x float64) int {
	if x < 0 {
		return -1
	}
	return 1
}
