package replay

import (
	"context"
	"fmt"
	"io"
	"iter"
	"strconv"

	"memtrace/format"
	"memtrace/format/addr"
	"memtrace/format/vma"
)

// References to pages lie between steps. That one is at step N means: event N is the
// last before it, and the state at step N is the one that it met.

// RefMoment is a reference to a page, or the mark of a phase, with the state that it
// met.
type RefMoment struct {
	*format.RefItem
	Step   format.Step   // the last event before it; 0 also for those before all events
	Thread format.Thread // whose it is, even if its end is in the log already; zero for a phase
	PID    uint32        // process of the address space, 0 if it is not known
	State  *format.State

	mapping vma.VMA // that was found last
	mm      uint32
	changes int // of mappings, when it was found
	walk    *refWalk
}

// Space is the number of the address space.
func (m *RefMoment) Space() uint32 {
	if m.Phase != nil {
		return m.Phase.MM
	}
	return m.MM
}

// refWalk keeps what a walk over references knows.
type refWalk struct {
	threads map[uint32]format.Thread
	pids    map[uint32]uint32 // by address space
	changes int               // of mappings
	ended   []uint32          // address spaces, since the last item
	last    format.Thread     // that was asked for last
	lastMM  uint32
	lastPID uint32
}

func (w *refWalk) threadOf(no uint32) format.Thread {
	if w.last.No != no {
		w.last = w.threads[no]
	}
	return w.last
}

func (w *refWalk) pidOf(mm uint32) uint32 {
	if w.lastMM != mm {
		w.lastMM, w.lastPID = mm, w.pids[mm]
	}
	return w.lastPID
}

func (w *refWalk) see(s *format.State) {
	for _, t := range s.Threads {
		w.thread(t)
	}
}

func (w *refWalk) thread(t *format.Thread) {
	w.threads[t.No] = *t
	w.last, w.lastMM = format.Thread{}, 0
	if _, known := w.pids[t.MM]; !known {
		w.pids[t.MM] = t.TGID
	}
}

// Refs goes over the references and phases of the steps from..to (both included), in
// the order of the log; from 0 on, it begins with those before all events. A RefMoment
// is the caller's only until the next.
func (t *Trace) Refs(ctx context.Context, from, to format.Step) iter.Seq2[*RefMoment, error] {
	return func(yield func(*RefMoment, error) bool) {
		if err := t.walkRefs(ctx, from, to, func(m *RefMoment) bool { return yield(m, nil) }); err != nil {
			yield(nil, err)
		}
	}
}

func (t *Trace) walkRefs(ctx context.Context, from, to format.Step, yield func(*RefMoment) bool) error {
	if t.Info().Refs == 0 && !t.Header().Refs {
		return nil
	}
	s, err := t.Before(from)
	if err != nil {
		return err
	}
	w := &refWalk{threads: map[uint32]format.Thread{}, pids: map[uint32]uint32{}}
	w.see(s)
	next, stop := iter.Pull2(t.r.Events(from))
	defer stop()
	at := Moment{State: s}
	done := from // events that the state has
	first := from + 1
	if from == 0 {
		first = 0
	}
	last := to
	if last < format.NoStep {
		last++
	}
	m := RefMoment{State: s, walk: w}
	n := 0
	for x, err := range t.r.Refs(first, last) {
		if err != nil {
			return err
		}
		if n++; n%4096 == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		after := x.After
		if x.Phase != nil {
			after = x.Phase.After
		}
		for ; done < after; done++ {
			ev, err, ok := next()
			if err != nil {
				return err
			}
			if !ok {
				break // the rest of the log was cut off
			}
			if err := at.advance(ev); err != nil {
				return err
			}
			s.Step = ev.Step
			for _, c := range ev.Changes {
				switch c := c.(type) {
				case *format.ThreadSet:
					w.thread(&c.Thread)
				case *format.MMDrop:
					w.ended = append(w.ended, c.MM)
				case *format.VMASet, *format.VMADel, *format.VMAMove:
					w.changes++
				}
			}
		}
		m.RefItem, m.Step = x, max(after, 1)-1
		m.Thread = format.Thread{}
		if x.Phase == nil {
			m.Thread = w.threadOf(x.Ref.Thread)
		}
		m.PID = w.pidOf(m.Space())
		if !yield(&m) {
			return nil
		}
		w.ended = w.ended[:0]
	}
	return nil
}

