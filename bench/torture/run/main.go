// Run tortures membank databases and reports what broke:
//
//	go run ./bench/torture/run --for 60s
//	go run ./bench/torture/run --kills 200
//	go run ./bench/torture/run --damages 2000
//
// It exits with 1 if a fault was found.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"

	"membank/bench/torture"
)

func main() {
	if len(os.Args) > 1 && os.Args[1] == torture.ChildArgument {
		os.Exit(torture.Child(os.Args[2:]))
	}
	var o torture.Options
	asJSON := flag.Bool("json", false, "print the report as JSON")
	quiet := flag.Bool("quiet", false, "no progress on stderr")
	flag.DurationVar(&o.For, "for", 0, "iterate for so long (60s in CI, 8h for a night)")
	flag.IntVar(&o.Kills, "kills", 0, "iterate until so many processes were killed within a change")
	flag.IntVar(&o.Damages, "damages", 0, "iterate until so many copies were damaged")
	flag.StringVar(&o.Only, "only", "", "one scenario: "+strings.Join(torture.Scenarios, ", "))
	flag.Uint64Var(&o.Seed, "seed", 0, "seed; 0 takes one from the clock")
	flag.StringVar(&o.Dir, "dir", "", "where to make databases (a file system in memory is fastest)")
	flag.IntVar(&o.Faults, "faults", 5, "stop after so many faults")
	flag.Parse()
	if !*quiet {
		o.Log = os.Stderr
	}
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt)
	defer cancel()
	report, err := torture.Run(ctx, o)
	if *asJSON {
		encoder := json.NewEncoder(os.Stdout)
		encoder.SetIndent("", "  ")
		encoder.Encode(report)
	} else {
		report.Write(os.Stdout)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "torture:", err)
	}
	if err != nil || len(report.Faults) > 0 {
		os.Exit(1)
	}
}
