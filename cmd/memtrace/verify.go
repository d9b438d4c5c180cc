package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"memtrace/format"
	"memtrace/format/redact"
	"memtrace/replay"
)

// maxFindings is how many findings verify writes out.
const maxFindings = 20

func newVerifyCmd() *cobra.Command {
	var redacted bool
	var rules string
	cmd := &cobra.Command{
		Use:   "verify [FILE]",
		Short: "Check every checksum, index entry and state of a log",
		Long: `verify reads the whole log and checks every checksum, every index entry and that
the states it describes can be. It exits 0 only if all of it holds, 3 if the log
is damaged or cut.

--redacted also checks that nothing is in the log that memtrace redact has taken
out, and that the log has the inventory that its header says.`,
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: logFiles,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := runVerify(cmd, fileArg(args)); err != nil || !redacted {
				return err
			}
			return verifyRedacted(cmd, fileArg(args), rules)
		},
	}
	cmd.Flags().BoolVar(&redacted, "redacted", false, "check that what was redacted is gone, and write what is left")
	cmd.Flags().StringVar(&rules, "rules", "", "with --redacted: search for what the rules in `FILE` match, too")
	return cmd
}

func runVerify(cmd *cobra.Command, name string) error {
	f, err := openRaw(cmd, name)
	if err != nil {
		return err
	}
	defer f.close()
	found := 0
	info, err := format.Verify(f, f.size, f.opt, func(e error) {
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
	but, err := missing(cmd, f, f.size)
	if err != nil {
		return fmt.Errorf("verify %s: %w", name, err)
	}
	_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s: whole%s: %s, %d bytes\n", name, but, count(uint64(info.Steps-info.First), "event"), info.Size)
	return err
}

// missing says what a whole log does not know all the same.
func missing(cmd *cobra.Command, f io.ReaderAt, size int64) (string, error) {
	r, err := format.NewReader(f, size, nil)
	if err != nil {
		return "", err
	}
	n, err := replay.New(r).WithoutMappings(cmd.Context())
	if err != nil || n == 0 {
		return "", err
	}
	return ", but " + replay.NotMapped(n), nil
}

// verifyRedacted repeats the proof that redact has made.
func verifyRedacted(cmd *cobra.Command, name, rules string) error {
	f, err := openRaw(cmd, name)
	if err != nil {
		return err
	}
	defer f.close()
	var pol *redact.Policy
	if rules != "" {
		if pol, err = redactPolicy("", rules); err != nil {
			return err
		}
	}
	proof, err := redact.Check(f, f.size, f.opt, pol)
	if err != nil {
		if proof != nil {
			for _, b := range proof.Broken {
				fmt.Fprintf(cmd.ErrOrStderr(), "memtrace: verify %s: %v\n", name, b)
			}
		}
		return &exitError{code: statusDamaged, err: fmt.Errorf("verify %s: %w", name, err)}
	}
	_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s: redacted: nothing else is left\n%s", name, inventoryLines(&proof.Inventory))
	return err
}
