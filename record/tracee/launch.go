//go:build linux

// This file starts a program: in a process that has never been anything large, on
// which everything that the program is to start with is put from outside.

package tracee

import (
	"encoding/binary"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"memtrace/format/addr"
	"memtrace/format/arch"
	"memtrace/format/proctext"
	"memtrace/record/procfs"
	"memtrace/record/ptrace"
	"memtrace/record/tracee/seccomp"
)

// Program is what to start, and how.
type Program struct {
	Path string
	Argv []string
	Env  []string
	Dir  string // "" is this process's
	User *User  // nil is this process's
	// StdoutToStderr gives the program standard error as its standard output.
	StdoutToStderr bool
	// NoStdin gives it an empty standard input, NoOutput throws its output away.
	NoStdin, NoOutput bool
}

// User is whom to run as.
type User struct {
	UID, GID int
	Groups   []int
}

// Errors of Group.Launch.
var (
	ErrNotFound      = errors.New("not found")
	ErrNotExecutable = errors.New("cannot execute")
)

// Launch starts a program and tells of its exec. With a filter all calls but those
// in it run at full speed, and nobody is told of them. Such a program dies with its
// tracer.
func (g *Group) Launch(p *Program, filter *arch.Set) error {
	g.filter = filter
	pid, at, err := g.sprout()
	if err != nil {
		return refusal(err)
	}
	if err := g.turnInto(pid, at, p); err != nil {
		_ = g.k.Kill(pid, unix.SIGKILL)
		g.reap(pid)
		return err
	}
	if err := g.k.SetOptions(pid, g.traceOptions()); err != nil && !errors.Is(err, ptrace.ErrGone) {
		return err
	}
	g.main = pid
	t := g.add(pid, newProcess(pid))
	t.launcher, t.newborn = true, true
	g.image(t, Birth{How: Executed, OldTID: uint32(pid), First: true})
	g.resume(t, 0)
	return nil
}

// turnInto has a seed, which has a system call instruction at at, become a program.
func (g *Group) turnInto(pid int, at addr.Addr, p *Program) error {
	in := &Injector{g: g, t: &Thread{TID: pid}, at: at}
	if g.k.GetRegs(pid, &in.saved) != nil || g.k.Block(pid, ^uint64(0)) != nil {
		return errors.New("start the program: its process has ended")
	}
	s := &setup{in: in}
	s.descriptors(p)
	if p.Dir != "" {
		s.call("change directory to "+p.Dir, "chdir", s.text(p.Dir))
	}
	if p.User != nil {
		s.user(p.User)
	}
	ignore, mask := startSignals()
	for _, sig := range unhandled {
		s.handle(sig, sigDfl)
	}
	for _, sig := range ignore {
		s.handle(sig, sigIgn)
	}
	if g.filter != nil {
		s.filter(filterFor(*g.filter), !canFilter(p.User))
	}
	lower(pid)
	path, argv, env := s.text(p.Path), s.vector(p.Argv), s.vector(p.Env)
	if s.err == nil && g.k.Block(pid, mask) != nil {
		s.err = errors.New("set the signal mask: the process has ended")
	}
	if s.err != nil {
		return s.err
	}
	switch errno, err := in.exec(path, argv, env); {
	case err != nil:
		return err
	case errno == 0:
		return nil
	case errno == unix.ENOENT || errno == unix.ENOTDIR:
		return fmt.Errorf("%w: %v", ErrNotFound, errno)
	default:
		return fmt.Errorf("%w: %v", ErrNotExecutable, errno)
	}
}

// setup puts on a process what a program is to start with. The first error sticks.
type setup struct {
	in   *Injector
	room addr.Range // of memory in the process that is not used yet
	err  error
}

// call makes a call in the process and returns its result.
func (s *setup) call(what, name string, args ...uint64) int64 {
	if s.err != nil {
		return -1
	}
	ret, err := s.in.Call(name, args...)
	if err == nil && ret < 0 {
		err = unix.Errno(-ret)
	}
	if err != nil {
		s.err = fmt.Errorf("%s: %w", what, err)
	}
	return ret
}

// seedRoom is how much memory a seed is given at a time, at least.
const seedRoom = 64 << 10

