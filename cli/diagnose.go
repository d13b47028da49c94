package cli

import (
	"context"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"

	"membank/bench/eval"
	"membank/index"
	"membank/store"

	ucli "github.com/urfave/cli/v2"
)

func diagnoseCommand() *ucli.Command {
	return &ucli.Command{
		Name: "diagnose", Usage: "say whether a space is healthy or collapsed, and why", ArgsUsage: "BANK",
		Description: "Reads all rows for norms, variances and ranks; compares a sample of them with each\n" +
			"other for hubness, density and uniformity; with --views, takes the losses of\n" +
			"contrastive training on stored pairs of views, matched by key. The verdict names\n" +
			"each threshold and where it comes from.\n\n" +
			"  membank diagnose train\n" +
			"  membank diagnose train/view1 --views train/view2 -T 0.1,0.2\n" +
			"  membank diagnose crops --group-by image\n" +
			"  membank diagnose train --json",
		Flags: []ucli.Flag{
			&ucli.StringFlag{Name: "views", Usage: "`BANK2` holds a second view of each row, under the same key"},
			&ucli.StringFlag{Name: "k", Usage: "`K` neighbours of the figures about neighbours", Value: "10", DefaultText: "10"},
			&ucli.StringFlag{Name: "metric", Usage: "`METRIC` of these neighbours: cosine, dot or l2", Value: "cosine", DefaultText: "cosine"},
			&ucli.StringFlag{Name: "T", Usage: "temperatures `T,T,…` of the losses on views", DefaultText: "0.1,0.5"},
			&ucli.StringFlag{Name: "group-by", Usage: "for LiDAR: `ATTRIBUTE` that rows of one object share; key: the key up to its last #"},
			&ucli.StringFlag{Name: "step", Usage: "`ATTRIBUTE` that says at which step a row was written", Value: "step", DefaultText: "step"},
			&ucli.StringFlag{Name: "neighbour-rows", Usage: "search `N` rows for their neighbours", DefaultText: "32768"},
			&ucli.StringFlag{Name: "pair-rows", Usage: "compare all pairs of `N` rows", DefaultText: "8192"},
			&ucli.StringFlag{Name: "view-pairs", Usage: "compare `N` pairs of views", DefaultText: "8192"},
			seedFlag(),
			noCodesFlag(),
			cardFlag(),
		},
		Action: action([]string{"BANK"}, runDiagnose),
	}
}

// seedFlag chooses samples.
func seedFlag() ucli.Flag {
	return &ucli.StringFlag{Name: "seed", Usage: "`S` chooses the sample where not all rows are taken", Value: "0", DefaultText: "0"}
}

func runDiagnose(ctx context.Context, s *session, c *ucli.Context, args []string) error {
	d, err := diagnoseFlags(c)
	if err != nil {
		return err
	}
	return s.reading(ctx, func(db *store.DB) error {
		return snapshot(db, args[0], func(bank *store.Snapshot) error {
			run := func(views *store.Snapshot) error {
				if err := s.uses(ctx, bank); err != nil {
					return err
				}
				if views != nil {
					if err := s.uses(ctx, views); err != nil {
						return err
					}
				}
				progress := s.newBar("diagnose", "rows", -1)
				defer progress.close()
				result, err := d.Run(ctx, bank, views, eval.RunOptions{
					Threads: s.threads, Memory: s.memory / 2, NoCodes: c.Bool("no-codes"),
					Progress: func(done, _ int64) { progress.set(done) },
				})
				progress.close()
				if err != nil {
					return err
				}
				return s.emit(result, func(w io.Writer) { printCheckup(w, result) })
			}
			if c.String("views") == "" {
				return run(nil)
			}
			return snapshot(db, c.String("views"), run)
		})
	})
}

func diagnoseFlags(c *ucli.Context) (d eval.Diagnose, err error) {
	d = eval.Diagnose{GroupBy: c.String("group-by"), StepBy: c.String("step")}
	if d.Metric, err = index.ParseMetric(c.String("metric")); err != nil {
		return d, usage("--metric %s: no such metric (cosine, dot or l2)", c.String("metric"))
	}
	for name, to := range map[string]*int{"k": &d.K, "neighbour-rows": &d.NeighbourRows, "pair-rows": &d.PairRows, "view-pairs": &d.ViewPairs} {
		if *to, err = countFlag(c, name); err != nil {
			return d, err
		}
	}
	if d.Seed, err = seedOf(c, 63); err != nil {
		return d, err
	}
	if list := c.String("T"); list != "" {
		for _, field := range strings.Split(list, ",") {
			t, err := strconv.ParseFloat(strings.TrimSpace(field), 64)
			if err != nil || !(t >= 0.01) || math.IsInf(t, 0) {
				return d, usage("-T %s: %q is not a temperature (write 0.1,0.5; 0.01 is the least)", list, field)
			}
			d.Temperatures = append(d.Temperatures, t)
		}
	}
	return d, nil
}

// countFlag is a number of 1 or more, 0 if the flag is not given.
func countFlag(c *ucli.Context, name string) (int, error) {
	text := c.String(name)
	if text == "" {
		return 0, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 || n > math.MaxInt32 {
		return 0, usage("%s %s: not a number of 1 or more", dashed(name), text)
	}
	return n, nil
}

// seedOf is --seed. Figures print it as an int64, so those who report it as one ask for
// 63 bits, others for 64.
func seedOf(c *ucli.Context, bits int) (uint64, error) {
	seed, err := strconv.ParseUint(c.String("seed"), 10, bits)
	if err != nil {
		return 0, usage("--seed %s: not a seed (write a whole number from 0)", c.String("seed"))
	}
	return seed, nil
}

func printCheckup(w io.Writer, d *eval.Diagnosis) {
	printNamed(w, d.Figures)
	fmt.Fprintf(w, "\nverdict: %s (%s)\n", d.Verdict, seconds(d.Seconds))
	for _, f := range d.Figures {
		if reasons, ok := f.Value.([]string); ok {
			for _, r := range reasons {
				fmt.Fprintln(w, "  "+r)
			}
		}
	}
}

// printNamed is a table of the figures that are one number or word; lists are for
// --json.
func printNamed(w io.Writer, figures eval.Figures) {
	var rows [][]string
	for _, f := range figures {
		var text string
		switch v := f.Value.(type) {
		case float64:
			text = strconv.FormatFloat(v, 'g', 6, 64)
		case int64:
			text = count(v)
		case string:
			if text = v; len(v) > 40 { // a sentence would push all numbers aside
				rows = append(rows, []string{f.Name, "", v})
				continue
			}
		case nil:
			rows = append(rows, []string{f.Name, "-", f.Missing})
			continue
		default:
			continue
		}
		if f.Name == "seconds" || f.Name == "verdict" {
			continue
		}
		rows = append(rows, []string{f.Name, text, f.Reading})
	}
	printTable(w, []column{left("figure"), number("value"), left("")}, rows)
}
