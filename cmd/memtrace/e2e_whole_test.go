//go:build linux

package main

import (
	"strings"
	"testing"
	"time"
)

// TestWhole: calls that wait until all of their bytes are moved do not come back with a
// part because the program is recorded, nor because of signals that do nothing.
func TestWhole(t *testing.T) {
	require(t, "ptrace", tracing())
	for _, build := range []string{"x86_64", "i386"} {
		for i, flags := range []string{"-e memory --snapshot interval=5ms", "--snapshot interval=5ms", "", "-e memory", "-e write,sendto,socketcall --snapshot interval=2ms"} {
			t.Run(build+" "+flags, func(t *testing.T) {
				if i > 0 {
					long(t)
				}
				p := newPlace(t)
				p.compare(t, patience, append([]string{"-q"}, strings.Fields(flags)...), nil, compile(t, "whole", build))
				tell(t, 0, "verify", p.log())
			})
		}
	}
}

// TestWholeAttached is the same of a program that is attached to while it waits.
func TestWholeAttached(t *testing.T) {
	t.Parallel()
	require(t, "ptrace", tracing())
	prog := compile(t, "whole", "x86_64")
	for i := range 10 {
		if i == 1 {
			long(t)
		}
		p := newPlace(t)
		r := p.start(t, prog)
		time.Sleep(time.Duration(i*17) * time.Millisecond)
		p.attach(t, r, p.log())
		if out := r.wait(t); out != "all of it\n" || !r.cmd.ProcessState.Success() {
			t.Errorf("%v, it wrote %q", r.cmd.ProcessState, out)
		}
	}
}
