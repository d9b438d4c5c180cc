package format

import (
	"fmt"
	"slices"
)

// stackEnc is the writer's tree of stacks, and the chunks that tell of what was
// added to it since the last ones.
type stackEnc struct {
	nodes   []rawNode // number FirstNode first
	table   []uint32  // open addressing: place in nodes + 1
	modules uint32    // written so far
	told    [][]byte  // their fields

	mod  moduleList
	b    []byte // payload of the STACK chunk at hand
	base int    // the first of nodes in it
	mb   []byte // of the MODULE chunk at hand
	mn   uint32 // modules in it
	body fields
}

// moduleList predicts the modules of the nodes of a STACK chunk: the one used last
// is first. It has the last offset and flags of each.
type moduleList struct {
	list  []moduleUse
	flags uint8 // of the last node
}

type moduleUse struct {
	no  ModuleNo
	off uint64
}

// moduleListMax bounds the list: what is beyond is forgotten.
const moduleListMax = 64

func (l *moduleList) reset() { l.list, l.flags = l.list[:0], 0 }

// front moves entry i to the front.
func (l *moduleList) front(i int) *moduleUse {
	u := l.list[i]
	copy(l.list[1:i+1], l.list[:i])
	l.list[0] = u
	return &l.list[0]
}

// add puts a module at the front.
func (l *moduleList) add(no ModuleNo) *moduleUse {
	if len(l.list) < moduleListMax {
		l.list = append(l.list, moduleUse{})
	}
	l.list[len(l.list)-1] = moduleUse{no: no}
	return l.front(len(l.list) - 1)
}

// What a node's module is told as.
const (
	nodeNewModule = 0 // one that is not in the list: its number follows
	nodeListed    = 1 // + place in the list
)

const nodeFlags = 1 // lowest bit of the parent: flags differ from the last

func (n *rawNode) append(b []byte, no StackNode, l *moduleList) []byte {
	d := uint64(no-n.parent) << 1
	if n.flags != l.flags {
		d |= nodeFlags
	}
	b = appendU(b, d)
	if n.flags != l.flags {
		b = append(b, n.flags)
		l.flags = n.flags
	}
	var u *moduleUse
	if i := slices.IndexFunc(l.list, func(u moduleUse) bool { return u.no == n.module }); i >= 0 {
		b = appendU(b, nodeListed+uint64(i))
		u = l.front(i)
	} else {
		b = appendU(b, nodeNewModule)
		b = appendU(b, uint64(n.module))
		u = l.add(n.module)
	}
	b = appendZZ(b, int64(n.off-u.off))
	u.off = n.off
	return b
}

func (n *rawNode) hash() uint64 {
	h := (uint64(n.parent) | uint64(n.module)<<32) * 0x9e3779b97f4a7c15
	h ^= n.off + uint64(n.flags)<<56
	h *= 0xbf58476d1ce4e5b9
	return h ^ h>>29
}

// node is the number of a node, which is made if it is new.
func (e *stackEnc) node(n rawNode) (StackNode, error) {
	if 4*len(e.nodes) >= 3*len(e.table) {
		e.grow()
	}
	mask := uint64(len(e.table) - 1)
	for i := n.hash() & mask; ; i = (i + 1) & mask {
		k := e.table[i]
		if k == 0 {
			if len(e.nodes) >= MaxNodes {
				return 0, overLimit("the number of stack nodes", uint64(len(e.nodes))+1, MaxNodes)
			}
			e.nodes = append(e.nodes, n)
			e.table[i] = uint32(len(e.nodes))
			no := FirstNode + StackNode(len(e.nodes)-1)
			if len(e.b) == 0 {
				e.mod.reset()
				e.base = len(e.nodes) - 1
			}
			e.b = n.append(e.b, no, &e.mod)
			return no, nil
		}
		if e.nodes[k-1] == n {
			return FirstNode + StackNode(k-1), nil
		}
	}
}

func (e *stackEnc) grow() {
	e.table = make([]uint32, max(1024, 2*len(e.table)))
	mask := uint64(len(e.table) - 1)
	for k := range e.nodes {
		i := e.nodes[k].hash() & mask
		for e.table[i] != 0 {
			i = (i + 1) & mask
		}
		e.table[i] = uint32(k + 1)
	}
}

// stackNodes is how many nodes a STACK chunk has at most; writers stay below it.
const stackNodes = 1 << 15

