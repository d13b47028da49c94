package cli

import (
	"context"
	"encoding/csv"
	"fmt"
	"io"
	"path"
	"slices"
	"strconv"
	"strings"

	"membank/bench/eval"
	"membank/store"

	ucli "github.com/urfave/cli/v2"
)

func evalTransferCommand() *ucli.Command {
	return &ucli.Command{
		Name: "transfer", Usage: "models over data sets: figures, ranks, agreement of data sets", ArgsUsage: "",
		Description: "Evaluates every model on every data set, from banks named MODEL/DATASET/train and\n" +
			"MODEL/DATASET/test (a model's name may have slashes in it; either bank names the pair):\n" +
			"kNN and few-shot accuracy, and retrieval by labels. Ranks the models on each data\n" +
			"set, and correlates data sets over models. A model without a data set is named.\n\n" +
			"  membank eval transfer --banks '*/*/train'\n" +
			"  membank eval transfer --banks 'simclr/*/*/test,dino/*/test' -o table.csv\n" +
			"  membank eval transfer --banks '*/*/*' --splits gallery,query --only knn -k 10\n" +
			"  membank eval transfer --banks '*/*/train' --per-class-shots 1,16 --tries 3 --seed 7",
		Flags: []ucli.Flag{
			&ucli.StringFlag{Name: "banks", Usage: "the models' banks, `BANK,BANK` or 'PATTERN'; * is anything but a slash"},
			&ucli.StringFlag{Name: "splits", Usage: "the last parts of the names, `VOTING,ASKING`", Value: "train,test", DefaultText: "train,test"},
			&ucli.StringFlag{Name: "only", Usage: "only some `PARTS` of knn,fewshot,retrieval", DefaultText: "all"},
			protocolFlag("dino"),
			&ucli.StringFlag{Name: "k", Usage: "number of neighbours `K` of kNN, or all", DefaultText: "20 if the preset has it, else the preset's"},
			temperatureFlag(), metricFlag(),
			&ucli.StringFlag{Name: "per-class-shots", Usage: "few-shot: rows of each class, `N,N,…`", DefaultText: "1,5,10"},
			&ucli.StringFlag{Name: "tries", Usage: "few-shot: draw `N` times and average", Value: "5", DefaultText: "5"},
			&ucli.StringFlag{Name: "seed", Usage: "few-shot: `S` chooses the rows; try t draws with S+t", Value: "0", DefaultText: "0"},
			noCodesFlag(),
			outputFlag("write a line for every model and data set to `FILE`.csv"),
		},
		Action: action(nil, runEvalTransfer),
	}
}

func runEvalTransfer(ctx context.Context, s *session, c *ucli.Context, _ []string) error {
	if c.String("protocol") == "help" {
		return s.emit(eval.Protocols(), printProtocols)
	}
	e, err := transferFlags(c)
	if err != nil {
		return err
	}
	output, banks := c.String("output"), c.String("banks")
	voting, asking, ok := strings.Cut(c.String("splits"), ",")
	voting, asking = strings.TrimSpace(voting), strings.TrimSpace(asking)
	switch {
	case banks == "":
		return usage("%s: which banks? (give --banks 'MODEL/DATASET/train', with * for anything)", s.name)
	case !ok || voting == "" || asking == "" || voting == asking || strings.ContainsAny(voting+asking, ",/"):
		return usage("--splits %s: not two last parts of names (write train,test)", c.String("splits"))
	case output != "" && path.Ext(output) != ".csv":
		return usage("-o %s: the table is written as .csv", output)
	}
	return s.reading(ctx, func(db *store.DB) error {
		pairs, err := transferPairs(db, banks, voting, asking)
		if err != nil {
			return err
		}
		var file *newFile
		if output != "" {
			if file, err = s.createFile(output); err != nil {
				return err
			}
			defer file.discard()
		}
		var cells []*eval.TransferCell
		for i, p := range pairs {
			cell, err := transferCell(ctx, s, c, db, e, p, fmt.Sprintf("%s on %s, %d of %d", p.model, p.dataset, i+1, len(pairs)))
			if err != nil {
				return err
			}
			cells = append(cells, cell)
		}
		r, err := e.Table(cells)
		if err != nil {
			return err
		}
		if file != nil {
			if err := writeTransfer(file, r); err != nil {
				return err
			}
			if err := file.keep(); err != nil {
				return err
			}
		}
		return s.emit(r, func(w io.Writer) { printTransfer(w, r) })
	})
}

