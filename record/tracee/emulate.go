//go:build linux

// This file has the groundwork of the emulation of ptrace(2), which lets tracees trace each
// other as if nobody traced them. nest.go has what is kept for that, tracer.go says who
// traces whom, report.go which of our stops a tracer is told of. requests.go and waits.go
// answer the tracer's calls, sigchld.go sends the signals.

package tracee

import (
	"encoding/binary"

	"golang.org/x/sys/unix"

	"memtrace/format/addr"
	"memtrace/format/arch"
	"memtrace/format/proctext"
	"memtrace/record/ptrace"
	"memtrace/record/tracee/request"
)

// tracedBy are the tracees of a thread.
func (g *Group) tracedBy(by *Thread) (all []*Thread) {
	if by.tracees == 0 {
		return nil
	}
	for _, t := range g.threads {
		if t.traced != nil && t.traced.by == by {
			all = append(all, t)
		}
	}
	return all
}

// callNow is the call at whose entry a thread stands, with what its tracer has changed.
func (g *Group) callNow(t *Thread, u [8]uint64) [8]uint64 {
	var regs ptrace.Regs
	if g.k.GetRegs(t.TID, &regs) == nil {
		args := regs.Args(imageArch(&regs) != t.Proc.Arch || regs[ptrace.RegCS] == user32CS)
		u[0] = uint64(uint32(regs[ptrace.RegOrigRAX]))
		copy(u[1:], args[:])
	}
	return u
}

// skipCall has the call at whose entry a thread stands not be made.
func (g *Group) skipCall(t *Thread) {
	var regs ptrace.Regs
	if g.k.GetRegs(t.TID, &regs) == nil {
		t.skipped = skipped{true, regs[ptrace.RegOrigRAX]}
		regs[ptrace.RegOrigRAX] = ^uint64(0)
		_ = g.k.SetRegs(t.TID, &regs)
	}
}

// unskip gives a thread back the number of the call that it was not to make, at the exit.
func (g *Group) unskip(t *Thread) {
	var regs ptrace.Regs
	if t.skipped.on && g.k.GetRegs(t.TID, &regs) == nil {
		regs[ptrace.RegOrigRAX] = t.skipped.nr
		_ = g.k.SetRegs(t.TID, &regs)
	}
	t.skipped = skipped{}
}

// letTraced lets a stopped thread go on that has a tracer, as that one wants it to. It
// reports false where it goes on as any other.
func (g *Group) letTraced(t *Thread, sig int) (err error, done bool) {
	tr := t.traced
	steps := tr.mode == request.ModeStep || tr.mode == request.ModeSysemuStep
	if steps && t.call == nil && t.rest == nil {
		tr.steps = true
		return g.nest.k.SysemuStep(t.TID, sig), true
	}
	if steps {
		tr.steps = true
	}
	if tr.mode != request.ModeCont || tr.steps {
		return g.k.ContSyscall(t.TID, sig), true
	}
	return nil, false
}

// settle has the call at whose entry a thread stands do nothing, and return ret.
func (g *Group) settle(t *Thread, ret int64) {
	p := &patch{}
	if g.k.GetRegs(t.TID, &p.regs) != nil {
		return
	}
	t.emulated = emulated{on: true, ret: ret, nr: p.regs[ptrace.RegOrigRAX]}
	regs := p.regs
	i386 := t.call.Arch == arch.I386
	args := regs.Args(i386)
	args[1] = 0 // no process has this id
	regs.SetArgs(i386, args[:]...)
	if g.k.SetRegs(t.TID, &regs) == nil {
		t.patch = p
	}
}

// endRequest gives a thread the result of its request, at its exit.
func (g *Group) endRequest(t *Thread, ret int64) int64 {
	e := t.emulated
	t.emulated = emulated{}
	now := e.ret
	if e.then != nil {
		now = e.then(ret)
	}
	var regs ptrace.Regs
	if g.k.GetRegs(t.TID, &regs) == nil {
		regs[ptrace.RegRAX], regs[ptrace.RegOrigRAX] = uint64(now), e.nr
		_ = g.k.SetRegs(t.TID, &regs)
	}
	return now
}

// fill writes data into the memory of a tracer.
func (g *Group) fill(t *Thread, b []byte, at uint64) int64 {
	if len(b) > 0 && !g.k.WriteMem(t.TID, b, addr.Addr(at)) {
		return -int64(unix.EFAULT)
	}
	return 0
}

// poke writes a word into the memory of a tracee, and tells of it.
func (g *Group) poke(target *Thread, at, word uint64) int64 {
	now := binary.LittleEndian.AppendUint64(nil, word)
	old := make([]byte, len(now))
	n := g.k.ReadMem(target.TID, old, addr.Addr(at))
	if _, e := g.nest.k.Pass(request.PokeData, target.TID, at, word, nil); e != 0 {
		return -int64(e)
	}
	if g.opts.Poked != nil && n == len(old) {
		g.opts.Poked(target, addr.Addr(at), old, now)
	}
	return 0
}

// uid is the real user id of a thread, as the initial user namespace has it.
func (g *Group) uid(t *Thread) uint32 {
	text, err := g.k.Status(t.TID)
	if err != nil {
		return 0
	}
	n, _ := proctext.Field(text, "Uid").Number()
	return uint32(n)
}
