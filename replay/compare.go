package replay

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"slices"

	"memtrace/format"
	"memtrace/format/addr"
	"memtrace/format/vma"
)

// Difference is what differs in a process between two steps.
type Difference struct {
	From, To format.Step
	PID      uint32
	// Replaced says that the address space is not the same one: the process
	// has run another program.
	Replaced bool
	Mappings []vma.Delta
	Pages    []PageRun
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
// rewritten after its last capture does not show.
func (t *Trace) Compare(ctx context.Context, from, to format.Step, pid uint32) (*Difference, error) {
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
	d := &Difference{From: from, To: to, PID: pa.PID, Replaced: sa.No() != sb.No(), Mappings: sa.Set().Diff(sb.Set())}
	if d.Replaced {
		return d, nil
	}
	d.Pages, err = t.pageRuns(ctx, from, sa, sb)
	return d, err
}

// maxUniform is how long a run of pages that are all alike may be to be looked
// at page by page; longer ones are told by the mappings.
const maxUniform = 1 << 16

// pageRuns looks at the pages whose contents came after step from, and at those
// that are known no more.
func (t *Trace) pageRuns(ctx context.Context, from format.Step, a, b *AddressSpace) ([]PageRun, error) {
	seen := map[addr.Addr]bool{}
	all := addr.Range{End: ^addr.Addr(0)}
	look := func(s *AddressSpace, want func(*Run) bool) error {
		for r, err := range s.Pages(all) {
			if err == nil {
				err = ctx.Err()
			}
			if err != nil {
				return err
			}
			if !want(&r) || r.What != format.PageData && r.N > maxUniform {
				continue
			}
			for i := range r.N {
				seen[r.Addr+addr.Addr(i<<addr.PageShift)] = true
			}
		}
		return nil
	}
	if err := look(b, func(r *Run) bool { return r.Mixed || r.Changed > from }); err != nil {
		return nil, err
	}
	gone := func(r *Run) bool {
		is, ok := b.mm.Page(r.Addr)
		return r.Mixed || !ok || is.What == format.PageAbsent
	}
	if err := look(a, gone); err != nil {
		return nil, err
	}
	pages := make([]addr.Addr, 0, len(seen))
	for p := range seen {
		pages = append(pages, p)
	}
	slices.Sort(pages)
	var runs []PageRun
	for _, p := range pages {
		what, err := fate(a, b, p)
		if err != nil {
			return nil, err
		}
		if what == 0 {
			continue
		}
		v, _ := b.Set().Find(p)
		end := p + addr.PageSize
		if n := len(runs); n > 0 && runs[n-1].Range.End == p && runs[n-1].What == what && runs[n-1].Name == v.Name {
			runs[n-1].Range.End = end
			continue
		}
		runs = append(runs, PageRun{addr.Range{Start: p, End: end}, what, v.Name})
	}
	return runs, nil
}

func fate(a, b *AddressSpace, p addr.Addr) (PageFate, error) {
	if a.mixed(p) || b.mixed(p) {
		return mixedFate(a, b, p)
	}
	was, okA := a.mm.Page(p)
	is, okB := b.mm.Page(p)
	known := func(i format.PageInfo, ok bool) bool {
		return ok && (i.What == format.PageData || i.What == format.PageZero || i.What == format.PageFile)
	}
	switch ka, kb := known(was, okA), known(is, okB); {
	case !ka && !kb:
		return 0, nil
	case !ka:
		return PageNew, nil
	case !kb:
		return PageLost, nil
	}
	if was.What == is.What && was.Ref == is.Ref {
		return 0, nil
	}
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

// mixed says whether calls wrote to the page at p.
func (s *AddressSpace) mixed(p addr.Addr) bool {
	for range s.mm.Written(pageAt(p)) {
		return true
	}
	return false
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
