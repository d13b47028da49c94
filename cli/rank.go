package cli

import (
	"context"
	"fmt"
	"io"
	"slices"

	"membank/bench/eval"
	"membank/store"

	ucli "github.com/urfave/cli/v2"
)

func rankCommand() *ucli.Command {
	return &ucli.Command{
		Name: "rank", Usage: "order rows by uniqueness or density, and find outliers", ArgsUsage: "BANK",
		Description: "uniqueness is 1 - cosine to the nearest other row, density the mean cosine to the K\n" +
			"nearest, outlier the local outlier factor on 1 - cosine: near 1 inside a cluster,\n" +
			"above 1.5 counted as an outlier. All rows are in the .csv and the attributes.\n\n" +
			"  membank rank train --by outlier\n" +
			"  membank rank train --by density --show 50 -o density.csv --save",
		Flags: findingFlags(
			&ucli.StringFlag{Name: "by", Usage: "what comes first: uniqueness, density or outlier, the largest `FIRST`", Value: "uniqueness", DefaultText: "uniqueness"},
			&ucli.StringFlag{Name: "k", Usage: "`K` neighbours", Value: "10", DefaultText: "10"},
			noCodesFlag(),
		),
		Action: action([]string{"BANK"}, runRank),
	}
}

func runRank(ctx context.Context, s *session, c *ucli.Context, args []string) error {
	by, known := map[string]func(eval.RowDensity) float64{
		"uniqueness": func(d eval.RowDensity) float64 { return d.Uniqueness },
		"density":    func(d eval.RowDensity) float64 { return d.Density },
		"outlier":    func(d eval.RowDensity) float64 { return d.Outlier },
	}[c.String("by")]
	if !known {
		return usage("--by %s: unknown (uniqueness, density or outlier)", c.String("by"))
	}
	k, err := countFlag(c, "k")
	if err != nil {
		return err
	}
	return findingOpen(ctx, s, c, func(db *store.DB) error {
		return snapshot(db, args[0], func(snap *store.Snapshot) error {
			if err := s.uses(ctx, snap); err != nil {
				return err
			}
			progress := s.newBar("rank", "rows", snap.Info().Rows)
			defer progress.close()
			r, err := eval.Density{K: k}.Run(ctx, snap, eval.RunOptions{
				Threads: s.threads, Memory: s.memory / 2, NoCodes: c.Bool("no-codes"), Progress: func(done, _ int64) { progress.set(done) },
			})
			progress.close()
			if err != nil {
				return err
			}
			slices.SortStableFunc(r.Found, func(a, b eval.RowDensity) int {
				switch x, y := by(a), by(b); {
				case x > y:
					return -1
				case x < y:
					return 1
				}
				return 0
			})
			f := &findings{snap: snap, report: r, title: "by " + c.String("by")}
			for _, d := range r.Found {
				f.rows = append(f.rows, d.Row)
			}
			f.fields = []findingField{
				{"uniqueness", "uniqueness", func(i int) store.Value { return store.Float(r.Found[i].Uniqueness) }},
				{"density", "density", func(i int) store.Value { return store.Float(r.Found[i].Density) }},
				{"outlier", "outlier", func(i int) store.Value { return store.Float(r.Found[i].Outlier) }},
				{"nearest", "", func(i int) store.Value { return store.Int(r.Found[i].Nearest) }},
			}
			return f.finish(ctx, s, c, db, func(w io.Writer) {
				fmt.Fprintf(w, "%s of %s: mean uniqueness %.4f, mean density %.4f, %s with an outlier factor above %g (k=%d, %s)\n",
					plural(r.Rows, "row"), r.Bank, r.Uniqueness, r.Density, plural(r.Outliers, "row"), eval.OutlierFrom, r.K, seconds(r.Seconds))
				printZeros(w, r.Zeros)
			})
		})
	})
}

// printZeros tells of rows that cosines say nothing about.
func printZeros(w io.Writer, zeros int64) {
	if zeros > 0 {
		fmt.Fprintf(w, "note: zero, so without a direction, and of cosine 0 with everything: %s\n", plural(zeros, "row"))
	}
}
