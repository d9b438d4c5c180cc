package replay_test

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"memtrace/replay"
	"memtrace/replay/replaytest"
)

// TestGrowingFromNothing opens a log of which the first bytes come one by one: it waits until they tell
// that it is a log. A file that is none is told as soon as that is known.
func TestGrowingFromNothing(t *testing.T) {
	log := replaytest.Log(t)
	write := func(b []byte) *os.File {
		t.Helper()
		f, err := os.Create(filepath.Join(t.TempDir(), "log"))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = f.Close() })
		if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX); err != nil { // as a recorder does
			t.Fatal(err)
		}
		go func() {
			for len(b) > 0 {
				n := 1
				if len(b) < len(log)-12 {
					n = len(b)
				}
				_, _ = f.Write(b[:n])
				b = b[n:]
				time.Sleep(25 * time.Millisecond)
			}
		}()
		return f
	}
	g, err := replay.OpenGrowing(t.Context(), write(log).Name(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	for g.Count() == 0 {
		if more, err := g.Grow(t.Context()); err != nil || !more && g.Count() == 0 {
			t.Fatalf("more: %v, %v", more, err)
		}
	}
	if now := g.Now(); now.Count() != g.Count() || g.BeingWritten() || now.BeingWritten() {
		t.Errorf("now %d events, of %d; being written: %v", now.Count(), g.Count(), g.BeingWritten())
	}
	if g, err := replay.OpenGrowing(t.Context(), write([]byte("#!/bin/sh, and no log\n")).Name(), nil); err == nil {
		_ = g.Close()
		t.Error("a script is a log")
	}
}
