package export

import (
	"cmp"
	"compress/gzip"
	"context"
	"encoding/hex"
	"io"
	"slices"
	"strings"

	"memtrace/analyze"
	"memtrace/format"
	"memtrace/replay"
)

// Fields of profile.proto (github.com/google/pprof/proto/profile.proto).
const (
	profSampleType = 1
	profSample     = 2
	profMapping    = 3
	profLocation   = 4
	profFunction   = 5
	profString     = 6
	profTime       = 9
	profDuration   = 10
	profComment    = 13
	profDefault    = 14
)

// pprofWriter is a profile as it is built.
type pprofWriter struct {
	t         *replay.Trace
	out       message
	texts     map[string]uint64
	functions map[place]uint64
	locations map[locationKey]uint64
	mappings  map[format.ModuleNo]*profMap
	order     []format.ModuleNo
}

type locationKey struct {
	module format.ModuleNo
	addr   uint64
	guess  string
	name   string // of what has no address
}

// profMap is a module as pprof has it: at addresses that no other has.
type profMap struct {
	id, bias  uint64
	low, high uint64
	mod       *format.Module
	named     bool
	lined     bool
}

func (p *pprofWriter) str(s string) uint64 {
	n, ok := p.texts[s]
	if !ok {
		n = uint64(len(p.texts))
		p.texts[s] = n
		p.out.text(profString, strings.ToValidUTF8(s, "\uFFFD"))
	}
	return n
}

// valueType is a sample type.
func (p *pprofWriter) valueType(name, unit string) message {
	var m message
	m.number(1, p.str(name))
	m.number(2, p.str(unit))
	return m
}

// pprof writes a gzipped profile that "go tool pprof" opens.
func pprof(ctx context.Context, t *replay.Trace, w io.Writer, o Options) ([]string, error) {
	list, err := uses(ctx, t, o)
	if err != nil {
		return nil, err
	}
	p := &pprofWriter{
		t: t, texts: map[string]uint64{}, functions: map[place]uint64{}, locations: map[locationKey]uint64{},
		mappings: map[format.ModuleNo]*profMap{},
	}
	p.str("")
	for _, v := range [][2]string{{"calls", "count"}, {"mapped", "bytes"}, {"committed", "bytes"}, {"live", "bytes"}} {
		p.out.bytes(profSampleType, p.valueType(v[0], v[1]))
	}
	p.out.number(profDefault, p.str(cmp.Or(o.Value, Values[0])))
	if _, err := weight(&analyze.StackUse{}, o.Value); err != nil {
		return nil, err
	}
	for i := range list {
		if err := p.sample(&list[i]); err != nil {
			return nil, err
		}
	}
	main, err := firstProgram(t)
	if err != nil {
		return nil, err
	}
	// pprof takes the first for the program.
	slices.SortStableFunc(p.order, func(a, b format.ModuleNo) int {
		return cmp.Compare(p.mappings[b].rank(main), p.mappings[a].rank(main))
	})
	for _, no := range p.order {
		p.mapping(p.mappings[no])
	}
	h := t.Header()
	p.out.varint(profTime, uint64(h.Start.UnixNano()))
	if last, ok := t.Last(); ok {
		for ev, err := range t.Events(last) {
			if err != nil {
				return nil, err
			}
			p.out.varint(profDuration, ev.Time)
		}
	}
	p.out.number(profComment, p.str("recorded by memtrace"))
	z := gzip.NewWriter(w)
	if _, err := z.Write(p.out); err != nil {
		return nil, err
	}
	return nil, z.Close()
}

// firstProgram is the path of the program that the log begins with.
func firstProgram(t *replay.Trace) (string, error) {
	for ev, err := range t.Events(0) {
		if err != nil {
			return "", err
		}
		if x, ok := ev.Record.(*format.Exec); ok {
			return x.Path, nil
		}
		break
	}
	return "", nil
}

func (m *profMap) rank(main string) int {
	if m.mod != nil && m.mod.Path == main {
		return 1
	}
	return 0
}

