package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"memtrace/replay"
	"memtrace/replay/gdbstub"
)

// gdbOptions are the flags of gdb.
type gdbOptions struct {
	at, gdb string
	pid     uint32
	stale   bool
	all     bool
}

func newGDBCmd() *cobra.Command {
	var o gdbOptions
	cmd := &cobra.Command{
		Use:   "gdb [FILE] [-- GDB-ARGUMENTS]",
		Short: "Debug a log in gdb, forwards and backwards",
		Long: `gdb starts gdb at a process of a log: at the signal that killed it, else at its
end. stepi and reverse-stepi go from event to event of a thread, continue and
reverse-continue to signals, watchpoints and caught system calls.

What is not known at a step is unavailable: registers, memory, and bytes of a
stack that are older than its thread's last return from a call.`,
		Example: `  memtrace gdb
  memtrace gdb memtrace.data --at 1.5s
  memtrace gdb memtrace.data -- -batch -ex bt`,
		RunE: func(cmd *cobra.Command, args []string) error {
			own := args
			if n := cmd.ArgsLenAtDash(); n >= 0 {
				own, args = args[:n], args[n:]
			} else {
				args = nil
			}
			if len(own) > 1 {
				return usagef("gdb takes one log; what is for gdb itself goes behind --")
			}
			return runGDB(cmd, fileArg(own), args, &o)
		},
		ValidArgsFunction: logFiles,
	}
	f := cmd.Flags()
	f.StringVar(&o.at, "at", "", "begin at `STEP`")
	f.Uint32Var(&o.pid, "pid", 0, "the process `PID` (the log's first)")
	f.BoolVar(&o.all, "all", false, "show all processes of the log, each as an inferior")
	f.BoolVar(&o.stale, "stale", false, "show bytes of stacks that may be older than the step, too")
	f.StringVar(&o.gdb, "gdb", "gdb", "the debugger's `PROGRAM`")
	addSymbolFlags(cmd)
	return cmd
}

// session is what the flags say of a session with gdb.
func (o *gdbOptions) session(cmd *cobra.Command, t *replay.Trace) (*gdbstub.Session, error) {
	so := gdbstub.Options{All: o.all, Stale: o.stale, Once: o.gdb == "-"}
	var err error
	if so.PID, err = t.PIDOf(cmd.Context(), o.pid); err != nil {
		return nil, err
	}
	if o.at != "" {
		at, err := t.StepOf(o.at)
		if err != nil {
			return nil, err
		}
		so.At = &at
	}
	return gdbstub.New(cmd.Context(), t, so)
}

// gotoStep defines the command of gdb that goes to a step.
const gotoStep = "define goto-step\nmonitor goto $arg0\nmaintenance flush register-cache\nmaintenance flush dcache\nsharedlibrary\nframe\nend\n" +
	"document goto-step\nGo to a step of the log: a number, a time, crash, or a mark (monitor mark NAME).\nend\n"

// showProcess defines the command of gdb that shows another process: with a new connection, to which gdb brings
// nothing of the old process.
const showProcess = "define process\nif $argc == 1\nmonitor process $arg0\nelse\nmonitor process $arg0 $arg1\nend\ndisconnect\nfile\n%s\nend\n" +
	"document process\nprocess PID [STEP]: show another process of the log, at this step or at STEP. monitor processes lists them.\nend\n"

// patientGDB has gdb wait for an answer that takes long in a long log. After two seconds it would take
// the answer for that of its next question.
const patientGDB = "set remotetimeout 600\n"

// oneTime has gdb move all processes together, and keep nothing of memory that it has read: it would forget that of
// the process at hand only.
const oneTime = "set schedule-multiple on\nset stack-cache off\nset code-cache off\n"

// localFiles has gdb open files by itself. It would say of each that it reads it from afar, slowly.
const localFiles = "set sysroot\n"

