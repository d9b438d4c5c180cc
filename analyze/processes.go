package analyze

import (
	"cmp"
	"context"
	"sort"
	"strings"

	"memtrace/format"
	"memtrace/replay"
)

// ProcessesReport tells of every process.
type ProcessesReport struct {
	Rows []ProcessRow // in the order of their birth
}

// ProcessRow is one process.
type ProcessRow struct {
	PID      uint32      `col:"pid,PID"`
	Parent   *uint32     `col:"parent,PARENT"`
	First    format.Step `col:"first_step,FROM"`
	Last     format.Step `col:"last_step,TO"`
	Lived    uint64      `col:"duration,LIVED,ns,drop=4"`
	Threads  uint64      `col:"threads,THREADS,drop=3"`
	Events   uint64      `col:"events,EVENTS,drop=2"`
	Peak     uint64      `col:"peak,PEAK,bytes"`
	PeakStep format.Step `col:"peak_step,AT STEP,drop=1"`
	End      string      `col:"end,END"`
	Program  string      `col:"program,PROGRAM,max=60,cut=begin"`
}

// Sheet lays the report out.
func (r *ProcessesReport) Sheet() *Sheet {
	s := sheet("processes", r.Rows)
	s.Title = "Processes"
	return s
}

// Processes tells of every process of the log.
func Processes(ctx context.Context, t *replay.Trace, o Options) (*ProcessesReport, error) {
	lives, err := t.Lives(ctx)
	if err != nil {
		return nil, err
	}
	r := &ProcessesReport{}
	by := programs{map[uint32]*replay.Life{}, map[uint32]string{}, map[*replay.Image]string{}}
	for i := range lives {
		l := &lives[i]
		name, parent := by.next(l)
		if o.PID != 0 && l.PID != o.PID || l.First > o.To || l.Last < o.From {
			continue
		}
		var ppid *uint32
		if parent != nil {
			ppid = &parent.PID
		}
		r.Rows = append(r.Rows, ProcessRow{
			PID: l.PID, Parent: ppid, First: l.First, Last: l.Last, Lived: l.End - l.Start, Threads: uint64(l.Threads), Events: l.Events,
			Peak: l.Peak, PeakStep: l.PeakStep, End: ending(l), Program: name,
		})
	}
	return r, nil
}

// ending says how a process left the log.
func ending(l *replay.Life) string {
	switch {
	case l.Ended:
		return replay.StatusText(l.Status)
	case l.Detached:
		return "detached"
	}
	return "still running"
}

// programs says what each process ran last. A log of a stranger may name parents in
// a circle: only one that was born before its child is one. Lives come in the order
// of births, so that what a parent ran is known before it is asked for.
type programs struct {
	lives map[uint32]*replay.Life
	birth map[uint32]string        // what a process was a copy of when it was born
	lines map[*replay.Image]string // for a hundred thousand children of one parent
}

// maxProgram is how much of a command line is shown.
const maxProgram = 4096

// unknownProgram: attached to, and it ran no other since.
const unknownProgram = "(unknown)"

// next is the command line of what l ran last, and its parent, nil if there is
// none. A process that ran nothing itself is a copy of what its parent ran when it was
// born. next is to be called for all lives in order.
func (p *programs) next(l *replay.Life) (name string, parent *replay.Life) {
	was := unknownProgram
	if parent = p.lives[l.Parent]; parent != nil {
		was = cmp.Or(p.ran(parent, l.First), p.birth[parent.No])
	}
	p.lives[l.No], p.birth[l.No] = l, was
	if own := p.ran(l, l.Last); own != "" {
		return own, parent
	}
	if was != unknownProgram {
		was = "(fork of) " + was
	}
	return was, parent
}

// ran is what l had run by itself by a step, or "".
func (p *programs) ran(l *replay.Life, by format.Step) string {
	n := sort.Search(len(l.Execs), func(i int) bool { return l.Execs[i].Step > by })
	if n == 0 {
		return ""
	}
	e := &l.Execs[n-1]
	line, known := p.lines[e]
	if !known {
		line = commandLine(e)
		p.lines[e] = line
	}
	return line
}

func commandLine(e *replay.Image) string {
	line := e.Path
	if len(e.Argv) > 0 {
		line = strings.TrimRight(strings.Join(e.Argv, " "), " ") // setproctitle pads
	}
	if len(line) > maxProgram {
		line = line[:maxProgram] + "..."
	}
	return line
}
