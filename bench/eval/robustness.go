package eval

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"slices"
	"time"

	"membank/index"
	"membank/simd"
	"membank/store"
)

// Robustness asks a clean gallery with perturbed copies of a query set: corruptions at
// several severities as in ImageNet-C, or a dump of adversarial examples. And it tells
// how far a clean query may turn before it flips.
type Robustness struct {
	KNN // one number of neighbours; without one, 20. Its LeaveOneOut is refused

	// NoRadius leaves the radii out; they are of cosine only.
	NoRadius bool
	// Pool is how many neighbours a radius compares. 0: 256.
	Pool int
	// Each, if set, is given the radius of every labelled clean query, in row order.
	Each func(Radius)
}

// Perturbed is a query set whose rows are those of the clean one, by their keys.
type Perturbed struct {
	Set        *Set
	Corruption string // several severities share it
	Severity   string
}

// RobustnessResult is what perturbations do.
type RobustnessResult struct {
	Protocol string   `json:"protocol"`
	Rules    Protocol `json:"rules"`
	Train    BankUse  `json:"train"`
	Clean    BankUse  `json:"clean"`
	Dim      int      `json:"dim"`
	Classes  int      `json:"classes"`
	K        int      `json:"k"`
	// Results are the clean set and each perturbed one: rows, top1, drop (from the
	// clean accuracy of the same rows), flipped (decided otherwise than clean), margin
	// (first vote less second, of all votes, mean), neighbours_kept (of the first k
	// clean ones, mean) and nearest_kept.
	Results []Figures `json:"results"`
	// Corruptions are means over severities; Overall is over corruptions: mean_error,
	// the mCE of Hendrycks and Dietterich 2019 without division by AlexNet's errors, and
	// relative_error, its relative mCE likewise: less the clean error.
	Corruptions []Figures `json:"corruptions"`
	Overall     Figures   `json:"overall"`
	Radius      Figures   `json:"radius"`
	Notes       []string  `json:"notes,omitempty"`
	Seconds     float64   `json:"seconds"`
}

// asked is what one query came to.
type asked struct {
	class, nearest int64
	right          bool
	margin         float64
	rows           []int64 // the first k neighbours, ascending
}

// Evaluate classifies the labelled rows of clean and of every perturbed set by the
// labelled rows of train. It holds 8k+48 bytes a clean query and the keys of two sets.
// Radii are of clean queries among all labelled rows of train, which must be a stored
// bank; vectors of Pool neighbours a query are fetched, a batch at a time.
func (e Robustness) Evaluate(ctx context.Context, train, clean *Set, perturbed []Perturbed, o RunOptions) (*RobustnessResult, error) {
	start := time.Now()
	o.defaults()
	if len(e.K) == 0 {
		e.K = []int{20}
	}
	if e.Pool == 0 {
		e.Pool = 256
	}
	rule, err := e.Protocol()
	switch {
	case err != nil:
		return nil, err
	case e.LeaveOneOut || len(e.K) != 1 || e.K[0] == All:
		return nil, fmt.Errorf("%w: robustness takes one number of neighbours, and no leave-one-out", ErrProtocol)
	case !e.NoRadius && rule.Metric != Cosine:
		return nil, fmt.Errorf("%w: radii are of cosine, not of %s (leave them out)", ErrProtocol, rule.Metric)
	case !e.NoRadius && train.dim < 2:
		return nil, fmt.Errorf("%w: rows of one dimension cannot turn, so that bank %q has no radii (leave them out)", ErrProtocol, train.use.Bank)
	}
	r := &robust{Robustness: e, rule: rule, train: train, clean: clean, options: o, classOf: slices.Clone(train.labels)}
	var labelled int64
	if r.classes, labelled = newDictionary(r.classOf, train.names); labelled == 0 {
		return nil, fmt.Errorf("%w in bank %q: nothing can vote (ingest it with labels)", ErrNoLabels, train.use.Bank)
	}
	if len(r.classes.labels) == 1 {
		return nil, oneClass(train.use.Bank, r.classes)
	}
	r.labelled = labelled
	r.k = int(min(int64(e.K[0]), labelled))
	r.result = &RobustnessResult{Protocol: "robustness of " + rule.Name, Rules: rule, Train: train.use, Clean: clean.use, Dim: train.dim, Classes: len(r.classes.labels), K: r.k, Corruptions: []Figures{}}
	if err := r.all(ctx, perturbed); err != nil {
		return nil, err
	}
	if !e.NoRadius {
		if err := r.radii(ctx); err != nil {
			return nil, err
		}
	}
	if r.k < e.K[0] {
		r.result.Notes = append(r.result.Notes, fmt.Sprintf("k=%d: only %s can vote", e.K[0], rowsText(int64(r.k))))
	}
	if train.use.Bank == clean.use.Bank {
		r.result.Notes = append(r.result.Notes, "gallery and query set are one bank and rows vote on themselves")
	}
	r.result.Seconds = time.Since(start).Seconds()
	return r.result, nil
}

