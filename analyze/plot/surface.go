package plot

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"io"
	"maps"
	"slices"
	"strings"

	"gonum.org/v1/plot/font"
	"gonum.org/v1/plot/font/liberation"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/vgimg"
)

// anchor is which part of a text is at its place.
type anchor string

const (
	begin  anchor = "start"
	middle anchor = "middle"
	finish anchor = "end"
)

// surface is what a picture is drawn on. The last argument is the name of a look.
type surface interface {
	line(ps []pt, look string)
	area(ps []pt, look string)
	dot(at pt, radius float64, look string)
	text(x, y float64, look, s string, a anchor)
	image(x, y, w, h float64, img image.Image)
	write(w io.Writer) error
}

// svg is a picture that has a style for light pages and one for dark ones.
type svg struct {
	w, h float64
	body bytes.Buffer
	used map[string]bool
}

func newSVG(w, h float64) *svg {
	s := &svg{w: w, h: h, used: map[string]bool{}}
	s.area([]pt{{0, 0}, {w, 0}, {w, h}, {0, h}}, "page")
	return s
}

func (s *svg) points(ps []pt, look string) string {
	s.used[look] = true
	var b strings.Builder
	for i, p := range ps {
		if i > 0 {
			b.WriteByte(' ')
		}
		fmt.Fprintf(&b, "%.1f,%.1f", p.x, p.y)
	}
	return b.String()
}

func (s *svg) line(ps []pt, look string) {
	fmt.Fprintf(&s.body, "<polyline class=\"%s\" points=\"%s\"/>\n", look, s.points(ps, look))
}

func (s *svg) area(ps []pt, look string) {
	fmt.Fprintf(&s.body, "<polygon class=\"%s\" points=\"%s\"/>\n", look, s.points(ps, look))
}

func (s *svg) dot(at pt, radius float64, look string) {
	s.used[look] = true
	fmt.Fprintf(&s.body, "<circle class=\"%s\" cx=\"%.1f\" cy=\"%.1f\" r=\"%g\"/>\n", look, at.x, at.y, radius)
}

