// This file plays random calls on the kernel of kernel_test.go, and compares what
// a Table and its Watcher know with what is so.

package space

import (
	"encoding/binary"
	"fmt"
	"maps"
	"math/rand/v2"
	"path"
	"slices"
	"testing"

	"memtrace/format"
	"memtrace/format/addr"
	"memtrace/format/arch"
	"memtrace/format/call"
	"memtrace/format/vma"
)

// notes is a Watcher that finds writes as a userfaultfd does, has a log, and knows
// of some pages what they hold.
type notes struct {
	t     *testing.T
	table *Table
	k     *kernel
	state *format.State
	holds map[addr.Addr]int
}

func (n *notes) Change(c format.Change) {
	if err := n.state.Apply(c); err != nil {
		n.t.Fatal(err)
	}
	switch c := c.(type) {
	case *format.VMADel:
		n.forget(c.Range)
	case *format.Pages:
		n.forget(addr.Range{Start: c.Addr, End: c.Addr + addr.Addr(c.N<<addr.PageShift)})
	}
}

func (n *notes) forget(at addr.Range) {
	maps.DeleteFunc(n.holds, func(a addr.Addr, _ int) bool { return at.Contains(a) })
}

func (n *notes) nonempty(at addr.Range) {
	if at.Empty() {
		n.t.Helper()
		n.t.Errorf("told of the empty range %v", at)
	}
}

func (n *notes) Mapped(at addr.Range)    { n.nonempty(at); n.k.register(at, false) }
func (n *notes) Whole(at addr.Range)     { n.nonempty(at); n.k.register(at, true) }
func (n *notes) Unsettled(at addr.Range) { n.nonempty(at); n.k.register(at, true) }
func (n *notes) Apart(at addr.Range)     { n.nonempty(at); n.k.unregister(at) }
func (n *notes) Gone(at addr.Range)      { n.nonempty(at); n.forget(at) }

func (n *notes) Moved(from, to addr.Range) {
	n.nonempty(to)
	n.k.register(to, true)
	held := map[addr.Addr]int{}
	for a, c := range n.holds {
		if from.Contains(a) {
			held[a-from.Start+to.Start] = c
		}
	}
	n.forget(from)
	n.forget(to)
	maps.Copy(n.holds, held)
}

func (n *notes) Fresh(at addr.Range) {
	n.nonempty(at)
	n.untouched(at, vma.AnonPrivate, vma.Heap, vma.ThreadStack, vma.FilePrivate)
}

// untouched notes that a range holds what mappings of some kinds begin with.
func (n *notes) untouched(at addr.Range, kinds ...vma.Kind) {
	for v := range n.table.Mappings().Overlapping(at) {
		if part := v.Intersect(at); slices.Contains(kinds, v.Kind) {
			for a := part.Start; a < part.End; a += addr.PageSize {
				n.holds[a] = 0
			}
		}
	}
}

func (n *notes) Dropped(at addr.Range, advice arch.Advice, done bool) {
	n.nonempty(at)
	n.forget(at)
	if advice.Is(arch.LeavesZeros) && done {
		n.untouched(at, vma.AnonPrivate, vma.Heap, vma.ThreadStack)
	}
}

// wrote is what a userfaultfd tells of a write.
func (n *notes) wrote(a addr.Addr, x area) {
	if x.watched {
		delete(n.holds, a)
	}
}

// snapshot reads all private pages.
func (n *notes) snapshot() {
	for _, x := range n.k.areas {
		for a := x.Start; a < x.End && x.Start < UserEnd && x.Prot&addr.Shared == 0; a += addr.PageSize {
			n.holds[a] = n.k.content[a]
		}
	}
}

