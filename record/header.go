//go:build linux

// This file says in the header of a log how it is recorded.

package record

import (
	"cmp"
	"fmt"
	"strings"
	"time"

	"memtrace/format"
	"memtrace/format/arch"
)

// Describe fills in what the header of a log says of a recording with these
// options. A Set does not keep the text that it was read from: trace is what was
// asked for.
func (o *Options) Describe(h *format.Header, trace string) {
	h.Options = o.lines(trace)
	h.Stacks = o.StackDepth > 0
	if o.Snapshot.any() {
		h.XSave = xstateSize()
	}
}

// maxTrace is how much of the text of a set the header of a log keeps.
const maxTrace = 1024

// lines are the options as "key=value", all of them and in this order. None holds
// a space. docs/cli.md lists them.
func (o *Options) lines(trace string) []string {
	trace = strings.Join(strings.Fields(trace), "")
	if len(trace) > maxTrace {
		trace = trace[:maxTrace] + "..."
	}
	meminfo := "off"
	if o.MemInfo {
		meminfo = orNot(o.MemInfoInterval, "auto")
	}
	referenced := "off"
	if o.Referenced {
		referenced = orNot(o.ReferencedInterval, "auto")
	}
	var out []string
	for _, l := range []struct {
		key   string
		value any
	}{
		{"trace", trace},
		{"follow", o.Follow},
		{"snapshot", o.Snapshot},
		{"spare", o.Snapshot.Spare},
		{"track", !o.NoTrack},
		{"page-trace", o.PageTrace},
		{"data-limit", o.DataLimit},
		{"string-limit", o.StringLimit},
		{"stacks", cmp.Or(strings.Join(callNames(&o.Stacks), ","), "none")},
		{"stack-depth", o.StackDepth},
		{"meminfo", meminfo},
		{"referenced", referenced},
		{"pin", !o.NoPin},
		{"in-process", o.InProcess},
		{"check", o.Check},
		{"max-size", orNot(o.MaxBytes, "none")},
		{"max-time", orNot(o.MaxTime, "none")},
		{"max-events", orNot(o.MaxEvents, "none")},
	} {
		out = append(out, fmt.Sprintf("%s=%v", l.key, l.value))
	}
	return out
}

// orNot is v, or what stands for 0.
func orNot[T int64 | uint64 | time.Duration](v T, not string) string {
	if v == 0 {
		return not
	}
	return fmt.Sprint(v)
}

// String is the policy as ParsePolicy reads it, but for Spare.
func (p Policy) String() string {
	var words []string
	add := func(on bool, word string) {
		if on {
			words = append(words, word)
		}
	}
	add(p.Exec, "exec")
	add(p.Exit, "exit")
	add(p.Signal, "signal")
	add(p.Step, "step")
	add(p.Every > 0, fmt.Sprintf("every=%d", p.Every))
	add(p.Interval > 0, fmt.Sprintf("interval=%v", p.Interval))
	for _, name := range callNames(&p.Syscalls) {
		add(true, "syscall="+name)
	}
	add(p.Keep, format.ReasonKeep)
	add(len(words) == 0, "none")
	return strings.Join(words, ",")
}

// callNames are elements of which ParseSet makes the set: names, of one ABI where
// another's call of that name is not in the set, and numbers where the name is that
// of a class too. The calls that change address spaces are "memory" where they are all.
func callNames(s *arch.Set) (names []string) {
	if s.All() {
		return []string{"all"}
	}
	if memory, err := arch.ParseSet("memory"); err == nil && memory == *s {
		return []string{"memory"}
	}
	var named arch.Set
	for id := arch.X86_64; id <= arch.AArch64; id++ {
		abi := "@64"
		if id == arch.I386 {
			abi = "@32"
		}
		for nr, c := range id.Syscalls() {
			if !s.Has(id, nr) || named.Has(id, nr) {
				continue
			}
			for _, word := range []string{c.Name, c.Name + abi, fmt.Sprintf("%d%s", nr, abi)} {
				one, err := arch.ParseSet(word)
				if err == nil && one.Has(id, nr) && s.Union(one) == *s {
					names, named = append(names, word), named.Union(one)
					break
				}
			}
		}
	}
	return names
}
