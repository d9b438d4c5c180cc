//go:build linux

package main

import (
	"testing"
	"time"
)

// TestReferencedFlag: --referenced is off, at the recorder's times or at an even pace, and needs samples.
func TestReferencedFlag(t *testing.T) {
	for text, want := range map[string]time.Duration{"off": -1, "auto": 0, "4s": 4 * time.Second, "1m": time.Minute} {
		o, err := (&recordFlags{trace: "all", snapshot: "none", meminfo: "auto", stacks: "none", perfMap: "on", inProcess: "off", referenced: text}).options()
		if err != nil {
			t.Errorf("--referenced=%s: %v", text, err)
			continue
		}
		if got := o.ReferencedInterval; o.Referenced != (want >= 0) || got != max(want, 0) {
			t.Errorf("--referenced=%s: %v, %v", text, o.Referenced, got)
		}
	}
	for _, f := range []recordFlags{{meminfo: "auto", referenced: "1s"}, {meminfo: "auto", referenced: "often"}, {meminfo: "off", referenced: "auto"}} {
		f.trace, f.snapshot, f.stacks, f.perfMap, f.inProcess = "all", "none", "none", "on", "off"
		if _, err := f.options(); err == nil {
			t.Errorf("--referenced=%s --meminfo=%s is no mistake", f.referenced, f.meminfo)
		}
	}
}
