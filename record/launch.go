//go:build linux

package record

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"memtrace/record/ptrace"
)

// The launcher is this program executed again: it puts on what the program is
// to start with, stops until it is traced, and becomes the program. It is told
// what to do in its argument vector, because every descriptor and every
// environment variable is the program's.
const launcherName = "memtrace: launcher"

// launchSpec is what the launcher is to do before the exec.
type launchSpec struct {
	Path       string
	Dir        string            `json:",omitempty"`
	User       *User             `json:",omitempty"`
	Ignore     []int             `json:",omitempty"` // signals to be ignored, as they were when memtrace was started
	Mask       uint64            // signals to be blocked
	Filter     []unix.SockFilter `json:",omitempty"`
	NoNewPrivs bool              `json:",omitempty"`
	// StdoutToStderr: the log goes to standard output.
	StdoutToStderr bool `json:",omitempty"`
	// NoStdin: standard input is for memtrace.
	NoStdin bool `json:",omitempty"`
	// NoOutput: the terminal is in use.
	NoOutput bool `json:",omitempty"`
}

// User is whom to run as.
type User struct {
	UID, GID int
	Groups   []int
}

// Exit statuses of a launcher that did not become the program: below this, the
// errno of the execve.
const launchFailed = 200

func isLauncher() bool { return len(os.Args) > 0 && os.Args[0] == launcherName }

func init() {
	if isLauncher() {
		runtime.LockOSThread() // the main thread: the only one that survives as the leader
	}
}

// Launch must be the first thing that main does: in the launcher and in the guard
// it does not return.
func Launch() {
	if len(os.Args) > 0 && os.Args[0] == guardName {
		runGuard()
		os.Exit(0)
	}
	if !isLauncher() {
		return
	}
	if len(os.Args) < 3 {
		os.Exit(launchFailed)
	}
	var spec launchSpec
	if err := json.Unmarshal([]byte(os.Args[1]), &spec); err != nil {
		os.Exit(launchFailed)
	}
	os.Exit(spec.launch(os.Args[2:]))
}

// launch does not return if all goes well; else it returns the exit status.
func (s *launchSpec) launch(argv []string) int {
	runtime.LockOSThread() // what it is to die of belongs to a thread
	fail := func(what string, err error) int {
		fmt.Fprintf(os.Stderr, "memtrace: record: %s: %v\n", what, err)
		return launchFailed
	}
	for fd, null := range []bool{s.NoStdin, s.NoOutput, s.NoOutput} {
		if !null {
			continue
		}
		if err := nullAt(fd); err != nil {
			return fail("open /dev/null", err)
		}
	}
	if s.StdoutToStderr {
		if err := unix.Dup2(2, 1); err != nil {
			return fail("redirect standard output", err)
		}
	}
	if s.Dir != "" {
		if err := os.Chdir(s.Dir); err != nil {
			return fail("change directory", err)
		}
	}
	if err := unix.Kill(unix.Getpid(), unix.SIGSTOP); err != nil { // the recorder seizes us here
		return fail("stop", err)
	}
	if u := s.User; u != nil {
		if err := syscall.Setgroups(u.Groups); err != nil {
			return fail("set groups", err)
		}
		if err := syscall.Setregid(u.GID, u.GID); err != nil {
			return fail("set group", err)
		}
		if err := syscall.Setreuid(u.UID, u.UID); err != nil {
			return fail("set user", err)
		}
	}
	for _, n := range s.Ignore {
		signal.Ignore(syscall.Signal(n))
	}
	if s.Filter != nil {
		if err := ptrace.InstallFilter(s.Filter, s.NoNewPrivs); err != nil {
			return fail("install the seccomp filter", err)
		}
	}
	if err := ptrace.SetSigMask(s.Mask); err != nil {
		return fail("set the signal mask", err)
	}
	// The program is not to die with us.
	if err := unix.Prctl(unix.PR_SET_PDEATHSIG, 0, 0, 0, 0); err != nil {
		return fail("outlive the recorder", err)
	}
	err := syscall.Exec(s.Path, argv, os.Environ())
	var e syscall.Errno
	if errors.As(err, &e) && e < launchFailed {
		return int(e)
	}
	return launchFailed
}

