package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"path/filepath"
	"strings"
	"time"

	"membank/index"
	"membank/store"
	"membank/store/dump"

	ucli "github.com/urfave/cli/v2"
)

func graphCommand() *ucli.Command {
	return &ucli.Command{
		Name: "graph", Usage: "write the exact nearest-neighbour graph of a bank", ArgsUsage: "BANK",
		Description: "Every row gets its K nearest other rows, or with -k 0 all that reach --min-score.\n" +
			"The file is a sparse matrix that scipy.sparse.load_npz reads: entry [i, j] is the\n" +
			"score of row j for row i, each row best first. Deleted rows are empty.\n\n" +
			"  membank graph train -k 20 -o knn.npz\n" +
			"  membank graph train -k 20 --data distance -o knn.npz    for cleanlab, scikit-learn\n" +
			"  membank graph train -k 0 --min-score 0.95 -o duplicates.npz",
		Flags: []ucli.Flag{
			&ucli.StringFlag{Name: "k", Usage: "`K` neighbours of each row; 0 with --min-score: all that reach it", Value: "10", DefaultText: "10"},
			&ucli.StringFlag{Name: "metric", Usage: "`METRIC`: cosine, dot, or l2 (squared distances)", Value: "cosine", DefaultText: "cosine"},
			&ucli.StringFlag{Name: "min-score", Usage: "only rows that score at least `S` (l2: at most)"},
			&ucli.StringFlag{Name: "data", Usage: "`WHAT` the entries are: score, or distance (cosine: 1 - score; l2: its root)", Value: "score", DefaultText: "score"},
			noCodesFlag(),
			outputFlag("write the graph to `FILE`.npz"),
		},
		Action: action([]string{"BANK"}, runGraph),
	}
}

// graphReport is what the command prints.
type graphReport struct {
	Bank    string   `json:"bank"`
	Rows    int64    `json:"rows"` // live ones
	Edges   int64    `json:"edges"`
	Shape   [2]int64 `json:"shape"` // of the matrix: deleted rows count, too
	K       int      `json:"k"`     // 0: all that reach the minimal score
	Metric  string   `json:"metric"`
	Data    string   `json:"data"`
	File    string   `json:"file"`
	Seconds float64  `json:"seconds"`
}

func runGraph(ctx context.Context, s *session, c *ucli.Context, args []string) error {
	start := time.Now()
	o, err := searchOptions(s, c)
	if err != nil {
		return err
	}
	path := c.String("output")
	switch {
	case path == "":
		return usage("%s: where to? (give -o FILE.npz)", s.name)
	case !strings.EqualFold(filepath.Ext(path), ".npz"):
		return usage("-o %s: a graph is written as .npz (name such a file)", path)
	}
	value, err := edgeValue(c.String("data"), o.Metric)
	if err != nil {
		return err
	}
	return s.reading(ctx, func(db *store.DB) error {
		return snapshot(db, args[0], func(snap *store.Snapshot) error {
			file, err := s.createFile(path)
			if err != nil {
				return err
			}
			defer file.discard()
			spool, err := newSpool(s.spoolDir(filepath.Dir(path)))
			if err != nil {
				return fmt.Errorf("-o %s: %w", path, err)
			}
			defer spool.discard()
			stats, err := spoolGraph(ctx, s, snap, o, spool)
			if err != nil {
				return err
			}
			r := graphReport{
				Bank: snap.Bank(), Rows: stats.Rows, Edges: stats.Edges, Shape: [2]int64{spool.queries, spool.queries},
				K: o.K, Metric: o.Metric.String(), Data: c.String("data"), File: path,
			}
			if err := writeGraph(ctx, file, spool, stats.Edges, value); err != nil {
				return err
			}
			if err := file.keep(); err != nil {
				return err
			}
			r.Seconds = time.Since(start).Seconds()
			return s.emit(r, func(out io.Writer) {
				fmt.Fprintf(out, "%s: %s of %s in %s, by %s (%s)\n", r.File, plural(r.Edges, "edge"), plural(r.Rows, "row"), r.Bank, r.Metric, seconds(r.Seconds))
			})
		})
	})
}

