package replay

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"

	"memtrace/format"
	"memtrace/format/addr"
)

// Found is where and how long the log shows a pattern in memory.
type Found struct {
	From, To format.Step // both included
	Addr     addr.Addr
	MM       uint32
	PID      uint32 // of the first process with that address space
	Name     string // of the mapping, at From
}

// MaxPattern is the longest pattern that FindBytes looks for.
const MaxPattern = addr.PageSize

// FindBytes looks for a pattern in all memory that the log holds, over all
// steps; pid 0 is every process. Each distinct page is searched once. The list
// is in the order of From, then of Addr.
func (t *Trace) FindBytes(ctx context.Context, want []byte, pid uint32) ([]Found, error) {
	switch {
	case len(want) == 0 || len(want) > MaxPattern:
		return nil, fmt.Errorf("a pattern of %d bytes: want 1 to %d", len(want), MaxPattern)
	case !slices.ContainsFunc(want, func(c byte) bool { return c != 0 }):
		return nil, errors.New("zeros are everywhere: want a pattern with another byte")
	}
	last, ok := t.Last()
	if !ok {
		return nil, ErrEmpty
	}
	f := finder{t: t, want: want, pages: map[format.PageRef]*pageHits{}, open: map[place]*Found{}}
	for m, err := range t.Walk(0, last) {
		if err == nil && m.Event.Step%256 == 0 {
			err = ctx.Err()
		}
		if err != nil {
			return nil, err
		}
		if len(m.Event.Changes) > 0 {
			err = f.see(ctx, m)
		}
		if err == nil {
			err = f.call(m)
		}
		if err != nil {
			return nil, err
		}
	}
	for _, o := range f.open {
		o.To = last
		f.done = append(f.done, *o)
	}
	out := f.done[:0]
	for _, o := range f.done {
		if pid == 0 || o.PID == pid {
			out = append(out, o)
		}
	}
	slices.SortFunc(out, func(a, b Found) int {
		return cmp.Or(cmp.Compare(a.From, b.From), cmp.Compare(a.MM, b.MM), cmp.Compare(a.Addr, b.Addr))
	})
	return out, nil
}

// pageHits is what one distinct page has of the pattern.
type pageHits struct {
	at    []uint16 // where it lies whole
	tails []uint16 // the page ends with its first n bytes, ascending
	heads []uint16 // the page begins with what follows its first n bytes
}

type place struct {
	mm   uint32
	addr addr.Addr
}

type finder struct {
	t     *Trace
	want  []byte
	pages map[format.PageRef]*pageHits // that have something
	seen  [2][]uint64                  // bits of what has been searched, by number of raw pages and of patches
	zero  *pageHits
	open  map[place]*Found
	done  []Found
	buf   [addr.PageSize]byte
	text  []byte // scratch
}

// see brings what is open up to date with an event.
func (f *finder) see(ctx context.Context, m *Moment) error {
	type stretch struct {
		mm    uint32
		r     addr.Range
		moved bool // what is there is older than the event
	}
	var touched []stretch
	in := map[uint32]bool{}
	for _, c := range m.Event.Changes {
		switch c := c.(type) {
		case *format.Pages:
			touched = append(touched, stretch{c.MM, pagesOf(c.Addr, c.N), false})
		case *format.VMADel:
			touched = append(touched, stretch{c.MM, c.Range.PageAlign(), false})
		case *format.VMAMove:
			n := c.Len >> addr.PageShift
			touched = append(touched, stretch{c.MM, pagesOf(c.From, n), false}, stretch{c.MM, pagesOf(c.To, n), true})
		case *format.MMNew:
			for p, o := range f.open {
				if p.mm == c.From {
					f.begin(m, place{c.MM, p.addr}, o.Name)
				}
			}
			continue
		case *format.MMDrop:
			in[c.MM] = true
			continue
		default:
			continue
		}
		in[touched[len(touched)-1].mm] = true
	}
	if len(in) == 0 {
		return nil
	}
	for p, o := range f.open { // what was there may be there no more
		if !in[p.mm] {
			continue
		}
		ok, err := f.holds(m.State, p)
		if err != nil {
			return err
		}
		if !ok {
			f.end(p, o, m.Event.Step)
		}
	}
	for _, s := range touched {
		if m.State.MMs[s.mm] == nil {
			continue
		}
		if err := f.search(ctx, m, s.mm, s.r, s.moved); err != nil {
			return err
		}
		// What calls wrote moves along, or goes on in a new page.
		for w := range m.State.MMs[s.mm].Written(f.widen(s.r)) {
			if err := f.around(m, s.mm, addr.Range{Start: w.Addr, End: w.Addr + addr.Addr(w.Len)}); err != nil {
				return err
			}
		}
	}
	return nil
}

