package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/chromedp/chromedp/kb"
)

// TestFollow has the page show a log that is being written: what comes lengthens the axis and the lists, who
// looks at the end goes along, who looks elsewhere stays there, and the end is told.
func TestFollow(t *testing.T) {
	log, err := os.ReadFile(filepath.Join(root, "testdata", "traces", "v1", "keyframes.mtl"))
	if err != nil {
		t.Fatal(err)
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	more := func(percent int, before int) int {
		n := len(log) * percent / 100
		if _, err := w.Write(log[before:n]); err != nil {
			t.Fatal(err)
		}
		return n
	}
	at := more(20, 0)
	url := serveFrom(t, r, "--follow", "-")
	r.Close()
	b := browse(t, 1440, 900)
	b.open(url)
	facts := `document.querySelector(".facts").innerText`
	hash := func(key string) string {
		return fmt.Sprintf(`new URLSearchParams(location.hash.slice(1)).get(%q)`, key)
	}
	b.until(facts + `.includes("12 events") && ` + facts + `.includes("still being written")`)
	b.until(`document.querySelector(".ev.cur")?.id === "ev11"`)
	at = more(40, at)
	b.until(facts + `.includes("27 events")`)
	b.until(`document.querySelector(".ev.cur")?.id === "ev26" && document.getElementById("ev20")`)
	b.until(hash("range") + ` === null && ` + hash("at") + ` === "26"`) // all of it is shown

	// Who looks elsewhere stays there.
	b.press(kb.Home)
	b.until(`document.querySelector(".ev.cur")?.id === "ev0"`)
	at = more(90, at)
	b.until(facts + `.includes("30 events") && ` + facts + `.includes("still being written")`)
	b.until(`document.querySelector(".list .tall").offsetHeight >= 30 * 19`)
	if cards := eval[string](b, `document.querySelector(".cards").innerText`); strings.Contains(cards, "cut") || strings.Contains(cards, "killed") {
		t.Errorf("the log was not cut: %s", cards)
	}
	if cur := eval[string](b, `document.querySelector(".ev.cur")?.id ?? ""`); cur != "ev0" {
		t.Errorf("the page went to %s by itself", cur)
	}
	more(100, at)
	w.Close()
	b.until(facts + `.includes("log whole") && !` + facts + `.includes("still being written")`)
	b.press(kb.End)
	b.until(`document.querySelector(".ev.cur")?.id === "ev39"`)
	b.quiet()
}
