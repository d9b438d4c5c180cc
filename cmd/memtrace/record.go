//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"os/user"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"memtrace/format"
	"memtrace/format/arch"
	"memtrace/record"
	"memtrace/replay"
)

// Exit statuses of record (as env(1) and docker run).
const (
	exitFailed        = 125
	exitNotExecutable = 126
	exitNotFound      = 127
)

type recordFlags struct {
	output      string
	trace       string
	follow      bool
	attach      []int
	snapshot    string
	user        string
	env         []string
	dir         string
	maxSize     string
	maxTime     time.Duration
	maxEvents   uint64
	print       string
	quiet       bool
	check       bool
	dataLimit   int
	stringLimit int
	noPin       bool
	meminfo     string
	stepFlags
}

func newRecordCmd() *cobra.Command {
	var f recordFlags
	o := record.DefaultOptions()
	c := &cobra.Command{
		Use:   "record [flags] [--] PROG [ARG...]",
		Short: "Run or attach to a program and record what it does with its memory",
		Long: `Run a program, or attach to running ones with -p, and record every system
call, signal, thread and process event and the contents of memory into one log.

The exit status is the program's own; a program killed by a signal ends memtrace
by the same signal. 125: memtrace failed, 126: PROG cannot be executed, 127: PROG
was not found.

With -e SET smaller than all, calls outside the set run at full speed behind a
seccomp filter. A program with such a filter cannot outlive its recorder: it is
killed if memtrace is. The filter is not used with -p, --follow=false and --max-*.`,
		Example: `  memtrace record ./prog
  memtrace record -e memory -o prog.mtl -- ./prog --its --flags
  memtrace record -p 1234 --max-time 10s`,
		Args: func(c *cobra.Command, args []string) error {
			if (len(args) == 0) == (len(f.attach) == 0) {
				return errors.New("name a program to run, or processes to attach to with -p")
			}
			return nil
		},
		RunE: func(c *cobra.Command, args []string) error { return runRecord(&f, args) },
	}
	fs := c.Flags()
	fs.SetInterspersed(false)
	fs.StringVarP(&f.output, "output", "o", "memtrace.data", "the log `FILE`; - is standard output, %p the program's pid")
	fs.StringVarP(&f.trace, "trace", "e", "all", "calls to record, a `SET` in strace's syntax")
	fs.BoolVarP(&f.follow, "follow", "f", true, "follow child processes")
	fs.IntSliceVarP(&f.attach, "attach", "p", nil, "attach to running processes: `PID`,...")
	fs.StringVar(&f.snapshot, "snapshot", "default", "when memory is saved: `POLICY`,... of exec,exit,signal,every=N,interval=T,syscall=NAME,step,none")
	fs.StringVarP(&f.user, "user", "u", "", "run as this `USER`")
	fs.StringArrayVarP(&f.env, "env", "E", nil, "run with this variable `VAR=VAL`, or without it (VAR)")
	fs.StringVarP(&f.dir, "dir", "C", "", "run in this `DIR`")
	fs.StringVar(&f.maxSize, "max-size", "", "stop recording at this `SIZE` of the log (K, M, G); the program runs on")
	fs.DurationVar(&f.maxTime, "max-time", 0, "stop recording after this `TIME`; the program runs on")
	fs.Uint64Var(&f.maxEvents, "max-events", 0, "stop recording after `N` events; the program runs on")
	fs.StringVarP(&f.print, "print", "v", "", "print each event as it happens, to standard error or `FILE`")
	fs.Lookup("print").NoOptDefVal = "-"
	fs.BoolVarP(&f.quiet, "quiet", "q", false, "no closing line")
	fs.StringVar(&f.meminfo, "meminfo", "auto", "sample the system's and the processes' memory every `INTERVAL`; auto is 1s, closer at the start; off")
	fs.Lookup("meminfo").NoOptDefVal = "auto"
	fs.BoolVarP(&f.step, "step", "s", false, "live console: stop before and after every system call")
	fs.StringVar(&f.script, "exec-script", "", "console commands from `FILE`, from the program's start on")
	fs.IntVar(&f.dataLimit, "data-limit", o.DataLimit, "keep up to `N` bytes of what each call writes into memory")
	fs.IntVar(&f.stringLimit, "string-limit", o.StringLimit, "keep up to `N` bytes of the data that each call reads from memory")
	fs.BoolVar(&f.check, "check", false, "compare the log's mappings with the kernel's after every change")
	fs.BoolVar(&f.noPin, "no-pin", false, "leave a program with one thread on all its CPUs")
	return c
}

