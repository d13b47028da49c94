package cli

import (
	"context"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"membank/index/memory"
	"membank/simd"
	"membank/store/dump"

	ucli "github.com/urfave/cli/v2"
)

func bankGetCommand() *ucli.Command {
	return &ucli.Command{
		Name: "get", Usage: "print rows of a memory bank, with versions", ArgsUsage: "NAME",
		Description: "  membank bank get npid --ids 0,5,9\n" +
			"  membank bank get moco/queue --ordered -o queue.npz\n" +
			"  membank bank get npid --ids sample.npy -o rows.npy",
		Flags: []ucli.Flag{
			&ucli.StringFlag{Name: "ids", Usage: "slots, or positions of a queue: 0,5,9, or a `FILE` of integers"},
			&ucli.BoolFlag{Name: "ordered", Usage: "the rows of a queue, oldest first"},
			&ucli.BoolFlag{Name: "centroids", Usage: "the prototypes kept with slots"},
			scopeFlag(),
			outputFlag("write them to `FILE`: .npz, or .npy with the rows of the first view"),
		},
		Action: action([]string{"NAME"}, runBankGet),
	}
}

// bankRow is one row of a memory bank.
type bankRow struct {
	ID      int64       `json:"id"`
	Version *int64      `json:"version"` // null: never written
	Label   *int64      `json:"label"`
	Key     string      `json:"key,omitempty"`
	Vector  []float32   `json:"vector"`
	Views   [][]float32 `json:"views,omitempty"` // of view 1, 2, …
}

func runBankGet(ctx context.Context, s *session, c *ucli.Context, args []string) error {
	scope, err := scopeOf(c)
	if err != nil {
		return err
	}
	given := 0
	for _, flag := range []string{"ids", "ordered", "centroids"} {
		if c.IsSet(flag) {
			given++
		}
	}
	if given > 1 || given == 1 && scope != "" {
		return usage("%s: --ids, --ordered, --centroids and --scope exclude each other (give one)", s.name)
	}
	var ids []int64
	if text := c.String("ids"); text != "" {
		if ids, err = s.readIDs(text); err != nil {
			return err
		}
	}
	return s.memoryBank(ctx, args[0], false, func(b *memory.Bank) error {
		if c.Bool("centroids") {
			m, err := b.Prototypes()
			if err != nil {
				return err
			}
			return s.printBankRows(c.String("output"), memory.Contents{Positions: ascending(m.Rows), Views: []simd.Matrix{m}})
		}
		if queue, err := b.Queue(); err == nil && ids == nil {
			read := func(ctx context.Context) (memory.Contents, error) { return queue.Read(ctx, scope) }
			if c.Bool("ordered") {
				read = queue.Ordered
			}
			rows, err := read(ctx)
			if err != nil {
				return err
			}
			return s.printBankRows(c.String("output"), rows)
		} else if err != nil && c.Bool("ordered") {
			return err
		}
		if ids == nil {
			if ids, err = idsInScope(b, scope); err != nil {
				return err
			}
		}
		if err := s.fits(b, int64(len(ids))); err != nil {
			return err
		}
		into, done := s.gathered(b, len(ids))
		defer done()
		rows, err := b.Rows(ctx, ids, into)
		if err != nil {
			return err
		}
		return s.printBankRows(c.String("output"), rows)
	})
}

func ascending(n int) []int64 {
	ids := make([]int64, n)
	for i := range ids {
		ids[i] = int64(i)
	}
	return ids
}

// idsInScope are all slots, or those that were written.
func idsInScope(b *memory.Bank, scope memory.Scope) ([]int64, error) {
	ids := ascending(int(b.Config().Rows))
	if scope != memory.ScopeWritten {
		return ids, nil
	}
	column, err := b.Columns(nil)
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(ids, func(id int64) bool { return column.Version[id] < 0 }), nil
}

func (s *session) printBankRows(path string, rows memory.Contents) error {
	if path != "" {
		return s.writeBankRows(path, rows)
	}
	list := make([]bankRow, len(rows.Positions))
	for i, id := range rows.Positions {
		r := bankRow{ID: id, Vector: rows.Views[0].Row(i)}
		if rows.Version != nil && rows.Version[i] >= 0 {
			r.Version = &rows.Version[i]
		}
		if rows.Labels != nil {
			r.Label = labelOf(rows.Labels[i])
		}
		if rows.Keys != nil {
			r.Key = rows.Keys[i]
		}
		for _, v := range rows.Views[1:] {
			r.Views = append(r.Views, v.Row(i))
		}
		list[i] = r
	}
	return s.emit(list, func(w io.Writer) {
		lines := make([][]string, len(list))
		for i, r := range list {
			version := "-"
			if r.Version != nil {
				version = count(*r.Version)
			}
			lines[i] = []string{strconv.FormatInt(r.ID, 10), version, labelText(r.Label, ""), r.Key, vectorText(r.Vector)}
		}
		printTable(w, []column{number("id"), number("step"), left("label"), left("key"), left("vector")}, lines)
	})
}

// writtenRows is what a command that wrote rows to a file prints.
type writtenRows struct {
	Rows int64  `json:"rows"`
	File string `json:"file"`
}

func (s *session) writeBankRows(path string, rows memory.Contents) error {
	write := func(w io.Writer) error { return dump.WriteNPY(w, rows.Views[0].Data, shapeOf(rows.Views[0])...) }
	switch strings.ToLower(filepath.Ext(path)) {
	case ".npy":
	case ".npz":
		write = func(w io.Writer) error { return writeBankNPZ(w, rows) }
	default:
		return usage("-o %s: unknown kind of file (.npz or .npy)", path)
	}
	if err := s.writeFile(path, write); err != nil {
		return err
	}
	r := writtenRows{int64(len(rows.Positions)), path}
	return s.emit(r, func(w io.Writer) { fmt.Fprintf(w, "%s: %s\n", r.File, plural(r.Rows, "row")) })
}

func shapeOf(m simd.Matrix) []int64 { return []int64{int64(m.Rows), int64(m.Dim)} }

// writeFile makes a file that is there whole or not at all.
func (s *session) writeFile(path string, write func(io.Writer) error) error {
	file, err := s.createFile(path)
	if err != nil {
		return err
	}
	defer file.discard()
	if err := write(file); err != nil {
		return err
	}
	return file.keep()
}

// writeBankNPZ writes ids, step (−1 for never), rows, view_1, …, labels (−1 for
// none) and keys.
func writeBankNPZ(w io.Writer, rows memory.Contents) error {
	z := dump.NewNPZWriter(w)
	if err := z.Write("ids", rows.Positions); err != nil {
		return err
	}
	if rows.Version != nil {
		if err := z.Write("step", rows.Version); err != nil {
			return err
		}
	}
	for v, m := range rows.Views {
		name := "rows"
		if v > 0 {
			name = "view_" + strconv.Itoa(v)
		}
		if err := z.Write(name, m.Data[:m.Rows*m.Dim], shapeOf(m)...); err != nil {
			return err
		}
	}
	if rows.Labels != nil {
		if err := z.Write("labels", noLabel(rows.Labels)); err != nil {
			return err
		}
	}
	if rows.Keys != nil {
		width := 1
		for _, k := range rows.Keys {
			width = max(width, utf8.RuneCountInString(k))
		}
		a, err := z.Array("keys", "<U"+strconv.Itoa(width), int64(len(rows.Keys)))
		if err == nil {
			err = a.Strings(rows.Keys)
		}
		if err == nil {
			err = a.Close()
		}
		if err != nil {
			return err
		}
	}
	return z.Close()
}
