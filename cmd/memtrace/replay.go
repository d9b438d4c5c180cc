package main

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"memtrace/analyze"
	"memtrace/format"
	"memtrace/format/arch"
	"memtrace/replay"
)

// replayOptions are the flags of replay.
type replayOptions struct {
	follow, json, step, tui, maps, raw, regs, stack, elapsed, noSteps, bytes, refs bool
	from, to, at, mem, diff, set, clock, history, find                             string
	site                                                                           string
	path                                                                           string
	failed, stale, all                                                             bool
	gdb                                                                            string
	slower                                                                         time.Duration
	types                                                                          []string
	pid, tid                                                                       uint32
	stacks, top                                                                    int
}

func newReplayCmd() *cobra.Command {
	var o replayOptions
	cmd := &cobra.Command{
		Use:   "replay [FILE]",
		Short: "Show the events of a log, or the program's memory at a step",
		Long: `Without --at, --diff or --step, replay lists the events in strace's notation,
each line beginning with its step.

A step is a number, last, -1 (from the end), a percentage (50%), a time since the
start (1.25s), before the end (-3s) or of the day (12:04:05), signal (the last
one) or crash. "At step N" means: when event N has happened.

Memory that is not in the log is never made up: --mem writes what is known, then
names the first address that is not, and exits 4. Bytes that were captured at an
earlier step are given with a note on stderr.`,
		Example: `  memtrace replay -e memory
  memtrace replay --at 1.5s --maps
  memtrace replay --at last --mem '[heap]:256'
  memtrace replay --diff 10..20
  memtrace replay --step`,
		Args:              replayArgs,
		ValidArgsFunction: logFiles,
		RunE:              func(cmd *cobra.Command, args []string) error { return runReplay(cmd, fileArg(args), &o) },
	}
	addReplayFlags(cmd, &o)
	return cmd
}

// replayArgs accepts a log. A value of -t that stands behind a space looks like one.
func replayArgs(cmd *cobra.Command, args []string) error {
	clock := cmd.Flags().Lookup("time")
	for _, a := range args {
		switch a {
		case "relative", "absolute", "delta":
			if clock.Changed && !exists(a) {
				return usagef("-t %s: the value goes behind a =: -t=%s", a, a)
			}
		}
	}
	return cobra.MaximumNArgs(1)(cmd, args)
}

func addReplayFlags(cmd *cobra.Command, o *replayOptions) {
	f := cmd.Flags()
	f.BoolVar(&o.json, "json", false, "one JSON object a line")
	f.StringVar(&o.from, "from", "", "first `STEP` to show")
	f.StringVar(&o.to, "to", "", "last `STEP` to show")
	f.Uint32Var(&o.pid, "pid", 0, "only the process `PID`; with --at the one to look at (default: the log's first)")
	f.Uint32Var(&o.tid, "tid", 0, "only the thread `TID`")
	f.StringSliceVar(&o.types, "type", nil, "only events of these `TYPES`: syscall, signal, exit, ... (docs/cli.md has them all)")
	f.BoolVar(&o.failed, "failed", false, "only calls that failed")
	f.DurationVar(&o.slower, "slower", 0, "only calls that took at least `TIME`, as 10ms")
	f.StringVar(&o.path, "path", "", "only calls that name a file like `GLOB`, by a path or a descriptor; * and ? as in a shell, * also for /")
	f.StringVarP(&o.set, "trace", "e", "all", "only these system calls, in strace's `SET` syntax")
	f.StringVarP(&o.clock, "time", "t", "", "say when: `CLOCK` is relative, absolute or delta (-t=absolute)")
	f.Lookup("time").NoOptDefVal = "relative"
	f.CountVarP(&o.stacks, "stack-trace", "k", "show call stacks (see record -k); -kk: with lines of the source and inlined calls")
	f.StringVar(&o.site, "site", "", "only events whose call stack goes through `PATTERN`: a function, a file or FILE:LINE; * and ? as in a shell")
	addSymbolFlags(cmd)
	f.BoolVarP(&o.elapsed, "elapsed", "T", false, "say how long each call took")
	f.BoolVar(&o.noSteps, "no-steps", false, "leave out the step at the beginning of each line")
	f.StringVar(&o.at, "at", "", "look at this `STEP`")
	f.BoolVar(&o.maps, "maps", false, "the address space, as /proc/PID/maps shows it")
	f.StringVar(&o.mem, "mem", "", "the bytes of `ADDR:LEN` or START-END; ADDR may be the name of a mapping")
	f.BoolVar(&o.raw, "raw", false, "write the bytes of --mem as they are")
	f.BoolVar(&o.regs, "regs", false, "the registers of the process's threads")
	f.BoolVar(&o.stack, "stack", false, "the call stacks of the process's threads, as logged or as far as memory and registers are known exactly")
	f.StringVar(&o.diff, "diff", "", "what differs between two steps `N..M`")
	f.BoolVar(&o.bytes, "bytes", false, "with --diff: what differs in the pages, too")
	f.StringVar(&o.history, "history", "", "what the bytes of `ADDR[:LEN]` were, and from when to when")
	f.StringVar(&o.find, "find", "", "where and when `BYTES` were in memory: text, \"text\" with C escapes, or 0xHEX")
	f.IntVar(&o.top, "top", 0, "with --find, --history or --diff: at most `N` places, values, mappings and runs of pages")
	f.BoolVar(&o.refs, "refs", false, "show the references to pages instead of the events")
	f.BoolVar(&o.follow, "follow", false, "go on with the events of a log that is still being written, as they come")
	f.BoolVar(&o.tui, "tui", false, "show the log on the whole screen, with a time slider")
	f.BoolVar(&o.step, "step", false, "go through the log in a console")
	f.StringVar(&o.gdb, "gdb", "", "serve the log to gdb at `ADDR`: HOST:PORT on this machine, the path of a socket, or - for gdb's pipe")
	f.Lookup("gdb").NoOptDefVal = "127.0.0.1:0"
	f.BoolVar(&o.all, "all", false, "with --gdb: show all processes of the log, each as an inferior")
	f.BoolVar(&o.stale, "stale", false, "with --gdb: show bytes of stacks that may be older than the step, too")
}

