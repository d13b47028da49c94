package cli

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"membank/index"
	"membank/index/ivf"
	"membank/simd"
	"membank/store"
	"membank/store/dump"

	ucli "github.com/urfave/cli/v2"
)

// tuned is what a recall takes and what came out.
type tuned struct {
	Recall   float64 `json:"recall"`   // that was asked for
	K        int     `json:"k"`        // neighbours, at most
	NProbe   int     `json:"nprobe"`   // least number of lists for all queries that has it
	Lists    float64 `json:"lists"`    // that a query with --recall reads, on average
	Measured float64 `json:"measured"` // its recall, on other queries than those it was tuned on
	Queries  int     `json:"queries"`  // that it was measured on
	Own      bool    `json:"own"`      // they were given with --queries
}

func tunedOf(all []index.Tuning) []tuned {
	list := []tuned{}
	for _, t := range all {
		list = append(list, tuned{t.Recall, t.K, t.Probes, t.Lists, t.Measure.Recall, t.Measure.Queries, t.Measure.Own})
	}
	return list
}

// usual are the tunings for the number of neighbours that is asked for mostly, or for
// the largest below it.
func usual(all []tuned) []tuned {
	k := 0
	for _, t := range all {
		if t.K <= index.DefaultK {
			k = max(k, t.K)
		}
	}
	if k == 0 && len(all) > 0 {
		k = all[0].K
	}
	return slices.DeleteFunc(slices.Clone(all), func(t tuned) bool { return t.K != k })
}

// grouped is what index build, tune and show say of the lists of a bank.
type grouped struct {
	Bank      string  `json:"bank"`
	NList     int     `json:"nlist"`
	Rows      int64   `json:"rows"`
	Metric    string  `json:"metric"`
	Imbalance float64 `json:"imbalance"`
	Strays    int64   `json:"strays"` // rows outside of all lists
	Seconds   float64 `json:"seconds"`
	Tuned     []tuned `json:"tuned"`     // for k=10, the default of a query
	TunedAll  []tuned `json:"tuned_all"` // for every k
}

// shown adds what only index show has.
type shown struct {
	grouped
	Seed         uint64  `json:"seed"`
	Min          int64   `json:"min"` // rows of the smallest list
	Median       float64 `json:"median"`
	Max          int64   `json:"max"`
	Empty        int     `json:"empty"`
	BuiltRows    int64   `json:"built_rows"` // when the lists were made
	Changed      float64 `json:"changed"`    // share of the rows that were written since
	Nearness     float64 `json:"nearness"`   // mean score of a row's centroid, in a sample
	BuiltNear    float64 `json:"built_nearness"`
	Rebuild      bool    `json:"rebuild"`
	RebuildCause string  `json:"rebuild_cause"`
}

// listCommands are the verbs of the lists of a bank.
func listCommands() []*ucli.Command {
	return []*ucli.Command{{
		Name: "build", Usage: "group the rows by list, for approximate searches (IVF)", ArgsUsage: "BANK",
		Description: "Trains centroids on a sample of the rows, rewrites the bank with its rows grouped by\n" +
			"the nearest one, and measures how many of these lists a search must read for some\n" +
			"recalls. Searches stay exact unless --recall or --nprobe asks for less. Row numbers,\n" +
			"keys and exact answers do not change; rows that are appended later find their lists.\n\n" +
			"  membank index build train\n" +
			"  membank query train --from test --recall 0.99\n" +
			"  membank index build train --nlist 2048 --seed 1",
		Flags: []ucli.Flag{
			&ucli.StringFlag{Name: "nlist", Usage: "make `N` lists", DefaultText: "√rows"},
			&ucli.StringFlag{Name: "seed", Usage: "choose the first centroids by `S`", Value: "0"},
			&ucli.StringFlag{Name: "metric", Usage: "lists for searches by `METRIC`: cosine, dot or l2", Value: "cosine", DefaultText: "cosine"},
			&ucli.StringFlag{Name: "iterations", Usage: "`N` iterations of k-means", DefaultText: "10"},
		},
		Action: action([]string{"BANK"}, runIndexBuild),
	}, {
		Name: "show", Usage: "say how the lists are, and whether to build anew", ArgsUsage: "BANK",
		Description: "Sizes and imbalance of the lists, what was measured for them, and how many rows\n" +
			"have come or changed since.\n\n  membank index show train",
		Action: action([]string{"BANK"}, runIndexShow),
	}, {
		Name: "tune", Usage: "measure what a recall takes, on your own queries", ArgsUsage: "BANK",
		Description: "Asks queries exactly and measures how many lists they must read for a recall. index\n" +
			"build does so with rows of the bank; queries that are like those to come say more.\n\n" +
			"  membank index tune train --queries test.npy\n" +
			"  membank index tune train --from test --recall 0.8,0.9,0.95 -k 200",
		Flags: []ucli.Flag{
			&ucli.StringFlag{Name: "queries", Usage: "ask with the rows of `FILE`"},
			&ucli.StringFlag{Name: "array", Usage: "`NAME` of the array of an .npz given to --queries"},
			&ucli.StringFlag{Name: "from", Usage: "ask with the rows of bank `BANK2`"},
			&ucli.StringFlag{Name: "sample", Usage: "ask with `N` of them at most, half of them to measure", Value: "1024", DefaultText: "1024"},
			&ucli.StringFlag{Name: "recall", Usage: "recalls to tune for, `R,R,…`", Value: "0.9,0.95,0.99,0.999", DefaultText: "0.9,0.95,0.99,0.999"},
			&ucli.StringFlag{Name: "k", Usage: "numbers of neighbours to tune for, `K,K,…`", DefaultText: "1,10,20,50,… as far as rows allow"},
		},
		Action: action([]string{"BANK"}, runIndexTune),
	}, {
		Name: "drop", Usage: "put the rows back in order, without lists", ArgsUsage: "BANK",
		Description: "Rewrites the bank in row order. Exact answers do not change.\n\n  membank index drop train",
		Action:      action([]string{"BANK"}, runIndexDrop),
	}}
}

