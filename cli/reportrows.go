package cli

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"

	"membank/bench/eval"
	"membank/cli/figure"
	"membank/index"
	"membank/store"
)

const (
	shownQueries    = 10
	shownNeighbours = 8
)

// maps are two projections of the bank in focus.
func (r *reporting) maps(ctx context.Context) error {
	bank := r.pairs[r.focus].train
	s := reportSection{ID: "maps", Title: "Maps"}
	err := snapshot(r.db, bank, func(snap *store.Snapshot) error {
		progress := r.s.newBar("report: map", "iterations", 1000)
		defer progress.close()
		o := r.s.runOptions(progress)
		o.NoCodes = r.c.Bool("no-codes")
		m, err := eval.Project{Rows: r.mapRows, Seed: r.seed}.Run(ctx, snap, o)
		if errors.Is(err, eval.ErrTooFew) {
			s.Text = append(s.Text, "No map: "+err.Error()+".")
			return nil
		}
		if err != nil {
			return err
		}
		r.layout = m
		sample := fmt.Sprintf("all %s of %s", plural(len(m.Rows), "row"), bank)
		if int64(len(m.Rows)) < snap.Info().Rows {
			sample = fmt.Sprintf("%s of %s, chosen by seed %d", plural(len(m.Rows), "row"), bank, r.seed)
		}
		line := r.s.line
		believe := func(trust float64) string {
			return fmt.Sprintf("Trustworthiness %.3f at %d neighbours: 1 when neighbours on the map are neighbours in the space, about 0.5 by chance.", trust, m.TrustK)
		}
		classes, left := spotsOf(m, snap.Info().ClassNames)
		more := ""
		if left > 0 {
			more = fmt.Sprintf(" The %d commonest classes have colours; %s of others are left out of the plot.", namedClasses, plural(left, "row"))
		}
		s.Plots = append(s.Plots,
			r.plot(figure.Scatter("map-pca", "Map by PCA", fmt.Sprintf("first direction, %s %% of the variance", percent(m.Shares[0])), fmt.Sprintf("second, %s %%", percent(m.Shares[1])), place(classes, m.PCA)),
				reportPlot{Caption: believe(m.TrustPCA) + more, Protocol: sample + ", L2-normalised, less their mean; PCA", Line: line}),
			r.plot(figure.Scatter("map-tsne", "Map by t-SNE", "", "", place(classes, m.TSNE)),
				reportPlot{Caption: believe(m.TrustTSNE) + " Distances between groups mean little." + more,
					Protocol: fmt.Sprintf("%s, cosine; t-SNE on their exact neighbour graph, perplexity %g, %d iterations from the PCA, all pairs repel; KL divergence %.3f", sample, m.Perplexity, m.Iterations, m.KL), Line: line}))
		return nil
	})
	if err != nil {
		return err
	}
	r.section(s)
	return nil
}

// spots are the rows of a class, as positions in a projection.
type spots struct {
	name  string
	at    []int
	texts []string
}

// spotsOf groups the rows of a projection by class, the classes with most rows; left
// counts rows of others.
func spotsOf(m *eval.Projection, names []string) (classes []spots, left int) {
	byLabel := map[int64]*spots{}
	var labels []int64
	for i, label := range m.Labels {
		c := byLabel[label]
		if c == nil {
			c = &spots{name: classText(labelOf(label), className(names, label))}
			if label == store.NoLabel {
				c.name = "no label"
			}
			byLabel[label] = c
			labels = append(labels, label)
		}
		text := m.Keys[i]
		if text == "" {
			text = "row " + strconv.FormatInt(m.Rows[i], 10)
		}
		c.at, c.texts = append(c.at, i), append(c.texts, c.name+" · "+text)
	}
	slices.Sort(labels)
	if len(labels) > namedClasses {
		slices.SortStableFunc(labels, func(a, b int64) int { return len(byLabel[b].at) - len(byLabel[a].at) })
		for _, label := range labels[namedClasses:] {
			left += len(byLabel[label].at)
		}
		labels = labels[:namedClasses]
		slices.Sort(labels)
	}
	for _, label := range labels {
		classes = append(classes, *byLabel[label])
	}
	return classes, left
}

func place(classes []spots, points []eval.Point) (out []figure.Spots) {
	for _, c := range classes {
		s := figure.Spots{Name: c.name, Texts: c.texts}
		for _, i := range c.at {
			s.X, s.Y = append(s.X, points[i].X), append(s.Y, points[i].Y)
		}
		out = append(out, s)
	}
	return out
}

