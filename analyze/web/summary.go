package web

import (
	"context"
	"fmt"
	"slices"
	"sort"
	"sync"

	"memtrace/analyze"
	"memtrace/format"
	"memtrace/format/addr"
	"memtrace/format/arch"
	"memtrace/format/vma"
	"memtrace/replay"
)

// The size of a summary. It is as exact as it can be in so much memory: when there are too
// many cells, leaves become twice as long.
const firstLeaf = 256 // events

// sizes are how much a summary may have.
type sizes struct{ mem, lanes, uses, marks, births int }

// usualSizes take 100 MB together. uses are moments.
var usualSizes = sizes{mem: 400_000, lanes: 500_000, uses: 4096, marks: 40_000, births: 500_000}

// memIn and laneIn are cells with the number of their leaf.
type memIn struct {
	leaf uint32
	memCell
}

type laneIn struct {
	leaf uint32
	laneCell
}

// usePoint is the memory in use at a snapshot, of all processes or of one.
type usePoint struct {
	step, time uint64
	by         map[uint32]analyze.KindBytes // by process; everyProc: all
}

func (p *usePoint) sum() uint64 {
	all := p.by[everyProc]
	return all.Sum()
}

// birth is when a mapping came to be, and by what: a call, or the type of the event.
type birth struct {
	step uint64
	by   string
}

// placeKey is where a mapping begins.
type placeKey struct {
	mm uint32
	at addr.Addr
}

// threadLife is when a thread lived.
type threadLife struct {
	no, tid, pid, proc uint32
	first, last        uint64 // steps
	begin, end         uint64 // ns
}

// markKind is what a mark is of, the gravest first.
type markKind uint8

const (
	fatalMark markKind = iota
	lostMark
	checkMark
	execMark
	exitMark
	forkMark
	phaseMark
	signalMark
	threadMark
	snapshotMark
	numMarks
)

var markNames = [numMarks]string{"fatal", "lost", "check", "exec", "exit", "fork", "phase", "signal", "thread", "snapshot"}

// mark is an event that is drawn by itself.
type mark struct {
	step, time uint64
	pid, tid   uint32
	kind       markKind
	text       string
}

// leafEnd is the last event of a leaf.
type leafEnd struct{ step, time uint64 }

// summary is what is kept of a whole log to draw any part of it at once. One goroutine
// makes it in the order of steps; what it has so far can be asked for all the time.
type summary struct {
	most    sizes
	mu      sync.RWMutex
	steps   uint64 // number of events that are in it
	next    uint64 // the step after those
	total   uint64 // number of events of the log
	leaf    uint64 // events a leaf
	leaves  []leafEnd
	begin   uint64 // time of the first event
	mem     []memIn
	lanes   []laneIn
	uses    []usePoint
	useGap  uint64 // ns between two of uses
	marks   []mark
	dropped int // marks
	threads []threadLife
	byNo    map[uint32]int       // index into threads
	births  map[placeKey][]birth // in order
	born    int                  // births
	unborn  uint64               // the first step whose births are not kept
	snaps   uint64
	snapped map[uint32][]uint64 // steps of snapshots by address space, without sweeps
	samples uint64              // of processes' memory
}

func newSummary(t *replay.Trace) *summary {
	return &summary{most: usualSizes, total: t.Count(), leaf: firstLeaf, byNo: map[uint32]int{}, snapped: map[uint32][]uint64{}, births: map[placeKey][]birth{}, unborn: ^uint64(0)}
}

// ready is which part of the log is in it.
func (s *summary) ready() float64 {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.total == 0 {
		return 1
	}
	return float64(s.steps) / float64(s.total)
}

// make reads the whole log.
func (s *summary) make(ctx context.Context, t *replay.Trace) error {
	last, ok := t.Last()
	if !ok {
		return nil
	}
	before, err := t.Before(t.First())
	if err != nil {
		return err
	}
	b := builder{summary: s, tally: newTally(before), seen: map[uint32]*threadLife{}, changed: map[uint32]*threadLife{}}
	for m, err := range t.Walk(t.First(), last) {
		if err == nil && m.Event.Step%1024 == 0 {
			err = ctx.Err()
		}
		if err != nil {
			return err
		}
		b.see(m)
	}
	b.flush()
	return nil
}

// held is a snapshot of an address space.
type held struct {
	mm   uint32
	step uint64
}

// placed is a birth and where it was.
type placed struct {
	placeKey
	birth
}

// builder is the one that writes a summary.
type builder struct {
	*summary
	tally *tally
	n     uint64 // events since the last leaf
	time  uint64 // of the last event
	step  uint64
	// Since the last leaf:
	newMarks  []mark
	newUses   []usePoint
	held      []held
	newBirths []placed
	sampled   uint64 // samples
	changed   map[uint32]*threadLife
	seen      map[uint32]*threadLife // all
	used      uint64                 // time of the last use
	gap       uint64
}

