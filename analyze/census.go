package analyze

import (
	"cmp"
	"debug/buildinfo"
	"maps"
	"slices"
	"strings"

	"memtrace/format"
	"memtrace/format/addr"
	"memtrace/format/vma"
	"memtrace/replay"
)

// This file takes, along a walk, the series that a log has exactly: what each program had
// mapped, by what the mapping is for, its threads and its descriptors.

// use is what a program has memory mapped for.
type use uint8

const (
	useHeap     use = iota // [heap]
	useAnon                // private, anonymous and writable
	useReserved            // private and anonymous, and not writable
	useStacks              // of threads
	useShared              // anonymous, memfd, POSIX and System V, as mapped
	numUses
)

// useOf says what a mapping counts as.
func useOf(v vma.VMA) (use, bool) {
	writable := v.Prot&addr.Write != 0
	switch v.Kind {
	case vma.Heap:
		return useHeap, true
	case vma.AnonPrivate:
		if writable {
			return useAnon, true
		}
		return useReserved, true
	case vma.ThreadStack:
		if writable {
			return useStacks, true
		}
	case vma.AnonShared, vma.Memfd, vma.POSIXShm, vma.SysV:
		return useShared, true
	}
	return 0, false
}

// stepped is a series of a sum: what it was after each change.
type stepped struct {
	c   series
	now float64
}

// mostSteps is how many changes of a series are kept; of more, those that are next to each
// other become one lowest and one highest value.
const mostSteps = 1 << 16

func (s *stepped) add(t, n float64) {
	if n == 0 {
		return
	}
	s.now += n
	if k := len(s.c); k > 0 && s.c[k-1].T >= t {
		s.c[k-1].V = s.now
		return
	}
	if len(s.c) >= mostSteps {
		s.c = s.c.halved()
	}
	s.c = append(s.c, Point{T: t, V: s.now})
}

// halved keeps the lowest and the highest of each four points, and the last.
func (c series) halved() series {
	out := c[:0]
	for i := 0; i+4 <= len(c); i += 4 {
		low, high := i, i
		for k := i; k < i+4; k++ {
			if c[k].V < c[low].V {
				low = k
			}
			if c[k].V >= c[high].V {
				high = k
			}
		}
		a, b, last := c[min(low, high)], c[max(low, high)], c[i+3]
		if out = append(out, a); b.T > a.T {
			out = append(out, b)
		}
		if k := len(out) - 1; i+8 > len(c) && out[k].T < last.T {
			out = append(out, last)
		}
	}
	return out
}

// series is the series as a line, which begins at 0.
func (s *stepped) series() series {
	c := make(series, 0, 2*len(s.c))
	last := 0.0
	for _, p := range s.c {
		c = append(c, Point{T: p.T, V: last}, p)
		last = p.V
	}
	return c
}

// extent is what an address space has mapped.
type extent struct {
	by        [numUses]stepped
	committed stepped // heap, anonymous and stacks of threads: what the program can write to alone
	shared    map[vma.Kind]float64
}

func newExtent() *extent { return &extent{shared: map[vma.Kind]float64{}} }

func (x *extent) book(t float64, v vma.VMA, sign float64) {
	u, ok := useOf(v)
	if !ok {
		return
	}
	n := sign * float64(v.Len())
	x.by[u].add(t, n)
	switch u {
	case useHeap, useAnon, useStacks:
		x.committed.add(t, n)
	case useShared:
		x.shared[v.Kind] += n
	}
}

// copied is the extent of a fork's child.
func (x *extent) copied(t float64) *extent {
	c := newExtent()
	for u := range x.by {
		c.by[u].add(t, x.by[u].now)
	}
	c.committed.add(t, x.committed.now)
	for k, n := range x.shared {
		c.shared[k] = n
	}
	return c
}

// lived is a program, from its exec, fork or attachment to its end.
type lived struct {
	image
	name        string
	extent      *extent
	begin       float64 // seconds
	end         float64
	over        bool
	threads     stepped
	descriptors stepped
	objectKind  string
	objects     stepped // bytes of memfds and System V segments, mapped or not
	open        openFiles
	collector   collector
	file        vma.VMA // a mapping of its program file
}

