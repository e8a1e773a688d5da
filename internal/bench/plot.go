package bench

import (
	"bytes"
	"encoding/xml"
	"fmt"
)

// The drawing's measures, in pixels.
const (
	plotWidth   = 760
	plotMargin  = 20
	plotLabels  = 370 // where the bars begin
	plotBars    = 250 // the longest bar's length
	plotRow     = 26
	plotBar     = 16
	plotHeading = 44
)

// plotStyle is readable on light and on dark pages. It brings its background along: an
// image may be told of another scheme than the page's around it.
const plotStyle = `
.page { fill: #ffffff; }
text { font: 13px system-ui, sans-serif; fill: #1f2328; }
.heading { font-weight: 600; }
.figure { fill: #59636e; }
.yardstick { fill: #afb8c1; }
.ours { fill: #0969da; }
@media (prefers-color-scheme: dark) {
  .page { fill: #0d1117; }
  text { fill: #e6edf3; }
  .figure { fill: #9198a1; }
  .yardstick { fill: #57606a; }
  .ours { fill: #4493f8; }
}
`

// bar is one figure. Bars of one chart have one scale.
type bar struct {
	label  string
	value  float64
	figure string // as it is written beside the bar
	ours   bool   // Posthorn's, not a yardstick's
}

// chart is bars under a heading.
type chart struct {
	heading string
	bars    []bar
}

// Plot draws the report as an SVG: a chart of bars for each section with something
// to compare.
func (r *Report) Plot() []byte {
	charts := r.charts()
	height := plotMargin
	for _, c := range charts {
		height += plotHeading + plotRow*len(c.bars)
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%d\" height=\"%d\" viewBox=\"0 0 %[1]d %d\" role=\"img\">\n", plotWidth, height, height)
	fmt.Fprintf(&b, "<title>posthorn bench</title>\n<style>%s</style>\n", plotStyle)
	fmt.Fprintf(&b, "<rect class=\"page\" width=\"%d\" height=\"%d\" rx=\"6\"/>\n", plotWidth, height)
	top := 0
	for _, c := range charts {
		c.draw(&b, top)
		top += plotHeading + plotRow*len(c.bars)
	}
	b.WriteString("</svg>\n")
	return b.Bytes()
}

func (c chart) draw(b *bytes.Buffer, top int) {
	text(b, plotMargin, top+plotHeading-14, "heading", c.heading)
	var longest float64
	for _, bar := range c.bars {
		longest = max(longest, bar.value)
	}
	for i, bar := range c.bars {
		y := top + plotHeading + plotRow*i
		class, length := "yardstick", 0.0
		if bar.ours {
			class = "ours"
		}
		if longest > 0 {
			length = max(1, plotBars*bar.value/longest)
		}
		text(b, plotMargin, y+plotBar-3, "", bar.label)
		fmt.Fprintf(b, "<rect class=\"%s\" x=\"%d\" y=\"%d\" width=\"%.1f\" height=\"%d\" rx=\"2\"/>\n", class, plotLabels, y, length, plotBar)
		text(b, plotLabels+int(length)+8, y+plotBar-3, "figure", bar.figure)
	}
}

func text(b *bytes.Buffer, x, y int, class, content string) {
	fmt.Fprintf(b, "<text class=\"%s\" x=\"%d\" y=\"%d\">", class, x, y)
	xml.EscapeText(b, []byte(content)) //nolint:errcheck // a buffer takes everything
	b.WriteString("</text>\n")
}
