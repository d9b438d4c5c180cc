// Package replaytest makes small logs with known contents, for the tests of
// what reads logs.
package replaytest

import (
	"bytes"
	"testing"
	"time"

	"memtrace/format"
	"memtrace/format/addr"
	"memtrace/format/arch"
	"memtrace/format/vma"
)

// Addresses of the program of Log.
const (
	Text  addr.Addr = 0x555555554000
	Heap  addr.Addr = 0x555555558000
	Anon  addr.Addr = 0x7ffff7c00000
	Moved addr.Addr = 0x7ffff7a00000
	Shm   addr.Addr = 0x7ffff7b00000
	Stack addr.Addr = 0x7ffffffde000
)

// Builder writes a log event by event, 10 us apart.
type Builder struct {
	tb   testing.TB
	W    *format.Writer
	buf  bytes.Buffer
	time uint64

	// Stack is the call stack of the events that are written next.
	Stack format.StackNode
}

// New starts a log.
func New(tb testing.TB) *Builder { return start(tb, format.Header{}) }

// NewStacks starts a log with call stacks.
func NewStacks(tb testing.TB) *Builder { return start(tb, format.Header{Stacks: true}) }

// NewAt starts a log of another time.
func NewAt(tb testing.TB, at time.Time) *Builder { return start(tb, format.Header{Start: at}) }

// start starts a log that has what h says.
func start(tb testing.TB, h format.Header) *Builder {
	tb.Helper()
	if h.Start.IsZero() {
		h.Start = time.Date(2024, 5, 6, 7, 8, 9, 0, time.UTC)
	}
	b := &Builder{tb: tb}
	w, err := format.NewWriter(&b.buf, &format.Header{
		Arch: arch.X86_64, TimeShift: 7, Start: h.Start,
		Version: "test", Kernel: "6.1.0 #1", Host: "laptop", Dir: "/tmp", Argv: []string{"./prog", "a b"},
		Options: []string{"trace=all", "follow=true"}, XSave: 2696, Stacks: h.Stacks, Refs: h.Refs,
	}, &format.WriterOptions{FlushInterval: -1, GroupSteps: 64})
	if err != nil {
		tb.Fatal(err)
	}
	b.W = w
	return b
}

// Wait lets time pass before the next event.
func (b *Builder) Wait(d time.Duration) { b.time += uint64(d) }

// Now is the time of the last event, in ns.
func (b *Builder) Now() uint64 { return b.time }

// Event writes an event of a thread.
func (b *Builder) Event(thread uint32, r format.Record, changes ...format.Change) format.Step {
	b.tb.Helper()
	return b.EventRegs(thread, r, nil, changes...)
}

// EventRegs writes an event with registers.
func (b *Builder) EventRegs(thread uint32, r format.Record, regs []uint64, changes ...format.Change) format.Step {
	b.tb.Helper()
	b.time += 10240
	n, err := b.W.Event(&format.Event{Time: b.time, Thread: thread, Record: r, Changes: changes, Regs: regs, Stack: b.Stack})
	if err != nil {
		b.tb.Fatal(err)
	}
	return n
}

// Call writes a system call by name that took 2.56 us.
func (b *Builder) Call(thread uint32, name string, ret int64, args []uint64, changes ...format.Change) format.Step {
	b.tb.Helper()
	nr, ok := arch.X86_64.Number(name)
	if !ok {
		b.tb.Fatalf("no call %q", name)
	}
	s := &format.Syscall{Arch: arch.X86_64, Nr: nr, Ret: ret, Returned: true, Enter: b.time + 10240 - 2560}
	copy(s.Args[:], args)
	return b.Event(thread, s, changes...)
}

// Module makes a module known.
func (b *Builder) Module(m format.Module) format.ModuleNo {
	b.tb.Helper()
	no, err := b.W.Module(&m)
	if err != nil {
		b.tb.Fatal(err)
	}
	return no
}

