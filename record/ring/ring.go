//go:build linux

// This file has the ring: a log of which the last parts are kept.

// Package ring keeps the last part of a recording: a flight recorder. What is recorded
// goes into segments, each a log of its own that goes on where the one before ends. The
// oldest is dropped when those after it are enough. When a condition comes true the
// segments are joined to one log.
package ring

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"memtrace/format"
)

// Options say what a ring keeps.
type Options struct {
	Size int64         // bytes of log to keep at least, 0 for no bound of its own
	Age  time.Duration // time to keep at least, 0 likewise. The less of both counts
	Dir  string        // folder of the segments, "" for memory
	// Keep are the conditions: a list, see DefaultConds.
	Keep string
	Max  int           // how often the ring is kept at most
	Gap  time.Duration // and how far apart; the end of the program is kept at any time
	// Output is the name of what is kept; %n is its number, %p the pid of the program.
	Output string
	// Memory says that memory is saved when the ring is kept.
	Memory bool
	// Every, if it is not 0, says that memory is saved all the time, and how often. What it was
	// before the ring begins is known too, up to Room bytes of pages.
	Every time.Duration
	Room  int64
	// Facts are those of a process that lives.
	Facts format.Facts
	// Say is told what a person should know. It may be called from any goroutine.
	Say func(text string)
}

// Bounds of what a ring is made of.
const (
	parts      = 8                     // a ring is divided into so many segments, and one more
	MinSize    = 64 << 10              // of a ring
	MinAge     = time.Second           // of a ring
	MemorySize = 256 << 20             // of a ring in memory, without a Size
	MemoryRoom = 256 << 20             // of memory from before the ring, without a Room
	earlyMost  = parts                 // segments whose memory waits to be taken over
	patience   = 10 * time.Second      // for the end of a process that a signal ends
	shortest   = 20 * time.Millisecond // of a segment
)

// Ring is a record.Log. Its methods are for the tracing thread, but for those that say
// otherwise.
type Ring struct {
	*format.Writer
	opt   Options
	conds []cond
	segs  []*segment // the oldest first, the last one is being written
	sizes sized
	due   *due // what is going to be kept
	// Ask, if it is not nil, has Saved called soon, on the tracing thread between two events.
	Ask    func()
	asked  bool
	pid    int // of the program, for names
	pause  time.Duration
	closed bool

	mu    sync.Mutex // for what Status and the dumps use
	kept  []Dump
	took  int // of Options.Max
	last  time.Time
	more  int // times that a condition came true and nothing was kept
	dumps sync.WaitGroup
	todo  []func() // what is done beside the recording, one after the other
	doing bool
	early int       // segments in todo that were dropped
	pages [2]uint64 // that were known before the ring begins, and that there was no room for

	before *format.Before // of todo
	store  *os.File       // its pages
	bytes  int64          // of segments that are whole
	steps  [2]format.Step
	times  [2]uint64
}

// Dump is a log that was kept.
type Dump struct {
	Name string
	Why  string
	Info *format.Info
	Err  error
	Took time.Duration
}

// due is what a condition that came true is waiting for.
type due struct {
	why   string
	proc  uint32 // the end of this process; 0: memory
	since uint64
	ready bool // nothing any more
}

// segment is a part of the ring.
type segment struct {
	file  *os.File
	name  string // in Options.Dir, "" in memory
	begin uint64 // time of its first event
	size  int64
	err   error
	ready chan struct{} // it is whole: size and err are there
	users sync.WaitGroup
}

