package analyze

import (
	"cmp"
	"fmt"
	"maps"
	"slices"

	"memtrace/format"
	"memtrace/format/addr"
	"memtrace/format/arch"
	"memtrace/replay"
)

// A process is stuck if all its threads wait in calls of futex(2) without a time limit, each for a word that
// only threads of this process can wake it by. None of them goes on then, whatever the words mean to the
// program, unless a signal comes. So this holds for semaphores, conditions and joins, of which nobody can see
// who was to wake whom.

// endless is a wait in a call of futex without a time limit that did not end.
type endless struct {
	word         addr.Addr
	joins        uint32 // the tid of a thread whose end is waited for; 0: none
	since, until uint64 // ns
	stack        format.StackNode
	interrupted  bool // by a signal
	restarts     bool // the kernel goes on by itself, and does not tell the program
	died         bool // the thread has ended
}

// spaces are the address spaces and who uses them.
type spaces struct {
	of   map[uint32]format.Thread // by number: all threads
	gone map[uint32]uint64        // ns, by number: threads that have ended
}

// follow takes the threads that begin and end.
func (x *spaces) follow(m *replay.Moment) {
	if x.of == nil {
		x.of, x.gone = map[uint32]format.Thread{}, map[uint32]uint64{}
		for no, t := range m.State.Threads {
			x.of[no] = *t
		}
	}
	for _, c := range m.Event.Changes {
		switch c := c.(type) {
		case *format.ThreadSet:
			x.of[c.Thread.No] = c.Thread
			delete(x.gone, c.Thread.No)
		case *format.ThreadEnd:
			x.gone[c.No] = m.Event.Time
		}
	}
}

// endlessOf is the wait of a futex call, if it has no time limit and only threads of its address space can end
// it. A shared word is not looked at by others if it is that of a thread that is joined: the kernel wakes it.
func endlessOf(s *format.Syscall, name string) (e endless, ok bool) {
	const private = 0x80
	e.word = addr.Addr(s.Args[0])
	if name == "futex_wait" {
		return e, s.Args[3]&private != 0 && s.Args[4] == 0
	}
	if name != "futex" && name != "futex_time64" || s.Args[3] != 0 {
		return e, false
	}
	switch op := s.Args[1]; op & futexCommand {
	case 0, 9: // FUTEX_WAIT, FUTEX_WAIT_BITSET
		if op&private == 0 {
			e.joins = uint32(s.Args[2])
			return e, e.joins != 0
		}
		return e, true
	case 6, 13: // FUTEX_LOCK_PI, FUTEX_LOCK_PI2
		return e, op&private != 0
	}
	return e, false
}

// wait looks at a call of a thread: whether it waits for ever in it.
func (t *threadTime) wait(m *replay.Moment, s *format.Syscall, name string) {
	was := t.endless
	t.endless = nil
	e, ok := endlessOf(s, name)
	again := restarts(s)
	eintr := s.Returned && arch.ErrnoName(int(-s.Ret)) == "EINTR"
	if !ok || s.Returned && !again && !eintr {
		return
	}
	e.since, e.until, e.stack, e.interrupted, e.restarts = s.Enter, m.Event.Time, m.Event.Stack, s.Returned, again
	if was != nil && was.restarts && was.word == e.word {
		e.since = was.since
	}
	t.endless = &e
}

// waitEnds looks at what came after a wait that a signal interrupted: a signal that did not end the thread may
// have had it go on.
func (t *threadTime) waitEnds(m *replay.Moment) {
	switch r := m.Event.Record.(type) {
	case *format.Exit:
		if t.endless != nil {
			t.endless.died = true
		}
	case *format.Signal:
		if !r.Fatal {
			t.endless = nil
		} else if t.endless != nil {
			t.endless.died = true
		}
	}
}

// cut lengthens the waits that the kernel goes on with by itself to the end of a log that was cut: had a
// thread gone on, it would have told.
func (w *waits) cut() {
	for no, t := range w.threads {
		if _, ended := w.spaces.gone[no]; ended {
			continue
		}
		if e := t.endless; e != nil && e.restarts && !e.died {
			e.until = w.now
		}
		if k := t.stuck; k != nil && k.restarts && !k.died {
			k.until = w.now
		}
	}
}

// stuckSpace is an address space all of whose threads wait for ever.
type stuckSpace struct {
	pid     uint32
	waiting []*threadTime
	last    *endless // that began last
	until   uint64   // ns, when the first of them was ended
}

