package elfcore

import (
	"encoding/binary"

	"memtrace/format/addr"
	"memtrace/format/arch"
)

// Types of notes (elf.h; include/uapi/linux/elf.h).
const (
	ntPRStatus = 1
	ntFPRegSet = 2
	ntPRPSInfo = 3
	ntAuxv     = 6
	ntSigInfo  = 0x53494749
	ntFile     = 0x46494c45
	ntPRXFPReg = 0x46e62b7f
	ntXState   = 0x202
)

// layout is where fields lie in the structs of an architecture
// (include/linux/elfcore.h; arch/x86/include/asm/user_32.h, user_64.h).
type layout struct {
	word int // size of a long
	// struct elf_prstatus: the pids begin at pids, the registers at regs.
	status, pids, regs int
	// struct elf_prpsinfo
	info, ids, idSize, infoPIDs int
}

var layouts = map[arch.ID]layout{
	arch.X86_64: {word: 8, status: 336, pids: 32, regs: 112, info: 136, ids: 16, idSize: 4, infoPIDs: 24},
	arch.I386:   {word: 4, status: 144, pids: 24, regs: 72, info: 124, ids: 8, idSize: 2, infoPIDs: 12},
}

// sigInfoSize is the size of struct siginfo.
const sigInfoSize = 128

// notes is the contents of the PT_NOTE segment, in the kernel's order.
func (c *Core) notes() []byte {
	l := layouts[c.Arch]
	var b []byte
	threads := c.Threads
	if len(threads) == 0 { // a debugger wants one
		threads = []Thread{{TID: c.Process.PID}}
	}
	for i := range threads {
		t := &threads[i]
		b = appendNote(b, ntPRStatus, c.status(l, t))
		if i == 0 {
			b = appendNote(b, ntPRPSInfo, c.info(l))
		}
		if t.SigInfo != nil {
			info := [sigInfoSize]byte{}
			copy(info[:], t.SigInfo)
			if c.Arch == arch.I386 {
				info = compatSigInfo(info)
			}
			b = appendNote(b, ntSigInfo, info[:])
		}
		if i == 0 {
			if len(c.Auxv) > 0 {
				b = appendNote(b, ntAuxv, c.Auxv)
			}
			if len(c.Files) > 0 {
				b = appendNote(b, ntFile, c.files(l))
			}
		}
		if len(t.XState) >= fxSize {
			// Its first part is what FXSAVE writes.
			if c.Arch == arch.X86_64 {
				b = appendNote(b, ntFPRegSet, t.XState[:fxSize])
			} else {
				b = note(b, "LINUX", ntPRXFPReg, t.XState[:fxSize])
			}
			b = note(b, "LINUX", ntXState, intelXState(t.XState))
		}
	}
	return b
}

// intelXState is an area that XSAVE writes with its parts where Intel's processors have them.
// Those of AMD have them closer together, since they have no MPX (CPUID leaf 0xd tells where).
// gdb before version 14 takes all areas for Intel's, and later ones know only some of AMD's
// (gdbsupport/x86-xstate.h, gdb/i387-tdep.c, i387_guess_xsave_layout).
func intelXState(x []byte) []byte {
	const (
		xcr0At                = 464 // in what FXSAVE leaves to software
		avx512, pkru          = 7 << 5, 1 << 9
		avxEnd                = 832
		amdAVX512, amdEnd     = avxEnd, 2432
		intelAVX512, intelEnd = 1088, 2688
		pkruSize              = 8
	)
	if len(x) < avxEnd {
		return x
	}
	var out []byte
	pkruAt := avxEnd
	switch xcr0 := binary.LittleEndian.Uint64(x[xcr0At:]); {
	case xcr0&avx512 == avx512 && (len(x) == amdEnd || len(x) == amdEnd+pkruSize):
		out = make([]byte, intelEnd, intelEnd+pkruSize)
		copy(out, x[:avxEnd])
		copy(out[intelAVX512:], x[amdAVX512:amdEnd])
		pkruAt = amdEnd
	case xcr0&avx512 == 0 && xcr0&pkru != 0 && len(x) == avxEnd+pkruSize:
		out = make([]byte, intelEnd, intelEnd+pkruSize)
		copy(out, x[:avxEnd])
	default:
		return x
	}
	return append(out, x[pkruAt:]...)
}

