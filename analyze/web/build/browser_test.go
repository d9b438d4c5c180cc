package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
)

// root is memtrace's own module, sample a log of two processes, one of which crashes.
const root = "../../.."

var sample = filepath.Join(root, "analyze", "testdata", "recorded.mtl")

// require skips a test on a machine that lacks something, and fails it where
// $MEMTRACE_REQUIRE says that it is there.
func require(t *testing.T, what string, err error) {
	t.Helper()
	if err == nil {
		return
	}
	for _, w := range strings.Split(os.Getenv("MEMTRACE_REQUIRE"), ",") {
		if w == what || w == "all" {
			t.Fatalf("%s is required here: %v", what, err)
		}
	}
	t.Skipf("no %s: %v", what, err)
}

var (
	built   sync.Once
	program string
	failed  error
)

// memtrace is the program, built once.
func memtrace(t *testing.T) string {
	t.Helper()
	built.Do(func() {
		dir, err := os.MkdirTemp("", "memtrace")
		if err != nil {
			failed = err
			return
		}
		program = filepath.Join(dir, "memtrace")
		build := exec.Command("go", "build", "-o", program, "./cmd/memtrace")
		build.Dir = root
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := build.CombinedOutput(); err != nil {
			failed = fmt.Errorf("%w: %s", err, out)
		}
	})
	if failed != nil {
		t.Fatal(failed)
	}
	return program
}

func TestMain(m *testing.M) {
	status := m.Run()
	if stop != nil {
		stop()
	}
	for _, dir := range []string{filepath.Dir(program), profile} {
		if dir != "." && dir != "" {
			_ = os.RemoveAll(dir) // of the system's temporary files
		}
	}
	os.Exit(status)
}

// serve has memtrace view serve logs, and returns the page's address.
func serve(t *testing.T, logs ...string) string {
	t.Helper()
	return serveFrom(t, nil, logs...)
}

// serveFrom is serve with a standard input.
func serveFrom(t *testing.T, in *os.File, logs ...string) string {
	t.Helper()
	c := exec.Command(memtrace(t), append([]string{"view", "--no-open"}, logs...)...)
	if in != nil {
		c.Stdin = in
	}
	errs, err := c.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = c.Process.Kill() // it may have ended
		_ = c.Wait()
	})
	for lines := bufio.NewScanner(errs); lines.Scan(); {
		if i := strings.Index(lines.Text(), "http://"); i >= 0 {
			go func() {
				for lines.Scan() { // so that it never waits for a reader
				}
			}()
			url, _, _ := strings.Cut(lines.Text()[i:], " ")
			return url
		}
	}
	t.Fatal("view said no address")
	return ""
}

// tab is a page in a browser, and what went wrong in it.
type tab struct {
	t   *testing.T
	ctx context.Context

	mu     sync.Mutex
	faults []string
}

var (
	started sync.Once
	browser context.Context // with one browser for all tests
	stop    context.CancelFunc
	profile string
)

// chromium starts the browser.
func chromium(path string) {
	if profile, failed = os.MkdirTemp("", "chromium"); failed != nil {
		return
	}
	ctx, end := chromedp.NewExecAllocator(context.Background(),
		chromedp.ExecPath(path), chromedp.Headless, chromedp.NoSandbox, chromedp.DisableGPU, chromedp.NoFirstRun,
		chromedp.Flag("disable-quic", true), chromedp.Flag("disable-background-networking", true),
		chromedp.Flag("disable-component-update", true), chromedp.Flag("disable-sync", true),
		chromedp.UserDataDir(profile), chromedp.WSURLReadTimeout(2*time.Minute))
	stop = end
	browser, _ = chromedp.NewContext(ctx)
	failed = chromedp.Do(browser)
}

