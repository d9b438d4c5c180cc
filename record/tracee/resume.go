//go:build linux

// This file lets threads go on, as if nobody had stopped them.

package tracee

// resume lets a stopped thread go on, with a signal if sig is not 0. A thread that
// has reported something else meanwhile stands until that has been served. One in whose
// name a call was made that has not ended runs already.
func (g *Group) resume(t *Thread, sig int) {
	if _, waits := g.facts.of(t.TID); waits || t.stray != nil {
		return
	}
	if t.inside.on || sig == 0 && g.opts.Inside != nil && g.enterInside(t) {
		g.goOnInside(t)
		return
	}
	t.pace.resumed = g.Now()
	t.Space.Ran = true
	g.become(t, t.free())
	if t.traced == nil {
		g.failed(t, g.letOn(t, sig))
		return
	}
	err, done := g.letTraced(t, sig)
	if !done {
		err = g.letOn(t, sig)
	}
	if !g.failed(t, err) && t.traced.asked {
		_ = g.k.Interrupt(t.TID) // the stop was not its tracer's business
	}
}

// letOn lets a stopped thread go on to the next stop that we want.
func (g *Group) letOn(t *Thread, sig int) error {
	if g.filter != nil && !t.suspended && t.call == nil && !t.launcher && t.rest == nil && !t.Proc.listened && !(t.Proc.signalFD && t.Proc.tracing()) {
		return g.k.Cont(t.TID, sig) // the filter stops it at the calls that matter
	}
	return g.k.ContSyscall(t.TID, sig)
}

// Go lets a thread go on that waits at the entry of a call. The call begins now.
func (g *Group) Go(t *Thread) {
	t.call.Enter = g.Now()
	if g.opts.Warden != nil {
		g.opts.Warden.Enters(t, t.call)
	}
	g.resume(t, 0)
}
