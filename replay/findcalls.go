package replay

import (
	"bytes"

	"memtrace/format"
	"memtrace/format/addr"
)

// call brings what is open up to date with what a system call wrote.
func (f *finder) call(m *Moment) error {
	writes := callWrites(m.Event)
	if len(writes) == 0 || m.State.MMs[m.Thread.MM] == nil {
		return nil
	}
	check := func(p place, o *Found) error {
		ok, err := f.holds(m.State, p)
		if err == nil && !ok {
			f.end(p, o, m.Event.Step)
		}
		return err
	}
	for _, w := range writes {
		if w = f.widen(w); w.Len() < uint64(len(f.open)) {
			for a := w.Start; a < w.End; a++ {
				p := place{m.Thread.MM, a}
				if o := f.open[p]; o != nil {
					if err := check(p, o); err != nil {
						return err
					}
				}
			}
			continue
		}
		for p, o := range f.open {
			if p.mm == m.Thread.MM && w.Contains(p.addr) {
				if err := check(p, o); err != nil {
					return err
				}
			}
		}
	}
	c := m.Event.Record.(*format.Syscall)
	for i := range c.Bufs {
		if b := &c.Bufs[i]; format.InMemory(b) && f.promises(b.Data) {
			r, ok := addr.Span(b.Addr, uint64(len(b.Data)))
			if !ok {
				continue
			}
			if err := f.around(m, m.Thread.MM, r); err != nil {
				return err
			}
		}
	}
	return nil
}

// promises says whether data has the pattern, or its beginning at the end, or its
// end at the beginning, or is a part of it.
func (f *finder) promises(data []byte) bool {
	if bytes.Contains(data, f.want) || bytes.Contains(f.want, data) {
		return true
	}
	for n := 1; n < len(f.want) && n <= len(data); n++ {
		if bytes.HasSuffix(data, f.want[:n]) || bytes.HasPrefix(data, f.want[len(f.want)-n:]) {
			return true
		}
	}
	return false
}

// widen is r with what a match that touches it may reach.
func (f *finder) widen(r addr.Range) addr.Range {
	n := addr.Addr(len(f.want) - 1)
	w := addr.Range{Start: r.Start - min(r.Start, n), End: r.End}
	if end, ok := r.End.Add(uint64(n)); ok {
		w.End = end
	}
	return w
}

// around looks for the pattern in r and across its ends, as memory is with what
// calls wrote.
func (f *finder) around(m *Moment, mm uint32, r addr.Range) error {
	view := View{Step: m.Event.Step, State: m.State, Pages: f.t.r}
	space, ok := view.Space(mm)
	if !ok {
		return nil
	}
	wide := f.widen(r)
	text, end := f.text[:0], wide.Start
	for at := wide.Start; at < wide.End; at = pageAt(at).End {
		parts, err := space.Stretches(at, &f.buf)
		if err != nil {
			return err
		}
		for _, x := range parts {
			k := x.Range.Intersect(wide)
			if k.Empty() {
				continue
			}
			if x.Err != nil || k.Start != end {
				text = text[:0]
			}
			if end = k.End; x.Err != nil {
				continue
			}
			text = append(text, f.buf[k.Start-at.PageDown():k.End-at.PageDown()]...)
			for from := 0; ; {
				i := bytes.Index(text[from:], f.want)
				if i < 0 {
					break
				}
				p := place{mm, end - addr.Addr(len(text)-from-i)}
				if p.addr < r.End && r.Start < p.addr+addr.Addr(len(f.want)) {
					f.begin(m, p, "")
				}
				from += i + 1
			}
			if n := len(text) - (len(f.want) - 1); n > 0 {
				text = text[:copy(text, text[n:])]
			}
		}
	}
	f.text = text
	return nil
}

// written says whether calls wrote to where the pattern is at p.
func (f *finder) written(mm *format.MM, p place) bool {
	for range mm.Written(addr.Range{Start: p.addr, End: p.addr + addr.Addr(len(f.want))}) {
		return true
	}
	return false
}

// reads says whether the pattern is at p with what calls wrote.
func (f *finder) reads(s *format.State, p place) (bool, error) {
	view := View{State: s, Pages: f.t.r}
	space, _ := view.Space(p.mm)
	got := make([]byte, len(f.want))
	if _, _, err := space.ReadMem(got, p.addr); err != nil {
		if sentinel(err) != nil {
			err = nil
		}
		return false, err
	}
	return bytes.Equal(got, f.want), nil
}

// captured notes that a capture has the pattern at p, if no call wrote there since.
func (f *finder) captured(m *Moment, p place) error {
	if f.written(m.State.MMs[p.mm], p) {
		if ok, err := f.reads(m.State, p); !ok || err != nil {
			return err
		}
	}
	f.begin(m, p, "")
	return nil
}