// Ended are the address spaces that ended since the item before.
func (m *RefMoment) Ended() []uint32 { return m.walk.ended }

// At finds the mapping of an address in the space of the item.
func (m *RefMoment) At(a addr.Addr) (v vma.VMA, ok bool) {
	mm := m.Space()
	if m.mm == mm && m.changes == m.walk.changes && m.mapping.Contains(a) {
		return m.mapping, true
	}
	space := m.State.MMs[mm]
	if space == nil {
		return v, false
	}
	if v, ok = space.VMAs.Find(a); ok {
		m.mapping, m.mm, m.changes = v, mm, m.walk.changes
	}
	return v, ok
}

// CodeName is what is known of an instruction.
type CodeName struct {
	Path     string // of the file that is mapped there, or the name of the mapping
	Offset   uint64 // in the file, or of the address in the mapping
	Function string // with its parameters, "" if it is not known
	Short    string // without them
	Within   uint64 // the function: how far from its begin
}

// Code is what an address in a mapping is called.
func (y *Symbols) Code(v vma.VMA, a addr.Addr) CodeName {
	n := CodeName{Path: v.Name, Offset: uint64(a - v.Start)}
	if !v.File() {
		return n
	}
	n.Offset += v.Offset
	y.mu.Lock()
	defer y.mu.Unlock()
	m := y.image(fileKey{v.Name, v.Dev, v.Inode})
	if m.Image == nil {
		return n
	}
	bias, ok := m.Bias(v.Offset, uint64(v.Start))
	if !ok {
		return n
	}
	if f, ok := m.Func(uint64(a) - bias); ok {
		n.Function, n.Short = y.show(f.Name)
		n.Within = uint64(a) - bias - f.Start
	}
	return n
}

// String is "memcpy+0x1f (libc.so.6)", or what is known of it.
func (n CodeName) String() string {
	name := Escape(short(base(n.Path)))
	switch {
	case n.Short != "":
		return fmt.Sprintf("%s+0x%x (%s)", Escape(short(n.Short)), n.Within, name)
	case n.Path != "":
		return fmt.Sprintf("%s+0x%x", name, n.Offset)
	}
	return "?"
}

// code is what the instruction of a reference is called.
func (t *Trace) code(m *RefMoment, names map[codeKey]CodeName) CodeName {
	k := codeKey{m.MM, m.walk.changes, m.IP}
	n, known := names[k]
	if !known {
		if v, ok := m.findCode(m.IP); ok {
			n = t.symbols.Code(v, m.IP)
		}
		if len(names) > 1<<16 {
			clear(names)
		}
		names[k] = n
	}
	return n
}

// findCode is At for an instruction: it leaves what At found for pages.
func (m *RefMoment) findCode(ip addr.Addr) (v vma.VMA, ok bool) {
	if space := m.State.MMs[m.Space()]; space != nil && ip != 0 {
		return space.VMAs.Find(ip)
	}
	return v, false
}

type codeKey struct {
	mm      uint32
	changes int
	ip      addr.Addr
}

// CodeNames names the instructions of references; it keeps what it found.
type CodeNames struct {
	t     *Trace
	names map[codeKey]CodeName
}

// CodeNames makes one.
func (t *Trace) CodeNames() *CodeNames { return &CodeNames{t, map[codeKey]CodeName{}} }

// Of is what the instruction of a reference is called.
func (c *CodeNames) Of(m *RefMoment) CodeName { return c.t.code(m, c.names) }

// RefListOptions say which references ListRefs writes, and how.
type RefListOptions struct {
	From, To format.Step // both included
	PID      uint32      // 0: all
	JSON     bool
}

// NoRefs is what is said of a log without references.
const NoRefs = "no page references in this log: record with --page-trace"

// ListRefs writes a line for each reference and each phase, in the order of the log.
func (t *Trace) ListRefs(ctx context.Context, w io.Writer, o RefListOptions) error {
	if !t.HasRefs() {
		return fmt.Errorf("%s", NoRefs)
	}
	names := t.CodeNames()
	var b []byte
	var f fieldList
	seen := o.PID == 0
	for m, err := range t.Refs(ctx, o.From, o.To) {
		if err != nil {
			return err
		}
		if o.PID != 0 && m.PID != o.PID {
			continue
		}
		seen = true
		if o.JSON {
			f = m.fields(f[:0], names)
			b = AppendJSON(b[:0], f)
		} else {
			b = m.append(b[:0], names)
		}
		if _, err := w.Write(append(b, '\n')); err != nil {
			return err
		}
	}
	if !seen {
		_, err := t.LastAlive(ctx, o.PID) // there is no such process
		return err
	}
	return nil
}