// Through sets the stack of the next events: its frames, the innermost first, and how it
// ends.
func (b *Builder) Through(end format.StackEnd, frames ...format.RawFrame) {
	b.tb.Helper()
	n, err := b.W.Stack(frames, 0, end)
	if err != nil {
		b.tb.Fatal(err)
	}
	b.Stack = n
}

// Bytes ends the log and returns it.
func (b *Builder) Bytes() []byte {
	b.tb.Helper()
	if err := b.W.Close("the program ended"); err != nil {
		b.tb.Fatal(err)
	}
	return b.buf.Bytes()
}

// Map is a change that makes a mapping of n pages.
func Map(mm uint32, a addr.Addr, n uint64, p addr.Prot, name string) *format.VMASet {
	v := vma.VMA{Range: addr.Range{Start: a, End: a + addr.Addr(n)<<addr.PageShift}, Prot: p, Name: name}
	if len(name) > 0 && name[0] == '/' {
		v.Dev, v.Inode = vma.Dev{Major: 8, Minor: 1}, uint64(100+len(name))
	}
	v.Kind = vma.Classify(v)
	return &format.VMASet{MM: mm, VMA: v}
}

// Unmap is a change that takes n pages out.
func Unmap(mm uint32, a addr.Addr, n int) *format.VMADel {
	return &format.VMADel{MM: mm, Range: addr.Range{Start: a, End: a + addr.Addr(n)<<addr.PageShift}}
}

// Page is a change that captures one page filled with c.
func Page(mm uint32, a addr.Addr, c byte) *format.Pages {
	return &format.Pages{MM: mm, Addr: a, N: 1, What: format.PageData, Data: bytes.Repeat([]byte{c}, addr.PageSize)}
}

// Thread is a change that makes a thread known.
func Thread(no, tid, tgid, proc, mm, parent uint32) *format.ThreadSet {
	return &format.ThreadSet{Thread: format.Thread{
		No: no, TID: tid, TGID: tgid, NSTID: tid, Proc: proc, MM: mm, Parent: parent, Arch: arch.X86_64,
	}}
}

// Regs are registers that count up from n.
func Regs(n uint64) []uint64 {
	r := make([]uint64, len(arch.X86_64.Registers()))
	for i := range r {
		r[i] = n + uint64(i)
	}
	return r
}

