package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// TestNewcomer records programs with a fault each, opens the page without saying where, and
// looks at what the first screen alone says: the fault is the first finding, the step is the
// one of the fault, and the rest of the answer is a click away at most.
func TestNewcomer(t *testing.T) {
	gcc, err := exec.LookPath("gcc")
	require(t, "gcc", err)
	dir := t.TempDir()
	for _, c := range []struct{ name, title, card, then string }{
		// The bytes are shown, what they spell, and between which steps they came: no click.
		{"overwritten", "Crashed", "greet (overwritten.c:24)", `[...document.querySelectorAll(".card .actions .link")].some((e) => e.textContent === "who wrote this pointer")
			&& /^0x4141414141414141.*after \d+, seen at \d+$/.test((document.querySelector(".era.now")?.innerText ?? "").replace(/^\s*\d+\s*/, "").replaceAll("\n", " "))
			&& document.querySelector(".address select").value === "pointer"`},
		{"null", "Crashed", "a null pointer", `/SIGSEGV/.test(document.querySelector(".ev.cur").innerText)`},
		{"unmapped", "Crashed", "munmap gave back at step", `[...document.querySelectorAll(".card p .link")].some((e) => /^step \d+$/.test(e.textContent))`},
		{"config", "Failed", "settings.conf", `/settings.conf/.test(document.querySelector(".ev.cur").innerText)`},
	} {
		t.Run(c.name, func(t *testing.T) {
			prog, log := filepath.Join(dir, c.name), filepath.Join(dir, c.name+".mtl")
			if out, err := exec.Command(gcc, "-O1", "-g", "-D_GNU_SOURCE", "-pthread", "-o", prog, filepath.Join(root, "testdata", "faults", c.name+".c")).CombinedOutput(); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			rec := exec.Command(memtrace(t), "record", "-q", "-o", log, "--", prog)
			rec.Dir = dir
			out, err := rec.CombinedOutput()
			if _, err2 := os.Stat(log); err2 != nil {
				require(t, "ptrace", fmt.Errorf("%w: %s", err, out))
			}
			b := browse(t, 1400, 900)
			b.open(serve(t, log))
			b.until(fmt.Sprintf(`document.querySelector(".card .title").textContent === %q && document.querySelector(".card").innerText.includes(%q)`, c.title, c.card))
			b.until(c.then)
			b.quiet()
		})
	}
}
