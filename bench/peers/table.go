package peers

import (
	"fmt"
	"io"
	"slices"
	"strconv"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"
)

// Write prints the report as tables.
func (r *Report) Write(w io.Writer) error { return r.write(w, table.Writer.Render) }

// WriteMarkdown prints it as Markdown, for a README.
func (r *Report) WriteMarkdown(w io.Writer) error { return r.write(w, table.Writer.RenderMarkdown) }

func (r *Report) write(w io.Writer, render func(table.Writer) string) error {
	var err error
	printf := func(format string, args ...any) {
		if err == nil {
			_, err = fmt.Fprintf(w, format, args...)
		}
	}
	printf("%s, %s, membank at %s\n", r.CPU, plural(r.Threads, "thread"), r.Level)
	for _, s := range r.Sets {
		printf("\n%s: %s × %d (%s)\n\n", s.Set, grouped(float64(s.Rows)), s.Dim, s.Note)
		printf("%s\n", render(builds(s)))
		printf("\nFMA peak between the turns: best %s, median %s GFLOP/s\n", digits(s.PeakBest), digits(s.PeakMedian))
		if s.PeakMedian < busy*s.PeakBest {
			printf("the machine was BUSY with other programs: rates and ratios of this run are not to be relied on\n")
		}
		for _, part := range parts(s.Results) {
			first := part[0]
			if first.Mode == Batch {
				printf("\n%s, batch of %s queries, k = %d\n\n%s\n", s.Set, grouped(float64(s.Queries)), first.K, render(batches(part)))
			} else {
				printf("\n%s, one query at a time, k = %d\n\n%s\n", s.Set, first.K, render(singles(part)))
			}
		}
		if list := s.AtRecalls(); slices.ContainsFunc(list, func(a AtRecall) bool { return !a.Exact && a.Ours }) {
			printf("\n%s, the best rate of each index at a recall or above\n\n%s\n", s.Set, render(atRecalls(list)))
		}
		if s.Different > 0 {
			printf("\nmembank's paths DIFFER in ids or scores of %s\n", plural(s.Different, "answer"))
		}
	}
	for i, m := range r.Missing {
		if i == 0 {
			printf("\n")
		}
		printf("not found: %s: %s", m.Name, m.Reason)
		if m.Remedy != "" {
			printf(" (%s)", m.Remedy)
		}
		printf("\n")
	}
	return err
}

// busy is the share of its best peak below which the median says that a machine had
// other work.
const busy = 0.8

// parts are the results of each contest, fastest first.
func parts(all []Result) [][]Result {
	var out [][]Result
	for _, r := range all {
		last := len(out) - 1
		if last < 0 || out[last][0].Mode != r.Mode || out[last][0].K != r.K {
			out, last = append(out, nil), last+1
		}
		out[last] = append(out[last], r)
	}
	for _, part := range out {
		slices.SortStableFunc(part, func(a, b Result) int { return -compareFloat(a.Best, b.Best) })
	}
	return out
}

func compareFloat(a, b float64) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

// grid is an empty table whose columns after the first few are numbers.
func grid(words int, header ...any) table.Writer {
	t := table.NewWriter()
	style := table.StyleLight
	style.Options.DrawBorder, style.Options.SeparateColumns = false, false
	style.Format.Header = text.FormatDefault
	t.SetStyle(style)
	t.AppendHeader(header)
	var columns []table.ColumnConfig
	for i := range header {
		if i >= words {
			columns = append(columns, table.ColumnConfig{Number: i + 1, Align: text.AlignRight, AlignHeader: text.AlignRight})
		}
	}
	t.SetColumnConfigs(columns)
	return t
}

func builds(s SetReport) table.Writer {
	t := grid(4, "built", "version", "index", "SIMD", "seconds")
	for _, x := range s.Indexes {
		t.AppendRow(table.Row{x.Name, x.Version, x.Index, x.Level, digits(x.Build)})
	}
	return t
}

func batches(part []Result) table.Writer {
	t := grid(3, "contender", "index", "settings", "recall", "turns", "queries/s", "median", "GFLOP/s", "membank is", "median")
	for _, r := range part {
		t.AppendRow(table.Row{r.Name, r.Index, r.Settings, recallText(r), turnsText(r), digits(r.Best), digits(r.Median),
			digits(r.GFLOPS), times(r.Ratio), times(r.RatioMedian)})
	}
	return t
}

func singles(part []Result) table.Writer {
	t := grid(3, "contender", "index", "settings", "turns", "mean ms", "median ms", "queries/s", "membank is", "median")
	for _, r := range part {
		t.AppendRow(table.Row{r.Name, r.Index, r.Settings, turnsText(r), digits(r.MeanMS), digits(r.MedianMS),
			digits(r.Best), times(r.Ratio), times(r.RatioMedian)})
	}
	return t
}

func recallText(r Result) string {
	if r.Recall == nil {
		return ""
	}
	return strconv.FormatFloat(*r.Recall, 'f', 4, 64)
}

// turnsText is how many turns of how many queries there were.
func turnsText(r Result) string {
	return fmt.Sprintf("%d × %s", r.Rounds, grouped(float64(r.Queries)))
}

func times(ratio float64) string { return digits(ratio) + "×" }

// digits keeps three digits, or all before the point.
func digits(v float64) string {
	switch {
	case v >= 1000:
		return grouped(v)
	case v >= 100:
		return strconv.FormatFloat(v, 'f', 0, 64)
	case v >= 10:
		return strconv.FormatFloat(v, 'f', 1, 64)
	case v >= 1:
		return strconv.FormatFloat(v, 'f', 2, 64)
	}
	return strconv.FormatFloat(v, 'f', 3, 64)
}

// grouped is a whole number with commas.
func grouped(v float64) string {
	s := strconv.FormatFloat(v, 'f', 0, 64)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return grouped(float64(n)) + " " + what + "s"
}