// robust is an evaluation under way.
type robust struct {
	Robustness
	rule         Protocol
	train, clean *Set
	options      RunOptions
	classes      dictionary
	classOf      []int64
	labelled     int64
	k            int
	result       *RobustnessResult
}

func (r *robust) asking(queries *Set, k int) *asking {
	a := &asking{queries: queries, gallery: r.train, k: int64(k), metric: r.rule.search(), run: r.options,
		wanted: func(row int64) bool { return queries.labels[row] != store.NoLabel }}
	if r.labelled < r.train.use.Rows {
		a.allow = func(row int64) bool { return r.classOf[row] >= 0 }
	}
	return a
}

// ask classifies the labelled rows of a set.
func (r *robust) ask(ctx context.Context, queries *Set) (map[int64]asked, error) {
	found := map[int64]asked{}
	b := newBallot(r.rule, r.classOf, len(r.classes.labels))
	labels := newTranslation(r.classes, queries.names)
	var out [1]outcome
	if anyLabelled(queries.labels) && !slices.ContainsFunc(queries.labels, func(l int64) bool { return l != store.NoLabel && labels.class(l) >= 0 }) {
		return nil, noneShared(r.train.use.Bank, queries.use.Bank, labels)
	}
	a := r.asking(queries, r.k)
	err := a.each(ctx, func(rows []int64, hits [][]index.Hit) error {
		for i, row := range rows {
			b.count(out[:], []int{r.k}, hits[i], labels.class(queries.labels[row]))
			q := asked{class: int64(out[0].class), nearest: hits[i][0].Row, right: out[0].rank == 0 && out[0].hasVote, margin: out[0].margin}
			for _, h := range hits[i] {
				q.rows = append(q.rows, h.Row)
			}
			slices.Sort(q.rows)
			found[row] = q
		}
		return nil
	})
	if err == nil && a.tied > 0 {
		r.result.Notes = append(r.result.Notes, fmt.Sprintf("equally near to all of their neighbours, so that their votes say nothing: %s of %s", rowsText(a.tied), queries.use.Bank))
	}
	if err == nil && len(found) == 0 {
		err = fmt.Errorf("%w in bank %q: nothing to ask (ingest it with labels)", ErrNoLabels, queries.use.Bank)
	}
	return found, err
}

