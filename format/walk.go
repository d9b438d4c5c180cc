package format

import (
	"bytes"
	"fmt"
	"io"
	"maps"
	"slices"
)

// This file has a walk over all texts and bytes of a log, chunk after chunk. It asks
// neither the index nor the keyframes where something is, and shows also what it cannot
// account for.

// Piece is a text, or bytes, of a log.
type Piece struct {
	// Place is where it is: the name of the record, chunk or type of change and that of
	// the field, as docs/format.md has them ("exec.path"), or PlaceOther.
	Place string
	// Data is what is there. It is valid until the walk goes on.
	Data []byte
	Call *Syscall // of PlaceNumbers and PlaceBuffer: the call
	Buf  *Buf     // of PlaceBuffer: the buffer
}

// Places that are no fields of a record.
const (
	PlaceOther     = "other"              // what this version cannot account for: unknown chunks, bytes behind a body
	PlaceNumbers   = "syscall.numbers"    // number, arguments and result of a call
	PlaceBuffer    = "syscall.buffer"     // a buffer of a call
	PlaceRegisters = "event.registers"    // those of the thread, at an event
	PlacePages     = "pages.raw"          // pages as they are
	PlacePatches   = "pages.patch"        // pages as differences
	PlaceKeyRegs   = "keyframe.registers" // registers of a thread
	PlaceKeyXState = "keyframe.xstate"    // extended state of a thread
	PlaceKeyName   = "keyframe.name"      // name of a mapping
	PlaceReason    = "root.reason"        // why the recording ended
	placeHeader    = "header."            // and the name of the tag
	placeModule    = "module."            // and the field
	placeText      = "text."              // and the field
)

// headerPlaces are the texts of the file header's extension.
var headerPlaces = map[uint64]string{
	tagVersion: "version", tagKernel: "kernel", tagHost: "host", tagDir: "dir", tagArg: "arg", tagOption: "option",
	tagRedacted: "redacted", tagInventory: "inventory",
}

// Walk shows all texts and bytes of a log that is whole, in the order of the file. An
// error of visit ends it. o are the choices of a reader.
func Walk(r io.ReaderAt, size int64, o *ReaderOptions, visit func(*Piece) error) error {
	rd, err := openHeader(r, size, o)
	if err != nil {
		return err
	}
	w := walker{r: rd, visit: visit}
	w.see.mode, w.see.see = visiting, func(name string, b []byte) { w.show(w.of+"."+name, b) }
	if err := w.header(); err != nil {
		return err
	}
	s := rd.newScan()
	spent := rd.budget
	for {
		c, stored, err := s.step()
		root := err == io.EOF && c.typ == TypeRoot
		switch {
		case err == io.EOF && !root:
			return fmt.Errorf("%w: it has no end", ErrTruncated)
		case err != nil && !root:
			return at(s.off, err)
		}
		spent.read(int(c.ulen))
		payload, err := c.decode(stored)
		if err == nil {
			w.next = &s.next
			err = w.chunk(&c, payload, &spent)
		}
		if err == nil {
			err = spent.worked()
		}
		if err != nil {
			return at(c.off, err)
		}
		if w.err != nil {
			return w.err
		}
		if root {
			return nil
		}
	}
}

type walker struct {
	r     *Reader
	visit func(*Piece) error
	err   error  // of visit
	see   fields // visiting
	of    string // the record whose fields are seen
	p     Piece
	blob  []byte // of the group
	next  *[numTypes]uint64
}

func (w *walker) show(place string, b []byte) {
	w.p = Piece{Place: place, Data: b}
	w.send()
}

func (w *walker) send() {
	if w.err == nil {
		w.err = w.visit(&w.p)
	}
}

// other shows what nothing is known of.
func (w *walker) other(b []byte) {
	if len(b) > 0 {
		w.show(PlaceOther, b)
	}
}

// fieldsOf shows the fields of v.
func (w *walker) fieldsOf(name string, v interface{ fields(*fields) }) {
	w.of = name
	v.fields(&w.see)
}

func (w *walker) header() error {
	b := make([]byte, w.r.start)
	if err := w.r.readAt(b, 0); err != nil {
		return err
	}
	if b[51] != 0 || !bytes.Equal(b[56:60], make([]byte, 4)) {
		w.other(b[:headerFixed])
	}
	for c := (cursor{b: b[headerFixed:]}); c.more(); {
		tag, v := c.u(), cursor{b: c.blob()}
		switch {
		case tag == tagStart || tag == tagMono:
			v.u()
			w.other(v.b)
		case tag == tagBegin:
			v.u()
			v.u()
			w.other(v.b)
		case tag == tagSegment:
			v.u()
			w.other(v.b)
		case headerPlaces[tag] != "":
			w.show(placeHeader+headerPlaces[tag], v.b)
		default:
			w.other(v.b)
		}
	}
	return w.err
}

