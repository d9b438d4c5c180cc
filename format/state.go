package format

import (
	"fmt"
	"iter"

	"memtrace/format/addr"
	"memtrace/format/vma"
)

// NoStep is the step before step 0.
const NoStep = ^Step(0)

// State is what is true when an event has happened: the threads, the address
// spaces with their mappings, and where the contents of their pages are. It is
// not safe for concurrent use; a Clone is independent.
type State struct {
	Step    Step               // the event; NoStep before the first
	Threads map[uint32]*Thread // by No; the Threads are not to be changed
	MMs     map[uint32]*MM

	steps []Step // scratch
	aged  age
	mem   budget
}

// MM is an address space.
type MM struct {
	No      uint32
	VMAs    *vma.Set // not to be changed
	pages   pageMap
	written written
	// confirmed is the step of the last Confirm and 1, 0 before one.
	confirmed uint64
	key       uint64 // 1 + number of the KEYMM section that is equal, 0 for none
	cost      int64  // of one that a reader keeps: what it takes, in bytes
}

// NewState is the state before the first event.
func NewState() *State {
	return &State{Step: NoStep, Threads: map[uint32]*Thread{}, MMs: map[uint32]*MM{}}
}

// Clone returns an independent copy; mappings and page maps are shared until
// one side changes them.
func (s *State) Clone() *State {
	c := &State{Step: s.Step, Threads: make(map[uint32]*Thread, len(s.Threads)), MMs: make(map[uint32]*MM, len(s.MMs))}
	for no, t := range s.Threads {
		c.Threads[no] = t
	}
	c.mem = s.mem
	for no, m := range s.MMs {
		c.MMs[no] = &MM{No: m.No, VMAs: m.VMAs.Clone(), pages: m.pages.clone(), written: m.written.clone(), confirmed: m.confirmed, key: m.key}
		c.MMs[no].pages.mem = &c.mem
	}
	return c
}

// ApplyEvent takes the state one step on: e must be the event after s.Step.
func (s *State) ApplyEvent(e *Event) error {
	if e.Step != s.Step+1 {
		return fmt.Errorf("event %d cannot follow step %d", e.Step, s.Step)
	}
	for _, c := range e.Changes {
		if err := s.Apply(c); err != nil {
			return err
		}
	}
	s.Step++
	return s.Called(e)
}

func (s *State) mm(no uint32) (*MM, error) {
	m := s.MMs[no]
	if m == nil {
		return nil, corrupt("address space %d is not known", no)
	}
	return m, nil
}

// edit is mm for a change.
func (s *State) edit(no uint32) (*MM, error) {
	m, err := s.mm(no)
	if err == nil {
		m.key = 0
	}
	return m, err
}

// Apply carries out a change that belongs to the event after s.Step.
func (s *State) Apply(c Change) error {
	if err := s.change(c); err != nil {
		return err
	}
	return s.room()
}

func (s *State) change(c Change) error {
	s.mem.work += 16
	switch c := c.(type) {
	case *ThreadSet:
		if c.Thread.No == 0 {
			return corrupt("thread number 0")
		}
		if len(s.Threads) >= MaxThreads && s.Threads[c.Thread.No] == nil {
			return overLimit("the number of threads", uint64(len(s.Threads))+1, MaxThreads)
		}
		t := c.Thread
		if s.Threads[t.No] == nil {
			s.mem.took(threadBytes)
		}
		s.Threads[t.No] = &t
	case *ThreadEnd:
		if s.Threads[c.No] == nil {
			return corrupt("thread %d is not known", c.No)
		}
		delete(s.Threads, c.No)
	case *MMNew:
		return s.newMM(c)
	case *MMDrop:
		if s.MMs[c.MM] == nil {
			return corrupt("address space %d is not known", c.MM)
		}
		delete(s.MMs, c.MM)
	case *VMASet:
		return s.setVMA(c)
	case *VMADel:
		return s.deleteVMAs(c)
	case *VMAMove:
		return s.movePages(c)
	case *Pages:
		return s.pages(c)
	case *Confirm:
		m, err := s.mm(c.MM)
		if err != nil {
			return err
		}
		m.confirmed = uint64(s.Step+1) + 1
	case *wroteSet:
		return s.applyWrote(c)
	case *WrittenBefore:
		return s.applyWrote(&c.wroteSet)
	case *Aged:
		return s.age(c)
	case *XStateSet:
		if len(c.Data) > MaxXState {
			return overLimit("the extended state of a thread", uint64(len(c.Data)), MaxXState)
		}
		s.mem.work += uint64(len(c.Data)) / 16
	case *RegsSet:
		if len(c.Regs) > MaxRegs {
			return overLimit("the number of registers", uint64(len(c.Regs)), MaxRegs)
		}
	default:
		return fmt.Errorf("format: unknown change %T", c)
	}
	return nil
}

