package figure

import (
	"math"
	"strconv"
)

// The margins of a chart.
const (
	leftMargin, rightMargin = 58.0, 14.0
	topMargin, bottomMargin = 12.0, 44.0
)

// Axis is what stands along one side.
type Axis struct {
	Label string
	Log   bool
	Zero  bool     // begins at 0
	Whole bool     // has whole numbers only
	Names []string // places 0, 1, 2, … have names; nil: numbers
}

// Curve is one line of a chart.
type Curve struct {
	Name   string
	X, Y   []float64
	Dots   bool
	Dashed bool
}

// Lines is a chart of curves over a common axis. A point of no place (NaN, or 0 on a
// logarithmic axis) is left out. At least one point must be left.
func Lines(name, title string, x, y Axis, curves []Curve) *Figure {
	f := &Figure{Name: name, Title: title, Width: 520, Height: 300}
	many := len(curves) > 1
	if many {
		f.Height += legendHeight(f.Width-leftMargin-rightMargin, curveNames(curves))
	}
	var xs, ys []float64
	for i := range curves {
		curves[i] = curves[i].placed(x, y)
		xs, ys = append(xs, curves[i].X...), append(ys, curves[i].Y...)
	}
	sx, sy := f.axes(x, y, xs, ys, f.plotBottom(many, curves))
	for i, c := range curves {
		var points []point
		for j := range c.X {
			points = append(points, point{sx.at(c.X[j]), sy.at(c.Y[j])})
		}
		if len(points) > 1 {
			m := f.line(seriesTone(i), 1.8, points...)
			m.dashed = c.Dashed
			m.text = c.Name
		}
		if c.Dots || len(points) == 1 {
			for j, p := range points {
				at := strconv.FormatFloat(c.X[j], 'g', 6, 64)
				if k := int(c.X[j]); k >= 0 && k < len(x.Names) {
					at = x.Names[k]
				}
				f.dot(seriesTone(i), p, 3.4).text = c.Name + ", " + at + ": " + strconv.FormatFloat(c.Y[j], 'g', 5, 64)
			}
		}
	}
	if many {
		f.legend(curveNames(curves))
	}
	return f
}

func curveNames(curves []Curve) (names []string) {
	for _, c := range curves {
		names = append(names, c.Name)
	}
	return names
}

func (c Curve) placed(x, y Axis) Curve {
	out := c
	out.X, out.Y = nil, nil
	for i := range c.X {
		if math.IsNaN(c.X[i]+c.Y[i]) || x.Log && c.X[i] <= 0 || y.Log && c.Y[i] <= 0 {
			continue
		}
		out.X, out.Y = append(out.X, c.X[i]), append(out.Y, c.Y[i])
	}
	return out
}

func (f *Figure) plotBottom(legend bool, curves []Curve) float64 {
	if legend {
		return f.Height - bottomMargin - legendHeight(f.Width-leftMargin-rightMargin, curveNames(curves))
	}
	return f.Height - bottomMargin
}

// axes draws the frame of a chart whose plot ends at bottom.
func (f *Figure) axes(x, y Axis, xs, ys []float64, bottom float64) (sx, sy scale) {
	left, right := leftMargin, f.Width-rightMargin
	sx, xTicks := x.scale(xs, left, right, 8)
	sy, yTicks := y.scale(ys, bottom, topMargin, 6)
	for _, t := range yTicks {
		f.line(Grid, 1, point{left, sy.at(t.v)}, point{right, sy.at(t.v)})
		f.word(Soft, point{left - 7, sy.at(t.v) + 4}, end, t.text)
	}
	f.line(Soft, 1, point{left, bottom}, point{right, bottom})
	for _, t := range xTicks {
		f.line(Soft, 1, point{sx.at(t.v), bottom}, point{sx.at(t.v), bottom + 4})
		f.word(Soft, point{sx.at(t.v), bottom + 17}, middle, t.text)
	}
	f.word(Ink, point{(left + right) / 2, bottom + 35}, middle, x.Label)
	f.word(Ink, point{12, (topMargin + bottom) / 2}, middle, y.Label).turned = true
	return sx, sy
}

func (a Axis) scale(values []float64, from, to float64, most int) (scale, []tick) {
	low, high := math.Inf(1), math.Inf(-1)
	for _, v := range values {
		low, high = min(low, v), max(high, v)
	}
	switch {
	case len(a.Names) > 0:
		inset := (to - from) / float64(len(a.Names)) / 2
		s := scale{low: 0, high: float64(len(a.Names) - 1), from: from + inset, to: to - inset}
		room := max(3, int((to-from)/float64(len(a.Names))/fontSize/0.56))
		var ticks []tick
		for i, name := range a.Names {
			ticks = append(ticks, tick{float64(i), short(name, room)})
		}
		return s, ticks
	case a.Log:
		return logScale(low, high, from, to)
	case a.Zero:
		low = min(0, low)
	}
	least := 0.0
	if a.Whole {
		least = 1
	}
	return niceScale(low, high, from, to, most, least)
}

