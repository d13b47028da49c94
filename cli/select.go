package cli

import (
	"context"
	"fmt"
	"io"

	"membank/bench/eval"
	"membank/store"

	ucli "github.com/urfave/cli/v2"
)

func selectCommand() *ucli.Command {
	return &ucli.Command{
		Name: "select", Usage: "choose a diverse subset: what to label first", ArgsUsage: "BANK",
		Description: "k-centre greedy: each next row is the one farthest from all chosen so far, so no\n" +
			"row is far from a chosen one, and every prefix of the choice is a choice itself.\n\n" +
			"  membank select train -n 500 -o label-first.csv\n" +
			"  membank select train -n 500 --save && membank query test --from train --where 'selected != nil'",
		Flags: findingFlags(
			&ucli.StringFlag{Name: "n", Usage: "choose `N` rows", Value: "100", DefaultText: "100"},
			&ucli.StringFlag{Name: "seed", Usage: "`S` chooses the first row", Value: "0", DefaultText: "0"},
		),
		Action: action([]string{"BANK"}, runSelect),
	}
}

func runSelect(ctx context.Context, s *session, c *ucli.Context, args []string) error {
	n, err := countFlag(c, "n")
	if err != nil {
		return err
	}
	seed, err := seedOf(c, 63)
	if err != nil {
		return err
	}
	return findingOpen(ctx, s, c, func(db *store.DB) error {
		return snapshot(db, args[0], func(snap *store.Snapshot) error {
			if err := s.uses(ctx, snap); err != nil {
				return err
			}
			progress := s.newBar("select", "rows", int64(n))
			defer progress.close()
			r, err := eval.KCentre{N: n, Seed: seed}.Run(ctx, snap, eval.RunOptions{
				Threads: s.threads, Memory: s.memory / 2, Progress: func(done, _ int64) { progress.set(done) },
			})
			progress.close()
			if err != nil {
				return err
			}
			f := &findings{snap: snap, report: r, title: "in the order of choice"}
			for _, centre := range r.Found {
				f.rows = append(f.rows, centre.Row)
			}
			f.fields = []findingField{
				{"place", "selected", func(i int) store.Value { return store.Int(int64(i + 1)) }},
				{"distance", "", func(i int) store.Value { return store.Float(r.Found[i].Distance) }},
			}
			return f.finish(ctx, s, c, db, func(w io.Writer) {
				fmt.Fprintf(w, "%s of %s in %s: every other is within %.4f of one of them, cosine %.4f (%s)\n",
					count(r.Selected), plural(r.Rows, "row"), r.Bank, r.Radius, 1-r.Radius*r.Radius/2, seconds(r.Seconds))
				switch rest := r.Rows - r.Zeros - int64(r.Selected); {
				case r.Selected == n:
				case rest == 0:
					fmt.Fprintln(w, "there are no more to choose from")
				default:
					fmt.Fprintf(w, "the other %s repeat these, so fewer than %s were chosen\n", count(rest), count(n))
				}
			})
		})
	})
}
