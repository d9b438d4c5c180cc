package replay

import (
	"bytes"
	"fmt"
	"iter"
	"math/bits"

	"memtrace/format"
	"memtrace/format/addr"
)

// bitmap is a set of offsets into a page; nil is the empty one.
type bitmap [addr.PageSize / 64]uint64

func (b *bitmap) set(i int) { b[i/64] |= 1 << (i % 64) }

func (b *bitmap) equal(o *bitmap) bool { return *b == *o }

// combine is op of both, neither of which is nil; it is nil where nothing is left.
func (b *bitmap) combine(o *bitmap, op func(x, y uint64) uint64) *bitmap {
	var r bitmap
	any := uint64(0)
	for i := range b {
		r[i] = op(b[i], o[i])
		any |= r[i]
	}
	if any == 0 {
		return nil
	}
	return &r
}

func (b *bitmap) and(o *bitmap) *bitmap {
	if b == nil || o == nil {
		return nil
	}
	return b.combine(o, func(x, y uint64) uint64 { return x & y })
}

func (b *bitmap) or(o *bitmap) *bitmap {
	if b == nil {
		return o
	}
	if o == nil {
		return b
	}
	return b.combine(o, func(x, y uint64) uint64 { return x | y })
}

func (b *bitmap) without(o *bitmap) *bitmap {
	if b == nil || o == nil {
		return b
	}
	return b.combine(o, func(x, y uint64) uint64 { return x &^ y })
}

// all yields the offsets in ascending order.
func (b *bitmap) all() iter.Seq[int] {
	return func(yield func(int) bool) {
		for i, w := range b {
			for ; w != 0; w &= w - 1 {
				if !yield(i*64 + bits.TrailingZeros64(w)) {
					return
				}
			}
		}
	}
}

// pageHits is what one distinct page has of the pattern, by offsets in the page in
// which the pattern begins.
type pageHits struct {
	at    *bitmap // where it lies whole
	tails *bitmap // what follows is the beginning of the pattern
	heads *bitmap // of the page before: this page begins with the pattern's rest
}

// searcher finds the pattern in pages.
type searcher struct {
	t     *Trace
	want  []byte
	pages map[format.PageRef]*pageHits // that were searched; nil for nothing
	zero  *pageHits
	buf   [addr.PageSize]byte
	text  []byte // scratch
	// What the last two pages made together.
	a, b *pageHits
	both *bitmap
}

func newSearcher(t *Trace, want []byte) *searcher {
	s := &searcher{t: t, want: want, pages: map[format.PageRef]*pageHits{}}
	s.zero = s.examine()
	return s
}

// maxSearched is of how many pages a searcher keeps what it has found: those with
// something take up to 1.6 KB.
const maxSearched = 32 << 10

// at is where the pattern begins in a page of an address space, nil for nowhere.
func (s *searcher) at(m *Moment, mm uint32, vpn uint64) (*bitmap, error) {
	space := m.State.MMs[mm]
	h, err := s.hits(m, space, vpn)
	var next *pageHits
	if err == nil && h != nil && h.tails != nil {
		next, err = s.hits(m, space, vpn+1)
	}
	if err != nil {
		return nil, err
	}
	var found *bitmap
	if h != nil {
		found = h.at
		if next != nil && next.heads != nil {
			if s.a != h || s.b != next {
				s.a, s.b, s.both = h, next, h.at.or(h.tails.and(next.heads))
			}
			found = s.both
		}
	}
	// Where calls wrote, memory is as they left it.
	page := pageAt(addr.Addr(vpn << addr.PageShift))
	var over *bitmap
	for w := range space.Written(addr.Range{Start: page.Start, End: page.End + addr.Addr(len(s.want)-1)}) {
		if over == nil {
			over = new(bitmap)
		}
		lo := max(int64(w.Addr-page.Start)-int64(len(s.want)-1), 0)
		for i := lo; i < min(int64(w.Addr-page.Start)+int64(w.Len), addr.PageSize); i++ {
			over.set(int(i))
		}
	}
	if over == nil {
		return found, nil
	}
	now, err := s.read(m, mm, page)
	if err != nil {
		return nil, err
	}
	return found.without(over).or(now.and(over)), nil
}

