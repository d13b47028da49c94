package cli

import (
	"context"
	"fmt"
	"io"
	"strconv"

	"membank/bench/eval"
	"membank/store"

	ucli "github.com/urfave/cli/v2"
)

func labelErrorsCommand() *ucli.Command {
	return &ucli.Command{
		Name: "label-errors", Usage: "find rows whose label their neighbours doubt", ArgsUsage: "BANK",
		Description: "Each labelled row is classified by the others, as in eval knn --leave-one-out. A\n" +
			"row is a candidate when the votes for another class reach the share that rows of\n" +
			"that class have on average (confident learning). The most doubtful come first.\n\n" +
			"  membank label-errors train\n" +
			"  membank label-errors train -k 50 -o check.csv --save",
		Flags: findingFlags(
			&ucli.StringFlag{Name: "k", Usage: "`K` neighbours vote", Value: "20", DefaultText: "20"},
			&ucli.StringFlag{Name: "protocol", Usage: "how they vote: a preset's `NAME`, see eval knn --protocol help", Value: "dino", DefaultText: "dino"},
			noCodesFlag(),
		),
		Action: action([]string{"BANK"}, runLabelErrors),
	}
}

func runLabelErrors(ctx context.Context, s *session, c *ucli.Context, args []string) error {
	k, err := countFlag(c, "k")
	if err != nil {
		return err
	}
	return findingOpen(ctx, s, c, func(db *store.DB) error {
		return snapshot(db, args[0], func(snap *store.Snapshot) error {
			if err := s.uses(ctx, snap); err != nil {
				return err
			}
			progress := s.newBar("label-errors", "rows", snap.Info().Rows)
			defer progress.close()
			r, err := eval.LabelErrors{Preset: c.String("protocol"), K: k}.Run(ctx, snap, eval.RunOptions{
				Threads: s.threads, Memory: s.memory / 2, NoCodes: c.Bool("no-codes"), Progress: func(done, _ int64) { progress.set(done) },
			})
			progress.close()
			if err != nil {
				return err
			}
			f := &findings{snap: snap, report: r, title: "the most doubtful labels"}
			names := snap.Info().ClassNames
			for _, e := range r.Found {
				f.rows = append(f.rows, e.Row)
			}
			f.fields = []findingField{
				{"suggested", "label_suggested", func(i int) store.Value {
					if name := className(names, r.Found[i].Suggested); name != "" {
						return store.Text(name)
					}
					return store.Text(strconv.FormatInt(r.Found[i].Suggested, 10))
				}},
				{"votes for it", "", func(i int) store.Value { return store.Float(r.Found[i].Votes) }},
				{"for the label", "", func(i int) store.Value { return store.Float(r.Found[i].Own) }},
				{"doubt", "label_doubt", func(i int) store.Value { return store.Float(r.Found[i].Doubt()) }},
			}
			return f.finish(ctx, s, c, db, func(w io.Writer) {
				fmt.Fprintf(w, "%s of %s in %s may be labelled wrong; neighbours disagree with %s (%s, k=%d, %s)\n",
					count(r.Candidates), plural(r.Rows, "labelled row"), r.Bank, count(r.Disagree), r.Protocol, r.K, seconds(r.Seconds))
				if r.Tied > 0 {
					fmt.Fprintf(w, "note: not judged, as all neighbours are equally near and row numbers chose them: %s\n", plural(r.Tied, "row"))
				}
				if r.Lone > 0 {
					fmt.Fprintf(w, "note: not judged, as no other row has their class: %s\n", plural(r.Lone, "row"))
				}
			})
		})
	})
}
