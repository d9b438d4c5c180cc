//go:build linux

package main

import (
	"bytes"
	le "encoding/binary"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"memtrace/format"
	"memtrace/format/formattest"
	"memtrace/format/redact"
)

// canaries are the texts of testdata/redact/canaries.c, and the classes that have them.
// What went through memory may be in pages, and on the stack, too.
var canaries = []struct {
	text    string
	classes string
}{
	{"CANARY-argv", "argv stacks-mem"},
	{"CANARY-env", "stacks-mem"},
	{"CANARY-dir", "paths host stacks-mem pages"},
	{"CANARY-path", "paths pages stacks-mem"},
	{"CANARY-data", "data pages stacks-mem"},
	{"CANARY-comm", "data pages stacks-mem"},
	{"CANARY-xattr", "data pages stacks-mem"},
	{"CANARY-socket", "data pages stacks-mem"},
	{"CANARY-stderr", "data pages stacks-mem"},
	{"CANARY-target", "data pages stacks-mem"},
	{"CANARY-link", "paths pages stacks-mem"},
	{"CANARY-anon", "data mappings-names pages stacks-mem"},
	{"CANARY-memfd", "data paths mappings-names pages stacks-mem"},
	{"CANARY-heap", "pages"},
	{"CANARY-stack", "stacks-mem"},
	{".REGSCAN", "registers stacks-mem"},
	{"-INFOCAN", "siginfo data stacks-mem registers"},
	{"-MBUSCAN", "calls registers stacks-mem"},
}

// holds says whether decoded bytes have a text: as it is, or as a number of the format,
// which may be less another one.
func holds(decoded []byte, text string) bool {
	if bytes.Contains(decoded, []byte(text)) {
		return true
	}
	if len(text) != 8 {
		return false
	}
	v := le.LittleEndian.Uint64([]byte(text))
	for d := range uint64(64) {
		if bytes.Contains(decoded, le.AppendUvarint(nil, v-d)) || bytes.Contains(decoded, le.AppendVarint(nil, int64(v-d))) {
			return true
		}
	}
	return false
}

// recordCanaries records the program into a log.
func recordCanaries(t *testing.T, dir, log string, flags ...string) {
	t.Helper()
	prog := filepath.Join(dir, "canaries")
	if _, err := os.Stat(prog); err != nil {
		out, err := exec.Command(tool(t, "gcc"), "-O1", "-Wall", "-Wextra", "-Werror", "-D_GNU_SOURCE", "-o", prog, "../../testdata/redact/canaries.c").CombinedOutput()
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	}
	work := filepath.Join(dir, "CANARY-dir")
	if err := os.RemoveAll(work); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(work, 0o700); err != nil {
		t.Fatal(err)
	}
	args := append([]string{"record", "-q", "--meminfo=100ms", "--snapshot", "exec,exit,signal", "-o", log}, flags...)
	c := exec.Command(binary(), append(args, "--", prog, "CANARY-argv")...)
	c.Dir, c.Env = work, append(os.Environ(), "WITH=CANARY-env")
	if out, err := c.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}

// TestRedactCanaries looks for texts of every class in what is left of a real program's
// log, for each class that is kept alone, by copying and while it is recorded.
func TestRedactCanaries(t *testing.T) {
	t.Parallel()
	require(t, "ptrace", tracing())
	dir := t.TempDir()
	whole := filepath.Join(dir, "whole")
	recordCanaries(t, dir, whole)
	b, err := os.ReadFile(whole)
	if err != nil {
		t.Fatal(err)
	}
	before := formattest.Decoded(t, b)
	for _, c := range canaries {
		if !holds(before, c.text) {
			t.Errorf("%s is not in the log of the program: the test cannot find it", c.text)
		}
	}
	for class := redact.Structure; class < redact.NumClasses; class++ {
		keep := class.String()
		if class == redact.Structure {
			keep = ""
		}
		t.Run("keep "+keep, func(t *testing.T) {
			out := filepath.Join(t.TempDir(), "out")
			memtraceRun(t, "redact", whole, "-o", out, "--keep", keep)
			lookFor(t, out, keep, false)
			if class == redact.Calls || !longRun {
				return
			}
			// Buffers are there with their calls.
			with := filepath.Join(t.TempDir(), "with")
			memtraceRun(t, "redact", whole, "-o", with, "--keep", keep+",calls")
			lookFor(t, with, keep+" calls", true)
		})
	}
	for _, keep := range []string{redact.DefaultClasses, "pages,calls", ""} {
		if keep == "" && !longRun {
			continue
		}
		t.Run("record "+keep, func(t *testing.T) {
			dir := t.TempDir()
			log := filepath.Join(dir, "log")
			recordCanaries(t, dir, log, "--redact="+keep+",options")
			lookFor(t, log, strings.ReplaceAll(keep, ",", " "), false)
			f, err := os.Open(log)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			r, err := format.NewReader(f, fileSize(t, log), nil)
			if err != nil {
				t.Fatal(err)
			}
			inv := r.Header().Inventory // verify --redacted has compared it
			if !strings.HasPrefix(inv, "calls: ") || strings.Contains(inv, "calls: 0 plain") != !strings.Contains(keep, "calls") {
				t.Errorf("inventory %q", inv)
			}
		})
	}
}

