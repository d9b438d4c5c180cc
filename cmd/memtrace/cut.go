package main

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"memtrace/format"
	"memtrace/replay"
)

type cutOptions struct{ from, to, out string }

func newCutCmd() *cobra.Command {
	var o cutOptions
	cmd := &cobra.Command{
		Use:   "cut [FILE...] --from STEP --to STEP -o OUT",
		Short: "Make a log of a part of a log, or of several parts of a run",
		Long: `cut writes the steps --from to --to of FILE to a new log OUT. Steps and times stay
those of the whole run. The new log knows what FILE knew at its first step:
mappings, threads, descriptors, the contents of memory. Page references
(--page-trace) are left out.

Several FILEs are parts of one run, such as the files that record --ring leaves in
its --dir when memtrace is killed: cut joins them.

FILE is not touched, and an OUT that exists is not overwritten. Nothing has the
name OUT before it is whole.`,
		Example: `  memtrace cut --from crash-10s --to crash -o end.mtl
  memtrace cut --from 1000 --to 2000 -o part.mtl long.mtl
  memtrace cut -o all.mtl /var/tmp/ring/*`,
		ValidArgsFunction: logFiles,
		RunE:              func(cmd *cobra.Command, args []string) error { return runCut(cmd, args, &o) },
	}
	fs := cmd.Flags()
	fs.StringVar(&o.from, "from", "", "the first `STEP` of the new log (the first of FILE)")
	fs.StringVar(&o.to, "to", "", "the last `STEP` (the last of FILE)")
	fs.StringVarP(&o.out, "output", "o", "", "the new log; - is standard output")
	if err := cmd.MarkFlagRequired("output"); err != nil {
		panic(err) // the flag is right above
	}
	return cmd
}

func runCut(cmd *cobra.Command, args []string, o *cutOptions) error {
	if len(args) == 0 {
		args = []string{defaultLog}
	}
	var logs []*replay.Trace
	for _, name := range args {
		t, err := openTrace(cmd, name)
		if len(args) > 1 && unbegun(name, t, err) {
			fmt.Fprintf(cmd.ErrOrStderr(), "memtrace: %s has no event\n", name)
			continue
		}
		if err != nil {
			return err
		}
		defer t.Close()
		logs = append(logs, t)
	}
	if len(logs) == 0 {
		return fmt.Errorf("cut: %w", replay.ErrEmpty)
	}
	replay.SortParts(logs)
	from, to, err := cutSpan(logs, o)
	if err != nil {
		return fmt.Errorf("cut: %w", err)
	}
	if logs[0].HasRefs() {
		fmt.Fprintln(cmd.ErrOrStderr(), "memtrace: page references are left out")
	}
	var info *format.Info
	write := func(w io.Writer) error {
		info, err = replay.Cut(cmd.Context(), w, logs, from, to, nil)
		return err
	}
	if err := writeWhole(cmd, o.out, write); err != nil {
		return fmt.Errorf("cut -o %s: %w", o.out, err)
	}
	n := uint64(info.Steps - max(from, info.First))
	fmt.Fprintf(cmd.ErrOrStderr(), "memtrace: %s, steps %d to %d, %s in %s\n", count(n, "event"), info.Steps-format.Step(n), info.Steps-1, size(info.Size), o.out)
	return nil
}

// unbegun says whether a part of a run has no event of its own: its recorder was killed just
// when it began.
func unbegun(name string, t *replay.Trace, err error) bool {
	if err != nil {
		st, serr := os.Stat(name)
		return errors.Is(err, format.ErrTruncated) || errors.Is(err, replay.ErrEmpty) || serr == nil && st.Size() == 0
	}
	return t.Steps() <= t.Header().Begin.First()
}

// cutSpan turns --from and --to into steps: of the first log that has them, and of the last.
func cutSpan(logs []*replay.Trace, o *cutOptions) (from, to format.Step, err error) {
	first, last := logs[0], logs[len(logs)-1]
	from = first.Header().Begin.First()
	to, _ = last.Last()
	if o.from != "" {
		for _, t := range logs {
			if from, err = t.StepOf(o.from); err == nil {
				break
			}
		}
		if err != nil {
			return 0, 0, err
		}
	}
	if o.to != "" {
		for i := range logs {
			if to, err = logs[len(logs)-1-i].StepOf(o.to); err == nil {
				break
			}
		}
		if err != nil {
			return 0, 0, err
		}
	}
	if from > to {
		return 0, 0, usagef("cut: steps %d to %d run backwards", from, to)
	}
	return from, to, nil
}
