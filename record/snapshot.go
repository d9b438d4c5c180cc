//go:build linux

package record

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"memtrace/format"
	"memtrace/format/addr"
	"memtrace/format/arch"
	"memtrace/format/vma"
	"memtrace/record/procfs"
	"memtrace/record/ptrace"
)

// Policy says when the contents of memory are saved.
type Policy struct {
	Exec, Exit, Signal bool   // at an exec, at a process's end, at a signal that ends it
	Step               bool   // at every event
	Every              uint64 // events; 0 is never
	Interval           time.Duration
	Syscalls           arch.Set // at the end of these calls
	// Spare keeps what is saved at the ends of processes to a small share of the
	// time: short programs with much memory are saved in part.
	Spare bool
}

// DefaultPolicy is exec,exit,signal,interval=1s, and Spare.
func DefaultPolicy() Policy {
	return Policy{Exec: true, Exit: true, Signal: true, Interval: time.Second, Spare: true}
}

// any says whether memory is saved at all.
func (p *Policy) any() bool {
	return p.Exec || p.Exit || p.Signal || p.Step || p.Every > 0 || p.Interval > 0 || !p.Syscalls.Empty()
}

// ErrPolicy says that a policy could not be understood.
var ErrPolicy = errors.New("bad snapshot policy")

// ParsePolicy reads a list such as "exec,exit,every=1000,interval=100ms".
func ParsePolicy(s string) (Policy, error) {
	var p Policy
	for _, word := range strings.Split(s, ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(word), "=")
		var err error
		switch name {
		case "exec":
			p.Exec = true
		case "exit":
			p.Exit, p.Spare = true, false
		case "signal":
			p.Signal = true
		case "step":
			p.Step = true
		case "none":
			p = Policy{}
		case "default":
			all := p.Exit && !p.Spare
			p = DefaultPolicy()
			p.Spare = !all
		case "every":
			p.Every, err = strconv.ParseUint(value, 10, 64)
			if err == nil && p.Every == 0 {
				err = errors.New("must be at least 1")
			}
		case "interval":
			p.Interval, err = time.ParseDuration(value)
			if err == nil && p.Interval < time.Millisecond {
				err = errors.New("must be at least 1ms")
			}
		case "syscall":
			var set arch.Set
			set, err = arch.ParseSet(value)
			p.Syscalls = p.Syscalls.Union(set)
		default:
			err = errors.New("want exec, exit, signal, every=N, interval=DURATION, syscall=NAME, step, default or none")
		}
		if err != nil {
			return p, fmt.Errorf("%w %q: %v", ErrPolicy, word, err)
		}
	}
	return p, nil
}

// due says why memory is to be saved with the call that t has returned from; ""
// is not at all.
func (r *Recorder) due(t *thread) string {
	p := &r.opts.Snapshot
	next := uint64(r.event.Step) + 1
	switch {
	case p.Step:
		return "step"
	case p.Syscalls.Has(t.call.Arch, t.call.Nr):
		return "syscall"
	case p.Every > 0 && next-r.lastEvery >= p.Every:
		r.lastEvery = next
		return "every"
	}
	return ""
}

// dueAt is due for an event other than a call, at which a policy of its own has
// memory saved, or not.
func (r *Recorder) dueAt(own bool, reason string) string {
	switch {
	case own:
		return reason
	case r.opts.Snapshot.Step:
		return "step"
	}
	return ""
}

// idleMost is how long the memory of a sleeping program is read at a time: the
// recorder has other things to do.
const idleMost = 100 * time.Millisecond

// What the policy Spare allows ends of processes: one part in exitShare of the time,
// exitGrace for all of them and exitLeast for each.
const (
	exitShare = 64
	exitGrace = 12 * time.Millisecond
	exitLeast = time.Millisecond
)

// snapshotChunk is how much memory is read at a time.
const snapshotChunk = 1 << 20

// captured is a snapshot whose pages are in the log, and whose event is not.
type captured struct {
	format.Snapshot
	whole bool // all that is known of the address space is true now
	took  time.Duration
	cut   bool  // not to slow the program down
	err   error // what kept it from being read
}

