package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"memtrace/analyze"
)

func newInfoCmd() *cobra.Command {
	var form string
	var files bool
	cmd := &cobra.Command{
		Use:   "info [FILE]",
		Short: "Say what a log is, how big its parts are, and whether it is whole",
		Long: `info writes the header, sizes and counts of a log, which mechanisms made its
snapshots, and whether it is whole. FILE may be - for standard input.`,
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: logFiles,
		RunE: func(cmd *cobra.Command, args []string) error {
			f, err := analyze.ParseFormat(form)
			if err != nil {
				return usageError{err}
			}
			name := fileArg(args)
			t, err := openAnyTrace(cmd, name)
			if err != nil {
				return err
			}
			defer t.Close()
			if t.Truncated() && t.Count() == 0 {
				fmt.Fprintf(cmd.ErrOrStderr(), "memtrace: %v\n", reading(name, noEvent(t)))
			}
			r, err := analyze.Info(cmd.Context(), t, name, files)
			if err != nil {
				return fmt.Errorf("read %s: %w", name, err)
			}
			return r.Sheet().Write(cmd.OutOrStdout(), f)
		},
	}
	cmd.Flags().StringVar(&form, "format", "table", "table, json, csv or markdown")
	cmd.Flags().BoolVar(&files, "files", false, "list the files that programs mapped, and where they are")
	return cmd
}
