//go:build linux

package record

import (
	"context"
	"errors"
	"runtime"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"memtrace/format"
	"memtrace/format/addr"
	"memtrace/format/arch"
	"memtrace/format/vma"
	"memtrace/record/procfs"
	"memtrace/record/ptrace"
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

// stopPatience is how long Hold waits for a thread to stop.
const stopPatience = 2 * time.Second

// Hold stops all threads of a process, calls f, and lets them go on as if
// nothing had been. It returns for how long they stood still.
func Hold(ctx context.Context, pid int, f func(*Held) error) (pause time.Duration, err error) {
	done := make(chan struct{})
	quit := make(chan struct{})
	var run func()
	run = func() {
		runtime.LockOSThread() // and never unlocked: what is still traced at its end is let go
		if unix.Gettid() == unix.Getpid() {
			go run()
			<-quit // the main thread cannot end
			return
		}
		defer close(done)
		h := holder{pid: pid, threads: map[int]*heldThread{}}
		begin := time.Now()
		if err = h.stop(ctx); err == nil {
			var held *Held
			if held, err = h.describe(); err == nil {
				err = f(held)
				held.fs.Close()
			}
		}
		h.release()
		pause = time.Since(begin)
	}
	go run()
	<-done
	close(quit)
	return pause, err
}

type heldThread struct {
	stopped bool
	kind    ptrace.StopKind
	sig     int // to be delivered when it goes on
}

type holder struct {
	pid     int
	threads map[int]*heldThread
}

// stop seizes and stops all threads, also those that appear meanwhile.
func (h *holder) stop(ctx context.Context) error {
	until := time.Now().Add(stopPatience)
	for {
		tids, err := procfs.Threads(h.pid)
		if err != nil {
			if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ESRCH) {
				return errors.New("no such process")
			}
			return err
		}
		fresh := false
		for _, tid := range tids {
			if h.threads[tid] != nil {
				continue
			}
			switch err := ptrace.Seize(tid, 0); {
			case err == nil:
				h.threads[tid] = new(heldThread)
				fresh = true
				if err := ptrace.Interrupt(tid); err != nil && !errors.Is(err, ptrace.ErrGone) {
					return err
				}
			case errors.Is(err, ptrace.ErrGone):
			default:
				return tracingError(err)
			}
		}
		if len(h.threads) == 0 {
			return errors.New("no such process")
		}
		late, err := h.wait(ctx, until)
		if err != nil {
			return err
		}
		if !fresh || late {
			return nil
		}
	}
}

// wait waits for the threads that have not stopped yet.
func (h *holder) wait(ctx context.Context, until time.Time) (late bool, err error) {
	for pause := 10 * time.Microsecond; ; {
		waiting := false
		for _, t := range h.threads {
			waiting = waiting || !t.stopped
		}
		if !waiting {
			return false, nil
		}
		s, err := ptrace.Wait(true)
		switch {
		case errors.Is(err, ptrace.ErrInterrupted):
			continue
		case errors.Is(err, ptrace.ErrNone):
			return false, errors.New("it has ended")
		case err != nil:
			return false, err
		case s.TID == 0:
			if err := ctx.Err(); err != nil {
				return false, err
			}
			if time.Now().After(until) {
				return true, nil
			}
			time.Sleep(pause)
			pause = min(2*pause, time.Millisecond)
			continue
		}
		t := h.threads[s.TID]
		switch {
		case t == nil:
		case s.Kind == ptrace.Exited || s.Kind == ptrace.Killed:
			delete(h.threads, s.TID)
		default:
			t.stopped, t.kind = true, s.Kind
			if s.Kind == ptrace.Signal {
				t.sig = s.Sig
			}
		}
	}
}

// release lets the threads go on.
func (h *holder) release() {
	for tid, t := range h.threads {
		if !t.stopped {
			continue
		}
		if t.kind == ptrace.Trap {
			undoInterrupt(tid)
		}
		_ = ptrace.Detach(tid, t.sig)
	}
}

