package cli

import (
	"context"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"membank/bench/perf"
	"membank/bench/torture"
	"membank/index"
	"membank/index/memory"

	ucli "github.com/urfave/cli/v2"
)

func benchCommand() *ucli.Command {
	dir := &ucli.StringFlag{Name: "dir", Usage: "work in `DIR`, which must have room", DefaultText: "the system's for temporary files"}
	dim := &ucli.StringFlag{Name: "dim", Usage: "`DIM` dimensions", DefaultText: "384; evaluate 768"}
	rows := &ucli.StringFlag{Name: "rows", Usage: "`N` rows", DefaultText: "400000"}
	return &ucli.Command{
		Name: "bench", Usage: "measure speed beside the machine's limits, torture the store, soak the server",
		Subcommands: []*ucli.Command{
			{
				Name: "kernels", Usage: "the kernels of every SIMD level, against FMA and int8 peak and memory",
				Description: "  membank bench kernels",
				Flags:       []ucli.Flag{dim},
				Action:      figures(benchKernels),
			},
			{
				Name: "search", Usage: "batches of queries and single ones, exact, with whole rows and with codes",
				Description: "Both ways take turns, and their answers are compared bit for bit. Rates count\n" +
					"every pair, computed or saved: above 100 % of the limit is what codes save.\n" +
					"MEMBANK_SIMD=avx2 (or generic) forces a lesser level.\n\n" +
					"  membank bench search\n" +
					"  membank bench search --rows 100000 --dim 2048 --noise 0.01\n" +
					"  membank bench search --rows 100000 --metric l2 -k 20\n" +
					"  MEMBANK_SIMD=avx2 membank bench search",
				Flags: []ucli.Flag{rows, dim, dir,
					&ucli.StringFlag{Name: "queries", Usage: "`N` queries of the batch", DefaultText: "2048"},
					&ucli.StringFlag{Name: "k", Usage: "`K` neighbours of each query, or several numbers: K,K,…", DefaultText: "20,200"},
					&ucli.StringFlag{Name: "rank", Usage: "a gallery of `N` directions with structure", DefaultText: "64"},
					&ucli.StringFlag{Name: "noise", Usage: "with so much energy beside them, as a `SHARE` of theirs", DefaultText: "0.05"},
					&ucli.StringFlag{Name: "metric", Usage: "`METRIC`: cosine, dot or l2", Value: "cosine", DefaultText: "cosine"},
				},
				Action: figures(benchSearch),
			},
			{
				Name: "ingest", Usage: "from .npy to a durable bank, and to its codes, against cp and fsync",
				Description: "  membank bench ingest --dir /data",
				Flags:       []ucli.Flag{rows, dim, dir},
				Action:      figures(benchIngest),
			},
			{
				Name: "bank", Usage: "steps of a memory bank and a queue, in process and from Python over HTTP",
				Description: "Beside them the same with NumPy arrays in memory, in turns. Where there is no\n" +
					"python3 with NumPy, the steps in process are measured alone.\n\n" +
					"  membank bench bank\n  membank bench bank --rows 50000 --durability sync --dir /data",
				Flags: []ucli.Flag{dim, dir,
					&ucli.StringFlag{Name: "rows", Usage: "`N` slots", DefaultText: "1281167"},
					&ucli.StringFlag{Name: "batch", Usage: "`N` rows of an update and of a push", DefaultText: "256"},
					&ucli.StringFlag{Name: "negatives", Usage: "`N` rows gathered before an update", DefaultText: "4096"},
					&ucli.StringFlag{Name: "queue", Usage: "a queue of `N` rows", DefaultText: "65536"},
					&ucli.StringFlag{Name: "steps", Usage: "`N` steps of each kind", DefaultText: "600"},
					&ucli.StringFlag{Name: "durability", Usage: "`WHAT` a step survives: " + names(memory.Durabilities), DefaultText: "log"},
				},
				Action: figures(benchBank),
			},
			{
				Name: "evaluate", Usage: "a gallery far larger than --memory, and the memory it takes",
				Description: "  membank bench evaluate --size 6GB --memory 512MB --dir /data\n" +
					"  membank bench evaluate --rows 1281167 --dim 384 --queries 50000 -k 200 --dir /data",
				Flags: []ucli.Flag{dim, dir,
					&ucli.StringFlag{Name: "rows", Usage: "gallery of `N` rows", DefaultText: "as many as --size holds"},
					&ucli.StringFlag{Name: "size", Usage: "gallery of `SIZE`", DefaultText: "6GB"},
					&ucli.StringFlag{Name: "queries", Usage: "`N` queries", DefaultText: "2000"},
					&ucli.StringFlag{Name: "k", Usage: "`K` neighbours of each query, or several numbers: K,K,…", DefaultText: "10,20,100,200"},
					noCodesFlag(),
				},
				Action: figures(benchEvaluate),
			},
			{
				Name: "kmeans", Usage: "iterations of k-means over a bank, without codes and with them",
				Description: "  membank bench kmeans\n" +
					"  membank bench kmeans --rows 1281167 --dim 256 --clusters 10000 --iterations 3 --dir /data",
				Flags: []ucli.Flag{dir,
					&ucli.StringFlag{Name: "rows", Usage: "`N` rows", DefaultText: "200000"},
					&ucli.StringFlag{Name: "dim", Usage: "`DIM` dimensions", DefaultText: "256"},
					&ucli.StringFlag{Name: "clusters", Aliases: []string{"c"}, Usage: "`K` clusters", DefaultText: "a hundredth of the rows"},
					&ucli.StringFlag{Name: "iterations", Usage: "`N` iterations of each way", DefaultText: "5"},
				},
				Action: figures(benchKMeans),
			},
			{
				Name: "torture", Usage: "kill, damage and fill databases, and look whether they lie",
				Description: "  membank bench torture --for 60s\n  membank bench torture --kills 200\n  membank bench torture --for 8h --dir /data",
				Flags: []ucli.Flag{dir,
					&ucli.StringFlag{Name: "for", Usage: "go on for `TIME`, e.g. 60s or 8h"},
					&ucli.StringFlag{Name: "kills", Usage: "go on until `N` processes were killed within a change"},
					&ucli.StringFlag{Name: "damages", Usage: "go on until `N` copies were damaged"},
					&ucli.StringFlag{Name: "only", Usage: "one `SCENARIO`: " + strings.Join(torture.Scenarios, ", ")},
					&ucli.StringFlag{Name: "seed", Usage: "repeat the run with seed `N`"},
				},
				Action: action(nil, runTorture),
			},
			benchSoakCommand(),
		},
	}
}

