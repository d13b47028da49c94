package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"membank/index"
	"membank/simd"
	"membank/store"
	"membank/store/dump"

	"github.com/RoaringBitmap/roaring/v2/roaring64"
	ucli "github.com/urfave/cli/v2"
)

func queryCommand() *ucli.Command {
	return &ucli.Command{
		Name: "query", Usage: "find the nearest rows of a bank", ArgsUsage: "BANK",
		Description: "Asks with the vectors of a file, with rows of the bank, or with all rows of\n" +
			"another one. Answers are exact and ordered by score, then by row; the same\n" +
			"question always gets the same bits. A bank that was grouped (membank index build)\n" +
			"also answers approximately, faster: with --recall or --nprobe, and with the recall\n" +
			"that was measured.\n\n" +
			"  membank query train --row 0 --exclude-self -k 5\n" +
			"  membank query train --vectors test.npy --json > neighbours.jsonl\n" +
			"  membank query train --from test -k 20 -o neighbours.npz\n" +
			"  membank query train --from test --recall 0.99 -o neighbours.npz\n" +
			"  membank query train --key img/7.png --where 'class != \"Bag\"' -o page.html --images photos",
		Flags: []ucli.Flag{
			&ucli.StringFlag{Name: "vectors", Usage: "ask with each row of `FILE`"},
			&ucli.StringSliceFlag{Name: "key", Usage: "ask with the row of this `KEY` (may be given again)"},
			&ucli.StringFlag{Name: "row", Usage: "ask with row `N` of the bank, or with several: N,N,…"},
			&ucli.StringFlag{Name: "from", Usage: "ask with every row of bank `BANK2`"},
			&ucli.StringFlag{Name: "array", Usage: "`NAME` of the array of an .npz given to --vectors"},
			&ucli.StringFlag{Name: "k", Usage: "`K` neighbours of each query; 0 with --min-score: all that reach it", Value: "10", DefaultText: "10"},
			&ucli.StringFlag{Name: "metric", Usage: "`METRIC`: cosine, dot, or l2 (prints squared distances)", Value: "cosine", DefaultText: "cosine"},
			&ucli.BoolFlag{Name: "exact", Usage: "compare every row (so it is without this flag, too)"},
			&ucli.StringFlag{Name: "nprobe", Usage: "read `N` lists of an IVF index"},
			&ucli.StringFlag{Name: "recall", Usage: "read enough lists for this recall `R`, 0..1"},
			&ucli.StringFlag{Name: "where", Usage: "only rows for which `EXPR` holds, over row, key, label, class and attributes"},
			&ucli.StringFlag{Name: "min-score", Usage: "only rows that score at least `S` (l2: at most)"},
			&ucli.BoolFlag{Name: "exclude-self", Usage: "no row is its own neighbour (with --key, --row, --from the same bank)"},
			outputFlag("write the answers to `FILE`: .npz, .csv or .html"),
			noCodesFlag(),
			&ucli.StringFlag{Name: "images", Usage: "`DIR` where keys are paths of images, for .html"},
		},
		Action: action([]string{"BANK"}, runQuery),
	}
}

func runQuery(ctx context.Context, s *session, c *ucli.Context, args []string) error {
	start := time.Now()
	options, err := searchOptions(s, c)
	if err != nil {
		return err
	}
	ask, err := askingFlags(s, c, args[0])
	if err != nil {
		return err
	}
	return s.reading(ctx, func(db *store.DB) error {
		return snapshot(db, args[0], func(snap *store.Snapshot) error {
			if where := c.String("where"); where != "" {
				if options.Allow, err = allowWhere(ctx, snap, where); err != nil {
					return err
				}
			}
			q := asking{asked: ask, db: db, snap: snap, batch: batchRows(snap.Info().Dim, options.K, s.memory)}
			q.approximate = &approximate{}
			q.open = func() (*dump.Reader, error) { return s.openFeatures(ask.vectors, ask.array) }
			images := c.String("images")
			if s.served != nil {
				images = s.served.images
			}
			sink, err := newAnswers(answering{s: s, snap: snap, options: options, where: c.String("where"), path: c.String("output"), approximate: q.approximate}, images)
			if err != nil {
				return err
			}
			defer sink.abort()
			if why := s.whole(c, snap, options.Metric); why != "" {
				s.remark("%s: the search compares every row (recall 1)", why)
			}
			queries, err := q.search(ctx, s, options, sink)
			if err != nil {
				return err
			}
			return sink.finish(queries, time.Since(start).Seconds())
		})
	})
}

// noCodesFlag is for measuring what codes are worth.
func noCodesFlag() ucli.Flag {
	return &ucli.BoolFlag{Name: "no-codes", Usage: "compare whole rows only, without codes; the answer is the same"}
}

