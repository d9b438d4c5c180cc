package format

import (
	"cmp"
	"fmt"
	"io"
	"slices"

	"memtrace/format/addr"
)

// Verify reads all of a log and reports everything that is wrong with it. What
// it returns says the same: Info as far as the log could be read, and the first
// error.
func Verify(r io.ReaderAt, size int64, report func(error)) (*Info, error) {
	v := verifier{report: report}
	rd, err := openHeader(r, size, nil)
	if err != nil {
		v.fail(err)
		return nil, err
	}
	if err := v.chunks(rd); err != nil {
		return nil, err
	}
	whole, err := NewReader(r, size, nil)
	if err != nil {
		v.fail(err)
		return nil, v.first
	}
	if whole.Steps() != v.steps {
		v.fail(corrupt("the index has %d steps, the log %d", whole.Steps(), v.steps))
	}
	v.events(whole)
	return whole.Info(), v.first
}

type verifier struct {
	report func(error)
	first  error
	steps  Step
}

func (v *verifier) fail(err error) {
	if v.first == nil {
		v.first = err
	}
	if v.report != nil {
		v.report(err)
	}
}

// chunks walks over the chunks in their order; it returns errors of the file
// system only.
func (v *verifier) chunks(rd *Reader) error {
	s := rd.newScan()
	var next [numTypes]uint64 // for types with dense numbers
	var key uint64
	var blocks int
	prev := int64(0)
	for {
		off := s.off
		entries := s.entries
		c, stored, err := s.step()
		switch {
		case err == io.EOF && c.typ == TypeRoot:
			return v.end(rd, s, &c, stored)
		case err == io.EOF:
			v.fail(at(off, fmt.Errorf("%w: it has no end", ErrTruncated)))
			v.steps = s.commit.steps
			return nil
		case err != nil && !damage(err):
			return err
		case err != nil:
			v.fail(at(off, err))
			v.steps = s.commit.steps
			return nil
		}
		if c.lastIndex != prev {
			v.fail(at(off, corrupt("the newest INDEX is said to be at %d, not at %d", c.lastIndex, prev)))
		}
		payload, err := c.decode(stored)
		if err != nil {
			v.fail(at(off, err))
			continue
		}
		switch c.typ {
		case TypeState:
		case TypeKey:
			if c.base < key || c.base != uint64(s.info.Steps) {
				v.fail(at(off, corrupt("KEY chunk of step %d after %d steps", c.base, s.info.Steps)))
			}
			key = c.base
		default:
			if c.typ < numTypes && c.base != next[c.typ] {
				v.fail(at(off, corrupt("%v chunk begins at %d, not at %d", c.typ, c.base, next[c.typ])))
			}
			if c.typ < numTypes {
				next[c.typ] = c.base + uint64(c.count)
			}
		}
		switch c.typ {
		case TypePatch:
			err = v.patches(&c, payload, next[TypeRaw])
		case TypeIndex:
			prev = off
			blocks++
			err = checkIndex(payload, off, entries)
		case TypeEvent:
			v.steps = s.info.Steps
		}
		if err != nil {
			v.fail(at(off, err))
		}
	}
}

// patches checks a PATCH chunk; raw is how many raw pages there are.
func (v *verifier) patches(c *chunk, payload []byte, raw uint64) error {
	f, err := parsePatches(payload, c.base, c.count)
	if err != nil {
		return err
	}
	var page [addr.PageSize]byte
	for i, from := range f.from {
		if from&1 == 0 && uint64(from>>1) >= raw {
			return corrupt("patch %d starts from a page that the log does not have", c.base+uint64(i))
		}
		if err := applyPatch(&page, f.patch(uint64(i))); err != nil {
			return err
		}
	}
	return nil
}

// checkIndex compares an INDEX chunk with the chunks that are there.
func checkIndex(payload []byte, off int64, want []entry) error {
	got, _, _, err := parseIndex(payload, off)
	if err == nil && !slices.Equal(got, want) {
		err = corrupt("INDEX chunk does not say what is there")
	}
	return err
}

// end checks the ROOT chunk and the tail.
func (v *verifier) end(rd *Reader, s *scan, c *chunk, stored []byte) error {
	v.steps = s.info.Steps
	if s.commit.off != s.off {
		v.fail(at(s.commit.off, corrupt("chunks before the end that belong to no group")))
	}
	payload, err := c.decode(stored)
	if err != nil {
		v.fail(at(c.off, err))
		return nil
	}
	blocks, info, err := parseRoot(payload, c.off)
	if err != nil {
		v.fail(at(c.off, err))
		return nil
	}
	if len(s.entries) > 0 || len(blocks) != len(s.blocks) {
		v.fail(at(c.off, corrupt("ROOT chunk lists %d INDEX chunks of %d", len(blocks), len(s.blocks))))
	} else {
		for i, b := range blocks {
			w := s.blocks[i]
			if b.off != w.off || b.end != w.end || b.seq != w.seq || b.n != w.n || b.first != w.first || b.time != w.time {
				v.fail(at(c.off, corrupt("ROOT chunk says wrong things of INDEX chunk %d", i)))
			}
		}
	}
	if info.types != s.info.types || info.Steps != s.info.Steps || info.RawPages != s.info.RawPages ||
		info.Patches != s.info.Patches || info.Keyframes != s.info.Keyframes {
		v.fail(at(c.off, corrupt("totals of the ROOT chunk")))
	}
	tail := make([]byte, min(tailSize, rd.size-c.end()))
	if err := rd.readAt(tail, c.end()); err != nil {
		return err
	}
	if _, ok := parseTail(tail, &rd.h.Salt, c.end()+tailSize); !ok {
		v.fail(at(c.end(), fmt.Errorf("%w: in its last bytes", ErrTruncated)))
	} else if rd.size != c.end()+tailSize {
		v.fail(at(c.end()+tailSize, corrupt("%d bytes after the end", rd.size-c.end()-tailSize)))
	}
	return nil
}

