package cli

import (
	"fmt"
	"io"
	"strconv"

	"membank/bench/eval"
)

// printResults sets one object of figures as lines with their readings, and several
// of the same figures as a table.
func printResults(w io.Writer, results []eval.Figures) {
	if len(results) == 1 {
		var rows [][]string
		for _, f := range results[0] {
			rows = append(rows, []string{f.Name, valueText(f), f.Reading})
		}
		printTable(w, []column{left("figure"), number("value"), left("")}, rows)
		return
	}
	var columns []column
	var rows [][]string
	for i, result := range results {
		var row []string
		for _, f := range result {
			if _, text := f.Value.(string); i == 0 && text {
				columns = append(columns, left(f.Name))
			} else if i == 0 {
				columns = append(columns, number(f.Name))
			}
			row = append(row, valueText(f))
		}
		rows = append(rows, row)
	}
	printTable(w, columns, rows)
}

func valueText(f eval.Figure) string {
	switch v := f.Value.(type) {
	case nil:
		return "none: " + f.Missing
	case float64:
		return strconv.FormatFloat(v, 'f', 4, 64)
	case int64:
		return count(v)
	case int:
		return count(v)
	}
	return fmt.Sprint(f.Value)
}
