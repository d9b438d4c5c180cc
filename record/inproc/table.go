// This file says which calls are recorded in the program, and makes the table by which the
// code there knows what to keep of each.

package inproc

import (
	"memtrace/format/arch"
	"memtrace/format/call"
)

// Kinds of chunks of a record that this package tells apart; those of pieces are
// call.PieceKind.
const (
	kindOutFixed = uint32(call.PieceOutFixed)
	kindName     = 7
)

// plain are the calls that change no mapping, make no thread or process, change nothing
// about the delivery of signals, and are not about who may run where. What they read and
// write can be said in a few words, or they are left out of the table.
var plain = []string{
	"read", "pread64", "pwrite64", "lseek",
	"stat", "lstat", "fstat", "newfstatat", "statx", "statfs", "fstatfs", "access", "faccessat", "faccessat2", "readlink", "readlinkat",
	"getdents", "getdents64", "getcwd", "chdir", "fchdir", "mkdir", "mkdirat", "fchmod", "fchmodat", "fchown", "utimensat", "fadvise64", "fsync", "fdatasync", "flock",
	"getxattr", "lgetxattr", "fgetxattr", "listxattr", "llistxattr", "flistxattr",
	"getpid", "getppid", "gettid", "getpgrp", "getpgid", "getsid", "getuid", "geteuid", "getgid", "getegid", "getresuid", "getresgid",
	"umask", "uname", "sysinfo", "times", "getrusage", "getrlimit", "sched_yield",
	"clock_gettime", "clock_getres", "gettimeofday", "time", "nanosleep", "clock_nanosleep",
	"poll", "epoll_wait", "epoll_ctl", "setsockopt", "shutdown", "listen", "bind", "connect", "getsockname", "getpeername", "getsockopt",
}

// closing are those that close a descriptor.
var closing = []string{"close", "dup", "dup2", "dup3"}

// opening are those that return a descriptor which is no copy: its name is asked for.
var opening = []string{"open", "openat", "openat2", "creat", "socket", "accept", "accept4", "epoll_create", "epoll_create1", "eventfd", "eventfd2", "timerfd_create", "inotify_init1"}

// Requests of calls that are recorded in the program for these alone.
const (
	fcntlPlain = 1<<0 | 1<<1 | 1<<2 | 1<<3 | 1<<4 | 1<<(32+6) // F_DUPFD, F_GETFD, F_SETFD, F_GETFL, F_SETFL, F_DUPFD_CLOEXEC
	ioctlPlain = 0x5401                                       // TCGETS
)

// Offsets in a row; blob.gas has the same.
const (
	rowClass  = 0
	rowFlags  = 1
	rowQuiet  = 3
	rowRoom   = 4
	rowCond   = 8
	rowPieces = 16
)

// Flags of a row; blob.gas has the same.
const (
	flagBits  = 1
	flagEqual = 2
	flagNames = 4
	flagNoErr = 8
	flagFutex = 16
	flagNoSet = 32
	flagPart  = 64
	flagNoAll = 128

	flagSignal = 0x100
	flagSigset = 0x200
)

// Watched are the signals by which the kernel tells of what happens to the code.
const Watched = 1<<(31-1) | 1<<(11-1) | 1<<(7-1) // SIGSYS, SIGSEGV, SIGBUS

// plainSignals are those whose handlers are set inside, as bits of their numbers. The recorder
// has to look where a program sets that of SIGCHLD (17).
const plainSignals = (1<<64 - 1) &^ (Watched<<1 | 1<<17 | 1)

// wakesRow is the number, which no call has, whose row has the requests of futex(2) that
// wake.
const wakesRow = rowCount - 1

// maxPieces is how many pieces a row has.
const maxPieces = 4

// Table says what the code in the program does with each call.
type Table struct {
	choose func(nr uint32) Choice
	rows   [rowCount * rowSize]byte
}

// Choice is what becomes of a call that could be recorded in the program.
type Choice uint8

// The choices.
const (
	Stops   Choice = iota // it is recorded by stops
	Records               // it is recorded in the program
	Passes                // it is made in the program, and not recorded
)