// events decodes all events, applies them, and compares with the keyframes.
func (v *verifier) events(r *Reader) {
	var keys []Step // steps applied at each keyframe
	for p := (pos{}); ; p.i++ {
		e, ok, err := r.x.entry(&p)
		if err != nil {
			v.fail(err)
			return
		}
		if !ok {
			break
		}
		if e.typ == TypeKey {
			keys = append(keys, Step(e.base))
		}
	}
	s := r.Initial()
	n := Step(0)
	for e, err := range r.Events(0) {
		if err == nil {
			err = s.ApplyEvent(e)
		}
		if err != nil {
			v.fail(err)
			return
		}
		if k, ok := e.Record.(*Check); ok {
			v.check(s, k)
		}
		n++
		for len(keys) > 0 && keys[0] <= n {
			if keys[0] == n {
				v.keyframe(r, s)
			}
			keys = keys[1:]
		}
	}
	if n != r.Steps() {
		v.fail(corrupt("%d events of %d", n, r.Steps()))
	}
}

// check does again what the recorder did: it compares the mappings with what the
// kernel said they were.
func (v *verifier) check(s *State, k *Check) {
	m := s.MMs[k.MM]
	switch {
	case k.Sum == 0:
	case m == nil:
		v.fail(corrupt("step %d checks address space %d, which is not known", s.Step, k.MM))
	case MapsSum(m.VMAs.AppendMaps(nil)) != k.Sum && k.OK:
		v.fail(corrupt("step %d: the mappings of address space %d are not those that were checked", s.Step, k.MM))
	case !k.OK:
		v.fail(corrupt("step %d: the mappings of address space %d differ from the kernel's", s.Step, k.MM))
	}
}

// keyframe compares the keyframe at s.Step with s.
func (v *verifier) keyframe(r *Reader, s *State) {
	k, err := r.StateAt(s.Step)
	if err == nil {
		err = sameState(k, s)
	}
	if err != nil {
		v.fail(fmt.Errorf("keyframe of step %d: %w", s.Step, err))
	}
}

func sameState(a, b *State) error {
	if len(a.Threads) != len(b.Threads) || len(a.MMs) != len(b.MMs) {
		return corrupt("%d threads and %d address spaces, not %d and %d", len(a.Threads), len(a.MMs), len(b.Threads), len(b.MMs))
	}
	for no, t := range a.Threads {
		if o := b.Threads[no]; o == nil || *o != *t {
			return corrupt("thread %d", no)
		}
	}
	for no, m := range a.MMs {
		o := b.MMs[no]
		if o == nil || !m.VMAs.Equal(o.VMAs) {
			return corrupt("mappings of address space %d", no)
		}
		if err := samePages(&m.pages, &o.pages); err != nil {
			return fmt.Errorf("address space %d: %w", no, err)
		}
		if m.written.floor != o.written.floor || !slices.Equal(m.written.list, o.written.list) {
			return corrupt("address space %d: what calls wrote", no)
		}
	}
	return nil
}

// samePages compares two page maps.
func samePages(a, b *pageMap) error {
	for range 2 {
		var bad error
		err := a.runs(0, MaxPageNo+1, func(r run) bool {
			if r.cells == nil {
				// What is uniform is so in both, or differs at its ends.
				for _, vpn := range [...]uint64{r.vpn, r.vpn + r.n - 1} {
					o, err := b.get(vpn)
					if err == nil && o != r.uni {
						err = corrupt("page %v", addr.Addr(vpn<<addr.PageShift))
					}
					bad = cmp.Or(bad, err)
				}
				return bad == nil
			}
			uni, tab, err := b.table(b.find(r.vpn))
			bad = err
			for k := 0; k < len(r.cells) && bad == nil; k++ {
				o := uni
				if tab != nil {
					o = tab[int(r.vpn%leafPages)+k]
				}
				if o != r.cells[k] {
					bad = corrupt("page %v", addr.Addr((r.vpn+uint64(k))<<addr.PageShift))
				}
			}
			return bad == nil
		})
		if err != nil || bad != nil {
			return cmp.Or(err, bad)
		}
		a, b = b, a
	}
	return nil
}
