package export

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
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
	// The folder has its name when all is in it.
	if _, err := os.Lstat(dir); err == nil {
		return nil, &fs.PathError{Op: "mkdir", Path: dir, Err: fs.ErrExist}
	}
	name := dir
	if dir, err = os.MkdirTemp(filepath.Dir(name), "."+filepath.Base(name)+".*.part"); err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
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
	notes = append(notes, fmt.Sprintf("%d ranges, %s in %s", len(x.Ranges), analyze.Size(known), name))
	if unknown > 0 {
		notes = append(notes, fmt.Sprintf("%s are not known (index.json says which are)", analyze.Size(unknown)))
	}
	if err := os.Rename(dir, name); err != nil {
		return nil, err
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
	for i, reg := range r.Thread.Arch.Registers() {
		if i < len(r.Values) {
			d.Registers[reg.Name] = addr.Addr(r.Values[i]).String()
		}
	}
	return d
}

// dumpRange writes one file, unless there is nothing to write.
func dumpRange(ctx context.Context, dir string, space *replay.AddressSpace, v vma.VMA, r addr.Range, live bool) (d DumpRange, err error) {
	x := dumper{space: space, r: r, live: live, file: holeFile{name: filepath.Join(dir, fmt.Sprintf("%x-%x.bin", uint64(r.Start), uint64(r.End)))}}
	x.d = DumpRange{
		Start: r.Start.String(), End: r.End.String(), Perms: v.Prot.String(), Kind: v.Kind.String(),
		Offset: v.Slice(r).Offset, Path: v.Name, Known: []Known{},
	}
	for run, err := range space.Pages(r) {
		if err == nil {
			err = x.run(ctx, run)
		}
		if err != nil {
			return x.d, errors.Join(err, x.file.abandon())
		}
	}
	if x.file.f != nil {
		x.d.File = filepath.Base(x.file.name)
	}
	return x.d, x.file.close(int64(r.Len()))
}

// dumper writes what is known of a stretch of memory, and notes what that is.
type dumper struct {
	space *replay.AddressSpace
	r     addr.Range
	live  bool
	d     DumpRange
	file  holeFile
	page  [addr.PageSize]byte

	// The last of d.Known.
	last     addr.Range
	lastOf   format.Step
	lastZero bool
}

// run writes pages of which the same is known.
func (x *dumper) run(ctx context.Context, run replay.Run) error {
	in := addr.Reach(run.Addr, run.N<<addr.PageShift).Intersect(x.r)
	switch {
	case run.Mixed || run.What == format.PageData || run.What == format.PageFile:
	case run.What == format.PageZero:
		x.know(in, run.AsOf, true, false)
		return nil
	default:
		return nil
	}
	for a := in.Start; a < in.End; {
		if err := ctx.Err(); err != nil {
			return err
		}
		parts, err := x.space.Stretches(a, &x.page)
		if err != nil && !x.live {
			return err
		}
		base := a.PageDown()
		a = min(base+addr.PageSize, in.End)
		for _, part := range parts {
			k := part.Range.Intersect(in)
			if k.Empty() || part.Err != nil { // a page beyond the end of its file, or of a device
				continue
			}
			if err := x.file.put(int64(k.Start-x.r.Start), x.page[k.Start-base:k.End-base]); err != nil {
				return err
			}
			x.know(k, part.AsOf, false, part.Call)
		}
	}
	return nil
}

// know notes that the bytes of k are known.
func (x *dumper) know(k addr.Range, asOf format.Step, zero, call bool) {
	d := &x.d
	d.Bytes += k.Len()
	if n := len(d.Known); n > 0 && x.last.End == k.Start && (x.live || x.lastOf == asOf) && x.lastZero == zero && d.Known[n-1].Call == call {
		x.last.End = k.End
		d.Known[n-1].End = k.End.String()
		return
	}
	known := Known{Start: k.Start.String(), End: k.End.String(), Zero: zero, Call: call}
	if !x.live {
		known.AsOf = &asOf
	}
	x.last, x.lastOf, x.lastZero = k, asOf, zero
	d.Known = append(d.Known, known)
}

// holeFile is a file with holes where nothing was put. It is made with the first
// byte.
type holeFile struct {
	name  string
	f     *os.File
	waits []byte // to be written at off
	off   int64
}

// put puts bytes at an offset. Offsets rise.
func (h *holeFile) put(at int64, b []byte) (err error) {
	if h.f == nil {
		if h.f, err = os.OpenFile(h.name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600); err != nil {
			return err
		}
	}
	if at != h.off+int64(len(h.waits)) || len(h.waits) >= 1<<20 {
		if err := h.flush(); err != nil {
			return err
		}
		h.off = at
	}
	h.waits = append(h.waits, b...)
	return nil
}

func (h *holeFile) flush() error {
	if len(h.waits) == 0 {
		return nil
	}
	_, err := h.f.WriteAt(h.waits, h.off)
	h.waits = h.waits[:0]
	return err
}

// close ends the file, if there is one, with the size that it is to have.
func (h *holeFile) close(size int64) error {
	if h.f == nil {
		return nil
	}
	return errors.Join(h.flush(), h.f.Truncate(size), h.f.Close())
}

// abandon closes it as it is.
func (h *holeFile) abandon() error {
	if h.f == nil {
		return nil
	}
	return h.f.Close()
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
