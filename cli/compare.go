package cli

import (
	"context"
	"encoding/csv"
	"fmt"
	"io"
	"path/filepath"
	"strconv"
	"strings"

	"membank/bench/eval"
	"membank/index"
	"membank/store"

	ucli "github.com/urfave/cli/v2"
)

func compareCommand() *ucli.Command {
	return &ucli.Command{
		Name: "compare", Usage: "say how alike banks see the same rows, and which rows moved", ArgsUsage: "BANK BANK2…",
		Description: "Rows are matched by key. Every pair of banks is compared as a whole (CKA,\n" +
			"Procrustes) and row by row (neighbours in common); the rows named are those whose\n" +
			"neighbours changed most between the first bank and the last.\n\n" +
			"  membank compare run/e10 run/e20\n" +
			"  membank compare run/e10 run/e50 run/e100 --json\n" +
			"  membank compare run/e10 run/e100 -o moved.html --images photos",
		Flags: []ucli.Flag{
			&ucli.StringFlag{Name: "k", Usage: "`K` neighbours of each row", Value: "10", DefaultText: "10"},
			&ucli.StringFlag{Name: "rows", Usage: "compare `N` rows", DefaultText: "32768"},
			&ucli.StringFlag{Name: "moved", Usage: "name the `N` rows that moved most", Value: "20", DefaultText: "20"},
			seedFlag(),
			outputFlag("write the rows to `FILE`: .csv (all that were compared) or .html (those that moved)"),
			&ucli.StringFlag{Name: "images", Usage: "`DIR` where keys are paths of images, for .html"},
			noCodesFlag(),
			cardFlag(),
		},
		Action: action([]string{"BANK", "BANK2…"}, runCompare),
	}
}

func runCompare(ctx context.Context, s *session, c *ucli.Context, args []string) error {
	var e eval.Compare
	var err error
	for name, to := range map[string]*int{"k": &e.K, "rows": &e.Rows, "moved": &e.Moved} {
		if *to, err = countFlag(c, name); err != nil {
			return err
		}
	}
	if e.Seed, err = seedOf(c, 63); err != nil {
		return err
	}
	path := c.String("output")
	ext := strings.ToLower(filepath.Ext(path))
	switch {
	case path != "" && ext != ".csv" && ext != ".html":
		return usage("-o %s: unknown kind of file (.csv or .html)", path)
	case c.String("images") != "" && ext != ".html":
		return usage("%s: --images is for -o FILE.html", s.name)
	}
	return s.reading(ctx, func(db *store.DB) error {
		return snapshots(db, args, func(banks []*store.Snapshot) error {
			if err := s.uses(ctx, banks...); err != nil {
				return err
			}
			progress := s.newBar("compare", "rows", -1)
			defer progress.close()
			r, err := e.Run(ctx, banks, eval.RunOptions{
				Threads: s.threads, Memory: s.memory / 2, NoCodes: c.Bool("no-codes"),
				Progress: func(done, _ int64) { progress.set(done) },
			})
			progress.close()
			if err != nil {
				return err
			}
			switch ext {
			case ".csv":
				err = writeChanges(path, banks, r)
			case ".html":
				err = writeMovedPage(ctx, path, c.String("images"), banks, r)
			}
			if err != nil {
				return err
			}
			return s.emit(r, func(w io.Writer) { printComparison(w, r, banks, path) })
		})
	})
}

// snapshots pins several banks for the time of the work.
func snapshots(db *store.DB, names []string, work func([]*store.Snapshot) error) error {
	var banks []*store.Snapshot
	defer func() {
		for _, b := range banks {
			b.Close()
		}
	}()
	for _, name := range names {
		b, err := db.Snapshot(name)
		if err != nil {
			return bankError(db, name, err)
		}
		banks = append(banks, b)
	}
	return work(banks)
}

func printComparison(w io.Writer, r *eval.Comparison, banks []*store.Snapshot, path string) {
	printNamed(w, r.Figures)
	for _, f := range r.Figures {
		classes, ok := f.Value.([]eval.ClassChange)
		if !ok {
			continue
		}
		_, pair, _ := strings.Cut(f.Name, ":")
		fmt.Fprintf(w, "\nneighbours in common, class by class%s\n", strings.TrimSuffix(" in "+pair, " in "))
		rows := make([][]string, len(classes))
		for i, c := range classes {
			rows[i] = []string{strconv.FormatInt(c.Label, 10), c.Name, count(c.Rows), percent(c.Overlap), percent(c.Jaccard)}
		}
		printTable(w, []column{number("label"), left("class"), number("rows"), number("overlap %"), number("Jaccard %")}, rows)
	}
	if len(r.Moved) > 0 {
		fmt.Fprintf(w, "\nneighbours changed most from %s to %s\n", banks[0].Bank(), banks[len(banks)-1].Bank())
		rows := make([][]string, len(r.Moved))
		for i, m := range r.Moved {
			rows[i] = []string{strconv.FormatInt(m.Row, 10), m.Key, labelText(labelOf(m.Label), className(banks[0].Info().ClassNames, m.Label)),
				percent(m.Overlap), strconv.FormatFloat(m.RankCorrelation, 'f', 3, 64)}
		}
		printTable(w, []column{number("row"), left("key"), left("label"), number("overlap %"), number("rank correlation")}, rows)
	}
	if path != "" {
		fmt.Fprintf(w, "\n%s written\n", path)
	}
}

