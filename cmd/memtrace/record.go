//go:build linux

package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"memtrace/analyze/web"
	"memtrace/format"
	"memtrace/format/arch"
	"memtrace/format/redact"
	"memtrace/record"
	"memtrace/record/inside"
	"memtrace/record/pagetrace"
	"memtrace/record/ring"
	"memtrace/replay"
)

// Exit statuses of record (as env(1) and docker run).
const (
	exitFailed        = 125
	exitNotExecutable = 126
	exitNotFound      = 127
)

// defaultStacks are the calls whose stacks are taken unless -k says otherwise.
const defaultStacks = "none"

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
	inProcess   string
	meminfo     string
	referenced  string
	stacks      string
	stackDepth  int
	perfMap     string
	pageTrace   string
	redact      string
	redactRules string
	html        string
	stepFlags
	ringFlags
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
  memtrace record -k ./prog      # with call stacks: see report callsites
  memtrace record -p 1234 --max-time 10s`,
		Args: func(c *cobra.Command, args []string) error {
			return wantTarget(args, f.attach)
		},
		RunE: func(c *cobra.Command, args []string) error {
			if err := f.ringFlags.check(c.Flags()); err != nil {
				return err
			}
			if name := os.Getenv("VMT_TRACENAME"); name != "" && !c.Flags().Changed("output") {
				f.output = name
			}
			return runRecord(c, &f, args)
		},
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
	fs.StringVar(&f.html, "report", "", "when the recording ends, write it as a page into `FILE`, as report --html")
	fs.BoolVarP(&f.quiet, "quiet", "q", false, "no closing line")
	fs.StringVar(&f.meminfo, "meminfo", "auto", "sample the system's and the processes' memory every `INTERVAL`; auto is 1s, closer at the start; off")
	fs.Lookup("meminfo").NoOptDefVal = "auto"
	fs.StringVar(&f.referenced, "referenced", "off", "sample which memory is used again within 2s, every `INTERVAL` of a process's life; auto is at 8s, 16s, 32s and so on")
	fs.Lookup("referenced").NoOptDefVal = "auto"
	fs.BoolVarP(&f.step, "step", "s", false, "live console: stop before and after every system call")
	fs.StringVar(&f.script, "exec-script", "", "console commands from `FILE`, from the program's start on")
	fs.IntVar(&f.dataLimit, "data-limit", o.DataLimit, "keep up to `N` bytes of what each call writes into memory")
	fs.IntVar(&f.stringLimit, "string-limit", o.StringLimit, "keep up to `N` bytes of the data that each call reads from memory; 4096 of what goes to standard error")
	fs.StringVarP(&f.stacks, "stack-trace", "k", defaultStacks, "take the call stack of each of these calls, a `SET`; what ends a process always has one")
	fs.Lookup("stack-trace").NoOptDefVal = "memory"
	fs.IntVar(&f.stackDepth, "stack-depth", o.StackDepth, "at most `N` frames a stack; 0 takes none")
	fs.StringVar(&f.perfMap, "perf-map", "on", "keep the names that programs give to code they make at run time (/tmp/perf-PID.map): `WORD` on or off")
	fs.StringVar(&f.pageTrace, "page-trace", "", "record page references, with a `POOL` of pages (or 16M, auto; write for writes alone), and ,granule=SIZE ,engine=prot|wp")
	fs.Lookup("page-trace").NoOptDefVal = "auto"
	fs.StringVar(&f.redact, "redact", "", "write a log that others may see, as memtrace redact does: keep `CLASS,...`")
	fs.Lookup("redact").NoOptDefVal = redact.DefaultClasses
	fs.StringVar(&f.redactRules, "redact-rules", "", "rules for --redact from `FILE`")
	fs.BoolVar(&f.check, "check", false, "compare the log's mappings with the kernel's after every change")
	fs.StringVar(&f.inProcess, "in-process", "off", "have programs record their calls themselves, without stops: `WHEN` is auto, always or off")
	f.ringFlags.add(fs)
	fs.BoolVar(&f.noPin, "no-pin", false, "leave all threads on all their CPUs")
	return c
}

// wantTarget says whether record is told what to record: a program, or processes.
func wantTarget(args []string, attach []int) error {
	switch {
	case len(args) == 0 && len(attach) == 0:
		return errors.New("name a program to run, or processes to attach to with -p")
	case len(args) > 0 && len(attach) > 0:
		return errors.New("name a program to run, or processes to attach to with -p, not both")
	}
	return nil
}

// failRecord gives an error of record its exit status.
func failRecord(status int, format string, args ...any) error {
	return &exitError{code: status, err: fmt.Errorf(format, args...)}
}

func runRecord(c *cobra.Command, f *recordFlags, args []string) error {
	job, err := f.job("record", args)
	if err != nil {
		return err
	}
	if err := f.goesWith(f.output); err != nil {
		return usageError{err}
	}
	if f.html != "" && f.output == "-" {
		return usagef("record --report -o -: the page is made from the log: name a file with -o")
	}
	if f.dir != "" {
		if st, err := os.Stat(f.dir); err != nil || !st.IsDir() {
			return failRecord(exitFailed, "record -C %s: not a directory", f.dir)
		}
	}
	s, err := f.open(job, args)
	if err != nil {
		return err
	}
	stopPrinting, err := f.printTo(s, &job.Options)
	if err != nil {
		s.Discard()
		return failRecord(exitFailed, "record -v: %w", err)
	}
	defer stopPrinting()
	endConsole, err := f.console(job, s.Header().Start)
	if err != nil {
		s.Discard()
		return failRecord(exitFailed, "record --exec-script: %w", err)
	}
	s.Prepare(job)
	out, err := s.Record(job)
	quit := endConsole()
	switch {
	case errors.Is(err, record.ErrNotFound):
		return failRecord(exitNotFound, "record %s: %w", args[0], err)
	case errors.Is(err, record.ErrNotExecutable):
		return failRecord(exitNotExecutable, "record %s: %w", args[0], err)
	case err != nil:
		return failRecord(exitFailed, "record: %w", err)
	}
	f.report(out)
	f.writeHTML(c, out)
	if quit {
		return nil
	}
	return recordStatus(f, out)
}

// open makes the log, or the ring.
func (f *recordFlags) open(job *record.Job, args []string) (*record.Session, error) {
	if f.redact == "" && f.redactRules != "" {
		return nil, usagef("record --redact-rules: only with --redact")
	}
	kept, err := f.ringFlags.options(f.output, &job.Options)
	if err == nil && kept != nil && f.html != "" {
		err = errors.New("record --ring does not go with --report: memtrace report --html makes a page of what was kept")
	}
	if err == nil && kept != nil && f.redact != "" {
		err = errors.New("record --ring does not go with --redact: memtrace redact makes another log of what was kept")
	}
	if err != nil {
		return nil, usageError{err}
	}
	h := header(args, f.trace, &job.Options)
	var s *record.Session
	switch {
	case kept != nil:
		kept.Say = job.Options.Warn
		s, err = record.OpenRing(*kept, h)
	case f.redact != "":
		pol, perr := redactPolicy(f.redact, f.redactRules)
		if perr != nil {
			return nil, fmt.Errorf("record --redact: %w", perr)
		}
		key, kerr := redact.NewKey()
		if kerr != nil {
			return nil, failRecord(exitFailed, "record --redact: %w", kerr)
		}
		s, err = record.OpenRedacted(f.output, h, pol, key)
	default:
		s, err = record.Open(f.output, h)
	}
	if err != nil {
		return nil, failRecord(exitFailed, "record -o %s: %w", f.output, err)
	}
	return s, nil
}

// report says what a recording has come to.
func (f *recordFlags) report(out *record.Outcome) {
	became := "recording stopped there, the log is readable up to it, the program was not disturbed"
	switch {
	case slices.ContainsFunc(out.Kept, func(d ring.Dump) bool { return d.Err == out.Err }):
		became = "the program was not disturbed"
	case f.ring != "":
		became = "recording stopped there, the program was not disturbed"
	}
	if out.Err != nil {
		fmt.Fprintf(screen(os.Stderr), "memtrace: record -o %s: %v: %s\n", f.output, out.Err, became)
	}
	if f.quiet || f.output == "-" {
		return
	}
	if f.ring != "" {
		f.reportKept(out)
		return
	}
	fmt.Fprintf(screen(os.Stderr), "memtrace: %s, %s in %s (memtrace report %s)\n", count(uint64(out.Events), "event"), size(out.Bytes), out.Log, out.Log)
	if out.InPart > 0 {
		fmt.Fprintf(screen(os.Stderr), "memtrace: the memory of %s was saved only in part at the end, so as not to slow the program down (--snapshot exit saves all)\n", processes(out.InPart))
	}
}

// writeHTML writes record --report. What prevents it is said: the status is the program's.
func (f *recordFlags) writeHTML(cmd *cobra.Command, out *record.Outcome) {
	if f.html == "" {
		return
	}
	t, err := openTrace(cmd, out.Log)
	if err == nil {
		defer t.Close()
		_, err = writeHTML(cmd.Context(), t, out.Log, f.html, web.Limits{Bytes: htmlLimit})
	}
	if err != nil {
		fmt.Fprintf(screen(os.Stderr), "memtrace: record --report %s: %v: the log is whole, memtrace report --html can make the page from it\n", f.html, err)
	}
}

// job is what the flags and arguments of a command ask to be recorded.
func (f *recordFlags) job(command string, args []string) (*record.Job, error) {
	o, err := f.options()
	if err != nil {
		return nil, usageError{err}
	}
	j := &record.Job{Attach: f.attach, Options: *o}
	if len(f.attach) > 0 {
		j.Options.Running = true
		return j, nil
	}
	path, err := findProgram(args[0], f.dir)
	switch {
	case err == nil:
	case errors.Is(err, os.ErrNotExist), errors.Is(err, exec.ErrNotFound):
		return nil, failRecord(exitNotFound, "%s %s: not found", command, args[0])
	default:
		return nil, failRecord(exitNotExecutable, "%s %s: cannot execute: %w", command, args[0], bare(err))
	}
	j.Program = &record.Program{Path: path, Argv: args, Env: f.environ(), Dir: f.dir, StdoutToStderr: f.output == "-"}
	if f.user != "" {
		if j.Program.User, err = findUser(f.user); err != nil {
			return nil, usageError{fmt.Errorf("%s -u: %w", command, err)}
		}
	}
	return j, nil
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
	switch f.meminfo {
	case "auto":
	case "off", "0":
		o.MemInfo = false
	default:
		if o.MemInfoInterval, err = time.ParseDuration(f.meminfo); err != nil || o.MemInfoInterval < time.Millisecond {
			return nil, fmt.Errorf("record --meminfo: %q is not an interval of 1ms or more, auto or off", f.meminfo)
		}
	}
	if o.Referenced = f.referenced != "" && f.referenced != "off"; o.Referenced && !o.MemInfo {
		return nil, errors.New("record --referenced does not go with --meminfo=off")
	}
	if o.Referenced && f.referenced != "auto" {
		if o.ReferencedInterval, err = time.ParseDuration(f.referenced); err != nil || o.ReferencedInterval < record.LeastReferenced {
			return nil, fmt.Errorf("record --referenced: %q is not an interval of %v or more, auto or off", f.referenced, record.LeastReferenced)
		}
	}
	if o.Stacks, err = arch.ParseSet(f.stacks); err != nil {
		return nil, fmt.Errorf("record -k: %w", err)
	}
	if o.StackDepth = f.stackDepth; o.StackDepth < 0 || o.StackDepth > format.MaxDepth {
		return nil, fmt.Errorf("record --stack-depth: between 0 and %d frames", format.MaxDepth)
	}
	switch f.perfMap {
	case "on":
	case "off":
		o.NoPerfMaps = true
	default:
		return nil, fmt.Errorf("record --perf-map: %q is not on or off", f.perfMap)
	}
	if o.InProcess, err = inside.Parse(f.inProcess); err != nil {
		return nil, fmt.Errorf("record --in-process: %w", err)
	}
	if o.PageTrace, err = f.pageTraced(); err != nil {
		return nil, err
	}
	o.Follow, o.Check, o.NoPin = f.follow, f.check, f.noPin
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
	o.Warn = func(s string) { fmt.Fprintln(screen(os.Stderr), "memtrace:", s) }
	return &o, nil
}

// pageTraced is what --page-trace asks for, or else the environment as VMTRACE's users
// know it: VMT_SIZE is the pool in pages.
func (f *recordFlags) pageTraced() (pagetrace.Ask, error) {
	from, text := "record --page-trace", f.pageTrace
	if text == "" {
		from, text = "VMT_SIZE", os.Getenv("VMT_SIZE")
	}
	if text == "" || text == "none" {
		return pagetrace.Ask{}, nil
	}
	p, err := pagetrace.Parse(text)
	if err != nil {
		return p, fmt.Errorf("%s: %w", from, err)
	}
	return p, nil
}

// printTo has each event printed as -v says.
func (f *recordFlags) printTo(s *record.Session, o *record.Options) (stop func(), err error) {
	if f.print == "" {
		return func() {}, nil
	}
	out := os.Stderr
	if f.print != "-" {
		if err := notLog(f.print); err != nil {
			return nil, err
		}
		if out, err = os.Create(f.print); err != nil {
			return nil, err
		}
	}
	live := replay.NewLive(screen(out), s.Header().Start, replay.PrintOptions{})
	if !o.Trace.All() {
		// What is recorded beside, to know what a mapping is of, was not asked for.
		live.Only(replay.ListOptions{Set: o.Trace})
	}
	o.Observe = func(e *format.Event) { _ = live.Print(e, s.State()) }
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

// findProgram is the search of execvp(3) from a directory, "" is the current one. A
// program in that directory that PATH names is meant.
func findProgram(name, dir string) (string, error) {
	if dir != "" && strings.Contains(name, "/") && !filepath.IsAbs(name) {
		// The path is looked up once the program's process is in the directory.
		_, err := exec.LookPath(filepath.Join(dir, name))
		return name, err
	}
	path, err := exec.LookPath(name)
	if dir != "" && err != nil && !strings.Contains(name, "/") || errors.Is(err, exec.ErrDot) {
		for _, at := range filepath.SplitList(os.Getenv("PATH")) {
			if filepath.IsAbs(at) {
				continue
			}
			here := filepath.Join(dir, at, name)
			if dir == "" {
				here = "./" + here
			}
			if _, err := exec.LookPath(here); err == nil {
				return "./" + filepath.Join(at, name), nil
			}
		}
	}
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

// recordStatus makes the program's end memtrace's own.
func recordStatus(f *recordFlags, out *record.Outcome) error {
	if f.check {
		fmt.Fprintf(screen(os.Stderr), "memtrace: %d checks of the mappings against the kernel's, %d differed\n", out.Checks, out.Differed)
	}
	if out.Differed > 0 {
		return failRecord(exitFailed, "record --check: %d of %d checks differed", out.Differed, out.Checks)
	}
	if status, ended := out.EndAs(); ended && status != 0 {
		return &exitError{code: status}
	}
	if out.Err != nil {
		return &exitError{code: exitFailed} // what was wrong has been said
	}
	return nil
}

// processes is a number of processes in words.
func processes(n int) string {
	if n == 1 {
		return "1 process"
	}
	return fmt.Sprintf("%d processes", n)
}
