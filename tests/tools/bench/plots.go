package main

import (
	"bytes"
	"fmt"
	"image/color"
	"math"
	"slices"
	"strconv"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/font"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/text"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	_ "gonum.org/v1/plot/vg/vgsvg" // the format of the files
)

const (
	plotWidth  = 8 * vg.Inch
	plotHeight = 4.6 * vg.Inch
	skewHeight = 8 * vg.Inch // it has a row for each query and tenant
)

// style is how a variant looks in all plots. The colours can be told apart by the colour-blind (Okabe and Ito, 2008,
// "Color Universal Design"), and so can the shapes.
type style struct {
	color  color.Color
	shape  draw.GlyphDrawer
	legend string
}

var styles = map[string]style{
	"plain":   {color.RGBA{90, 90, 90, 255}, draw.CircleGlyph{}, "plain GORM"},
	"tenancy": {color.RGBA{0, 114, 178, 255}, draw.CircleGlyph{}, "tenancy"},
	"OpenDB":  {color.RGBA{0, 158, 115, 255}, draw.BoxGlyph{}, "tenancy, OpenDB"},
	"session": {color.RGBA{230, 159, 0, 255}, draw.RingGlyph{}, "SET per connection"},
	"wrapper": {color.RGBA{213, 94, 0, 255}, draw.PyramidGlyph{}, "usual wrapper"},

	"policy alone": {color.RGBA{213, 94, 0, 255}, draw.PyramidGlyph{}, "policy alone"},

	"tenancy" + partitioned:      {color.RGBA{0, 158, 115, 255}, draw.BoxGlyph{}, "tenancy, partitions"},
	"policy alone" + partitioned: {color.RGBA{230, 159, 0, 255}, draw.RingGlyph{}, "policy alone, partitions"},
}

// plots draws all that were measured, by file name.
func (r *results) plots() (map[string][]byte, error) {
	files := map[string][]byte{}
	add := func(name string, p *plot.Plot, height vg.Length) error {
		if p == nil {
			return nil
		}
		svg, err := render(p, height)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		files[name] = svg
		return nil
	}
	if err := add("ratios.svg", r.plotRatios(loopback, "Loopback, no network"), plotHeight); err != nil {
		return nil, err
	}
	if r.Skew != nil {
		if err := add("skew.svg", r.Skew.plot(), skewHeight); err != nil {
			return nil, err
		}
	}
	return files, nil
}

func render(p *plot.Plot, height vg.Length) ([]byte, error) {
	svg, err := p.WriterTo(plotWidth, height, "svg")
	if err != nil {
		return nil, err
	}
	var buf bytes.Buffer
	_, err = svg.WriteTo(&buf)
	return buf.Bytes(), err
}

func newPlot(title string) *plot.Plot {
	p := plot.New()
	sans := font.Font{Typeface: "Liberation", Variant: "Sans"}
	for _, s := range []*text.Style{
		&p.Title.TextStyle, &p.X.Label.TextStyle, &p.Y.Label.TextStyle, &p.X.Tick.Label, &p.Y.Tick.Label, &p.Legend.TextStyle,
	} {
		s.Font.Typeface, s.Font.Variant = sans.Typeface, sans.Variant
		s.Font.Size = 11
	}
	p.Title.Text = title
	p.Title.TextStyle.Font.Size = 13
	p.Title.Padding = 8
	p.X.Padding, p.Y.Padding = 6, 6
	p.Legend.Top, p.Legend.Padding = true, 3
	grid := plotter.NewGrid()
	grid.Vertical.Color, grid.Horizontal.Color = color.Gray{225}, color.Gray{225}
	p.Add(grid)
	return p
}