func pagesOf(a addr.Addr, n uint64) addr.Range {
	r := addr.Range{Start: a.PageDown()}
	if n >= 1<<(64-addr.PageShift) {
		n = 1<<(64-addr.PageShift) - 1
	}
	end, ok := r.Start.Add(n << addr.PageShift)
	if !ok {
		end = ^addr.Addr(0)
	}
	r.End = end
	return r
}

// search looks at the pages of r that hold data since this event, or at all of
// them, and across the ends of each.
func (f *finder) search(ctx context.Context, m *Moment, mm uint32, r addr.Range, all bool) error {
	space := m.State.MMs[mm]
	var before *pageHits // of the page that ends where the next begins
	next := addr.Addr(0)
	// One page more on either side: a match may reach over the ends.
	wide := addr.Range{Start: r.Start - min(r.Start, addr.PageSize), End: r.End}
	if end, ok := r.End.Add(addr.PageSize); ok {
		wide.End = end
	}
	for run, err := range space.Pages(wide) {
		if err != nil {
			return err
		}
		n := run.N
		switch run.What {
		case format.PageData:
		case format.PageZero:
			n = min(n, 1) // all are alike, and none has a match inside
		default:
			continue
		}
		for i := uint64(0); i < n; i++ {
			if !all && run.Changed != m.Event.Step && i > 0 && i < n-1 {
				i = n - 1 // only its neighbours may be new
			}
			if i%256 == 0 && ctx.Err() != nil {
				return ctx.Err()
			}
			at := run.Addr + addr.Addr(i<<addr.PageShift)
			ref := run.Ref + format.PageRef(2*i)
			h, err := f.hits(run.What, ref)
			if err != nil {
				return fmt.Errorf("page %v at step %d: %w", at, m.Event.Step, err)
			}
			if h != nil {
				if r.Contains(at) {
					for _, o := range h.at {
						err = cmp.Or(err, f.captured(m, place{mm, at + addr.Addr(o)}))
					}
				}
				if before != nil && next == at {
					for _, n := range h.heads {
						if _, ok := slices.BinarySearch(before.tails, n); ok {
							err = cmp.Or(err, f.captured(m, place{mm, at - addr.Addr(n)}))
						}
					}
				}
				if err != nil {
					return err
				}
			}
			before, next = h, at+addr.PageSize
		}
		if run.What == format.PageZero && run.N > 1 {
			before, next = f.zero, run.Addr+addr.Addr(run.N<<addr.PageShift)
		}
	}
	return nil
}

// hits is what a page has of the pattern, nil for nothing.
func (f *finder) hits(what format.PageKind, ref format.PageRef) (*pageHits, error) {
	if what == format.PageZero {
		if f.zero == nil {
			f.buf = [addr.PageSize]byte{}
			if f.zero = f.examine(); f.zero == nil {
				f.zero = new(pageHits)
			}
		}
		return f.zero, nil
	}
	seen, id := &f.seen[ref&1], uint64(ref>>1)
	if id/64 < uint64(len(*seen)) && (*seen)[id/64]>>(id%64)&1 != 0 {
		return f.pages[ref], nil
	}
	if err := f.t.r.Page(ref, &f.buf); err != nil {
		return nil, err
	}
	for uint64(len(*seen)) <= id/64 {
		*seen = append(*seen, 0)
	}
	(*seen)[id/64] |= 1 << (id % 64)
	h := f.examine()
	if h != nil {
		f.pages[ref] = h
	}
	return h, nil
}

