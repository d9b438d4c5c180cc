package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/performance"
	"github.com/chromedp/chromedp"
)

// mostScript is how long the page may compute for a frame of a drag, in ms of the processor.
const mostScript = 8

// mostPaint is when something has to be seen, in ms: however long the log is.
const mostPaint = 1000

// drag moves the right end of the brush from a part of the whole run to another, a frame a move.
const drag = `((from, to) => new Promise((done) => {
	const el = document.querySelector(".draw");
	const r = el.getBoundingClientRect();
	el.setPointerCapture = () => {};
	const X = (part) => 112 + (r.width - 112 - 152) * part;
	const send = (type, part) => el.dispatchEvent(new PointerEvent(type, { bubbles: true, pointerId: 1, button: 0, clientX: r.left + X(part), clientY: r.top + 20 }));
	send("pointerdown", from);
	let i = 0;
	const step = () => {
		send("pointermove", from + ((to - from) * ++i) / frames);
		if (i === frames) return send("pointerup", to), done("");
		requestAnimationFrame(step);
	};
	const frames = FRAMES;
	requestAnimationFrame(step);
}))`

const frames = 90

// seen notes when parts of the page are there.
const seen = `window.seen = {};
new MutationObserver(() => {
	for (const [name, s] of [["axis", ".draw canvas"], ["events", ".ev"], ["finding", ".card .title"]]) if (!seen[name] && document.querySelector(s)) seen[name] = Math.round(performance.now());
}).observe(document, { childList: true, subtree: true });`

// TestBrush drags the brush over the time axis. $MEMTRACE_BIG is a log to take in the place
// of a small one: what is drawn is as much, but the server has more to do.
func TestBrush(t *testing.T) {
	url := serve(t, cmp.Or(os.Getenv("MEMTRACE_BIG"), sample))
	var b *tab
	// The machine may be busy: the best of three counts.
	for try, paint := 0, math.Inf(1); paint > mostPaint; try++ {
		b = browse(t, 1400, 900)
		b.before(seen)
		b.open(url)
		b.until(`!document.querySelector(".spine [role=progressbar]")`)
		paint = eval[float64](b, `performance.getEntriesByType("paint").find((e) => e.name === "first-contentful-paint").startTime`)
		t.Logf("first paint after %.0f ms; then %s", paint, eval[string](b, `JSON.stringify(seen)`))
		if try == 2 && paint > mostPaint {
			t.Fatalf("want it after %d ms at most", mostPaint)
		}
	}
	b.do(chromedp.Func(func(ctx context.Context, t *chromedp.Target) error {
		_, err := cdp.Call(ctx, t, performance.Enable, performance.EnableParams{TimeDomain: performance.EnableTimeDomainThreadTicks})
		return err
	}))
	before := metrics(b)
	// By how much the end of what is shown has moved.
	end := func() float64 {
		b.until(`location.hash.includes("range=")`)
		return eval[float64](b, `+/range=\d+-(\d+)/.exec(location.hash)[1]`)
	}
	js := strings.Replace(drag, "FRAMES", strconv.Itoa(frames), 1)
	await(b, js+"(1, 0.3)") // once so that the browser compiles it
	low := end()
	warm := metrics(b)
	await(b, js+"(0.3, 0.9)")
	after := metrics(b)
	b.until(fmt.Sprintf(`Math.abs(+/range=\d+-(\d+)/.exec(location.hash)?.[1] / %f - 3) < 0.1`, low)) // from 0.3 to 0.9 of the run
	for _, d := range []struct {
		name     string
		from, to map[string]float64
	}{{"first", before, warm}, {"second", warm, after}} {
		ms := func(m string) float64 { return (d.to[m] - d.from[m]) * 1000 / frames }
		t.Logf("%s drag: %.2f ms of script a frame, %.2f layout, %.2f style, %.2f of all tasks", d.name,
			ms("ScriptDuration"), ms("LayoutDuration"), ms("RecalcStyleDuration"), ms("TaskDuration"))
	}
	if ms := (after["ScriptDuration"] - warm["ScriptDuration"]) * 1000 / frames; !(ms > 0) || ms > mostScript {
		t.Errorf("a frame takes %.2f ms of script, want at most %d", ms, mostScript)
	}
	b.quiet()
}

// metrics are what the page has taken of the processor, in seconds.
func metrics(b *tab) map[string]float64 {
	b.t.Helper()
	out := map[string]float64{}
	b.do(chromedp.Func(func(ctx context.Context, t *chromedp.Target) error {
		r, err := cdp.Call(ctx, t, performance.GetMetrics, cdp.Empty{})
		if err != nil {
			return err
		}
		for _, m := range r.Metrics {
			out[m.Name] = m.Value
		}
		if len(out) == 0 {
			return errors.New("no metrics")
		}
		return nil
	}))
	return out
}