// browse opens a tab with nothing in it, which shares nothing with other tabs.
func browse(t *testing.T, width, height int64) *tab {
	t.Helper()
	path, err := exec.LookPath("chromium")
	if err != nil {
		path, err = exec.LookPath("google-chrome")
	}
	require(t, "chromium", err)
	started.Do(func() { chromium(path) })
	if failed != nil {
		t.Fatal(failed)
	}
	b := &tab{t: t}
	ctx, leave := chromedp.NewContext(browser, chromedp.WithNewBrowserContext(), chromedp.WithListener(b.hear))
	t.Cleanup(leave)
	b.ctx = ctx
	b.do(chromedp.EmulateViewport(width, height), chromedp.Func(func(ctx context.Context, t *chromedp.Target) error {
		_, e1 := cdp.Call(ctx, t, runtime.Enable, cdp.Empty{})
		_, e2 := cdp.Call(ctx, t, log.Enable, cdp.Empty{})
		return errors.Join(e1, e2)
	}))
	b.scheme("light")
	return b
}

// scheme says whether the system is light or dark.
func (b *tab) scheme(name string) {
	b.t.Helper()
	b.do(chromedp.Func(func(ctx context.Context, t *chromedp.Target) error {
		_, err := cdp.Call(ctx, t, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
			Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: name}, {Name: "prefers-reduced-motion", Value: "reduce"}},
		})
		return err
	}))
}

// hear keeps what a page must not do: throw, complain, violate its policy, ask.
func (b *tab) hear(ev any) {
	var fault string
	switch e := ev.(type) {
	case *runtime.EventExceptionThrown:
		fault = "exception: " + e.ExceptionDetails.Text
		if x := e.ExceptionDetails.Exception; x != nil {
			fault += " " + x.Description
		}
	case *log.EventEntryAdded:
		// 404 is how the server says that a process has no memory at a step.
		gone := strings.Contains(e.Entry.Text, "status of 404") && strings.Contains(e.Entry.URL, "/api/")
		if e.Entry.Level == log.EntryLevelError && !gone {
			fault = "log: " + e.Entry.Text + " " + e.Entry.URL
		}
	case *runtime.EventConsoleAPICalled:
		fault = fmt.Sprintf("console.%s", e.Type)
	case *page.EventJavascriptDialogOpening:
		fault = "dialog: " + e.Message
	}
	if fault != "" {
		b.mu.Lock()
		b.faults = append(b.faults, fault)
		b.mu.Unlock()
	}
}

// quiet fails the test if the page did what it must not.
func (b *tab) quiet() {
	b.t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, f := range b.faults {
		b.t.Error(f)
	}
	b.faults = nil
}

func (b *tab) do(steps ...chromedp.Action[chromedp.Void]) {
	b.t.Helper()
	if err := chromedp.Do(b.ctx, steps...); err != nil {
		b.t.Fatal(err)
	}
}

// open goes to a page and waits until it shows a log's events and findings.
func (b *tab) open(url string) {
	b.t.Helper()
	b.do(chromedp.Navigate(url))
	b.until(`document.querySelector(".ev.cur") && document.querySelector(".card") && !document.querySelector(".card .bar")`)
}

// eval is the value of an expression in the page.
func eval[T any](b *tab, js string) T {
	b.t.Helper()
	v, err := chromedp.Run(b.ctx, chromedp.Evaluate[T](js))
	if err != nil {
		b.t.Fatalf("%s: %v", js, err)
	}
	return v
}

// until waits for an expression to be true.
func (b *tab) until(js string) {
	b.t.Helper()
	for end := time.Now().Add(time.Minute); ; time.Sleep(30 * time.Millisecond) {
		if eval[bool](b, "!!("+js+")") {
			return
		}
		if time.Now().After(end) {
			b.t.Fatalf("it never came to: %s\nthe page: %.2000s", js, eval[string](b, "document.body.innerText"))
		}
	}
}

// press types keys, as a user does.
func (b *tab) press(keys string, o ...chromedp.KeyOption) {
	b.t.Helper()
	b.do(chromedp.KeyEvent(keys, o...))
}
