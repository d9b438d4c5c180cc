//go:build linux

// This file lets a person look at a program, and change it, while one of its threads
// stands at a stop.

package record

import (
	"errors"
	"fmt"
	"strconv"

	"memtrace/format"
	"memtrace/format/addr"
	"memtrace/record/procfs"
)

// ErrNoThread is the error of a thread or process that is not traced.
var ErrNoThread = errors.New("no such thread")

// State is the state after the last event. It must not be changed.
func (p *Pause) State() *format.State { return p.r.log.log.State() }

// Regs are the registers of a stopped thread, in the order of its architecture.
func (p *Pause) Regs(tid uint32) ([]uint64, error) {
	t := p.r.group.Thread(int(tid))
	if t == nil {
		return nil, fmt.Errorf("thread %d: %w", tid, ErrNoThread)
	}
	regs := p.r.group.Registers(t)
	if regs == nil {
		return nil, fmt.Errorf("thread %d runs: it has no registers to show", tid)
	}
	return regs, nil
}

func (p *Pause) memory(mm uint32) (*memory, error) {
	for m := range p.r.memories {
		if m.MM() == mm && m.fs != nil {
			return m, nil
		}
	}
	return nil, fmt.Errorf("address space %d: %w", mm, procfs.ErrGone)
}

// ReadMem reads memory of an address space as it is now.
func (p *Pause) ReadMem(mm uint32, b []byte, a addr.Addr) (int, error) {
	m, err := p.memory(mm)
	if err != nil {
		return 0, err
	}
	return m.fs.ReadMem(b, a)
}

// WriteMem writes into an address space, read-only private mappings included,
// and writes the event with what was there before.
func (p *Pause) WriteMem(mm uint32, b []byte, a addr.Addr) error {
	m, err := p.memory(mm)
	if err != nil {
		return err
	}
	if len(b) == 0 {
		return nil
	}
	old := make([]byte, len(b))
	if _, err := m.fs.ReadMem(old, a); err != nil {
		return err
	}
	n, err := m.fs.WriteMem(b, a)
	if n > 0 {
		p.r.poked(m, a, old[:n], b[:n])
	}
	if err == nil && n < len(b) {
		err = fmt.Errorf("only %d of %d bytes could be written at %v", n, len(b), a)
	}
	return err
}

// poked writes the event of a write, with the pages as they are now.
func (r *Recorder) poked(m *memory, a addr.Addr, old, b []byte) {
	at, ok := addr.Span(a, uint64(len(b)))
	if !ok {
		return
	}
	at = at.PageAlign()
	pages := format.Pages{Addr: at.Start, N: at.Len() / addr.PageSize, What: format.PageAbsent}
	data := make([]byte, at.Len())
	if n, _ := m.fs.ReadMem(data, at.Start); n == len(data) {
		pages.What, pages.Data = format.PageData, data
	}
	m.given(pages)
	r.emit(&format.Event{Record: &format.Poke{MM: m.MM(), Addr: a, Old: old, New: append([]byte(nil), b...)}})
}

// Text reads what the kernel says now: a source as format.Sample names them, or
// another file of /proc/PID.
func (p *Pause) Text(name string, pid uint32) ([]byte, error) {
	switch name {
	case "meminfo", "vmstat":
		return procfs.ReadText("/proc/" + name)
	case "pressure":
		return procfs.ReadText("/proc/pressure/memory")
	}
	return procfs.ReadText("/proc/" + strconv.Itoa(int(pid)) + "/" + name)
}

// Detach ends the recording; the program runs on.
func (p *Pause) Detach() { p.r.finish(Detached) }

// Kill ends all traced processes.
func (p *Pause) Kill() { p.r.group.Kill() }
