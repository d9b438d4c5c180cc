package replay

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"memtrace/format"
	"memtrace/format/addr"
)

// Found is where and how long the log shows a pattern in memory: at Addr, and at
// Count-1 more places up to Last.
type Found struct {
	From, To         format.Step // both included
	FromTime, ToTime uint64      // of these steps, ns since the start
	// Exact says that the pattern came with the event From, as with a call that wrote
	// it, whose name is Call. Else it was there by From at the latest.
	Exact bool
	Call  string
	End   bool // To is the last step of the log
	Addr  addr.Addr
	Last  addr.Addr // where the last place begins
	Count uint64    // 1 or more
	// Stride is how many bytes each place is after the one before, 0 if they are
	// unevenly spaced or only one.
	Stride uint64
	Len    uint64 // of the pattern
	// Around are the bytes around the first place, from AroundAt on, as far as the page
	// that it begins in has them; nil if they are not at hand.
	Around   []byte
	AroundAt addr.Addr
	MM       uint32
	PID      uint32 // of the first process with that address space
	Name     string // of the mapping, at From
}

// FindOptions say what of the log EachFound is to search.
type FindOptions struct {
	PID uint32 // 0: every process
	// Progress, if it is not nil, is told now and then what part is done, 0 to 1.
	Progress func(float64)
}

// MaxPattern is the longest pattern that EachFound looks for.
const MaxPattern = addr.PageSize

// ErrTooMany is the error of a pattern that is in too many places at once. What was
// found up to there has been told.
var ErrTooMany = errors.New("the pattern is in too many places at once: want a longer one")

// FindBytes gathers what EachFound yields, in the order of From, then of Addr.
func (t *Trace) FindBytes(ctx context.Context, want []byte, pid uint32) ([]Found, error) {
	var out []Found
	err := t.EachFound(ctx, want, FindOptions{PID: pid}, func(o *Found) error {
		if len(out) == maxPlaces {
			return ErrTooMany
		}
		out = append(out, *o)
		return nil
	})
	slices.SortStableFunc(out, byPlace)
	return out, err
}

func byPlace(a, b Found) int {
	return cmp.Or(cmp.Compare(a.From, b.From), cmp.Compare(a.MM, b.MM), cmp.Compare(a.Addr, b.Addr))
}

// EachFound looks for a pattern in all memory that the log holds, over all steps. It
// goes through the address space part by part, small ones first, and yields what it
// finds in each in the order of From, then of Addr: so the first place is told before
// most pages are read.
func (t *Trace) EachFound(ctx context.Context, want []byte, o FindOptions, yield func(*Found) error) error {
	switch {
	case len(want) == 0 || len(want) > MaxPattern:
		return fmt.Errorf("a pattern of %d bytes: want 1 to %d", len(want), MaxPattern)
	case !slices.ContainsFunc(want, func(c byte) bool { return c != 0 }):
		return errors.New("zeros are everywhere: want a pattern with another byte")
	}
	last, ok := t.Last()
	if !ok {
		return ErrEmpty
	}
	parts, err := t.findParts(ctx)
	if err != nil {
		return err
	}
	all, done := uint64(0), uint64(0)
	for _, p := range parts {
		all += p.pages
	}
	search := newSearcher(t, want)
	for _, p := range parts {
		f := finder{t: t, ctx: ctx, search: search, part: p, pid: o.PID, yield: yield, open: map[uint32]map[uint64][]layer{}}
		f.read = func(n uint64) {
			if o.Progress != nil && all > 0 {
				o.Progress(float64(done+min(n, p.pages)) / float64(all))
			}
		}
		if err := f.run(last); err != nil {
			return err
		}
		done += p.pages
	}
	return nil
}

// run searches the finder's part of the address space over all steps.
func (f *finder) run(last format.Step) error {
	for m, err := range f.t.Walk(0, last) {
		if err != nil {
			return err
		}
		if m.Event.Step%256 == 0 {
			err = f.ctx.Err()
		}
		if err == nil {
			err = f.see(m)
		}
		if err == nil {
			err = f.call(m)
		}
		if err == nil && len(f.done) > maxPlaces {
			err = f.tell(last)
		}
		f.now = m.Event.Time
		if errors.Is(err, ErrTooMany) { // what there is stays until nobody knows
			return cmp.Or(f.tellAll(m.Event.Step, last), err)
		}
		if err != nil {
			return err
		}
	}
	return f.tellAll(last, last)
}

