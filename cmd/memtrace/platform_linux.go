package main

import (
	"github.com/spf13/cobra"

	"memtrace/record"
)

// platformCommands are the commands that need Linux underneath.
var platformCommands = []func() *cobra.Command{newRecordCmd, newTopCmd, newRingCmd}

// launch runs the stage of record that becomes the program, if this process was
// started to be that; it does not return then.
func launch() { record.Launch() }
