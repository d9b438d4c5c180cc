//go:build linux

// This file has how threads run their programs and make calls, and how signals reach
// them.

package traceetest

import (
	"fmt"
	"slices"

	"golang.org/x/sys/unix"

	"memtrace/format/arch"
	"memtrace/record/ptrace"
)

// start makes a process.
func (k *Kernel) start(p Program) *thread {
	k.lastTID++
	t := &thread{tid: k.lastTID, first: k.lastTID, proc: &process{pid: k.lastTID, how: map[int]disposition{}}}
	k.image(t, p)
	k.threads[t.tid] = t
	return t
}

// image has a thread run a program from its beginning.
func (k *Kernel) image(t *thread, p Program) {
	t.prog, t.text = p, firstText+uint64(k.texts)*textStep
	k.texts++
	t.regs = ptrace.Regs{}
	t.regs[ptrace.RegCS], t.regs[ptrace.RegRIP], t.regs[regRSP] = 0x33, t.text, stackTop-0x1000*uint64(t.tid-FirstTID)
	t.regs[ptrace.RegOrigRAX] = ^uint64(0)
	t.busy, t.due = false, nil
	t.run = k.toUser
}

// toUser is what the kernel does before a thread goes on in its program
// (kernel/signal.c, get_signal).
func (k *Kernel) toUser(t *thread) {
	t.op = ptrace.OpNone
	t.run = k.toUser
	p := t.proc
	if t.trap && t.traced {
		s := ptrace.Stop{Kind: ptrace.Trap}
		if p.stopSig != 0 {
			s = ptrace.Stop{Kind: ptrace.Group, Sig: p.stopSig}
		}
		k.stop(t, s, k.toUser)
		return
	}
	if s, ok := k.dequeue(t); ok {
		if !t.traced {
			k.deliver(t, s.no)
			return
		}
		t.info = s.info()
		k.stop(t, ptrace.Stop{Kind: ptrace.Signal, Sig: s.no}, func(t *thread) {
			t.run = k.toUser
			if t.given != 0 {
				k.deliver(t, t.given)
			}
		})
		return
	}
	t.sigpending = false
	t.restart()
	k.code(t)
}

// restart has a call made again that nobody has interrupted after all
// (arch/x86/kernel/signal.c).
func (t *thread) restart() {
	r := &t.regs
	if int32(r[ptrace.RegOrigRAX]) < 0 {
		return
	}
	switch -int32(r[ptrace.RegRAX]) {
	case ERestartSys, ERestartNoIntr, ERestartNoHand:
		r[ptrace.RegRAX] = r[ptrace.RegOrigRAX]
	case ERestartByBlock:
		r[ptrace.RegRAX] = 219 // restart_syscall: the same call for a program of ours
		if t.audit == unix.AUDIT_ARCH_I386 {
			r[ptrace.RegRAX] = 0
		}
	default:
		return
	}
	r[ptrace.RegRIP] -= 2
	r[ptrace.RegOrigRAX] = ^uint64(0)
	t.due = nil
}

