package main

import (
	"context"
	"fmt"
	"io"
	"path/filepath"

	"github.com/spf13/cobra"

	"memtrace/analyze"
	"memtrace/analyze/export"
	"memtrace/format"
	"memtrace/replay"
)

// dumpOptions are the flags of dump.
type dumpOptions struct {
	at, out           string
	pid, live         uint32
	heap, stack, core bool
	ranges            []string
}

func newDumpCmd() *cobra.Command {
	var o dumpOptions
	cmd := &cobra.Command{
		Use:   "dump [FILE] --at STEP | dump -p PID",
		Short: "Save the memory of a process to files: of a log at a step, or of a living one",
		Long: `dump writes a raw file for each mapping into a new directory, and index.json,
which says what is where, what of it is known, and the threads' registers. With
--core it writes an ELF core instead.

With -p it stops all threads of a living process, reads its memory and lets it go
on. Without -p it writes what a log knows at --at STEP. Bytes that are not known are
a hole in the file, and index.json does not list them as known.`,
		Example: `  memtrace dump -p 1234 --heap -o heap.d
  memtrace dump -p 1234 --core -o core
  memtrace dump --at 50% --range '[stack]:4096' -o stack.d`,
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: logFiles,
		RunE:              func(cmd *cobra.Command, args []string) error { return runDump(cmd, args, &o) },
	}
	f := cmd.Flags()
	f.Uint32VarP(&o.live, "process", "p", 0, "the living process `PID`")
	f.StringVar(&o.at, "at", "", "the `STEP` of a log (default: that of the fatal signal, else the last with the process's memory)")
	f.Uint32Var(&o.pid, "pid", 0, "the process of a log (default: its first)")
	f.BoolVar(&o.heap, "heap", false, "the heap only")
	f.BoolVar(&o.stack, "stack", false, "the stacks only")
	f.StringArrayVar(&o.ranges, "range", nil, "only `ADDR:LEN` or START-END; ADDR may be the name of a mapping; may be repeated")
	f.BoolVar(&o.core, "core", false, "one ELF core instead of a directory")
	f.StringVarP(&o.out, "output", "o", "", "the directory to make (default dump.PID), or the core file (default core.PID)")
	return cmd
}

func runDump(cmd *cobra.Command, args []string, o *dumpOptions) error {
	flags := cmd.Flags()
	switch {
	case o.live != 0 && (len(args) > 0 || flags.Changed("at") || flags.Changed("pid")):
		return usagef("-p is a living process: a log, --at and --pid do not go with it")
	case o.core && (o.heap || o.stack || len(o.ranges) > 0):
		return usagef("a core has all memory: --heap, --stack and --range do not go with --core")
	}
	if o.live != 0 {
		pause, err := withLive(cmd.Context(), int(o.live), func(s *export.Subject, restless int) error {
			if restless > 0 {
				fmt.Fprintf(cmd.ErrOrStderr(), "memtrace: %d threads sleep in the kernel and could not be stopped\n", restless)
			}
			return dump(cmd, s, o, true)
		})
		if err != nil {
			return fmt.Errorf("dump process %d: %w", o.live, err)
		}
		fmt.Fprintf(cmd.ErrOrStderr(), "memtrace: process %d stood still for %s\n", o.live, analyze.Span(uint64(pause)))
		return nil
	}
	name := fileArg(args)
	t, err := openTrace(cmd, name)
	if err != nil {
		return err
	}
	defer t.Close()
	dumping := func(err error) error {
		if err == nil {
			return nil
		}
		return fmt.Errorf("dump %s: %w", name, err)
	}
	if o.pid, err = t.PIDOf(cmd.Context(), o.pid); err != nil {
		return dumping(err)
	}
	at, err := lastOr(cmd.Context(), t, o.at, o.pid)
	if err != nil {
		return dumping(err)
	}
	s, err := export.Moment(cmd.Context(), t, at, o.pid)
	if err != nil {
		return dumping(err)
	}
	return dumping(dump(cmd, s, o, false))
}

// lastOr is the step that the user named, else that of the signal that killed the
// process, else the last one at which it has memory.
func lastOr(ctx context.Context, t *replay.Trace, at string, pid uint32) (format.Step, error) {
	switch at {
	case "":
		return t.LastWhole(ctx, pid)
	case "last":
		return t.LastAlive(ctx, pid)
	}
	return t.StepOf(at)
}

// dump writes what was asked for of a subject.
func dump(cmd *cobra.Command, s *export.Subject, o *dumpOptions, live bool) error {
	var notes []string
	var err error
	out := o.out
	if out == "" {
		out = fmt.Sprintf("dump.%d", s.Process.PID)
		if o.core {
			out = fmt.Sprintf("core.%d", s.Process.PID)
		}
	}
	if o.core {
		write := func(w io.Writer) error {
			notes, err = s.WriteCore(cmd.Context(), w)
			return err
		}
		if o.out == "" {
			err = writeWhole(cmd, out, write)
		} else {
			err = writeTo(cmd, out, true, write)
		}
	} else {
		do := export.DumpOptions{Heap: o.heap, Stack: o.stack}
		var space *replay.AddressSpace
		if space, err = s.Process.Space(); err != nil {
			return err
		}
		for _, text := range o.ranges {
			r, err := replay.ParseRange(text, space)
			if err != nil {
				return usageError{fmt.Errorf("--range: %w", err)}
			}
			do.Ranges = append(do.Ranges, r)
		}
		notes, err = s.WriteDump(cmd.Context(), filepath.Clean(out), do, live)
	}
	for _, n := range notes {
		fmt.Fprintln(cmd.ErrOrStderr(), "memtrace: "+n)
	}
	return err
}