// census is all programs of a log.
type census struct {
	list      []*lived          // that lived long enough to be judged
	brief     int               // how many did not
	first     []*lived          // of those, some
	now       map[uint32]*lived // by process id
	extents   map[uint32]*extent
	processes stepped
	segments  map[int64]*memoryObject // System V, by id
	attached  map[attachment]*memoryObject
	begin     float64
	end       float64 // of the log's first program, or of the log
	main      *lived
	holds     []hold
	stalls    []hold // when the machine stood still, and for how long each time
}

// hold is how long snapshots had held the program at a time.
type hold struct {
	t  float64 // seconds that it ran
	ns uint64
}

// held notes for how long the program had been held by a time of the log.
func (c *census) held(time, held uint64) {
	if c != nil {
		c.holds = append(c.holds, hold{seconds(time, held), held})
	}
}

// stood notes that the machine stood still for so many ns.
func (c *census) stood(t float64, ns uint64) {
	if c != nil {
		c.stalls = append(c.stalls, hold{t, ns})
	}
}

// stalled is for how many seconds the machine stood still while a program ran.
func (c *census) stalled(l *lived) (s float64) {
	for _, x := range c.stalls {
		if x.t >= l.begin && x.t <= l.end {
			s += float64(x.ns) / 1e9
		}
	}
	return s
}

// clock is the time of the log at which the program had run so many seconds, in ns.
func (c *census) clock(t float64) uint64 {
	held := uint64(0)
	for _, h := range c.holds {
		if h.t > t {
			break
		}
		held = h.ns
	}
	return uint64(max(t, 0)*1e9) + held
}

func newCensus(s *format.State) *census {
	c := &census{now: map[uint32]*lived{}, extents: map[uint32]*extent{}, segments: map[int64]*memoryObject{}}
	for no, mm := range s.MMs {
		x := newExtent()
		for v := range mm.VMAs.All() {
			x.book(0, v, 1)
		}
		c.extents[no] = x
	}
	return c
}

// start begins a program of a process.
func (c *census) start(t float64, im image, name string, mm uint32) {
	old := c.now[im.pid]
	l := &lived{image: im, name: name, extent: c.extents[mm], begin: t, collector: collectorOf(name)}
	if old != nil {
		c.stop(t, old) // what it keeps open is not the new program's doing
	}
	if l.extent == nil {
		l.extent = newExtent()
	}
	l.threads.add(t, 1)
	c.now[im.pid] = l
	c.processes.add(t, 1)
	if c.main == nil {
		c.main, c.begin = l, t
	}
}

// found notes the program file of a new program: the first file in its address space.
func (c *census) found(s *format.State, pid, mm uint32) {
	if c == nil {
		return
	}
	l, space := c.now[pid], s.MMs[mm]
	if l == nil || space == nil {
		return
	}
	for v := range space.VMAs.All() {
		if v.Kind == vma.FilePrivate {
			l.file, l.collector = v, max(l.collector, collectorOf(v.Name))
			return
		}
	}
}

// isGo reports whether a program file that can still be read was made by Go.
func (l *lived) isGo(t *replay.Trace) bool {
	if l.file.Name == "" {
		return false
	}
	f, err := t.OpenMapped(l.file)
	if err != nil {
		return false
	}
	defer f.Close()
	_, err = buildinfo.Read(f)
	return err == nil
}

// forked gives a child what it shares with its parent.
func (c *census) forked(parent, child uint32) {
	if c == nil {
		return
	}
	from, to := c.now[parent], c.now[child]
	if from != nil && to != nil {
		to.collector, to.file = from.collector, from.file
		to.inherit(from)
	}
}

// over ends a program's part of the log: what comes after is its end.
func (c *census) over(t float64, l *lived) {
	if l != nil && !l.over {
		l.over, l.end = true, t
	}
}

// stop takes a program out of the list of those that live.
func (c *census) stop(t float64, l *lived) {
	c.over(t, l)
	l.closeAll(t)
	c.processes.add(t, -1)
	delete(c.now, l.pid)
	c.keep(l)
}

