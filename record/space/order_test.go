// This file writes down for each effect what a Watcher is told, in which order,
// and when the kernel is asked.

package space

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"testing"

	"memtrace/format"
	"memtrace/format/addr"
	"memtrace/format/arch"
	"memtrace/format/call"
	"memtrace/format/vma"
)

// script is a Kernel that has some mappings, and a Watcher. It writes down what it
// is told and asked, addresses by page.
type script struct {
	vs      []vma.VMA
	noQuery bool
	lines   []string
	text    []byte
}

func (s *script) say(what string, rs ...addr.Range) {
	for _, r := range rs {
		what += fmt.Sprintf(" %x-%x", r.Start.Page(), r.End.Page())
	}
	if n := len(s.lines); n == 0 || s.lines[n-1] != what {
		s.lines = append(s.lines, what)
	}
}

func (s *script) Mapping(a addr.Addr) (v vma.VMA, ok bool, err error) {
	if s.noQuery {
		s.say("ask in vain")
		return v, false, errors.ErrUnsupported
	}
	s.say("ask")
	for _, v := range s.vs {
		if v.End > a {
			return v, true, nil
		}
	}
	return v, false, nil
}

func (s *script) MapsText() ([]byte, error) {
	s.say("ask all")
	s.text = s.text[:0]
	for _, v := range s.vs {
		s.text = v.AppendMaps(s.text)
	}
	return s.text, nil
}

func (s *script) Change(c format.Change) {
	switch c := c.(type) {
	case *format.VMASet:
		s.say("set", c.VMA.Range)
	case *format.VMADel:
		s.say("del", c.Range)
	case *format.VMAMove:
		s.say("move", addr.Reach(c.From, c.Len), addr.Reach(c.To, c.Len))
	case *format.Pages:
		if c.What != format.PageAbsent {
			panic(c.What)
		}
		s.say("absent", addr.Reach(c.Addr, c.N*addr.PageSize))
	default:
		panic(c)
	}
}

func (s *script) Mapped(at addr.Range)      { s.say("mapped", at) }
func (s *script) Whole(at addr.Range)       { s.say("whole", at) }
func (s *script) Moved(from, to addr.Range) { s.say("moved", from, to) }
func (s *script) Unsettled(at addr.Range)   { s.say("unsettled", at) }
func (s *script) Gone(at addr.Range)        { s.say("gone", at) }
func (s *script) Fresh(at addr.Range)       { s.say("fresh", at) }
func (s *script) Apart(at addr.Range)       { s.say("apart", at) }
func (s *script) Dropped(at addr.Range, advice arch.Advice, done bool) {
	s.say(fmt.Sprintf("dropped %d %v", advice, done), at)
}

const rw, ro = addr.Read | addr.Write, addr.Read

// low is what the program has in the tables below; the others are what it has
// after a call.
func low() []vma.VMA { return []vma.VMA{anon(pages(0x10, 0x14), rw, "")} }

func with(vs ...vma.VMA) []vma.VMA { return append(low(), vs...) }

type orderCase struct {
	name string
	c    *call.Call
	ret  int64
	had  []vma.VMA // if not low
	has  []vma.VMA // after the call, if not what it had
	mem  []uint64  // what the call's arguments point to
	want string
}

func sys32(name string, args ...uint64) *call.Call {
	nr, ok := arch.I386.Number(name)
	if !ok {
		panic(name)
	}
	c := &call.Call{Arch: arch.I386, Nr: nr}
	copy(c.Args[:], args)
	return c
}

// u is pg as an argument of a call: an address, or a length.
func u(n int) uint64 { return uint64(pg(n)) }