func runIndexBuild(ctx context.Context, s *session, c *ucli.Context, args []string) error {
	o := ivf.BuildOptions{Threads: s.threads, Memory: s.memory / 2}
	var err error
	if o.Lists, err = natural(c, "nlist"); err != nil {
		return err
	}
	if o.Iterations, err = natural(c, "iterations"); err != nil {
		return err
	}
	if o.Seed, err = seedOf(c, 64); err != nil {
		return err
	}
	if o.Metric, err = index.ParseMetric(c.String("metric")); err != nil {
		return usage("--metric %s: no such metric (cosine, dot or l2)", c.String("metric"))
	}
	stages := s.newStages(args[0])
	defer stages.close()
	o.Progress = stages.set
	return s.writing(ctx, false, func(db *store.DB) error {
		b, err := ivf.Build(ctx, db, args[0], o)
		stages.close()
		if err != nil {
			return bankError(db, args[0], err)
		}
		if o.Lists > b.Lists {
			s.remark("bank %s has %s, so it gets %s", args[0], plural(b.Rows, "row"), plural(b.Lists, "list"))
		}
		r := grouped{args[0], b.Lists, b.Rows, o.Metric.String(), b.Imbalance, b.Strays, b.Seconds, usual(tunedOf(b.Tuned)), tunedOf(b.Tuned)}
		return s.emit(r, func(w io.Writer) {
			fmt.Fprintf(w, "%s: %s in %s, imbalance %.2f, in %s (training %s, grouping %s, tuning %s)\n", r.Bank, plural(r.Rows, "row"),
				plural(r.NList, "list"), r.Imbalance, seconds(r.Seconds), seconds(b.Train), seconds(b.Group), seconds(b.Tuning))
			printTuned(w, r.TunedAll, r.NList)
		})
	})
}

// natural reads a flag that holds a number from 1 on; 0 where it is not given.
func natural(c *ucli.Context, name string) (int, error) {
	text := c.String(name)
	if text == "" {
		return 0, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		return 0, usage("--%s %s: not a number (write 1 or more)", name, text)
	}
	return n, nil
}

// stages shows a bar for each stage of a build.
type stages struct {
	s    *session
	bank string
	now  string
	bar  bar
}

func (s *session) newStages(bank string) *stages { return &stages{s: s, bank: bank} }

func (p *stages) set(stage string, done, total int64) {
	if stage != p.now {
		p.close()
		p.now, p.bar = stage, p.s.newBar(stage+" "+p.bank, "", total)
	}
	p.bar.set(done)
}

func (p *stages) close() {
	p.bar.close()
	p.bar = bar{}
}