// bytes puts some bytes into the process and returns where they are.
func (s *setup) bytes(b []byte) uint64 {
	const align = 8
	if s.err != nil || len(b) == 0 {
		return 0
	}
	if s.room.Len() < uint64(len(b))+align {
		n := (uint64(len(b)) + seedRoom) &^ (addr.PageSize - 1)
		at := s.call("make room for arguments", "mmap", 0, n, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS, ^uint64(0), 0)
		if s.err != nil {
			return 0
		}
		s.room = addr.Range{Start: addr.Addr(at), End: addr.Addr(at) + addr.Addr(n)}
	}
	at := s.room.Start
	if !s.in.g.k.WriteMem(s.in.t.TID, b, at) {
		s.err = errors.New("write arguments: the process has ended")
	}
	s.room.Start += addr.Addr(len(b)+align-1) &^ (align - 1)
	return uint64(at)
}

// text is bytes for a string of C.
func (s *setup) text(t string) uint64 { return s.bytes(append([]byte(t), 0)) }

// vector is bytes for an argument vector of C. All its strings are written at once.
func (s *setup) vector(texts []string) uint64 {
	var all []byte
	for _, t := range texts {
		all = append(append(all, t...), 0)
	}
	at := s.bytes(all)
	var pointers []byte
	for _, t := range texts {
		pointers = binary.LittleEndian.AppendUint64(pointers, at)
		at += uint64(len(t)) + 1
	}
	return s.bytes(binary.LittleEndian.AppendUint64(pointers, 0))
}

// words is bytes for 64-bit words.
func (s *setup) words(ws ...uint64) uint64 {
	var b []byte
	for _, w := range ws {
		b = binary.LittleEndian.AppendUint64(b, w)
	}
	return s.bytes(b)
}

// descriptors puts standard input and output where they are to go.
func (s *setup) descriptors(p *Program) {
	for fd, null := range []bool{p.NoStdin, p.NoOutput, p.NoOutput} {
		if !null {
			continue
		}
		from := s.call("open /dev/null", "open", s.text("/dev/null"), unix.O_RDWR, 0)
		if from != int64(fd) {
			s.call("use /dev/null", "dup2", uint64(from), uint64(fd))
			s.call("close /dev/null", "close", uint64(from))
		}
	}
	if p.StdoutToStderr {
		s.call("redirect standard output", "dup2", 2, 1)
	}
}

func (s *setup) user(u *User) {
	groups := make([]byte, 0, 4*len(u.Groups))
	for _, id := range u.Groups {
		groups = binary.LittleEndian.AppendUint32(groups, uint32(id))
	}
	s.call("set groups", "setgroups", uint64(len(u.Groups)), s.bytes(groups))
	s.call("set group", "setregid", uint64(u.GID), uint64(u.GID))
	s.call("set user", "setreuid", uint64(u.UID), uint64(u.UID))
}

// Handlers of struct sigaction that are none.
const (
	sigDfl = 0
	sigIgn = 1
)

// handle sets what a signal does: struct sigaction of x86_64 is handler, flags, restorer
// and mask.
func (s *setup) handle(sig int, handler uint64) {
	const maskBytes = 8
	s.call("set what a signal does", "rt_sigaction", uint64(sig), s.words(handler, 0, 0, 0), 0, maskBytes)
}

