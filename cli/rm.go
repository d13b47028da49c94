package cli

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"strings"

	"membank/index/memory"
	"membank/store"

	ucli "github.com/urfave/cli/v2"
)

// removal is what rm did, or with --dry-run would do.
type removal struct {
	Bank    string `json:"bank"`
	Deleted int64  `json:"deleted"` // rows
	Rows    int64  `json:"rows"`    // left in the bank
	Removed bool   `json:"removed"` // the bank itself
	DryRun  bool   `json:"dry_run"`
}

func rmCommand() *ucli.Command {
	return &ucli.Command{
		Name: "rm", Usage: "delete a bank, or some of its rows", ArgsUsage: "BANK",
		Description: "Without --keys or --where the whole bank goes. On a terminal it asks first.\n" +
			"Other rows keep their numbers; membank verify stays clean.\n\n" +
			"  membank rm old/train\n" +
			"  membank rm train --where 'class == \"Bag\"' --dry-run\n" +
			"  membank rm train --keys leaked.txt --yes",
		Flags: []ucli.Flag{
			&ucli.StringFlag{Name: "keys", Usage: "the rows of these keys: a `FILE` with one a line, or a .csv"},
			&ucli.StringFlag{Name: "where", Usage: "the rows for which `EXPR` holds, over row, key, label, class and attributes"},
			&ucli.BoolFlag{Name: "dry-run", Usage: "say what would go, change nothing"},
			&ucli.BoolFlag{Name: "yes", Usage: "do not ask"},
		},
		Action: action([]string{"BANK"}, runRm),
	}
}

func runRm(ctx context.Context, s *session, c *ucli.Context, args []string) error {
	bank, keys, where, dry := args[0], c.String("keys"), c.String("where"), c.Bool("dry-run")
	if keys != "" && where != "" {
		return usage("%s: --keys and --where exclude each other (give one)", s.name)
	}
	whole := keys == "" && where == ""
	open := s.writing
	if dry {
		open = func(ctx context.Context, _ bool, work func(*store.DB) error) error { return s.reading(ctx, work) }
	}
	return open(ctx, false, func(db *store.DB) error {
		var rows []int64
		var info store.Info
		err := snapshot(db, bank, func(snap *store.Snapshot) (err error) {
			info = snap.Info()
			switch {
			case keys != "":
				rows, err = s.rowsOfKeyFile(ctx, snap, keys)
			case where != "":
				rows, err = rowsWhere(ctx, snap, where)
			}
			return err
		})
		if err != nil {
			return err
		}
		if err := notACheckpoint(ctx, db, bank); err != nil {
			return err
		}
		r := removal{Bank: bank, Deleted: int64(len(rows)), Rows: info.Rows - int64(len(rows)), DryRun: dry}
		if whole {
			r.Deleted, r.Rows, r.Removed = info.Rows, 0, true
		}
		if dry {
			return s.emit(r, func(w io.Writer) { printRemoval(w, r, "would delete") })
		}
		if err := s.confirm(c.Bool("yes"), r); err != nil {
			return err
		}
		switch {
		case whole:
			_, err = db.RemoveBank(ctx, bank)
		case len(rows) > 0:
			r.Deleted, err = db.DeleteRows(ctx, bank, rows)
		}
		if err != nil {
			return err
		}
		return s.emit(r, func(w io.Writer) { printRemoval(w, r, "deleted") })
	})
}

// notACheckpoint refuses to take from a checkpoint what its memory bank would miss.
func notACheckpoint(ctx context.Context, db *store.DB, bank string) error {
	of, err := memory.BelongsTo(ctx, db, bank)
	if err != nil || of.Memory == "" {
		return err
	}
	if of.Needed {
		return usage("bank %q: the log of memory bank %q applies to this checkpoint, which would be lost without it (membank bank checkpoint %s makes a later one; membank bank drop %s deletes all of it)", bank, of.Memory, of.Memory, of.Memory)
	}
	return usage("bank %q: is a checkpoint of memory bank %q (membank bank forget %s --step %d deletes it)", bank, of.Memory, of.Memory, of.Step)
}

func printRemoval(w io.Writer, r removal, did string) {
	if r.Removed {
		fmt.Fprintf(w, "%s bank %s with %s\n", did, r.Bank, plural(r.Deleted, "row"))
		return
	}
	fmt.Fprintf(w, "%s %s of %s, %s left\n", did, plural(r.Deleted, "row"), r.Bank, count(r.Rows))
}

// confirm asks a person before rows go. Off a terminal nobody can answer, so the
// command is its own consent.
func (s *session) confirm(yes bool, r removal) error {
	if yes || !isTerminal(s.stdin) || !isTerminal(s.stderr) {
		return nil
	}
	printRemoval(s.stderr, r, "about to delete")
	fmt.Fprint(s.stderr, "go on? [y/N] ")
	answer, _ := bufio.NewReader(s.stdin).ReadString('\n')
	if a := strings.ToLower(strings.TrimSpace(answer)); a != "y" && a != "yes" {
		return usage("%s: not confirmed, nothing was deleted (answer y, or give --yes)", s.name)
	}
	return nil
}

// rowsOfKeyFile looks up every key of a file. One that the bank lacks is an
// error before anything happens.
func (s *session) rowsOfKeyFile(ctx context.Context, snap *store.Snapshot, path string) ([]int64, error) {
	file, err := s.openKeys(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	var rows []int64
	keys := make([]string, 4096)
	for line := int64(0); ; {
		n, err := file.Next(keys)
		if n > 0 {
			found, err := snap.Lookup(ctx, keys[:n])
			if err != nil {
				return nil, err
			}
			for i, row := range found {
				if row < 0 {
					return nil, notFound("%s: row %d: key %q is not in bank %q (take the line out; nothing was deleted)", path, line+int64(i), keys[i], snap.Bank())
				}
			}
			rows = append(rows, found...)
			line += int64(n)
		}
		if err == io.EOF {
			return unique(rows), nil
		}
		if err != nil {
			return nil, err
		}
	}
}
