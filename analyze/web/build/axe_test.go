package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

// axe is the text of axe-core, which .ci/run fetches: $MEMTRACE_AXE is the directory of node's modules that has it.
func axe(t *testing.T) string {
	dir := os.Getenv("MEMTRACE_AXE")
	if dir == "" {
		require(t, "axe", errors.New("$MEMTRACE_AXE is not set"))
	}
	b, err := os.ReadFile(filepath.Join(dir, "axe-core", "axe.min.js"))
	require(t, "axe", err)
	return string(b)
}

// grave runs axe and answers what it finds that is serious or critical, in lines.
const grave = `axe.run(document, { resultTypes: ["violations"] }).then((r) => r.violations.filter((v) => v.impact === "serious" || v.impact === "critical")
	.map((v) => v.impact + " " + v.id + ": " + v.help + "\n" + v.nodes.slice(0, 4).map((n) => "    " + n.target.join(" ") + "  " + n.html.slice(0, 160) + "\n      " + (n.any.concat(n.all, n.none)[0]?.message ?? "")).join("\n")).join("\n"))`

// TestAxe has axe-core look at the page in three sizes, light and dark, with each panel open.
func TestAxe(t *testing.T) {
	script := axe(t)
	url := serve(t, sample)
	two := serve(t, recorded(t, []string{"1", "8"}, []string{"4", "2"})...)
	for _, size := range [][2]int64{{1400, 900}, {1024, 768}, {390, 844}} {
		for _, scheme := range []string{"light", "dark"} {
			t.Run(fmt.Sprintf("%dx%d %s", size[0], size[1], scheme), func(t *testing.T) {
				b := browse(t, size[0], size[1])
				b.scheme(scheme)
				look := func(what string) {
					t.Helper()
					b.until(`!document.querySelector("[role=progressbar]")`)
					if s := await(b, grave); s != "" {
						t.Errorf("%s:\n%s", what, s)
					}
				}
				b.open(url)
				b.until(`document.querySelectorAll(".hexrow").length > 3`)
				eval[any](b, script+"\n;0")
				look("first")
				b.press("a")
				b.press("b")
				for _, view := range []string{"left=calls&middle=sites&right=threads", "left=tables&table=errors&middle=diff&a=10&b=50", "filter=failed"} {
					eval[any](b, `location.hash = "`+view+`"`)
					b.until(fmt.Sprintf(`location.hash.includes(%q)`, view[:9]))
					look(view)
				}
				b.press("t")
				b.until(`document.querySelector("table.twin")`)
				look("tables")
				b.press("t")
				b.press("?")
				b.until(`document.querySelector("dialog[open]")`)
				look("keys")
				b.open(two + "&middle=sites")
				eval[any](b, script+"\n;0")
				look("two logs")
				b.onFlame("What is counted")
				b.press(kb.ArrowDown)
				b.until(frame + `.ariaLevel === "2"`)
				look("a frame")
				b.quiet()
			})
		}
	}
}

// await is what a promise in the page comes to.
func await(b *tab, js string) (s string) {
	yes := true
	b.t.Helper()
	b.do(chromedp.Func(func(ctx context.Context, t *chromedp.Target) error {
		r, err := cdp.Call(ctx, t, runtime.Evaluate, runtime.EvaluateParams{Expression: js, AwaitPromise: &yes, ReturnByValue: &yes})
		if err != nil {
			return err
		}
		if r.ExceptionDetails != nil {
			return errors.New(r.ExceptionDetails.Text)
		}
		return json.Unmarshal(r.Result.Value, &s)
	}))
	return s
}
