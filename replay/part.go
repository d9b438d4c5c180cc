package replay

import (
	"context"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"

	"memtrace/format"
)

// Cut writes the steps from..to (both included) of a run to w, as a log of its own
// (format.Cut). The logs are parts of one run, in any order.
func Cut(ctx context.Context, w io.Writer, logs []*Trace, from, to format.Step, options []string) (*format.Info, error) {
	SortParts(logs)
	part := format.Part{From: from, To: to, Options: options}
	readers := make([]*format.Reader, 0, len(logs))
	for _, t := range logs {
		if t.Steps() < from || t.Count() == 0 {
			continue
		}
		if begin := t.Header().Begin.First(); len(readers) == 0 && from > begin {
			k, err := t.knowledge(ctx, from)
			if err != nil {
				return nil, err
			}
			part.Facts = k.facts
		}
		readers = append(readers, t.r)
	}
	if len(readers) == 0 {
		return nil, fmt.Errorf("no log has step %d", from)
	}
	if !slices.ContainsFunc(readers, (*format.Reader).HasFiles) {
		return format.Cut(w, readers, part)
	}
	return cutWithFiles(w, readers, part)
}

// cutWithFiles is format.Cut for logs with packed files, which the new log has too.
func cutWithFiles(w io.Writer, readers []*format.Reader, part format.Part) (*format.Info, error) {
	f, err := os.CreateTemp("", "memtrace-cut-*")
	if err != nil {
		return nil, err
	}
	defer func() {
		_ = f.Close()
		_ = os.Remove(f.Name())
	}()
	info, err := format.Cut(f, readers, part)
	if err != nil {
		return nil, err
	}
	r, err := format.NewReader(f, info.Size, nil)
	if err != nil {
		return nil, err
	}
	packed, err := format.CopyFiles(w, r, readers)
	if err != nil {
		return nil, fmt.Errorf("the packed files: %w", err)
	}
	info.Size = packed.Size
	return info, nil
}

// SortParts brings logs of one run into their order.
func SortParts(logs []*Trace) {
	slices.SortStableFunc(logs, func(a, b *Trace) int {
		return int(int64(a.Header().Begin.First()) - int64(b.Header().Begin.First()))
	})
}

// knowledge is what is known of processes beside the state.
type knowledge struct {
	fds  descriptors
	runs map[uint32]*format.Attach // programs, by process
}

// knowledge is that of before a step. It goes through the events up to there.
func (t *Trace) knowledge(ctx context.Context, n format.Step) (*knowledge, error) {
	k := &knowledge{runs: map[uint32]*format.Attach{}}
	procs := map[uint32]uint32{} // of threads
	for ev, err := range t.r.Events(0) {
		if err == nil && ev.Step%1024 == 0 {
			err = ctx.Err()
		}
		if err != nil {
			return nil, err
		}
		if ev.Step >= n {
			break
		}
		k.fds.feed(ev)
		for _, c := range ev.Changes {
			switch c := c.(type) {
			case *format.ThreadSet:
				if _, known := procs[c.Thread.No]; !known && c.Thread.No == c.Thread.Proc && k.runs[c.Thread.Parent] != nil {
					k.runs[c.Thread.Proc] = k.runs[c.Thread.Parent] // a fork
				}
				procs[c.Thread.No] = c.Thread.Proc
			case *format.ThreadEnd:
				if procs[c.No] == c.No {
					delete(k.runs, c.No)
				}
				delete(procs, c.No)
			}
		}
		switch r := ev.Record.(type) {
		case *format.Exec:
			k.runs[procs[ev.Thread]] = &format.Attach{Path: r.Path, Argv: slices.Clone(r.Argv), Auxv: slices.Clone(r.Auxv)}
		case *format.Attach:
			if r.Path != "" {
				k.runs[procs[ev.Thread]] = &format.Attach{Path: r.Path, Argv: slices.Clone(r.Argv), Auxv: slices.Clone(r.Auxv)}
			}
		}
	}
	return k, nil
}

// facts are those of the process of a thread.
func (k *knowledge) facts(t *format.Thread) *format.Attach {
	a := &format.Attach{PID: t.TGID, Goes: true}
	if run := k.runs[t.Proc]; run != nil {
		a.Path, a.Argv, a.Auxv = run.Path, run.Argv, run.Auxv
	}
	if f := k.fds.of[t.No]; f != nil {
		open := maps.Collect(f.All())
		for _, n := range slices.Sorted(maps.Keys(open)) {
			a.FDs = append(a.FDs, format.FD{Num: n, Name: open[n].Name, CloExec: open[n].CloExec})
		}
	}
	return a
}
