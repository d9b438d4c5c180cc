package replay

import (
	"context"
	"fmt"

	"memtrace/format"
	"memtrace/format/addr"
	"memtrace/format/unwind"
)

// ThreadStack is the call stack of a thread at a step.
type ThreadStack struct {
	Thread format.Thread
	// Stack is nil where it is not known; Why says why.
	Stack *NamedStack
	Why   string
	// Logged says that it was taken when the program ran. Else it was found in the
	// registers and the memory that the log has of the step.
	Logged bool
	Live   bool // it is of a living program
}

// Stacks are the stacks of threads of a process at the step of s: as they were logged with
// the event of the step, or unwound where all that this takes is exact at the step. An older
// byte of a stack would give frames that never were.
func (t *Trace) Stacks(ctx context.Context, s *AddressSpace, threads []format.Thread, lines bool) ([]ThreadStack, error) {
	n := s.view.Step
	regs, err := t.Registers(n, threads)
	if err != nil {
		return nil, err
	}
	var node format.StackNode
	var of uint32
	for e, err := range t.r.Events(n) {
		if err != nil {
			return nil, err
		}
		node, of = e.Stack, e.Thread
		break
	}
	x := NewStacks(s, t.symbols)
	out := make([]ThreadStack, len(threads))
	for i, th := range threads {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if node == 0 || of != th.No {
			if out[i], err = x.Unwind(&regs[i], lines); err != nil {
				return nil, err
			}
			continue
		}
		out[i] = ThreadStack{Thread: th, Logged: true}
		if out[i].Stack, err = t.Stack(node, lines); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// Unwinder finds stacks in registers and in the memory of one address space.
type Unwinder struct {
	s     *AddressSpace
	y     *Symbols
	u     *unwind.Unwinder
	space *unwind.Space
}

// NewStacks makes an unwinder that asks y for names.
func NewStacks(s *AddressSpace, y *Symbols) *Unwinder {
	return &Unwinder{s, y, unwind.NewUnwinder(unwind.NewCache(nil)), unwind.NewSpace(s.No())}
}

// Unwind finds the stack of a thread, where its registers and its stack are known exactly.
func (x *Unwinder) Unwind(regs *Registers, lines bool) (o ThreadStack, err error) {
	o.Thread, o.Live = regs.Thread, x.s.view.Live != nil
	n := x.s.view.Step
	var r unwind.Regs
	switch {
	case regs.Values == nil && x.s.view.Live != nil:
		o.Why = "runs: it has no registers to show"
		return o, nil
	case regs.Values == nil || regs.AsOf != n:
		o.Why = fmt.Sprintf("not in the log (registers of step %d are not known)", n)
		return o, nil
	case !r.Set(regs.Thread.Arch, regs.Values):
		o.Why = fmt.Sprintf("stacks of %v cannot be unwound", regs.Thread.Arch)
		return o, nil
	}
	frames, end := x.u.Stack(x.space, x.s.Set(), &exactMemory{x.s, n}, &r, format.MaxDepth)
	if len(frames) == 1 && end == unwind.Unreadable {
		o.Why = fmt.Sprintf("not in the log (the stack of step %d is not known)", n)
		return o, nil
	}
	o.Stack, err = x.y.Stack(asLogged(frames, end), lines)
	return o, err
}

// unloggedModules is where the numbers of modules begin that the log does not have.
const unloggedModules = format.ModuleNo(1 << 31)

// asLogged is a stack as a log has it.
func asLogged(frames []unwind.Frame, end unwind.End) *format.Stack {
	ends := [...]format.StackEnd{
		unwind.Complete: format.StackComplete, unwind.Limit: format.StackDepth, unwind.Unreadable: format.StackUnreadable,
		unwind.NoRule: format.StackNoRule, unwind.Loop: format.StackLoop,
	}
	s := &format.Stack{End: ends[end]}
	mods := map[*unwind.Module]*format.Module{}
	for i := range frames {
		x := &frames[i]
		f := format.Frame{Addr: x.PC, Return: i > 0 && !x.Signal}
		f.RawFrame = format.RawFrame{Offset: x.Offset, How: format.FrameHow(x.How), Signal: x.Signal, Inexact: x.Inexact}
		if m := x.Module; m != nil {
			if mods[m] == nil {
				mods[m] = &format.Module{
					Class: format.ModuleClass(m.Class), BuildID: m.BuildID, GoBuildID: m.GoBuildID, Path: m.Path, Major: m.Dev.Major, Minor: m.Dev.Minor,
					Inode: m.Inode, TextAddr: m.TextAddr, TextOff: m.TextOff, MM: m.MM,
				}
				m.No = uint32(len(mods))
			}
			f.Mod, f.Module = mods[m], unloggedModules+format.ModuleNo(m.No)
			if f.Mod.Class == format.ModuleELF || f.Mod.Class == format.ModuleVDSO {
				f.Addr = f.Offset - f.Mod.TextOff + f.Mod.TextAddr
			}
		}
		s.Frames = append(s.Frames, f)
	}
	return s
}

// exactMemory is the memory of a step as far as it is known exactly.
type exactMemory struct {
	s *AddressSpace
	n format.Step
}

// Read reads what is exact: what the program could not write to may have been read earlier.
func (m *exactMemory) Read(b []byte, a addr.Addr) (done int) {
	if live := m.s.view.Live; live != nil {
		n, _ := live.ReadMem(m.s.No(), b, a) // what comes before an error counts
		return n
	}
	var page [addr.PageSize]byte
	for done < len(b) {
		at, ok := a.Add(uint64(done))
		if !ok {
			return done
		}
		v, ok := m.s.Set().Find(at)
		if !ok {
			return done
		}
		parts, err := m.s.Stretches(at.PageDown(), &page)
		if err != nil {
			return done
		}
		before := done
		for _, x := range parts {
			if !x.Range.Contains(at) {
				continue
			}
			if x.Err != nil || v.Prot&addr.Write != 0 && x.AsOf != m.n {
				return done
			}
			k := copy(b[done:], page[at-at.PageDown():min(x.Range.End, at.PageDown()+addr.PageSize)-at.PageDown()])
			done += k
			at += addr.Addr(k)
			if done == len(b) {
				return done
			}
		}
		if done == before {
			return done
		}
	}
	return done
}

// Append appends the stack in lines, without a newline at the end.
func (o *ThreadStack) Append(b []byte, detail StackDetail) []byte {
	switch {
	case o.Stack == nil:
		return fmt.Appendf(b, "thread %d: %s", o.Thread.TID, o.Why)
	case o.Logged:
		b = fmt.Appendf(b, "thread %d (logged)", o.Thread.TID)
	case o.Live:
		b = fmt.Appendf(b, "thread %d", o.Thread.TID)
	default:
		b = fmt.Appendf(b, "thread %d (unwound from the log)", o.Thread.TID)
	}
	return o.Stack.Append(b, detail)
}

// AppendJSON appends the stack as an object.
func (o *ThreadStack) AppendJSON(b []byte, detail StackDetail) []byte {
	var f fieldList
	f.uint("tid", uint64(o.Thread.TID))
	if o.Stack == nil {
		f.text("unknown", o.Why)
		return AppendJSON(b, f)
	}
	source := "unwound"
	if o.Logged {
		source = "logged"
	}
	f.text("source", source)
	f.list("stack", o.Stack.fields(detail))
	f.text("stack_end", o.Stack.End.String())
	return AppendJSON(b, f)
}
