package torture

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"strings"
	"sync"

	"membank/store"
)

// ChildArgument is the first argument of a process that torture starts for
// itself. A program that calls Run must pass the arguments after it to Child, or
// set Options.Child to a command that does.
const ChildArgument = "torture-child"

// event is a line that a child prints.
type event struct {
	Event   string `json:"event"` // ready, begin, end, full, done, fault, answer
	Op      string `json:"op,omitempty"`
	Message string `json:"message,omitempty"`
	Outcome string `json:"outcome,omitempty"`
}

// Exit codes of a child.
const (
	exitFault   = 10 // it found one, and said so
	exitUsage   = 11 // it could not begin
	exitNoSpace = 12 // the store refused to open for want of room
)

// worker is one workload in a child.
type worker struct {
	db       *store.DB
	ledger   *ledger
	rng      *rand.Rand
	scratch  string // a directory for files
	banks    []string
	maxBytes int // of one ingest
	events   *json.Encoder
	fillsUp  bool // ErrNoSpace is to be expected
}

// Child is what a child process does, given the arguments after ChildArgument. It
// returns the process's exit code.
func Child(args []string) int {
	if len(args) == 0 {
		return exitUsage
	}
	c := &child{events: json.NewEncoder(&locked{w: os.Stdout})}
	flags := flag.NewFlagSet(args[0], flag.ContinueOnError)
	flags.StringVar(&c.dir, "dir", "", "database")
	flags.StringVar(&c.ledger, "ledger", "", "ledger")
	flags.StringVar(&c.scratch, "scratch", "", "directory for files")
	flags.Uint64Var(&c.seed, "seed", 1, "seed")
	flags.IntVar(&c.ops, "ops", 0, "stop in order after so many operations; 0: never")
	flags.IntVar(&c.maxBytes, "bytes", 20<<20, "largest ingest")
	flags.StringVar(&c.step, "step", "", "kill this process at this step of a commit")
	flags.IntVar(&c.count, "count", 1, "... when it is reached for the so-manieth time")
	flags.BoolVar(&c.die, "die", false, "do not close after the last operation")
	flags.BoolVar(&c.fillsUp, "fills-up", false, "stop when the disk is full")
	flags.BoolVar(&c.readOnly, "read-only", false, "open for reading only")
	flags.BoolVar(&c.noIngest, "no-ingest", false, "do not try an ingest")
	if err := flags.Parse(args[1:]); err != nil {
		return exitUsage
	}
	var err error
	switch args[0] {
	case "workload":
		err = c.workload(context.Background())
	case "check":
		err = c.check(context.Background())
	case "examine":
		err = c.examine(context.Background(), os.Stdin)
	default:
		return exitUsage
	}
	switch {
	case err == nil:
		c.events.Encode(event{Event: "done"})
		return 0
	case errors.Is(err, store.ErrNoSpace):
		c.events.Encode(event{Event: "full", Message: err.Error()})
		return exitNoSpace
	}
	c.events.Encode(event{Event: "fault", Message: err.Error()})
	return exitFault
}

type child struct {
	dir, ledger, scratch, step       string
	seed                             uint64
	ops, maxBytes, count             int
	die, fillsUp, readOnly, noIngest bool
	events                           *json.Encoder
}

type locked struct {
	mu sync.Mutex
	w  io.Writer
}

func (l *locked) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(b)
}

func newRand(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, 0x746f7274757265)) }

// onStep kills this process at the chosen step.
func (c *child) onStep() func(string) {
	if c.step == "" {
		return nil
	}
	var mu sync.Mutex
	left := c.count
	return func(step string) {
		mu.Lock()
		defer mu.Unlock()
		if step != c.step {
			return
		}
		if left--; left == 0 {
			killSelf()
		}
	}
}

func killSelf() {
	if p, err := os.FindProcess(os.Getpid()); err == nil {
		p.Kill()
	}
	select {}
}

