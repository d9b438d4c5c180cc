package analyze

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"fmt"
	"path"

	"memtrace/format"
	"memtrace/format/addr"
	"memtrace/format/arch"
	"memtrace/format/call"
	"memtrace/format/unwind/code"
	"memtrace/format/vma"
	"memtrace/replay"
)

// crash is a signal that ended a process for a fault of its own.
type crash struct {
	step   format.Step
	signo  int32
	info   call.SigInfo
	thread format.Thread
	stack  format.StackNode
}

// nullPage is below which addresses are a null pointer's, or near it.
const nullPage = 1 << 16

// mostCrashes is how many are told of.
const mostCrashes = 2

// crashes are the signals that tell of a fault of the program's.
func crashes(signo int32) bool {
	switch arch.SignalName(int(signo)) {
	case "SIGSEGV", "SIGBUS", "SIGABRT", "SIGFPE", "SIGILL", "SIGTRAP", "SIGSYS":
		return true
	}
	return false
}

// faulty reports whether an instruction of the program's brought the signal, not kill(2).
func (c *crash) faulty() bool {
	const kernel = 0x80 // SI_KERNEL: of a fault at an address that no program has
	return c.info.Code > 0 && c.info.Code <= kernel
}

// crash puts a crash into words.
func (f *findings) crash(ctx context.Context, t *replay.Trace, o Options, c *crash) (Finding, error) {
	name := arch.SignalName(int(c.signo))
	pid := c.thread.TGID
	x := Finding{Kind: "crash", Text: "CRASH: " + name, Step: &c.step, PID: &pid}
	look := o.command("replay", fmt.Sprintf("--at %d --pid %d --stack --regs", c.step, pid))
	var stack []step
	var start uint64 // of the function
	if c.stack != 0 {
		s, err := t.Stack(c.stack, true)
		if err != nil {
			return x, err
		}
		stack = steps(s)
		if len(s.Frames) > 0 && s.Frames[0].Function != "" {
			start = s.Frames[0].FrameName.Offset
		}
	}
	var why fault
	if (name == "SIGSEGV" || name == "SIGBUS") && c.faulty() {
		var err error
		if why, err = c.fault(ctx, t, o, start); err != nil {
			return x, err
		}
	}
	x.Then = why.then
	x.Text += why.text + crashPlace(t, stack, why.jump)
	x.Text += fmt.Sprintf(", process %d", pid)
	if c.thread.TID != pid {
		x.Text += fmt.Sprintf(", thread %d", c.thread.TID)
	}
	x.Text += fmt.Sprintf(", step %d%s", c.step, why.origin)
	if g, ok := f.grave[pid]; ok && c.step-g.step < 100 {
		x.Text += fmt.Sprintf("; shortly before, %s failed with %s (step %d)", g.what(), arch.ErrnoName(g.errno), g.step)
	}
	x.Text += f.saying(pid) + "."
	x.Said = f.wrote(pid)
	if x.Then == "" {
		x.Then = look
	} else {
		x.Also = look
	}
	return x, nil
}

// fault is what memory a program could not refer to.
type fault struct {
	text   string
	origin string // where the pointer came from
	then   string // what to type to see who wrote it
	jump   bool   // the program went on at the address, where there is no code
}

// fault says what memory a program could not refer to. into is how far the instruction is from
// the begin of its function, 0 if that is not known.
func (c *crash) fault(ctx context.Context, t *replay.Trace, o Options, into uint64) (fault, error) {
	at := c.info.Addr
	unreal := c.info.Code == 0x80 // the kernel does not say the address then
	plain := fault{text: c.faultText(at, unreal, "accessing")}
	view, err := t.At(c.step)
	if err != nil {
		return fault{}, err
	}
	p, err := view.Process(c.thread.TGID)
	if err != nil {
		return plain, nil
	}
	space, err := p.Space()
	if err != nil {
		return plain, nil
	}
	regs, err := t.Registers(c.step, []format.Thread{c.thread})
	if err != nil {
		return fault{}, err
	}
	r := &regs[0]
	if r.Values == nil || r.AsOf != c.step {
		return plain, nil
	}
	if full := c.fullStack(t, space, at, r); full > 0 && !unreal {
		return fault{text: fmt.Sprintf(": the stack is full (%s)", Size(full))}, nil
	}
	gone := ""
	before := format.Step(0)
	if !unreal {
		if gone, before, err = c.unmapped(ctx, t, space, at); err != nil {
			return fault{}, err
		}
	}
	ptr := uint64(c.thread.Arch.PointerSize())
	freed := ""
	if before > 0 {
		freed = o.command("replay", fmt.Sprintf("--from %d", before-min(before, 5)))
	}
	if v, ok := space.Set().Find(at); !unreal && addr.Addr(r.Values[r.Thread.Arch.PC()]) == at && (!ok || v.Prot&addr.Exec == 0) {
		x := fault{text: c.faultText(at, false, "jumping to") + gone, jump: true}
		if x.then = freed; freed == "" && at >= nullPage {
			x.then = c.find(o, uint64(at), ptr)
		}
		return x, nil
	}
	a, ok := accessOf(space, r, into)
	if !ok {
		plain.text += gone
		plain.then = freed
		return plain, nil
	}
	doing := "reading"
	if a.Writes {
		doing = "writing"
	}
	x := fault{text: c.faultText(at, false, doing) + gone}
	if unreal {
		at = addr.Addr(a.Base)
		x.text = fmt.Sprintf(" %s %v (an address that no program has%s)", doing, at, textNote(", ", a.Base))
	}
	if a.From != 0 && holds(space, addr.Addr(a.From), a.Base, ptr) {
		if v, ok := space.Set().Find(addr.Addr(a.From)); ok && (v.Kind == vma.MainStack || v.Kind == vma.ThreadStack) && a.Base >= nullPage {
			x.origin, x.then = "; the pointer is in a local variable, and may have come from elsewhere", cmp.Or(freed, c.find(o, a.Base, ptr))
			return x, nil
		}
		x.then = cmp.Or(freed, o.command("replay", fmt.Sprintf("--pid %d --history %v:%d", c.thread.TGID, addr.Addr(a.From), ptr)))
		x.origin, err = c.writer(ctx, t, space, addr.Range{Start: addr.Addr(a.From), End: addr.Addr(a.From + ptr)})
		return x, err
	}
	if x.then = freed; freed == "" && a.Base >= nullPage {
		x.then = c.find(o, a.Base, ptr)
	}
	return x, nil
}

