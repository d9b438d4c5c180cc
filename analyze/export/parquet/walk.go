package parquet

import (
	"context"
	"errors"

	"github.com/parquet-go/parquet-go"

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
	events    *columns
	calls     *columns
	mappings  *table[mappingRow]
	snapshots *table[snapshotRow]
	samples   *table[sampleRow]
	refs      *table[refRow]

	kinds map[callNumber]*callKind
	said  fixedTexts
}

// writeTables writes the tables into files of their names in dir.
func writeTables(ctx context.Context, t *replay.Trace, dir string, o *Options) (err error) {
	x := &exporter{o: o, t: t, procs: map[uint32]int64{}, owners: map[uint32]int64{}, kinds: map[callNumber]*callKind{}, said: fixedTexts{}}
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
			x.events, err = newColumns[eventRow](dir, name, x.o)
		case "calls":
			x.calls, err = newColumns[callRow](dir, name, x.o)
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
	t, ev := x.events, m.Event
	t.row()
	t.int(eventStep, int64(ev.Step))
	t.int(eventTNS, int64(ev.Time))
	t.add(eventType, x.said.of(t, eventType, replay.TypeName(ev.Record)))
	if m.Thread.No != 0 {
		t.int(eventProc, int64(m.Thread.Proc))
		t.int(eventPID, int64(m.Thread.TGID))
		t.int(eventTID, int64(m.Thread.TID))
	} else if pid, ok := m.Subject(); ok {
		t.int(eventPID, int64(pid))
		if proc, known := x.procs[pid]; known {
			t.int(eventProc, proc)
		}
	}
	if _, isCall := ev.Record.(*format.Syscall); isCall && !x.o.Text {
		x.printer.Skip(m)
		return nil
	}
	x.line = x.printer.AppendEvent(x.line[:0], m)
	t.text(eventText, x.line)
	return nil
}

// fixedTexts are the values of texts that many rows have, by the column.
type fixedTexts map[fixedText]parquet.Value

type fixedText struct {
	col int
	s   string
}

// of is a text as the value of a column of t.
func (f fixedTexts) of(t *columns, col int, s string) parquet.Value {
	v, known := f[fixedText{col, s}]
	if !known {
		v = t.fixed(col, s)
		f[fixedText{col, s}] = v
	}
	return v
}

// callNumber is what tells calls apart.
type callNumber struct {
	arch arch.ID
	nr   uint32
}

// callKind is what the number of a call means.
type callKind struct {
	arch, name, class parquet.Value
	args              int
	moves             bool // its result is how many bytes it moved
}

// kind is what a call is.
func (x *exporter) kind(n callNumber) *callKind {
	k := x.kinds[n]
	if k == nil {
		name, class := replay.CallName(n.arch, n.nr), "other"
		k = &callKind{args: len(format.Syscall{}.Args), moves: analyze.MovesData(name)}
		if sc, known := n.arch.Syscall(n.nr); known {
			class, k.args = classOf(sc.Flags), int(sc.NArg)
		}
		t := x.calls
		k.arch, k.name, k.class = t.fixed(callArch, n.arch.String()), t.fixed(callName, name), t.fixed(callClass, class)
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
	t.row()
	t.int(callStep, int64(ev.Step))
	t.int(callTNS, int64(ev.Time))
	t.add(callArch, k.arch)
	t.add(callName, k.name)
	t.add(callClass, k.class)
	t.number(callStack, uint64(ev.Stack))
	if m.Thread.No != 0 {
		t.int(callProc, int64(m.Thread.Proc))
		t.int(callTID, int64(m.Thread.TID))
	}
	if s.Returned {
		t.int(callDurNS, int64(replay.Elapsed(ev, s)))
		t.int(callRet, s.Ret)
		if s.Ret < 0 && s.Ret >= -arch.MaxErrno {
			t.add(callErrno, x.said.of(t, callErrno, arch.ErrnoName(int(-s.Ret))))
		} else if k.moves {
			t.int(callBytes, s.Ret)
		}
	}
	for i, a := range s.Args[:k.args] {
		t.int(callA0+i, int64(a))
	}
	x.names(m)
}

// names gives the row of a call the first descriptor and the first path that it names.
func (x *exporter) names(m *replay.Moment) {
	t := x.calls
	var fd, path bool
	x.printer.Files(m, func(name string, byFD bool) {
		switch {
		case name == "":
		case byFD && !fd:
			fd = true
			x.line = append(x.line[:0], name...)
			t.text(callFDPath, x.line)
		case !byFD && !path:
			path = true
			x.line = append(x.line[:0], name...)
			t.text(callPath, x.line)
		}
	})
}
