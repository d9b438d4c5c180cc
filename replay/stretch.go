package replay

import (
	"errors"
	"iter"

	"memtrace/format"
	"memtrace/format/addr"
)

// Stretch is a part of a page of which the same is known.
type Stretch struct {
	Range addr.Range
	Err   error // why its bytes are not known
	// AsOf is the step at which they were captured or confirmed last, or of the
	// call that wrote them there. They are exact if it is the step asked for.
	AsOf format.Step
	Call bool // a call wrote them
}

// pageAt is the page that holds a.
func pageAt(a addr.Addr) addr.Range {
	return addr.Reach(a.PageDown(), addr.PageSize)
}

// Stretches is what is known of the page that holds a, in order and without gaps.
// The bytes are in dst; what is not known is zero there. The slice is valid until
// the next use of s.
func (s *AddressSpace) Stretches(a addr.Addr, dst *[addr.PageSize]byte) ([]Stretch, error) {
	page := pageAt(a)
	asOf, err := s.capture(page.Start, dst)
	if err != nil {
		if sentinel(err) == nil {
			return nil, err // the log is damaged there
		}
		*dst = [addr.PageSize]byte{}
	}
	out := s.parts[:0]
	at := page.Start
	rest := func(end addr.Addr) {
		if at < end {
			out = append(out, Stretch{Range: addr.Range{Start: at, End: end}, Err: from(err, at), AsOf: asOf})
		}
	}
	if s.view.Live == nil && !errors.Is(err, ErrUnmapped) {
		for w := range s.mm.Written(page) {
			if err == nil && w.Step <= asOf {
				continue // what was captured or confirmed later, or with the call, knows better
			}
			rest(w.Addr)
			at = w.Addr + addr.Addr(w.Len)
			if err := s.view.Pages.Blob(dst[w.Addr-page.Start:][:w.Len], w.Blob); err != nil {
				return nil, err
			}
			out = append(out, Stretch{Range: addr.Range{Start: w.Addr, End: at}, AsOf: w.Step, Call: true})
		}
	}
	rest(page.End)
	s.parts = out
	return out, nil
}

// from is err for the memory from a on.
func from(err error, a addr.Addr) error {
	var u *UnknownError
	if !errors.As(err, &u) {
		return err
	}
	c := *u
	c.Addr = a
	return &c
}

// Page is what is known of the whole page that holds a: its bytes in dst, and the
// oldest step at which any of them was captured. The error names the first address
// that is not known.
func (s *AddressSpace) Page(a addr.Addr, dst *[addr.PageSize]byte) (asOf format.Step, err error) {
	parts, err := s.Stretches(a, dst)
	if err != nil {
		return 0, err
	}
	asOf = s.view.Step
	for i := range parts {
		if parts[i].Err != nil {
			return 0, parts[i].Err
		}
		asOf = min(asOf, parts[i].AsOf)
	}
	return asOf, nil
}

// ReadMem reads from a on as much of p as is known without a gap. asOf is the
// oldest step at which any of the n bytes was captured; they are exact if that
// is the step asked for. The error names the first address that is not known.
func (s *AddressSpace) ReadMem(p []byte, a addr.Addr) (n int, asOf format.Step, err error) {
	asOf = s.view.Step
	var page [addr.PageSize]byte
	for n < len(p) {
		at, ok := a.Add(uint64(n))
		if !ok {
			return n, asOf, &UnknownError{at, s.view.Step, "end of the address space", ErrUnmapped}
		}
		parts, err := s.Stretches(at, &page)
		if err != nil {
			return n, asOf, err
		}
		for i := range parts {
			x := &parts[i]
			if x.Range.End <= at || n == len(p) {
				continue
			}
			start := max(at, x.Range.Start)
			if x.Err != nil {
				return n, asOf, from(x.Err, start)
			}
			n += copy(p[n:], page[start-at.PageDown():x.Range.End-at.PageDown()])
			asOf = min(asOf, x.AsOf)
		}
		if at.PageDown() == (^addr.Addr(0)).PageDown() && n < len(p) {
			return n, asOf, &UnknownError{^addr.Addr(0), s.view.Step, "end of the address space", ErrUnmapped}
		}
	}
	return n, asOf, nil
}