// legendRows lays names out in rows of some width: the row and the place of each.
func legendRows(width float64, names []string) (rows int, at []point) {
	x := 0.0
	for _, name := range names {
		w := 26 + widthOf(short(name, 34))
		if x > 0 && x+w > width {
			x = 0
			rows++
		}
		at = append(at, point{x, float64(rows)})
		x += w
	}
	return rows + 1, at
}

func legendHeight(width float64, names []string) float64 {
	rows, _ := legendRows(width, names)
	return float64(rows)*16 + 4
}

// legend names the series under the chart.
func (f *Figure) legend(names []string) {
	rows, at := legendRows(f.Width-leftMargin-rightMargin, names)
	top := f.Height - float64(rows)*16 + 4
	for i, name := range names {
		y := top + 16*at[i].y
		f.box(seriesTone(i), leftMargin+at[i].x, y-2, 11, 11)
		f.word(Ink, point{leftMargin + at[i].x + 16, y + 7.5}, start, short(name, 34))
	}
}

// Bars is a bar for each name, from 0, one under the other, with its value in words.
// A mark, if any is not NaN, is drawn across all bars: their mean.
func Bars(name, title, label string, names []string, values []float64, texts []string, mark float64) *Figure {
	const each = 21.0
	f := &Figure{Name: name, Title: title, Width: 520, Height: topMargin + each*float64(len(names)) + bottomMargin}
	left := 20.0
	for _, n := range names {
		left = max(left, 12+widthOf(short(n, 26)))
	}
	high := 0.0
	for _, v := range values {
		high = max(high, v)
	}
	bottom := f.Height - bottomMargin
	s, ticks := niceScale(0, high, left, f.Width-54, 6, 0)
	for _, t := range ticks {
		f.line(Grid, 1, point{s.at(t.v), topMargin}, point{s.at(t.v), bottom})
		f.word(Soft, point{s.at(t.v), bottom + 16}, middle, t.text)
	}
	for i, v := range values {
		y := topMargin + each*float64(i)
		f.word(Ink, point{left - 7, y + each/2 + 4}, end, short(names[i], 26))
		f.box(seriesTone(0), left, y+3, s.at(v)-left, each-6).text = names[i] + ": " + texts[i]
	}
	if !math.IsNaN(mark) {
		f.line(seriesTone(1), 1.5, point{s.at(mark), topMargin}, point{s.at(mark), bottom}).dashed = true
	}
	for i, v := range values {
		x, y := s.at(v)+5, topMargin+each*float64(i)
		if at := s.at(mark); x < at+2 && at-2 < x+widthOf(texts[i]) { // the line would strike it out
			f.box(Paper, x-2, y+3, widthOf(texts[i])+4, each-6)
		}
		f.word(Soft, point{x, y + each/2 + 4}, start, texts[i])
	}
	f.word(Ink, point{(left + f.Width - 54) / 2, bottom + 34}, middle, label)
	return f
}

// Shares is the shares of one histogram: Counts[i] lies between Edges[i] and Edges[i+1].
type Shares struct {
	Name   string
	Edges  []float64
	Counts []float64
}

// Histogram draws histograms over each other, each scaled to a sum of 100 %. Empty
// ends are cut off. At least one count must be above 0.
func Histogram(name, title, xLabel string, parts []Shares) *Figure {
	f := &Figure{Name: name, Title: title, Width: 520, Height: 300}
	var names []string
	var xs, ys []float64
	for i := range parts {
		parts[i] = parts[i].trimmed()
		names = append(names, parts[i].Name)
		xs, ys = append(xs, parts[i].Edges...), append(ys, parts[i].Counts...)
	}
	bottom := f.Height - bottomMargin
	if len(parts) > 1 {
		f.Height += legendHeight(f.Width-leftMargin-rightMargin, names)
	}
	sx, sy := f.axes(Axis{Label: xLabel}, Axis{Label: "share, %", Zero: true}, xs, ys, bottom)
	for i, p := range parts {
		outline := []point{}
		for j, v := range p.Counts {
			x0, x1, y := sx.at(p.Edges[j]), sx.at(p.Edges[j+1]), sy.at(v)
			if v > 0 {
				b := f.box(seriesTone(i), x0, y, x1-x0, bottom-y)
				b.shade = 0.35
				b.text = names[i] + ", " + strconv.FormatFloat(p.Edges[j], 'g', 4, 64) + " to " + strconv.FormatFloat(p.Edges[j+1], 'g', 4, 64) + ": " + strconv.FormatFloat(v, 'f', 2, 64) + " %"
			}
			outline = append(outline, point{x0, y}, point{x1, y})
		}
		if n := len(outline); n > 0 {
			outline = append([]point{{outline[0].x, bottom}}, append(outline, point{outline[n-1].x, bottom})...)
			f.line(seriesTone(i), 1.4, outline...)
		}
	}
	if len(parts) > 1 {
		f.legend(names)
	}
	return f
}

