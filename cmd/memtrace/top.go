//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"

	"memtrace/analyze/console"
	"memtrace/analyze/top"
	"memtrace/format"
	"memtrace/record"
)

func newTopCmd() *cobra.Command {
	f := recordFlags{meminfo: "250ms", snapshot: "none", follow: true}
	c := &cobra.Command{
		Use:   "top [flags] [--] PROG [ARG...] | top -p PID",
		Short: "Watch the processes and mappings of a running program on the whole screen",
		Long: `Record a program, or running ones with -p, and show meanwhile which processes
and mappings grow, with the last events.

The arrows choose, enter looks into a process, esc goes back, s sorts by growth,
size or name, / filters, d detaches and leaves the program running. q leaves: it
ends a program that top has started, and detaches from others.

The program's input is empty and its output is thrown away: the terminal is in
use. The log is written as record writes it; no memory contents are saved.`,
		Example: "  memtrace top -p 1234\n  memtrace top -- ./server --port 80",
		Args: func(c *cobra.Command, args []string) error {
			if (len(args) == 0) == (len(f.attach) == 0) {
				return errors.New("name a program to run, or processes to attach to with -p")
			}
			return nil
		},
		RunE: func(c *cobra.Command, args []string) error { return runTop(&f, args) },
	}
	fs := c.Flags()
	fs.SetInterspersed(false)
	fs.StringVarP(&f.output, "output", "o", "memtrace.data", "the log; %p is the program's pid")
	fs.StringVarP(&f.trace, "trace", "e", "all", "calls to record, in strace's syntax")
	fs.IntSliceVarP(&f.attach, "attach", "p", nil, "attach to running processes: `PID`,...")
	fs.StringVar(&f.meminfo, "meminfo", f.meminfo, "sample the memory every `INTERVAL`")
	return c
}

func runTop(f *recordFlags, args []string) error {
	if !console.Terminal() {
		return usagef("top needs a terminal")
	}
	o, err := f.options()
	if err != nil {
		return usageError{err}
	}
	var path string
	if len(f.attach) == 0 {
		if path, err = findProgram(args[0]); err != nil {
			return failRecord(exitNotFound, "top %s: %w", args[0], err)
		}
	}
	out, err := openLog(f.output)
	if err != nil {
		return fmt.Errorf("top -o %s: %w", f.output, err)
	}
	w, err := format.NewWriter(out, header(args), nil)
	if err != nil {
		return fmt.Errorf("top -o %s: %w", f.output, err)
	}
	ctx, detach := context.WithCancel(context.Background())
	defer detach()
	var pid atomic.Int64
	o.Started = func(p int) { pid.Store(int64(p)) }
	o.NoStdin, o.NoOutput = true, true
	feed := top.NewFeed(w.Header().Start)
	o.Observe = feed.See
	r := record.New(w, *o)
	type outcome struct {
		res *record.Result
		err error
	}
	done := make(chan outcome, 1)
	over := make(chan string, 1)
	go func() {
		var x outcome
		if len(f.attach) > 0 {
			x.res, x.err = r.Attach(ctx, f.attach...)
		} else {
			x.res, x.err = r.Run(ctx, path, args, f.environ())
		}
		over <- endText(x.res, x.err)
		done <- x
	}()
	title := strings.Join(args, " ")
	if len(f.attach) > 0 {
		title = fmt.Sprintf("process %d", f.attach[0])
	}
	select { // what cannot be started has no screen
	case x := <-done:
		if x.err != nil {
			_ = w.Close("failed")
			out.remove()
			return fmt.Errorf("top: %w", x.err)
		}
		done <- x
	case <-time.After(200 * time.Millisecond):
	}
	end, err := top.Run(feed, top.Options{
		Plain: os.Getenv("NO_COLOR") != "", ASCII: !utf8Terminal(), Title: title, Ended: over,
	})
	if end == top.Quit && len(f.attach) == 0 {
		r.Kill()
	} else {
		detach()
	}
	x := <-done
	if x.err != nil {
		_ = w.Close("failed")
		out.remove()
		return fmt.Errorf("top: %w", x.err)
	}
	if cerr := w.Close(x.res.Reason); err == nil {
		err = cerr
	}
	name := out.finish(int(pid.Load()))
	fmt.Fprintf(os.Stderr, "memtrace: %d events, %s in %s (memtrace report %s)\n", x.res.Events, size(w.Bytes()), name, name)
	if end == top.Detach && !x.res.Ended {
		fmt.Fprintln(os.Stderr, "memtrace: detached: the program runs on")
	}
	return err
}

// endText says how a program that was watched has ended.
func endText(res *record.Result, err error) string {
	switch {
	case err != nil:
		return "failed: " + err.Error()
	case res.Ended && res.Status.Signaled():
		return fmt.Sprintf("ended by signal %d", res.Status.Signal())
	case res.Ended:
		return fmt.Sprintf("ended with status %d", res.Status.ExitStatus())
	}
	return "ended"
}
