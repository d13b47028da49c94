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
	"unicode/utf8"

	"membank/index"
	"membank/index/memory"
	"membank/simd"
	"membank/store/dump"

	ucli "github.com/urfave/cli/v2"
)

func scopeFlag() ucli.Flag {
	return &ucli.StringFlag{Name: "scope", Usage: "`ROWS`: all, or written; initial ones of a queue are left out unless all"}
}

func scopeOf(c *ucli.Context) (memory.Scope, error) {
	return one(c, "scope", []memory.Scope{memory.ScopeAll, memory.ScopeWritten})
}

func bankGetCommand() *ucli.Command {
	return &ucli.Command{
		Name: "get", Usage: "print rows of a memory bank, with versions", ArgsUsage: "NAME",
		Description: "  membank bank get npid --ids 0,5,9\n" +
			"  membank bank get moco/queue --ordered -o queue.npz\n" +
			"  membank bank get npid --ids sample.npy -o rows.npy",
		Flags: []ucli.Flag{
			&ucli.StringFlag{Name: "ids", Usage: "slots, or positions of a queue: 0,5,9, or a `FILE` of integers"},
			&ucli.BoolFlag{Name: "ordered", Usage: "the rows of a queue, oldest first"},
			&ucli.BoolFlag{Name: "centroids", Usage: "the prototypes kept with slots"},
			scopeFlag(),
			outputFlag("write them to `FILE`: .npz, or .npy with the rows of the first view"),
		},
		Action: action([]string{"NAME"}, runBankGet),
	}
}

// bankRow is one row of a memory bank.
type bankRow struct {
	ID      int64       `json:"id"`
	Version *int64      `json:"version"` // null: never written
	Label   *int64      `json:"label"`
	Key     string      `json:"key,omitempty"`
	Vector  []float32   `json:"vector"`
	Views   [][]float32 `json:"views,omitempty"` // of view 1, 2, …
}

func runBankGet(ctx context.Context, s *session, c *ucli.Context, args []string) error {
	scope, err := scopeOf(c)
	if err != nil {
		return err
	}
	given := 0
	for _, flag := range []string{"ids", "ordered", "centroids"} {
		if c.IsSet(flag) {
			given++
		}
	}
	if given > 1 || given == 1 && scope != "" {
		return usage("%s: --ids, --ordered, --centroids and --scope exclude each other (give one)", s.name)
	}
	var ids []int64
	if text := c.String("ids"); text != "" {
		if ids, err = s.readIDs(text); err != nil {
			return err
		}
	}
	return s.memoryBank(ctx, args[0], false, func(b *memory.Bank) error {
		if c.Bool("centroids") {
			m, err := b.Prototypes()
			if err != nil {
				return err
			}
			return s.printBankRows(c.String("output"), memory.Contents{Positions: ascending(m.Rows), Views: []simd.Matrix{m}})
		}
		if queue, err := b.Queue(); err == nil && ids == nil {
			read := func(ctx context.Context) (memory.Contents, error) { return queue.Read(ctx, scope) }
			if c.Bool("ordered") {
				read = queue.Ordered
			}
			rows, err := read(ctx)
			if err != nil {
				return err
			}
			return s.printBankRows(c.String("output"), rows)
		} else if err != nil && c.Bool("ordered") {
			return err
		}
		if ids == nil {
			if ids, err = idsInScope(b, scope); err != nil {
				return err
			}
		}
		rows, err := b.Rows(ctx, ids)
		if err != nil {
			return err
		}
		return s.printBankRows(c.String("output"), rows)
	})
}

func ascending(n int) []int64 {
	ids := make([]int64, n)
	for i := range ids {
		ids[i] = int64(i)
	}
	return ids
}

// idsInScope are all slots, or those that were written.
func idsInScope(b *memory.Bank, scope memory.Scope) ([]int64, error) {
	ids := ascending(int(b.Config().Rows))
	if scope != memory.ScopeWritten {
		return ids, nil
	}
	column, err := b.Columns(nil)
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(ids, func(id int64) bool { return column.Version[id] < 0 }), nil
}