// capture reads what is resident in an address space and no file has, with all
// its threads held, if there is a reason. The pages belong to the next event: that
// at which they are due, which the caller writes, or the snapshot itself, which
// endCapture writes. But for an interval's, no thread goes on before that.
func (r *Recorder) capture(mm *space, t *thread, reason string) *captured {
	if reason == "" || mm.fs == nil || r.stop || r.result.Err != nil {
		return nil
	}
	r.hold(mm)
	begin := time.Now()
	if mm.track.wanted {
		r.beginTracking(t)
	}
	r.filesFrom = r.now()
	r.refreshGrowth(mm)
	if mm.track.soft != nil {
		r.collect(mm)
	}
	full := !mm.track.full
	order, limit := byAddress, time.Duration(0)
	held := begin // since when somebody has been, or waits for us
	if reason == "interval" && mm.idle() {
		held = time.Time{}
	}
	over := func() bool {
		if held.IsZero() {
			if !r.poll() {
				return time.Since(begin) > idleMost
			}
			held = time.Now()
			r.copying = true
		}
		return limit > 0 && time.Since(begin) > limit
	}
	switch {
	case reason == "exit" && r.opts.Snapshot.Spare:
		order, limit = bySize, r.exitLimit()
	case reason == "interval":
		limit = r.holdLimit(mm)
		r.filesFrom -= min(r.filesFrom, fileTrust)
		r.copying = !held.IsZero()
		if mm.track.watch != nil {
			order = byFault
		}
	}
	r.narrowed = false
	reading := time.Now()
	pages, whole := r.readSpace(mm, order, over)
	r.copying = false
	if reason == "interval" && !r.narrowed {
		mm.track.walk = time.Since(reading)
	}
	s := &captured{whole: whole && !mm.moving(), err: r.readErr}
	mm.ran = !s.whole // what is left is read at the next tick, even if all sleep; who goes on sets it again
	r.spaceRegisters(mm)
	if reason == "interval" {
		r.letGoOn(mm)
	}
	var pause time.Duration
	if !held.IsZero() {
		pause = time.Since(held)
	}
	if r.narrowed {
		s.whole = s.whole && r.explained(mm)
	}
	mm.ran = mm.ran || !s.whole
	r.handOver()
	s.took = time.Since(begin)
	if order == bySize {
		r.exitSpent += s.took
		s.cut = !whole && s.err == nil
	}
	if mm.track.on() && whole {
		mm.track.full = true
	}
	if s.err != nil {
		mm.track.full = false // what is protected has not all been read
	}
	s.Snapshot = format.Snapshot{MM: mm.no, Reason: reason, Mechanism: mm.mechanism(), Full: full,
		Pages: mm.track.swept + pages, PauseNS: uint64(pause)}
	mm.track.swept = 0
	r.confirm(s)
	return s
}

// endCapture writes the event of a snapshot; nil is none.
func (r *Recorder) endCapture(t *thread, s *captured) {
	if s == nil {
		return
	}
	if len(r.changes) == 0 { // they went with the event before
		r.confirm(s)
	}
	r.emit(t, &s.Snapshot)
	if s.err != nil {
		r.lost(t, fmt.Sprintf("memory of address space %d: %v", s.MM, s.err))
	}
	if s.cut {
		r.result.InPart++
		r.lost(t, fmt.Sprintf("memory of address space %d at its end: saved in part, for %v, not to slow the program down (--snapshot exit saves all)", s.MM, s.took.Round(time.Millisecond)))
	}
}

// exitLimit is how long what is saved at the end of a process may take.
func (r *Recorder) exitLimit() time.Duration {
	return max(exitLeast, exitGrace+time.Duration(r.now())/exitShare-r.exitSpent)
}

// confirm says that what a snapshot has found is so at the next event.
func (r *Recorder) confirm(s *captured) {
	if s.whole {
		r.change(&format.Confirm{MM: s.MM})
	}
}

// idle says whether all threads sleep in calls: until one comes back, to read the
// memory costs nobody anything.
func (mm *space) idle() bool {
	for t := range mm.users {
		if !t.exiting && !(t.running && (t.inCall || t.listening)) {
			return false
		}
	}
	return true
}

// moving says whether a thread is in a call that may be taking pages away, or moving
// them to where they have not been looked for, or has come out of it and not been
// served yet.
func (mm *space) moving() bool {
	for t := range mm.users {
		if t.inCall && !t.queued && t.effect != effFork && t.effect.exclusive() {
			return true
		}
	}
	return false
}

// spaceRegisters writes the registers of the threads of an address space, of
// those in a system call as they were at its beginning.
func (r *Recorder) spaceRegisters(mm *space) {
	var regs ptrace.Regs
	for t := range mm.users {
		switch {
		case t.exiting && len(mm.users) > 1:
			continue
		case !t.running && ptrace.GetRegs(t.tid, &regs) == nil:
		case t.running && t.inCall && t.noted:
			if t.told {
				continue
			}
			regs, t.told = *t.entry, true
		default:
			continue
		}
		r.change(&format.RegsSet{Thread: t.no, Regs: slices.Clone(r.registers(t, &regs))})
		if !t.running {
			r.extendedState(t)
		}
	}
}