// Log is the log of a made-up program:
//
//	 0 exec of process 100 with text, heap and stack
//	 1 brk grows the heap by two pages
//	 2 mmap of 16 anonymous pages
//	 3 a snapshot: one page of heap (A), one of anon (B), one of anon is zero
//	 4 openat fails with ENOENT
//	 5 mprotect of the first 4 anonymous pages to r--
//	 6 a memfd object is mapped shared
//	 7 fork: process 101 with a copy
//	 8 the child is given a fresh image by exec
//	 9 the child unmaps its stack's first page
//	10 the child gets a fatal SIGSEGV
//	11 the child ends by it
//	12 SIGCHLD for the parent
//	13 mremap moves 8 anonymous pages and doubles them
//	14 a snapshot: the page of heap is now C
//	15 munmap of the heap's last page
//	16 the system's memory is sampled
//	17 exit_group does not return
//	18 the parent ends with status 3
func Log(tb testing.TB) []byte {
	tb.Helper()
	const rw, rx = addr.Read | addr.Write, addr.Read | addr.Exec
	const page = addr.PageSize
	b := New(tb)
	b.EventRegs(1, &format.Exec{Path: "/tmp/prog", Argv: []string{"./prog", "a b"}, OldTID: 100}, Regs(0x1000),
		&format.MMNew{MM: 1}, Map(1, Text, 4, rx, "/tmp/prog"), Map(1, Heap, 2, rw, "[heap]"),
		Map(1, Stack, 4, rw, "[stack]"), Thread(1, 100, 100, 1, 1, 0))
	b.Call(1, "brk", int64(Heap+4*page), []uint64{uint64(Heap + 4*page)}, Map(1, Heap, 4, rw, "[heap]"))
	b.Call(1, "mmap", int64(Anon), []uint64{0, 16 * page, 3, 0x22, ^uint64(0), 0}, Map(1, Anon, 16, rw, ""))
	b.Event(0, &format.Snapshot{MM: 1, Reason: "interval", Mechanism: format.DirtyWPAsync, Full: true, Pages: 3, PauseNS: 50000},
		Page(1, Heap, 'A'), Page(1, Anon+8*page, 'B'), &format.Pages{MM: 1, Addr: Anon + 9*page, N: 1, What: format.PageZero})
	b.Call(1, "openat", -2, []uint64{0xffffff9c, uint64(Text + 16), 0, 0})
	b.Call(1, "mprotect", 0, []uint64{uint64(Anon), 4 * page, 1}, Map(1, Anon, 4, addr.Read, ""))
	b.Call(1, "mmap", int64(Shm), []uint64{0, 2 * page, 3, 1, 3, 0}, Map(1, Shm, 2, rw|addr.Shared, "/memfd:buf (deleted)"))
	b.Event(1, &format.Clone{Child: 2, Flags: 17}, &format.MMNew{MM: 2, From: 1}, Thread(2, 101, 101, 2, 2, 1))
	b.EventRegs(2, &format.Exec{Path: "/bin/child", Argv: []string{"child"}, OldTID: 101}, Regs(0x2000),
		&format.MMNew{MM: 3}, Map(3, Text, 2, rx, "/bin/child"), Map(3, Stack, 4, rw, "[stack]"),
		Thread(2, 101, 101, 2, 3, 1), &format.MMDrop{MM: 2})
	b.Call(2, "munmap", 0, []uint64{uint64(Stack), page}, Unmap(3, Stack, 1))
	b.Event(2, &format.Signal{Signo: 11, Fatal: true, Info: []byte{11, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0x10}})
	b.Event(2, &format.Exit{Status: 11, Process: true}, &format.ThreadEnd{No: 2}, &format.MMDrop{MM: 3})
	b.Event(1, &format.Signal{Signo: 17, Info: []byte{17, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 101}})
	b.Call(1, "mremap", int64(Moved), []uint64{uint64(Anon + 8*page), 8 * page, 16 * page, 1},
		&format.VMAMove{MM: 1, From: Anon + 8*page, To: Moved, Len: 8 * page},
		Unmap(1, Anon+8*page, 8), Map(1, Moved, 16, rw, ""))
	b.EventRegs(1, &format.Snapshot{MM: 1, Reason: "interval", Mechanism: format.DirtyWPAsync, Pages: 1, PauseNS: 70000}, Regs(0x3000),
		Page(1, Heap, 'C'))
	b.Call(1, "munmap", 0, []uint64{uint64(Heap + 3*page), page}, Unmap(1, Heap+3*page, 1))
	b.Event(0, &format.MemInfo{Samples: []format.Sample{
		{Source: "meminfo", Data: []byte("MemTotal:  8000000 kB\nMemFree: 1000000 kB\nMemAvailable: 4000000 kB\nCached: 2000000 kB\nHugePages_Total: 0\n")},
		{Source: "status", PID: 100, Data: []byte("Name:\tprog\nVmRSS:\t  120 kB\nRssAnon:\t 40 kB\n")},
	}})
	nr, _ := arch.X86_64.Number("exit_group")
	b.Event(1, &format.Syscall{Arch: arch.X86_64, Nr: nr, Args: [6]uint64{3}, Enter: 1000})
	b.Event(1, &format.Exit{Status: 3 << 8, Process: true}, &format.ThreadEnd{No: 1}, &format.MMDrop{MM: 1})
	return b.Bytes()
}

// Open makes a reader of a log in memory.
func Open(tb testing.TB, log []byte) *format.Reader {
	tb.Helper()
	r, err := format.NewReader(bytes.NewReader(log), int64(len(log)), nil)
	if err != nil {
		tb.Fatal(err)
	}
	return r
}
