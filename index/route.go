package index

import (
	"context"

	"membank/simd"
)

// route says which lists a pass reads; without a group, all rows.
type route struct {
	group   *grouping
	most    int     // nearest lists of a query, at most
	reach   float64 // of these, those that reach the floor, see Lists.reaches
	bounded bool    // or those whose bound does: the answer is exact
}

// route decides how a search is done, and returns the tuning that it relies on, if
// any. Where lists cannot be chosen all rows are compared: in a flat bank, with
// another metric than that of the lists, and for a recall that nothing is known of.
func (ix *Index) route(ctx context.Context, queries simd.Matrix, norms []float64, o *Options) (r route, tuned *Tuning, err error) {
	if ix.grouping == nil {
		return r, nil, nil
	}
	if o.Probes == 0 && (o.Recall == 0 || o.Recall == 1) {
		r, err = ix.exactRoute(ctx, queries, norms, o)
		return r, nil, err
	}
	g, err := ix.grouping()
	if err != nil || g.Metric != o.Metric {
		return r, nil, err
	}
	r = route{group: g, most: o.Probes, reach: everyList}
	if o.Probes == 0 {
		t, known := g.tuning(o.Recall, min(o.K, int(ix.rows)))
		if !known {
			return route{}, nil, nil
		}
		r.most, r.reach, tuned = t.Most, t.Reach, &t
	}
	if o.ranged() && o.Probes == 0 {
		r.most = g.Count() // the floor alone says which
	}
	if r.most >= g.Count() && r.reach == everyList {
		return route{}, tuned, nil
	}
	return r, tuned, nil
}

const (
	// An exact search by lists must leave out this share of the rows to pay: reading
	// them in order takes fewer steps for each.
	mostBounded = 0.5
	// boundSample queries decide it.
	boundSample = 8
	// boundProbes lists of each give it a floor.
	boundProbes = 4
)

// leastBounded multiply-adds are worth a look at lists.
var leastBounded = 16e6

// exactRoute tries on a few queries how many rows the bounds of lists leave in
// question. Lists that cannot be read are no reason for an exact search to fail.
func (ix *Index) exactRoute(ctx context.Context, queries simd.Matrix, norms []float64, o *Options) (route, error) {
	if queries.Rows == 0 || float64(ix.rows)*float64(ix.dim)*float64(queries.Rows) < leastBounded {
		return route{}, nil
	}
	g, err := ix.grouping()
	if err != nil || g.Metric != o.Metric || g.Count() < 2*boundProbes {
		return route{}, nil
	}
	r := route{group: g, most: g.Count(), bounded: true}
	count := min(boundSample, queries.Rows)
	some, ask := simd.NewMatrix(count, queries.Dim), *o
	ask.Probes, ask.Recall, ask.Progress, ask.Memory = boundProbes, 0, nil, 0
	ask.ExcludeRow, ask.Floors = nil, nil
	if !o.ranged() {
		ask.K++ // the row itself may be excluded
	}
	for i := range count {
		copy(some.Row(i), queries.Row(i*queries.Rows/count))
	}
	floors := make([]float64, count)
	for i := range floors {
		floors[i] = float64(o.minScore())
	}
	if !o.ranged() {
		found, err := ix.Search(ctx, some, ask)
		if err != nil {
			return route{}, err
		}
		for i, hits := range found.Hits {
			if len(hits) < ask.K {
				return route{}, nil
			}
			floors[i] = max(floors[i], float64(g.Metric.printed(hits[len(hits)-1].Score)))
		}
	}
	if g.Metric == Cosine {
		for i := range count {
			simd.Normalize(some.Row(i), some.Row(i))
		}
	}
	nearest, err := g.nearest(ctx, some, g.Count(), o.Threads)
	if err != nil {
		return route{}, err
	}
	left, all := 0.0, 0.0
	for i, lists := range nearest {
		norm := queryNorm(g.Metric, norms[i*queries.Rows/count])
		for _, l := range lists {
			rows := float64(g.rows[l.list])
			if all += rows; g.bound(int(l.list), l.score, norm, ix.maxNorm) >= floors[i] {
				left += rows
			}
		}
	}
	if left > mostBounded*all {
		return route{}, nil
	}
	return r, nil
}

// wants reports whether a query reads a list, of those that its rounds come to.
func (p *pass) wants(q int, l near, floor float32) bool {
	switch {
	case p.lists.bounded:
		return p.group.bound(int(l.list), l.score, queryNorm(p.o.Metric, p.norms[q]), p.ix.maxNorm) >= float64(floor)
	case p.lists.reach == everyList:
		return true
	}
	return p.group.reaches(int(l.list), l.score, queryNorm(p.o.Metric, p.norms[q]), p.lists.reach) >= float64(floor)
}

// queryNorm is the length of a query of this norm as the metric prepares it.
func queryNorm(m Metric, norm float64) float64 {
	if m == Cosine {
		return min(1, norm/simd.Epsilon)
	}
	return norm
}