// figures makes the action of a benchmark from what measures.
func figures(measure func(context.Context, *session, *ucli.Context, perf.Progress) ([]perf.Figure, error)) ucli.ActionFunc {
	return action(nil, func(ctx context.Context, s *session, c *ucli.Context, _ []string) error {
		var progress bar
		stage, all := "", int64(-1)
		list, err := measure(ctx, s, c, func(name string, done, total int64) {
			if name != stage || total != all {
				progress.close()
				stage, all = name, total
				progress = s.newBar("bench: "+name, "", total)
			}
			progress.set(done)
		})
		progress.close()
		if err != nil {
			return err
		}
		return s.emit(list, func(w io.Writer) { printFigures(w, list) })
	})
}

func printFigures(w io.Writer, list []perf.Figure) {
	rows := make([][]string, len(list))
	for i, f := range list {
		limit, share := "", ""
		if f.Limit > 0 {
			limit, share = figureText(f.Limit), percent(f.OfPeak)
		}
		rows[i] = []string{f.Name, figureText(f.Value), f.Unit, limit, share}
	}
	printTable(w, []column{left("figure"), number("value"), left("unit"), number("limit"), number("% of limit")}, rows)
}

// figureText keeps four digits.
func figureText(v float64) string {
	switch {
	case v >= 1000:
		return count(int64(v + 0.5))
	case v >= 100:
		return strconv.FormatFloat(v, 'f', 1, 64)
	case v >= 10:
		return strconv.FormatFloat(v, 'f', 2, 64)
	}
	return strconv.FormatFloat(v, 'g', 4, 64)
}

