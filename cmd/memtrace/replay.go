package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"memtrace/format"
	"memtrace/format/addr"
	"memtrace/format/arch"
	"memtrace/replay"
)

// replayOptions are the flags of replay.
type replayOptions struct {
	json, step, tui, maps, raw, regs, elapsed, noSteps, bytes bool
	from, to, at, mem, diff, set, clock, history, find        string
	pid                                                       uint32
}

func newReplayCmd() *cobra.Command {
	var o replayOptions
	cmd := &cobra.Command{
		Use:   "replay [FILE]",
		Short: "Show the events of a log, or the program's memory at a step",
		Long: `Without --at, --diff or --step, replay lists the events in strace's notation,
each line beginning with its step.

A step is a number, last, -1 (from the end), a percentage (50%) or a time since
the start (1.25s). "At step N" means: when event N has happened.

Memory that is not in the log is never made up: --mem writes what is known, then
names the first address that is not, and exits 4. Bytes that were captured at an
earlier step are given with a note on stderr.`,
		Example: `  memtrace replay -e memory
  memtrace replay --at 1.5s --maps
  memtrace replay --at last --mem '[heap]:256'
  memtrace replay --diff 10..20
  memtrace replay --step`,
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: logFiles,
		RunE:              func(cmd *cobra.Command, args []string) error { return runReplay(cmd, fileArg(args), &o) },
	}
	f := cmd.Flags()
	f.BoolVar(&o.json, "json", false, "one JSON object a line")
	f.StringVar(&o.from, "from", "", "first `STEP` to show")
	f.StringVar(&o.to, "to", "", "last `STEP` to show")
	f.Uint32Var(&o.pid, "pid", 0, "only the process `PID`; with --at the one to look at (default: the log's first)")
	f.StringVarP(&o.set, "trace", "e", "all", "only these system calls, in strace's `SET` syntax")
	f.StringVarP(&o.clock, "time", "t", "", "say when: relative, absolute or delta")
	f.Lookup("time").NoOptDefVal = "relative"
	f.BoolVarP(&o.elapsed, "elapsed", "T", false, "say how long each call took")
	f.BoolVar(&o.noSteps, "no-steps", false, "leave out the step at the beginning of each line")
	f.StringVar(&o.at, "at", "", "look at this `STEP`")
	f.BoolVar(&o.maps, "maps", false, "the address space, as /proc/PID/maps shows it")
	f.StringVar(&o.mem, "mem", "", "the bytes of `ADDR:LEN` or START-END; ADDR may be the name of a mapping")
	f.BoolVar(&o.raw, "raw", false, "write the bytes of --mem as they are")
	f.BoolVar(&o.regs, "regs", false, "the registers of the process's threads")
	f.StringVar(&o.diff, "diff", "", "what differs between two steps `N..M`")
	f.BoolVar(&o.bytes, "bytes", false, "with --diff: what differs in the pages, too")
	f.StringVar(&o.history, "history", "", "what the bytes of `ADDR[:LEN]` were, and from when to when")
	f.StringVar(&o.find, "find", "", "where and when `BYTES` were in memory: text, \"text\" with escapes, or 0xHEX")
	f.BoolVar(&o.tui, "tui", false, "show the log on the whole screen, with a time slider")
	f.BoolVar(&o.step, "step", false, "go through the log in a console")
	return cmd
}

