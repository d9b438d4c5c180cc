package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/mattn/go-isatty"
	"github.com/spf13/cobra"

	"memtrace/replay"
)

// openGrowing opens a log that may still be written to.
func openGrowing(cmd *cobra.Command, name string) (*replay.Growing, error) {
	opt, err := readerOptions(cmd, 0)
	if err != nil {
		return nil, err
	}
	if opt.MaxState == 0 {
		opt = nil // in proportion to the log, as it grows
	}
	g, err := replay.OpenGrowing(cmd.Context(), name, opt)
	if err != nil {
		return nil, opening(name, err)
	}
	if err := useSymbols(cmd, g.Trace); err != nil {
		return nil, errors.Join(err, g.Close())
	}
	return g, nil
}

// flush writes out what a command has written so far.
func flush(cmd *cobra.Command) error {
	if w, ok := cmd.OutOrStdout().(interface{ Flush() error }); ok {
		return w.Flush()
	}
	return nil
}

// followed says how a log ended that was followed.
func followed(cmd *cobra.Command, name string, g *replay.Growing) error {
	if !g.Truncated() {
		return nil
	}
	if g.Count() == 0 {
		return reading(name, errNoEvent)
	}
	warnTruncated(cmd, name, g.Trace)
	return nil
}

// untilEnd is the error of a command that follows a log: whoever interrupts it has seen enough.
func untilEnd(err error) error {
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

// followList lists the events of a log that is still being written, as they come.
func followList(cmd *cobra.Command, name string, o *replayOptions) error {
	g, err := openGrowing(cmd, name)
	if err != nil {
		return untilEnd(err)
	}
	defer g.Close()
	for more := g.Count() == 0; more; {
		if more, err = g.Grow(cmd.Context()); err != nil {
			return untilEnd(replaying(name, err))
		}
		if g.Count() > 0 {
			break
		}
	}
	if o.pid, err = g.PIDOf(cmd.Context(), o.pid); err != nil {
		return untilEnd(replaying(name, err))
	}
	lo, err := o.list(cmd, g.Trace)
	if err != nil {
		return err
	}
	lo.Part = true
	for more := g.Count() > 0; more; {
		last, _ := g.Last()
		if lo.To = last; lo.From <= lo.To {
			if err := g.List(cmd.Context(), cmd.OutOrStdout(), lo); err != nil {
				return untilEnd(replaying(name, err))
			}
			lo.From = last + 1
		}
		if err := flush(cmd); err != nil {
			return err
		}
		if more, err = g.Grow(cmd.Context()); err != nil {
			return untilEnd(replaying(name, err))
		}
	}
	return followed(cmd, name, g)
}

// followEvery is how often tables are written anew at most.
const followEvery = 2 * time.Second

// followTables writes tables again and again while the log grows: over each other on a terminal.
func followTables(cmd *cobra.Command, name string, write func(*replay.Trace) error) error {
	g, err := openGrowing(cmd, name)
	if err != nil {
		return untilEnd(err)
	}
	defer g.Close()
	for first, more := true, true; more; first = false {
		if g.Count() > 0 {
			switch {
			case isatty.IsTerminal(os.Stdout.Fd()):
				fmt.Fprint(os.Stdout, "\033[H\033[2J")
			case !first:
				fmt.Fprintln(cmd.OutOrStdout())
			}
			if err := write(g.Trace); err != nil {
				return untilEnd(err)
			}
			if err := flush(cmd); err != nil {
				return err
			}
			select {
			case <-cmd.Context().Done():
				return nil
			case <-time.After(followEvery):
			}
		}
		if more, err = g.Grow(cmd.Context()); err != nil {
			return untilEnd(err)
		}
	}
	return followed(cmd, name, g)
}
