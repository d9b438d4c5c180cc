package analyze

import (
	"memtrace/format"
	"memtrace/format/addr"
	"memtrace/format/arch"
	"memtrace/format/vma"
	"memtrace/replay"
)

// book says who owns which addresses of an address space. Its map is that of mappings,
// whose inode is the owner here.
type book struct{ set *vma.Set }

// ownerID is who memory belongs to: the number of an account and how it came by it.
type ownerID uint64

const (
	// inherited memory is a fork's copy; its owner has it in the parent.
	inherited ownerID = 1 << 62
	// late memory was got in the part of the run that is asked about.
	late ownerID = 1 << 61
)

func (o ownerID) account() int { return int(o &^ (inherited | late)) }

// give makes o the owner of r. What others had there must have been taken.
func (b *book) give(r addr.Range, o ownerID) {
	if r.Empty() {
		return
	}
	if r.Start > 0 {
		if v, ok := b.set.Find(r.Start - 1); ok && v.End == r.Start && ownerID(v.Inode) == o {
			r.Start = v.Start // goes on
		}
	}
	b.set.Insert(vma.VMA{Range: r, Inode: uint64(o)})
}

// owned is a stretch and its owner.
type owned struct {
	addr.Range
	owner ownerID
}

// take makes nobody the owner of r, and says who had what of it.
func (b *book) take(r addr.Range) []owned {
	var list []owned
	for v := range b.set.Overlapping(r) {
		list = append(list, owned{v.Intersect(r), ownerID(v.Inode)})
	}
	if len(list) > 0 {
		b.set.Remove(r)
	}
	return list
}

// gaps are the parts of r that nobody owns.
func (b *book) gaps(r addr.Range) []addr.Range {
	var list []addr.Range
	at := r.Start
	for v := range b.set.Overlapping(r) {
		if v.Start > at {
			list = append(list, addr.Range{Start: at, End: v.Start})
		}
		at = v.End
	}
	if at < r.End {
		list = append(list, addr.Range{Start: at, End: r.End})
	}
	return list
}

// copied is the book of a fork's child.
func (b *book) copied() book {
	c := book{b.set.Clone()}
	for v := range b.set.All() {
		v.Inode |= uint64(inherited)
		c.set.Insert(v)
	}
	return c
}

// spaceBooks are the two books of an address space.
type spaceBooks struct {
	mapped book
	// committed is private memory that could be written to at some time since it was
	// mapped, and can be read or written: the kernel promises to have it. Reservations
	// are not in it until they are made accessible.
	committed book
	size      int64 // of what is committed, in bytes
	// resident are the pages that the last snapshot found data in and that have not been
	// unmapped since. It is kept if books.pages says so.
	resident book
}

// holding is what an owner has and had, in bytes.
type holding struct {
	site
	calls                uint64
	mapped, unmapped     int64
	committed, released  int64
	live, peak           int64 // committed now, and at most
	peakMapped           int64
	resident             int64         // what the last snapshots found data in, if books.pages
	freed                map[int]int64 // of unmapped: by which account's calls, if books.frees
	left                 int64         // committed at the end of processes that have ended
	lateLive, lateLeft   int64         // of it, got in the part of the run that is asked about
	lateCalls            uint64
	liveMapped, leftover int64 // as live and left, of mapped memory
	pools                uint64
	poolBytes            int64
	first, last          format.Step
	seen                 bool
}

// books keep account of whose memory is whose along a walk.
type books struct {
	t      *replay.Trace
	l      *ledger // which address spaces count
	names  *siteNamer
	late   uint64 // time from which on what is got is late
	spaces map[uint32]*spaceBooks
	list   []*holding
	bySite map[*site]int
	// owners, if not nil, says who gets what an event brings in place of the call site. who
	// is not "" for what no call has brought.
	owners func(ev *format.Event, who string) *holding
	number map[*holding]int
	byName map[string]int // owners that are no call
	pools  uint64         // calls that made an allocator's pool larger
	pooled int64          // by how much
	bare   uint64         // calls that got memory and have no stack
	pages  bool           // account is kept of resident pages
	imaged bool           // there was a snapshot
	frees  bool           // and of who gave back
	giver  int            // the account that the event at hand belongs to
}