// whole64 reads a flag that counts something; absent it is 0, which the benchmarks
// take for their own default.
func whole64(c *ucli.Context, name string) (int64, error) {
	text := c.String(name)
	if text == "" {
		return 0, nil
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < 1 {
		return 0, usage("%s %s: not a number (write 1 or more)", dashed(name), text)
	}
	return n, nil
}

// counts reads several of them.
func counts(c *ucli.Context, names ...string) (map[string]int64, error) {
	all := map[string]int64{}
	for _, name := range names {
		n, err := whole64(c, name)
		if err != nil {
			return nil, err
		}
		all[name] = n
	}
	return all, nil
}

// neighbourCounts reads -k of a benchmark; nil is its own default.
func neighbourCounts(c *ucli.Context) (ks []int, err error) {
	if c.String("k") == "" {
		return nil, nil
	}
	for field := range strings.SplitSeq(c.String("k"), ",") {
		k, err := strconv.Atoi(strings.TrimSpace(field))
		if err != nil || k < 1 {
			return nil, usage("-k %s: %q is not a number of neighbours (write 20,200)", c.String("k"), field)
		}
		ks = append(ks, k)
	}
	return ks, nil
}

func benchKernels(ctx context.Context, s *session, c *ucli.Context, p perf.Progress) ([]perf.Figure, error) {
	n, err := counts(c, "dim")
	if err != nil {
		return nil, err
	}
	o := perf.KernelOptions{Dim: int(n["dim"]), Progress: p}
	if s.threads > 0 {
		o.Threads = []int{s.threads}
	}
	return perf.Kernels(ctx, o)
}

func benchSearch(ctx context.Context, s *session, c *ucli.Context, p perf.Progress) ([]perf.Figure, error) {
	n, err := counts(c, "rows", "dim", "queries", "rank")
	if err != nil {
		return nil, err
	}
	ks, err := neighbourCounts(c)
	if err != nil {
		return nil, err
	}
	metric, err := index.ParseMetric(c.String("metric"))
	if err != nil {
		return nil, usage("--metric %s: no such metric (cosine, dot or l2)", c.String("metric"))
	}
	noise := 0.0
	if text := c.String("noise"); text != "" {
		if noise, err = strconv.ParseFloat(text, 64); err != nil || !(noise > 0 && noise < 1e6) {
			return nil, usage("--noise %s: not a share (write 0.01)", text)
		}
	}
	return perf.Search(ctx, perf.SearchOptions{
		Dir: c.String("dir"), Rows: n["rows"], Dim: int(n["dim"]), Queries: int(n["queries"]), K: ks, Rank: int(n["rank"]), Noise: noise,
		Metric: metric, Threads: s.threads, Progress: p,
	})
}

func benchIngest(ctx context.Context, s *session, c *ucli.Context, p perf.Progress) ([]perf.Figure, error) {
	n, err := counts(c, "rows", "dim")
	if err != nil {
		return nil, err
	}
	return perf.Ingest(ctx, perf.IngestOptions{Dir: c.String("dir"), Rows: n["rows"], Dim: int(n["dim"]), Threads: s.threads, Progress: p})
}

func benchBank(ctx context.Context, s *session, c *ucli.Context, p perf.Progress) ([]perf.Figure, error) {
	n, err := counts(c, "rows", "dim", "batch", "negatives", "queue", "steps")
	if err != nil {
		return nil, err
	}
	d, err := one(c, "durability", memory.Durabilities)
	if err != nil {
		return nil, err
	}
	figures, err := perf.Memory(ctx, perf.MemoryOptions{
		Dir: c.String("dir"), Rows: n["rows"], Dim: int(n["dim"]), Batch: int(n["batch"]), Negatives: int(n["negatives"]),
		Queue: n["queue"], Steps: int(n["steps"]), Durability: d, Progress: p, Serve: serveForBench, Client: pythonClient,
	})
	if err == nil && !slices.ContainsFunc(figures, func(f perf.Figure) bool { return strings.Contains(f.Name, "Python") }) {
		s.remark("no python3 with NumPy is here: nothing was measured over HTTP, and there is no baseline")
	}
	return figures, err
}

func benchEvaluate(ctx context.Context, s *session, c *ucli.Context, p perf.Progress) ([]perf.Figure, error) {
	n, err := counts(c, "rows", "dim", "queries")
	if err != nil {
		return nil, err
	}
	o := perf.EvaluateOptions{
		Dir: c.String("dir"), Rows: n["rows"], Dim: int(n["dim"]), Queries: n["queries"],
		NoCodes: c.Bool("no-codes"), Memory: s.memory, Threads: s.threads, Progress: p,
	}
	if o.K, err = neighbourCounts(c); err != nil {
		return nil, err
	}
	if text := c.String("size"); text != "" {
		if o.Rows > 0 {
			return nil, usage("%s: --rows and --size exclude each other (give one)", s.name)
		}
		if o.Bytes, err = parseSize(text); err != nil {
			return nil, usage("--size: %v", err)
		}
	}
	return perf.Evaluate(ctx, o)
}

func benchKMeans(ctx context.Context, s *session, c *ucli.Context, p perf.Progress) ([]perf.Figure, error) {
	n, err := counts(c, "rows", "dim", "clusters", "iterations")
	if err != nil {
		return nil, err
	}
	return perf.KMeans(ctx, perf.KMeansOptions{
		Dir: c.String("dir"), Rows: n["rows"], Dim: int(n["dim"]), Clusters: int(n["clusters"]), Iterations: int(n["iterations"]),
		Memory: s.memory, Threads: s.threads, Progress: p,
	})
}

func runTorture(ctx context.Context, s *session, c *ucli.Context, _ []string) error {
	n, err := counts(c, "kills", "damages", "seed")
	if err != nil {
		return err
	}
	o := torture.Options{Dir: c.String("dir"), Seed: uint64(n["seed"]), Kills: int(n["kills"]), Damages: int(n["damages"]), Only: c.String("only")}
	if text := c.String("for"); text != "" {
		if o.For, err = time.ParseDuration(text); err != nil || o.For <= 0 {
			return usage("--for %s: not a time (write 60s, 10m or 8h)", text)
		}
	}
	if o.Only != "" && !strings.Contains(" "+strings.Join(torture.Scenarios, " ")+" ", " "+o.Only+" ") {
		return usage("--only %s: no such scenario (%s)", o.Only, strings.Join(torture.Scenarios, ", "))
	}
	if !s.quiet {
		o.Log = s.stderr
	}
	report, err := torture.Run(ctx, o)
	if err != nil {
		return err
	}
	if err := s.emit(report, func(w io.Writer) { report.Write(w) }); err != nil {
		return err
	}
	if faults := len(report.Faults); faults > 0 {
		return fmt.Errorf("torture: %s (the report says how to repeat them and where the evidence is)", plural(faults, "fault"))
	}
	return nil
}

// tortureChild runs the part of torture that is a process of its own, and reports
// whether this process is one.
func tortureChild() (exit int, is bool) {
	if len(os.Args) > 1 && os.Args[1] == torture.ChildArgument {
		return torture.Child(os.Args[2:]), true
	}
	return 0, false
}
