package web

import (
	"cmp"
	"slices"
	"sync"

	"memtrace/analyze"
	"memtrace/format"
	"memtrace/format/arch"
	"memtrace/format/vma"
	"memtrace/replay"
)

// class is what a call does, for the colour of its place in a lane.
type class uint8

const (
	memoryCall class = iota
	fileCall
	networkCall
	processCall
	signalCall
	waitingCall
	otherCall
	numClasses
)

var classNames = []string{"memory", "files", "network", "processes", "signals", "waiting", "other"}

// classTable has the class of every call.
var classTable = sync.OnceValue(func() *[arch.AArch64 + 1][arch.MaxSyscall]class {
	var t [arch.AArch64 + 1][arch.MaxSyscall]class
	for id := range t {
		for nr := range t[id] {
			t[id][nr] = otherCall
		}
		for nr, c := range arch.ID(id).Syscalls() {
			if nr >= arch.MaxSyscall {
				continue
			}
			k := &t[id][nr]
			switch {
			case analyze.Waits(c.Name) && c.Flags&arch.Network == 0:
				*k = waitingCall
			case c.Flags&arch.Memory != 0:
				*k = memoryCall
			case c.Flags&arch.Network != 0:
				*k = networkCall
			case c.Flags&(arch.File|arch.Desc) != 0:
				*k = fileCall
			case c.Flags&arch.Process != 0:
				*k = processCall
			case c.Flags&arch.Signal != 0:
				*k = signalCall
			}
		}
	}
	return &t
})

func classOf(s *format.Syscall) class {
	if s.Arch > arch.AArch64 || s.Nr >= arch.MaxSyscall {
		return otherCall
	}
	k := classTable()[s.Arch][s.Nr]
	if k == waitingCall {
		if row, ok := s.Arch.Syscall(s.Nr); ok && analyze.Wakes(s, row.Name) {
			return otherCall
		}
	}
	return k
}

// everyProc stands for all processes together.
const everyProc = 0

// memKey is memory of a kind of a process.
type memKey struct {
	proc uint32
	kind vma.Kind
}

// memCell is how many bytes of a kind a process had mapped during some events.
type memCell struct {
	memKey
	min, max, last int64
}

// laneKey is calls of a class of a thread.
type laneKey struct {
	thread uint32
	class  class
}

// laneCell is what calls of a thread came to during some events.
type laneCell struct {
	laneKey
	calls, failed uint32
	longest       uint64 // ns
	step          uint64 // of the longest
	time          uint64 // ns
}

func (c *laneCell) add(o *laneCell) {
	c.calls += o.calls
	c.failed += o.failed
	c.time += o.time
	if o.longest > c.longest {
		c.longest, c.step = o.longest, o.step
	}
}

func (c *memCell) add(o *memCell) {
	c.min, c.max, c.last = min(c.min, o.min), max(c.max, o.max), o.last
}

// tally counts what happens along a walk. What it counted since the last cut is in mem and
// lanes.
type tally struct {
	owner   map[uint32]uint32 // the process that had an address space first
	sizes   map[uint32]*[vma.NumKinds]int64
	now     map[memKey]int64
	touched []memKey // by this event
	mem     map[memKey]*memCell
	lanes   map[laneKey]*laneCell
	last    *laneCell // of the event before
	lastKey laneKey
}

// newTally begins in a state.
func newTally(s *format.State) *tally {
	y := &tally{
		owner: map[uint32]uint32{}, sizes: map[uint32]*[vma.NumKinds]int64{}, now: map[memKey]int64{},
		mem: map[memKey]*memCell{}, lanes: map[laneKey]*laneCell{},
	}
	first := map[uint32]uint32{}
	for _, t := range s.Threads {
		if no, ok := first[t.MM]; !ok || t.No < no {
			first[t.MM], y.owner[t.MM] = t.No, t.Proc
		}
	}
	for no, mm := range s.MMs {
		for v := range mm.VMAs.All() {
			y.book(no, v.Kind, int64(v.Len()))
		}
	}
	y.settle()
	y.cut()
	return y
}

