//go:build linux

package ptrace

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"fmt"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// StartHandlers returns the signal handlers, by signal number, that this
// process was started with (0 SIG_DFL, 1 SIG_IGN). The Go runtime installs its
// own before any code of ours runs and keeps these in a variable that it does
// not export: it is found through the program's symbol table. A stripped program
// has none, and the answer is nil.
func StartHandlers() []uintptr {
	const name = "runtime.fwdSig"
	f, err := elf.Open("/proc/self/exe")
	if err != nil {
		return nil
	}
	defer f.Close()
	symtab, strtab := f.Section(".symtab"), f.Section(".strtab")
	if symtab == nil || strtab == nil || f.Class != elf.ELFCLASS64 {
		return nil
	}
	names, err := strtab.Data()
	if err != nil {
		return nil
	}
	at := bytes.Index(names, []byte("\x00"+name+"\x00"))
	if at < 0 {
		return nil
	}
	syms, err := symtab.Data()
	if err != nil {
		return nil
	}
	for ; len(syms) >= elf.Sym64Size; syms = syms[elf.Sym64Size:] {
		if binary.LittleEndian.Uint32(syms) != uint32(at+1) {
			continue
		}
		value, size := binary.LittleEndian.Uint64(syms[8:]), binary.LittleEndian.Uint64(syms[16:])
		if f.Type != elf.ET_EXEC || size != 65*8 {
			return nil
		}
		p := uintptr(value)
		return (*[65]uintptr)(*(*unsafe.Pointer)(unsafe.Pointer(&p)))[:]
	}
	return nil
}

// OwnSigMask is the calling thread's mask of blocked signals.
func OwnSigMask() uint64 {
	var mask uint64
	_, _, _ = unix.RawSyscall6(unix.SYS_RT_SIGPROCMASK, 2, 0, uintptr(unsafe.Pointer(&mask)), 8, 0, 0)
	return mask
}

// SetSigMask sets the calling thread's mask of blocked signals.
func SetSigMask(mask uint64) error {
	_, _, e := unix.RawSyscall6(unix.SYS_RT_SIGPROCMASK, 2 /* SIG_SETMASK */, uintptr(unsafe.Pointer(&mask)), 0, 8, 0, 0)
	if e != 0 {
		return fmt.Errorf("rt_sigprocmask: %w", e)
	}
	return nil
}

// InstallFilter gives the calling thread a seccomp filter, with no_new_privs
// set first if need be (it is needed without CAP_SYS_ADMIN).
func InstallFilter(prog []unix.SockFilter, noNewPrivs bool) error {
	if noNewPrivs {
		if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
			return fmt.Errorf("no_new_privs: %w", err)
		}
	}
	fprog := unix.SockFprog{Len: uint16(len(prog)), Filter: &prog[0]}
	_, _, e := unix.RawSyscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, 0, uintptr(unsafe.Pointer(&fprog)))
	if e != 0 {
		return fmt.Errorf("seccomp: %w", e)
	}
	return nil
}

// CurrentCPU is the CPU that the calling thread runs on, -1 if that cannot be
// told.
func CurrentCPU() int {
	var cpu uint32
	if _, _, e := unix.RawSyscall(unix.SYS_GETCPU, uintptr(unsafe.Pointer(&cpu)), 0, 0); e != 0 {
		return -1
	}
	return int(cpu)
}

// DieBy ends this process by a signal, without a core dump and without the Go
// runtime's handlers. It does not return unless the signal does not kill.
func DieBy(sig int) {
	_ = unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{})
	var sa kernelSigaction
	_, _, _ = unix.RawSyscall6(unix.SYS_RT_SIGACTION, uintptr(sig), uintptr(unsafe.Pointer(&sa)), 0, 8, 0, 0)
	runtime.LockOSThread()
	_ = SetSigMask(0)
	_ = unix.Tgkill(unix.Getpid(), unix.Gettid(), unix.Signal(sig)) // to this thread: it takes effect at once
}
