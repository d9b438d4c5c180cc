package main

import (
	"os"

	"github.com/spf13/cobra"

	"memtrace/analyze/console"
	"memtrace/analyze/top"
	"memtrace/replay"
)

// runTUI shows a log on the whole screen.
func runTUI(cmd *cobra.Command, t *replay.Trace, name string) error {
	if !console.Terminal() {
		return usagef("--tui needs a terminal")
	}
	h, err := top.NewHistory(cmd.Context(), t)
	if err != nil {
		return replaying(name, err)
	}
	defer h.Close()
	_, err = top.Run(h, top.Options{Plain: os.Getenv("NO_COLOR") != "", ASCII: !utf8Terminal(), Title: name})
	return replaying(name, err)
}
