package cli

import (
	"context"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"

	"membank/bench/eval"
	"membank/store"

	ucli "github.com/urfave/cli/v2"
)

func evalCommand() *ucli.Command {
	return &ucli.Command{
		Name: "eval", Usage: "score a bank",
		Subcommands: []*ucli.Command{
			evalKNNCommand(),
			evalRetrievalCommand(),
		},
	}
}

func evalKNNCommand() *ucli.Command {
	return &ucli.Command{
		Name: "knn", Usage: "kNN accuracy under the protocol of a paper", ArgsUsage: "",
		Description: "Every labelled row of --test is classified by its nearest rows of --train. One\n" +
			"search serves all k. What the protocol fixes is printed under the table and\n" +
			"recorded in the JSON; what departs from it is part of its name.\n\n" +
			"  membank eval knn --train train --test test\n" +
			"  membank eval knn --train train --test test --protocol lightly -k 20,200\n" +
			"  membank eval knn --train train --leave-one-out --per-class\n" +
			"  membank eval knn --protocol help",
		Flags: []ucli.Flag{
			&ucli.StringFlag{Name: "train", Usage: "the `BANK` whose rows vote"},
			&ucli.StringFlag{Name: "test", Usage: "the `BANK` whose rows are classified"},
			&ucli.StringFlag{Name: "protocol", Usage: "a preset's `NAME`; help lists them", Value: "dino", DefaultText: "dino"},
			&ucli.StringFlag{Name: "k", Usage: "numbers of neighbours, `K,K,…`, or all", DefaultText: "the preset's"},
			&ucli.StringFlag{Name: "T", Usage: "temperature `T` of the votes", DefaultText: "the preset's"},
			&ucli.StringFlag{Name: "metric", Usage: "`METRIC`: cosine, dot or l2", DefaultText: "the preset's"},
			&ucli.BoolFlag{Name: "leave-one-out", Usage: "classify the rows of --train by the others"},
			&ucli.BoolFlag{Name: "per-class", Usage: "the accuracy of each class, too"},
			&ucli.BoolFlag{Name: "exact", Usage: "compare every row (so it is without this flag, too)"},
			&ucli.StringFlag{Name: "nprobe", Usage: "read `N` lists of an IVF index"},
			noCodesFlag(),
		},
		Action: action(nil, runEvalKNN),
	}
}

func runEvalKNN(ctx context.Context, s *session, c *ucli.Context, _ []string) error {
	if c.String("protocol") == "help" {
		return s.emit(eval.Protocols(), printProtocols)
	}
	if err := probeFlags(c); err != nil {
		return err
	}
	e, err := knnFlags(c)
	if err != nil {
		return err
	}
	train, test := c.String("train"), c.String("test")
	switch {
	case train == "":
		return usage("%s: which bank votes? (give --train BANK)", s.name)
	case test == "" && !e.LeaveOneOut:
		return usage("%s: which bank is classified? (give --test BANK, or --leave-one-out for --train itself)", s.name)
	case test == "":
		test = train
	}
	return s.reading(ctx, func(db *store.DB) error {
		return snapshot(db, train, func(gallery *store.Snapshot) error {
			return snapshot(db, test, func(queries *store.Snapshot) error {
				if probed(c) && gallery.Info().Lists <= 1 && !s.json {
					s.remark("bank %s has no IVF index: the search compares every row (recall 1)", train)
				}
				progress := s.newBar("eval knn", "queries", queries.Info().Rows)
				defer progress.close()
				result, err := e.Evaluate(ctx, gallery, queries, eval.RunOptions{
					Threads: s.threads, Memory: s.memory / 2, NoCodes: c.Bool("no-codes"),
					Progress: func(done, _ int64) { progress.set(done) },
				})
				progress.close()
				if err != nil {
					return err
				}
				return s.emit(result, func(w io.Writer) { printKNN(w, result) })
			})
		})
	})
}