// New begins a ring with the log of header h.
func New(h *format.Header, o Options) (*Ring, error) {
	conds, err := parseConds(o.Keep)
	if err != nil {
		return nil, fmt.Errorf("--keep-on %w", err)
	}
	if o.Size == 0 && o.Dir == "" {
		o.Size = MemorySize
	}
	r := &Ring{opt: o, conds: conds, sizes: sized{}}
	if err := r.writable(); err != nil {
		return nil, err
	}
	if o.Every > 0 {
		if o.Room == 0 {
			r.opt.Room = MemoryRoom
		}
		var err error
		if r.store, err = anonymous(o.Dir); err != nil {
			return nil, err
		}
		r.before = format.NewBefore(r.store, r.opt.Room)
	}
	s, err := r.segment(1, 0)
	if err != nil {
		return nil, err
	}
	h.Segment = 1
	// Events count once they are in the file: small parts are of small groups.
	var w format.WriterOptions
	if o.Size > 0 {
		w.GroupSteps = int(max(64, min(o.Size/parts/64, 8192)))
	}
	if r.Writer, err = format.NewWriter(s.file, h, &w); err != nil {
		s.drop()
		return nil, err
	}
	r.segs = []*segment{s}
	return r, nil
}

// Lines are the options as the header of a log has them.
func (o *Options) Lines() []string {
	size := []string{}
	if o.Size > 0 {
		size = append(size, fmt.Sprint(o.Size))
	}
	if o.Age > 0 {
		size = append(size, o.Age.String())
	}
	memory := "none"
	switch {
	case o.Every > 0:
		memory = "interval=" + o.Every.String()
	case o.Memory:
		memory = "at-keep"
	}
	return []string{"ring=" + strings.Join(size, ","), "keep-on=" + strings.Join(strings.Fields(o.Keep), ""), "keep-memory=" + memory}
}

// Check says what is wrong with options that a user has typed.
func (o *Options) Check() error {
	switch {
	case o.Size > 0 && o.Size < MinSize:
		return fmt.Errorf("--ring: at least %dK", MinSize>>10)
	case o.Age > 0 && o.Age < MinAge:
		return fmt.Errorf("--ring: at least %v", MinAge)
	case o.Max < 1:
		return errors.New("--keep-max: at least 1")
	case o.Gap < 0:
		return errors.New("--keep-gap: not below 0")
	}
	_, err := parseConds(o.Keep)
	if err != nil {
		err = fmt.Errorf("--keep-on %w", err)
	}
	return err
}

// writable makes sure that something can be kept, before it has to be.
func (r *Ring) writable() error {
	dir := filepath.Dir(r.opt.Output)
	f, err := os.CreateTemp(dir, ".memtrace-ring-*")
	if err != nil {
		return err
	}
	_ = f.Close()
	return os.Remove(f.Name())
}

// segment makes the file of a segment.
func (r *Ring) segment(no uint64, begin uint64) (*segment, error) {
	s := &segment{begin: begin, ready: make(chan struct{})}
	var err error
	if r.opt.Dir == "" {
		s.file, err = anonymous("")
		return s, err
	}
	s.name = filepath.Join(r.opt.Dir, fmt.Sprintf("memtrace-ring.%d.%06d.mtl", os.Getpid(), no))
	s.file, err = os.OpenFile(s.name, os.O_RDWR|os.O_CREATE|os.O_EXCL|unix.O_NOFOLLOW, 0o600)
	return s, err
}

// anonymous makes a file without a name: in memory, or in a folder.
func anonymous(dir string) (*os.File, error) {
	if dir == "" {
		fd, err := unix.MemfdCreate("memtrace-ring", unix.MFD_CLOEXEC)
		if err != nil {
			return nil, fmt.Errorf("memfd_create: %w", err)
		}
		return os.NewFile(uintptr(fd), "memtrace-ring"), nil
	}
	f, err := os.CreateTemp(dir, ".memtrace-pages-*")
	if err != nil {
		return nil, err
	}
	return f, os.Remove(f.Name())
}

// drop lets go of a segment when nobody reads it any more.
func (s *segment) drop() {
	if s.name != "" {
		_ = os.Remove(s.name)
	}
	go func() {
		<-s.ready
		s.users.Wait()
		_ = s.file.Close()
	}()
}