// workload opens the database, demands that it is what the ledger says, ingests
// once, and then does random operations, two workers at a time on banks of their
// own, until it is killed or done.
func (c *child) workload(ctx context.Context) error {
	l, err := openLedger(c.ledger)
	if err != nil {
		return err
	}
	defer l.close()
	c.seed = mix(c.seed + l.lines) // rows of a seed must come only once
	rng := newRand(c.seed)
	db, err := store.Open(ctx, c.dir, store.Options{Create: len(l.model) == 0, OnStep: c.onStep()})
	if err != nil {
		return fmt.Errorf("open: %w", err)
	}
	if err := checkDatabase(ctx, db, l, rng); err != nil {
		return fmt.Errorf("after opening: %w", err)
	}
	workers := make([]*worker, 2)
	for i := range workers {
		workers[i] = &worker{
			db: db, ledger: l, rng: newRand(c.seed + 1000*uint64(i+1)), scratch: c.scratch,
			maxBytes: c.maxBytes, events: c.events, fillsUp: c.fillsUp,
		}
		for j := range 3 {
			workers[i].banks = append(workers[i].banks, fmt.Sprintf("w%d/bank-%d", i, j))
		}
	}
	if !c.noIngest {
		if err := workers[0].change(ctx, workers[0].banks[0]); err != nil {
			return fmt.Errorf("the first change after opening: %w", err)
		}
	}
	c.events.Encode(event{Event: "ready"})
	errs := make(chan error, len(workers))
	for _, w := range workers {
		go func() { errs <- w.run(ctx, c.ops/len(workers), c.ops == 0) }()
	}
	var full error
	for range workers {
		switch err := <-errs; {
		case errors.Is(err, store.ErrNoSpace):
			full = err
		case err != nil:
			return err
		}
	}
	if full != nil {
		// Reads go on when the disk is full.
		if err := checkDatabase(ctx, db, l, rng); err != nil {
			return fmt.Errorf("with a full disk: %w", err)
		}
	}
	if c.die {
		killSelf()
	}
	if err := db.Close(); err != nil {
		return fmt.Errorf("close: %w", err)
	}
	return full
}

// check opens the database and demands that it is what the ledger says; then one
// bank more must go in, unless told not to try.
func (c *child) check(ctx context.Context) error {
	l, err := openLedger(c.ledger)
	if err != nil {
		return err
	}
	defer l.close()
	rng := newRand(mix(c.seed + l.lines))
	db, err := store.Open(ctx, c.dir, store.Options{ReadOnly: c.readOnly})
	if err != nil {
		return fmt.Errorf("open: %w", err)
	}
	if err := checkDatabase(ctx, db, l, rng); err != nil {
		return err
	}
	if !c.noIngest && !c.readOnly {
		w := &worker{db: db, ledger: l, rng: rng, scratch: c.scratch, maxBytes: 1 << 20, events: c.events}
		if err := w.change(ctx, "check"); err != nil {
			return err
		}
	}
	return db.Close()
}

// run does operations until n are done, or for ever.
func (w *worker) run(ctx context.Context, n int, forever bool) error {
	for i := 0; forever || i < n; i++ {
		if err := w.step(ctx); err != nil {
			return err
		}
	}
	return nil
}

// step does one random operation on one of the worker's banks.
func (w *worker) step(ctx context.Context) error {
	name := w.banks[w.rng.IntN(len(w.banks))]
	op := w.draw(func(op operation) bool { return true })
	if op.changes() {
		return w.change(ctx, name)
	}
	b := w.ledger.bank(name)
	if b == nil {
		return nil
	}
	if err := op.read(ctx, w, name, b); err != nil {
		return fmt.Errorf("%s: %w", op.name, err)
	}
	return nil
}

func (w *worker) draw(may func(operation) bool) operation {
	total := 0
	for _, op := range operations {
		if may(op) {
			total += op.weight
		}
	}
	at := w.rng.IntN(total)
	for _, op := range operations {
		if may(op) {
			if at -= op.weight; at < 0 {
				return op
			}
		}
	}
	panic("torture: no operation")
}

// change does a random operation that changes a bank, and keeps the ledger.
func (w *worker) change(ctx context.Context, name string) error {
	b := w.ledger.bank(name)
	var c change
	var op operation
	for {
		op = w.draw(operation.changes)
		var ok bool
		if c, ok = op.pick(w.rng, name, b); ok {
			break
		}
	}
	c.Op = op.name
	if c.Dim > 0 {
		c.New.Rows = max(1, min(c.New.Rows, w.maxBytes/(4*c.Dim)))
	}
	if err := w.ledger.write(line{State: "begin", change: c}); err != nil {
		return err
	}
	w.events.Encode(event{Event: "begin", Op: op.name})
	info, err := op.do(ctx, w.db, c)
	if err != nil {
		if errors.Is(err, store.ErrNoSpace) {
			if err := w.ledger.write(line{State: "refused", change: change{Bank: name}}); err != nil {
				return err
			}
		}
		return fmt.Errorf("%s of %s: %w", op.name, name, err)
	}
	if next := after(b, c); next != nil {
		if err := checkInfo(info, name, next); err != nil {
			return fmt.Errorf("%s: %w", op.name, err)
		}
	}
	ack := line{State: "ack", change: change{Bank: name}, Generation: info.Generation, Live: info.Rows}
	if err := w.ledger.write(ack); err != nil {
		return err
	}
	w.events.Encode(event{Event: "end", Op: op.name})
	return nil
}

// damagedCase is a line that the driver sends to an examining child.
type damagedCase struct {
	Dir    string `json:"dir"`
	Ledger string `json:"ledger"`
	Seed   uint64 `json:"seed"`
}

