//go:build linux

// This file has the Kernel: what there is in it, and what it tells a test.

package traceetest

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"memtrace/format/addr"
	"memtrace/record/tracee"
)

// FirstTID is the first tid that a Kernel gives away. No process of Linux has one
// as high, so there is nothing of it in /proc.
const FirstTID = 1 << 23

// Kernel is a simulated kernel. Its methods that tracee.Kernel does not have may be
// called from any goroutine, but not from the functions given to Op.Does.
type Kernel struct {
	// Filter is the answer of the seccomp filter of a process that was launched with
	// one. Its launch fills it in from the filter itself.
	Filter func(audit, nr uint32, args [6]uint64) uint32
	// Memory reads the memory of a thread; nil has none.
	Memory func(tid int, b []byte, a addr.Addr) int
	// Injected makes the calls that are made in the name of a thread; nil has them
	// return 0.
	Injected func(tid int, name string, args [6]uint64) int64
	// Written writes memory of a thread that has become a program; nil has it all
	// written. The memory of one that has not is kept: see Seed.
	Written func(tid int, b []byte, a addr.Addr) bool
	// Dispatched says that calls are delivered as signals (Syscall User Dispatch),
	// Sequences where threads have their area for restartable sequences.
	Dispatched bool
	Sequences  uint64
	// Stall says that the calls made in the name of a thread do not end yet; nil has
	// them end.
	Stall func() bool
	// Disturb, if not nil, is called before each step.
	Disturb func(k *Kernel, r *rand.Rand)

	mu       sync.Mutex
	cond     sync.Cond
	rng      *rand.Rand
	inNext   bool
	woken    bool
	stuck    bool
	threads  map[int]*thread
	lastTID  int
	texts    int
	launched Program
	seed     Seed
	facts    []tracee.Fact // of Complete
	log      []Event
	misuse   []string
	calls    map[string]int // requests by name
	cpus     map[int]unix.CPUSet
	status   []byte
}

var _ tracee.Kernel = (*Kernel)(nil)

// New makes a Kernel without processes.
func New(seed uint64) *Kernel {
	k := &Kernel{rng: rand.New(rand.NewPCG(seed, 1)), threads: map[int]*thread{}, lastTID: FirstTID, calls: map[string]int{}, cpus: map[int]unix.CPUSet{}}
	k.cond.L = &k.mu
	return k
}

// Complete has Next tell that a thread has completed a call without a stop.
func (k *Kernel) Complete(tid int, c *tracee.Call) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.facts = append(k.facts, tracee.Fact{TID: tid, Call: c})
	k.cond.Broadcast()
}

// wake ends a Next that is under way; there may be none.
func (k *Kernel) wake() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.calls["wake"]++
	k.woken = k.inNext
	k.cond.Broadcast()
}

// errno is an error as package ptrace returns it.
func errno(what string, tid int, e unix.Errno) error { return fmt.Errorf("%s %d: %w", what, tid, e) }

// callers are the functions of package tracee on the stack.
func callers() (names string) {
	pcs := make([]uintptr, 32)
	for frames := runtime.CallersFrames(pcs[:runtime.Callers(3, pcs)]); ; {
		f, more := frames.Next()
		if name, ours := strings.CutPrefix(f.Function, "memtrace/record/tracee."); ours {
			names += fmt.Sprintf(" < %s:%d", name, f.Line)
		}
		if !more {
			return names
		}
	}
}

// Log is all that has happened so far.
func (k *Kernel) Log() []Event {
	k.mu.Lock()
	defer k.mu.Unlock()
	return slices.Clone(k.log)
}

// Of are the events of one kind of a thread.
func (k *Kernel) Of(tid int, what What) (es []Event) {
	for _, e := range k.Log() {
		if e.TID == tid && e.What == what {
			es = append(es, e)
		}
	}
	return es
}

// Misuse says which requests no tracer should have made.
func (k *Kernel) Misuse() []string {
	k.mu.Lock()
	defer k.mu.Unlock()
	return slices.Clone(k.misuse)
}

// Requests counts the requests of a kind: "cont", "wake" and so on.
func (k *Kernel) Requests(kind string) int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.calls[kind]
}

// note writes down what has happened.
func (t *thread) note(k *Kernel, e Event) {
	e.TID, e.First = t.tid, t.first
	k.log = append(k.log, e)
}

func (k *Kernel) sorted() []*thread {
	all := make([]*thread, 0, len(k.threads))
	for _, t := range k.threads {
		all = append(all, t)
	}
	slices.SortFunc(all, func(a, b *thread) int { return a.tid - b.tid })
	return all
}

// of are the threads of a process that may still run.
func (k *Kernel) of(p *process) (all []*thread) {
	for _, t := range k.sorted() {
		if t.proc == p && !t.dead && !t.killed {
			all = append(all, t)
		}
	}
	return all
}