func printTuned(w io.Writer, all []tuned, nlist int) {
	if len(all) == 0 {
		fmt.Fprintln(w, "not tuned: --recall reads every list (membank index tune measures what it takes)")
		return
	}
	var ks []int
	var recalls []float64
	for _, t := range all {
		if !slices.Contains(ks, t.K) {
			ks = append(ks, t.K)
		}
		if !slices.Contains(recalls, t.Recall) {
			recalls = append(recalls, t.Recall)
		}
	}
	columns := []column{number("k")}
	for _, r := range recalls {
		columns = append(columns, number(fmt.Sprintf("--recall %g", r)))
	}
	rows := [][]string{}
	for _, k := range ks {
		row := []string{strconv.Itoa(k)}
		for _, t := range all {
			if t.K == k {
				row = append(row, fmt.Sprintf("%.4f, %.1f lists", t.Measured, t.Lists))
			}
		}
		rows = append(rows, row)
	}
	printTable(w, columns, rows)
	of := "rows of the bank, each without itself"
	if all[0].Own {
		of = "queries of yours"
	}
	fmt.Fprintf(w, "recall that came out and lists that a query read, on average, on up to %s %s; there are %s\n", count(all[0].Queries), of, plural(nlist, "list"))
}

func runIndexShow(ctx context.Context, s *session, c *ucli.Context, args []string) error {
	return s.reading(ctx, func(db *store.DB) error {
		return snapshot(db, args[0], func(snap *store.Snapshot) error {
			start := time.Now()
			d, err := ivf.Describe(ctx, snap)
			if err != nil {
				return err
			}
			r := shown{
				grouped: grouped{args[0], d.Lists.Count(), d.Info.Rows, d.Lists.Metric.String(), d.Imbalance, d.Strays,
					time.Since(start).Seconds(), usual(tunedOf(d.Lists.Tuned)), tunedOf(d.Lists.Tuned)},
				Seed: d.Lists.Seed, Min: d.Min, Median: d.Median, Max: d.Max, Empty: d.Empty, BuiltRows: d.Built,
				Changed: d.Changed, Nearness: d.Near, BuiltNear: d.BuiltNear, Rebuild: d.Rebuild != "", RebuildCause: d.Rebuild,
			}
			return s.emit(r, func(w io.Writer) { printLists(w, r) })
		})
	})
}

func printLists(w io.Writer, r shown) {
	near := "mean cosine of a row and its centroid"
	if r.Metric != "cosine" {
		near = "mean squared distance of a row and its centroid"
	}
	fields := [][2]string{
		{"bank", r.Bank},
		{"lists", fmt.Sprintf("%s for %s, seed %d", count(r.NList), r.Metric, r.Seed)},
		{"rows", fmt.Sprintf("%s, %s when the lists were made", count(r.Rows), count(r.BuiltRows))},
		{"rows of a list", fmt.Sprintf("%s to %s, median %g, %s empty", count(r.Min), count(r.Max), r.Median, count(r.Empty))},
		{"imbalance", fmt.Sprintf("%.2f", r.Imbalance)},
		{"written since", percent(r.Changed) + " %"},
		{"outside of all", plural(r.Strays, "row") + ", read by every search"},
		{"nearness", fmt.Sprintf("%.4f now, %.4f then: %s", r.Nearness, r.BuiltNear, near)},
	}
	if r.Rebuild {
		fields = append(fields, [2]string{"build anew", r.RebuildCause + " (membank index build " + r.Bank + ")"})
	} else {
		fields = append(fields, [2]string{"build anew", "no reason to"})
	}
	printFields(w, fields)
	fmt.Fprintln(w)
	printTuned(w, r.TunedAll, r.NList)
}

func runIndexTune(ctx context.Context, s *session, c *ucli.Context, args []string) error {
	if c.IsSet("queries") && c.IsSet("from") {
		return usage("%s: --queries and --from exclude each other (give one)", s.name)
	}
	if c.IsSet("array") && !c.IsSet("queries") {
		return usage("%s: --array names an array of the file given to --queries", s.name)
	}
	o := ivf.TuneOptions{Threads: s.threads, Memory: s.memory / 2}
	var err error
	if o.Sample, err = natural(c, "sample"); err != nil {
		return err
	}
	if o.Sample < 2 {
		return usage("--sample %d: too few (2 or more: half of them measure)", o.Sample)
	}
	if o.Recalls, err = recallList(c.String("recall")); err != nil {
		return err
	}
	if o.K, err = kList(c.String("k")); err != nil {
		return err
	}
	slices.Sort(o.K)
	o.K = slices.Compact(o.K)
	return s.writing(ctx, false, func(db *store.DB) error {
		start := time.Now()
		if o.Queries, err = tuningQueries(ctx, s, db, args[0], c, o.Sample); err != nil {
			return err
		}
		info, all, err := ivf.Tune(ctx, db, args[0], o)
		if err != nil {
			return bankError(db, args[0], err)
		}
		return snapshot(db, args[0], func(snap *store.Snapshot) error {
			d, err := ivf.Describe(ctx, snap)
			if err != nil {
				return err
			}
			r := grouped{args[0], d.Lists.Count(), info.Rows, d.Lists.Metric.String(), d.Imbalance, d.Strays, time.Since(start).Seconds(), usual(tunedOf(all)), tunedOf(all)}
			return s.emit(r, func(w io.Writer) { printTuned(w, r.TunedAll, r.NList) })
		})
	})
}