func (b *builder) see(m *replay.Moment) {
	ev := m.Event
	if b.steps == 0 && b.n == 0 {
		b.begin = ev.Time
	}
	b.step, b.time = uint64(ev.Step), ev.Time
	b.tally.see(m)
	b.live(m)
	b.mark(m)
	for _, c := range m.Changes {
		if c.Op == vma.Map || c.Op == vma.Remap {
			b.newBirths = append(b.newBirths, placed{placeKey{c.MM, c.VMA.Start}, birth{b.step, cause(m.Event.Record)}})
		}
	}
	switch r := ev.Record.(type) {
	case *format.Snapshot:
		if r.Reason != format.ReasonSweep {
			b.held = append(b.held, held{r.MM, uint64(ev.Step)})
		}
		if r.Reason != format.ReasonSweep || ev.Time-b.used >= b.gap {
			b.use(m)
		}
	case *format.MemInfo:
		b.sampled++
	}
	if b.used > 0 && ev.Time-b.used >= b.gap && slices.ContainsFunc(ev.Changes, func(c format.Change) bool { _, ok := c.(*format.MMDrop); return ok }) {
		b.use(m) // with an address space its memory goes; without any snapshot nothing is known of it
	}
	if b.n++; b.n == b.leaf {
		b.flush()
	}
}

// cause is what an event is called that makes a mapping.
func cause(r format.Record) string {
	if s, ok := r.(*format.Syscall); ok {
		return replay.CallName(s.Arch, s.Nr)
	}
	return replay.TypeName(r)
}

// live keeps when threads live.
func (b *builder) live(m *replay.Moment) {
	step, now := uint64(m.Event.Step), m.Event.Time
	for _, c := range m.Event.Changes {
		if c, ok := c.(*format.ThreadSet); ok && b.seen[c.Thread.No] == nil {
			l := &threadLife{no: c.Thread.No, tid: c.Thread.TID, pid: c.Thread.TGID, proc: c.Thread.Proc, first: step, begin: now, last: step, end: now}
			b.seen[l.no], b.changed[l.no] = l, l
		}
	}
	if l := b.seen[m.Event.Thread]; l != nil {
		l.last, l.end = step, now
		b.changed[l.no] = l
	}
}

// use keeps what is in use.
func (b *builder) use(m *replay.Moment) {
	b.used = m.Event.Time
	p := usePoint{step: uint64(m.Event.Step), time: m.Event.Time, by: map[uint32]analyze.KindBytes{everyProc: analyze.InUse(m.State, 0)}}
	procs := map[uint32]uint32{}
	for _, t := range m.State.Threads {
		procs[t.Proc] = t.TGID
	}
	for proc, pid := range procs {
		if len(procs) == 1 {
			p.by[proc] = p.by[everyProc]
		} else if len(procs) <= 16 {
			p.by[proc] = analyze.InUse(m.State, pid)
		}
	}
	b.newUses = append(b.newUses, p)
}

// mark keeps an event that is drawn by itself.
func (b *builder) mark(m *replay.Moment) {
	ev := m.Event
	x := mark{step: uint64(ev.Step), time: ev.Time, pid: m.Thread.TGID, tid: m.Thread.TID}
	switch r := ev.Record.(type) {
	case *format.Signal:
		x.kind, x.text = signalMark, arch.SignalName(int(r.Signo))
		if r.Fatal {
			x.kind = fatalMark
			x.text += ", which ended the process"
		}
	case *format.Exec:
		x.kind, x.text = execMark, "exec "+r.Path
	case *format.Clone:
		x.kind, x.text = threadMark, "new thread"
		if t := m.State.Threads[r.Child]; t != nil && t.Proc != m.Thread.Proc {
			x.kind, x.text = forkMark, fmt.Sprintf("new process %d", t.TGID)
		}
	case *format.Exit:
		if !r.Process {
			return
		}
		x.kind, x.text = exitMark, replay.StatusText(r.Status)
	case *format.Snapshot:
		if r.Reason == format.ReasonSweep {
			return
		}
		x.kind, x.text = snapshotMark, "snapshot ("+r.Reason+")"
	case *format.Lost:
		x.kind, x.text = lostMark, r.What
	case *format.Check:
		if r.OK {
			return
		}
		x.kind, x.text = checkMark, "the table of mappings differed from the kernel's"
	default:
		return
	}
	x.text = shown(x.text)
	b.newMarks = append(b.newMarks, x)
}

