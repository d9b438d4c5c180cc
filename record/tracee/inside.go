//go:build linux

// This file lets a thread record its calls itself: it runs without stops, in code of ours
// that is in the program, until something comes up that takes a stop.

package tracee

import (
	"encoding/binary"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"memtrace/format/addr"
	"memtrace/format/arch"
	"memtrace/record/ptrace"
	"memtrace/record/tracee/siginfo"
)

// enterInside has a thread that stands behind a call record its calls itself. It reports
// whether it does.
func (g *Group) enterInside(t *Thread) bool {
	k, ok := g.k.(dispatchingKernel)
	if !ok || t.asked || g.over || t.traced != nil || !g.Injectable(t) {
		return false
	}
	var regs ptrace.Regs
	mask, err := g.k.SigMask(t.TID)
	if err != nil || g.k.GetRegs(t.TID, &regs) != nil {
		return false
	}
	w, ok := g.opts.Inside.Enters(t, (*[MaxRegisters]uint64)(&regs), mask)
	if !ok || !g.Injectable(t) {
		return false
	}
	regs[arch.GSBase] = uint64(w.GS)
	if k.SetDispatch(t.TID, true, uint64(w.Selector), uint64(w.Allowed.Start), w.Allowed.Len()) != nil || g.k.SetRegs(t.TID, &regs) != nil {
		return false
	}
	t.inside = insideState{on: true, mask: mask}
	return true
}

// passMiddle has a thread that stands behind a call go on elsewhere, if there is a breakpoint of
// ours by now: nobody would serve that if this process died.
func (g *Group) passMiddle(t *Thread, ip uint64) {
	to, ok := g.opts.Inside.Past(t, ip)
	if !ok {
		return
	}
	var regs ptrace.Regs
	if g.k.GetRegs(t.TID, &regs) == nil && regs[ptrace.RegRIP] == ip {
		regs[ptrace.RegRIP] = to
		_ = g.k.SetRegs(t.TID, &regs)
	}
}

// PassMiddle has the threads of an address space that is held go on elsewhere where they
// stand at ip, behind a call, which is in the middle of what has just been changed.
func (g *Group) PassMiddle(s *Space, ip addr.Addr) {
	for t := range s.Threads {
		if !t.inside.on && (t.state == Stopped || t.state == Queued) {
			g.passMiddle(t, uint64(ip))
		}
	}
}

// Returns reports whether a thread of an address space that is held may come back from the
// kernel to ip.
func (g *Group) Returns(s *Space, ip addr.Addr) bool {
	for t := range s.Threads {
		if t.state != InCall || t.inside.on {
			continue
		}
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/syscall", t.TID)) // proc(5): the last number
		if err != nil {
			return true
		}
		fields := strings.Fields(string(text))
		at, err := strconv.ParseUint(fields[len(fields)-1], 0, 64)
		if err != nil || addr.Addr(at) == ip {
			return true
		}
	}
	return false
}

// goOnInside lets a thread go on that records its calls.
func (g *Group) goOnInside(t *Thread) {
	t.pace.resumed = g.Now()
	t.Space.Ran = true
	g.become(t, t.free())
	g.failed(t, g.k.Cont(t.TID, 0))
}

// dispatched is the kernel's number for the architecture of the call before which a thread
// has been stopped because of us, 0 if that is not why.
func (g *Group) dispatched(t *Thread, f *Fact) (audit uint32) {
	const userDispatch = 2 // SYS_USER_DISPATCH
	var info [128]byte
	if f.Stop.Kind != ptrace.Signal || f.Stop.Sig != int(unix.SIGSYS) || g.k.SigInfo(t.TID, &info) != nil || siginfo.CodeOf(&info) != userDispatch {
		return 0
	}
	return binary.LittleEndian.Uint32(info[28:]) // si_arch
}

// signalCode is the si_code of the signal that a thread is about to get, 0 if there is none.
func (g *Group) signalCode(t *Thread) int32 {
	var info [128]byte
	if g.k.SigInfo(t.TID, &info) != nil {
		return 0
	}
	return siginfo.CodeOf(&info)
}

// drainInside tells of the calls that threads have recorded themselves.
func (g *Group) drainInside() {
	if g.opts.Inside != nil {
		g.opts.Inside.Drain()
	}
}

// behind tells of calls that threads have recorded, or keeps a fact that has come, where
// they make so many that there is no time to wait for one. It reports whether that is so.
func (g *Group) behind() bool {
	if g.opts.Inside == nil || len(g.facts.waiting) > 0 || !g.opts.Inside.Behind() {
		return false
	}
	if !g.Poll() {
		g.opts.Inside.Drain()
	}
	return true
}
