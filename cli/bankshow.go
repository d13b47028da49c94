package cli

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"strings"

	"membank/index/memory"
	"membank/store"

	ucli "github.com/urfave/cli/v2"
)

func bankShowCommand() *ucli.Command {
	return &ucli.Command{
		Name: "show", Usage: "describe a memory bank, or list all", ArgsUsage: "[NAME]",
		Description: "How old its rows are, what it takes on disk, which checkpoints there are.\n\n" +
			"  membank bank show\n  membank bank show npid",
		Action: action([]string{"[NAME]"}, func(ctx context.Context, s *session, _ *ucli.Context, args []string) error {
			if len(args) == 0 {
				return s.listMemory(ctx)
			}
			return s.memoryBank(ctx, args[0], false, s.showBank)
		}),
	}
}

func (s *session) listMemory(ctx context.Context) error {
	return s.reading(ctx, func(db *store.DB) error {
		list, err := memory.List(db, "")
		if err != nil {
			return err
		}
		if list == nil {
			list = []string{}
		}
		return s.emit(list, func(w io.Writer) {
			for _, name := range list {
				fmt.Fprintln(w, name)
			}
		})
	})
}

// shownBank is a memory bank with the ages of its rows.
type shownBank struct {
	memory.Info
	Ages    []memory.Age `json:"ages"` // steps since the last write
	MeanAge float64      `json:"mean_age"`
}

func (s *session) showBank(b *memory.Bank) error {
	info, err := b.Info()
	if err != nil {
		return err
	}
	shown := shownBank{Info: info, Ages: []memory.Age{}}
	ages, _, mean, err := b.Staleness(0)
	if err != nil {
		return err
	}
	shown.Ages, shown.MeanAge = append(shown.Ages, ages...), mean
	return s.emit(shown, func(w io.Writer) { printBank(w, shown) })
}

func printBank(w io.Writer, b shownBank) {
	dims := make([]string, len(b.Config.Views))
	for i, v := range b.Config.Views {
		dims[i] = fmt.Sprintf("%d (%s)", v.Dim, v.Init)
	}
	fields := [][2]string{
		{"memory bank", b.Name},
		{"kind", string(b.Config.Kind)},
		{"rows", count(b.Config.Rows)},
		{"dimensions", strings.Join(dims, ", ")},
		{"written", fmt.Sprintf("%s of %s", count(b.Written), count(b.Config.Rows))},
		{"step", fmt.Sprintf("%s after %s", count(b.Step), plural(b.Updates, "update"))},
	}
	if b.Config.Kind == memory.KindQueue {
		fields = append(fields, [2]string{"cursor", fmt.Sprintf("%s, %s pushed (%s, %s)", count(b.Cursor), plural(b.Pushed, "row"), b.Config.Wrap, b.Config.Order)})
	}
	if b.Config.Prototypes > 0 {
		fields = append(fields, [2]string{"prototypes", count(b.Config.Prototypes)})
	}
	if b.Z > 0 {
		fields = append(fields, [2]string{"Z of NCE", strconv.FormatFloat(b.Z, 'g', 8, 64)})
	}
	for _, a := range b.Ages {
		fields = append(fields, [2]string{"age", fmt.Sprintf("%s to %s: %s", count(a.Min), plural(a.Max, "step"), plural(a.Rows, "row"))})
	}
	if b.Written > 0 {
		fields = append(fields, [2]string{"mean age", fmt.Sprintf("%.1f steps", b.MeanAge)})
	}
	fields = append(fields, [2]string{"log", size(b.LogBytes)})
	for _, c := range b.Checkpoints {
		mark := ""
		if c.Step == b.Base {
			mark = ", to which the log applies"
		}
		fields = append(fields, [2]string{"checkpoint", fmt.Sprintf("step %d: bank %s, %s%s", c.Step, c.Bank, plural(c.Rows, "row"), mark)})
	}
	printFields(w, fields)
}
