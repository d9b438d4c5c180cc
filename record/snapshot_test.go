//go:build linux

package record

import (
	"errors"
	"testing"
	"time"

	"memtrace/format/arch"
)

func TestParsePolicy(t *testing.T) {
	for s, want := range map[string]Policy{
		"default":                 DefaultPolicy(),
		"none":                    {},
		"exec":                    {Exec: true},
		"exec, exit ,signal":      {Exec: true, Exit: true, Signal: true},
		"step":                    {Step: true},
		"every=7":                 {Every: 7},
		"interval=100ms":          {Interval: 100 * time.Millisecond},
		"exec,none,every=2":       {Every: 2},
		"default,interval=2s":     {Exec: true, Exit: true, Signal: true, Interval: 2 * time.Second, Spare: true},
		"exit,default":            {Exec: true, Exit: true, Signal: true, Interval: time.Second},
		"default,exit":            {Exec: true, Exit: true, Signal: true, Interval: time.Second},
		"interval=1s,interval=3s": {Interval: 3 * time.Second},
	} {
		if got, err := ParsePolicy(s); err != nil || got != want {
			t.Errorf("%q: %+v, %v", s, got, err)
		}
	}
	p, err := ParsePolicy("syscall=write,syscall=read")
	write, _ := arch.X86_64.Number("write")
	read, _ := arch.I386.Number("read")
	if err != nil || !p.Syscalls.Has(arch.X86_64, write) || !p.Syscalls.Has(arch.I386, read) || p.Syscalls.Has(arch.X86_64, 200) {
		t.Errorf("two calls: %v", err)
	}
	for _, s := range []string{"", "often", "every", "every=0", "every=-1", "every=x", "interval", "interval=0", "interval=1us", "interval=5", "syscall=nonesuch", "syscall", "exec,,exit"} {
		if p, err := ParsePolicy(s); !errors.Is(err, ErrPolicy) {
			t.Errorf("%q: %+v, %v", s, p, err)
		}
	}
}

func TestLineDiff(t *testing.T) {
	for _, c := range []struct{ log, kernel, want string }{
		{"", "", ""},
		{"a\nb\n", "a\nb\n", ""},
		{"a\n", "a\nb\n", "+b\n"},
		{"a\nb\n", "b\n", "-a\n"},
		{"a\nb\nc\n", "a\nx\nc\n", "+x\n-b\n"},
		{"a\n", "a\na\n", "+a\n"},
		{"a\na\na\n", "a\n", "-a\n-a\n"},
		{"b\na\n", "a\nb\n", ""}, // the order tells nothing: maps is sorted
	} {
		if got := lineDiff(c.log, c.kernel); got != c.want {
			t.Errorf("lineDiff(%q, %q) = %q, want %q", c.log, c.kernel, got, c.want)
		}
	}
}

func TestRetry(t *testing.T) {
	var k tracking
	n := 0
	for k.retry() {
		n++
	}
	if n != 8 || !k.failed {
		t.Errorf("%d tries, failed %v", n, k.failed)
	}
}
