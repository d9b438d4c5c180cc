//go:build linux

package main

import (
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/mattn/go-isatty"
	"github.com/spf13/cobra"

	"memtrace/analyze/console"
	"memtrace/analyze/top"
	"memtrace/format/addr"
	"memtrace/record"
	"memtrace/record/procfs"
)

func newTopCmd() *cobra.Command {
	f := recordFlags{meminfo: "250ms", snapshot: "none", stacks: "none", perfMap: "off", inProcess: "off", follow: true}
	c := &cobra.Command{
		Use:   "top [flags] [--] PROG [ARG...] | top -p PID",
		Short: "Watch the processes and mappings of a running program on the whole screen",
		Long: `Record a program, or running ones with -p, and show which processes and mappings
grow meanwhile, and the last events.

The arrow keys choose a row. Enter looks into a process, and then at the bytes of a
mapping; esc goes back. ? lists the other keys. d detaches and leaves the program
running. q leaves: it ends a program that top has started, and detaches from others.

The program's input is empty and its output is thrown away: the terminal is in
use. The log is written as record writes it; no memory contents are saved.`,
		Example: "  memtrace top -p 1234\n  memtrace top -- ./server --port 80",
		Args: func(c *cobra.Command, args []string) error {
			return wantTarget(args, f.attach)
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
	job, err := f.job("top", args)
	if err != nil {
		return err
	}
	s, err := record.Open(f.output, header(args, f.trace, &job.Options))
	if err != nil {
		return fmt.Errorf("top -o %s: %w", f.output, err)
	}
	if job.Program != nil {
		job.Program.NoStdin, job.Program.NoOutput = true, true
	}
	feed := top.NewFeed(s.Header().Start)
	feed.Smaps = func(pid uint32) ([]byte, error) { return procfs.ReadText(fmt.Sprintf("/proc/%d/smaps", pid)) }
	feed.ReadMem = readMemory
	job.Options.Observe = feed.See
	s.Prepare(job)
	out, end, err := watch(s, job, feed, topTitle(f, args))
	if err != nil {
		return fmt.Errorf("top: %w", err)
	}
	fmt.Fprintf(screen(os.Stderr), "memtrace: %s, %s in %s (memtrace report %s)\n", count(uint64(out.Events), "event"), size(out.Bytes), out.Log, out.Log)
	if end == top.Detach && !out.Ended {
		fmt.Fprintln(os.Stderr, "memtrace: detached: the program runs on")
	}
	return out.Err
}

// readMemory reads the memory of a process that runs on meanwhile.
func readMemory(pid uint32, b []byte, at addr.Addr) (int, error) {
	p, err := procfs.Open(int(pid))
	if err != nil {
		return 0, err
	}
	defer p.Close()
	return p.ReadMem(b, at)
}

func topTitle(f *recordFlags, args []string) string {
	if len(f.attach) > 0 {
		return fmt.Sprintf("process %d", f.attach[0])
	}
	return strings.Join(args, " ")
}

// watch records while the screen shows what is recorded, until one of them ends.
func watch(s *record.Session, job *record.Job, feed *top.Feed, title string) (*record.Outcome, top.End, error) {
	type outcome struct {
		out *record.Outcome
		err error
	}
	done := make(chan outcome, 1)
	over := make(chan string, 1)
	go func() {
		out, err := s.Record(job)
		over <- endText(out, err)
		done <- outcome{out, err}
	}()
	select { // what cannot be started has no screen
	case x := <-done:
		if x.err != nil {
			return nil, 0, x.err
		}
		done <- x
	case <-time.After(200 * time.Millisecond):
	}
	end, err := top.Run(feed, top.Options{
		Plain: os.Getenv("NO_COLOR") != "", ASCII: !utf8Terminal(), Title: title, Ended: over,
		Gone: func() bool { return !isatty.IsTerminal(os.Stdout.Fd()) },
	})
	if end != top.Quit || job.Program == nil || s.Kill() != nil {
		s.Stop()
	}
	x := <-done
	if err == nil {
		err = x.err
	}
	return x.out, end, err
}

// endText says how a program that was watched has ended.
func endText(res *record.Outcome, err error) string {
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
