package main

import (
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

// TestKeys does with the keyboard alone all that the page can do.
func TestKeys(t *testing.T) {
	b := browse(t, 1400, 900)
	b.open(serve(t, sample))
	at := func() int {
		return eval[int](b, `+document.querySelector('[role=slider]').getAttribute("aria-valuenow")`)
	}
	is := func(step int) {
		b.t.Helper()
		b.until(fmt.Sprintf(`document.querySelector('[role=slider]').getAttribute("aria-valuenow") === "%d"`, step))
	}
	first := at()
	b.press(kb.ArrowRight)
	is(first + 1)
	b.press(kb.ArrowLeft)
	b.press(kb.ArrowLeft)
	is(first - 1)
	b.until(fmt.Sprintf(`document.querySelector("[aria-live]").textContent.startsWith("step %d,")`, first-1))
	b.press("a")
	b.press(kb.ArrowLeft, chromedp.KeyModifiers(chromedp.ModifierShift))
	b.until(fmt.Sprintf(`+document.querySelector('[role=slider]').getAttribute("aria-valuenow") < %d`, first-1))
	b.press("b")
	b.press("d")
	b.until(`document.querySelector('[role=tab][aria-selected=true]:not(:first-child)')?.textContent === "Diff A…B" && document.querySelector(".kind, .change, .note")`)
	b.press("2")
	b.until(`document.querySelector(".space canvas")`)

	b.press("/")
	b.until(`document.activeElement.id === "search"`)
	eval[any](b, `document.activeElement.select()`) // the driver types the key itself, too
	b.press("20")
	b.until(`document.querySelector('#meanings [role=option]')`)
	b.press(kb.Enter)
	is(20)
	b.press("e")
	b.until(`document.activeElement.id === "filter"`)
	eval[any](b, `document.activeElement.select()`)
	b.press("failed" + kb.Enter)
	b.until(`document.querySelectorAll(".ev").length === document.querySelectorAll(".ev.bad").length && document.querySelector(".ev")`)
	b.until(`/events/.test(document.querySelector(".filter [role=status]").textContent)`)
	b.press(kb.Escape)
	b.until(`!document.querySelector(".filter [role=status]") && document.activeElement.id !== "filter"`)

	b.press("x")
	b.until(`document.activeElement.id === "addr"`)
	eval[any](b, `document.activeElement.select()`)
	b.press("rsp" + kb.Enter)
	b.until(`/stack/.test(document.querySelector(".address .dim").textContent) || document.querySelector(".address [role=alert]")`)
	b.press(kb.Escape)
	eval[any](b, `document.activeElement.blur()`)

	b.press("w")
	b.until(`location.hash.includes("range=")`)
	b.press("l")
	b.press("0")
	b.until(`!location.hash.includes("range=")`)
	b.press("m")
	b.until(`location.hash.includes("by=mapped")`)
	b.press("n")
	b.until(`document.querySelector(".card.on")`)
	b.press("t")
	b.until(`document.querySelectorAll(".spine table.twin").length === 4 && document.querySelector(".pan table.twin")`)
	b.press("t")
	b.press("5")
	b.until(`document.querySelector(".threads .thread")`)
	b.press("4")
	b.press("?")
	b.until(`document.querySelector("dialog[open]")`)
	b.press(kb.Escape)
	b.until(`!document.querySelector("dialog")`)
	b.press(".")
	b.until(`document.querySelector(".toast")`)
	if h := eval[string](b, "location.hash"); strings.Contains(h, "token") {
		t.Errorf("the address has the token: %s", h)
	}

	// Every control can be reached by Tab.
	var reached []string
	eval[any](b, `document.activeElement.blur()`)
	for range 200 {
		b.press(kb.Tab)
		s := eval[string](b, `(() => { const e = document.activeElement; return e === document.body ? "" : (e.id || e.getAttribute("aria-label") || e.textContent).slice(0, 60); })()`)
		if s == "" {
			break
		}
		reached = append(reached, s)
	}
	all := strings.Join(reached, "\n")
	for _, want := range []string{"to the time axis", "search", "A…B diff", "Keys", "Selected step", "Events", "filter", "Address space", "Memory", "addr", "Read as", "Values over time"} {
		if !strings.Contains(all, want) {
			t.Errorf("Tab does not reach %q; it reaches\n%s", want, all)
			break
		}
	}
	b.quiet()
}

// TestLink opens a link to a view.
func TestLink(t *testing.T) {
	b := browse(t, 1400, 900)
	b.do(chromedp.Navigate(serve(t, sample) + "&at=42&a=10&b=50&middle=diff&right=threads&left=calls&by=mapped"))
	b.until(`document.querySelector('[role=slider]')?.getAttribute("aria-valuenow") === "42"`)
	b.until(`document.querySelector(".sheet") && document.querySelector(".threads") && /A\s*10\s*…\s*B\s*50/.test(document.body.innerText)`)
	b.until(`!location.hash.includes("token") && location.hash.includes("at=42")`)
	b.quiet()
}

// TestNoToken opens the page without the token.
func TestNoToken(t *testing.T) {
	url, _, _ := strings.Cut(serve(t, sample), "#")
	b := browse(t, 800, 600)
	b.do(chromedp.Navigate(url))
	b.until(`/whole address/.test(document.body.innerText)`)
}

// TestReport opens what report --html writes. The browser has no network then.
func TestReport(t *testing.T) {
	file := filepath.Join(t.TempDir(), "report.html")
	if out, err := exec.Command(memtrace(t), "report", sample, "--html", file).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	b := browse(t, 1400, 900)
	b.open("file://" + file)
	b.until(`document.querySelector(".threads .thread")`)
	b.press("3")
	b.until(`/no call stacks/.test(document.body.innerText)`)
	b.press("d")
	b.until(`/Set two marks/.test(document.querySelectorAll(".pan")[1].innerText)`)
	b.press("2")
	b.until(`document.querySelector(".space canvas")`)
	if n := eval[int](b, `performance.getEntriesByType("resource").filter((r) => !r.name.startsWith("data:")).length`); n != 0 {
		t.Errorf("the file asked for %d other files", n)
	}
	b.quiet()
}

// TestHostile looks at a program whose arguments, output and files would be markup and
// scripts, if anything took them for that.
func TestHostile(t *testing.T) {
	dir := t.TempDir()
	log := filepath.Join(dir, "hostile.mtl")
	script := `</script><script>window.pwned=1</script><img src=x onerror="window.pwned=2">`
	bidi := "\u202egpj.exe" + strings.Repeat("A", 100_000)
	file := filepath.Join(dir, "<svg onload=window.pwned=3>")
	if err := os.WriteFile(file, []byte(script), 0o644); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(memtrace(t), "record", "-q", "-o", log, "--data-limit", "4096", "--", "/bin/sh", "-c", `cat "$1"; cat "$2" "/$2"; echo "$3" >&2; exit 3`, script, file, script, bidi).CombinedOutput()
	if _, err2 := os.Stat(log); err2 != nil {
		require(t, "ptrace", fmt.Errorf("%w: %s", err, out))
	}
	html := filepath.Join(dir, "report.html")
	if out, err := exec.Command(memtrace(t), "report", log, "--html", html).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for _, url := range []string{serve(t, log), "file://" + html} {
		b := browse(t, 1024, 768)
		b.open(url)
		for _, k := range []string{"t", "3", "2", "5", "4", "t"} {
			b.press(k)
		}
		for _, table := range []string{"summary", "findings", "files", "processes", "errors"} {
			eval[any](b, fmt.Sprintf(`location.hash = "#left=tables&table=%s"`, table))
			b.until(`document.querySelector(".sheet, .pan .note")`)
		}
		if eval[bool](b, `"pwned" in window || document.querySelector("img, svg, iframe") !== null || document.scripts.length > 2`) {
			t.Errorf("a text of the program became a part of the page: %s", eval[string](b, "document.body.innerHTML"))
		}
		if !eval[bool](b, `document.body.innerText.includes("<script>") || document.title.includes("<script>") || document.querySelector('[title*="<script>"]') !== null`) {
			t.Error("the text is not shown: this test looks at nothing")
		}
		if eval[bool](b, `/[\u202a-\u202e\u2066-\u2069]/.test(document.body.innerText)`) {
			t.Error("the page has characters that turn the direction of text")
		}
		b.quiet()
	}
}

// TestOtherOrigin opens a page of somebody else, who knows where the server is, and even
// its token. It can neither read it, nor run its script, nor show it in a frame.
func TestOtherOrigin(t *testing.T) {
	url := serve(t, sample)
	base, fragment, _ := strings.Cut(url, "#")
	token := strings.TrimPrefix(fragment, "token=")
	page2 := `<!doctype html><title>other</title><script>
const results = [];
const tell = (what, p) => p.then((v) => results.push(what + ": " + v), (e) => results.push(what + ": failed"));
const one = (u, o) => fetch(u, o).then((r) => r.text()).then((s) => "read " + s.length);
const loads = (tag, u) => new Promise((ok) => { const e = document.createElement(tag); e.onload = () => ok("loaded"); e.onerror = () => ok("failed"); e.src = u; document.head.append(e); });
Promise.all([
	tell("info", one("BASEapi/info")),
	tell("token", one("BASEapi/info", { headers: { Authorization: "Bearer TOKEN" } })),
	tell("credentials", one("BASEapi/info", { credentials: "include" })),
	tell("opaque", fetch("BASEapi/info", { mode: "no-cors" }).then((r) => "read " + r.status + r.type)),
	tell("page", one("BASE")),
	tell("post", one("BASEapi/info", { method: "POST", body: "x" })),
	tell("script", loads("script", "BASEapp.js")),
	tell("image", loads("img", "BASEapi/info")),
]).then(() => (window.done = results));
</script><iframe src="BASE#FRAGMENT"></iframe>`
	page2 = strings.NewReplacer("BASE", base, "TOKEN", token, "FRAGMENT", fragment).Replace(page2)
	other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		fmt.Fprint(w, page2)
	}))
	defer other.Close()
	_, port, err := net.SplitHostPort(other.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	// The same host with another port is another origin, and the same site; localhost is another site.
	for _, host := range []string{"127.0.0.1", "localhost"} {
		b := browse(t, 800, 600)
		b.do(chromedp.Navigate("http://" + net.JoinHostPort(host, port)))
		b.until("window.done")
		for _, r := range eval[[]string](b, "window.done") {
			if strings.Contains(r, "read") && !strings.Contains(r, "read 0opaque") || strings.Contains(r, "loaded") {
				t.Errorf("from %s: %s", host, r)
			}
		}
		if n := eval[int](b, `window.frames.length`); n != 1 {
			t.Errorf("%d frames: the test tries nothing", n)
		}
		// A frame that was refused shows the browser's own page, in which nothing of ours runs.
		if eval[bool](b, `(() => { try { return frames[0].document.body.innerText.includes("memtrace"); } catch { return false; } })()`) {
			t.Errorf("from %s: the page is in a frame", host)
		}
	}
}