func knnFlags(c *ucli.Context) (e eval.KNN, err error) {
	e = eval.KNN{Preset: c.String("protocol"), LeaveOneOut: c.Bool("leave-one-out"), PerClass: c.Bool("per-class"), Metric: eval.Metric(c.String("metric"))}
	if list := c.String("k"); list != "" {
		for _, field := range strings.Split(list, ",") {
			k, err := strconv.Atoi(strings.TrimSpace(field))
			if strings.TrimSpace(field) == "all" {
				k, err = eval.All, nil
			}
			if err != nil || k < 1 {
				return e, usage("-k %s: %q is not a number of neighbours (write 10,20,100,200)", list, field)
			}
			e.K = append(e.K, k)
		}
	}
	if text := c.String("T"); text != "" {
		if e.T, err = strconv.ParseFloat(text, 64); err != nil || !(e.T > 0) || math.IsInf(e.T, 0) {
			return e, usage("-T %s: not a temperature (write a number above 0, such as 0.07)", text)
		}
	}
	_, err = e.Protocol()
	return e, err
}

func printProtocols(w io.Writer) {
	rows := [][]string{}
	for _, p := range eval.Protocols() {
		rows = append(rows, []string{p.Preset, ksText(p.K), string(p.Metric), voteText(p), p.About})
	}
	printTable(w, []column{left("protocol"), left("k"), left("metric"), left("vote"), left("")}, rows)
}

func ksText(ks []int) string {
	list := make([]string, len(ks))
	for i, k := range ks {
		if list[i] = strconv.Itoa(k); k == eval.All {
			list[i] = "all"
		}
	}
	return strings.Join(list, ",")
}

// voteText is what a neighbour's vote weighs.
func voteText(p eval.Protocol) string {
	switch p.Weight {
	case eval.Exp:
		return fmt.Sprintf("exp(s/%g)", p.T)
	case eval.Inverse:
		if p.Offset == 0 {
			return "1/d"
		}
		return fmt.Sprintf("1/(d+%g)", p.Offset)
	}
	return "1"
}

func printKNN(w io.Writer, r *eval.KNNResult) {
	rows := make([][]string, len(r.Results))
	for i, at := range r.Results {
		k := strconv.Itoa(at.K)
		if at.EffectiveK != at.K {
			k += fmt.Sprintf(" (%d)", at.EffectiveK)
		}
		rows[i] = []string{k, percent(at.Top1), percent(at.Top5), percent(at.Top5Voted), percent(at.MeanPerClass), fmt.Sprintf("%d/%d", at.Correct1, r.TestRows)}
	}
	printTable(w, []column{number("k"), number("top-1 %"), number("top-5 %"), number("top-5 voted %"), number("per class %"), number("correct")}, rows)
	fmt.Fprintln(w, protocolLine(r))
	for _, note := range r.Notes {
		fmt.Fprintln(w, "note: "+note)
	}
	for _, at := range r.Results {
		if at.PerClass == nil {
			continue
		}
		fmt.Fprintf(w, "\nk=%d, class by class\n", at.K)
		rows := make([][]string, len(at.PerClass))
		for i, class := range at.PerClass {
			name := class.Name
			if class.Unseen {
				name = strings.TrimSpace(name + " (not in train)")
			}
			rows[i] = []string{strconv.FormatInt(class.Label, 10), name, count(class.Queries), percent(class.Top1), percent(class.Top5)}
		}
		printTable(w, []column{number("label"), left("class"), number("rows"), number("top-1 %"), number("top-5 %")}, rows)
	}
}

// protocolLine is all that the numbers above it depend on.
func protocolLine(r *eval.KNNResult) string {
	p := r.Rules
	rows := "raw rows"
	if p.Normalise {
		rows = "L2-normalised rows"
	}
	line := fmt.Sprintf("%s: %s, %s, vote %s; %s (%s) on %s (%s), %d classes, dim %d",
		r.Protocol, p.Metric, rows, voteText(p), r.Test.Bank, plural(r.TestRows, "row"), r.Train.Bank, plural(r.TrainRows, "row"), r.Classes, r.Dim)
	if r.SelfExcluded {
		line += ", self excluded"
	}
	if r.Exact {
		line += "; exact"
	} else {
		line += fmt.Sprintf("; recall %.4f", r.Recall)
	}
	return line + fmt.Sprintf(" (%s)", seconds(r.Seconds))
}
