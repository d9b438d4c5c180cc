//go:build !linux

package main

import "github.com/spf13/cobra"

// platformCommands are none: elsewhere logs can be read, not made.
var platformCommands []func() *cobra.Command

func launch() {}
