//go:build linux

// This file describes a living process whose threads all stand still, as a state of
// which the bytes are read when they are asked for.

package record

import (
	"context"
	"errors"
	"time"

	"memtrace/format"
	"memtrace/format/addr"
	"memtrace/format/arch"
	"memtrace/format/proctext"
	"memtrace/format/vma"
	"memtrace/record/dirty"
	"memtrace/record/procfs"
	"memtrace/record/snapshot"
	"memtrace/record/tracee"
)

// Held is a living process whose threads all stand still. It is the source of
// the pages that its State refers to.
type Held struct {
	PID, PPID uint32
	UID, GID  uint32
	Arch      arch.ID
	Path      string
	Argv      []string
	Auxv      []byte
	State     *format.State       // of step 0
	Regs      map[uint32][]uint64 // by thread number
	XStates   map[uint32][]byte   // their extended states (NT_X86_XSTATE)
	// Restless are threads that did not stop: they sleep in the kernel where
	// nothing wakes them, and run no code of the program either.
	Restless []int
	fs       *procfs.Process
	ahead    []byte // what was read at from: pages are mostly asked for in order
	from     addr.Addr
}

// readAhead is how much is read at once.
const readAhead = 256 << 10

// Hold stops all threads of a process, calls f, and lets them go on as if
// nothing had been. It returns for how long they stood still.
func Hold(ctx context.Context, pid int, f func(*Held) error) (pause time.Duration, err error) {
	return tracee.Freeze(ctx, pid, func(threads []tracee.Frozen) error {
		held, err := describe(pid, threads)
		if err != nil {
			return err
		}
		defer held.fs.Close()
		return f(held)
	})
}

// describe reads what the process is and which of its pages are there.
func describe(pid int, threads []tracee.Frozen) (*Held, error) {
	fs, err := procfs.Open(pid)
	if err != nil {
		return nil, err
	}
	p := &Held{
		PID: uint32(pid), Path: procfs.Exe(pid), Argv: procfs.Cmdline(pid), Auxv: procfs.Auxv(pid),
		State: format.NewState(), Regs: map[uint32][]uint64{}, XStates: map[uint32][]byte{}, fs: fs, Arch: arch.X86_64,
	}
	if status, err := procfs.Status(pid); err == nil {
		number := func(name string) uint32 {
			n, _ := proctext.Field(status, name).Number()
			return uint32(n)
		}
		p.PPID, p.UID, p.GID = number("PPid"), number("Uid"), number("Gid")
	}
	if err := p.fill(threads); err != nil {
		fs.Close()
		return nil, err
	}
	p.State.Step = 0
	return p, nil
}

func (p *Held) fill(threads []tracee.Frozen) error {
	state := []format.Change{&format.MMNew{MM: 1}}
	state = append(state, p.addThreads(threads)...)
	vs, err := p.fs.Maps()
	if err != nil {
		return err
	}
	for _, v := range vs {
		state = append(state, &format.VMASet{MM: 1, VMA: v})
	}
	for _, c := range state {
		if err := p.State.Apply(c); err != nil {
			return err
		}
	}
	for _, v := range vs {
		if err := p.pages(v); err != nil {
			return err
		}
	}
	return nil
}

// addThreads notes the threads of the process, and their registers.
func (p *Held) addThreads(threads []tracee.Frozen) (state []format.Change) {
	no := uint32(1)
	for _, t := range threads {
		p.Arch = t.Arch
		th := format.Thread{No: 1, TID: uint32(t.TID), TGID: p.PID, NSTID: uint32(t.TID), Proc: 1, MM: 1, Arch: p.Arch}
		if t.TID != int(p.PID) {
			no++
			th.No = no
		}
		state = append(state, &format.ThreadSet{Thread: th})
		if t.Regs == nil {
			p.Restless = append(p.Restless, t.TID)
			continue
		}
		p.Regs[th.No] = t.Regs
		if t.XState != nil {
			p.XStates[th.No] = t.XState
		}
	}
	return state
}

// pages notes where the bytes of a mapping's pages are: those that are its own
// are data; what it has not touched is zero, or the file's.
func (p *Held) pages(v vma.VMA) error {
	switch {
	case snapshot.Unread(v):
		return nil
	case snapshot.Always(v):
		return p.data(v.Range)
	}
	rest := format.PageFile
	if v.Prot&addr.Shared == 0 && !v.File() {
		rest = format.PageZero
	}
	if err := p.set(v.Range, rest); err != nil {
		return err
	}
	for next := v.Start; next < v.End; {
		var regions []procfs.Region
		var err error
		next, err = p.fs.Scan(addr.Range{Start: next, End: v.End}, dirty.Present, dirty.Reported, false, 0,
			func(g procfs.Region) { regions = append(regions, g) })
		if errors.Is(err, errors.ErrUnsupported) { // before Linux 6.7
			return p.data(v.Range)
		}
		for _, g := range regions {
			if err == nil {
				err = p.region(v, g)
			}
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// region notes where the bytes of pages are that are there.
func (p *Held) region(v vma.VMA, g procfs.Region) error {
	switch snapshot.Classify(v, g.Categories) {
	case snapshot.Zero:
		return p.set(g.Range, format.PageZero)
	case snapshot.Own:
		return p.data(g.Range)
	}
	return nil
}

// set notes what pages are that have no bytes of their own.
func (p *Held) set(r addr.Range, what format.PageKind) error {
	return p.State.Apply(&format.Pages{MM: 1, Addr: r.Start, N: r.Len() / addr.PageSize, What: what})
}

// data notes pages whose references are their own numbers.
func (p *Held) data(r addr.Range) error {
	const most = 1 << 14
	var refs []format.PageRef
	for a := r.Start; a < r.End; {
		n := min(uint64(r.End-a)/addr.PageSize, most)
		refs = refs[:0]
		for i := range n {
			refs = append(refs, format.PageRef((a.Page()+i)<<1))
		}
		if err := p.State.Apply(&format.Pages{MM: 1, Addr: a, N: n, What: format.PageData, Refs: refs}); err != nil {
			return err
		}
		a += addr.Addr(n * addr.PageSize)
	}
	return nil
}

// Page reads a page of the process.
func (p *Held) Page(ref format.PageRef, dst *[addr.PageSize]byte) error {
	return p.read(addr.Addr(uint64(ref)>>1<<addr.PageShift), dst)
}

// Blob is never asked for: no call was recorded.
func (p *Held) Blob([]byte, uint64) error { return errors.ErrUnsupported }

// ReadMapped reads a page of a mapped file through the process.
func (p *Held) ReadMapped(v vma.VMA, off uint64, _ time.Time, dst *[addr.PageSize]byte) error {
	return p.read(v.Start+addr.Addr(off-v.Offset), dst)
}

func (p *Held) read(a addr.Addr, dst *[addr.PageSize]byte) error {
	if off := uint64(a - p.from); off < uint64(len(p.ahead)) {
		copy(dst[:], p.ahead[off:])
		return nil
	}
	n := addr.PageSize
	if a == p.from+addr.Addr(len(p.ahead)) {
		n = readAhead
	}
	if p.ahead == nil {
		p.ahead = make([]byte, 0, readAhead)
	}
	got, err := p.fs.ReadMem(p.ahead[:n], a)
	got -= got % addr.PageSize
	p.from, p.ahead = a, p.ahead[:got]
	if got == 0 {
		return err
	}
	copy(dst[:], p.ahead)
	return nil
}
