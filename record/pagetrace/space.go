//go:build linux

// This file has the page trace of an address space by engine prot, and what it keeps of threads.

package pagetrace

import (
	"math"

	"memtrace/format/addr"
	"memtrace/format/vma"
	"memtrace/record/procfs"
	"memtrace/record/refs"
	"memtrace/record/tracee"
)

// RefMemory is an address space whose references may be recorded.
type RefMemory interface {
	Memory
	// Refresh has the kernel asked for all mappings.
	Refresh()
	// VDSO is the mapping that has instructions which enter the kernel, and its bytes.
	VDSO() (vma.VMA, []byte)
	// Moving reports whether a thread is in a call that may be taking pages away or moving them.
	Moving() bool
	// Users says who else accesses it, at times that nobody knows; "" for nobody.
	Users() string
	// OwnUffd reports whether the program may have a userfaultfd of its own for it.
	OwnUffd() bool
}

// Space is an address space that may have a page trace.
type Space struct {
	*tracee.Space
	RefMemory
	wanted bool
	trace  trace
}

// NewSpace makes one whose trace, if it is wanted, has not begun.
func NewSpace(s *tracee.Space, m RefMemory, wanted bool) Space {
	return Space{Space: s, RefMemory: m, wanted: wanted}
}

// traceState is how far it has come with the page trace of an address space.
type traceState uint8

const (
	traceIdle traceState = iota // it begins when a thread stands where a call can be made in its name
	traceOn
	traceOff // it was refused, or has ended
)

// trace is the page trace of an address space. The zero value has not begun.
type trace struct {
	*refs.Space
	state  traceState
	gate   tracee.Gate
	spare  addr.Addr // bytes in the vdso that nobody uses, 0 for none
	code   map[addr.Addr]instruction
	late   addr.Set    // to be closed when a thread stands where it can be done
	rooted []addr.Addr // pages that were written to, and have to be given back
	stack  addr.Addr   // lowest address of the main stack, as far as it is traced

	program   uint64   // time of the program, ns
	accounted uint64   // until when it is
	refused   addr.Set // that the kernel does not close
	passed    bool     // it has been said that some mappings are not traced
	missed    bool     // references of this phase may be missing
	pace      tracePace
}

// instruction is what is known of an instruction that has met closed memory.
type instruction struct {
	access refs.Access
	plain  bool // it is in no restartable sequence
}

// Thread is what is kept of a thread for a page trace.
type Thread struct {
	blocked uint64     // signals
	seen    uint64     // by the clock of its address space, when it was let go
	alt     addr.Range // stack for signal handlers
	closing addr.Set   // to be closed when the call at hand has been written
	met     addr.Addr  // the instruction of the last fault, if the thread has not stopped since
	dead    addr.Range // nobody may use it before the call at hand is over
	fault   [27]uint64 // registers at the last fault
	linger  bool       // what the last call held is held still
}

// account adds the time that a thread has run to the program's.
func (p *trace) account(t *tracee.Thread, now uint64) {
	if from := max(p.accounted, t.Resumed()); from < now {
		p.ran(now - from)
	}
	p.accounted = now
}

// ran adds to the program's time.
func (p *trace) ran(d uint64) {
	p.program += d
	p.pace.total.ran += d
}

// accountFault is account for a thread that has met closed memory: what the stop has taken
// is not the program's.
func (p *trace) accountFault(t *tracee.Thread, now uint64) {
	ran := p.pace.stopped(now - t.Resumed())
	if from := max(p.accounted, t.Resumed()); from < now {
		p.ran(min(now-from, ran))
	}
	p.accounted = now
}

// openedLate reports whether a thread may have met closed memory before all was opened for
// ever. Then the access is made once more.
func (p *trace) openedLate(th *Thread, f *tracee.Fault) bool {
	if p.state != traceOff || p.Space == nil || !f.Mapped || th.seen == math.MaxUint64 {
		return false
	}
	th.seen = math.MaxUint64
	return true
}

// readClosed has the memory around calls read also where it is closed: process_vm_readv
// fails there, /proc/PID/mem does not.
func (m *Space) readClosed() {
	if m.Space.Read == nil {
		m.Space.Read = func(b []byte, a addr.Addr) int {
			if m.Kernel() == nil {
				return 0
			}
			n, _ := m.Kernel().ReadMem(b, a)
			return n
		}
	}
}

// pinArguments leaves the program's arguments and environment open: where they are closed,
// /proc/PID/cmdline and environ are empty, for the program and for others (ps(1), pgrep(1)).
func (m *Space) pinArguments(pid int) {
	args, env := procfs.Arguments(pid)
	for _, r := range []addr.Range{args, env} {
		if !r.Empty() {
			m.trace.Pin(r.Start, r.Len())
		}
	}
}
