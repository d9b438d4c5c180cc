package export

import (
	"bufio"
	"context"
	"io"
	"slices"
	"strings"

	"google.golang.org/protobuf/encoding/protowire"

	"memtrace/analyze"
	"memtrace/format"
	"memtrace/format/proctext"
	"memtrace/replay"
)

// Fields of Perfetto's trace (github.com/google/perfetto, protos/perfetto/trace).
const (
	tracePacket = 1

	packetTime     = 8
	packetSequence = 10
	packetEvent    = 11
	packetInterned = 12
	packetFlags    = 13
	packetTrack    = 60

	flagCleared, flagNeeds = 1, 2 // of the interned data

	trackUUID, trackName, trackProcess, trackThread, trackParent, trackCounter = 1, 2, 3, 4, 5, 8

	eventNotes, eventType, eventTrack, eventCategory, eventName, eventCounter, eventStack = 4, 9, 11, 22, 23, 30, 56

	sliceBegin, sliceEnd, instant, counter = 1, 2, 3, 4

	noteName, noteUint, noteInt, noteText, notePointer = 10, 3, 4, 6, 7

	internedFunctions, internedFrames, internedStacks, internedBuildIDs, internedPaths, internedSources, internedMappings = 5, 6, 7, 16, 17, 18, 19
)

// sequenceID is that of all packets: what is interned is so for one sequence.
const sequenceID = 1

// perfettoTrace writes a trace packet by packet.
type perfettoTrace struct {
	t       *replay.Trace
	w       *bufio.Writer
	begun   bool
	threads map[uint32]uint64 // by the log's thread number: its track
	procs   map[uint32]bool   // pids that have a track
	sizes   map[uint32]int64  // last committed bytes, by pid
	tracks  map[uint64]bool   // of counters, that are described
	pending message           // interned data that the next packet brings

	functions, paths, sources, ids map[string]uint64
	mappings                       map[format.ModuleNo]uint64
	frames                         map[locationKey][]uint64
	frameIDs                       uint64
	stacks                         map[format.StackNode]uint64
}

// Tracks have numbers of their own: of threads, and of the counters of processes.
const (
	threadTracks  = 1 << 32
	processTracks = 2 << 32
	counterTracks = 3 << 32
	systemTrack   = 4 << 32
)

// perfetto writes calls as slices of their threads, with what they were called with and
// their stacks, and memory as counters.
func perfetto(ctx context.Context, t *replay.Trace, w io.Writer, o Options) ([]string, error) {
	p := &perfettoTrace{
		t: t, w: bufio.NewWriterSize(w, 1<<16), threads: map[uint32]uint64{}, procs: map[uint32]bool{}, sizes: map[uint32]int64{}, tracks: map[uint64]bool{},
		functions: map[string]uint64{}, paths: map[string]uint64{}, sources: map[string]uint64{}, ids: map[string]uint64{},
		mappings: map[format.ModuleNo]uint64{}, frames: map[locationKey][]uint64{}, stacks: map[format.StackNode]uint64{},
	}
	lo := o.list()
	printer, err := t.Printer(o.From, replay.PrintOptions{})
	if err != nil {
		return nil, err
	}
	_, err = analyze.StackUses(ctx, t, analyze.Options{From: o.From, To: o.To, PID: o.PID}, func(m *replay.Moment, committed func(uint32) int64) error {
		if !lo.Shows(m) {
			printer.Skip(m)
		} else if err := p.event(m, printer.Fields(m)); err != nil {
			return err
		}
		return p.memory(m, committed, o.PID)
	})
	if err != nil {
		return nil, err
	}
	return nil, p.w.Flush()
}

// packet writes a packet at a time, with what is to be interned before it.
func (p *perfettoTrace) packet(time uint64, field protowire.Number, body message) error {
	var m message
	m.varint(packetTime, time)
	m.varint(packetSequence, sequenceID)
	flags := uint64(flagNeeds)
	if !p.begun {
		p.begun, flags = true, flagCleared
	}
	m.varint(packetFlags, flags)
	if len(p.pending) > 0 {
		m.bytes(packetInterned, p.pending)
		p.pending = p.pending[:0]
	}
	m.bytes(field, body)
	var out message
	out.bytes(tracePacket, m)
	_, err := p.w.Write(out)
	return err
}

// thread is the track of an event's thread, which it describes when it is new.
func (p *perfettoTrace) thread(m *replay.Moment) (uint64, error) {
	th := &m.Thread
	if uuid, ok := p.threads[th.No]; ok {
		return uuid, nil
	}
	if err := p.process(m); err != nil {
		return 0, err
	}
	uuid := threadTracks + uint64(th.No)
	p.threads[th.No] = uuid
	var d, b message
	d.varint(1, uint64(th.TGID))
	d.varint(2, uint64(th.TID))
	b.varint(trackUUID, uuid)
	b.varint(trackParent, processTracks+uint64(th.TGID))
	b.bytes(trackThread, d)
	return uuid, p.packet(m.Event.Time, packetTrack, b)
}

