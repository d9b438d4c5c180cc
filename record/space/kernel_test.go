// This file is a kernel for tests: it carries out calls on an address space of its
// own, and answers a Table.

package space

import (
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"slices"

	"memtrace/format/addr"
	"memtrace/format/arch"
	"memtrace/format/call"
	"memtrace/format/vma"
)

// area is a mapping of the kernel, with what /proc/PID/maps does not show.
type area struct {
	vma.VMA
	watched bool // by a userfaultfd
	wipe    bool // MADV_WIPEONFORK
	stay    bool // MADV_DONTFORK
	down    bool // MAP_GROWSDOWN
}

// kernel has the mappings and the contents of private pages: what a page held when
// it was written to the last time, 0 for what has not been.
type kernel struct {
	rng     *rand.Rand
	areas   []area
	content map[addr.Addr]int
	brk     addr.Addr
	noQuery bool // as before Linux 6.11
	gone    bool
	names   [2]string // of the files
	block   [24]byte  // the program's memory at any address
	text    []byte
}

const (
	errnoNoMem = -12
	errnoFault = -14
	errnoInval = -22
)

// pg is the address of a page by its number.
func pg(n int) addr.Addr { return addr.Addr(n) << addr.PageShift }

func pages(from, to int) addr.Range { return addr.Range{Start: pg(from), End: pg(to)} }

// The addresses that the test's program uses, by page.
const (
	heapPage, heapEnd   = 0x100, 0x110
	arenaPage, arenaEnd = 0x200, 0x230
	stackPage, stackEnd = 0x300, 0x310
)

func anon(r addr.Range, p addr.Prot, name string) vma.VMA {
	v := vma.VMA{Range: r, Prot: p, Name: name}
	v.Kind = vma.Classify(v)
	return v
}

// file is a mapping of a file whose first page would be at 0.
func file(r addr.Range, p addr.Prot, name string, inode uint64) vma.VMA {
	v := vma.VMA{Range: r, Prot: p, Name: name, Dev: vma.Dev{Major: 8, Minor: 1}, Inode: inode, Offset: uint64(r.Start)}
	v.Kind = vma.Classify(v)
	return v
}

var vsyscall = anon(addr.Range{Start: 0xffffffffff600000, End: 0xffffffffff601000}, addr.Exec, "[vsyscall]")

func newKernel(rng *rand.Rand) *kernel {
	k := &kernel{rng: rng, content: map[addr.Addr]int{}, brk: pg(heapPage), names: [2]string{"/d/a", "/d/b"}}
	k.put(area{VMA: anon(pages(stackEnd-2, stackEnd), addr.Read|addr.Write, "[stack]"), down: true},
		area{VMA: anon(pages(0x320, 0x322), addr.Read|addr.Exec, "[vdso]")}, area{VMA: vsyscall})
	return k
}

func (k *kernel) Mapping(a addr.Addr) (v vma.VMA, ok bool, err error) {
	if k.noQuery {
		return v, false, errors.ErrUnsupported
	}
	for _, x := range k.areas {
		if x.End > a && x.Start < UserEnd {
			return x.VMA, true, nil
		}
	}
	return v, false, nil
}

func (k *kernel) MapsText() ([]byte, error) {
	k.text = k.text[:0]
	for _, x := range k.areas {
		if !k.gone {
			k.text = x.AppendMaps(k.text)
		}
	}
	return k.text, nil
}

func (k *kernel) read(b []byte, _ addr.Addr) int { return copy(b, k.block[:]) }

// put adds areas to where nothing is.
func (k *kernel) put(xs ...area) {
	k.areas = append(k.areas, xs...)
	slices.SortFunc(k.areas, func(a, b area) int {
		if a.Start < b.Start {
			return -1
		}
		return 1
	})
}

// cut takes a range out and returns what was there.
func (k *kernel) cut(r addr.Range) (out []area) {
	var rest []area
	for _, x := range k.areas {
		if !x.Overlaps(r) {
			rest = append(rest, x)
			continue
		}
		for _, part := range []addr.Range{{Start: x.Start, End: r.Start}, x.Intersect(r), {Start: r.End, End: x.End}} {
			y := x
			switch y.VMA = x.Slice(part); {
			case y.Empty():
			case part == x.Intersect(r):
				out = append(out, y)
			default:
				rest = append(rest, y)
			}
		}
	}
	k.areas = rest
	return out
}

// in is what is in a range, cut to it; whole says that there is no hole.
func (k *kernel) in(r addr.Range) (xs []area, whole bool) {
	at := r.Start
	for _, x := range k.areas {
		if !x.Overlaps(r) {
			continue
		}
		x.VMA = x.Slice(r)
		if x.Start == at {
			at = x.End
		}
		xs = append(xs, x)
	}
	return xs, at == r.End
}

func (k *kernel) unmap(r addr.Range) {
	k.cut(r)
	k.void(r)
}

// void takes the contents of private pages away.
func (k *kernel) void(r addr.Range) {
	for a := r.Start; a < r.End; a += addr.PageSize {
		delete(k.content, a)
	}
}