// newBooks opens the books with what is mapped in s.
func newBooks(t *replay.Trace, s *format.State, o Options, owners func(*format.Event, string) *holding) *books {
	b := &books{
		t: t, l: newLedger(s, o.PID), names: newSiteNamer(t, o), spaces: map[uint32]*spaceBooks{},
		bySite: map[*site]int{}, byName: map[string]int{}, owners: owners, number: map[*holding]int{}, pages: o.What == "resident", frees: o.Frees,
	}
	for no, mm := range s.MMs {
		for v := range mm.VMAs.All() {
			id := b.named("(there at the start)")
			b.space(no).mapped.give(v.Range, id)
			b.list[id.account()].mapOf(b, no, int64(v.Len()))
			b.commit(no, v, id)
		}
	}
	return b
}

func (b *books) space(mm uint32) *spaceBooks {
	s := b.spaces[mm]
	if s == nil {
		s = &spaceBooks{mapped: book{new(vma.Set)}, committed: book{new(vma.Set)}, resident: book{new(vma.Set)}}
		b.spaces[mm] = s
	}
	return s
}

// mapOf books mapped memory.
func (h *holding) mapOf(b *books, mm uint32, n int64) {
	if b.l.counts(mm) {
		h.mapped += n
		h.liveMapped += n
		h.peakMapped = max(h.peakMapped, h.liveMapped)
	}
}

// named is an owner that is no call.
func (b *books) named(name string) ownerID {
	if b.owners != nil {
		return b.other(nil, name)
	}
	i, ok := b.byName[name]
	if !ok {
		i = len(b.list)
		b.byName[name] = i
		b.list = append(b.list, &holding{site: site{name: name}})
	}
	return ownerID(i)
}

// other is the owner that b.owners says.
func (b *books) other(ev *format.Event, who string) ownerID {
	h := b.owners(ev, who)
	i, ok := b.number[h]
	if !ok {
		i = len(b.list)
		b.number[h] = i
		b.list = append(b.list, h)
	}
	return ownerID(i)
}

// owner is who gets what an event brings.
func (b *books) owner(ev *format.Event) (ownerID, error) {
	switch r := ev.Record.(type) {
	case *format.Exec:
		return b.named("(exec)"), nil
	case *format.Attach:
		return b.named("(there at the start)"), nil
	case *format.Syscall:
		if ev.Stack == 0 {
			return b.named(bareSite + " " + replay.CallName(r.Arch, r.Nr)), nil
		}
	default:
		if ev.Stack == 0 {
			return b.named("(no call)"), nil
		}
	}
	if b.owners != nil {
		return b.other(ev, ""), nil
	}
	s, err := b.names.find(ev.Stack)
	if err != nil {
		return 0, err
	}
	i, ok := b.bySite[s]
	if !ok {
		i = len(b.list)
		b.bySite[s] = i
		b.list = append(b.list, &holding{site: *s})
	}
	return ownerID(i), nil
}

// see books one event.
func (b *books) see(m *replay.Moment) error {
	b.l.see(m)
	ev := m.Event
	if s, ok := ev.Record.(*format.Snapshot); ok && b.pages && s.Reason != format.ReasonSweep {
		if err := b.image(m.State, s.MM); err != nil {
			return err
		}
	}
	if len(ev.Changes) == 0 {
		return nil
	}
	for _, c := range ev.Changes {
		if c, ok := c.(*format.MMNew); ok && c.From != 0 {
			if from := b.spaces[c.From]; from != nil {
				b.spaces[c.MM] = &spaceBooks{from.mapped.copied(), from.committed.copied(), from.size, from.resident.copied()}
			}
		}
	}
	id, err := b.owner(ev)
	if err != nil {
		return err
	}
	if ev.Time >= b.late && b.late > 0 {
		id |= late
	}
	b.giver = id.account()
	h := b.list[b.giver]
	before, beforeMapped := h.committed, h.mapped
	made, isMade := b.mapCall(m)
	if isMade {
		// What was there is gone, though what is there now may look the same.
		b.drop(m.Thread.MM, made)
		for v := range mappings(m, made) {
			b.got(m.Thread.MM, v, id)
		}
	} else {
		made, isMade = b.moved(m, id)
	}
	for _, c := range m.Changes {
		who := id
		if s, ok := ev.Record.(*format.Syscall); ok && c.Op == vma.Map && c.VMA.Kind == vma.MainStack && s.Returned {
			who = b.named("(kernel: stack)")
		}
		b.change(c, who, made, isMade && c.MM == m.Thread.MM)
	}
	if got := h.committed - before; (got > 0 || h.mapped > beforeMapped) && b.l.counts(m.Thread.MM) {
		h.calls++
		if id&late != 0 {
			h.lateCalls++
		}
		if !h.seen {
			h.first, h.seen = ev.Step, true
		}
		h.last = ev.Step
		if s, ok := ev.Record.(*format.Syscall); ok {
			if ev.Stack == 0 {
				b.bare++
			}
			if name := replay.CallName(s.Arch, s.Nr); got > 0 && (name == "brk" || name == "mprotect") {
				h.pools++
				h.poolBytes += got
				b.pools++
				b.pooled += got
			}
		}
	}
	for _, c := range ev.Changes {
		if c, ok := c.(*format.MMDrop); ok {
			b.end(c.MM)
		}
	}
	return nil
}