// examine searches the page in buf.
func (f *finder) examine() *pageHits {
	var h pageHits
	for from := 0; ; {
		k := bytes.Index(f.buf[from:], f.want)
		if k < 0 {
			break
		}
		h.at = append(h.at, uint16(from+k))
		from += k + 1
	}
	for n := 1; n < len(f.want); n++ {
		if bytes.HasSuffix(f.buf[:], f.want[:n]) {
			h.tails = append(h.tails, uint16(n))
		}
		if bytes.HasPrefix(f.buf[:], f.want[n:]) {
			h.heads = append(h.heads, uint16(n))
		}
	}
	if h.at == nil && h.tails == nil && h.heads == nil {
		return nil
	}
	return &h
}

// holds says whether the pattern is at p.
func (f *finder) holds(s *format.State, p place) (bool, error) {
	mm := s.MMs[p.mm]
	if mm == nil {
		return false, nil
	}
	get := func(a addr.Addr) (*pageHits, error) {
		info, ok := mm.Page(a)
		if !ok || info.What != format.PageData && info.What != format.PageZero {
			return nil, nil
		}
		return f.hits(info.What, info.Ref)
	}
	if f.written(mm, p) {
		return f.reads(s, p)
	}
	first := p.addr.PageDown()
	h, err := get(first)
	if h == nil || err != nil {
		return false, err
	}
	off := int(p.addr - first)
	if off+len(f.want) <= addr.PageSize {
		_, ok := slices.BinarySearch(h.at, uint16(off))
		return ok, nil
	}
	n := uint16(addr.PageSize - off)
	if _, ok := slices.BinarySearch(h.tails, n); !ok {
		return false, nil
	}
	if h, err = get(first + addr.PageSize); h == nil || err != nil {
		return false, err
	}
	return slices.Contains(h.heads, n), nil
}

// begin notes that the pattern is at p from this step on.
func (f *finder) begin(m *Moment, p place, name string) {
	if f.open[p] != nil {
		return
	}
	o := &Found{From: m.Event.Step, Addr: p.addr, MM: p.mm, Name: name}
	var no uint32
	for _, t := range m.State.Threads {
		if t.MM == p.mm && (no == 0 || t.No < no) {
			no, o.PID = t.No, t.TGID
		}
	}
	if mm := m.State.MMs[p.mm]; mm != nil && name == "" {
		if v, ok := mm.VMAs.Find(p.addr); ok {
			o.Name = cmp.Or(v.Name, v.Kind.String())
		}
	}
	f.open[p] = o
}

// end closes what was at p until the step before.
func (f *finder) end(p place, o *Found, step format.Step) {
	if o.From < step {
		o.To = step - 1
		f.done = append(f.done, *o)
	}
	delete(f.open, p)
}

// Append appends a line about it, without a newline.
func (o *Found) Append(b []byte) []byte {
	return fmt.Appendf(b, "%v steps %d..%d, process %d, %s", o.Addr, o.From, o.To, o.PID, Escape(o.Name))
}

// AppendJSON appends it as a JSON object.
func (o *Found) AppendJSON(b []byte) []byte {
	b = hexStr(append(b, `{"addr":`...), uint64(o.Addr))
	b = strconv.AppendUint(key(b, "from"), uint64(o.From), 10)
	b = strconv.AppendUint(key(b, "to"), uint64(o.To), 10)
	b = strconv.AppendUint(key(b, "pid"), uint64(o.PID), 10)
	return append(str(key(b, "path"), o.Name), '}')
}
