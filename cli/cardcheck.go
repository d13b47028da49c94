package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"membank/store"

	ucli "github.com/urfave/cli/v2"
)

func cardCommand() *ucli.Command {
	return &ucli.Command{
		Name: "card", Usage: "protocol cards: show one, compute one again",
		Description: "eval, diagnose, compare, cluster, duplicates, label-errors, rank, select and report write\n" +
			"a card with --card FILE: the command, digests of the banks that it read, and its result.",
		Subcommands: []*ucli.Command{cardCheckCommand(), cardShowCommand()},
	}
}

func cardCheckCommand() *ucli.Command {
	return &ucli.Command{
		Name: "check", Usage: "compute a card again, and say equal or what differs", ArgsUsage: "FILE",
		Description: "Runs the card's command on the banks of --db. Everything but seconds and generations\n" +
			"must be the same; where a bank is grouped by an index, numbers may differ by 1e-9 of\n" +
			"themselves, for sums are taken in another order. A card runs what card --help names\n" +
			"and writes nothing; files that it names (--list, --ground-truth) are read.\n" +
			"Exit code 0: equal; 1: something differs; 3: no card; 4: a bank is missing.\n\n" +
			"  membank eval knn --train train --test test --card knn.json --card knn.md\n" +
			"  membank card check knn.json",
		Action: action([]string{"FILE"}, runCardCheck),
	}
}

func cardShowCommand() *ucli.Command {
	return &ucli.Command{
		Name: "show", Usage: "print a card", ArgsUsage: "FILE",
		Description: "  membank card show knn.json\n  membank card show knn.md --json",
		Action: action([]string{"FILE"}, func(_ context.Context, s *session, _ *ucli.Context, args []string) error {
			c, figures, text, err := readCard(args[0])
			if err != nil {
				return err
			}
			for _, d := range text {
				s.remark("note: %s", d)
			}
			return s.emit(c, func(w io.Writer) { printProtocolCard(w, c, figures) })
		}),
	}
}

// checkedCard is what card check found.
type checkedCard struct {
	Card        string       `json:"card"` // the file
	Command     string       `json:"command"`
	Equal       bool         `json:"equal"`
	Differences []difference `json:"differences"`
	Notes       []string     `json:"notes"` // what else is not as it was, and may be why
	Failed      string       `json:"failed,omitempty"`
	Seconds     float64      `json:"seconds"`
}

func runCardCheck(ctx context.Context, s *session, _ *ucli.Context, args []string) error {
	start := time.Now()
	if s.remote != nil {
		return usage("%s: works on a directory, not on a server (run it where the database is, with --db DIR)", s.name)
	}
	was, _, text, err := readCard(args[0])
	if err != nil {
		return err
	}
	is := &cardRun{card: emptyCard(was.Argv)}
	failed := rerun(ctx, s, is)
	if failed != nil && (ctx.Err() != nil || len(is.Banks) == 0 || errors.Is(failed, store.ErrNoBank)) {
		return failed
	}
	if failed != nil {
		is.Result = nil // the banks can be compared still
	}
	found := checkedCard{Card: args[0], Command: commandLine(append([]string{"membank"}, was.Argv...)), Notes: changes(was, &is.card)}
	if found.Differences, err = differences(was, &is.card); err != nil {
		return err
	}
	if failed != nil {
		if len(found.Differences) == 0 {
			return failed
		}
		_, _, found.Failed = meaning(failed)
	}
	found.Differences = append(text, found.Differences...)
	found.Equal, found.Seconds = len(found.Differences) == 0, time.Since(start).Seconds()
	if err := s.emit(found, func(w io.Writer) { printCheckedCard(w, &found, len(was.Banks)) }); err != nil {
		return err
	}
	if !found.Equal {
		return &failure{exit: exitFailure, code: "differs",
			text: fmt.Sprintf("card %s: %s, the first: %s", args[0], plural(len(found.Differences), "difference"), found.Differences[0])}
	}
	return nil
}

// changes are no differences themselves.
func changes(was, is *card) []string {
	notes := []string{}
	if was.Version != is.Version {
		notes = append(notes, fmt.Sprintf("the card is of membank %s, this is %s", was.Version, is.Version))
	}
	if was.SIMD != is.SIMD {
		notes = append(notes, fmt.Sprintf("the card was made with %s kernels, this run with %s: similarities may round otherwise", was.SIMD, is.SIMD))
	}
	for _, b := range is.Banks {
		i := slices.IndexFunc(was.Banks, func(k cardBank) bool { return k.Bank == b.Bank })
		if i < 0 || was.Banks[i].Grouped == b.Grouped {
			continue
		}
		now := "in row order"
		if b.Grouped {
			now = "grouped by an index"
		}
		notes = append(notes, fmt.Sprintf("bank %s is %s now, which it was not: samples and sums may be taken in another order", b.Bank, now))
	}
	return notes
}

// rerun runs a card's command on this session's database, by the table that the
// command line goes by, and collects the card of that run.
func rerun(ctx context.Context, s *session, is *cardRun) error {
	command, err := cardTokens(is.Argv)
	if err != nil {
		return err
	}
	app := newApp(strings.NewReader(""), io.Discard, s.stderr)
	withoutHelp(app)
	app.Metadata = map[string]any{"card": is, "line": s.line}
	tokens := []string{"membank", "--db=" + s.dir, "--quiet=" + strconv.FormatBool(s.quiet)}
	if s.threads > 0 {
		tokens = append(tokens, "--threads="+strconv.Itoa(s.threads))
	}
	if s.memory > 0 {
		tokens = append(tokens, "--memory="+strconv.FormatInt(s.memory, 10))
	}
	return app.RunContext(ctx, append(tokens, command...))
}

func printCheckedCard(w io.Writer, found *checkedCard, banks int) {
	fmt.Fprintln(w, printable(found.Command))
	const most = 20
	for i, d := range found.Differences {
		if i == most {
			fmt.Fprintf(w, "and %s more (--json names all)\n", count(len(found.Differences)-most))
			break
		}
		fmt.Fprintln(w, d)
	}
	if found.Failed != "" {
		fmt.Fprintf(w, "the command fails on these banks: %s\n", found.Failed)
	}
	for _, note := range found.Notes {
		fmt.Fprintln(w, "note: "+printable(note))
	}
	if found.Equal {
		fmt.Fprintf(w, "equal: %s and every figure (%s)\n", plural(banks, "bank"), seconds(found.Seconds))
	}
}
