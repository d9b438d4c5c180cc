package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/chromedp/chromedp/kb"
)

// asks maps memory in two functions, as much as it is told to, and gives nothing back.
const asks = `#include <stdlib.h>
#include <sys/mman.h>
static __attribute__((noinline)) volatile char *take(long n)
{
	volatile char *p = mmap(0, n << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	*p = 1;
	return p;
}
static __attribute__((noinline)) void cache(long n) { *take(n) = 2; }
static __attribute__((noinline)) void session(long n) { *take(n) = 3; }
int main(int argc, char **argv)
{
	cache(atol(argv[1]));
	session(atol(argv[argc - 1]));
	return 0;
}
`

// recorded are logs with call stacks of runs of a program with these arguments.
func recorded(t *testing.T, runs ...[]string) (logs []string) {
	gcc, err := exec.LookPath("gcc")
	require(t, "gcc", err)
	dir := t.TempDir()
	src, prog := filepath.Join(dir, "asks.c"), filepath.Join(dir, "asks")
	if err := os.WriteFile(src, []byte(asks), 0o644); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(gcc, "-O1", "-g", "-o", prog, src).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for i, args := range runs {
		log := filepath.Join(dir, fmt.Sprintf("%d.mtl", i))
		out, err := exec.Command(memtrace(t), append([]string{"record", "-q", "-k", "-o", log, "--", prog}, args...)...).CombinedOutput()
		if _, err2 := os.Stat(log); err2 != nil {
			require(t, "ptrace", fmt.Errorf("%w: %s", err, out))
		}
		logs = append(logs, log)
	}
	return logs
}

// TestMarks sets two marks, and has what differs between them shown below the time axis.
func TestMarks(t *testing.T) {
	b := browse(t, 1400, 900)
	logs := recorded(t, []string{"2", "5"})
	b.open(serve(t, logs...) + "&by=mapped")
	if eval[bool](b, `!!document.querySelector(".since")`) {
		t.Error("there is a difference without marks")
	}
	calls := eval[[]int](b, `[...document.querySelectorAll(".ev")].filter((e) => /mmap\(NULL, (2097152|5242880),/.test(e.innerText)).map((e) => +e.id.slice(2))`)
	if len(calls) != 2 {
		t.Fatalf("%v", calls)
	}
	at := func(step int, key string) {
		b.press("/")
		b.until(`document.activeElement.id === "search"`)
		eval[any](b, `document.activeElement.select()`)
		b.press(fmt.Sprint(step))
		b.until(`document.querySelector('#meanings [role=option]')`)
		b.press(kb.Enter)
		b.until(fmt.Sprintf(`document.querySelector('[role=slider]').getAttribute("aria-valuenow") === "%d"`, step))
		b.press(key)
	}
	at(calls[0]-1, "a")
	at(calls[1], "b")
	b.until(`/Anonymous \+7\.?0? MiB/.test(document.querySelector(".since")?.innerText)`)
	b.until(`/1 (came|grew) \(\+7\.?0? MiB\)|2 came \(\+7\.?0? MiB\)/.test(document.querySelector(".since").innerText)`)
	drawn := `(() => { const c = document.querySelector(".since canvas"), d = c.getContext("2d").getImageData(0, 0, c.width, c.height).data; const s = new Set(); for (let i = 0; i < d.length; i += 4) if (d[i + 3] > 200) s.add(d[i] << 16 | d[i + 1] << 8 | d[i + 2]); return s.size; })()`
	if n := eval[int](b, drawn); n < 3 {
		t.Errorf("the track has %d colours", n)
	}
	b.press("t")
	b.until(`/\+7\.?0? MiB/.test(document.querySelector(".since table.twin")?.innerText)`)
	b.until(`document.querySelector(".low").getBoundingClientRect().bottom <= document.querySelector("footer").getBoundingClientRect().top`)
	b.quiet()
}

// TestTwoFlames looks at the call sites of two logs: from one another, beside one another,
// as a drawing and as a table.
func TestTwoFlames(t *testing.T) {
	b := browse(t, 1400, 900)
	b.open(serve(t, recorded(t, []string{"1", "8"}, []string{"4", "2"})...) + "&middle=sites&by=mapped")
	b.until(`document.querySelector(".pan [role=tree][aria-label*=flame]") && /B has 3 MiB more and 6 MiB less/.test(document.querySelectorAll(".pan")[1].innerText.replaceAll(".0", ""))`)
	b.until(`/Anonymous −3\.?0? MiB/.test(document.querySelector(".since p").innerText)`)
	b.press("t")
	row := func(name, want string) {
		t.Helper()
		js := `[...document.querySelectorAll(".pan table.twin tr")].map((r) => [...r.cells].map((c) => c.innerText.trim().replace(".0", "")).join(" | ")).find((s) => s.includes("` + name + ` ("))`
		b.until(js)
		if got := eval[string](b, js); !strings.HasPrefix(got, want) {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	row("cache", "3 MiB |  | 1 MiB | 4 MiB |")
	row("session", "0 B | 6 MiB | 8 MiB | 2 MiB |")
	b.press("t")
	eval[any](b, `(() => { const s = document.querySelector('select[aria-label="Of which log"]'); s.value = "beside"; s.dispatchEvent(new Event("change", {bubbles: true})); })()`)
	b.until(`document.querySelectorAll(".beside [role=tree][aria-label*=flame]").length === 2`)
	b.press("t")
	b.until(`document.querySelectorAll(".beside table.twin").length === 2`)
	b.quiet()
}
