package cli

import (
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"

	"membank/bench/eval"
	"membank/store"

	ucli "github.com/urfave/cli/v2"
)

func evalRetrievalCommand() *ucli.Command {
	return &ucli.Command{
		Name: "retrieval", Usage: "how well queries find their own: recall, mAP, copy detection", ArgsUsage: "",
		Description: "Every query ranks the whole gallery. What it should find are the rows of its class,\n" +
			"the lists of --ground-truth, or with --copies the true pairs of copy detection.\n\n" +
			"  membank eval retrieval --gallery train --queries test\n" +
			"  membank eval retrieval --gallery train --leave-one-out -o queries.csv\n" +
			"  membank eval retrieval --gallery roxford5k --queries roxford5k-q --ground-truth gnd_roxford5k.json\n" +
			"  membank eval retrieval --gallery refs --queries queries --copies matches.csv --score-norm '1.0[0,2]' --background training\n" +
			"  membank eval retrieval --gallery tokens --leave-one-out --gem 4 --gem-class cls --whiten dino --whiten-from other-tokens\n\n" +
			"--ground-truth reads the benchmarks' gnd pickle as JSON: {\"imlist\": [names], \"qimlist\":\n" +
			"[names], \"gnd\": [{\"easy\": [places in imlist], \"hard\": […], \"junk\": […]}, …]}. Names are\n" +
			"keys, or their file names; without imlist and qimlist the numbers are rows. --copies reads\n" +
			"lines of query,reference, by keys; a query without a copy has an empty reference.\n\n" +
			"Whitenings: dino (un-centred moments), vissl (512 directions), deepcluster (256), faiss.",
		Flags: slices.Concat([]ucli.Flag{
			&ucli.StringFlag{Name: "gallery", Usage: "the `BANK` that is ranked"},
			&ucli.StringFlag{Name: "queries", Usage: "the `BANK` whose rows ask"},
			&ucli.BoolFlag{Name: "leave-one-out", Usage: "every row of --gallery ranks the others"},
			&ucli.StringFlag{Name: "k", Usage: "`K,K,…` of R@k, P@k and mP@k; with --copies, candidates of a query", DefaultText: "1,5,10; with --copies 10"},
			&ucli.StringFlag{Name: "metric", Usage: "`METRIC`: cosine, dot or l2", Value: "cosine", DefaultText: "cosine"},
			&ucli.StringFlag{Name: "ground-truth", Usage: "what each query should find, `FILE`.json"},
			&ucli.StringFlag{Name: "copies", Usage: "true pairs of query and reference, `FILE`.csv"},
			&ucli.StringFlag{Name: "best-pairs", Usage: "with --copies: judge the `N` best pairs of all queries together (DISC: 500000)"},
			&ucli.StringFlag{Name: "score-norm", Usage: "with --copies: subtract `B[F,L]`, B times the mean of the F-th to L-th best similarities with --background"},
			&ucli.StringFlag{Name: "background", Usage: "the `BANK` for --score-norm"},
			outputFlag("write the AP of every query to `FILE`.csv"),
		}, gemFlags(), whitenFlags()),
		Action: action(nil, runEvalRetrieval),
	}
}

