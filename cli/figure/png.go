package figure

import (
	"image/color"
	"io"
	"math"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/font"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/vgimg"
)

// onPaper are the colours of the tones in files.
var onPaper = [Series + SeriesTones]color.NRGBA{
	{0x1c, 0x1d, 0x1f, 255}, {0x5d, 0x61, 0x68, 255}, {0xdc, 0xdd, 0xdf, 255}, {255, 255, 255, 255}, {0x00, 0x5a, 0x9c, 255},
	{0x00, 0x72, 0xb2, 255}, {0xd5, 0x5e, 0x00, 255}, {0x00, 0x9e, 0x73, 255}, {0xcc, 0x79, 0xa7, 255}, {0xe6, 0x9f, 0x00, 255},
	{0x56, 0xb4, 0xe9, 255}, {0x7b, 0x4b, 0x94, 255}, {0x8c, 0x6d, 0x31, 255}, {0x80, 0x80, 0x80, 255}, {0x2f, 0x4b, 0x3f, 255},
}

// WritePNG writes the figure as an image, at 300 dots an inch.
func (f *Figure) WritePNG(w io.Writer) error {
	c := vgimg.PngCanvas{Canvas: vgimg.NewWith(vgimg.UseWH(length(f.Width), length(f.Height)), vgimg.UseDPI(300), vgimg.UseBackgroundColor(color.White))}
	for i := range f.marks {
		f.draw(c, &f.marks[i])
	}
	_, err := c.WriteTo(w)
	return err
}

// length is units as points, of which an inch has 72.
func length(units float64) vg.Length { return vg.Length(units * 0.75) }

func (f *Figure) draw(c vg.Canvas, m *mark) {
	at := func(p point) vg.Point { return vg.Point{X: length(p.x), Y: length(f.Height - p.y)} }
	hue := onPaper[m.tone]
	hue.A = uint8(math.Round(255 * m.shade))
	c.SetColor(hue)
	var path vg.Path
	switch m.kind {
	case line:
		path.Move(at(m.points[0]))
		for _, p := range m.points[1:] {
			path.Line(at(p))
		}
		c.SetLineWidth(length(m.w))
		c.SetLineDash(nil, 0)
		if m.dashed {
			c.SetLineDash([]vg.Length{length(4), length(3)}, 0)
		}
		c.Stroke(path)
	case box:
		corner := at(m.points[0])
		path.Move(corner)
		path.Line(vg.Point{X: corner.X + length(m.w), Y: corner.Y})
		path.Line(vg.Point{X: corner.X + length(m.w), Y: corner.Y - length(m.h)})
		path.Line(vg.Point{X: corner.X, Y: corner.Y - length(m.h)})
		path.Close()
		c.Fill(path)
	case dot:
		centre := at(m.points[0])
		path.Move(vg.Point{X: centre.X + length(m.w), Y: centre.Y})
		path.Arc(centre, length(m.w), 0, 2*math.Pi)
		path.Close()
		c.Fill(path)
	case word:
		face := font.DefaultCache.Lookup(font.Font{Typeface: plot.DefaultFont.Typeface, Variant: "Sans"}, length(m.w))
		width := face.Width(m.text)
		c.Push()
		c.Translate(at(m.points[0]))
		if m.turned {
			c.Rotate(math.Pi / 2)
		}
		shift := [...]vg.Length{0, -width / 2, -width}[m.anchor]
		c.FillString(face, vg.Point{X: shift}, m.text)
		c.Pop()
	}
}
