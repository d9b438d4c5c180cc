//go:build linux

package main

import (
	"encoding/json"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"memtrace/format"
	"memtrace/replay"
)

// A log says how it was recorded, and how large the extended states are that it
// holds.
func TestHeader(t *testing.T) {
	require(t, "ptrace", tracing())
	log := filepath.Join(t.TempDir(), "log")
	args := []string{"record", "-q", "-o", log, "-e", "memory, write", "--snapshot", "step", "--data-limit", "17", "--no-pin", "--", "/bin/sh", "-c", "exit 0"}
	if out, err := exec.Command(binary(), args...).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	tr, err := replay.Open(log, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer tr.Close()
	h := tr.Header()
	for _, want := range []string{"trace=memory,write", "snapshot=step", "data-limit=17", "pin=false", "check=false", "max-size=none"} {
		if !slices.Contains(h.Options, want) {
			t.Errorf("no option %s in %q", want, h.Options)
		}
	}
	states := 0
	for ev, err := range tr.Events(0) {
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range ev.Changes {
			if x, ok := c.(*format.XStateSet); ok && len(x.Data) > 0 {
				states++
				if len(x.Data) != int(h.XSave) {
					t.Fatalf("an extended state of %d bytes in a log whose header says %d", len(x.Data), h.XSave)
				}
			}
		}
	}
	if (states == 0) != (h.XSave == 0) {
		t.Errorf("%d extended states, of %d bytes", states, h.XSave)
	}
	out, err := exec.Command(binary(), "info", "--format", "json", log).Output()
	if err != nil {
		t.Fatal(err)
	}
	var info struct {
		State   uint32 `json:"extended_state"`
		Options []struct{ Option, Value string }
	}
	if err := json.Unmarshal(out, &info); err != nil {
		t.Fatal(err)
	}
	var lines []string
	for _, o := range info.Options {
		lines = append(lines, o.Option+"="+o.Value)
	}
	if info.State != h.XSave || !slices.Equal(lines, h.Options) {
		t.Errorf("info says %d and %s of a log with %d and %s", info.State, strings.Join(lines, " "), h.XSave, strings.Join(h.Options, " "))
	}
}