func runEvalRetrieval(ctx context.Context, s *session, c *ucli.Context, _ []string) error {
	gallery, queries, alone := c.String("gallery"), c.String("queries"), c.Bool("leave-one-out")
	switch {
	case gallery == "":
		return usage("%s: which bank is ranked? (give --gallery BANK)", s.name)
	case queries == "" && !alone:
		return usage("%s: which bank asks? (give --queries BANK, or --leave-one-out for --gallery itself)", s.name)
	case queries == "":
		queries = gallery
	}
	ks, err := kList(c.String("k"))
	if err != nil {
		return err
	}
	made, err := transformFlags(c)
	if err != nil {
		return err
	}
	if c.String("copies") != "" {
		return runEvalCopies(ctx, s, c, gallery, queries, ks, made)
	}
	for _, name := range []string{"best-pairs", "score-norm", "background"} {
		if c.IsSet(name) {
			return usage("--%s: belongs to copy detection (give the true pairs with --copies FILE)", name)
		}
	}
	e := eval.Retrieval{K: ks, Metric: eval.Metric(c.String("metric")), LeaveOneOut: alone}
	if path := c.String("ground-truth"); path != "" {
		if e.Truth, err = readTruth(path, eval.ReadGroundTruth); err != nil {
			return err
		}
	}
	return s.reading(ctx, func(db *store.DB) error {
		sets, err := made.open(ctx, s, db, gallery, queries)
		if err != nil {
			return err
		}
		defer sets.close()
		var scores *queryScores
		if path := c.String("output"); path != "" {
			if scores, err = newQueryScores(s, path); err != nil {
				return err
			}
			defer scores.file.discard()
			e.Each = scores.write
		}
		progress := s.newBar("eval retrieval", "queries", sets.of[1].Rows())
		defer progress.close()
		r, err := e.Evaluate(ctx, sets.of[1], sets.of[0], s.runOptions(progress))
		progress.close()
		if err != nil {
			return truthError(c.String("ground-truth"), err)
		}
		if scores != nil {
			if err := scores.keep(); err != nil {
				return err
			}
		}
		return s.emit(r, func(w io.Writer) { printRetrieval(w, r) })
	})
}

func runEvalCopies(ctx context.Context, s *session, c *ucli.Context, gallery, queries string, ks []int, made transforms) error {
	e := eval.Copies{Metric: eval.Metric(c.String("metric"))}
	switch {
	case len(ks) > 1:
		return usage("-k %s: copy detection takes one number of candidates", c.String("k"))
	case len(ks) == 1:
		e.K = ks[0]
	}
	for _, name := range []string{"leave-one-out", "ground-truth", "output"} {
		if c.IsSet(name) {
			return usage("--%s: does not go with --copies (leave one of them out)", name)
		}
	}
	banks := []string{gallery, queries}
	if text := c.String("score-norm"); text != "" {
		n, err := parseScoreNorm(text)
		if err != nil {
			return err
		}
		if c.String("background") == "" {
			return usage("--score-norm %s: against which bank? (give --background BANK)", text)
		}
		e.Normalise, banks = &n, append(banks, c.String("background"))
	} else if c.IsSet("background") {
		return usage("--background: belongs to --score-norm (give that, too, such as '1.0[0,2]')")
	}
	if text := c.String("best-pairs"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 {
			return usage("--best-pairs %s: not a number of pairs (write 500000)", text)
		}
		e.Global = n
	}
	var err error
	if e.Truth, err = readTruth(c.String("copies"), eval.ReadMatches); err != nil {
		return err
	}
	return s.reading(ctx, func(db *store.DB) error {
		sets, err := made.open(ctx, s, db, banks...)
		if err != nil {
			return err
		}
		defer sets.close()
		if e.Normalise != nil {
			e.Background = sets.of[2]
		}
		progress := s.newBar("eval retrieval", "queries", sets.of[1].Rows())
		defer progress.close()
		r, err := e.Evaluate(ctx, sets.of[1], sets.of[0], s.runOptions(progress))
		progress.close()
		if err != nil {
			return truthError(c.String("copies"), err)
		}
		return s.emit(r, func(w io.Writer) { printRetrieval(w, r) })
	})
}

// printEvaluation runs an evaluation under a bar, which it closes, and prints what comes out.
func printEvaluation[R any](s *session, c *ucli.Context, progress bar, print func(io.Writer, R), run func(eval.RunOptions) (R, error)) error {
	defer progress.close()
	o := s.runOptions(progress)
	o.NoCodes = c.Bool("no-codes")
	r, err := run(o)
	progress.close()
	if err != nil {
		return err
	}
	return s.emit(r, func(w io.Writer) { print(w, r) })
}