// find is what to type to find a pointer of some bytes in memory.
func (c *crash) find(o Options, value, bytes uint64) string {
	what := fmt.Sprintf("0x%x", binary.LittleEndian.AppendUint64(nil, value)[:bytes])
	if text := textOf(value); text != "" {
		what = shellWord(text)
	}
	return o.command("replay", fmt.Sprintf("--pid %d --find %s", c.thread.TGID, what))
}

// fullStack is the size of the stack that the program could not refer to because it is full, 0
// if it is not. The log may learn of the stack's growth at the snapshot that follows.
func (c *crash) fullStack(t *replay.Trace, space *replay.AddressSpace, at addr.Addr, r *replay.Registers) uint64 {
	if full := stackFull(space, at, r); full > 0 {
		return full
	}
	after, err := t.At(c.step + 1)
	if err != nil {
		return 0
	}
	p, err := after.Process(c.thread.TGID)
	if err != nil {
		return 0
	}
	if space, err = p.Space(); err != nil {
		return 0
	}
	return stackFull(space, at, r)
}

// unmapped says which call gave the memory at an address back, if one did and nothing has been
// mapped there since, and its step.
func (c *crash) unmapped(ctx context.Context, t *replay.Trace, space *replay.AddressSpace, at addr.Addr) (string, format.Step, error) {
	if _, ok := space.Set().Find(at); ok {
		return "", 0, nil
	}
	var last *replay.Moment
	for m, err := range walk(ctx, t, Options{To: c.step}) {
		if err != nil {
			return "", 0, err
		}
		for _, x := range m.Changes {
			if x.MM == c.thread.MM && x.Op == vma.Unmap && x.VMA.Start <= at && at < x.VMA.End {
				ev := *m.Event
				last = &replay.Moment{Event: &ev, Thread: m.Thread}
			}
		}
	}
	if last == nil {
		return "", 0, nil
	}
	s, ok := last.Event.Record.(*format.Syscall)
	if !ok {
		return "", 0, nil // an exec, or what memtrace learnt later
	}
	text := fmt.Sprintf("memory that %s gave back at step %d", replay.CallName(s.Arch, s.Nr), last.Event.Step)
	if last.Event.Stack != 0 {
		stack, err := t.Stack(last.Event.Stack, true)
		if err != nil {
			return "", 0, err
		}
		text += crashPlace(t, steps(stack), false)
	}
	return " (" + text + ")", last.Event.Step, nil
}

// textOf is a pointer that is text, as far as there are characters; "" if it is none.
func textOf(value uint64) string {
	const least = 4
	b := bytes.TrimRight(binary.LittleEndian.AppendUint64(nil, value), "\x00")
	if len(b) < least {
		return ""
	}
	for _, c := range b {
		if c < ' ' || c > '~' {
			return ""
		}
	}
	return string(b)
}

// textNote says that a pointer is text, after sep; "" if it is none.
func textNote(sep string, value uint64) string {
	if text := textOf(value); text != "" {
		return fmt.Sprintf("%sthe text %q", sep, text)
	}
	return ""
}

// faultText says which address could not be referred to.
func (c *crash) faultText(at addr.Addr, unreal bool, doing string) string {
	switch {
	case unreal:
		return " " + doing + " an address that no program has"
	case at == 0:
		return " " + doing + " 0x0 (a null pointer)"
	case at < nullPage:
		return fmt.Sprintf(" %s %v (close to a null pointer)", doing, at)
	}
	if note := textNote("", uint64(at)); note != "" {
		return fmt.Sprintf(" %s %v (%s)", doing, at, note)
	}
	return fmt.Sprintf(" %s %v", doing, at)
}