// plotRatios has a row for each operation, and in it each variant's ratio to plain GORM with its interval.
func (r *results) plotRatios(network, title string) *plot.Plot {
	names := []string{"wrapper", "session", "OpenDB", "tenancy"} // upwards
	p := newPlot(title + ": times as long as plain GORM, with 95 % intervals")
	var titles []plot.Tick
	points := map[string]plotter.XYs{}
	bounds := map[string]plotter.XErrors{}
	least, most := 1.0, 1.0
	for _, op := range r.Operations {
		c := r.cell(op.Name, network)
		if c == nil {
			continue
		}
		y := -float64(len(titles))
		titles = append(titles, plot.Tick{Value: y, Label: withoutMarkup(op.Title)})
		for i, name := range names {
			t := c.of(name)
			if t == nil {
				continue
			}
			points[name] = append(points[name], plotter.XY{X: t.Ratio.Value, Y: y + 0.17*(float64(i)-1.5)})
			bounds[name] = append(bounds[name], struct{ Low, High float64 }{t.Ratio.Value - t.Ratio.Low, t.Ratio.High - t.Ratio.Value})
			least, most = min(least, t.Ratio.Low), max(most, t.Ratio.High)
		}
	}
	if len(titles) == 0 {
		return nil
	}
	for _, name := range []string{"tenancy", "OpenDB", "session", "wrapper"} {
		if len(points[name]) == 0 {
			continue
		}
		s := styles[name]
		bars := must(plotter.NewXErrorBars(struct {
			plotter.XYer
			plotter.XErrorer
		}{points[name], bounds[name]}))
		bars.Color, bars.Width, bars.CapWidth = s.color, 1.2, 5
		dots := must(plotter.NewScatter(points[name]))
		dots.GlyphStyle = draw.GlyphStyle{Color: s.color, Radius: 3.2, Shape: s.shape}
		p.Add(bars, dots)
		p.Legend.Add(s.legend, dots)
	}
	one := must(plotter.NewLine(plotter.XYs{{X: 1, Y: 0.6}, {X: 1, Y: 0.4 - float64(len(titles))}}))
	one.Color, one.Width = styles["plain"].color, 1.5
	p.Add(one)
	p.Legend.Add("plain GORM", one)
	p.X.Scale, p.X.Tick.Marker = plot.LogScale{}, plot.ConstantTicks(ratioTicks(max(most, 4.2)))
	p.X.Min, p.X.Max = min(least*0.97, 0.65), max(most, 4.2)*1.02
	p.Legend.Top = false // there the ratios are the smallest
	p.Y.Tick.Marker, p.Y.Min, p.Y.Max = plot.ConstantTicks(titles), 0.4-float64(len(titles)), 0.6
	p.Y.Tick.Length, p.Y.LineStyle.Width = 0, 0
	return p
}

func (r *skewResults) plot() *plot.Plot {
	return skewPlot("Tenants of very different sizes: median, loopback", r.Cells, "policy alone", "tenancy", "plain")
}

// skewPlot has a row for each query and tenant, and in it the times of variants, the first one lowest.
func skewPlot(title string, cells []skewCell, names ...string) *plot.Plot {
	p := newPlot(title)
	p.X.Label.Text = "ms"
	var titles []plot.Tick
	points := map[string]plotter.XYs{}
	least, most := math.Inf(1), 0.0
	const between = 0.7 // rows of space, where a query ends
	y, query := 0.0, ""
	for i := range cells {
		c := &cells[i]
		if c.Network != loopback {
			continue
		}
		if y--; c.Query != query {
			y, query = y-between, c.Query
		}
		titles = append(titles, plot.Tick{Value: y, Label: c.Query + ", " + c.Tenant})
		for i, name := range names {
			ms := c.of(name).Median / 1000
			points[name] = append(points[name], plotter.XY{X: ms, Y: y + 0.22*(float64(i)-float64(len(names)-1)/2)})
			least, most = min(least, ms), max(most, ms)
		}
	}
	if len(titles) == 0 {
		return nil
	}
	for _, name := range slices.Backward(names) {
		s := styles[name]
		dots := must(plotter.NewScatter(points[name]))
		dots.GlyphStyle = draw.GlyphStyle{Color: s.color, Radius: 3.2, Shape: s.shape}
		p.Add(dots)
		p.Legend.Add(s.legend, dots)
	}
	var ticks []plot.Tick
	for power := -3; math.Pow10(power) <= most*10; power++ {
		value := math.Pow10(power)
		ticks = append(ticks, plot.Tick{Value: value, Label: number(value)})
		for minor := 2.0; minor < 10; minor++ {
			ticks = append(ticks, plot.Tick{Value: minor * value})
		}
	}
	p.X.Scale, p.X.Tick.Marker = plot.LogScale{}, plot.ConstantTicks(ticks)
	p.X.Min, p.X.Max = least/1.5, most*1.5
	p.Y.Tick.Marker, p.Y.Min, p.Y.Max = plot.ConstantTicks(titles), y-1, 0
	p.Y.Tick.Length, p.Y.LineStyle.Width = 0, 0
	return p
}

func ratioTicks(most float64) (ticks []plot.Tick) {
	for _, value := range []float64{0.2, 0.3, 0.5, 0.7, 1, 1.5, 2, 3, 4, 6, 10, 20} {
		if value <= most {
			ticks = append(ticks, plot.Tick{Value: value, Label: strconv.FormatFloat(value, 'f', -1, 64)})
		}
	}
	return ticks
}

// number writes 100000 as 100,000 and 0.25 as it is.
func number(value float64) string {
	if value != math.Trunc(value) {
		return strconv.FormatFloat(value, 'f', -1, 64)
	}
	digits := strconv.FormatInt(int64(value), 10)
	for i := len(digits) - 3; i > 0; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	return digits
}

// must is for plotters, which refuse nothing but numbers that are none.
func must[T any](plotter T, err error) T {
	if err != nil {
		panic(err)
	}
	return plotter
}
