//go:build linux

// This file answers the requests of ptrace(2) whose data is another for a tracer of i386.

package tracee

import (
	"encoding/binary"

	"golang.org/x/sys/unix"

	"memtrace/format/addr"
	"memtrace/record/ptrace"
	"memtrace/record/tracee/request"
	"memtrace/record/tracee/siginfo"
)

// request32 does what a tracer of i386 wants with a tracee, where its data differs from that
// of x86_64 (arch/x86/kernel/ptrace.c, ia32_arch_ptrace, and kernel/ptrace.c,
// compat_ptrace_request).
func (g *Group) request32(t, target *Thread, req, at, data uint64) (ret int64, done bool) {
	switch req {
	case request.PeekText, request.PeekData, request.PokeText, request.PokeData:
		return g.word32(t, target, req, at, data), true
	case request.PeekUser, request.PokeUser:
		return g.user32(t, target, req, at, data), true
	case request.GetRegs, request.SetRegs:
		return g.allRegs32(t, target, req, data), true
	case request.GetFPRegs, request.SetFPRegs, request.GetFPXRegs, request.SetFPXRegs:
		return g.fpRegs32(t, target, req, data), true
	case request.GetEventMsg:
		return g.fill(t, binary.LittleEndian.AppendUint32(nil, uint32(target.traced.report.msg)), data), true
	case request.GetSigInfo:
		r := target.traced.report
		if r.noInfo {
			return -int64(unix.EINVAL), true
		}
		b := siginfo.To32(&r.info)
		return g.fill(t, b[:], data), true
	}
	return 0, false
}

// word32 reads or writes 4 bytes of a tracee's memory, as a part of 8 that the
// kernel reads and writes at once.
func (g *Group) word32(t, target *Thread, req, at, data uint64) int64 {
	var b [8]byte
	off := at % 8 // a word at a multiple of 8 is in one page
	if off > 4 {
		off = 0
	}
	if _, e := g.nest.k.Pass(request.PeekData, target.TID, at-off, 0, b[:]); e != 0 {
		return -int64(e)
	}
	if req == request.PeekText || req == request.PeekData {
		return g.fill(t, b[off:off+4], data)
	}
	binary.LittleEndian.PutUint32(b[off:], uint32(data))
	return g.poke(target, at-off, binary.LittleEndian.Uint64(b[:]))
}

// fpRegs32 reads or writes struct user_fpregs_struct, or struct user_fpxregs_struct: that is the
// former of x86_64.
func (g *Group) fpRegs32(t, target *Thread, req, data uint64) int64 {
	var regs ptrace.Regs
	var all [request.FPRegsSize]byte
	if g.k.GetRegs(target.TID, &regs) != nil {
		return -int64(unix.ESRCH)
	}
	if _, e := g.nest.k.Pass(request.GetFPRegs, target.TID, 0, 0, all[:]); e != 0 {
		return -int64(e)
	}
	b := request.FPRegs32(&all, &regs)
	few := b[:]
	if req == request.GetFPXRegs || req == request.SetFPXRegs {
		few = all[:]
	}
	if req == request.GetFPRegs || req == request.GetFPXRegs {
		return g.fill(t, few, data)
	}
	if g.ReadMem(t, few, addr.Addr(data)) != len(few) {
		return -int64(unix.EFAULT)
	}
	if req == request.SetFPRegs {
		request.SetFPRegs32(&all, &b)
	}
	_, e := g.nest.k.Pass(request.SetFPRegs, target.TID, 0, 0, all[:])
	return -int64(e)
}

// allRegs32 reads or writes struct user_regs_struct.
func (g *Group) allRegs32(t, target *Thread, req, data uint64) int64 {
	var regs ptrace.Regs
	if g.k.GetRegs(target.TID, &regs) != nil {
		return -int64(unix.ESRCH)
	}
	var b []byte
	for _, at := range request.Regs32 {
		b = binary.LittleEndian.AppendUint32(b, uint32(regs[at]))
	}
	if req == request.GetRegs {
		return g.fill(t, b, data)
	}
	if g.ReadMem(t, b, addr.Addr(data)) != len(b) {
		return -int64(unix.EFAULT)
	}
	for i, at := range request.Regs32 {
		request.SetReg32(&regs, at, binary.LittleEndian.Uint32(b[4*i:]))
	}
	if g.k.SetRegs(target.TID, &regs) != nil {
		return -int64(unix.EIO)
	}
	return 0
}

// user32 reads or writes a word of struct user.
func (g *Group) user32(t, target *Thread, req, at, data uint64) int64 {
	var b [8]byte
	switch {
	case at%4 != 0 || at >= request.User32End:
		return -int64(unix.EIO)
	case at >= request.User32Debug:
		filled := b[:]
		if req == request.PokeUser {
			filled = nil
		}
		_, e := g.nest.k.Pass(int(req), target.TID, request.UserDebug+2*(at-request.User32Debug), uint64(uint32(data)), filled)
		if e != 0 || req == request.PokeUser {
			return -int64(e)
		}
	case at/4 < uint64(len(request.Regs32)):
		var regs ptrace.Regs
		if g.k.GetRegs(target.TID, &regs) != nil {
			return -int64(unix.ESRCH)
		}
		reg := request.Regs32[at/4]
		if req == request.PokeUser {
			request.SetReg32(&regs, reg, uint32(data))
			if g.k.SetRegs(target.TID, &regs) != nil {
				return -int64(unix.EIO)
			}
			return 0
		}
		binary.LittleEndian.PutUint64(b[:], regs[reg])
	case req == request.PokeUser:
		return -int64(unix.EIO)
	}
	return g.fill(t, b[:4], data)
}
