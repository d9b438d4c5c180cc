// This file tests what a Table does without a call.

package space

import (
	"slices"
	"strings"
	"testing"

	"memtrace/format/addr"
	"memtrace/format/call"
	"memtrace/format/vma"
)

// told are the lines of a script since the last time.
func (s *script) told() string {
	lines := strings.Join(s.lines, ", ")
	s.lines = nil
	return lines
}

func expect(t *testing.T, s *script, what, want string) {
	t.Helper()
	if got := s.told(); got != want {
		t.Errorf("%s: got  %s\nwant %s", what, got, want)
	}
}

func TestNew(t *testing.T) {
	if _, err := New(1, nil, []vma.VMA{anon(pages(1, 3), ro, ""), anon(pages(2, 4), ro, "")}); err == nil {
		t.Error("two mappings at one place are no mistake")
	}
	s := &script{}
	table, err := New(7, s, []vma.VMA{anon(pages(5, 6), ro, ""), anon(pages(2, 4), ro, "")})
	if err != nil || table.MM() != 7 || table.Kernel() != Kernel(s) || table.Mappings().Len() != 2 {
		t.Fatal(table, err)
	}
	table.Write(s)
	expect(t, s, "Write", "set 2-4, set 5-6")
}

// An address space that was gone before it could be read stays as it is.
func TestGone(t *testing.T) {
	s := &script{}
	table, err := New(1, nil, low())
	if err != nil {
		t.Fatal(err)
	}
	table.Ask(pages(0x10, 0x14), s)
	table.Refresh(s)
	table.Grow(s)
	if _, ok := table.Compare(s); ok {
		t.Error("it was compared with something")
	}
	table.SetKernel(&kernel{gone: true, noQuery: true, areas: []area{{VMA: vsyscall}}})
	table.Refresh(s)
	if _, ok := table.Compare(s); ok {
		t.Error("it was compared with an empty text")
	}
	expect(t, s, "", "")
	if table.Mappings().Len() != 1 {
		t.Errorf("its mappings are\n%s", table.Mappings().AppendMaps(nil))
	}
}

// The text of /proc/PID/maps is parsed only if something has changed.
func TestRefresh(t *testing.T) {
	s := &script{vs: low()}
	table, _ := New(1, s, low())
	table.Refresh(s)
	table.mappings.Insert(anon(pages(0x30, 0x31), ro, "")) // nobody would do that
	table.Refresh(s)
	expect(t, s, "the same text", "ask all")
	table.clear(pages(0x10, 0x12), s)
	table.Refresh(s)
	expect(t, s, "after a change", "del 10-12, ask all, del 30-31, set 10-14")
	s.vs = with(anon(pages(0x20, 0x21), ro, ""))
	table.Ask(pages(0x20, 0x21), s)
	s.vs = low()
	table.Refresh(s)
	expect(t, s, "the text as before, after an answer", "ask, set 20-21, ask all, del 20-21")
}

func TestAsk(t *testing.T) {
	s := &script{vs: []vma.VMA{anon(pages(0x10, 0x14), rw, ""), anon(pages(0x14, 0x1c), rw, ""), vsyscall}}
	table, _ := New(1, s, s.vs)
	// The kernel's answer reaches into a mapping of the table's that is another now.
	s.vs = []vma.VMA{anon(pages(0x10, 0x18), rw, ""), anon(pages(0x18, 0x1c), ro, "")}
	table.Ask(pages(0x11, 0x12), s)
	expect(t, s, "a merge", "ask, set 10-18, set 18-1c")
	want := append(slices.Clone(s.vs), vsyscall)
	if got := slices.Collect(table.Mappings().All()); !slices.Equal(got, want) {
		t.Errorf("the table is %v", got)
	}
	// The vsyscall page is in no answer.
	table.Ask(addr.Range{Start: pg(0x11), End: ^addr.Addr(0)}, s)
	expect(t, s, "all", "ask")
	table.Ask(vsyscall.Range, s)
	expect(t, s, "the vsyscall page", "")
}