func (s *session) printBankRows(path string, rows memory.Contents) error {
	if path != "" {
		return s.writeBankRows(path, rows)
	}
	list := make([]bankRow, len(rows.Positions))
	for i, id := range rows.Positions {
		r := bankRow{ID: id, Vector: rows.Views[0].Row(i)}
		if rows.Version != nil && rows.Version[i] >= 0 {
			r.Version = &rows.Version[i]
		}
		if rows.Labels != nil {
			r.Label = labelOf(rows.Labels[i])
		}
		if rows.Keys != nil {
			r.Key = rows.Keys[i]
		}
		for _, v := range rows.Views[1:] {
			r.Views = append(r.Views, v.Row(i))
		}
		list[i] = r
	}
	return s.emit(list, func(w io.Writer) {
		lines := make([][]string, len(list))
		for i, r := range list {
			version := "-"
			if r.Version != nil {
				version = count(*r.Version)
			}
			lines[i] = []string{strconv.FormatInt(r.ID, 10), version, labelText(r.Label, ""), r.Key, vectorText(r.Vector)}
		}
		printTable(w, []column{number("id"), number("step"), left("label"), left("key"), left("vector")}, lines)
	})
}

// writtenRows is what a command that wrote rows to a file prints.
type writtenRows struct {
	Rows int64  `json:"rows"`
	File string `json:"file"`
}

func (s *session) writeBankRows(path string, rows memory.Contents) error {
	write := func(w io.Writer) error { return dump.WriteNPY(w, rows.Views[0].Data, shapeOf(rows.Views[0])...) }
	switch strings.ToLower(filepath.Ext(path)) {
	case ".npy":
	case ".npz":
		write = func(w io.Writer) error { return writeBankNPZ(w, rows) }
	default:
		return usage("-o %s: unknown kind of file (.npz or .npy)", path)
	}
	if err := s.writeFile(path, write); err != nil {
		return err
	}
	r := writtenRows{int64(len(rows.Positions)), path}
	return s.emit(r, func(w io.Writer) { fmt.Fprintf(w, "%s: %s\n", r.File, plural(r.Rows, "row")) })
}

func shapeOf(m simd.Matrix) []int64 { return []int64{int64(m.Rows), int64(m.Dim)} }

// writeFile makes a file that is there whole or not at all.
func (s *session) writeFile(path string, write func(io.Writer) error) error {
	file, err := s.createFile(path)
	if err != nil {
		return err
	}
	defer file.discard()
	if err := write(file); err != nil {
		return err
	}
	return file.keep()
}

// writeBankNPZ writes ids, step (−1 for never), rows, view_1, …, labels (−1 for
// none) and keys.
func writeBankNPZ(w io.Writer, rows memory.Contents) error {
	z := dump.NewNPZWriter(w)
	if err := z.Write("ids", rows.Positions); err != nil {
		return err
	}
	if rows.Version != nil {
		if err := z.Write("step", rows.Version); err != nil {
			return err
		}
	}
	for v, m := range rows.Views {
		name := "rows"
		if v > 0 {
			name = "view_" + strconv.Itoa(v)
		}
		if err := z.Write(name, m.Data[:m.Rows*m.Dim], shapeOf(m)...); err != nil {
			return err
		}
	}
	if rows.Labels != nil {
		if err := z.Write("labels", noLabel(rows.Labels)); err != nil {
			return err
		}
	}
	if rows.Keys != nil {
		width := 1
		for _, k := range rows.Keys {
			width = max(width, utf8.RuneCountInString(k))
		}
		a, err := z.Array("keys", "<U"+strconv.Itoa(width), int64(len(rows.Keys)))
		if err == nil {
			err = a.Strings(rows.Keys)
		}
		if err == nil {
			err = a.Close()
		}
		if err != nil {
			return err
		}
	}
	return z.Close()
}

func bankSampleCommand() *ucli.Command {
	return &ucli.Command{
		Name: "sample", Usage: "draw negatives", ArgsUsage: "NAME",
		Description: "The draw is a function of the bank's seed, --step, --rank and these flags.\n\n" +
			"  membank bank sample npid -n 4096 --positives batch.npy --positive-first --step 100 -o ids.npy\n" +
			"  membank bank sample npid -n 64 --positives 3,7 --exclude-positive",
		Flags: append(samplingFlags(), outputFlag("write the ids to `FILE.npy`, int64 [anchors][n]")),
		Action: action([]string{"NAME"}, func(ctx context.Context, s *session, c *ucli.Context, args []string) error {
			o, err := samplingOptions(s, c)
			if err != nil {
				return err
			}
			return s.memoryBank(ctx, args[0], false, func(b *memory.Bank) error {
				lines, err := b.Sample(ctx, o)
				if err != nil {
					return err
				}
				return s.printSample(c.String("output"), lines)
			})
		}),
	}
}

