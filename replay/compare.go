package replay

import (
	"bytes"
	"cmp"
	"context"
	"fmt"

	"memtrace/format"
	"memtrace/format/addr"
	"memtrace/format/vma"
)

// Difference is what differs in a process between two steps.
type Difference struct {
	From, To         format.Step
	FromTime, ToTime uint64 // of these steps, ns since the start
	PID              uint32
	// Replaced says that the address space is not the same one: the process
	// has run another program.
	Replaced bool
	Mappings []vma.Delta
	Pages    []PageRun
	// More is how many mappings and runs of pages were left out by Cut.
	More int
}

// Cut keeps the first n mappings and the first n runs of pages.
func (d *Difference) Cut(n int) {
	if k := len(d.Mappings) - n; k > 0 {
		d.Mappings, d.More = d.Mappings[:n], d.More+k
	}
	if k := len(d.Pages) - n; k > 0 {
		d.Pages, d.More = d.Pages[:n], d.More+k
	}
}

// PageRun is a run of neighbouring pages that fared alike.
type PageRun struct {
	Range addr.Range
	What  PageFate
	Name  string // of the mapping they lie in at the later step
}

// PageFate is what became of a page between two steps.
type PageFate uint8

// The fates.
const (
	PageChanged PageFate = iota + 1 // captured at both, different bytes
	PageNew                         // captured for the first time
	PageLost                        // no longer what was captured
)

func (f PageFate) String() string { return [...]string{"", "changed", "captured", "lost"}[f] }

// Compare says what changed in the process pid (0: the log's first) from one
// step to a later one. Of the pages it knows what was captured: one that was
// rewritten after its last capture does not show. progress, if it is not nil, is told
// now and then what part is done, 0 to 1.
func (t *Trace) Compare(ctx context.Context, from, to format.Step, pid uint32, progress func(float64)) (*Difference, error) {
	if from > to {
		return nil, fmt.Errorf("steps %d..%d run backwards", from, to)
	}
	a, err := t.At(from)
	if err != nil {
		return nil, err
	}
	b, err := t.At(to)
	if err != nil {
		return nil, err
	}
	pa, err := t.Find(ctx, a, pid)
	if err != nil {
		return nil, err
	}
	pb, err := b.ByNo(pa.No)
	if err != nil {
		_, err = t.Find(ctx, b, pa.PID)
		return nil, cmp.Or(err, fmt.Errorf("process %d does not live at step %d", pa.PID, to))
	}
	sa, err := pa.Space()
	if err != nil {
		return nil, err
	}
	sb, err := pb.Space()
	if err != nil {
		return nil, err
	}
	times, err := t.Times(from, to)
	if err != nil {
		return nil, err
	}
	d := &Difference{From: from, To: to, FromTime: times[0], ToTime: times[1], PID: pa.PID, Replaced: sa.No() != sb.No(), Mappings: sa.Set().Diff(sb.Set())}
	if d.Replaced {
		return d, nil
	}
	d.Pages, err = t.pageRuns(ctx, from, sa, sb, progress)
	return d, err
}

// maxUniform is how many pages without data of their own, as a reservation has, are
// told of in one run; longer ones are told by the mappings.
const maxUniform = 1 << 16

// pageRuns tells of the pages whose contents came after step from, and of those that
// are known no more. It goes by runs of pages of which the same is known at both
// steps: only data is looked at page by page.
func (t *Trace) pageRuns(ctx context.Context, from format.Step, a, b *AddressSpace, progress func(float64)) ([]PageRun, error) {
	was, err := a.runs()
	if err != nil {
		return nil, err
	}
	is, err := b.runs()
	if err != nil {
		return nil, err
	}
	c := comparer{ctx: ctx, from: from, a: a, b: b}
	for i := range is {
		c.pages += is[i].N
	}
	if progress != nil {
		c.progress = func(n uint64) { progress(min(1, float64(n)/float64(c.pages))) }
	}
	for at := uint64(0); len(was) > 0 || len(is) > 0; {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		p := pair{vpn: min(first(was, at), first(is, at)), end: ^uint64(0)}
		p.was, was = p.take(was)
		p.is, is = p.take(is)
		if err := c.pair(&p); err != nil {
			return nil, err
		}
		at = p.end
	}
	return c.told(), nil
}