// neighbours are grids of queries with their nearest rows: some drawn by chance, and
// the mistakes that neighbours were surest of.
func (r *reporting) neighbours(ctx context.Context, wrong []eval.Prediction) error {
	p := r.pairs[r.focus]
	s := reportSection{ID: "neighbours", Title: "Nearest neighbours", Text: []string{
		fmt.Sprintf("Rows of %s and the nearest in %s, nearest first, with their scores (%s). A neighbour is marked ✓ when it is of the query's class, ✕ when it is of another.", p.test, p.train, ruleText(r.results[r.focus]))}}
	err := snapshot(r.db, p.train, func(train *store.Snapshot) error {
		return snapshot(r.db, p.test, func(test *store.Snapshot) error {
			drawn, err := drawRows(ctx, test, r.seed)
			if err != nil {
				return err
			}
			var surest []int64
			for _, w := range wrong {
				surest = append(surest, w.Row)
			}
			slices.Sort(surest)
			protocol := fmt.Sprintf("the %d nearest of %s in %s, exact", shownNeighbours, p.test, p.train)
			if r.rule.LeaveOneOut {
				protocol += ", each without itself"
			}
			for _, g := range []struct {
				title, text string
				rows        []int64
			}{
				{"Drawn by chance", fmt.Sprintf("One row of each class in turn, drawn with seed %d; nobody picked them.", r.seed), drawn},
				{"The surest mistakes", fmt.Sprintf("Rows that are taken for another class with the largest share of votes, k = %d: wrong labels are often among them.", r.results[r.focus].Results[r.at].K), surest},
			} {
				if len(g.rows) == 0 {
					continue
				}
				queries, err := r.grid(ctx, train, test, g.rows)
				if err != nil {
					return err
				}
				s.Grids = append(s.Grids, reportGrid{Title: g.title, Text: g.text, Protocol: protocol, Line: r.queryLine(g.rows), Queries: queries})
			}
			return nil
		})
	})
	if err != nil {
		return err
	}
	if r.pictures.full {
		s.Text = append(s.Text, fmt.Sprintf("The page holds %s of images; the keys of the rest are shown.", size(pageBytes)))
	}
	r.section(s)
	return nil
}

// queryLine is the command that finds the neighbours of rows of the bank in focus; of
// another bank's rows it finds those of all.
func (r *reporting) queryLine(rows []int64) string {
	p := r.pairs[r.focus]
	words := []string{"membank", "query", p.train}
	if r.rule.LeaveOneOut {
		var numbers []string
		for _, row := range rows {
			numbers = append(numbers, strconv.FormatInt(row, 10))
		}
		words = append(words, "--row", strings.Join(numbers, ","), "--exclude-self")
	} else {
		words = append(words, "--from", p.test)
	}
	words = append(words, "-k", strconv.Itoa(shownNeighbours))
	if rule, err := r.rule.Protocol(); err == nil && rule.SearchMetric() != index.Cosine {
		words = append(words, "--metric", rule.SearchMetric().String())
	}
	return commandLine(words)
}

// drawRows draws rows by chance, classes in turn.
func drawRows(ctx context.Context, test *store.Snapshot, seed uint64) ([]int64, error) {
	labels, err := test.Labels(ctx)
	if err != nil {
		return nil, err
	}
	byLabel := map[int64][]int64{}
	var classes []int64
	for row, label := range labels {
		if label == store.NoLabel {
			continue
		}
		if byLabel[label] == nil {
			classes = append(classes, label)
		}
		byLabel[label] = append(byLabel[label], int64(row))
	}
	slices.Sort(classes)
	rng := rand.New(rand.NewPCG(seed, 0x67726964))
	if len(classes) > shownQueries {
		rng.Shuffle(len(classes), func(i, j int) { classes[i], classes[j] = classes[j], classes[i] })
		classes = classes[:shownQueries]
		slices.Sort(classes)
	}
	var rows []int64
	for _, label := range classes {
		rows = append(rows, byLabel[label][rng.IntN(len(byLabel[label]))])
	}
	slices.Sort(rows)
	return rows, nil
}

// grid finds the neighbours of some rows of test.
func (r *reporting) grid(ctx context.Context, train, test *store.Snapshot, rows []int64) (queries []pageQuery, err error) {
	rule, err := r.rule.Protocol()
	if err != nil {
		return nil, err
	}
	o := index.Options{K: shownNeighbours, Metric: rule.SearchMetric(), Threads: r.s.threads, NoCodes: r.c.Bool("no-codes")}
	if r.rule.LeaveOneOut {
		o.ExcludeRow = rows
	}
	ask := asking{asked: asked{rows: rows}, snap: test, batch: len(rows)}
	base := answering{s: r.s, snap: train, options: o}
	err = ask.batches(ctx, func(q questions) error {
		found, err := index.New(train).Search(ctx, q.vectors, o)
		if err != nil {
			return err
		}
		list, err := base.named(ctx, 0, q, found.Hits)
		if err != nil {
			return err
		}
		trainNames, testNames := train.Info().ClassNames, test.Info().ClassNames
		for i, a := range list {
			class := classText(labelOf(q.labels[i]), className(testNames, q.labels[i]))
			query := pageQuery{Picture: r.pictures.of(q.keys[i]), Key: keyText(q.keys[i], q.rows[i]), Class: class}
			shown := pageAnswer{Name: train.Bank()}
			for _, n := range a.Neighbours {
				hit := pageHit{Picture: r.pictures.of(n.Key), Key: keyText(n.Key, n.Row), Class: classText(n.Label, n.Class), Score: scoreText(n.Score)}
				// Names are compared where both banks have them, as the evaluation does.
				if len(trainNames) > 0 && len(testNames) > 0 && n.Label != nil {
					if hit.Verdict = "wrong"; hit.Class == class {
						hit.Verdict = "right"
					}
				} else {
					hit.Verdict = verdict(labelOf(q.labels[i]), n.Label)
				}
				shown.Hits = append(shown.Hits, hit)
			}
			shown.judge()
			query.Answers = []pageAnswer{shown}
			queries = append(queries, query)
		}
		return nil
	})
	return queries, err
}

// keyText is a row's key, or its number.
func keyText(key string, row int64) string {
	if key == "" {
		return "row " + strconv.FormatInt(row, 10)
	}
	return key
}