// book counts n more bytes of a kind in an address space.
func (y *tally) book(mm uint32, k vma.Kind, n int64) {
	if n == 0 || k >= vma.NumKinds {
		return
	}
	sizes := y.sizes[mm]
	if sizes == nil {
		sizes = new([vma.NumKinds]int64)
		y.sizes[mm] = sizes
	}
	sizes[k] += n
	for _, proc := range [2]uint32{everyProc, y.owner[mm]} {
		key := memKey{proc, k}
		y.now[key] += n
		y.touched = append(y.touched, key)
		if y.owner[mm] == everyProc {
			break
		}
	}
}

// settle takes what the event left.
func (y *tally) settle() {
	for _, key := range y.touched {
		n := y.now[key]
		c := y.mem[key]
		if c == nil {
			y.mem[key] = &memCell{key, n, n, n}
			continue
		}
		c.add(&memCell{key, n, n, n})
	}
	y.touched = y.touched[:0]
}

// see counts an event.
func (y *tally) see(m *replay.Moment) {
	ev := m.Event
	if len(ev.Changes) > 0 {
		y.changes(m)
	}
	if s, ok := ev.Record.(*format.Syscall); ok {
		y.call(ev, s)
	}
}

func (y *tally) changes(m *replay.Moment) {
	for _, c := range m.Event.Changes {
		if c, ok := c.(*format.ThreadSet); ok {
			if _, known := y.owner[c.Thread.MM]; !known {
				y.owner[c.Thread.MM] = c.Thread.Proc
			}
		}
	}
	for _, c := range m.Event.Changes {
		if c, ok := c.(*format.MMNew); ok && c.From != 0 && y.sizes[c.From] != nil {
			for k, n := range *y.sizes[c.From] {
				y.book(c.MM, vma.Kind(k), n)
			}
		}
	}
	for _, c := range m.Changes {
		if !c.Old.Empty() && c.Old.Kind != c.VMA.Kind {
			y.book(c.MM, c.Old.Kind, -int64(c.Old.Len()))
			y.book(c.MM, c.VMA.Kind, int64(c.Old.Len()))
		}
		y.book(c.MM, c.VMA.Kind, c.Growth())
	}
	for _, c := range m.Event.Changes {
		if c, ok := c.(*format.MMDrop); ok && y.sizes[c.MM] != nil {
			for k, n := range *y.sizes[c.MM] {
				y.book(c.MM, vma.Kind(k), -n)
			}
			delete(y.sizes, c.MM)
		}
	}
	y.settle()
}

func (y *tally) call(ev *format.Event, s *format.Syscall) {
	key := laneKey{ev.Thread, classOf(s)}
	c := y.last
	if c == nil || key != y.lastKey {
		if c = y.lanes[key]; c == nil {
			c = &laneCell{laneKey: key}
			y.lanes[key] = c
		}
		y.last, y.lastKey = c, key
	}
	c.calls++
	if replay.Failed(s) {
		c.failed++
	}
	d := ev.Time - min(s.Enter, ev.Time)
	c.time += d
	if d > c.longest {
		c.longest, c.step = d, uint64(ev.Step)
	}
}

// cut returns what was counted since the last one, in order.
func (y *tally) cut() (mem []memCell, lanes []laneCell) {
	for _, c := range y.mem {
		mem = append(mem, *c)
	}
	slices.SortFunc(mem, func(a, b memCell) int { return cmp.Or(cmp.Compare(a.proc, b.proc), cmp.Compare(a.kind, b.kind)) })
	for _, c := range y.lanes {
		lanes = append(lanes, *c)
	}
	slices.SortFunc(lanes, func(a, b laneCell) int {
		return cmp.Or(cmp.Compare(a.thread, b.thread), cmp.Compare(a.class, b.class))
	})
	clear(y.mem)
	clear(y.lanes)
	y.last = nil
	return mem, lanes
}