func TestGrow(t *testing.T) {
	stack := func(from int) vma.VMA { return anon(pages(from, 0x40), rw, "[stack]") }
	s := &script{vs: with(stack(0x38))}
	table, _ := New(1, s, s.vs)
	table.Grow(s)
	expect(t, s, "not grown", "ask")
	s.vs = with(stack(0x36))
	table.Grow(s)
	expect(t, s, "grown", "ask, set 36-40")

	s.vs = with(anon(pages(0x20, 0x21), rw, ""), stack(0x36))
	c := sys("mmap", u(0x20), u(1), 3, 0x32|mapGrowsDown)
	c.Ret = int64(u(0x20))
	table.Apply(c, Pending{}, nil, s)
	s.told()
	s.vs = with(anon(pages(0x1d, 0x21), rw, ""), stack(0x36))
	table.Grow(s)
	expect(t, s, "MAP_GROWSDOWN", "ask, set 1d-21")

	s.vs = with(stack(0x36))
	c = sys("munmap", u(0x1d), u(4))
	table.Apply(c, Pending{}, nil, s)
	table.Grow(s)
	if len(table.grow) != 1 {
		t.Errorf("it looks at %v", table.grow)
	}
}

// /proc does not tell stacks of threads from other memory: the table does, as long
// as the mapping is there.
func TestMarkStack(t *testing.T) {
	s := &script{vs: with(anon(pages(0x20, 0x24), rw, ""), file(pages(0x30, 0x31), ro, "/f", 5))}
	table, _ := New(1, s, s.vs)
	for _, at := range []addr.Addr{0, pg(0x31), pg(0x50)} {
		table.MarkStack(at, s)
	}
	expect(t, s, "no stacks", "")
	table.MarkStack(pg(0x24), s)
	expect(t, s, "a stack", "set 20-24")
	table.MarkStack(pg(0x24), s)
	table.MarkStack(pg(0x23), s)
	expect(t, s, "the same", "")
	if want := []addr.Addr{pg(0x23) - 1}; !slices.Equal(table.stacks, want) {
		t.Errorf("it keeps %v", table.stacks)
	}
	table.Ask(pages(0x20, 0x21), s)
	table.Refresh(s)
	expect(t, s, "asked", "ask, ask all")
	if v, _ := table.Mappings().Find(pg(0x20)); v.Kind != vma.ThreadStack {
		t.Errorf("it is %v", v.Kind)
	}
	s.vs = with()
	table.Ask(pages(0x20, 0x24), s)
	table.MarkStack(pg(0x14), s)
	if want := []addr.Addr{pg(0x14) - 1}; !slices.Equal(table.stacks, want) {
		t.Errorf("it keeps %v", table.stacks)
	}
}

func TestFork(t *testing.T) {
	s := &script{vs: with(anon(pages(0x20, 0x24), rw, ""), anon(pages(0x30, 0x34), ro, ""), anon(pages(0x3f, 0x40), rw, "[stack]"))}
	table, _ := New(1, s, s.vs)
	table.MarkStack(pg(0x24), s)
	for _, c := range []*call.Call{sys("madvise", u(0x12), u(1), madvWipeOnFork), sys("madvise", u(0x30), u(2), madvWipeOnFork), sys("brk", u(0x14))} {
		if EffectOf(c.Arch, c.Nr) == effBrk {
			c.Ret = int64(c.Args[0])
		}
		table.Apply(c, Pending{}, nil, s)
	}
	s.told()
	if _, err := table.Fork(2, s, []vma.VMA{low()[0], low()[0]}, s); err == nil {
		t.Error("two mappings at one place are no mistake")
	}
	expect(t, s, "a fork that fails", "")
	child, err := table.Fork(2, s, with(anon(pages(0x20, 0x24), rw, ""), anon(pages(0x3f, 0x40), rw, "[stack]")), s)
	if err != nil {
		t.Fatal(err)
	}
	expect(t, s, "a fork", "del 30-34, absent 12-13, absent 30-32")
	if v, _ := child.Mappings().Find(pg(0x20)); v.Kind != vma.ThreadStack || child.MM() != 2 {
		t.Errorf("the stack is %v of address space %d", v.Kind, child.MM())
	}
	if !slices.Equal(child.grow, table.grow) || child.brk != table.brk {
		t.Errorf("grow %v, %v; brk %v, %v", child.grow, table.grow, child.brk, table.brk)
	}
	if v, ok := table.Mappings().Find(pg(0x30)); !ok {
		t.Errorf("the parent has lost %v", v)
	}
	child.clear(pages(0x10, 0x14), s)
	if _, ok := table.Mappings().Find(pg(0x10)); !ok || table.wipe.Len() != 3*addr.PageSize {
		t.Error("the child's changes are the parent's")
	}
	s.told()
	gone, err := table.Fork(3, nil, nil, s)
	if err != nil || gone.Mappings().Len() != 0 {
		t.Fatal(err)
	}
	expect(t, s, "a child that is gone", "del 10-14, del 20-24, del 30-34, del 3f-40, absent 12-13, absent 30-32")
}

