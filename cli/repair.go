package cli

import (
	"context"
	"fmt"
	"io"

	"membank/store"

	ucli "github.com/urfave/cli/v2"
)

// repaired is what repair found and did.
type repaired struct {
	Mismatch string         `json:"mismatch"` // why the database does not open; empty if it does
	Banks    []repairedBank `json:"banks"`
	Accepted bool           `json:"accepted"`
	Dropped  []string       `json:"dropped"`
}

type repairedBank struct {
	Bank               string   `json:"bank"`
	Generation         uint64   `json:"generation"` // 0: not there
	ExpectedGeneration uint64   `json:"expected_generation"`
	Rows               int64    `json:"rows"`
	ExpectedRows       int64    `json:"expected_rows"`
	Problems           []string `json:"problems"`
	Whole              bool     `json:"whole"`
}

func repairCommand() *ucli.Command {
	return &ucli.Command{
		Name: "repair", Usage: "see what is left of a damaged database, and make it open again",
		Description: "For a database that is refused because it is damaged or went back in time.\n" +
			"Without flags it only looks: bank by bank, what is there beside what was\n" +
			"acknowledged. It cannot bring rows back; a copy of the database can.\n\n" +
			"  membank repair\n  membank repair --accept-loss --drop",
		Flags: []ucli.Flag{
			&ucli.BoolFlag{Name: "accept-loss", Usage: "take what is there for all there ever was, so that the database opens"},
			&ucli.BoolFlag{Name: "drop", Usage: "with --accept-loss: remove banks that are not whole"},
		},
		Action: action(nil, runRepair),
	}
}

func runRepair(ctx context.Context, s *session, c *ucli.Context, _ []string) error {
	o := store.RepairOptions{Accept: c.Bool("accept-loss"), Drop: c.Bool("drop")}
	if o.Drop && !o.Accept {
		return usage("repair: --drop removes banks (give --accept-loss with it)")
	}
	report, err := store.Repair(ctx, s.dir, o)
	if err != nil {
		return err
	}
	found := repaired{Banks: []repairedBank{}, Accepted: report.Accepted, Dropped: append([]string{}, report.Dropped...)}
	if report.Mismatch != nil {
		found.Mismatch = report.Mismatch.Error()
	}
	whole := true
	for _, b := range report.Banks {
		r := repairedBank{b.Bank, b.Generation, b.Expected, b.Rows, b.ExpectedRows, []string{}, b.Whole()}
		for _, p := range b.Problems {
			r.Problems = append(r.Problems, p.Err.Error())
		}
		whole = whole && r.Whole
		found.Banks = append(found.Banks, r)
	}
	if err := s.emit(found, func(w io.Writer) { printRepaired(w, found) }); err != nil {
		return err
	}
	if (found.Mismatch != "" || !whole) && !found.Accepted {
		return &failure{exit: exitCorrupt, code: "corrupt", err: store.ErrCorrupt,
			text: fmt.Sprintf("repair %s: nothing was changed (put back a copy of the database; or keep what is there with --accept-loss)", s.dir)}
	}
	return nil
}

func printRepaired(w io.Writer, r repaired) {
	rows := make([][]string, len(r.Banks))
	for i, b := range r.Banks {
		verdict := "whole"
		switch {
		case b.Generation == 0:
			verdict = "lost"
		case !b.Whole:
			verdict = "not whole"
		}
		rows[i] = []string{b.Bank, count(b.Rows), count(b.ExpectedRows), fmt.Sprint(b.Generation), fmt.Sprint(b.ExpectedGeneration), verdict}
	}
	if len(rows) > 0 {
		printTable(w, []column{left("bank"), number("rows"), number("expected"), number("generation"), number("expected"), left("verdict")}, rows)
	}
	for _, b := range r.Banks {
		for _, p := range b.Problems {
			fmt.Fprintf(w, "problem: %s\n", p)
		}
	}
	switch {
	case r.Accepted:
		fmt.Fprintf(w, "accepted: the database opens with what is there; %s dropped\n", plural(len(r.Dropped), "bank"))
	case r.Mismatch != "":
		fmt.Fprintf(w, "refused because: %s\n", r.Mismatch)
	default:
		fmt.Fprintln(w, "the database opens; nothing needs repair")
	}
}