// writer says when the pointer at r was written, and by which call if a call wrote it.
func (c *crash) writer(ctx context.Context, t *replay.Trace, space *replay.AddressSpace, r addr.Range) (string, error) {
	place := fmt.Sprint(r.Start)
	if v, ok := space.Set().Find(r.Start); ok {
		switch {
		case v.Name != "":
			place += " (" + path.Base(v.Name) + ")"
		default:
			place += " (" + v.Kind.String() + ")"
		}
	}
	text := "; the pointer is at " + place
	eras, err := t.History(ctx, r, c.thread.TGID)
	if err != nil {
		return "", err
	}
	for i := len(eras) - 1; i >= 0; i-- {
		e := &eras[i]
		if e.From > c.step || e.Err != nil {
			continue
		}
		switch {
		case e.Call != "":
			text += fmt.Sprintf(" and was written by %s at step %d", e.Call, e.From)
		case e.Since < e.From && i > 0:
			text += fmt.Sprintf(" and was written after step %d", e.Since)
		}
		break
	}
	return text, nil
}

// holds reports whether memory is known to hold a pointer.
func holds(space *replay.AddressSpace, at addr.Addr, want, ptr uint64) bool {
	b := make([]byte, 8)
	n, _, err := space.ReadMem(b[:ptr], at)
	return err == nil && uint64(n) == ptr && binary.LittleEndian.Uint64(b) == want
}

// instructionRegisters are the general registers by their numbers in instructions.
var instructionRegisters = map[arch.ID][]string{
	arch.X86_64: {"rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15"},
	arch.I386:   {"eax", "ecx", "edx", "ebx", "esp", "ebp", "esi", "edi"},
}

// accessOf is how the instruction of a thread refers to memory. into is how far it is from the
// begin of its function, 0 if that is not known.
func accessOf(space *replay.AddressSpace, r *replay.Registers, into uint64) (code.Access, bool) {
	id := r.Thread.Arch
	names := instructionRegisters[id]
	if names == nil {
		return code.Access{}, false
	}
	byName := map[string]uint64{}
	for i, x := range id.Registers() {
		if i < len(r.Values) {
			byName[x.Name] = r.Values[i]
		}
	}
	read := func(at uint64) []byte {
		b := make([]byte, 16)
		n, _, _ := space.ReadMem(b, addr.Addr(at)) // what comes before an error counts
		return b[:n]
	}
	reg := func(n int) (uint64, bool) {
		if n >= len(names) {
			return 0, false
		}
		v, ok := byName[names[n]]
		return v, ok
	}
	pc := r.Values[id.PC()]
	return code.AccessAt(read, pc-into, pc, id.PointerSize(), reg)
}

// nearStack is how far from the stack pointer a thread refers to its stack.
const nearStack = 64 << 10

// stackFull is the size of a thread's stack, if the thread fell off its end.
func stackFull(space *replay.AddressSpace, at addr.Addr, r *replay.Registers) uint64 {
	sp := addr.Addr(r.Values[r.Thread.Arch.SP()])
	if at > sp+nearStack || at+nearStack < sp {
		return 0
	}
	if v, ok := space.Set().Find(at); ok && v.Prot&addr.Write != 0 && v.Kind != vma.MainStack {
		return 0
	}
	for v := range space.Mappings() {
		// The main stack begins up to a megabyte, its guard gap, above what it may not have.
		if v.End > at && v.Prot&addr.Write != 0 && v.Start < at+(1<<20)+nearStack && (v.Kind == vma.MainStack || v.Kind == vma.ThreadStack) {
			return v.Len()
		}
	}
	return 0
}

// crashSkips are functions and files that end a program for others: those of C++ and Rust.
var crashSkips = []string{"libstdc++*", "libc++*", "__cxa_*", "_Unwind_*", "rust_*", "__rust_*", "core::panicking::*", "core::option::*", "core::result::*"}

// crashNamer finds the function that a crash is the fault of.
func crashNamer(t *replay.Trace) *siteNamer {
	n := newSiteNamer(t, Options{Skip: crashSkips})
	n.libc = true
	return n
}

// crashPlace says where a fatal signal came: the function and its line, the function of
// libc or an allocator that worked for it, if it came in one, and who called it. After a jump
// to where there is no code, the innermost has no name.
func crashPlace(t *replay.Trace, all []step, jumped bool) string {
	text := " in "
	if jumped {
		text = ", called from "
		all = all[min(1, len(all)):]
	}
	if len(all) == 0 {
		return ""
	}
	at := crashNamer(t).innermost(all)
	if at >= len(all) {
		at = 0
	}
	text += all[at].String()
	if at > 0 {
		text += ", by " + all[at-1].called()
	}
	if by := callerOf(all, at); by != "" && !jumped {
		text += ", called from " + by
	}
	return text
}
