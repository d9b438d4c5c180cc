//go:build linux

package tracee_test

import (
	"bytes"
	"encoding/binary"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"memtrace/format/addr"
	"memtrace/format/arch"
	"memtrace/record/tracee"
	"memtrace/record/tracee/seccomp"
	. "memtrace/record/tracee/traceetest"
)

// someCalls is a set of calls by their names.
func someCalls(t *testing.T, words string) *arch.Set {
	t.Helper()
	set, err := arch.ParseSet(words)
	if err != nil {
		t.Fatal(err)
	}
	return &set
}

// A stop that a filter of the program's own has asked for is what it is without a
// tracer: the call fails. One of our filter lets the call be made.
func TestForeignTag(t *testing.T) {
	for _, tag := range []uint32{0, 1, seccomp.Tag} {
		each(t, 20, func(seed uint64) {
			h, made := newGroup(t, seed), 0
			h.began = func(*tracee.Thread, tracee.Birth) {
				nr, _ := arch.X86_64.Number("getppid")
				ours := h.k.Filter
				h.k.Filter = func(audit, n uint32, args [6]uint64) uint32 {
					if n == nr {
						return unix.SECCOMP_RET_TRACE | tag
					}
					return ours(audit, n, args)
				}
			}
			call := Call("getppid").Does(func(int, [6]uint64) int64 { made++; return 7 })
			h.launch(Program{call, Call("mmap")}, someCalls(t, "mmap"))
			wantRet, wantMade := -int64(unix.ENOSYS), 0
			if tag == seccomp.Tag {
				wantRet, wantMade = 7, 1
			}
			if es := h.k.Of(h.g.Main(), Returned); made != wantMade || es[0].Ret != wantRet {
				t.Errorf("tag %#x: made %d times, returns %d", tag, made, es[0].Ret)
			}
			h.wantSeq(1, "began", "entered getppid", "returned getppid", "entered mmap", "returned mmap", "ending", "removed", "ended")
		})
	}
}

// A child that nobody is to trace is traced all the same where our filter would kill
// it, and neither it nor its parent sees that the flag was taken away.
func TestUntracedChild(t *testing.T) {
	const flags = unix.CLONE_UNTRACED | uint64(unix.SIGCHLD)
	for _, filter := range []*arch.Set{nil, someCalls(t, "mmap,clone")} {
		each(t, 40, func(seed uint64) {
			h := newGroup(t, seed)
			look := func(th *tracee.Thread, c *tracee.Call) {
				if regs := h.g.Registers(th); nameOf(c) == "clone" && regs[arch.RDI] != flags {
					t.Errorf("flags %#x after the clone", regs[arch.RDI])
				}
			}
			h.returned = look
			h.launch(Program{Clone(flags, Program{Call("mmap")}), Sleep("fsync", 200)}, filter)
			if n := h.count("began"); n != map[bool]int{true: 2, false: 1}[filter != nil] {
				t.Errorf("%d threads have begun", n)
			}
			if filter != nil {
				h.wantSeq(2, "began", "entered mmap", "returned mmap", "ending", "removed", "ended")
			}
		})
	}
}

// memory is some memory of a program, of which everything can be read and written.
type memory struct {
	at    addr.Addr
	bytes []byte
}

func (m *memory) read(_ int, b []byte, a addr.Addr) int {
	if a < m.at || a+addr.Addr(len(b)) > m.at+addr.Addr(len(m.bytes)) {
		return 0
	}
	return copy(b, m.bytes[a-m.at:])
}

func (m *memory) write(_ int, b []byte, a addr.Addr) bool {
	if a < m.at || a+addr.Addr(len(b)) > m.at+addr.Addr(len(m.bytes)) {
		return false
	}
	return copy(m.bytes[a-m.at:], b) == len(b)
}

// Strict mode, which would kill the program for the calls that our filter makes stop,
// is a filter that lets through the same four calls. The program's memory and registers
// are as they were afterwards.
func TestStrictMode(t *testing.T) {
	each(t, 20, func(seed uint64) {
		h := newGroup(t, seed)
		m := &memory{at: 0x7ffe00000000 - 0x10000, bytes: bytes.Repeat([]byte{0xa5}, 0x20000)}
		h.k.Memory, h.k.Written = m.read, m.write
		calls := 0
		strict := Call("prctl", 22, 1).Does(func(_ int, args [6]uint64) int64 {
			calls++
			if args[0] != unix.SECCOMP_SET_MODE_FILTER || args[1] != 0 {
				t.Errorf("the call is made with %#x", args)
			}
			head := m.bytes[addr.Addr(args[2])-m.at:]
			n, at := binary.LittleEndian.Uint16(head), addr.Addr(binary.LittleEndian.Uint64(head[8:]))
			var prog []unix.SockFilter
			for b := m.bytes[at-m.at:]; n > 0; n, b = n-1, b[8:] {
				prog = append(prog, unix.SockFilter{Code: binary.LittleEndian.Uint16(b), Jt: b[2], Jf: b[3], K: binary.LittleEndian.Uint32(b[4:])})
			}
			for nr := range uint32(400) {
				for id, audit := range map[arch.ID]uint32{arch.X86_64: unix.AUDIT_ARCH_X86_64, arch.I386: unix.AUDIT_ARCH_I386} {
					row, _ := id.Syscall(nr)
					pass := slices.Contains([]string{"read", "write", "exit", "rt_sigreturn", "sigreturn"}, row.Name)
					pass = pass && (id == arch.X86_64 || row.Name != "rt_sigreturn")
					if got := Interpret(prog, audit, nr, [6]uint64{}); (got == unix.SECCOMP_RET_ALLOW) != pass {
						t.Errorf("%v %s: %#x", id, row.Name, got)
					}
				}
			}
			return 0
		})
		h.returned = func(th *tracee.Thread, c *tracee.Call) {
			if regs := h.g.Registers(th); nameOf(c) == "prctl" && (regs[arch.RDI] != 22 || regs[arch.RSI] != 1) {
				t.Errorf("registers %#x", regs)
			}
		}
		h.launch(Program{strict}, someCalls(t, "mmap"))
		if calls != 1 || bytes.Count(m.bytes, []byte{0xa5}) != len(m.bytes) {
			t.Errorf("%d calls; the memory is changed: %v", calls, bytes.Count(m.bytes, []byte{0xa5}) != len(m.bytes))
		}
	})
}

// The filter of a Group stops also those calls that see where threads may run, or
// the filter.
func TestFilterFor(t *testing.T) {
	set, err := arch.ParseSet("memory")
	if err != nil {
		t.Fatal(err)
	}
	prog, stop := tracee.FilterFor(set), unix.SECCOMP_RET_TRACE|seccomp.Tag
	for name, want := range map[string]uint32{
		"sched_getaffinity": stop, "sched_setaffinity": stop,
		"mmap": stop, "prctl": stop, "seccomp": stop, "getppid": unix.SECCOMP_RET_ALLOW,
	} {
		for id, audit := range map[arch.ID]uint32{arch.X86_64: unix.AUDIT_ARCH_X86_64, arch.I386: unix.AUDIT_ARCH_I386} {
			nr, _ := id.Number(name)
			if got := Interpret(prog, audit, nr, [6]uint64{}); got != want {
				t.Errorf("%v %s: %#x, want %#x", id, name, got, want)
			}
		}
	}
}
