package main

import (
	"os"
	"runtime/debug"

	"github.com/spf13/cobra"

	"memtrace/replay"
	"memtrace/replay/debuginfod"
	"memtrace/replay/symbol"
)

// The flags of commands that give names to addresses.
const (
	symbolsFlag    = "symbols"
	noDemangleFlag = "no-demangle"
	debuginfodFlag = "debuginfod"
)

func addSymbolFlags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringArray(symbolsFlag, nil, "look for programs and their debug files in `DIR` too: by build id, path or name")
	f.Bool(debuginfodFlag, false, "ask the servers of $DEBUGINFOD_URLS for programs and debug files that are not here")
	f.Bool(noDemangleFlag, false, "leave names of C++ and Rust as the linker has them")
}

// symbolMemory is what tables of symbols may take beside the state of a log.
const symbolMemory = 256 << 20

// useSymbols tells a log where names come from, if the command has the flags.
func useSymbols(cmd *cobra.Command, t *replay.Trace) error {
	dirs, err := cmd.Flags().GetStringArray(symbolsFlag)
	if err != nil {
		return nil // it gives no names
	}
	mangled, err := cmd.Flags().GetBool(noDemangleFlag)
	if err != nil {
		return err
	}
	for _, d := range dirs {
		if fi, err := os.Stat(d); err != nil {
			return usagef("--symbols: %w", err)
		} else if !fi.IsDir() {
			return usagef("--symbols %s: no directory", d)
		}
	}
	o := replay.SymbolOptions{Dirs: dirs, Mangled: mangled}
	if ask, err := cmd.Flags().GetBool(debuginfodFlag); err != nil {
		return err
	} else if ask {
		c, err := debuginfod.New()
		if err != nil {
			return usagef("--debuginfod: %w", err)
		}
		o.Fetch = func(id, kind string) (symbol.Opened, error) { return c.Get(id, kind) }
	}
	t.UseSymbols(o)
	if t.HasStacks() && os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(debug.SetMemoryLimit(-1) + symbolMemory)
	}
	return nil
}
