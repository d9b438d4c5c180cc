// This file says of each call where it may change mappings.

package space

import (
	"sync"

	"memtrace/format/arch"
	"memtrace/format/call"
)

// Effect is where a call may change the mappings: what to ask the kernel about
// when it is over. Table.Apply serves all but the exported ones, which concern
// more than one address space or none; their comments say what remains to do.
type Effect uint8

const (
	EffNone Effect = iota
	effBrk
	effMap    // result, length in argument 1
	effOldMap // i386: the six arguments are in memory
	effUnmap  // arguments 0 and 1; what was there is gone
	effRemap  // old and new place
	effRange  // arguments 0 and 1
	effAdvise // the same, with advice that may drop contents
	effShmat  // the mapping at the result
	effIPC    // i386: shmat and shmdt among others
	effPrctl  // a name, or anything
	effAll    // anything in this address space
	effShadow // a new mapping at the result
	effIoctl  // userfaultfd registers ranges by ioctl

	EffClone     // a new thread or process: fork, or mark its stack
	EffPaths     // names of files mapped anywhere: refresh the tables that mention them
	EffEverybody // anything in any address space: refresh all tables after Apply
	EffUffd      // makes a userfaultfd of the program's own
	EffClose     // may close one, which lets the kernel merge what it watched: refresh
	EffRing      // makes a ring by which the kernel writes to memory on its own
	EffRingEnter // hands a ring what it is to do
	EffAffinity  // asks for or sets where threads may run
)

// Exclusive reports whether calls with this effect are let go one at a time in an
// address space.
func (e Effect) Exclusive() bool {
	switch e {
	case EffNone, EffPaths, EffEverybody, effIoctl, EffAffinity, EffUffd, EffClose, EffRing, EffRingEnter:
		return false
	}
	return true
}

// Maps reports whether a call with this effect may change a line of
// /proc/PID/maps.
func (e Effect) Maps() bool {
	switch e {
	case EffNone, EffClone, EffAffinity, EffUffd, EffClose, EffRing, EffRingEnter:
		return false
	}
	return true
}

var effectNames = map[string]Effect{
	"brk": effBrk, "mmap": effMap, "mmap2": effMap, "old_mmap": effOldMap, "munmap": effUnmap, "mremap": effRemap,
	"mprotect": effRange, "pkey_mprotect": effRange, "remap_file_pages": effRange, "mlock": effRange, "mlock2": effRange,
	"munlock": effRange, "mbind": effRange, "set_mempolicy_home_node": effRange, "mseal": effRange, "madvise": effAdvise,
	"shmat": effShmat, "ipc": effIPC, "prctl": effPrctl, "map_shadow_stack": effShadow, "ioctl": effIoctl,
	"clone": EffClone, "clone3": EffClone, "fork": EffClone, "vfork": EffClone,
	"shmdt": effAll, "mlockall": effAll, "munlockall": effAll, "io_setup": effAll, "io_destroy": effAll, "arch_prctl": effAll,
	"uselib": effAll, "process_madvise": EffEverybody, "userfaultfd": EffUffd, "io_uring_setup": EffRing, "io_uring_enter": EffRingEnter, "close": EffClose, "close_range": EffClose, "dup2": EffClose, "dup3": EffClose,
	"sched_getaffinity": EffAffinity, "sched_setaffinity": EffAffinity,
}

// effects is the table by number. The flags of format/arch have the last word on
// which calls may do what; execve is served at its event.
var effects = sync.OnceValue(func() *[arch.I386 + 1][arch.MaxSyscall]Effect {
	table := new([arch.I386 + 1][arch.MaxSyscall]Effect)
	for _, id := range []arch.ID{arch.X86_64, arch.I386} {
		for nr, c := range id.Syscalls() {
			e, named := effectNames[c.Name]
			switch {
			case c.Name == "execve", c.Name == "execveat":
			case id == arch.I386 && c.Name == "mmap":
				e = effOldMap
			case c.Flags&arch.Renames != 0:
				e = EffPaths
			case !named && c.Flags&arch.ChangesMM != 0:
				e = effAll
			}
			table[id][nr] = e
		}
	}
	return table
})

// MakesUffd reports whether a call is the ioctl that makes a userfaultfd out of
// /dev/userfaultfd (USERFAULTFD_IOC_NEW, include/uapi/linux/userfaultfd.h).
func MakesUffd(c *call.Call) bool {
	return EffectOf(c.Arch, c.Nr) == effIoctl && uint32(c.Args[1]) == 0xaa00
}

// EffectOf is the effect of a call of an architecture.
func EffectOf(id arch.ID, nr uint32) Effect {
	if id > arch.I386 || nr >= arch.MaxSyscall {
		return EffNone
	}
	return effects()[id][nr]
}
