package replay

import (
	"context"
	"fmt"
	"slices"

	"memtrace/format"
	"memtrace/format/arch"
)

// Life is the story of one process, over the whole log.
type Life struct {
	No, PID, Parent uint32 // Parent is a No
	Arch            arch.ID
	First, Last     format.Step // its first step, and the one it ended or was left at
	Start, End      uint64      // ns since the start
	Ended           bool        // false: it outlived the log
	Detached        bool
	Status          uint32 // wait status, if Ended
	Killed          bool
	Fatal           format.Step // of the signal that killed it, if Killed
	Execs           []Image
	Threads         int    // how many it had in all
	Events          uint64 // steps of its threads
	Syscalls        uint64
	Peak            uint64 // most bytes mapped at once
	PeakStep        format.Step
	PeakTime        uint64
}

// Image is a program that a process ran.
type Image struct {
	Step format.Step
	Path string
	// Called is the path that it was called by, "" if that is not known: a link to Path, or
	// a script that Path runs.
	Called string
	Argv   []string
}

// CalledAs is the path by which a program is known that path, called by called, with argv
// is: that of a link, not of what it points at. Of a script it is the interpreter, whose
// first argument the script is.
func CalledAs(path, called string, argv []string) string {
	if called == "" || len(argv) > 1 && argv[1] == called {
		return path
	}
	return called
}

// Name is what to call the process: its last program, or its pid.
func (l *Life) Name() string {
	if n := len(l.Execs); n > 0 {
		return l.Execs[n-1].Path
	}
	return fmt.Sprintf("process %d", l.PID)
}

// Lives tells the story of every process, in the order of their birth. It reads
// the whole log once; later calls cost nothing.
func (t *Trace) Lives(ctx context.Context) ([]Life, error) {
	t.history.Lock()
	defer t.history.Unlock()
	if t.history.done {
		return t.history.list, nil
	}
	h := historian{by: map[uint32]*Life{}, procOf: map[uint32]uint32{}, size: map[uint32]uint64{}, owner: map[uint32]uint32{}}
	last, ok := t.Last()
	if !ok {
		return nil, nil
	}
	for m, err := range t.Walk(0, last) {
		if err != nil {
			return nil, err
		}
		if m.Event.Step%1024 == 0 && ctx.Err() != nil {
			return nil, ctx.Err()
		}
		h.see(m)
	}
	list := make([]Life, 0, len(h.order))
	for _, no := range h.order {
		l := *h.by[no]
		if !l.Ended && !l.Detached {
			l.Last, l.End = last, h.now
		}
		list = append(list, l)
	}
	t.history.list, t.history.done = list, true
	return list, nil
}

// historian gathers lives along a walk.
type historian struct {
	by     map[uint32]*Life // by process number
	procOf map[uint32]uint32
	order  []uint32
	size   map[uint32]uint64 // bytes mapped, by address space
	owner  map[uint32]uint32 // the process that had the address space first
	now    uint64
}

func (h *historian) see(m *Moment) {
	ev := m.Event
	h.now = ev.Time
	for _, c := range ev.Changes {
		switch c := c.(type) {
		case *format.ThreadSet:
			h.thread(ev, &c.Thread)
		case *format.MMNew:
			h.size[c.MM] = h.size[c.From]
		case *format.MMDrop:
			delete(h.size, c.MM)
		}
	}
	for _, c := range m.Changes {
		h.size[c.MM] += uint64(c.Growth())
	}
	for _, c := range ev.Changes {
		switch c := c.(type) {
		case *format.ThreadSet:
			h.peak(ev, c.Thread.MM)
		case *format.VMASet:
			h.peak(ev, c.MM)
		}
	}
	l := h.by[m.Thread.Proc]
	if l == nil {
		return
	}
	l.Events++
	l.Last, l.End = ev.Step, ev.Time
	switch r := ev.Record.(type) {
	case *format.Syscall:
		l.Syscalls++
	case *format.Signal:
		if r.Fatal {
			l.Killed, l.Fatal = true, ev.Step
		}
	case *format.Exec:
		// A fork copies the program too; only what it runs itself is told.
		l.Execs = append(l.Execs, Image{ev.Step, r.Path, r.Called, slices.Clone(r.Argv)})
	case *format.Attach:
		if r.Path != "" {
			l.Execs = append(l.Execs, Image{ev.Step, r.Path, "", slices.Clone(r.Argv)})
		}
	case *format.Exit:
		if r.Process {
			l.Ended, l.Status = true, r.Status
			l.Killed = l.Killed && r.Status&0x7f != 0
		}
	case *format.Detach:
		l.Detached = true
	}
}

func (h *historian) peak(ev *format.Event, mm uint32) {
	l := h.by[h.owner[mm]]
	if n := h.size[mm]; l != nil && n > l.Peak {
		l.Peak, l.PeakStep, l.PeakTime = n, ev.Step, ev.Time
	}
}

func (h *historian) thread(ev *format.Event, t *format.Thread) {
	l := h.by[t.Proc]
	if l == nil {
		l = &Life{No: t.Proc, PID: t.TGID, Parent: t.Parent, First: ev.Step, Start: ev.Time, Last: ev.Step, End: ev.Time}
		h.by[t.Proc] = l
		h.order = append(h.order, t.Proc)
	}
	if _, known := h.procOf[t.No]; !known {
		h.procOf[t.No] = t.Proc
		l.Threads++
	}
	if _, owned := h.owner[t.MM]; !owned { // a vfork child borrows its parent's
		h.owner[t.MM] = t.Proc
	}
	l.Arch = t.Arch
}