// runOptions are those of an evaluation in this session.
func (s *session) runOptions(progress bar) eval.RunOptions {
	return eval.RunOptions{Threads: s.threads, Memory: s.memory / 2, Progress: func(done, _ int64) { progress.set(done) }}
}

// kList reads "1,5,10"; "" is none.
func kList(text string) (ks []int, err error) {
	if text == "" {
		return nil, nil
	}
	for field := range strings.SplitSeq(text, ",") {
		k, err := strconv.Atoi(strings.TrimSpace(field))
		if err != nil || k < 1 {
			return nil, usage("-k %s: %q is not a number of neighbours (write 1,5,10)", text, field)
		}
		ks = append(ks, k)
	}
	return ks, nil
}

// parseScoreNorm reads "1.0[0,2]".
func parseScoreNorm(text string) (n eval.ScoreNorm, err error) {
	bad := usage("--score-norm %s: not a normalisation (write '1.0[0,2]': weight, first and last of the best similarities, from 0)", text)
	weight, rest, ok := strings.Cut(text, "[")
	first, last, ok2 := strings.Cut(strings.TrimSuffix(rest, "]"), ",")
	if !ok || !ok2 || !strings.HasSuffix(rest, "]") {
		return n, bad
	}
	var errs [3]error
	n.Beta, errs[0] = strconv.ParseFloat(weight, 64)
	n.First, errs[1] = strconv.Atoi(strings.TrimSpace(first))
	n.Last, errs[2] = strconv.Atoi(strings.TrimSpace(last))
	if errs != [3]error{} {
		return n, bad
	}
	return n, nil
}

// truthError names the file of ground truth that does not fit the banks.
func truthError(path string, err error) error {
	if errors.Is(err, eval.ErrGroundTruth) {
		return fmt.Errorf("%s: %w", path, err)
	}
	return err
}

// readTruth reads a file of ground truth; what is wrong with it names the file.
func readTruth[T any](path string, read func(io.Reader) (T, error)) (truth T, err error) {
	f, err := os.Open(path)
	if err != nil {
		return truth, err
	}
	defer f.Close()
	if truth, err = read(f); err != nil {
		return truth, fmt.Errorf("%s: %w", path, err)
	}
	return truth, nil
}

// queryScores are a CSV of one line a query.
type queryScores struct {
	file *newFile
	out  *csv.Writer
}

func newQueryScores(s *session, path string) (*queryScores, error) {
	file, err := s.createFile(path)
	if err != nil {
		return nil, err
	}
	q := &queryScores{file, csv.NewWriter(file)}
	q.out.Write([]string{"query_row", "difficulty", "relevant", "first_rank", "ap", "ap_trapezoid"})
	return q, nil
}

func (q *queryScores) write(s eval.QueryScore) {
	number := func(v float64) string { return strconv.FormatFloat(v, 'g', -1, 64) }
	q.out.Write([]string{strconv.FormatInt(s.Row, 10), s.Difficulty, strconv.FormatInt(s.Relevant, 10), strconv.FormatInt(s.First, 10), number(s.IR), number(s.Trapezoid)})
}

func (q *queryScores) keep() error {
	q.out.Flush()
	if err := q.out.Error(); err != nil {
		return err
	}
	return q.file.keep()
}

func printRetrieval(w io.Writer, r *eval.RetrievalResult) {
	printResults(w, r.Results)
	line := fmt.Sprintf("%s: %s; %s (%s) on %s (%s), dim %d; exact (%s)", r.Protocol, r.Metric,
		r.QuerySet.Bank, plural(r.QuerySet.Rows, "row"), r.Gallery.Bank, plural(r.Gallery.Rows, "row"), r.Dim, seconds(r.Seconds))
	fmt.Fprintln(w, line)
	for _, note := range r.Notes {
		fmt.Fprintln(w, "note: "+note)
	}
}