// hits is what a page has of the pattern, nil for nothing.
func (s *searcher) hits(m *Moment, space *format.MM, vpn uint64) (*pageHits, error) {
	a := addr.Addr(vpn << addr.PageShift)
	info, ok := space.Page(a)
	switch {
	case !ok:
		return nil, nil
	case info.What == format.PageZero:
		return s.zero, nil
	case info.What != format.PageData:
		return nil, info.Err
	}
	if info.Ref.Redacted() {
		return nil, nil // Find has refused, or says so
	}
	if h, ok := s.pages[info.Ref]; ok {
		return h, nil
	}
	if err := s.t.r.Page(info.Ref, &s.buf); err != nil {
		return nil, fmt.Errorf("page %v at step %d: %w", a, m.Event.Step, err)
	}
	if len(s.pages) >= maxSearched {
		clear(s.pages)
	}
	h := s.examine()
	s.pages[info.Ref] = h
	return h, nil
}

// examine searches the page in buf.
func (s *searcher) examine() *pageHits {
	var h pageHits
	note := func(b **bitmap, i int) {
		if *b == nil {
			*b = new(bitmap)
		}
		(*b).set(i)
	}
	for from := 0; ; {
		k := bytes.Index(s.buf[from:], s.want)
		if k < 0 {
			break
		}
		note(&h.at, from+k)
		from += k + 1
	}
	for n := 1; n < len(s.want); n++ {
		if bytes.HasSuffix(s.buf[:], s.want[:n]) {
			note(&h.tails, addr.PageSize-n)
		}
		if bytes.HasPrefix(s.buf[:], s.want[n:]) {
			note(&h.heads, addr.PageSize-n)
		}
	}
	if h == (pageHits{}) {
		return nil
	}
	return &h
}

// read is where the pattern begins in a page, as memory is with what calls wrote.
func (s *searcher) read(m *Moment, mm uint32, page addr.Range) (found *bitmap, err error) {
	view := View{Step: m.Event.Step, State: m.State, Pages: s.t.r}
	space, _ := view.Space(mm)
	text := s.text[:0]
	end := page.Start // of text
	for _, at := range [...]addr.Addr{page.Start, page.End} {
		if at < page.Start { // the last page of all
			break
		}
		parts, err := space.Stretches(at, &s.buf)
		if err != nil {
			return nil, err
		}
		for _, x := range parts {
			if x.Err != nil || x.Range.Start != end {
				text = text[:0]
			}
			if end = x.Range.End; x.Err != nil {
				continue
			}
			text = append(text, s.buf[x.Range.Start-at:x.Range.End-at]...)
			for from := 0; ; {
				i := bytes.Index(text[from:], s.want)
				if i < 0 {
					break
				}
				if a := end - addr.Addr(len(text)-from-i); a < page.End {
					if found == nil {
						found = new(bitmap)
					}
					found.set(int(a - page.Start))
				}
				from += i + 1
			}
			if n := len(text) - (len(s.want) - 1); n > 0 {
				text = text[:copy(text, text[n:])]
			}
		}
	}
	s.text = text
	return found, nil
}

// promises says whether data has the pattern, or its beginning at the end, or its
// end at the beginning, or is a part of it.
func (s *searcher) promises(data []byte) bool {
	if bytes.Contains(data, s.want) || bytes.Contains(s.want, data) {
		return true
	}
	for n := 1; n < len(s.want) && n <= len(data); n++ {
		if bytes.HasSuffix(data, s.want[:n]) || bytes.HasPrefix(data, s.want[len(s.want)-n:]) {
			return true
		}
	}
	return false
}

// widen is r with what a match that touches it may reach.
func (s *searcher) widen(r addr.Range) addr.Range {
	return r.Widen(uint64(len(s.want) - 1))
}