func transferFlags(c *ucli.Context) (e eval.Transfer, err error) {
	few, err := fewShotFlags(c)
	if err != nil {
		return e, err
	}
	e = eval.Transfer{Rule: few.KNN, Shots: few.Shots, Tries: few.Tries, Seed: few.Seed}
	if len(e.Rule.K) > 1 {
		return e, usage("-k %s: the table takes one number of neighbours (write 20)", c.String("k"))
	}
	if text := c.String("only"); text != "" {
		for part := range strings.SplitSeq(text, ",") {
			if part = strings.TrimSpace(part); !slices.Contains(eval.TransferParts(), part) {
				return e, usage("--only %s: %q is none of %s", text, part, strings.Join(eval.TransferParts(), ", "))
			}
			e.Only = append(e.Only, part)
		}
	}
	_, err = e.Protocol()
	return e, err
}

// transferPair is the banks of a model on a data set.
type transferPair struct {
	model, dataset string
	train, test    string
	missing        string // why there is nothing to evaluate; "": there is
}

// transferPairs are all models on all data sets that banks name, in the order in which
// they name them. Banks of a pattern that are neither split are passed over.
func transferPairs(db *store.DB, text, voting, asking string) (pairs []transferPair, err error) {
	names, err := banksOf(db, text)
	if err != nil {
		return nil, err
	}
	infos, err := db.Banks("")
	if err != nil {
		return nil, err
	}
	exists := map[string]bool{}
	for _, info := range infos {
		exists[info.Bank] = true
	}
	var models, datasets []string
	for _, name := range names {
		if !exists[name] {
			return nil, bankError(db, name, fmt.Errorf("bank %q: %w", name, store.ErrNoBank))
		}
		rest, split := path.Split(name)
		model, dataset := path.Split(strings.TrimSuffix(rest, "/"))
		model = strings.TrimSuffix(model, "/")
		if model == "" || split != voting && split != asking {
			if strings.Contains(","+strings.ReplaceAll(text, " ", "")+",", ","+name+",") {
				return nil, usage("--banks %s: not MODEL/DATASET/%s or MODEL/DATASET/%s (--splits renames the last part)", name, voting, asking)
			}
			continue
		}
		if !slices.Contains(models, model) {
			models = append(models, model)
		}
		if !slices.Contains(datasets, dataset) {
			datasets = append(datasets, dataset)
		}
	}
	if len(models) == 0 {
		return nil, notFound("--banks %s: none of the %s is MODEL/DATASET/%s or MODEL/DATASET/%s (--splits renames the last part)", text, plural(len(names), "bank"), voting, asking)
	}
	for _, model := range models {
		for _, dataset := range datasets {
			p := transferPair{model: model, dataset: dataset, train: model + "/" + dataset + "/" + voting, test: model + "/" + dataset + "/" + asking}
			var lost []string
			for _, bank := range []string{p.train, p.test} {
				if !exists[bank] {
					lost = append(lost, bank)
				}
			}
			if len(lost) > 0 {
				p.missing = "there is no bank " + strings.Join(lost, " and no ")
			}
			pairs = append(pairs, p)
		}
	}
	if !slices.ContainsFunc(pairs, func(p transferPair) bool { return p.missing == "" }) {
		return nil, notFound("--banks %s: no model has both banks of a data set: %s (ingest it, or name the splits with --splits)", text, pairs[0].missing)
	}
	return pairs, nil
}

// transferCell opens the banks of one pair for as long as they are evaluated.
func transferCell(ctx context.Context, s *session, c *ucli.Context, db *store.DB, e eval.Transfer, p transferPair, what string) (*eval.TransferCell, error) {
	if p.missing != "" {
		return e.Without(p.model, p.dataset, p.missing), nil
	}
	sets, err := transforms{}.open(ctx, s, db, p.train, p.test)
	if err != nil {
		return nil, err
	}
	defer sets.close()
	progress := s.newBar(what, "queries", -1)
	defer progress.close()
	o := s.runOptions(progress)
	o.NoCodes = c.Bool("no-codes")
	return e.Cell(ctx, p.model, p.dataset, sets.of[0], sets.of[1], o)
}

