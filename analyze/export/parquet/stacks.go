package parquet

import (
	"slices"

	"memtrace/analyze"
	"memtrace/format"
	"memtrace/replay"
)

// stackTables collect the stacks that rows point to.
type stackTables struct {
	rows    *table[stackRow]
	frames  *table[frameRow]
	used    map[format.StackNode]struct{}
	numbers map[frameKey]int64 // of frames, from 1
	buildID map[string]string  // by path
}

// frameKey tells frames apart: a place, and which of the functions that are inlined there.
type frameKey struct {
	module  format.ModuleNo
	pos     uint64
	inlined int
}

// use notes a stack.
func (s *stackTables) use(n format.StackNode) {
	if s.used == nil {
		s.used = map[format.StackNode]struct{}{}
	}
	s.used[n] = struct{}{}
}

// stackRows fills stacks and frames.
func (x *exporter) stackRows() error {
	s := &x.stacks
	if s.rows == nil && s.frames == nil && x.runs == nil {
		return nil
	}
	s.numbers, s.buildID = map[frameKey]int64{}, map[string]string{}
	var nodes []format.StackNode
	for n := range s.used {
		nodes = append(nodes, n)
	}
	slices.Sort(nodes)
	for _, n := range nodes {
		stack, err := x.t.Stack(n, true)
		if err != nil {
			return err
		}
		x.stack(n, stack)
	}
	return nil
}

// stack adds the rows of one stack.
func (x *exporter) stack(n format.StackNode, stack *replay.NamedStack) {
	s := &x.stacks
	site, known := analyze.CallSite(stack)
	depth := 0
	for i := range stack.Frames {
		f := &stack.Frames[i]
		s.buildID[f.Path] = f.BuildID
		for inlined := range max(1, len(f.Places)) {
			no := x.frame(f, inlined)
			if s.rows != nil {
				*s.rows.row() = stackRow{
					Run: x.o.Run, Stack: int64(n), Depth: int64(depth), Frame: no, Site: known && depth == site, How: f.How.String(), Ends: stack.End.String(),
				}
			}
			depth++
		}
	}
}

// frame is the number of a frame, whose row it adds if it is new.
func (x *exporter) frame(f *replay.NamedFrame, inlined int) int64 {
	s := &x.stacks
	k := frameKey{f.Frame.Module, f.Pos(), inlined}
	if no, known := s.numbers[k]; known {
		return no
	}
	no := int64(len(s.numbers)) + 1
	s.numbers[k] = no
	t := s.frames
	if t == nil {
		return no
	}
	r := t.row()
	*r = frameRow{
		Run: x.o.Run, Frame: no, Module: text(f.FrameName.Module(&f.Frame)), BuildID: t.text(f.BuildID), OffsetBytes: int64(f.Frame.Offset), Function: t.text(f.Function),
	}
	if inlined < len(f.Places) {
		p := &f.Places[inlined]
		r.Function, r.File = t.text(p.Function), t.text(p.File)
		if p.Line > 0 {
			r.Line = t.int(int64(p.Line))
		}
	}
	return no
}
