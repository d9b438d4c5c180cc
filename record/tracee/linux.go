//go:build linux

// This file has the Kernel that there is.

package tracee

import (
	"golang.org/x/sys/unix"

	"memtrace/format/addr"
	"memtrace/record/procfs"
	"memtrace/record/ptrace"
)

// linux is the Kernel that there is.
type linux struct {
	vm      *procfs.VMReader
	look    *func(tid, sig int) // of Peek
	zombies **zombies           // of Keep
}

func newLinux() linux { return linux{new(procfs.VMReader), new(func(tid, sig int)), new(*zombies)} }

func (linux) Begin() (wake func(), err error) {
	if err := ptrace.Quiet(); err != nil {
		return nil, err
	}
	i, err := ptrace.NewInterrupter()
	if err != nil {
		return nil, err
	}
	return i.Interrupt, nil
}

func (k linux) Next(poll bool) (Fact, error) {
	if z := *k.zombies; z.on() {
		s, err := k.nextKept(poll, z)
		return Fact{TID: s.TID, Stop: s}, err
	}
	if look := *k.look; look != nil {
		s, err := ptrace.WaitPeeked(poll, look)
		return Fact{TID: s.TID, Stop: s}, err
	}
	s, err := ptrace.Wait(poll)
	return Fact{TID: s.TID, Stop: s}, err
}

// nextKept is Next where a tracee that has ended may have to be left alone.
func (k linux) nextKept(poll bool, z *zombies) (s ptrace.Stop, err error) {
	look := *k.look
	if look == nil {
		look = func(int, int) {}
	}
	if len(z.kept) == 0 {
		s, err = ptrace.WaitKeeping(poll, look, z.keeps)
	} else {
		var tids []int
		for _, tid := range z.all() {
			if _, kept := z.kept[tid]; !kept {
				tids = append(tids, tid)
			}
		}
		s, err = ptrace.WaitPast(poll, look, z.keeps, tids)
	}
	if err == nil && (s.Kind == ptrace.Exited || s.Kind == ptrace.Killed) && s.TID != 0 && z.keeps(s.TID) {
		z.kept[s.TID] = struct{}{}
	}
	return s, err
}

func (k linux) Keep(z *zombies) { *k.zombies = z }
func (linux) ReapOne(pid int)   { ptrace.Reap(pid) }

func (k linux) NextSoon() (Fact, bool) {
	if (*k.zombies).on() {
		return Fact{}, false
	}
	s, ok := ptrace.WaitAnySoon()
	return Fact{TID: s.TID, Stop: s}, ok
}

func (k linux) Peek(look func(tid, sig int)) { *k.look = look }

func (linux) Start() (pid int, at addr.Addr, err error) {
	pid, err = startSeed()
	return pid, seedSyscall, err
}

func (linux) Seize(tid, options int) error              { return ptrace.Seize(tid, options) }
func (linux) SetOptions(tid, options int) error         { return ptrace.SetOptions(tid, options) }
func (linux) Interrupt(tid int) error                   { return ptrace.Interrupt(tid) }
func (linux) Cont(tid, sig int) error                   { return ptrace.Cont(tid, sig) }
func (linux) ContSyscall(tid, sig int) error            { return ptrace.ContSyscall(tid, sig) }
func (linux) SingleStep(tid, sig int) error             { return ptrace.SingleStep(tid, sig) }
func (linux) SysemuStep(tid, sig int) error             { return ptrace.SysemuStep(tid, sig) }
func (linux) Listen(tid int) error                      { return ptrace.Listen(tid) }
func (linux) Detach(tid, sig int) error                 { return ptrace.Detach(tid, sig) }
func (linux) WaitSoon(tid int) (ptrace.Stop, error)     { return ptrace.WaitSoon(tid) }
func (linux) EventMsg(tid int) (uint64, error)          { return ptrace.EventMsg(tid) }
func (linux) SigInfo(tid int, info *[128]byte) error    { return ptrace.SigInfo(tid, info) }
func (linux) SetSigInfo(tid int, info *[128]byte) error { return ptrace.SetSigInfo(tid, info) }

func (linux) PeekSigInfo(tid int, off uint64, flags uint32, infos [][128]byte) (int, unix.Errno) {
	return ptrace.PeekSigInfo(tid, off, flags, infos)
}

func (linux) Queue(pid, tid, sig int, info *[128]byte) error {
	return ptrace.Queue(pid, tid, sig, info)
}

func (linux) GetSyscallInfo(tid int, i *ptrace.SyscallInfo) error {
	return ptrace.GetSyscallInfo(tid, i)
}

func (linux) GetRegs(tid int, r *ptrace.Regs) error       { return ptrace.GetRegs(tid, r) }
func (linux) SetRegs(tid int, r *ptrace.Regs) error       { return ptrace.SetRegs(tid, r) }
func (linux) SetCallRegs(tid int, r *ptrace.Regs) error   { return ptrace.SetCallRegs(tid, r) }
func (linux) Reg(tid, i int) (uint64, error)              { return ptrace.Reg(tid, i) }
func (linux) GetRegSet(tid, n int, b []byte) (int, error) { return ptrace.GetRegSet(tid, n, b) }
func (linux) SigMask(tid int) (uint64, error)             { return ptrace.SigMask(tid) }
func (linux) Block(tid int, mask uint64) error            { return ptrace.Block(tid, mask) }
func (linux) RSeq(tid int) (uint64, error)                { return ptrace.RSeq(tid) }
func (linux) Dispatches(tid int) (bool, error)            { return ptrace.Dispatches(tid) }

func (linux) SetDispatch(tid int, on bool, selector, start, length uint64) error {
	return ptrace.SetDispatch(tid, on, selector, start, length)
}

func (linux) Pass(req, tid int, at, number uint64, data []byte) (int64, unix.Errno) {
	return ptrace.Pass(req, tid, at, number, data)
}

func (linux) PassSet(req, tid int, note uint64, data []byte) (int, unix.Errno) {
	return ptrace.PassSet(req, tid, note, data)
}

func (linux) Kill(pid int, sig unix.Signal) error          { return unix.Kill(pid, sig) }
func (linux) Threads(pid int) ([]int, error)               { return procfs.Threads(pid) }
func (linux) Status(tid int) ([]byte, error)               { return procfs.Status(tid) }
func (linux) Task(tid int) (procfs.Task, error)            { return procfs.ReadTask(tid) }
func (k linux) ReadMem(tid int, b []byte, a addr.Addr) int { return k.vm.Read(tid, b, a) }

func (linux) WriteMem(tid int, b []byte, at addr.Addr) bool {
	local := []unix.Iovec{{Base: &b[0], Len: uint64(len(b))}}
	n, err := unix.ProcessVMWritev(tid, local, []unix.RemoteIovec{{Base: uintptr(at), Len: len(b)}}, 0)
	return err == nil && n == len(b)
}

func (linux) Affinity(tid int, cpus *unix.CPUSet) error    { return unix.SchedGetaffinity(tid, cpus) }
func (linux) SetAffinity(tid int, cpus *unix.CPUSet) error { return unix.SchedSetaffinity(tid, cpus) }