// runGDB starts gdb with the log at the other end of a socket that nobody else can reach.
func runGDB(cmd *cobra.Command, name string, args []string, o *gdbOptions) error {
	debugger, err := exec.LookPath(o.gdb)
	if err != nil {
		return fmt.Errorf("gdb: %w (memtrace replay --gdb serves any debugger that speaks gdb's remote protocol)", err)
	}
	t, err := openTrace(cmd, name)
	if err != nil {
		return err
	}
	defer t.Close()
	so, err := o.session(cmd, t)
	if err != nil {
		return replaying(name, err)
	}
	dir, err := os.MkdirTemp("", "memtrace-gdb-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	script, socket := filepath.Join(dir, "script"), filepath.Join(dir, "socket")
	target := "target remote "
	if o.all {
		target = oneTime + "target extended-remote "
	}
	commands := gotoStep + fmt.Sprintf(showProcess, target+socket) + patientGDB
	if !cmd.Flags().Changed(symbolsFlag) && !cmd.Flags().Changed(debuginfodFlag) && so.Local() {
		commands += localFiles
	}
	commands += target + socket + "\n"
	if o.all {
		more, err := attachAll(cmd.Context(), so)
		if err != nil {
			return replaying(name, err)
		}
		commands += more
	}
	if err := os.WriteFile(script, []byte(commands), 0o600); err != nil {
		return err
	}
	l, err := net.Listen("unix", socket)
	if err != nil {
		return err
	}
	defer l.Close()
	served := make(chan error, 1)
	go func() { served <- serveGDB(cmd.Context(), l, so) }()
	signal.Ignore(os.Interrupt) // Ctrl-C is gdb's
	defer signal.Reset(os.Interrupt)
	g := exec.Command(debugger, append([]string{"-q", "-ex", "source " + script}, args...)...)
	g.Stdin, g.Stdout, g.Stderr = os.Stdin, os.Stdout, os.Stderr // a terminal, for its line editor
	runErr := g.Run()
	l.Close()
	if err := <-served; err != nil && !errors.Is(err, net.ErrClosed) {
		return fmt.Errorf("gdb %s: %w", name, err)
	}
	if exit := new(exec.ExitError); errors.As(runErr, &exit) {
		return &exitError{code: max(exit.ExitCode(), 1)}
	}
	return runErr
}

// mostInferiors is how many processes gdb is shown from the begin: it takes its time for the symbols of each.
const mostInferiors = 32

// attachAll are the commands that have gdb attach to the processes of the log, each at a step at which it is there,
// and go to the step to begin at.
func attachAll(ctx context.Context, so *gdbstub.Session) (string, error) {
	places, more, err := so.Places(ctx, mostInferiors)
	if err != nil {
		return "", err
	}
	var b strings.Builder
	for i, p := range places {
		if i > 0 {
			fmt.Fprintf(&b, "add-inferior\ninferior %d\nmonitor goto %d\n", i+1, p.Step)
		}
		fmt.Fprintf(&b, "attach %d\n", p.PID)
	}
	if len(places) > 1 {
		fmt.Fprintf(&b, "inferior 1\ngoto-step %d\n", places[0].Step)
	}
	if more > 0 {
		fmt.Fprintf(&b, "echo %d more processes are not shown: add-inferior, inferior N, attach PID (monitor processes)\\n\n", more)
	}
	return b.String(), nil
}

// serveGDB serves the first that connects, and the next as long as gdb goes to be shown another process.
func serveGDB(ctx context.Context, l net.Listener, s *gdbstub.Session) error {
	for ; s != nil; s = s.Next() {
		c, err := l.Accept()
		if err != nil {
			return err
		}
		stop := context.AfterFunc(ctx, func() { c.Close() })
		err = s.Serve(ctx, c)
		stop()
		c.Close()
		if err != nil {
			return err
		}
	}
	return nil
}

// runServeGDB is replay --gdb.
func runServeGDB(cmd *cobra.Command, t *replay.Trace, name string, o *replayOptions) error {
	so, err := (&gdbOptions{at: o.at, pid: o.pid, stale: o.stale, all: o.all, gdb: o.gdb}).session(cmd, t)
	if err != nil {
		return replaying(name, err)
	}
	if o.gdb == "-" {
		signal.Ignore(os.Interrupt) // the terminal's Ctrl-C is gdb's
		return replaying(name, so.Serve(cmd.Context(), stdio{cmd.InOrStdin(), os.Stdout}))
	}
	network := "tcp"
	if strings.Contains(o.gdb, "/") {
		network = "unix"
	} else if host, _, err := net.SplitHostPort(o.gdb); err != nil {
		return usagef("--gdb=%s: want HOST:PORT, the path of a socket, or -", o.gdb)
	} else if ip := net.ParseIP(host); host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return usagef("--gdb=%s: gdb's protocol has no password: memtrace listens on this machine only (127.0.0.1:PORT; ssh -L carries it further)", o.gdb)
	}
	l, err := net.Listen(network, o.gdb)
	if err != nil {
		return err
	}
	defer l.Close()
	defer context.AfterFunc(cmd.Context(), func() { l.Close() })()
	target := "target remote"
	if o.all {
		target = strings.ReplaceAll(oneTime, "\n", "; ") + "target extended-remote"
	}
	fmt.Fprintf(cmd.ErrOrStderr(), "memtrace: in gdb, type: %s %s\n", target, l.Addr())
	return replaying(name, serveGDB(cmd.Context(), l, so))
}

// stdio is both directions of a pipe to gdb.
type stdio struct {
	io.Reader
	io.Writer
}