// examine looks at damaged databases, one a line of its input, and answers each.
func (c *child) examine(ctx context.Context, from io.Reader) error {
	lines := bufio.NewScanner(from)
	for lines.Scan() {
		var d damagedCase
		if err := json.Unmarshal(lines.Bytes(), &d); err != nil {
			return err
		}
		outcome, err := examineDamaged(ctx, d)
		answer := event{Event: "answer", Outcome: outcome}
		if err != nil {
			answer.Message = err.Error()
		}
		c.events.Encode(answer)
	}
	return lines.Err()
}

// Outcomes of an examination, from the least to the most that is lost.
const (
	outcomeRight   = "right"   // every answer was right
	outcomeReads   = "reads"   // it opened, and some reads failed, naming the bank
	outcomeRefused = "refused" // it did not open
)

// examineDamaged opens a damaged database for reading, then for writing, and
// returns an error if any answer was neither right nor a proper error.
func examineDamaged(ctx context.Context, d damagedCase) (string, error) {
	l, err := openLedger(d.Ledger)
	if err != nil {
		return "", err
	}
	defer l.close()
	rng := newRand(d.Seed)
	worst := outcomeRight
	for _, readOnly := range []bool{true, false} {
		outcome, err := examineOnce(ctx, d.Dir, readOnly, l.model, rng)
		if err != nil {
			mode := "writing"
			if readOnly {
				mode = "reading"
			}
			return outcome, fmt.Errorf("opened for %s: %w", mode, err)
		}
		if outcome == outcomeRefused || worst == outcomeRight {
			worst = outcome
		}
	}
	return worst, nil
}

func examineOnce(ctx context.Context, dir string, readOnly bool, m model, rng *rand.Rand) (string, error) {
	db, err := store.Open(ctx, dir, store.Options{ReadOnly: readOnly})
	if err != nil {
		if !errors.Is(err, store.ErrCorrupt) {
			return "", fmt.Errorf("open fails with another error than ErrCorrupt: %w", err)
		}
		return outcomeRefused, nil
	}
	defer db.Close()
	outcome := outcomeRight
	var whole []string // banks found right
	for name, b := range m {
		err := checkBank(ctx, db, name, b, rng)
		if err == nil {
			whole = append(whole, name)
			continue
		}
		outcome = outcomeReads
		var c *store.CorruptError
		if !errors.As(err, &c) || !errors.Is(err, store.ErrCorrupt) {
			return outcome, err
		}
		if c.Bank != name {
			return outcome, fmt.Errorf("the error of bank %q names bank %q: %w", name, c.Bank, err)
		}
		if inBlock := strings.HasPrefix(c.Record, "panels") || strings.HasPrefix(c.Record, "columns") ||
			strings.HasPrefix(c.Record, "attribute"); inBlock && c.Block < 0 {
			return outcome, fmt.Errorf("the error names no block: %w", err)
		}
	}
	if err := checkNames(db, m); err != nil && !errors.Is(err, store.ErrCorrupt) {
		return outcome, err
	}
	report, err := db.Verify(ctx, store.VerifyOptions{})
	switch {
	case err != nil && !errors.Is(err, store.ErrCorrupt):
		return outcome, fmt.Errorf("verify fails with another error than ErrCorrupt: %w", err)
	case err == nil && len(report.Problems) == 0 && outcome != outcomeRight:
		return outcome, wrongf("reads fail, and Verify calls the database clean")
	}
	for _, p := range report.Problems {
		if !errors.Is(p.Err, store.ErrCorrupt) {
			return outcome, fmt.Errorf("verify reports another error than ErrCorrupt: %w", p.Err)
		}
	}
	if readOnly {
		return outcome, nil
	}
	const name = "after/damage"
	c := change{Bank: name, Dim: 33, New: segment{Seed: rng.Uint64() >> 12, Rows: 300, Keys: true, Labels: true}}
	if _, err := ingest(store.Replace)(ctx, db, c); err != nil {
		if errors.Is(err, store.ErrCorrupt) {
			return outcome, nil
		}
		return outcome, fmt.Errorf("an ingest after damage fails with another error than ErrCorrupt: %w", err)
	}
	if err := checkBank(ctx, db, name, applyReplace(nil, c), rng); err != nil {
		return outcome, fmt.Errorf("a bank ingested after damage: %w", err)
	}
	if _, err := db.Compact(ctx); err != nil && !errors.Is(err, store.ErrCorrupt) {
		return outcome, fmt.Errorf("compaction after damage fails with another error than ErrCorrupt: %w", err)
	}
	// Whatever was right before must be so still: damage does not spread.
	for _, name := range whole {
		if err := checkBank(ctx, db, name, m[name], rng); err != nil {
			return outcome, fmt.Errorf("right before an ingest and a compaction, and no longer: %w", err)
		}
	}
	if err := db.Close(); err != nil {
		return outcome, fmt.Errorf("close after damage: %w", err)
	}
	return outcome, nil
}
