package torture

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"membank/store"
)

// Options say what to do and for how long. With neither a budget nor a count Run
// does one iteration of each scenario.
type Options struct {
	Dir     string        // where databases are made; "" is the system's directory for temporary files
	Seed    uint64        // 0: from the clock
	For     time.Duration // iterate until so much time has passed
	Kills   int           // iterate until so many processes have been killed within a change
	Damages int           // iterate until so many copies have been damaged
	Only    string        // one scenario: kills, damages, full or power; "" is all of them
	Child   []string      // command that leads to Child; nil is this program with ChildArgument
	Log     io.Writer     // progress, a line an iteration; nil for none
	Faults  int           // stop after so many faults; 0 is 5
}

// Scenarios are the names that Options.Only knows.
var Scenarios = []string{"kills", "damages", "full", "power"}

// driver is a run.
type driver struct {
	Options
	report  Report
	dir     string // all work is below it
	began   time.Time
	skipped map[string]bool
}

// hang is how long a child may take for what takes a second.
const hang = 90 * time.Second

// Run tortures databases and reports. The error is of torture itself; faults that
// it found are in the report.
func Run(ctx context.Context, o Options) (Report, error) {
	if o.Only != "" && !slices.Contains(Scenarios, o.Only) {
		return Report{}, fmt.Errorf("no scenario %q (one of %s)", o.Only, strings.Join(Scenarios, ", "))
	}
	if o.Seed == 0 {
		o.Seed = uint64(time.Now().UnixNano()) >> 16
	}
	if o.Faults == 0 {
		o.Faults = 5
	}
	if o.Log == nil {
		o.Log = io.Discard
	}
	if o.Child == nil {
		program, err := os.Executable()
		if err != nil {
			return Report{}, err
		}
		o.Child = []string{program, ChildArgument}
	}
	dir, err := os.MkdirTemp(o.Dir, "membank-torture-")
	if err != nil {
		return Report{}, err
	}
	d := &driver{Options: o, report: newReport(o.Seed), dir: dir, skipped: map[string]bool{}}
	defer func() {
		if len(d.report.Faults) == 0 {
			os.RemoveAll(dir)
		}
	}()
	fmt.Fprintf(o.Log, "torture: seed %d, in %s\n", o.Seed, dir)
	d.began = time.Now()
	err = d.iterate(ctx)
	d.report.Seconds = time.Since(d.began).Seconds()
	return d.report, err
}

func (d *driver) iterate(ctx context.Context) error {
	scenarios := map[string]func(context.Context, uint64, string) error{
		"kills": d.kills, "damages": d.damages, "full": d.full, "power": d.power,
	}
	for i := uint64(0); ; i++ {
		for _, name := range Scenarios {
			if d.Only != "" && d.Only != name || !d.wants(name, i) {
				continue
			}
			if err := ctx.Err(); err != nil {
				return err
			}
			dir := filepath.Join(d.dir, fmt.Sprintf("%s-%d", name, d.Seed+i))
			if err := os.Mkdir(dir, 0o755); err != nil {
				return err
			}
			before := len(d.report.Faults)
			if err := scenarios[name](ctx, d.Seed+i, dir); err != nil {
				return fmt.Errorf("%s, seed %d: %w", name, d.Seed+i, err)
			}
			if len(d.report.Faults) == before {
				if err := os.RemoveAll(dir); err != nil {
					return err
				}
			}
			fmt.Fprintf(d.Log, "torture: %s with seed %d: %d kills (%d within a change), %d damages, %d disks, %d power cuts, %d faults, %.0f s\n",
				name, d.Seed+i, d.report.Kills.Total, d.report.Kills.InFlight, d.report.Damages.Total,
				d.report.Full.Disks, d.report.PowerCuts, len(d.report.Faults), time.Since(d.began).Seconds())
			if len(d.report.Faults) >= d.Faults {
				return nil
			}
		}
		if !d.again(i + 1) {
			return nil
		}
	}
}

// counted says that the run is to reach counts, and not to fill a time.
func (d *driver) counted() bool { return d.For == 0 && (d.Kills > 0 || d.Damages > 0) }

// enough says that a scenario has reached its count, or the run its end.
func (d *driver) enough(scenario string) bool {
	switch {
	case d.For > 0:
		return time.Since(d.began) > d.For
	case !d.counted():
		return false
	case scenario == "kills":
		return d.report.Kills.InFlight >= d.Kills
	case scenario == "damages":
		return d.report.Damages.Total >= d.Damages
	}
	return true
}

// wants says whether iteration i is to run a scenario. Those that take seconds to
// set up come in every eighth.
func (d *driver) wants(scenario string, i uint64) bool {
	if d.enough(scenario) {
		return false
	}
	return scenario == "kills" || scenario == "damages" || i%8 == 0
}

// again says whether there is to be an iteration i.
func (d *driver) again(i uint64) bool {
	if d.For == 0 && !d.counted() {
		return false
	}
	for _, scenario := range Scenarios {
		if (d.Only == "" || d.Only == scenario) && !d.enough(scenario) {
			return true
		}
	}
	return false
}

// fault notes a broken rule. The evidence stays in dir.
func (d *driver) fault(scenario string, seed uint64, dir, format string, args ...any) {
	f := Fault{
		Scenario: scenario, Seed: seed, Message: fmt.Sprintf(format, args...), Kept: dir,
		Repeat: fmt.Sprintf("--seed %d --only %s", seed, scenario),
	}
	d.report.Faults = append(d.report.Faults, f)
	fmt.Fprintf(d.Log, "torture: FAULT: %s: %s\n  repeat with %s\n  evidence in %s\n", f.Scenario, f.Message, f.Repeat, f.Kept)
}

