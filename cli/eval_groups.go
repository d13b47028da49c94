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

func evalGroupsCommand() *ucli.Command {
	return &ucli.Command{
		Name: "groups", Usage: "whom do the embeddings serve worse? P@K by group", ArgsUsage: "",
		Description: "Every query of --queries asks --gallery, and a neighbour hits if it shares the query's\n" +
			"value of --match: the fairness protocol of Goyal et al. 2022, as reported for SEER.\n" +
			"Figures are by group of queries, with Wilson's 95 % intervals, and as gaps and ratios\n" +
			"between groups; of groups with few queries there are none.\n\n" +
			"  membank eval groups --gallery utkfaces --queries conversations --match gender \\\n" +
			"      --by gender,age,skin,gender+skin --bins age=18,30,45,70\n" +
			"  membank eval groups --gallery train --queries test --by country,income\n" +
			"  membank eval groups --gallery train --leave-one-out --by label --min-score 0.5",
		Flags: []ucli.Flag{
			&ucli.StringFlag{Name: "gallery", Usage: "the `BANK` that is searched"},
			&ucli.StringFlag{Name: "queries", Usage: "the `BANK` whose rows ask"},
			&ucli.BoolFlag{Name: "leave-one-out", Usage: "every row of --gallery asks the others"},
			&ucli.StringFlag{Name: "match", Usage: "the `ATTRIBUTE` of both banks that a hit shares, or label", Value: "label", DefaultText: "label"},
			&ucli.StringFlag{Name: "by", Usage: "group queries by `ATTRIBUTE,ATTRIBUTE+ATTRIBUTE,…`; + crosses; label is one, too", DefaultText: "--match"},
			&ucli.StringSliceFlag{Name: "bins", Usage: "cut a column of numbers: `ATTRIBUTE=18,30,45`; may be given several times"},
			&ucli.StringFlag{Name: "k", Usage: "numbers of neighbours, `K,K,…`", DefaultText: "1,5,10,50"},
			&ucli.StringFlag{Name: "min-n", Usage: "groups of fewer than `N` queries have no figures", Value: "30", DefaultText: "30"},
			&ucli.StringFlag{Name: "min-score", Usage: "leave out neighbours below this similarity `S`, and tell the coverage"},
			&ucli.StringFlag{Name: "metric", Usage: "`METRIC`: cosine, dot or l2", Value: "cosine", DefaultText: "cosine"},
			noCodesFlag(),
		},
		Action: action(nil, runEvalGroups),
	}
}

func runEvalGroups(ctx context.Context, s *session, c *ucli.Context, _ []string) error {
	gallery, queries, alone := c.String("gallery"), c.String("queries"), c.Bool("leave-one-out")
	switch {
	case gallery == "":
		return usage("%s: which bank is searched? (give --gallery BANK)", s.name)
	case queries == "" && !alone:
		return usage("%s: which bank asks? (give --queries BANK, or --leave-one-out for --gallery itself)", s.name)
	case queries == "":
		queries = gallery
	}
	e, err := groupsFlags(c)
	if err != nil {
		return err
	}
	return s.reading(ctx, func(db *store.DB) error {
		sets, err := transforms{}.open(ctx, s, db, queries, gallery)
		if err != nil {
			return err
		}
		defer sets.close()
		progress := s.newBar("eval groups", "queries", sets.of[0].Rows())
		return printEvaluation(s, c, progress, printGroups, func(o eval.RunOptions) (*eval.GroupsResult, error) {
			return e.Evaluate(ctx, sets.of[0], sets.of[1], o)
		})
	})
}

