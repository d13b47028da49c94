package cli

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"membank/bench/eval"
	"membank/store"
)

const shownMoved = 8

// moved are the rows whose neighbourhoods changed most between the bank in focus and
// another checkpoint: the first of its run, or else of the report.
func (r *reporting) moved(ctx context.Context) error {
	other := r.otherCheckpoint()
	if other < 0 {
		return nil
	}
	first, last := r.pairs[min(other, r.focus)].train, r.pairs[max(other, r.focus)].train
	s := reportSection{ID: "moved", Title: "Rows that moved"}
	err := snapshots(r.db, []string{first, last}, func(banks []*store.Snapshot) error {
		progress := r.s.newBar("report: compare", "rows", -1)
		defer progress.close()
		o := r.s.runOptions(progress)
		o.NoCodes = r.c.Bool("no-codes")
		c, err := eval.Compare{Moved: shownMoved, Seed: r.seed}.Run(ctx, banks, o)
		if errors.Is(err, eval.ErrTooFew) {
			s.Text = append(s.Text, fmt.Sprintf("%s and %s are not compared: %v.", first, last, err))
			return nil
		}
		if err != nil {
			return err
		}
		r.compared = c
		line := compareLine(first, last, r.seed)
		s.Tables = append(s.Tables, agreementTable(c, first, last, line))
		if len(c.Moved) == 0 {
			s.Text = append(s.Text, "Too few rows to have the neighbours that a comparison takes.")
			return nil
		}
		grid := reportGrid{
			Title:    fmt.Sprintf("From %s to %s", first, last),
			Text:     movedText(len(c.Moved), len(c.Rows)),
			Protocol: fmt.Sprintf("the %d nearest by cosine among the rows compared, each without itself, exact", len(c.Moved[0].Before)),
			Line:     line,
		}
		if grid.Queries, err = movedQueries(ctx, banks[0], banks[1], c.Moved, r.pictures); err != nil {
			return err
		}
		s.Grids = append(s.Grids, grid)
		return nil
	})
	if err != nil {
		return err
	}
	r.section(s)
	return nil
}

// otherCheckpoint is the place of the bank to compare that in focus with, −1 for none.
func (r *reporting) otherCheckpoint() int {
	other := -1
	for i, p := range r.pairs {
		switch {
		case p.train == r.pairs[r.focus].train:
		case runOf(p.train) == runOf(r.pairs[r.focus].train):
			return i
		case other < 0:
			other = i
		}
	}
	return other
}

// compareLine is the command that compares two banks.
func compareLine(first, last string, seed uint64) string {
	words := []string{"membank", "compare", first, last}
	if seed != 0 {
		words = append(words, "--seed", strconv.FormatUint(seed, 10))
	}
	return commandLine(words)
}

// agreementTable is how far the two spaces agree as a whole.
func agreementTable(c *eval.Comparison, first, last, line string) reportTable {
	t := reportTable{Caption: fmt.Sprintf("How alike %s and %s see the same rows.", first, last), Columns: []string{"figure", "value", "reading"}, Line: line}
	for _, f := range c.Figures {
		if v, is := f.Value.(float64); is && f.Name != "seconds" {
			t.Rows = append(t.Rows, []string{f.Name, strconv.FormatFloat(v, 'g', 4, 64), f.Reading})
		}
	}
	return t
}
