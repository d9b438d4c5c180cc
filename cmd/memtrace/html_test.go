package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"memtrace/analyze/web"
)

// TestHTML writes a page of a log: it has the data and loads nothing.
func TestHTML(t *testing.T) {
	log := filepath.Join("..", "..", "analyze", "testdata", "recorded.mtl")
	out := filepath.Join(t.TempDir(), "out.html")
	if status, _, errs := invoke(t, "", "report", log, "--html", out); status != 0 || !strings.Contains(errs, "arguments and paths") {
		t.Fatalf("status %d: %s", status, errs)
	}
	page, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile(`(?s)<script type="application/json" id="memtrace-data">(.*?)</script>`).FindSubmatch(page)
	if m == nil {
		t.Fatal("the page has no data")
	}
	var r struct {
		Info    web.Info
		Moments []struct{ Step uint64 }
	}
	if err := json.Unmarshal(m[1], &r); err != nil {
		t.Fatal(err)
	}
	if len(r.Info.Logs) != 1 || r.Info.Logs[0].Steps == 0 || len(r.Moments) == 0 {
		t.Errorf("%d logs, %d moments", len(r.Info.Logs), len(r.Moments))
	}
	if !strings.Contains(string(page), `default-src 'none'; script-src 'sha256-`) {
		t.Error("the page has no policy")
	}
	if s := regexp.MustCompile(`(?:src|href)="([^"]*)"`).FindAllStringSubmatch(strings.ReplaceAll(string(page), string(m[1]), ""), -1); len(s) != 1 || s[0][1] != "data:," {
		t.Errorf("the page loads %v", s)
	}
	small := filepath.Join(t.TempDir(), "small.html")
	if status, _, errs := invoke(t, "", "report", log, "--html", small, "--html-limit", "1K"); status != 1 || !strings.Contains(errs, "larger limit") {
		t.Errorf("a limit of 1 KiB: status %d: %s", status, errs)
	}
	if _, err := os.Stat(small); err == nil {
		t.Error("a page was written that is larger than its limit")
	}
	for _, args := range [][]string{{"--html", out, "syscalls"}, {"--html", out, "--html-limit", "x"}, {"--html", out, "--plot", "x.svg"}} {
		if status, _, errs := invoke(t, "", append([]string{"report", log}, args...)...); status != 2 {
			t.Errorf("%q: status %d: %s", args, status, errs)
		}
	}
	if status, _, errs := invoke(t, "", "report", log, "--html", log); status == 0 || !strings.Contains(errs, "is a log") {
		t.Errorf("the log as output: status %d: %s", status, errs)
	}
}
