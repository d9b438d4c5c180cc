package analyze

import (
	"cmp"
	"context"
	"slices"

	"memtrace/format"
	"memtrace/format/vma"
	"memtrace/replay"
)

// SharedReport tells of shared memory who had it when.
type SharedReport struct {
	Rows []SharedRow // in the order in which objects, then their users, were first seen
}

// SharedRow is one process's time with one object.
type SharedRow struct {
	Kind         vma.Kind     `col:"kind,KIND"`
	Inode        uint64       `col:"inode,ID"`
	Size         uint64       `col:"size,SIZE,bytes"` // as far as it was mapped
	PID          uint32       `col:"pid,PID"`
	How          string       `col:"how,HOW"`
	Attached     format.Step  `col:"attached,ATTACHED"`
	AttachedTime uint64       `col:"attached_time,AT TIME,ns,drop=1"`
	Detached     *format.Step `col:"detached,DETACHED"` // nil: not until the end
	MostMapped   int64        `col:"mapped,MOST MAPPED,bytes,drop=2"`
	Name         string       `col:"name,NAME,cut=end"`
}

// Sheet lays the report out.
func (r *SharedReport) Sheet() *Sheet {
	s := sheet("shm", r.Rows)
	s.Title = "Shared memory"
	if len(r.Rows) == 0 {
		s.Notes = []string{"no shared memory was mapped"}
	} else {
		s.Notes = []string{"DETACHED -: still attached at the end"}
	}
	return s
}

// object is something that processes share, by what the kernel identifies it.
type object struct {
	dev   vma.Dev
	inode uint64
}

// stay is one process's time with an object.
type stay struct {
	pid        uint32
	from, to   format.Step
	fromTime   uint64
	inherited  bool
	open       bool
	bytes      int64 // mapped now
	mostMapped int64
}

// shared is what is known of an object.
type shared struct {
	kind  vma.Kind
	name  string
	size  uint64 // as far as it was mapped
	first format.Step
	stays []*stay
}

// SharedMemory tells of every System V segment, POSIX object, memfd and shared
// anonymous mapping who had it when.
func SharedMemory(ctx context.Context, t *replay.Trace, o Options) (*SharedReport, error) {
	b := shmBook{objects: map[object]*shared{}, at: map[uint32]map[object]*stay{}, pid: map[uint32]uint32{}}
	// From the beginning, whatever the range: who attached when is what is
	// asked for.
	all := o
	all.From = 0
	for m, err := range walk(ctx, t, all) {
		if err != nil {
			return nil, err
		}
		if len(m.Event.Changes) > 0 {
			b.see(m)
		}
	}
	r := &SharedReport{}
	keys := make([]object, 0, len(b.objects))
	for k := range b.objects {
		keys = append(keys, k)
	}
	slices.SortFunc(keys, func(x, y object) int {
		return cmp.Or(cmp.Compare(b.objects[x].first, b.objects[y].first), cmp.Compare(x.inode, y.inode))
	})
	for _, k := range keys {
		ob := b.objects[k]
		for _, s := range ob.stays {
			if o.PID != 0 && s.pid != o.PID || !s.open && s.to < o.From {
				continue
			}
			row := SharedRow{
				Kind: ob.kind, Inode: k.inode, Size: ob.size, PID: s.pid, How: "mapped",
				Attached: s.from, AttachedTime: s.fromTime, MostMapped: s.mostMapped, Name: ob.name,
			}
			if s.inherited {
				row.How = "inherited"
			}
			if !s.open {
				row.Detached = &s.to
			}
			r.Rows = append(r.Rows, row)
		}
	}
	return r, nil
}

type shmBook struct {
	objects map[object]*shared
	at      map[uint32]map[object]*stay // by address space
	pid     map[uint32]uint32           // of an address space's first process
}

func isShared(v vma.VMA) bool {
	switch v.Kind {
	case vma.SysV, vma.POSIXShm, vma.Memfd:
		return true
	case vma.AnonShared:
		return v.File()
	}
	return false
}

func (b *shmBook) see(m *replay.Moment) {
	ev := m.Event
	for _, c := range ev.Changes {
		if c, ok := c.(*format.ThreadSet); ok {
			if _, known := b.pid[c.Thread.MM]; !known {
				b.pid[c.Thread.MM] = c.Thread.TGID
			}
		}
	}
	for _, c := range ev.Changes {
		if c, ok := c.(*format.MMNew); ok {
			for k, s := range b.at[c.From] {
				b.book(ev, c.MM, k, s.bytes, true)
			}
		}
	}
	for _, c := range m.Changes {
		if isShared(c.VMA) {
			k := object{c.VMA.Dev, c.VMA.Inode}
			ob := b.objects[k]
			if ob == nil {
				ob = &shared{first: ev.Step}
				b.objects[k] = ob
			}
			ob.kind, ob.name = c.VMA.Kind, c.VMA.Name
			ob.size = max(ob.size, c.VMA.Offset+c.VMA.Len())
			b.book(ev, c.MM, k, c.Growth(), false)
		}
	}
	for _, c := range ev.Changes {
		if c, ok := c.(*format.MMDrop); ok {
			for k, s := range b.at[c.MM] {
				b.book(ev, c.MM, k, -s.bytes, false)
			}
			delete(b.at, c.MM)
		}
	}
}

func (b *shmBook) book(ev *format.Event, mm uint32, k object, n int64, inherited bool) {
	if n == 0 {
		return
	}
	if b.at[mm] == nil {
		b.at[mm] = map[object]*stay{}
	}
	s := b.at[mm][k]
	if s == nil || !s.open {
		s = &stay{pid: b.pid[mm], from: ev.Step, fromTime: ev.Time, inherited: inherited, open: true}
		b.at[mm][k] = s
		b.objects[k].stays = append(b.objects[k].stays, s)
	}
	s.bytes += n
	s.mostMapped = max(s.mostMapped, s.bytes)
	if s.bytes <= 0 {
		s.open, s.to = false, ev.Step
	}
}