// edit changes what is in a range up to its first hole, and reports whether there
// was none.
func (k *kernel) edit(r addr.Range, f func(*area) bool) bool {
	xs, whole := k.in(r)
	at := r.Start
	for _, x := range xs {
		if x.Start != at || !f(&x) {
			return false
		}
		at = x.End
		k.cut(x.Range)
		k.put(x)
	}
	return whole
}

// merge joins areas that look the same.
func (k *kernel) merge() {
	out := k.areas[:1]
	for _, b := range k.areas[1:] {
		a := &out[len(out)-1]
		joined := *a
		joined.End = b.End
		same := joined
		same.VMA = joined.Slice(b.Range)
		if a.End == b.Start && same == b && !a.down && b.Kind != vma.VDSO {
			a.End = b.End
			continue
		}
		out = append(out, b)
	}
	k.areas = out
}

// register has what is in a range watched, with whole all of each mapping.
func (k *kernel) register(at addr.Range, whole bool) {
	for _, x := range slices.Clone(k.areas) {
		if !x.Overlaps(at) || x.Kind == vma.VDSO || x.Start >= UserEnd {
			continue
		}
		r := x.Range
		if !whole {
			r = x.Intersect(at)
		}
		k.edit(r, func(y *area) bool { y.watched = true; return true })
	}
	k.merge()
}

func (k *kernel) unregister(at addr.Range) {
	for _, x := range slices.Clone(k.areas) {
		if x.Overlaps(at) {
			k.edit(x.Range, func(y *area) bool { y.watched = false; return true })
		}
	}
	k.merge()
}

// free is where n pages are not mapped.
func (k *kernel) free(n int) (addr.Range, bool) {
	for p := arenaEnd - n; p >= arenaPage; p-- {
		if xs, _ := k.in(pages(p, p+n)); len(xs) == 0 {
			return pages(p, p+n), true
		}
	}
	return addr.Range{}, false
}

// call carries out a call and returns what it does.
func (k *kernel) call(c *call.Call) (ret int64) {
	defer k.merge()
	row, _ := c.Arch.Syscall(c.Nr)
	a := c.Args
	place := addr.Range{Start: addr.Addr(a[0]), End: addr.Addr(a[0] + a[1])}
	switch row.Name {
	case "mmap":
		if c.Arch == arch.I386 {
			for i := range a {
				a[i] = uint64(binary.LittleEndian.Uint32(k.block[4*i:]))
			}
		}
		return k.mmap(a)
	case "munmap":
		k.unmap(place)
	case "brk":
		return k.setBrk(addr.Addr(a[0]))
	case "mprotect":
		if !k.edit(place, func(x *area) bool {
			x.Prot = x.Prot&addr.Shared | addr.Prot(a[2])
			return true
		}) {
			return errnoNoMem
		}
	case "madvise":
		return k.madvise(place, a[2])
	case "mremap":
		return k.mremap(a, false)
	case "prctl":
		k.edit(addr.Range{Start: addr.Addr(a[2]), End: addr.Addr(a[2] + a[3])}, func(x *area) bool {
			if !x.File() && x.Kind == vma.AnonPrivate {
				x.Name = "[anon:name]"
			}
			return true
		})
	}
	return 0
}

const (
	madvDontNeed, madvFree, madvDontFork, madvWipeOnFork, madvKeepOnFork = 4, 8, 10, 18, 19

	testShared, testFixed, testAnon = 1, 0x10, 0x20 // MAP_*
)

func (k *kernel) mmap(a [6]uint64) int64 {
	at, n := addr.Range{Start: addr.Addr(a[0]), End: addr.Addr(a[0] + a[1])}, int(a[1]>>addr.PageShift)
	if a[3]&testFixed != 0 {
		k.unmap(at)
	} else {
		var ok bool
		if at, ok = k.free(n); !ok {
			return errnoNoMem
		}
	}
	if k.rng.IntN(8) == 0 {
		return errnoNoMem // after it has made room
	}
	p := addr.Prot(a[2])
	if a[3]&testShared != 0 {
		p |= addr.Shared
	}
	x := area{VMA: anon(at, p, ""), down: a[3]&mapGrowsDown != 0}
	if a[3]&testAnon == 0 {
		x.VMA = file(at, p, k.names[a[4]%2], 7+a[4]%2)
		x.Offset = a[5]
	}
	k.put(x)
	return int64(at.Start)
}

func (k *kernel) setBrk(to addr.Addr) int64 {
	if to < pg(heapPage) || to > pg(heapEnd) {
		return int64(k.brk)
	}
	old, _ := k.brk.PageUp()
	now, _ := to.PageUp()
	if now < old {
		k.unmap(addr.Range{Start: now, End: old})
	} else if now > old {
		k.put(area{VMA: anon(addr.Range{Start: old, End: now}, addr.Read|addr.Write, "[heap]")})
	}
	k.brk = to
	return int64(to)
}