// Module writes a module, for the frames of stacks, and returns its number. It is for
// the caller to write each only once.
func (w *Writer) Module(m *Module) (ModuleNo, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := w.ready(); err != nil {
		return 0, err
	}
	e := &w.stacks
	if e.modules >= MaxModules {
		return 0, overLimit("the number of modules", uint64(e.modules)+1, MaxModules)
	}
	c := *m
	c.Path = c.Path[:min(len(c.Path), MaxName)]
	c.BuildID = c.BuildID[:min(len(c.BuildID), MaxBuildID)]
	c.GoBuildID = c.GoBuildID[:min(len(c.GoBuildID), MaxBuildID)]
	e.body.b = e.body.b[:0]
	c.fields(&e.body)
	e.told = append(e.told, slices.Clone(e.body.b))
	e.mb = appendStr(e.mb, e.body.b)
	e.modules++
	e.mn++
	if len(e.mb) >= groupState {
		w.putModules()
	}
	return ModuleNo(e.modules), nil
}

// Stack is the number of a stack, whose frames are given innermost first; Event.Stack
// takes it. caller, if not 0, is the stack that called the last of frames, and end does
// not count then; else end says why there is no further frame.
func (w *Writer) Stack(frames []RawFrame, caller StackNode, end StackEnd) (StackNode, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := w.ready(); err != nil {
		return 0, err
	}
	e := &w.stacks
	if caller == 0 {
		if end == StackUnknown || end >= numStackEnds {
			return 0, fmt.Errorf("format: stack without an end")
		}
		caller = StackNode(end)
	}
	if len(frames) > MaxDepth {
		return 0, overLimit("the depth of a stack", uint64(len(frames)), MaxDepth)
	}
	if !e.has(caller) {
		return 0, fmt.Errorf("format: stack %d is not known", caller)
	}
	for i := range slices.Backward(frames) {
		f := &frames[i]
		if uint32(f.Module) > e.modules {
			return 0, fmt.Errorf("format: module %d is not known", f.Module)
		}
		var err error
		if caller, err = e.node(rawNode{caller, f.Module, f.Offset, f.flags()}); err != nil {
			return 0, err
		}
		if len(e.b) >= groupState || len(e.nodes)-e.base >= stackNodes {
			w.putStacks()
		}
	}
	return caller, nil
}

func (e *stackEnc) has(n StackNode) bool {
	return n > 0 && (n < StackNode(numStackEnds) || n >= FirstNode && n-FirstNode < StackNode(len(e.nodes)))
}

// StackNodes is how many nodes the tree of stacks has.
func (w *Writer) StackNodes() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.stacks.nodes)
}

func (w *Writer) putModules() {
	e := &w.stacks
	if e.mn > 0 {
		w.out.put(chunk{typ: TypeModule, base: uint64(e.modules - e.mn), count: e.mn}, append(w.out.buffer(), e.mb...))
		e.mb, e.mn = e.mb[:0], 0
	}
}

// putStacks writes the modules and the nodes that the log does not have yet.
func (w *Writer) putStacks() {
	w.putModules()
	e := &w.stacks
	if len(e.b) > 0 {
		w.out.put(chunk{typ: TypeStack, base: uint64(e.base), count: uint32(len(e.nodes) - e.base)}, append(w.out.buffer(), e.b...))
		e.b = e.b[:0]
	}
}

// textPiece is how much of a text a chunk has.
const textPiece = 1 << 20

// Text writes a text, of at most MaxText bytes.
func (w *Writer) Text(t *Text) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := w.ready(); err != nil {
		return err
	}
	if len(t.Data) > MaxText {
		return overLimit("the size of a text", uint64(len(t.Data)), MaxText)
	}
	w.text(t)
	w.keep(t)
	return nil
}

func (w *Writer) text(t *Text) {
	for off := 0; off == 0 || off < len(t.Data); off += textPiece {
		p := textPart{Name: t.Name[:min(len(t.Name), MaxName)], MM: t.MM, Step: uint64(t.Step), Off: uint64(off), Size: uint64(len(t.Data))}
		p.Data = t.Data[off:min(off+textPiece, len(t.Data))]
		x := fields{b: w.out.buffer()}
		p.fields(&x)
		w.out.put(chunk{typ: TypeTexts, base: w.texts, count: 1}, x.b)
		w.texts++
	}
}

// textPart is the payload of a TEXTS chunk.
type textPart struct {
	Name string
	MM   uint32
	Step uint64
	Off  uint64 // of Data in the whole text
	Size uint64 // of the whole text
	Data []byte
}

func (p *textPart) fields(x *fields) {
	x.str("name", &p.Name)
	x.u32("address space", &p.MM)
	x.u("step", &p.Step)
	x.u("offset", &p.Off)
	x.u("size of the whole", &p.Size)
	x.bytes("bytes", &p.Data)
}