// runs are all that is known of s's pages.
func (s *AddressSpace) runs() (out []Run, err error) {
	for r, err := range s.Pages(addr.Range{End: ^addr.Addr(0)}) {
		if err != nil {
			return nil, err
		}
		out = append(out, r)
	}
	return out, nil
}

// first is the first page from at on that is in a run, or beyond all.
func first(runs []Run, at uint64) uint64 {
	if len(runs) == 0 {
		return ^uint64(0)
	}
	return max(at, runs[0].Addr.Page())
}

// pair is a stretch of pages of which the same is known at each of two steps. A nil
// Run is nothing.
type pair struct {
	vpn, end uint64
	was, is  *Run
}

// take gives the first of runs if it has p's first page, and those that reach beyond
// p's end, which it sets to where that run begins or ends.
func (p *pair) take(runs []Run) (*Run, []Run) {
	for len(runs) > 0 && runs[0].Addr.Page()+runs[0].N <= p.vpn {
		runs = runs[1:]
	}
	if len(runs) == 0 {
		return nil, nil
	}
	r := &runs[0]
	if r.Addr.Page() > p.vpn {
		p.end = min(p.end, r.Addr.Page())
		return nil, runs
	}
	p.end = min(p.end, r.Addr.Page()+r.N)
	return r, runs
}

// info is what is known of p's first page by one of its runs.
func (p *pair) info(r *Run) (i format.PageInfo, known bool) {
	if r == nil {
		return i, false
	}
	i = r.PageInfo
	if i.What == format.PageData {
		i.Ref += format.PageRef(2 * (p.vpn - r.Addr.Page()))
	}
	return i, i.What == format.PageData || i.What == format.PageZero || i.What == format.PageFile
}

// comparer gathers what became of pages.
type comparer struct {
	ctx      context.Context
	from     format.Step
	a, b     *AddressSpace
	list     []fated
	looked   uint64 // pages, of pages
	pages    uint64
	progress func(looked uint64) // may be nil
}

// fated is a run of pages that fared alike.
type fated struct {
	PageRun
	uniform bool // none has data of its own
}

func (c *comparer) pair(p *pair) error {
	came := p.is != nil && (p.is.Mixed || p.is.Changed > c.from)
	went := p.was != nil && (p.was.Mixed || p.is == nil || p.is.What == format.PageAbsent)
	if !came && !went {
		return nil
	}
	if p.was != nil && p.was.Mixed || p.is != nil && p.is.Mixed {
		return c.each(p, mixedFate)
	}
	was, had := p.info(p.was)
	is, has := p.info(p.is)
	uniform := was.What != format.PageData && is.What != format.PageData
	all := addr.Range{Start: addr.Addr(p.vpn << addr.PageShift), End: addr.Addr(p.end << addr.PageShift)}
	switch {
	case !had && !has, had && has && was.What == is.What && was.Ref == is.Ref:
	case !had:
		c.add(all, PageNew, uniform)
	case !has:
		c.add(all, PageLost, uniform)
	case uniform && p.end-p.vpn > maxUniform:
		c.add(all, PageChanged, true)
	default:
		return c.each(p, bytesFate)
	}
	return nil
}

// each asks of page after page.
func (c *comparer) each(p *pair, fate func(a, b *AddressSpace, p addr.Addr) (PageFate, error)) error {
	for vpn := p.vpn; vpn < p.end; vpn++ {
		if c.looked++; c.looked%1024 == 0 {
			if err := c.ctx.Err(); err != nil {
				return err
			}
			if c.progress != nil {
				c.progress(c.looked)
			}
		}
		at := addr.Addr(vpn << addr.PageShift)
		f, err := fate(c.a, c.b, at)
		if err != nil {
			return err
		}
		if f != 0 {
			c.add(pageAt(at), f, false)
		}
	}
	return nil
}

// add notes what became of r, mapping by mapping.
func (c *comparer) add(r addr.Range, what PageFate, uniform bool) {
	at := r.Start
	piece := func(end addr.Addr, name string) {
		if at < end {
			c.list = appendFated(c.list, fated{PageRun{addr.Range{Start: at, End: end}, what, name}, uniform})
			at = end
		}
	}
	for v := range c.b.Set().Overlapping(r) {
		piece(v.Start, "")
		piece(min(v.End, r.End), v.Name)
	}
	piece(r.End, "")
}

