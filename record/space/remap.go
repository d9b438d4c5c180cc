// This file serves mremap, which moves pages.

package space

import (
	"memtrace/format"
	"memtrace/format/addr"
	"memtrace/format/call"
)

// remapArgs are the arguments of an mremap.
type remapArgs struct {
	from     addr.Addr
	old, now uint64 // lengths
	flags    uint64
	to       addr.Addr // with remapFixed
}

// Flags of mremap (include/uapi/linux/mman.h).
const (
	remapFixed     = 2
	remapDontUnmap = 4
)

func remapArgsOf(c *call.Call) remapArgs {
	a := &c.Args
	return remapArgs{from: addr.Addr(a[0]), old: a[1], now: a[2], flags: a[3], to: addr.Addr(a[4])}
}

// sameLength reports whether the call neither grows nor shrinks what it moves.
// Only then the kernel moves several mappings (6.17 and later).
func (m remapArgs) sameLength() bool { return span(0, m.old) == span(0, m.now) }

// beforeRemap tells w of mappings that have to be moved together.
func (t *Table) beforeRemap(m remapArgs, w Watcher) {
	if m.flags&remapFixed == 0 || !m.sameLength() {
		return
	}
	from, n, end := span(m.from, m.old), 0, addr.Addr(0)
	for v := range t.mappings.Overlapping(from) {
		n, end = n+1, v.End
	}
	if n > 1 || n == 1 && end < from.End {
		w.Apart(from)
	}
}

func (t *Table) applyRemap(m remapArgs, ret addr.Addr, ok bool, w Watcher) {
	from := span(m.from, max(m.old, m.now))
	if at := t.mappings.Widen(from); !at.Empty() {
		w.Whole(at)
	}
	if !ok {
		t.Ask(from, w)
		if to := span(m.to, m.now); m.flags&remapFixed != 0 && !to.Empty() { // it may have made room already, or moved some
			w.Unsettled(to)
			t.Ask(to, w)
		}
		return
	}
	if ret != m.from {
		moving := t.moving(m)
		for part := range moving.All() {
			t.moved(part, m, ret, w)
		}
	}
	t.Ask(from, w)
	if n := span(0, m.old).Len(); n != 0 && n < span(0, m.now).Len() {
		more := addr.Range{Start: ret + addr.Addr(n), End: span(ret, m.now).End}
		if t.wipe.Overlaps(addr.Range{Start: more.Start - addr.PageSize, End: more.Start}) {
			t.wipe.Add(more)
		}
		w.Fresh(more)
	}
	if m.flags&remapDontUnmap != 0 && ret != m.from {
		w.Fresh(span(m.from, m.old))
	}
}

// moving is what an mremap moves, as long as it is to be: where there is a hole,
// what is at its new place stays.
func (t *Table) moving(m remapArgs) addr.Set {
	all := span(m.from, m.now)
	if m.old == 0 || !m.sameLength() {
		return addr.SetOf(all)
	}
	return t.mapped(all)
}

// moved serves a part that an mremap has moved to where its place at ret is.
func (t *Table) moved(part addr.Range, m remapArgs, ret addr.Addr, w Watcher) {
	to := addr.Range{Start: part.Start - m.from + ret, End: part.End - m.from + ret}
	from := span(part.Start, min(part.Len(), span(0, m.old).Len()))
	t.clear(to, w)
	if !from.Empty() { // else it is a second mapping of the same pages
		w.Change(&format.VMAMove{MM: t.mm, From: from.Start, To: to.Start, Len: from.Len()})
	}
	w.Moved(from, to)
	t.Ask(to, w)
	left := t.wipe.Clone()
	t.wipe.Move(from, to.Start)
	if m.flags&remapDontUnmap != 0 {
		t.wipe.AddSet(left)
	}
}