// What a child gets zeros of is what is known to be so, and what may be.
func TestWipe(t *testing.T) {
	wipe := func(from, n int, ret int64) orderCase {
		return orderCase{c: sys("madvise", u(from), u(n), madvWipeOnFork), ret: ret}
	}
	keep := func(from, n int, ret int64) orderCase {
		return orderCase{c: sys("madvise", u(from), u(n), madvKeepOnFork), ret: ret}
	}
	remap := func(flags uint64, old, now int, has ...vma.VMA) orderCase {
		return orderCase{c: sys("mremap", u(0x10), u(old), u(now), flags), ret: int64(has[len(has)-1].Start), has: has}
	}
	for _, x := range []struct {
		name  string
		calls []orderCase
		want  string
	}{
		{"wiped", []orderCase{wipe(0x10, 2, 0), wipe(0x11, 2, 0)}, "absent 10-13"},
		{"half done", []orderCase{wipe(0x10, 2, errnoInval)}, "absent 10-12"},
		{"over a hole", []orderCase{wipe(0x10, 8, errnoNoMem)}, "absent 10-14"},
		{"undone", []orderCase{wipe(0x10, 4, 0), keep(0x11, 1, 0)}, "absent 10-11, absent 12-14"},
		{"undone, perhaps", []orderCase{wipe(0x10, 4, 0), keep(0x11, 1, errnoInval)}, "absent 10-14"},
		{"unmapped in part", []orderCase{wipe(0x10, 4, 0),
			{c: sys("munmap", u(0x10), u(1)), has: []vma.VMA{anon(pages(0x11, 0x14), rw, "")}}}, "absent 11-14"},
		{"replaced in part", []orderCase{wipe(0x10, 4, 0), {c: sys("mmap", u(0x10), u(1), 3, 0x32), ret: 0x10000}}, "absent 11-14"},
		{"grown", []orderCase{wipe(0x13, 1, 0), remap(0, 4, 6, anon(pages(0x10, 0x16), rw, ""))}, "absent 13-16"},
		{"grown, elsewhere wiped", []orderCase{wipe(0x10, 3, 0), remap(0, 4, 6, anon(pages(0x10, 0x16), rw, ""))}, "absent 10-13"},
		{"moved and grown", []orderCase{wipe(0x10, 4, 0), remap(1, 4, 6, anon(pages(0x20, 0x26), rw, ""))}, "absent 20-26"},
		{"moved, and left", []orderCase{wipe(0x10, 1, 0), remap(5, 4, 4, append(low(), anon(pages(0x20, 0x24), rw, ""))...)}, "absent 10-11, absent 20-21"},
	} {
		s := &script{vs: low()}
		table, _ := New(1, s, s.vs)
		for _, o := range x.calls {
			if o.has != nil {
				s.vs = o.has
			}
			o.c.Ret = o.ret
			table.Apply(o.c, Pending{}, nil, s)
		}
		s.told()
		if _, err := table.Fork(2, s, s.vs, s); err != nil {
			t.Fatal(err)
		}
		expect(t, s, x.name, x.want)
	}
}

func TestCompare(t *testing.T) {
	s := &script{vs: with(anon(pages(0x3f, 0x40), rw, "[stack]"))}
	table, _ := New(1, s, s.vs)
	if c, ok := table.Compare(s); !ok || !c.Same || c.Diff != "" || !strings.HasSuffix(string(c.Text), "[stack]\n") {
		t.Errorf("%+v, %v", c, ok)
	}
	for _, noQuery := range []bool{false, true} {
		s.noQuery = noQuery
		s.vs = with(anon(pages(0x3e, 0x40), rw, "[stack]"))
		if noQuery {
			s.vs[1].Start = pg(0x3d)
		}
		if c, ok := table.Compare(s); !ok || !c.Same {
			t.Errorf("the stack has grown: %+v, %v", c, ok)
		}
	}
	s.noQuery = false
	table, _ = New(1, s, s.vs)
	s.vs = []vma.VMA{anon(pages(0x10, 0x14), ro, ""), s.vs[1]}
	c, ok := table.Compare(s)
	if want := "+00010000-00014000 r--p 00000000 00:00 0 \n-00010000-00014000 rw-p 00000000 00:00 0 \n"; !ok || c.Same || c.Diff != want {
		t.Errorf("%+v, %v", c, ok)
	}
}
