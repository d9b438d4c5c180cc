package analyze

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"memtrace/format"
	"memtrace/format/arch"
	"memtrace/replay"
)

// InfoReport is what a log is: where it comes from, what it holds, and whether it
// is whole.
type InfoReport struct {
	File       string   `item:"file,omit"`
	Format     string   `item:"format"`
	Whole      string   `item:"whole"`
	Ended      string   `item:"ended,omit"`
	Program    string   `item:"program,omit"`
	Directory  string   `item:"directory,omit"`
	Redacted   string   `item:"redacted,omit"`
	Started    string   `item:"started"`
	Duration   uint64   `item:"duration,ns"`
	Recorder   string   `item:"recorder,omit"`
	Kernel     string   `item:"kernel,omit"`
	Host       string   `item:"host,omit"`
	Arch       arch.ID  `item:"arch"`
	Clock      uint64   `item:"clock,ns"` // how fine it is
	XSave      uint64   `item:"extended state,bytes,omit"`
	Steps      uint64   `item:"steps"`
	First      *uint64  `item:"first step,omit"` // of a part of a run
	Size       uint64   `item:"size,bytes"`
	PageBytes  uint64   `item:"of snapshots,bytes"`
	CallBytes  uint64   `item:"of the data of calls,bytes"`
	RestAStep  *float64 `item:"bytes a step without these,omit"`
	Keyframes  uint64   `item:"keyframes"`
	Pages      uint64   `item:"page versions"`
	RawPages   uint64   `item:"stored whole"`
	Patches    uint64   `item:"stored as patches"`
	ZeroPages  uint64   `item:"zero pages"`
	Same       uint64   `item:"unchanged pages"`
	Shared     uint64   `item:"shared pages"`
	Mechanisms string   `item:"snapshots found pages by,omit"`
	Refs       *uint64  `item:"page references,omit"`
	Phases     uint64   `item:"phases,omit"`
	TracedBy   string   `item:"pages traced by,omit"`
	ARef       *float64 `item:"bytes a reference,omit"`
	// InsideShare is how many of the calls were recorded inside the programs.
	InsideShare *float64    `item:"calls recorded inside,percent,omit"`
	Options     []OptionRow // how the log was recorded
	Inside      []InsideRow // how the calls of processes were recorded, if some were to be recorded inside
	Events      []EventKindRow
	Chunks      []ChunkRow
	Files       []MappedFileRow // that programs mapped, if they were asked for
}

// MappedFileRow is a file that programs mapped.
type MappedFileRow struct {
	Path    string `col:"path,PATH"`
	Where   string `col:"where,WHERE"` // packed, here, missing, debug, named
	Size    uint64 `col:"size,SIZE,bytes"`
	Packed  uint64 `col:"packed,PACKED,bytes"`
	BuildID string `col:"build_id,BUILD ID"`
}

// OptionRow is one option of the recording.
type OptionRow struct {
	Option string `col:"option,OPTION"`
	Value  string `col:"value,VALUE"`
}

// EventKindRow is how many events of a type a log has.
type EventKindRow struct {
	Type   string `col:"type,TYPE"`
	Events uint64 `col:"events,EVENTS"`
}

// ChunkRow is what the chunks of a type take.
type ChunkRow struct {
	Type    string  `col:"type,TYPE"`
	Chunks  uint64  `col:"chunks,CHUNKS"`
	Stored  uint64  `col:"stored,STORED,bytes"`
	Decoded uint64  `col:"decoded,DECODED,bytes"`
	Share   float64 `col:"share,OF FILE,percent"`
}

// Sheet lays the report out.
func (r *InfoReport) Sheet() *Sheet {
	s := items("info", r)
	s.several = true
	ev, ch := sheet("events", r.Events), sheet("chunks", r.Chunks)
	ev.Title, ch.Title = "Events", "Chunks"
	if len(r.Options) > 0 {
		opts := sheet("options", r.Options)
		opts.Title = "Recorded with"
		s.Parts = append(s.Parts, opts)
	}
	if len(r.Inside) > 0 {
		in := sheet("inside", r.Inside)
		in.Title = "Calls recorded inside the programs"
		s.Parts = append(s.Parts, in)
	}
	s.Parts = append(s.Parts, ev, ch)
	if len(r.Files) > 0 {
		files := sheet("files", r.Files)
		files.Title = "Files"
		s.Parts = append(s.Parts, files)
	}
	return s
}

