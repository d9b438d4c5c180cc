// Package plot draws the series of a log as a picture, SVG or PNG. It is a
// package of its own because drawing needs a library that nothing else does
// (docs/adr/0005-plots.md).
package plot

import (
	"errors"
	"fmt"
	"image/color"
	"io"
	"math"
	"path/filepath"
	"strings"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgimg"
	"gonum.org/v1/plot/vg/vgsvg"

	"memtrace/analyze"
)

// Size of a picture: a chart below the other.
const (
	width       = 24 * vg.Centimeter
	chartHeight = 8 * vg.Centimeter
	margin      = 0.5 * vg.Centimeter
	legendWidth = 4.5 * vg.Centimeter
	dpi         = 110
)

// Colours that people who see few can tell apart (Okabe and Ito).
var colours = []color.Color{
	color.RGBA{0, 114, 178, 255}, color.RGBA{213, 94, 0, 255}, color.RGBA{0, 158, 115, 255}, color.RGBA{204, 121, 167, 255},
}

// ErrFormat says that a file's name does not end in .svg or .png.
var ErrFormat = errors.New("want a file name that ends in .svg or .png")

// Check says whether a picture can be drawn into a file of that name.
func Check(name string) error {
	switch strings.ToLower(filepath.Ext(name)) {
	case ".svg", ".png":
		return nil
	}
	return fmt.Errorf("%q: %w", name, ErrFormat)
}

// Draw writes the charts to w in the format that name ends in.
func Draw(w io.Writer, name string, charts []analyze.Chart) error {
	if err := Check(name); err != nil {
		return err
	}
	height := vg.Length(len(charts)) * chartHeight
	var canvas vg.CanvasWriterTo
	if strings.EqualFold(filepath.Ext(name), ".svg") {
		canvas = vgsvg.New(width, height)
	} else {
		canvas = vgimg.PngCanvas{Canvas: vgimg.NewWith(vgimg.UseWH(width, height), vgimg.UseDPI(dpi))}
	}
	all := draw.New(canvas)
	end := 0.0
	for _, c := range charts {
		for _, l := range c.Lines {
			if n := len(l.Points); n > 0 {
				end = max(end, l.Points[n-1].T)
			}
		}
	}
	for i, c := range charts {
		p, legend, err := chart(c, end)
		if err != nil {
			return fmt.Errorf("plot %s: %w", c.Title, err)
		}
		top := vg.Length(i) * chartHeight
		box := draw.Crop(all, margin, -margin, height-top-chartHeight+margin, -top-margin)
		p.Draw(draw.Crop(box, 0, -legendWidth, 0, 0))
		legend.Draw(draw.Crop(box, width-2*margin-legendWidth+margin, 0, 0, -margin))
	}
	_, err := canvas.WriteTo(w)
	return err
}

// chart is a chart with its legend, which stands beside it: inside it would hide
// lines.
func chart(c analyze.Chart, end float64) (*plot.Plot, *plot.Legend, error) {
	p := plot.New()
	p.Title.Text = c.Title
	p.Title.Padding = 3 * vg.Millimeter
	unit, div := unitOf(c)
	p.X.Label.Text = "time since the start (s)"
	p.Y.Label.Text = "memory (" + unit + ")"
	p.X.Min, p.X.Max = 0, max(end, 1e-3)
	p.Y.Min = 0
	grid := plotter.NewGrid()
	grid.Vertical.Color, grid.Horizontal.Color = color.Gray{225}, color.Gray{225}
	p.Add(grid)
	legend := plot.NewLegend()
	legend.Top, legend.Left = true, true
	legend.ThumbnailWidth = 1.2 * vg.Centimeter
	legend.Padding = vg.Points(3)
	high := 0.0
	for i, l := range c.Lines {
		xys := make(plotter.XYs, 0, len(l.Points))
		top := 0.0
		for _, pt := range l.Points {
			xys = append(xys, plotter.XY{X: pt.T, Y: pt.V / div})
			top = max(top, pt.V/div)
		}
		if len(xys) == 0 || top == 0 { // a machine without swap
			continue
		}
		high = max(high, top)
		line, err := plotter.NewLine(xys)
		if err != nil {
			return nil, nil, err
		}
		line.Color = colours[i%len(colours)]
		line.Width = vg.Points(1.5)
		line.Dashes = dashes[i%len(dashes)]
		p.Add(line)
		legend.Add(l.Name, line)
	}
	p.Y.Max = max(high, 1e-9) * 1.05
	p.X.Min, p.X.Max, p.Y.Min = 0, max(end, 1e-3), 0
	return p, &legend, nil
}

// dashes tell lines apart where there is no colour.
var dashes = [][]vg.Length{nil, {vg.Points(6), vg.Points(2)}, {vg.Points(2), vg.Points(2)}, {vg.Points(8), vg.Points(2), vg.Points(2), vg.Points(2)}}

// unitOf is the unit in which the highest value of a chart has few digits.
func unitOf(c analyze.Chart) (name string, div float64) {
	high := 0.0
	for _, l := range c.Lines {
		for _, p := range l.Points {
			high = max(high, p.V)
		}
	}
	units := []string{"B", "KiB", "MiB", "GiB", "TiB"}
	i := 0
	for high >= 1024 && i < len(units)-1 {
		high /= 1024
		i++
	}
	return units[i], math.Pow(1024, float64(i))
}
