package web

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"memtrace/analyze"
	"memtrace/format"
	"memtrace/replay"
)

// Log is a log that the viewer shows. It is safe for concurrent use.
type Log struct {
	t       *replay.Trace
	name    string // of the file, where commands are told
	sum     *summary
	exactly format.Step     // of so many events, what is drawn is read again
	life    context.Context // ends with Close
	end     context.CancelFunc

	mu     sync.Mutex
	lives  []replay.Life // nil: not known yet
	failed error         // why the summary got no further
	done   bool          // all of the background's work
	grows  bool          // the log is still being written
	cache  map[string]*answer
	order  []string // of cache, the oldest first
}

// New shows a trace; name is its file's, "" if commands need none.
func New(t *replay.Trace, name string) *Log {
	l := &Log{t: t, name: name, sum: newSummary(t), exactly: exactly, cache: map[string]*answer{}}
	l.life, l.end = context.WithCancel(context.Background())
	return l
}

// Close ends what is being made. The trace is the caller's to close, when all questions
// have come back.
func (l *Log) Close() { l.end() }

// Growing says that the log is still being written: another Log will have more of it.
func (l *Log) Growing(yes bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.grows = yes
}

// Prepare makes the summary that series and lanes come from, and finds the processes. It
// is to run in the background; all else can be asked for meanwhile.
func (l *Log) Prepare(ctx context.Context) error {
	err := l.sum.make(ctx, l.t)
	var lives []replay.Life
	if err == nil {
		lives, err = l.t.Lives(ctx)
	}
	l.mu.Lock()
	l.lives, l.failed, l.done = lives, err, err == nil
	l.mu.Unlock()
	if err == nil {
		err = l.t.Names(ctx) // lists get faster
	}
	return err
}

// processesShare is the part of Ready that finding the processes takes.
const processesShare = 0.3

// ready is which part of what Prepare does is done, and why it got no further.
func (l *Log) ready() (float64, error) {
	l.mu.Lock()
	done, failed := l.done, l.failed
	l.mu.Unlock()
	if done {
		return 1, nil
	}
	return l.sum.ready() * (1 - processesShare), failed
}

// LogInfo is what the log says of itself.
func (l *Log) LogInfo() LogInfo {
	h, i := l.t.Header(), l.t.Info()
	x := LogInfo{
		File: "memtrace.data", Bytes: i.Size, Whole: !l.t.Truncated(), Program: shown(strings.Join(h.Argv, " ")), Argv: shownAll(h.Argv),
		Started: h.Start.UTC().Format(time.RFC3339), Duration: i.Time, First: uint64(l.t.First()), Steps: uint64(l.t.Steps()), Arch: h.Arch.String(), Kernel: shown(h.Kernel), Host: shown(h.Host),
		Processes: []ProcInfo{}, Kinds: kindInfos(), Classes: classNames,
		Features: Features{Stacks: l.t.HasStacks(), CallStacks: l.t.HasCallStacks(), Refs: l.t.HasRefs()},
	}
	if l.name != "" {
		x.File = shown(filepath.Base(l.name))
	}
	var failed error
	if x.Ready, failed = l.ready(); failed != nil && !errors.Is(failed, context.Canceled) {
		x.Failed = failed.Error()
	}
	l.sum.mu.RLock()
	x.Features.Snapshots, x.Features.Samples = l.sum.snaps, l.sum.samples > 0
	if n := len(l.sum.leaves); n > 0 { // a log that was cut has no total
		x.Duration = max(x.Duration, l.sum.leaves[n-1].time)
	}
	l.sum.mu.RUnlock()
	l.mu.Lock()
	defer l.mu.Unlock()
	x.Growing = l.grows
	for i := range l.lives {
		x.Processes = append(x.Processes, procInfo(&l.lives[i]))
	}
	if x.Program == "" && len(x.Processes) > 0 {
		x.Program = shown(strings.Join(x.Processes[0].Argv, " "))
	}
	return x
}

func procInfo(f *replay.Life) ProcInfo {
	p := ProcInfo{
		No: f.No, PID: f.PID, Parent: f.Parent, Name: shown(f.Name()), First: uint64(f.First), Last: uint64(f.Last), Begin: f.Start, End: f.End,
		Peak: f.Peak, PeakStep: uint64(f.PeakStep), Threads: f.Threads, Events: f.Events,
	}
	if n := len(f.Execs); n > 0 {
		p.Argv = shownAll(f.Execs[n-1].Argv)
	}
	if f.Ended {
		p.Status, p.Bad = replay.StatusText(f.Status), f.Status != 0
	}
	if f.Killed {
		n := uint64(f.Fatal)
		p.Fatal = &n
	}
	return p
}

// Query is what a question is limited to.
type Query struct {
	From, To format.Step // both included
	PID      uint32      // 0: all processes, or the first
}

// All is all of a log.
func (l *Log) All() Query {
	last, _ := l.t.Last()
	return Query{From: l.t.First(), To: last}
}

// StepOf turns what was typed into a step (replay.Trace.StepOf).
func (l *Log) StepOf(s string) (format.Step, error) { return l.t.StepOf(s) }

// options are those of a report.
func (l *Log) options(q Query) analyze.Options {
	return analyze.Options{From: q.From, To: q.To, PID: q.PID, Log: l.name}
}

// procs are the numbers of the processes with a pid; nil means all.
func (l *Log) procs(pid uint32) (map[uint32]bool, error) {
	if pid == 0 {
		return nil, nil
	}
	of := map[uint32]bool{}
	l.sum.mu.RLock()
	defer l.sum.mu.RUnlock()
	for i := range l.sum.threads {
		if x := &l.sum.threads[i]; x.pid == pid {
			of[x.proc] = true
		}
	}
	if len(of) == 0 && l.sum.steps == l.sum.total {
		return nil, fmt.Errorf("pid %d: %w in this log", pid, replay.ErrNoProcess)
	}
	return of, nil
}

func ptr[T any](v T) *T { return &v }

func hexAddr[A ~uint64](a A) string { return fmt.Sprintf("0x%x", uint64(a)) }
