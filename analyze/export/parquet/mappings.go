package parquet

import (
	"cmp"
	"maps"
	"slices"

	"memtrace/format"
	"memtrace/format/addr"
	"memtrace/format/vma"
	"memtrace/replay"
)

// spaces keeps what is mapped, since which event, and what snapshots found in it.
type spaces struct {
	by     map[uint32]*space // by the log's number
	births []birth
}

// space is one address space.
type space struct {
	// pieces are its mappings, cut where parts of them came at different events. Inode is
	// what a piece is, as piece.id says, and not that of a file.
	pieces *vma.Set
	// written is where a snapshot has found data at some time.
	written addr.Set
	looked  format.Step          // of the last snapshot, 0 before one
	fresh   [vma.NumKinds]uint64 // bytes that were new since the last snapshot
}

// birth is the event that mapped something.
type birth struct {
	step, time uint64
	by         string // the name of the call, else what kind of event it was
	stack      uint64
	file       bool // a file is behind it: its offset counts
}

// see takes in one event.
func (s *spaces) see(x *exporter, m *replay.Moment) error {
	ev := m.Event
	if len(ev.Changes) == 0 {
		return s.snapshot(x, m)
	}
	b := birther{s: s, birth: birth{step: uint64(ev.Step), time: ev.Time, by: replay.TypeName(ev.Record), stack: uint64(ev.Stack)}}
	if c, ok := ev.Record.(*format.Syscall); ok {
		b.by = replay.CallName(c.Arch, c.Nr)
	}
	var dropped []uint32
	made := map[uint32]*space{}
	for _, c := range ev.Changes {
		switch c := c.(type) {
		case *format.MMNew:
			if mm := m.State.MMs[c.MM]; mm != nil {
				made[c.MM] = b.begin(mm, s.by[c.From])
			}
		case *format.MMDrop:
			dropped = append(dropped, c.MM)
		}
	}
	for _, c := range m.Changes {
		if sp := s.by[c.MM]; sp != nil {
			s.change(x, m, sp, &b, c)
		}
	}
	maps.Copy(s.by, made)
	if x.snapshots != nil {
		if err := s.news(m); err != nil {
			return err
		}
	}
	if err := s.snapshot(x, m); err != nil {
		return err
	}
	for _, mm := range dropped {
		if sp := s.by[mm]; sp != nil {
			for v := range sp.pieces.All() {
				s.row(x, mm, sp, v, nil, ev)
			}
			delete(s.by, mm)
		}
	}
	return nil
}

// birther makes the births of one event, at most one for files and one for the rest.
type birther struct {
	birth
	s  *spaces
	id [2]uint64 // 0: not yet
}

// of is the number of the birth of a mapping, from 1.
func (b *birther) of(file bool) uint64 {
	i := 0
	if file {
		i = 1
	}
	if b.id[i] == 0 {
		n := b.birth
		n.file = file
		b.s.births = append(b.s.births, n)
		b.id[i] = uint64(len(b.s.births))
	}
	return b.id[i]
}

// begin is an address space that the event has made, as a copy of from unless that is nil:
// all that is mapped in it came with the event.
func (b *birther) begin(mm *format.MM, from *space) *space {
	var list []vma.VMA
	for v := range mm.VMAs.All() {
		v.Inode = b.of(v.File())
		list = append(list, v)
	}
	sp := &space{pieces: vma.Ascending(list)}
	if from != nil {
		sp.written, sp.looked = from.written.Clone(), from.looked
	}
	return sp
}

// change takes in what an event did to a mapping.
func (s *spaces) change(x *exporter, m *replay.Moment, sp *space, b *birther, c replay.Change) {
	switch c.Op {
	case vma.Map:
		s.gone(x, m, c.MM, sp, c.VMA.Range)
		s.put(sp, c.VMA, b.of(c.VMA.File()))
	case vma.Unmap:
		s.gone(x, m, c.MM, sp, c.VMA.Range)
	case vma.Remap:
		s.gone(x, m, c.MM, sp, c.Old.Range)
		s.gone(x, m, c.MM, sp, c.VMA.Range)
		s.put(sp, c.VMA, b.of(c.VMA.File()))
	default: // it looks different now
		for _, v := range slices.Collect(sp.pieces.Overlapping(c.VMA.Range)) {
			now := c.VMA.Slice(v.Range)
			s.put(sp, now, v.Inode)
		}
	}
}

// put makes v a piece.
func (s *spaces) put(sp *space, v vma.VMA, id uint64) {
	v.Inode = id
	sp.pieces.Insert(v)
}

// gone ends the pieces in a range.
func (s *spaces) gone(x *exporter, m *replay.Moment, mm uint32, sp *space, r addr.Range) {
	for v := range sp.pieces.Overlapping(r) {
		s.row(x, mm, sp, v.Slice(r), m.Event, nil)
	}
	sp.pieces.Remove(r)
	sp.written.Remove(r)
}