// describe reads what the process is and which of its pages are there.
func (h *holder) describe() (*Held, error) {
	fs, err := procfs.Open(h.pid)
	if err != nil {
		return nil, err
	}
	p := &Held{
		PID: uint32(h.pid), Path: procfs.Exe(h.pid), Argv: procfs.Cmdline(h.pid), Auxv: procfs.Auxv(h.pid),
		State: format.NewState(), Regs: map[uint32][]uint64{}, XStates: map[uint32][]byte{}, fs: fs, Arch: arch.X86_64,
	}
	if status, err := procfs.Status(h.pid); err == nil {
		number := func(name string) uint32 {
			s, _ := procfs.Field(status, name)
			s, _, _ = strings.Cut(s, "\t")
			n, _ := strconv.ParseUint(s, 10, 32)
			return uint32(n)
		}
		p.PPID, p.UID, p.GID = number("PPid"), number("Uid"), number("Gid")
	}
	if err := h.fill(p); err != nil {
		fs.Close()
		return nil, err
	}
	p.State.Step = 0
	return p, nil
}

func (h *holder) fill(p *Held) error {
	var regs ptrace.Regs
	if t := h.threads[h.pid]; t != nil && t.stopped && ptrace.GetRegs(h.pid, &regs) == nil && regs[ptrace.RegCS] == user32CS {
		p.Arch = arch.I386
	}
	changes := []format.Change{&format.MMNew{MM: 1}}
	no := uint32(1)
	for tid, t := range h.threads {
		th := format.Thread{No: 1, TID: uint32(tid), TGID: p.PID, NSTID: uint32(tid), Proc: 1, MM: 1, Arch: p.Arch}
		if tid != h.pid {
			no++
			th.No = no
		}
		changes = append(changes, &format.ThreadSet{Thread: th})
		if !t.stopped {
			p.Restless = append(p.Restless, tid)
		} else if ptrace.GetRegs(tid, &regs) == nil {
			p.Regs[th.No] = append([]uint64(nil), registersOf(p.Arch, &regs, new([27]uint64))...)
			x := make([]byte, format.MaxXState)
			if n, err := ptrace.GetRegSet(tid, ptrace.NTX86XState, x); err == nil {
				p.XStates[th.No] = x[:n:n]
			}
		}
	}
	vs, err := p.fs.Maps()
	if err != nil {
		return err
	}
	for _, v := range vs {
		changes = append(changes, &format.VMASet{MM: 1, VMA: v})
	}
	for _, c := range changes {
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

// pages notes where the bytes of a mapping's pages are: those that are its own
// are data; what it has not touched is zero, or the file's.
func (p *Held) pages(v vma.VMA) error {
	set := func(r addr.Range, what format.PageKind) error {
		return p.State.Apply(&format.Pages{MM: 1, Addr: r.Start, N: r.Len() / addr.PageSize, What: what})
	}
	switch {
	case unread(v):
		return nil
	case v.Kind == vma.VDSO:
		return p.data(v.Range)
	}
	rest := format.PageFile
	if v.Prot&addr.Shared == 0 && !v.File() {
		rest = format.PageZero
	}
	if err := set(v.Range, rest); err != nil {
		return err
	}
	const present = procfs.PagePresent | procfs.PageSwapped
	for next := v.Start; next < v.End; {
		var regions []procfs.Region
		var err error
		next, err = p.fs.Scan(addr.Range{Start: next, End: v.End}, present, present|procfs.PageIsFile|procfs.PageIsZero, false, 0,
			func(g procfs.Region) { regions = append(regions, g) })
		if errors.Is(err, errors.ErrUnsupported) { // before Linux 6.7
			return p.data(v.Range)
		}
		if err != nil {
			return err
		}
		for _, g := range regions {
			switch {
			case g.Categories&procfs.PageIsZero != 0:
				err = set(g.Range, format.PageZero)
			case v.Kind == vma.FilePrivate && g.Categories&procfs.PageIsFile != 0, v.Kind == vma.FileShared && v.Prot&addr.Write == 0:
			default:
				err = p.data(g.Range)
			}
			if err != nil {
				return err
			}
		}
	}
	return nil
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