// keep keeps a program that has ended for a judgement, if it lived long enough.
func (c *census) keep(l *lived) {
	if l.end-l.begin >= leastLength {
		c.list = append(c.list, l)
		return
	}
	if c.brief++; len(c.first) < shownPrograms {
		c.first = append(c.first, l)
	}
}

// close ends what outlives the log.
func (c *census) close(t float64) {
	c.end = t
	byBirth := func(a, b *lived) int { return cmp.Compare(a.birth, b.birth) }
	for _, l := range slices.SortedFunc(maps.Values(c.now), byBirth) {
		c.over(t, l)
		c.keep(l)
	}
	slices.SortFunc(c.list, byBirth)
	if c.main != nil && c.main.over {
		c.end = c.main.end
	}
}

// see takes an event in, at a time in seconds.
func (c *census) see(m *replay.Moment, t float64) {
	ev := m.Event
	for _, x := range ev.Changes {
		if n, ok := x.(*format.MMNew); ok {
			if from := c.extents[n.From]; from != nil {
				c.extents[n.MM] = from.copied(t)
			} else {
				c.extents[n.MM] = newExtent()
			}
		}
	}
	entered := t // memory goes while the call runs, and samples see it
	if r, ok := ev.Record.(*format.Syscall); ok {
		entered = max(t-float64(ev.Time-min(r.Enter, ev.Time))/1e9, 0)
	}
	for i := range m.Changes {
		d := &m.Changes[i]
		x := c.extents[d.MM]
		if x == nil {
			continue
		}
		switch d.Op {
		case vma.Map:
			x.book(t, d.VMA, 1)
		case vma.Unmap:
			x.book(entered, d.VMA, -1)
		default:
			x.book(t, d.Old, -1)
			x.book(t, d.VMA, 1)
		}
	}
	l := c.now[m.Thread.TGID]
	switch r := ev.Record.(type) {
	case *format.Syscall:
		if l != nil {
			if row, ok := r.Arch.Syscall(r.Nr); ok {
				if !r.Returned && row.Name == "exit_group" {
					c.over(t, l)
				}
				c.call(l, t, r, row)
			}
		}
	case *format.Signal:
		if r.Fatal {
			c.over(t, l)
		}
	case *format.Clone:
		if k := m.State.Threads[r.Child]; k != nil && k.Proc != k.No && l != nil {
			l.threads.add(t, 1)
		}
	case *format.Exit:
		if l != nil {
			if l.threads.add(t, -1); r.Process {
				c.stop(t, l)
			}
		}
	}
	for _, x := range ev.Changes {
		if d, ok := x.(*format.MMDrop); ok {
			delete(c.extents, d.MM)
		}
	}
	for _, x := range m.Changes {
		if l := c.now[m.Thread.TGID]; l != nil && l.collector == noCollector && x.Op != vma.Unmap {
			l.collector = collectorIn(x.VMA)
		}
	}
}

// collector is a runtime that gives memory back now and then.
type collector uint8

const (
	noCollector collector = iota
	goCollector
	v8Collector
	jvmCollector
)

var collectorNames = [...]string{"", "Go's", "Node's", "the JVM's"}

// collectorOf is what collects in a program of that name.
func collectorOf(name string) collector {
	switch base := name[strings.LastIndexByte(name, '/')+1:]; base {
	case "node", "nodejs":
		return v8Collector
	case "java":
		return jvmCollector
	}
	return noCollector
}

// collectorIn is what collects in a program that has such a mapping.
func collectorIn(v vma.VMA) collector {
	switch base := v.Name[strings.LastIndexByte(v.Name, '/')+1:]; {
	case strings.HasPrefix(v.Name, "[anon: Go:"):
		return goCollector
	case strings.HasPrefix(base, "libjvm.so"):
		return jvmCollector
	case strings.HasPrefix(base, "libnode.so"), strings.HasPrefix(base, "libv8.so"), strings.HasPrefix(v.Name, "[anon:v8"):
		return v8Collector
	}
	return noCollector
}
