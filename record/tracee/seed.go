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
