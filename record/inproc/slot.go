// This file has the memory that a program and the recorder share: the slot, which is what
// the code in the program keeps, and the ring, in which the records of calls are.

package inproc

import (
	"errors"

	"memtrace/format/addr"
)

// fdPath is where the names of a thread's descriptors are. A thread that is not the first
// of its process has them also when that has ended.
const fdPath = "/proc/thread-self/fd/"

// ErrRing is the error of a ring that has something else in it than the code writes: the
// program has written to it.
var ErrRing = errors.New("the program has overwritten its records")

// Slot is the recorder's view of what it shares with a thread.
type Slot struct {
	words // slot and ring
	base  addr.Addr
	block int    // the byte of slotOwner that is 1
	taken []byte // records that have been taken out of the ring
	at    int    // the next of them
	last  int    // the one that was read last
}

// NewSlot prepares slot i of the code. shared is it, as the recorder has it mapped, SlotLen
// bytes.
func NewSlot(c Code, i int, shared []byte) *Slot {
	s := &Slot{words: shared, base: c.Slot(i)}
	clear(shared[:slotOwner])
	clear(shared[slotWaited:slotSize])
	s.store(slotTime+8, waitMost)
	s.store(slotSelf, uint64(s.base))
	copy(shared[slotPath:], fdPath)
	if b, ok := blockingByte(s.load32(slotOwner)); ok {
		s.block = b
	} else {
		s.store32(slotOwner, 1)
	}
	return s
}

// Action is a struct sigaction of the kernel's kind (rt_sigaction(2); struct kernel_sigaction of
// glibc).
type Action struct{ Handler, Flags, Restorer, Mask uint64 }

// Flags of an Action, and handlers that are none (include/uapi/asm-generic/signal-defs.h).
const (
	hasInfo     = 4          // SA_SIGINFO
	hasRestorer = 0x04000000 // SA_RESTORER
	onStack     = 0x08000000 // SA_ONSTACK
	once        = 0x80000000 // SA_RESETHAND

	byDefault = 0
	ignored   = 1
)

// Instead is the action of SIGSYS that has it handled by the code, which calls the handler of a
// for signals that are the program's. There is none where the kernel would take the handler away
// by itself.
func (c Code) Instead(a Action) (ours Action, ok bool) {
	switch {
	case a.Handler == ignored || a.Handler != byDefault && a.Flags&once != 0:
		return a, false
	case a.Handler == byDefault:
		a = Action{Flags: onStack}
	}
	a.Handler = uint64(c.at(labels.Handler))
	a.Flags |= hasInfo // the code reads it; a handler without finds nothing changed (arch/x86/kernel/signal_64.c)
	if a.Flags&hasRestorer == 0 {
		a.Flags, a.Restorer = a.Flags|hasRestorer, uint64(c.at(labels.Restorer))
	}
	return a, true
}

// Action is where there is room for an Action, which the code does not use.
func (c Code) Action() addr.Addr { return c.Slot(0) + slotAction }

// waitMost is how many ns a thread waits for room in its ring before it looks again whether
// somebody is going to make some.
const waitMost = 1_000_000

// Base is where the slot is: the gs base of the thread that records there.
func (s *Slot) Base() addr.Addr { return s.base }

// Selector is where the byte is that says whether the kernel stops the thread at calls
// outside of the code.
func (s *Slot) Selector() addr.Addr { return s.base + slotOwner + addr.Addr(s.block) }

// Leave says whether the thread is to stop before or after its next call.
func (s *Slot) Leave(yes bool) {
	v := uint32(0)
	if yes {
		v = 1
	}
	s.store32(slotLeave, v)
}

// Masked says whether the thread blocks a signal of Watched: then the code changes no mask.
func (s *Slot) Masked(yes bool) {
	v := uint32(0)
	if yes {
		v = 1
	}
	s.store32(slotMask, v)
}

// Redirect has the thread go on at another place when its call is over, if it was to go on at
// from.
func (s *Slot) Redirect(from, to addr.Addr) {
	if s.load32(slotBegun) != begunNone && s.load(slotRet) == uint64(from) {
		s.store(slotRet, uint64(to))
	}
}

// InCall reports whether the thread is about to make a call, or is in it.
func (s *Slot) InCall() bool { return s.load32(slotBegun) == begunCall }

// Writing reports whether a call has returned whose record is not whole.
func (s *Slot) Writing() bool { return s.load32(slotBegun) == begunBack }

// Waiting reports whether records have been written and not been read.
func (s *Slot) Waiting() bool { return s.at < len(s.taken) || s.load(slotHead) != s.load(slotTail) }

// Written is how many bytes of records have been written, ever.
func (s *Slot) Written() uint64 { return s.load(slotHead) }

// Full reports whether the ring has no more than little room, Filling whether it may have
// none in a few milliseconds.
func (s *Slot) Full() bool    { return s.load(slotHead)-s.load(slotTail) > ringSize/2 }
func (s *Slot) Filling() bool { return s.load(slotHead)-s.load(slotTail) > ringSize/16 }

