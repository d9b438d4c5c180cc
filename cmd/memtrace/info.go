package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"memtrace/analyze"
)

func newInfoCmd() *cobra.Command {
	var form string
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
			t, err := openTrace(cmd, name)
			if err != nil {
				return err
			}
			defer t.Close()
			r, err := analyze.Info(cmd.Context(), t, name)
			if err != nil {
				return fmt.Errorf("read %s: %w", name, err)
			}
			return r.Write(cmd.OutOrStdout(), f)
		},
	}
	cmd.Flags().StringVar(&form, "format", "table", "table, json, csv or markdown")
	return cmd
}