// failRecord gives an error of record its exit status.
func failRecord(status int, format string, args ...any) error {
	return &exitError{code: status, err: fmt.Errorf(format, args...)}
}

func runRecord(f *recordFlags, args []string) error {
	o, err := f.options()
	if err == nil {
		err = f.goesWith(f.output)
	}
	if err != nil {
		return usageError{err}
	}
	var path string
	argv := args
	if len(f.attach) == 0 {
		if path, err = findProgram(args[0]); err != nil {
			if errors.Is(err, os.ErrNotExist) || errors.Is(err, exec.ErrNotFound) {
				return failRecord(exitNotFound, "record %s: not found", args[0])
			}
			return failRecord(exitNotExecutable, "record %s: cannot execute: %w", args[0], bare(err))
		}
	}
	if f.dir != "" {
		if st, err := os.Stat(f.dir); err != nil || !st.IsDir() {
			return failRecord(exitFailed, "record -C %s: not a directory", f.dir)
		}
	}
	debug.SetGCPercent(400) // the recorder keeps little, and each collection holds the program up
	out, err := openLog(f.output)
	if err != nil {
		return failRecord(exitFailed, "record -o %s: %w", f.output, err)
	}
	w, err := format.NewWriter(out, header(argv), nil)
	if err != nil {
		return failRecord(exitFailed, "record -o %s: %w", f.output, err)
	}
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	var pid atomic.Int64
	o.Started = func(p int) { pid.Store(int64(p)) }
	var job jobControl
	o.Stopped = job.program
	stopPrinting, err := f.printTo(w, o)
	if err != nil {
		out.remove()
		return failRecord(exitFailed, "record -v: %w", err)
	}
	defer stopPrinting()
	interrupt, endConsole, err := f.console(o, w.Header().Start)
	if err != nil {
		out.remove()
		return failRecord(exitFailed, "record --exec-script: %w", err)
	}
	r := record.New(w, *o)
	onInterrupt := func() bool { return false }
	if interrupt != nil {
		onInterrupt = func() bool { return interrupt(r) }
	}
	go serveSignals(stop, onInterrupt, len(f.attach) > 0, &pid, &job)
	var res *record.Result
	if len(f.attach) > 0 {
		res, err = r.Attach(ctx, f.attach...)
	} else {
		res, err = r.Run(ctx, path, argv, f.environ())
	}
	quit := endConsole()
	if err != nil {
		_ = w.Close("failed")
		out.remove()
		switch {
		case errors.Is(err, record.ErrNotFound):
			return failRecord(exitNotFound, "record %s: %w", args[0], err)
		case errors.Is(err, record.ErrNotExecutable):
			return failRecord(exitNotExecutable, "record %s: %w", args[0], err)
		}
		return failRecord(exitFailed, "record: %w", err)
	}
	cerr := w.Close(res.Reason)
	if res.Err == nil {
		res.Err = cerr
	}
	if !res.Ended && pid.Load() != 0 && res.Reason != record.Interrupted && res.Reason != record.Detached {
		// The program is our child still: the shell waits for us, and we for it.
		res.Status, res.Ended = record.WaitFor(int(pid.Load()))
	}
	name := out.finish(int(pid.Load()))
	if res.Err != nil {
		fmt.Fprintf(os.Stderr, "memtrace: record -o %s: %v: recording stopped there, the log is readable up to it, the program was not disturbed\n", f.output, res.Err)
	}
	if !f.quiet && f.output != "-" {
		fmt.Fprintf(os.Stderr, "memtrace: %d events, %s in %s (memtrace report %s)\n", uint64(w.State().Step)+1, size(w.Bytes()), name, name)
		if res.InPart > 0 {
			fmt.Fprintf(os.Stderr, "memtrace: processes whose memory was saved in part at their end, not to slow the program down: %d (--snapshot exit saves all)\n", res.InPart)
		}
	}
	if quit {
		return nil
	}
	if f.check {
		fmt.Fprintf(os.Stderr, "memtrace: %d checks of the mappings against the kernel's, %d differed\n", res.Checks, res.Differed)
	}
	return recordStatus(res)
}