func groupsFlags(c *ucli.Context) (e eval.Groups, err error) {
	e = eval.Groups{Match: c.String("match"), LeaveOneOut: c.Bool("leave-one-out"), Metric: eval.Metric(c.String("metric")), Bins: map[string]eval.Bins{}}
	if e.K, err = neighbourCounts(c); err != nil {
		return e, err
	}
	if e.Floor, err = strconv.Atoi(c.String("min-n")); err != nil || e.Floor < 1 {
		return e, usage("--min-n %s: not a number of queries (write 1 or more)", c.String("min-n"))
	}
	if text := c.String("min-score"); text != "" {
		v, err := strconv.ParseFloat(text, 32)
		if err != nil || v != v {
			return e, usage("--min-score %s: not a similarity (write a number such as 0.5)", text)
		}
		e.MinScore, e.HasMinScore = float32(v), true
	}
	if text := c.String("by"); text != "" {
		for part := range strings.SplitSeq(text, ",") {
			var names []string
			for name := range strings.SplitSeq(part, "+") {
				if name = strings.TrimSpace(name); name == "" {
					return e, usage("--by %s: an attribute's name is empty (write gender,gender+skin)", text)
				}
				names = append(names, name)
			}
			e.By = append(e.By, names)
		}
	}
	for _, text := range c.StringSlice("bins") {
		name, edges, _ := strings.Cut(text, "=")
		for edge := range strings.SplitSeq(edges, ",") {
			v, err := strconv.ParseFloat(strings.TrimSpace(edge), 64)
			if err != nil || name == "" {
				return e, usage("--bins %s: not edges of an attribute (write age=18,30,45)", text)
			}
			e.Bins[name] = append(e.Bins[name], v)
		}
	}
	return e, nil
}

// printGroups sets a line for each group, shares in per cent with their intervals.
func printGroups(w io.Writer, r *eval.GroupsResult) {
	columns := []column{left("by"), left("group"), number("n")}
	for _, f := range r.Results[0][3:] {
		if isShare(f.Name) {
			columns = append(columns, number(f.Name+" %"))
		}
	}
	var rows [][]string
	for _, figures := range r.Results {
		n, _ := figures.Lookup("n")
		row := []string{figureOf(figures, "by"), figureOf(figures, "group"), count(int64(n))}
		for _, f := range figures[3:] {
			if !isShare(f.Name) {
				continue
			}
			p, ok := figures.Lookup(f.Name)
			if !ok {
				row = append(row, "-")
				continue
			}
			low, _ := figures.Lookup(f.Name + "_low")
			high, _ := figures.Lookup(f.Name + "_high")
			row = append(row, fmt.Sprintf("%s [%s, %s]", percent(p), percent(low), percent(high)))
		}
		rows = append(rows, row)
	}
	printTable(w, columns, rows)
	fmt.Fprintln(w)
	rows = nil
	for _, gap := range r.Gaps {
		k, _ := gap.Lookup("k")
		row := []string{figureOf(gap, "by"), strconv.Itoa(int(k))}
		for _, kind := range []string{"P", "hit"} {
			width, ok := gap.Lookup(kind + "_gap")
			if !ok {
				row = append(row, "-", "-", "-")
				continue
			}
			ratio, has := gap.Lookup(kind + "_ratio")
			text := "-"
			if has {
				text = fmt.Sprintf("%.3f", ratio)
			}
			row = append(row, percent(width), text, figureOf(gap, kind+"_lowest")+" < "+figureOf(gap, kind+"_highest"))
		}
		rows = append(rows, row)
	}
	printTable(w, []column{left("by"), number("k"), number("P gap %"), number("ratio"), left("between"), number("hit gap %"), number("ratio"), left("between")}, rows)
	fmt.Fprintf(w, "%s: %s; %s of %s on %s of %s, dim %d; intervals are Wilson's, 95 %% (%s)\n", r.Protocol, r.Metric,
		pluralQueries(r.Asked), r.QuerySet.Bank, plural(r.Ranked, "row"), r.Gallery.Bank, r.Dim, seconds(r.Seconds))
	for _, note := range r.Notes {
		fmt.Fprintln(w, "note: "+note)
	}
}

func isShare(name string) bool {
	return strings.Contains(name, "@") && !strings.HasSuffix(name, "_low") && !strings.HasSuffix(name, "_high")
}
