//go:build linux

// This file has system calls, and says by the number of one what a Group has to do about it.

package tracee

import (
	"sync"

	"golang.org/x/sys/unix"

	"memtrace/format/arch"
	"memtrace/format/call"
)

// Call is a system call of a thread, in progress or completed.
type Call struct {
	call.Call        // with the memory that was read around it
	Enter     uint64 // ns since the start of the Group, when it began
	Leave     uint64 // when it was seen to be over
	IP        uint64 // at its end
	Inside    bool   // it was recorded in the program
	Clone     CloneArgs
}

// isCall reports whether a call has a name.
func isCall(c *Call, name string) bool {
	nr, ok := c.Arch.Number(name)
	return ok && nr == c.Nr
}

// CloneArgs is what a clone, fork or vfork asked for.
type CloneArgs struct {
	Flags uint64 // CLONE_VM and its like, with the exit signal in the low byte
	Stack uint64 // the stack pointer that the child starts with; 0 is the parent's
}

// Thread reports whether a thread was asked for, and not a process.
func (c CloneArgs) Thread() bool { return c.Flags&unix.CLONE_THREAD != 0 }

// SharesMemory reports whether the child shares its parent's address space.
func (c CloneArgs) SharesMemory() bool { return c.Flags&unix.CLONE_VM != 0 }

// sight is what of the tracing a call could see.
type sight uint8

const (
	seesNothing  sight = iota
	seesParent         // makes a thread or process, which inherits from its parent
	seesAffinity       // asks for or sets where threads may run
)

// perCall is what a table has of one call.
type perCall struct {
	sight   sight
	makes   bool // descriptors that are no copies
	blocks  bool // threads are found waiting in it
	divides bool // may come back with a part of what it was to do, see dividedCalls
	file    bool // takes the path of a file
	masks   bool // may change which signals a thread blocks
}

// affinityCalls see where threads may run.
var affinityCalls = []string{"sched_getaffinity", "sched_setaffinity"}

var cloneCalls = []string{"clone", "clone3", "fork", "vfork"}

// copyCalls make descriptors that are called what others are.
var copyCalls = []string{"dup", "dup2", "dup3", "fcntl", "fcntl64"}

// maskCalls may change which signals a thread blocks.
var maskCalls = []string{"rt_sigprocmask", "sigprocmask", "rt_sigreturn", "sigreturn", "ssetmask"}

// blockingCalls are those in which threads are mostly found that wait for
// something.
var blockingCalls = []string{
	"read", "readv", "pread64", "preadv", "write", "writev", "sendto", "sendmsg", "sendmmsg", "send", "recvfrom", "recvmsg", "recvmmsg", "recv",
	"accept", "accept4", "connect", "poll", "ppoll", "select", "pselect6", "old_select", "epoll_wait", "epoll_pwait", "epoll_pwait2",
	"futex", "futex_wait", "futex_waitv", "wait4", "waitid", "waitpid", "nanosleep", "clock_nanosleep", "pause",
	"rt_sigsuspend", "sigsuspend", "rt_sigtimedwait", "flock", "fcntl", "fcntl64", "semop", "semtimedop", "msgrcv", "msgsnd", "mq_timedreceive",
	"io_getevents", "io_pgetevents", "io_uring_enter", "vfork", "clone", "clone3", "open", "openat", "fsync", "fdatasync", "restart_syscall", "socketcall", "ipc",
}

var perCalls = sync.OnceValue(func() *[arch.I386 + 1][arch.MaxSyscall]perCall {
	t := new([arch.I386 + 1][arch.MaxSyscall]perCall)
	for _, id := range []arch.ID{arch.X86_64, arch.I386} {
		each := func(names []string, f func(*perCall)) {
			for _, name := range names {
				if nr, ok := id.Number(name); ok {
					f(&t[id][nr])
				}
			}
		}
		for nr, c := range id.Syscalls() {
			_, t[id][nr].divides = dividedCalls[c.Name]
			t[id][nr].divides = t[id][nr].divides || c.Name == "socketcall"
			t[id][nr].makes, t[id][nr].file = c.Flags&arch.NamesFD != 0, c.Flags&arch.File != 0
		}
		each(copyCalls, func(c *perCall) { c.makes = false })
		each(cloneCalls, func(c *perCall) { c.sight = seesParent })
		each(affinityCalls, func(c *perCall) { c.sight = seesAffinity })
		each(blockingCalls, func(c *perCall) { c.blocks = true })
		each(maskCalls, func(c *perCall) { c.masks = true })
	}
	return t
})

func aboutCall(id arch.ID, nr uint32) perCall {
	if id > arch.I386 || nr >= arch.MaxSyscall {
		return perCall{}
	}
	return perCalls()[id][nr]
}

func sees(id arch.ID, nr uint32) sight     { return aboutCall(id, nr).sight }
func makesFDs(id arch.ID, nr uint32) bool  { return aboutCall(id, nr).makes }
func mayBlock(id arch.ID, nr uint32) bool  { return aboutCall(id, nr).blocks }
func divides(id arch.ID, nr uint32) bool   { return aboutCall(id, nr).divides }
func setsMask(id arch.ID, nr uint32) bool  { return aboutCall(id, nr).masks }
func takesFile(id arch.ID, nr uint32) bool { return aboutCall(id, nr).file }

// arity is how many arguments a call takes; of one that no table has, all there
// may be.
func arity(id arch.ID, nr uint32) uint8 {
	row, ok := id.Syscall(nr)
	if !ok {
		return 6
	}
	return row.NArg
}
