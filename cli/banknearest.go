package cli

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"membank/index"
	"membank/index/memory"
	"membank/store/dump"

	ucli "github.com/urfave/cli/v2"
)

func bankNearestCommand() *ucli.Command {
	return &ucli.Command{
		Name: "nearest", Usage: "find the nearest rows, or hard negatives", ArgsUsage: "NAME",
		Description: "Exact, as membank query is. With --hard, --positives or --labels rule rows out, and\n" +
			"--min-score is the floor; --below gives each query's score with its positive, and\n" +
			"negatives score less (semi-hard).\n\n" +
			"  membank bank nearest nnclr --vectors z.npy -k 1 --json\n" +
			"  membank bank nearest npid --vectors z.npy -k 64 --hard --positives batch.npy --metric dot -o hard.npz",
		Flags: []ucli.Flag{
			&ucli.StringFlag{Name: "vectors", Usage: "ask with each row of `FILE`"},
			&ucli.StringFlag{Name: "k", Usage: "`K` neighbours of each", Value: "10", DefaultText: "10"},
			&ucli.StringFlag{Name: "metric", Usage: "`METRIC`: cosine, dot, or l2 (prints squared distances)", Value: "cosine", DefaultText: "cosine"},
			&ucli.StringFlag{Name: "min-score", Usage: "only rows that score at least `S` (l2: at most)"},
			&ucli.StringFlag{Name: "view", Usage: "search view `N`", DefaultText: "0"},
			scopeFlag(),
			&ucli.BoolFlag{Name: "hard", Usage: "hard negatives: the nearest rows that are no positives"},
			&ucli.StringFlag{Name: "positives", Usage: "with --hard: each query's own id, which it does not get: 0,5,9, or a `FILE` of integers"},
			&ucli.StringFlag{Name: "labels", Usage: "with --hard: each query's label, rows of which it does not get: `FILE`"},
			&ucli.StringFlag{Name: "below", Usage: "with --hard: each query's score with its positive: `FILE` of floats"},
			&ucli.BoolFlag{Name: "with-vectors", Usage: "the rows themselves, too: array vectors of -o, [queries][k][dim]"},
			outputFlag("write the answers to `FILE.npz`: rows and scores"),
		},
		Action: action([]string{"NAME"}, runBankNearest),
	}
}

func runBankNearest(ctx context.Context, s *session, c *ucli.Context, args []string) error {
	o, err := s.hardOptions(c)
	if err != nil {
		return err
	}
	if c.String("vectors") == "" {
		return usage("%s: ask with --vectors FILE", s.name)
	}
	queries, err := s.readMatrix(ctx, c.String("vectors"))
	if err != nil {
		return err
	}
	return s.memoryBank(ctx, args[0], false, func(b *memory.Bank) error {
		if want := b.Config().Views[min(o.View, len(b.Config().Views)-1)].Dim; queries.Dim != want {
			return badInput("%s: %d dimensions, and memory bank %q has %d (ask with embeddings of the same model)", c.String("vectors"), queries.Dim, args[0], want)
		}
		if c.Bool("with-vectors") {
			if err := s.fits(b, int64(queries.Rows)*min(int64(o.K), b.Config().Rows)); err != nil {
				return err
			}
		}
		var n memory.Neighbours
		if c.Bool("hard") {
			n, err = b.HardNegatives(ctx, queries, c.Bool("with-vectors"), o)
		} else {
			n, err = b.Nearest(ctx, queries, c.Bool("with-vectors"), o.NearestOptions)
		}
		if err != nil {
			return err
		}
		return s.printNearest(c.String("output"), n, o.Metric)
	})
}

func (s *session) hardOptions(c *ucli.Context) (o memory.HardOptions, err error) {
	if o.Options, err = searchOptions(s, c); err != nil {
		return o, err
	}
	if o.Scope, err = scopeOf(c); err != nil {
		return o, err
	}
	if text := c.String("view"); text != "" {
		if o.View, err = strconv.Atoi(text); err != nil || o.View < 0 {
			return o, usage("--view %s: not a view (they count from 0)", text)
		}
	}
	if !c.Bool("hard") && (c.IsSet("positives") || c.IsSet("labels") || c.IsSet("below")) {
		return o, usage("%s: --positives, --labels and --below rule out rows of --hard", s.name)
	}
	if text := c.String("positives"); text != "" {
		if o.Positives, err = s.readIDs(text); err != nil {
			return o, err
		}
	}
	if path := c.String("labels"); path != "" {
		if o.Labels, err = s.readLabels(path, -1); err != nil {
			return o, err
		}
	}
	if path := c.String("below"); path != "" {
		below, err := s.readFloats(path)
		if err != nil {
			return o, err
		}
		for _, x := range below {
			o.Below = append(o.Below, float32(x))
		}
	}
	return o, nil
}

