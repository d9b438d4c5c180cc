package export

import (
	"context"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"

	"memtrace/analyze"
	"memtrace/format"
	"memtrace/format/addr"
	"memtrace/format/arch"
	"memtrace/format/vma"
	"memtrace/replay"
	"memtrace/replay/elfcore"
)

// core writes a process at a step as an ELF core.
func core(ctx context.Context, t *replay.Trace, w io.Writer, o Options) ([]string, error) {
	s, err := Moment(ctx, t, o.At, o.PID)
	if err != nil {
		return nil, err
	}
	return s.WriteCore(ctx, w)
}

// Subject is a process at a moment, with what a core says of it beside its
// memory. It is one of a log, or a living one that is held still.
type Subject struct {
	View      *replay.View
	Process   *replay.Process
	Registers []replay.Registers
	Origin    replay.Origin
	PPID      uint32 // if the parent is not in the View
	UID, GID  uint32
	// Signal, if it is not 0, is the one that Thread (its number) has got.
	Signal  int32
	SigInfo []byte
	Thread  uint32
}

// findSignal looks whether the step is the end of the process by a signal, or
// the snapshot after it, and whose event it is.
func (s *Subject) findSignal(t *replay.Trace) error {
	n := s.View.Step
	for ev, err := range t.Events(n - min(n, 2)) {
		if err != nil {
			return err
		}
		if ev.Step > n {
			break
		}
		if !slices.ContainsFunc(s.Process.Threads, func(t format.Thread) bool { return t.No == ev.Thread }) {
			continue
		}
		switch r := ev.Record.(type) {
		case *format.Signal:
			s.Thread = ev.Thread
			if s.Signal = 0; r.Fatal {
				s.Signal, s.SigInfo = r.Signo, slices.Clone(r.Info)
			}
		case *format.Snapshot, *format.Check:
			if s.Signal == 0 {
				s.Thread = ev.Thread
			}
		default:
			s.Signal, s.SigInfo, s.Thread = 0, nil, ev.Thread
		}
	}
	return nil
}

// maxZeros is how many zeros are put into a core, all together. Longer runs are
// reservations that the program never touched.
const maxZeros = 1 << 30

// WriteCore writes the subject as an ELF core and says what is not in it.
func (s *Subject) WriteCore(ctx context.Context, w io.Writer) ([]string, error) {
	space, err := s.Process.Space()
	if err != nil {
		return nil, err
	}
	c := &elfcore.Core{Arch: s.Process.Arch, Auxv: s.Origin.Auxv, Process: elfcore.Process{
		PID: s.Process.PID, PPID: s.PPID, UID: s.UID, GID: s.GID, Name: path.Base(s.Origin.Path), Args: strings.Join(s.Origin.Argv, " "),
	}}
	if ps := s.View.Processes(); s.Process.Parent != 0 {
		for _, p := range ps {
			if p.No == s.Process.Parent {
				c.Process.PPID = p.PID
			}
		}
	}
	notes := s.registerNotes()
	for _, r := range s.Registers {
		t := elfcore.Thread{TID: r.Thread.TID, Regs: r.Values}
		if r.XAsOf == r.AsOf { // they belong together
			t.XState = r.XState
		}
		if r.Thread.No != s.Thread {
			c.Threads = append(c.Threads, t)
			continue
		}
		t.Signal, t.SigInfo = s.Signal, s.SigInfo
		c.Threads = slices.Insert(c.Threads, 0, t) // the one to be shown first
	}
	if len(c.Auxv) == 0 {
		notes = append(notes, "the auxiliary vector is not in the log: shared libraries may not be found")
	}
	memory, err := s.segments(c, space)
	if err != nil {
		return notes, err
	}
	return append(notes, memory...), c.Write(w, func(a addr.Addr, page *[addr.PageSize]byte) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		_, err := space.Stretches(a, page)
		return err
	})
}

// fewThreads are named one by one.
const fewThreads = 4

// registerNotes says whose registers are old or not known.
func (s *Subject) registerNotes() (notes []string) {
	var old, none []string
	first, last := s.View.Step, format.Step(0)
	for _, r := range s.Registers {
		switch {
		case r.Values == nil:
			none = append(none, fmt.Sprintf("thread %d: its registers are not in the log up to this step and are given as 0", r.Thread.TID))
		case r.AsOf != s.View.Step:
			first, last = min(first, r.AsOf), max(last, r.AsOf)
			old = append(old, fmt.Sprintf("thread %d: registers as of step %d", r.Thread.TID, r.AsOf))
		}
	}
	if len(old) > fewThreads {
		old = []string{fmt.Sprintf("%d threads: registers as of steps %d to %d", len(old), first, last)}
	}
	if len(none) > fewThreads {
		none = []string{fmt.Sprintf("%d threads: their registers are not in the log up to this step and are given as 0", len(none))}
	}
	return append(old, none...)
}

