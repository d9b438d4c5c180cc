package replay_test

import (
	"errors"
	"testing"

	"memtrace/format"
	"memtrace/format/addr"
	"memtrace/format/arch"
	"memtrace/replay"
	. "memtrace/replay/replaytest"
)

// TestRegistersInAddresses: names of registers mean what they held at that very step.
func TestRegistersInAddresses(t *testing.T) {
	b := New(t)
	regs := Regs(0x1000)
	b.EventRegs(1, &format.Exec{Path: "/p"}, regs, &format.MMNew{MM: 1}, Thread(1, 100, 100, 1, 1, 0), Map(1, Heap, 4, 3, "[heap]"))
	nr, _ := arch.X86_64.Number("getpid")
	b.Event(1, &format.Syscall{Arch: arch.X86_64, Nr: nr, Returned: true, IP: 0x5000, SP: 0x6000})
	b.Call(1, "getuid", 0, nil)
	tr := replay.New(Open(t, b.Bytes()))
	defer tr.Close()
	sp, pc := regs[arch.X86_64.SP()], regs[arch.X86_64.PC()]
	for _, c := range []struct {
		step format.Step
		text string
		want uint64 // 0: not known
	}{
		{0, "rsp", sp}, {0, "rsp+16", sp + 16}, {0, "rip+0x10", pc + 16}, {0, "$rbx", regs[5]}, {0, "heap", uint64(Heap)},
		{1, "rsp", 0x6000}, {1, "rip+16", 0x5010}, {1, "rbx", 0}, {1, "rbx+8", 0},
		{2, "rsp", 0}, {2, "rsp+8", 0},
	} {
		v, err := tr.At(c.step)
		if err != nil {
			t.Fatal(err)
		}
		p, err := v.Process(100)
		if err != nil {
			t.Fatal(err)
		}
		s, err := p.Space()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := replay.ParseAddr("rsp", s); err == nil || errors.Is(err, replay.ErrUnknown) {
			t.Errorf("a register without registers: %v", err)
		}
		if err := tr.NameRegistersOf(s, p, c.step); err != nil {
			t.Fatal(err)
		}
		if c.text == "$rbx" {
			for i, r := range arch.X86_64.Registers() {
				if r.Name == "rbx" {
					c.want = regs[i]
				}
			}
		}
		got, err := replay.ParseAddr(c.text, s)
		if c.want == 0 && !errors.Is(err, replay.ErrUnknown) || c.want != 0 && (err != nil || got != addr.Addr(c.want)) {
			t.Errorf("%s at step %d: %v, %v; want %#x", c.text, c.step, got, err, c.want)
		}
		scope := replay.Scope{Space: s}
		n, err := scope.Eval(c.text)
		if c.want == 0 && err == nil || c.want != 0 && (err != nil || n != c.want) {
			t.Errorf("%s at step %d as an expression: %#x, %v; want %#x", c.text, c.step, n, err, c.want)
		}
	}
}