var orderCases = []orderCase{
	{name: "mmap", c: sys("mmap", 0, u(2), 3, 0x22), ret: 0x20000, has: with(anon(pages(0x20, 0x22), rw, "")),
		want: "mapped 20-22, ask, set 20-22, gone 20-22, fresh 20-22"},
	{name: "mmap of what is there already", c: sys("mmap", u(0x10), u(4), 3, 0x32), ret: 0x10000,
		want: "del 10-14, mapped 10-14, ask, set 10-14, gone 10-14, fresh 10-14"},
	{name: "mmap that fails after it has made room", c: sys("mmap", u(0x10), u(4), 3, 0x32), ret: errnoNoMem, has: []vma.VMA{},
		want: "ask, del 10-14"},
	{name: "old mmap", c: sys32("mmap", 0x5000), mem: []uint64{u(0x18) | u(1)<<32, 3, 0}, ret: 0x18000, has: with(anon(pages(0x18, 0x19), rw, "")),
		want: "mapped 18-19, ask, set 18-19, gone 18-19, fresh 18-19"},
	{name: "mmap2 above 2 GiB", c: sys32("mmap2", 0, u(1), 3, 0x22), ret: -0x1000_0000, has: with(anon(pages(0xf0000, 0xf0001), rw, "")),
		want: "mapped f0000-f0001, ask, set f0000-f0001, gone f0000-f0001, fresh f0000-f0001"},
	{name: "map_shadow_stack", c: sys("map_shadow_stack", 0, u(1), 0), ret: 0x20000, has: with(anon(pages(0x20, 0x21), rw, "")),
		want: "mapped 20-21, ask, set 20-21, gone 20-21, fresh 20-21"},
	{name: "munmap", c: sys("munmap", u(0x12), u(2)), has: []vma.VMA{anon(pages(0x10, 0x12), rw, "")},
		want: "gone 12-14, ask, del 12-14"},
	{name: "munmap of nothing", c: sys("munmap", u(0x12), 0), ret: errnoInval, want: ""},
	{name: "mprotect", c: sys("mprotect", u(0x10), 1, 1), has: []vma.VMA{anon(pages(0x10, 0x11), ro, ""), anon(pages(0x11, 0x14), rw, "")},
		want: "ask, set 10-11"},
	{name: "MADV_DONTNEED over a hole", c: sys("madvise", u(0x10), u(8), madvDontNeed), ret: errnoNoMem,
		want: "dropped 5 true 10-18, ask"},
	{name: "MADV_DONTNEED of what is locked", c: sys("madvise", u(0x10), u(4), madvDontNeed), ret: errnoInval,
		want: "dropped 5 false 10-14, ask"},
	{name: "MADV_FREE", c: sys("madvise", u(0x10), u(1), madvFree), want: "dropped 2 true 10-11, ask"},
	{name: "MADV_HUGEPAGE", c: sys("madvise", u(0x10), u(1), 14), want: "ask"},
	{name: "process_madvise", c: sys("process_madvise", 3, 0x5000, 2, madvDontNeed), mem: []uint64{u(0x10), u(1), u(0x12), u(1)}, ret: 0x2000,
		want: "dropped 5 true 10-11, dropped 5 true 12-13"},
	{name: "process_madvise of 32 bits", c: sys32("process_madvise", 3, 0x5000, 1, madvFree), mem: []uint64{u(0x10) | u(2)<<32}, ret: 0x2000,
		want: "dropped 2 true 10-12"},
	{name: "process_madvise that keeps contents", c: sys("process_madvise", 3, 0x5000, 1, 20), mem: []uint64{u(0x10), u(1)}, ret: 0x1000, want: ""},
	{name: "process_madvise that fails", c: sys("process_madvise", 3, 0x5000, 1, madvDontNeed), mem: []uint64{u(0x10), u(1)}, ret: errnoInval, want: ""},
	{name: "shmat", c: sys("shmat", 1, 0, 0), ret: 0x20000, has: with(file(pages(0x20, 0x23), rw|addr.Shared, "/SYSV00000000 (deleted)", 9)),
		want: "ask, mapped 20-23, ask, set 20-23, gone 20-23, fresh 20-23"},
	{name: "shmat that fails", c: sys("shmat", 1, 0, 0), ret: errnoInval, want: ""},
	{name: "shmat of i386", c: sys32("ipc", ipcShmat, 1, 0, 0x5000), mem: []uint64{0x20000}, has: with(file(pages(0x20, 0x23), rw|addr.Shared, "/SYSV00000000 (deleted)", 9)),
		want: "ask, mapped 20-23, ask, set 20-23, gone 20-23, fresh 20-23"},
	{name: "shmdt of i386", c: sys32("ipc", ipcShmdt, 0, 0, 0, 0x10000), has: []vma.VMA{}, want: "ask all"},
	{name: "shmctl of i386", c: sys32("ipc", 24), want: ""},
	{name: "shmdt", c: sys("shmdt", u(0x20)), had: with(anon(pages(0x20, 0x21), rw|addr.Shared, "")), has: low(),
		want: "mapped 0-8000000000000, ask all, del 20-21"},
	{name: "ARCH_SET_FS", c: sys("arch_prctl", 0x1002, 1), want: "mapped 0-8000000000000"},
	{name: "ARCH_MAP_VDSO_64", c: sys("arch_prctl", 0x2003, 1), want: "mapped 0-8000000000000, ask all"},
	{name: "UFFDIO_REGISTER", c: sys("ioctl", 3, 0xc020aa00, 0x5000), want: "ask all"},
	{name: "another ioctl", c: sys("ioctl", 3, 0x5401), want: ""},
	{name: "PR_SET_VMA", c: sys("prctl", prSetVMA, 0, u(0x10), u(4), 0x5000), has: []vma.VMA{anon(pages(0x10, 0x14), rw, "[anon:x]")},
		want: "ask, set 10-14"},
	{name: "PR_SET_MM", c: sys("prctl", prSetMM, 1, 0), want: "ask all"},
	{name: "PR_SET_NAME", c: sys("prctl", 15, 0x5000), want: ""},
	{name: "getpid", c: sys("getpid"), ret: 7, want: ""},
	{name: "rename", c: sys("rename", 0x5000, 0x6000), want: ""},
	{name: "fork", c: sys("fork"), ret: 8, want: ""},

	{name: "mremap in place", c: sys("mremap", u(0x10), u(4), u(6), 1), ret: 0x10000, has: []vma.VMA{anon(pages(0x10, 0x16), rw, "")},
		want: "whole 10-16, ask, set 10-16, fresh 14-16"},
	{name: "mremap shrinks", c: sys("mremap", u(0x10), u(4), u(1), 0), ret: 0x10000, has: []vma.VMA{anon(pages(0x10, 0x11), rw, "")},
		want: "whole 10-14, ask, del 11-14"},
	{name: "mremap moves and grows", c: sys("mremap", u(0x10), u(4), u(6), 1), ret: 0x20000, has: []vma.VMA{anon(pages(0x20, 0x26), rw, "")},
		want: "whole 10-16, move 10-14 20-24, moved 10-14 20-26, ask, set 20-26, ask, del 10-14, fresh 24-26"},
	{name: "mremap over something", c: sys("mremap", u(0x10), u(2), u(2), 3, u(0x20)), ret: 0x20000,
		had: with(anon(pages(0x20, 0x24), ro, "")), has: []vma.VMA{anon(pages(0x12, 0x14), rw, ""), anon(pages(0x20, 0x22), rw, ""), anon(pages(0x22, 0x24), ro, "")},
		want: "whole 10-14, del 20-22, move 10-12 20-22, moved 10-12 20-22, ask, set 20-22, ask, del 10-12"},
	{name: "MREMAP_DONTUNMAP", c: sys("mremap", u(0x10), u(4), u(4), 5), ret: 0x20000, has: with(anon(pages(0x20, 0x24), rw, "")),
		want: "whole 10-14, move 10-14 20-24, moved 10-14 20-24, ask, set 20-24, ask, fresh 10-14"},
	{name: "mremap of nothing is a second mapping", c: sys("mremap", u(0x10), 0, u(4), 1), ret: 0x20000, has: with(anon(pages(0x20, 0x24), rw, "")),
		want: "whole 10-14, moved 10-10 20-24, ask, set 20-24, ask"},
	{name: "mremap of several with a hole", c: sys("mremap", u(0x10), u(8), u(8), 3, u(0x20)), ret: 0x20000,
		had:  with(anon(pages(0x14, 0x15), ro, ""), anon(pages(0x17, 0x18), rw, "")),
		has:  []vma.VMA{anon(pages(0x20, 0x24), rw, ""), anon(pages(0x24, 0x25), ro, ""), anon(pages(0x27, 0x28), rw, "")},
		want: "apart 10-18, whole 10-18, move 10-15 20-25, moved 10-15 20-25, ask, set 20-24, set 24-25, move 17-18 27-28, moved 17-18 27-28, ask, set 27-28, ask, del 10-15, del 17-18"},
	{name: "mremap of one with a hole behind it", c: sys("mremap", u(0x10), u(5), u(5), 3, u(0x20)), ret: errnoFault,
		want: "apart 10-15, whole 10-15, ask, unsettled 20-25, ask"},
	{name: "mremap fails after it has made room", c: sys("mremap", u(0x10), u(2), u(1), 3, u(0x20)), ret: errnoNoMem,
		had: with(anon(pages(0x20, 0x24), ro, "")), has: with(anon(pages(0x21, 0x24), ro, "")),
		want: "whole 10-14, ask, unsettled 20-21, ask, del 20-21"},
}