// Record is a call, as the code in the program has written it. Its memory is the Slot's:
// it is valid until the next Take.
type Record struct {
	Nr         uint32
	Begin, End uint64 // by the processor's time stamp counter
	Args       [6]uint64
	Ret        int64
	Return     addr.Addr // where the thread goes on
	SP         uint64
	chunks     []byte
}

// parse reads a record of so many bytes.
func (r *Record) parse(b []byte) {
	*r = Record{
		Nr: le.Uint32(b[recNr:]), Begin: le.Uint64(b[recBegin:]), End: le.Uint64(b[recEnd:]), Ret: int64(le.Uint64(b[recRet:])),
		Return: addr.Addr(le.Uint64(b[recReturn:])), SP: le.Uint64(b[recSP:]), chunks: b[recHead:],
	}
	for i := range r.Args {
		r.Args[i] = le.Uint64(b[recArgs+8*i:])
	}
}

// Take takes all records out of the ring, behind those that have been taken and not been
// read: the program has all of the ring again. It fails if there is something else in the
// ring than the code writes.
func (s *Slot) Take() error {
	s.taken, s.at, s.last = append(s.taken[:0], s.taken[s.at:]...), 0, 0
	ring := s.words[slotSize:]
	head, tail := s.load(slotHead), s.load(slotTail)
	if head-tail > ringSize {
		s.store(slotTail, head)
		return ErrRing
	}
	for tail != head {
		from := tail % ringSize
		n := min(head-tail, ringSize-from)
		s.taken = append(s.taken, ring[from:from+n]...)
		tail += n
	}
	s.store(slotTail, head)
	s.store32(slotWaited, 0)
	if s.load32(slotWaits) != 0 {
		wake(word32(s.words, slotTail))
	}
	return nil
}

// Next reads the next of the records that have been taken into r, which is valid until the
// next Take. It reports false where there is none.
func (s *Slot) Next(r *Record) (bool, error) {
	for s.at < len(s.taken) {
		rest := s.taken[s.at:]
		if len(rest) < 16 {
			return false, s.broken()
		}
		size := int(le.Uint32(rest))
		if size < 16 || size%16 != 0 || size > len(rest) {
			return false, s.broken()
		}
		s.last = s.at
		s.at += size
		if le.Uint32(rest[recNr:]) == recPad {
			continue
		}
		if size < recHead {
			return false, s.broken()
		}
		r.parse(rest[:size])
		return true, nil
	}
	return false, nil
}

// Unread has the record that Next has read last be the next once more.
func (s *Slot) Unread() { s.at = s.last }

// broken drops what cannot be read.
func (s *Slot) broken() error {
	s.at = len(s.taken)
	return ErrRing
}

// Begun reads the record of the call that the thread is in: what was written before the
// call. It reports false if there is none.
func (s *Slot) Begun(r *Record) bool {
	if s.load32(slotBegun) == begunNone {
		return false
	}
	rec, end := s.load(slotRec)-uint64(s.base), s.load(slotEnd)-uint64(s.base)
	if rec < slotSize || rec >= SlotLen || end < rec+recHead || end > SlotLen {
		return false
	}
	r.parse(s.words[rec:end])
	return true
}

// Forget drops the record of the call that the thread was in: somebody else tells of it.
func (s *Slot) Forget() { s.store32(slotBegun, begunNone) }

// Read copies what the record has of the program's memory from a on, and returns how many
// bytes there are. outs says whether what the call wrote is wanted, or what it read.
func (r *Record) Read(b []byte, a addr.Addr, outs bool) int {
	var most []byte // of several that overlap, the one that reaches furthest
	for c := range r.all {
		if out := c.kind >= kindOutFixed; out != outs || c.kind == kindName || a < c.at || a >= c.at+addr.Addr(len(c.data)) {
			continue
		}
		if rest := c.data[a-c.at:]; len(rest) > len(most) {
			most = rest
		}
	}
	return copy(b, most)
}

// Name is the name of the descriptor that the call has made, nil if there is none.
func (r *Record) Name() []byte {
	for c := range r.all {
		if c.kind == kindName {
			return c.data
		}
	}
	return nil
}

// chunk is a part of a record: memory of the program, or a name.
type chunk struct {
	at   addr.Addr
	kind uint32
	data []byte
}

// all yields the chunks.
func (r *Record) all(yield func(chunk) bool) {
	const head = 16
	for b := r.chunks; len(b) >= head; {
		n := int(le.Uint32(b[8:]))
		c := chunk{at: addr.Addr(le.Uint64(b)), kind: le.Uint32(b[12:])}
		if b = b[head:]; n > len(b) {
			return
		}
		if c.data = b[:n]; !yield(c) {
			return
		}
		b = b[min(len(b), (n+15)&^15):]
	}
}
