//go:build linux

// This file has how threads stop and end.

package traceetest

import "memtrace/record/ptrace"

// stop has a traced thread stop; then comes when it is let go.
func (k *Kernel) stop(t *thread, s ptrace.Stop, then func(*thread)) {
	s.TID, s.Faults = t.tid, t.proc.faults
	t.trap = false // any stop uses it up
	t.stopped, t.at, t.report, t.run, t.wait = true, s.Kind, &s, then, nil
}

// event is a stop if the tracer wants to know of it.
func (k *Kernel) event(t *thread, option int, kind ptrace.StopKind, msg uint64, then func(*thread)) {
	if !t.traced || t.options&option == 0 {
		t.run = then
		return
	}
	t.msg, t.op = msg, ptrace.OpNone
	k.stop(t, ptrace.Stop{Kind: kind}, then)
}

// die ends a process: all its threads are on their way out.
func (k *Kernel) die(p *process, status uint32) {
	for _, t := range k.sorted() {
		if t.proc == p && !t.dead {
			t.status = status
			k.kill(t)
		}
	}
}

// kill has a thread end wherever it is. Some go without a stop.
func (k *Kernel) kill(t *thread) {
	if t.dead {
		return
	}
	if t.killed { // also out of the stop before its end
		t.stopped, t.report, t.wait, t.run = false, nil, nil, k.zombie
		return
	}
	t.killed, t.stopped, t.listening, t.report, t.wait = true, false, false, nil, nil
	t.run = k.zombie
	if k.rng.IntN(2) == 0 {
		t.run = k.exit
	}
}

// exit is the end of a thread as it makes it itself.
func (k *Kernel) exit(t *thread) {
	t.killed, t.wait = true, nil
	k.event(t, ptrace.OptExit, ptrace.EventExit, uint64(t.status), k.zombie)
}

// zombie is a thread that only has to be reported.
func (k *Kernel) zombie(t *thread) {
	t.dead, t.stopped, t.wait = true, false, nil
	t.run = nil
	k.vforked(t)
	t.note(k, Event{What: Died, Status: t.status})
}

// vforked lets a parent go on that waits for t.
func (k *Kernel) vforked(t *thread) {
	for _, p := range k.threads {
		if p.vfork == t {
			p.vfork = nil
		}
	}
}