func (s *State) setVMA(c *VMASet) error {
	m, err := s.edit(c.MM)
	if err != nil {
		return err
	}
	if m.VMAs.Len() >= MaxVMAs {
		return overLimit("the number of mappings", uint64(m.VMAs.Len()), MaxVMAs-1)
	}
	took := m.VMAs.Took()
	m.VMAs.Insert(c.VMA)
	s.mem.took(m.VMAs.Took() - took)
	return nil
}

func (s *State) deleteVMAs(c *VMADel) error {
	m, err := s.edit(c.MM)
	if err != nil {
		return err
	}
	took := m.VMAs.Took()
	m.VMAs.Remove(c.Range)
	s.mem.took(m.VMAs.Took() - took)
	// Pages are whole: those that lie in the range entirely are gone.
	lo, hi := pageSpan(c.Range)
	m.pages.set(lo, hi, fill{})
	if !c.Range.Empty() {
		m.cutWritten(c.Range.Start, c.Range.End-1)
	}
	return nil
}

func (s *State) movePages(c *VMAMove) error {
	m, err := s.edit(c.MM)
	if err != nil {
		return err
	}
	n := c.Len >> addr.PageShift
	from, to := c.From.Page(), c.To.Page()
	if n == 0 {
		return nil
	}
	if n > MaxPageNo || from+n-1 > MaxPageNo || to+n-1 > MaxPageNo || from < to+n && to < from+n {
		return corrupt("move of %#x bytes from %v to %v", c.Len, c.From, c.To)
	}
	work, err := m.pages.move(from, to, n)
	s.mem.work += work
	if err != nil {
		return err
	}
	a, b := addr.Addr(from<<addr.PageShift), addr.Addr(to<<addr.PageShift)
	if last := addr.Addr(n<<addr.PageShift - 1); m.written.hits(a, a+last) || m.written.hits(b, b+last) {
		m.written.own(m.pages.took)
		m.written.move(a, b, n<<addr.PageShift)
	}
	return nil
}

// pageSpan is the pages that lie in r entirely.
func pageSpan(r addr.Range) (lo, hi uint64) {
	lo, hi = uint64(r.Start)>>addr.PageShift, uint64(r.End)>>addr.PageShift
	if uint64(r.Start)&(addr.PageSize-1) != 0 {
		lo++
	}
	if r.End == ^addr.Addr(0) {
		hi++
	}
	return lo, hi
}

func (s *State) newMM(c *MMNew) error {
	switch {
	case c.MM == 0:
		return corrupt("address space number 0")
	case s.MMs[c.MM] != nil:
		return corrupt("address space %d is known already", c.MM)
	case len(s.MMs) >= MaxMMs:
		return overLimit("the number of address spaces", uint64(len(s.MMs))+1, MaxMMs)
	}
	s.mem.took(mmBytes)
	if c.From == 0 {
		s.MMs[c.MM] = &MM{No: c.MM, VMAs: new(vma.Set), pages: pageMap{own: new(owner), mem: &s.mem}}
		return nil
	}
	m, err := s.mm(c.From)
	if err != nil {
		return err
	}
	s.MMs[c.MM] = &MM{No: c.MM, VMAs: m.VMAs.Clone(), pages: m.pages.clone(), written: m.written.clone(), confirmed: m.confirmed, key: m.key}
	return nil
}

// pages applies a Pages change as a reader hands it out.
func (s *State) pages(c *Pages) error {
	r := pageRun{mm: c.MM, vpn: c.Addr.Page(), n: c.N, kind: c.What}
	if c.What != PageData {
		return s.run(r)
	}
	if uint64(len(c.Refs)) != c.N {
		return fmt.Errorf("format: %d references for %d pages", len(c.Refs), c.N)
	}
	for i := 0; i < len(c.Refs); i += int(r.n) {
		r.ref, r.n = c.Refs[i], 1
		for i+int(r.n) < len(c.Refs) && c.Refs[i+int(r.n)] == r.ref+PageRef(2*r.n) {
			r.n++
		}
		if err := s.run(r); err != nil {
			return err
		}
		r.vpn += r.n
	}
	return nil
}

