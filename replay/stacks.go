package replay

import (
	"fmt"
	"slices"
	"strconv"

	"memtrace/format"
)

// StackDetail is how much of a call stack is shown.
type StackDetail uint8

// The details.
const (
	NoStack    StackDetail = iota
	StackNames             // functions
	StackLines             // and lines of the source, with calls that were inlined
)

// NamedFrame is a frame and what its place is called.
type NamedFrame struct {
	format.Frame
	*FrameName
}

// NamedStack is a call stack with names, the innermost frame first.
type NamedStack struct {
	Frames []NamedFrame
	End    format.StackEnd
}

// UseSymbols says where names come from. It is to be called before any is asked for.
func (t *Trace) UseSymbols(o SymbolOptions) { t.symbols.SymbolOptions = o }

// Symbols are the names of the log's programs.
func (t *Trace) Symbols() *Symbols { return t.symbols }

// Stack is the call stack that an event has (Event.Stack), with names. An event without
// one has no frames.
func (t *Trace) Stack(n format.StackNode, lines bool) (*NamedStack, error) {
	s, err := t.r.Stack(n)
	if err != nil {
		return nil, err
	}
	return t.symbols.Stack(s, lines)
}

// Stack names the frames of a stack.
func (y *Symbols) Stack(s *format.Stack, lines bool) (*NamedStack, error) {
	named := &NamedStack{Frames: make([]NamedFrame, len(s.Frames)), End: s.End}
	for i := range s.Frames {
		name, err := y.Name(&s.Frames[i], lines)
		if err != nil {
			return nil, err
		}
		named.Frames[i] = NamedFrame{s.Frames[i], name}
	}
	return named, nil
}

// StackFrame is the innermost frame of a stack and the stack of its caller; see
// format.Reader.
func (t *Trace) StackFrame(n format.StackNode) (format.Frame, format.StackNode, error) {
	return t.r.StackFrame(n)
}

// HasStacks says whether stacks were taken when the log was recorded, if only of signals
// that ended a process.
func (t *Trace) HasStacks() bool { return t.Header().Stacks }

// HasCallStacks says whether stacks of calls were taken.
func (t *Trace) HasCallStacks() bool {
	return t.HasStacks() && !slices.Contains(t.Header().Options, "stacks=none")
}

// Stack ends as they are shown: what follows the last frame.
var stackEndText = [...]string{
	format.StackUnknown:    "why it ends is not known",
	format.StackDepth:      "cut: there are more frames than were to be taken",
	format.StackUnreadable: "cut: memory that leads to the caller could not be read",
	format.StackNoRule:     "cut: nothing says where the caller is",
	format.StackLoop:       "cut: the frames lead back to where they came from",
	format.StackNodes:      "cut: there were too many different stacks",
}

// EndText says why a stack has no further frame, "" if it is whole.
func (s *NamedStack) EndText() string {
	if s.End == format.StackComplete {
		return ""
	}
	if int(s.End) < len(stackEndText) && stackEndText[s.End] != "" {
		return stackEndText[s.End]
	}
	return stackEndText[format.StackUnknown]
}

// Append appends a line for each frame, each after a newline, in strace's notation:
// "/usr/lib/libc.so.6(mmap+0x26) [0x101e22]", the offset in the file in brackets. A
// frame before which others may be missing begins with "?" where others have ">". With
// lines, each has the line of the source, and each call that was inlined a line of its
// own.
func (s *NamedStack) Append(b []byte, detail StackDetail) []byte {
	for i := range s.Frames {
		f := &s.Frames[i]
		if detail >= StackLines && len(f.Places) > 1 {
			for _, p := range f.Places[:len(f.Places)-1] {
				b = f.mark(b)
				b = append(append(append(b, '('), Escape(short(p.Function))...), ") (inlined)"...)
				b = p.append(b)
			}
		}
		b = f.mark(b)
		b = append(b, '(')
		if f.Function != "" {
			b = append(b, Escape(short(f.Function))...)
			b = append(b, "+0x"...)
			b = strconv.AppendUint(b, f.Offset, 16)
		}
		b = append(b, ") [0x"...)
		b = strconv.AppendUint(b, f.Frame.Offset, 16)
		b = append(b, ']')
		if detail < StackLines {
			continue
		}
		if n := len(f.Places); n > 0 {
			b = f.Places[n-1].append(b)
		}
		if f.How.Guess() {
			b = fmt.Appendf(b, " {%s}", f.How)
		}
		if f.Signal {
			b = append(b, " {interrupted by a signal}"...)
		}
	}
	if end := s.EndText(); end != "" && (len(s.Frames) > 0 || s.End != format.StackUnknown) {
		b = append(append(b, "\n > ... "...), end...)
	}
	return b
}

