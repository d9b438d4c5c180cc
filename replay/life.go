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
	Argv []string
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
		if !r.Injected {
			l.Syscalls++
		}
	case *format.Exec:
		// A fork copies the program too; only what it runs itself is told.
		l.Execs = append(l.Execs, Image{ev.Step, r.Path, slices.Clone(r.Argv)})
	case *format.Attach:
		if r.Path != "" {
			l.Execs = append(l.Execs, Image{ev.Step, r.Path, slices.Clone(r.Argv)})
		}
	case *format.Exit:
		if r.Process {
			l.Ended, l.Status = true, r.Status
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

// LastAlive is the last step at which process pid (0: the log's first) has an
// address space.
func (t *Trace) LastAlive(ctx context.Context, pid uint32) (format.Step, error) {
	lives, err := t.Lives(ctx)
	if err != nil {
		return 0, err
	}
	for i := range lives {
		l := &lives[i]
		switch {
		case pid != 0 && l.PID != pid:
		case l.Ended && l.Last > l.First:
			return l.Last - 1, nil
		default:
			return l.Last, nil
		}
	}
	if pid == 0 {
		return 0, ErrEmpty
	}
	return 0, fmt.Errorf("pid %d: %w in this log (memtrace report processes lists them)", pid, ErrNoProcess)
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
		if ev.Step > 1000 {
			break
		}
	}
	return 0
}