// sample adds what one call did with one stack.
func (p *pprofWriter) sample(u *analyze.StackUse) error {
	var locations []uint64
	if u.Node == 0 {
		locations = append(locations, p.pseudo(u.Who))
	} else {
		s, err := p.t.Stack(u.Node, true)
		if err != nil {
			return err
		}
		for i := range s.Frames {
			locations = append(locations, p.location(&s.Frames[i]))
		}
		if cut := cutFrame(s); cut != "" {
			locations = append(locations, p.pseudo(cut))
		}
	}
	var m message
	m.packed(1, locations)
	m.packed(2, []uint64{u.Calls, uint64(u.Mapped), uint64(u.Committed), uint64(max(u.Live, 0))})
	if u.PID != 0 {
		var l message
		l.number(1, p.str("pid"))
		l.varint(3, uint64(u.PID))
		m.bytes(3, l)
	}
	if u.Call != "" {
		var l message
		l.number(1, p.str("call"))
		l.number(2, p.str(u.Call))
		m.bytes(3, l)
	}
	p.out.bytes(profSample, m)
	return nil
}

// pseudo is the location of what is no function.
func (p *pprofWriter) pseudo(name string) uint64 {
	k := locationKey{name: name}
	id, ok := p.locations[k]
	if !ok {
		id = uint64(len(p.locations)) + 1
		p.locations[k] = id
		p.put(id, 0, 0, []place{{function: name, full: name}})
	}
	return id
}

// location is that of a frame.
func (p *pprofWriter) location(f *replay.NamedFrame) uint64 {
	all := places(f)
	k := locationKey{module: f.Frame.Module, addr: f.Pos(), guess: all[0].function[:1]}
	id, ok := p.locations[k]
	if ok {
		return id
	}
	id = uint64(len(p.locations)) + 1
	p.locations[k] = id
	m := p.mappings[k.module]
	if m == nil {
		n := uint64(len(p.order)) + 1
		m = &profMap{id: n, bias: n << 44, low: f.Pos(), mod: f.Mod}
		p.mappings[k.module] = m
		p.order = append(p.order, k.module)
	}
	a := f.Pos() & (1<<44 - 1)
	m.low, m.high = min(m.low, a), max(m.high, a)
	m.named = m.named || f.Function != ""
	m.lined = m.lined || len(f.Places) > 0
	p.put(id, m.id, m.bias+a, all)
	return id
}

// put writes a location and its functions.
func (p *pprofWriter) put(id, mapping, addr uint64, all []place) {
	var m message
	m.number(1, id)
	m.number(2, mapping)
	m.number(3, addr)
	for _, x := range all {
		key := place{function: x.function, full: x.full, file: x.file}
		fn, ok := p.functions[key]
		if !ok {
			fn = uint64(len(p.functions)) + 1
			p.functions[key] = fn
			var f message
			f.number(1, fn)
			f.number(2, p.str(x.function))
			f.number(3, p.str(x.full))
			f.number(4, p.str(x.file))
			p.out.bytes(profFunction, f)
		}
		var l message
		l.number(1, fn)
		l.number(2, uint64(x.line))
		m.bytes(4, l)
	}
	p.out.bytes(profLocation, m)
}

// mapping writes a module.
func (p *pprofWriter) mapping(m *profMap) {
	var b message
	start, off, name, id := m.low, uint64(0), "[unmapped]", ""
	if m.mod != nil {
		name, id = m.mod.Path, hex.EncodeToString([]byte(m.mod.BuildID))
		if m.mod.Class == format.ModuleAnon {
			name = "[anon]"
		} else if m.mod.TextAddr <= start {
			start, off = m.mod.TextAddr, m.mod.TextOff
		}
	}
	b.number(1, m.id)
	b.number(2, m.bias+start&^4095)
	b.number(3, m.bias+(m.high+4096)&^4095)
	b.number(4, off&^4095)
	b.number(5, p.str(name))
	b.number(6, p.str(id))
	if m.named {
		b.number(7, 1)
	}
	if m.lined {
		b.number(8, 1)  // file names
		b.number(9, 1)  // lines
		b.number(10, 1) // inlined calls
	}
	p.out.bytes(profMapping, b)
}
