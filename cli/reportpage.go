package cli

import (
	_ "embed"
	"html/template"
	"strconv"
	"strings"

	"membank/bench/eval"
	"membank/cli/figure"
)

//go:embed report.html
var reportSource string

var reportTemplate = template.Must(template.New("report").Funcs(template.FuncMap{"slashes": slashes, "words": strings.Fields}).Parse(reportSource))

// slashes are the parts of a path, between which a line may break.
func slashes(key string) []string { return strings.SplitAfter(key, "/") }

// reportPage is a self-contained HTML page of figures: one file, nothing loaded from
// anywhere.
type reportPage struct {
	Title    string
	Intro    string
	Headline []headline
	Sections []reportSection
	Sources  []reportBankUse
	Line     string // the command
	Footer   string
}

// headline is one number that says most.
type headline struct{ Value, Name, Note string }

type reportSection struct {
	ID, Title string
	Text      []string
	Plots     []reportPlot
	Tables    []reportTable
	Grids     []reportGrid
}

// reportPlot is a figure with what a reader must know of it.
type reportPlot struct {
	Name     string // of its files
	SVG      template.HTML
	Title    string
	Caption  string
	Protocol string
	Line     string // the command that gives its numbers
	Wide     bool
}

type reportTable struct {
	Caption string
	Columns []string
	Rows    [][]string
	Line    string
}

// reportGrid is queries with their neighbours.
type reportGrid struct {
	Title, Text string
	Protocol    string
	Line        string // the command that finds these neighbours
	Queries     []pageQuery
}

// reportBankUse is a bank as it was read.
type reportBankUse struct {
	eval.BankUse
	Dim    int
	Labels int
	Files  []string
}

// plot puts a figure on the page and among the plots.
func (r *reporting) plot(f *figure.Figure, p reportPlot) reportPlot {
	r.plots = append(r.plots, f)
	p.Name = f.Name
	p.SVG = template.HTML(f.Inline()) // every text in it is escaped
	if p.Title == "" {
		p.Title = f.Title
	}
	return p
}

func (r *reporting) section(s reportSection) { r.page.Sections = append(r.page.Sections, s) }

// numberText is a figure of a diagnosis with four digits.
func numberText(d eval.Figures, name string) string {
	v, ok := d.Lookup(name)
	if !ok {
		return "–"
	}
	return strconv.FormatFloat(v, 'g', 4, 64)
}
