//go:build linux

// This file answers the requests of ptrace(2) that a tracer among our tracees makes.

package tracee

import (
	"encoding/binary"

	"golang.org/x/sys/unix"

	"memtrace/format/addr"
	"memtrace/format/arch"
	"memtrace/record/ptrace"
	"memtrace/record/tracee/request"
	"memtrace/record/tracee/siginfo"
)

// beginRequest serves ptrace(2) at its entry.
func (g *Group) beginRequest(t *Thread, c *Call) {
	if !isCall(c, "ptrace") {
		return
	}
	req, pid, at, data := c.Args[0], int(int32(c.Args[1])), c.Args[2], c.Args[3]
	target := g.threads[pid]
	switch {
	case req == request.TraceMe:
		g.settle(t, g.traceMe(t))
		return
	case target == nil && (req == request.Kill || req == request.Interrupt) && g.isZombie(t, pid):
		g.settle(t, 0)
		return
	case target == nil, target.Space == nil: // the kernel's answer is right: it is no tracee of ours
		return
	case req == request.Attach, req == request.Seize:
		g.mayAttach(t, target, req == request.Seize, at, data)
		return
	}
	g.settle(t, g.request(t, target, req, at, data))
}

// traceMe makes a thread the tracee of its parent. One whose parent is nobody's tracee is
// told that it is traced: its parent would not know.
func (g *Group) traceMe(t *Thread) int64 {
	if t.traced != nil {
		return -int64(unix.EPERM)
	}
	by := t.Proc.maker
	if by != nil && by.over() {
		var next *Thread
		for _, o := range by.Proc.Threads {
			if !o.over() {
				next = o
			}
		}
		by = next
	}
	if by != nil && g.threads[by.TID] == by {
		g.attach(t, by, false, 0)
	}
	return 0
}

// mayAttach asks the kernel whether a thread may trace another, by a call that the kernel
// lets the same pass (process_vm_readv(2), of an address that is never mapped), and makes
// it its tracer then.
func (g *Group) mayAttach(t, target *Thread, seize bool, at, opts uint64) {
	switch {
	case seize && (at != 0 || opts&^request.OptAll != 0):
		g.settle(t, -int64(unix.EIO))
		return
	case seize && opts&request.OptSuspend != 0 && !g.maySuspend(t):
		g.settle(t, -int64(unix.EPERM))
		return
	case target.Proc == t.Proc, target.traced != nil:
		g.settle(t, -int64(unix.EPERM))
		return
	case target.over():
		g.settle(t, -int64(unix.ESRCH))
		return
	}
	g.settle(t, -int64(unix.EPERM))
	p := t.patch
	if p == nil {
		return
	}
	// Two struct iovec below what the program has on its stack.
	p.at = addr.Addr(p.regs[arch.RSP]-redZone-64) &^ 15
	id := t.call.Arch
	var vectors []byte
	for _, w := range []uint64{uint64(p.at), 1, ^uint64(addr.PageSize - 1), 1} {
		vectors = appendWord(vectors, id, w)
	}
	p.bytes = make([]byte, len(vectors))
	if g.ReadMem(t, p.bytes, p.at) != len(p.bytes) || !g.k.WriteMem(t.TID, vectors, p.at) {
		p.at = 0
		return
	}
	regs := p.regs
	nr, _ := id.Number("process_vm_readv")
	regs[ptrace.RegOrigRAX] = uint64(nr)
	regs.SetArgs(id == arch.I386, uint64(target.TID), uint64(p.at), 1, uint64(p.at)+uint64(len(vectors)/2), 1, 0)
	if g.k.SetRegs(t.TID, &regs) != nil {
		return
	}
	t.emulated.then = func(ret int64) int64 {
		switch {
		case ret == -int64(unix.ESRCH), target.over():
			return -int64(unix.ESRCH)
		case ret != -int64(unix.EFAULT) && ret != 1, target.traced != nil: // i386 can name no address that nobody has
			return -int64(unix.EPERM)
		}
		g.attach(target, t, seize, uint32(opts))
		switch {
		case !seize:
			g.stopFor(target)
		case target.state == Listening:
			target.traced.joins = g.k.Interrupt(target.TID) == nil
		case opts&request.OptSuspend == 0:
		case !target.on():
			_ = g.matchOptions(target)
		case !target.asked:
			target.asked = g.k.Interrupt(target.TID) == nil
		}
		return 0
	}
}