// TestRedactDescriptors keeps the data of one descriptor of a real program, or all but that.
func TestRedactDescriptors(t *testing.T) {
	t.Parallel()
	require(t, "ptrace", tracing())
	dir := t.TempDir()
	whole, rules := filepath.Join(dir, "whole"), filepath.Join(dir, "rules")
	recordCanaries(t, dir, whole)
	for i, c := range []struct {
		rules    string
		has, not []string
	}{
		{"keep data fd:2", []string{"CANARY-stderr"}, []string{"CANARY-data", "CANARY-socket", "CANARY-comm", "CANARY-xattr", "CANARY-target"}},
		{"keep data; drop data fd:2", []string{"CANARY-data", "CANARY-socket", "CANARY-comm"}, []string{"CANARY-stderr"}},
	} {
		if err := os.WriteFile(rules, []byte(c.rules), 0o600); err != nil {
			t.Fatal(err)
		}
		out := filepath.Join(dir, strconv.Itoa(i))
		memtraceRun(t, "redact", whole, "-o", out, "--keep", "calls", "--rules", rules)
		memtraceRun(t, "verify", "--redacted", out)
		b, err := os.ReadFile(out)
		if err != nil {
			t.Fatal(err)
		}
		decoded := formattest.Decoded(t, b)
		for _, text := range c.has {
			if !holds(decoded, text) {
				t.Errorf("%s: %s is gone", c.rules, text)
			}
		}
		for _, text := range c.not {
			if holds(decoded, text) {
				t.Errorf("%s: %s is there", c.rules, text)
			}
		}
	}
}