// flush hands over a leaf.
func (b *builder) flush() {
	if b.n == 0 {
		return
	}
	mem, lanes := b.tally.cut()
	b.mu.Lock()
	defer b.mu.Unlock()
	no := uint32(len(b.leaves))
	b.leaves = append(b.leaves, leafEnd{b.step, b.time})
	for _, c := range mem {
		b.mem = append(b.mem, memIn{no, c})
	}
	for _, c := range lanes {
		b.lanes = append(b.lanes, laneIn{no, c})
	}
	b.uses = append(b.uses, b.newUses...)
	b.marks = append(b.marks, b.newMarks...)
	b.snaps += uint64(len(b.held))
	for _, h := range b.held {
		b.snapped[h.mm] = append(b.snapped[h.mm], h.step)
	}
	b.samples += b.sampled
	for _, c := range b.changed {
		i, known := b.byNo[c.no]
		if !known {
			i = len(b.threads)
			b.byNo[c.no] = i
			b.threads = append(b.threads, *c)
		}
		b.threads[i] = *c
	}
	for _, x := range b.newBirths {
		if b.born++; b.born > b.most.births {
			b.unborn = min(b.unborn, x.step)
			break
		}
		b.births[x.placeKey] = append(b.births[x.placeKey], x.birth)
	}
	b.newBirths = b.newBirths[:0]
	b.steps += b.n
	b.next = b.step + 1
	b.n, b.held, b.sampled, b.newUses, b.newMarks = 0, b.held[:0], 0, b.newUses[:0], b.newMarks[:0]
	clear(b.changed)
	b.shrink()
	b.gap = b.useGap
}

// bornAt is when the mapping that begins at a place at a step came to be.
func (s *summary) bornAt(at placeKey, step uint64) (birth, bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	list := s.births[at]
	i := sort.Search(len(list), func(i int) bool { return list[i].step > step })
	if i == 0 || step >= min(s.unborn, s.next) {
		return birth{}, false
	}
	return list[i-1], true
}

// shrink keeps the summary within its size.
func (s *summary) shrink() {
	for (len(s.mem) > s.most.mem || len(s.lanes) > s.most.lanes) && len(s.leaves) > 1 {
		s.double()
	}
	if len(s.uses) > s.most.uses {
		kept := s.uses[:0]
		for i := 0; i < len(s.uses); i += 2 { // the higher of two: peaks stay
			x := s.uses[i]
			if i+1 < len(s.uses) && s.uses[i+1].sum() > x.sum() {
				x = s.uses[i+1]
			}
			kept = append(kept, x)
		}
		clear(s.uses[len(kept):])
		s.uses = kept
		s.useGap = max(2*s.useGap, (kept[len(kept)-1].time-kept[0].time)/uint64(s.most.uses))
	}
	for kind := numMarks - 1; len(s.marks) > s.most.marks; kind-- {
		n, of := len(s.marks), 0
		s.marks = slices.DeleteFunc(s.marks, func(x mark) bool {
			if x.kind == kind || kind == fatalMark {
				of++
				return of%2 == 0
			}
			return false
		})
		s.dropped += n - len(s.marks)
		if kind == fatalMark {
			break
		}
	}
}

// double makes one leaf of each two.
func (s *summary) double() {
	s.leaf *= 2
	kept := s.leaves[:0]
	for i := 0; i < len(s.leaves); i += 2 {
		kept = append(kept, s.leaves[min(i+1, len(s.leaves)-1)])
	}
	s.leaves = kept
	s.mem = merge(s.mem, func(x *memIn) (*uint32, memKey) { return &x.leaf, x.memKey }, func(a, b *memIn) { a.add(&b.memCell) })
	s.lanes = merge(s.lanes, func(x *laneIn) (*uint32, laneKey) { return &x.leaf, x.laneKey }, func(a, b *laneIn) { a.laneCell.add(&b.laneCell) })
}

// merge adds up the cells of each two leaves.
func merge[C any, K comparable](cells []C, of func(*C) (*uint32, K), add func(a, b *C)) []C {
	kept := cells[:0]
	leaf := ^uint32(0)
	at := map[K]int{}
	for i := range cells {
		c := cells[i]
		no, key := of(&c)
		if *no /= 2; *no != leaf {
			leaf = *no
			clear(at)
		}
		if j, ok := at[key]; ok {
			add(&kept[j], &c)
			continue
		}
		at[key] = len(kept)
		kept = append(kept, c)
	}
	return kept
}

// kindGroups are kinds of memory with one colour.
var kindGroups = map[vma.Kind]string{
	vma.Heap: "heap", vma.AnonPrivate: "anonymous", vma.AnonShared: "shared", vma.FileShared: "shared", vma.SysV: "shared", vma.POSIXShm: "shared",
	vma.Memfd: "shared", vma.MainStack: "stacks", vma.ThreadStack: "stacks", vma.FilePrivate: "files",
}

// kindOrder is the order in which kinds are stacked, from the bottom up.
var kindOrder = []vma.Kind{
	vma.Heap, vma.AnonPrivate, vma.AnonShared, vma.FileShared, vma.SysV, vma.POSIXShm, vma.Memfd, vma.MainStack, vma.ThreadStack, vma.FilePrivate,
	vma.VDSO, vma.VVAR, vma.Special, vma.Unknown,
}

func kindInfos() (list []KindInfo) {
	for _, k := range kindOrder {
		x := KindInfo{ID: k.String(), Group: kindGroups[k]}
		if x.Group == "" {
			x.Group = "system"
		}
		list = append(list, x)
	}
	return list
}
