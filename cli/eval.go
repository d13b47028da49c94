package cli

import (
	"context"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"

	"membank/bench/eval"
	"membank/index"
	"membank/store"

	ucli "github.com/urfave/cli/v2"
)

func evalCommand() *ucli.Command {
	return &ucli.Command{
		Name: "eval", Usage: "score a bank",
		Subcommands: withCards(
			evalKNNCommand(),
			evalFewShotCommand(),
			evalPseudoCommand(),
			evalRetrievalCommand(),
			evalClustersCommand(),
			evalGroupsCommand(),
			evalRobustnessCommand(),
			evalTransferCommand(),
		),
	}
}

func evalKNNCommand() *ucli.Command {
	return &ucli.Command{
		Name: "knn", Usage: "kNN accuracy under the protocol of a paper", ArgsUsage: "",
		Description: "Every labelled row of --test is classified by its nearest rows of --train. One\n" +
			"search serves all k. What the protocol fixes is printed under the table and\n" +
			"recorded in the JSON; what departs from it is part of its name. Several checkpoints, as\n" +
			"a list or a pattern, give a curve over the epochs in their names.\n\n" +
			"  membank eval knn --train train --test test\n" +
			"  membank eval knn --train train --test test --protocol lightly -k 20,200\n" +
			"  membank eval knn --train train --leave-one-out --per-class\n" +
			"  membank eval knn --train 'simclr/*/train' --test 'simclr/*/test' -o curve.svg\n" +
			"  membank eval knn --dino dump/    (what DINO's eval_knn.py --dump_features left)\n" +
			"  membank eval knn --protocol help",
		Flags: []ucli.Flag{
			&ucli.StringFlag{Name: "train", Usage: "the `BANK` whose rows vote; or several, BANK,BANK, or 'PATTERN'"},
			&ucli.StringFlag{Name: "test", Usage: "the `BANK` whose rows are classified; one for each of --train, or one for all"},
			&ucli.StringFlag{Name: "dino", Usage: "the `DIR` of DINO's trainfeat.pth, testfeat.pth, trainlabels.pth and testlabels.pth, instead of banks"},
			protocolFlag("dino"), kFlag(), temperatureFlag(), metricFlag(),
			&ucli.BoolFlag{Name: "leave-one-out", Usage: "classify the rows of --train by the others"},
			&ucli.BoolFlag{Name: "per-class", Usage: "the accuracy of each class, too"},
			&ucli.BoolFlag{Name: "exact", Usage: "compare every row (so it is without this flag, too)"},
			&ucli.StringFlag{Name: "nprobe", Usage: "read `N` lists of an IVF index"},
			&ucli.StringFlag{Name: "recall", Usage: "read enough lists for this recall `R`, 0..1"},
			noCodesFlag(),
			outputFlag("write top-1 over the epochs to `FILE`: .csv, .svg or .png"),
		},
		Action: action(nil, runEvalKNN),
	}
}

// The flags of every evaluator that votes.
func protocolFlag(preset string) ucli.Flag {
	return &ucli.StringFlag{Name: "protocol", Usage: "a preset's `NAME`; help lists them", Value: preset, DefaultText: preset}
}

func kFlag() ucli.Flag {
	return &ucli.StringFlag{Name: "k", Usage: "numbers of neighbours, `K,K,…`, or all", DefaultText: "the preset's"}
}

func temperatureFlag() ucli.Flag {
	return &ucli.StringFlag{Name: "T", Usage: "temperature `T` of the votes", DefaultText: "the preset's"}
}

func metricFlag() ucli.Flag {
	return &ucli.StringFlag{Name: "metric", Usage: "`METRIC`: cosine, dot or l2", DefaultText: "the preset's"}
}

