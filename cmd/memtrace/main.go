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
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"runtime/debug"
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
	out, errw := screen(os.Stdout), screen(os.Stderr)
	status := run(context.Background(), os.Args[1:], os.Stdin, out, errw)
	for _, w := range []io.Writer{out, errw} {
		if s, ok := w.(*replay.Screen); ok {
			_ = s.Flush() // a terminal that has gone shows nothing
		}
	}
	os.Exit(status)
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
	if len(args) > 0 && strings.HasPrefix(args[0], cobra.ShellCompRequestCmd) {
		withoutBackquotes(root)
	}
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
		hint := cmd.CommandPath() + " --help"
		var name string
		if n, _ := fmt.Sscanf(err.Error(), "unknown command %q", &name); n == 1 && !cmd.HasParent() {
			if _, lerr := exec.LookPath(name); lerr == nil {
				hint = "memtrace record " + name + " records that program; " + hint
			}
		}
		text := strings.Join(strings.Fields(plain(err)), " ")
		text = strings.Replace(text, ` for "memtrace" Did you mean this? `, "; did you mean ", 1)
		err = fmt.Errorf("%s (%s)", text, hint)
	case errors.As(err, new(replay.WordError)):
		status = statusUsage
	case errors.Is(err, replay.ErrUnmapped), errors.Is(err, replay.ErrUnknown):
		status = statusUnknown
	case errors.Is(err, format.ErrCorrupt), errors.Is(err, format.ErrTruncated), errors.Is(err, format.ErrLimit):
		status = statusDamaged
	}
	fmt.Fprintf(w, "memtrace: %s%s\n", strings.ReplaceAll(err.Error(), "\n", " "), remedy(cmd, err))
	return status
}

// remedy is what to do about an error.
func remedy(cmd *cobra.Command, err error) string {
	var pe *fs.PathError
	switch {
	case errors.Is(err, format.ErrVersion):
		return "; read it with the memtrace that wrote it, or a newer one"
	case errors.Is(err, format.ErrFormat):
		return "; name a log that memtrace record made"
	case errors.Is(err, errNoEvent):
		return "; memtrace info shows what its header says, nothing else of it can be read"
	case errors.As(err, new(noHeaderError)):
		return "; nothing of it can be read"
	case cmd.Name() == "recover" && (errors.Is(err, format.ErrCorrupt) || errors.Is(err, format.ErrTruncated)):
		return "; memtrace verify says what is wrong"
	case errors.Is(err, format.ErrCorrupt), errors.Is(err, format.ErrTruncated):
		return "; memtrace verify says what is wrong, memtrace recover saves what can be read"
	case errors.Is(err, format.ErrBudget):
		return "; if the log is yours, --memory SIZE allows more memory and time"
	case errors.As(err, &pe) && pe.Path == defaultLog && (cmd.Name() == "record" || cmd.Name() == "top"):
		return "; this folder cannot be written to: -o FILE puts the log elsewhere"
	case pe != nil && errors.Is(err, fs.ErrNotExist) && !exists(filepath.Dir(pe.Path)):
		return "; there is no folder " + filepath.Dir(pe.Path)
	case pe != nil && errors.Is(err, fs.ErrNotExist) && pe.Path == defaultLog:
		return "; name a log, or make one: memtrace record PROG"
	case errors.Is(err, context.Canceled):
		return " (interrupted)"
	}
	return ""
}

// commands make the subcommands; platformCommands adds those that not every
// system has.
var commands = []func() *cobra.Command{
	newReplayCmd, newViewCmd, newGDBCmd, newReportCmd, newDiffCmd, newExportCmd, newQueryCmd, newDumpCmd, newInfoCmd, newVerifyCmd, newRecoverCmd, newPackCmd, newRedactCmd, newCutCmd,
	newVersionCmd, newManCmd,
}

// size writes a number of bytes.
func size(n int64) string { return analyze.Size(uint64(n)) }

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:   "memtrace",
		Short: "Record what a program does to its memory, and look at it again at any step",
		Long: `memtrace records a program: its system calls, signals, processes and threads,
what each of them did to the address space, and the memory itself. It says what
went wrong, and shows the program's memory at any step of the log. It can do so
while the program runs, or later and on another machine.

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
	for _, c := range root.Commands() {
		switch c.Name() {
		case "replay", "view", "gdb", "report", "diff", "export", "query", "dump", "info", "verify", "recover", "pack", "cut":
			addMemoryFlag(c)
		}
	}
	root.Version = versionLine()
	root.SetVersionTemplate("{{.Version}}\n")
	root.Flags().Bool("version", false, "show the version of memtrace, and exit")
	addCompletions(root)
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })
	return root
}

// goSays is how Go's number parser begins its errors.
var goSays = regexp.MustCompile(`strconv\.\w+: parsing "[^"]*": `)

// goTime is what Go says of a time that it cannot read.
var goTime = regexp.MustCompile(`time: (missing|unknown) unit (?:"[^"]*" )?in duration "([^"]*)"|time: invalid duration "([^"]*)"`)

// plain says an error of a flag without it, and what to type.
func plain(err error) string {
	text := goSays.ReplaceAllString(err.Error(), "")
	m := goTime.FindStringSubmatch(text)
	if m == nil {
		return text
	}
	say := "want a time as 10ms, 5s or 2m"
	if m[1] == "missing" {
		say = fmt.Sprintf("a time needs its unit: %ss or %sms", m[2], m[2])
	}
	return goTime.ReplaceAllLiteralString(text, say)
}

