//go:build linux

package record

import (
	"golang.org/x/sys/unix"

	"memtrace/format"
	"memtrace/format/addr"
	"memtrace/format/arch"
	"memtrace/format/call"
	"memtrace/format/vma"
	"memtrace/record/procfs"
	"memtrace/record/ptrace"
)

// thread is a traced thread.
type thread struct {
	tid  int
	no   uint32
	proc *process
	mm   *space

	inCall    bool // between the entry and the exit of a system call
	call      format.Syscall
	effect    effect
	clone     cloneArgs // of a clone call in progress
	read      call.Call // the call in progress, with the memory read around it
	collector call.Collector
	block     [3]uint64    // address, length and flags of an old_mmap in progress
	entry     *ptrace.Regs // registers at the beginning of the call in progress,
	noted     bool         // if it is one that may block,
	told      bool         // and whether they are in the log
	quick     [32]quick    // by the number of a call
	xstate    []byte       // as the log has it

	running    bool   // not in a stop that we know of
	loose      bool   // its call has lost its turn, see watch
	queued     bool   // held at a call's entry until another of its address space is done
	listening  bool   // in a group-stop
	skipExit   bool   // the next exit stop belongs to a call that is not the program's
	sticky     bool   // an interrupt of ours met the entry of the call in progress
	resumed    uint64 // when it was last let run
	gap        uint64 // how long it runs between calls: a moving average, ns
	pinRow     int    // in the guard's table
	pinned     bool
	affinity   unix.CPUSet // before it was pinned
	injectable bool        // stands where a call can be made in its name
	preempted  bool        // reported something else while we tried
	faults     int64       // page faults of its process at its last stop
	newborn    bool        // the program has not made a call yet
	exiting    bool
	status     uint32 // the wait status to come, once exiting
	unseen     bool   // attached to, and has not been seen to stand still since
	asked      bool   // an interrupt of ours is on its way
}

// quick is how many calls of a kind in a row have come back at once, and how
// many it takes to believe that the next will.
type quick struct{ n, enough uint16 }

// cloneArgs is what a clone, fork or vfork asked for.
type cloneArgs struct {
	flags uint64 // exit signal in the low byte
	stack uint64
}

// process is a traced thread group.
type process struct {
	pid     int
	no      uint32 // thread number of its first thread
	parent  uint32
	arch    arch.ID
	threads map[int]*thread
	stopped bool // by job control
	live    int  // threads that have not begun to exit
	texts   *procTexts
}

// space is an address space with the table of its mappings as the log has it.
type space struct {
	no    uint32
	users map[*thread]struct{}
	fs    *procfs.Process
	pid   int // of the thread that fs is opened by
	vmas  *vma.Set
	brk   addr.Addr    // as the last brk call said, 0 before one
	grow  []addr.Addr  // addresses in mappings that grow by themselves: the main stack first
	wipe  []addr.Range // MADV_WIPEONFORK

	// busy is the thread whose address-space-changing call is under way; others
	// that want to make one wait in queue, so that the log's order is the
	// kernel's.
	busy      *thread
	queue     []*thread
	track     tracking
	ran       bool   // a thread has run since the last snapshot, or that was not whole
	notBefore uint64 // no interval snapshot before this time
	leftOut   int    // interval snapshots since the last
	faults    int64  // page faults when the growing mappings were last looked at
	shared    bool   // by several processes: the faults of one do not tell
	turn      uint64 // how often busy has been set
	strangers bool   // processes that are not traced may share it
	uffd      bool   // the program may have a userfaultfd of its own for it
	loose     int    // calls under way that have lost their turn
	// watching: a timer looks after busy.
	watching bool
	// text is /proc/PID/maps at the last refresh; changed says that the table
	// has moved on since.
	text    []byte
	changed bool
	stacks  []addr.Addr // the first stack bytes of threads
}
