package replay

import (
	"memtrace/format"
	"memtrace/format/addr"
)

// What is shown of the memory around a place: so many bytes before it and behind it,
// and so many of the pattern.
const (
	aroundBytes   = 8
	aroundPattern = 24
	aroundPlaces  = 8 // of a page that calls wrote to: the others have none
)

// pageText tells what was around the places of a layer: the page that the log has, or,
// where calls wrote to it, the bytes around its first places.
type pageText struct {
	vpn  uint64
	ref  format.PageRef
	near []nearText
}

type nearText struct {
	at    addr.Addr
	bytes []byte
}

// textOf is what there is around the places at in a page.
func (s *searcher) textOf(m *Moment, mm uint32, vpn uint64, at *bitmap) (*pageText, error) {
	space := m.State.MMs[mm]
	a := addr.Addr(vpn << addr.PageShift)
	p := &pageText{vpn: vpn}
	wrote := false
	for range space.Written(pageAt(a)) {
		wrote = true
		break
	}
	if info, ok := space.Page(a); !wrote && ok && info.What == format.PageData {
		p.ref = info.Ref
		return p, nil
	}
	view := View{Step: m.Event.Step, State: m.State, Pages: s.t.r}
	v, _ := view.Space(mm)
	var page [addr.PageSize]byte
	parts, err := v.Stretches(a, &page)
	if err != nil {
		return nil, err
	}
	for o := range at.all() {
		place := a + addr.Addr(o)
		r := s.window(place)
		// What is known around it without a gap.
		for _, x := range parts {
			switch {
			case x.Err == nil:
			case x.Range.End <= place:
				r.Start = max(r.Start, x.Range.End)
			case x.Range.Start > place:
				r.End = min(r.End, x.Range.Start)
			}
		}
		p.near = append(p.near, nearText{r.Start, append([]byte(nil), page[r.Start-a:r.End-a]...)})
		if len(p.near) == aroundPlaces {
			break
		}
	}
	return p, nil
}

// window is the memory that is shown of a place, within its page.
func (s *searcher) window(place addr.Addr) addr.Range {
	r := addr.Reach(place, uint64(min(len(s.want), aroundPattern))).Widen(aroundBytes)
	return r.Intersect(pageAt(place))
}

// around is what is shown of a place.
func (s *searcher) around(p *pageText, place addr.Addr) (addr.Addr, []byte, error) {
	if p.near == nil {
		if err := s.t.r.Page(p.ref, &s.buf); err != nil {
			return 0, nil, err
		}
		r := s.window(place)
		from := r.Start - place.PageDown()
		return r.Start, append([]byte(nil), s.buf[from:from+addr.Addr(r.Len())]...), nil
	}
	for _, n := range p.near {
		if r := (addr.Range{Start: n.at, End: n.at + addr.Addr(len(n.bytes))}); r.Contains(place) {
			return n.at, n.bytes, nil
		}
	}
	return 0, nil, nil
}
