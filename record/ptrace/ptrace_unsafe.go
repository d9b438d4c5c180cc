//go:build linux

// This file has the requests of ptrace(2).

package ptrace

import (
	"errors"
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"

	"memtrace/format/arch"
)

// Requests and constants that x/sys/unix does not name
// (include/uapi/linux/ptrace.h, Linux 6.18).
const (
	reqPeekSigInfo    = 0x4209
	reqGetSyscallInfo = 0x420e
	reqListen         = 0x4208
	reqInterrupt      = 0x4207
	reqSeize          = 0x4206
	reqGetRegSet      = 0x4204
	reqGetRSeq        = 0x420f
	reqSetRegSet      = 0x4205
	reqGetSigMask     = 0x420a
	reqSetSigMask     = 0x420b
	reqSetDispatch    = 0x4210
	reqGetDispatch    = 0x4211
	reqSysemuStep     = 32

	// NTX86XState names a register set (elf.h).
	NTX86XState = 0x202
	ntPRStatus  = 1
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

// SingleStep lets a stopped tracee run one instruction, delivering sig if it is not 0.
// A system call is over then: the stop is a SIGTRAP that is about to be delivered, and no
// debug exception was needed (kernel/entry/common.c, report_single_step). With a handler
// for sig the stop is at its first instruction.
func SingleStep(tid, sig int) error {
	return request("ptrace singlestep", unix.PTRACE_SINGLESTEP, tid, 0, uintptr(sig))
}

// SetSigInfo has a signal that is about to be delivered carry info.
func SetSigInfo(tid int, info *[128]byte) error {
	return request("ptrace setsiginfo", unix.PTRACE_SETSIGINFO, tid, 0, uintptr(unsafe.Pointer(info)))
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

// SigInfo reads the siginfo of a stop: that of the signal, or one whose si_code has the
// event above SIGTRAP. A group-stop has none: that is an error.
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
	RegRAX     = arch.RAX
	RegOrigRAX = arch.OrigRAX
	RegRIP     = arch.RIP
	RegCS      = arch.CS
)

var x86Args, i386Args = argsOf(arch.X86_64), argsOf(arch.I386)

// argsOf is where in Regs the arguments of a system call are.
func argsOf(id arch.ID) (at [6]int) {
	for i, reg := range id.CallArgs() {
		at[i] = int(id.Registers()[reg].User)
	}
	return at
}

func argsAt(i386 bool) *[6]int {
	if i386 {
		return &i386Args
	}
	return &x86Args
}

// Args are the argument registers of a system call, in order: of the x86_64 ABI
// or of int 0x80.
func (r *Regs) Args(i386 bool) (args [6]uint64) {
	for i, at := range argsAt(i386) {
		args[i] = r[at]
	}
	return args
}

// SetArgs is the inverse of Args for as many as there are.
func (r *Regs) SetArgs(i386 bool, args ...uint64) {
	for i, a := range args {
		r[argsAt(i386)[i]] = a
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

// SetCallRegs is SetRegs for the registers that a system call has and changes alone: not
// for the stack pointer, the flags and the segments, of which the kernel makes much. The
// tracee must be in 64-bit mode.
func SetCallRegs(tid int, r *Regs) error {
	iov := unix.Iovec{Base: (*byte)(unsafe.Pointer(r)), Len: (RegRIP + 1) * 8}
	return request("ptrace setregset", reqSetRegSet, tid, ntPRStatus, uintptr(unsafe.Pointer(&iov)))
}

// Reg reads one of a stopped tracee's general registers.
func Reg(tid, i int) (v uint64, err error) {
	err = request("ptrace peekuser", unix.PTRACE_PEEKUSR, tid, uintptr(i)*8, uintptr(unsafe.Pointer(&v)))
	return v, err
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

// Dispatches reports whether a stopped thread's system calls may be delivered to it as
// signals instead of being made (Syscall User Dispatch, Linux 6.4,
// PTRACE_GET_SYSCALL_USER_DISPATCH_CONFIG).
func Dispatches(tid int) (bool, error) {
	var conf struct{ mode, selector, offset, length uint64 }
	err := request("ptrace get_syscall_user_dispatch_config", reqGetDispatch, tid, unsafe.Sizeof(conf), uintptr(unsafe.Pointer(&conf)))
	return conf.mode != 0, err
}

// SetDispatch has the system calls of a stopped thread delivered to it as signals, or
// ends that (Linux 6.4, PTRACE_SET_SYSCALL_USER_DISPATCH_CONFIG): those that it makes
// outside of a range of its code, while the byte at selector is 1.
func SetDispatch(tid int, on bool, selector, start, length uint64) error {
	var conf struct{ mode, selector, start, length uint64 }
	if on {
		conf.mode, conf.selector, conf.start, conf.length = 1, selector, start, length
	}
	return request("ptrace set_syscall_user_dispatch_config", reqSetDispatch, tid, unsafe.Sizeof(conf), uintptr(unsafe.Pointer(&conf)))
}

// Interrupter ends the Wait of the thread that made it, from any thread.
type Interrupter struct {
	pid, tid int
}

// InterruptSignal is one that nobody else uses; the Go runtime has a handler
// for it that does nothing. It is none of the real-time signals: those are refused to a
// user whose queue of signals is full (RLIMIT_SIGPENDING).
const InterruptSignal = unix.SIGPWR

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
	if _, _, e := unix.RawSyscall6(unix.SYS_RT_SIGACTION, uintptr(InterruptSignal), 0, uintptr(unsafe.Pointer(&sa)), 8, 0, 0); e != 0 {
		return nil, fmt.Errorf("read signal handler %d: %w", InterruptSignal, e)
	}
	sa.flags &^= saRestart
	if _, _, e := unix.RawSyscall6(unix.SYS_RT_SIGACTION, uintptr(InterruptSignal), uintptr(unsafe.Pointer(&sa)), 0, 8, 0, 0); e != 0 {
		return nil, fmt.Errorf("set signal handler %d: %w", InterruptSignal, e)
	}
	return &Interrupter{unix.Getpid(), unix.Gettid()}, nil
}

// Interrupt ends a Wait that is under way. It does nothing if there is none:
// callers repeat it until they see its effect.
func (i *Interrupter) Interrupt() { _ = unix.Tgkill(i.pid, i.tid, InterruptSignal) }

// wait4Raw is wait4(2) of one tracee, or with -1 of any, without waiting, and without a
// word to the Go scheduler. usage may be nil.
func wait4Raw(tid int, ws *unix.WaitStatus, usage *unix.Rusage) (int, unix.Errno) {
	n, _, e := unix.RawSyscall6(unix.SYS_WAIT4, uintptr(tid), uintptr(unsafe.Pointer(ws)), unix.WALL|unix.WNOTHREAD|unix.WNOHANG, uintptr(unsafe.Pointer(usage)), 0, 0)
	return int(n), e
}

// peekAt says of a tracee what it has come to, and leaves it to be waited for. what are
// WEXITED and WSTOPPED.
func peekAt(kind, id, what int, poll bool) (p peeked, err error) {
	var info [128]byte
	flags := uintptr(what | unix.WNOWAIT | unix.WALL | unix.WNOTHREAD)
	var e unix.Errno
	if poll {
		_, _, e = unix.RawSyscall6(unix.SYS_WAITID, uintptr(kind), uintptr(id), uintptr(unsafe.Pointer(&info)), flags|unix.WNOHANG, 0, 0)
	} else {
		_, _, e = unix.Syscall6(unix.SYS_WAITID, uintptr(kind), uintptr(id), uintptr(unsafe.Pointer(&info)), flags, 0, 0)
	}
	switch e {
	case 0:
	case unix.EINTR:
		return p, ErrInterrupted
	case unix.ECHILD:
		return p, ErrNone
	default:
		return p, fmt.Errorf("waitid: %w", e)
	}
	word := func(at int) int { return int(*(*int32)(unsafe.Pointer(&info[at]))) }
	return peeked{tid: word(16), code: word(8), status: word(24)}, nil // si_pid, si_code, si_status
}

// SysemuStep is SingleStep, but at a system call instruction the tracee stops at the
// entry of a call that will not be made (PTRACE_SYSEMU_SINGLESTEP).
func SysemuStep(tid, sig int) error {
	return request("ptrace sysemu_singlestep", reqSysemuStep, tid, 0, uintptr(sig))
}

// Pass makes a request that takes or fills data, or has a number as its last argument
// where data is nil. It returns what the kernel does.
func Pass(req, tid int, at, number uint64, data []byte) (int64, unix.Errno) {
	last := uintptr(number)
	if len(data) > 0 {
		last = uintptr(unsafe.Pointer(&data[0]))
	}
	n, _, e := unix.RawSyscall6(unix.SYS_PTRACE, uintptr(req), uintptr(tid), uintptr(at), last, 0, 0)
	return int64(n), e
}

// PassSet is Pass for a request whose data is a struct iovec: GETREGSET and SETREGSET. It
// returns how much of data there is.
func PassSet(req, tid int, note uint64, data []byte) (int, unix.Errno) {
	iov := unix.Iovec{Len: uint64(len(data))}
	if len(data) > 0 {
		iov.Base = &data[0]
	}
	_, _, e := unix.RawSyscall6(unix.SYS_PTRACE, uintptr(req), uintptr(tid), uintptr(note), uintptr(unsafe.Pointer(&iov)), 0, 0)
	return int(iov.Len), e
}

// PeekSigInfo copies the siginfos of pending signals of a stopped tracee into infos, from the
// off-th on, of its process if flags says so (PTRACE_PEEKSIGINFO_SHARED). It returns how many.
func PeekSigInfo(tid int, off uint64, flags uint32, infos [][128]byte) (int, unix.Errno) {
	args := struct {
		off   uint64
		flags uint32
		nr    int32
	}{off, flags, int32(len(infos))}
	n, _, e := unix.RawSyscall6(unix.SYS_PTRACE, reqPeekSigInfo, uintptr(tid), uintptr(unsafe.Pointer(&args)), uintptr(unsafe.Pointer(unsafe.SliceData(infos))), 0, 0)
	return int(n), e
}

// Queue sends a signal with a siginfo to a thread (rt_tgsigqueueinfo(2)), or where tid is 0
// to a process.
func Queue(pid, tid, sig int, info *[128]byte) error {
	var e unix.Errno
	if tid == 0 {
		_, _, e = unix.RawSyscall(unix.SYS_RT_SIGQUEUEINFO, uintptr(pid), uintptr(sig), uintptr(unsafe.Pointer(info)))
	} else {
		_, _, e = unix.RawSyscall6(unix.SYS_RT_TGSIGQUEUEINFO, uintptr(pid), uintptr(tid), uintptr(sig), uintptr(unsafe.Pointer(info)), 0, 0)
	}
	if e != 0 {
		return e
	}
	return nil
}
