//go:build linux && amd64

package inproc

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"

	"memtrace/format/addr"
	"memtrace/format/arch"
	"memtrace/format/call"
	"memtrace/record/recordtest"
)

const stepBase = 0x2000_0000_0000

// stepped is a program that is stepped through the code.
type stepped struct {
	t      *testing.T
	pid    int
	code   Code
	shared []byte
	ret    uint64 // where it goes on
	quiet  bool   // the call leaves no record
}

// startStepped starts the program, which is to make a call through the code, and brings
// it to its first instruction there.
func startStepped(t *testing.T, prog, gs, name string) *stepped {
	t.Helper()
	s := &stepped{t: t, code: Code{Base: stepBase}, quiet: gs == "quiet"}
	if s.quiet {
		gs = "gs"
	}
	k := &call.Collector{Level: call.LevelData, MaxData: 4096, MaxString: 32}
	file := filepath.Join(t.TempDir(), "image")
	if err := os.WriteFile(file, append(Image(NewTable(k, func(uint32) Choice {
		if s.quiet {
			return Passes
		}
		return Records
	})), make([]byte, SlotLen)...), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(file, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if s.shared, err = unix.Mmap(int(f.Fd()), CodeLen, SlotLen, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Munmap(s.shared) })
	NewSlot(s.code, 0, s.shared)
	c := exec.Command(prog, file, fmt.Sprint(uint64(stepBase)), strconv.Itoa(CodeLen), strconv.Itoa(SlotLen), gs, name)
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	s.pid = c.Process.Pid
	t.Cleanup(func() { _ = c.Process.Kill(); _, _ = unix.Wait4(s.pid, nil, 0, nil) })
	s.wait()
	for s.step(); s.regs()[arch.RIP] != stepBase; {
		s.step()
	}
	s.ret = s.regs()[arch.RCX]
	return s
}

func (s *stepped) wait() {
	s.t.Helper()
	var ws unix.WaitStatus
	if _, err := unix.Wait4(s.pid, &ws, 0, nil); err != nil || !ws.Stopped() || ws.StopSignal() != unix.SIGTRAP {
		s.t.Fatalf("the program has not stopped as it should: %v, status %#x", err, ws)
	}
}

func (s *stepped) step() {
	s.t.Helper()
	if err := unix.PtraceSingleStep(s.pid); err != nil {
		s.t.Fatal(err)
	}
	s.wait()
}

func (s *stepped) regs() (r Regs) {
	s.t.Helper()
	var all unix.PtraceRegs
	var b bytes.Buffer
	if err := unix.PtraceGetRegs(s.pid, &all); err != nil {
		s.t.Fatal(err)
	}
	_ = binary.Write(&b, binary.LittleEndian, &all)
	_ = binary.Read(&b, binary.LittleEndian, &r)
	return r
}

// same compares registers, but those that a system call destroys.
func (s *stepped) same(what string, got, want Regs, but ...int) {
	s.t.Helper()
	const tf, rf = 1 << 8, 1 << 16
	for i, reg := range arch.X86_64.Registers() {
		skip := reg.User == arch.OrigRAX
		for _, b := range but {
			skip = skip || int(reg.User) == b
		}
		g, w := got[reg.User], want[reg.User]
		if reg.User == arch.EFlags || reg.User == arch.R11 {
			g, w = g&^(tf|rf), w&^(tf|rf)
		}
		if !skip && g != w {
			s.t.Errorf("%s: register %d, %s, is %#x, not %#x", what, i, reg.Name, g, w)
		}
	}
}

// TestRecoverAtEachInstruction steps a program through the code and looks, at each
// instruction, whether it would be put back to where it was before its call, or to where
// it is when the call is over.
func TestRecoverAtEachInstruction(t *testing.T) {
	_, err := exec.LookPath("gcc")
	recordtest.Require(t, "gcc", err)
	prog := filepath.Join(t.TempDir(), "step")
	if out, err := exec.Command("gcc", "-O1", "-o", prog, "testdata/step.c").CombinedOutput(); err != nil {
		t.Fatalf("gcc: %v\n%s", err, out)
	}
	for _, c := range []struct {
		gs, name string
		recorded bool
	}{
		{"gs", "getppid", true}, {"gs", "read", true}, {"gs", "write", true}, {"gs", "open", true}, {"gs", "open2", true},
		{"gs", "failing", true}, {"gs", "stat", true}, {"gs", "fcntl", true}, {"gs", "fcntldup", true}, {"gs", "part", true}, {"gs", "wait", true}, {"gs", "wake", true}, {"gs", "lockpi", false}, {"gs", "epoll", true}, {"gs", "epollmask", false},
		{"gs", "sigaction", true}, {"gs", "sigchld", false}, {"gs", "sigsegv", false}, {"gs", "sigmask", true}, {"gs", "sigmasknull", true}, {"gs", "sigmaskbus", false}, {"gs", "sigmasksize", false},
		{"gs", "getsockname", true},
		{"gs", "complaint", false}, {"gs", "status", false}, {"gs", "fcntlother", false}, {"gs", "fcntlseals", false}, {"gs", "fcntllock", false}, {"gs", "brk", false}, {"gs", "huge", false},
		{"quiet", "getppid", true}, {"quiet", "write", true}, {"quiet", "part", true}, {"quiet", "stat", true}, {"quiet", "wait", true}, {"quiet", "wake", true}, {"quiet", "open", true}, {"quiet", "epollmask", false},
		{"nogs", "getppid", false},
	} {
		t.Run(c.gs+" "+c.name, func(t *testing.T) {
			runtime.LockOSThread() // which traces
			defer runtime.UnlockOSThread()
			s := startStepped(t, prog, c.gs, c.name)
			s.through(c.recorded)
		})
	}
}

// behindAt is what Recover has made of the registers at an instruction behind the call.
type behindAt struct {
	ip   uint64
	regs Regs
}

// through steps the program through the code.
func (s *stepped) through(recorded bool) {
	entry := s.regs()
	before := entry
	before[arch.RIP] = s.ret - 2
	var behind []behindAt
	steps := 0
	for r := entry; r[arch.RIP] != s.ret && r[arch.RIP] != s.ret-2; r = s.regs() {
		steps++
		slot := &Slot{words: bytes.Clone(s.shared), base: s.code.Slot(0)}
		back := r
		place := s.code.Recover(slot, &back)
		what := fmt.Sprintf("at %#x of the code", r[arch.RIP]-stepBase)
		switch place {
		case Before:
			s.same(what, back, before, arch.RCX, arch.R11)
			if len(behind) > 0 {
				s.t.Errorf("%s: the call has been made, and Recover has it made again", what)
			}
		case Behind, Returned:
			behind = append(behind, behindAt{r[arch.RIP] - stepBase, back})
			if waiting := slot.Waiting(); waiting != (place == Behind && !s.quiet) {
				s.t.Errorf("%s: the record is whole: %v, Recover says %v", what, waiting, place == Behind)
			}
		default:
			s.t.Errorf("%s: not found to be in the code", what)
		}
		s.step()
	}
	end := s.regs()
	if recorded != (end[arch.RIP] == s.ret) || recorded != (len(behind) > 0) || steps < 10 {
		s.t.Fatalf("the call was recorded: %v, %d instructions, %d of them behind it", end[arch.RIP] == s.ret, steps, len(behind))
	}
	if !recorded {
		s.same("where the call is made", end, before, arch.RCX, arch.R11)
		return
	}
	s.same("behind the call", end, entry, arch.RIP, arch.RAX, arch.R11)
	for _, b := range behind {
		s.same(fmt.Sprintf("at %#x of the code", b.ip), b.regs, end)
	}
	slot := &Slot{words: s.shared, base: s.code.Slot(0)}
	if err := slot.Take(); err != nil {
		s.t.Fatal(err)
	}
	var rec Record
	if s.quiet {
		if ok, err := slot.Next(&rec); ok || err != nil {
			s.t.Errorf("there is a record, %+v, %v", rec, err)
		}
		return
	}
	if ok, err := slot.Next(&rec); !ok || err != nil || uint64(rec.Nr) != entry[arch.RAX] || rec.Ret != int64(end[arch.RAX]) || rec.Return != addr.Addr(s.ret) || rec.SP != entry[arch.RSP] {
		s.t.Errorf("the record is %+v, %v %v", rec, ok, err)
	}
}
