package analyze

import (
	"cmp"
	"context"
	"fmt"
	"iter"
	"strings"
	"time"

	"memtrace/format"
	"memtrace/replay"
)

// Options say what of the log a report is about.
type Options struct {
	From format.Step
	To   format.Step // included
	// At is the step that a report about one moment is to look at; nil leaves
	// the choice to the report.
	At  *format.Step
	PID uint32 // 0: all processes, or the first where a report is about one
	// Top keeps that many rows, 0 the report's own choice, <0 all.
	Top int
	// Sort is the key of the column to sort by, biggest first (texts: A first);
	// a leading '-' turns it round.
	Sort string
	// ASCII keeps to characters that every terminal has.
	ASCII bool
	// Width is how wide a table may be; 0: as wide as it is.
	Width int
	// By says how call sites are told apart, one of SiteBys or "site", which leaves the
	// choice to the report. Without it syscalls are counted by name.
	By string
	// Skip are functions and files that are to be taken for an allocator's, beside those
	// that are known; "none": those are not.
	Skip []string

	// What ranks call sites, one of SiteWhats; "" is the default.
	What string
	// Frees has call sites say who gave their memory back.
	Frees bool
	// Stacks is how many stacks of each call site are shown.
	Stacks int

	// Log is the name of the log where commands are told; "" is the default.
	Log string

	// Of what-if and working-set; zero: the report's own choice.
	Memory    uint64          // bytes
	FaultCost time.Duration   // of one
	Tau       []time.Duration // windows

	// Progress, if it is not nil, is told now and then which step a report has reached. It
	// may read the log several times.
	Progress func(format.Step)

	everyProcess bool // PID 0 means all, also of page references
}

// Value is what a report found: a struct with rows or items, each of a type of
// its own. Sheet lays it out to be written.
type Value interface{ Sheet() *Sheet }

// Report is a report that can be asked for by name.
type Report struct {
	Name, Short string
	Run         func(context.Context, *replay.Trace, Options) (Value, error)
	top         int // rows shown when Top is 0; 0: all
}

// Reports are all reports, in the order in which they are listed.
var Reports = []Report{
	{"summary", "what went wrong, what ran, how long, and what grew, on one screen", run(Summary), 0},
	{"findings", "what went wrong, worst first, and what to type to see more", run(Findings), 0},
	{"syscalls", "calls by name: how many, how many failed, how long they took", runSyscalls, 0},
	{"slow", "the slowest calls, with their files, threads and steps", run(Slowest), 20},
	{"files", "files by calls, bytes read and written, and time", run(Files), 20},
	{"threads", "every thread: its life, calls, and time in calls", run(Threads), 0},
	{"errors", "failed calls by name and errno", run(Failures), 0},
	{"growth", "bytes mapped and unmapped by kind of memory, and the peak of each", run(Growth), 0},
	{"callsites", "who asked the kernel for memory, and who still has it (record -k)", run(CallSites), 20},
	{"maps", "the largest mappings at a step, or at the peak", run(Maps), 20},
	{"sharing", "private and shared, anonymous and file-backed memory at that step", run(Sharing), 0},
	{"signals", "signals by name: how many, from whom, which were fatal", run(Signals), 0},
	{"processes", "every process: program, life, exit, peak", run(Processes), 0},
	{"writers", "the mappings that are written to most, as snapshots saw them", run(Writers), 20},
	{"shm", "shared memory segments and objects, and who attached them when", run(SharedMemory), 0},
	{"system", "the system's memory, and what moved in it", run(System), 0},
	{"timeline", "memory over time, of the program and of the system", run(Timeline), 0},
	{"leaks", "whether memory grows without end, and whose", run(Leaks), 0},
	{"memory-curve", "page references that miss at each size of memory", run(MemoryCurve), 0},
	{"what-if", "faults and slowdown with less memory (--memory), and whose they are", run(WhatIf), 0},
	{"working-set", "memory that is used within windows of time (--tau)", run(WorkingSet), 0},
	{"hot", "mappings by what of them is used, and what was written once and left", run(Hot), 20},
	{"phases", "where the program's use of memory changes, and what it uses then", run(Behaviour), 0},
}

// run has a report's function return any Value.
func run[V Value](f func(context.Context, *replay.Trace, Options) (V, error)) func(context.Context, *replay.Trace, Options) (Value, error) {
	return func(ctx context.Context, t *replay.Trace, o Options) (Value, error) { return f(ctx, t, o) }
}

// Find finds a report by its name or an unambiguous beginning of it.
func Find(name string) (*Report, error) {
	var found []*Report
	for i := range Reports {
		if Reports[i].Name == name {
			return &Reports[i], nil
		}
		if strings.HasPrefix(Reports[i].Name, name) && name != "" {
			found = append(found, &Reports[i])
		}
	}
	if len(found) == 1 {
		return found[0], nil
	}
	if len(found) > 1 {
		var names []string
		for _, r := range found {
			names = append(names, r.Name)
		}
		return nil, fmt.Errorf("report %q may be %s", name, strings.Join(names, " or "))
	}
	return nil, fmt.Errorf("no report %q: memtrace report list names them all", name)
}

// Make runs the report and lays it out, with its rows in the order and number
// asked for.
func (r *Report) Make(ctx context.Context, t *replay.Trace, o Options) (*Sheet, error) {
	if t.Count() == 0 {
		return nil, replay.ErrEmpty
	}
	v, err := r.Run(ctx, t, o)
	if err != nil {
		return nil, err
	}
	s := v.Sheet()
	s.Width = o.Width
	if o.Sort != "" {
		if err := s.Sort(o.Sort); err != nil {
			return nil, err
		}
	}
	if top := cmp.Or(o.Top, r.top); top > 0 && s.Units == nil {
		if left := s.Cut(top); left > 0 {
			s.Notes = append(s.Notes, fmt.Sprintf("%d more (--top -1 shows all)", left))
		}
	}
	return s, nil
}

// list is the table of all reports.
type list []listRow

type listRow struct {
	Name  string `col:"name,REPORT"`
	Short string `col:"short,WHAT IT SAYS"`
}

// Sheet lays out the list.
func (l list) Sheet() *Sheet { return sheet("list", l) }

// List is the table of all reports.
func List() *Sheet {
	var l list
	for _, r := range Reports {
		l = append(l, listRow{r.Name, r.Short})
	}
	return l.Sheet()
}

// walk goes over the events of the options' range, and looks at ctx now and
// then. Events of other processes than the one asked for are given too: state
// must follow them.
func walk(ctx context.Context, t *replay.Trace, o Options) iter.Seq2[*replay.Moment, error] {
	return func(yield func(*replay.Moment, error) bool) {
		n := 0
		for m, err := range t.Walk(o.From, o.To) {
			if n++; n%1024 == 0 && err == nil {
				err = ctx.Err()
				if o.Progress != nil {
					o.Progress(m.Event.Step)
				}
			}
			if !yield(m, err) || err != nil {
				return
			}
		}
	}
}

// mine says whether m's event is of the process asked for.
func (o Options) mine(m *replay.Moment) bool { return o.PID == 0 || m.Thread.TGID == o.PID }
