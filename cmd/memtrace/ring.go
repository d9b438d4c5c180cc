//go:build linux

package main

import (
	"fmt"
	"strconv"

	"github.com/spf13/cobra"

	"memtrace/record/ring"
)

func newRingCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "ring PID dump|status",
		Short: "Ask a running record --ring to keep what it has, or what it has",
		Long: `PID is that of the memtrace that records, or of a process that it records. dump
keeps the ring now, with the memory of all processes, and prints the name of the
log when it is whole. --keep-max of the recording counts. status says what the
ring has and what was kept.

Only the user who records may ask, and root.`,
		Example:   "  memtrace ring 1234 status\n  memtrace replay $(memtrace ring 1234 dump)",
		Args:      cobra.ExactArgs(2),
		ValidArgs: []string{ring.AskDump, ring.AskStatus},
		RunE: func(cmd *cobra.Command, args []string) error {
			pid, err := strconv.Atoi(args[0])
			if err != nil || pid <= 0 {
				return usagef("ring %s: want the pid of a process", args[0])
			}
			if args[1] != ring.AskDump && args[1] != ring.AskStatus {
				return usagef("ring %s %s: want dump or status", args[0], args[1])
			}
			text, err := ring.Request(pid, args[1])
			if err != nil {
				return fmt.Errorf("ring %d %s: %w", pid, args[1], err)
			}
			_, err = fmt.Fprint(cmd.OutOrStdout(), text)
			return err
		},
	}
}
