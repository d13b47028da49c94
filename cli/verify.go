package cli

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"time"

	"membank/index/memory"
	"membank/store"

	ucli "github.com/urfave/cli/v2"
)

// check is what verify found.
type check struct {
	Banks    int            `json:"banks"`
	Blocks   int            `json:"blocks"`
	Records  int            `json:"records"`
	Bytes    int64          `json:"bytes"`
	Orphans  int            `json:"orphans"`
	Problems []checkProblem `json:"problems"`
	Checked  []checkedBank  `json:"checked"`
	Seconds  float64        `json:"seconds"`
}

type checkProblem struct {
	Bank  string `json:"bank"`
	Block int    `json:"block"` // -1: not in one block
	Error string `json:"error"`
}

type checkedBank struct {
	Bank     string `json:"bank"`
	Rows     int64  `json:"rows"`
	Problems int    `json:"problems"`
}

func verifyCommand() *ucli.Command {
	return &ucli.Command{
		Name: "verify", Usage: "check every checksum and invariant",
		Description: "Reads everything once, changes nothing. Exit code 5 if something is wrong.\n\n  membank verify",
		Action:      action(nil, runVerify),
	}
}

func runVerify(ctx context.Context, s *session, c *ucli.Context, _ []string) error {
	return s.reading(ctx, func(db *store.DB) error {
		start := time.Now()
		progress := s.newBar("verify", "B", -1)
		defer progress.close()
		var total int64
		report, err := db.Verify(ctx, store.VerifyOptions{Progress: func(done, all int64) {
			if all != total && progress.p != nil {
				total = all
				progress.p.ChangeMax64(all)
			}
			progress.set(done)
		}})
		progress.close()
		if err != nil {
			return err
		}
		found := check{
			Banks: report.Banks, Blocks: report.Blocks, Records: report.Records, Bytes: report.Bytes, Orphans: report.Orphans,
			Problems: []checkProblem{}, Checked: []checkedBank{}, Seconds: time.Since(start).Seconds(),
		}
		names, err := memory.List(db, "")
		if err != nil {
			return err
		}
		for _, name := range names {
			if err := memory.Verify(ctx, db, name); err != nil {
				found.Problems = append(found.Problems, checkProblem{"memory bank " + name, -1, err.Error()})
			}
		}
		faults := map[string]int{}
		for _, p := range report.Problems {
			found.Problems = append(found.Problems, checkProblem{p.Bank, p.Block, p.Err.Error()})
			faults[p.Bank]++
		}
		// A list that cannot be read is among the problems already.
		if infos, err := db.Banks(""); err == nil {
			for _, i := range infos {
				found.Checked = append(found.Checked, checkedBank{i.Bank, i.Rows, faults[i.Bank]})
			}
		}
		if err := s.emit(found, func(w io.Writer) { printCheck(w, found) }); err != nil {
			return err
		}
		if n := len(found.Problems); n > 0 {
			first := found.Problems[0].Error
			return &failure{exit: exitCorrupt, code: "corrupt", err: store.ErrCorrupt,
				text: fmt.Sprintf("verify %s: %s, the first: %s (restore the database from a copy, or remove the bank and ingest it again)", s.dir, plural(n, "problem"), first)}
		}
		return nil
	})
}

func printCheck(w io.Writer, c check) {
	rows := make([][]string, len(c.Checked))
	for i, b := range c.Checked {
		verdict := "ok"
		if b.Problems > 0 {
			verdict = plural(b.Problems, "problem")
		}
		rows[i] = []string{b.Bank, count(b.Rows), verdict}
	}
	if len(rows) > 0 {
		printTable(w, []column{left("bank"), number("rows"), left("verdict")}, rows)
	}
	for _, p := range c.Problems {
		where := p.Bank
		if p.Block >= 0 {
			where += " block " + strconv.Itoa(p.Block)
		}
		if where != "" {
			where += ": "
		}
		fmt.Fprintf(w, "problem: %s%s\n", where, p.Error)
	}
	fmt.Fprintf(w, "%s, %s, %s checked in %s", plural(c.Banks, "bank"), plural(c.Blocks, "block"), size(c.Bytes), seconds(c.Seconds))
	if c.Orphans > 0 {
		fmt.Fprintf(w, "; %s of interrupted work, harmless", plural(c.Orphans, "leftover record"))
	}
	fmt.Fprintln(w)
}