func samplingFlags() []ucli.Flag {
	return []ucli.Flag{
		&ucli.StringFlag{Name: "n", Usage: "`N` negatives an anchor"},
		&ucli.StringFlag{Name: "positives", Usage: "each anchor's own id: 0,5,9, or a `FILE` of integers"},
		&ucli.StringFlag{Name: "anchors", Usage: "`N` anchors, where they have no positives", DefaultText: "1"},
		&ucli.BoolFlag{Name: "positive-first", Usage: "put the positive before its negatives"},
		&ucli.BoolFlag{Name: "exclude-positive", Usage: "draw again what is the positive"},
		&ucli.StringFlag{Name: "exclude", Usage: "ids that nobody gets: 0,5,9, or a `FILE` of integers"},
		&ucli.StringFlag{Name: "weights", Usage: "odds of each id: `FILE` of floats; uniform without"},
		&ucli.BoolFlag{Name: "distinct", Usage: "no id twice for an anchor"},
		&ucli.StringFlag{Name: "step", Usage: "step `N` of the training run", DefaultText: "0"},
		&ucli.StringFlag{Name: "rank", Usage: "rank `N` of the process", DefaultText: "0"},
		scopeFlag(),
	}
}

func samplingOptions(s *session, c *ucli.Context) (o memory.SampleOptions, err error) {
	o = memory.SampleOptions{PositiveFirst: c.Bool("positive-first"), ExcludePositive: c.Bool("exclude-positive"), Distinct: c.Bool("distinct")}
	if o.Scope, err = scopeOf(c); err != nil {
		return o, err
	}
	n, err := counts(c, "n", "anchors")
	if err != nil {
		return o, err
	}
	if n["n"] == 0 {
		return o, usage("%s: say how many with -n", s.name)
	}
	o.N, o.Anchors = int(n["n"]), int(n["anchors"])
	for flag, to := range map[string]*int64{"step": &o.Step, "rank": &o.Rank} {
		if text := c.String(flag); text != "" {
			if *to, err = strconv.ParseInt(text, 10, 64); err != nil || *to < 0 {
				return o, usage("%s %s: not a number (write 0 or more)", dashed(flag), text)
			}
		}
	}
	for flag, to := range map[string]*[]int64{"positives": &o.Positives, "exclude": &o.Exclude} {
		if text := c.String(flag); text != "" {
			if *to, err = s.readIDs(text); err != nil {
				return o, err
			}
		}
	}
	if o.Positives == nil && (o.PositiveFirst || o.ExcludePositive) {
		return o, usage("%s: --positive-first and --exclude-positive need --positives", s.name)
	}
	if path := c.String("weights"); path != "" {
		weights, err := s.readFloats(path)
		if err != nil {
			return o, err
		}
		if o.Weights, err = memory.NewAlias(weights); err != nil {
			return o, fmt.Errorf("%s: %w", path, err)
		}
	}
	return o, nil
}

// readFloats reads an array of floats.
func (s *session) readFloats(path string) ([]float64, error) {
	if s.served != nil {
		a, err := s.served.array(path, "an array of floats")
		if err == nil && a.floats == nil {
			err = a.wrong("an array of floats in one dimension")
		}
		if err != nil {
			return nil, err
		}
		return a.floats, nil
	}
	a, err := dump.OpenArray(path, dump.Options{})
	if err != nil {
		return nil, err
	}
	defer a.Close()
	if a.Len() > 1<<32 {
		return nil, badInput("%s: %s are too many", path, plural(a.Len(), "number"))
	}
	some, list := make([]float32, 4096), make([]float64, 0, a.Len())
	for {
		n, err := a.Floats(some)
		if err == io.EOF {
			return list, nil
		}
		if err != nil {
			return nil, err
		}
		for _, x := range some[:n] {
			list = append(list, float64(x))
		}
	}
}

// drawnIDs is what sample prints.
type drawnIDs struct {
	IDs [][]int64 `json:"ids"` // a line an anchor
}