// Phases goes over the phases of the log, without the references between them.
func (t *Trace) Phases() iter.Seq2[*format.RefItem, error] { return t.r.Phases() }

// HasRefs says whether references were recorded.
func (t *Trace) HasRefs() bool { return t.Info().Refs > 0 || t.Header().Refs }

// Place is the name of a mapping, and how far from its start an address lies.
func (m *RefMoment) Place(a addr.Addr) (name string, off uint64, ok bool) {
	v, ok := m.At(a)
	if !ok {
		return "", 0, false
	}
	return MappingName(v), uint64(a - v.Start), true
}

// MappingName is what to call a mapping.
func MappingName(v vma.VMA) string {
	if v.Name != "" {
		return v.Name
	}
	return "[anon]"
}

// append appends the line of an item.
func (m *RefMoment) append(b []byte, names *CodeNames) []byte {
	b = fmt.Appendf(b, "%6d ", m.Step)
	if p := m.Phase; p != nil {
		b = fmt.Appendf(b, "[pid %d] --- phase %d", m.PID, m.PhaseNo)
		if p.Pool == 0 {
			b = append(b, ": pages are not traced any more"...)
		} else {
			b = fmt.Appendf(b, ": %d blocks of %d KiB (%v)", p.Pool, p.Granule>>10, p.Engine)
		}
		if p.Held > 0 {
			b = fmt.Appendf(b, ", %d held", p.Held)
		}
		if p.Pinned > 0 {
			b = fmt.Appendf(b, ", %d never protected", p.Pinned)
		}
		if p.Exact {
			n := uint64(0)
			for _, r := range p.Written {
				n += r.Len() >> addr.PageShift
			}
			b = fmt.Appendf(b, ", %d pages written before", n)
		}
		if p.Incomplete {
			b = append(b, ", references before are missing"...)
		}
		return append(b, " ---"...)
	}
	b = fmt.Appendf(b, "[pid %d] %v 0x%012x ", m.Thread.TID, m.Kind, uint64(m.Page))
	if name, off, ok := m.Place(m.Page); ok {
		b = append(b, Escape(short(base(name)))...)
		b = append(b, "+0x"...)
		b = strconv.AppendUint(b, off, 16)
	} else {
		b = append(b, '?')
	}
	if m.IP != 0 {
		b = append(b, " by "...)
		if n := names.Of(m); n.Path != "" {
			b = append(b, n.String()...)
		} else {
			b = append(b, m.IP.String()...)
		}
	}
	return fmt.Appendf(b, " phase %d", m.PhaseNo)
}

// fields are what an item says, as names and values.
func (m *RefMoment) fields(f fieldList, names *CodeNames) fieldList {
	f.uint("step", uint64(m.Step))
	if p := m.Phase; p != nil {
		f.text("type", "phase")
		f.uint("pid", uint64(m.PID))
		f.uint("mm", uint64(p.MM))
		f.uint("phase", m.PhaseNo)
		f.uint("time", p.Time)
		f.text("engine", p.Engine.String())
		f.uint("granule", p.Granule)
		f.uint("pool", p.Pool)
		f.uint("pinned", p.Pinned)
		f.uint("held", p.Held)
		f.bool("incomplete", p.Incomplete)
		if p.Exact {
			n := uint64(0)
			for _, r := range p.Written {
				n += r.Len() >> addr.PageShift
			}
			f.uint("written", n)
		}
		return f
	}
	f.text("type", "ref")
	f.uint("no", m.No)
	f.uint("pid", uint64(m.PID))
	f.uint("tid", uint64(m.Thread.TID))
	f.uint("mm", uint64(m.MM))
	f.uint("phase", m.PhaseNo)
	f.uint("time", m.Time)
	f.text("kind", m.Kind.String())
	f.hex("page", uint64(m.Page))
	if name, off, ok := m.Place(m.Page); ok {
		f.text("mapping", name)
		f.hex("offset", off)
	}
	f.hex("ip", uint64(m.IP))
	if m.IP != 0 {
		if n := names.Of(m); n.Path != "" {
			f.text("module", n.Path)
			f.hex("module_offset", n.Offset)
			if n.Function != "" {
				f.text("function", n.Function)
				f.hex("function_offset", n.Within)
			}
		}
	}
	return f
}
