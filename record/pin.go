//go:build linux

package record

import (
	"bytes"
	"time"

	"golang.org/x/sys/unix"

	"memtrace/record/ptrace"
)

// pinner keeps threads that live from system call to system call on the CPU that
// the recorder runs on: the two take turns anyway, and a wake-up on the same CPU
// costs a tenth of one across CPUs (docs/performance.md). Threads that compute
// stay free, so that they run in parallel.
//
// The program must not see it. Whatever asks for affinities, or copies them,
// finds them as they were, and so does a program whose recorder was killed (see
// guard): a thread is set free before it makes a clone, asks
// for an affinity (effFork, effAffinity) or opens /proc/PID/status (hidePin).
type pinner struct {
	cpu    int         // where all pinned threads are
	chosen bool        // cpu holds one
	off    bool        // never again
	count  int         // pinned threads
	own    unix.CPUSet // of the recorder's thread, which is pinned while count > 0
	watch  bool        // a timer looks after them
	guard  guard
}

// Between two calls a thread that lives from call to call runs its own code for
// less than this; the figures include a wake-up, across CPUs for a free thread.
const (
	pinBelow   = 150 * time.Microsecond
	unpinAbove = 500 * time.Microsecond
	// A pinned thread that has not been heard of for this long may be computing.
	pinSilence = 3 * time.Millisecond
)

// paced notes how long t has run on its own before a call, and pins or frees it.
func (r *Recorder) paced(t *thread, now uint64) {
	if t.resumed == 0 {
		return
	}
	gap := now - t.resumed
	if t.gap == 0 {
		t.gap = uint64(pinBelow)
	}
	t.gap += gap/8 - t.gap/8
	switch {
	case t.pinned && t.gap > uint64(unpinAbove) && len(r.threads) > 1:
		r.unpin(t)
	case !t.pinned && t.gap < uint64(pinBelow):
		r.pinThread(t)
	}
}

// guarded says whether the pinned would be freed if the recorder were killed. A
// program with a filter dies with it.
func (r *Recorder) guarded() bool {
	g := &r.pin.guard
	switch {
	case r.filt:
		return true
	case g.started:
		return g.ready.Load()
	}
	return false
}

// startGuard starts the guard beside what else is done at the beginning.
func (r *Recorder) startGuard() {
	if r.filt || r.opts.NoPin || r.opts.Pause != nil {
		return
	}
	var cpus unix.CPUSet
	if unix.SchedGetaffinity(0, &cpus) != nil || cpus.Count() < 2 || r.pin.guard.start() != nil {
		r.pin.off = true
	}
}

func (r *Recorder) pinThread(t *thread) {
	p := &r.pin
	if p.off || r.opts.NoPin || t.pinned || t.exiting || !r.guarded() {
		return
	}
	if !p.chosen {
		p.cpu = ptrace.CurrentCPU()
		p.chosen = p.cpu >= 0
	}
	if unix.SchedGetaffinity(t.tid, &t.affinity) != nil || t.affinity.Count() < 2 || !t.affinity.IsSet(p.cpu) {
		return
	}
	var one unix.CPUSet
	one.Set(p.cpu)
	if !r.filt {
		var err error
		if t.pinRow, err = p.guard.pin(t.tid, p.cpu, &t.affinity); err != nil {
			p.off = true
			return
		}
	}
	t.pinned = true
	if p.count++; p.count == 1 && unix.SchedGetaffinity(0, &p.own) == nil {
		_ = unix.SchedSetaffinity(0, &one)
	}
	if unix.SchedSetaffinity(t.tid, &one) != nil {
		r.forgetPin(t)
		return
	}
	if !p.watch && len(r.threads) > 1 {
		r.watchPinned()
	}
}

// unpin gives the thread its affinity back.
func (r *Recorder) unpin(t *thread) {
	if t.pinned {
		_ = unix.SchedSetaffinity(t.tid, &t.affinity)
		r.forgetPin(t)
	}
}

func (r *Recorder) forgetPin(t *thread) {
	if t.pinned {
		t.pinned = false
		if !r.filt {
			r.pin.guard.unpin(t.pinRow)
		}
		if r.pin.count--; r.pin.count == 0 {
			_ = unix.SchedSetaffinity(0, &r.pin.own)
			r.pin.chosen = false // wherever the kernel moves us until the next time
		}
	}
}

func (r *Recorder) unpinAll() {
	for _, t := range r.threads {
		r.unpin(t)
	}
}

// watchPinned frees, from time to time, pinned threads that have not stopped for
// a while, if there are others that they may be in the way of.
func (r *Recorder) watchPinned() {
	r.pin.watch = true
	time.AfterFunc(pinSilence, func() {
		r.Ask(func() {
			r.pin.watch = false
			if r.pin.count == 0 || len(r.threads) < 2 {
				return
			}
			r.freeSilent()
			r.watchPinned()
		})
	})
}

// freeSilent frees the pinned threads that have not stopped for a while.
func (r *Recorder) freeSilent() {
	now := r.now()
	for _, t := range r.threads {
		if t.pinned && t.running && now-t.resumed > uint64(pinSilence) {
			r.unpin(t)
			if !t.inCall {
				t.gap = uint64(4 * unpinAbove)
			}
		}
	}
}

// hidePin frees all threads for good if t is about to open a file that may show
// affinities: /proc/PID/status, by whatever path.
func (r *Recorder) hidePin(t *thread) {
	for i := range t.read.Bufs {
		if bytes.HasSuffix(t.read.Bufs[i].Data, []byte("status")) {
			r.pin.off = true
			r.unpinAll()
			return
		}
	}
}