// mapCall is what a successful mmap has mapped.
func (b *books) mapCall(m *replay.Moment) (addr.Range, bool) {
	s, ok := m.Event.Record.(*format.Syscall)
	if !ok || !s.Returned || s.Ret < 0 && s.Ret >= -arch.MaxErrno {
		return addr.Range{}, false
	}
	switch replay.CallName(s.Arch, s.Nr) {
	case "mmap":
		if s.Arch == arch.I386 {
			return addr.Range{}, false // its arguments are in memory
		}
	case "mmap2":
	default:
		return addr.Range{}, false
	}
	a := addr.Addr(s.Ret)
	if s.Arch == arch.I386 {
		a &= 1<<32 - 1
	}
	return addr.Span(a, (s.Args[1]+addr.PageSize-1)&^(addr.PageSize-1))
}

// mappings yields what is mapped in r after an event.
func mappings(m *replay.Moment, r addr.Range) func(func(vma.VMA) bool) {
	return func(yield func(vma.VMA) bool) {
		mm := m.State.MMs[m.Thread.MM]
		if mm == nil {
			return
		}
		for v := range mm.VMAs.Overlapping(r) {
			if !yield(v.Slice(r)) {
				return
			}
		}
	}
}

// change books one change of mappings. What lies in made is booked already.
func (b *books) change(c replay.Change, id ownerID, made addr.Range, isMade bool) {
	switch c.Op {
	case vma.Map:
		for _, r := range without(c.VMA.Range, made, isMade) {
			b.got(c.MM, c.VMA.Slice(r), id)
		}
	case vma.Unmap:
		for _, r := range without(c.VMA.Range, made, isMade) {
			b.drop(c.MM, r)
		}
	case vma.Protect:
		for _, r := range without(c.VMA.Range, made, isMade) {
			b.commit(c.MM, c.VMA.Slice(r), id)
		}
	case vma.Remap: // what moved is booked already
		for _, r := range without(c.VMA.Range, made, isMade) {
			b.got(c.MM, c.VMA.Slice(r), id)
		}
	}
}

// dontUnmap is MREMAP_DONTUNMAP: the old place stays mapped.
const dontUnmap = 4

// moved books what an mremap has moved to another place, and what it added there. It
// returns the whole of the new place.
func (b *books) moved(m *replay.Moment, id ownerID) (to addr.Range, ok bool) {
	call, isCall := m.Event.Record.(*format.Syscall)
	for _, c := range m.Event.Changes {
		mv, isMove := c.(*format.VMAMove)
		if !isMove {
			continue
		}
		from, fits := addr.Span(mv.From, mv.Len)
		n := mv.Len
		if isCall && mv.MM == m.Thread.MM {
			n = max(n, (call.Args[2]+addr.PageSize-1)&^(addr.PageSize-1))
		}
		if to, ok = addr.Span(mv.To, n); !ok || !fits {
			return addr.Range{}, false
		}
		s := b.space(mv.MM)
		var mapped, committed, resident []owned
		if !isCall || call.Args[3]&dontUnmap == 0 {
			mapped, committed, resident = s.mapped.take(from), s.committed.take(from), s.resident.take(from)
		}
		b.drop(mv.MM, to)
		for _, o := range mapped {
			s.mapped.give(o.shifted(mv), o.owner)
		}
		for _, o := range committed {
			s.committed.give(o.shifted(mv), o.owner)
		}
		for _, o := range resident {
			s.resident.give(o.shifted(mv), o.owner)
		}
		if len(mapped) > 0 {
			to.Start += addr.Addr(mv.Len)
		}
		for v := range mappings(m, to) {
			b.got(mv.MM, v, id)
		}
		to.Start = mv.To
	}
	return to, ok
}

// shifted is where a stretch is after a move.
func (o owned) shifted(mv *format.VMAMove) addr.Range {
	return addr.Range{Start: o.Start - mv.From + mv.To, End: o.End - mv.From + mv.To}
}