// searchOptions reads the flags that say what is searched for.
func searchOptions(s *session, c *ucli.Context) (o index.Options, err error) {
	o.Threads, o.Memory, o.NoCodes = s.threads, s.memory/2, c.Bool("no-codes")
	if o.Metric, err = index.ParseMetric(c.String("metric")); err != nil {
		return o, usage("--metric %s: no such metric (cosine, dot or l2)", c.String("metric"))
	}
	if text := c.String("min-score"); text != "" {
		score, err := strconv.ParseFloat(text, 32)
		if err != nil || math.IsNaN(score) {
			return o, usage("--min-score %s: not a number (a cosine is in -1..1)", text)
		}
		o.MinScore, o.HasMinScore = float32(score), true
	}
	k, err := strconv.Atoi(c.String("k"))
	if err != nil || k < 0 || k == 0 && !o.HasMinScore {
		return o, usage("-k %s: not a number of neighbours (write 1 or more; 0 only with --min-score)", c.String("k"))
	}
	o.K = k
	return o, probeOptions(c, &o)
}

// allowWhere is the rows of an expression as a search takes them.
func allowWhere(ctx context.Context, snap *store.Snapshot, where string) (func(int64) bool, error) {
	f, err := compileFilter(ctx, snap, where)
	if err != nil {
		return nil, err
	}
	rows := roaring64.New()
	if err := f.match(ctx, snap, func(row int64) { rows.Add(uint64(row)) }); err != nil {
		return nil, err
	}
	return func(row int64) bool { return rows.Contains(uint64(row)) }, nil
}

// batchRows is how many queries are asked at once: as many as a quarter of the
// budget holds with their answers, enough to keep the kernels busy, never more
// than are needed for that.
func batchRows(dim, k int, memory int64) int {
	if memory == 0 {
		memory = 1 << 30
	}
	k = max(min(k, 1<<20), 10)
	perQuery := int64(4*dim) + 96*int64(k) + 256
	return int(max(1, min(4096, memory/4/perQuery)))
}

// asked says what the queries are: exactly one of the first four is set.
type asked struct {
	vectors, array string
	keys           []string
	rows           []int64
	from           string
	excludeSelf    bool
}

func askingFlags(s *session, c *ucli.Context, bank string) (a asked, err error) {
	a = asked{vectors: c.String("vectors"), array: c.String("array"), keys: c.StringSlice("key"), from: c.String("from"), excludeSelf: c.Bool("exclude-self")}
	given := 0
	for _, name := range []string{"vectors", "key", "row", "from"} {
		if c.IsSet(name) {
			given++
		}
	}
	if given != 1 {
		return a, usage("%s: ask with one of --vectors FILE, --key KEY, --row N, --from BANK", s.name)
	}
	if a.array != "" && a.vectors == "" {
		return a, usage("%s: --array names an array of the file given to --vectors", s.name)
	}
	if c.IsSet("row") {
		if a.rows, err = parseRows(c.String("row")); err != nil {
			return a, err
		}
	}
	if a.excludeSelf && (a.vectors != "" || a.from != "" && a.from != bank) {
		return a, usage("%s: --exclude-self needs queries that are rows of %s (ask with --key, --row or --from %s)", s.name, bank, bank)
	}
	if c.String("images") != "" && !strings.HasSuffix(c.String("output"), ".html") {
		return a, usage("%s: --images is for -o FILE.html", s.name)
	}
	return a, nil
}

// questions is one batch of queries: their vectors and, where they are rows of a
// bank, which.
type questions struct {
	vectors simd.Matrix
	rows    []int64  // of the bank they come from; nil: a file's
	keys    []string // nil: a file's
	labels  []int64  // nil: a file's
}

// slice is queries from up to to.
func (q questions) slice(from, to int) questions {
	part := questions{vectors: q.vectors.Slice(from, to)}
	if q.rows != nil {
		part.rows = q.rows[from:to]
	}
	if q.keys != nil {
		part.keys = q.keys[from:to]
	}
	if q.labels != nil {
		part.labels = q.labels[from:to]
	}
	return part
}

// asking gives the queries in batches and searches for them.
type asking struct {
	asked
	db    *store.DB
	snap  *store.Snapshot
	batch int
	open  func() (*dump.Reader, error) // the file of vectors

	*approximate // what is said of answers that are
}

