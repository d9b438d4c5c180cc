//go:build linux

package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestLeakFromLines records a stripped program that loses memory at three known lines of a
// stripped library, through two allocators of its own. The reports name the lines by the separate debug files.
func TestLeakFromLines(t *testing.T) {
	t.Parallel()
	require(t, "ptrace", tracing())
	gcc, objcopy, strip := tool(t, "gcc"), tool(t, "objcopy"), tool(t, "strip")
	dir := t.TempDir()
	must := func(argv ...string) {
		t.Helper()
		c := exec.Command(argv[0], argv[1:]...)
		c.Dir = dir
		if out, err := c.CombinedOutput(); err != nil {
			t.Fatalf("%v: %v\n%s", argv, err, out)
		}
	}
	src, err := filepath.Abs("testdata/sites")
	if err != nil {
		t.Fatal(err)
	}
	must(gcc, "-O1", "-g", "-shared", "-fPIC", "-Wl,--build-id=sha1", "-o", "libsites.so", filepath.Join(src, "lib.c"))
	must(gcc, "-O1", "-g", "-Wl,--build-id=sha1", "-o", "prog", filepath.Join(src, "main.c"), "-L.", "-lsites", "-Wl,-rpath,$ORIGIN")
	if err := os.Mkdir(filepath.Join(dir, "debug"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, f := range []string{"libsites.so", "prog"} {
		must(objcopy, "--only-keep-debug", f, "debug/"+f+".debug")
		must(strip, f)
	}
	const size, blocks = 300000, 140
	must(binary(), "record", "-q", "-k", "--meminfo=20ms", "-o", "log", "--", "./prog", fmt.Sprint(size))
	report := func(v any, args ...string) {
		t.Helper()
		c := exec.Command(binary(), append([]string{"report", "log", "--format", "json", "--symbols", "debug"}, args...)...)
		c.Dir = dir
		var errs bytes.Buffer
		c.Stderr = &errs
		out, err := c.Output()
		if err != nil {
			t.Fatalf("%v: %v\n%s", args, err, errs.Bytes())
		}
		if err := json.Unmarshal(out, v); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	}
	want := []string{"keep_rows (lib.c:21)", "add_index (lib.c:26)", "log_lines (lib.c:31)"}
	var sites struct {
		Rows []struct {
			Site, Via string
			Live      int64
		}
	}
	report(&sites, "callsites")
	var got []string
	sum := int64(0)
	for _, r := range sites.Rows {
		if strings.Contains(r.Site, "lib.c:") && r.Live > size {
			got = append(got, r.Site)
			sum += r.Live
			if r.Via != "table_alloc" {
				t.Errorf("%s by %q", r.Site, r.Via)
			}
		}
	}
	if strings.Join(got, ", ") != strings.Join(want, ", ") {
		t.Errorf("callsites: %q, want %q", got, want)
	}
	// Blocks are mappings of their own, or glibc's pool grows for each of them.
	if sum < size*blocks || sum > size*blocks*3/2 {
		t.Errorf("%d bytes live, %d were lost", sum, size*blocks)
	}
	var leaks struct {
		Verdicts []struct{ Verdict, Text string }
		Sites    []struct{ Site string }
	}
	report(&leaks, "leaks")
	if len(leaks.Verdicts) == 0 || leaks.Verdicts[0].Verdict != "leak" || !strings.Contains(leaks.Verdicts[0].Text, "is from "+want[0]) {
		t.Errorf("leaks: %+v", leaks.Verdicts)
	}
	got = got[:0]
	for _, s := range leaks.Sites {
		if strings.Contains(s.Site, "lib.c:") {
			got = append(got, s.Site)
		}
	}
	if strings.Join(got, ", ") != strings.Join(want, ", ") {
		t.Errorf("leaks: %q, want %q", got, want)
	}
	var summary struct{ Leak string }
	report(&summary, "summary")
	if !strings.HasPrefix(summary.Leak, want[0]) {
		t.Errorf("summary: %q", summary.Leak)
	}
}