// request does what a tracer wants with a tracee, and returns the result.
func (g *Group) request(t, target *Thread, req, at, data uint64) int64 {
	tr := target.traced
	if tr == nil || tr.by != t {
		return -int64(unix.ESRCH)
	}
	switch req {
	case request.Kill:
		_ = g.k.Kill(target.Proc.PID, unix.SIGKILL)
		return 0
	case request.Interrupt:
		return g.interruptFor(target)
	}
	if tr.report == nil {
		return -int64(unix.ESRCH)
	}
	if t.call.Arch == arch.I386 {
		if ret, done := g.request32(t, target, req, at, data); done {
			return ret
		}
	}
	if req == request.ArchPrctl && (data == archGetFS || data == archGetGS) {
		return g.segmentBase(t, target, at, data)
	}
	if p, ok := request.Passed[req]; ok {
		return g.pass(t, target, req, at, data, p.Flow, p.Size)
	}
	switch req {
	case request.Cont, request.Syscall, request.SingleStep, request.SingleBlock, request.Sysemu, request.SysemuStep, request.Detach:
		if data > 64 {
			return -int64(unix.EIO)
		}
		if req == request.Detach {
			g.letDetached(target, int(data))
			return 0
		}
		g.letHeld(target, request.Modes[req], int(data))
		return 0
	case request.PokeText, request.PokeData:
		return g.poke(target, at, data)
	case request.GetRegSet, request.SetRegSet:
		return g.passSet(t, target, req, at, data)
	case request.Listen:
		return g.listenFor(target)
	case request.GetFilter, request.GetFilterMeta:
		return g.filterOf(t, target, req, at, data)
	}
	return g.ofReport(t, target, req, at, data)
}

// ofReport does what concerns the stop that a tracer was told of.
func (g *Group) ofReport(t, target *Thread, req, at, data uint64) int64 {
	tr := target.traced
	r := tr.report
	switch req {
	case request.SetOptions, request.OldOptions:
		switch {
		case data&^request.OptAll != 0:
			return -int64(unix.EINVAL)
		case data&request.OptSuspend != 0 && !g.maySuspend(t):
			return -int64(unix.EPERM)
		}
		old := tr.opts
		tr.opts = uint32(data)
		if g.matchOptions(target) != nil && data&request.OptSuspend != 0 {
			tr.opts = old
			return -int64(unix.EPERM)
		}
		return 0
	case request.GetEventMsg:
		return g.fill(t, binary.LittleEndian.AppendUint64(nil, r.msg), data)
	case request.GetSigInfo:
		if r.noInfo {
			return -int64(unix.EINVAL)
		}
		return g.fill(t, r.info[:], data)
	case request.SetSigInfo:
		var info [128]byte
		if g.ReadMem(t, info[:], addr.Addr(data)) != len(info) {
			return -int64(unix.EFAULT)
		}
		if r.noInfo {
			return -int64(unix.EINVAL)
		}
		if t.call.Arch == arch.I386 {
			info = siginfo.To64(&info)
		}
		if r.info = info; r.real {
			_ = g.nest.k.SetSigInfo(target.TID, &info)
		}
		return 0
	case request.GetCallInfo:
		return g.callInfo(t, target, r, at, data)
	case request.PeekSigInfo:
		return g.pending(t, target, at, data)
	}
	return -int64(unix.EIO)
}

// pending is PTRACE_PEEKSIGINFO: it copies the siginfos of signals that are to come.
func (g *Group) pending(t, target *Thread, at, data uint64) int64 {
	var args [16]byte // struct ptrace_peeksiginfo_args
	if g.ReadMem(t, args[:], addr.Addr(at)) != len(args) {
		return -int64(unix.EFAULT)
	}
	le := binary.LittleEndian
	off, flags, want := le.Uint64(args[0:]), le.Uint32(args[8:]), int32(le.Uint32(args[12:]))
	if want < 0 {
		return -int64(unix.EINVAL)
	}
	const most = 1024
	infos := make([][128]byte, min(want, most))
	n, e := g.nest.k.PeekSigInfo(target.TID, off, flags, infos)
	if e != 0 {
		return -int64(e)
	}
	for i := range infos[:n] {
		info := &infos[i]
		g.madeInfo(target, info)
		if t.call.Arch == arch.I386 {
			*info = siginfo.To32(info)
		}
		if bad := g.fill(t, info[:], data+uint64(i*len(info))); bad != 0 {
			if i > 0 {
				return int64(i)
			}
			return bad
		}
	}
	return int64(n)
}