// row adds a row to mappings: of a piece that event by unmapped, or that an address space
// had when it ended at event left.
func (s *spaces) row(x *exporter, mm uint32, sp *space, v vma.VMA, by, left *format.Event) {
	if x.mappings == nil {
		return
	}
	t, b := x.mappings, &s.births[v.Inode-1]
	r := t.row()
	*r = mappingRow{
		Run: x.o.Run, Addr: int64(v.Start), Bytes: int64(v.Len()), Perms: v.Prot.String(), Kind: v.Kind.String(), Path: t.text(v.Name),
		MappedStep: int64(b.step), MappedNS: int64(b.time), ByCall: b.by, Stack: t.number(b.stack),
	}
	if proc, known := x.owners[mm]; known {
		r.Proc = t.int(proc)
	}
	if b.file {
		r.OffsetBytes = t.int(int64(v.Offset))
	}
	if by != nil {
		r.UnmappedStep, r.UnmappedNS = t.int(int64(by.Step)), t.int(int64(by.Time))
	}
	if left != nil {
		r.LeftStep = t.int(int64(left.Step))
	}
	if sp.looked > format.Step(b.step) {
		n := uint64(0)
		for w := range sp.written.Within(v.Range) {
			n += w.Len()
		}
		r.PeakWritten = t.int(int64(n))
	}
}

// end adds the rows of what is mapped at the end of the log.
func (s *spaces) end(x *exporter) {
	var nos []uint32
	for no := range s.by {
		nos = append(nos, no)
	}
	slices.SortFunc(nos, cmp.Compare)
	for _, no := range nos {
		for v := range s.by[no].pieces.All() {
			s.row(x, no, s.by[no], v, nil, nil)
		}
	}
}

// news counts the pages whose contents an event has brought.
func (s *spaces) news(m *replay.Moment) error {
	for _, c := range m.Event.Changes {
		p, ok := c.(*format.Pages)
		if !ok || p.What != format.PageData {
			continue
		}
		mm, sp := m.State.MMs[p.MM], s.by[p.MM]
		r, fits := addr.Span(p.Addr, p.N<<addr.PageShift)
		if mm == nil || sp == nil || !fits {
			continue
		}
		for run, err := range mm.Pages(r) {
			if err != nil {
				return err
			}
			if run.Changed != m.Event.Step || run.What != format.PageData {
				continue
			}
			at, _ := addr.Span(run.Addr, run.N<<addr.PageShift)
			for v := range mm.VMAs.Overlapping(at) {
				if v.Kind < vma.NumKinds {
					sp.fresh[v.Kind] += v.Intersect(at).Len()
				}
			}
		}
	}
	return nil
}

// found is what a snapshot found of one kind of memory, in bytes.
type found struct {
	mapped            bool
	inUse, zero, file uint64
}

// snapshot takes in a snapshot, if the event is one.
func (s *spaces) snapshot(x *exporter, m *replay.Moment) error {
	snap, ok := m.Event.Record.(*format.Snapshot)
	if !ok {
		return nil
	}
	mm, sp := m.State.MMs[snap.MM], s.by[snap.MM]
	if mm == nil || sp == nil {
		return nil
	}
	var kinds [vma.NumKinds]found
	for v := range mm.VMAs.All() {
		if v.Kind >= vma.NumKinds {
			continue
		}
		k := &kinds[v.Kind]
		k.mapped = true
		for run, err := range mm.Pages(v.Range) {
			if err != nil {
				return err
			}
			r, _ := addr.Span(run.Addr, run.N<<addr.PageShift)
			switch n := r.Len(); run.What {
			case format.PageData:
				k.inUse += n
				sp.written.Add(r)
			case format.PageZero:
				k.zero += n
			case format.PageFile:
				k.file += n
			}
		}
	}
	sp.looked = m.Event.Step
	if x.snapshots == nil {
		return nil
	}
	t := x.snapshots
	for i := range kinds {
		k := &kinds[i]
		if !k.mapped {
			continue
		}
		r := t.row()
		*r = snapshotRow{
			Run: x.o.Run, Step: int64(m.Event.Step), TNS: int64(m.Event.Time), Reason: text(snap.Reason), Kind: vma.Kind(i).String(),
			InUse: int64(k.inUse), WrittenNew: int64(sp.fresh[i]), Zero: int64(k.zero), FilePages: int64(k.file), PauseNS: int64(snap.PauseNS),
		}
		if proc, known := x.owners[snap.MM]; known {
			r.Proc = t.int(proc)
		}
	}
	sp.fresh = [vma.NumKinds]uint64{}
	return nil
}