// TestRedactShift moves addresses and times: none of the addresses above 4 GiB is left,
// and the mappings are the same in all else.
func TestRedactShift(t *testing.T) {
	require(t, "ptrace", tracing())
	dir := t.TempDir()
	whole, out, rules := filepath.Join(dir, "whole"), filepath.Join(dir, "out"), filepath.Join(dir, "rules")
	if err := os.WriteFile(rules, []byte("shift addresses\nshift time\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	recordCanaries(t, dir, whole, "-k=all", "--page-trace=64")
	memtraceRun(t, "redact", whole, "-o", out, "--rules", rules)
	// Of programs, libraries and stacks. The distance is more than the 4 GiB that each of
	// the three lies in, and random: an address may well become another one of this form.
	address := regexp.MustCompile(`0x[57][0-9a-f]{11}`)
	all := func(name string) (text string, found map[string]bool) {
		text, _ = memtraceRun(t, "replay", "--json", name)
		refs, _ := memtraceRun(t, "replay", "--refs", "--json", name)
		text += refs
		found = map[string]bool{}
		for _, at := range address.FindAllString(text, -1) {
			found[at] = true
		}
		return text, found
	}
	_, before := all(whole)
	text, after := all(out)
	if len(before) < 100 {
		t.Errorf("only %d addresses in the log", len(before))
	}
	for at := range before {
		if after[at] {
			i := strings.Index(text, at)
			t.Fatalf("%s is left: %s", at, text[max(0, i-400):min(len(text), i+40)])
		}
	}
	maps := regexp.MustCompile(`(?m)^([0-9a-f]+)-([0-9a-f]+) (\S+)`)
	sizes := func(name string) (list []uint64, first uint64) {
		text, _ := memtraceRun(t, "replay", "--at", "signal", "--maps", name)
		for _, m := range maps.FindAllStringSubmatch(text, -1) {
			a, _ := strconv.ParseUint(m[1], 16, 64)
			b, _ := strconv.ParseUint(m[2], 16, 64)
			list = append(list, b-a)
			if a < 1<<63 { // the vsyscall page is where it is
				first = max(first, a)
			}
		}
		return list, first
	}
	a, topA := sizes(whole)
	b, topB := sizes(out)
	if !slices.Equal(a, b) || len(a) < 10 || topA == topB {
		t.Errorf("mappings of %d bytes are of %d, the highest at %#x and %#x", a, b, topA, topB)
	}
	info := func(name string) (x struct{ Started string }) {
		text, _ := memtraceRun(t, "info", "--format", "json", name)
		if err := json.Unmarshal([]byte(text), &x); err != nil {
			t.Fatal(err)
		}
		return x
	}
	if info(whole) == info(out) || info(whole).Started == "" {
		t.Errorf("it began at %v", info(out))
	}
	if status := exec.Command(binary(), "redact", whole, "-o", filepath.Join(dir, "not"), "--rules", rules, "--keep", "pages").Run(); status == nil {
		t.Error("pages are kept, with addresses in them")
	}
}

// lookFor looks for canaries in a log of which some classes were kept: there are those
// of these classes, and no others.
func lookFor(t *testing.T, name, keep string, there bool) {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	decoded := formattest.Decoded(t, b)
	for _, c := range canaries {
		kept := slices.ContainsFunc(strings.Fields(c.classes), func(class string) bool { return slices.Contains(strings.Fields(keep), class) })
		if strings.Contains(keep, "registers") && len(c.text) != 8 {
			continue // a text may pass through a vector register
		}
		if got := holds(decoded, c.text); got && !kept {
			t.Errorf("with %q kept, %s is there, which is of %s", keep, c.text, c.classes)
		}
	}
	for _, w := range strings.Fields(keep) {
		for _, c := range canaries {
			if there && strings.Fields(c.classes)[0] == w && !holds(decoded, c.text) {
				t.Errorf("with %q kept, %s is not there", keep, c.text)
			}
		}
	}
	if out, _ := memtraceRun(t, "verify", "--redacted", name); !strings.Contains(out, "nothing else is left") {
		t.Errorf("verify says %s", out)
	}
	memtraceRun(t, "replay", "--json", name)
}

// TestRedactFails has redact run out of disk after every part of its work, and kills it
// at any moment: the log is what it was, and OUT is whole or is not there.
func TestRedactFails(t *testing.T) {
	require(t, "ptrace", tracing())
	dir := t.TempDir()
	whole := filepath.Join(dir, "whole")
	recordCanaries(t, dir, whole)
	before, err := os.ReadFile(whole)
	if err != nil {
		t.Fatal(err)
	}
	check := func(t *testing.T, out string, done bool) {
		t.Helper()
		if now, err := os.ReadFile(whole); err != nil || !bytes.Equal(now, before) {
			t.Fatalf("the log is another now: %v", err)
		}
		_, err := os.Stat(out)
		switch {
		case done && err != nil:
			t.Errorf("it says that it is done, and there is %v", err)
		case err == nil:
			memtraceRun(t, "verify", "--redacted", out)
		}
	}
	done := 0
	for kib := 1; kib < 40; kib += 6 {
		dir := t.TempDir()
		out := filepath.Join(dir, "out")
		c := exec.Command("sh", "-c", `ulimit -f `+strconv.Itoa(2*kib)+`; exec "$0" "$@"`, binary(), "redact", whole, "-o", out)
		text, err := c.CombinedOutput()
		check(t, out, err == nil)
		if err == nil {
			done++
			continue
		}
		if !bytes.Contains(text, []byte("file too large")) {
			t.Errorf("%d KiB: %v\n%s", kib, err, text)
		}
		if left, _ := os.ReadDir(dir); len(left) > 0 {
			t.Errorf("%d KiB: %v is left", kib, left)
		}
	}
	if done == 0 {
		t.Error("no limit was large enough")
	}
	kills := 6
	if longRun {
		kills = 20
	}
	for i := range kills {
		out := filepath.Join(t.TempDir(), "out")
		c := exec.Command(binary(), "redact", whole, "-o", out)
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Duration(i) * 120 / time.Duration(kills) * time.Millisecond)
		_ = c.Process.Kill()
		check(t, out, c.Wait() == nil)
	}
	// What is there is not overwritten.
	out := filepath.Join(dir, "there")
	if err := os.WriteFile(out, []byte("there"), 0o600); err != nil {
		t.Fatal(err)
	}
	text, err := exec.Command(binary(), "redact", whole, "-o", out).CombinedOutput()
	if b, _ := os.ReadFile(out); err == nil || string(b) != "there" {
		t.Errorf("%v, and there is %q: %s", err, b, text)
	}
}

// TestRedactParts redacts a part of a log and a log with packed files, and cuts a redacted one.
func TestRedactParts(t *testing.T) {
	require(t, "ptrace", tracing())
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	recordCanaries(t, dir, at("whole"))
	memtraceRun(t, "cut", at("whole"), "--from", "20", "--to", "50", "-o", at("cut"))
	memtraceRun(t, "redact", at("cut"), "-o", at("cut.redacted"), "--keep", "calls,data,pages")
	lookFor(t, at("cut.redacted"), "calls data pages", false)
	memtraceRun(t, "pack", at("whole"), "-o", at("packed"))
	memtraceRun(t, "redact", at("packed"), "-o", at("redacted"))
	lookFor(t, at("redacted"), "calls options system", false)
	memtraceRun(t, "cut", at("redacted"), "--from", "20", "--to", "50", "-o", at("redacted.cut"))
	lookFor(t, at("redacted.cut"), "calls options system", false)
	if out, err := exec.Command(binary(), "pack", at("redacted"), "-o", at("not")).CombinedOutput(); err == nil || !bytes.Contains(out, []byte("is redacted, and files")) {
		t.Errorf("a redacted log is packed: %v, %s", err, out)
	}
}