// maxPlaces is in how many pages the pattern may be at once.
const maxPlaces = 128 << 10

// layer is where the pattern begins in a page, in all places since the same step.
type layer struct {
	at *bitmap // not to be changed
	origin
}

// origin is what is known of how a layer came. Layers of the same origin make runs.
type origin struct {
	from format.Step
	time uint64 // of from
	who  *owner
	call string // that wrote it, "" for none
	// exact: it came with the event from.
	exact bool
	text  *pageText
}

// owner is what is told of a place.
type owner struct {
	pid  uint32
	name string
}

// ended is a layer, or a part of one, whose last step is known.
type ended struct {
	layer
	mm   uint32
	vpn  uint64
	to   format.Step
	time uint64 // of to
}

type finder struct {
	t      *Trace
	ctx    context.Context
	search *searcher
	part   findPart
	pid    uint32
	yield  func(*Found) error
	read   func(n uint64) // is told how many pages were looked at
	looked uint64
	now    uint64                        // the time of the event before
	how    origin                        // of what is found at present: call and exact
	open   map[uint32]map[uint64][]layer // by address space and page
	layers int
	done   []ended
	who    owner // the one made last
	whoOf  *owner
}

// see brings what is open up to date with the changes of an event.
func (f *finder) see(m *Moment) error {
	for _, c := range m.Event.Changes {
		var err error
		_, seen := c.(*format.Pages)
		f.how = origin{exact: !seen}
		switch c := c.(type) {
		case *format.Pages:
			err = f.touched(m, c.MM, c.Addr.Page(), c.N, false)
		case *format.VMADel:
			r := c.Range.PageAlign()
			err = f.touched(m, c.MM, r.Start.Page(), r.Len()>>addr.PageShift, false)
		case *format.VMAMove:
			n := c.Len >> addr.PageShift
			if err = f.touched(m, c.MM, c.From.Page(), n, false); err == nil {
				err = f.touched(m, c.MM, c.To.Page(), n, true)
			}
		case *format.MMNew:
			err = f.copied(m, c)
		case *format.MMDrop:
			for vpn := range f.open[c.MM] {
				f.set(m, c.MM, vpn, nil)
			}
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// copied is for an address space that begins as a copy of another.
func (f *finder) copied(m *Moment, c *format.MMNew) error {
	for vpn := range f.open[c.From] {
		if m.State.MMs[c.MM] == nil { // it has ended within the same event
			return nil
		}
		at, err := f.search.at(m, c.MM, vpn)
		if err != nil {
			return err
		}
		if err := f.set(m, c.MM, vpn, at); err != nil {
			return err
		}
	}
	return nil
}

// touched looks again at n pages and at the one before, whose end the pattern may
// reach over. moved says that what they hold may be older than the event.
func (f *finder) touched(m *Moment, mm uint32, vpn, n uint64, moved bool) error {
	space := m.State.MMs[mm]
	if space == nil || n == 0 {
		return nil
	}
	first, last := max(vpn-min(vpn, 1), f.part.first), min(vpn+n-1, f.part.last)
	if first > last {
		return nil
	}
	look := func(vpn uint64) error {
		if vpn < first || vpn > last {
			return nil
		}
		if f.looked++; f.looked%1024 == 0 {
			f.read(f.looked)
		}
		at, err := f.search.at(m, mm, vpn)
		if err != nil {
			return err
		}
		return f.set(m, mm, vpn, at)
	}
	open := f.open[mm]
	if last-first < uint64(len(open)) {
		for p := first; p <= last; p++ {
			if open[p] != nil {
				if err := look(p); err != nil {
					return err
				}
			}
		}
	} else {
		for p := range open {
			if err := look(p); err != nil {
				return err
			}
		}
	}
	for _, p := range [...]uint64{first, last} {
		if err := look(p); err != nil {
			return err
		}
	}
	around := addr.Reach(addr.Addr(first<<addr.PageShift), (last-first+2)<<addr.PageShift)
	for run, err := range space.Pages(around) {
		if err != nil {
			return err
		}
		if run.What != format.PageData || !moved && run.Changed != m.Event.Step {
			continue
		}
		for i := range run.N {
			if i%256 == 0 && f.ctx.Err() != nil {
				return f.ctx.Err()
			}
			p := run.Addr.Page() + i
			if i == 0 && p > 0 {
				if err := look(p - 1); err != nil {
					return err
				}
			}
			if err := look(p); err != nil {
				return err
			}
		}
	}
	// What calls wrote moves along, or goes on in a new page.
	for w := range space.Written(f.search.widen(around)) {
		if err := f.wrote(m, mm, addr.Range{Start: w.Addr, End: w.Addr + addr.Addr(w.Len)}, look); err != nil {
			return err
		}
	}
	return nil
}

// wrote calls look for the pages in which a pattern may begin that touches r.
func (f *finder) wrote(m *Moment, mm uint32, r addr.Range, look func(vpn uint64) error) error {
	r = f.search.widen(r)
	for p := max(r.Start.Page(), f.part.first); p <= min((r.End-1).Page(), f.part.last); p++ {
		if err := look(p); err != nil {
			return err
		}
	}
	return nil
}

// call brings what is open up to date with what a system call wrote.
func (f *finder) call(m *Moment) error {
	c, ok := m.Event.Record.(*format.Syscall)
	mm := m.Thread.MM
	if !ok || len(c.Blobs) == 0 || m.State.MMs[mm] == nil {
		return nil
	}
	f.how = origin{exact: true, call: CallName(c.Arch, c.Nr)}
	for i := range c.Bufs {
		b := &c.Bufs[i]
		r, ok := addr.Span(b.Addr, uint64(len(b.Data)))
		if !ok || !format.InMemory(b) {
			continue
		}
		promises := f.search.promises(b.Data)
		err := f.wrote(m, mm, r, func(vpn uint64) error {
			if !promises && f.open[mm][vpn] == nil {
				return nil
			}
			at, err := f.search.at(m, mm, vpn)
			if err != nil {
				return err
			}
			return f.set(m, mm, vpn, at)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// set notes where the pattern begins in a page now.
func (f *finder) set(m *Moment, mm uint32, vpn uint64, now *bitmap) error {
	was := f.open[mm][vpn]
	if len(was) == 1 && was[0].at == now || len(was) == 0 && now == nil {
		return nil
	}
	kept := was[:0]
	rest := now // what is new
	for _, l := range was {
		stays := l.at.and(now)
		if gone := l.at.without(now); gone != nil && l.from < m.Event.Step {
			f.done = append(f.done, ended{layer{gone, l.origin}, mm, vpn, m.Event.Step - 1, f.now})
		}
		if stays != nil {
			if stays.equal(l.at) {
				stays = l.at
			}
			kept = append(kept, layer{stays, l.origin})
			rest = rest.without(stays)
		}
	}
	if rest != nil {
		o := f.how
		o.from, o.time, o.who = m.Event.Step, m.Event.Time, f.owner(m, mm, vpn)
		var err error
		if o.text, err = f.search.textOf(m, mm, vpn, rest); err != nil {
			return err
		}
		kept = append(kept, layer{rest, o})
	}
	f.layers += len(kept) - len(was)
	switch {
	case len(kept) == 0:
		delete(f.open[mm], vpn)
	case f.open[mm] == nil:
		f.open[mm] = map[uint64][]layer{vpn: kept}
	default:
		f.open[mm][vpn] = kept
	}
	if f.layers > maxPlaces {
		return ErrTooMany
	}
	return nil
}

// owner is whose a page is, and of what.
func (f *finder) owner(m *Moment, mm uint32, vpn uint64) *owner {
	var o owner
	var no uint32
	for _, t := range m.State.Threads {
		if t.MM == mm && (no == 0 || t.No < no) {
			no, o.pid = t.No, t.TGID
		}
	}
	if v, ok := m.State.MMs[mm].VMAs.Find(addr.Addr(vpn << addr.PageShift)); ok {
		o.name = cmp.Or(v.Name, v.Kind.String())
	}
	if f.whoOf == nil || o != f.who {
		f.who, f.whoOf = o, &o
	}
	return f.whoOf
}

// tell yields what has ended.
func (f *finder) tell(last format.Step) error {
	slices.SortFunc(f.done, func(a, b ended) int {
		return cmp.Or(cmp.Compare(a.from, b.from), cmp.Compare(a.mm, b.mm), cmp.Compare(a.to, b.to), cmp.Compare(a.vpn, b.vpn))
	})

	g := gatherer{near: uint64(len(f.search.want)) + nearGap}
	for i := range f.done {
		e := &f.done[i]
		if i > 0 && !e.like(&f.done[i-1]) {
			if err := g.flush(); err != nil {
				return err
			}
		}
		if f.pid != 0 && e.who.pid != f.pid {
			continue
		}
		g.yield = func(r run) error { return f.found(e, r, last) }
		for o := range e.at.all() {
			if err := g.add(addr.Addr(e.vpn<<addr.PageShift)+addr.Addr(o), e.text); err != nil {
				return err
			}
		}
	}
	f.done = f.done[:0]
	return g.flush()
}

// like says whether places of both may make one run.
func (e *ended) like(o *ended) bool {
	return e.mm == o.mm && e.from == o.from && e.to == o.to && *e.who == *o.who && e.exact == o.exact && e.call == o.call
}

// found yields a run of places like e's.
func (f *finder) found(e *ended, r run, last format.Step) error {
	o := Found{
		From: e.from, To: e.to, FromTime: e.origin.time, ToTime: e.time, Exact: e.exact, Call: e.call, End: e.to == last,
		Addr: r.first, Last: r.last, Count: r.count, Stride: r.stride, Len: uint64(len(f.search.want)),
		MM: e.mm, PID: e.who.pid, Name: e.who.name,
	}
	var err error
	if o.AroundAt, o.Around, err = f.search.around(r.text, r.first); err != nil {
		return err
	}
	return f.yield(&o)
}

// tellAll yields what is still there at step to.
func (f *finder) tellAll(to, last format.Step) error {
	for mm, open := range f.open {
		for vpn, ls := range open {
			for _, l := range ls {
				f.done = append(f.done, ended{l, mm, vpn, to, f.now})
			}
		}
	}
	return f.tell(last)
}

// Append appends a line about it, without a newline. With a clock the times of the
// steps stand behind them; start is of the recording.
func (o *Found) Append(b []byte, clock Clock, start time.Time) []byte {
	b = fmt.Appendf(b, "%v ", o.Addr)
	b = appendSteps(b, stepSpan{o.From, o.To, o.FromTime, o.ToTime, o.End}, clock, start)
	switch {
	case o.Call != "":
		b = fmt.Appendf(b, " (exact, %s)", o.Call)
	case o.Exact:
		b = append(b, " (exact)"...)
	default:
		b = append(b, " (at latest)"...)
	}
	b = fmt.Appendf(b, ", process %d, %s", o.PID, Escape(o.Name))
	switch {
	case o.Count == 1:
	case o.Stride == 0:
		b = fmt.Appendf(b, ", %d times in %d bytes", o.Count, uint64(o.Last-o.Addr)+o.Len)
	case o.Stride == 1:
		b = fmt.Appendf(b, ", %d times, at every byte", o.Count)
	default:
		b = fmt.Appendf(b, ", %d times, every %d bytes", o.Count, o.Stride)
	}
	if o.Around != nil {
		b = append(appendText(append(b, " |"...), o.Around), '|')
	}
	return b
}

// AppendJSON appends it as a JSON object.
func (o *Found) AppendJSON(b []byte) []byte {
	b = hexStr(append(b, `{"addr":`...), uint64(o.Addr))
	b = strconv.AppendUint(key(b, "from"), uint64(o.From), 10)
	b = strconv.AppendUint(key(b, "to"), uint64(o.To), 10)
	b = strconv.AppendUint(key(b, "from_time"), o.FromTime, 10)
	b = strconv.AppendUint(key(b, "to_time"), o.ToTime, 10)
	b = strconv.AppendBool(key(b, "exact"), o.Exact)
	b = strconv.AppendBool(key(b, "to_end"), o.End)
	if o.Call != "" {
		b = str(key(b, "call"), o.Call)
	}
	b = strconv.AppendUint(key(b, "pid"), uint64(o.PID), 10)
	b = str(key(b, "path"), o.Name)
	b = strconv.AppendUint(key(b, "count"), o.Count, 10)
	b = strconv.AppendUint(key(b, "stride"), o.Stride, 10)
	b = hexStr(key(b, "last"), uint64(o.Last))
	if o.Around != nil {
		b = hexStr(key(b, "around_start"), uint64(o.AroundAt))
		b = fmt.Appendf(key(b, "around"), `"%x"`, o.Around)
	}
	return append(b, '}')
}
