// Command memtrace records what a program does to its memory, and shows it
// again at any step.
package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/signal"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"memtrace/analyze"
	"memtrace/format"
	"memtrace/replay"
)

// Exit statuses (docs/cli.md); record has more of its own.
const (
	statusFailed  = 1
	statusUsage   = 2
	statusDamaged = 3
	statusUnknown = 4
)

// defaultLog is the log that commands read when none is named.
const defaultLog = "memtrace.data"

// exitError ends the program with a status of its own choice; without an err it
// says nothing.
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string {
	if e.err == nil {
		return fmt.Sprintf("exit status %d", e.code)
	}
	return e.err.Error()
}

func (e *exitError) Unwrap() error { return e.err }

// usageError is a mistake in the command line.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

func usagef(format string, a ...any) error { return usageError{fmt.Errorf(format, a...)} }

func main() {
	launch()
	os.Exit(run(context.Background(), os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

// run carries out a command line and returns the exit status.
func run(ctx context.Context, args []string, in io.Reader, out, errw io.Writer) int {
	// Lists run to millions of lines. What is said on stderr goes after what
	// was written before it.
	buf := bufio.NewWriterSize(out, 1<<16)
	root := newRoot()
	root.SetArgs(args)
	root.SetIn(in)
	root.SetOut(buf)
	root.SetErr(&after{buf, errw})
	strict(root) // after SetOut: what it adds keeps the output
	started := false
	atRun(root, func(cmd *cobra.Command) { started = true; interruptible(cmd) })
	cmd, err := root.ExecuteContextC(ctx)
	if ferr := buf.Flush(); err == nil {
		err = ferr
	}
	if err == nil {
		return 0
	}
	// What fails before a command runs is the command line.
	if !started && !errors.As(err, new(usageError)) {
		err = usageError{err}
	}
	return report(errw, cmd, err)
}

// atRun has f called when a command's own work begins: its flags and arguments
// are found to be good by then.
func atRun(c *cobra.Command, f func(*cobra.Command)) {
	if work := c.RunE; work != nil {
		c.RunE = func(cmd *cobra.Command, args []string) error {
			f(cmd)
			return work(cmd, args)
		}
	}
	for _, sub := range c.Commands() {
		atRun(sub, f)
	}
}

// interruptible makes Ctrl-C end a command's context. record sees to its
// signals itself: they are for the program first.
func interruptible(cmd *cobra.Command) {
	if cmd.Name() == "record" {
		return
	}
	ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt)
	context.AfterFunc(ctx, stop) // a second Ctrl-C ends the program
	cmd.SetContext(ctx)
}

// after flushes what was written to out before it writes.
type after struct {
	out *bufio.Writer
	w   io.Writer
}

func (a *after) Write(p []byte) (int, error) {
	if err := a.out.Flush(); err != nil {
		return 0, err
	}
	return a.w.Write(p)
}

// report says what went wrong, and what to do about it, and picks the status.
func report(w io.Writer, cmd *cobra.Command, err error) int {
	var exit *exitError
	status := statusFailed
	switch {
	case errors.As(err, &exit):
		if status = exit.code; exit.err == nil {
			return status
		}
	case errors.As(err, new(usageError)):
		status = statusUsage
		err = fmt.Errorf("%w (%s --help)", err, cmd.CommandPath())
	case errors.Is(err, replay.ErrUnmapped), errors.Is(err, replay.ErrUnknown):
		status = statusUnknown
	case errors.Is(err, format.ErrCorrupt):
		status = statusDamaged
	}
	fmt.Fprintf(w, "memtrace: %s%s\n", strings.ReplaceAll(err.Error(), "\n", " "), remedy(err))
	return status
}

// remedy is what to do about an error.
func remedy(err error) string {
	var pe *fs.PathError
	switch {
	case errors.Is(err, format.ErrVersion):
		return "; read it with the memtrace that wrote it, or a newer one"
	case errors.Is(err, format.ErrFormat):
		return "; name a log that memtrace record made"
	case errors.Is(err, format.ErrCorrupt), errors.Is(err, format.ErrTruncated):
		return "; memtrace verify says what is wrong, memtrace recover saves what can be read"
	case errors.As(err, &pe) && errors.Is(err, fs.ErrNotExist) && pe.Path == defaultLog:
		return "; name a log, or make one: memtrace record PROG"
	case errors.Is(err, context.Canceled):
		return " (interrupted)"
	}
	return ""
}

// commands make the subcommands; platformCommands adds those that not every
// system has.
var commands = []func() *cobra.Command{
	newReplayCmd, newReportCmd, newExportCmd, newDumpCmd, newInfoCmd, newVerifyCmd, newRecoverCmd, newVersionCmd, newManCmd,
}

// size writes a number of bytes.
func size(n int64) string { return analyze.Size(uint64(n)) }

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:   "memtrace",
		Short: "Record what a program does to its memory, and look at it again at any step",
		Long: `memtrace records every system call, signal, process and thread of a program,
with what each did to the address space and with snapshots of the memory itself,
and shows the program's memory at any step of the log: live while it runs, or
later and elsewhere.

A log that is not named is memtrace.data in the current directory.`,
		Example: `  memtrace record ./prog
  memtrace report
  memtrace replay --at 50% --maps`,
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	root.CompletionOptions.HiddenDefaultCmd = false
	for _, f := range append(platformCommands, commands...) {
		root.AddCommand(f())
	}
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{plain(err)} })
	return root
}