// code runs the program for one step. Operation i is at text+4i, and over at two
// bytes behind that, where a system call instruction ends.
func (k *Kernel) code(t *thread) {
	ip := t.regs[ptrace.RegRIP]
	for _, id := range []arch.ID{arch.X86_64, arch.I386} {
		if at := injectAt(id); ip == at {
			name := fmt.Sprint(t.regs[ptrace.RegRAX])
			if row, ok := id.Syscall(uint32(t.regs[ptrace.RegRAX])); ok {
				name = row.Name
			}
			if t.proc.seed {
				k.enter(t, k.seedCall(t, name), false)
				return
			}
			k.enter(t, Op{kind: opCall, name: name, id: id, stalls: true, does: func(tid int, args [6]uint64) int64 {
				t.note(k, Event{What: Injected, Name: name, Args: args})
				if k.Injected == nil {
					return 0
				}
				return k.Injected(tid, name, args)
			}}, false)
			return
		}
	}
	if t.proc.seed { // between two calls
		t.left, t.wait = Forever, whileLeft
		return
	}
	i, rest := int64(ip-t.text)/4, (ip-t.text)%4
	if ip < t.text || i > int64(len(t.prog)) || rest != 0 && rest != 2 {
		k.misuse = append(k.misuse, fmt.Sprintf("thread %d runs at %#x", t.tid, ip))
		k.die(t.proc, uint32(unix.SIGSEGV))
		return
	}
	if rest == 2 {
		if t.due != nil {
			t.due.Ret = int64(t.regs[ptrace.RegRAX]) // as the program sees it
			t.note(k, *t.due)
			t.due = nil
		}
		t.busy = false
		i++
	}
	op := ExitGroup(0)
	if t.tid != t.proc.pid {
		op = Exit(0)
	}
	if i < int64(len(t.prog)) {
		op = t.prog[i]
	}
	t.regs[ptrace.RegRIP] = t.text + 4*uint64(i)
	if op.kind == opCompute {
		if !t.busy {
			t.left, t.busy = op.steps, true
			t.proc.faults++
		}
		if t.left == 0 {
			t.regs[ptrace.RegRIP] += 2
			t.regs[ptrace.RegOrigRAX] = ^uint64(0)
		} else {
			t.wait = whileLeft
		}
		return
	}
	t.run = func(t *thread) {
		if t.trap && k.rng.IntN(2) == 0 {
			k.toUser(t) // the interrupt has come before the call
			return
		}
		t.regs.SetArgs(op.id == arch.I386, op.args...)
		k.enter(t, op, true)
	}
}

// whileLeft lets time pass. What takes forever is over when something interrupts it.
func whileLeft(t *thread) bool {
	if t.sigpending || t.trap {
		t.wait = nil
		return true
	}
	if t.left > 0 {
		if t.left--; t.left == 0 {
			t.wait = nil
		}
		return true
	}
	return false
}

// seedCall is the call that a seed makes.
func (k *Kernel) seedCall(t *thread, name string) Op {
	op := Op{kind: opCall, name: name, id: arch.X86_64}
	k.seed.Calls = append(k.seed.Calls, name)
	if errno := k.seed.Refused[name]; errno != 0 {
		return op.Returns(-int64(errno))
	}
	args := t.regs.Args(false)
	switch name {
	case "clone":
		op.kind, op.flags, op.child = opClone, args[0], Program{Compute(Forever)}
	case "execve":
		op.kind, op.child = opExec, k.launched
		k.seed.argv = k.seed.vector(args[1])
	case "mmap":
		op.ret = int64(seedRoom) + int64(len(k.seed.memory))
		k.seed.memory = append(k.seed.memory, make([]byte, args[1])...)
	case "rt_sigaction":
		op.kind, op.sig, op.how = opHandle, int(args[0]), byIgnoring
	case "seccomp":
		prog := k.seed.filter(args[2])
		t.proc.filtered = true
		k.Filter = func(audit, nr uint32, args [6]uint64) uint32 { return Interpret(prog, audit, nr, args) }
	}
	return op
}

// enter begins a call: its entry, the filter, its work.
func (k *Kernel) enter(t *thread, op Op, own bool) {
	nr := t.regs[ptrace.RegRAX]
	if own {
		nr = op.nr()
	}
	t.audit = unix.AUDIT_ARCH_X86_64
	if op.id == arch.I386 {
		t.audit = unix.AUDIT_ARCH_I386
	}
	t.regs[ptrace.RegRIP] += 2
	t.regs[ptrace.RegOrigRAX], t.regs[ptrace.RegRAX] = nr, uint64(0xffffffffffffffda) // -ENOSYS
	args := t.regs.Args(op.id == arch.I386)
	if own {
		t.due = &Event{What: Returned, Name: op.name, ID: op.id, Nr: uint32(nr), Args: args}
	}
	work := func(t *thread) {
		t.op = ptrace.OpNone
		if int32(t.regs[ptrace.RegOrigRAX]) < 0 { // the tracer has taken the call back
			k.leave(t, int64(t.regs[ptrace.RegRAX]))
			return
		}
		k.work(t, op, t.regs.Args(op.id == arch.I386))
	}
	filter := func(t *thread) {
		if answer := k.answer(t, uint32(nr)); answer&unix.SECCOMP_RET_ACTION_FULL == unix.SECCOMP_RET_TRACE {
			t.op, t.tag = ptrace.OpSeccomp, uint64(answer&unix.SECCOMP_RET_DATA)
			k.stop(t, ptrace.Stop{Kind: ptrace.Seccomp}, work)
			return
		}
		work(t)
	}
	if t.traced && t.sysTrace {
		t.op = ptrace.OpEntry
		k.stop(t, ptrace.Stop{Kind: ptrace.Syscall}, filter)
		return
	}
	filter(t)
}