// stuck are the address spaces whose threads all waited for ever, by the pid.
func (w *waits) stuck() (list []stuckSpace) {
	members := map[uint32][]uint32{}
	for _, no := range slices.Sorted(maps.Keys(w.spaces.of)) {
		mm := w.spaces.of[no].MM
		members[mm] = append(members[mm], no)
	}
	for _, mm := range slices.Sorted(maps.Keys(members)) {
		if x, ok := w.stuckIn(members[mm]); ok {
			list = append(list, x)
		}
	}
	slices.SortStableFunc(list, func(a, b stuckSpace) int { return cmp.Compare(a.pid, b.pid) })
	return list
}

// stuckIn looks at the threads of one address space.
func (w *waits) stuckIn(threads []uint32) (x stuckSpace, ok bool) {
	tids := map[uint32]bool{} // of those that wait
	for _, no := range threads {
		t := w.threads[no]
		if t == nil || t.endless == nil || t.endless.interrupted && !t.endless.restarts && !t.endless.died {
			continue
		}
		e := t.endless
		if x.waiting = append(x.waiting, t); x.last == nil || e.since > x.last.since {
			x.last = e
		}
		if x.until == 0 || e.until < x.until {
			x.until = e.until
		}
		tids[w.spaces.of[no].TID], tids[w.spaces.of[no].NSTID] = true, true
	}
	if len(x.waiting) == 0 || x.until < x.last.since+stuckLeast {
		return x, false
	}
	for _, no := range threads {
		t := w.threads[no]
		switch gone, ended := w.spaces.gone[no]; {
		case t != nil && slices.Contains(x.waiting, t):
			if t.endless.joins != 0 && !tids[t.endless.joins] {
				return x, false // another process may wake it
			}
		case !ended || gone >= x.last.since:
			return x, false // it could have woken others
		}
	}
	x.pid = x.waiting[0].pid
	return x, true
}

// standstill tells of a process all of whose threads waited for ever.
func (w *waits) standstill(t *replay.Trace, o Options, lives []replay.Life) (Finding, bool, error) {
	list := w.stuck()
	if len(list) == 0 {
		return Finding{}, false, nil
	}
	x := &list[0]
	since, err := t.StepOf(fmt.Sprintf("%dns", x.last.since))
	if err != nil {
		return Finding{}, false, err
	}
	who := fmt.Sprintf("all %d threads of process %d", len(x.waiting), x.pid)
	last, none := "the last of them since", "None was left to wake another"
	if len(x.waiting) == 1 {
		who, last, none = fmt.Sprintf("the only thread of process %d", x.pid), "since", "No other was left to wake it"
	}
	end := "end"
	if slices.ContainsFunc(lives, func(l replay.Life) bool { return l.PID == x.pid && !l.Ended }) {
		end = "end of the log"
	}
	text := fmt.Sprintf("STUCK: %s waited in futex until the %s, %s step %d, for %s. %s: only a signal could.", who, end, last, since, Span(x.until-x.last.since), none)
	var at, where []string
	for _, t := range x.waiting {
		what := "at " + t.endless.word.String()
		if t.endless.joins != 0 {
			what = fmt.Sprintf("for the end of thread %d", t.endless.joins)
		}
		at = append(at, fmt.Sprintf("thread %d %s", t.tid, what))
	}
	for _, th := range x.waiting {
		if th.endless.stack == 0 {
			continue
		}
		site, err := lockSite(t, th.endless.stack)
		if err != nil {
			return Finding{}, false, err
		}
		where = append(where, fmt.Sprintf("thread %d waited in %s", th.tid, site))
	}
	if len(where) > 0 {
		text += " " + upper(list2(where)) + "."
	} else {
		text += " " + upper(list2(at)) + "." + lockHint
	}
	f := Finding{Kind: "stuck", Text: text, PID: &x.pid, Step: &since, Then: o.command("replay", fmt.Sprintf("--pid %d -e futex -t", x.pid))}
	w.atEnd(&f, o, lives)
	return f, true, nil
}

// atEnd has a finding of threads that wait be about the signal that ended their process: the memory of that
// moment is in the log.
func (w *waits) atEnd(x *Finding, o Options, lives []replay.Life) {
	for i := range lives {
		if l := &lives[i]; l.PID == *x.PID && l.Fatal > 0 {
			x.Step, x.Also = &l.Fatal, x.Then
			x.Then = o.command("replay", fmt.Sprintf("--at %d --pid %d --stack", l.Fatal, *x.PID))
		}
	}
}