// count writes a number of things.
func count(n uint64, one string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %ss", n, one)
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

// errNoEvent is the error of a log that was cut before its first event.
var errNoEvent = fmt.Errorf("%w: before its first step", format.ErrTruncated)

// noEvent is the error of a log without an event and an end.
func noEvent(t *replay.Trace) error {
	if t.BeingWritten() {
		return fmt.Errorf("%w yet: it is still being written", replay.ErrEmpty)
	}
	return errNoEvent
}

// noHeaderError is the error of a log whose header cannot be read.
type noHeaderError struct{ error }

func (e noHeaderError) Unwrap() error { return e.error }

// opening gives an error of opening a log its place. A log is cut short where it opens only if that is
// in its header: one that has a header is read as far as it goes.
func opening(name string, err error) error {
	var d *format.DataError
	if errors.Is(err, format.ErrTruncated) || errors.Is(err, format.ErrCorrupt) && errors.As(err, &d) && d.Off == 0 {
		err = noHeaderError{err}
	}
	return reading(name, err)
}

// openTrace opens the log that a command reads, and says so if it was cut. One without an event is an
// error, if it was cut.
func openTrace(cmd *cobra.Command, name string) (*replay.Trace, error) {
	t, err := openAnyTrace(cmd, name)
	if err != nil {
		return nil, err
	}
	if t.Truncated() && t.Count() == 0 {
		return nil, errors.Join(reading(name, noEvent(t)), t.Close())
	}
	return t, nil
}

// openAnyTrace is openTrace for a command that also reads a log without an event.
func openAnyTrace(cmd *cobra.Command, name string) (*replay.Trace, error) {
	var logSize int64
	if fi, err := os.Stat(name); err == nil {
		logSize = fi.Size()
	}
	opt, err := readerOptions(cmd, logSize)
	if err != nil {
		return nil, err
	}
	t, err := replay.Open(name, opt)
	if err != nil {
		return nil, opening(name, err)
	}
	if t.Truncated() {
		warnTruncated(cmd, name, t)
	}
	if what := t.Header().Redacted; what != "" {
		fmt.Fprintf(cmd.ErrOrStderr(), "memtrace: %s %s\n", name, redactedNote(what))
	}
	if err := useSymbols(cmd, t); err != nil {
		return nil, errors.Join(err, t.Close())
	}
	return t, nil
}

// rawLog is a log as it lies in its file, for commands that look at what is stored.
type rawLog struct {
	io.ReaderAt
	size  int64
	opt   *format.ReaderOptions
	close func()
}

// openRaw opens a log without reading it.
func openRaw(cmd *cobra.Command, name string) (*rawLog, error) {
	f, closer, err := replay.OpenFile(name)
	if err != nil {
		return nil, reading(name, err)
	}
	l := &rawLog{ReaderAt: f, close: func() { _ = closer() }}
	fi, err := f.Stat()
	if err == nil {
		l.size = fi.Size()
		l.opt, err = readerOptions(cmd, l.size)
	}
	if err != nil {
		l.close()
		return nil, err
	}
	return l, nil
}

// memoryFlag is the flag of the commands that read logs.
const memoryFlag = "memory"

func addMemoryFlag(cmd *cobra.Command) {
	usage := "read a log whose state takes up to `SIZE` (128M, and 64 times the log's size)"
	if cmd.Name() == "report" {
		usage += "; what-if: the memory that the program has (64M)"
	}
	cmd.Flags().String(memoryFlag, "", usage)
}

// readerOptions are what a command reads a log of a size with. The collector keeps
// what is no longer needed only as far as the limit of the state allows.
func readerOptions(cmd *cobra.Command, size int64) (*format.ReaderOptions, error) {
	limit := int64(128<<20) + 64*size
	o := new(format.ReaderOptions)
	if s, err := cmd.Flags().GetString(memoryFlag); err == nil && s != "" {
		if o.MaxState, err = parseSize(s); err != nil || o.MaxState <= 0 {
			return nil, usagef("--%s %s: want a size as 512M", memoryFlag, s)
		}
		limit = o.MaxState
	}
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(limit + 80<<20)
	}
	return o, nil
}

// parseSize reads a number of bytes with an optional K, M, G or T.
func parseSize(s string) (int64, error) {
	if s == "" {
		return 0, nil
	}
	shift := 0
	if i := strings.IndexByte("KMGT", s[len(s)-1]&^0x20); i >= 0 {
		shift, s = 10*(i+1), s[:len(s)-1]
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n <= 0 || n > 1<<62>>shift {
		return 0, fmt.Errorf("%q is not a size such as 500K, 64M or 2G", s)
	}
	return n << shift, nil
}

// warnTruncated says up to where a log can be read. One without an event is an error for who reads
// events.
func warnTruncated(cmd *cobra.Command, name string, t *replay.Trace) {
	last, ok := t.Last()
	switch {
	case ok && t.BeingWritten():
		fmt.Fprintf(cmd.ErrOrStderr(), "memtrace: read %s: it is still being written: this is up to step %d\n", name, last)
	case ok:
		fmt.Fprintf(cmd.ErrOrStderr(), "memtrace: read %s: truncated at step %d; memtrace recover %s -o OUT makes a whole log of it\n", name, last, name)
	}
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