// answer is what the filter says to a call.
func (k *Kernel) answer(t *thread, nr uint32) uint32 {
	if !t.proc.filtered || !t.traced {
		return unix.SECCOMP_RET_ALLOW
	}
	return k.Filter(t.audit, nr, t.regs.Args(t.audit == unix.AUDIT_ARCH_I386))
}

// work is what a call does.
func (k *Kernel) work(t *thread, op Op, args [6]uint64) {
	if op.steps != 0 {
		t.left, op.steps = op.steps, 0
		t.run = func(t *thread) {
			if op.intr != 0 && t.sigpending {
				k.leave(t, -op.intr)
				return
			}
			if t.left == 0 {
				k.work(t, op, args)
			}
		}
		t.wait = func(t *thread) bool {
			switch {
			case op.intr != 0 && t.sigpending, t.left == 0:
				return true
			case t.left > 0:
				t.left--
				return true
			}
			return false
		}
		return
	}
	if op.stalls && k.Stall != nil && k.Stall() {
		t.wait = func(*thread) bool { return !k.Stall() }
		t.run = func(t *thread) { k.work(t, op, args) }
		return
	}
	t.wait = nil
	ret := op.ret
	if op.does != nil {
		ret = op.does(t.tid, args)
	}
	switch op.kind {
	case opClone:
		if op.name == "clone" {
			op.flags = args[0]
		}
		k.clone(t, op)
		return
	case opExec:
		k.exec(t, op)
		return
	case opExit:
		t.due = nil
		if op.name == "exit_group" {
			k.die(t.proc, uint32(op.code)<<8)
			t.run = k.exit // it has not been killed itself
		} else {
			t.status = uint32(op.code) << 8
			k.exit(t)
		}
		return
	case opKill:
		if op.flags != 0 {
			k.send(t.proc, t, op.sig, siTkill)
		} else {
			k.send(t.proc, nil, op.sig, 0)
		}
		if t.killed {
			return
		}
	case opHandle:
		t.proc.how[op.sig] = op.how
	case opMask:
		t.mask = op.mask
		t.sigpending = t.sigpending || k.hasSignal(t)
	}
	k.leave(t, ret)
}

// leave ends a call: its exit.
func (k *Kernel) leave(t *thread, ret int64) {
	t.regs[ptrace.RegRAX] = uint64(ret)
	t.wait = nil
	t.run = k.toUser
	if t.traced && t.sysTrace {
		t.op = ptrace.OpExit
		k.stop(t, ptrace.Stop{Kind: ptrace.Syscall}, k.toUser)
	}
}

