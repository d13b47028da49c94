package cli

import (
	"context"
	"encoding/csv"
	"fmt"
	"io"
	"math"
	"path"
	"strconv"
	"strings"

	"membank/bench/eval"
	"membank/store"

	ucli "github.com/urfave/cli/v2"
)

func evalRobustnessCommand() *ucli.Command {
	return &ucli.Command{
		Name: "robustness", Usage: "what perturbed queries lose, and how far a query may turn", ArgsUsage: "",
		Description: "Classifies the rows of --test and of perturbed copies of it by the clean rows of --train.\n" +
			"Rows of a copy are those of --test with the same keys. Names of banks tell severities:\n" +
			"test-c/fog/3 is corruption fog at severity 3, and so is fog-3.\n\n" +
			"  membank eval robustness --train train --test test --perturbed 'test-c/*/*'\n" +
			"  membank eval robustness --train train --test test --perturbed pgd-4,pgd-8 -k 1\n" +
			"  membank eval robustness --train train --test test -o radius.csv\n\n" +
			"Without --perturbed it tells radii alone: the least angle by which a query must turn\n" +
			"until its nearest row is another, and one within which its vote provably stays.",
		Flags: []ucli.Flag{
			&ucli.StringFlag{Name: "train", Usage: "the `BANK` whose rows vote"},
			&ucli.StringFlag{Name: "test", Usage: "the `BANK` of clean queries"},
			&ucli.StringFlag{Name: "perturbed", Usage: "banks of perturbed queries, `BANK,BANK` or 'PATTERN'"},
			protocolFlag("dino"),
			&ucli.StringFlag{Name: "k", Usage: "number of neighbours `K`", Value: "20", DefaultText: "20"},
			temperatureFlag(), metricFlag(),
			&ucli.BoolFlag{Name: "no-radius", Usage: "leave the radii out"},
			&ucli.StringFlag{Name: "compared", Usage: "compare `N` neighbours for a radius", Value: "256", DefaultText: "256"},
			noCodesFlag(),
			outputFlag("write the radii of every query of --test to `FILE`.csv"),
		},
		Action: action(nil, runEvalRobustness),
	}
}

func runEvalRobustness(ctx context.Context, s *session, c *ucli.Context, _ []string) (err error) {
	train, test, output := c.String("train"), c.String("test"), c.String("output")
	e := eval.Robustness{NoRadius: c.Bool("no-radius")}
	if e.KNN, err = knnFlags(c); err != nil {
		return err
	}
	switch {
	case train == "":
		return usage("%s: which bank votes? (give --train BANK)", s.name)
	case test == "":
		return usage("%s: which bank asks? (give --test BANK)", s.name)
	case e.NoRadius && c.String("perturbed") == "":
		return usage("%s: neither perturbed banks nor radii (give --perturbed BANK,BANK)", s.name)
	case output != "" && (e.NoRadius || path.Ext(output) != ".csv"):
		return usage("-o %s: radii are written as .csv (leave out --no-radius)", output)
	}
	if e.Pool, err = strconv.Atoi(c.String("compared")); err != nil || e.Pool < 2 {
		return usage("--compared %s: not a number of neighbours (write 2 or more)", c.String("compared"))
	}
	return s.reading(ctx, func(db *store.DB) error {
		banks := []string{train, test}
		if text := c.String("perturbed"); text != "" {
			more, err := banksOf(db, text)
			if err != nil {
				return err
			}
			banks = append(banks, more...)
		}
		sets, err := transforms{}.open(ctx, s, db, banks...)
		if err != nil {
			return err
		}
		defer sets.close()
		var perturbed []eval.Perturbed
		for i, bank := range banks[2:] {
			corruption, severity := severityOf(bank)
			perturbed = append(perturbed, eval.Perturbed{Set: sets.of[2+i], Corruption: corruption, Severity: severity})
		}
		progress := s.newBar("eval robustness", "queries", sets.of[1].Rows())
		defer progress.close()
		o := s.runOptions(progress)
		o.NoCodes = c.Bool("no-codes")
		finish := func() error { return nil }
		if output != "" {
			file, err := s.createFile(output)
			if err != nil {
				return err
			}
			defer file.discard()
			lines := csv.NewWriter(file)
			lines.Write([]string{"row", "nearest", "rival", "nearest_flip_degrees", "nearest_stays_degrees", "exact", "decision_stays_degrees"})
			degrees := func(v float64) string { return strconv.FormatFloat(v*180/math.Pi, 'g', -1, 64) }
			e.Each = func(r eval.Radius) {
				lines.Write([]string{fmt.Sprint(r.Row), fmt.Sprint(r.Nearest), fmt.Sprint(r.Rival), degrees(r.Flip), degrees(r.Within), fmt.Sprint(r.Exact), degrees(r.Decision)})
			}
			finish = func() error {
				if lines.Flush(); lines.Error() != nil {
					return lines.Error()
				}
				return file.keep()
			}
		}
		r, err := e.Evaluate(ctx, sets.of[0], sets.of[1], perturbed, o)
		progress.close()
		if err != nil {
			return err
		}
		if err := finish(); err != nil {
			return err
		}
		return s.emit(r, func(w io.Writer) { printRobustness(w, r) })
	})
}

// severityOf splits a bank's name: the last number of it is the severity, what is before
// that in its part of the name, or the part before, the corruption.
func severityOf(bank string) (corruption, severity string) {
	last := path.Base(bank)
	name := strings.TrimRight(last, "0123456789")
	severity = last[len(name):]
	if name = strings.TrimRight(name, "-_."); name == "" && strings.Contains(bank, "/") {
		name = path.Base(path.Dir(bank))
	}
	if name == "" {
		name = bank
	}
	return name, severity
}

func printRobustness(w io.Writer, r *eval.RobustnessResult) {
	var rows [][]string
	for _, f := range r.Results {
		n, _ := f.Lookup("rows")
		row := []string{figureOf(f, "bank"), figureOf(f, "corruption"), figureOf(f, "severity"), count(int64(n))}
		for _, name := range []string{"top1", "drop", "flipped", "margin", "neighbours_kept", "nearest_kept"} {
			v, _ := f.Lookup(name)
			row = append(row, percent(v))
		}
		rows = append(rows, row)
	}
	printTable(w, []column{left("bank"), left("corruption"), number("severity"), number("rows"), number("top-1 %"), number("drop %"), number("flipped %"),
		number("margin %"), number("neighbours kept %"), number("nearest kept %")}, rows)
	for _, list := range [][]eval.Figures{r.Corruptions, {r.Overall}, {r.Radius}} {
		if len(list) > 0 && len(list[0]) > 0 {
			fmt.Fprintln(w)
			printResults(w, list)
		}
	}
	fmt.Fprintf(w, "%s, k=%d; %s by %s, %d classes, dim %d (%s)\n", r.Protocol, r.K, r.Clean.Bank, r.Train.Bank, r.Classes, r.Dim, seconds(r.Seconds))
	for _, note := range r.Notes {
		fmt.Fprintln(w, "note: "+note)
	}
}
