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
// error. o are the choices of a reader.
func Verify(r io.ReaderAt, size int64, o *ReaderOptions, report func(error)) (*Info, error) {
	v := verifier{report: report}
	return v.verify(r, size, o)
}

func (v *verifier) verify(r io.ReaderAt, size int64, o *ReaderOptions) (*Info, error) {
	rd, err := openHeader(r, size, o)
	if err != nil {
		v.fail(err)
		return nil, err
	}
	if err := v.chunks(rd); err != nil {
		return nil, err
	}
	whole, err := NewReader(r, size, o)
	if err != nil {
		v.fail(err)
		return nil, v.first
	}
	if whole.Steps() != v.steps {
		v.fail(corrupt("the index has %d steps, the log %d", whole.Steps(), v.steps))
	}
	v.events(whole)
	for _, err := range whole.Texts() {
		if err != nil {
			v.fail(err)
		}
	}
	if _, err := whole.Files(); err != nil {
		v.fail(err)
	}
	v.refs(whole)
	return whole.Info(), v.first
}

type verifier struct {
	report func(error)
	// recovered says that the log is all right even if its recorder found that its
	// mappings were not the kernel's.
	recovered bool
	first     error
	steps     Step
	depth     []uint16 // of the nodes of the tree of stacks
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
	spent := rd.budget
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
		if c.typ == TypeRaw { // runs of equal bytes are decoded quickly
			spent.read(int(c.ulen) / 4)
		} else {
			spent.read(int(c.ulen))
		}
		if err := spent.worked(); err != nil {
			v.fail(at(off, err))
			v.steps = s.commit.steps
			return nil
		}
		payload, err := c.decode(stored)
		if err != nil {
			v.fail(at(off, err))
			continue
		}
		switch c.typ {
		case TypePatch:
			spent.work += 8 * uint64(c.count)
			err = v.patches(&c, payload, s.next[TypeRaw])
		case TypeIndex:
			prev = off
			err = checkIndex(payload, off, entries)
		case TypeModule:
			_, err = parseModules(payload, c.base, c.count)
		case TypeStack:
			spent.work += 8 * uint64(c.count)
			err = v.stacks(&c, payload, s.next[TypeModule])
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

// stacks checks a STACK chunk; modules is how many modules there are before it.
func (v *verifier) stacks(c *chunk, payload []byte, modules uint64) error {
	nodes, err := parseStacks(payload, c.base, c.count, modules)
	if err != nil {
		return err
	}
	for uint64(len(v.depth)) < c.base { // of chunks that are not right
		v.depth = append(v.depth, 1)
	}
	for _, n := range nodes {
		d := uint16(1)
		if n.parent >= FirstNode {
			d += v.depth[n.parent-FirstNode]
		}
		if d > MaxDepth {
			return overLimit("the depth of a stack", uint64(d), MaxDepth)
		}
		v.depth = append(v.depth, d)
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
		info.Patches != s.info.Patches || info.Keyframes != s.info.Keyframes || info.Refs != s.info.Refs {
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
	var keys []entry
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
			keys = append(keys, e)
		}
	}
	s := r.Initial()
	n := uint64(r.First())
	for e, err := range r.Events(0) {
		if err == nil {
			err = s.ApplyEvent(e)
		}
		if k, ok := e.recordOf().(*Check); ok && err == nil {
			err = v.check(s, k)
		}
		if err != nil {
			v.fail(err)
			return
		}
		n++
		for ; len(keys) > 0 && keys[0].base <= n; keys = keys[1:] {
			if keys[0].base < n {
				continue
			}
			if err := r.sameState(keys[0], s); err != nil {
				v.fail(fmt.Errorf("keyframe of step %d: %w", s.Step, err))
			}
			if err := s.room(); err != nil {
				v.fail(err)
				return
			}
		}
	}
	if n != uint64(r.Steps()) {
		v.fail(corrupt("events up to step %d of %d", n, r.Steps()))
	}
}

// refs decodes all references, and compares what each chunk says of the phases
// before it with these.
func (v *verifier) refs(r *Reader) {
	phases, n := uint64(0), uint64(0)
	live := map[uint32]PhaseState{}
	fits := func(d *refDec) error {
		if d.phases != phases {
			return corrupt("REFS chunk after %d phases, not %d", d.phases, phases)
		}
		for _, s := range d.states() {
			// Of what is no longer traced a chunk need not tell.
			if was := live[s.MM]; s.No > 0 && s != was {
				return corrupt("REFS chunk says that address space %d is in phase %d, after phase %d", s.MM, s.No, was.No)
			}
		}
		return nil
	}
	_, err := r.refs(0, NoStep, fits, func(x *RefItem, _ error) bool {
		if p := x.Phase; p != nil {
			phases++
			live[p.MM] = PhaseState{p.MM, x.PhaseNo, p.Engine, p.Granule, p.Pool, 0, p.Time}
			return true
		}
		n++
		if s, ok := live[x.MM]; ok {
			s.Open++
			s.Time = x.Time
			live[x.MM] = s
		}
		return true
	})
	if err == nil && n != r.info.Refs {
		err = corrupt("%d references of %d", n, r.info.Refs)
	}
	if err != nil {
		v.fail(err)
	}
}

// recordOf is what happened in e, which may be nil.
func (e *Event) recordOf() Record {
	if e == nil {
		return nil
	}
	return e.Record
}

// check does again what the recorder did: it compares the mappings with what the
// kernel said they were. It fails if that takes too long.
func (v *verifier) check(s *State, k *Check) error {
	m := s.MMs[k.MM]
	switch {
	case k.Sum == 0, v.recovered:
	case m == nil:
		v.fail(corrupt("step %d checks address space %d, which is not known", s.Step, k.MM))
	case !k.OK:
		v.fail(corrupt("step %d: the mappings of address space %d differ from the kernel's", s.Step, k.MM))
	default:
		sum, printed := m.VMAs.Sum()
		s.mem.work += uint64(m.VMAs.Len()/8 + printed/2)
		if max(1, sum) != k.Sum && !m.cutNames() {
			v.fail(corrupt("step %d: the mappings of address space %d are not those that were checked", s.Step, k.MM))
		}
	}
	return s.mem.worked()
}

// cutNames says whether a name may be shorter in the log than the kernel has it.
func (m *MM) cutNames() bool {
	for v := range m.VMAs.All() {
		if len(v.Name) >= MaxName {
			return true
		}
	}
	return false
}

// sameState compares the keyframe of e with s, one address space after the other.
func (r *Reader) sameState(e entry, s *State) error {
	k, err := r.key(e)
	if err != nil {
		return err
	}
	threads, mms := map[uint32]bool{}, map[uint32]bool{}
	for i := range k.threads {
		t := &k.threads[i]
		if o := s.Threads[t.No]; o == nil || *o != *t {
			return corrupt("thread %d", t.No)
		}
		threads[t.No] = true
	}
	for i := range k.mms {
		km := &k.mms[i]
		if o := s.MMs[km.no]; o == nil {
			return corrupt("address space %d is not known", km.no)
		} else if err := r.sameMM(km, o, s); err != nil {
			return err
		}
		mms[km.no] = true
	}
	if len(threads) != len(s.Threads) || len(mms) != len(s.MMs) {
		return corrupt("%d threads and %d address spaces, not %d and %d", len(threads), len(mms), len(s.Threads), len(s.MMs))
	}
	return nil
}

// sameMM compares an address space of a keyframe with that of s. Where it is found
// to be equal, o's key says so, and it need not be compared again.
func (r *Reader) sameMM(km *keyMM, o *MM, s *State) error {
	t := NewState() // for what is loaded
	t.mem = r.budget
	m := &MM{No: km.no, VMAs: o.VMAs}
	if o.key != km.id+1 {
		var err error
		if m, err = r.mm(*km, t); err != nil {
			return err
		}
		s.mem.work += uint64(m.cost)/16 + uint64(m.VMAs.Len())
		if !m.VMAs.Equal(o.VMAs) {
			return corrupt("mappings of address space %d", km.no)
		}
		if err := samePages(&m.pages, &o.pages, &s.mem); err != nil {
			return fmt.Errorf("address space %d: %w", km.no, err)
		}
		o.key = km.id + 1
	}
	if km.written != 0 {
		if err := r.written(m, km.written, s.Step); err != nil {
			return err
		}
	}
	s.mem.work += uint64(len(m.written.list))
	if m.written.floor != o.written.floor || !slices.Equal(m.written.list, o.written.list) {
		return corrupt("address space %d: what calls wrote", km.no)
	}
	return nil
}

// samePages compares two page maps; what that costs is added to spent.
func samePages(a, b *pageMap, spent *budget) error {
	for range 2 {
		var bad error
		err := a.runs(0, MaxPageNo+1, func(r run) bool {
			spent.work += 16 + uint64(len(r.cells))
			if bad = spent.worked(); bad != nil {
				return false
			}
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
