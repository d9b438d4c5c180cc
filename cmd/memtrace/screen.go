package main

import (
	"io"
	"os"

	"github.com/mattn/go-isatty"

	"memtrace/replay"
)

// screen is f, or if it is a terminal what writes to it nothing that steers it. To a
// pipe or a file bytes stay as they are.
func screen(f *os.File) io.Writer {
	if !isatty.IsTerminal(f.Fd()) {
		return f
	}
	return replay.NewScreen(f)
}