// question is one thing that replay can be asked, and the flags that go with it.
type question struct {
	flags []string // that ask it
	with  []string
	run   func(*cobra.Command, *replay.Trace, string, *replayOptions) error
}

// questions are all but the list of events, which any other flags ask for.
var questions = []question{
	{[]string{"step"}, nil, func(cmd *cobra.Command, t *replay.Trace, name string, _ *replayOptions) error {
		return runConsole(cmd, t, name)
	}},
	{[]string{"tui"}, nil, func(cmd *cobra.Command, t *replay.Trace, name string, _ *replayOptions) error {
		return runTUI(cmd, t, name)
	}},
	{[]string{"gdb"}, []string{"at", "pid", "stale", "all"}, runServeGDB},
	{[]string{"diff"}, []string{"bytes", "pid", "json", "time", "top"}, runDiff},
	{[]string{"history"}, []string{"pid", "json", "time", "top"}, runHistory},
	{[]string{"find"}, []string{"pid", "json", "time", "top"}, runFind},
	{[]string{"refs"}, []string{"from", "to", "at", "pid", "json"}, runRefs},
	{[]string{"maps", "mem", "regs", "stack"}, []string{"at", "pid", "json", "raw", "stack-trace"}, runLook},
}

// listed is the question that no flag asks.
var listed = question{with: []string{"json", "from", "to", "at", "pid", "trace", "time", "stack-trace", "site", "elapsed", "no-steps", "tid", "type", "failed", "slower", "path", "follow"}, run: runList}

// anyQuestion are the flags that go with all of them.
var anyQuestion = []string{memoryFlag, symbolsFlag, debuginfodFlag, noDemangleFlag}

// asked is the question that the flags ask. What does not go with it is a mistake.
func asked(cmd *cobra.Command) (*question, error) {
	q, by := &listed, ""
	for i := range questions {
		for _, name := range questions[i].flags {
			if cmd.Flags().Changed(name) && by == "" {
				q, by = &questions[i], name
			}
		}
	}
	var err error
	cmd.Flags().Visit(func(f *pflag.Flag) {
		if err != nil || slices.Contains(q.flags, f.Name) || slices.Contains(q.with, f.Name) || slices.Contains(anyQuestion, f.Name) {
			return
		}
		err = misplaced(f.Name, by)
	})
	return q, err
}

// misplaced says that a flag does not go with the one that asks the question, "" for
// the list of events.
func misplaced(flag, by string) error {
	switch {
	case by == "step":
		return usagef("--step goes with no other question: ask in the console")
	case by != "":
		return usagef("--%s does not go with --%s", flag, by)
	case flag == "bytes":
		return usagef("--bytes goes with --diff")
	case flag == "raw":
		return usagef("--raw goes with --mem")
	case flag == "stale", flag == "all":
		return usagef("--%s goes with --gdb", flag)
	case flag == "top":
		return usagef("--top goes with --find, --history and --diff")
	}
	return usagef("--%s does not go with the list of events", flag)
}

