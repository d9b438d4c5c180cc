package plot

import (
	"image"
	"image/color"
	"math"
)

// heat draws where and when memory was used: the more, the redder, by the logarithm.
func (p *panel) heat() {
	h := p.c.Heat
	if len(h.Cells) == 0 || len(h.Cells[0]) == 0 {
		return
	}
	rows := len(h.Cells[0])
	least, most := math.Inf(1), 0.0
	for _, col := range h.Cells {
		for _, v := range col {
			if v > 0 {
				least, most = min(least, math.Log2(v)), max(most, math.Log2(v))
			}
		}
	}
	img := image.NewNRGBA(image.Rect(0, 0, len(h.Cells), rows))
	for x, col := range h.Cells {
		for y, v := range col {
			if v > 0 {
				f := 1.0
				if most > least {
					f = (math.Log2(v) - least) / (most - least)
				}
				img.SetNRGBA(x, rows-1-y, color.NRGBA{uint8(70 + 170*f), uint8(150 - 70*f), uint8(220 - 200*f), 255})
			}
		}
	}
	bottom := p.top + p.height
	p.s.image(p.x0, p.top, p.x(float64(len(h.Cells))*h.Width)-p.x0, p.height, img)
	last := math.Inf(1)
	for _, l := range h.Labels {
		y := bottom - p.height*float64(l.Row)/float64(rows)
		p.s.line([]pt{{p.x1, y}, {p.x1 + 4, y}}, "axis")
		if last-y >= labelHeight {
			p.s.text(p.x1+8, y, "small", short(l.Name), begin)
			last = y
		}
	}
	for _, x := range h.Cuts {
		p.s.line([]pt{{p.x(x), p.top}, {p.x(x), bottom}}, "peak")
	}
	p.s.text(p.x1, p.top-14, "small", string(p.c.Y), finish)
}

// short is the end of a name.
func short(s string) string {
	const most = 26
	if r := []rune(s); len(r) > most {
		return "..." + string(r[len(r)-most+3:])
	}
	return s
}
