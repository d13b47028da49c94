// Run compares membank with the vector libraries that it finds on the machine:
//
//	go run ./bench/peers/run
//	go run ./bench/peers/run --rows 100000 --sets ssl --k 1,20,200 --plots plots
//	go run ./bench/peers/run --task ivf --nlist 2048 --peers faiss --k 10 --plots plots
//	go run ./bench/peers/run --graphs --peers faiss,usearch,hnsw --json
//	go run ./bench/peers/run --kmeans 10000 --rows 1281167 --dim 256
//
// It exits with 1 if membank's own paths disagree.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strconv"
	"strings"

	"membank/bench/peers"
	"membank/simd"
)

func main() {
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt)
	defer cancel()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "peers:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	var o peers.Options
	asJSON := flag.Bool("json", false, "print the report as JSON")
	markdown := flag.Bool("markdown", false, "print tables as Markdown")
	quiet := flag.Bool("quiet", false, "no progress on stderr")
	plots := flag.String("plots", "", "write SVG plots into this directory")
	k := flag.String("k", "20", "neighbours, one or more numbers with commas")
	sets := flag.String("sets", strings.Join(peers.SetNames, ","), "sets of rows")
	names := flag.String("peers", strings.Join(peers.PeerNames, ","), "peers to look for")
	level := flag.String("simd", "", "SIMD level to hold membank, FAISS and OpenBLAS to")
	flag.StringVar(&o.Dir, "dir", "", "where rows and the database are made, which must have room")
	flag.Int64Var(&o.Rows, "rows", 0, "rows of a set (400000)")
	flag.IntVar(&o.Dim, "dim", 0, "dimensions of the set ssl (384)")
	flag.IntVar(&o.Queries, "queries", 0, "queries of the batch (2048)")
	flag.IntVar(&o.Singles, "singles", 0, "single queries in a round (16), -1 for none")
	flag.IntVar(&o.Threads, "threads", 0, "threads of everyone (all cores)")
	flag.IntVar(&o.Rounds, "rounds", 0, "rounds (5)")
	flag.DurationVar(&o.Budget, "budget", 0, "time of a turn; a slow peer gets fewer turns, or single queries (10s)")
	flag.IntVar(&o.Truth, "truth", 0, "queries whose recall is measured (64)")
	flag.Uint64Var(&o.Seed, "seed", 0, "seed of the rows")
	flag.BoolVar(&o.Graphs, "graphs", false, "the peers' approximate indexes as well")
	task := flag.String("task", "exact", "exact, or ivf: indexes by list, with --graphs graphs, at several recalls")
	flag.IntVar(&o.Lists, "nlist", 0, "lists of the task ivf (4 times the root of the rows)")
	flag.BoolVar(&o.Offline, "offline", false, "download nothing")
	flag.StringVar(&o.Features, "features", "", "rows of the set real, .npy")
	flag.StringVar(&o.FeatureQueries, "feature-queries", "", "queries of the set real, .npy")
	clusters := flag.Int("kmeans", 0, "compare k-means with so many clusters instead of searches")
	iterations := flag.Int("iterations", 10, "iterations of k-means")
	flag.Parse()
	for _, word := range strings.Split(*k, ",") {
		n, err := strconv.Atoi(word)
		if err != nil || n < 1 {
			return fmt.Errorf("--k %s: not a list of numbers (write 1,20,200)", *k)
		}
		o.K = append(o.K, n)
	}
	switch {
	case *task == "ivf" && o.Lists == 0:
		o.Lists = peers.DefaultLists(o.Rows)
	case *task == "exact" && o.Lists == 0, *task == "ivf":
	case *task == "exact":
		return fmt.Errorf("--nlist %d: is for --task ivf", o.Lists)
	default:
		return fmt.Errorf("--task %s: unknown (exact or ivf)", *task)
	}
	o.Sets, o.Peers, o.Level = words(*sets), words(*names), simd.Level(*level)
	if !*quiet {
		o.Progress = func(line string) { fmt.Fprintln(os.Stderr, line) }
	}
	if *clusters != 0 {
		report, err := peers.KMeans(ctx, o, *clusters, *iterations)
		return print(report, err, *asJSON, *markdown)
	}
	report, err := peers.Run(ctx, o)
	if err = print(report, err, *asJSON, *markdown); err != nil {
		return err
	}
	if err == nil && *plots != "" {
		if err = os.MkdirAll(*plots, 0o755); err == nil {
			_, err = report.WritePlots(*plots)
			if err == nil && o.Lists > 0 {
				_, err = report.WriteCurves(*plots)
			}
		}
	}
	for _, s := range report.Sets {
		if err == nil && s.Different > 0 {
			err = fmt.Errorf("set %s: membank's paths differ in %d answers", s.Set, s.Different)
		}
	}
	return err
}

// printable is a report.
type printable interface {
	Write(io.Writer) error
	WriteMarkdown(io.Writer) error
}

// print writes a report to stdout, unless there is none.
func print(report printable, err error, asJSON, markdown bool) error {
	switch {
	case err != nil:
		return err
	case asJSON:
		encoder := json.NewEncoder(os.Stdout)
		encoder.SetIndent("", "  ")
		return encoder.Encode(report)
	case markdown:
		return report.WriteMarkdown(os.Stdout)
	}
	return report.Write(os.Stdout)
}

// words splits a list with commas; an empty one has none.
func words(list string) []string {
	out := []string{}
	for _, w := range strings.Split(list, ",") {
		if w = strings.TrimSpace(w); w != "" {
			out = append(out, w)
		}
	}
	return out
}