// compatSigInfo makes of a struct siginfo of 64 bits one of 32, in which pointers,
// longs and clocks have 4 bytes (include/uapi/asm-generic/siginfo.h).
func compatSigInfo(in [sigInfoSize]byte) (out [sigInfoSize]byte) {
	le := binary.LittleEndian
	copy(out[:12], in[:]) // si_signo, si_errno, si_code
	from := []int{16, 20, 24}
	if code := int32(le.Uint32(in[8:])); code > 0 && code < 0x80 { // not sent by a process, and not SI_KERNEL
		switch le.Uint32(in[:]) {
		case 4, 5, 7, 8, 11: // SIGILL, SIGTRAP, SIGBUS, SIGFPE, SIGSEGV: si_addr, si_addr_lsb
			from = []int{16, 24}
		case 17: // SIGCHLD: si_pid, si_uid, si_status, si_utime, si_stime
			from = []int{16, 20, 24, 32, 40}
		case 29, 31: // SIGPOLL: si_band, si_fd; SIGSYS: si_call_addr, si_syscall, si_arch
			from = []int{16, 24, 28}
		}
	}
	for i, at := range from {
		copy(out[12+4*i:], in[at:at+4])
	}
	return out
}

// fxSize is the size of struct user_fpregs_struct of x86_64, and of struct
// user_fpxregs_struct of i386.
const fxSize = 512

func appendNote(b []byte, typ uint32, desc []byte) []byte { return note(b, "CORE", typ, desc) }

func note(b []byte, name string, typ uint32, desc []byte) []byte {
	name += "\x00"
	le := binary.LittleEndian
	b = le.AppendUint32(b, uint32(len(name)))
	b = le.AppendUint32(b, uint32(len(desc)))
	b = le.AppendUint32(b, typ)
	b = pad(append(b, name...))
	return pad(append(b, desc...))
}

func pad(b []byte) []byte {
	for len(b)%4 != 0 {
		b = append(b, 0)
	}
	return b
}

// status is a struct elf_prstatus.
func (c *Core) status(l layout, t *Thread) []byte {
	le := binary.LittleEndian
	b := make([]byte, l.status)
	// The kernel gives every thread the number of the signal that the first has got:
	// debuggers take it from the last.
	signo := c.Threads[0].Signal
	le.PutUint32(b, uint32(signo)) // si_signo, si_code, si_errno
	if len(t.SigInfo) >= 12 {
		copy(b[4:8], t.SigInfo[8:12])
		copy(b[8:12], t.SigInfo[4:8])
	}
	le.PutUint16(b[12:], uint16(signo))
	for i, v := range [4]uint32{t.TID, c.Process.PPID, c.Process.PGRP, c.Process.SID} {
		le.PutUint32(b[l.pids+4*i:], v)
	}
	nregs := len(c.Arch.Registers())
	if len(t.XState) >= fxSize {
		le.PutUint32(b[l.regs+l.word*nregs:], 1) // pr_fpvalid
	}
	for i, v := range t.Regs[:min(len(t.Regs), nregs)] {
		l.put(b[l.regs+l.word*i:], v)
	}
	return b
}

func (l layout) put(b []byte, v uint64) {
	if l.word == 4 {
		binary.LittleEndian.PutUint32(b, uint32(v))
	} else {
		binary.LittleEndian.PutUint64(b, v)
	}
}

// info is a struct elf_prpsinfo.
func (c *Core) info(l layout) []byte {
	le := binary.LittleEndian
	p := &c.Process
	b := make([]byte, l.info)
	b[1] = 'R'
	for i, v := range [2]uint32{p.UID, p.GID} {
		if l.idSize == 2 {
			le.PutUint16(b[l.ids+2*i:], uint16(min(v, 0xffff)))
		} else {
			le.PutUint32(b[l.ids+4*i:], v)
		}
	}
	for i, v := range [4]uint32{p.PID, p.PPID, p.PGRP, p.SID} {
		le.PutUint32(b[l.infoPIDs+4*i:], v)
	}
	name := l.infoPIDs + 16
	copy(b[name:name+15], p.Name)
	copy(b[name+16:name+16+79], p.Args)
	return b
}

// files is the contents of an NT_FILE note: how many, the unit of offsets,
// start, end and offset of each, and their names.
func (c *Core) files(l layout) []byte {
	n := len(c.Files)
	b := make([]byte, l.word*(2+3*n))
	w := 0
	put := func(v uint64) { l.put(b[w:], v); w += l.word }
	put(uint64(n))
	put(addr.PageSize)
	for _, f := range c.Files {
		put(uint64(f.Start))
		put(uint64(f.End))
		put(f.Offset / addr.PageSize)
	}
	for _, f := range c.Files {
		b = append(append(b, f.Name...), 0)
	}
	return b
}
