package cli

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"membank/bench/eval"
	"membank/store"

	ucli "github.com/urfave/cli/v2"
)

func evalClustersCommand() *ucli.Command {
	return &ucli.Command{
		Name: "clusters", Usage: "how well k-means finds the classes, and how stably", ArgsUsage: "BANK…",
		Description: "Clusters every bank from several seeds, at as many clusters as it has classes and at\n" +
			"ten times as many, and compares the best run with the labels (NMI, AMI, ARI, purity,\n" +
			"Hungarian accuracy), with the other seeds, and, row by row, with the bank before:\n" +
			"checkpoints in order, or a pattern, tell how a clustering settles.\n\n" +
			"  membank eval clusters train\n" +
			"  membank eval clusters train -c 10,100 --seeds 3\n" +
			"  membank eval clusters 'simclr/*/train' -c 10\n" +
			"  membank eval clusters train --whiten deepcluster --whiten-from train --euclidean\n\n" +
			"Nothing is written; membank cluster keeps the clusters with the rows.",
		Flags: slices.Concat([]ucli.Flag{
			&ucli.StringFlag{Name: "clusters", Aliases: []string{"c"}, Usage: "numbers of clusters, `K,K,…`", DefaultText: "the classes, and ten times that"},
			&ucli.BoolFlag{Name: "euclidean", Usage: "by distances between rows as they are; else by cosine"},
			&ucli.StringFlag{Name: "seeds", Usage: "run from `N` seeds", Value: "5", DefaultText: "5"},
			&ucli.StringFlag{Name: "seed", Usage: "the first seed is `S`", Value: "0", DefaultText: "0"},
			&ucli.StringFlag{Name: "iterations", Usage: "end a run after `N`, or when nothing changes", Value: "50", DefaultText: "50"},
			&ucli.StringFlag{Name: "sample", Usage: "take the silhouette of `N` rows", Value: "4096", DefaultText: "4096"},
			noCodesFlag(),
		}, gemFlags(), whitenFlags()),
		Action: action([]string{"BANK…"}, runEvalClusters),
	}
}

func runEvalClusters(ctx context.Context, s *session, c *ucli.Context, args []string) error {
	e, err := clustersFlags(c)
	if err != nil {
		return err
	}
	made, err := transformFlags(c)
	if err != nil {
		return err
	}
	return s.reading(ctx, func(db *store.DB) error {
		banks, err := banksOf(db, strings.Join(args, ","))
		if err != nil {
			return err
		}
		sets, err := made.open(ctx, s, db, banks...)
		if err != nil {
			return err
		}
		defer sets.close()
		progress := s.newBar("eval clusters", "rows", -1)
		e.Progress = func(_ string, done, _ int64) { progress.set(done) }
		return printEvaluation(s, c, progress, printClusters, func(o eval.RunOptions) (*eval.ClustersResult, error) {
			return e.Evaluate(ctx, sets.of, o)
		})
	})
}

func clustersFlags(c *ucli.Context) (e eval.Clusters, err error) {
	e.Euclidean = c.Bool("euclidean")
	for field := range strings.SplitSeq(c.String("clusters"), ",") {
		if c.String("clusters") == "" {
			break
		}
		n, err := strconv.Atoi(strings.TrimSpace(field))
		if err != nil || n < 1 {
			return e, usage("-c %s: %q is not a number of clusters (write 10,100)", c.String("clusters"), field)
		}
		e.C = append(e.C, n)
	}
	for _, f := range []struct {
		name  string
		to    *int
		least int
	}{{"seeds", &e.Seeds, 1}, {"iterations", &e.Iterations, 1}, {"sample", &e.Sample, 3}} {
		if *f.to, err = strconv.Atoi(c.String(f.name)); err != nil || *f.to < f.least {
			return e, usage("--%s %s: not a number from %d", f.name, c.String(f.name), f.least)
		}
	}
	if e.Seed, err = seedOf(c, 64); err != nil {
		return e, err
	}
	return e, nil
}

// printClusters sets a column for each bank and number of clusters, a line a figure.
func printClusters(w io.Writer, r *eval.ClustersResult) {
	columns := []column{left("figure")}
	var names []string
	for _, f := range r.Results {
		columns = append(columns, number(figureOf(f, "bank")+" c="+figureOf(f, "clusters")))
		for _, one := range f {
			if one.Name != "bank" && one.Name != "clusters" && !slices.Contains(names, one.Name) {
				names = append(names, one.Name)
			}
		}
	}
	var rows [][]string
	var why []string
	for _, name := range names {
		row := []string{name}
		for _, f := range r.Results {
			at := slices.IndexFunc(f, func(one eval.Figure) bool { return one.Name == name })
			switch {
			case at < 0:
				row = append(row, "")
			case f[at].Value == nil:
				row = append(row, "-")
				if reason := f[at].Missing; !slices.Contains(why, reason) {
					why = append(why, reason)
				}
			default:
				row = append(row, valueText(f[at]))
			}
		}
		rows = append(rows, row)
	}
	printTable(w, columns, rows)
	fmt.Fprintf(w, "%s, from seed %d (%s)\n", r.Protocol, r.Seed, seconds(r.Seconds))
	for _, reason := range why {
		fmt.Fprintln(w, "without a value: "+reason)
	}
	for _, note := range r.Notes {
		fmt.Fprintln(w, "note: "+note)
	}
}

func figureOf(f eval.Figures, name string) string {
	for _, one := range f {
		if one.Name == name {
			return valueText(one)
		}
	}
	return ""
}