// process describes the process of a thread, and the counter of its memory.
func (p *perfettoTrace) process(m *replay.Moment) error {
	pid := m.Thread.TGID
	if p.procs[pid] {
		return nil
	}
	p.procs[pid] = true
	var d, b message
	d.varint(1, uint64(pid))
	if x, ok := m.Event.Record.(*format.Exec); ok {
		for _, a := range x.Argv[:min(len(x.Argv), 64)] {
			d.text(2, utf8Text(a))
		}
		d.text(6, utf8Text(x.Path))
	}
	b.varint(trackUUID, processTracks+uint64(pid))
	b.bytes(trackProcess, d)
	if err := p.packet(m.Event.Time, packetTrack, b); err != nil {
		return err
	}
	return p.counterTrack(m.Event.Time, counterTracks+uint64(pid), processTracks+uint64(pid), "committed memory")
}

func (p *perfettoTrace) counterTrack(time, uuid, parent uint64, name string) error {
	var c, b message
	c.varint(3, 3) // bytes
	b.varint(trackUUID, uuid)
	b.number(trackParent, parent)
	b.text(trackName, name)
	b.bytes(trackCounter, c)
	return p.packet(time, packetTrack, b)
}

// count writes a counter's value.
func (p *perfettoTrace) count(time, track uint64, n int64) error {
	var b message
	b.varint(eventType, counter)
	b.varint(eventTrack, track)
	b.varint(eventCounter, uint64(n))
	return p.packet(time, packetEvent, b)
}

// memory writes the counters that an event has moved.
func (p *perfettoTrace) memory(m *replay.Moment, committed func(uint32) int64, pid uint32) error {
	if info, ok := m.Event.Record.(*format.MemInfo); ok {
		return p.system(m.Event.Time, info)
	}
	th := &m.Thread
	if th.TGID == 0 || len(m.Event.Changes) == 0 || pid != 0 && th.TGID != pid {
		return nil
	}
	n := committed(th.MM)
	if last, known := p.sizes[th.TGID]; known && last == n {
		return nil
	}
	if err := p.process(m); err != nil {
		return err
	}
	p.sizes[th.TGID] = n
	return p.count(m.Event.Time, counterTracks+uint64(th.TGID), n)
}

// systemCounters are the lines of /proc that have a track.
var systemCounters = []struct{ source, key, name string }{
	{"status", "VmRSS", "resident memory"},
	{"meminfo", "MemAvailable", "available memory of the system"},
	{"meminfo", "Committed_AS", "committed memory of the system"},
}

// system writes the counters of a sample.
func (p *perfettoTrace) system(time uint64, info *format.MemInfo) error {
	for i := range info.Samples {
		s := &info.Samples[i]
		for k, c := range systemCounters {
			if s.Source != c.source || s.PID != 0 && !p.procs[s.PID] {
				continue
			}
			n, ok := proctext.Field(s.Data, c.key).Size()
			if !ok {
				continue
			}
			track, parent := systemTrack+uint64(k)<<33+uint64(s.PID), uint64(0)
			if s.PID != 0 {
				parent = processTracks + uint64(s.PID)
			}
			if !p.tracks[track] {
				p.tracks[track] = true
				if err := p.counterTrack(time, track, parent, c.name); err != nil {
					return err
				}
			}
			if err := p.count(time, track, int64(n)); err != nil {
				return err
			}
		}
	}
	return nil
}

// event writes a call as a slice, and anything else as an instant. Calls that make a
// process or thread are instants: they end in two threads.
func (p *perfettoTrace) event(m *replay.Moment, fields []replay.Field) error {
	if m.Thread.TGID == 0 {
		return nil
	}
	track, err := p.thread(m)
	if err != nil {
		return err
	}
	ev := m.Event
	call, isCall := ev.Record.(*format.Syscall)
	name, category, kind, begin := replay.TypeName(ev.Record), "event", uint64(instant), ev.Time
	if isCall {
		name, category = replay.CallName(call.Arch, call.Nr), "syscall"
		if call.Returned && !slices.Contains([]string{"clone", "clone3", "fork", "vfork"}, name) {
			kind, begin = sliceBegin, min(call.Enter, ev.Time)
		}
	}
	stack, err := p.stack(ev.Stack)
	if err != nil {
		return err
	}
	var b message
	for i := range fields {
		f := &fields[i]
		if slices.Contains([]string{"time", "pid", "tid", "type", "name", "start", "changes", "stack", "stack_end"}, f.Name) {
			continue
		}
		b.bytes(eventNotes, note(f))
	}
	b.varint(eventType, kind)
	b.varint(eventTrack, track)
	b.text(eventCategory, category)
	b.text(eventName, name)
	b.number(eventStack, stack)
	if err := p.packet(begin, packetEvent, b); err != nil || kind != sliceBegin {
		return err
	}
	b = nil
	b.varint(eventType, sliceEnd)
	b.varint(eventTrack, track)
	return p.packet(ev.Time, packetEvent, b)
}