// Event writes an event, and does what follows from it: the next segment, the end of
// the oldest, a dump.
func (r *Ring) Event(e *format.Event) (format.Step, error) {
	if exit, ok := e.Record.(*format.Exit); ok && exit.Process {
		r.ends(e, exit)
	}
	step, err := r.Writer.Event(e)
	if err != nil {
		return step, err
	}
	if m, ok := e.Record.(*format.MemInfo); ok && r.due == nil {
		if c := r.sizes.sample(r.conds, m, e.Time); c != nil {
			r.ask(c.text)
		}
	}
	r.mu.Lock()
	r.steps[1], r.times[1] = step, e.Time
	r.mu.Unlock()
	if r.isDue(e) {
		why := r.due.why
		r.due = nil
		return step, r.dump(why, e.Time)
	}
	seg := r.segs[len(r.segs)-1]
	age := time.Duration(e.Time - seg.begin)
	if r.opt.Size > 0 && (r.Bytes() >= r.opt.Size/parts || r.spare()) && age >= shortest || r.opt.Age > 0 && age >= r.opt.Age/parts {
		if err := r.next(e.Time); err != nil {
			return step, err
		}
		r.trim(e.Time)
	}
	return step, nil
}

// spare reports whether the oldest segment would not be needed if the one that is being written
// ended now. Small segments are larger than they should be, by what is written at once.
func (r *Ring) spare() bool {
	oldest := r.segs[0]
	select {
	case <-oldest.ready:
	default:
		return false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.segs) > 2 && r.bytes-oldest.size+r.Bytes() >= r.opt.Size
}

// next begins another segment.
func (r *Ring) next(now uint64) error {
	begin := time.Now()
	old := r.segs[len(r.segs)-1]
	s, err := r.segment(r.Header().Segment+1, now)
	if err != nil {
		return fmt.Errorf("the next part of the ring: %w", err)
	}
	err = r.Continue(s.file, "goes on", r.opt.Facts, func(size int64, err error) {
		old.size, old.err = size, err
		r.mu.Lock()
		r.bytes += size
		r.mu.Unlock()
		close(old.ready)
	})
	if err != nil {
		s.drop()
		return err
	}
	r.mu.Lock()
	r.segs = append(r.segs, s)
	r.mu.Unlock()
	r.pause = max(r.pause, time.Since(begin))
	return nil
}

// trim drops the oldest segments if those after them are enough.
func (r *Ring) trim(now uint64) {
	for len(r.segs) > 2 {
		rest := int64(0)
		for _, s := range r.segs[1 : len(r.segs)-1] {
			<-s.ready
			rest += s.size
		}
		enough := r.opt.Size > 0 && rest >= r.opt.Size || r.opt.Age > 0 && now-r.segs[1].begin >= uint64(r.opt.Age)
		if !enough {
			return
		}
		r.mu.Lock()
		s := r.segs[0]
		r.segs = r.segs[1:]
		<-s.ready
		r.bytes -= s.size
		r.mu.Unlock()
		r.takeOver(s)
		s.drop()
	}
}

// isDue reports whether what has been waited for has come with e.
func (r *Ring) isDue(e *format.Event) bool {
	if r.due == nil {
		return false
	}
	switch x := e.Record.(type) {
	case *format.Snapshot:
		if r.due.proc == 0 && x.Reason == format.ReasonKeep && !r.asked {
			return true
		}
	case *format.Exit:
		if x.Process && r.due.proc != 0 && (e.Thread == r.due.proc || r.gone(r.due.proc)) {
			return true
		}
	}
	return r.due.ready || e.Time > r.due.since && e.Time-r.due.since > uint64(patience)
}

// gone reports whether no thread of a process is left.
func (r *Ring) gone(proc uint32) bool {
	for _, t := range r.State().Threads {
		if t.Proc == proc {
			return false
		}
	}
	return true
}

// ends looks at the end of a process, before the event is written.
func (r *Ring) ends(e *format.Event, x *format.Exit) {
	t := r.State().Threads[e.Thread]
	if t == nil || r.due != nil {
		return
	}
	for i := range r.conds {
		if c := &r.conds[i]; c.end(unix.WaitStatus(x.Status), t.Parent == 0) && r.may(t.Parent == 0, false) {
			r.due = &due{why: c.text, proc: t.Proc, since: e.Time}
			return
		}
	}
}

