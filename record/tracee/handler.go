//go:build linux

// This file has the interface by which a Group tells what happens.

package tracee

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