// all compares the perturbed sets with the clean one.
func (r *robust) all(ctx context.Context, perturbed []Perturbed) error {
	before, err := r.ask(ctx, r.clean)
	if err != nil {
		return err
	}
	same := func(row int64) int64 { return row }
	r.result.Results = append(r.result.Results, r.figures(r.clean, "", "", before, before, same))
	if len(perturbed) == 0 {
		return nil
	}
	keys, err := r.clean.Keys(ctx)
	if err != nil {
		return err
	}
	rowOf := make(map[string]int64, len(keys))
	for row, key := range keys {
		if r.clean.alive(int64(row)) {
			rowOf[key] = int64(row)
		}
	}
	type sums struct {
		error, relative float64
		n               int
	}
	by := map[string]*sums{}
	var order []string
	for _, p := range perturbed {
		theirs, err := p.Set.Keys(ctx)
		if err != nil {
			return err
		}
		after, err := r.ask(ctx, p.Set)
		if err != nil {
			return err
		}
		for row := range after {
			clean, ok := rowOf[theirs[row]]
			if _, known := before[clean]; !ok || !known {
				return fmt.Errorf("%w: row %d of bank %q has the key %q, which no labelled row of %q has (ingest both with the same keys, or in the same order without)",
					ErrPerturbed, row, p.Set.use.Bank, theirs[row], r.clean.use.Bank)
			}
		}
		f := r.figures(p.Set, p.Corruption, p.Severity, after, before, func(row int64) int64 { return rowOf[theirs[row]] })
		r.result.Results = append(r.result.Results, f)
		if by[p.Corruption] == nil {
			by[p.Corruption] = &sums{}
			order = append(order, p.Corruption)
		}
		top1, _ := f.Lookup("top1")
		drop, _ := f.Lookup("drop")
		s := by[p.Corruption]
		s.error, s.relative, s.n = s.error+1-top1, s.relative+drop, s.n+1
	}
	var mean, relative float64
	for _, name := range order {
		s := by[name]
		var f Figures
		f.add("corruption", name, "")
		f.add("severities", int64(s.n), "")
		f.number("mean_error", s.error/float64(s.n), "")
		f.number("relative_error", s.relative/float64(s.n), "")
		r.result.Corruptions = append(r.result.Corruptions, f)
		mean += s.error / float64(s.n) / float64(len(order))
		relative += s.relative / float64(s.n) / float64(len(order))
	}
	r.result.Overall.add("corruptions", int64(len(order)), "each counts once, whatever its severities")
	r.result.Overall.number("mean_error", mean, "of corruptions; mCE before it is divided by a baseline's")
	r.result.Overall.number("relative_error", relative, "the same, less the clean error")
	return nil
}

// figures compare the answers to a set with those to the clean rows they come from. Sums
// are over rows in order, so that they are the same every time.
func (r *robust) figures(s *Set, corruption, severity string, after, before map[int64]asked, clean func(row int64) int64) Figures {
	var right, rightBefore, flipped, kept, nearest int64
	var margin float64
	for row := range s.labels {
		now, ok := after[int64(row)]
		if !ok {
			continue
		}
		was := before[clean(int64(row))]
		right, rightBefore = right+count(now.right), rightBefore+count(was.right)
		flipped += count(now.class != was.class)
		nearest += count(now.nearest == was.nearest)
		margin += now.margin
		for _, row := range now.rows {
			if _, found := slices.BinarySearch(was.rows, row); found {
				kept++
			}
		}
	}
	n := int64(len(after))
	var f Figures
	f.add("bank", s.use.Bank, "")
	f.add("corruption", corruption, "")
	f.add("severity", severity, "")
	f.add("rows", n, "")
	f.number("top1", share(right, n), "")
	f.number("drop", share(rightBefore-right, n), "")
	f.number("flipped", share(flipped, n), "")
	f.number("margin", margin/float64(n), "")
	f.number("neighbours_kept", share(kept, n*int64(r.k)), "")
	f.number("nearest_kept", share(nearest, n), "")
	return f
}

func count(yes bool) int64 {
	if yes {
		return 1
	}
	return 0
}