func TestOrder(t *testing.T) {
	for _, x := range orderCases {
		t.Run(x.name, func(t *testing.T) {
			s := &script{vs: x.had}
			if s.vs == nil {
				s.vs = low()
			}
			table, err := New(1, s, s.vs)
			if err != nil {
				t.Fatal(err)
			}
			read := func(b []byte, a addr.Addr) int {
				if a != 0x5000 {
					t.Errorf("read at %v", a)
				}
				var mem []byte
				for _, word := range x.mem {
					mem = binary.LittleEndian.AppendUint64(mem, word)
				}
				return copy(b, mem)
			}
			pending := table.Before(x.c, read, s)
			if x.has != nil {
				s.vs = x.has
			}
			x.c.Ret = x.ret
			table.Apply(x.c, pending, read, s)
			if got := strings.Join(s.lines, ", "); got != x.want {
				t.Errorf("got  %s\nwant %s", got, x.want)
			}
		})
	}
}

func TestOrderOfBrk(t *testing.T) {
	s := &script{}
	table, _ := New(1, s, nil)
	for _, x := range []struct {
		to   uint64
		heap int // its last page
		want string
	}{
		{u(0x10), 0x10, "ask all"},
		{u(0x12) + 8, 0x13, "mapped 10-13, ask, set 10-13, fresh 10-13"},
		{u(0x12) + 16, 0x13, "mapped 12-13, ask"},
		{u(0x12) + 16, 0x13, ""},
		{u(0x14), 0x14, "mapped 12-14, ask, set 10-14, fresh 13-14"},
		{u(0x11), 0x11, "mapped 11-14, ask, del 11-14"},
	} {
		s.vs, s.lines = nil, nil
		if x.heap > 0x10 {
			s.vs = []vma.VMA{anon(pages(0x10, x.heap), rw, "[heap]")}
		}
		c := sys("brk", x.to)
		c.Ret = int64(x.to)
		table.Apply(c, Pending{}, nil, s)
		if got := strings.Join(s.lines, ", "); got != x.want {
			t.Errorf("brk %#x: got  %s\nwant %s", x.to, got, x.want)
		}
	}
}

// A kernel that cannot be asked for one mapping is asked that once, also for a child.
func TestWithoutQuery(t *testing.T) {
	s := &script{vs: low(), noQuery: true}
	table, _ := New(1, s, low())
	s.vs = with(anon(pages(0x20, 0x21), ro, ""))
	table.Ask(pages(0x20, 0x21), s)
	table.Refresh(s)
	table.Ask(pages(0x20, 0x21), s)
	expect(t, s, "the table", "ask in vain, ask all, set 20-21, ask all")
	child, err := table.Fork(2, s, s.vs, s)
	if err != nil {
		t.Fatal(err)
	}
	child.Ask(pages(0x20, 0x21), s)
	expect(t, s, "a child", "ask all")
}