// extendedState writes the floating-point and vector registers of a stopped
// thread, or that they are what the log has.
func (r *Recorder) extendedState(t *thread) {
	if r.xbuf == nil {
		r.xbuf = make([]byte, format.MaxXState)
	}
	n, err := ptrace.GetRegSet(t.tid, ptrace.NTX86XState, r.xbuf)
	if err != nil {
		return
	}
	x := &format.XStateSet{Thread: t.no} // as it was
	if !bytes.Equal(r.xbuf[:n], t.xstate) {
		t.xstate = append(t.xstate[:0], r.xbuf[:n]...)
		x.Data = slices.Clone(t.xstate)
	}
	r.change(x)
}

// Where the log has no use for a mapping's bytes: the kernel's own pages.
func unread(v vma.VMA) bool {
	return v.Kind == vma.VVAR || v.Name == "[vsyscall]" || strings.HasPrefix(v.Name, "/dev/") && !strings.HasPrefix(v.Name, "/dev/zero") && !strings.HasPrefix(v.Name, "/dev/shm/")
}

// order is how readSpace goes through an address space.
type order int

const (
	byAddress order = iota
	live            // byAddress, while threads run
	bySize          // what is large last
	byFault         // what had a fault since the last sweep, see Recorder.narrow
)

// readSpace reads the mappings of an address space from where the last reading
// was cut short on, until stop says so. It returns how many pages it read and
// whether it got round. While threads run (live) it reads only what it can tell
// their writes to, and goes to the end instead of round. r.readErr says what could
// not be read.
func (r *Recorder) readSpace(mm *space, by order, stop func() bool) (pages uint64, whole bool) {
	if r.buf == nil {
		r.buf = make([]byte, snapshotChunk)
	}
	from := mm.track.cursor
	mm.track.cursor, r.readErr = 0, nil
	var todo, before []vma.VMA
	for v := range mm.vmas.All() {
		if v.End > from {
			todo = append(todo, v.Slice(addr.Range{Start: max(from, v.Start), End: v.End}))
		}
		if v.Start < from && by != live {
			before = append(before, v.Slice(addr.Range{Start: v.Start, End: min(from, v.End)}))
		}
	}
	todo = append(todo, before...)
	if by == byFault && from == 0 && mm.track.full { // else not all of it is protected
		todo, r.narrowed = r.narrow(mm, todo)
	}
	if by == bySize {
		slices.SortStableFunc(todo, func(a, b vma.VMA) int { return cmp.Compare(a.Len(), b.Len()) })
	}
	for i, v := range todo {
		if by == live && !mm.sweepable(v) {
			continue
		}
		next := v.Start
		if i == 0 || !stop() {
			var n uint64
			n, next = r.readMapping(mm, v, by == live, stop)
			pages += n
		}
		if next < v.End {
			if by != bySize { // else the next one begins anew
				mm.track.cursor = next
			}
			return pages, false
		}
	}
	return pages, r.readErr == nil
}

