package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"testing"
)

var update = flag.Bool("update", false, "write the golden files anew")

// boxes are where the parts of the page are: left, top, width, height in pixels.
const boxes = `(() => {
	const out = {};
	const put = (name, el) => { const r = el.getBoundingClientRect(); out[name] = [r.left + scrollX, r.top + scrollY, r.width, r.height].map(Math.round); };
	for (const s of ["header", "header h1", ".search", ".cards", ".spine", ".draw", ".low", ".list", ".space", ".hex", ".history", "footer"]) {
		const el = document.querySelector(s);
		if (el && el.getClientRects().length) put(s, el);
	}
	document.querySelectorAll(".card").forEach((el, i) => put(".card " + i, el));
	document.querySelectorAll(".pan").forEach((el, i) => put(".pan " + i, el));
	return out;
})()`

// slack is by how much a box may be off: fonts differ from machine to machine.
const slack = 40

// TestLayout opens the page in the sizes of a screen, a small one, a tiny one and a phone,
// light and dark, and compares where its parts are with what they were.
func TestLayout(t *testing.T) {
	url := serve(t, sample)
	for _, size := range [][2]int64{{1400, 900}, {1024, 768}, {800, 600}, {390, 844}} {
		name := fmt.Sprintf("%dx%d", size[0], size[1])
		t.Run(name, func(t *testing.T) {
			b := browse(t, size[0], size[1])
			b.open(url)
			b.until(`document.querySelectorAll(".hexrow").length > 3`)
			checkBoxes(t, name, eval[map[string][4]float64](b, boxes))
			if w := eval[float64](b, "document.documentElement.scrollWidth"); w > float64(size[0]) {
				t.Errorf("the page is %v wide", w)
			}
			if s := eval[string](b, overflows); s != "" {
				t.Errorf("wider than what is around it: %s", s)
			}
			for _, scheme := range []string{"light", "dark"} {
				b.scheme(scheme)
				b.until(fmt.Sprintf(`(+getComputedStyle(document.body).backgroundColor.match(/\d+/)[0] < 100) === %v`, scheme == "dark"))
				if s := eval[string](b, contrasts); s != "" {
					t.Errorf("%s: contrast below 4.5: %s", scheme, s)
				}
				if n := eval[float64](b, painted); n < 12 {
					t.Errorf("%s: the time axis has %v colours", scheme, n)
				}
			}
			b.quiet()
		})
	}
}

func checkBoxes(t *testing.T, name string, got map[string][4]float64) {
	t.Helper()
	file := filepath.Join("testdata", name+".json")
	if *update {
		b, err := json.MarshalIndent(got, "", "\t")
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, append(b, '\n'), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var want map[string][4]float64
	if err := json.Unmarshal(b, &want); err != nil {
		t.Fatal(err)
	}
	for part, w := range want {
		g, ok := got[part]
		if !ok {
			t.Errorf("%s is not there", part)
			continue
		}
		for i, side := range []string{"left", "top", "width", "height"} {
			// What comes before on a page that scrolls moves what follows.
			if by := math.Abs(g[i] - w[i]); by > slack && !(side == "top" && by <= 3*slack) {
				t.Errorf("%s: %s %v, was %v", part, side, g[i], w[i])
			}
		}
	}
	for part := range got {
		if _, ok := want[part]; !ok {
			t.Errorf("%s is new: go test -run TestLayout -update, and look at it", part)
		}
	}
}

// overflows names panels whose contents stick out of them.
const overflows = `[...document.querySelectorAll("header, .card, .pan, .bar-top, .hexrow, .filter, .address")].filter((el) => {
	if (el.scrollWidth <= el.clientWidth + 1) return false;
	return getComputedStyle(el).overflowX === "visible";
}).map((el) => el.className || el.tagName).join(" ")`

// contrasts names texts that stand out too little from what is behind them.
const contrasts = `(() => {
	const lum = (c) => { const [r, g, b] = c.map((v) => { v /= 255; return v <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4; }); return .2126 * r + .7152 * g + .0722 * b; };
	const rgb = (s) => s.match(/[\d.]+/g).map(Number);
	const back = (el) => { for (; el; el = el.parentElement) { const c = rgb(getComputedStyle(el).backgroundColor); if (c.length < 4 || c[3] > 0) return c; } return [255, 255, 255]; };
	const bad = new Set();
	const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
	for (let n; (n = walk.nextNode()); ) {
		const el = n.parentElement;
		if (!n.textContent.trim() || !el.getClientRects().length || el.closest(".away, noscript, script, option")) continue;
		let alpha = 1;
		for (let p = el; p; p = p.parentElement) alpha *= +getComputedStyle(p).opacity;
		const b = back(el), f = rgb(getComputedStyle(el).color).slice(0, 3).map((v, i) => v * alpha + b[i] * (1 - alpha));
		const [x, y] = [lum(f), lum(b.slice(0, 3))].sort((p, q) => q - p);
		if ((x + .05) / (y + .05) < 4.5) bad.add((el.className || el.tagName) + " " + ((x + .05) / (y + .05)).toFixed(2));
	}
	return [...bad].join(", ");
})()`

// painted is how many colours the drawing of the time axis has.
const painted = `(() => {
	const c = document.querySelector(".draw canvas");
	const d = c.getContext("2d").getImageData(0, 0, c.width, c.height).data;
	const seen = new Set();
	for (let i = 0; i < d.length; i += 4) if (d[i + 3] > 250) seen.add((d[i] << 16) | (d[i + 1] << 8) | d[i + 2]);
	return seen.size;
})()`
