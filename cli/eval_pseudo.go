package cli

import (
	"context"
	"encoding/csv"
	"fmt"
	"io"
	"math"
	"strconv"

	"membank/bench/eval"
	"membank/store"

	ucli "github.com/urfave/cli/v2"
)

func evalPseudoCommand() *ucli.Command {
	return &ucli.Command{
		Name: "pseudo-labels", Usage: "label rows by their neighbours, for self-training", ArgsUsage: "",
		Description: "Every row of --test gets the class that its nearest labelled rows of --train vote for,\n" +
			"the share of the votes that it has (confidence), its lead over the second class (margin)\n" +
			"and the share of the neighbours that have it (agreement). What reaches all thresholds is\n" +
			"accepted. Where rows have labels, the curve tells how right more coverage is.\n\n" +
			"  membank eval pseudo-labels --train labelled --test unlabelled -o pseudo.csv\n" +
			"  membank eval pseudo-labels --train labelled --test unlabelled --min-confidence 0.8 --write\n" +
			"  membank eval pseudo-labels --train train --leave-one-out -k 50\n\n" +
			"--write keeps accepted labels with the rows of --test, as attributes pseudo_label,\n" +
			"pseudo_class, pseudo_confidence, pseudo_margin and pseudo_agreement.",
		Flags: []ucli.Flag{
			&ucli.StringFlag{Name: "train", Usage: "the `BANK` whose labelled rows vote"},
			&ucli.StringFlag{Name: "test", Usage: "the `BANK` whose rows get labels"},
			&ucli.BoolFlag{Name: "leave-one-out", Usage: "label the rows of --train by the others"},
			protocolFlag("dino"),
			&ucli.StringFlag{Name: "k", Usage: "`K` neighbours, or all", DefaultText: "20, or the preset's only one"},
			temperatureFlag(), metricFlag(),
			&ucli.StringFlag{Name: "min-confidence", Usage: "accept from this `SHARE` of the votes on", Value: "0", DefaultText: "0"},
			&ucli.StringFlag{Name: "min-margin", Usage: "accept from this lead, a `SHARE` of the votes, on", Value: "0", DefaultText: "0"},
			&ucli.StringFlag{Name: "min-agreement", Usage: "accept from this `SHARE` of the neighbours on", Value: "0", DefaultText: "0"},
			&ucli.BoolFlag{Name: "write", Usage: "keep what is accepted as attributes of the rows"},
			&ucli.StringFlag{Name: "attribute", Usage: "begin the names of these attributes with `NAME`", Value: "pseudo", DefaultText: "pseudo"},
			noCodesFlag(),
			outputFlag("write every row to `FILE`.csv"),
		},
		Action: action(nil, runEvalPseudo),
	}
}

// pseudoReport is the result with where it went.
type pseudoReport struct {
	*eval.PseudoResult
	Written    bool     `json:"written"`
	Attributes []string `json:"attributes,omitempty"`
	File       string   `json:"file,omitempty"`
}

func runEvalPseudo(ctx context.Context, s *session, c *ucli.Context, _ []string) error {
	if c.String("protocol") == "help" {
		return s.emit(eval.Protocols(), printProtocols)
	}
	e, err := pseudoFlags(c)
	if err != nil {
		return err
	}
	train, test := c.String("train"), c.String("test")
	switch {
	case train == "":
		return usage("%s: which bank votes? (give --train BANK)", s.name)
	case test == "" && !e.LeaveOneOut:
		return usage("%s: which bank gets labels? (give --test BANK, or --leave-one-out for --train itself)", s.name)
	case test == "":
		test = train
	}
	work := func(db *store.DB) error {
		report, err := pseudoLabels(ctx, s, c, db, e, train, test)
		if err != nil {
			return err
		}
		return s.emit(report, func(w io.Writer) { printPseudo(w, report) })
	}
	if c.Bool("write") {
		return s.writing(ctx, false, work)
	}
	return s.reading(ctx, work)
}

func pseudoFlags(c *ucli.Context) (e eval.PseudoLabels, err error) {
	if e.KNN, err = knnFlags(c); err != nil {
		return e, err
	}
	if len(e.K) > 1 {
		return e, usage("-k %s: pseudo-labels take one number of neighbours", c.String("k"))
	}
	for _, t := range []struct {
		name string
		to   *float64
	}{{"min-confidence", &e.MinConfidence}, {"min-margin", &e.MinMargin}, {"min-agreement", &e.MinAgreement}} {
		if *t.to, err = strconv.ParseFloat(c.String(t.name), 64); err != nil || math.IsNaN(*t.to) || *t.to < 0 || *t.to > 1 {
			return e, usage("--%s %s: not a share (write a number from 0 to 1)", t.name, c.String(t.name))
		}
	}
	return e, nil
}

