package cli

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"time"

	"membank/cli/soak"

	ucli "github.com/urfave/cli/v2"
)

// soakDuration is that of a soak which is told neither how long nor how many kills.
const soakDuration = 10 * time.Minute

func benchSoakCommand() *ucli.Command {
	return &ucli.Command{
		Name: "soak", Usage: "clients that write one memory bank of a server, and kills of that server",
		Description: "Starts a server of its own and writes memory banks through it, as ranks of a\n" +
			"training run do. Clients that share a bank: no update is lost or done twice, no\n" +
			"row and no batch is torn, versions never decrease. With --kills the server is\n" +
			"killed (kill -9) at work: what comes up again is the state after the steps that\n" +
			"were acknowledged, compared element by element. A fault is exit code 5.\n\n" +
			"  membank bench soak\n" +
			"  membank bench soak --duration 30s --clients 64\n" +
			"  membank bench soak --kills 100\n" +
			"  go run -race ./cli/membank bench soak",
		Flags: []ucli.Flag{
			&ucli.StringFlag{Name: "dir", Usage: "work in `DIR`", DefaultText: "the system's for temporary files"},
			&ucli.StringFlag{Name: "duration", Usage: "clients share a bank for `TIME`, e.g. 30s or 8h", DefaultText: "10m; 0s with --kills"},
			&ucli.StringFlag{Name: "clients", Usage: "`N` clients at once", DefaultText: "8"},
			&ucli.StringFlag{Name: "kills", Usage: "kill the server `N` times", DefaultText: "0"},
			&ucli.StringFlag{Name: "seed", Usage: "write what the run with seed `N` wrote", DefaultText: "of the clock"},
		},
		Action: action(nil, runSoak),
	}
}

func runSoak(ctx context.Context, s *session, c *ucli.Context, _ []string) error {
	n, err := counts(c, "clients", "seed")
	if err != nil {
		return err
	}
	if n["clients"] > 1000 {
		return usage("--clients %d: a server takes 1024 connections (give 1000 or fewer)", n["clients"])
	}
	o := soak.Options{Dir: c.String("dir"), Seed: uint64(n["seed"]), Clients: int(n["clients"])}
	if text := c.String("kills"); text != "" {
		if o.Kills, err = strconv.Atoi(text); err != nil || o.Kills < 0 {
			return usage("--kills %s: not a number (write 100)", text)
		}
	}
	if text := c.String("duration"); text != "" {
		if o.Duration, err = time.ParseDuration(text); err != nil || o.Duration < 0 {
			return usage("--duration %s: not a time (write 30s, 10m or 8h)", text)
		}
	} else if o.Kills == 0 {
		o.Duration = soakDuration
	}
	if o.Duration == 0 && o.Kills == 0 {
		return usage("%s: nothing to do (give --duration or --kills)", s.name)
	}
	if !s.quiet {
		o.Log = s.stderr
	}
	report, err := soak.Run(ctx, o)
	if err != nil {
		return err
	}
	if err := s.emit(report, func(w io.Writer) { printSoak(w, report) }); err != nil {
		return err
	}
	if faults := len(report.Faults); faults > 0 {
		return &failure{exit: exitCorrupt, code: "soak", text: fmt.Sprintf("soak: %s (--seed %d writes the same again; the databases are in %s)", plural(faults, "fault"), report.Seed, report.Kept)}
	}
	return nil
}

func printSoak(w io.Writer, r soak.Report) {
	fields := [][2]string{
		{"seed", strconv.FormatUint(r.Seed, 10)},
		{"seconds", strconv.FormatFloat(r.Seconds, 'f', 1, 64)},
		{"clients", count(r.Clients)},
		{"updates", count(r.Updates)},
		{"pushes", count(r.Pushes)},
		{"reads", fmt.Sprintf("%s of a whole bank, %s compared element by element", count(r.Reads), plural(r.Rows, "row"))},
		{"refused", fmt.Sprintf("%s with 429 or 503, asked again", plural(r.Refused, "request"))},
		{"kills", fmt.Sprintf("%s, %s while the server started; %s were under way", count(r.Kills.Total), count(r.Kills.Starting), plural(r.Kills.InFlight, "request"))},
		{"not durable", fmt.Sprintf("%s at a kill, of which the next server had %s", plural(r.Kills.Open, "step"), count(r.Kills.OpenKept))},
		{"faults", count(len(r.Faults))},
	}
	for _, f := range r.Faults {
		fields = append(fields, [2]string{"FAULT", f.Scenario + ": " + f.Message})
	}
	printFields(w, fields)
}
