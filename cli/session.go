package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"

	"membank/store"

	ucli "github.com/urfave/cli/v2"
)

// session is what one command works with: its streams and the global flags,
// read once.
type session struct {
	stdin       io.Reader
	stdout      *checkedWriter
	stderr      io.Writer
	interactive bool   // stdout is a terminal
	name        string // the command, "eval knn"
	line        string // the command line, for a bank's provenance
	dir         string // the database directory
	json, quiet bool
	bars        bool  // progress on stderr
	threads     int   // 0: all cores
	memory      int64 // bytes; 0: the rooms' own defaults
	log         *slog.Logger
	served      *served    // what a server runs the command with; nil: a process of its own
	remote      *farServer // the server that --db names; nil: a directory
	card        *cardRun   // the protocol card under way; nil: none
}

// verb is what a command does with its checked positionals.
type verb func(ctx context.Context, s *session, c *ucli.Context, args []string) error

// action checks the positionals against their names, reads the global flags and
// runs the verb.
func action(names []string, run verb) ucli.ActionFunc {
	return func(c *ucli.Context) error {
		args, err := positionals(c, names)
		if err != nil {
			return err
		}
		s, err := newSession(c)
		if err != nil {
			return err
		}
		if s.card, err = newCardRun(c, s); err != nil {
			return err
		}
		if s.remote != nil {
			if route := s.remote.routeOf(s, c); route != nil {
				return s.remote.forward(c.Context, s, c, route, args)
			}
		}
		if s.memory > 0 && s.served == nil {
			defer debug.SetMemoryLimit(debug.SetMemoryLimit(s.memory))
		}
		if err := run(c.Context, s, c, args); err != nil {
			return err
		}
		if s.card != nil {
			if err := s.card.write(s); err != nil {
				return err
			}
		}
		return s.stdout.err
	}
}

// checkedWriter remembers the first failure to write, so that printing code need
// not: a result that did not get out is a failed command.
type checkedWriter struct {
	w   io.Writer
	err error
}

func (c *checkedWriter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	if err != nil {
		err = fmt.Errorf("stdout: %w", err)
		c.err = err
	}
	return n, err
}

func newSession(c *ucli.Context) (*session, error) {
	s := &session{
		stdin: c.App.Reader, stdout: &checkedWriter{w: c.App.Writer}, stderr: c.App.ErrWriter, interactive: isTerminal(c.App.Writer),
		name: commandName(c), dir: c.String("db"), json: c.Bool("json"), quiet: c.Bool("quiet"),
	}
	s.line, _ = c.App.Metadata["line"].(string)
	s.bars = barsWanted(s.stderr, s.quiet)
	if s.served, _ = c.App.Metadata["served"].(*served); s.served != nil {
		s.dir, s.quiet, s.threads, s.memory = s.served.db.Dir(), false, s.served.threads, s.served.memory
		s.log = slog.New(slog.DiscardHandler)
		return s, nil
	}
	if strings.Contains(s.dir, "://") {
		var err error
		if s.remote, err = newRemote(s.dir, c.String("token-file")); err != nil {
			return nil, err
		}
	}
	if s.dir == "" {
		return nil, usage("--db is empty (give the path of a database directory)")
	}
	if t := c.String("threads"); t != "" {
		n, err := strconv.Atoi(t)
		if err != nil || n < 1 || n > 4096 {
			return nil, usage("--threads %s: not a number of threads (write 1 or more, or leave it out for all %d cores)", t, runtime.NumCPU())
		}
		s.threads = n
	}
	if m := c.String("memory"); m != "" {
		n, err := parseSize(m)
		if err != nil {
			return nil, usage("--memory: %v", err)
		}
		if n < 64<<20 {
			return nil, usage("--memory %s: too little to work with (give at least 64MiB)", m)
		}
		s.memory = n
	}
	var level slog.Level
	if err := level.UnmarshalText([]byte(c.String("log-level"))); err != nil {
		return nil, usage("--log-level %s: unknown (debug, info, warn or error)", c.String("log-level"))
	}
	if s.quiet {
		level = max(level, slog.LevelError)
	}
	s.log = slog.New(slog.NewTextHandler(s.stderr, &slog.HandlerOptions{Level: level}))
	return s, nil
}

// remark tells a person something that is no result.
func (s *session) remark(format string, a ...any) {
	if !s.quiet {
		fmt.Fprintf(s.stderr, format+"\n", a...)
	}
}

// emit prints a result: the document with --json, else what people reads.
func (s *session) emit(document any, people func(w io.Writer)) error {
	if s.card != nil {
		if err := s.card.found(document); err != nil {
			return err
		}
	}
	if s.json {
		return printJSON(s.stdout, document)
	}
	people(s.stdout)
	return nil
}

// reading opens the database for commands that change nothing, runs the work and
// closes it.
func (s *session) reading(ctx context.Context, work func(db *store.DB) error) error {
	return s.with(ctx, store.Options{ReadOnly: true}, work)
}

// writing opens the database for a change; create makes a new one where there is none.
func (s *session) writing(ctx context.Context, create bool, work func(db *store.DB) error) error {
	return s.with(ctx, store.Options{Create: create}, work)
}

func (s *session) with(ctx context.Context, o store.Options, work func(db *store.DB) error) (err error) {
	if s.served != nil {
		return work(s.served.db)
	}
	if s.remote != nil {
		return usage("%s: works on a directory, not on a server (run it where the database is, with --db DIR)", s.name)
	}
	if !o.Create {
		if _, err := os.Stat(s.dir); errors.Is(err, fs.ErrNotExist) {
			return notFound("database %s: does not exist (membank ingest makes one; --db or MEMBANK_DB names it)", s.dir)
		}
	}
	o.Memory, o.Logger = s.memory, s.log
	db, err := store.Open(ctx, s.dir, o)
	if err != nil {
		return err
	}
	defer func() {
		if e := db.Close(); e != nil && err == nil {
			err = fmt.Errorf("closing %s: %w", s.dir, e)
		}
	}()
	return work(db)
}

// snapshot pins a bank for the time of the work.
func snapshot(db *store.DB, bank string, work func(snap *store.Snapshot) error) error {
	snap, err := db.Snapshot(bank)
	if err != nil {
		return bankError(db, bank, err)
	}
	defer snap.Close()
	return work(snap)
}

// bankError words what is wrong with the name of a bank: to "no such bank" it adds
// what banks there are.
func bankError(db *store.DB, bank string, err error) error {
	if errors.Is(err, store.ErrBankExists) {
		return &failure{exit: exitUsage, code: "bank_exists", err: err,
			text: fmt.Sprintf("bank %q: exists already in %s (add rows with --append, or take its place with --replace)", bank, db.Dir())}
	}
	if !errors.Is(err, store.ErrNoBank) {
		return err
	}
	infos, listErr := db.Banks("")
	if listErr != nil {
		return err
	}
	names := make([]string, len(infos))
	for i, info := range infos {
		names[i] = info.Bank
	}
	remedy := "the database is empty; membank ingest fills it"
	if near := nearest(bank, names); near != "" {
		remedy = fmt.Sprintf("did you mean %s?", near)
	} else if len(names) > 0 {
		remedy = "membank ls names the " + plural(len(names), "bank")
	}
	return &failure{exit: exitNotFound, code: "no_such_bank", text: fmt.Sprintf("bank %q: not in %s (%s)", bank, db.Dir(), remedy), err: err}
}