// startLauncher starts the launcher stage and returns when it is stopped and
// traced by the calling thread. Its first exec will be the program's.
func startLauncher(spec *launchSpec, argv, env []string) (pid int, err error) {
	b, err := json.Marshal(spec)
	if err != nil {
		return 0, err
	}
	args := append([]string{launcherName, string(b)}, argv...)
	// The program's descriptors are those that memtrace was given: its own are
	// closed at the exec, others that it inherited are left alone.
	// A launcher that waits for a recorder that is gone would stay stopped for ever.
	pid, err = syscall.ForkExec("/proc/self/exe", args, &syscall.ProcAttr{Env: env, Files: []uintptr{0, 1, 2}, Sys: &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}})
	if err != nil {
		return 0, fmt.Errorf("start the launcher: %w", err)
	}
	var ws unix.WaitStatus
	for {
		_, err = unix.Wait4(pid, &ws, unix.WUNTRACED, nil)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return 0, fmt.Errorf("wait for the launcher: %w", err)
		}
		break
	}
	if !ws.Stopped() {
		return 0, fmt.Errorf("the launcher ended before the program was started (status %d)", ws.ExitStatus())
	}
	options := ptrace.OptSysGood | ptrace.OptExec | ptrace.OptSeccomp
	if spec.Filter != nil {
		options |= ptrace.OptExitKill
	}
	if err := ptrace.Seize(pid, options); err != nil {
		_ = unix.Kill(pid, unix.SIGKILL)
		_, _ = unix.Wait4(pid, &ws, 0, nil)
		return 0, err
	}
	if err := unix.Kill(pid, unix.SIGCONT); err != nil {
		return 0, fmt.Errorf("continue the launcher: %w", err)
	}
	return pid, nil
}

// awaitExec lets the launcher run, unseen, until it has become the program. It
// returns the errno of the exec if it did not.
func awaitExec(pid int) (errno unix.Errno, err error) {
	for {
		s, err := ptrace.Wait(false)
		if errors.Is(err, ptrace.ErrInterrupted) {
			continue
		}
		if err != nil {
			return 0, err
		}
		if s.TID != pid {
			continue
		}
		sig := 0
		switch s.Kind {
		case ptrace.EventExec:
			return 0, nil
		case ptrace.Exited:
			if st := unix.WaitStatus(s.Status).ExitStatus(); st > 0 && st < launchFailed {
				return unix.Errno(st), nil
			}
			return 0, errors.New("the launcher failed")
		case ptrace.Killed:
			return 0, fmt.Errorf("the launcher was killed by signal %d", s.Sig)
		case ptrace.Signal:
			if s.Sig != int(unix.SIGCONT) {
				sig = s.Sig
			}
		}
		if err := ptrace.Cont(pid, sig); err != nil && !errors.Is(err, ptrace.ErrGone) {
			return 0, err
		}
	}
}

// nullAt makes descriptor fd the empty file.
func nullAt(fd int) error {
	null, err := unix.Open("/dev/null", unix.O_RDWR, 0)
	if err != nil {
		return err
	}
	if err := unix.Dup2(null, fd); err != nil {
		return err
	}
	return unix.Close(null)
}

var startHandlers = sync.OnceValue(ptrace.StartHandlers)

// startSignals says which signals memtrace itself was started with as ignored,
// and which blocked: the program is to start so too. The Go runtime has put its
// own handlers over the former by the time that any code of ours runs, but it
// keeps what it found.
func startSignals() (ignore []int, mask uint64) {
	for n, h := range startHandlers() {
		if n > 0 && h == 1 { // SIG_IGN
			ignore = append(ignore, n)
		}
	}
	// Every thread of the runtime has the mask that the process was started with.
	// /proc/self/status would not do: the main thread blocks all for a moment now
	// and then.
	return ignore, ptrace.OwnSigMask()
}

// WaitFor waits for the end of a program that Run started and left running.
func WaitFor(pid int) (status unix.WaitStatus, ended bool) {
	for {
		switch _, err := unix.Wait4(pid, &status, 0, nil); err {
		case nil:
			if status.Exited() || status.Signaled() {
				return status, true
			}
		case unix.EINTR:
		default:
			return 0, false
		}
	}
}

// DieBy ends this process by a signal, as the program ended, without a core of
// memtrace's own.
func DieBy(sig int) { ptrace.DieBy(sig) }
