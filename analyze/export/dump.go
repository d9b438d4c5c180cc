package export

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"memtrace/analyze"
	"memtrace/format"
	"memtrace/format/addr"
	"memtrace/format/vma"
	"memtrace/replay"
)

// DumpOptions choose memory. The zero value is all of it.
type DumpOptions struct {
	Heap, Stack bool
	Ranges      []addr.Range
}

// Index is index.json: what a dump holds.
type Index struct {
	PID     uint32       `json:"pid"`
	Arch    string       `json:"arch"`
	Path    string       `json:"path,omitempty"`
	Argv    []string     `json:"argv,omitempty"`
	Step    *format.Step `json:"step,omitempty"` // of a log
	Ranges  []DumpRange  `json:"ranges"`
	Threads []DumpThread `json:"threads"`
}

// DumpRange is a mapping, or the part of it that was asked for.
type DumpRange struct {
	Start  string  `json:"start"`
	End    string  `json:"end"`
	Perms  string  `json:"perms"`
	Kind   string  `json:"kind"`
	Offset uint64  `json:"offset"`
	Path   string  `json:"path,omitempty"`
	File   string  `json:"file,omitempty"` // none if nothing but zeros is known
	Bytes  uint64  `json:"bytes"`          // known
	Known  []Known `json:"known"`
}

// Known is a stretch whose bytes are in the file, at the same distance from its
// start. What is not known is a hole there, like what is known to be zero.
type Known struct {
	Start string `json:"start"`
	End   string `json:"end"`
	Zero  bool   `json:"zero,omitempty"`
	// AsOf is the step of a log at which it was captured or confirmed.
	AsOf *format.Step `json:"as_of,omitempty"`
	Call bool         `json:"call,omitempty"` // the call of that step wrote it
}

// DumpThread is a thread and its registers.
type DumpThread struct {
	TID       uint32            `json:"tid"`
	AsOf      *format.Step      `json:"as_of,omitempty"`
	Registers map[string]string `json:"registers"` // null if not known
}

// WriteDump writes memory to files in a new directory, a file a mapping, and
// index.json. Bytes are streamed. live says that there is no log: steps mean
// nothing.
func (s *Subject) WriteDump(ctx context.Context, dir string, o DumpOptions, live bool) (notes []string, err error) {
	space, err := s.Process.Space()
	if err != nil {
		return nil, err
	}
	for _, r := range o.Ranges {
		there := false
		for range space.Set().Overlapping(r) {
			there = true
			break
		}
		if !there {
			return nil, fmt.Errorf("%v-%v: %w", r.Start, r.End, replay.ErrUnmapped)
		}
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		return nil, err
	}
	x := Index{PID: s.Process.PID, Arch: s.Process.Arch.String(), Path: s.Origin.Path, Argv: s.Origin.Argv, Ranges: []DumpRange{}, Threads: []DumpThread{}}
	if !live {
		x.Step = &s.View.Step
	}
	for i := range s.Registers {
		x.Threads = append(x.Threads, dumpRegisters(&s.Registers[i], live))
	}
	var known, unknown uint64
	for v := range space.Mappings() {
		for _, r := range o.parts(v) {
			d, err := dumpRange(ctx, dir, space, v, r, live)
			if err != nil {
				return notes, err
			}
			known += d.Bytes
			unknown += r.Len() - d.Bytes
			x.Ranges = append(x.Ranges, d)
		}
	}
	b, err := json.MarshalIndent(&x, "", "  ")
	if err != nil {
		return notes, err
	}
	if err := os.WriteFile(filepath.Join(dir, "index.json"), append(b, '\n'), 0o600); err != nil {
		return notes, err
	}
	notes = append(notes, fmt.Sprintf("%d ranges, %s in %s", len(x.Ranges), analyze.Size(known), dir))
	if unknown > 0 {
		notes = append(notes, fmt.Sprintf("%s are not known (index.json says which are)", analyze.Size(unknown)))
	}
	return notes, nil
}

// maxFile is how much of a mapping goes into one file: file systems have a limit,
// and some programs (sanitizers) map 20 TiB at once.
const maxFile = 64 << 30

// parts are what is asked for of a mapping.
func (o *DumpOptions) parts(v vma.VMA) []addr.Range {
	var out []addr.Range
	add := func(r addr.Range) {
		for r.Len() > maxFile {
			out = append(out, addr.Range{Start: r.Start, End: r.Start + maxFile})
			r.Start += maxFile
		}
		out = append(out, r)
	}
	whole := !o.Heap && !o.Stack && len(o.Ranges) == 0
	if whole || o.Heap && v.Kind == vma.Heap || o.Stack && (v.Kind == vma.MainStack || v.Kind == vma.ThreadStack) {
		add(v.Range)
		return out
	}
	for _, r := range o.Ranges {
		if r.Overlaps(v.Range) {
			add(r.Intersect(v.Range))
		}
	}
	return out
}

