package main

import (
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/chromedp/chromedp/kb"
)

// TestFileSearch looks through the events of a file of report --html, and compares steps of it.
func TestFileSearch(t *testing.T) {
	log := recorded(t, []string{"2", "5"})[0]
	file := filepath.Join(t.TempDir(), "report.html")
	if out, err := exec.Command(memtrace(t), "report", log, "--html", file).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	b := browse(t, 1400, 900)
	b.open("file://" + file)
	b.until(`/has nothing of what memory held/.test(document.querySelector(".limits").textContent) && /memtrace view/.test(document.querySelector(".limits").textContent)`)
	filter := func(words string, lines string) {
		t.Helper()
		b.press("e")
		b.until(`document.activeElement.id === "filter"`)
		eval[any](b, `document.activeElement.select()`)
		b.press(words + kb.Enter)
		b.until(`/^\d+ of \d+ events that this file has$/.test(document.querySelector(".filter [role=status]")?.innerText) && (() => { const l = [...document.querySelectorAll(".ev .what")].map((e) => e.textContent); return ` + lines + `; })()`)
		eval[any](b, `document.activeElement.blur()`)
	}
	filter("call=mmap 5242880", `l.length === 1 && l[0].includes("5242880")`)
	filter("path=*libc*", `l.length && l.every((s) => s.includes("libc"))`)
	filter("type=exit", `l.length && l.every((s) => s.includes("exited"))`)
	b.press("/")
	b.until(`document.activeElement.id === "search"`)
	eval[any](b, `document.activeElement.select()`)
	b.press("munmap")
	b.until(`document.querySelector('#meanings [role=option]')`)
	b.press(kb.Enter)
	b.until(`(() => { const l = [...document.querySelectorAll(".ev .what")].map((e) => e.textContent); return l.length && l.every((s) => s.startsWith("munmap")); })()`)

	b.press("d")
	eval[any](b, `[...document.querySelectorAll(".pan button")].find((e) => /begin and the end/.test(e.textContent)).click()`)
	b.until(`/nearest that this file has/.test(document.querySelectorAll(".pan")[1].innerText) && /anonymous/.test(document.querySelector(".kind, .change")?.parentElement.innerText)`)
	b.until(`/does not have what they held/.test(document.querySelectorAll(".pan")[1].innerText) && document.querySelector(".since canvas")`)
	b.quiet()
}