// radii tells how far clean queries may turn.
func (r *robust) radii(ctx context.Context) error {
	if r.train.snap == nil || r.clean.dim != r.train.dim {
		return fmt.Errorf("%w: radii are told of stored banks", ErrProtocol)
	}
	pool := int(min(int64(max(r.Pool, r.k+1)), r.labelled))
	whole := int64(pool) == r.labelled
	a := r.asking(r.clean, pool)
	// As many queries at once as leave room for the vectors of their pools.
	size := max(1, r.options.Memory/4/(int64(pool)*int64(4*r.train.dim+64)))
	a.run.Memory = min(r.options.Memory, 2*size*(int64(16*r.train.dim)+4*hitBytes*int64(pool)))
	weight := func(cosine float64) float64 {
		switch r.rule.Weight {
		case Exp:
			return math.Exp((cosine - 1) / r.rule.T)
		case Inverse:
			return 1 / (1 - min(cosine, 1) + max(r.rule.Offset, 1e-12))
		}
		return 1
	}
	var flips, within, decisions []float64
	exact, still := int64(0), int64(0) // still: zero rows, which have no direction
	err := a.each(ctx, func(rows []int64, hits [][]index.Hit) error {
		queries, err := r.clean.snap.Rows(ctx, rows, store.Want{Vector: true})
		if err != nil {
			return err
		}
		pools, err := r.pools(ctx, hits)
		if err != nil {
			return err
		}
		turning := 0
		for i, q := range queries {
			if simd.Norm(q.Vector) >= simd.Epsilon {
				rows[turning], queries[turning], hits[turning] = rows[i], q, hits[i]
				turning++
			}
		}
		still += int64(len(rows) - turning)
		rows, queries, hits = rows[:turning], queries[:turning], hits[:turning]
		list := make([]Radius, len(rows))
		parallel(len(rows), r.options.Threads, func(i int) {
			q := unit(queries[i].Vector)
			type neighbour struct {
				row    int64
				vector []float64
				theta  float64
			}
			near := make([]neighbour, len(hits[i]))
			for j, h := range hits[i] {
				v := unit(pools[h.Row])
				near[j] = neighbour{h.Row, v, angle(q, v)}
			}
			// Scores were float32: in float64 neighbours may change places.
			slices.SortStableFunc(near, func(a, b neighbour) int { return cmp.Compare(a.theta, b.theta) })
			vectors, thetas, classes := make([][]float64, len(near)), make([]float64, len(near)), make([]int64, len(near))
			for j, n := range near {
				vectors[j], thetas[j], classes[j] = n.vector, n.theta, r.classOf[n.row]
			}
			radius, rival := nearestRadius(q, vectors, whole)
			radius.Row, radius.Nearest, radius.Rival = rows[i], near[0].row, -1
			if rival >= 0 {
				radius.Rival = near[rival].row
			}
			radius.Decision = decisionRadius(thetas, classes, r.k, whole, weight)
			list[i] = radius
		})
		for _, radius := range list {
			flips, within, decisions = append(flips, radius.Flip), append(within, radius.Within), append(decisions, radius.Decision)
			exact += count(radius.Exact)
			if r.Each != nil {
				r.Each(radius)
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	f := &r.result.Radius
	f.add("queries", int64(len(flips)), "labelled rows of the clean set")
	f.add("compared", int64(pool), "neighbours of each")
	if still > 0 {
		r.result.Notes = append(r.result.Notes, fmt.Sprintf("without a radius, as zero rows have no direction: %s of %s", rowsText(still), r.clean.use.Bank))
	}
	if len(flips) == 0 {
		f.missing("nearest_exact", "all labelled rows are zero, and have no direction", "")
		return nil
	}
	f.number("nearest_exact", share(exact, int64(len(flips))), "share whose radius is proven: no row beyond those compared is sooner")
	for _, x := range []struct {
		name, reading string
		of            []float64
	}{
		{"nearest_flip", "least angle at which the nearest row changes, degrees; 180: at none", flips},
		{"nearest_stays", "angle within which it provably does not", within},
		{"decision_stays", "angle within which the vote provably does not flip: a lower bound", decisions},
	} {
		slices.Sort(x.of)
		for _, p := range []int{5, 50, 95} {
			at := x.of[(len(x.of)-1)*p/100]
			f.number(fmt.Sprintf("%s_p%d_degrees", x.name, p), at*180/math.Pi, x.reading)
			f.number(fmt.Sprintf("%s_p%d_cosine", x.name, p), math.Cos(at), "of the query with itself before, at that angle")
		}
	}
	return nil
}

// pools fetches the vectors of all neighbours of a batch, each once.
func (r *robust) pools(ctx context.Context, hits [][]index.Hit) (map[int64][]float32, error) {
	vectors := map[int64][]float32{}
	var numbers []int64
	for _, list := range hits {
		for _, h := range list {
			if _, known := vectors[h.Row]; !known {
				vectors[h.Row] = nil
				numbers = append(numbers, h.Row)
			}
		}
	}
	found, err := r.train.snap.Rows(ctx, numbers, store.Want{Vector: true})
	for _, row := range found {
		vectors[row.Row] = row.Vector
	}
	return vectors, err
}
