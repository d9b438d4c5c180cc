package main

import (
	"os"
	"strings"
	"testing"

	"memtrace/format"
	"memtrace/replay/replaytest"
)

// TestMappingsNotKnown: a living process of which the log has no mapping is not one
// without memory. What is asked of it is not known, and verify says so.
func TestMappingsNotKnown(t *testing.T) {
	sample(t)
	b := replaytest.New(t)
	b.Event(1, &format.Exec{Path: "/p", Argv: []string{"p"}}, &format.MMNew{MM: 1}, replaytest.Thread(1, 7, 7, 1, 1, 0))
	b.Event(1, &format.Clone{Child: 2}, &format.MMNew{MM: 2, From: 1}, replaytest.Thread(2, 8, 8, 2, 2, 1))
	b.Event(2, &format.Exec{Path: "/q", Argv: []string{"q"}}, &format.MMNew{MM: 3}, replaytest.Thread(2, 8, 8, 2, 3, 1), &format.MMDrop{MM: 2},
		replaytest.Map(3, replaytest.Heap, 4, 3, "[heap]"))
	b.Call(1, "getpid", 7, nil)
	b.Call(1, "getpid", 7, nil)
	if err := os.WriteFile("none", b.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{
		"replay none --at 3 --maps", "replay none --at 3 --maps --json", "replay none --at 3 --mem 0x1000:16", "replay none --mem heap:16", "replay none --diff 2..3",
		"export none --to core --at 3 -o c", "dump none --at 3 -o d", "report none maps",
		"report none growth --pid 7", "replay none --find abc", "replay none --history 0x1000:4",
	} {
		status, out, errs := invoke(t, "", strings.Fields(line)...)
		if status != statusUnknown || out != "" || !strings.Contains(errs, "mappings not known") && !strings.Contains(errs, "the mappings of 2 processes are not known") {
			t.Errorf("%s: status %d, wrote %q, said %q", line, status, out, errs)
		}
	}
	if status, out, errs := invoke(t, "", "replay", "none", "--at", "3", "--pid", "8", "--maps"); status != 0 || !strings.Contains(out, "[heap]") {
		t.Errorf("of another process: status %d, wrote %q, said %q", status, out, errs)
	}
	for name, want := range map[string]string{"none": "none: whole, but the mappings of 2 processes are not known: 5 events", defaultLog: defaultLog + ": whole: 19 events"} {
		if status, out, errs := invoke(t, "", "verify", name); status != 0 || !strings.HasPrefix(out, want) {
			t.Errorf("verify %s: status %d, wrote %q, said %q", name, status, out, errs)
		}
	}
}

// TestPlantedNames: a name that memtrace chose, with a number from the log, is a new
// file that only its owner reads, or nothing is written.
func TestPlantedNames(t *testing.T) {
	sample(t)
	for _, c := range []struct {
		name  string
		plant func() error
	}{
		{"a link to a file", func() error { return os.Symlink("victim", "core.100") }},
		{"a link to nothing", func() error { return os.Symlink("nothing", "core.100") }},
		{"a file", func() error { return os.WriteFile("core.100", []byte("old"), 0o644) }},
	} {
		if err := os.WriteFile("victim", []byte("precious"), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := c.plant(); err != nil {
			t.Fatal(err)
		}
		status, _, errs := invoke(t, "", "dump", "--core", "--at", "14")
		if status != 1 || !strings.Contains(errs, "core.100 exists already: name another with -o") {
			t.Errorf("%s: status %d, said %q", c.name, status, errs)
		}
		if b, err := os.ReadFile("victim"); err != nil || string(b) != "precious" {
			t.Errorf("%s: the file has %d bytes (%v)", c.name, len(b), err)
		}
		if _, err := os.Lstat("nothing"); err == nil {
			t.Errorf("%s: a file was made", c.name)
		}
		if b, err := os.ReadFile("core.100"); c.name == "a file" && (err != nil || string(b) != "old") {
			t.Errorf("%s: it has %d bytes (%v)", c.name, len(b), err)
		}
		if err := os.Remove("core.100"); err != nil {
			t.Errorf("%s is gone: %v", c.name, err)
		}
	}
	if err := os.Symlink(".", "dump.100"); err != nil {
		t.Fatal(err)
	}
	if status, _, errs := invoke(t, "", "dump", "--at", "14"); status != 1 || !strings.Contains(errs, "exists") {
		t.Errorf("a link for the folder: status %d, said %q", status, errs)
	}
	if status, _, errs := invoke(t, "", "dump", "--core", "--at", "14"); status != 0 {
		t.Errorf("status %d, said %q", status, errs)
	}
	if st, err := os.Lstat("core.100"); err != nil || st.Mode() != 0o600 {
		t.Errorf("core.100: %v, %v", st, err)
	}
	if status, _, errs := invoke(t, "", "dump", "--core", "--at", "14", "-o", "core.100"); status != 0 {
		t.Errorf("named with -o: status %d, said %q", status, errs)
	}
}
