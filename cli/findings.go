package cli

import (
	"context"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"membank/store"

	ucli "github.com/urfave/cli/v2"
)

// findings are rows that a command picked out of a bank, the most telling first, and
// what it says of each: what duplicates, label-errors, rank and select share.
type findings struct {
	snap   *store.Snapshot
	rows   []int64
	fields []findingField
	report any // a struct of counts
	title  string
}

// findingField is one thing said of each row: a column of the table, of the .csv and
// of the JSON, and, where attribute names one, an attribute of the bank.
type findingField struct {
	name      string
	attribute string
	value     func(i int) store.Value
}

// findingFlags are those of every command that finds rows.
func findingFlags(flags ...ucli.Flag) []ucli.Flag {
	return append(flags,
		&ucli.StringFlag{Name: "show", Usage: "print the first `N` rows found", Value: "20", DefaultText: "20"},
		outputFlag("write every row found to `FILE`.csv"),
		&ucli.BoolFlag{Name: "save", Usage: "keep what was found as attributes of the bank, for --where"},
		cardFlag(),
	)
}

// findingOpen checks these flags and opens the database: for writing with --save.
func findingOpen(ctx context.Context, s *session, c *ucli.Context, work func(db *store.DB) error) error {
	if path := c.String("output"); path != "" && !strings.EqualFold(filepath.Ext(path), ".csv") {
		return usage("-o %s: unknown kind of file (.csv)", path)
	}
	if n, err := strconv.Atoi(c.String("show")); err != nil || n < 0 {
		return usage("--show %s: not a number of rows", c.String("show"))
	}
	if c.Bool("save") {
		return s.writing(ctx, false, work)
	}
	return s.reading(ctx, work)
}

// finish writes the file, saves the attributes and prints.
func (f *findings) finish(ctx context.Context, s *session, c *ucli.Context, db *store.DB, summary func(w io.Writer)) error {
	path := c.String("output")
	if path != "" {
		if err := f.writeCSV(ctx, path); err != nil {
			return err
		}
	}
	var saved []string
	if c.Bool("save") {
		attributes := f.attributes()
		for _, a := range attributes {
			saved = append(saved, a.Name)
		}
		if _, err := db.SetAttributes(ctx, f.snap.Bank(), attributes); err != nil {
			return err
		}
	}
	show, _ := strconv.Atoi(c.String("show"))
	shown, err := f.named(ctx, 0, min(show, len(f.rows)))
	if err != nil {
		return err
	}
	document, err := f.document(shown, path, saved)
	if err != nil {
		return err
	}
	return s.emit(document, func(w io.Writer) {
		summary(w)
		f.print(w, shown, path, saved)
	})
}

// print shows people the rows that are to be shown, and where all of them are.
func (f *findings) print(w io.Writer, shown []store.Row, path string, saved []string) {
	if len(shown) > 0 {
		fmt.Fprintf(w, "\n%s\n", f.title)
		columns := []column{number("row"), left("key"), left("label")}
		for _, field := range f.fields {
			columns = append(columns, number(field.name))
		}
		table := make([][]string, len(shown))
		for i, r := range shown {
			table[i] = append([]string{strconv.FormatInt(r.Row, 10), r.Key, labelText(labelOf(r.Label), className(f.snap.Info().ClassNames, r.Label))}, f.texts(i, true)...)
		}
		printTable(w, columns, table)
		if left := len(f.rows) - len(shown); left > 0 {
			fmt.Fprintf(w, "and %s more (--show %d shows all, -o writes them)\n", count(left), len(f.rows))
		}
	}
	if path != "" {
		fmt.Fprintf(w, "%s: %s\n", path, plural(len(f.rows), "row"))
	}
	if saved != nil {
		fmt.Fprintf(w, "saved as attributes of %s: %s\n", f.snap.Bank(), strings.Join(saved, ", "))
	}
}

// named looks rows from up to to up.
func (f *findings) named(ctx context.Context, from, to int) ([]store.Row, error) {
	return f.snap.Rows(ctx, f.rows[from:to], store.Want{})
}

// texts are the fields of a row, for people with fewer digits.
func (f *findings) texts(i int, short bool) []string {
	var out []string
	for _, field := range f.fields {
		v := field.value(i)
		text := v.String()
		switch {
		case short && v.IsNull():
			text = "-"
		case short && v.Kind() == store.KindFloat:
			text = strconv.FormatFloat(v.Float(), 'f', 4, 64)
		}
		out = append(out, text)
	}
	return out
}

func (f *findings) writeCSV(ctx context.Context, path string) error {
	file, err := createFile(path)
	if err != nil {
		return err
	}
	defer file.discard()
	out := csv.NewWriter(file)
	header := []string{"row", "key", "label", "class"}
	for _, field := range f.fields {
		header = append(header, strings.ReplaceAll(field.name, " ", "_"))
	}
	out.Write(header)
	names := f.snap.Info().ClassNames
	const batch = 4096
	for from := 0; from < len(f.rows); from += batch {
		rows, err := f.named(ctx, from, min(from+batch, len(f.rows)))
		if err != nil {
			return err
		}
		for i, r := range rows {
			out.Write(append([]string{strconv.FormatInt(r.Row, 10), r.Key, labelField(r.Label), className(names, r.Label)}, f.texts(from+i, false)...))
		}
	}
	out.Flush()
	if err := out.Error(); err != nil {
		return err
	}
	return file.keep()
}

// attributes are the fields that have a name as one; rows that were not found have
// none.
func (f *findings) attributes() []store.Attribute {
	var list []store.Attribute
	for _, field := range f.fields {
		if field.attribute == "" {
			continue
		}
		a := store.Attribute{Name: field.attribute, Values: make([]store.Value, f.snap.Info().Next)}
		for i, row := range f.rows {
			a.Values[row] = field.value(i)
		}
		list = append(list, a)
	}
	return list
}

// document is the report with the rows that are shown, the file and the names of
// the attributes beside its own fields.
func (f *findings) document(shown []store.Row, path string, saved []string) (json.RawMessage, error) {
	text, err := json.Marshal(f.report)
	if err != nil {
		return nil, err
	}
	var found []map[string]any
	for i, r := range shown {
		one := map[string]any{"row": r.Row, "key": r.Key, "label": labelOf(r.Label)}
		for _, field := range f.fields {
			one[strings.ReplaceAll(field.name, " ", "_")] = field.value(i)
		}
		found = append(found, one)
	}
	rest, err := json.Marshal(struct {
		Found any      `json:"found"`
		File  string   `json:"file,omitempty"`
		Saved []string `json:"saved,omitempty"`
	}{orEmpty(found), path, saved})
	return slices.Concat(text[:len(text)-1], []byte{','}, rest[1:]), err
}
