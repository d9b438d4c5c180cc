//go:build linux

// This file closes and opens memory, by calls that threads of the program make.

package pagetrace

import (
	"cmp"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"memtrace/format/addr"
	"memtrace/format/vma"
	"memtrace/record/procfs"
	"memtrace/record/refs"
	"memtrace/record/tracee"
)

// errNotOpened is why memory could not be closed or opened.
var errNotOpened = errors.New("a protection could not be set")

// eligible reports whether the references to a mapping can be traced: the program may use
// it, its protection can be set from within, and its pieces become one mapping again. The
// kernel does not join mappings of System V memory (shm_vm_ops has a close, mm/vma.c).
func eligible(v vma.VMA) bool {
	return v.Prot&7 != 0 && refs.Traceable(v) && !procfs.Device(v) && v.Kind != vma.SysV
}

// adopt has all mappings traced that can be and are not yet, and returns what of them is
// to be closed. Nobody uses yet what is in unused.
func (w *Warden) adopt(m *Space, unused addr.Range) (fresh addr.Set) {
	p := &m.trace
	for v := range m.Mappings().All() {
		if !eligible(v) {
			w.passOver(m, v)
			continue
		}
		missing := addr.SetOf(v.Range)
		for part := range p.Space.TracedIn(v.Range) {
			missing.Remove(part)
		}
		for u := range p.refused.Within(v.Range) {
			missing.Remove(u)
		}
		if missing.Count() == 0 {
			continue
		}
		if v.Prot&addr.Write != 0 && v.Prot&addr.Shared == 0 {
			m.rootAnon(missing, unused)
		}
		for r := range missing.All() {
			p.Trace(r)
			fresh.Add(r)
		}
		if v.Kind == vma.MainStack {
			p.stack = v.Start
		}
	}
	return fresh
}

// passOver says once of an address space that mappings of a kind are not traced.
func (w *Warden) passOver(m *Space, v vma.VMA) {
	p := &m.trace
	if v.Prot&7 == 0 || p.passed || !(v.Kind == vma.SysV || procfs.Device(v)) {
		return
	}
	p.passed = true
	w.host.Lost(0, fmt.Sprintf("page references to %v memory of address space %d, and to others of its kind", v.Kind, m.MM()))
}

// rootAnon writes a byte back into a private mapping that is about to be cut: all pieces
// then share what the kernel keeps of its anonymous pages (anon_vma), and become one again.
// The page is given back by giveBack. That is done where nobody uses the mapping yet, and
// where the page is not there.
func (m *Space) rootAnon(rs addr.Set, unused addr.Range) {
	var b [1]byte
	for r := range rs.All() {
		page := addr.Range{Start: r.Start, End: r.Start + addr.PageSize}
		there := false
		_, err := m.Kernel().Scan(page, procfs.PagePresent|procfs.PageSwapped, procfs.PagePresent|procfs.PageSwapped, false, 1, func(procfs.Region) { there = true })
		if there || err != nil || m.OwnUffd() || page.Intersect(unused) != page {
			continue
		}
		if n, err := m.Kernel().ReadMem(b[:], r.Start); n == 1 && err == nil {
			if n, _ := m.Kernel().WriteMem(b[:], r.Start); n == 1 {
				m.trace.rooted = append(m.trace.rooted, r.Start)
			}
		}
	}
}

// giveBack gives back the pages that rootAnon has written to.
func (w *Warden) giveBack(m *Space, s *tracee.Stepper) {
	const dontNeed = 4 // MADV_DONTNEED
	for _, a := range m.trace.rooted {
		_, _ = s.Call("madvise", uint64(a), addr.PageSize, dontNeed)
	}
	m.trace.rooted = m.trace.rooted[:0]
}

// closeAll closes what a phase begins with.
func (w *Warden) closeAll(m *Space, t *tracee.Thread, s *tracee.Stepper) {
	for _, r := range m.trace.ToClose(m.Mappings()) {
		w.close(m, t, s, r)
	}
	m.trace.late.Clear()
}

// close lets nobody in. What the kernel refuses is not traced.
func (w *Warden) close(m *Space, t *tracee.Thread, s *tracee.Stepper, r addr.Range) {
	ret, err := s.Protect(r, 0)
	if err != nil || ret == 0 {
		return
	}
	for _, part := range m.trace.Traced(r) {
		for v := range m.Mappings().Overlapping(part) {
			in := v.Intersect(part)
			if ret, err = s.Protect(in, 0); err != nil || ret == 0 {
				continue
			}
			if unix.Errno(-ret) == unix.ENOMEM { // some of it has been unmapped, which is not known yet
				m.trace.missed = true
				continue
			}
			_, _ = s.Protect(in, v.Prot)
			m.trace.Forget(in)
			m.trace.refused.Add(in)
			w.host.Lost(t.No, fmt.Sprintf("page references to %v of address space %d: %v", in, m.MM(), unix.Errno(-ret)))
		}
	}
}

// closeClosed closes what of some ranges the program may not use.
func (w *Warden) closeClosed(m *Space, t *tracee.Thread, s *tracee.Stepper, rs addr.Set) {
	for r := range rs.All() {
		closed := m.trace.Closed(r)
		for c := range closed.All() {
			w.close(m, t, s, c)
		}
	}
}

// settle closes what has waited for a thread that stands.
func (w *Warden) settle(m *Space, t *tracee.Thread, s *tracee.Stepper) {
	late := m.trace.late
	m.trace.late = addr.Set{}
	w.closeClosed(m, t, s, late)
}

// open lets the program in again where it believes it may. It goes on behind what cannot be
// opened.
func (w *Warden) open(m *Space, s *tracee.Stepper, rs addr.Set) (err error) {
	for r := range rs.All() {
		for v := range m.Mappings().Overlapping(r) {
			if v.Prot&7 == 0 {
				continue
			}
			e := w.openPart(s, v.Intersect(r), v.Prot)
			if errors.Is(e, tracee.ErrPreempted) {
				return e
			}
			if e != nil {
				e = w.openAround(m, s, v.Intersect(r), v.Prot)
			}
			err = cmp.Or(err, e)
		}
	}
	return err
}

// openPart is open for a part of one mapping.
func (w *Warden) openPart(s *tracee.Stepper, r addr.Range, prot addr.Prot) error {
	ret, err := s.Protect(r, prot)
	if err == nil && ret != 0 {
		err = fmt.Errorf("%w: mprotect %v: %w", errNotOpened, r, unix.Errno(-ret))
	}
	return err
}

// openAround is openPart for a part of which some may have been unmapped, by a call of
// another thread that is not over.
func (w *Warden) openAround(m *Space, s *tracee.Stepper, r addr.Range, prot addr.Prot) (err error) {
	rest, moving := addr.SetOf(r), m.mayChange(nil)
	for part := range moving.Within(r) {
		rest.Remove(part)
		e := w.openPart(s, part, prot)
		if part == r {
			return e
		}
	}
	for part := range rest.All() {
		err = cmp.Or(err, w.openPart(s, part, prot))
	}
	return err
}

// openAll opens everything.
func (w *Warden) openAll(m *Space, s *tracee.Stepper) {
	_ = w.open(m, s, addr.SetOf(m.trace.Traced(refs.Everything)...))
}