// bankNeighbour is a hit in a memory bank.
type bankNeighbour struct {
	ID      int64   `json:"row"`
	Key     string  `json:"key,omitempty"`
	Label   *int64  `json:"label"`
	Version *int64  `json:"version"`
	Score   float32 `json:"score"`
}

// bankAnswer is one line of nearest.
type bankAnswer struct {
	Query      int64           `json:"query"`
	Neighbours []bankNeighbour `json:"neighbours"`
}

func bankAnswers(n memory.Neighbours) []bankAnswer {
	list := make([]bankAnswer, len(n.Hits))
	for q, hits := range n.Hits {
		list[q] = bankAnswer{Query: int64(q), Neighbours: make([]bankNeighbour, len(hits))}
		for i, h := range hits {
			to := &list[q].Neighbours[i]
			*to = bankNeighbour{ID: h.Row, Score: h.Score}
			if n.Version[q][i] >= 0 {
				to.Version = &n.Version[q][i]
			}
			if n.Labels != nil {
				to.Label = labelOf(n.Labels[q][i])
			}
			if n.Keys != nil {
				to.Key = n.Keys[q][i]
			}
		}
	}
	return list
}

func (s *session) printNearest(path string, n memory.Neighbours, metric index.Metric) error {
	if path != "" {
		if strings.ToLower(filepath.Ext(path)) != ".npz" {
			return usage("-o %s: unknown kind of file (.npz)", path)
		}
		if err := s.writeFile(path, func(w io.Writer) error { return writeNearest(w, n) }); err != nil {
			return err
		}
		r := writtenRows{int64(len(n.Hits)), path}
		return s.emit(r, func(w io.Writer) { fmt.Fprintf(w, "%s: the neighbours of %s\n", r.File, pluralQueries(r.Rows)) })
	}
	out := bufio.NewWriter(s.stdout)
	title := "score"
	if metric == index.L2 {
		title = "distance²"
	}
	for _, a := range bankAnswers(n) {
		if s.json {
			if err := printJSON(out, a); err != nil {
				return err
			}
			continue
		}
		fmt.Fprintf(out, "query %d\n", a.Query)
		lines := make([][]string, len(a.Neighbours))
		for i, h := range a.Neighbours {
			version := "-"
			if h.Version != nil {
				version = count(*h.Version)
			}
			lines[i] = []string{"", strconv.Itoa(i + 1), strconv.FormatInt(h.ID, 10), version, labelText(h.Label, ""), h.Key, strconv.FormatFloat(float64(h.Score), 'f', 5, 32)}
		}
		printTable(out, []column{left(""), number("rank"), number("id"), number("step"), left("label"), left("key"), number(title)}, lines)
	}
	return out.Flush()
}

// writeNearest writes rows and scores as membank query does, and labels and vectors
// where there are any; vectors are padded with zeros.
func writeNearest(w io.Writer, n memory.Neighbours) error {
	width := 0
	for _, hits := range n.Hits {
		width = max(width, len(hits))
	}
	rows, scores := make([]int64, 0, len(n.Hits)*width), make([]float32, 0, len(n.Hits)*width)
	for _, hits := range n.Hits {
		for i := range width {
			if i < len(hits) {
				rows, scores = append(rows, hits[i].Row), append(scores, hits[i].Score)
			} else {
				rows, scores = append(rows, -1), append(scores, padScore)
			}
		}
	}
	z := dump.NewNPZWriter(w)
	if err := z.Write("rows", rows, int64(len(n.Hits)), int64(width)); err != nil {
		return err
	}
	if err := z.Write("scores", scores, int64(len(n.Hits)), int64(width)); err != nil {
		return err
	}
	if n.Labels != nil {
		labels := make([]int64, 0, len(n.Hits)*width)
		for _, list := range n.Labels {
			labels = append(labels, noLabel(list)...)
			labels = append(labels, slices.Repeat([]int64{-1}, width-len(list))...)
		}
		if err := z.Write("labels", labels, int64(len(n.Hits)), int64(width)); err != nil {
			return err
		}
	}
	if len(n.Vectors) > 0 {
		dim := n.Vectors[0].Dim
		w, err := z.Array("vectors", "<f4", int64(len(n.Hits)), int64(width), int64(dim))
		for _, m := range n.Vectors {
			if err == nil {
				err = w.Float32(m.Data[:m.Rows*m.Dim])
			}
			if err == nil {
				err = w.Float32(make([]float32, (width-m.Rows)*dim))
			}
		}
		if err == nil {
			err = w.Close()
		}
		if err != nil {
			return err
		}
	}
	return z.Close()
}
