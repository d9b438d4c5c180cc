//go:build linux

// This file answers the requests of ptrace(2) whose data is another for a tracer of i386.

package tracee

import (
	"encoding/binary"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"memtrace/format/addr"
	"memtrace/format/arch"
	"memtrace/record/ptrace"
	"memtrace/record/tracee/siginfo"
)

// Requests that only i386 has.
const (
	reqGetFPXRegs = 18
	reqSetFPXRegs = 19
)

// wordSize is the size of a long, in bytes.
func wordSize(id arch.ID) int {
	if id == arch.I386 {
		return 4
	}
	return 8
}

// wordOf is the long at the beginning of b.
func wordOf(b []byte, id arch.ID) uint64 {
	if id == arch.I386 {
		return uint64(binary.LittleEndian.Uint32(b))
	}
	return binary.LittleEndian.Uint64(b)
}

// appendWord appends a long.
func appendWord(b []byte, id arch.ID, w uint64) []byte {
	if id == arch.I386 {
		return binary.LittleEndian.AppendUint32(b, uint32(w))
	}
	return binary.LittleEndian.AppendUint64(b, w)
}

// regs32 are the registers of struct user_regs_struct of i386 in order, as indexes into
// ptrace.Regs (arch/x86/include/asm/user32.h).
var regs32 = func() (at [17]int) {
	rows := arch.I386.Registers()
	for i, name := range strings.Fields("ebx ecx edx esi edi ebp eax ds es fs gs orig_eax eip cs eflags esp ss") {
		at[i] = int(rows[slices.IndexFunc(rows, func(r arch.Register) bool { return r.Name == name })].User)
	}
	return at
}()

// Offsets into struct user: of i386, and of the debug registers also of x86_64.
const (
	user32Debug = 252
	user32End   = 284
	userDebug   = 848
)

// request32 does what a tracer of i386 wants with a tracee, where its data differs from that
// of x86_64 (arch/x86/kernel/ptrace.c, ia32_arch_ptrace, and kernel/ptrace.c,
// compat_ptrace_request).
func (g *Group) request32(t, target *Thread, req, at, data uint64) (ret int64, done bool) {
	switch req {
	case reqPeekText, reqPeekData, reqPokeText, reqPokeData:
		return g.word32(t, target, req, at, data), true
	case reqPeekUser, reqPokeUser:
		return g.user32(t, target, req, at, data), true
	case reqGetRegs, reqSetRegs:
		return g.allRegs32(t, target, req, data), true
	case reqGetFPRegs, reqSetFPRegs:
		const ntPRFPReg, size = 2, 108
		return g.set32(t, target, req == reqSetFPRegs, ntPRFPReg, size, data), true
	case reqGetFPXRegs, reqSetFPXRegs:
		const ntPRXFPReg, size = 0x46e62b7f, 512
		return g.set32(t, target, req == reqSetFPXRegs, ntPRXFPReg, size, data), true
	case reqGetEventMsg:
		return g.fill(t, binary.LittleEndian.AppendUint32(nil, uint32(target.traced.report.msg)), data), true
	case reqGetSigInfo:
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
	if _, e := g.nest.k.Pass(reqPeekData, target.TID, at-off, 0, b[:]); e != 0 {
		return -int64(e)
	}
	if req == reqPeekText || req == reqPeekData {
		return g.fill(t, b[off:off+4], data)
	}
	binary.LittleEndian.PutUint32(b[off:], uint32(data))
	return g.poke(target, at-off, binary.LittleEndian.Uint64(b[:]))
}

// set32 passes a set of registers on whose size is known.
func (g *Group) set32(t, target *Thread, set bool, note uint64, size int, data uint64) int64 {
	b, req := make([]byte, size), reqGetRegSet
	if set {
		if req = reqSetRegSet; g.ReadMem(t, b, addr.Addr(data)) != size {
			return -int64(unix.EFAULT)
		}
	}
	switch n, e := g.nest.k.PassSet(req, target.TID, note, b); {
	case e != 0:
		return -int64(e)
	case n != size: // a tracee of x86_64, which has others
		return -int64(unix.EIO)
	case set:
		return 0
	}
	return g.fill(t, b, data)
}

// setReg32 sets a register to 32 bits of a tracer's.
func setReg32(regs *ptrace.Regs, at int, v uint32) {
	regs[at] = uint64(v)
	if at == ptrace.RegRAX || at == ptrace.RegOrigRAX { // as the results of calls and -1 are
		regs[at] = uint64(int64(int32(v)))
	}
}

// allRegs32 reads or writes struct user_regs_struct.
func (g *Group) allRegs32(t, target *Thread, req, data uint64) int64 {
	var regs ptrace.Regs
	if g.k.GetRegs(target.TID, &regs) != nil {
		return -int64(unix.ESRCH)
	}
	var b []byte
	for _, at := range regs32 {
		b = binary.LittleEndian.AppendUint32(b, uint32(regs[at]))
	}
	if req == reqGetRegs {
		return g.fill(t, b, data)
	}
	if g.ReadMem(t, b, addr.Addr(data)) != len(b) {
		return -int64(unix.EFAULT)
	}
	for i, at := range regs32 {
		setReg32(&regs, at, binary.LittleEndian.Uint32(b[4*i:]))
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
	case at%4 != 0 || at >= user32End:
		return -int64(unix.EIO)
	case at >= user32Debug:
		filled := b[:]
		if req == reqPokeUser {
			filled = nil
		}
		_, e := g.nest.k.Pass(int(req), target.TID, userDebug+2*(at-user32Debug), uint64(uint32(data)), filled)
		if e != 0 || req == reqPokeUser {
			return -int64(e)
		}
	case at/4 < uint64(len(regs32)):
		var regs ptrace.Regs
		if g.k.GetRegs(target.TID, &regs) != nil {
			return -int64(unix.ESRCH)
		}
		reg := regs32[at/4]
		if req == reqPokeUser {
			setReg32(&regs, reg, uint32(data))
			if g.k.SetRegs(target.TID, &regs) != nil {
				return -int64(unix.EIO)
			}
			return 0
		}
		binary.LittleEndian.PutUint64(b[:], regs[reg])
	case req == reqPokeUser:
		return -int64(unix.EIO)
	}
	return g.fill(t, b[:4], data)
}
