package format

import (
	"fmt"
	"iter"
)

// parseStacks decodes a STACK chunk. modules is how many modules the log has before
// it.
func parseStacks(payload []byte, base uint64, count uint32, modules uint64) ([]rawNode, error) {
	c := cursor{b: payload}
	if base+uint64(count) > MaxNodes {
		return nil, overLimit("the number of stack nodes", base+uint64(count), MaxNodes)
	}
	if uint64(count)*3 > uint64(len(payload)) {
		return nil, corrupt("STACK chunk of %d bytes claims %d nodes", len(payload), count)
	}
	nodes := make([]rawNode, count)
	var l moduleList
	for i := range nodes {
		no := FirstNode + StackNode(base) + StackNode(i)
		d := c.u()
		if d&nodeFlags != 0 {
			l.flags = c.u8()
		}
		d >>= 1
		var u *moduleUse
		switch m := c.u(); {
		case m == nodeNewModule:
			n := c.u()
			if n > modules {
				return nil, corrupt("stack node %d is of module %d, and there are %d", no, n, modules)
			}
			u = l.add(ModuleNo(n))
		case m-nodeListed < uint64(len(l.list)):
			u = l.front(int(m - nodeListed))
		default:
			return nil, corrupt("module of stack node %d", no)
		}
		u.off += uint64(c.zz())
		if c.bad || d == 0 || d >= uint64(no) {
			return nil, corrupt("stack node %d", no)
		}
		nodes[i] = rawNode{no - StackNode(d), u.no, u.off, l.flags}
	}
	if c.bad || len(c.b) > 0 {
		return nil, corrupt("STACK chunk")
	}
	return nodes, nil
}

// parseModules decodes a MODULE chunk.
func parseModules(payload []byte, base uint64, count uint32) ([]Module, error) {
	if base+uint64(count) > MaxModules {
		return nil, overLimit("the number of modules", base+uint64(count), MaxModules)
	}
	c := cursor{b: payload}
	if uint64(count) > uint64(len(payload)) {
		return nil, corrupt("MODULE chunk of %d bytes claims %d modules", len(payload), count)
	}
	mods := make([]Module, count)
	for i := range mods {
		x := fields{mode: reading, c: cursor{b: c.blob()}}
		mods[i].fields(&x)
		m := &mods[i]
		if x.c.bad || len(m.Path) > MaxName || len(m.BuildID) > MaxBuildID || len(m.GoBuildID) > MaxBuildID {
			return nil, corrupt("module %d", base+uint64(i)+1)
		}
	}
	if c.bad || len(c.b) > 0 {
		return nil, corrupt("MODULE chunk")
	}
	return mods, nil
}

// count is how many there are of what chunks of a dense type have.
func (r *Reader) count(t Type) (uint64, error) {
	p, ok, err := r.x.last(t, noBase-1)
	if err != nil || !ok {
		return 0, err
	}
	e := r.x.blocks[p.block].entries[p.i]
	return e.base + uint64(e.count), nil
}

// Stacks is how many nodes the tree of stacks has: those from FirstNode on.
func (r *Reader) Stacks() (int, error) {
	n, err := r.count(TypeStack)
	if n > MaxNodes {
		return 0, overLimit("the number of stack nodes", n, MaxNodes)
	}
	return int(n), err
}

// Modules is how many modules the log has: they are numbered from 1.
func (r *Reader) Modules() (int, error) {
	n, err := r.count(TypeModule)
	if n > MaxModules {
		return 0, overLimit("the number of modules", n, MaxModules)
	}
	return int(n), err
}

// Module is a module of the log, which is not to be changed.
func (r *Reader) Module(no ModuleNo) (*Module, error) {
	if no == 0 {
		return nil, corrupt("there is no module 0")
	}
	e, err := r.x.holding(TypeModule, uint64(no)-1)
	if err != nil {
		return nil, err
	}
	mods, ok := r.modules.get(e.off)
	if !ok {
		b, err := r.cached(e)
		if err != nil {
			return nil, err
		}
		if mods, err = parseModules(b, e.base, e.count); err != nil {
			return nil, at(e.off, err)
		}
		r.modules.put(e.off, mods, int64(len(b))+int64(len(mods))*160)
	}
	return &mods[uint64(no)-1-e.base], nil
}