// filter installs a seccomp program, with no_new_privs set first if need be: that is
// needed without CAP_SYS_ADMIN.
func (s *setup) filter(prog []unix.SockFilter, noNewPrivs bool) {
	if noNewPrivs {
		s.call("no_new_privs", "prctl", unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
	}
	var b []byte
	for _, i := range prog {
		b = seccomp.Append(b, i)
	}
	fprog := s.words(uint64(len(prog)), s.bytes(b)) // struct sock_fprog: a short, 6 bytes of nothing, a pointer
	s.call("install the seccomp filter", "seccomp", unix.SECCOMP_SET_MODE_FILTER, 0, fprog)
}

// exec has the thread call execve. errno is 0 if it has become another program.
func (in *Injector) exec(path, argv, env uint64) (errno unix.Errno, err error) {
	nr, _ := arch.X86_64.Number("execve")
	regs := in.saved
	regs[ptrace.RegRIP], regs[ptrace.RegRAX], regs[ptrace.RegOrigRAX] = uint64(in.at), uint64(nr), ^uint64(0)
	regs.SetArgs(false, path, argv, env)
	if in.g.k.SetRegs(in.t.TID, &regs) != nil {
		return 0, ErrInject
	}
	for entered := false; ; {
		f, info, err := in.next()
		switch {
		case err != nil:
			return 0, errors.New("start the program: its process has ended")
		case f.Stop.Kind == ptrace.EventExec:
			return 0, nil
		case f.Stop.Kind == ptrace.Exited, f.Stop.Kind == ptrace.Killed:
			return 0, fmt.Errorf("the program was killed by signal %d before it began", f.Stop.Sig)
		case f.Stop.Kind == ptrace.Syscall && info.Op == ptrace.OpExit && entered:
			return unix.Errno(-info.Ret()), nil
		case f.Stop.Kind == ptrace.Syscall:
			entered = true
		}
	}
}

// canFilter says whether a program started as user may install a filter without
// giving up new privileges: that takes CAP_SYS_ADMIN.
func canFilter(user *User) bool {
	if user != nil && user.UID != 0 {
		return false
	}
	const sysAdmin = 21
	status, err := procfs.Status(unix.Getpid())
	return err == nil && proctext.Field(status, "CapEff").Hex()>>sysAdmin&1 != 0
}

// sprout starts a process that is traced by the calling thread and stands still. Its
// parent is this process, its memory a few pages, its past empty: the child of a seed.
// at is where it has a system call instruction.
func (g *Group) sprout() (pid int, at addr.Addr, err error) {
	first, at, err := g.k.Start()
	if err != nil {
		return 0, 0, fmt.Errorf("start the program: %w", err)
	}
	defer g.reap(first)
	defer func() { _ = g.k.Kill(first, unix.SIGKILL) }()
	// A program that is not there yet dies with us; what comes of it does not.
	options := ptrace.OptSysGood | ptrace.OptExec | ptrace.OptFork | ptrace.OptExitKill
	if g.filter != nil {
		options |= ptrace.OptSeccomp
	}
	if err := g.k.Seize(first, options); err != nil {
		return 0, 0, err
	}
	if err := g.stand(first); err != nil {
		return 0, 0, err
	}
	pid, err = g.cloneSeed(first, at)
	return pid, at, err
}

// stand lets a seed go on until it stands where calls can be made in its name.
func (g *Group) stand(pid int) error {
	if err := g.k.Kill(pid, unix.SIGCONT); err != nil {
		return fmt.Errorf("continue the seed: %w", err)
	}
	if err := g.k.Interrupt(pid); err != nil {
		return err
	}
	for {
		f, err := g.waitFor(pid)
		switch {
		case err != nil:
			return err
		case f.Stop.Kind == ptrace.Trap:
			return nil
		}
		if err := g.k.Cont(pid, 0); err != nil {
			return err
		}
	}
}

// cloneSeed has a seed make a child of ours, and returns when that stands still.
func (g *Group) cloneSeed(first int, at addr.Addr) (pid int, err error) {
	nr, _ := arch.X86_64.Number("clone")
	var regs ptrace.Regs
	if err := g.k.GetRegs(first, &regs); err != nil {
		return 0, err
	}
	regs[ptrace.RegRIP], regs[ptrace.RegRAX], regs[ptrace.RegOrigRAX] = uint64(at), uint64(nr), ^uint64(0)
	regs.SetArgs(false, unix.CLONE_PARENT|uint64(unix.SIGCHLD), 0, 0, 0, 0)
	if err := g.k.SetRegs(first, &regs); err != nil {
		return 0, err
	}
	for pid == 0 {
		if err := g.k.Cont(first, 0); err != nil {
			return 0, err
		}
		f, err := g.waitFor(first)
		if err != nil {
			return 0, err
		}
		if f.Stop.Kind == ptrace.EventFork {
			msg, err := g.k.EventMsg(first)
			if err != nil {
				return 0, err
			}
			pid = int(msg)
		}
	}
	if _, waits := g.facts.of(pid); waits {
		g.facts.drop(func(f Fact) bool { return f.TID == pid })
		return pid, nil
	}
	_, err = g.waitFor(pid)
	return pid, err
}

// waitFor waits for the next stop of a process that is being started. What others
// report meanwhile is served later.
func (g *Group) waitFor(pid int) (Fact, error) {
	for {
		f, err := g.facts.source.Next(false)
		switch {
		case errors.Is(err, ptrace.ErrInterrupted):
		case err != nil:
			return f, err
		case f.TID != pid:
			g.later(f)
		case f.Stop.Kind == ptrace.Exited || f.Stop.Kind == ptrace.Killed:
			return f, errors.New("start the program: its process has ended")
		default:
			return f, nil
		}
	}
}

// reap waits for the end of a process that was killed before it was a program.
func (g *Group) reap(pid int) {
	for {
		if _, err := g.waitFor(pid); err != nil {
			return
		}
		_ = g.k.Cont(pid, 0)
	}
}
