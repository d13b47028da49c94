package soak

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Options say what to do and for how long. Without a duration and without kills
// nothing is done.
type Options struct {
	Dir      string        // where databases are made; "" is the system's directory for temporary files
	Seed     uint64        // 0: from the clock
	Duration time.Duration // of clients that share a bank
	Kills    int           // of the server
	Clients  int           // at once; 0 is 8
	Program  []string      // what becomes a server with the words serve --db DIR …; nil is this program
	Log      io.Writer     // progress, a line now and then; nil for none

	// through stands between clients and server: a test's means to make either lie.
	through func(http.RoundTripper) http.RoundTripper
}

// Report says what was done and found.
type Report struct {
	Seed    uint64  `json:"seed"`
	Seconds float64 `json:"seconds"`
	Clients int     `json:"clients"`
	Updates int64   `json:"updates"`      // of slots, acknowledged
	Pushes  int64   `json:"pushes"`       // into queues, acknowledged
	Reads   int64   `json:"reads"`        // of a bank or a queue whole
	Rows    int64   `json:"rows_checked"` // read and compared element by element
	Refused int64   `json:"refused"`      // answers 429 and 503, asked again
	Kills   Kills   `json:"kills"`
	Faults  []Fault `json:"faults"`
	Kept    string  `json:"kept,omitempty"` // the databases, where there are faults
}

// Kills counts servers killed.
type Kills struct {
	Total    int   `json:"total"`
	Starting int   `json:"starting"`  // before they answered
	InFlight int64 `json:"in_flight"` // requests that were under way
	Open     int64 `json:"open"`      // steps sent and not acknowledged as durable
	OpenKept int64 `json:"open_kept"` // of them, those that the next server had
}

// Fault is one broken rule.
type Fault struct {
	Scenario string `json:"scenario"`
	Message  string `json:"message"`
}

// run is a soak under way.
type run struct {
	o       Options
	plan    plan
	dir     string
	began   time.Time
	stopped context.CancelFunc // of the clients, at the first fault

	updates, pushes, reads, rows, refused, inFlight atomic.Int64

	mu     sync.Mutex
	kills  Kills
	faults []Fault
}

// mostFaults are reported; one is enough to stop.
const mostFaults = 20

// Run soaks a server and reports. The error is of the soak itself; faults that it
// found are in the report. A context that is done ends it with the context's error.
func Run(ctx context.Context, o Options) (Report, error) {
	if o.Seed == 0 {
		o.Seed = uint64(time.Now().UnixNano()) >> 16
	}
	if o.Clients == 0 {
		o.Clients = 8
	}
	if o.Log == nil {
		o.Log = io.Discard
	}
	if o.Program == nil {
		program, err := os.Executable()
		if err != nil {
			return Report{}, err
		}
		o.Program = []string{program}
	}
	dir, err := os.MkdirTemp(o.Dir, "membank-soak-")
	if err != nil {
		return Report{}, err
	}
	r := &run{o: o, plan: plan{o.Seed, int64(o.Clients)}, dir: dir, began: time.Now()}
	fmt.Fprintf(o.Log, "soak: seed %d, in %s\n", o.Seed, dir)
	err = r.scenarios(ctx)
	if ctx.Err() != nil {
		err = ctx.Err()
	}
	report := r.report()
	if len(report.Faults) > 0 {
		report.Kept = dir
		return report, err
	}
	return report, errors.Join(err, os.RemoveAll(dir))
}

func (r *run) scenarios(ctx context.Context) error {
	for _, s := range []struct {
		name   string
		wanted bool
		work   func(context.Context, string) error
	}{
		{"shared", r.o.Duration > 0, r.shared},
		{"kills", r.o.Kills > 0, r.killing},
	} {
		if !s.wanted || len(r.faults) > 0 {
			continue
		}
		inner, cancel := context.WithCancel(ctx)
		r.stopped = cancel
		stop := r.tell(inner)
		err := s.work(inner, filepath.Join(r.dir, s.name))
		cancel()
		stop()
		if err != nil && len(r.faults) == 0 {
			return fmt.Errorf("%s: %w", s.name, err)
		}
	}
	return nil
}

// tell writes a line of progress now and then.
func (r *run) tell(ctx context.Context) (stop func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(5 * time.Second)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				p := r.report()
				fmt.Fprintf(r.o.Log, "soak: %.0f s: %d updates, %d pushes, %d reads of %d rows, %d refused, %d kills, %d faults\n",
					p.Seconds, p.Updates, p.Pushes, p.Reads, p.Rows, p.Refused, p.Kills.Total, len(p.Faults))
			}
		}
	}()
	return func() { <-done }
}

func (r *run) report() Report {
	r.mu.Lock()
	defer r.mu.Unlock()
	k := r.kills
	k.InFlight = r.inFlight.Load()
	return Report{
		Seed: r.o.Seed, Seconds: time.Since(r.began).Seconds(), Clients: r.o.Clients,
		Updates: r.updates.Load(), Pushes: r.pushes.Load(), Reads: r.reads.Load(), Rows: r.rows.Load(), Refused: r.refused.Load(),
		Kills: k, Faults: append([]Fault{}, r.faults...),
	}
}

// fault notes a broken rule and stops the clients: what they expect is of no use
// any more.
func (r *run) fault(scenario, format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	f := Fault{scenario, fmt.Sprintf(format, args...)}
	if len(r.faults) < mostFaults && !slices.Contains(r.faults, f) {
		r.faults = append(r.faults, f)
		fmt.Fprintf(r.o.Log, "soak: FAULT: %s: %s\n", f.Scenario, f.Message)
	}
	r.stopped()
}
