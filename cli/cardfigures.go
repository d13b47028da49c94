package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
	"unicode"
)

// cardFigure is one value of a result, by its path: "results[2].top1".
type cardFigure struct {
	path  string
	value string // as JSON: a number, a string, true, null, [] or {}
}

// figuresOf are all values of a document, in its order.
func figuresOf(document json.RawMessage) (list []cardFigure, err error) {
	d := json.NewDecoder(bytes.NewReader(document))
	d.UseNumber()
	var walk func(path string) error
	walk = func(path string) error {
		token, err := d.Token()
		if err != nil {
			return err
		}
		open, nested := token.(json.Delim)
		if !nested {
			text, err := json.Marshal(token)
			list = append(list, cardFigure{path, string(text)})
			return err
		}
		n := 0
		for ; d.More(); n++ {
			at := fmt.Sprintf("%s[%d]", path, n)
			if open == '{' {
				name, err := d.Token()
				if err != nil {
					return err
				}
				at = strings.TrimPrefix(path+"."+name.(string), ".")
			}
			if err := walk(at); err != nil {
				return err
			}
		}
		end, err := d.Token()
		if err == nil && n == 0 {
			list = append(list, cardFigure{path, fmt.Sprintf("%v%v", open, end)})
		}
		return err
	}
	return list, walk("")
}

// incidental reports whether a value belongs to one run rather than to what it
// found: its time, the count of a bank's changes (the digest says what matters of
// them), the files that -o and --plots named, and the size of a page, which shows the
// command line.
func incidental(path string) bool {
	name := path[strings.LastIndex(path, ".")+1:]
	switch name {
	case "seconds", "seconds_per_iteration", "generation":
		return true
	}
	return path == "file" || path == "page" || path == "bytes" || strings.HasPrefix(path, "plots[") || path == "plots"
}

// sameValue compares two JSON values. When sums may have been taken in another
// order, numbers that are not both integers may differ by 1e-9 of the larger.
func sameValue(a, b string, reordered bool) bool {
	if a == b {
		return true
	}
	x, errX := strconv.ParseFloat(a, 64)
	y, errY := strconv.ParseFloat(b, 64)
	if errX != nil || errY != nil {
		return false
	}
	if x == y {
		return true
	}
	return reordered && (strings.ContainsAny(a, ".eE") || strings.ContainsAny(b, ".eE")) &&
		math.Abs(x-y) <= 1e-9*max(math.Abs(x), math.Abs(y))
}

// difference is one thing that a card says and a run does not, or the reverse.
type difference struct {
	What string `json:"what"` // bank, figure or text
	Name string `json:"name"`
	Was  string `json:"was"`
	Is   string `json:"is"`
}

func (d difference) String() string {
	switch d.What {
	case "bank":
		return fmt.Sprintf("bank %s differs: was %s, is %s", printable(d.Name), printable(d.Was), printable(d.Is))
	case "text":
		return printable(d.Name)
	}
	return fmt.Sprintf("figure %s was %s, is %s", printable(d.Name), printable(d.Was), printable(d.Is))
}

const absent = "absent"

// differences between a card and the same command's run here.
func differences(was, is *card) ([]difference, error) {
	list := []difference{}
	reordered := false
	banks := map[string]cardBank{}
	for _, b := range is.Banks {
		banks[b.Bank] = b
		reordered = reordered || b.Grouped
	}
	for _, b := range was.Banks {
		here, found := banks[b.Bank]
		delete(banks, b.Bank)
		reordered = reordered || b.Grouped
		switch {
		case !found:
			list = append(list, difference{"bank", b.Bank, b.text(), "not read by this command"})
		case here.SHA256 != b.SHA256 || here.Rows != b.Rows || here.Dim != b.Dim:
			list = append(list, difference{"bank", b.Bank, b.text(), here.text()})
		}
	}
	for _, b := range is.Banks {
		if _, extra := banks[b.Bank]; extra {
			list = append(list, difference{"bank", b.Bank, absent, b.text()})
		}
	}
	if is.Result == nil { // the run failed
		return list, nil
	}
	before, err := figuresOf(was.Result)
	if err != nil {
		return nil, err
	}
	now, err := figuresOf(is.Result)
	if err != nil {
		return nil, err
	}
	values := map[string]string{}
	for _, f := range now {
		values[f.path] = f.value
	}
	for _, f := range before {
		value, found := values[f.path]
		delete(values, f.path)
		switch {
		case incidental(f.path):
		case !found:
			list = append(list, difference{"figure", f.path, f.value, absent})
		case !sameValue(f.value, value, reordered):
			list = append(list, difference{"figure", f.path, f.value, value})
		}
	}
	for _, f := range now {
		if _, extra := values[f.path]; extra && !incidental(f.path) {
			list = append(list, difference{"figure", f.path, absent, f.value})
		}
	}
	return list, nil
}

// text is a bank in one line.
func (b cardBank) text() string {
	return fmt.Sprintf("%s × %d, SHA-256 %s", plural(b.Rows, "row"), b.Dim, b.SHA256)
}

// brief are the figures for a page: long lists are counted instead.
func brief(figures []cardFigure) (list []cardFigure) {
	group := func(path string) string {
		if i := strings.Index(path, "["); i >= 0 {
			return path[:i]
		}
		return ""
	}
	sizes := map[string]int{}
	for _, f := range figures {
		sizes[group(f.path)]++
	}
	const most = 160
	seen := map[string]bool{}
	for _, f := range figures {
		g := group(f.path)
		switch {
		case g == "" || sizes[g] <= most:
			list = append(list, f)
		case !seen[g]:
			seen[g] = true
			list = append(list, cardFigure{g, plural(sizes[g], "value")})
		}
	}
	return list
}

// printProtocolCard shows a card to people.
func printProtocolCard(w io.Writer, c *card, figures []cardFigure) {
	fmt.Fprintf(w, "%s\n\n", printable(commandLine(append([]string{"membank"}, c.Argv...))))
	rows := make([][]string, len(c.Banks))
	for i, b := range c.Banks {
		rows[i] = []string{printable(b.Bank), count(b.Rows), strconv.Itoa(b.Dim), b.SHA256}
	}
	printTable(w, []column{left("bank"), number("rows"), number("dim"), left("SHA-256")}, rows)
	fmt.Fprintln(w)
	rows = nil
	for _, f := range brief(figures) {
		rows = append(rows, []string{printable(f.path), printable(f.value)})
	}
	printTable(w, []column{left("figure"), left("value")}, rows)
	fmt.Fprintf(w, "\nmembank %s, %s kernels\n", printable(c.Version), printable(c.SIMD))
}

// printable takes out what would move a terminal's cursor.
func printable(text string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return '\uFFFD'
		}
		return r
	}, text)
}
