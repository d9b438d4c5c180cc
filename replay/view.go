package replay

import (
	"cmp"
	"fmt"
	"iter"
	"slices"
	"time"

	"memtrace/format"
	"memtrace/format/addr"
	"memtrace/format/arch"
	"memtrace/format/vma"
)

// PageSource gives the bytes of captured pages: a log, or for a live session
// what the recorder has at hand.
type PageSource interface {
	Page(ref format.PageRef, dst *[addr.PageSize]byte) error
	// Blob reads what a call wrote (format.Written).
	Blob(p []byte, off uint64) error
}

// View is the state at a step: of a log, or of a living program.
type View struct {
	Step  format.Step
	State *format.State
	Pages PageSource
	Files FileSource // may be nil: file pages are unknown then
	Start time.Time  // of the recording: files changed since are not trusted
	// Symbols are what names mean; nil: they have no meaning.
	Symbols *Symbols
	// Live, if not nil, is where memory is read instead: a View of a living
	// program.
	Live LiveMemory
}

// Process is a process that lives at the step of its View.
type Process struct {
	No      uint32 // the log's process number
	PID     uint32 // the kernel's
	Parent  uint32 // No of the parent, 0 if it is not traced
	MM      uint32
	Arch    arch.ID
	Threads []format.Thread // by number
	view    *View
}

// Processes are those that live, in the order of their birth.
func (v *View) Processes() []*Process {
	by := map[uint32]*Process{}
	var ps []*Process
	for _, t := range sortedThreads(v.State, func(*format.Thread) bool { return true }) {
		p := by[t.Proc]
		if p == nil {
			p = &Process{No: t.Proc, PID: t.TGID, Parent: t.Parent, MM: t.MM, Arch: t.Arch, view: v}
			by[t.Proc] = p
			ps = append(ps, p)
		}
		p.Threads = append(p.Threads, t)
	}
	slices.SortFunc(ps, func(a, b *Process) int { return cmp.Compare(a.No, b.No) })
	return ps
}

// Process finds a living process by the kernel's pid of it or of one of its
// threads.
func (v *View) Process(pid uint32) (*Process, error) {
	ps := v.Processes()
	for _, p := range ps {
		if p.PID == pid {
			return p, nil
		}
	}
	for _, p := range ps {
		if slices.ContainsFunc(p.Threads, func(t format.Thread) bool { return t.TID == pid }) {
			return p, nil
		}
	}
	return nil, fmt.Errorf("process %d at step %d: %w", pid, v.Step, ErrNoProcess)
}

// ByNo finds a living process by the log's number.
func (v *View) ByNo(no uint32) (*Process, error) {
	for _, p := range v.Processes() {
		if p.No == no {
			return p, nil
		}
	}
	return nil, fmt.Errorf("process number %d at step %d: %w", no, v.Step, ErrNoProcess)
}

// Space is the process's address space. A process between its last thread's end
// and its wait has none. One without a single mapping is one of which the recorder
// could not ask: nothing runs without any.
func (p *Process) Space() (*AddressSpace, error) {
	mm := p.view.State.MMs[p.MM]
	switch {
	case mm == nil:
		return nil, fmt.Errorf("process %d at step %d: its address space is gone", p.PID, p.view.Step)
	case mm.VMAs.Len() == 0:
		return nil, fmt.Errorf("process %d at step %d: %w (%s)", p.PID, p.view.Step, ErrUnknown, noMappings)
	}
	return &AddressSpace{view: p.view, mm: mm}, nil
}

// noMappings is why nothing is known of an address space without a single mapping.
const noMappings = "mappings not known"

// Space is address space number mm.
func (v *View) Space(mm uint32) (*AddressSpace, bool) {
	m := v.State.MMs[mm]
	return &AddressSpace{view: v, mm: m}, m != nil
}

// AddressSpace is what a process had mapped at a step, and what it held as far
// as the log knows.
type AddressSpace struct {
	view  *View
	mm    *format.MM
	parts []Stretch // scratch

	registers *registerNames // that addresses may name; nil: none
}

// No is the log's number of the address space.
func (s *AddressSpace) No() uint32 { return s.mm.No }

// Mappings are in ascending order.
func (s *AddressSpace) Mappings() iter.Seq[vma.VMA] { return s.mm.VMAs.All() }

// Set is the mappings as a set, which must not be changed.
func (s *AddressSpace) Set() *vma.Set { return s.mm.VMAs }

// AppendMaps appends /proc/PID/maps as it was, byte for byte.
func (s *AddressSpace) AppendMaps(b []byte) []byte { return s.mm.VMAs.AppendMaps(b) }

// UnknownError says from which address on memory could not be given. It wraps
// ErrUnmapped or ErrUnknown.
type UnknownError struct {
	Addr addr.Addr
	Step format.Step
	Why  string // what more there is to say
	Err  error
}

func (e *UnknownError) Error() string {
	s := fmt.Sprintf("%v at step %d: %v", e.Addr, e.Step, e.Err)
	if e.Why != "" {
		s += " (" + e.Why + ")"
	}
	return s
}

func (e *UnknownError) Unwrap() error { return e.Err }

// capture is what was captured of the page that holds a: its bytes in dst, and
// the step of that.
func (s *AddressSpace) capture(a addr.Addr, dst *[addr.PageSize]byte) (asOf format.Step, err error) {
	fail := func(err error, why string) (format.Step, error) {
		return 0, &UnknownError{a, s.view.Step, why, err}
	}
	v, ok := s.mm.VMAs.Find(a)
	switch {
	case !ok && s.mm.VMAs.Len() == 0:
		return fail(ErrUnknown, noMappings)
	case !ok:
		return fail(ErrUnmapped, "")
	}
	if s.view.Live != nil {
		if n, _ := s.view.Live.ReadMem(s.mm.No, dst[:], a.PageDown()); n < len(dst) {
			return fail(ErrUnknown, "the kernel would not let it be read")
		}
		return s.view.Step, nil
	}
	info, ok := s.mm.Page(a.PageDown())
	if !ok {
		return fail(ErrUnknown, "not captured up to this step")
	}
	switch info.What {
	case format.PageData:
		if info.Ref.Redacted() {
			return fail(ErrUnknown, "redacted")
		}
		if err := s.view.Pages.Page(info.Ref, dst); err != nil {
			return 0, fmt.Errorf("page %v at step %d: %w", a.PageDown(), s.view.Step, err)
		}
		return info.AsOf, nil
	case format.PageZero:
		*dst = [addr.PageSize]byte{}
		return info.AsOf, nil
	case format.PageFile:
		if s.view.Files == nil {
			return fail(ErrUnknown, "the bytes are those of "+v.Name)
		}
		if err := s.view.Files.ReadMapped(v, uint64(a.PageDown()-v.Start)+v.Offset, s.view.Start, dst); err != nil {
			return fail(ErrUnknown, err.Error())
		}
		return info.AsOf, nil
	case format.PageUnreadable:
		if info.Err != nil {
			return 0, fmt.Errorf("page %v at step %d: %w", a.PageDown(), s.view.Step, info.Err)
		}
		return fail(ErrUnknown, "the kernel would not let it be read")
	}
	return fail(ErrUnknown, "no longer what was captured")
}
