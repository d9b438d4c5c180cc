//go:build linux

// This file makes seeds: processes of a few pages that do nothing until they become a
// program. What a program can ask about its own past (getrusage(2)) is the past of its
// process: had that been a copy of this one, its peak memory would be ours.

package tracee

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"

	"memtrace/format/addr"
	"memtrace/format/arch"
	"memtrace/record/ptrace"
)

// Where the code of a seed is.
const (
	seedBase    = 0x400000
	seedEntry   = seedBase + 64 + 2*56
	seedSyscall = seedEntry + 5 // an instruction that enters the kernel
)

// seedCode stops itself, kill(getpid(), SIGSTOP), and then waits to be used.
var seedCode = []byte{
	0xb8, 39, 0, 0, 0, // mov eax, 39
	0x0f, 0x05, // syscall
	0x89, 0xc7, // mov edi, eax
	0xbe, 19, 0, 0, 0, // mov esi, 19
	0xb8, 62, 0, 0, 0, // mov eax, 62
	0x0f, 0x05, // syscall
	0xeb, 0xfe, // jmp .
}

// seedELF is a seed as an executable file of x86_64: a header, the program headers
// PT_LOAD and PT_GNU_STACK, and the code (elf(5)).
func seedELF() []byte {
	le := binary.LittleEndian
	size := uint64(seedEntry - seedBase + len(seedCode))
	b := append([]byte("\x7fELF\x02\x01\x01"), make([]byte, 9)...)
	for _, h := range []uint16{2, 62} { // ET_EXEC, EM_X86_64
		b = le.AppendUint16(b, h)
	}
	b = le.AppendUint32(b, 1)
	for _, w := range []uint64{seedEntry, 64, 0} { // entry, program headers, section headers
		b = le.AppendUint64(b, w)
	}
	b = le.AppendUint32(b, 0)
	for _, h := range []uint16{64, 56, 2, 0, 0, 0} {
		b = le.AppendUint16(b, h)
	}
	for _, p := range []struct {
		kind, flags uint32
		at, size    uint64
	}{{1, 5, seedBase, size}, {0x6474e551, 6, 0, 0}} {
		b = le.AppendUint32(le.AppendUint32(b, p.kind), p.flags)
		for _, w := range []uint64{0, p.at, p.at, p.size, p.size, 4096} {
			b = le.AppendUint64(b, w)
		}
	}
	return append(b, seedCode...)
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

// startSeed starts a seed and returns when it has stopped itself.
func startSeed() (pid int, err error) {
	file, path, err := seedFile()
	if err != nil {
		return 0, err
	}
	defer file.Close()
	if path == file.Name() {
		defer os.Remove(path)
	}
	// The program's descriptors are those that memtrace was given: its own are
	// closed at the exec, others that it inherited are left alone.
	pid, err = syscall.ForkExec(path, []string{"memtrace"}, &syscall.ProcAttr{
		Files: []uintptr{0, 1, 2}, Sys: &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL},
	})
	if err != nil {
		return 0, err
	}
	var ws unix.WaitStatus
	for {
		_, err = unix.Wait4(pid, &ws, unix.WUNTRACED, nil)
		switch {
		case err == unix.EINTR:
		case err != nil:
			return 0, err
		case !ws.Stopped():
			return 0, fmt.Errorf("its process ended at once (%#x)", ws)
		default:
			return pid, nil
		}
	}
}

// seedFile writes a seed to where it can be executed: memory, or if the system forbids
// that (vm.memfd_noexec) a temporary file.
func seedFile() (*os.File, string, error) {
	const mfdExec = 0x10 // MFD_EXEC, Linux 6.3
	fd, err := unix.MemfdCreate("memtrace-seed", unix.MFD_CLOEXEC|mfdExec)
	if err == unix.EINVAL {
		fd, err = unix.MemfdCreate("memtrace-seed", unix.MFD_CLOEXEC)
	}
	if err == nil {
		f := os.NewFile(uintptr(fd), "memtrace-seed")
		_, err = f.Write(seedELF())
		return f, "/proc/self/fd/" + strconv.Itoa(fd), err
	}
	f, err := os.CreateTemp("", "memtrace-seed-")
	if err != nil {
		return nil, "", err
	}
	_, err = f.Write(seedELF())
	err = errors.Join(err, f.Chmod(0o700), f.Close()) // a file that is open for writing cannot be executed
	return f, f.Name(), err
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

// reap waits for the end of a process that was killed before it was a program.
func (g *Group) reap(pid int) {
	for {
		if _, err := g.waitFor(pid); err != nil {
			return
		}
		_ = g.k.Cont(pid, 0)
	}
}
