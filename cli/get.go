package cli

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"membank/store"

	ucli "github.com/urfave/cli/v2"
)

// record is one row of a bank.
type record struct {
	Row        int64                  `json:"row"`
	Key        string                 `json:"key"`
	Label      *int64                 `json:"label"` // null: none
	Class      string                 `json:"class,omitempty"`
	Vector     []float32              `json:"vector"`
	Attributes map[string]store.Value `json:"attributes,omitempty"`
}

func recordOf(r store.Row, classNames []string) record {
	return record{Row: r.Row, Key: r.Key, Label: labelOf(r.Label), Class: className(classNames, r.Label), Vector: r.Vector, Attributes: r.Attributes}
}

// labelOf is nil where a row has no label.
func labelOf(label int64) *int64 {
	if label == store.NoLabel {
		return nil
	}
	return &label
}

func getCommand() *ucli.Command {
	return &ucli.Command{
		Name: "get", Usage: "print rows and their vectors", ArgsUsage: "BANK [KEY…]",
		Description: "Rows come in the order in which they were asked for.\n\n" +
			"  membank get train --rows 0,5,9\n" +
			"  membank get train --key img/0007.png --json\n" +
			"  membank get train --rows 0,5,9 -o three.npy",
		Flags: []ucli.Flag{
			&ucli.StringSliceFlag{Name: "key", Usage: "the row of this `KEY`; give it again, or name more after it"},
			&ucli.StringFlag{Name: "rows", Usage: "these row numbers, `N,N,…`"},
			outputFlag("write the vectors to `FILE`: .npy, .npz or .csv"),
		},
		Action: action([]string{"BANK", "[KEY…]"}, runGet),
	}
}

func outputFlag(usage string) ucli.Flag {
	return &ucli.StringFlag{Name: "output", Aliases: []string{"o"}, Usage: usage}
}

func runGet(ctx context.Context, s *session, c *ucli.Context, args []string) error {
	keys := append(c.StringSlice("key"), args[1:]...)
	list := c.String("rows")
	if (len(keys) == 0) == (list == "") {
		return usage("%s: name the rows with --key or with --rows (one of them)", s.name)
	}
	return s.reading(ctx, func(db *store.DB) error {
		return snapshot(db, args[0], func(snap *store.Snapshot) error {
			var rows []int64
			var err error
			if list != "" {
				rows, err = parseRows(list)
			} else {
				rows, err = rowsOfKeys(ctx, snap, keys)
			}
			if err != nil {
				return err
			}
			if o := c.String("output"); o != "" {
				return exportRows(ctx, s, snap, o, rows)
			}
			info := snap.Info()
			got, err := snap.Rows(ctx, rows, store.Want{Vector: true, Attributes: true})
			if err != nil {
				return err
			}
			records := make([]record, len(got))
			for i, r := range got {
				records[i] = recordOf(r, info.ClassNames)
			}
			return s.emit(records, func(w io.Writer) { printRecords(w, records) })
		})
	})
}

func printRecords(w io.Writer, records []record) {
	rows := make([][]string, len(records))
	for i, r := range records {
		rows[i] = []string{strconv.FormatInt(r.Row, 10), r.Key, labelText(r.Label, r.Class), vectorText(r.Vector)}
	}
	printTable(w, []column{number("row"), left("key"), left("label"), left("vector")}, rows)
}

// labelText is "5 Sandal", "5" or "-".
func labelText(label *int64, class string) string {
	if label == nil {
		return "-"
	}
	text := strconv.FormatInt(*label, 10)
	if class != "" {
		text += " " + class
	}
	return text
}

// vectorText shows how a vector begins and how long it is.
func vectorText(v []float32) string {
	const shown = 5
	var b strings.Builder
	for _, x := range v[:min(shown, len(v))] {
		fmt.Fprintf(&b, "%.4g ", x)
	}
	if len(v) > shown {
		fmt.Fprintf(&b, "… %d in all", len(v))
	}
	return strings.TrimSpace(b.String())
}

// rowsOfKeys looks keys up; one that is not there is an error.
func rowsOfKeys(ctx context.Context, snap *store.Snapshot, keys []string) ([]int64, error) {
	rows, err := snap.Lookup(ctx, keys)
	if err != nil {
		return nil, err
	}
	if i := slices.Index(rows, -1); i >= 0 {
		return nil, notFound("bank %q: no row has the key %q (membank export %s -o keys.csv lists the keys)", snap.Bank(), keys[i], snap.Bank())
	}
	return rows, nil
}

// parseRows reads "0,5,9".
func parseRows(list string) ([]int64, error) {
	var rows []int64
	for _, field := range strings.Split(list, ",") {
		n, err := strconv.ParseInt(strings.TrimSpace(field), 10, 64)
		if err != nil || n < 0 {
			return nil, usage("%q is not a row number (rows count from 0; write 0,5,9)", field)
		}
		rows = append(rows, n)
	}
	return rows, nil
}

// unique sorts rows and leaves each in once.
func unique(rows []int64) []int64 {
	slices.Sort(rows)
	return slices.Compact(rows)
}