func appendFated(list []fated, f fated) []fated {
	if n := len(list); n > 0 {
		last := &list[n-1]
		if last.Range.End == f.Range.Start && last.What == f.What && last.Name == f.Name && last.uniform == f.uniform {
			last.Range.End = f.Range.End
			return list
		}
	}
	return append(list, f)
}

// told are the runs that are to be told of.
func (c *comparer) told() []PageRun {
	var list []fated
	for _, f := range c.list {
		if !f.uniform || f.Range.Len()>>addr.PageShift <= maxUniform {
			f.uniform = false
			list = appendFated(list, f)
		}
	}
	var runs []PageRun
	for i := range list {
		runs = append(runs, list[i].PageRun)
	}
	return runs
}

// bytesFate compares a page that is known at both steps.
func bytesFate(a, b *AddressSpace, p addr.Addr) (PageFate, error) {
	var x, y [addr.PageSize]byte
	if _, err := a.Page(p, &x); err != nil {
		return PageChanged, nil //nolint:nilerr // a file that cannot be read is not the same as before
	}
	if _, err := b.Page(p, &y); err != nil {
		return PageChanged, nil //nolint:nilerr // as above
	}
	if bytes.Equal(x[:], y[:]) {
		return 0, nil
	}
	return PageChanged, nil
}

// mixedFate compares what is known of single bytes: one that differs makes a page
// changed, else one that is newly known captured, else one that is known no more
// lost.
func mixedFate(a, b *AddressSpace, p addr.Addr) (PageFate, error) {
	var x, y [addr.PageSize]byte
	var inA, inB [addr.PageSize]bool
	if err := a.known(p, &x, &inA); err != nil {
		return 0, err
	}
	if err := b.known(p, &y, &inB); err != nil {
		return 0, err
	}
	var f PageFate
	for i := range x {
		switch {
		case inA[i] && inB[i] && x[i] != y[i]:
			return PageChanged, nil
		case !inA[i] && inB[i]:
			f = PageNew
		case inA[i] && !inB[i] && f == 0:
			f = PageLost
		}
	}
	return f, nil
}

// Registers are the registers of a thread at its last stop.
type Registers struct {
	Thread format.Thread
	AsOf   format.Step // the step of that stop
	Values []uint64    // in the order of arch.Registers; nil: not in the log
	// XState is the extended state as XSAVE writes it, where it was asked for
	// (AllRegisters) and is in the log, as of step XAsOf.
	XState []byte
	XAsOf  format.Step
}

// Registers finds the last known registers of each thread at or before step n.
// A thread that was running then had them at its last stop: AsOf says which.
func (t *Trace) Registers(n format.Step, threads []format.Thread) ([]Registers, error) {
	return t.registers(n, threads, false)
}

// AllRegisters is Registers with the extended state.
func (t *Trace) AllRegisters(n format.Step, threads []format.Thread) ([]Registers, error) {
	return t.registers(n, threads, true)
}

func (t *Trace) registers(n format.Step, threads []format.Thread, x bool) ([]Registers, error) {
	nos := make([]uint32, len(threads))
	for i := range threads {
		nos[i] = threads[i].No
	}
	rs, err := t.r.Registers(n, nos, x)
	if err != nil {
		return nil, err
	}
	out := make([]Registers, len(threads))
	for i, r := range rs {
		out[i] = Registers{Thread: threads[i], AsOf: r.Step, Values: r.Regs, XState: r.XState, XAsOf: r.XStep}
	}
	return out, nil
}

// Sample is the newest text of a source (format.Sample) at or before step n,
// and the step at which it was read.
func (t *Trace) Sample(n format.Step, source string, pid uint32) (text []byte, at format.Step, ok bool, err error) {
	for end, stride := n+1, format.Step(window); end > 0 && !ok; stride *= 4 {
		from := end - min(end, stride)
		for ev, err := range t.r.Events(from) {
			if err != nil {
				return nil, 0, false, err
			}
			if ev.Step >= end {
				break
			}
			mi, is := ev.Record.(*format.MemInfo)
			if !is {
				continue
			}
			for _, s := range mi.Samples {
				if s.Source == source && s.PID == pid {
					text, at, ok = append(text[:0], s.Data...), ev.Step, true
				}
			}
		}
		end = from
	}
	return text, at, ok, nil
}