func runReplay(cmd *cobra.Command, name string, o *replayOptions) error {
	q, err := asked(cmd)
	switch {
	case err != nil:
		return err
	case o.top < 0:
		return usagef("--top %d: want a number from 1 on", o.top)
	case cmd.Flags().Changed("find") && o.find == "":
		return usagef("--find: no bytes to look for")
	case cmd.Flags().Changed("history") && o.history == "":
		return usagef("--history: no address")
	case o.raw && o.mem == "":
		return usagef("--raw goes with --mem")
	case o.raw && o.json:
		return usagef("--raw and --json are two ways to write bytes")
	case o.at != "" && (o.from != "" || o.to != ""):
		return usagef("--at is one step: --from and --to do not go with it")
	}
	if _, err := o.clocked(); err != nil {
		return err
	}
	if _, err := arch.ParseSet(o.set); err != nil {
		return usageError{err}
	}
	if err := o.checkFilters(cmd); err != nil {
		return err
	}
	if o.follow {
		if o.to != "" || o.at != "" || o.clock == "delta" {
			return usagef("--follow goes on to the end: --to, --at and -t=delta do not go with it")
		}
		return followList(cmd, name, o)
	}
	t, err := openTrace(cmd, name)
	if err != nil {
		return err
	}
	defer t.Close()
	if o.pid, err = t.PIDOf(cmd.Context(), o.pid); err != nil {
		return replaying(name, err)
	}
	return q.run(cmd, t, name, o)
}

// checkFilters looks at the flags that choose events.
func (o *replayOptions) checkFilters(cmd *cobra.Command) error {
	for _, x := range o.types {
		if !slices.Contains(eventTypes(), x) {
			return usagef("--type %s: want one or more of %s", x, strings.Join(eventTypes(), ", "))
		}
	}
	switch {
	case cmd.Flags().Changed("slower") && o.slower <= 0:
		return usagef("--slower %v: want a time as 10ms", o.slower)
	case cmd.Flags().Changed("path") && o.path == "":
		return usagef("--path: want a path; * and ? stand for characters")
	}
	return nil
}

// eventTypes are the names of the types of events.
func eventTypes() (names []string) {
	for k := range format.NumKinds {
		names = append(names, k.String())
	}
	return names
}

// clocked is the clock of -t.
func (o *replayOptions) clocked() (replay.Clock, error) {
	switch o.clock {
	case "":
		return replay.NoClock, nil
	case "relative":
		return replay.Relative, nil
	case "absolute":
		return replay.Absolute, nil
	case "delta":
		if o.find != "" || o.history != "" || o.diff != "" {
			return 0, usagef("-t=delta is the time since the line before, in the list of events")
		}
		return replay.Delta, nil
	}
	return 0, usagef("--time %s: want relative, absolute or delta", o.clock)
}

// runList lists events.
func runList(cmd *cobra.Command, t *replay.Trace, name string, o *replayOptions) error {
	lo, err := o.list(cmd, t)
	if err != nil {
		return err
	}
	if no := analyze.NoStacks(t); no != "" && (o.stacks > 0 || lo.Site != nil) {
		fmt.Fprintln(cmd.ErrOrStderr(), "memtrace: "+no)
	}
	return replaying(name, t.List(cmd.Context(), cmd.OutOrStdout(), lo))
}

// list is what the flags say of the list of events.
func (o *replayOptions) list(cmd *cobra.Command, t *replay.Trace) (lo replay.ListOptions, err error) {
	lo = replay.ListOptions{JSON: o.json, PID: o.pid, TID: o.tid, Types: o.types, Failed: o.failed, Slower: o.slower, Path: o.path, AllCalls: !cmd.Flags().Changed("trace")}
	lo.PrintOptions = replay.PrintOptions{Steps: !o.noSteps, Elapsed: o.elapsed, Stacks: replay.StackDetail(min(o.stacks, 2))}
	if lo.Clock, err = o.clocked(); err != nil {
		return lo, err
	}
	if lo.Set, err = arch.ParseSet(o.set); err != nil {
		return lo, usageError{err}
	}
	if cmd.Flags().Changed("site") {
		if lo.Site, err = replay.ParseSite(o.site); err != nil {
			return lo, usageError{fmt.Errorf("--site: %w", err)}
		}
	}
	if o.at != "" {
		o.from, o.to = o.at, o.at
	}
	lo.From, lo.To, err = span(t, o.from, o.to)
	return lo, err
}

// runRefs lists references to pages.
func runRefs(cmd *cobra.Command, t *replay.Trace, name string, o *replayOptions) (err error) {
	if o.at != "" {
		o.from, o.to = o.at, o.at
	}
	ro := replay.RefListOptions{JSON: o.json, PID: o.pid}
	if ro.From, ro.To, err = span(t, o.from, o.to); err != nil {
		return replaying(name, err)
	}
	return replaying(name, t.ListRefs(cmd.Context(), cmd.OutOrStdout(), ro))
}

// span turns --from and --to into steps.
func span(t *replay.Trace, from, to string) (a, b format.Step, err error) {
	a = t.First()
	b, _ = t.Last()
	if from != "" {
		if a, err = t.StepOf(from); err != nil {
			return 0, 0, err
		}
	}
	if to != "" {
		if b, err = t.StepOf(to); err != nil {
			return 0, 0, err
		}
	}
	if a > b {
		return 0, 0, usagef("steps %d to %d run backwards", a, b)
	}
	return a, b, nil
}

func replaying(name string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("replay %s: %w", name, err)
}
