//go:build linux

// This file has what a process can find out about its own start, and what it
// changes about itself: signals, a filter.

package ptrace

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"fmt"
	"os"
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
	file, err := os.Open("/proc/self/exe")
	if err != nil {
		return nil
	}
	defer file.Close()
	f, err := elf.NewFile(file)
	if err != nil {
		return nil
	}
	symtab, strtab := f.Section(".symtab"), f.Section(".strtab")
	if symtab == nil || strtab == nil || f.Class != elf.ELFCLASS64 {
		return nil
	}
	// These are megabytes, of which the kernel has copies: they are not read, but mapped.
	whole, err := unix.Mmap(int(file.Fd()), 0, int(max(symtab.Offset+symtab.FileSize, strtab.Offset+strtab.FileSize)), unix.PROT_READ, unix.MAP_PRIVATE)
	if err != nil {
		return nil
	}
	defer func() { _ = unix.Munmap(whole) }()
	at := bytes.Index(whole[strtab.Offset:][:strtab.FileSize], []byte("\x00"+name+"\x00"))
	if at < 0 {
		return nil
	}
	for syms := whole[symtab.Offset:][:symtab.FileSize]; len(syms) >= elf.Sym64Size; syms = syms[elf.Sym64Size:] {
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

// Ignore has this process ignore a signal that the Go runtime does not handle.
func Ignore(sig int) {
	sa := kernelSigaction{handler: 1}
	_, _, _ = unix.RawSyscall6(unix.SYS_RT_SIGACTION, uintptr(sig), uintptr(unsafe.Pointer(&sa)), 0, 8, 0, 0)
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
