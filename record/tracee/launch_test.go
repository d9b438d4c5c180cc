//go:build linux

package tracee_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"memtrace/record/tracee"
	. "memtrace/record/tracee/traceetest"
)

// What a program is to start with is put on its process before the exec, in an order
// in which nothing is in the way of what comes after it.
func TestLaunch(t *testing.T) {
	for _, c := range []struct {
		name    string
		program tracee.Program
		filter  bool
		want    []string
	}{
		{name: "plain"},
		{name: "directory", program: tracee.Program{Dir: "/tmp"}, want: []string{"chdir"}},
		{name: "user", program: tracee.Program{Dir: "/tmp", User: &tracee.User{UID: 1, GID: 2, Groups: []int{3}}}, filter: true,
			want: []string{"chdir", "setgroups", "setregid", "setreuid", "prctl", "seccomp"}},
		{name: "output to standard error", program: tracee.Program{StdoutToStderr: true}, want: []string{"dup2"}},
		{name: "no input", program: tracee.Program{NoStdin: true}, want: []string{"open"}},
	} {
		h := newGroup(t, 5)
		h.k.Launch(Program{ExitGroup(3)})
		c.program.Path, c.program.Argv, c.program.Env = "/p", []string{"p", "", "a b"}, []string{"A=1"}
		filter := someCalls(t, "mmap")
		if !c.filter {
			filter = nil
		}
		h.serve(func() error { return h.g.Launch(&c.program, filter) })
		calls := slices.DeleteFunc(slices.Clone(h.k.Seed().Calls), func(name string) bool { return name == "mmap" || name == "rt_sigaction" })
		if want := append(append([]string{"clone"}, c.want...), "execve"); !slices.Equal(calls, want) {
			t.Errorf("%s: calls %q, want %q", c.name, calls, want)
		}
		if argv := h.k.Seed().Argv(); !slices.Equal(argv, c.program.Argv) {
			t.Errorf("%s: arguments %q", c.name, argv)
		}
		if status, ended := h.g.Status(); !ended || status.ExitStatus() != 3 {
			t.Errorf("%s: status %#x %v", c.name, status, ended)
		}
	}
}

// What cannot be launched is an error that says why, and leaves no process.
func TestLaunchErrors(t *testing.T) {
	for call, c := range map[string]struct {
		errno unix.Errno
		is    error
		says  string
	}{
		"execve":  {unix.ENOENT, tracee.ErrNotFound, "no such file"},
		"chdir":   {unix.EACCES, unix.EACCES, "/nowhere"},
		"seccomp": {unix.EINVAL, unix.EINVAL, "seccomp filter"},
		"mmap":    {unix.ENOMEM, unix.ENOMEM, "make room"},
	} {
		each(t, 20, func(seed uint64) {
			h := newGroup(t, seed)
			h.k.Seed().Refused = map[string]unix.Errno{call: c.errno}
			h.k.Launch(Program{})
			err := h.g.Serve(func() error {
				return h.g.Launch(&tracee.Program{Path: "/p", Argv: []string{"p"}, Dir: "/nowhere"}, someCalls(t, "mmap"))
			}, func() {})
			if !errors.Is(err, c.is) || !strings.Contains(err.Error(), c.says) {
				t.Errorf("%s: %v", call, err)
			}
			if alive := h.k.Alive(); len(alive) != 0 || len(h.told) != 0 {
				t.Errorf("%s: %v are left, %v was told", call, alive, h.told)
			}
		})
	}
	h := newGroup(t, 1)
	h.k.Seed().Refused = map[string]unix.Errno{"execve": unix.EACCES}
	h.k.Launch(Program{})
	err := h.g.Serve(func() error { return h.g.Launch(&tracee.Program{Path: "/p"}, nil) }, func() {})
	if !errors.Is(err, tracee.ErrNotExecutable) {
		t.Error(err)
	}
}