// writeTransfer writes one line a model and data set; what is missing is empty.
func writeTransfer(w io.Writer, r *eval.TransferResult) error {
	out := csv.NewWriter(w)
	head := []string{"protocol", "model", "dataset", "train_rows", "test_rows", "classes"}
	for _, name := range r.Ranked {
		head = append(head, name, name+"_rank")
	}
	out.Write(append(head, "missing"))
	for i, f := range r.Results {
		line := []string{r.Protocol, r.Models[i/len(r.Datasets)], r.Datasets[i%len(r.Datasets)]}
		for _, name := range head[len(line):] {
			text := ""
			if v, ok := f.Lookup(name); ok {
				text = strconv.FormatFloat(v, 'g', -1, 64)
			}
			line = append(line, text)
		}
		var why []string
		for _, m := range r.Missing {
			if m.Model == line[1] && m.Dataset == line[2] {
				why = append(why, strings.Join(m.Figures, ",")+": "+m.Reason)
			}
		}
		out.Write(append(line, strings.Join(why, "; ")))
	}
	out.Flush()
	return out.Error()
}

func printTransfer(w io.Writer, r *eval.TransferResult) {
	rank := func(v float64) string { return strconv.FormatFloat(v, 'g', 4, 64) }
	for i, name := range r.Ranked {
		columns := []column{left(name + " % (rank)")}
		for _, dataset := range r.Datasets {
			columns = append(columns, number(dataset))
		}
		var rows [][]string
		for m, model := range r.Models {
			row := []string{model}
			for d := range r.Datasets {
				f := r.Results[m*len(r.Datasets)+d]
				text := "-"
				if v, ok := f.Lookup(name); ok {
					place, _ := f.Lookup(name + "_rank")
					text = fmt.Sprintf("%s (%s)", percent(v), rank(place))
				}
				row = append(row, text)
			}
			mean, place := "-", "-"
			of := r.Means[i*len(r.Models)+m]
			if v, ok := of.Lookup("mean"); ok {
				p, _ := of.Lookup("mean_rank")
				mean, place = percent(v), rank(p)
			}
			rows = append(rows, append(row, mean, place))
		}
		n, _ := r.Means[i*len(r.Models)].Lookup("datasets")
		title := fmt.Sprintf("mean of %s", count(int64(n)))
		printTable(w, append(columns, number(title), number("mean rank")), rows)
		fmt.Fprintln(w)
	}
	printAgreement(w, r.Correlations)
	fmt.Fprintf(w, "%s; %s on %s; exact (%s)\n", r.Protocol, plural(len(r.Models), "model"), plural(len(r.Datasets), "data set"), seconds(r.Seconds))
	for _, m := range r.Missing {
		what := strings.Join(m.Figures, ", ")
		if len(m.Figures) == len(r.Ranked) {
			what = "all"
		}
		fmt.Fprintf(w, "missing: %s on %s: %s: %s\n", m.Model, m.Dataset, what, m.Reason)
	}
	for _, note := range r.Notes {
		fmt.Fprintln(w, "note: "+note)
	}
}

// printAgreement prints how alike data sets order models, and once why they do not.
func printAgreement(w io.Writer, correlations []eval.Figures) {
	var rows [][]string
	for _, f := range correlations {
		if _, ok := f.Lookup("spearman"); ok {
			row := []string{}
			for _, name := range []string{"figure", "dataset_a", "dataset_b", "models", "spearman", "pearson"} {
				row = append(row, figureOf(f, name))
			}
			rows = append(rows, row)
		}
	}
	if len(rows) > 0 {
		printTable(w, []column{left("over models"), left("data set"), left("and"), number("models"), number("spearman"), number("pearson")}, rows)
		fmt.Fprintln(w)
	}
	var reasons []string
	pairs := map[string][]string{} // of each reason
	for _, f := range correlations {
		if _, ok := f.Lookup("spearman"); ok {
			continue
		}
		why := strings.TrimPrefix(figureOf(f, "spearman"), "none: ")
		if pairs[why] == nil {
			reasons = append(reasons, why)
		}
		if pair := figureOf(f, "dataset_a") + " and " + figureOf(f, "dataset_b"); !slices.Contains(pairs[why], pair) {
			pairs[why] = append(pairs[why], pair)
		}
	}
	for _, why := range reasons {
		more := ""
		if n := len(pairs[why]) - 1; n > 0 {
			more = fmt.Sprintf(", nor of %s", plural(n, "other pair"))
		}
		fmt.Fprintf(w, "no correlation of %s%s: %s\n", pairs[why][0], more, why)
	}
}
