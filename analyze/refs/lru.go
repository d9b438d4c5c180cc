// Package refs computes what a recording of page references proves: the LRU depth
// of each reference between two bounds, misses at each size of memory, Belady's
// optimum, and working sets. It knows numbers only: no logs, no addresses.
//
// A recording comes in phases, each of one address space (docs/pagerefs.md). A phase
// begins with every page protected; the first reference to each page is recorded and
// opens it, later ones of the phase are not seen. The depth of a reference is the
// number of other pages that were referenced since the last reference to its page:
// an LRU memory of C pages misses it if the depth is C or more.
package refs

import "math/bits"

// Depth is what is known of the depth of a recorded reference.
type Depth struct {
	// Low <= Plain <= High. The true depth lies between Low and High; Plain is that in
	// the recorded references alone. High counts for a Cold reference, too, if the
	// page may have been referenced before.
	Low, Plain, High uint32
	Cold             bool   // the page was not referenced before
	Page             uint32 // place of the page: 0, 1 ... in the order of their first mention
}

// Depths finds the depths of references. All address spaces share one memory.
// Its own memory is in proportion to the number of pages.
type Depths struct {
	pages  []page
	phases []phase
	spaces map[uint32]*space
	last   *space // that was used last
	lastNo uint32

	next  uint32   // position
	owner []uint32 // page of each position
	sure  *order   // positions of the last recorded references
	// maybe has those of the last possible references: of pages that were held open
	// over the end of a phase, the begin of the next. nil: the same as sure.
	maybe *order

	open   uint32 // pages that are open, of all address spaces
	pins   uint32 // pages that are never protected, likewise
	proven uint32
}

const none = ^uint32(0)

// page is what is known of a page.
type page struct {
	at, maybe uint32 // positions in sure and maybe
	from, to  uint32 // the phases in which it was recorded last, and held last
}

// phase is a phase of an address space.
type phase struct {
	start, end uint32 // positions: the first, and the first after it; none: it goes on
	others     uint32 // pages that were open in other address spaces as it began
	since      uint32 // start of the first phase that a page which was held is open from
	widest     uint32 // others of that phase
}

// space is an address space.
type space struct {
	table *table
	phase uint32
	open  uint32
	pins  uint32
}

// NewDepths makes a Depths that has seen nothing.
func NewDepths() *Depths {
	d := &Depths{spaces: map[uint32]*space{}}
	d.resize(1 << 12)
	return d
}

// Pages is how many pages were mentioned so far.
func (d *Depths) Pages() int { return len(d.pages) }

// Proven is the size of memory, in pages, from which on every miss was recorded: for
// a size of at least so many pages a reference that was not recorded hits.
func (d *Depths) Proven() uint32 {
	for _, s := range d.spaces {
		d.prove(s)
	}
	return d.proven
}

// prove notes how many pages can have been referenced in the phase of s so far.
func (d *Depths) prove(s *space) {
	if p := &d.phases[s.phase]; p.end == none {
		d.proven = max(d.proven, d.possible().from(p.since)+p.widest+d.pins)
	}
}

func (d *Depths) possible() *order {
	if d.maybe != nil {
		return d.maybe
	}
	return d.sure
}

func (d *Depths) space(no uint32) *space {
	if d.last != nil && d.lastNo == no {
		return d.last
	}
	s := d.spaces[no]
	if s == nil {
		s = &space{table: newTable(), phase: none}
		d.spaces[no] = s
		d.begin(s)
	}
	d.last, d.lastNo = s, no
	return s
}

// Phase begins a phase of an address space, whose phase before ends. held are pages
// that stay open, which may be referenced at any time in the new phase; pinned is how
// many are never protected.
func (d *Depths) Phase(no uint32, held []uint64, pinned uint32) {
	s := d.space(no)
	d.prove(s)
	d.phases[s.phase].end = d.next
	d.pins += max(s.pins, pinned) - s.pins
	s.pins = max(s.pins, pinned)
	d.begin(s)
	for _, no := range held {
		d.hold(s, no)
	}
}

func (d *Depths) begin(s *space) {
	if len(d.phases) > 2*len(d.pages)+1<<12 {
		d.renumber()
	}
	d.open -= s.open
	s.open = 0
	s.phase = uint32(len(d.phases))
	d.phases = append(d.phases, phase{d.next, none, d.open, d.next, d.open})
}

// End says that an address space is no more.
func (d *Depths) End(no uint32) {
	s := d.spaces[no]
	if s == nil {
		return
	}
	d.prove(s)
	d.phases[s.phase].end = d.next
	d.open -= s.open
	d.pins -= s.pins
	delete(d.spaces, no)
	d.last = nil
}