// readMapping hands the resident pages of a mapping to the writer and returns
// how many there were, and where it stopped: when stop said so, if not at the
// end. What private anonymous memory does not have yet reads as zero; what a
// private file mapping has not changed is the file's.
func (r *Recorder) readMapping(mm *space, v vma.VMA, live bool, stop func() bool) (pages uint64, next addr.Addr) {
	if unread(v) {
		return 0, v.End
	}
	if v.Kind == vma.VDSO { // a mapping of the kernel's: what is not resident yet is not zero
		return r.readPages(mm, v.Range), v.End
	}
	const present = procfs.PagePresent | procfs.PageSwapped
	find, tracked := uint64(present), mm.tracked(v)
	if tracked && (mm.track.full || mm.track.soft != nil) {
		find = procfs.PageWritten
	}
	rest := untouched(v)
	if v.Kind == vma.MainStack {
		rest = format.PageZero
	}
	changing := r.changing(v)
	if changing && live {
		return 0, v.End // for the hold
	}
	if changing {
		find, tracked, rest = present, false, 0
	}
	others := shared(v) || changing
	for next = v.Start; next < v.End; {
		if next > v.Start && stop() {
			return pages, next
		}
		begin, from := next, next
		r.regions = r.regions[:0]
		var err error
		next, err = mm.scan(addr.Range{Start: from, End: v.End}, find, present|procfs.PageIsFile|procfs.PageIsZero, tracked,
			func(g procfs.Region) { r.regions = append(r.regions, g) })
		switch {
		case errors.Is(err, procfs.ErrUnwatched) && live:
			return pages, v.End // for the hold
		case errors.Is(err, procfs.ErrUnwatched):
			// All of it has to be read this time.
			find = present
			tracked = r.rewatch(mm, v)
			next = v.Start
			continue
		case errors.Is(err, errors.ErrUnsupported):
			r.warn("this kernel does not tell which pages are there: memory is read whole")
			return pages + r.readPages(mm, addr.Range{Start: from, End: v.End}), v.End
		case err != nil:
			r.readErr = err
			return pages, v.End
		}
		r.still, r.restless = r.still[:0], r.restless[:0]
		if live {
			used := 0
			for _, g := range r.regions {
				if g.Categories&present != 0 && isData(v, g) {
					mm.track.counted += g.Len() / addr.PageSize
					used = r.readStill(mm, g.Range, used)
				}
			}
		}
		untouched := func(at addr.Range) {
			if rest == 0 {
				return
			}
			for _, x := range append(r.restless, addr.Range{Start: at.End, End: at.End}) {
				if gap := (addr.Range{Start: at.Start, End: min(x.Start, at.End)}); !gap.Empty() {
					r.pages(&format.Pages{MM: mm.no, Addr: gap.Start, N: gap.Len() / addr.PageSize, What: rest})
				}
				at.Start = max(at.Start, x.End)
			}
		}
		if done := (addr.Range{Start: from, End: next}); find == present {
			mm.track.fresh.take(done)
			untouched(done)
		} else {
			for _, f := range mm.track.fresh.take(done) {
				untouched(f)
			}
		}
		for _, g := range r.regions {
			if find == procfs.PageWritten && mm.track.soft == nil && g.Categories&present != 0 { // soft-dirty bits say too much
				mm.track.lazy.take(g.Range) // it was written to, and stays
			}
			if others {
				r.forget(mm, addr.Range{Start: from, End: g.Start})
				from = g.End
			}
			switch {
			case g.Categories&present == 0: // given back since, which its call has told
			case g.Categories&procfs.PageIsZero != 0:
				r.pages(&format.Pages{MM: mm.no, Addr: g.Start, N: g.Len() / addr.PageSize, What: format.PageZero})
			case changing:
				pages += r.readPages(mm, g.Range)
			case v.Kind == vma.FileShared && v.Prot&addr.Write == 0:
				r.forget(mm, g.Range) // from when it could be written
			case !live && isData(v, g):
				pages += r.readPages(mm, g.Range)
			}
		}
		for i := range r.still {
			r.pages(&r.still[i])
			if r.still[i].What == format.PageData {
				pages += r.still[i].N
			}
		}
		if r.readErr != nil {
			r.pages(&format.Pages{MM: mm.no, Addr: begin, N: uint64(next-begin) / addr.PageSize, What: format.PageAbsent})
			return pages, v.End
		}
		if others {
			r.forget(mm, addr.Range{Start: from, End: next})
		}
	}
	if tracked && !live && rest == format.PageZero {
		pages += r.readLazy(mm, v.Range)
	}
	return pages, v.End
}

// lazyMost is how many bytes readLazy reads for an interval's snapshot.
const lazyMost = 8 << 20

// readLazy reads what the program has given back with MADV_FREE: the kernel does
// not tell which of these pages it has taken since. An interval's snapshot has no
// time for much of it.
func (r *Recorder) readLazy(mm *space, within addr.Range) (pages uint64) {
	lazy := append(mm.track.lazy.take(within), mm.track.freed.take(within)...)
	mm.track.lazy = append(mm.track.lazy, lazy...)
	for _, at := range lazy {
		if r.copying && at.Len() > lazyMost-min(lazyMost, pages*addr.PageSize) {
			r.pages(&format.Pages{MM: mm.no, Addr: at.Start, N: at.Len() / addr.PageSize, What: format.PageAbsent})
			continue
		}
		r.pages(&format.Pages{MM: mm.no, Addr: at.Start, N: at.Len() / addr.PageSize, What: format.PageZero})
		for next := at.Start; next < at.End; {
			r.regions = r.regions[:0]
			var err error
			next, err = mm.fs.Scan(addr.Range{Start: next, End: at.End}, procfs.PagePresent|procfs.PageSwapped, procfs.PageIsZero, false, 0,
				func(g procfs.Region) { r.regions = append(r.regions, g) })
			if err != nil {
				r.pages(&format.Pages{MM: mm.no, Addr: at.Start, N: at.Len() / addr.PageSize, What: format.PageAbsent})
				break
			}
			for _, g := range r.regions {
				if g.Categories&procfs.PageIsZero == 0 {
					pages += r.readPages(mm, g.Range)
				}
			}
		}
	}
	return pages
}

