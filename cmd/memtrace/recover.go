package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/spf13/cobra"

	"memtrace/format"
	"memtrace/replay"
)

func newRecoverCmd() *cobra.Command {
	var out string
	cmd := &cobra.Command{
		Use:   "recover FILE -o OUT",
		Short: "Make a whole log of what can be read of a cut or damaged one",
		Long: `recover copies every complete group of events of FILE into a new log OUT, and
gives it an index and an end. FILE is not touched, and an OUT that exists is not
overwritten.`,
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
	f, closer, err := replay.OpenFile(name)
	if err != nil {
		return reading(name, err)
	}
	defer func() { _ = closer() }()
	fi, err := f.Stat()
	if err != nil {
		return err
	}
	var info *format.Info
	if out == "-" {
		info, err = format.Recover(f, fi.Size(), cmd.OutOrStdout())
	} else {
		info, err = recoverTo(f, fi.Size(), out)
	}
	if err != nil {
		return fmt.Errorf("recover %s: %w", name, err)
	}
	last := "no event"
	if info.Steps > 0 {
		last = fmt.Sprintf("%d events, up to step %d", info.Steps, info.Steps-1)
	}
	fmt.Fprintf(cmd.ErrOrStderr(), "memtrace: recovered %s of %s\n", last, name)
	return nil
}

// recoverTo writes a new file, and leaves none if that fails.
func recoverTo(r io.ReaderAt, size int64, out string) (info *format.Info, err error) {
	w, err := os.OpenFile(out, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return info, fmt.Errorf("%s exists already: name another with -o", out)
	}
	if err != nil {
		return info, err
	}
	info, err = format.Recover(r, size, w)
	if cerr := w.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		_ = os.Remove(out)
	}
	return info, err
}