// lastCapture is the last step at which bytes were captured or confirmed.
func lastCapture(space *replay.AddressSpace) (last format.Step, err error) {
	for run, err := range space.Pages(addr.Range{End: ^addr.Addr(0)}) {
		if err != nil {
			return 0, err
		}
		if run.What == format.PageData {
			last = max(last, run.AsOf)
		}
	}
	return last, nil
}

// segments cuts the mappings where what is known of them changes.
func (s *Subject) segments(c *elfcore.Core, space *replay.AddressSpace) (notes []string, err error) {
	captured, err := lastCapture(space)
	if err != nil {
		return nil, err
	}
	x := cutter{core: c, space: space, step: s.View.Step, captured: captured, oldest: s.View.Step}
	for v := range space.Mappings() {
		if c.Arch == arch.I386 && v.End > 1<<32 {
			continue
		}
		if v.File() && strings.HasPrefix(v.Name, "/") {
			c.Files = append(c.Files, elfcore.File{Range: v.Range, Offset: v.Offset, Name: v.Name})
		}
		if err := x.mapping(v); err != nil {
			return nil, err
		}
	}
	return x.notes(), nil
}

// cutter makes the segments of a core.
type cutter struct {
	core     *elfcore.Core
	space    *replay.AddressSpace
	step     format.Step // of the core
	captured format.Step // the last at which memory was looked at
	page     [addr.PageSize]byte

	oldest               format.Step // of what is in the core
	data, files, unknown uint64      // bytes in it, left to files, and not in the log
	zeros, left          uint64      // zeros in it, and left out because there were too many
}

// mapping adds what is known of one mapping.
func (x *cutter) mapping(v vma.VMA) error {
	at := v.Start
	for run, err := range x.space.Pages(v.Range) {
		if err != nil {
			return err
		}
		r := addr.Reach(run.Addr, run.N*addr.PageSize).Intersect(v.Range)
		if r.Empty() {
			continue
		}
		x.absent(v, addr.Range{Start: at, End: r.Start})
		at = r.End
		if err := x.run(v, run, r); err != nil {
			return err
		}
	}
	x.absent(v, addr.Range{Start: at, End: v.End})
	return nil
}

// run adds pages of v of which the same is known.
func (x *cutter) run(v vma.VMA, run replay.Run, r addr.Range) error {
	// New since memory was last looked at, and likely written to.
	unsure := run.What == format.PageZero && run.AsOf > x.captured && run.AsOf != x.step
	switch {
	case run.Mixed:
		parts, err := x.space.Stretches(r.Start, &x.page)
		if err != nil {
			return err
		}
		for _, part := range parts {
			if part.Err != nil || !part.Call && (unsure || run.What == format.PageFile) {
				x.absent(v, part.Range)
				continue
			}
			x.bytes(v, part.Range, part.AsOf)
		}
	case run.What == format.PageData:
		x.bytes(v, r, run.AsOf)
	case unsure:
		x.absent(v, r)
	case run.What == format.PageZero && r.Len() <= maxZeros && v.Prot&(addr.Read|addr.Write|addr.Exec) != 0:
		if x.zeros+r.Len() > maxZeros {
			x.left += r.Len()
			return nil
		}
		x.zeros += r.Len()
		x.add(v, r, elfcore.Zero)
	case run.What == format.PageZero: // a reservation
	default:
		x.absent(v, r)
	}
	return nil
}

// bytes adds what the log has as it was at a step.
func (x *cutter) bytes(v vma.VMA, r addr.Range, asOf format.Step) {
	x.add(v, r, elfcore.Data)
	x.data += r.Len()
	x.oldest = min(x.oldest, asOf)
}

func (x *cutter) add(v vma.VMA, r addr.Range, what elfcore.Content) {
	if n := len(x.core.Segments); n > 0 {
		last := &x.core.Segments[n-1]
		if last.End == r.Start && last.What == what && r.Start != v.Start {
			last.End = r.End
			return
		}
	}
	x.core.Segments = append(x.core.Segments, elfcore.Segment{Range: r, Prot: v.Prot, What: what})
}

func (x *cutter) absent(v vma.VMA, r addr.Range) {
	if v.File() {
		x.files += r.Len()
	} else {
		x.unknown += r.Len()
	}
}

// notes says how old the memory is, and what is left out.
func (x *cutter) notes() (notes []string) {
	if x.data > 0 && x.oldest < x.step {
		notes = append(notes, fmt.Sprintf("memory is as of step %d or later", x.oldest))
	}
	if x.files > 0 {
		notes = append(notes, analyze.Size(x.files)+" are left to the mapped files")
	}
	if x.left > 0 {
		notes = append(notes, fmt.Sprintf("%s that hold zeros are left out: %s of them are in the core", analyze.Size(x.left), analyze.Size(x.zeros)))
	}
	if x.unknown > 0 {
		notes = append(notes, analyze.Size(x.unknown)+" of memory are not in the log: the core leaves them out")
	}
	return notes
}
