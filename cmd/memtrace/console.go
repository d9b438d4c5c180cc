package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"memtrace/analyze/console"
	"memtrace/replay"
)

// runConsole goes through a log at a prompt.
func runConsole(cmd *cobra.Command, t *replay.Trace, name string) error {
	target, err := console.NewLog(t)
	if err != nil {
		return replaying(name, err)
	}
	defer target.Close()
	// A prompt must not wait in a buffer.
	out := flushing{cmd.OutOrStdout()}
	return console.New(target, out, cmd.ErrOrStderr()).Run(cmd.Context(), cmd.InOrStdin())
}

// flushing hands on what is written at once.
type flushing struct{ io.Writer }

func (f flushing) Write(p []byte) (int, error) {
	n, err := f.Writer.Write(p)
	if b, ok := f.Writer.(interface{ Flush() error }); ok && err == nil {
		err = b.Flush()
	}
	if err != nil {
		return n, fmt.Errorf("write to standard output: %w", err)
	}
	return n, nil
}