// options turns the flags into what the recorder is asked for.
func (f *recordFlags) options() (*record.Options, error) {
	o := record.DefaultOptions()
	var err error
	if o.Trace, err = arch.ParseSet(f.trace); err != nil {
		return nil, fmt.Errorf("record -e: %w", err)
	}
	if o.Snapshot, err = record.ParsePolicy(f.snapshot); err != nil {
		return nil, fmt.Errorf("record --snapshot: %w", err)
	}
	if o.MaxBytes, err = parseSize(f.maxSize); err != nil {
		return nil, fmt.Errorf("record --max-size: %w", err)
	}
	if f.user != "" {
		if o.User, err = findUser(f.user); err != nil {
			return nil, fmt.Errorf("record -u: %w", err)
		}
	}
	switch f.meminfo {
	case "auto":
	case "off", "0":
		o.MemInfo = false
	default:
		if o.MemInfoInterval, err = time.ParseDuration(f.meminfo); err != nil || o.MemInfoInterval < time.Millisecond {
			return nil, fmt.Errorf("record --meminfo: %q is no interval of 1ms or more, auto or off", f.meminfo)
		}
	}
	o.Follow, o.Dir, o.Check, o.NoPin = f.follow, f.dir, f.check, f.noPin
	if f.maxTime < 0 {
		return nil, usagef("record --max-time: %v is in the past", f.maxTime)
	}
	for _, l := range []struct {
		name string
		n    int
	}{{"data", f.dataLimit}, {"string", f.stringLimit}} {
		if l.n < 0 || l.n > 1<<20 {
			return nil, fmt.Errorf("record --%s-limit: between 0 and 1048576 bytes", l.name)
		}
	}
	o.DataLimit, o.StringLimit = f.dataLimit, f.stringLimit
	o.MaxTime, o.MaxEvents = f.maxTime, f.maxEvents
	o.StdoutToStderr = f.output == "-"
	o.Warn = func(s string) { fmt.Fprintln(os.Stderr, "memtrace:", s) }
	return &o, nil
}

// printTo has each event printed as -v says.
func (f *recordFlags) printTo(w *format.Writer, o *record.Options) (stop func(), err error) {
	if f.print == "" {
		return func() {}, nil
	}
	out := os.Stderr
	if f.print != "-" {
		if out, err = os.Create(f.print); err != nil {
			return nil, err
		}
	}
	live := replay.NewLive(out, w.Header().Start, replay.PrintOptions{})
	if !o.Trace.All() {
		// What is recorded beside, to know what a mapping is of, was not asked for.
		live.Only(replay.ListOptions{Set: o.Trace})
	}
	o.Observe = func(e *format.Event) { _ = live.Print(e, w.State()) }
	return func() {
		if out != os.Stderr {
			out.Close()
		}
	}, nil
}

// environ is this process's environment with the -E flags applied.
func (f *recordFlags) environ() []string {
	env := os.Environ()
	for _, e := range f.env {
		name, _, set := strings.Cut(e, "=")
		kept := env[:0:0]
		for _, v := range env {
			if n, _, _ := strings.Cut(v, "="); n != name {
				kept = append(kept, v)
			}
		}
		if env = kept; set {
			env = append(env, e)
		}
	}
	return env
}