// plain takes out of a flag's error how Go would say it.
func plain(err error) error {
	var num *strconv.NumError
	if !errors.As(err, &num) {
		return err
	}
	return errors.New(strings.Replace(err.Error(), num.Error(), num.Err.Error(), 1))
}

// strict makes the commands that the library adds refuse what they do not know,
// as ours do.
func strict(root *cobra.Command) {
	root.InitDefaultHelpCmd()
	root.InitDefaultCompletionCmd()
	for _, c := range root.Commands() {
		switch c.Name() {
		case "help":
			c.Run, c.RunE = nil, func(_ *cobra.Command, args []string) error {
				of, _, err := root.Find(args)
				if err != nil || of == nil || of == root && len(args) > 0 {
					return usagef("no command %q", strings.Join(args, " "))
				}
				return of.Help()
			}
		case "completion":
			c.Args = cobra.ArbitraryArgs
			c.RunE = func(cmd *cobra.Command, args []string) error {
				if len(args) > 0 {
					return usagef("no shell %q: want bash, zsh, fish or powershell", args[0])
				}
				return cmd.Help()
			}
		}
	}
}

// openTrace opens the log that a command reads, and says so if it was cut.
func openTrace(cmd *cobra.Command, name string) (*replay.Trace, error) {
	t, err := replay.Open(name)
	if err != nil {
		return nil, reading(name, err)
	}
	if t.Truncated() {
		warnTruncated(cmd, name, t)
	}
	return t, nil
}

func warnTruncated(cmd *cobra.Command, name string, t *replay.Trace) {
	where := "before its first step"
	if last, ok := t.Last(); ok {
		where = fmt.Sprintf("at step %d", last)
	}
	fmt.Fprintf(cmd.ErrOrStderr(), "memtrace: read %s: truncated %s; memtrace recover %s -o OUT makes a whole log of it\n", name, where, name)
}

// reading gives an error of a file its place, where it has none.
func reading(name string, err error) error {
	if errors.As(err, new(*fs.PathError)) {
		return err
	}
	if name == "-" {
		name = "standard input"
	}
	return fmt.Errorf("read %s: %w", name, err)
}

// fileArg is the log that the arguments name.
func fileArg(args []string) string {
	if len(args) == 0 {
		return defaultLog
	}
	return args[0]
}

// logFiles completes the name of a log: any file will do.
func logFiles(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	return nil, cobra.ShellCompDirectiveDefault
}
