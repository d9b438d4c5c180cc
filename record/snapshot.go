//go:build linux

package record

import (
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
}

// DefaultPolicy is exec,exit,signal,interval=1s.
func DefaultPolicy() Policy {
	return Policy{Exec: true, Exit: true, Signal: true, Interval: time.Second}
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
			p.Exit = true
		case "signal":
			p.Signal = true
		case "step":
			p.Step = true
		case "none":
			p = Policy{}
		case "default":
			p = DefaultPolicy()
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

// policy takes the snapshots that are due after a call of t.
func (r *Recorder) policy(t *thread) {
	p := &r.opts.Snapshot
	switch {
	case p.Step:
		r.snapshot(t.mm, t, "step")
	case p.Syscalls.Has(t.call.Arch, t.call.Nr):
		r.snapshot(t.mm, t, "syscall")
	case p.Every > 0 && uint64(r.event.Step)-r.lastEvery >= p.Every:
		r.lastEvery = uint64(r.event.Step)
		r.snapshot(t.mm, t, "every")
	}
}

// intervalSnapshot reads every address space.
func (r *Recorder) intervalSnapshot() {
	for mm := range r.mms {
		for t := range mm.users {
			if !t.exiting {
				r.snapshot(mm, t, "interval")
				break
			}
		}
	}
}

// snapshotChunk is how much memory is read at a time.
const snapshotChunk = 1 << 20

// snapshot reads what is resident in an address space and no file has, with all
// its threads held.
func (r *Recorder) snapshot(mm *space, t *thread, reason string) {
	if mm.fs == nil || r.stop || r.result.Err != nil {
		return
	}
	if r.buf == nil {
		r.buf = make([]byte, snapshotChunk)
	}
	r.hold(mm)
	begin := time.Now()
	r.refreshGrowth(mm)
	var pages uint64
	for v := range mm.vmas.Clone().All() {
		pages += r.readMapping(mm, v)
	}
	r.spaceRegisters(mm)
	pause := time.Since(begin)
	r.emit(t, &format.Snapshot{MM: mm.no, Reason: reason, Mechanism: format.DirtyCompare, Full: true,
		Pages: pages, PauseNS: uint64(pause)})
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
	}
}

// Where the log has no use for a mapping's bytes: the kernel's own pages.
func unread(v vma.VMA) bool {
	return v.Kind == vma.VVAR || v.Name == "[vsyscall]" || strings.HasPrefix(v.Name, "/dev/") && !strings.HasPrefix(v.Name, "/dev/zero") && !strings.HasPrefix(v.Name, "/dev/shm/")
}

// readMapping hands the resident pages of a mapping to the writer and returns
// how many there were. What private anonymous memory does not have yet reads as
// zero; what a private file mapping has not changed is the file's.
func (r *Recorder) readMapping(mm *space, v vma.VMA) (pages uint64) {
	if unread(v) {
		return 0
	}
	if v.Kind == vma.VDSO { // a mapping of the kernel's: what is not resident yet is not zero
		return r.readPages(mm, v.Range)
	}
	const present = procfs.PagePresent | procfs.PageSwapped
	private := v.Prot&addr.Shared == 0
	if private && !v.File() {
		r.pages(&format.Pages{MM: mm.no, Addr: v.Start, N: v.Len() / addr.PageSize, What: format.PageZero})
	}
	err := mm.fs.Scan(v.Range, present, present|procfs.PageIsFile|procfs.PageIsZero, false, func(g procfs.Region) error {
		switch {
		case g.Categories&procfs.PageIsZero != 0:
			r.pages(&format.Pages{MM: mm.no, Addr: g.Start, N: g.Len() / addr.PageSize, What: format.PageZero})
		case v.Kind == vma.FilePrivate && g.Categories&procfs.PageIsFile != 0,
			v.Kind == vma.FileShared && v.Prot&addr.Write == 0:
			return nil
		default:
			pages += r.readPages(mm, g.Range)
		}
		return nil
	})
	if err != nil && errors.Is(err, errors.ErrUnsupported) {
		r.warn("this kernel has no PAGEMAP_SCAN (Linux 6.7): memory is read whole")
		pages += r.readPages(mm, v.Range)
	}
	return pages
}

func (r *Recorder) readPages(mm *space, at addr.Range) (pages uint64) {
	for a := at.Start; a < at.End; {
		n := min(uint64(at.End-a), snapshotChunk)
		got, _ := mm.fs.ReadMem(r.buf[:n], a)
		got -= got % addr.PageSize
		if got > 0 {
			r.pages(&format.Pages{MM: mm.no, Addr: a, N: uint64(got) / addr.PageSize, What: format.PageData, Data: r.buf[:got]})
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
	for _, c := range r.changes {
		r.writerChange(c)
	}
	clear(r.changes)
	r.changes = r.changes[:0]
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
	waiting := 0
	for t := range mm.users {
		if t.running && !t.inCall && !t.listening && !t.exiting && !t.asked && ptrace.Interrupt(t.tid) == nil {
			t.asked = true
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
		if t := r.threads[s.TID]; t != nil && t.mm == mm && t.running && t.asked {
			t.running = false
			waiting--
		}
		r.backlog = append(r.backlog, s)
	}
}

// holdPatience is how long to wait for a thread that does not stop: one that
// sleeps uninterruptibly in the kernel, which runs no code of the program
// either.
const holdPatience = 50 * time.Millisecond