func (s *session) printSample(path string, lines [][]int64) error {
	if path == "" {
		return s.emit(drawnIDs{lines}, func(w io.Writer) {
			for _, line := range lines {
				fmt.Fprintln(w, strings.Trim(fmt.Sprint(line), "[]"))
			}
		})
	}
	if strings.ToLower(filepath.Ext(path)) != ".npy" {
		return usage("-o %s: unknown kind of file (.npy)", path)
	}
	width := 0
	if len(lines) > 0 {
		width = len(lines[0])
	}
	err := s.writeFile(path, func(w io.Writer) error {
		return dump.WriteNPY(w, slices.Concat(lines...), int64(len(lines)), int64(width))
	})
	if err != nil {
		return err
	}
	r := writtenRows{int64(len(lines)), path}
	return s.emit(r, func(w io.Writer) { fmt.Fprintf(w, "%s: %s of %d ids\n", r.File, plural(r.Rows, "line"), width) })
}

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

func bankLossCommand() *ucli.Command {
	return &ucli.Command{
		Name: "loss", Usage: "what a batch costs against a memory bank", ArgsUsage: "NAME",
		Description: "nce and infonce draw -n negatives for each row of the batch as sample does;\n" +
			"softmax compares it with every slot. nce keeps the bank's Z: estimated at the\n" +
			"first call and fixed (--z first), or averaged (--z ema).\n\n" +
			"  membank bank loss npid --vectors batch.npy --positives ids.npy -n 4096 --step 100\n" +
			"  membank bank loss npid --vectors batch.npy --positives ids.npy --kind softmax -T 0.07",
		Flags: append(samplingFlags(),
			&ucli.StringFlag{Name: "vectors", Usage: "the batch: `FILE`"},
			&ucli.StringFlag{Name: "kind", Usage: "`KIND`: nce, infonce or softmax", Value: "nce", DefaultText: "nce"},
			&ucli.StringFlag{Name: "T", Usage: "temperature `T`", Value: "0.07", DefaultText: "0.07"},
			&ucli.StringFlag{Name: "z", Usage: "of nce, `RULE`: first or ema", DefaultText: "first"},
		),
		Action: action([]string{"NAME"}, runBankLoss),
	}
}

func runBankLoss(ctx context.Context, s *session, c *ucli.Context, args []string) error {
	kind := c.String("kind")
	if !slices.Contains([]string{"nce", "infonce", "softmax"}, kind) {
		return usage("--kind %s: unknown (nce, infonce or softmax)", kind)
	}
	rule, err := one(c, "z", []memory.ZRule{memory.ZFirst, memory.ZEMA})
	if err != nil {
		return err
	}
	t, err := strconv.ParseFloat(c.String("T"), 64)
	if err != nil || !(t > 0) {
		return usage("-T %s: not a temperature (above 0)", c.String("T"))
	}
	if c.String("vectors") == "" || c.String("positives") == "" {
		return usage("%s: give the batch with --vectors and the ids of its samples with --positives", s.name)
	}
	var o memory.SampleOptions
	if kind != "softmax" {
		if o, err = samplingOptions(s, c); err != nil {
			return err
		}
		o.PositiveFirst = true
	} else {
		if o.Positives, err = s.readIDs(c.String("positives")); err != nil {
			return err
		}
		if o.Scope, err = scopeOf(c); err != nil {
			return err
		}
	}
	queries, err := s.readMatrix(ctx, c.String("vectors"))
	if err != nil {
		return err
	}
	return s.memoryBank(ctx, args[0], kind == "nce", func(b *memory.Bank) error {
		var l memory.Loss
		if kind == "softmax" {
			l, err = b.FullSoftmax(ctx, 0, queries, o.Positives, t, o.Scope)
		} else {
			l, err = sampledLoss(ctx, b, queries, o, kind, memory.NCEOptions{T: t, Rule: rule, Durability: memory.Sync})
		}
		if err != nil {
			return err
		}
		return s.emit(l, func(w io.Writer) {
			fields := [][2]string{{"loss", strconv.FormatFloat(l.Loss, 'f', 6, 64)}, {"accuracy", percent(l.Right) + " %"}}
			if l.Z > 0 {
				fields = append(fields, [2]string{"Z", strconv.FormatFloat(l.Z, 'g', 8, 64)})
			}
			printFields(w, fields)
		})
	})
}

func sampledLoss(ctx context.Context, b *memory.Bank, queries simd.Matrix, o memory.SampleOptions, kind string, nce memory.NCEOptions) (memory.Loss, error) {
	ids, err := b.Sample(ctx, o)
	if err != nil {
		return memory.Loss{}, err
	}
	scores, err := b.Scores(ctx, 0, queries, ids)
	if err != nil {
		return memory.Loss{}, err
	}
	if kind == "infonce" {
		return memory.InfoNCE(scores, nce.T)
	}
	return b.NCE(ctx, scores, nce)
}