// findProgram is the search of execvp(3). A program in the current directory
// that PATH names is meant.
func findProgram(name string) (string, error) {
	path, err := exec.LookPath(name)
	if errors.Is(err, exec.ErrDot) {
		err = nil
	}
	return path, err
}

// bare is what exec says without the name.
func bare(err error) error {
	var e *exec.Error
	if errors.As(err, &e) {
		return e.Err
	}
	return err
}

func findUser(name string) (*record.User, error) {
	u, err := user.Lookup(name)
	if err != nil {
		var byID error
		if u, byID = user.LookupId(name); byID != nil {
			return nil, err
		}
	}
	groups, err := u.GroupIds()
	if err != nil {
		return nil, err
	}
	var r record.User
	if r.UID, err = strconv.Atoi(u.Uid); err != nil {
		return nil, err
	}
	if r.GID, err = strconv.Atoi(u.Gid); err != nil {
		return nil, err
	}
	for _, g := range groups {
		n, err := strconv.Atoi(g)
		if err != nil {
			return nil, err
		}
		r.Groups = append(r.Groups, n)
	}
	return &r, nil
}

// parseSize reads a number of bytes with an optional K, M, G or T.
func parseSize(s string) (int64, error) {
	if s == "" {
		return 0, nil
	}
	shift := 0
	if i := strings.IndexByte("KMGT", s[len(s)-1]&^0x20); i >= 0 {
		shift, s = 10*(i+1), s[:len(s)-1]
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n <= 0 || n > 1<<62>>shift {
		return 0, fmt.Errorf("%q is not a size such as 500K, 64M or 2G", s)
	}
	return n << shift, nil
}

// serveSignals does with a signal to memtrace what its sender wants: Ctrl-C
// reaches the program by itself, as under strace, and memtrace goes on until the
// program has ended; with -p it ends the recording. A SIGTERM or SIGHUP is
// passed on to the program; a second one ends the recording.
func serveSignals(stop func(), interrupt func() bool, attached bool, pid *atomic.Int64, job *jobControl) {
	// A reader of the log that goes away is an error of the write, not our end.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
	c := make(chan os.Signal, 8)
	signal.Notify(c, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGTSTP, syscall.SIGTTIN, syscall.SIGTTOU)
	asked := 0
	for s := range c {
		switch s {
		case syscall.SIGTSTP, syscall.SIGTTIN, syscall.SIGTTOU:
			job.self()
			continue
		case syscall.SIGINT, syscall.SIGQUIT:
			if s == syscall.SIGINT && interrupt() || !attached {
				continue
			}
		}
		if asked++; attached || asked > 1 || pid.Load() == 0 {
			stop()
			continue
		}
		_ = syscall.Kill(int(pid.Load()), s.(syscall.Signal))
	}
}

// jobControl stops memtrace when a stop from the terminal has been sent to it and
// has stopped the program too, so that the shell sees its job stop. A program
// that handles the signal decides for itself. What continues memtrace continues
// the program.
type jobControl struct {
	mu            sync.Mutex
	told, stopped bool
}

// program is told what stopped the program, 0 that it goes on.
func (j *jobControl) program(sig int) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.stopped = sig != 0
	j.stop()
}

// self is called when memtrace was sent a stop.
func (j *jobControl) self() {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.told = true
	j.stop()
}

func (j *jobControl) stop() {
	if j.told && j.stopped {
		j.told = false
		_ = syscall.Kill(os.Getpid(), syscall.SIGSTOP)
	}
}

// recordStatus makes the program's end memtrace's own.
func recordStatus(res *record.Result) error {
	if res.Differed > 0 {
		return failRecord(exitFailed, "record --check: %d of %d checks differed", res.Differed, res.Checks)
	}
	switch {
	case res.Ended && res.Status.Signaled():
		record.DieBy(int(res.Status.Signal()))
		return &exitError{code: 128 + int(res.Status.Signal())}
	case res.Ended && res.Status.ExitStatus() != 0:
		return &exitError{code: res.Status.ExitStatus()}
	}
	if res.Err != nil {
		return &exitError{code: exitFailed} // what was wrong has been said
	}
	return nil
}
