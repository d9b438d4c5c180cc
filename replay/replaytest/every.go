package replaytest

import (
	"testing"

	"memtrace/format"
	"memtrace/format/addr"
	"memtrace/format/arch"
)

// odd has what a text can hold that JSON, CSV and terminals treat in a way of
// their own.
const odd = "a<b>&c,\"d\" \\ \x01\x7f\r\n\t\u2028\u00e9 \xff\xfe"

// Every is a log with every kind of record, in each of the forms that are
// written differently, and every kind of change of a mapping.
func Every(tb testing.TB) []byte {
	tb.Helper()
	const rw, page = addr.Read | addr.Write, addr.PageSize
	b := New(tb)
	leader := Thread(1, 100, 100, 1, 1, 0)
	leader.Thread.NSTID = 7
	b.Event(1, &format.Exec{Path: "/tmp/" + odd, Argv: []string{"./prog", odd, ""}, OldTID: 100},
		&format.MMNew{MM: 1}, leader, Map(1, Text, 4, addr.Read|addr.Exec, "/tmp/"+odd), Map(1, Heap, 2, rw, "[heap]"))
	b.Event(0, &format.Attach{PID: 100, Path: "/tmp/prog", Argv: []string{"./prog"}})
	everyCall(tb, b)
	b.Call(1, "mprotect", 0, []uint64{uint64(Heap), page, 1}, Map(1, Heap, 1, addr.Read, "[heap]"))
	b.Call(1, "mmap", int64(Anon), []uint64{0, 4 * page, 3, 0x22, ^uint64(0), 0}, Map(1, Anon, 4, rw, ""))
	b.Call(1, "mremap", int64(Moved), []uint64{uint64(Anon), page, page, 1},
		&format.VMAMove{MM: 1, From: Anon, To: Moved, Len: page}, Unmap(1, Anon, 1), Map(1, Moved, 1, rw, ""))
	b.Call(1, "prctl", 0, []uint64{0x53564d41, 0, uint64(Anon + page), page, 0}, Map(1, Anon+page, 1, rw, "[anon:"+odd+"]"))
	b.Event(1, &format.Clone{Child: 2, Flags: 0x3d0f00}, Thread(2, 101, 100, 1, 1, 0))
	b.Event(1, &format.Clone{Child: 3, Flags: 17}, &format.MMNew{MM: 2, From: 1}, Thread(3, 102, 102, 3, 2, 1))
	b.Event(1, &format.Clone{Child: 9, Flags: 17})
	b.Event(3, &format.Stop{What: format.GroupStop, Signo: 19}, Unmap(1, Heap, 1))
	b.Event(3, &format.Stop{What: format.Continued})
	for _, s := range []format.Signal{
		{Signo: 11, Fatal: true, Info: []byte{11, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0x10}},
		{Signo: 10, Info: []byte{10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 100}},
		{Signo: 17, Info: []byte{17, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 101}},
		{Signo: 35},
	} {
		b.Event(3, &s)
	}
	b.Event(0, &format.Snapshot{MM: 1, Reason: format.ReasonSweep, Mechanism: format.DirtySoft, Pages: 1}, Page(1, Moved, 'A'))
	b.Event(0, &format.Snapshot{MM: 2, Reason: "interval", Mechanism: format.DirtyCompare, Full: true, Pages: 1 << 40, PauseNS: 70000}, Page(2, Heap, 'B'))
	b.Event(1, &format.Snapshot{MM: 77, Reason: "step", Mechanism: format.DirtyWPAsync})
	b.Event(0, &format.MemInfo{Samples: []format.Sample{
		{Source: "meminfo", Data: []byte("MemTotal:  8000000 kB\nMemFree: 1000000 kB\n")},
		{Source: "status", PID: 100, Data: []byte("Name:\t" + odd)},
	}})
	b.Event(0, &format.MemInfo{})
	b.Event(0, &format.Check{MM: 1, OK: true})
	b.Event(0, &format.Check{MM: 2, Diff: "-" + odd, Maps: []byte("maps")})
	b.Event(0, &format.Poke{MM: 2, Addr: Heap, Old: []byte{1, 0xff}, New: []byte{2}})
	b.Event(0, &format.Lost{What: odd})
	b.Event(0, &format.Outside{Why: odd})
	b.Event(1, &format.Outside{Until: format.UntilOver, Why: "it has a seccomp filter of its own"})
	b.Event(0, &format.Unknown{Code: 999, Data: []byte(odd)})
	b.Event(2, &format.Exit{Status: 1 << 8}, &format.ThreadEnd{No: 2})
	b.Event(3, &format.Exit{Status: 11 | 0x80, Process: true}, &format.ThreadEnd{No: 3}, &format.MMDrop{MM: 2})
	b.Event(1, &format.Detach{Reason: odd}, &format.ThreadEnd{No: 1}, &format.MMDrop{MM: 1})
	return b.Bytes()
}

// everyCall writes system calls: with and without an error, a name, a return,
// registers and data.
func everyCall(tb testing.TB, b *Builder) {
	tb.Helper()
	nr, ok := arch.X86_64.Number("openat")
	if !ok {
		tb.Fatal("no call openat")
	}
	path := format.Buf{Arg: 1, Addr: Heap, Data: []byte("/tmp/" + odd)}
	call := func(s format.Syscall) {
		s.Enter = b.time + 10240 - 2560
		b.Event(1, &s)
	}
	open := format.Syscall{Arch: arch.X86_64, Nr: nr, Args: [6]uint64{0xffffff9c, uint64(Heap)}, Ret: 3, Returned: true, IP: uint64(Text), SP: uint64(Stack), Bufs: []format.Buf{path}}
	call(open)
	open.Ret, open.IP, open.SP = -2, 0, 0
	call(open)
	open.Ret = -512 // an error that has no name for programs
	call(open)
	open.Returned, open.Ret = false, 0
	call(open)
	call(format.Syscall{Arch: arch.I386, Nr: 5, Args: [6]uint64{1, 2, 3}, Ret: -1, Returned: true})
	call(format.Syscall{Arch: arch.X86_64, Nr: 9999, Args: [6]uint64{1, 2, 3, 4, 5, 6}, Ret: -38, Returned: true})
	call(format.Syscall{Arch: arch.X86_64, Nr: 39, Ret: 100, Returned: true, IP: uint64(Text), SP: uint64(Stack), Inside: true})
	b.Call(1, "getpid", 100, nil)
}
