package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"membank/index/memory"
	"membank/store"

	ucli "github.com/urfave/cli/v2"
)

func bankCommand() *ucli.Command {
	return &ucli.Command{
		Name: "bank", Usage: "the memory bank or queue of a training run",
		Description: "Slots are written by id (InstDisc, NPID, PIRL, CMC), a queue in turn (MoCo,\n" +
			"NNCLR, SwAV, XBM). What each implementation does differently is a flag with a\n" +
			"name. A checkpoint is an ordinary bank, NAME/step-N: query, eval and export\n" +
			"read it.",
		Subcommands: []*ucli.Command{
			bankInitCommand(),
			bankUpdateCommand(),
			bankPushCommand(),
			bankGetCommand(),
			bankSampleCommand(),
			bankNearestCommand(),
			bankLossCommand(),
			bankConsistencyCommand(),
			bankSmoothCommand(),
			bankTransformCommand(),
			bankAssignCommand(),
			bankReclusterCommand(),
			bankODCStartCommand(),
			bankODCCommand(),
			bankConcentrationsCommand(),
			bankCheckpointCommand(),
			bankRestoreCommand(),
			bankForgetCommand(),
			bankShowCommand(),
			bankDropCommand(),
		},
	}
}

// names lists the values of a flag.
func names[T ~string](all []T) string {
	list := make([]string, len(all))
	for i, n := range all {
		list[i] = string(n)
	}
	return strings.Join(list, ", ")
}

// one is a value of a flag that has to be one of a list; "" stays what it is.
func one[T ~string](c *ucli.Context, flag string, all []T) (T, error) {
	v := T(c.String(flag))
	if v != "" && !slices.Contains(all, v) {
		return v, usage("%s %s: unknown (%s)", dashed(flag), v, names(all))
	}
	return v, nil
}

func scopeFlag() ucli.Flag {
	return &ucli.StringFlag{Name: "scope", Usage: "`ROWS`: all, or written; initial ones of a queue are left out unless all"}
}

func scopeOf(c *ucli.Context) (memory.Scope, error) {
	return one(c, "scope", []memory.Scope{memory.ScopeAll, memory.ScopeWritten})
}

// finishBank does what is left and lets go of the bank.
func finishBank(release func() error, work func() error) error {
	err := work()
	if e := release(); err == nil {
		err = e
	}
	return err
}

// memoryBank opens a memory bank for the time of the work.
func (s *session) memoryBank(ctx context.Context, name string, write bool, work func(b *memory.Bank) error) error {
	open := s.reading
	if write {
		open = func(ctx context.Context, work func(*store.DB) error) error { return s.writing(ctx, false, work) }
	}
	return open(ctx, func(db *store.DB) error {
		b, release, err := s.openMemory(ctx, db, name)
		if err != nil {
			return memoryError(db, name, err)
		}
		if torn := b.Torn(); torn > 0 {
			s.remark("memory bank %s: %s behind the last acknowledged update were cut off (a process was killed while it wrote)", name, size(torn))
		}
		err = finishBank(release, func() error { return work(b) })
		if s.served != nil && errors.Is(err, memory.ErrBroken) { // the next request opens it again
			s.served.banks.drop(name, b)
		}
		return err
	})
}

// memoryError words what is wrong with the name of a memory bank.
func memoryError(db *store.DB, name string, err error) error {
	if !errors.Is(err, memory.ErrNone) {
		return err
	}
	all, listErr := memory.List(db, "")
	if listErr != nil {
		return err
	}
	remedy := "membank bank init makes one"
	if near := nearest(name, all); near != "" {
		remedy = fmt.Sprintf("did you mean %s?", near)
	} else if len(all) > 0 {
		remedy = "there are " + strings.Join(all[:min(len(all), 5)], ", ")
	}
	return &failure{exit: exitNotFound, code: "no_such_bank", text: fmt.Sprintf("memory bank %q: not in %s (%s)", name, db.Dir(), remedy), err: err}
}

func bankDropCommand() *ucli.Command {
	return &ucli.Command{
		Name: "drop", Usage: "delete a memory bank and its checkpoints", ArgsUsage: "NAME",
		Description: "  membank bank drop npid --yes",
		Flags:       []ucli.Flag{&ucli.BoolFlag{Name: "yes", Usage: "do not ask"}},
		Action: action([]string{"NAME"}, func(ctx context.Context, s *session, c *ucli.Context, args []string) error {
			return s.writing(ctx, false, func(db *store.DB) error {
				r := removal{Bank: args[0], Removed: true}
				if err := s.confirm(c.Bool("yes"), r); err != nil {
					return err
				}
				if err := s.removeMemory(ctx, db, args[0]); err != nil {
					return memoryError(db, args[0], err)
				}
				return s.emit(r, func(w io.Writer) { fmt.Fprintf(w, "deleted memory bank %s and its checkpoints\n", r.Bank) })
			})
		}),
	}
}
