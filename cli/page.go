package cli

import (
	_ "embed"
	"encoding/base64"
	"html/template"
	"io"
	"strconv"
)

//go:embed page.html
var pageSource string

var pageTemplate = template.Must(template.New("page").Parse(pageSource))

// page is a self-contained HTML page of queries and their neighbours: one file,
// nothing loaded from anywhere.
type page struct {
	Title   string
	Intro   string
	Sheets  []sheet  // sprites that pictures are cut from
	Chart   *chart   // accuracy over k; nil: none
	Classes []string // for the filter; fewer than two: no filter
	Queries []pageQuery
	Footer  string
}

// sheet is an image of equal tiles, row by row.
type sheet struct {
	Name    string
	URI     template.CSS // url("data:…")
	Columns int
}

// picture is how a row looks: a tile of a sheet, an image of its own, or, when
// both are missing, its key alone.
type picture struct {
	Sheet string
	X, Y  int
	URI   template.URL
	Small bool // fewer pixels than the tile: show them as squares
}

// pageQuery is one query and the answers of each bank that was asked.
type pageQuery struct {
	Picture picture
	Key     string
	Class   string
	Note    string // what else is to be said of it
	Answers []pageAnswer
}

type pageAnswer struct {
	Name   string // of the bank, where there are several
	Judged bool   // query and neighbours have labels
	Right  int    // neighbours of the query's class
	Hits   []pageHit
}

type pageHit struct {
	Picture picture
	Key     string
	Class   string
	Score   string
	Verdict string // "right", "wrong", or "" where a label is missing
}

// Alone reports whether the picture is missing and the key stands for it.
func (p picture) Alone() bool { return p.Sheet == "" && p.URI == "" }

// dataURI is bytes as a URI.
func dataURI(mime string, data []byte) string {
	return "data:" + mime + ";base64," + base64.StdEncoding.EncodeToString(data)
}

// verdict compares two labels.
func verdict(query, hit *int64) string {
	switch {
	case query == nil || hit == nil:
		return ""
	case *query == *hit:
		return "right"
	}
	return "wrong"
}

// judge counts what the verdicts say.
func (a *pageAnswer) judge() {
	for _, h := range a.Hits {
		a.Judged = a.Judged || h.Verdict != ""
		if h.Verdict == "right" {
			a.Right++
		}
	}
}

// Judged reports whether any neighbour was marked right or wrong.
func (p *page) Judged() bool {
	for _, q := range p.Queries {
		for _, a := range q.Answers {
			if a.Judged {
				return true
			}
		}
	}
	return false
}

func (p *page) render(w io.Writer) error { return pageTemplate.Execute(w, p) }

// chart is a line a method: accuracy (0..1) at each k, drawn over log k.
type chart struct {
	Title  string
	K      []int
	Series []chartSeries
	Note   string
}

type chartSeries struct {
	Name  string
	Class string // of the style sheet
	Y     []float64
}

// The chart's inner area in SVG units.
const (
	chartLeft, chartRight = 44.0, 470.0
	chartTop, chartBottom = 14.0, 190.0
)

// bounds are the lowest and highest line of the grid, in tenths.
func (c *chart) bounds() (low, high float64) {
	low, high = 1, 0
	for _, s := range c.Series {
		for _, y := range s.Y {
			low, high = min(low, y), max(high, y)
		}
	}
	return float64(int(low*10)) / 10, float64(int(high*10)+1) / 10
}

// x spaces the k evenly: they grow roughly by a factor.
func (c *chart) x(i int) float64 {
	if len(c.K) == 1 {
		return chartLeft
	}
	return chartLeft + (chartRight-chartLeft)*float64(i)/float64(len(c.K)-1)
}

func (c *chart) y(v float64) float64 {
	low, high := c.bounds()
	return chartBottom - (chartBottom-chartTop)*(v-low)/(high-low)
}

// chartPoint is one dot, or one tick.
type chartPoint struct {
	X, Y string
	Text string
}

func coordinate(v float64) string { return strconv.FormatFloat(v, 'f', 1, 64) }

// Grid is the horizontal lines with their percentages.
func (c *chart) Grid() []chartPoint {
	var lines []chartPoint
	low, high := c.bounds()
	for v := low; v < high+0.01; v += 0.1 {
		lines = append(lines, chartPoint{Y: coordinate(c.y(v)), Text: strconv.FormatFloat(100*v, 'f', 0, 64) + " %"})
	}
	return lines
}

// Ticks are the k under the chart.
func (c *chart) Ticks() []chartPoint {
	var ticks []chartPoint
	for i, k := range c.K {
		ticks = append(ticks, chartPoint{X: coordinate(c.x(i)), Text: strconv.Itoa(k)})
	}
	return ticks
}

// Points are the dots of a series.
func (c *chart) Points(s chartSeries) []chartPoint {
	var points []chartPoint
	for i, y := range s.Y {
		points = append(points, chartPoint{X: coordinate(c.x(i)), Y: coordinate(c.y(y)), Text: percent(y) + " %"})
	}
	return points
}

// Line joins them, as the points attribute of an SVG polyline.
func (c *chart) Line(s chartSeries) string {
	line := ""
	for _, p := range c.Points(s) {
		line += p.X + "," + p.Y + " "
	}
	return line
}

// Rows is the same as a table: k, then a percentage a series.
func (c *chart) Rows() [][]string {
	rows := make([][]string, len(c.K))
	for i, k := range c.K {
		rows[i] = []string{strconv.Itoa(k)}
		for _, s := range c.Series {
			rows[i] = append(rows[i], percent(s.Y[i]))
		}
	}
	return rows
}

// newSheet embeds an image of tiles.
func newSheet(name string, png []byte, columns int) sheet {
	return sheet{Name: name, URI: template.CSS("url(" + dataURI("image/png", png) + ")"), Columns: columns}
}
