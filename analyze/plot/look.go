package plot

import "image/color"

// pt is a place in the picture, in pixels from its left and its top.
type pt struct{ x, y float64 }

// look is how something is drawn, on a light page and on a dark one. What has no stroke is
// filled.
type look struct {
	light, dark uint32 // RGB
	alpha       float64
	stroke      float64 // pixels; 0: filled
	dash        []float64
	size        float64 // of text
	bold        bool
}

// Colours that people who see few can tell apart (Okabe and Ito), a little darker for lines on
// white and a little lighter on black.
var hues = map[string][2]uint32{
	"orange": {0xe69f00, 0xe0a028},
	"blue":   {0x3b86c8, 0x4f9be0},
	"green":  {0x009e73, 0x2cb88f},
	"purple": {0xc773a8, 0xd688b8},
	"sky":    {0x6bbdea, 0x74c4ee},
	"grey":   {0x8a939b, 0x8a939b},
	"red":    {0xc74a00, 0xf0824a},
}

// looks are all looks by name.
var looks = func() map[string]look {
	m := map[string]look{
		"page":       {light: 0xffffff, dark: 0x1a1d21, alpha: 1},
		"title":      {light: 0x1a1d21, dark: 0xe8eaed, alpha: 1, size: 15, bold: true},
		"small":      {light: 0x4a525a, dark: 0xaab2ba, alpha: 1, size: 12},
		"value":      {light: 0x1a1d21, dark: 0xe8eaed, alpha: 1, size: 12},
		"note":       {light: 0x1a1d21, dark: 0xe8eaed, alpha: 1, size: 12},
		"grid":       {light: 0xe4e7ea, dark: 0x33383e, alpha: 1, stroke: 1},
		"axis":       {light: 0x9aa2aa, dark: 0x6a727a, alpha: 1, stroke: 1},
		"rss":        {light: 0x1a1d21, dark: 0xe8eaed, alpha: 1, stroke: 1.4, dash: []float64{5, 3}},
		"peak":       {light: 0x1a1d21, dark: 0xe8eaed, alpha: 0.6, stroke: 1, dash: []float64{2, 3}},
		"dot-rss":    {light: 0x1a1d21, dark: 0xe8eaed, alpha: 1},
		"mark-grave": {light: 0xc74a00, dark: 0xf0824a, alpha: 1},
	}
	for name, c := range hues {
		m["fill-"+name] = look{light: c[0], dark: c[1], alpha: 0.9}
		m["band-"+name] = look{light: c[0], dark: c[1], alpha: 0.3}
		m["edge-"+name] = look{light: c[0], dark: c[1], alpha: 1, stroke: 1}
		m["line-"+name] = look{light: c[0], dark: c[1], alpha: 1, stroke: 1.8}
		m["dot-"+name] = look{light: c[0], dark: c[1], alpha: 1}
		m["mark-"+name] = look{light: c[0], dark: c[1], alpha: 1, stroke: 1.5}
	}
	return m
}()

// lookOf is the hue of a kind of memory: the same in every picture.
func lookOf(name string) string {
	switch name {
	case "heap":
		return "orange"
	case "anonymous":
		return "blue"
	case "files":
		return "green"
	case "shared":
		return "purple"
	case "stacks":
		return "sky"
	}
	return "grey"
}

// markLook is the hue of events.
func markLook(name string) string {
	switch name {
	case "failed calls":
		return "red"
	case "signals":
		return "blue"
	case "processes":
		return "green"
	}
	return "grey"
}

func rgb(c uint32, alpha float64) color.NRGBA {
	return color.NRGBA{uint8(c >> 16), uint8(c >> 8), uint8(c), uint8(alpha*255 + 0.5)}
}