// chunk shows what is in a chunk.
func (w *walker) chunk(c *chunk, payload []byte, spent *budget) error {
	for x := (cursor{b: c.ext}); x.more(); {
		tag, v := x.u(), cursor{b: x.blob()}
		if c.typ == TypeEvent && tag == extTime {
			v.u()
		}
		w.other(v.b)
	}
	switch c.typ {
	case TypeRaw:
		w.show(PlacePages, payload)
	case TypePatch:
		w.show(PlacePatches, payload)
	case TypeBlob:
		if c.commit() { // of a log that begins in the middle of a run: no event has it
			w.other(payload)
			return nil
		}
		w.blob = append(w.blob, payload...)
		if len(w.blob) > MaxGroupBlob {
			return overLimit("the bytes of the blobs of a group", uint64(len(w.blob)), MaxGroupBlob)
		}
	case TypeState:
		return w.state(c, payload)
	case TypeEvent:
		return w.events(c, payload, spent)
	case TypeLeaf, TypeKeyMM, TypeWritten:
		return w.items(c, payload, spent)
	case TypeKey:
		return w.key(c, payload)
	case TypeModule:
		return w.modules(c, payload)
	case TypeStack:
		_, err := parseStacks(payload, c.base, c.count, w.next[TypeModule])
		return err
	case TypeTexts:
		x := fields{mode: reading, c: cursor{b: payload}}
		var p textPart
		if p.fields(&x); x.c.bad {
			return corrupt("TEXTS chunk")
		}
		w.fieldsOf("text", &p)
		w.other(x.c.b)
	case TypeRefs:
		return w.refs(c, payload)
	case TypeFile, TypeFData:
		w.other(payload) // redact writes none
	case TypeIndex:
		return w.index(c, payload)
	case TypeRoot:
		w.root(payload)
	default:
		w.other(payload)
	}
	return nil
}

// state shows the records of a STATE chunk.
func (w *walker) state(c *chunk, payload []byte) error {
	in := cursor{b: payload}
	in.u()
	in.u()
	body := fields{mode: reading, step: Step(c.base)}
	for in.more() {
		typ := in.u8()
		body.c = cursor{b: in.blob()}
		body.step += Step(body.c.u())
		if in.bad || body.c.bad {
			return corrupt("record of a STATE chunk")
		}
		switch {
		case changeSpecs[typ].make == nil:
		case typ == recPages:
			body.c.pageRuns()
		default:
			change := changeSpecs[typ].make()
			if change.fields(&body); !body.c.bad {
				w.fieldsOf(changeSpecs[typ].name, change)
			}
		}
		if body.c.bad {
			return corrupt("record %q of a STATE chunk", changeSpecs[typ].name)
		}
		w.other(body.c.b)
	}
	return nil
}

// pageRuns passes over runs of pages, which are numbers.
func (c *cursor) pageRuns() {
	c.u()
	for n := c.count(2); n > 0 && !c.bad; n-- {
		c.zz()
		if k := c.u(); k&7 == runRef {
			for k >>= 3; k > 0 && !c.bad; k-- {
				c.zz()
			}
		}
	}
}

// events shows the events of a group.
func (w *walker) events(c *chunk, payload []byte, spent *budget) error {
	d, err := newEventDec(entry{base: c.base, count: c.count, time: c.time()}, payload, w.blob, 0)
	if err != nil {
		return err
	}
	d.nodes = w.next[TypeStack]
	for d.row < d.rows && w.err == nil {
		e, err := d.next()
		if err != nil {
			return err
		}
		spent.work, d.work = spent.work+d.work, 0
		if err := spent.worked(); err != nil {
			return err
		}
		if e.Regs != nil {
			w.show(PlaceRegisters, appendWords(nil, e.Regs))
		}
		call, ok := e.Record.(*Syscall)
		if !ok {
			w.fieldsOf(e.Record.Kind().String(), e.Record)
			w.other(d.body.c.b[:d.rest()])
			continue
		}
		w.p = Piece{Place: PlaceNumbers, Call: call}
		w.send()
		for i := range call.Bufs {
			w.p = Piece{Place: PlaceBuffer, Data: call.Bufs[i].Data, Call: call, Buf: &call.Bufs[i]}
			w.send()
		}
	}
	w.other(d.unread())
	w.other(w.blob[d.used:])
	w.blob = w.blob[:0]
	return nil
}

