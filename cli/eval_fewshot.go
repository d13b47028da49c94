package cli

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"strings"

	"membank/bench/eval"
	"membank/store"

	ucli "github.com/urfave/cli/v2"
)

func evalFewShotCommand() *ucli.Command {
	return &ucli.Command{
		Name: "fewshot", Usage: "kNN accuracy from a few labelled rows", ArgsUsage: "",
		Description: "Draws some rows of each class of --train, several times, and lets only them vote:\n" +
			"DINOv2's protocol, with k no larger than the shots. Or takes the rows from lists of\n" +
			"keys, such as the published 1 % and 10 % of ImageNet; several lists are averaged.\n\n" +
			"  membank eval fewshot --train train --test val\n" +
			"  membank eval fewshot --train train --test val --per-class-shots 1,5,10 --tries 5 --seed 7\n" +
			"  membank eval fewshot --train train --test val --list 1percent.txt --protocol dino\n" +
			"  membank eval fewshot --train train --test val --list 10percent.txt --protocol paws",
		Flags: []ucli.Flag{
			&ucli.StringFlag{Name: "train", Usage: "the `BANK` from which rows vote"},
			&ucli.StringFlag{Name: "test", Usage: "the `BANK` whose rows are classified"},
			&ucli.StringFlag{Name: "per-class-shots", Usage: "rows of each class, `N,N,…`", DefaultText: "1,5,10"},
			&ucli.StringFlag{Name: "tries", Usage: "draw `N` times and average", Value: "5", DefaultText: "5"},
			&ucli.StringFlag{Name: "seed", Usage: "`S` chooses the rows; try t draws with S+t", Value: "0", DefaultText: "0"},
			&ucli.StringSliceFlag{Name: "list", Usage: "`FILE` of one key a line instead; may be given several times"},
			protocolFlag("dinov2"), kFlag(), temperatureFlag(), metricFlag(), noCodesFlag(),
		},
		Action: action(nil, runEvalFewShot),
	}
}

func runEvalFewShot(ctx context.Context, s *session, c *ucli.Context, _ []string) error {
	if c.String("protocol") == "help" {
		return s.emit(eval.Protocols(), printProtocols)
	}
	e, err := fewShotFlags(c)
	if err != nil {
		return err
	}
	train, test := c.String("train"), c.String("test")
	switch {
	case train == "":
		return usage("%s: which bank votes? (give --train BANK)", s.name)
	case test == "":
		return usage("%s: which bank is classified? (give --test BANK)", s.name)
	}
	return s.reading(ctx, func(db *store.DB) error {
		sets, err := transforms{}.open(ctx, s, db, train, test)
		if err != nil {
			return err
		}
		defer sets.close()
		progress := s.newBar("eval fewshot", "queries", -1)
		return printEvaluation(s, c, progress, printFewShot, func(o eval.RunOptions) (*eval.FewShotResult, error) {
			return e.Evaluate(ctx, sets.of[0], sets.of[1], o)
		})
	})
}

func fewShotFlags(c *ucli.Context) (e eval.FewShot, err error) {
	if e.KNN, err = knnFlags(c); err != nil {
		return e, err
	}
	for field := range strings.SplitSeq(c.String("per-class-shots"), ",") {
		if c.String("per-class-shots") == "" {
			break
		}
		n, err := strconv.Atoi(strings.TrimSpace(field))
		if err != nil || n < 1 {
			return e, usage("--per-class-shots %s: %q is not a number of rows (write 1,5,10)", c.String("per-class-shots"), field)
		}
		e.Shots = append(e.Shots, n)
	}
	if e.Tries, err = strconv.Atoi(c.String("tries")); err != nil || e.Tries < 1 {
		return e, usage("--tries %s: not a number of tries (write 5)", c.String("tries"))
	}
	if e.Seed, err = seedOf(c, 64); err != nil {
		return e, err
	}
	for _, path := range c.StringSlice("list") {
		for _, name := range []string{"per-class-shots", "tries", "seed"} {
			if c.IsSet(name) {
				return e, usage("--list and --%s: rows are listed or drawn (leave one of them out)", name)
			}
		}
		keys, err := readLines(path)
		if err != nil {
			return e, err
		}
		e.Lists = append(e.Lists, eval.Split{Name: path, Keys: keys})
	}
	return e, nil
}

func printFewShot(w io.Writer, r *eval.FewShotResult) {
	var rows [][]string
	for _, at := range r.Results {
		shots := strconv.Itoa(at.Shots)
		if at.Shots == 0 {
			shots = "listed"
		}
		k := strconv.Itoa(at.K)
		if at.Effective != at.K {
			k += fmt.Sprintf(" (%d)", at.Effective)
		}
		rows = append(rows, []string{shots, k, strconv.FormatFloat(at.Rows, 'f', -1, 64), percent(at.Top1), percent(at.Top1Std), percent(at.Top5), percent(at.Top5Voted)})
	}
	printTable(w, []column{number("shots"), number("k"), number("rows"), number("top-1 %"), number("± std"), number("top-5 %"), number("top-5 voted %")}, rows)
	how := fmt.Sprintf("mean of %s", plural(r.Tries, "list"))
	if r.Seed != nil {
		how = fmt.Sprintf("mean of %s from seed %d", pluralTries(r.Tries), *r.Seed)
	}
	fmt.Fprintf(w, "%s: %s, vote %s; %s (%s) by %s, %d classes, dim %d; %s; exact (%s)\n", r.Protocol, r.Rules.Metric, voteText(r.Rules),
		r.Test.Bank, plural(r.TestRows, "row"), r.Train.Bank, r.Classes, r.Dim, how, seconds(r.Seconds))
	for _, note := range r.Notes {
		fmt.Fprintln(w, "note: "+note)
	}
}

func pluralTries(n int) string {
	if n == 1 {
		return "1 try"
	}
	return count(n) + " tries"
}
