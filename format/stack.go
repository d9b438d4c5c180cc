package format

// StackNode is a call stack of the log: a place in the tree of all stacks. A stack
// is its innermost frame and the node of its caller; 0 is no stack. Equal stacks of
// a log have the same number. Nodes below FirstNode are the ends of stacks: see
// StackEnd.
type StackNode uint32

// FirstNode is the first node that is a frame.
const FirstNode StackNode = 9

// StackEnd says why a stack has no further frame. The number is that of the node
// that stands for it.
type StackEnd uint8

// The ends of stacks. A stack is whole only with StackComplete.
const (
	StackUnknown    StackEnd = iota // never in a log
	StackComplete                   // the outermost frame has no caller
	StackDepth                      // there are more frames than were to be taken
	StackUnreadable                 // memory that was needed could not be read
	StackNoRule                     // nothing says where the caller of the last frame is
	StackLoop                       // the frames lead back to where they came from
	StackNodes                      // cut: the log has as many different stacks as were allowed
	numStackEnds
)

var stackEndNames = [numStackEnds]string{
	StackUnknown: "unknown", StackComplete: "complete", StackDepth: "depth", StackUnreadable: "unreadable",
	StackNoRule: "no rule", StackLoop: "loop", StackNodes: "too many stacks",
}

// String is the name of e in JSON and in tables. Ends of later versions are
// unknown.
func (e StackEnd) String() string {
	if e < numStackEnds {
		return stackEndNames[e]
	}
	return stackEndNames[StackUnknown]
}

// FrameHow says how a frame was found from the one that it called.
type FrameHow uint8

// The ways to find a frame, the surest first. FrameFP and FrameCode are guesses that
// were confirmed as far as could be: frames may be missing before them.
const (
	FrameCFI  FrameHow = iota // unwind tables; the innermost frame: its registers
	FrameGo                   // tables of the Go linker
	FrameFP                   // frame pointer
	FrameCode                 // the code was read
	numFrameHows
)

var frameHowNames = [numFrameHows]string{FrameCFI: "cfi", FrameGo: "go", FrameFP: "fp", FrameCode: "code"}

func (h FrameHow) String() string {
	if h < numFrameHows {
		return frameHowNames[h]
	}
	return "unknown"
}

// Guess says that a frame found so may have others before it that were not found.
func (h FrameHow) Guess() bool { return h >= FrameFP }

// ModuleNo is the number of a module in a log, from 1; 0 is none.
type ModuleNo uint32

// ModuleClass tells modules apart.
type ModuleClass uint8

// The classes of module.
const (
	ModuleELF  ModuleClass = iota // an ELF file
	ModuleFile                    // a file that is no ELF file, or whose header could not be read
	ModuleVDSO                    // the kernel's: an ELF image without a file
	ModuleAnon                    // memory of one address space without a file: code made at run time
	numModuleClasses
)

var moduleClassNames = [numModuleClasses]string{ModuleELF: "elf", ModuleFile: "file", ModuleVDSO: "vdso", ModuleAnon: "anonymous"}

func (c ModuleClass) String() string {
	if c < numModuleClasses {
		return moduleClassNames[c]
	}
	return "unknown"
}

// Module is what code belongs to: a file, or memory without one. Runs and processes
// share it: where it is mapped is not part of it.
type Module struct {
	Class ModuleClass
	// BuildID is of the file, GoBuildID what Go's linker gave it, both as bytes, ""
	// for none.
	BuildID   string
	GoBuildID string
	Path      string // as /proc/PID/maps has it, with " (deleted)"
	Major     uint32 // the device of the file
	Minor     uint32
	Inode     uint64
	Size      uint64 // of the file in bytes, 0 if it is not known or there is a BuildID
	Mtime     uint64 // of its last change, ns since 1970, likewise
	// TextAddr and TextOff are the virtual address and the file offset of the segment
	// with the code, as the program headers have them.
	TextAddr uint64
	TextOff  uint64
	MM       uint32 // of a ModuleAnon: its address space, else 0
}

// fields go at the end, as those of records.
func (m *Module) fields(x *fields) {
	x.u8("class", (*uint8)(&m.Class))
	x.str("build id", &m.BuildID)
	x.str("Go build id", &m.GoBuildID)
	x.str("path", &m.Path)
	x.u32("major", &m.Major)
	x.u32("minor", &m.Minor)
	x.u("inode", &m.Inode)
	x.u("size", &m.Size)
	x.u("ns of its last change", &m.Mtime)
	x.u("address of the code", &m.TextAddr)
	x.u("its file offset", &m.TextOff)
	x.u32("address space", &m.MM)
}

// RawFrame is a frame as it is written.
type RawFrame struct {
	Module ModuleNo // 0: the address is in no mapping
	// Offset is where in the file of the module the frame's instruction pointer is;
	// of a ModuleAnon and without a module it is the address itself.
	Offset uint64
	How    FrameHow
	// Signal says that a signal interrupted the frame: the pointer is where it goes on,
	// no return address.
	Signal bool
	// Inexact says that frames may be missing between this one and the one before it
	// (that it called), though How is sure.
	Inexact bool
}

// Frame is a frame of a stack.
type Frame struct {
	RawFrame
	Mod *Module // of Module; nil without
	// Addr is the instruction pointer as a virtual address of the module, as its symbols
	// have them; of a ModuleAnon and without a module that of the process.
	Addr uint64
	// Return says that Addr is a return address: the call that goes on here is the
	// instruction before it. Else it is where the frame runs or was interrupted.
	Return bool
}

// Pos is the address at which to look for the function and line of f: a byte of the
// call where Addr is a return address, which may be the first of another function.
func (f *Frame) Pos() uint64 {
	if f.Return && f.Addr > 0 {
		return f.Addr - 1
	}
	return f.Addr
}

// Stack is a call stack.
type Stack struct {
	Node   StackNode
	Frames []Frame // the innermost first
	End    StackEnd
}

// Text is something that the recorder kept word for word because it would be gone
// when the log is read: the names of code made at run time ("perf.map") or the
// kernel's code of an address space ("vdso").
type Text struct {
	Name string
	MM   uint32 // the address space that it is of
	Step Step   // that it was taken at
	Data []byte
}

// Flags of a frame as it is in a STACK chunk: the two low bits are its How.
const (
	markHow     = 3
	markSignal  = 8
	markInexact = 16
)

func (f *RawFrame) flags() uint8 {
	b := uint8(f.How) & markHow
	if f.Signal {
		b |= markSignal
	}
	if f.Inexact {
		b |= markInexact
	}
	return b
}

func (f *RawFrame) setFlags(b uint8) {
	f.How, f.Signal, f.Inexact = FrameHow(b&markHow), b&markSignal != 0, b&markInexact != 0
}

// rawNode is a node of the tree of stacks.
type rawNode struct {
	parent StackNode
	module ModuleNo
	off    uint64
	flags  uint8
}