// search asks batch after batch and hands the answers to the sink; memory is
// bounded by the batch. It returns the number of queries.
func (a *asking) search(ctx context.Context, s *session, o index.Options, sink answers) (int64, error) {
	ix := index.New(a.snap)
	total, err := a.total()
	if err != nil {
		return 0, err
	}
	progress := s.newBar("query", "queries", total)
	if s.interactive {
		progress = bar{} // it would run into the answers
	}
	defer progress.close()
	var done, cut int64
	err = a.batches(ctx, func(q questions) error {
		if q.vectors.Dim != a.snap.Info().Dim {
			return badInput("%s: %d dimensions, and bank %q has %d (ask with embeddings of the same model)", a.name(), q.vectors.Dim, a.snap.Bank(), a.snap.Info().Dim)
		}
		return a.answer(ctx, ix, q, o, func(q questions, r index.Result, err error) error {
			if err == nil && a.begins(r) {
				err = a.measure(ctx, ix, q, r, o)
			}
			if err != nil {
				return a.queryError(err, done)
			}
			a.count(r, q.vectors.Rows)
			found := r.Hits
			if err := sink.write(ctx, done, q, found); err != nil {
				return err
			}
			for _, hits := range found {
				if o.HasMinScore && o.K > 0 && len(hits) == o.K {
					cut++
				}
			}
			done += int64(q.vectors.Rows)
			progress.set(done)
			return nil
		})
	})
	if cut > 0 && err == nil && !s.json {
		s.remark("%s reached k=%d: more rows may pass --min-score (-k 0 gives all)", pluralQueries(cut), o.K)
	}
	return done, err
}

// answer searches for a batch, in halves where the answers to all of it would
// outgrow the memory budget: a range search does not say beforehand how long they
// are. give is called in the order of the queries.
func (a *asking) answer(ctx context.Context, ix *index.Index, q questions, o index.Options, give func(questions, index.Result, error) error) error {
	if a.excludeSelf {
		o.ExcludeRow = q.rows
	}
	r, err := ix.Search(ctx, q.vectors, o)
	if n := q.vectors.Rows; errors.Is(err, index.ErrMemory) && n > 1 {
		if err := a.answer(ctx, ix, q.slice(0, n/2), o, give); err != nil {
			return err
		}
		return a.answer(ctx, ix, q.slice(n/2, n), o, give)
	}
	return give(q, r, err)
}

// queryError names the query in its file instead of in its batch.
func (a *asking) queryError(err error, done int64) error {
	var bad *index.QueryError
	if !errors.As(err, &bad) {
		return err
	}
	return fmt.Errorf("%s: row %d: %w", a.name(), done+int64(bad.Query), bad.Err)
}

// name is what the queries come from, for errors.
func (a *asking) name() string {
	switch {
	case a.vectors != "":
		return a.vectors
	case a.from != "":
		return fmt.Sprintf("bank %q", a.from)
	}
	return fmt.Sprintf("bank %q", a.snap.Bank())
}

func (a *asking) total() (int64, error) {
	switch {
	case a.vectors != "":
		return -1, nil
	case a.from != "":
		other, err := a.db.Snapshot(a.from)
		if err != nil {
			return 0, bankError(a.db, a.from, err)
		}
		defer other.Close()
		return other.Info().Rows, nil
	}
	return int64(len(a.keys) + len(a.rows)), nil
}

// batches calls fn with batch after batch, in order. What a batch holds is valid
// until fn returns.
func (a *asking) batches(ctx context.Context, fn func(questions) error) error {
	switch {
	case a.vectors != "":
		return fileBatches(ctx, a.open, a.batch, fn)
	case a.from != "":
		return snapshot(a.db, a.from, func(other *store.Snapshot) error {
			return other.Batches(ctx, a.batch, func(b store.Batch) error {
				return fn(questions{vectors: b.Vectors, rows: b.Rows, keys: b.Keys, labels: b.Labels})
			})
		})
	}
	rows := a.rows
	if len(a.keys) > 0 {
		var err error
		if rows, err = rowsOfKeys(ctx, a.snap, a.keys); err != nil {
			return err
		}
	}
	for part := range slices.Chunk(rows, a.batch) {
		got, err := a.snap.Rows(ctx, part, store.Want{Vector: true})
		if err != nil {
			return err
		}
		q := questions{vectors: simd.NewMatrix(len(got), a.snap.Info().Dim)}
		for i, r := range got {
			copy(q.vectors.Row(i), r.Vector)
			q.rows, q.keys, q.labels = append(q.rows, r.Row), append(q.keys, r.Key), append(q.labels, r.Label)
		}
		if err := fn(q); err != nil {
			return err
		}
	}
	return nil
}

// fileBatches reads a file of vectors in batches.
func fileBatches(ctx context.Context, open func() (*dump.Reader, error), size int, fn func(questions) error) error {
	r, err := open()
	if err != nil {
		return err
	}
	defer r.Close()
	vectors := simd.NewMatrix(int(min(int64(size), max(r.Rows(), 1))), r.Dim())
	for {
		n, err := r.Next(ctx, vectors)
		if n > 0 {
			if err := fn(questions{vectors: vectors.Slice(0, n), keys: r.Keys()}); err != nil {
				return err
			}
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}