func runReplay(cmd *cobra.Command, name string, o *replayOptions) error {
	looks := o.maps || o.regs || o.mem != ""
	over := o.history != "" || o.find != ""
	switch {
	case o.step && (looks || o.at != "" || o.diff != "" || o.json || over):
		return usagef("--step goes with no other question: ask in the console")
	case over && (looks || o.at != "" || o.diff != "" || o.from != "" || o.to != "" || o.history != "" && o.find != ""):
		return usagef("--history and --find are each a question of their own, about all steps")
	case cmd.Flags().Changed("find") && o.find == "":
		return usagef("--find: no bytes to look for")
	case cmd.Flags().Changed("history") && o.history == "":
		return usagef("--history: no address")
	case o.bytes && o.diff == "":
		return usagef("--bytes goes with --diff")
	case o.diff != "" && (looks || o.at != ""):
		return usagef("--diff names its own steps: --at does not go with it")
	case looks && o.at == "":
		o.at = "last"
	case o.raw && o.mem == "":
		return usagef("--raw goes with --mem")
	case o.raw && o.json:
		return usagef("--raw and --json are two ways to write bytes")
	case o.at != "" && (o.from != "" || o.to != ""):
		return usagef("--at is one step: --from and --to do not go with it")
	}
	set, err := arch.ParseSet(o.set)
	if err != nil {
		return usageError{err}
	}
	popts := replay.PrintOptions{Steps: !o.noSteps, Elapsed: o.elapsed}
	switch o.clock {
	case "":
	case "relative":
		popts.Clock = replay.Relative
	case "absolute":
		popts.Clock = replay.Absolute
	case "delta":
		popts.Clock = replay.Delta
	default:
		return usagef("--time %s: want relative, absolute or delta", o.clock)
	}
	t, err := openTrace(cmd, name)
	if err != nil {
		return err
	}
	defer t.Close()
	switch {
	case o.tui:
		return runTUI(cmd, t, name)
	case o.step:
		return runConsole(cmd, t, name)
	case o.diff != "":
		return runDiff(cmd, t, name, o)
	case o.history != "":
		return runHistory(cmd, t, name, o)
	case o.find != "":
		return runFind(cmd, t, name, o)
	case o.at != "" && looks:
		return runLook(cmd, t, name, o)
	case o.at != "":
		o.from, o.to = o.at, o.at
	}
	lo := replay.ListOptions{PrintOptions: popts, JSON: o.json, PID: o.pid, Set: set, AllCalls: !cmd.Flags().Changed("trace")}
	if lo.From, lo.To, err = span(t, o.from, o.to); err != nil {
		return replaying(name, err)
	}
	return replaying(name, t.List(cmd.Context(), cmd.OutOrStdout(), lo))
}