// isData says whether resident pages have contents of their own.
func isData(v vma.VMA, g procfs.Region) bool {
	return g.Categories&procfs.PageIsZero == 0 && (v.Kind != vma.FilePrivate || g.Categories&procfs.PageIsFile == 0)
}

// forget takes back what the log says of the contents of shared memory that is
// not resident here: it may have been written through another mapping since.
func (r *Recorder) forget(mm *space, at addr.Range) {
	m := r.w.State().MMs[mm.no]
	if m == nil || at.Empty() {
		return
	}
	r.stale = r.stale[:0]
	for p, err := range m.Pages(at) {
		if err == nil && (p.What == format.PageData || p.What == format.PageZero) {
			r.stale = append(r.stale, format.Pages{MM: mm.no, Addr: p.Addr, N: p.N, What: format.PageAbsent})
		}
	}
	for i := range r.stale {
		r.pages(&r.stale[i])
	}
}

// scanPages is how many pages are found, and protected again, before the clock is
// looked at.
const scanPages = 256

func (r *Recorder) readPages(mm *space, at addr.Range) (pages uint64) {
	for a := at.Start; a < at.End; {
		b := r.room(min(uint64(at.End-a), snapshotChunk))
		got, err := mm.fs.ReadMem(b, a)
		if errors.Is(err, procfs.ErrGone) {
			r.readErr = err
			return pages
		}
		got -= got % addr.PageSize
		if got > 0 {
			p := format.Pages{MM: mm.no, Addr: a, N: uint64(got) / addr.PageSize, What: format.PageData, Data: b[:got]}
			if r.copying {
				r.keepCopy(p)
			} else {
				r.pages(&p)
			}
			pages += uint64(got) / addr.PageSize
			a += addr.Addr(got)
			continue
		}
		r.pages(&format.Pages{MM: mm.no, Addr: a, N: 1, What: format.PageUnreadable})
		a += addr.PageSize
	}
	return pages
}

// pages gives contents to the writer at once: they may be more than fits in
// memory, and belong to the snapshot event that follows.
func (r *Recorder) pages(p *format.Pages) {
	for _, c := range r.changes[r.given:] {
		r.writerChange(c)
	}
	r.given = len(r.changes)
	r.writerChange(p)
}

func (r *Recorder) writerChange(c format.Change) {
	if r.result.Err == nil {
		r.failed(r.w.Change(c))
	}
}

// hold stops all threads of an address space that run code of the program; what
// they stopped with is served afterwards, by the loop, and so they go on. A
// thread inside a system call is left there: if it comes back meanwhile it waits
// at its exit.
func (r *Recorder) hold(mm *space) {
	defer r.awaitQuick(mm)
	waiting := 0
	for t := range mm.users {
		if t.running && !t.inCall && !t.listening && !t.exiting && (t.asked || ptrace.Interrupt(t.tid) == nil) {
			t.asked = true // a stop that was asked for before has not been seen yet
			waiting++
		}
	}
	if waiting == 0 {
		return
	}
	late := false
	timer := time.AfterFunc(holdPatience, func() { r.Ask(func() {}) })
	defer timer.Stop()
	for begin := time.Now(); waiting > 0 && !late; {
		s, err := ptrace.Wait(false)
		switch {
		case errors.Is(err, ptrace.ErrInterrupted):
			late = time.Since(begin) >= holdPatience
			continue
		case err != nil:
			return
		}
		if t := r.threads[s.TID]; t != nil && t.mm == mm && t.running && t.asked && !t.inCall {
			waiting--
		}
		r.later(s)
	}
}

// later keeps a report for the loop. Its thread stands still until then.
func (r *Recorder) later(s ptrace.Stop) {
	if t := r.threads[s.TID]; t != nil {
		t.running = false
	}
	r.backlog = append(r.backlog, s)
}

// holdPatience is how long to wait for a thread that does not stop: one that
// sleeps uninterruptibly in the kernel, which runs no code of the program
// either.
const holdPatience = 50 * time.Millisecond