// hold says that a page stays open in the phase that has begun.
func (d *Depths) hold(s *space, no uint64) {
	if d.maybe == nil {
		d.maybe = &order{append([]uint64(nil), d.sure.bits...), append([]uint32(nil), d.sure.tree...), d.sure.total}
	}
	at := d.position()
	id, known := s.table.get(no, uint32(len(d.pages)))
	if !known {
		d.pages = append(d.pages, page{at: none, maybe: none, from: s.phase})
	}
	p := &d.pages[id]
	if p.maybe != none {
		d.maybe.clear(p.maybe)
	}
	if !known || p.to != s.phase {
		s.open++
		d.open++
	}
	p.to, p.maybe = s.phase, at
	if f, now := &d.phases[p.from], &d.phases[s.phase]; f.start < now.since {
		now.since, now.widest = f.start, max(now.widest, f.others)
	}
	d.maybe.set(at)
	d.owner[at] = id
}

// Touch takes a recorded reference.
func (d *Depths) Touch(no uint32, pageNo uint64) Depth {
	s := d.space(no)
	at := d.position()
	id, known := s.table.get(pageNo, uint32(len(d.pages)))
	out := Depth{Page: id}
	if !known {
		d.pages = append(d.pages, page{at: none, maybe: none, from: s.phase, to: none})
	}
	p := &d.pages[id]
	if p.at != none {
		out.Plain = d.sure.from(p.at) - 1
		if end := d.phases[p.to].end; end != none {
			out.Low = d.sure.from(end)
		}
		d.sure.clear(p.at)
	} else {
		out.Cold = true
	}
	if p.maybe != none || p.at != none {
		f := &d.phases[p.from]
		out.High = d.possible().from(f.start) + f.others + d.pins
		if d.maybe != nil {
			out.High--
		} // else its position is gone already
	}
	if d.maybe != nil {
		if p.maybe != none {
			d.maybe.clear(p.maybe)
		}
		d.maybe.set(at)
	}
	d.sure.set(at)
	d.owner[at] = id
	if p.to != s.phase {
		s.open++
		d.open++
	}
	*p = page{at: at, maybe: at, from: s.phase, to: s.phase}
	return out
}

// position is the next position.
func (d *Depths) position() uint32 {
	if int(d.next) == len(d.owner) {
		d.renumber()
	}
	at := d.next
	d.next++
	return at
}

func (d *Depths) resize(n int) {
	d.owner = make([]uint32, n)
	d.sure = newOrder(uint32(n))
	if d.maybe != nil {
		d.maybe = newOrder(uint32(n))
	}
}

// renumber closes the gaps between the positions that are in use, and forgets the
// phases that no page was referenced in last.
func (d *Depths) renumber() {
	used := d.sure
	if d.maybe != nil {
		used = newOrder(uint32(len(d.owner)))
		for i := range used.bits {
			used.bits[i] = d.sure.bits[i] | d.maybe.bits[i]
		}
		used.fill()
	}
	d.forgetPhases()
	for i := range d.phases {
		p := &d.phases[i]
		p.start, p.since = used.total-used.from(p.start), used.total-used.from(p.since)
		if p.end != none {
			p.end = used.total - used.from(p.end)
		}
	}
	owner := d.owner
	d.resize(max(1<<12, 3*int(used.total)))
	at := uint32(0)
	for i, w := range used.bits {
		for ; w != 0; w &= w - 1 {
			old := uint32(i<<6 + bits.TrailingZeros64(w))
			id := owner[old]
			p := &d.pages[id]
			if p.at == old {
				p.at = at
				d.sure.bits[at>>6] |= 1 << (at & 63)
			}
			if p.maybe == old {
				p.maybe = at
				if d.maybe != nil {
					d.maybe.bits[at>>6] |= 1 << (at & 63)
				}
			}
			d.owner[at] = id
			at++
		}
	}
	d.next = at
	d.sure.fill()
	if d.maybe != nil {
		d.maybe.fill()
	}
}

func (d *Depths) forgetPhases() {
	to := make([]uint32, len(d.phases))
	for i := range d.pages {
		to[d.pages[i].from], to[d.pages[i].to] = 1, 1
	}
	for _, s := range d.spaces {
		to[s.phase] = 1
	}
	n := uint32(0)
	for i, used := range to {
		if used != 0 {
			d.phases[n] = d.phases[i]
			to[i] = n
			n++
		}
	}
	d.phases = d.phases[:n]
	for i := range d.pages {
		p := &d.pages[i]
		p.from, p.to = to[p.from], to[p.to]
	}
	for _, s := range d.spaces {
		s.phase = to[s.phase]
	}
}

// Known is the place of a page that was mentioned before.
func (d *Depths) Known(no uint32, pageNo uint64) (place uint32, known bool) {
	s := d.spaces[no]
	if s == nil {
		return 0, false
	}
	p := s.table.at(pageNo + 1)
	return p.place, p.key != 0
}
