//go:build linux

// This file begins and ends that a tracee traces another, and lets the other go on.

package tracee

import (
	"maps"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"memtrace/format/proctext"
	"memtrace/record/ptrace"
	"memtrace/record/tracee/request"
	"memtrace/record/tracee/siginfo"
)

// attach makes a thread the tracee of another.
func (g *Group) attach(t, by *Thread, seized bool, opts uint32) *traced {
	if t.inside.on {
		g.Outside(t.Space)
	}
	t.traced = &traced{by: by, seized: seized, opts: opts, foreign: isForeign(t, by)}
	by.tracees++
	if t.traced.foreign {
		g.nest.zombies.coming++
	}
	return t.traced
}

// inheritTracer gives a new thread its parent's tracer, where that one asked for it or the
// parent did (CLONE_PTRACE). It reports whether the tracer is to be told of the event.
func (g *Group) inheritTracer(parent, child *Thread, kind ptrace.StopKind, flags uint64) (told bool) {
	tr := parent.traced
	if tr == nil || !g.nested() || parent.patch != nil { // CLONE_UNTRACED
		return false
	}
	told = tr.opts&(1<<eventOf[kind]) != 0
	if told || flags&unix.CLONE_PTRACE != 0 {
		c := g.attach(child, tr.by, tr.seized, tr.opts)
		c.born, c.mode = true, request.ModeCont
	}
	return told
}

// part ends that.
func (g *Group) part(t *Thread) {
	if t.traced != nil {
		by := t.traced.by
		by.tracees--
		if t.traced.foreign {
			g.nest.zombies.coming--
		}
		t.traced = nil
		g.unsuspend(t)
		g.wakeWaiters(by.Proc) // it may be the last one they can wait for
	}
}

// letHeld lets a thread go on as its tracer wants it to.
func (g *Group) letHeld(t *Thread, m request.Mode, sig int) {
	tr := t.traced
	r := tr.report
	tr.report, tr.mode, tr.steps = nil, m, false
	tr.onward = t.Proc.stopped && (r.group || tr.onward)
	g.become(t, Stopped)
	r.let(sig)
}

// letDetached lets a thread go on that has no tracer any more.
func (g *Group) letDetached(t *Thread, sig int) {
	r := t.traced.report
	stops := t.traced.stops
	g.part(t)
	if r != nil {
		g.become(t, Stopped)
		if t.Proc.stopped && sig != int(unix.SIGKILL) {
			g.stopAgain(t, r, sig)
			return
		}
		r.let(sig)
	} else if stops > 0 {
		t.strays += stops // they are not the program's
	}
}

// stopAgain has a thread without a tracer stand with the rest of its process, which job
// control has stopped (kernel/ptrace.c, __ptrace_unlink). sig is what it would go on with.
func (g *Group) stopAgain(t *Thread, r *report, sig int) {
	if r.group || r.answers() {
		g.become(t, Listening)
		g.failed(t, g.k.Listen(t.TID))
		return
	}
	if sig != int(unix.SIGSTOP) && sig != int(unix.SIGCONT) { // that would be sent, not delivered
		g.sendOwn(t, sig)
	}
	if r.real {
		g.become(t, t.free())
		g.failed(t, g.k.ContSyscall(t.TID, int(unix.SIGSTOP)))
		return
	}
	g.sendOwn(t, int(unix.SIGSTOP))
	r.let(0)
}

// raised reports whether the program in a thread has rights that its tracer has not. The kernel
// gives a traced program none (security/commoncap.c), but takes the rights of the tracer that it
// knows for that: ours. What a tracer may in a user namespace of its own does not count.
func (g *Group) raised(t *Thread) bool {
	rights := func(t *Thread) (ids string, permitted, effective uint64) {
		text, err := g.k.Status(t.TID)
		if err != nil {
			return "", 0, 0
		}
		same := func(key string) string {
			real, _ := proctext.Field(text, key).Number()
			for _, id := range strings.Fields(proctext.Field(text, key).String()) {
				if id != strconv.FormatUint(real, 10) {
					return "others"
				}
			}
			return ""
		}
		return same("Uid") + same("Gid"), proctext.Field(text, "CapPrm").Hex(), proctext.Field(text, "CapEff").Hex()
	}
	_, permitted, effective := rights(t.traced.by)
	ids, gained, _ := rights(t)
	ns, of := userNS(t.traced.by.TID), userNS(t.TID)
	if ns == "" || ns != of && ns != initUserNS {
		permitted, effective = 0, 0
	}
	return effective>>unix.CAP_SYS_PTRACE&1 == 0 && (ids != "" || gained&^permitted != 0)
}

// abandonTracees ends the relation of a tracer that ends, or becomes another program, to its
// tracees.
func (g *Group) abandonTracees(by *Thread) {
	for _, t := range g.tracedBy(by) {
		switch r := t.traced.report; {
		case t.traced.opts&request.OptExitKill != 0:
			g.part(t)
			_ = g.k.Kill(t.Proc.PID, unix.SIGKILL)
		case r == nil || r.waited || !r.real:
			g.letDetached(t, 0)
		default:
			g.letDetached(t, int(r.status&0x7f))
		}
	}
	kept := g.nest.dead[:0]
	for _, d := range g.nest.dead {
		if d.by != by {
			kept = append(kept, d)
			continue
		}
		g.letParentKnow(d.tid)
	}
	g.nest.dead = kept
	maps.DeleteFunc(g.nest.ended, func(_ int, of *Thread) bool { return of == by })
}

// isGone ends what a thread that has ended was to others.
func (g *Group) isGone(t *Thread, status uint32) {
	if t.tracees > 0 || len(g.nest.dead) > 0 || len(g.nest.ended) > 0 {
		g.abandonTracees(t)
	}
	tr := t.traced
	if tr == nil {
		g.letParentKnow(t.TID)
		return
	}
	g.part(t)
	if t.TID == t.Proc.PID && t.Proc.maker != nil && t.Proc.maker.Proc == tr.by.Proc {
		if g.nest.ended == nil {
			g.nest.ended = map[int]*Thread{}
		}
		g.nest.ended[t.TID] = tr.by
		return // a child: the kernel tells of it
	}
	g.nest.serial++
	g.nest.dead = append(g.nest.dead, death{tr.by, t.TID, status, g.uid(t), g.nest.serial})
	g.childSignal(tr.by, t, siginfo.CookieEnd, status)
	g.wakeWaiters(tr.by.Proc)
}

// letHeldGo lets the threads go for good that stand at a stop of which their tracer was told,
// as if that one had ended.
func (g *Group) letHeldGo() {
	for _, t := range g.threads {
		if t.state != Held || g.filter != nil {
			continue
		}
		sig := 0
		if r := t.traced.report; r != nil && r.real && !r.waited {
			sig = int(r.status)
		}
		_ = g.k.Detach(t.TID, sig)
	}
}
