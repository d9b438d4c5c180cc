package parquet

import (
	"context"
	"errors"

	"memtrace/analyze"
	"memtrace/format"
	"memtrace/format/arch"
	"memtrace/replay"
)

// exporter goes over a log once and fills the tables that are asked for.
type exporter struct {
	o       *Options
	t       *replay.Trace
	printer *replay.Printer
	line    []byte

	procs  map[uint32]int64 // by the kernel's pid: whose it is now
	owners map[uint32]int64 // by address space: the process that had it first
	spaces spaces
	stacks stackTables
	peak   uint64 // the highest RSS of a process, in bytes; 0 if it was never sampled

	runs      *table[runRow]
	processes *table[processRow]
	events    *table[eventRow]
	calls     *table[callRow]
	mappings  *table[mappingRow]
	snapshots *table[snapshotRow]
	samples   *table[sampleRow]
	refs      *table[refRow]

	kinds map[callNumber]*callKind
}

// writeTables writes the tables into files of their names in dir.
func writeTables(ctx context.Context, t *replay.Trace, dir string, o *Options) (err error) {
	x := &exporter{o: o, t: t, procs: map[uint32]int64{}, owners: map[uint32]int64{}, kinds: map[callNumber]*callKind{}}
	x.spaces.by = map[uint32]*space{}
	if err := x.open(dir); err != nil {
		return errors.Join(err, x.close())
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	leaks := make(chan leakResult, 1)
	if x.runs != nil {
		go func() { leaks <- judge(ctx, t) }() // beside the walk: it goes over the log as well
	}
	err = x.walk(ctx)
	if err == nil {
		err = x.references(ctx)
	}
	if err == nil {
		err = x.stackRows()
	}
	if err == nil {
		err = x.processRows(ctx)
	}
	if x.runs != nil {
		if err != nil {
			cancel()
		}
		found := <-leaks
		if err == nil {
			err = found.err
		}
		if err == nil {
			err = x.runRow(ctx, found)
		}
	}
	return errors.Join(err, x.close())
}

// open begins the tables that are asked for.
func (x *exporter) open(dir string) error {
	var err error
	for _, name := range x.o.Tables {
		switch name {
		case "runs":
			x.runs, err = newTable[runRow](dir, name, x.o)
		case "processes":
			x.processes, err = newTable[processRow](dir, name, x.o)
		case "events":
			x.events, err = newTable[eventRow](dir, name, x.o)
		case "calls":
			x.calls, err = newTable[callRow](dir, name, x.o)
		case "mappings":
			x.mappings, err = newTable[mappingRow](dir, name, x.o)
		case "snapshots":
			x.snapshots, err = newTable[snapshotRow](dir, name, x.o)
		case "samples":
			x.samples, err = newTable[sampleRow](dir, name, x.o)
		case "stacks":
			x.stacks.rows, err = newTable[stackRow](dir, name, x.o)
		case "frames":
			x.stacks.frames, err = newTable[frameRow](dir, name, x.o)
		case "refs":
			x.refs, err = newTable[refRow](dir, name, x.o)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// close ends all files. They are on the disk together: one after the other, each would wait
// for it.
func (x *exporter) close() (err error) {
	tables := []interface {
		finish()
		done() error
	}{x.runs, x.processes, x.events, x.calls, x.mappings, x.snapshots, x.samples, x.stacks.rows, x.stacks.frames, x.refs}
	for _, t := range tables {
		t.finish()
	}
	for _, t := range tables {
		err = errors.Join(err, t.done())
	}
	return err
}

// walk fills what is told of event by event.
func (x *exporter) walk(ctx context.Context) error {
	last, ok := x.t.Last()
	if !ok {
		return nil
	}
	first := x.t.First()
	var err error
	if x.printer, err = x.t.Printer(first, replay.PrintOptions{}); err != nil {
		return err
	}
	for m, err := range x.t.Walk(first, last) {
		if err != nil {
			return err
		}
		if m.Event.Step%1024 == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		if err := x.see(m); err != nil {
			return err
		}
	}
	if x.mappings != nil {
		x.spaces.end(x)
	}
	return nil
}

// thread takes in a thread that is new, or not what it was.
func (x *exporter) thread(t *format.Thread) {
	x.procs[t.TGID] = int64(t.Proc)
	if _, owned := x.owners[t.MM]; !owned { // a vfork child borrows its parent's
		x.owners[t.MM] = int64(t.Proc)
	}
}

// see takes in one event.
func (x *exporter) see(m *replay.Moment) error {
	for _, c := range m.Event.Changes {
		if c, ok := c.(*format.ThreadSet); ok {
			x.thread(&c.Thread)
		}
	}
	if x.mappings != nil || x.snapshots != nil {
		if err := x.spaces.see(x, m); err != nil {
			return err
		}
	}
	if m.Event.Stack != 0 {
		x.stacks.use(m.Event.Stack)
	}
	switch r := m.Event.Record.(type) {
	case *format.Syscall:
		if x.calls != nil {
			x.call(m, r)
		}
	case *format.MemInfo:
		x.sample(m, r)
	}
	if x.events == nil {
		x.printer.Skip(m)
		return nil
	}
	return x.event(m)
}

// event adds a row to events; it follows the printer.
func (x *exporter) event(m *replay.Moment) error {
	t := x.events
	r := t.row()
	ev := m.Event
	*r = eventRow{Run: x.o.Run, Step: int64(ev.Step), TNS: int64(ev.Time), Type: replay.TypeName(ev.Record)}
	if m.Thread.No != 0 {
		r.Proc, r.PID, r.TID = t.int(int64(m.Thread.Proc)), t.int(int64(m.Thread.TGID)), t.int(int64(m.Thread.TID))
	} else if pid, ok := m.Subject(); ok {
		r.PID = t.int(int64(pid))
		if proc, known := x.procs[pid]; known {
			r.Proc = t.int(proc)
		}
	}
	if _, isCall := ev.Record.(*format.Syscall); isCall && !x.o.Text {
		x.printer.Skip(m)
		return nil
	}
	x.line = x.printer.AppendEvent(x.line[:0], m)
	r.Text = t.text(string(x.line))
	return nil
}

// callNumber is what tells calls apart.
type callNumber struct {
	arch arch.ID
	nr   uint32
}

// callKind is what the number of a call means.
type callKind struct {
	name, class string
	args        int
	moves       bool // its result is how many bytes it moved
}

// kind is what a call is.
func (x *exporter) kind(n callNumber) *callKind {
	k := x.kinds[n]
	if k == nil {
		name := replay.CallName(n.arch, n.nr)
		k = &callKind{name: name, class: "other", args: len(format.Syscall{}.Args), moves: analyze.MovesData(name)}
		if sc, known := n.arch.Syscall(n.nr); known {
			k.class, k.args = classOf(sc.Flags), int(sc.NArg)
		}
		x.kinds[n] = k
	}
	return k
}

// classOf is the first of strace's classes that a call is of.
func classOf(f arch.Flags) string {
	for _, c := range []struct {
		flag arch.Flags
		name string
	}{
		{arch.Memory, "memory"}, {arch.Network, "network"}, {arch.Process, "process"}, {arch.Signal, "signal"}, {arch.IPC, "ipc"},
		{arch.File | arch.Desc, "file"},
	} {
		if f&c.flag != 0 {
			return c.name
		}
	}
	return "other"
}

// call adds a row to calls.
func (x *exporter) call(m *replay.Moment, s *format.Syscall) {
	t, k, ev := x.calls, x.kind(callNumber{s.Arch, s.Nr}), m.Event
	r := t.row()
	*r = callRow{
		Run: x.o.Run, Step: int64(ev.Step), TNS: int64(ev.Time), Arch: s.Arch.String(), Name: k.name, Class: k.class, Stack: t.number(uint64(ev.Stack)),
	}
	if m.Thread.No != 0 {
		r.Proc, r.TID = t.int(int64(m.Thread.Proc)), t.int(int64(m.Thread.TID))
	}
	if s.Returned {
		r.DurNS, r.Ret = t.int(int64(replay.Elapsed(ev, s))), t.int(s.Ret)
		if s.Ret < 0 && s.Ret >= -arch.MaxErrno {
			r.Errno = t.text(arch.ErrnoName(int(-s.Ret)))
		} else if k.moves {
			r.Bytes = t.int(s.Ret)
		}
	}
	for i, a := range []**int64{&r.A0, &r.A1, &r.A2, &r.A3, &r.A4, &r.A5}[:k.args] {
		*a = t.int(int64(s.Args[i]))
	}
	x.printer.Files(m, func(name string, byFD bool) {
		switch {
		case byFD && r.FDPath == nil:
			r.FDPath = t.text(name)
		case !byFD && r.Path == nil:
			r.Path = t.text(name)
		}
	})
}
