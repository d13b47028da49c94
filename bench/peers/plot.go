package peers

import (
	"errors"
	"fmt"
	"image/color"
	"os"
	"path/filepath"
	"slices"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/text"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"
)

var (
	oursColor = color.RGBA{R: 0xd9, G: 0x5f, B: 0x02, A: 0xff}
	peerColor = color.RGBA{R: 0x1b, G: 0x4f, B: 0x72, A: 0xff}
)

// WritePlots draws every contest as DIR/SET-MODE-kK.svg: a dot for each contender's
// best rate over a logarithmic axis, a line down to its median, and returns the paths.
func (r *Report) WritePlots(dir string) ([]string, error) {
	var paths []string
	for _, s := range r.Sets {
		for _, part := range parts(s.Results) {
			path := filepath.Join(dir, fmt.Sprintf("%s-%s-k%d.svg", s.Set, part[0].Mode, part[0].K))
			if err := drawPart(path, s, part, r.Threads); err != nil {
				return paths, err
			}
			paths = append(paths, path)
		}
	}
	return paths, nil
}

func drawPart(path string, s SetReport, part []Result, threads int) (err error) {
	part = slices.Clone(part)
	slices.Reverse(part) // fastest on top
	p := plot.New()
	p.Title.Text = fmt.Sprintf("%s: %s × %d, %s, k = %d, %s", s.Set, grouped(float64(s.Rows)), s.Dim,
		map[string]string{Batch: "batch", Single: "one query at a time"}[part[0].Mode], part[0].K, plural(threads, "thread"))
	p.Title.Padding = vg.Points(8)
	p.X.Label.Text = "queries a second"
	p.X.Scale, p.X.Tick.Marker = plot.LogScale{}, plot.LogTicks{Prec: -1}
	var names []string
	for i, one := range part {
		name := one.Name + " " + one.Index
		if one.Recall != nil && !one.Exact {
			name += fmt.Sprintf(" (%s, recall %.3f)", one.Settings, *one.Recall)
		}
		names = append(names, name)
		if err := addDot(p, one, float64(i)); err != nil {
			return err
		}
	}
	p.NominalY(names...)
	slowest, fastest := part[0], part[len(part)-1]
	p.X.Min, p.X.Max = min(slowest.Median, slowest.Best)/1.5, fastest.Best*3 // room for the number
	p.Y.Min, p.Y.Max = -0.6, float64(len(part))-0.4
	canvas := vgsvg.New(18*vg.Centimeter, vg.Length(2.6+0.75*float64(len(part)))*vg.Centimeter)
	p.Draw(draw.New(canvas))
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	_, err = canvas.WriteTo(f)
	return errors.Join(err, f.Close())
}

func addDot(p *plot.Plot, r Result, y float64) error {
	hue := peerColor
	if r.Ours {
		hue = oursColor
	}
	at := plotter.XYs{{X: r.Best, Y: y}}
	dot, err := plotter.NewScatter(at)
	if err != nil {
		return err
	}
	dot.GlyphStyle = draw.GlyphStyle{Color: hue, Radius: vg.Points(4), Shape: draw.CircleGlyph{}}
	line, err := plotter.NewLine(plotter.XYs{{X: min(r.Median, r.Best), Y: y}, at[0]})
	if err != nil {
		return err
	}
	line.LineStyle.Color, line.LineStyle.Width = hue, vg.Points(2)
	label, err := plotter.NewLabels(plotter.XYLabels{XYs: at, Labels: []string{digits(r.Best)}})
	if err != nil {
		return err
	}
	label.Offset = vg.Point{X: vg.Points(7)}
	label.TextStyle[0].YAlign = text.YCenter
	p.Add(line, dot, label)
	return nil
}
