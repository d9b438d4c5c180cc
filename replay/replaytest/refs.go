package replaytest

import (
	"testing"

	"memtrace/format"
	"memtrace/format/addr"
)

// Pager records references to pages of one address space as a recorder with a pool
// does: of each phase the first reference to each page.
type Pager struct {
	B    *Builder
	MM   uint32
	Pool int
	Size uint64 // of a block; 0: a page
	Time uint64 // of the program, ns; a reference takes 1 us

	open    map[addr.Addr]bool
	written map[addr.Addr]bool
}

// Touch is a reference of the program's; it says whether it was recorded.
func (p *Pager) Touch(thread uint32, page, ip addr.Addr, kind format.RefKind) bool {
	p.B.tb.Helper()
	p.Time += 1000
	page &^= addr.Addr(p.size() - 1)
	if p.open == nil || len(p.open) >= p.Pool && !p.open[page] {
		p.Phase()
	}
	if kind == format.RefWrite {
		p.written[page] = true
	}
	if p.open[page] {
		return false
	}
	p.open[page] = true
	if err := p.B.W.Ref(&format.Ref{Thread: thread, MM: p.MM, Page: page, IP: ip, Kind: kind, Time: p.Time}); err != nil {
		p.B.tb.Fatal(err)
	}
	return true
}

func (p *Pager) size() uint64 { return max(p.Size, addr.PageSize) }

// Phase begins a phase.
func (p *Pager) Phase() {
	p.B.tb.Helper()
	var set addr.Set
	for a := range p.written {
		set.Add(addr.Reach(a, p.size()))
	}
	mark := format.Phase{MM: p.MM, Engine: format.EngineProt, Granule: p.size(), Pool: uint64(p.Pool), Time: p.Time, Exact: p.open != nil}
	for r := range set.All() {
		mark.Written = append(mark.Written, r)
	}
	if err := p.B.W.Phase(&mark); err != nil {
		p.B.tb.Fatal(err)
	}
	p.open, p.written = map[addr.Addr]bool{}, map[addr.Addr]bool{}
}

// RefLog is the log of a made-up program of two processes, with references to pages in
// phases of 8. It is:
//
//	0 exec of process 100, with text, 64 pages of heap, and stack
//	1 a read, after it has gone over 16 pages of heap four times and written to each,
//	  calling a function in another page of text each time
//	2 a clone: thread 102
//	3 a read, after both have used 4 pages of heap of their own and the stack
//	4 fork of process 101, which writes to its stack
//	5 exit of process 101
//	6 exit of thread 102, 7 of the program
func RefLog(tb testing.TB) []byte {
	tb.Helper()
	const rw, rx = addr.Read | addr.Write, addr.Read | addr.Exec
	const page = addr.PageSize
	b := start(tb, format.Header{Refs: true})
	b.Event(1, &format.Exec{Path: "/tmp/prog", Argv: []string{"./prog", "a b"}, OldTID: 100},
		&format.MMNew{MM: 1}, Map(1, Text, 4, rx, "/tmp/prog"), Map(1, Heap, 64, rw, "[heap]"),
		Map(1, Stack, 4, rw, "[stack]"), Thread(1, 100, 100, 1, 1, 0))
	p := Pager{B: b, MM: 1, Pool: 8}
	for round := range 4 {
		for i := range addr.Addr(16) {
			p.Touch(1, Text+addr.Addr(round)*page, Text+addr.Addr(round)*page+16, format.RefFetch)
			p.Touch(1, Heap+i*page, Text+20, format.RefWrite)
		}
	}
	b.Call(1, "read", 1, []uint64{0, uint64(Heap), 1})
	b.Event(1, &format.Clone{Child: 2, Flags: 0x10f00}, Thread(2, 102, 100, 1, 1, 0))
	for range 6 {
		for i := range addr.Addr(4) {
			p.Touch(1, Heap+(20+i)*page, Text+24, format.RefRead)
			p.Touch(2, Heap+(30+i)*page, Text+28, format.RefRead)
			p.Touch(2, Stack+page, Text+32, format.RefUnknown)
		}
	}
	p.Touch(1, Heap, Text+2, format.RefCall)
	b.Call(1, "read", 1, []uint64{0, uint64(Heap), 1})
	b.Event(1, &format.Clone{Child: 3, Flags: 17}, &format.MMNew{MM: 2, From: 1}, Thread(3, 101, 101, 3, 2, 1))
	q := Pager{B: b, MM: 2, Pool: 8, Time: 5000}
	for i := range addr.Addr(3) {
		q.Touch(3, Stack+i*page, Text+36, format.RefWrite)
	}
	p.Touch(1, Heap+50*page, 0, format.RefRead)
	b.Event(3, &format.Exit{Process: true}, &format.ThreadEnd{No: 3}, &format.MMDrop{MM: 2})
	p.Touch(1, Heap+40*page, Text+40, format.RefRead)
	b.Event(2, &format.Exit{}, &format.ThreadEnd{No: 2})
	p.Touch(2, Heap+41*page, Text+40, format.RefRead) // in the log after its end
	b.Event(1, &format.Exit{Process: true}, &format.ThreadEnd{No: 1}, &format.MMDrop{MM: 1})
	return b.Bytes()
}
