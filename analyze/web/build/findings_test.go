package main

import (
	"context"
	"errors"
	"testing"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/chromedp"
)

// before has a script run in each page of the tab before the page's own.
func (b *tab) before(script string) {
	b.t.Helper()
	b.do(chromedp.Func(func(ctx context.Context, t *chromedp.Target) error {
		_, e1 := cdp.Call(ctx, t, page.Enable, page.EnableParams{})
		_, e2 := cdp.Call(ctx, t, page.AddScriptToEvaluateOnNewDocument, page.AddScriptToEvaluateOnNewDocumentParams{Source: script})
		return errors.Join(e1, e2)
	}))
}

// slowly has the page be told of findings when the test says so.
const slowly = `
const real = fetch;
window.fetch = (url, o) => {
	if (!String(url).startsWith("api/findings")) return real(url, o);
	const body = new ReadableStream({ start(c) {
		window.tell = (o) => c.enqueue(new TextEncoder().encode(JSON.stringify(o) + "\n"));
		window.end = () => c.close();
	} });
	return Promise.resolve(new Response(body, { headers: { "Content-Type": "application/x-ndjson" } }));
};`

// TestFindingsCome has findings shown one by one as the server tells them, with how far it is.
func TestFindingsCome(t *testing.T) {
	b := browse(t, 1400, 900)
	b.before(slowly)
	b.do(chromedp.Navigate(serve(t, sample)))
	b.until(`window.tell && /Looking for/.test(document.querySelector(".cards").innerText)`)
	one := func(id, kind, severity, text string) string {
		return `{id: "` + id + `", kind: "` + kind + `", severity: "` + severity + `", title: "", text: "` + text + `", parts: null, step: 3, pid: null, addr: null, said: "", actions: []}`
	}
	slow, crash := one("slow-1", "slow", "warn", "SLOW: a read"), one("crash-1", "crash", "bad", "CRASH: a jump")
	shown := `[...document.querySelectorAll(".card .title")].map((e) => e.textContent).join()`
	eval[any](b, `tell({progress: 0.25})`)
	b.until(`document.querySelector(".card [role=progressbar]")?.getAttribute("aria-valuenow") === "25"`)
	eval[any](b, `tell({item: `+slow+`})`)
	b.until(shown + ` === "Slow calls" && document.querySelector(".card.more [role=progressbar]")`)
	eval[any](b, `tell({progress: 0.5}), tell({item: `+crash+`})`)
	b.until(shown + ` === "Crashed,Slow calls" && document.querySelector(".card.more [role=progressbar]")?.getAttribute("aria-valuenow") === "50"`)
	eval[any](b, `tell({done: {rows: [`+crash+`,`+slow+`]}}), end()`)
	b.until(shown + ` === "Crashed,Slow calls" && !document.querySelector(".card.more, .card .bar")`)
	b.until(`document.querySelector('[role=slider]').getAttribute("aria-valuenow") === "3"`) // it begins at the worst
	b.quiet()
}
