//go:build linux

// This file stops all threads of a process that is not recorded, for as long as it
// takes to look at it.

package tracee

import (
	"context"
	"errors"
	"time"

	"golang.org/x/sys/unix"

	"memtrace/format"
	"memtrace/format/arch"
	"memtrace/record/ptrace"
)

// stopPatience is how long Freeze waits for a thread to stop.
const stopPatience = 2 * time.Second

// Frozen is a thread of a process whose threads all stand still.
type Frozen struct {
	TID  int
	Arch arch.ID // of its process
	// Regs are its registers in the order of Arch, nil for one that did not stop: it
	// sleeps in the kernel where nothing wakes it, and runs no code of the program
	// either.
	Regs   []uint64
	XState []byte // its extended state (NT_X86_XSTATE)
}

// Freeze stops all threads of a process, calls f with them, and lets them go on as
// if nothing had been. It returns for how long they stood still.
func Freeze(ctx context.Context, pid int, f func([]Frozen) error) (pause time.Duration, err error) {
	onThread(nil, func() {
		z := freezer{k: newLinux(), pid: pid, threads: map[int]*ptrace.Stop{}}
		begin := time.Now()
		if err = z.stop(ctx); err == nil {
			err = f(z.frozen())
		}
		z.release()
		pause = time.Since(begin)
	})
	return pause, err
}

type freezer struct {
	k       Kernel
	pid     int
	threads map[int]*ptrace.Stop // by tid: nil for one that has not stopped yet
}

// stop seizes and stops all threads, also those that appear meanwhile.
func (z *freezer) stop(ctx context.Context) error {
	until := time.Now().Add(stopPatience)
	for {
		tids, err := z.k.Threads(z.pid)
		if err != nil {
			if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ESRCH) {
				return errors.New("no such process")
			}
			return err
		}
		fresh, err := z.seize(tids)
		if err != nil {
			return err
		}
		if len(z.threads) == 0 {
			return errors.New("no such process")
		}
		late, err := z.wait(ctx, until)
		if err != nil {
			return err
		}
		if !fresh || late {
			return nil
		}
	}
}

// seize begins to stop the threads among tids that are not known yet, and reports
// whether there were any.
func (z *freezer) seize(tids []int) (fresh bool, err error) {
	for _, tid := range tids {
		if _, known := z.threads[tid]; known {
			continue
		}
		switch err := z.k.Seize(tid, 0); {
		case err == nil:
			z.threads[tid] = nil
			fresh = true
			if err := z.k.Interrupt(tid); err != nil && !errors.Is(err, ptrace.ErrGone) {
				return fresh, err
			}
		case errors.Is(err, ptrace.ErrGone):
		default:
			return fresh, refusal(err)
		}
	}
	return fresh, nil
}

// wait waits for the threads that have not stopped yet.
func (z *freezer) wait(ctx context.Context, until time.Time) (late bool, err error) {
	for pause := 10 * time.Microsecond; ; {
		waiting := false
		for _, s := range z.threads {
			waiting = waiting || s == nil
		}
		if !waiting {
			return false, nil
		}
		f, err := z.k.Next(true)
		switch {
		case errors.Is(err, ptrace.ErrInterrupted):
			continue
		case errors.Is(err, ptrace.ErrNone):
			return false, errors.New("it has ended")
		case err != nil:
			return false, err
		case f.TID == 0:
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
		_, known := z.threads[f.TID]
		switch {
		case !known:
		case f.Stop.Kind == ptrace.Exited || f.Stop.Kind == ptrace.Killed:
			delete(z.threads, f.TID)
		default:
			z.threads[f.TID] = &f.Stop
		}
	}
}

// image is what the process runs.
func (z *freezer) image() arch.ID {
	var regs ptrace.Regs
	if z.threads[z.pid] == nil || z.k.GetRegs(z.pid, &regs) != nil {
		return arch.X86_64
	}
	return imageArch(&regs)
}

// frozen describes the threads.
func (z *freezer) frozen() (all []Frozen) {
	id := z.image()
	for tid, s := range z.threads {
		t := Frozen{TID: tid, Arch: id}
		if regs := new(ptrace.Regs); s != nil && z.k.GetRegs(tid, regs) == nil {
			t.Regs = valuesOf(id, regs)
			x := make([]byte, format.MaxXState)
			if n, err := z.k.GetRegSet(tid, ptrace.NTX86XState, x); err == nil {
				t.XState = x[:n:n]
			}
		}
		all = append(all, t)
	}
	return all
}

// release lets the threads go on.
func (z *freezer) release() {
	for tid, s := range z.threads {
		if s == nil {
			continue
		}
		sig := 0
		switch s.Kind {
		case ptrace.Trap:
			undoInterrupt(z.k, tid)
		case ptrace.Signal:
			sig = s.Sig
		}
		_ = z.k.Detach(tid, sig)
	}
}
