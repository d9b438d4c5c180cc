//go:build linux

package record

import (
	"errors"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"memtrace/format"
	"memtrace/format/arch"
	"memtrace/record/tracee"
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
	for _, s := range []string{
		"", "often", "every", "every=0", "every=-1", "every=x", "interval", "interval=0", "interval=1us", "interval=5",
		"syscall=nonesuch", "syscall", "exec,,exit",
	} {
		if p, err := ParsePolicy(s); !errors.Is(err, ErrPolicy) || !strings.Contains(err.Error(), `"`) {
			t.Errorf("%q: %+v, %v", s, p, err)
		}
	}
}

// policy is ParsePolicy for those that are right.
func policy(t *testing.T, s string) Policy {
	t.Helper()
	p, err := ParsePolicy(s)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// TestPolicyUses: which policies have memory saved at all, and which registers are kept
// for them.
func TestPolicyUses(t *testing.T) {
	for s, want := range map[string]struct {
		any, atEvents bool
		keep          tracee.KeepRegisters
	}{
		"none":                {false, false, tracee.KeepNever},
		"exec":                {true, false, tracee.KeepNever},
		"exit":                {true, false, tracee.KeepNever},
		"signal":              {true, false, tracee.KeepNever},
		"step":                {true, true, tracee.KeepShared},
		"every=3":             {true, true, tracee.KeepShared},
		"syscall=read":        {true, true, tracee.KeepShared},
		"interval=1s":         {true, false, tracee.KeepAlways},
		"interval=1s,every=3": {true, true, tracee.KeepAlways},
		"default":             {true, false, tracee.KeepAlways},
		"default,none":        {false, false, tracee.KeepNever},
		"exec,step,none,exit": {true, false, tracee.KeepNever},
	} {
		p := policy(t, s)
		if p.any() != want.any || p.atEvents() != want.atEvents || p.keep() != want.keep {
			t.Errorf("%s: any %v, atEvents %v, keep %d", s, p.any(), p.atEvents(), p.keep())
		}
	}
}

// TestTriggers: which reason an event has for saving memory.
func TestTriggers(t *testing.T) {
	write, _ := arch.X86_64.Number("write")
	read, _ := arch.X86_64.Number("read")
	for _, c := range []struct {
		policy string
		nr     uint32
		call   Reason // of the third event, a call
		event  Reason // of any event that is no call
	}{
		{"none", write, ReasonNone, ReasonNone},
		{"default", write, ReasonNone, ReasonNone},
		{"step", write, ReasonStep, ReasonStep},
		{"syscall=write", write, ReasonSyscall, ReasonNone},
		{"syscall=write", read, ReasonNone, ReasonNone},
		{"every=4", write, ReasonNone, ReasonNone},
		{"every=3", write, ReasonEvery, ReasonNone},
		{"every=3,syscall=write", write, ReasonSyscall, ReasonNone},
		{"every=3,syscall=write", read, ReasonEvery, ReasonNone},
		{"every=3,syscall=write,step", write, ReasonStep, ReasonStep},
	} {
		p := policy(t, c.policy)
		w := triggers{policy: &p}
		if got := w.call(arch.X86_64, c.nr, 3); got != c.call {
			t.Errorf("%s: a call has reason %q", c.policy, got)
		}
		if got := w.event(); got != c.event {
			t.Errorf("%s: an event has reason %q", c.policy, got)
		}
		if got := w.own(true, ReasonSignal); got != ReasonSignal {
			t.Errorf("%s: a fatal signal has reason %q", c.policy, got)
		}
		if got := w.own(false, ReasonSignal); got != c.event {
			t.Errorf("%s: another signal has reason %q", c.policy, got)
		}
	}
}

// TestEvery: one snapshot in so many events, counted from the last one.
func TestEvery(t *testing.T) {
	p := policy(t, "every=5")
	w := triggers{policy: &p}
	var at []int
	for next := range 30 {
		if next%7 == 3 {
			continue // an event that is no call
		}
		if w.call(arch.X86_64, 0, format.Step(next)) == ReasonEvery {
			at = append(at, next)
		}
	}
	if !slices.Equal(at, []int{5, 11, 16, 21, 26}) {
		t.Errorf("snapshots at %v", at)
	}
}

// TestReasons: a reason is called what the policy is that asks for it, and what the
// documents say.
func TestReasons(t *testing.T) {
	cli, err := os.ReadFile("../docs/cli.md")
	if err != nil {
		t.Fatal(err)
	}
	row := regexp.MustCompile("(?m)^\\| `--snapshot LIST`.*$").Find(cli)
	documented := map[string]bool{}
	for _, w := range regexp.MustCompile("`([a-z]+)(=[A-Z]+)?`").FindAllSubmatch(row, -1) {
		documented[string(w[1])] = true
	}
	seen := map[string]bool{}
	for r := ReasonExec; int(r) < len(reasonNames); r++ {
		name := r.String()
		if name == "" || seen[name] {
			t.Errorf("reason %d is called %q", r, name)
		}
		seen[name] = true
		if r == ReasonAttach || r == ReasonSweep || r == ReasonKeep { // nobody asks for them
			continue
		}
		if !documented[name] {
			t.Errorf("docs/cli.md has no policy %q", name)
		}
		value := map[Reason]string{ReasonEvery: "=5", ReasonInterval: "=1s", ReasonSyscall: "=read"}[r]
		if p, err := ParsePolicy(name + value); err != nil || !p.any() {
			t.Errorf("%s: %v", name, err)
		}
		delete(documented, name)
	}
	delete(documented, "none")
	delete(documented, "default")
	delete(documented, "lost") // the events in which one is told
	delete(documented, "snapshot")
	if len(documented) > 0 {
		t.Errorf("docs/cli.md has policies for which there is no reason: %v", documented)
	}
	md, err := os.ReadFile("../docs/format.md")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(md), "reason (`"+ReasonSweep.String()+"`: the threads were not held)") {
		t.Errorf("docs/format.md does not say what reason %q is", ReasonSweep)
	}
	if ReasonNone.String() != "" {
		t.Errorf("no reason is called %q", ReasonNone)
	}
}

