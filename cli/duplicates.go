package cli

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strconv"

	"membank/bench/eval"
	"membank/store"

	ucli "github.com/urfave/cli/v2"
)

func duplicatesCommand() *ucli.Command {
	return &ucli.Command{
		Name: "duplicates", Usage: "find near-duplicates in a bank, or rows of one bank that leaked into another", ArgsUsage: "BANK [BANK2]",
		Description: "Every pair of rows whose cosine reaches --min-score counts, and no other. Groups\n" +
			"are rows linked by pairs; of each, rows are kept in row order and a row is to be\n" +
			"dropped only for a kept one that it resembles that much. With BANK2, its rows are\n" +
			"looked for in BANK. Of groups in which pairs are too many to count, as in a collapsed\n" +
			"space, only the number of pairs is not told. The .csv has a line for each row in a\n" +
			"group, not for each pair: no more than the bank has rows.\n\n" +
			"  membank duplicates train --min-score 0.98\n" +
			"  membank duplicates train test --min-score 0.95 -o leaks.csv\n" +
			"  membank duplicates train --save && membank rm train --where 'duplicate_of != nil'",
		Flags: findingFlags(
			&ucli.StringFlag{Name: "min-score", Usage: "the least cosine `S` of a duplicate", Value: "0.98", DefaultText: "0.98"},
			noCodesFlag(),
		),
		Action: action([]string{"BANK", "[BANK2]"}, runDuplicates),
	}
}

func runDuplicates(ctx context.Context, s *session, c *ucli.Context, args []string) error {
	score, err := strconv.ParseFloat(c.String("min-score"), 32)
	if err != nil || !(score >= -1 && score <= 1) {
		return usage("--min-score %s: not a cosine (write a number from -1 to 1)", c.String("min-score"))
	}
	if len(args) == 2 && args[0] == args[1] {
		return usage("%s: %s twice (name it once to look inside it)", s.name, args[0])
	}
	d := eval.Duplicates{MinScore: float32(score)}
	return findingOpen(ctx, s, c, func(db *store.DB) error {
		return snapshots(db, args, func(banks []*store.Snapshot) error {
			if err := s.uses(ctx, banks...); err != nil {
				return err
			}
			in, of := banks[0], banks[len(banks)-1] // rows of "of" are found in "in"
			progress := s.newBar("duplicates", "rows", of.Info().Rows)
			defer progress.close()
			o := eval.RunOptions{Threads: s.threads, Memory: s.memory / 2, NoCodes: c.Bool("no-codes"), Progress: func(done, _ int64) { progress.set(done) }}
			var r *eval.DuplicateReport
			if len(banks) == 1 {
				r, err = d.Within(ctx, in, o)
			} else {
				r, err = d.Between(ctx, of, in, o)
			}
			progress.close()
			if err != nil {
				return err
			}
			f, err := duplicateFindings(ctx, in, of, r)
			if err != nil {
				return err
			}
			return f.finish(ctx, s, c, db, func(w io.Writer) { printDuplicates(w, r) })
		})
	})
}

// duplicateFindings sorts the rows by group, and names the row that each repeats.
func duplicateFindings(ctx context.Context, in, of *store.Snapshot, r *eval.DuplicateReport) (*findings, error) {
	slices.SortStableFunc(r.Found, func(a, b eval.Duplicate) int {
		switch {
		case a.Group < b.Group:
			return -1
		case a.Group > b.Group:
			return 1
		}
		return 0
	})
	f := &findings{snap: of, report: r, title: "duplicates, group by group"}
	var kept []int64
	for _, d := range r.Found {
		f.rows = append(f.rows, d.Row)
		if d.Of >= 0 {
			kept = append(kept, d.Of)
		}
	}
	kept = unique(kept)
	named, err := in.Rows(ctx, kept, store.Want{})
	if err != nil {
		return nil, err
	}
	where, score := "duplicate_of", "duplicate_score"
	if in != of {
		f.title, where, score = "rows of "+of.Bank()+" that are in "+in.Bank(), "leak_of", "leak_score"
	} else {
		f.fields = append(f.fields, findingField{"group", "duplicate_group", func(i int) store.Value { return store.Int(r.Found[i].Group) }})
	}
	f.fields = append(f.fields,
		findingField{"of", where, func(i int) store.Value {
			if r.Found[i].Of < 0 {
				return store.Value{}
			}
			at, _ := slices.BinarySearch(kept, r.Found[i].Of)
			return store.Text(named[at].Key)
		}},
		findingField{"score", score, func(i int) store.Value {
			if r.Found[i].Of < 0 {
				return store.Value{}
			}
			return store.Float(float64(r.Found[i].Score))
		}},
		findingField{"other label", "", func(i int) store.Value {
			if !r.Found[i].Conflict {
				return store.Value{}
			}
			return store.Text("yes")
		}},
	)
	return f, nil
}

func printDuplicates(w io.Writer, r *eval.DuplicateReport) {
	if r.In != "" {
		fmt.Fprintf(w, "%s of %s in %s have a row of cosine %g or more in %s (%s)\n", count(r.Drop), plural(r.Rows, "row"), r.Bank, r.MinScore, r.In, seconds(r.Seconds))
	} else {
		pairs := plural(r.Pairs, "pair")
		if r.AtLeast {
			pairs = "more than " + pairs
		}
		fmt.Fprintf(w, "%s of cosine %g or more among %s of %s: %s of %s, %s to drop (%s)\n", pairs, r.MinScore,
			plural(r.Rows, "row"), r.Bank, plural(r.Groups, "group"), plural(r.Grouped, "row"), count(r.Drop), seconds(r.Seconds))
	}
	if r.AtLeast {
		fmt.Fprintf(w, "note: that many rows are alike that pairs were not all counted (membank diagnose says whether the space collapsed); groups and rows to drop are exact\n")
	}
	if r.Mixed > 0 {
		fmt.Fprintf(w, "%s another label than the row they repeat\n", have(r.Mixed))
	}
	printZeros(w, r.Zeros)
}

// have is "1 of these has", "2 of these have".
func have(n int64) string {
	if n == 1 {
		return "1 of these has"
	}
	return count(n) + " of these have"
}