// clone makes a thread or process (kernel/fork.c, kernel_clone).
func (k *Kernel) clone(t *thread, op Op) {
	option, kind := ptrace.OptFork, ptrace.EventFork
	switch {
	case op.flags&unix.CLONE_VFORK != 0:
		option, kind = ptrace.OptVfork, ptrace.EventVfork
	case op.flags&0xff != uint64(unix.SIGCHLD):
		option, kind = ptrace.OptClone, ptrace.EventClone
	}
	k.lastTID++
	c := &thread{tid: k.lastTID, first: k.lastTID, proc: t.proc, mask: t.mask}
	if op.flags&unix.CLONE_THREAD == 0 {
		c.proc = &process{pid: c.tid, how: map[int]disposition{}, filtered: t.proc.filtered, seed: t.proc.seed}
		for sig, how := range t.proc.how {
			c.proc.how[sig] = how
		}
	}
	if k.image(c, op.child); c.proc.seed {
		c.regs[ptrace.RegRIP] = t.regs[ptrace.RegRIP]
	}
	c.regs[ptrace.RegCS] = t.regs[ptrace.RegCS]
	k.threads[c.tid] = c
	if t.traced && t.options&option != 0 && op.flags&unix.CLONE_UNTRACED == 0 {
		c.traced, c.options, c.trap, c.fresh = true, t.options, true, true
	}
	c.note(k, Event{What: Born, Traced: c.traced, Parent: t.tid})
	after := func(t *thread) { k.leave(t, int64(c.tid)) }
	if op.flags&unix.CLONE_VFORK != 0 {
		t.vfork = c
		back := after
		after = func(t *thread) {
			t.wait = func(t *thread) bool { return t.vfork == nil }
			t.run = func(t *thread) {
				t.wait = nil
				k.event(t, ptrace.OptVforkDone, ptrace.EventVforkDone, uint64(c.tid), back)
			}
		}
	}
	if !c.traced {
		t.run = after
		return
	}
	k.event(t, option, kind, uint64(c.tid), after)
}

// exec puts a program in the place of another (fs/exec.c, de_thread).
func (k *Kernel) exec(t *thread, op Op) {
	p := t.proc
	p.exec = t
	for _, o := range k.sorted() {
		if o.proc == p && o != t {
			o.status = 0
			k.kill(o)
		}
	}
	t.run = func(t *thread) {
		t.wait = nil
		old := t.tid
		if leader := k.threads[p.pid]; leader != t { // t becomes it
			delete(k.threads, p.pid)
			delete(k.threads, old)
			t.tid = p.pid
			k.threads[t.tid] = t
		}
		p.exec = nil
		for sig, how := range p.how {
			if how != byIgnoring {
				delete(p.how, sig)
			}
		}
		k.vforked(t)
		p.seed = false
		k.image(t, op.child)
		t.note(k, Event{What: Executed, Parent: old})
		k.event(t, ptrace.OptExec, ptrace.EventExec, uint64(old), func(t *thread) {
			t.regs[ptrace.RegOrigRAX] = 59
			k.leave(t, 0)
		})
	}
	t.wait = func(t *thread) bool {
		for _, o := range k.threads {
			if o.proc == p && o != t && !(o.tid == p.pid && o.dead) {
				return false
			}
		}
		return true
	}
}

// send sends a signal to a thread, or without one to a process (kernel/signal.c,
// prepare_signal, complete_signal).
func (k *Kernel) send(p *process, t *thread, sig int, code int32) {
	all := k.of(p)
	switch {
	case sig == 0 || len(all) == 0:
		return
	case sig == int(unix.SIGKILL):
		k.die(p, uint32(sig))
		return
	case sig == int(unix.SIGCONT):
		p.stopSig = 0
		for _, o := range all {
			o.pending = slices.DeleteFunc(o.pending, func(q queued) bool { return isStop(q.no) })
			if !o.traced {
				continue
			}
			o.trap = true
			if o.listening {
				o.listening, o.stopped, o.run = false, false, k.toUser
			}
		}
		p.pending = slices.DeleteFunc(p.pending, func(q queued) bool { return isStop(q.no) })
	case isStop(sig):
		isCont := func(q queued) bool { return q.no == int(unix.SIGCONT) }
		p.pending = slices.DeleteFunc(p.pending, isCont)
		for _, o := range all {
			o.pending = slices.DeleteFunc(o.pending, isCont)
		}
	}
	q := queued{sig, code}
	if t != nil {
		if t.pending.set()&bit(sig) == 0 {
			t.pending = append(t.pending, q)
		}
		t.sigpending = t.sigpending || t.mask&bit(sig) == 0
		return
	}
	if p.pending.set()&bit(sig) == 0 {
		p.pending = append(p.pending, q)
	}
	for _, o := range all {
		if o.mask&bit(sig) == 0 {
			o.sigpending = true
			return
		}
	}
}
