package analyze

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"memtrace/format"
	"memtrace/replay"
)

// Info tells what a log is: where it comes from, what it holds, and whether it
// is whole.
func Info(ctx context.Context, t *replay.Trace, name string) (*Result, error) {
	h, in := t.Header(), t.Info()
	r := &Result{Report: "info", Columns: []Column{{Key: "item", Title: "", Unit: Text}, {Key: "value", Title: "", Unit: Text}}}
	item := func(k string, v any, u Unit) {
		r.Rows = append(r.Rows, []any{k, v})
		r.Units = append(r.Units, u)
	}
	text := func(k, v string) {
		if v != "" {
			item(k, v, Text)
		}
	}
	kinds, err := kindsOf(ctx, t)
	if err != nil {
		return nil, err
	}
	text("file", name)
	text("format", fmt.Sprintf("%d.%d", format.Major, h.Minor))
	whole := "yes"
	if t.Truncated() {
		whole = "no: cut before its first step"
		if last, ok := t.Last(); ok {
			whole = fmt.Sprintf("no: truncated at step %d", last)
		}
	}
	text("whole", whole)
	text("ended", in.Reason)
	text("program", strings.Join(h.Argv, " "))
	text("directory", h.Dir)
	text("started", h.Start.UTC().Format("2006-01-02 15:04:05.000 MST"))
	item("duration", in.Time, Duration)
	text("recorder", h.Version)
	text("kernel", h.Kernel)
	text("host", h.Host)
	text("arch", h.Arch.String())
	text("options", strings.Join(h.Options, " "))
	item("clock", uint64(1)<<h.TimeShift, Duration)
	item("steps", uint64(in.Steps), Count)
	item("size", uint64(in.Size), Bytes)
	pages, calls := contents(in, kinds)
	item("of snapshots", pages, Bytes)
	item("of the data of calls", calls, Bytes)
	if in.Steps > 0 {
		item("bytes a step without these", float64(uint64(in.Size)-pages-calls)/float64(in.Steps), Count)
	}
	item("keyframes", in.Keyframes, Count)
	item("page versions", in.Pages, Count)
	item("stored whole", in.RawPages, Count)
	item("stored as patches", in.Patches, Count)
	item("zero pages", in.ZeroPages, Count)
	item("unchanged pages", in.Same, Count)
	item("shared pages", in.Shared, Count)
	text("snapshots found pages by", strings.Join(kinds.mechanisms, ", "))

	use := &Result{Report: "chunks", Title: "Chunks", Columns: []Column{
		{Key: "type", Title: "TYPE", Unit: Text}, {Key: "chunks", Title: "CHUNKS", Unit: Count}, {Key: "stored", Title: "STORED", Unit: Bytes},
		{Key: "decoded", Title: "DECODED", Unit: Bytes}, {Key: "share", Title: "OF FILE", Unit: Percent},
	}}
	for u := range in.Usage() {
		use.Rows = append(use.Rows, []any{
			fmt.Sprint(u.Type), u.Chunks, u.Stored, u.Decoded, percent(u.Stored, uint64(in.Size)),
		})
	}
	ev := &Result{Report: "events", Title: "Events", Columns: []Column{{Key: "type", Title: "TYPE", Unit: Text}, {Key: "events", Title: "EVENTS", Unit: Count}}}
	for _, k := range slices.Sorted(maps.Keys(kinds.count)) {
		ev.Rows = append(ev.Rows, []any{k, kinds.count[k]})
	}
	r.Parts = []*Result{ev, use}
	return r, nil
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
}

// kindsOf counts events by type. It needs no state, so it runs at the speed of
// the reader.
func kindsOf(ctx context.Context, t *replay.Trace) (*kindCount, error) {
	k := &kindCount{count: map[string]uint64{}}
	end := uint64(0) // of the blobs so far
	for ev, err := range t.Events(0) {
		if err == nil && ev.Step%1024 == 0 {
			err = ctx.Err()
		}
		if err != nil {
			return nil, err
		}
		k.count[replay.TypeName(ev.Record)]++
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