func (k *kernel) madvise(at addr.Range, what uint64) int64 {
	xs, whole := k.in(at)
	for _, x := range xs {
		private := x.Prot&addr.Shared == 0
		switch what {
		case madvDontNeed:
			if private {
				k.void(x.Range)
			}
		case madvFree:
			if x.Kind != vma.AnonPrivate && x.Kind != vma.Heap {
				return errnoInval
			}
			for p := x.Start; p < x.End; p += addr.PageSize {
				if k.rng.IntN(2) == 0 {
					delete(k.content, p)
				}
			}
		case madvWipeOnFork, madvKeepOnFork:
			if !private || x.File() {
				return errnoInval
			}
			k.edit(x.Range, func(y *area) bool { y.wipe = what == madvWipeOnFork; return true })
		case madvDontFork:
			k.edit(x.Range, func(y *area) bool { y.stay = true; return true })
		}
	}
	if !whole {
		return errnoNoMem
	}
	return 0
}

// mremap moves pages. unwatched asks what it would return if nothing were watched,
// and changes nothing then.
func (k *kernel) mremap(a [6]uint64, unwatched bool) int64 {
	if unwatched {
		twin := *k
		twin.rng = rand.New(rand.NewPCG(0, 0))
		twin.content, twin.areas = map[addr.Addr]int{}, slices.Clone(k.areas)
		for i := range twin.areas {
			twin.areas[i].watched = false
		}
		twin.merge()
		return twin.mremap(a, false)
	}
	from := addr.Range{Start: addr.Addr(a[0]), End: addr.Addr(a[0] + a[1])}
	old, now, flags := a[1], a[2], a[3]
	to := addr.Range{Start: addr.Addr(a[4]), End: addr.Addr(a[4] + now)}
	probe := from
	probe.End = max(probe.End, probe.Start+addr.PageSize)
	xs, whole := k.in(probe)
	fixed := flags&remapFixed != 0
	switch {
	case len(xs) == 0 || xs[0].Start != from.Start:
		return errnoFault
	case fixed && to.Overlaps(from), flags&remapDontUnmap != 0 && old != now, old == 0 && xs[0].Prot&addr.Shared == 0:
		return errnoInval
	case len(xs) > 1 || !whole:
		if !fixed || old != now || flags&remapDontUnmap != 0 || slices.ContainsFunc(xs, func(x area) bool { return x.watched }) {
			return errnoFault
		}
	}
	if fixed && len(xs) == 1 && whole {
		k.unmap(to)
		if k.rng.IntN(8) == 1 {
			return errnoNoMem
		}
	}
	if old > now {
		k.unmap(addr.Range{Start: from.Start + addr.Addr(now), End: from.End})
		from.End = from.Start + addr.Addr(now)
		old = now
	}
	if !fixed && flags&remapDontUnmap == 0 && old != 0 {
		if old == now {
			return int64(from.Start)
		}
		more := addr.Range{Start: from.End, End: from.Start + addr.Addr(now)}
		if ys, _ := k.in(more); len(ys) == 0 && more.End <= pg(arenaEnd) && !xs[0].down {
			grown := k.cut(from)[0]
			grown.End = more.End
			k.put(grown)
			return int64(from.Start)
		}
	}
	if !fixed {
		var ok bool
		if to, ok = k.free(int(now >> addr.PageShift)); !ok {
			return errnoNoMem
		}
	}
	k.move(from, to, old == 0, flags&remapDontUnmap != 0)
	return int64(to.Start)
}

// move puts the mappings of from to the same places of to.
func (k *kernel) move(from, to addr.Range, second, keep bool) {
	xs, _ := k.in(addr.Range{Start: from.Start, End: max(from.End, from.Start+addr.PageSize)})
	for _, x := range xs {
		dest := addr.Range{Start: x.Start - from.Start + to.Start, End: x.End - from.Start + to.Start}
		if x.Start <= from.Start && from.End <= x.End {
			dest = to // it may be larger
		}
		held := map[addr.Addr]int{}
		for p := x.Start; p < x.End && !second; p += addr.PageSize {
			if c, ok := k.content[p]; ok {
				held[p] = c
			}
		}
		if !second {
			k.void(x.Range)
			if !keep {
				k.cut(x.Range)
			}
		}
		k.unmap(dest)
		for p, c := range held {
			k.content[p-x.Start+dest.Start] = c
		}
		x.Range, x.watched = dest, false
		k.put(x)
	}
}

// write writes to a page, if there is a private one that can be written.
func (k *kernel) write(a addr.Addr, value int) (area, bool) {
	for _, x := range k.areas {
		if x.Contains(a) && x.Prot&(addr.Write|addr.Shared) == addr.Write {
			k.content[a.PageDown()] = value
			return x, true
		}
	}
	return area{}, false
}

// fork is the child's kernel.
func (k *kernel) fork() *kernel {
	child := &kernel{rng: k.rng, content: map[addr.Addr]int{}, brk: k.brk, noQuery: k.noQuery}
	for _, x := range k.areas {
		if x.stay {
			continue
		}
		for p := x.Start; p < x.End && x.Start < UserEnd && !x.wipe; p += addr.PageSize {
			if c, ok := k.content[p]; ok {
				child.content[p] = c
			}
		}
		x.watched = false
		child.put(x)
	}
	return child
}