// writeChanges is a line for every row that was compared.
func writeChanges(path string, banks []*store.Snapshot, r *eval.Comparison) error {
	file, err := createFile(path)
	if err != nil {
		return err
	}
	defer file.discard()
	out := csv.NewWriter(file)
	out.Write([]string{"row", "key", "label", "class", "overlap", "rank_correlation"})
	names := banks[0].Info().ClassNames
	for _, m := range r.Rows {
		out.Write([]string{strconv.FormatInt(m.Row, 10), m.Key, labelField(m.Label), className(names, m.Label),
			strconv.FormatFloat(m.Overlap, 'g', -1, 64), strconv.FormatFloat(m.RankCorrelation, 'g', -1, 64)})
	}
	out.Flush()
	if err := out.Error(); err != nil {
		return err
	}
	return file.keep()
}

// labelField is a label in a .csv: empty where there is none.
func labelField(label int64) string {
	if label == store.NoLabel {
		return ""
	}
	return strconv.FormatInt(label, 10)
}

// writeMovedPage shows the rows that moved with their neighbours in both banks.
func writeMovedPage(ctx context.Context, path, images string, banks []*store.Snapshot, r *eval.Comparison) error {
	pictures, err := openPictures(images)
	if err != nil {
		return err
	}
	defer pictures.close()
	file, err := createFile(path)
	if err != nil {
		return err
	}
	defer file.discard()
	first, last := banks[0], banks[len(banks)-1]
	p := page{
		Title:  "Rows that moved from " + first.Bank() + " to " + last.Bank(),
		Intro:  movedText(len(r.Moved), len(r.Rows)),
		Footer: "Written by membank " + version() + ".",
	}
	if p.Queries, err = movedQueries(ctx, first, last, r.Moved[:min(len(r.Moved), pageQueries)], pictures); err != nil {
		return err
	}
	if err := p.render(file); err != nil {
		return err
	}
	return file.keep()
}

// movedText says which rows are shown.
func movedText(moved, compared int) string {
	return fmt.Sprintf("The %s whose nearest neighbours by cosine changed most, of %s that both banks hold under the same key. Worst first.", plural(moved, "row"), plural(compared, "row"))
}

// movedQueries are rows that moved, with their neighbours in both banks.
func movedQueries(ctx context.Context, first, last *store.Snapshot, moved []eval.RowChange, pictures *pictures) (list []pageQuery, err error) {
	for _, m := range moved {
		q := pageQuery{
			Key: keyText(m.Key, m.Row), Picture: pictures.of(m.Key), Class: classText(labelOf(m.Label), className(first.Info().ClassNames, m.Label)),
			Note: percent(m.Overlap) + " % in common",
		}
		for i, bank := range []*store.Snapshot{first, last} {
			answer, err := pageNeighbourhood(ctx, bank, labelOf(m.Label), [][]index.Hit{m.Before, m.After}[i], pictures)
			if err != nil {
				return nil, err
			}
			q.Answers = append(q.Answers, answer)
		}
		list = append(list, q)
	}
	return list, nil
}

// pageNeighbourhood looks the neighbours of a row up.
func pageNeighbourhood(ctx context.Context, bank *store.Snapshot, label *int64, hits []index.Hit, pictures *pictures) (pageAnswer, error) {
	rows := make([]int64, len(hits))
	for i, h := range hits {
		rows[i] = h.Row
	}
	found, err := bank.Rows(ctx, rows, store.Want{})
	if err != nil {
		return pageAnswer{}, err
	}
	a := pageAnswer{Name: bank.Bank()}
	names := bank.Info().ClassNames
	for i, r := range found {
		of := labelOf(r.Label)
		a.Hits = append(a.Hits, pageHit{
			Picture: pictures.of(r.Key), Key: keyText(r.Key, r.Row), Class: classText(of, className(names, r.Label)),
			Score: scoreText(hits[i].Score), Verdict: verdict(label, of),
		})
	}
	a.judge()
	return a, nil
}