// pageRun is a stretch of pages; the references of PageData go up by 2.
type pageRun struct {
	mm     uint32
	kind   PageKind
	vpn, n uint64
	ref    PageRef
}

func (s *State) run(r pageRun) error {
	m, err := s.edit(r.mm)
	if err != nil {
		return err
	}
	if r.n == 0 {
		return nil
	}
	if r.n > MaxPageNo || r.vpn > MaxPageNo || r.vpn+r.n-1 > MaxPageNo {
		return overLimit("a page number", r.vpn+r.n-1, MaxPageNo)
	}
	f := fill{ent: uint64(r.kind), step: uint64(s.Step + 1)}
	if r.kind == PageData {
		if uint64(r.ref)+2*r.n > maxRef {
			return overLimit("a page reference", uint64(r.ref), maxRef)
		}
		f.ent |= uint64(r.ref) << entShift
		f.stride = entNext
		s.mem.work += r.n / 2
	}
	s.ageOf(&f)
	s.mem.work += 10
	m.pages.set(r.vpn, r.vpn+r.n, f)
	m.cutWritten(addr.Addr(r.vpn<<addr.PageShift), addr.Addr((r.vpn+r.n)<<addr.PageShift-1))
	return s.room()
}

// PageInfo is what is known of a page.
type PageInfo struct {
	What    PageKind
	Ref     PageRef // of PageData
	AsOf    Step    // the event that captured or confirmed it last
	Changed Step    // the event that brought what it holds now
	// Err says that the log is damaged where it tells of this page, which is
	// PageUnreadable then.
	Err error
}

func (c cell) info() PageInfo {
	return PageInfo{What: PageKind(c.ent & entKind), Ref: PageRef(c.ent >> entShift), AsOf: Step(c.asOf), Changed: Step(c.changed)}
}

// Page says what is known of the page that holds a; ok is false where it was
// never mentioned.
func (m *MM) Page(a addr.Addr) (info PageInfo, ok bool) {
	c, err := m.pages.get(a.Page())
	if err != nil {
		return PageInfo{What: PageUnreadable, Err: err}, true
	}
	return m.info(c), c.ent != 0
}

// info is what c says, as of the last confirmation.
func (m *MM) info(c cell) PageInfo {
	i := c.info()
	if i.AsOf+1 < Step(m.confirmed) && (i.What == PageData || i.What == PageZero || i.What == PageFile) {
		i.AsOf = Step(m.confirmed - 1)
	}
	return i
}

// PageRun is a stretch of N pages of which the same is known. The references of
// data are those of consecutive pages: one goes up by 2 from page to page.
type PageRun struct {
	Addr addr.Addr
	N    uint64
	PageInfo
}

// Pages yields the pages of r (its ends rounded outwards) of which something is
// known, in ascending order. The state must not be changed meanwhile.
func (m *MM) Pages(r addr.Range) iter.Seq2[PageRun, error] {
	return func(yield func(PageRun, error) bool) {
		if r.Empty() {
			return
		}
		more := true
		err := m.pages.runs(r.Start.Page(), (r.End-1).Page()+1, func(r run) bool {
			if r.cells == nil {
				if r.uni.ent != 0 {
					more = yield(PageRun{addr.Addr(r.vpn << addr.PageShift), r.n, m.info(r.uni)}, nil)
				}
				return more
			}
			for i := 0; i < len(r.cells) && more; {
				c, n := r.cells[i], 1
				stride := uint64(0)
				if PageKind(c.ent&entKind) == PageData {
					stride = entNext
				}
				for i+n < len(r.cells) && r.cells[i+n] == (cell{c.ent + stride*uint64(n), c.asOf, c.changed}) {
					n++
				}
				if c.ent != 0 {
					more = yield(PageRun{addr.Addr((r.vpn + uint64(i)) << addr.PageShift), uint64(n), m.info(c)}, nil)
				}
				i += n
			}
			return more
		})
		if err != nil && more {
			yield(PageRun{}, err)
		}
	}
}