// xmlText is what XML has its own signs for.
var xmlText = strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;", `"`, "&quot;")

func (s *svg) text(x, y float64, look, t string, a anchor) {
	s.used[look] = true
	t = strings.Map(func(r rune) rune {
		if r < ' ' || r == '\uFFFD' || r == '\uFFFE' || r == '\uFFFF' {
			return '?'
		}
		return r
	}, t)
	fmt.Fprintf(&s.body, "<text class=\"%s\" x=\"%.1f\" y=\"%.1f\" text-anchor=\"%s\">%s</text>\n", look, x, y, a, xmlText.Replace(t))
}

func (s *svg) image(x, y, w, h float64, img image.Image) {
	var b bytes.Buffer
	if err := png.Encode(&b, img); err != nil { // a buffer takes all, and the image has a size
		return
	}
	fmt.Fprintf(&s.body, "<image x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\" preserveAspectRatio=\"none\" style=\"image-rendering:pixelated\" href=\"data:image/png;base64,%s\"/>\n",
		x, y, w, h, base64.StdEncoding.EncodeToString(b.Bytes()))
}

// rule is a look in CSS.
func (l *look) rule(c uint32) string {
	switch {
	case l.size > 0:
		weight := "400"
		if l.bold {
			weight = "600"
		}
		return fmt.Sprintf("fill:#%06x;font-size:%gpx;font-weight:%s", c, l.size, weight)
	case l.stroke > 0:
		dash := ""
		if l.dash != nil {
			dash = fmt.Sprintf(";stroke-dasharray:%g %g", l.dash[0], l.dash[1])
		}
		return fmt.Sprintf("fill:none;stroke:#%06x;stroke-opacity:%g;stroke-width:%g;stroke-linejoin:round%s", c, l.alpha, l.stroke, dash)
	}
	return fmt.Sprintf("fill:#%06x;fill-opacity:%g", c, l.alpha)
}

func (s *svg) write(w io.Writer) error {
	var b bytes.Buffer
	fmt.Fprintf(&b, "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%g\" height=\"%g\" viewBox=\"0 0 %g %g\">\n<style>\n", s.w, s.h, s.w, s.h)
	b.WriteString("text{font-family:system-ui,-apple-system,\"Segoe UI\",\"Liberation Sans\",\"DejaVu Sans\",Arial,sans-serif}\n")
	names := slices.Sorted(maps.Keys(s.used))
	for _, n := range names {
		l := looks[n]
		fmt.Fprintf(&b, ".%s{%s}\n", n, l.rule(l.light))
	}
	b.WriteString("@media (prefers-color-scheme:dark){\n")
	for _, n := range names {
		l := looks[n]
		fmt.Fprintf(&b, ".%s{%s}\n", n, l.rule(l.dark))
	}
	b.WriteString("}\n</style>\n")
	b.Write(s.body.Bytes())
	b.WriteString("</svg>\n")
	_, err := w.Write(b.Bytes())
	return err
}

// raster is a picture of dots, for a light page.
type raster struct {
	h     float64
	c     vgimg.PngCanvas
	faces map[string]font.Face
	fonts *font.Cache
}

// bold is the weight of a bold font, as golang.org/x/image/font counts.
const bold = 3

// dotsPerInch makes the dots of a raster twice as fine as the pixels of the picture.
const dotsPerInch = 144

func newRaster(w, h float64) *raster {
	r := &raster{
		h: h, faces: map[string]font.Face{}, fonts: font.NewCache(liberation.Collection()),
		c: vgimg.PngCanvas{Canvas: vgimg.NewWith(vgimg.UseWH(vg.Length(w), vg.Length(h)), vgimg.UseDPI(dotsPerInch))},
	}
	r.area([]pt{{0, 0}, {w, 0}, {w, h}, {0, h}}, "page")
	return r
}

func (r *raster) at(p pt) vg.Point { return vg.Point{X: vg.Length(p.x), Y: vg.Length(r.h - p.y)} }

func (r *raster) path(ps []pt) (p vg.Path) {
	for i, x := range ps {
		if i == 0 {
			p.Move(r.at(x))
		} else {
			p.Line(r.at(x))
		}
	}
	return p
}

func (r *raster) line(ps []pt, name string) {
	if len(ps) < 2 {
		return
	}
	l := looks[name]
	r.c.SetColor(rgb(l.light, l.alpha))
	r.c.SetLineWidth(vg.Length(l.stroke))
	var dash []vg.Length
	for _, d := range l.dash {
		dash = append(dash, vg.Length(d))
	}
	r.c.SetLineDash(dash, 0)
	r.c.Stroke(r.path(ps))
}

func (r *raster) area(ps []pt, name string) {
	l := looks[name]
	r.c.SetColor(rgb(l.light, l.alpha))
	p := r.path(ps)
	p.Close()
	r.c.Fill(p)
}

func (r *raster) dot(at pt, radius float64, name string) {
	l := looks[name]
	r.c.SetColor(rgb(l.light, l.alpha))
	var p vg.Path
	c := r.at(at)
	p.Move(vg.Point{X: c.X + vg.Length(radius), Y: c.Y})
	p.Arc(c, vg.Length(radius), 0, 6.2832)
	p.Close()
	r.c.Fill(p)
}

func (r *raster) text(x, y float64, name, s string, a anchor) {
	l := looks[name]
	face, ok := r.faces[name]
	if !ok {
		f := font.Font{Typeface: "Liberation", Variant: "Sans"}
		if l.bold {
			f.Weight = bold
		}
		face = r.fonts.Lookup(f, font.Length(l.size))
		r.faces[name] = face
	}
	switch a {
	case middle:
		x -= float64(face.Width(s)) / 2
	case finish:
		x -= float64(face.Width(s))
	}
	r.c.SetColor(rgb(l.light, l.alpha))
	r.c.FillString(face, r.at(pt{x, y}), s)
}

func (r *raster) image(x, y, w, h float64, img image.Image) {
	// Twice as large, each cell as large as its place: the canvas would blur a small one.
	big := image.NewNRGBA(image.Rect(0, 0, int(2*w), int(2*h)))
	b := img.Bounds()
	for i := range big.Rect.Dx() {
		for j := range big.Rect.Dy() {
			big.Set(i, j, color.NRGBAModel.Convert(img.At(b.Min.X+i*b.Dx()/big.Rect.Dx(), b.Min.Y+j*b.Dy()/big.Rect.Dy())))
		}
	}
	r.c.DrawImage(vg.Rectangle{Min: r.at(pt{x, y + h}), Max: r.at(pt{x + w, y})}, big)
}

func (r *raster) write(w io.Writer) error {
	_, err := r.c.WriteTo(w)
	return err
}