// Info tells what a log is. files asks for the files that its programs mapped, which those of a log
// with packed files are told of in any case.
func Info(ctx context.Context, t *replay.Trace, name string, files bool) (*InfoReport, error) {
	h, in := t.Header(), t.Info()
	kinds, err := kindsOf(ctx, t)
	if err != nil {
		return nil, err
	}
	r := &InfoReport{
		File: name, Format: fmt.Sprintf("%d.%d", format.Major, h.Minor), Whole: wholeness(t), Ended: in.Reason,
		Program: strings.Join(h.Argv, " "), Directory: h.Dir, Redacted: h.Redacted, Started: h.Start.UTC().Format("2006-01-02 15:04:05.000 MST"), Duration: in.Time,
		Recorder: h.Version, Kernel: h.Kernel, Host: h.Host, Arch: h.Arch, Clock: uint64(1) << h.TimeShift, XSave: uint64(h.XSave),
		Steps: t.Count(), Size: uint64(in.Size), Keyframes: in.Keyframes, Pages: in.Pages, RawPages: in.RawPages, Patches: in.Patches,
		ZeroPages: in.ZeroPages, Same: in.Same, Shared: in.Shared, Mechanisms: strings.Join(kinds.mechanisms, ", "),
	}
	if first := uint64(t.First()); first > 0 {
		r.First = &first
	}
	r.PageBytes, r.CallBytes = contents(in, kinds)
	if t.Count() > 0 {
		rest := r.Size - r.PageBytes - r.CallBytes
		for u := range in.Usage() {
			switch u.Type {
			case format.TypeRefs, format.TypeFile, format.TypeFData:
				rest -= u.Stored
			}
		}
		each := float64(rest) / float64(t.Count())
		r.RestAStep = &each
	}
	if t.HasRefs() {
		if err := r.refs(ctx, t); err != nil {
			return nil, err
		}
	}
	for _, l := range h.Options {
		key, value, _ := strings.Cut(l, "=")
		r.Options = append(r.Options, OptionRow{key, value})
	}
	r.inside(h, kinds.inside)
	for u := range in.Usage() {
		r.Chunks = append(r.Chunks, ChunkRow{fmt.Sprint(u.Type), u.Chunks, u.Stored, u.Decoded, percent(u.Stored, r.Size)})
	}
	for _, k := range slices.Sorted(maps.Keys(kinds.count)) {
		r.Events = append(r.Events, EventKindRow{k, kinds.count[k]})
	}
	if files || t.HasFiles() {
		err = r.files(ctx, t)
	}
	return r, err
}

// files tells where the files are that programs mapped.
func (r *InfoReport) files(ctx context.Context, t *replay.Trace) error {
	list, err := t.MappedFiles(ctx)
	if err != nil {
		return err
	}
	for _, f := range list {
		where := "packed"
		switch {
		case f.Debug:
			where = "debug"
		case f.Named:
			where = "named"
		case f.Packed > 0:
		case f.Missing != "":
			where = "missing"
		default:
			where = "here"
		}
		r.Files = append(r.Files, MappedFileRow{f.Path, where, f.Size, f.Packed, f.BuildID})
	}
	return nil
}

