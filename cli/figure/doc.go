// Package figure draws the plots of a report: each is made once, of lines, boxes,
// dots and words, and comes out the same as SVG within a page, as an SVG file and as
// a PNG.
//
//	Lines, Bars, Histogram, Matrix, Scatter ─► Figure ─► Inline   <svg> in the page's colours, light and dark
//	                                                 ├─► WriteSVG  a file with colours of its own
//	                                                 └─► WritePNG  at 300 dots an inch
//
// Coordinates are SVG's: units from the left and from the top, a unit is a 96th of an
// inch. Colours are roles (Ink, Soft, Grid, Series): a page gives them values for
// light and dark, a file has those for paper. The series colours are Okabe and Ito's,
// which people with any kind of colour vision can tell apart.
//
// A Figure is not safe for concurrent use. Nothing here computes but axes.
package figure
