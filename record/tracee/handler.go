//go:build linux

// This file has the interfaces by which a Group tells what happens.

package tracee

import "memtrace/format/addr"

// Handler is told what happens to the threads of a Group, on the tracing thread
// and in the order in which it is served. The thread at hand stands still until
// the method returns. A Handler does not let it go itself.
type Handler interface {
	// Began tells of a new thread, or of a new program in an old one. Its mappings
	// can be read.
	Began(t *Thread, b Birth)
	// Seen tells that a thread which was attached to stands for the first time: it
	// may have been in the middle of anything.
	Seen(t *Thread)
	// Entered tells that a call is about to be made. With wait the thread stays
	// where it is until Group.Go.
	Entered(t *Thread, c *Call) (wait bool)
	// Returned tells of a completed call.
	Returned(t *Thread, c *Call)
	// Restarted tells that a call was interrupted by us alone and is made again: it
	// will be Entered once more.
	Restarted(t *Thread, c *Call)
	// Abandoned tells, before Removed, that the thread was killed inside a call.
	Abandoned(t *Thread, c *Call)
	// Signalled tells that a signal is about to be delivered. Without deliver the
	// program never sees it.
	Signalled(t *Thread, s *Signal) (deliver bool)
	// Stopped tells that job control has stopped a process by sig, or with 0 that
	// it goes on.
	Stopped(t *Thread, sig int)
	// Paused tells that the stop which Group.Interrupt asked for has come.
	Paused(t *Thread)
	// Ending tells that the thread is about to end, with its memory still there. It
	// never returns from the call that it is in.
	Ending(t *Thread, status uint32)
	// Removed tells that the thread no longer exists. It has left its Space: where
	// that has no threads any more, its memory is gone.
	Removed(t *Thread)
	// Ended tells, after Removed, of the end of a thread, or with process of the
	// last one of its process. status is that of wait(2).
	Ended(t *Thread, status uint32, process bool)
	// Lost tells that something about a thread is not known.
	Lost(t *Thread, what string)
}

// Birth is how a thread, or the program in it, began.
type Birth struct {
	How BirthKind
	// Parent made it (Cloned).
	Parent *Thread
	// Clone is what the parent asked for (Cloned).
	Clone CloneArgs
	// OldTID is the caller's tid before an exec (Executed), Left the address space
	// that it has left, nil for none.
	OldTID uint32
	Left   *Space
	// First says that it is the program that was launched.
	First bool
}

// BirthKind is a way in which a thread begins to be traced.
type BirthKind uint8

// The ways.
const (
	Executed BirthKind = iota // a new program in a thread that was known, or has been launched
	Cloned                    // by a thread that is traced
	Attached                  // it was there before, with all other threads of its process
	Adopted                   // its parent was killed before it could tell of it
)

// Signal is a signal at its delivery.
type Signal struct {
	No    int
	Info  []byte // siginfo without the zeros at its end, valid during Signalled
	Fatal bool   // it will end the process
	// Regs are the thread's registers, in the order of arch.ID.Registers; nil where
	// they cannot be read.
	Regs []uint64
}

// Warden has protections of its own set in the program's memory. It is told, on the
// tracing thread, of what meets them: before the Handler of the same. The thread at hand
// stands still, and calls may be made in its name (Group.Step).
type Warden interface {
	// Faulted tells of a SIGSEGV that the kernel sends for an access to memory that is
	// not mapped or is protected. With ours the program never sees it: the thread makes
	// the access once more.
	Faulted(t *Thread, f *Fault) (ours bool)
	// Enters tells of a call that is about to be made, after Handler.Entered and when its
	// turn has come.
	Enters(t *Thread, c *Call)
	// Returns tells of a completed call before Handler.Returned, and Returned after it.
	Returns(t *Thread, c *Call)
	Returned(t *Thread, c *Call)
	// Delivers tells of a signal that is delivered next.
	Delivers(t *Thread, s *Signal)
	// Frees tells that the threads of an address space, which all stand, are let go for
	// good: what the program finds has to be as it believes.
	Frees(t *Thread)
	// Masked tells of the signals that a thread blocks from now on.
	Masked(t *Thread, mask uint64)
	// Yields tells of a thread that stands, and whose tracer is another tracee: nothing of
	// the Warden's is to meet that one. It reports whether it has made calls in its name.
	Yields(t *Thread) bool
}

// Inside has code in programs that records calls. It is asked and told on the tracing
// thread.
type Inside interface {
	// Enters asks about a thread that stands behind a call and is about to go on, with its
	// registers and the signals that it blocks: with ok it records its calls itself from
	// now on. Calls may be made in its name.
	Enters(t *Thread, regs *[MaxRegisters]uint64, mask uint64) (w Way, ok bool)
	// Drain tells the Handler of the calls that have been recorded since the last time.
	Drain()
	// Behind reports whether there are so many that Drain is to be called again before
	// the next stop is waited for.
	Behind() bool
	// Dispatched tells that the kernel has stopped such a thread before a call that the
	// code was not to make. With on the thread goes on there, with these registers.
	Dispatched(t *Thread, regs *[MaxRegisters]uint64) (on bool)
	// Leaves tells that such a thread has stopped, and is recorded by its stops from now
	// on. regs become what they are for the program. c is a call that the thread was in,
	// or has returned from, and that nobody has been told of, as far as it was known at its
	// beginning.
	Leaves(t *Thread, regs *[MaxRegisters]uint64, how Leave) (c *Call, returned bool)
	// Stop has such a thread stop before or after its next call.
	Stop(t *Thread)
	// InCall is the call that such a thread is in, nil for none.
	InCall(t *Thread) *Call
	// Stands changes the registers of a thread that does not record, and stands in what
	// leads to the code, to what they are for the program. It reports whether they are
	// others now.
	Stands(t *Thread, regs *[MaxRegisters]uint64) (changed bool)
	// Site is where in the program a thread is that has made a call and is at ip.
	Site(t *Thread, ip uint64) uint64
	// Past is where a thread goes on that has made a call and is at ip, if that is in the
	// middle of what leads to the code.
	Past(t *Thread, ip uint64) (to uint64, ok bool)
	// Broken tells of a breakpoint that a thread has met. With true it was one of ours: the
	// thread goes on with these registers.
	Broken(t *Thread, regs *[MaxRegisters]uint64) bool
	// Frees tells that a thread which stands and does not record is let go for good.
	Frees(t *Thread)
}

// Way is how a thread comes to record its calls: what its gs base is, which byte says
// whether the kernel stops it, and from where its calls are let through all the same.
type Way struct {
	GS, Selector addr.Addr
	Allowed      addr.Range
}

// Leave is what kind of stop ends it.
type Leave uint8

// The kinds.
const (
	LeaveStopped    Leave = iota
	LeaveDispatched       // before a call that is not made in the code, or behind one
	LeaveDying            // it runs no more code
	LeaveEnded            // there are no registers any more
)