// edgeValue is how an entry of the matrix follows from a score. A distance of
// cosine is no less than 0, though a score may exceed 1 by its rounding; that of
// l2 is the distance itself, as scikit-learn has it, not its square.
func edgeValue(data string, m index.Metric) (func(score float32) float32, error) {
	switch {
	case data == "score":
		return func(score float32) float32 { return score }, nil
	case data != "distance":
		return nil, usage("--data %s: unknown (score or distance)", data)
	case m == index.Cosine:
		return func(score float32) float32 { return max(0, 1-score) }, nil
	case m == index.L2:
		return func(score float32) float32 { return float32(math.Sqrt(float64(score))) }, nil
	}
	return nil, usage("--data distance: %v has none (use --metric cosine or l2)", m)
}

// spoolGraph finds the neighbours of every row and keeps them on disk; deleted
// rows have none.
func spoolGraph(ctx context.Context, s *session, snap *store.Snapshot, o index.Options, to *spool) (index.GraphStats, error) {
	progress := s.newBar("graph", "rows", snap.Info().Rows)
	defer progress.close()
	stats, err := index.New(snap).Graph(ctx, index.GraphOptions{
		K: o.K, Metric: o.Metric, MinScore: o.MinScore, HasMinScore: o.HasMinScore,
		NoCodes: o.NoCodes, Threads: o.Threads, Memory: o.Memory,
		Progress: func(done, _ int64) { progress.set(done) },
	}, func(row int64, hits []index.Hit) error {
		if err := to.skip(row); err != nil {
			return err
		}
		return to.add(hits)
	})
	switch {
	case err == nil:
		err = to.skip(snap.Info().Next)
	case errors.Is(err, index.ErrOverflow):
		err = fmt.Errorf("bank %q: %w", snap.Bank(), err)
	}
	return stats, err
}

// skip adds queries without hits up to number row.
func (s *spool) skip(row int64) error {
	for s.queries < row {
		if err := s.add(nil); err != nil {
			return err
		}
	}
	return nil
}

// writeGraph writes the spooled rows of a square matrix as scipy.sparse.save_npz
// does: indptr int64 [rows+1], indices int32 [edges] (int64 from 2³¹ rows on),
// data float32 [edges], shape int64 [2], format "csr".
func writeGraph(ctx context.Context, w io.Writer, rows *spool, edges int64, value func(float32) float32) error {
	z := dump.NewNPZWriter(w)
	array := func(name, descr string, length int64, put func(a *dump.NPYWriter, hits []index.Hit) error) error {
		a, err := z.Array(name, descr, length)
		if err != nil {
			return err
		}
		if name == "indptr" {
			err = a.Int64([]int64{0})
		}
		if err == nil {
			err = rows.each(func(hits []index.Hit) error {
				if ctx.Err() != nil {
					return context.Cause(ctx)
				}
				return put(a, hits)
			})
		}
		if err != nil {
			return err
		}
		return a.Close()
	}
	total := int64(0)
	if err := array("indptr", "<i8", rows.queries+1, func(a *dump.NPYWriter, hits []index.Hit) error {
		total += int64(len(hits))
		return a.Int64([]int64{total})
	}); err != nil {
		return err
	}
	var err error
	if rows.queries <= math.MaxInt32 {
		var line []int32
		err = array("indices", "<i4", edges, func(a *dump.NPYWriter, hits []index.Hit) error {
			line = line[:0]
			for _, h := range hits {
				line = append(line, int32(h.Row))
			}
			return a.Int32(line)
		})
	} else {
		var line []int64
		err = array("indices", "<i8", edges, func(a *dump.NPYWriter, hits []index.Hit) error {
			line = line[:0]
			for _, h := range hits {
				line = append(line, h.Row)
			}
			return a.Int64(line)
		})
	}
	if err != nil {
		return err
	}
	var line []float32
	if err := array("data", "<f4", edges, func(a *dump.NPYWriter, hits []index.Hit) error {
		line = line[:0]
		for _, h := range hits {
			line = append(line, value(h.Score))
		}
		return a.Float32(line)
	}); err != nil {
		return err
	}
	if err := z.Write("shape", []int64{rows.queries, rows.queries}); err != nil {
		return err
	}
	format, err := z.Array("format", "|S3")
	if err != nil {
		return err
	}
	if err := format.Bytes([]string{"csr"}); err != nil {
		return err
	}
	if err := format.Close(); err != nil {
		return err
	}
	return z.Close()
}