func runEvalKNN(ctx context.Context, s *session, c *ucli.Context, _ []string) error {
	if c.String("protocol") == "help" {
		return s.emit(eval.Protocols(), printProtocols)
	}
	var probes index.Options
	if err := probeOptions(c, &probes); err != nil {
		return err
	}
	e, err := knnFlags(c)
	if err != nil {
		return err
	}
	train, test := c.String("train"), c.String("test")
	open := s.reading
	if c.String("dino") != "" {
		open = func(ctx context.Context, work func(db *store.DB) error) error { return evalDINO(ctx, s, c, work) }
		train, test = dinoFiles[0].bank, dinoFiles[1].bank
		if c.Bool("leave-one-out") {
			test = ""
		}
	}
	switch {
	case train == "":
		return usage("%s: which bank votes? (give --train BANK)", s.name)
	case test == "" && !e.LeaveOneOut:
		return usage("%s: which bank is classified? (give --test BANK, or --leave-one-out for --train itself)", s.name)
	case test == "":
		test = train
	}
	path := c.String("output")
	if err := checkCurvePath(path); err != nil {
		return err
	}
	return open(ctx, func(db *store.DB) error {
		pairs, several, err := checkpoints(db, train, test)
		if err != nil {
			return err
		}
		var results []*eval.KNNResult
		for i, p := range pairs {
			what := "eval knn"
			if several {
				what += fmt.Sprintf(" %d of %d", i+1, len(pairs))
			}
			r, err := evalKNN(ctx, s, c, db, e, p, probes, what)
			if err != nil {
				return err
			}
			results = append(results, r)
		}
		curve := newCurve(pairs, results)
		if path != "" {
			if err := curve.write(s, path); err != nil {
				return err
			}
		}
		if several {
			return s.emit(curve, func(w io.Writer) { curve.print(w) })
		}
		return s.emit(results[0], func(w io.Writer) { printKNN(w, results[0]) })
	})
}

// evalKNN evaluates one pair of banks.
func evalKNN(ctx context.Context, s *session, c *ucli.Context, db *store.DB, e eval.KNN, p checkpoint, probes index.Options, what string) (r *eval.KNNResult, err error) {
	err = snapshot(db, p.train, func(gallery *store.Snapshot) error {
		return snapshot(db, p.test, func(queries *store.Snapshot) error {
			rule, err := e.Protocol()
			if err != nil {
				return err
			}
			if err := s.uses(ctx, gallery, queries); err != nil {
				return err
			}
			if why := s.whole(c, gallery, rule.SearchMetric()); why != "" {
				s.remark("%s: the search compares every row (recall 1)", why)
			}
			progress := s.newBar(what, "queries", queries.Info().Rows)
			defer progress.close()
			o := s.runOptions(progress)
			o.NoCodes, o.Probes, o.Recall = c.Bool("no-codes"), probes.Probes, probes.Recall
			r, err = e.Evaluate(ctx, gallery, queries, o)
			return err
		})
	})
	return r, err
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

// ruleText is how neighbours vote, by name and spelt out.
func ruleText(r *eval.KNNResult) string {
	rows := "raw rows"
	if r.Rules.Normalise {
		rows = "L2-normalised rows"
	}
	return fmt.Sprintf("%s: %s, %s, vote %s", r.Protocol, r.Rules.Metric, rows, voteText(r.Rules))
}

// protocolLine is all that the numbers above it depend on.
func protocolLine(r *eval.KNNResult) string {
	line := fmt.Sprintf("%s; %s (%s) on %s (%s), %d classes, dim %d",
		ruleText(r), r.Test.Bank, plural(r.TestRows, "row"), r.Train.Bank, plural(r.TrainRows, "row"), r.Classes, r.Dim)
	if r.SelfExcluded {
		line += ", self excluded"
	}
	if r.Exact {
		line += "; exact"
	} else {
		line += fmt.Sprintf("; approximate: recall@%d %.4f, measured on %s of these", r.RecallK, r.Recall, pluralQueries(int64(r.RecallQueries)))
	}
	return line + fmt.Sprintf(" (%s)", seconds(r.Seconds))
}
