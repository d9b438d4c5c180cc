//go:build linux

// This file keeps tracees that have ended from their real parents until the tracers that
// they had among our tracees have waited for them. The kernel tells a parent of the end only
// after the tracer has been told (kernel/exit.c, wait_task_zombie).

package tracee

import (
	"strings"
	"time"

	"memtrace/format/proctext"
)

// endsEvery is how often the tracees are asked for ends while some are kept: these are in the
// way of any wait that is for all.
const endsEvery = 3 * time.Millisecond

// keepZombies has the kernel ask which ended tracees are to be left alone.
func (g *Group) keepZombies() {
	keeping, ok := g.k.(keepingKernel)
	if !ok {
		return
	}
	z := &g.nest.zombies
	z.kept = map[int]struct{}{}
	z.keeps = func(pid int) bool {
		t := g.threads[pid]
		return t != nil && t.traced != nil && t.traced.foreign
	}
	z.all = func() (tids []int) {
		for tid := range g.threads {
			tids = append(tids, tid)
		}
		return tids
	}
	keeping.Keep(z)
}

// isForeign reports whether a tracer of a process is not in its parent, as far as we know.
func isForeign(t, by *Thread) bool {
	p := t.Proc
	return t.TID == p.PID && (p.maker == nil || p.maker.Proc != by.Proc)
}

// letParentKnow reaps a tracee that was kept, so that its parent is told.
func (g *Group) letParentKnow(pid int) {
	z := &g.nest.zombies
	if _, kept := z.kept[pid]; kept {
		delete(z.kept, pid)
		g.k.(keepingKernel).ReapOne(pid)
	}
}

// isZombie reports whether a process is a tracee of a thread's that has ended, and for which
// nobody has waited.
func (g *Group) isZombie(by *Thread, pid int) bool {
	for _, d := range g.nest.dead {
		if d.by == by && d.tid == pid {
			return true
		}
	}
	if g.nest.ended[pid] != by {
		return false
	}
	text, err := g.k.Status(pid)
	if err != nil || !strings.HasPrefix(proctext.Field(text, "State").String(), "Z") {
		return false // its id may be another's by now
	}
	parent, _ := proctext.Field(text, "PPid").Number()
	return int(parent) == by.Proc.PID
}
