//go:build linux

package record

import (
	"slices"
	"strings"
	"testing"
	"time"

	"memtrace/format"
	"memtrace/format/arch"
	"memtrace/record/inside"
)

func TestDescribe(t *testing.T) {
	o := DefaultOptions()
	var h format.Header
	o.Describe(&h, "all")
	want := []string{
		"trace=all", "follow=true", "snapshot=exec,exit,signal,interval=1s", "spare=true", "track=true", "page-trace=none", "data-limit=4096", "string-limit=32",
		"stacks=none", "stack-depth=256", "meminfo=auto", "referenced=off", "pin=true", "in-process=off", "check=false", "max-size=none", "max-time=none", "max-events=none",
	}
	if !slices.Equal(h.Options, want) {
		t.Errorf("%q", h.Options)
	}
	var other format.Header
	o = Options{
		InProcess: inside.Always,
		Snapshot:  Policy{}, NoPin: true, NoTrack: true, Check: true, MemInfo: true, MemInfoInterval: 250 * time.Millisecond, Referenced: true, ReferencedInterval: 8 * time.Second,
		MaxBytes: 64 << 20, MaxTime: 90 * time.Second, MaxEvents: 7,
	}
	o.Describe(&other, " %file, !open,"+strings.Repeat("x", 5000))
	want = []string{
		"trace=%file,!open," + strings.Repeat("x", maxTrace-12) + "...", "follow=false", "snapshot=none", "spare=false", "track=false", "page-trace=none", "data-limit=0",
		"string-limit=0", "stacks=none", "stack-depth=0", "meminfo=250ms", "referenced=8s", "pin=false", "in-process=always", "check=true", "max-size=67108864", "max-time=1m30s", "max-events=7",
	}
	if !slices.Equal(other.Options, want) {
		t.Errorf("%q", other.Options)
	}
	for set, want := range map[string]string{"memory": "memory", "all": "all", "brk": "brk", "memory,open": "open,"} {
		o, h := DefaultOptions(), format.Header{}
		var err error
		if o.Stacks, err = arch.ParseSet(set); err != nil {
			t.Fatal(err)
		}
		o.Describe(&h, "all")
		if i := slices.IndexFunc(h.Options, func(s string) bool { return strings.HasPrefix(s, "stacks="+want) }); i < 0 {
			t.Errorf("-k=%s: %q", set, h.Options)
		}
	}
	if other.XSave != 0 {
		t.Errorf("a log without snapshots keeps extended states of %d bytes", other.XSave)
	}
}

// What a policy is called makes the same policy.
func TestPolicyString(t *testing.T) {
	for _, list := range []string{
		"none", "exec", "exit", "signal,step", "every=1000", "interval=1.5s", "exec,exit,signal,every=3,interval=20ms,step,syscall=mmap,syscall=brk",
		"syscall=memory", "syscall=%file", "syscall=mmap@32", "syscall=mmap@64,syscall=open", "syscall=all", "default",
	} {
		p, err := ParsePolicy(list)
		if err != nil {
			t.Fatal(err)
		}
		again, err := ParsePolicy(p.String())
		again.Spare = p.Spare
		if err != nil || again != p {
			t.Errorf("%s is called %s, which is another (%v)", list, p, err)
		}
	}
}