// refs tells of the page references of a log.
func (r *InfoReport) refs(ctx context.Context, t *replay.Trace) error {
	in := t.Info()
	r.Refs = &in.Refs
	type way struct {
		engine  format.RefEngine
		granule uint64
	}
	pools := map[way][2]uint64{} // smallest and largest
	var ways []way
	for x, err := range t.Phases() {
		if r.Phases++; r.Phases%1024 == 0 && err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return err
		}
		p := x.Phase
		if p.Pool == 0 {
			continue
		}
		w := way{p.Engine, p.Granule}
		pool, known := pools[w]
		if !known {
			pool[0] = p.Pool
			ways = append(ways, w)
		}
		pools[w] = [2]uint64{min(pool[0], p.Pool), max(pool[1], p.Pool)}
	}
	var by []string
	for _, w := range ways {
		pool := fmt.Sprint(pools[w][0])
		if pools[w][1] > pools[w][0] {
			pool += fmt.Sprintf(" to %d", pools[w][1])
		}
		by = append(by, fmt.Sprintf("%v, pool of %s blocks of %s", w.engine, pool, Size(w.granule)))
	}
	r.TracedBy = strings.Join(by, "; ")
	for u := range in.Usage() {
		if u.Type == format.TypeRefs && in.Refs > 0 {
			each := float64(u.Stored) / float64(in.Refs)
			r.ARef = &each
		}
	}
	return nil
}

// wholeness says whether a log is, and else where it ends.
func wholeness(t *replay.Trace) string {
	if !t.Truncated() {
		return "yes"
	}
	last, ok := t.Last()
	switch {
	case t.BeingWritten() && ok:
		return fmt.Sprintf("no: still being written, up to step %d now", last)
	case t.BeingWritten():
		return "no: still being written, without an event yet"
	case ok:
		return fmt.Sprintf("no: truncated at step %d", last)
	}
	return "no: cut before its first step"
}

// contents is how much of a log is what memory held: pages, and about what of the
// blobs is data that calls wrote, which is compressed together with the others.
func contents(in *format.Info, k *kindCount) (pages, calls uint64) {
	for u := range in.Usage() {
		switch u.Type {
		case format.TypeRaw, format.TypePatch:
			pages += u.Stored
		case format.TypeBlob:
			data := float64(k.data) * k.sample[1].ratio()
			other := float64(u.Decoded-min(u.Decoded, k.data)) * k.sample[0].ratio()
			if data > 0 {
				calls = uint64(float64(u.Stored) * data / (data + other))
			}
		}
	}
	return pages, calls
}

// blobSample is the beginning of what a log has of a kind of blob.
type blobSample []byte

const maxSample = 2 << 20

func (s *blobSample) take(b []byte) {
	if len(*s) < maxSample {
		*s = append(*s, b...)
	}
}

// ratio is to what part it can be compressed.
func (s blobSample) ratio() float64 {
	if len(s) == 0 {
		return 1
	}
	return float64(format.Compressed(s)) / float64(len(s))
}

type kindCount struct {
	data       uint64        // bytes that calls wrote
	sample     [2]blobSample // of other blobs of calls, and of that
	count      map[string]uint64
	mechanisms []string
	inside     *insideCount
}

// kindsOf counts events by type. It needs no state, so it runs at the speed of
// the reader.
func kindsOf(ctx context.Context, t *replay.Trace) (*kindCount, error) {
	k := &kindCount{count: map[string]uint64{}, inside: newInside(&format.State{})}
	end := uint64(0) // of the blobs so far
	for ev, err := range t.Events(0) {
		if err == nil && ev.Step%1024 == 0 {
			err = ctx.Err()
		}
		if err != nil {
			return nil, err
		}
		k.count[replay.TypeName(ev.Record)]++
		k.inside.see(ev)
		if c, ok := ev.Record.(*format.Syscall); ok {
			for i := range c.Blobs {
				// One that is equal to an earlier one is not stored again.
				if b := &c.Bufs[i]; c.Blobs[i] >= end {
					end = c.Blobs[i] + uint64(len(b.Data))
					if format.InMemory(b) {
						k.data += uint64(len(b.Data))
						k.sample[1].take(b.Data)
					} else {
						k.sample[0].take(b.Data)
					}
				}
			}
		}
		if s, ok := ev.Record.(*format.Snapshot); ok {
			if n := replay.MechanismName(s.Mechanism); !slices.Contains(k.mechanisms, n) {
				k.mechanisms = append(k.mechanisms, n)
			}
		}
	}
	return k, nil
}