// TestExitLimit: ends of processes may take a share of the time, more at the beginning,
// and each a little at least.
func TestExitLimit(t *testing.T) {
	for _, c := range []struct{ now, spent, want time.Duration }{
		{0, 0, exitGrace},
		{0, exitGrace, exitLeast},
		{0, exitGrace - exitLeast/2, exitLeast},
		{64 * time.Second, 0, time.Second + exitGrace},
		{64 * time.Second, time.Second, exitGrace},
		{64 * time.Second, 2 * time.Second, exitLeast},
		{640 * time.Millisecond, 15 * time.Millisecond, 7 * time.Millisecond},
	} {
		w := triggers{exitSpent: c.spent}
		if got := w.exitLimit(c.now); got != c.want {
			t.Errorf("after %v, of which %v was spent: %v, not %v", c.now, c.spent, got, c.want)
		}
	}
}

// TestHoldLimit: a hold may take a share of the interval, and the time that the expected
// pages take to be copied twice, but no more than holdMost, or in the beginning than a
// share of the time so far.
func TestHoldLimit(t *testing.T) {
	for _, c := range []struct {
		now, interval time.Duration
		pages         uint64
		want          time.Duration
	}{
		{time.Minute, 100 * time.Millisecond, 0, 5 * time.Millisecond},
		{time.Minute, 100 * time.Millisecond, 1000, 8 * time.Millisecond},
		{time.Minute, time.Second, 0, 50 * time.Millisecond},
		{time.Minute, time.Second, 1, 50 * time.Millisecond},
		{time.Minute, 10 * time.Second, 0, 50 * time.Millisecond},
		{time.Minute, time.Millisecond, 1e6, 50 * time.Millisecond},
		{80 * time.Millisecond, time.Second, 0, 4 * time.Millisecond},
		{80 * time.Millisecond, time.Second, 1e6, 10 * time.Millisecond},
		{firstInterval, 10 * time.Millisecond, 0, 500 * time.Microsecond},
	} {
		p := Policy{Interval: c.interval}
		if got := p.holdLimit(uint64(c.now), c.pages); got != c.want {
			t.Errorf("at %v, interval %v, %d pages: %v, not %v", c.now, c.interval, c.pages, got, c.want)
		}
	}
}

// TestRecorded: what tells of address spaces, descriptors and threads is recorded
// always, the rest if it is asked for.
func TestRecorded(t *testing.T) {
	one, err := arch.ParseSet("getpid")
	if err != nil {
		t.Fatal(err)
	}
	o := Options{Trace: one}
	set, none := o.recorded(), (&Options{}).recorded()
	for _, name := range []string{
		"mmap", "munmap", "mremap", "brk", "mprotect", "madvise", "shmat", "execve", "exit_group", "open", "dup2", "close", "rename", "unlink",
		"fork", "vfork", "clone", "clone3", "unshare", "setns", "userfaultfd", "prctl",
	} {
		for _, id := range []arch.ID{arch.X86_64, arch.I386} {
			if nr, ok := id.Number(name); ok && (!set.Has(id, nr) || !none.Has(id, nr)) {
				t.Errorf("%s of %v is not recorded", name, id)
			}
		}
	}
	for _, name := range []string{"write", "getppid", "futex", "nanosleep"} {
		if nr, ok := arch.X86_64.Number(name); !ok || set.Has(arch.X86_64, nr) {
			t.Errorf("%s is recorded", name)
		}
	}
	if nr, _ := arch.X86_64.Number("getpid"); !set.Has(arch.X86_64, nr) || none.Has(arch.X86_64, nr) {
		t.Error("getpid is recorded where it was not asked for, or not where it was")
	}
	if nr, _ := arch.X86_64.Number("mmap"); o.Trace.Has(arch.X86_64, nr) {
		t.Error("what was asked for has changed")
	}
}

// TestFiltered: a program has a filter only where it cannot outlive the recording, and
// not all of its calls are recorded.
func TestFiltered(t *testing.T) {
	few, err := arch.ParseSet("getpid")
	if err != nil {
		t.Fatal(err)
	}
	plain := Options{Trace: few, Follow: true}
	if !plain.filtered() {
		t.Error("no filter")
	}
	for name, change := range map[string]func(*Options){
		"all calls":  func(o *Options) { o.Trace = arch.AllCalls() },
		"no follow":  func(o *Options) { o.Follow = false },
		"pause":      func(o *Options) { o.Pause = func(*Pause) {} },
		"max bytes":  func(o *Options) { o.MaxBytes = 1 },
		"max time":   func(o *Options) { o.MaxTime = 1 },
		"max events": func(o *Options) { o.MaxEvents = 1 },
	} {
		o := plain
		if change(&o); o.filtered() {
			t.Errorf("%s: a filter", name)
		}
	}
	if o := DefaultOptions(); o.filtered() || !o.Snapshot.Spare || !o.Follow || !o.MemInfo {
		t.Errorf("by default: %+v", o)
	}
}
