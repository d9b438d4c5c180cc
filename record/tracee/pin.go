//go:build linux

// This file keeps threads that live from system call to system call on the CPU
// that the recorder runs on: the two take turns anyway, and a wake-up on the same
// CPU costs a tenth of one across CPUs (docs/performance.md). Threads that compute
// stay free, so that they run in parallel.
//
// The program must not see it. Whatever asks for affinities, or copies them,
// finds them as they were, and so does a program whose recorder was killed
// (guard.go): a thread is set free before it makes a clone, asks for an affinity,
// or opens /proc/PID/status.

package tracee

import (
	"bytes"
	"time"

	"golang.org/x/sys/unix"

	"memtrace/record/ptrace"
)

// Between two calls a thread that lives from call to call runs its own code for
// less than this; the figures include a wake-up, across CPUs for a free thread.
const (
	pinBelow   = 150 * time.Microsecond
	unpinAbove = 500 * time.Microsecond
	// A pinned thread that has not been heard of for this long may be computing.
	pinSilence = 3 * time.Millisecond
	// The guard is started when it would have been asked for so often: a program that
	// is too short to gain by it does not pay for the start of another process.
	guardAfter = 200
)

// Pinned reports whether threads are kept on the recorder's CPU: then they have no
// CPU of their own beside it.
func (g *Group) Pinned() bool { return g.pins.count > 0 }

// paced notes how long t has run on its own before a call, and pins or frees it.
func (g *Group) paced(t *Thread, now uint64) {
	p := &t.pace
	if p.resumed == 0 {
		return
	}
	gap := now - p.resumed
	if p.gap == 0 {
		p.gap = uint64(pinBelow)
	}
	p.gap += gap/8 - p.gap/8
	switch {
	case t.pin.on && p.gap > uint64(unpinAbove) && len(g.threads) > 1:
		g.unpin(t)
	case !t.pin.on && p.gap < uint64(pinBelow):
		g.pinThread(t)
	}
}

// guarded reports whether the pinned would be freed if the recorder were killed. A
// program with a filter dies with it.
func (g *Group) guarded() bool {
	switch gd := &g.pins.guard; {
	case g.filter != nil:
		return true
	case gd.started:
		return gd.ready.Load()
	case g.pins.asked < guardAfter:
		g.pins.asked++
		return false
	}
	g.startGuard()
	return false // it is not ready yet
}

// startGuard starts the guard, once.
func (g *Group) startGuard() {
	if g.filter != nil || g.opts.NoPin || g.opts.NoGuard || g.pins.guard.started {
		return
	}
	var cpus unix.CPUSet
	if !hasMain || g.k.Affinity(0, &cpus) != nil || cpus.Count() < 2 || g.pins.guard.start() != nil {
		g.pins.off = true
	}
}

func (g *Group) pinThread(t *Thread) {
	p := &g.pins
	if p.off || g.opts.NoPin || t.pin.on || t.over() || !g.guarded() {
		return
	}
	if !p.chosen {
		p.cpu = ptrace.CurrentCPU()
		p.chosen = p.cpu >= 0
	}
	if g.k.Affinity(t.TID, &t.pin.affinity) != nil || t.pin.affinity.Count() < 2 || !t.pin.affinity.IsSet(p.cpu) {
		return
	}
	var one unix.CPUSet
	one.Set(p.cpu)
	if g.filter == nil {
		var err error
		if t.pin.row, err = p.guard.pin(t.TID, p.cpu, &t.pin.affinity); err != nil {
			p.off = true
			return
		}
	}
	t.pin.on = true
	if p.count++; p.count == 1 && g.k.Affinity(0, &p.own) == nil {
		_ = g.k.SetAffinity(0, &one)
	}
	if g.k.SetAffinity(t.TID, &one) != nil {
		g.forgetPin(t)
		return
	}
	g.lookAfterPinned()
}

// unpin gives the thread its affinity back.
func (g *Group) unpin(t *Thread) {
	if t.pin.on {
		_ = g.k.SetAffinity(t.TID, &t.pin.affinity)
		g.forgetPin(t)
	}
}

func (g *Group) forgetPin(t *Thread) {
	if !t.pin.on {
		return
	}
	t.pin.on = false
	if g.filter == nil {
		g.pins.guard.unpin(t.pin.row)
	}
	if g.pins.count--; g.pins.count == 0 {
		_ = g.k.SetAffinity(0, &g.pins.own)
		g.pins.chosen = false // wherever the kernel moves us until the next time
	}
}

func (g *Group) unpinAll() {
	for _, t := range g.threads {
		g.unpin(t)
	}
}

// lookAfterPinned frees, from time to time, pinned threads that have not stopped
// for a while, if there are others that they may be in the way of.
func (g *Group) lookAfterPinned() {
	if g.pins.timed || g.pins.count == 0 || len(g.threads) < 2 {
		return
	}
	g.pins.timed = true
	g.After(pinSilence, func() {
		g.pins.timed = false
		if len(g.threads) > 1 {
			g.FreeSilent()
		}
		g.lookAfterPinned()
	})
}

// FreeSilent frees the pinned threads that have not stopped for a while.
func (g *Group) FreeSilent() {
	now := g.Now()
	for _, t := range g.threads {
		if t.pin.on && t.on() && now-t.pace.resumed > uint64(pinSilence) {
			g.unpin(t)
			if t.state == Running {
				t.pace.gap = uint64(4 * unpinAbove)
			}
		}
	}
}

// hidePin frees all threads for good if a call is about to open a file that may
// show affinities: /proc/PID/status, by whatever path.
func (g *Group) hidePin(c *Call) {
	if g.pins.count == 0 || !takesFile(c.Arch, c.Nr) {
		return
	}
	for i := range c.Bufs {
		if bytes.HasSuffix(c.Bufs[i].Data, []byte("status")) {
			g.pins.off = true
			g.unpinAll()
			return
		}
	}
}

// Unpin gives a thread its own CPUs back.
func (g *Group) Unpin(t *Thread) { g.unpin(t) }