// The methods below are asked by the recorder at moments when memory can be saved.

// Call reports whether the memory of the process that made a call is to be saved.
func (r *Ring) Call(s *format.Syscall, now uint64) bool {
	if r.due != nil {
		return false
	}
	for i := range r.conds {
		if c := &r.conds[i]; c.call(s, now) && r.may(false, false) {
			r.due = &due{why: c.text, since: now, ready: !r.opt.Memory}
			return r.opt.Memory
		}
	}
	return false
}

// Signal is Call for a signal that a thread is about to get.
func (r *Ring) Signal(t *format.Thread, no int, fatal bool, now uint64) bool {
	if r.due != nil || t == nil {
		return false
	}
	for i := range r.conds {
		if c := &r.conds[i]; c.signal(no, fatal) && r.may(fatal && t.Parent == 0, false) {
			r.due = &due{why: c.text, since: now}
			if fatal {
				r.due.proc = t.Proc
			} else {
				r.due.ready = !r.opt.Memory
			}
			return r.opt.Memory
		}
	}
	return false
}

// Exit is Call for the end of a process, whose status is known. One that a signal ends
// was looked at when it got the signal.
func (r *Ring) Exit(t *format.Thread, status uint32) bool {
	if t == nil || !r.opt.Memory || r.due != nil || unix.WaitStatus(status).Signaled() {
		return false
	}
	for i := range r.conds {
		if c := &r.conds[i]; c.end(unix.WaitStatus(status), t.Parent == 0) {
			return r.allows(t.Parent == 0, false)
		}
	}
	return false
}

// allows reports whether something may be kept now; final says that the program ends: the last
// of Options.Max is for that. soon says that it need not be Options.Gap apart.
func (r *Ring) allows(final, soon bool) bool {
	most := r.opt.Max
	if !final && most > 1 && r.keepsEnd() {
		most--
	}
	return r.took < most && (final || soon || r.last.IsZero() || time.Since(r.last) >= r.opt.Gap)
}

// may is allows, and counts it.
func (r *Ring) may(final, soon bool) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.allows(final, soon) {
		r.more++
		return false
	}
	r.took++
	r.last = time.Now()
	return true
}

// keepsEnd reports whether a condition is about the end of the program.
func (r *Ring) keepsEnd() bool {
	return slices.ContainsFunc(r.conds, func(c cond) bool { return c.kind == onFatal || c.kind == onExit || c.kind == onStatus })
}

// ask has the memory of all processes saved, and the ring kept.
func (r *Ring) ask(why string) {
	if r.due != nil || !r.may(false, false) {
		return
	}
	r.due = &due{why: why, since: r.times[1]}
	if r.opt.Memory && r.Ask != nil {
		r.asked = true
		r.Ask()
		return
	}
	r.due.ready = true
}

// KeepsOnUser reports whether SIGUSR2 to memtrace is a condition.
func (r *Ring) KeepsOnUser() bool {
	return slices.ContainsFunc(r.conds, func(c cond) bool { return c.kind == onUser })
}

// Trigger keeps the ring now: on the tracing thread, between two events. save saves the
// memory of all processes.
func (r *Ring) Trigger(why string, save func()) error {
	if r.due == nil {
		if !r.may(false, true) {
			return errors.New("nothing is kept any more: --keep-max does not allow it")
		}
		r.due = &due{why: why, since: r.times[1]}
	}
	return r.Saved(save)
}

// Saved saves memory with save and keeps the ring.
func (r *Ring) Saved(save func()) error {
	r.asked = true
	if r.opt.Memory && save != nil {
		save()
	}
	r.asked = false
	if r.due == nil {
		return nil
	}
	why := r.due.why
	r.due = nil
	return r.dump(why, r.times[1])
}