// check compares everything.
func (n *notes) check(what string) {
	n.t.Helper()
	text, _ := n.k.MapsText()
	if got := n.table.Mappings().AppendMaps(nil); string(got) != string(text) {
		n.t.Fatalf("%s: the table differs:\n%s", what, lineDiff(string(got), string(text)))
	}
	if got := n.state.MMs[n.table.MM()].VMAs; !got.Equal(n.table.Mappings()) {
		n.t.Fatalf("%s: the log differs:\n%s", what, lineDiff(string(got.AppendMaps(nil)), string(text)))
	}
	for a, c := range n.holds {
		if n.k.content[a] != c {
			n.t.Fatalf("%s: page %#x holds %d, %d is noted of it", what, a.Page(), n.k.content[a], c)
		}
	}
}

func (n *notes) watched(what string) {
	n.t.Helper()
	for _, x := range n.k.areas {
		if !x.watched && x.Kind != vma.VDSO && x.Start < UserEnd {
			n.t.Fatalf("%s: nobody watches %v", what, x.Range)
		}
	}
}

// player makes calls up.
type player struct {
	*rand.Rand
	k *kernel
}

func (p *player) page() uint64 { return uint64(pg(arenaPage + p.IntN(arenaEnd-arenaPage-8))) }
func (p *player) size() uint64 { return uint64(pg(1 + p.IntN(6))) }
func (p *player) one(vs ...uint64) uint64 {
	return vs[p.IntN(len(vs))]
}

func sys(name string, args ...uint64) *call.Call {
	nr, ok := arch.X86_64.Number(name)
	if !ok {
		panic(name)
	}
	c := &call.Call{Arch: arch.X86_64, Nr: nr}
	copy(c.Args[:], args)
	return c
}

func (p *player) call() *call.Call {
	switch p.IntN(12) {
	case 0, 1, 2:
		flags := p.one(testAnon|2, testAnon|2, testAnon|testShared, 2, testShared) | p.one(0, testFixed)
		if flags == testAnon|2 && p.IntN(6) == 0 {
			flags |= mapGrowsDown
		}
		args := []uint64{p.page(), p.size(), p.one(1, 3, 3), flags, p.one(3, 4), uint64(pg(p.IntN(8)))}
		if p.IntN(3) > 0 {
			return sys("mmap", args...)
		}
		for i, a := range args {
			binary.LittleEndian.PutUint32(p.k.block[4*i:], uint32(a))
		}
		nr, _ := arch.I386.Number("mmap")
		return &call.Call{Arch: arch.I386, Nr: nr, Args: [6]uint64{0x1234}}
	case 3:
		return sys("munmap", p.page(), p.size())
	case 4, 5:
		return sys("mprotect", p.page(), p.size(), p.one(0, 1, 3))
	case 6:
		return sys("brk", p.one(0, uint64(pg(heapPage+p.IntN(0x12)))+p.one(0, 8, 4000)))
	case 7, 8:
		what := p.one(madvDontNeed, madvFree, madvDontFork, madvWipeOnFork, madvKeepOnFork, 14)
		return sys("madvise", p.page(), p.size(), what)
	case 9:
		return sys("prctl", prSetVMA, 0, p.page(), p.size(), 1)
	}
	old := p.one(0, p.size(), p.size())
	now := p.one(old, old, p.size())
	if now == 0 {
		now = p.size()
	}
	flags := p.one(0, 1, 1, 1|remapFixed, 1|remapFixed, 1|remapDontUnmap)
	from := p.page()
	if xs, _ := p.k.in(pages(arenaPage, arenaEnd)); len(xs) > 0 && p.IntN(3) > 0 {
		from = uint64(xs[p.IntN(len(xs))].Start)
	}
	return sys("mremap", from, old, now, flags, p.page())
}