// span turns --from and --to into steps.
func span(t *replay.Trace, from, to string) (a, b format.Step, err error) {
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

// runLook shows a process at a step.
func runLook(cmd *cobra.Command, t *replay.Trace, name string, o *replayOptions) error {
	n, err := t.StepOf(o.at)
	if err != nil {
		return replaying(name, err)
	}
	v, err := t.At(n)
	if err != nil {
		return replaying(name, err)
	}
	p, err := t.Find(cmd.Context(), v, o.pid)
	if err != nil && o.at == "last" {
		// The last of its memory: with its end a process has none.
		if alive, aerr := t.LastAlive(cmd.Context(), o.pid); aerr == nil && alive < n {
			n = alive
			if v, err = t.At(n); err == nil {
				p, err = t.Find(cmd.Context(), v, o.pid)
			}
			if err == nil {
				fmt.Fprintf(cmd.ErrOrStderr(), "memtrace: process %d has ended: this is step %d, the last with its memory\n", p.PID, n)
			}
		}
	}
	if err != nil {
		return replaying(name, err)
	}
	out := cmd.OutOrStdout()
	if o.maps {
		if err := p.WriteMaps(out, o.json); err != nil {
			return replaying(name, err)
		}
	}
	if o.regs {
		regs, err := t.Registers(n, p.Threads)
		if err != nil {
			return replaying(name, err)
		}
		for i := range regs {
			if o.json {
				_, err = out.Write(append(regs[i].AppendJSON(nil), '\n'))
			} else {
				err = regs[i].Write(out, n)
			}
			if err != nil {
				return err
			}
		}
	}
	if o.mem == "" {
		return nil
	}
	s, err := p.Space()
	if err != nil {
		return replaying(name, err)
	}
	r, err := replay.ParseRange(o.mem, s)
	if err != nil {
		return usageError{fmt.Errorf("--mem: %w", err)}
	}
	if o.json {
		return writePieces(out, t, name, s, r, n)
	}
	older, err := s.WriteMem(out, r, o.raw)
	for i, c := range older {
		if i == 8 {
			fmt.Fprintf(cmd.ErrOrStderr(), "memtrace: and %d more ranges as of earlier steps\n", len(older)-i)
			break
		}
		fmt.Fprintf(cmd.ErrOrStderr(), "memtrace: %s\n", c.Append(nil))
	}
	if err != nil {
		return fmt.Errorf("read %s: %w", memName(r), err)
	}
	return nil
}

// writePieces tells of memory what is known, since when, and what is not.
func writePieces(out io.Writer, t *replay.Trace, name string, s *replay.AddressSpace, r addr.Range, n format.Step) error {
	pieces, err := t.Provenance(s, r)
	if err != nil {
		return replaying(name, err)
	}
	for i := range pieces {
		if _, err := out.Write(append(pieces[i].AppendJSON(nil, n), '\n')); err != nil {
			return err
		}
	}
	for i := range pieces {
		if pieces[i].Err != nil {
			return fmt.Errorf("read %s: %w", memName(r), pieces[i].Err)
		}
	}
	return nil
}

func memName(r addr.Range) string { return fmt.Sprintf("%v:%d", r.Start, r.Len()) }

// runDiff compares two steps.
func runDiff(cmd *cobra.Command, t *replay.Trace, name string, o *replayOptions) error {
	a, b, ok := strings.Cut(o.diff, "..")
	if !ok || a == "" || b == "" {
		return usagef("--diff %s: want two steps as N..M", o.diff)
	}
	from, to, err := span(t, a, b)
	if err != nil {
		return replaying(name, err)
	}
	if b == "last" {
		if alive, aerr := t.LastAlive(cmd.Context(), o.pid); aerr == nil && from <= alive && alive < to {
			to = alive // as with --at
		}
	}
	d, err := t.Compare(cmd.Context(), from, to, o.pid)
	if err != nil {
		return replaying(name, err)
	}
	if o.json {
		_, err = cmd.OutOrStdout().Write(append(d.AppendJSON(nil), '\n'))
		return err
	}
	if err := d.Write(cmd.OutOrStdout()); err != nil || !o.bytes {
		return err
	}
	return replaying(name, t.WriteBytes(cmd.Context(), cmd.OutOrStdout(), d))
}

// runHistory tells what some bytes were over the whole log.
func runHistory(cmd *cobra.Command, t *replay.Trace, name string, o *replayOptions) error {
	r, err := t.ParseHistory(cmd.Context(), o.history, o.pid)
	if err != nil {
		return usageError{fmt.Errorf("--history: %w", err)}
	}
	eras, err := t.History(cmd.Context(), r, o.pid)
	if err != nil {
		return replaying(name, err)
	}
	if !o.json {
		return replay.WriteHistory(cmd.OutOrStdout(), r, eras)
	}
	for i := range eras {
		if _, err := cmd.OutOrStdout().Write(append(eras[i].AppendJSON(nil), '\n')); err != nil {
			return err
		}
	}
	return nil
}

// runFind tells where and when some bytes were in memory.
func runFind(cmd *cobra.Command, t *replay.Trace, name string, o *replayOptions) error {
	want, err := replay.ParseBytes(o.find)
	if err != nil {
		return usageError{fmt.Errorf("--find: %w", err)}
	}
	found, err := t.FindBytes(cmd.Context(), want, o.pid)
	if err != nil {
		return replaying(name, err)
	}
	for i := range found {
		line := found[i].Append
		if o.json {
			line = found[i].AppendJSON
		}
		if _, err := cmd.OutOrStdout().Write(append(line(nil), '\n')); err != nil {
			return err
		}
	}
	if len(found) == 0 {
		return &exitError{statusFailed, fmt.Errorf("replay %s: %q is nowhere in the memory that the log holds", name, o.find)}
	}
	return nil
}