// utf8Text is a text of a log as protobuf's strings have to be.
func utf8Text(s string) string { return strings.ToValidUTF8(s, "\uFFFD") }

// note is a field as a debug annotation.
func note(f *replay.Field) message {
	var m message
	switch f.Kind {
	case replay.ValueUint:
		m.varint(noteUint, f.Num)
	case replay.ValueInt:
		m.varint(noteInt, f.Num)
	case replay.ValueHex:
		m.varint(notePointer, f.Num)
	default:
		m.text(noteText, utf8Text(string(f.AppendText(nil))))
	}
	m.text(noteName, f.Name)
	return m
}

// intern gives a text a number of a table, and brings it with the next packet if it is
// new.
func (p *perfettoTrace) intern(table map[string]uint64, field protowire.Number, s string) uint64 {
	if s == "" {
		return 0
	}
	id, ok := table[s]
	if !ok {
		id = uint64(len(table)) + 1
		table[s] = id
		var m message
		m.varint(1, id)
		m.text(2, utf8Text(s))
		p.pending.bytes(field, m)
	}
	return id
}

// stack interns a stack.
func (p *perfettoTrace) stack(n format.StackNode) (uint64, error) {
	if n == 0 {
		return 0, nil
	}
	if id, ok := p.stacks[n]; ok {
		return id, nil
	}
	s, err := p.t.Stack(n, true)
	if err != nil {
		return 0, err
	}
	var frames []uint64 // the innermost first
	for i := range s.Frames {
		frames = append(frames, p.frame(&s.Frames[i])...)
	}
	if cut := cutFrame(s); cut != "" {
		frames = append(frames, p.pseudo(cut))
	}
	slices.Reverse(frames)
	id := uint64(len(p.stacks)) + 1
	p.stacks[n] = id
	var m message
	m.varint(1, id)
	for _, f := range frames {
		m.varint(2, f)
	}
	p.pending.bytes(internedStacks, m)
	return id, nil
}

// pseudo interns a frame that is no function.
func (p *perfettoTrace) pseudo(name string) uint64 {
	k := locationKey{name: name}
	if f := p.frames[k]; f != nil {
		return f[0]
	}
	p.frameIDs++
	p.frames[k] = []uint64{p.frameIDs}
	var m message
	m.varint(1, p.frameIDs)
	m.number(2, p.intern(p.functions, internedFunctions, name))
	p.pending.bytes(internedFrames, m)
	return p.frameIDs
}

// frame interns the functions of a frame, the inlined first.
func (p *perfettoTrace) frame(f *replay.NamedFrame) []uint64 {
	all := places(f)
	k := locationKey{module: f.Frame.Module, addr: f.Pos(), guess: all[0].function[:1]}
	if ids := p.frames[k]; ids != nil {
		return ids
	}
	mapping := p.mapping(f)
	var ids []uint64
	for _, x := range all {
		p.frameIDs++
		ids = append(ids, p.frameIDs)
		var m message
		m.varint(1, p.frameIDs)
		m.number(2, p.intern(p.functions, internedFunctions, x.full))
		m.number(3, mapping)
		m.varint(4, f.Pos())
		m.number(5, p.intern(p.sources, internedSources, x.file))
		m.number(6, uint64(x.line))
		p.pending.bytes(internedFrames, m)
	}
	p.frames[k] = ids
	return ids
}

// mapping interns the module of a frame.
func (p *perfettoTrace) mapping(f *replay.NamedFrame) uint64 {
	if id, ok := p.mappings[f.Frame.Module]; ok {
		return id
	}
	id := uint64(len(p.mappings)) + 1
	p.mappings[f.Frame.Module] = id
	var m message
	m.varint(1, id)
	if f.Mod != nil {
		m.number(2, p.intern(p.ids, internedBuildIDs, f.Mod.BuildID))
	}
	m.number(7, p.intern(p.paths, internedPaths, f.FrameName.Module(&f.Frame)))
	p.pending.bytes(internedMappings, m)
	return id
}
