//go:build linux

// This file reads the registers of threads, also of those that are inside a call
// and cannot be asked then.

package tracee

import (
	"time"

	"memtrace/format"
	"memtrace/format/arch"
	"memtrace/record/ptrace"
)

// siteOf is where in the program a thread is that has made a call and is at ip.
func (g *Group) siteOf(t *Thread, ip uint64) uint64 {
	if g.opts.Inside == nil {
		return ip
	}
	return g.opts.Inside.Site(t, ip)
}

// noteRegisters reads the registers at the beginning of a call in which the thread
// may still be when others have the memory read: it cannot be asked then. That
// costs a tenth of a call, so it is not done of those that come back at once.
func (g *Group) noteRegisters(t *Thread) {
	e := &t.entry
	e.read, e.told = false, false
	keep := g.opts.Keep
	if keep == KeepNever || keep == KeepShared && len(t.Space.Threads) == 1 || !mayBlock(t.call.Arch, t.call.Nr) {
		return
	}
	if q := &t.quick[t.call.Nr%32]; q.n > max(q.enough, quickEnough) {
		return
	}
	if e.regs == nil {
		e.regs = new(ptrace.Regs)
	}
	e.read = g.k.GetRegs(t.TID, e.regs) == nil
	e.regs[ptrace.RegRIP] = g.siteOf(t, e.regs[ptrace.RegRIP])
}

// A call is quick if it takes less than quickCall; that many of a kind have to
// be, and four times as many after each that was not.
const (
	quickCall   = 1_000_000 // ns
	quickEnough = 8
	quickMost   = 4096
	quickAll    = 10 * time.Millisecond // for all threads that a reader waits for
)

// learn notes whether calls of this kind come back at once.
func (t *Thread) learn(now uint64) {
	if !mayBlock(t.call.Arch, t.call.Nr) {
		return
	}
	q := &t.quick[t.call.Nr%32]
	if now-t.call.Enter < quickCall {
		q.n = min(q.n+1, quickMost+1)
		return
	}
	if q.n > quickEnough {
		q.enough = min(max(q.enough, quickEnough)*4, quickMost)
	}
	q.n = 0
}

// Registers are the registers of a thread that stands still, in the order of
// arch.ID.Registers; nil where they cannot be read.
func (g *Group) Registers(t *Thread) []uint64 {
	var regs ptrace.Regs
	if !t.Stands() || g.k.GetRegs(t.TID, &regs) != nil {
		return nil
	}
	return valuesOf(t.Proc.Arch, &regs)
}

// ReadRegisters reads the registers of a thread that stands still into values, in the order of
// arch.ID.Registers of the code that it runs: a part of values, nil where they cannot be read.
// At the beginning of a call they may have been read already.
func (g *Group) ReadRegisters(t *Thread, values *[MaxRegisters]uint64) (arch.ID, []uint64) {
	regs := (*ptrace.Regs)(values)
	if t.call != nil && t.entry.read {
		*regs = *t.entry.regs
	} else if !t.Stands() || g.k.GetRegs(t.TID, regs) != nil {
		return 0, nil
	}
	regs[ptrace.RegRIP] = g.siteOf(t, regs[ptrace.RegRIP])
	id := imageArch(regs)
	if id != arch.I386 {
		return id, values[:]
	}
	all := *regs
	rows := id.Registers()
	for i := range rows {
		values[i] = uint64(uint32(all[rows[i].User]))
	}
	return id, values[:len(rows)]
}

// TakeRegisters is Registers, also of a thread inside a call: those with which it
// entered, once, or once more if they are asked for again.
func (g *Group) TakeRegisters(t *Thread, again bool) []uint64 {
	if t.over() && len(t.Space.Threads) > 1 {
		return nil
	}
	if e := &t.entry; t.state == InCall && e.read && (again || !e.told) {
		e.told = true
		regs := *e.regs
		return valuesOf(t.Proc.Arch, &regs)
	}
	return g.Registers(t)
}

// XState reads the floating-point and vector registers of a thread that stands
// still, as XSAVE lays them out. They are valid until the next call.
func (g *Group) XState(t *Thread) (x []byte, ok bool) {
	if !t.Stands() {
		return nil, false
	}
	if g.xstate == nil {
		g.xstate = make([]byte, format.MaxXState)
	}
	n, err := g.k.GetRegSet(t.TID, ptrace.NTX86XState, g.xstate)
	return g.xstate[:n], err == nil
}

// RSeq is where a thread that stands still has its area for restartable sequences:
// the kernel writes to it when the thread goes on. 0 is nowhere.
func (g *Group) RSeq(t *Thread) uint64 {
	at, err := g.k.RSeq(t.TID)
	if err != nil {
		return 0
	}
	return at
}

// setArch notes what a process runs, by one of its threads that stands.
func (g *Group) setArch(t *Thread) {
	var regs ptrace.Regs
	t.Proc.Arch = arch.X86_64
	if t.Stands() && g.k.GetRegs(t.TID, &regs) == nil {
		t.Proc.Arch = imageArch(&regs)
	}
}
