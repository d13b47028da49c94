package index

// route says which lists a pass reads; without a group, all rows.
type route struct {
	group *grouping
	most  int     // nearest lists of a query, at most
	reach float64 // of these, those that reach the floor, see Lists.reaches
}

// route decides how a search is done, and returns the tuning that it relies on, if
// any. Where lists cannot be chosen all rows are compared: in a flat bank, with
// another metric than that of the lists, and for a recall that nothing is known of.
func (ix *Index) route(o *Options) (r route, tuned *Tuning, err error) {
	if o.Probes == 0 && (o.Recall == 0 || o.Recall == 1) || ix.grouping == nil {
		return r, nil, nil
	}
	g, err := ix.grouping()
	if err != nil || g == nil || g.Metric != o.Metric {
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