func (s Shares) trimmed() Shares {
	first, last, sum := -1, 0, 0.0
	for i, c := range s.Counts {
		if c > 0 {
			if first < 0 {
				first = i
			}
			last = i
			sum += c
		}
	}
	if first < 0 {
		return Shares{Name: s.Name}
	}
	out := Shares{Name: s.Name, Edges: s.Edges[first : last+2]}
	for _, c := range s.Counts[first : last+1] {
		out.Counts = append(out.Counts, 100*c/sum)
	}
	return out
}

// darkShare is where the other ink is easier to read: at either side its contrast is
// 3.8 at least, by day and by night.
const darkShare = 0.78

// Matrix is a square for every pair of a row and a column, as dark as its share of
// the row's sum, which it says in percent.
func Matrix(name, title, rowLabel, columnLabel string, rows, columns []string, counts [][]int64) *Figure {
	f := &Figure{Name: name, Title: title, Width: 520}
	left, names := 40.0, 20.0
	for _, n := range rows {
		left = max(left, 30+widthOf(short(n, 20)))
	}
	for _, n := range columns {
		names = max(names, 10+widthOf(short(n, 20)))
	}
	const top = 24.0
	side := (f.Width - left - 4) / float64(len(columns))
	f.Height = top + names + side*float64(len(rows)) + 4
	f.word(Ink, point{(left + f.Width) / 2, 14}, middle, columnLabel)
	f.word(Ink, point{12, top + names + side*float64(len(rows))/2}, middle, rowLabel).turned = true
	for j, n := range columns {
		f.word(Soft, point{left + side*(float64(j)+0.5) + 4, top + names - 6}, start, short(n, 20)).turned = true
	}
	for i, n := range rows {
		y := top + names + side*float64(i)
		f.word(Soft, point{left - 6, y + side/2 + 4}, end, short(n, 20))
		sum := int64(0)
		for _, c := range counts[i] {
			sum += c
		}
		for j, c := range counts[i] {
			share := float64(c) / float64(max(1, sum))
			x := left + side*float64(j)
			f.box(Grid, x, y, side-1, side-1).shade = 0.35
			b := f.box(Accent, x, y, side-1, side-1)
			b.shade = share
			b.text = n + " taken for " + columns[j] + ": " + strconv.FormatInt(c, 10) + " of " + strconv.FormatInt(sum, 10)
			if c > 0 && side >= 22 {
				tone := Ink
				if share > darkShare {
					tone = Paper
				}
				f.word(tone, point{x + side/2, y + side/2 + 4}, middle, strconv.FormatFloat(100*share, 'f', 0, 64))
			}
		}
	}
	return f
}

// Spots are the points of one class on a map.
type Spots struct {
	Name  string
	X, Y  []float64
	Texts []string // what is said of each
}

// Scatter is a map: points in the plane, with equal scales and no axes but labels.
// Classes are drawn row by row in turn, so that none hides the others.
func Scatter(name, title, xLabel, yLabel string, classes []Spots) *Figure {
	f := &Figure{Name: name, Title: title, Width: 520, Height: 500}
	var names []string
	lowX, highX, lowY, highY := math.Inf(1), math.Inf(-1), math.Inf(1), math.Inf(-1)
	most := 0
	for _, c := range classes {
		names = append(names, c.Name)
		most = max(most, len(c.X))
		for i := range c.X {
			lowX, highX, lowY, highY = min(lowX, c.X[i]), max(highX, c.X[i]), min(lowY, c.Y[i]), max(highY, c.Y[i])
		}
	}
	const margin = 24.0
	each := max(highX-lowX, highY-lowY)
	if each == 0 {
		each = 1
	}
	// As high as the map is, but not so flat that it is hard to see.
	room := f.Height - 2*margin
	height := room * max(0.4, (highY-lowY)/each)
	f.Height = height + 2*margin
	if len(classes) > 1 {
		f.Height += legendHeight(f.Width-leftMargin-rightMargin, names)
	}
	radius := 2.6
	if total := len(classes) * most; total < 400 {
		radius = 3.6
	}
	for i := range most {
		for c, spots := range classes {
			if i >= len(spots.X) {
				continue
			}
			at := point{
				f.Width/2 + room*(spots.X[i]-(lowX+highX)/2)/each,
				margin + height/2 - room*(spots.Y[i]-(lowY+highY)/2)/each,
			}
			d := f.dot(seriesTone(c), at, radius)
			d.shade = 0.75
			d.text = spots.Texts[i]
		}
	}
	f.word(Soft, point{f.Width / 2, margin + height + 18}, middle, xLabel)
	f.word(Soft, point{14, margin + height/2}, middle, yLabel).turned = true
	if len(classes) > 1 {
		f.legend(names)
	}
	return f
}