// between happens without a call of the table's.
func (p *player) between(n *notes, step int) {
	for range 3 {
		a := pg(arenaPage + p.IntN(arenaEnd-arenaPage))
		if p.IntN(4) == 0 {
			a = pg(heapPage + p.IntN(heapEnd-heapPage))
		}
		if x, ok := p.k.write(a, step); ok {
			n.wrote(a, x)
		}
	}
	switch p.IntN(20) {
	case 0:
		n.snapshot()
	case 1: // a stack grows
		down := p.k.areas[:0:0]
		for _, x := range p.k.areas {
			// The table loses sight of one that is moved, or cut at its end.
			if x.down && x.Start > pg(arenaPage) && slices.ContainsFunc(n.table.grow, x.Contains) {
				down = append(down, x)
			}
		}
		x := down[p.IntN(len(down))]
		more := addr.Range{Start: x.Start - addr.PageSize, End: x.Start}
		if xs, _ := p.k.in(more); len(xs) > 0 || more.Start < pg(stackPage) && x.Name == "[stack]" {
			return
		}
		p.k.cut(x.Range)
		x.Start = more.Start
		p.k.put(x)
		n.table.Grow(n)
	case 2: // a thread begins
		n.table.MarkStack(pg(arenaPage+p.IntN(arenaEnd-arenaPage)), n)
	case 3: // a file is renamed
		old, now := p.k.names[0], fmt.Sprintf("/d/a%d", step)
		p.k.names[0] = now
		for i := range p.k.areas {
			if x := &p.k.areas[i]; x.Name == old {
				x.Name = now
			}
		}
		if n.table.Mentions([]string{path.Base(old), path.Base(now)}) {
			n.table.Refresh(n)
		}
	}
}

func TestModel(t *testing.T) {
	for _, query := range []bool{true, false} {
		t.Run(fmt.Sprintf("query=%v", query), func(t *testing.T) {
			for seed := range uint64(60) {
				play(t, seed, query)
			}
		})
	}
}

func play(t *testing.T, seed uint64, query bool) {
	rng := rand.New(rand.NewPCG(seed, 1))
	k := newKernel(rng)
	k.noQuery = !query
	var vs []vma.VMA
	for _, x := range k.areas {
		vs = append(vs, x.VMA)
	}
	table, err := New(1, k, vs)
	if err != nil {
		t.Fatal(err)
	}
	n := &notes{t: t, table: table, k: k, state: format.NewState(), holds: map[addr.Addr]int{}}
	n.Change(&format.MMNew{MM: 1})
	table.Write(n)
	k.register(everywhere, true)
	n.check("at the beginning")
	p := &player{rng, k}
	// Until the first brk the table does not know where the heap ends.
	first := sys("brk", 0)
	first.Ret = k.call(first)
	table.Apply(first, Pending{}, k.read, n)
	for step := 1; step < 150; step++ {
		p.between(n, step)
		c := p.call()
		pending := table.Before(c, k.read, n)
		want := int64(0)
		remap := EffectOf(c.Arch, c.Nr) == effRemap
		if remap {
			want = k.mremap(c.Args, true)
		}
		c.Ret, c.Returned = k.call(c), true
		what := fmt.Sprintf("seed %d, step %d, %s", seed, step, c.Append(nil))
		if remap && want == errnoFault != (c.Ret == errnoFault) {
			t.Fatalf("%s: would return %d if nothing were watched", what, want)
		}
		table.Apply(c, pending, k.read, n)
		n.check(what)
		n.watched(what)
		if step%50 == 0 {
			n.fork(what)
		}
	}
}

// fork compares the table of a child with its mappings, and what it inherits.
func (n *notes) fork(what string) {
	kid := n.k.fork()
	var vs []vma.VMA
	for _, x := range kid.areas {
		vs = append(vs, x.VMA)
	}
	child := &notes{t: n.t, k: kid, state: n.state, holds: maps.Clone(n.holds)}
	n.Change(&format.MMNew{MM: 2, From: 1})
	var err error
	if child.table, err = n.table.Fork(2, kid, vs, child); err != nil {
		n.t.Fatal(err)
	}
	child.check(what + ", fork")
	kid.register(everywhere, true)
	child.table.Refresh(child)
	c := sys("munmap", uint64(pg(arenaPage)), uint64(pg(4)))
	kid.call(c)
	child.table.Apply(c, Pending{}, kid.read, child)
	child.check(what + ", fork, munmap")
	n.Change(&format.MMDrop{MM: 2})
	n.check(what + ", after the child")
}
