package figure

import (
	"bufio"
	"fmt"
	"html"
	"io"
	"strconv"
	"strings"
)

// Classes are the CSS classes of the tones in an inline figure, in their order.
func Classes() []string {
	names := []string{"ink", "soft", "grid", "paper", "accent"}
	for i := range SeriesTones {
		names = append(names, "s"+strconv.Itoa(i))
	}
	return names
}

// Inline is the figure as an element of a page, whose style sheet colours it: each
// mark has var(--CLASS) of Classes as its colour.
func (f *Figure) Inline() string {
	return f.element("", func(t Tone) string { return "var(--" + Classes()[t] + ")" })
}

// WriteSVG writes the figure as a file of its own, in colours for paper.
func (f *Figure) WriteSVG(w io.Writer) error {
	out := bufio.NewWriter(w)
	out.WriteString(`<?xml version="1.0" encoding="UTF-8"?>` + "\n")
	attributes := fmt.Sprintf(` xmlns="http://www.w3.org/2000/svg" width="%g" height="%g"`, f.Width, f.Height)
	out.WriteString(f.element(attributes, func(t Tone) string {
		c := onPaper[t]
		return fmt.Sprintf("#%02x%02x%02x", c.R, c.G, c.B)
	}))
	out.WriteByte('\n')
	return out.Flush()
}

func (f *Figure) element(attributes string, colour func(Tone) string) string {
	var b strings.Builder
	fmt.Fprintf(&b, `<svg%s viewBox="0 0 %g %g" role="img" aria-label="%s" font-family="system-ui, -apple-system, 'Segoe UI', Roboto, 'DejaVu Sans', sans-serif" font-size="%d">`,
		attributes, f.Width, f.Height, html.EscapeString(f.Title), fontSize)
	if attributes != "" {
		fmt.Fprintf(&b, `<title>%s</title><rect width="%g" height="%g" fill="%s"/>`, html.EscapeString(f.Title), f.Width, f.Height, colour(Paper))
	}
	for _, m := range f.marks {
		m.write(&b, colour)
	}
	b.WriteString("</svg>")
	return b.String()
}

func (m *mark) write(b *strings.Builder, colour func(Tone) string) {
	shade := func(of string) string {
		if m.shade == 1 {
			return ""
		}
		return fmt.Sprintf(` %s-opacity="%s"`, of, place(m.shade))
	}
	said := ""
	if m.text != "" {
		said = "<title>" + html.EscapeString(m.text) + "</title>"
	}
	switch m.kind {
	case line:
		points := make([]string, len(m.points))
		for i, p := range m.points {
			points[i] = place(p.x) + "," + place(p.y)
		}
		dashes := ""
		if m.dashed {
			dashes = ` stroke-dasharray="4 3"`
		}
		fmt.Fprintf(b, `<polyline points="%s" fill="none" stroke="%s" stroke-width="%g" stroke-linejoin="round"%s%s>%s</polyline>`,
			strings.Join(points, " "), colour(m.tone), m.w, dashes, shade("stroke"), said)
	case box:
		fmt.Fprintf(b, `<rect x="%s" y="%s" width="%s" height="%s" fill="%s"%s>%s</rect>`,
			place(m.points[0].x), place(m.points[0].y), place(m.w), place(m.h), colour(m.tone), shade("fill"), said)
	case dot:
		fmt.Fprintf(b, `<circle cx="%s" cy="%s" r="%g" fill="%s"%s>%s</circle>`,
			place(m.points[0].x), place(m.points[0].y), m.w, colour(m.tone), shade("fill"), said)
	case word:
		x, y := place(m.points[0].x), place(m.points[0].y)
		more := [...]string{"", ` text-anchor="middle"`, ` text-anchor="end"`}[m.anchor]
		if m.turned {
			more += fmt.Sprintf(` transform="rotate(-90 %s %s)"`, x, y)
		}
		if m.bold {
			more += ` font-weight="600"`
		}
		fmt.Fprintf(b, `<text x="%s" y="%s" fill="%s"%s>%s</text>`, x, y, colour(m.tone), more, html.EscapeString(m.text))
	}
}

// place writes a coordinate, to a hundredth.
func place(v float64) string { return strconv.FormatFloat(v, 'f', 2, 64) }
