//go:build linux

package ptrace

import (
	"errors"
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Requests and constants that x/sys/unix does not name
// (include/uapi/linux/ptrace.h, Linux 6.18).
const (
	reqGetSyscallInfo = 0x420e
	reqListen         = 0x4208
	reqInterrupt      = 0x4207
	reqSeize          = 0x4206
	reqGetRegSet      = 0x4204
	reqGetRSeq        = 0x420f
	reqSetRegSet      = 0x4205
	reqGetSigMask     = 0x420a
	reqSetSigMask     = 0x420b

	// NTPRStatus and NTX86XState name register sets (elf.h).
	NTPRStatus  = 1
	NTX86XState = 0x202
)

// Options for Seize (ptrace(2), PTRACE_SETOPTIONS).
const (
	OptSysGood   = unix.PTRACE_O_TRACESYSGOOD
	OptFork      = unix.PTRACE_O_TRACEFORK
	OptVfork     = unix.PTRACE_O_TRACEVFORK
	OptClone     = unix.PTRACE_O_TRACECLONE
	OptExec      = unix.PTRACE_O_TRACEEXEC
	OptVforkDone = unix.PTRACE_O_TRACEVFORKDONE
	OptExit      = unix.PTRACE_O_TRACEEXIT
	OptSeccomp   = unix.PTRACE_O_TRACESECCOMP
	OptExitKill  = unix.PTRACE_O_EXITKILL
)

// Errors of this package.
var (
	// ErrGone: the thread has been killed or is not stopped; its end will be
	// reported by Wait. It may happen at any moment to any request.
	ErrGone = errors.New("thread is gone")
	// ErrPerm: the kernel does not let this process trace that one.
	ErrPerm = errors.New("not permitted")
	// ErrNone: Wait has nothing left to wait for.
	ErrNone = errors.New("no tracee left")
	// ErrInterrupted: an Interrupter ended the Wait.
	ErrInterrupted = errors.New("wait interrupted")
)

func wrap(what string, tid int, e unix.Errno) error {
	switch e {
	case 0:
		return nil
	case unix.ESRCH:
		return ErrGone
	case unix.EPERM, unix.EACCES:
		return fmt.Errorf("%s %d: %w", what, tid, ErrPerm)
	}
	return fmt.Errorf("%s %d: %w", what, tid, e)
}

func request(what string, req uintptr, tid int, addr, data uintptr) error {
	_, _, e := unix.RawSyscall6(unix.SYS_PTRACE, req, uintptr(tid), addr, data, 0, 0)
	return wrap(what, tid, e)
}

// Seize begins to trace a thread without stopping it.
func Seize(tid int, options int) error {
	return request("ptrace seize", reqSeize, tid, 0, uintptr(options))
}

// SetOptions changes the options of a stopped tracee.
func SetOptions(tid int, options int) error {
	return request("ptrace setoptions", unix.PTRACE_SETOPTIONS, tid, 0, uintptr(options))
}

// Interrupt asks a running tracee to stop with EventStop.
func Interrupt(tid int) error { return request("ptrace interrupt", reqInterrupt, tid, 0, 0) }

// Cont lets a stopped tracee run, delivering sig if it is not 0, to its next
// signal or event.
func Cont(tid, sig int) error {
	return request("ptrace cont", unix.PTRACE_CONT, tid, 0, uintptr(sig))
}

// ContSyscall is Cont, but stops at the next system call's entry or exit too.
func ContSyscall(tid, sig int) error {
	return request("ptrace syscall", unix.PTRACE_SYSCALL, tid, 0, uintptr(sig))
}

// Listen leaves a tracee in its group-stop and waits for what comes next.
func Listen(tid int) error { return request("ptrace listen", reqListen, tid, 0, 0) }

// Detach lets a stopped tracee go, delivering sig if it is not 0.
func Detach(tid, sig int) error {
	return request("ptrace detach", unix.PTRACE_DETACH, tid, 0, uintptr(sig))
}

// EventMsg is the message of the tracee's last event stop: a child's tid, a
// former tid, an exit status.
func EventMsg(tid int) (uint64, error) {
	var msg uint64
	err := request("ptrace geteventmsg", unix.PTRACE_GETEVENTMSG, tid, 0, uintptr(unsafe.Pointer(&msg)))
	return msg, err
}

// SigInfo reads the siginfo of a signal-delivery-stop. A group-stop has none:
// that is an error.
func SigInfo(tid int, info *[128]byte) error {
	return request("ptrace getsiginfo", unix.PTRACE_GETSIGINFO, tid, 0, uintptr(unsafe.Pointer(info)))
}

// SigMask reads the tracee's mask of blocked signals.
func SigMask(tid int) (uint64, error) {
	var m uint64
	err := request("ptrace getsigmask", reqGetSigMask, tid, unsafe.Sizeof(m), uintptr(unsafe.Pointer(&m)))
	return m, err
}

// Block sets the tracee's mask of blocked signals.
func Block(tid int, mask uint64) error {
	return request("ptrace setsigmask", reqSetSigMask, tid, unsafe.Sizeof(mask), uintptr(unsafe.Pointer(&mask)))
}

// Values of SyscallInfo.Op.
const (
	OpNone    = 0
	OpEntry   = 1
	OpExit    = 2
	OpSeccomp = 3
)

// SyscallInfo is struct ptrace_syscall_info (Linux 5.3).
type SyscallInfo struct {
	Op        uint8
	_         [3]uint8
	AuditArch uint32
	IP, SP    uint64
	// U is {nr, args[6]} at an entry, {rval, is_error} at an exit and
	// {nr, args[6], ret_data} at a seccomp stop.
	U [8]uint64
}

// Nr is the call's number at an entry.
func (i *SyscallInfo) Nr() uint64 { return i.U[0] }

// Ret is the call's result at an exit: -4095..-1 is an error.
func (i *SyscallInfo) Ret() int64 { return int64(i.U[0]) }

// GetSyscallInfo says where in a system call a stopped tracee is.
func GetSyscallInfo(tid int, info *SyscallInfo) error {
	return request("ptrace get_syscall_info", reqGetSyscallInfo, tid, unsafe.Sizeof(*info), uintptr(unsafe.Pointer(info)))
}

// Regs is struct user_regs_struct of x86_64 as 27 words. A tracee in 32-bit
// mode is read through it too: its registers zero-extended.
type Regs [27]uint64

// Indexes into Regs that the recorder uses.
const (
	RegR11     = 6
	RegRAX     = 10
	RegOrigRAX = 15
	RegRIP     = 16
	RegCS      = 17
	RegSP      = 19
)

// Args are the argument registers of a system call, in order: of the x86_64 ABI
// or of int 0x80.
func (r *Regs) Args(i386 bool) [6]uint64 {
	if i386 { // ebx ecx edx esi edi ebp
		return [6]uint64{r[5], r[11], r[12], r[13], r[14], r[4]}
	}
	return [6]uint64{r[14], r[13], r[12], r[7], r[9], r[8]}
}

// SetArgs is the inverse of Args for as many as there are.
func (r *Regs) SetArgs(i386 bool, args ...uint64) {
	order := [6]int{14, 13, 12, 7, 9, 8}
	if i386 {
		order = [6]int{5, 11, 12, 13, 14, 4}
	}
	for i, a := range args {
		r[order[i]] = a
	}
}

// GetRegs reads a stopped tracee's general registers.
func GetRegs(tid int, r *Regs) error {
	return request("ptrace getregs", unix.PTRACE_GETREGS, tid, 0, uintptr(unsafe.Pointer(r)))
}

// SetRegs writes a stopped tracee's general registers.
func SetRegs(tid int, r *Regs) error {
	return request("ptrace setregs", unix.PTRACE_SETREGS, tid, 0, uintptr(unsafe.Pointer(r)))
}

// GetRegSet reads the register set named by an ELF note type into buf and
// returns how many bytes there were.
func GetRegSet(tid, note int, buf []byte) (int, error) {
	iov := unix.Iovec{Base: &buf[0], Len: uint64(len(buf))}
	err := request("ptrace getregset", reqGetRegSet, tid, uintptr(note), uintptr(unsafe.Pointer(&iov)))
	return int(iov.Len), err
}

// RSeq is where a stopped thread has its area for restartable sequences, which the
// kernel writes to when the thread goes on; 0 if it has none (Linux 5.13,
// PTRACE_GET_RSEQ_CONFIGURATION).
func RSeq(tid int) (uint64, error) {
	var conf struct {
		at              uint64
		size, signature uint32
		flags, pad      uint32
	}
	err := request("ptrace get_rseq_configuration", reqGetRSeq, tid, unsafe.Sizeof(conf), uintptr(unsafe.Pointer(&conf)))
	return conf.at, err
}

// Interrupter ends the Wait of the thread that made it, from any thread.
type Interrupter struct {
	pid, tid int
}

// interruptSignal is one that nobody else uses; the Go runtime has a handler
// for it that does nothing.
const interruptSignal = 63

// kernelSigaction is struct sigaction of the x86_64 kernel.
type kernelSigaction struct {
	handler, flags, restorer, mask uintptr
}

// Flags of a kernelSigaction.
const (
	saNoCldStop = 1
	saRestart   = 0x10000000
)

// Quiet keeps the kernel from sending this process a SIGCHLD at every stop of a
// tracee: the runtime's handler for it costs as much as the stop. Wait does not
// need it.
func Quiet() error {
	sa := kernelSigaction{flags: saNoCldStop}
	if _, _, e := unix.RawSyscall6(unix.SYS_RT_SIGACTION, uintptr(unix.SIGCHLD), uintptr(unsafe.Pointer(&sa)), 0, 8, 0, 0); e != 0 {
		return fmt.Errorf("set SIGCHLD: %w", e)
	}
	return nil
}

// NewInterrupter makes the calling thread's Wait interruptible. It takes
// SA_RESTART off the runtime's handler of one real-time signal, because the
// kernel would else go on waiting.
func NewInterrupter() (*Interrupter, error) {
	var sa kernelSigaction
	if _, _, e := unix.RawSyscall6(unix.SYS_RT_SIGACTION, interruptSignal, 0, uintptr(unsafe.Pointer(&sa)), 8, 0, 0); e != 0 {
		return nil, fmt.Errorf("read signal handler %d: %w", interruptSignal, e)
	}
	sa.flags &^= saRestart
	if _, _, e := unix.RawSyscall6(unix.SYS_RT_SIGACTION, interruptSignal, uintptr(unsafe.Pointer(&sa)), 0, 8, 0, 0); e != 0 {
		return nil, fmt.Errorf("set signal handler %d: %w", interruptSignal, e)
	}
	return &Interrupter{unix.Getpid(), unix.Gettid()}, nil
}

// Interrupt ends a Wait that is under way. It does nothing if there is none:
// callers repeat it until they see its effect.
func (i *Interrupter) Interrupt() { _ = unix.Tgkill(i.pid, i.tid, interruptSignal) }
