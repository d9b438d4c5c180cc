package main

import (
	"fmt"
	"strings"
	"testing"

	"github.com/chromedp/chromedp/kb"
)

// frame is what a screen reader is told of the frame that the keys stand at.
const frame = `document.getElementById(document.activeElement.getAttribute("aria-activedescendant"))`

// onFlame has Tab reach the flame graph behind a choice, and waits for its root.
func (b *tab) onFlame(choice string) {
	b.t.Helper()
	b.until(`document.querySelector("[role=tree]")`)
	eval[any](b, fmt.Sprintf(`document.querySelector('select[aria-label=%q]').focus()`, choice))
	b.press(kb.Tab)
	b.until(`document.activeElement.role === "tree"`)
	b.at("all; ")
}

// at waits until the keys stand at a frame whose name and values begin with a text.
func (b *tab) at(want string) {
	b.t.Helper()
	b.until(fmt.Sprintf(`%s?.getAttribute("aria-label").replaceAll(".0", "").startsWith(%q)`, frame, want))
}

// climb presses a key until the keys stand at a function.
func (b *tab) climb(key, function string) {
	b.t.Helper()
	for level := eval[int](b, frame+`.ariaLevel`+` | 0`); level < 20; level++ {
		if strings.HasPrefix(eval[string](b, frame+`.getAttribute("aria-label")`), function+" (") {
			return
		}
		b.press(key)
		b.until(fmt.Sprintf(`%s.ariaLevel === "%d"`, frame, level+1))
	}
	b.t.Fatalf("no %s", function)
}

// TestFlameKeys goes through a flame graph with the keyboard alone.
func TestFlameKeys(t *testing.T) {
	b := browse(t, 1400, 900)
	b.open(serve(t, recorded(t, []string{"1", "8"})...) + "&middle=sites")
	step := eval[string](b, `document.querySelector("[role=slider]").getAttribute("aria-valuenow")`)
	b.onFlame("What is counted")
	b.climb(kb.ArrowUp, "main") // which called from two lines
	if got := eval[string](b, frame+`.ariaPosInSet + " of " + `+frame+`.ariaSetSize`); got != "1 of 2" {
		t.Errorf("main is %s", got)
	}
	b.press(kb.ArrowUp)
	b.at("session (asks.c:")
	b.until(frame + `.getAttribute("aria-label").replaceAll(".0", "").includes("; grew 8 MiB, ")`)
	b.press(kb.ArrowRight)
	b.at("cache (asks.c:")
	b.press(kb.ArrowLeft)
	b.at("session (")
	b.press(kb.ArrowDown)
	b.at("main (")
	b.press(kb.ArrowUp)
	b.at("session (")
	if got := eval[string](b, `getComputedStyle(`+frame+`).outline`); !strings.Contains(got, "solid 2px") {
		t.Errorf("the frame has the outline %s", got)
	}
	if !eval[bool](b, `/8(\.0)? MiB, \d+ % of all/.test(document.querySelector(".tip").innerText)`) {
		t.Error("the values of the frame are not shown")
	}

	zoomed := `/in session/.test(document.querySelectorAll(".pan")[1].innerText)`
	wide := `Math.abs(` + frame + `.offsetWidth - document.activeElement.clientWidth) < 20`
	for _, back := range []string{kb.Escape, kb.Backspace} {
		b.press(kb.Enter)
		b.until(zoomed + " && " + wide)
		b.at("session (")
		b.press(back)
		b.until("!(" + zoomed + ") && !(" + wide + ")")
		b.at("session (")
	}
	b.press(kb.Enter)
	b.until(zoomed)
	b.press(kb.ArrowUp)
	b.at("take (asks.c:")
	b.press(kb.Home)
	b.until("!(" + zoomed + ")")
	b.at("all; ")
	if got := eval[string](b, `document.querySelector("[role=slider]").getAttribute("aria-valuenow")`); got != step {
		t.Errorf("the keys went from step %s to %s", step, got)
	}
	b.press("?")
	b.until(`/zoom to the frame/.test(document.querySelector("dialog[open]")?.innerText)`)
	b.press(kb.Enter) // on Close
	b.until(`!document.querySelector("dialog") && document.activeElement.role === "tree"`)
	b.press("?")
	b.until(`document.querySelector("dialog[open]")`)
	b.press(kb.Escape)
	b.until(`!document.querySelector("dialog") && document.activeElement.role === "tree"`)
	b.press(kb.Tab)
	b.until(`!document.activeElement.closest("[role=tree]")`)
	b.quiet()
}

// TestTwoFlamesKeys goes up and down from the ground of a difference, and to each of two
// flame graphs.
func TestTwoFlamesKeys(t *testing.T) {
	b := browse(t, 1400, 900)
	b.open(serve(t, recorded(t, []string{"1", "8"}, []string{"4", "2"})...) + "&middle=sites")
	b.onFlame("What is counted")
	b.climb(kb.ArrowDown, "session")
	b.until(frame + `.getAttribute("aria-label").replaceAll(".0", "").endsWith("; A 8 MiB; B 2 MiB; less in B 6 MiB, 100 % of all")`)
	for level := eval[int](b, frame+`.ariaLevel | 0`); level > 1; level-- {
		b.press(kb.ArrowUp)
		b.until(fmt.Sprintf(`%s.ariaLevel === "%d"`, frame, level-1))
	}
	b.climb(kb.ArrowUp, "cache")
	b.until(frame + `.getAttribute("aria-label").replaceAll(".0", "").endsWith("; A 1 MiB; B 4 MiB; more in B 3 MiB, 100 % of all")`)

	eval[any](b, `(() => { const s = document.querySelector('select[aria-label="Of which log"]'); s.value = "beside"; s.dispatchEvent(new Event("change", {bubbles: true})); })()`)
	b.until(`document.querySelectorAll(".beside [role=tree]").length === 2`)
	b.onFlame("What is counted")
	b.climb(kb.ArrowUp, "session")
	b.press(kb.Tab)
	b.until(`document.activeElement === document.querySelectorAll(".beside [role=tree]")[1]`)
	b.at("all; ")
	b.climb(kb.ArrowUp, "cache")
	b.quiet()
}