func pseudoLabels(ctx context.Context, s *session, c *ucli.Context, db *store.DB, e eval.PseudoLabels, train, test string) (*pseudoReport, error) {
	sets, err := transforms{}.open(ctx, s, db, train, test)
	if err != nil {
		return nil, err
	}
	defer sets.close()
	snap := sets.snapshots[len(sets.snapshots)-1]
	report := &pseudoReport{File: c.String("output")}
	var table *pseudoTable
	if report.File != "" {
		if table, err = newPseudoTable(ctx, report.File, sets.of[1]); err != nil {
			return nil, err
		}
		defer table.file.discard()
	}
	var kept *pseudoAttributes
	if c.Bool("write") {
		kept = newPseudoAttributes(c.String("attribute"), snap.Info().Next)
	}
	e.Each = func(l eval.PseudoLabel) {
		if table != nil {
			table.write(l)
		}
		if kept != nil && l.Accepted {
			kept.set(l)
		}
	}
	progress := s.newBar("pseudo-labels", "rows", sets.of[1].Rows())
	defer progress.close()
	o := s.runOptions(progress)
	o.NoCodes = c.Bool("no-codes")
	if report.PseudoResult, err = e.Evaluate(ctx, sets.of[0], sets.of[1], o); err != nil {
		return nil, err
	}
	progress.close()
	if table != nil {
		if err := table.keep(); err != nil {
			return nil, err
		}
	}
	if kept == nil {
		return report, nil
	}
	if _, err := db.SetAttributes(ctx, test, kept.list); err != nil {
		return nil, err
	}
	report.Written = true
	for _, a := range kept.list {
		report.Attributes = append(report.Attributes, a.Name)
	}
	return report, nil
}

// pseudoAttributes are what --write keeps, by row number.
type pseudoAttributes struct{ list []store.Attribute }

func newPseudoAttributes(prefix string, rows int64) *pseudoAttributes {
	p := &pseudoAttributes{}
	for _, name := range []string{"label", "class", "confidence", "margin", "agreement"} {
		p.list = append(p.list, store.Attribute{Name: prefix + "_" + name, Values: make([]store.Value, rows)})
	}
	return p
}

func (p *pseudoAttributes) set(l eval.PseudoLabel) {
	p.list[0].Values[l.Row] = store.Int(l.Class)
	if l.Name != "" {
		p.list[1].Values[l.Row] = store.Text(l.Name)
	}
	p.list[2].Values[l.Row] = store.Float(l.Confidence)
	p.list[3].Values[l.Row] = store.Float(l.Margin)
	p.list[4].Values[l.Row] = store.Float(l.Agreement)
}

// pseudoTable is a CSV of one line a row.
type pseudoTable struct {
	file *newFile
	out  *csv.Writer
	keys []string
}

func newPseudoTable(ctx context.Context, path string, rows *eval.Set) (*pseudoTable, error) {
	keys, err := rows.Keys(ctx)
	if err != nil {
		return nil, err
	}
	file, err := createFile(path)
	if err != nil {
		return nil, err
	}
	t := &pseudoTable{file, csv.NewWriter(file), keys}
	t.out.Write([]string{"row", "key", "label", "pseudo_label", "pseudo_class", "confidence", "margin", "agreement", "accepted"})
	return t, nil
}

func (t *pseudoTable) write(l eval.PseudoLabel) {
	number := func(v float64) string { return strconv.FormatFloat(v, 'g', -1, 64) }
	label := func(l int64) string {
		if l == store.NoLabel {
			return ""
		}
		return strconv.FormatInt(l, 10)
	}
	t.out.Write([]string{strconv.FormatInt(l.Row, 10), t.keys[l.Row], label(l.Label), label(l.Class), l.Name,
		number(l.Confidence), number(l.Margin), number(l.Agreement), strconv.FormatBool(l.Accepted)})
}

func (t *pseudoTable) keep() error {
	t.out.Flush()
	if err := t.out.Error(); err != nil {
		return err
	}
	return t.file.keep()
}

func printPseudo(w io.Writer, r *pseudoReport) {
	precision := func(p *float64) string {
		if p == nil {
			return "-"
		}
		return percent(*p)
	}
	var rows [][]string
	for i, at := range r.Results {
		if i > 0 && at.Accepted == r.Results[i-1].Accepted && i < len(r.Results)-1 {
			continue // nothing lies between
		}
		rows = append(rows, []string{strconv.FormatFloat(at.MinConfidence, 'f', 2, 64), count(at.Accepted), percent(at.Coverage), count(at.Labelled), precision(at.Precision)})
	}
	printTable(w, []column{number("confidence"), number("rows"), number("coverage %"), number("with a label"), number("precision %")}, rows)
	fmt.Fprintf(w, "accepted: %s of %s, coverage %s %%, precision %s %% (confidence %g, margin %g, agreement %g at least)\n",
		count(r.Accepted), plural(r.Rows, "row"), percent(r.Coverage), precision(r.Precision), r.MinConfidence, r.MinMargin, r.MinAgreement)
	fmt.Fprintf(w, "%s: %s, vote %s, k=%d; %s by %s, %d classes; exact (%s)\n", r.Protocol, r.Rules.Metric, voteText(r.Rules), r.K, r.Test.Bank, r.Train.Bank, r.Classes, seconds(r.Seconds))
	if r.File != "" {
		fmt.Fprintf(w, "%s: %s\n", r.File, plural(r.Rows, "row"))
	}
	if r.Written {
		fmt.Fprintf(w, "%s: %s kept as attributes %s, …\n", r.Test.Bank, plural(r.Accepted, "label"), r.Attributes[0])
	}
	for _, note := range r.Notes {
		fmt.Fprintln(w, "note: "+note)
	}
}