// pass makes a request of a tracer about its tracee.
func (g *Group) pass(t, target *Thread, req, at, data uint64, flow request.Flow, size int) int64 {
	var b []byte
	switch flow {
	case request.ToTracerN, request.ToTraceeN:
		if size = int(min(at, 4096)); size == 0 {
			return -int64(unix.EINVAL)
		}
		b = make([]byte, size)
	case request.ToTracer, request.ToTracee, request.ToNumber:
		b = make([]byte, size)
	}
	if flow == request.ToTracee || flow == request.ToTraceeN {
		if g.ReadMem(t, b, addr.Addr(data)) != len(b) {
			return -int64(unix.EFAULT)
		}
	}
	ret, e := g.nest.k.Pass(int(req), target.TID, at, data, b)
	if e != 0 {
		return -int64(e)
	}
	switch flow {
	case request.ToTracer, request.ToNumber, request.ToTracerN:
		if bad := g.fill(t, b, data); bad != 0 {
			return bad
		}
	}
	return ret
}

// passSet is pass for the requests whose data is a struct iovec.
func (g *Group) passSet(t, target *Thread, req, note, data uint64) int64 {
	id := t.call.Arch
	word := uint64(wordSize(id))
	iov := make([]byte, 2*word)
	if g.ReadMem(t, iov, addr.Addr(data)) != len(iov) {
		return -int64(unix.EFAULT)
	}
	base, n := wordOf(iov, id), wordOf(iov[word:], id)
	b := make([]byte, min(n, 1<<16))
	if req == request.SetRegSet && g.ReadMem(t, b, addr.Addr(base)) != len(b) {
		return -int64(unix.EFAULT)
	}
	got, e := g.nest.k.PassSet(int(req), target.TID, note, b)
	if e != 0 {
		return -int64(e)
	}
	if req == request.GetRegSet {
		if bad := g.fill(t, b[:got], base); bad != 0 {
			return bad
		}
	}
	return g.fill(t, appendWord(nil, id, uint64(got)), data+word)
}

// callInfo is PTRACE_GET_SYSCALL_INFO: of a call only where the tracer was told of one.
func (g *Group) callInfo(t, target *Thread, r *report, size, data uint64) int64 {
	const most = 128
	b := make([]byte, most)
	ret, e := g.nest.k.Pass(request.GetCallInfo, target.TID, most, 0, b)
	if e != 0 {
		return -int64(e)
	}
	seccomp := r.status>>8 == unix.PTRACE_EVENT_SECCOMP
	if !r.call && !seccomp {
		const head = 24 // op, arch, instruction and stack pointer
		ret = head
		clear(b[head:])
		b[0] = ptrace.OpNone
	}
	if bad := g.fill(t, b[:min(uint64(ret), size)], data); bad != 0 {
		return bad
	}
	return ret
}

// Operations of arch_prctl(2).
const (
	archGetFS = 0x1003
	archGetGS = 0x1004
)

// segmentBase is PTRACE_ARCH_PRCTL where that writes a register to the tracer's memory.
func (g *Group) segmentBase(t, target *Thread, at, which uint64) int64 {
	var regs ptrace.Regs
	if g.k.GetRegs(target.TID, &regs) != nil {
		return -int64(unix.ESRCH)
	}
	base := regs[arch.FSBase]
	if which == archGetGS {
		base = regs[arch.GSBase]
	}
	return g.fill(t, binary.LittleEndian.AppendUint64(nil, base), at)
}

// interruptFor asks a tracee to stop.
func (g *Group) interruptFor(target *Thread) int64 {
	tr := target.traced
	if !tr.seized {
		return -int64(unix.EIO)
	}
	tr.asked = true
	if tr.report == nil && (target.on() || target.state == Listening) {
		_ = g.k.Interrupt(target.TID)
	}
	return 0
}

// listenFor leaves a tracee in its stop until something else comes.
func (g *Group) listenFor(target *Thread) int64 {
	tr := target.traced
	if !tr.seized || !tr.report.answers() {
		return -int64(unix.EIO)
	}
	tr.report = nil
	g.become(target, Stopped)
	g.become(target, Listening)
	g.failed(target, g.k.Listen(target.TID))
	return 0
}