// mark begins the line of a frame.
func (f *NamedFrame) mark(b []byte) []byte {
	if f.How.Guess() || f.Inexact {
		b = append(b, "\n ? "...)
	} else {
		b = append(b, "\n > "...)
	}
	return append(b, Escape(short(f.FrameName.Module(&f.Frame)))...)
}

func (p *Place) append(b []byte) []byte {
	if p.File == "" {
		return b
	}
	return fmt.Appendf(b, " %s:%d", Escape(short(p.File)), p.Line)
}

// stackFields are the fields of an event's stack.
func (p *Printer) stackFields(f *fieldList, n format.StackNode) {
	if n == 0 || p.Stacks == NoStack || p.t == nil {
		return
	}
	s, err := p.t.Stack(n, p.Stacks >= StackLines)
	if err != nil {
		p.failed(err)
		return
	}
	f.list("stack", s.fields(p.Stacks))
	f.text("stack_end", s.End.String())
}

// fields are the frames as objects.
func (s *NamedStack) fields(detail StackDetail) []Field {
	list := make(fieldList, 0, len(s.Frames))
	for i := range s.Frames {
		f := &s.Frames[i]
		object := func(fill func(*fieldList)) {
			var of fieldList
			of.text("module", short(f.FrameName.Module(&f.Frame)))
			if f.BuildID != "" {
				of.text("build_id", f.BuildID)
			}
			fill(&of)
			list = append(list, Field{"", Value{Kind: ValueObject, Fields: of}})
		}
		if detail >= StackLines && len(f.Places) > 1 {
			for _, p := range f.Places[:len(f.Places)-1] {
				object(func(of *fieldList) {
					of.text("function", short(p.Function))
					p.fields(of)
					of.bool("inlined", true)
				})
			}
		}
		object(func(of *fieldList) {
			of.hex("offset", f.Frame.Offset)
			if f.Function != "" {
				of.text("function", short(f.Function))
				of.hex("function_offset", f.Offset)
			}
			if n := len(f.Places); detail >= StackLines && n > 0 {
				f.Places[n-1].fields(of)
			}
			of.text("how", f.How.String())
			if f.Signal {
				of.bool("signal", true)
			}
			if f.Inexact {
				of.bool("inexact", true)
			}
		})
	}
	return list
}

func (p *Place) fields(of *fieldList) {
	if p.File != "" {
		of.text("file", short(p.File))
		of.uint("line", uint64(p.Line))
	}
}

// siteFilter answers which stacks go through a site. Each node is looked at once.
type siteFilter struct {
	t    *Trace
	site *Site
	is   map[format.StackNode]bool
}

// has says whether a stack goes through the site.
func (x *siteFilter) has(n format.StackNode) (bool, error) {
	var path []format.StackNode
	found := false
	for n >= format.FirstNode {
		if is, known := x.is[n]; known {
			found = is
			break
		}
		path = append(path, n)
		if len(path) > format.MaxDepth {
			return false, fmt.Errorf("a stack of more than %d frames", format.MaxDepth)
		}
		f, caller, err := x.t.StackFrame(n)
		if err != nil {
			return false, err
		}
		name, err := x.t.symbols.Name(&f, true)
		if err != nil {
			return false, err
		}
		if x.site.matches(name) {
			found = true
			break
		}
		n = caller
	}
	for _, n := range path {
		x.is[n] = found
	}
	return found, nil
}
