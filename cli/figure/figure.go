package figure

import (
	"fmt"
	"math"
	"strconv"
)

// Figure is a drawing under way.
type Figure struct {
	Name          string // of its files
	Title         string // what it shows, for those who cannot see it, too
	Width, Height float64
	marks         []mark
}

// Tone is a colour by its role.
type Tone int

// Tones; those of series go on from Series: Series+1, Series+2, …
const (
	Ink Tone = iota
	Soft
	Grid
	Paper
	Accent // of matrices, in shades
	Series
)

// SeriesTones is how many series have colours of their own; after these they begin
// again.
const SeriesTones = 10

type kind int

const (
	line kind = iota
	box
	dot
	word
)

// mark is one thing drawn.
type mark struct {
	kind   kind
	points []point // of a line; the place of the others
	w, h   float64 // of a box; w is a dot's radius, a line's width, a word's size
	tone   Tone
	shade  float64 // 0..1: opacity
	text   string  // of a word; of the others what is said when one points at it
	anchor anchor
	dashed bool
	turned bool // a word that reads upwards
	bold   bool
}

type point struct{ x, y float64 }

type anchor int

const (
	start anchor = iota
	middle
	end
)

func (f *Figure) line(tone Tone, width float64, points ...point) *mark {
	f.marks = append(f.marks, mark{kind: line, points: points, w: width, tone: tone, shade: 1})
	return &f.marks[len(f.marks)-1]
}

func (f *Figure) box(tone Tone, x, y, w, h float64) *mark {
	f.marks = append(f.marks, mark{kind: box, points: []point{{x, y}}, w: w, h: h, tone: tone, shade: 1})
	return &f.marks[len(f.marks)-1]
}

func (f *Figure) dot(tone Tone, at point, radius float64) *mark {
	f.marks = append(f.marks, mark{kind: dot, points: []point{at}, w: radius, tone: tone, shade: 1})
	return &f.marks[len(f.marks)-1]
}

func (f *Figure) word(tone Tone, at point, a anchor, text string) *mark {
	f.marks = append(f.marks, mark{kind: word, points: []point{at}, w: fontSize, tone: tone, shade: 1, anchor: a, text: text})
	return &f.marks[len(f.marks)-1]
}

const fontSize = 11

// widthOf is about how wide a word is.
func widthOf(text string) float64 { return float64(len([]rune(text))) * fontSize * 0.6 }

// short cuts a word that is too long for its place.
func short(text string, most int) string {
	if r := []rune(text); len(r) > most {
		return string(r[:most-1]) + "…"
	}
	return text
}

// seriesTone is the colour of the i-th series.
func seriesTone(i int) Tone { return Series + Tone(i%SeriesTones) }

// scale maps values of an axis to places.
type scale struct {
	low, high float64 // values; their logarithms if log
	from, to  float64 // places
	log       bool
}

func (s scale) at(v float64) float64 {
	if s.log {
		v = math.Log10(v)
	}
	if s.high == s.low {
		return (s.from + s.to) / 2
	}
	return s.from + (s.to-s.from)*(v-s.low)/(s.high-s.low)
}

// tick is a value with its text.
type tick struct {
	v    float64
	text string
}

// niceScale is a scale that ends at round numbers, and some ticks.
// least is the smallest step between them.
func niceScale(low, high, from, to float64, most int, least float64) (scale, []tick) {
	if high <= low {
		high = low + max(1, math.Abs(low))
	}
	step := math.Pow(10, math.Floor(math.Log10((high-low)/float64(most))))
	for _, factor := range []float64{1, 2, 5, 10} {
		if (high-low)/(step*factor) <= float64(most) {
			step *= factor
			break
		}
	}
	step = max(step, least)
	s := scale{low: math.Floor(low/step+1e-9) * step, high: math.Ceil(high/step-1e-9) * step, from: from, to: to}
	var ticks []tick
	for i := 0; i <= int(math.Round((s.high-s.low)/step)); i++ {
		v := s.low + float64(i)*step
		ticks = append(ticks, tick{v, number(v, step)})
	}
	return s, ticks
}

// number writes a tick with as many decimals as its step needs.
func number(v, step float64) string {
	if math.Abs(v) < step/1e6 {
		v = 0
	}
	if math.Abs(v) >= 1e5 {
		return strconv.FormatFloat(v, 'g', 3, 64)
	}
	return strconv.FormatFloat(v, 'f', max(0, -int(math.Floor(math.Log10(step)+1e-9))), 64)
}

// logScale is a scale with ticks at powers of ten.
func logScale(low, high, from, to float64) (scale, []tick) {
	s := scale{low: math.Log10(low), high: math.Log10(high), from: from, to: to, log: true}
	if s.high-s.low < 1 {
		s.low, s.high = math.Floor(s.low), math.Floor(s.low)+1
	}
	step := max(1, math.Ceil((s.high-s.low)/6))
	var ticks []tick
	for e := math.Floor(s.high + 1e-9); e >= s.low-1e-9; e -= step {
		text := fmt.Sprintf("1e%g", e)
		if e >= 0 && e < 5 {
			text = strconv.FormatFloat(math.Pow(10, e), 'f', 0, 64)
		} else if e < 0 && e > -4 {
			text = strconv.FormatFloat(math.Pow(10, e), 'f', int(-e), 64)
		}
		ticks = append(ticks, tick{math.Pow(10, e), text})
	}
	return s, ticks
}