// NotMapped says that the mappings of n processes are not known; "" for 0.
func NotMapped(n int) string {
	switch n {
	case 0:
		return ""
	case 1:
		return "the mappings of 1 process are not known"
	}
	return fmt.Sprintf("the mappings of %d processes are not known", n)
}

// WithoutMappings is how many processes the log has no mapping of, in one of their
// address spaces. It goes over the events only.
func (t *Trace) WithoutMappings(ctx context.Context) (n int, err error) {
	mapped := map[uint32]bool{}           // the address spaces that have had a mapping
	procs := map[uint32]map[uint32]bool{} // of each process
	see := func(th *format.Thread) {
		if procs[th.Proc] == nil {
			procs[th.Proc] = map[uint32]bool{}
		}
		procs[th.Proc][th.MM] = true
	}
	first := t.r.Initial()
	for no, mm := range first.MMs {
		mapped[no] = mm.VMAs.Len() > 0
	}
	for _, th := range first.Threads {
		see(th)
	}
	for ev, err := range t.r.Events(0) {
		if err == nil && ev.Step%1024 == 0 {
			err = ctx.Err()
		}
		if err != nil {
			return 0, err
		}
		for _, c := range ev.Changes {
			switch c := c.(type) {
			case *format.ThreadSet:
				see(&c.Thread)
			case *format.MMNew:
				mapped[c.MM] = mapped[c.From]
			case *format.VMASet:
				mapped[c.MM] = true
			}
		}
	}
	for _, spaces := range procs {
		for mm := range spaces {
			if !mapped[mm] {
				n++
				break
			}
		}
	}
	return n, nil
}

// LastAlive is the last step at which process pid (0: the log's first) has an
// address space.
func (t *Trace) LastAlive(ctx context.Context, pid uint32) (format.Step, error) {
	l, err := t.life(ctx, pid)
	if err != nil {
		return 0, err
	}
	return l.lastAlive(), nil
}

// LastWhole is the step at which process pid (0: the log's first) is looked at best
// after its end: that of the signal that killed it, when all its threads are there,
// else the last at which it has an address space.
func (t *Trace) LastWhole(ctx context.Context, pid uint32) (format.Step, error) {
	l, err := t.life(ctx, pid)
	switch {
	case err != nil:
		return 0, err
	case l.Killed:
		return l.Fatal, nil
	}
	return l.lastAlive(), nil
}

func (l *Life) lastAlive() format.Step {
	if l.Ended && l.Last > l.First {
		return l.Last - 1
	}
	return l.Last
}

// life is that of process pid, or of the log's first.
func (t *Trace) life(ctx context.Context, pid uint32) (*Life, error) {
	lives, err := t.Lives(ctx)
	if err != nil {
		return nil, err
	}
	for i := range lives {
		if pid == 0 || lives[i].PID == pid {
			return &lives[i], nil
		}
	}
	if pid == 0 {
		return nil, ErrEmpty
	}
	return nil, fmt.Errorf("pid %d: %w in this log (memtrace report processes lists them)", pid, ErrNoProcess)
}

// Find picks the process that the user means at v's step: by pid, or the first
// of the log when pid is 0. The error says when it lived if it does not now.
func (t *Trace) Find(ctx context.Context, v *View, pid uint32) (*Process, error) {
	if pid != 0 {
		if p, err := v.Process(pid); err == nil {
			return p, nil
		}
	} else if no := t.first(); no != 0 {
		if p, err := v.ByNo(no); err == nil {
			return p, nil
		}
	}
	lives, err := t.Lives(ctx)
	if err != nil {
		return nil, err
	}
	var l *Life
	for i := range lives {
		if pid == 0 || lives[i].PID == pid {
			l = &lives[i]
			if l.Last >= v.Step || pid == 0 {
				break
			}
		}
	}
	switch {
	case l == nil && pid == 0:
		return nil, fmt.Errorf("step %d: %w: the log knows none", v.Step, ErrNoProcess)
	case l == nil:
		return nil, fmt.Errorf("pid %d: %w in this log (memtrace report processes lists them)", pid, ErrNoProcess)
	case v.Step < l.First:
		return nil, fmt.Errorf("process %d begins at step %d, after step %d", l.PID, l.First, v.Step)
	case l.Last > 0:
		return nil, fmt.Errorf("process %d (%s) has ended at step %d%s: its last address space is at step %d (--at %d)",
			l.PID, l.Name(), l.Last, exitText(l), l.Last-1, l.Last-1)
	}
	return nil, fmt.Errorf("process %d at step %d: %w", l.PID, v.Step, ErrNoProcess)
}

func exitText(l *Life) string {
	if !l.Ended {
		return ""
	}
	return " (" + StatusText(l.Status) + ")"
}

// PIDOf is the pid of the process that id means: its own, or that of one of its threads.
// An id that the log does not know is given back.
func (t *Trace) PIDOf(ctx context.Context, id uint32) (uint32, error) {
	if id == 0 {
		return 0, nil
	}
	lives, err := t.Lives(ctx)
	if err != nil {
		return 0, err
	}
	for i := range lives {
		if lives[i].PID == id {
			return id, nil
		}
	}
	for c, err := range t.r.Changes(0) {
		if err != nil {
			return 0, err
		}
		if s, ok := c.Change.(*format.ThreadSet); ok && s.Thread.TID == id {
			return s.Thread.TGID, nil
		}
	}
	return id, nil
}

// first is the number of the log's first process, 0 if there is none.
func (t *Trace) first() uint32 {
	for ev, err := range t.r.Events(0) {
		if err != nil {
			return 0
		}
		for _, c := range ev.Changes {
			if c, ok := c.(*format.ThreadSet); ok {
				return c.Thread.Proc
			}
		}
		if ev.Step > t.First()+1000 {
			break
		}
	}
	return 0
}
