//go:build linux

// This file has threads begin to record their calls, and end it.

package inside

import (
	"memtrace/format/addr"
	"memtrace/format/arch"
	"memtrace/record/inproc"
	"memtrace/record/space"
	"memtrace/record/tracee"
)

// Enters is tracee.Inside's.
func (in *Programs) Enters(t *tracee.Thread, regs *[tracee.MaxRegisters]uint64, mask uint64) (w tracee.Way, ok bool) {
	m := in.host.Space(t)
	p := in.processOf(t)
	if p.refused != "" || p.young > 0 || in.host.Thread(t).resumes || in.mode != Always && !p.pays() || m.outside > 0 || m.Waits() || m.Raw() == nil {
		return w, false
	}
	if t.Proc.Arch != arch.X86_64 {
		in.refuse(t, "it is no x86_64 program")
		return w, false
	}
	why := in.hinders(m, t)
	if why == "" {
		why = p.signals(in.host, t.TID, mask)
	}
	if why != "" {
		in.hindered(t, why)
		return w, false
	}
	if regs[arch.GSBase] != 0 {
		in.refuse(t, "it uses the gs base itself")
		return w, false
	}
	if why := in.install(m, t, regs); why != "" {
		in.refuse(t, why)
		return w, false
	}
	s := in.slots[t]
	if s == nil || in.toHandle(p) { // another time
		if s == nil && m.placed.full() {
			in.hindered(t, "all slots for threads are taken")
		}
		return w, false
	}
	s.stop, s.sent = false, 0
	s.Leave(false)
	s.Masked(mask&inproc.Watched != 0)
	in.tick()
	return tracee.Way{GS: s.Base(), Selector: s.Selector(), Allowed: s.space.code.Allowed()}, true
}

// hinders says what in an address space keeps a thread from recording its calls now, "" for nothing.
func (in *Programs) hinders(m *Space, t *tracee.Thread) string {
	if len(m.Threads) != len(t.Proc.Threads) {
		return "another process shares its memory"
	}
	return in.host.Hinders(t)
}

// rtSigreturn is the number of the call whose place is never patched: what unwinds stacks
// knows a signal's frame by it.
const rtSigreturn = 15

// Dispatched is tracee.Inside's.
func (in *Programs) Dispatched(t *tracee.Thread, regs *[tracee.MaxRegisters]uint64) (on bool) {
	s := in.slots[t]
	ip := addr.Addr(regs[arch.RIP])
	nr, arg0, arg1 := regs[arch.RAX], regs[arch.RDI], regs[arch.RSI]
	made, args, ret, trapped := s.space.code.Trapped(s.Slot, ip)
	if trapped {
		nr, arg0, arg1 = made, args[0], args[1]
	}
	records := !s.stop && in.table.Records(nr, arg0, arg1)
	switch {
	case !trapped && s.space.code.Range().Contains(ip):
		return false
	case !trapped && nr != rtSigreturn && s.space.sites.stopped(ip):
		return false // it is patched when the call is over
	case !records:
		return false
	}
	if trapped {
		ip = ret
	}
	if s.sent == ip && s.sentWith == s.Written() {
		return false // the code has sent it back
	}
	if s.Full() {
		in.group.Unpin(t) // it is to run beside us
	}
	if trapped {
		s.space.code.Recover(s.Slot, regs)
	}
	in.take(s) // and told of when the thread runs again
	s.sent, s.sentWith = ip, s.Written()
	regs[arch.RCX], regs[arch.RIP], regs[arch.OrigRAX] = uint64(ip), uint64(s.space.code.Base), ^uint64(0)
	return true
}

// Leaves is tracee.Inside's.
func (in *Programs) Leaves(t *tracee.Thread, regs *[tracee.MaxRegisters]uint64, how tracee.Leave) (c *tracee.Call, returned bool) {
	s := in.slots[t]
	defer func() {
		s.stop = false
		s.Forget()
	}()
	inCall := s.InCall()
	begun := s.Begun(&s.record)
	place := inproc.Elsewhere
	if regs != nil {
		place = s.space.code.Recover(s.Slot, regs)
		defer s.space.m.settle(regs)
	}
	switch {
	case place == inproc.Elsewhere && how == tracee.LeaveDispatched:
		regs[arch.RIP] -= 2
		regs[arch.OrigRAX] = ^uint64(0)
	case begun && (how == tracee.LeaveEnded || how == tracee.LeaveDying) && inCall:
		like := in.call(s)
		return in.group.Recorded(t, &like, s.before, s.after, nil), false
	case begun && place == inproc.Returned:
		in.calls++
		like := in.call(s)
		return in.group.Recorded(t, &like, s.before, s.after, nil), true
	}
	return nil, false
}

// Stop is tracee.Inside's.
func (in *Programs) Stop(t *tracee.Thread) {
	s := in.slots[t]
	s.stop = true
	s.Leave(true)
}

// InCall is tracee.Inside's.
func (in *Programs) InCall(t *tracee.Thread) *tracee.Call {
	s := in.slots[t]
	if !s.InCall() || !s.Begun(&s.record) {
		return nil
	}
	in.clock.Look()
	like := in.call(s)
	return in.group.Recorded(t, &like, s.before, s.after, nil)
}

// Frees is tracee.Inside's.
func (in *Programs) Frees(t *tracee.Thread) {
	if m := in.host.Space(t); m.placed != nil {
		m.unpatch(addr.Range{End: space.UserEnd})
	}
}

// Stands is tracee.Inside's.
func (in *Programs) Stands(t *tracee.Thread, regs *[tracee.MaxRegisters]uint64) (changed bool) {
	m := in.host.Space(t)
	if m.placed == nil {
		return false
	}
	changed = m.placed.code.Recover(nil, regs) != inproc.Elsewhere
	return m.settle(regs) || changed
}

// Site is tracee.Inside's.
func (in *Programs) Site(t *tracee.Thread, ip uint64) uint64 {
	if m := in.host.Space(t); m.placed != nil {
		return uint64(m.placed.sites.program(addr.Addr(ip)))
	}
	return ip
}

// Past is tracee.Inside's.
func (in *Programs) Past(t *tracee.Thread, ip uint64) (to uint64, ok bool) {
	m := in.host.Space(t)
	if m.placed == nil {
		return 0, false
	}
	p := m.placed.sites.patched[addr.Addr(ip)-2]
	if p == nil || !p.Inside(addr.Addr(ip)) {
		return 0, false
	}
	return uint64(p.Return()), true
}

// Broken is tracee.Inside's.
func (in *Programs) Broken(t *tracee.Thread, regs *[tracee.MaxRegisters]uint64) bool {
	m := in.host.Space(t)
	if m.placed == nil {
		return false
	}
	const past = 3 // the breakpoint is the third byte of the patch
	p := m.placed.sites.patched[addr.Addr(regs[arch.RIP])-past]
	if p == nil || !p.Inside(addr.Addr(regs[arch.RIP])) {
		return false
	}
	regs[arch.RIP] = uint64(p.On())
	return true
}