func (d *driver) skip(reason string) {
	if !d.skipped[reason] {
		d.skipped[reason] = true
		d.report.Skipped = append(d.report.Skipped, reason)
		fmt.Fprintf(d.Log, "torture: skipped: %s\n", reason)
	}
}

// process is a running child.
type process struct {
	cmd    *exec.Cmd
	events *bufio.Scanner
	stdin  io.WriteCloser
	stderr *tail
	fault  string // as the child reported it
}

func (d *driver) start(args ...string) (*process, error) {
	cmd := exec.Command(d.Child[0], append(slices.Clone(d.Child[1:]), args...)...)
	p := &process{cmd: cmd, stderr: &tail{}}
	cmd.Stderr = p.stderr
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if p.stdin, err = cmd.StdinPipe(); err != nil {
		return nil, err
	}
	p.events = bufio.NewScanner(stdout)
	p.events.Buffer(nil, 1<<20)
	return p, cmd.Start()
}

// next returns the child's next event, false at the end of its output.
func (p *process) next() (event, bool) {
	for p.events.Scan() {
		var e event
		if json.Unmarshal(p.events.Bytes(), &e) == nil {
			if e.Event == "fault" {
				p.fault = e.Message
			}
			return e, true
		}
	}
	return event{}, false
}

// ending is how a child ended.
type ending struct {
	code    int // -1: by a signal
	killed  bool
	fault   string // what it said, or what it left on stderr
	noSpace bool
}

// finish reads the remaining events, handing each to see if that is not nil, and
// waits. A child that takes longer than limit is killed and counts as hung.
func (p *process) finish(limit time.Duration, see func(event)) ending {
	var e ending
	timer := time.AfterFunc(limit, func() { p.cmd.Process.Kill() })
	for {
		ev, ok := p.next()
		if !ok {
			break
		}
		if see != nil {
			see(ev)
		}
	}
	err := p.cmd.Wait()
	hung := !timer.Stop()
	e.fault = p.fault
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		e.code = exit.ExitCode()
	}
	e.killed = e.code == -1 && strings.Contains(exit.String(), "killed")
	e.noSpace = e.code == exitNoSpace
	switch {
	case hung:
		e.fault = fmt.Sprintf("hangs for %v%s", limit, p.stderr)
	case e.fault == "" && e.code != 0 && !e.killed && !e.noSpace:
		e.fault = fmt.Sprintf("ends with %v%s", err, p.stderr)
	}
	return e
}

// tail keeps the first bytes that a child writes to stderr: a panic begins with
// what happened.
type tail struct{ b []byte }

func (t *tail) Write(b []byte) (int, error) {
	t.b = append(t.b, b[:min(len(b), 2000-len(t.b))]...)
	return len(b), nil
}

func (t *tail) String() string {
	if len(t.b) == 0 {
		return ""
	}
	return ": " + string(t.b)
}

// kills runs a workload on one database and kills it ten times.
func (d *driver) kills(ctx context.Context, seed uint64, dir string) error {
	rng := newRand(seed)
	database, ledgerPath := filepath.Join(dir, "db"), filepath.Join(dir, "ledger")
	typical := 60 * time.Millisecond
	for round := range 10 {
		args := []string{"workload", "-dir", database, "-ledger", ledgerPath, "-scratch", dir, "-seed", fmt.Sprint(seed + uint64(round))}
		mode := []string{"change", "change", "change", "change", "change", "change", "step", "step", "opening", "end"}[round]
		if round == 0 {
			// The first process makes the database.
			mode = []string{"step", "opening", "change"}[seed%3]
		}
		if mode == "step" {
			step := store.Steps[rng.IntN(len(store.Steps))]
			args = append(args, "-step", step, "-count", fmt.Sprint(1+rng.IntN(5)))
			d.report.Kills.Steps[step]++
		}
		if mode == "end" {
			args = append(args, "-ops", "6")
		}
		p, err := d.start(args...)
		if err != nil {
			return err
		}
		switch mode {
		case "opening":
			time.AfterFunc(time.Duration(rng.Int64N(int64(100*time.Millisecond))), func() { p.cmd.Process.Kill() })
			d.report.Kills.Opening++
		case "change":
			d.killWithin(p, rng, &typical)
		}
		end := p.finish(hang, d.see)
		if end.killed {
			d.report.Kills.Total++
		}
		if end.fault != "" {
			d.fault("kills", seed, dir, "round %d (%s): %s", round, mode, end.fault)
			return nil
		}
		l, err := openLedger(ledgerPath)
		if err != nil {
			return err
		}
		if end.killed && len(l.pending) > 0 {
			d.report.Kills.InFlight++
		}
		l.close()
		if err := ctx.Err(); err != nil {
			return err
		}
	}
	return nil
}

func (d *driver) see(e event) {
	if e.Event == "begin" {
		d.report.Changes[e.Op]++
	}
}

// killWithin waits until the child has begun a change, and kills it at a random
// moment of about the time that a change takes, which it learns.
func (d *driver) killWithin(p *process, rng *rand.Rand, typical *time.Duration) {
	skip := rng.IntN(6)
	ready := false
	var began time.Time
	timer := time.AfterFunc(hang, func() { p.cmd.Process.Kill() })
	defer timer.Stop()
	for {
		e, ok := p.next()
		if !ok {
			return // finish says why
		}
		d.see(e)
		switch e.Event {
		case "ready":
			ready = true
		case "begin":
			began = time.Now()
			if !ready {
				continue
			}
			if skip--; skip < 0 {
				delay := time.Duration(rng.Int64N(int64(2 * *typical)))
				time.AfterFunc(delay, func() { p.cmd.Process.Kill() })
				return
			}
		case "end":
			*typical = (*typical*3 + time.Since(began)) / 4
		}
	}
}