func dumpRegisters(r *replay.Registers, live bool) DumpThread {
	d := DumpThread{TID: r.Thread.TID}
	if r.Values == nil {
		return d
	}
	if !live {
		d.AsOf = &r.AsOf
	}
	d.Registers = map[string]string{}
	for i, name := range r.Thread.Arch.Registers() {
		if i < len(r.Values) {
			d.Registers[name] = addr.Addr(r.Values[i]).String()
		}
	}
	return d
}

// dumpRange writes one file, unless there is nothing to write.
func dumpRange(ctx context.Context, dir string, space *replay.AddressSpace, v vma.VMA, r addr.Range, live bool) (d DumpRange, err error) {
	d = DumpRange{
		Start: r.Start.String(), End: r.End.String(), Perms: v.Prot.String(), Kind: v.Kind.String(),
		Offset: v.Slice(r).Offset, Path: v.Name, Known: []Known{},
	}
	var f *os.File
	var waits []byte // to be written at off
	var off int64
	flush := func() error {
		if len(waits) == 0 {
			return nil
		}
		_, err := f.WriteAt(waits, off)
		waits = waits[:0]
		return err
	}
	defer func() {
		if f != nil {
			if err == nil {
				err = errors.Join(flush(), f.Truncate(int64(r.Len())))
			}
			err = errors.Join(err, f.Close())
		}
	}()
	put := func(a addr.Addr, b []byte) error {
		if f == nil {
			d.File = fmt.Sprintf("%x-%x.bin", uint64(r.Start), uint64(r.End))
			if f, err = os.OpenFile(filepath.Join(dir, d.File), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600); err != nil {
				return err
			}
		}
		if at := int64(a - r.Start); at != off+int64(len(waits)) || len(waits) >= 1<<20 {
			if err := flush(); err != nil {
				return err
			}
			off = at
		}
		waits = append(waits, b...)
		return nil
	}
	last := addr.Range{}
	var lastOf format.Step
	lastZero := false
	know := func(k addr.Range, asOf format.Step, zero, call bool) {
		d.Bytes += k.Len()
		if n := len(d.Known); n > 0 && last.End == k.Start && (live || lastOf == asOf) && lastZero == zero && d.Known[n-1].Call == call {
			last.End = k.End
			d.Known[n-1].End = k.End.String()
			return
		}
		x := Known{Start: k.Start.String(), End: k.End.String(), Zero: zero, Call: call}
		if !live {
			x.AsOf = &asOf
		}
		last, lastOf, lastZero = k, asOf, zero
		d.Known = append(d.Known, x)
	}
	var page [addr.PageSize]byte
	for run, err := range space.Pages(r) {
		if err != nil {
			return d, err
		}
		whole, ok := addr.Span(run.Addr, run.N<<addr.PageShift)
		if !ok {
			whole.End = r.End
		}
		in := whole.Intersect(r)
		if run.What == format.PageZero && !run.Mixed {
			know(in, run.AsOf, true, false)
			continue
		}
		if run.What != format.PageData && run.What != format.PageFile && !run.Mixed {
			continue
		}
		for a := in.Start; a < in.End; {
			if err := ctx.Err(); err != nil {
				return d, err
			}
			parts, err := space.Stretches(a, &page)
			if err != nil && !live {
				return d, err
			}
			base := a.PageDown()
			a = min(base+addr.PageSize, in.End)
			for _, x := range parts {
				k := x.Range.Intersect(in)
				if k.Empty() || x.Err != nil { // a page beyond the end of its file, or of a device
					continue
				}
				if err := put(k.Start, page[k.Start-base:k.End-base]); err != nil {
					return d, err
				}
				know(k, x.AsOf, false, x.Call)
			}
		}
	}
	return d, nil
}

// Moment is process pid (0: the log's first) of a log at a step.
func Moment(ctx context.Context, t *replay.Trace, at format.Step, pid uint32) (*Subject, error) {
	v, err := t.At(at)
	if err != nil {
		return nil, err
	}
	p, err := t.Find(ctx, v, pid)
	if err != nil {
		return nil, err
	}
	s := &Subject{View: v, Process: p}
	if s.Registers, err = t.AllRegisters(at, p.Threads); err != nil {
		return nil, err
	}
	if s.Origin, err = t.Origin(at, p); err != nil {
		return nil, err
	}
	return s, s.findSignal(t)
}
