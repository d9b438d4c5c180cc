//go:build linux

// This file joins the recording of calls inside programs, of record/inside, to the recorder, and
// hides the code from the log.

package record

import (
	"slices"

	"memtrace/format"
	"memtrace/format/addr"
	"memtrace/format/arch"
	"memtrace/format/vma"
	"memtrace/record/inproc"
	"memtrace/record/inside"
	"memtrace/record/tracee"
)

// tellOutside says in the log why no call is recorded inside a program although that was
// asked for, and to the user if it was to be done always.
func tellOutside(r *Recorder) {
	if r.inside != nil || r.opts.InProcess == inside.Off {
		return
	}
	why := r.opts.byStops()
	insider{r}.Outside(0, why, format.UntilEnd)
	if r.opts.InProcess == inside.Always {
		r.warn("calls are recorded by stops, not inside the program: %s", why)
	}
}

// insider is the host of calls that are recorded inside programs.
type insider struct{ r *Recorder }

func (h insider) Space(t *tracee.Thread) *inside.Space   { return &memoryOf(t).inside }
func (h insider) Thread(t *tracee.Thread) *inside.Thread { return &threadOf(t).inside }

func (h insider) Returned(t *tracee.Thread, c *tracee.Call) { h.r.Returned(t, c) }
func (h insider) Status(tid int) ([]byte, error)            { return h.r.kernel.status(tid) }

// Outside writes why calls are recorded by stops; no is a thread of the process, 0 for all.
func (h insider) Outside(no uint32, why string, until format.Until) {
	h.r.emit(&format.Event{Thread: no, Record: &format.Outside{Until: until, Why: why}})
}

// Hinders says what in an address space keeps a thread from recording its calls now, "" for nothing.
func (h insider) Hinders(t *tracee.Thread) string {
	switch m := memoryOf(t); {
	case m.untracedUsers:
		return "somebody who is not traced shares its memory"
	case m.Rings:
		return "it has an io_uring"
	case m.ownUffd || h.r.uffds:
		return "there is a userfaultfd"
	case m.table.Grows():
		return "memory that is no stack may grow by itself"
	}
	return ""
}

// choice says what becomes of a call that could be recorded inside.
func (h insider) choice(nr uint32) inproc.Choice {
	switch {
	case !h.r.set.Has(arch.X86_64, nr):
		return inproc.Passes
	case h.r.opts.StackDepth > 0 && h.r.opts.Stacks.Has(arch.X86_64, nr):
		return inproc.Stops
	}
	return inproc.Records
}

// hidingKernel opens address spaces as they would be without our code.
type hidingKernel struct{ kernel }

func (k hidingKernel) open(tid int) (opened, error) {
	o, err := k.kernel.open(tid)
	if err != nil {
		return nil, err
	}
	return hiding{o}, nil
}

// hiding is an address space as it would be without our code.
type hiding struct{ opened }

// Mapping is space.Kernel's.
func (h hiding) Mapping(a addr.Addr) (vma.VMA, bool, error) {
	for {
		v, ok, err := h.opened.Mapping(a)
		if err != nil || !ok || !inside.Ours(v) {
			return v, ok, err
		}
		a = v.End
	}
}

// MapsText is space.Kernel's.
func (h hiding) MapsText() ([]byte, error) {
	text, err := h.opened.MapsText()
	if err != nil {
		return text, err
	}
	return inside.WithoutOurs(text), nil
}

// Maps are all mappings.
func (h hiding) Maps() ([]vma.VMA, error) {
	vs, err := h.opened.Maps()
	return slices.DeleteFunc(vs, inside.Ours), err
}