// without is r less what is in made.
func without(r, made addr.Range, isMade bool) []addr.Range {
	if !isMade || !r.Overlaps(made) {
		return []addr.Range{r}
	}
	var list []addr.Range
	if r.Start < made.Start {
		list = append(list, addr.Range{Start: r.Start, End: made.Start})
	}
	if r.End > made.End {
		list = append(list, addr.Range{Start: made.End, End: r.End})
	}
	return list
}

// got books what was mapped.
func (b *books) got(mm uint32, v vma.VMA, id ownerID) {
	b.space(mm).mapped.give(v.Range, id)
	b.list[id.account()].mapOf(b, mm, int64(v.Len()))
	b.commit(mm, v, id)
}

// commit books what has become accessible or inaccessible.
func (b *books) commit(mm uint32, v vma.VMA, id ownerID) {
	s := b.space(mm)
	switch {
	case v.Prot&addr.Shared != 0, v.Prot&(addr.Read|addr.Write|addr.Exec) == 0:
		for _, o := range s.committed.take(v.Range) {
			b.lostCommitted(mm, o)
		}
	case v.Prot&addr.Write != 0:
		for _, r := range s.committed.gaps(v.Range) {
			s.committed.give(r, id)
			s.size += int64(r.Len())
			if !b.l.counts(mm) {
				continue
			}
			h, n := b.list[id.account()], int64(r.Len())
			h.committed += n
			h.live += n
			h.peak = max(h.peak, h.live)
			if id&late != 0 {
				h.lateLive += n
			}
		}
	}
}

// drop books what is no longer mapped.
func (b *books) drop(mm uint32, r addr.Range) {
	s := b.space(mm)
	for _, o := range s.mapped.take(r) {
		b.lostMapped(mm, o)
	}
	for _, o := range s.committed.take(r) {
		b.lostCommitted(mm, o)
	}
	if b.pages {
		s.resident.take(r)
	}
}

// image books the pages that a snapshot of an address space found data in.
func (b *books) image(state *format.State, no uint32) error {
	mm, s := state.MMs[no], b.spaces[no]
	if mm == nil || s == nil {
		return nil
	}
	b.imaged = true
	s.resident = book{new(vma.Set)}
	for v := range s.mapped.set.All() {
		for run, err := range mm.Pages(v.Range) {
			if err != nil {
				return err
			}
			if run.What == format.PageData {
				r, _ := addr.Span(run.Addr, run.N<<addr.PageShift)
				s.resident.give(r, ownerID(v.Inode))
			}
		}
	}
	return nil
}

// settle books what is resident of an address space to its owners.
func (b *books) settle(mm uint32, s *spaceBooks) {
	if !b.l.counts(mm) {
		return
	}
	for v := range s.resident.set.All() {
		if o := ownerID(v.Inode); o&inherited == 0 {
			b.list[o.account()].resident += int64(v.Len())
		}
	}
}

// lostMapped books what an owner has lost. What a fork copied was never its gain.
func (b *books) lostMapped(mm uint32, o owned) {
	if o.owner&inherited == 0 && b.l.counts(mm) {
		h := b.list[o.owner.account()]
		h.unmapped += int64(o.Len())
		h.liveMapped -= int64(o.Len())
		if b.frees {
			if h.freed == nil {
				h.freed = map[int]int64{}
			}
			h.freed[b.giver] += int64(o.Len())
		}
	}
}

func (b *books) lostCommitted(mm uint32, o owned) {
	b.space(mm).size -= int64(o.Len())
	if o.owner&inherited == 0 && b.l.counts(mm) {
		h := b.list[o.owner.account()]
		h.released += int64(o.Len())
		h.live -= int64(o.Len())
		if o.owner&late != 0 {
			h.lateLive -= int64(o.Len())
		}
	}
}

// end closes the books of an address space: what its owners had is what was left at its
// end.
func (b *books) end(mm uint32) {
	s := b.spaces[mm]
	delete(b.spaces, mm)
	if s == nil || !b.l.counts(mm) {
		return
	}
	b.settle(mm, s)
	for v := range s.mapped.set.All() {
		if o := ownerID(v.Inode); o&inherited == 0 {
			h := b.list[o.account()]
			h.liveMapped -= int64(v.Len())
			h.leftover += int64(v.Len())
		}
	}
	for v := range s.committed.set.All() {
		if o := ownerID(v.Inode); o&inherited == 0 {
			h, n := b.list[o.account()], int64(v.Len())
			h.live -= n
			h.left += n
			if o&late != 0 {
				h.lateLive -= n
				h.lateLeft += n
			}
		}
	}
}