// rest is how many bytes are behind the last body, which no field has taken.
func (d *eventDec) rest() int {
	if _, ok := d.ev.Record.(*Unknown); ok {
		return 0
	}
	return len(d.body.c.b)
}

// unread are bytes of columns that no row has taken.
func (d *eventDec) unread() (b []byte) {
	add := func(c *column) { b = append(b, c.b[min(c.at, len(c.b)):]...) }
	for i := range d.cols {
		add(&d.cols[i])
	}
	for i := range d.kinds {
		for k := range d.kinds[i].cols {
			add(&d.kinds[i].cols[k])
		}
	}
	return append(b, d.strange...)
}

// items shows the items of a LEAF, KEYMM or WRITTEN chunk.
func (w *walker) items(c *chunk, payload []byte, spent *budget) error {
	in := cursor{b: payload}
	if uint64(c.count) > uint64(len(payload)) {
		return corrupt("%v chunk of %d bytes claims %d items", c.typ, len(payload), c.count)
	}
	lens := make([]uint64, c.count)
	for i := range lens {
		lens[i] = in.u()
	}
	for _, n := range lens {
		b := in.take(n)
		if in.bad {
			return corrupt("lengths of a keyframe chunk")
		}
		switch c.typ {
		case TypeLeaf:
			spent.work += leafPages
			t, err := parseLeaf(b, MaxPageNo)
			if err != nil {
				return err
			}
			if !bytes.Equal(appendLeaf(nil, t), b) {
				w.other(b)
			}
		case TypeKeyMM:
			x := cursor{b: b}
			var d vmaDec
			for k := x.count(5); k > 0; k-- {
				v := d.read(&x)
				if x.bad {
					return d.damaged("mappings of a KEYMM chunk")
				}
				w.show(PlaceKeyName, []byte(v.Name))
			}
		default:
			x := cursor{b: b}
			if x.written(MaxPageNo); x.bad {
				return corrupt("WRITTEN chunk")
			}
			w.other(x.b)
		}
	}
	w.other(in.b)
	return nil
}

func (w *walker) key(c *chunk, payload []byte) error {
	k, err := parseKey(payload, Step(c.base), w.r.budget.limit)
	if err != nil {
		return err
	}
	for i := range k.regs {
		if len(k.regs[i].regs) > 0 {
			w.show(PlaceKeyRegs, appendWords(nil, k.regs[i].regs))
		}
	}
	for _, no := range slices.Sorted(maps.Keys(k.xstates)) {
		w.show(PlaceKeyXState, k.xstates[no].data)
	}
	w.other(k.rest)
	return nil
}

func (w *walker) modules(c *chunk, payload []byte) error {
	mods, err := parseModules(payload, c.base, c.count)
	if err != nil {
		return err
	}
	in := cursor{b: payload}
	for i := range mods {
		w.fieldsOf("module", &mods[i])
		x := fields{mode: reading, c: cursor{b: in.blob()}}
		new(Module).fields(&x)
		w.other(x.c.b)
	}
	return nil
}

func (w *walker) refs(c *chunk, payload []byte) error {
	d, err := newRefDec(entry{base: c.base, count: c.count}, payload, 0)
	if err != nil {
		return err
	}
	var x RefItem
	for d.more() {
		if err := d.next(&x); err != nil {
			return err
		}
	}
	for i := range d.cols {
		w.other(d.cols[i].b)
	}
	w.other(d.strange)
	return nil
}

// index shows what is behind the entries of an INDEX chunk.
func (w *walker) index(c *chunk, payload []byte) error {
	entries, _, _, err := parseIndex(payload, c.off)
	if err != nil {
		return err
	}
	in := cursor{b: payload}
	in.u()
	in.u()
	in.u()
	if len(entries) > 0 {
		in.u()
	}
	for i := range entries {
		in.u8()
		in.u()
		in.u()
		in.u()
		if entries[i].typ == TypeEvent {
			in.u()
		}
	}
	w.other(in.b)
	return nil
}

func (w *walker) root(payload []byte) {
	for in := (cursor{b: payload}); in.more(); {
		switch tag, s := in.u(), in.blob(); tag {
		case rootBlocks, rootTypes, rootTotals, rootAllTypes: // numbers
		case rootReason:
			w.show(PlaceReason, s)
		default:
			w.other(s)
		}
	}
}