// known reads the page at a into dst, and says of which bytes it could.
func (s *AddressSpace) known(a addr.Addr, dst *[addr.PageSize]byte, mask *[addr.PageSize]bool) error {
	parts, err := s.Stretches(a, dst)
	for _, x := range parts {
		for i := x.Range.Start - a; i < min(addr.PageSize, x.Range.End-a); i++ {
			mask[i] = x.Err == nil
		}
	}
	return err
}

// Run is a run of pages of which the same is known.
type Run struct {
	format.PageRun
	// Mixed says that calls wrote to the page, which is one: Stretches tells of
	// it. What is 0 if nothing else is known of it.
	Mixed bool
}

// Pages are the pages of r of which something is known.
func (s *AddressSpace) Pages(r addr.Range) iter.Seq2[Run, error] {
	if s.view.Live != nil {
		return s.livePages(r)
	}
	return func(yield func(Run, error) bool) {
		if r.Empty() {
			return
		}
		var mixed []uint64 // page numbers
		all := addr.Range{Start: r.Start.PageDown(), End: pageAt(r.End - 1).End}
		for w := range s.mm.Written(all) {
			last := (w.Addr + addr.Addr(w.Len-1)).Page()
			for vpn := w.Addr.Page(); vpn <= last; vpn++ {
				if n := len(mixed); n == 0 || mixed[n-1] < vpn {
					mixed = append(mixed, vpn)
				}
			}
		}
		// alone yields the pages before vpn that are in no run.
		alone := func(vpn uint64) bool {
			for ; len(mixed) > 0 && mixed[0] < vpn; mixed = mixed[1:] {
				if !yield(Run{format.PageRun{Addr: addr.Addr(mixed[0] << addr.PageShift), N: 1}, true}, nil) {
					return false
				}
			}
			return true
		}
		for run, err := range s.mm.Pages(r) {
			if err != nil {
				yield(Run{}, err)
				return
			}
			if !alone(run.Addr.Page()) {
				return
			}
			for end := run.Addr.Page() + run.N; run.N > 0; {
				n, mix := run.N, false
				if len(mixed) > 0 && mixed[0] < end {
					if n = mixed[0] - run.Addr.Page(); n == 0 {
						n, mix, mixed = 1, true, mixed[1:]
					}
				}
				part := run
				part.N = n
				if !yield(Run{part, mix}, nil) {
					return
				}
				run.N -= n
				run.Addr += addr.Addr(n << addr.PageShift)
				if run.What == format.PageData {
					run.Ref += format.PageRef(2 * n)
				}
			}
		}
		alone(^uint64(0))
	}
}

func (s *AddressSpace) livePages(r addr.Range) iter.Seq2[Run, error] {
	return func(yield func(Run, error) bool) {
		for v := range s.Mappings() {
			at := v.Range.Intersect(r)
			if at.Empty() || v.Prot&(addr.Read|addr.Write|addr.Exec) == 0 {
				continue
			}
			run := format.PageRun{Addr: at.Start, N: at.Len() / addr.PageSize, PageInfo: format.PageInfo{What: format.PageData, AsOf: s.view.Step}}
			if !yield(Run{run, false}, nil) {
				return
			}
		}
	}
}

// callWrites are the buffers of a call of a log that it wrote to memory.
func callWrites(ev *format.Event) (out []addr.Range) {
	c, ok := ev.Record.(*format.Syscall)
	if !ok || c.Blobs == nil {
		return nil
	}
	for i := range c.Bufs {
		if b := &c.Bufs[i]; format.InMemory(b) {
			if r, ok := addr.Span(b.Addr, uint64(len(b.Data))); ok {
				out = append(out, r)
			}
		}
	}
	return out
}
