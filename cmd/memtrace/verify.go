package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"memtrace/format"
	"memtrace/replay"
)

// maxFindings is how many findings verify writes out.
const maxFindings = 20

func newVerifyCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "verify [FILE]",
		Short: "Check every checksum, index entry and state of a log",
		Long: `verify reads the whole log and checks every checksum, every index entry and that
the states it describes can be. It exits 0 only if all of it holds, 3 if the log
is damaged or cut.`,
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: logFiles,
		RunE:              func(cmd *cobra.Command, args []string) error { return runVerify(cmd, fileArg(args)) },
	}
}

func runVerify(cmd *cobra.Command, name string) error {
	f, closer, err := replay.OpenFile(name)
	if err != nil {
		return reading(name, err)
	}
	defer func() { _ = closer() }()
	fi, err := f.Stat()
	if err != nil {
		return err
	}
	found := 0
	info, err := format.Verify(f, fi.Size(), func(e error) {
		if found++; found <= maxFindings {
			fmt.Fprintf(cmd.ErrOrStderr(), "memtrace: verify %s: %v\n", name, e)
		}
	})
	switch {
	case found > maxFindings:
		fmt.Fprintf(cmd.ErrOrStderr(), "memtrace: verify %s: and %d more\n", name, found-maxFindings)
		fallthrough
	case found > 0:
		return &exitError{code: statusDamaged}
	case err != nil:
		return &exitError{code: statusDamaged, err: fmt.Errorf("verify %s: %w", name, err)}
	case info.Truncated:
		return &exitError{code: statusDamaged, err: fmt.Errorf("verify %s: %w", name, format.ErrTruncated)}
	}
	_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s: whole: %d events, %d bytes\n", name, info.Steps, info.Size)
	return err
}