// NewTable makes the table for what k reads around calls. choose says what becomes of the
// call with a number.
func NewTable(k *call.Collector, choose func(nr uint32) Choice) *Table {
	t := &Table{choose: choose}
	for _, name := range plain {
		t.add(k, name, 0, 0)
	}
	for _, name := range closing {
		t.add(k, name, 0, 0)
	}
	for _, name := range opening {
		t.add(k, name, flagNames, 0)
	}
	t.add(k, "write", flagPart, 0)
	t.add(k, "sendto", flagPart, 0)
	t.add(k, "recvfrom", flagNoAll, 0)
	t.add(k, "fcntl", flagBits, fcntlPlain)
	t.add(k, "ioctl", flagEqual, ioctlPlain)
	t.add(k, "epoll_pwait", flagNoSet, 0)
	t.add(k, "futex", flagFutex, 0)
	t.add(k, "rt_sigaction", flagSignal, plainSignals)
	t.add(k, "rt_sigprocmask", flagSigset, Watched)
	if nr, ok := arch.X86_64.Number("futex"); ok && t.row(nr)[rowClass] != 0 {
		t.fill(k, nr, wakesRow, 1, 1<<31) // FUTEX_WAKE
	}
	return t
}

// row is the row of a call.
func (t *Table) row(nr uint32) []byte { return t.rows[nr*rowSize:][:rowSize] }

// add adds a row, if what is to be kept of the call can be said in it.
func (t *Table) add(k *call.Collector, name string, flags uint16, cond uint64) {
	nr, ok := arch.X86_64.Number(name)
	if !ok || nr >= rowCount || t.choose(nr) == Stops {
		return
	}
	if c := (call.Call{Arch: arch.X86_64, Nr: nr, Args: [6]uint64{2}}); c.ToStandardError() && t.choose(nr) == Records {
		flags |= flagNoErr // more is kept of it
	}
	if t.choose(nr) == Passes {
		flags &^= flagNames
	}
	arg1 := cond
	if flags&(flagBits|flagSigset) != 0 {
		arg1 = 0
	}
	limit := uint32(1 << 31)
	if flags&flagSigset != 0 {
		limit = 8 // as argument 3 is
	}
	if !t.fill(k, nr, nr, arg1, limit) {
		return
	}
	row := t.row(nr)
	room := le.Uint32(row[rowRoom:])
	if flags&flagNames != 0 {
		room += chunkSize(call.MaxPath)
	}
	const most = ringSize / 4 // so that a ring has room for several
	if room > most {
		return
	}
	row[rowClass] = 1
	le.PutUint16(row[rowFlags:], flags)
	le.PutUint32(row[rowRoom:], room)
	le.PutUint64(row[rowCond:], cond)
}

// fill says in the row at what is kept of a call whose argument 1 is arg1, of each piece at most
// limit bytes. It reports whether that can be said.
func (t *Table) fill(k *call.Collector, nr, at uint32, arg1 uint64, limit uint32) bool {
	row := t.row(at)
	room := uint32(recHead)
	if t.choose(nr) == Passes {
		row[rowQuiet] = 1
		le.PutUint32(row[rowRoom:], room)
		return true
	}
	pieces, ok := k.Plan(arch.X86_64, nr, arg1)
	if !ok || len(pieces) > maxPieces {
		return false
	}
	for i, p := range pieces {
		b := row[rowPieces+8*i:]
		b[0], b[1], b[2], b[3] = uint8(p.Kind), p.Arg, p.N, p.Unit
		most := min(p.Most, limit)
		le.PutUint32(b[4:], most)
		room += chunkSize(most)
	}
	le.PutUint32(row[rowRoom:], room)
	return true
}

// chunkSize is how much of a record a chunk of so many bytes takes.
func chunkSize(n uint32) uint32 { return 16 + (n+15)&^15 }

// Records reports whether a call with these first arguments is recorded in the program. It
// may be sent back for others.
func (t *Table) Records(nr, arg0, arg1 uint64) bool {
	if nr >= rowCount {
		return false
	}
	row := t.row(uint32(nr))
	flags := le.Uint16(row[rowFlags:])
	cond := le.Uint64(row[rowCond:])
	switch {
	case row[rowClass] == 0, flags&flagNoErr != 0 && uint32(arg0) == 2:
		return false
	case flags&flagBits != 0:
		bit := uint32(arg1)
		if bit >= 32 {
			bit -= 1024 - 32
		}
		return (uint32(arg1) < 32 || bit >= 32 && bit < 64) && cond>>bit&1 != 0
	case flags&flagSignal != 0:
		return uint32(arg0) < 64 && cond>>uint32(arg0)&1 != 0
	case flags&flagEqual != 0:
		return uint32(arg1) == uint32(cond)
	case flags&flagFutex != 0:
		const private, realtime = 0x80, 0x100
		switch uint32(arg1) &^ (private | realtime) {
		case 0, 9, 1, 10: // FUTEX_WAIT, FUTEX_WAIT_BITSET, FUTEX_WAKE, FUTEX_WAKE_BITSET
			return true
		}
		return false
	}
	return true
}

// Image is what the read-only part has: the code, and the table.
func Image(t *Table) []byte { return append(append(make([]byte, 0, CodeLen), blob...), t.rows[:]...) }
