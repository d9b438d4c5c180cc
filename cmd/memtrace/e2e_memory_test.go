//go:build linux

package main

import (
	"os"
	"testing"
	"time"

	"memtrace/format"
	"memtrace/format/addr"
)

// openRun opens the log of a run.
func openRun(t *testing.T, p *place) *format.Reader {
	t.Helper()
	f, err := os.Open(p.log())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	st, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	r, err := format.NewReader(f, st.Size(), nil)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// TestStepIsExact: with --snapshot step the memory of a program is known as of
// every call, signal, exec, fork and end of it.
func TestStepIsExact(t *testing.T) {
	require(t, "ptrace", tracing())
	for _, build := range []string{"x86_64", "i386"} {
		for _, name := range []string{"churn", "signals"} {
			t.Run(name+"-"+build, func(t *testing.T) {
				t.Parallel()
				p := newPlace(t)
				p.compare(t, time.Minute, []string{"-q", "--snapshot", "step"}, nil, compile(t, name, build))
				r := openRun(t, p)
				state := r.Initial()
				seen := map[format.Kind]int{}
				for e, err := range r.Events(0) {
					if err == nil {
						err = state.ApplyEvent(e)
					}
					if err != nil {
						t.Fatal(err)
					}
					switch rec := e.Record.(type) {
					case *format.Clone:
						e.Thread = rec.Child
					case *format.Syscall, *format.Signal, *format.Exec:
					default:
						continue
					}
					th := state.Threads[e.Thread]
					if th == nil {
						continue
					}
					mm := state.MMs[th.MM]
					page, ok := addr.Addr(0), false
					for v := range mm.VMAs.All() {
						if v.Prot&addr.Write != 0 && v.Prot&addr.Shared == 0 {
							page, ok = v.Start, true
							break
						}
					}
					if !ok {
						continue
					}
					seen[e.Record.Kind()]++
					if info, ok := mm.Page(page); !ok || info.AsOf != e.Step {
						t.Fatalf("step %d, %T: page %v is as of step %d (%v)", e.Step, e.Record, page, info.AsOf, ok)
					}
				}
				if seen[format.KindSyscall] < 30 || seen[format.KindClone] == 0 || seen[format.KindExec] == 0 || name == "signals" && seen[format.KindSignal] == 0 {
					t.Errorf("only %v were looked at", seen)
				}
			})
		}
	}
}
