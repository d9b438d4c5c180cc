package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"memtrace/format"
)

func newRecoverCmd() *cobra.Command {
	var out string
	cmd := &cobra.Command{
		Use:   "recover FILE -o OUT",
		Short: "Make a whole log of what can be read of a cut or damaged one",
		Long: `recover copies every complete group of events of FILE into a new log OUT, and
gives it an index and an end. FILE is not touched, and an OUT that exists is not
overwritten. OUT gets its name when it is complete. If it would not pass verify,
recover fails and writes nothing. It also fails if not one event can be read.`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: logFiles,
		RunE:              func(cmd *cobra.Command, args []string) error { return runRecover(cmd, args[0], out) },
	}
	cmd.Flags().StringVarP(&out, "output", "o", "", "the new log; - is standard output")
	if err := cmd.MarkFlagRequired("output"); err != nil {
		panic(err) // the flag is right above
	}
	return cmd
}

func runRecover(cmd *cobra.Command, name, out string) error {
	f, err := openRaw(cmd, name)
	if err != nil {
		return err
	}
	defer f.close()
	var info *format.Info
	err = writeWhole(cmd, out, func(w io.Writer) error {
		if info, err = format.Recover(f, f.size, f.opt, w); err == nil && info.Steps <= info.First {
			err = noneRecovered(f)
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("recover %s: %w", name, err)
	}
	last := "no event"
	if info.Steps > info.First {
		last = fmt.Sprintf("%s, up to step %d", count(uint64(info.Steps-info.First), "event"), info.Steps-1)
	}
	fmt.Fprintf(cmd.ErrOrStderr(), "memtrace: recovered %s of %s\n", last, name)
	return nil
}

// noneRecovered is the error of a log of which no event was recovered: nil if it is whole and has none.
func noneRecovered(f *rawLog) error {
	r, err := format.NewReader(f, f.size, f.opt)
	switch {
	case err != nil:
		return err
	case r.Truncated():
		return errNoEvent
	case r.Steps() > r.First():
		return fmt.Errorf("%w: not one event can be read", format.ErrCorrupt)
	}
	return nil
}
