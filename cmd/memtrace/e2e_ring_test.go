//go:build linux

package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"memtrace/format"
	"memtrace/format/addr"
	"memtrace/replay"
)

// TestRing: memory that io_uring changes is right, or not given as that of the step.
func TestRing(t *testing.T) {
	require(t, "ptrace", tracing())
	prog := compile(t, "ring", "x86_64")
	for _, mode := range []string{"fixed", "madvise", "vector", "async", "fixed polled", "madvise polled"} {
		for i, flags := range []string{
			"--snapshot syscall=getppid", "--snapshot interval=5ms,syscall=getppid", "-e memory,write --snapshot syscall=getppid,interval=5ms",
		} {
			t.Run(mode+" "+flags, func(t *testing.T) {
				if i > 0 {
					long(t)
				}
				p := newPlace(t)
				p.compare(t, patience, append([]string{"-q"}, strings.Fields(flags)...), nil, append([]string{prog}, strings.Fields(mode)...)...)
				checkExact(t, p)
			})
		}
	}
}

// TestRingFDs: descriptors that io_uring opens and closes, and files that it renames, are
// called what they are at each call that uses them.
func TestRingFDs(t *testing.T) {
	require(t, "ptrace", tracing())
	prog := compile(t, "ringfds", "x86_64")
	for _, mode := range []string{"", "async", "polled"} {
		for _, flags := range []string{"", "-e fcntl,write"} {
			t.Run(mode+" "+flags, func(t *testing.T) {
				p := newPlace(t)
				o := p.execute(t, patience, nil, slices.Concat([]string{binary(), "record", "-q", "-o", p.log()}, strings.Fields(flags),
					[]string{"--", prog}, strings.Fields(mode))...)
				if o.status.ExitStatus() == 77 {
					t.Skipf("%s", o.stderr)
				}
				if o.status != 0 {
					t.Fatalf("%s: %s", statusText(o.status), brief(o.stderr))
				}
				var got []string
				for line := range strings.Lines(string(tell(t, 0, "replay", p.log(), "-e", "fcntl"))) {
					if _, args, ok := strings.Cut(line, "fcntl("); ok {
						got = append(got, strings.ReplaceAll(args[:strings.Index(args, ", F_GETFD")], ">(deleted)", " (deleted)>"))
					}
				}
				for i, line := range strings.Split(strings.TrimSuffix(string(o.stdout), "\n"), "\n") {
					want, name, _ := strings.Cut(line, " ")
					if name != "" {
						want += "<" + name + ">"
					}
					if i >= len(got) || got[i] != want {
						t.Fatalf("use %d is of %s, the log has %q", i, want, got)
					}
				}
				checkMarks(t, p)
			})
		}
	}
}

// checkExact compares the memory at 0x10000000 that a program saved at marks with what
// the log gives as that of the mark's step.
func checkExact(t *testing.T, p *place) {
	t.Helper()
	f, err := os.Open(p.log())
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	r, err := format.NewReader(f, st.Size(), nil)
	if err != nil {
		t.Fatal(err)
	}
	marks := 0
	for e, state := range applied(t, r) {
		k, ok := markOf(e)
		if !ok {
			continue
		}
		marks++
		pid := state.Threads[e.Thread].TGID
		want, err := os.ReadFile(filepath.Join(p.marks(), fmt.Sprintf("%d.%d.10000000.mem", pid, k)))
		if err != nil {
			t.Fatal(err)
		}
		space := spaceAt(t, replay.New(r), e.Step, pid)
		for at := 0; at < len(want); at += addr.PageSize {
			var got [addr.PageSize]byte
			n, asOf, err := space.ReadMem(got[:], addr.Addr(0x10000000+at))
			if err == nil && asOf == e.Step && !bytes.Equal(got[:n], want[at:at+n]) {
				t.Fatalf("mark %d, step %d, page %d: %q is given as exact, %q is there", k, e.Step, at/addr.PageSize, got[100], want[at+100])
			}
		}
	}
	if marks != 2 {
		t.Errorf("%d marks", marks)
	}
}