// tuningQueries reads at most sample queries, evenly spread over their file or bank;
// none if none are given.
func tuningQueries(ctx context.Context, s *session, db *store.DB, bank string, c *ucli.Context, sample int) (simd.Matrix, error) {
	path, from := c.String("queries"), c.String("from")
	if path == "" && from == "" {
		return simd.Matrix{}, nil
	}
	a := asking{asked: asked{vectors: path, array: c.String("array"), from: from}, db: db, batch: 1024}
	a.open = func() (*dump.Reader, error) { return s.openFeatures(path, a.array) }
	var total int64
	if path != "" {
		r, err := a.open()
		if err != nil {
			return simd.Matrix{}, err
		}
		total = r.Rows()
		r.Close()
	}
	dim := 0
	if err := snapshot(db, bank, func(snap *store.Snapshot) error { dim = snap.Dim(); return nil }); err != nil {
		return simd.Matrix{}, err
	}
	if from != "" {
		if err := snapshot(db, from, func(snap *store.Snapshot) error { total = snap.Info().Rows; return nil }); err != nil {
			return simd.Matrix{}, err
		}
	}
	stride := max(1, total/int64(sample))
	m := simd.NewMatrix(sample, dim)
	taken, at := 0, int64(0)
	err := a.batches(ctx, func(q questions) error {
		if q.vectors.Dim != dim {
			return badInput("%s: %d dimensions, and bank %q has %d (ask with embeddings of the same model)", a.name(), q.vectors.Dim, bank, dim)
		}
		for i := range q.vectors.Rows {
			if at%stride == 0 && taken < sample {
				copy(m.Row(taken), q.vectors.Row(i))
				taken++
			}
			at++
		}
		return nil
	})
	if err == nil && taken < 2 {
		err = badInput("%s: %s, too few to tune with (2 or more: half of them measure)", a.name(), pluralQueries(int64(taken)))
	}
	return m.Slice(0, taken), err
}

func runIndexDrop(ctx context.Context, s *session, c *ucli.Context, args []string) error {
	stages := s.newStages(args[0])
	defer stages.close()
	return s.writing(ctx, false, func(db *store.DB) error {
		start := time.Now()
		info, err := ivf.Drop(ctx, db, args[0], ivf.BuildOptions{Threads: s.threads, Memory: s.memory / 2, Progress: stages.set})
		stages.close()
		if err != nil {
			return bankError(db, args[0], err)
		}
		r := grouped{Bank: args[0], NList: 1, Rows: info.Rows, Imbalance: 1, Seconds: time.Since(start).Seconds(), Tuned: []tuned{}, TunedAll: []tuned{}}
		return s.emit(r, func(w io.Writer) {
			fmt.Fprintf(w, "%s: %s in order again, no lists, in %s\n", r.Bank, plural(r.Rows, "row"), seconds(r.Seconds))
		})
	})
}

// recallList reads "0.9,0.99": recalls above 0, at most 1, sorted.
func recallList(text string) (list []float64, err error) {
	for _, field := range strings.Split(text, ",") {
		r, err := strconv.ParseFloat(strings.TrimSpace(field), 64)
		if err != nil || !(r > 0 && r <= 1) {
			return nil, usage("--recall %s: %q is not a recall (write numbers above 0, at most 1: 0.9,0.99)", text, field)
		}
		list = append(list, r)
	}
	slices.Sort(list)
	return slices.Compact(list), nil
}

// assigner finds the lists of rows that are appended to a bank: nil for a bank that
// has none, or that is not there, which the writer says better.
func (s *session) assigner(db *store.DB, bank string) (assign store.Assigner, err error) {
	snap, err := db.Snapshot(bank)
	if err != nil {
		return nil, nil
	}
	defer snap.Close()
	return ivf.Assigner(snap, s.threads)
}