// node is a node of the tree; n must be at least FirstNode.
func (r *Reader) node(n StackNode) (*rawNode, error) {
	e, err := r.x.holding(TypeStack, uint64(n-FirstNode))
	if err != nil {
		return nil, err
	}
	nodes, ok := r.nodes.get(e.off)
	if !ok {
		b, err := r.cached(e)
		if err != nil {
			return nil, err
		}
		modules, err := r.count(TypeModule)
		if err != nil {
			return nil, err
		}
		if nodes, err = parseStacks(b, e.base, e.count, modules); err != nil {
			return nil, at(e.off, err)
		}
		r.nodes.put(e.off, nodes, int64(len(nodes))*24)
	}
	return &nodes[uint64(n-FirstNode)-e.base], nil
}

// StackFrame is the innermost frame of a stack and the stack of its caller. At the
// end of a stack there is none, and the caller is 0.
func (r *Reader) StackFrame(n StackNode) (f Frame, caller StackNode, err error) {
	if n < FirstNode {
		return f, 0, nil
	}
	raw, err := r.node(n)
	if err != nil {
		return f, 0, err
	}
	f.Module, f.Offset = raw.module, raw.off
	f.setFlags(raw.flags)
	f.Addr, f.Return = f.Offset, !f.Signal
	if f.Module != 0 {
		if f.Mod, err = r.Module(f.Module); err != nil {
			return f, 0, err
		}
		if f.Mod.Class == ModuleELF || f.Mod.Class == ModuleVDSO {
			f.Addr = f.Offset - f.Mod.TextOff + f.Mod.TextAddr
		}
	}
	return f, raw.parent, nil
}

// Stack is the stack of an event (Event.Stack), with all its frames.
func (r *Reader) Stack(n StackNode) (*Stack, error) {
	s := &Stack{Node: n}
	for n >= FirstNode {
		f, caller, err := r.StackFrame(n)
		if err != nil {
			return nil, err
		}
		if len(s.Frames) >= MaxDepth {
			return nil, overLimit("the depth of a stack", uint64(len(s.Frames))+1, MaxDepth)
		}
		if len(s.Frames) == 0 {
			f.Return = false
		}
		s.Frames = append(s.Frames, f)
		n = caller
	}
	s.End = StackEnd(n)
	return s, nil
}

// Texts yields the texts of the log. After an error nothing follows.
func (r *Reader) Texts() iter.Seq2[*Text, error] {
	return func(yield func(*Text, error) bool) {
		n, err := r.count(TypeTexts)
		if err != nil {
			yield(nil, err)
			return
		}
		var t *Text
		var size uint64
		for i := range n {
			e, p, err := r.text(i)
			switch {
			case err != nil:
			case t == nil || size == uint64(len(t.Data)):
				t, size = &Text{Name: p.Name, MM: p.MM, Step: Step(p.Step)}, p.Size
				if p.Off != 0 || size > MaxText {
					err = corrupt("text %d", i)
				}
			case p.Off != uint64(len(t.Data)) || p.Size != size || p.MM != t.MM || Step(p.Step) != t.Step || p.Name != t.Name:
				err = corrupt("text %d does not go on where the one before ends", i)
			}
			if err == nil && (uint64(len(p.Data)) > size-uint64(len(t.Data)) || len(p.Data) == 0 && size > 0) {
				err = corrupt("text %d has %d bytes of %d", i, len(t.Data)+len(p.Data), size)
			}
			if err != nil {
				yield(nil, at(e.off, err))
				return
			}
			t.Data = append(t.Data, p.Data...)
			if uint64(len(t.Data)) == size {
				if !yield(t, nil) {
					return
				}
				t = nil
			}
		}
		if t != nil {
			yield(nil, fmt.Errorf("%w: in a text", ErrTruncated))
		}
	}
}

// text is a piece of a text.
func (r *Reader) text(i uint64) (e entry, p textPart, err error) {
	if e, err = r.x.holding(TypeTexts, i); err != nil {
		return e, p, err
	}
	if e.count != 1 {
		return e, p, corrupt("TEXTS chunk of %d texts", e.count)
	}
	b, err := r.read(e)
	if err != nil {
		return e, p, err
	}
	x := fields{mode: reading, c: cursor{b: b}}
	p.fields(&x)
	if x.c.bad || len(p.Name) > MaxName {
		return e, p, corrupt("TEXTS chunk")
	}
	return e, p, nil
}
