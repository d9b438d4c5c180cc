package replay

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"iter"
	"os"
	"strings"
	"sync"
	"time"

	"memtrace/format"
	"memtrace/format/addr"
	"memtrace/format/vma"
	"memtrace/replay/symbol"
)

// SymbolOptions say where names come from, and how they look.
type SymbolOptions struct {
	// Dirs have files of the machine that was recorded, by build id, path or name.
	Dirs []string
	// Fetch gets a file from a server by its build id; nil: none is asked.
	Fetch func(id, kind string) (symbol.Opened, error)
	// Mangled leaves names as the linker has them.
	Mangled bool
}

// Symbols finds places by the names that programs and libraries give them, and
// names by places. It keeps what it has read, and the files open. It is safe for
// concurrent use.
type Symbols struct {
	Start time.Time // of the recording: files changed since are not trusted
	SymbolOptions
	texts iter.Seq2[*format.Text, error] // that the log keeps; may be nil
	files *fileCache                     // where mapped files are; nil: nowhere but on this machine

	mu      sync.Mutex
	images  map[fileKey]*namedImage
	modules map[format.ModuleNo]*symbol.Image // nil: no file that is surely the right one
	whys    map[format.ModuleNo]error
	frames  map[frameKey]*FrameName
	kept    *keptTexts
}

// namedImage is a file with the names that were looked up in it.
type namedImage struct {
	*symbol.Image // nil: it has no symbols that can be read
	found         map[string]*symbol.Symbol
}

// keptTexts are the names that the log has itself.
type keptTexts struct {
	jitted map[uint32]*symbol.PerfMap // by address space
	vdso   []*symbol.Image
}

type frameKey struct {
	module format.ModuleNo
	addr   uint64
	back   bool
}

// maxFrames is how many names of frames are kept.
const maxFrames = 1 << 20

// FrameName is what the place of a frame is called.
type FrameName struct {
	Path     string // of the file, "[vdso]", "" for memory without a file
	BuildID  string // of the file, in hexadecimal
	Function string // with its parameters, "" if it is not known
	Short    string // without them
	Offset   uint64 // of the place, from the begin of the function
	// Places are the lines that the code is of: that of the place itself first, then of
	// each call that was inlined there. The last is of Function. Empty where no line is
	// known, or none was asked for.
	Places []Place
	lined  bool
}

// Place is a line of the source.
type Place struct {
	Function, Short string
	File            string // "" if it is not known
	Line            int
	Inlined         bool // into the function of the next
}

// Lookup finds a symbol in the files mapped in a space, the one at the lowest
// addresses first, and where it is there.
func (y *Symbols) Lookup(name string, s *AddressSpace) (a addr.Addr, size uint64, ok bool) {
	if y == nil || s == nil {
		return 0, 0, false
	}
	y.mu.Lock()
	defer y.mu.Unlock()
	seen := map[fileKey]bool{}
	for v := range s.Mappings() {
		k := fileKey{v.Name, v.Dev, v.Inode}
		if !v.File() || seen[k] {
			continue
		}
		seen[k] = true
		m := y.image(k)
		sym := m.lookup(name)
		if sym == nil {
			continue
		}
		if bias, ok := m.Bias(v.Offset, uint64(v.Start)); ok {
			return addr.Addr(bias + sym.Value), sym.Size, true
		}
	}
	return 0, 0, false
}

func (y *Symbols) finder() *symbol.Finder {
	f := &symbol.Finder{Open: openFor, Dirs: y.Dirs, Debug: symbol.DebugDirs, Fetch: y.Fetch}
	if y.files != nil {
		f.Packed = func(w *symbol.Wanted, debug bool) (symbol.Opened, error) {
			if debug {
				return y.files.packed.find(format.PackedDebug, w.BuildID)
			}
			if f, err := y.files.packed.find(format.PackedMapped, w.BuildID, w.GoID); f != nil || err != nil {
				return f, err
			}
			return y.files.packed.find(format.PackedNamed, w.BuildID, w.GoID)
		}
	}
	return f
}

// own opens a mapped file of a log, or of this machine if right says that it is that file.
func (y *Symbols) own(k fileKey, right func(os.FileInfo) error) (symbol.Opened, error) {
	here := func() (*MappedFile, error) {
		if right == nil {
			return openMapped(k, y.Start)
		}
		return openQuiet(k.name, right)
	}
	if y.files != nil {
		if f, err := y.files.packed.open(k, here); f != nil || err != nil {
			return f, err
		}
	}
	return here()
}

func (y *Symbols) image(k fileKey) *namedImage {
	m, known := y.images[k]
	if known {
		return m
	}
	m = &namedImage{found: map[string]*symbol.Symbol{}}
	m.Image, _ = y.finder().Find(symbol.Wanted{Path: k.name, Own: func() (symbol.Opened, error) { return y.own(k, nil) }})
	if y.images == nil {
		y.images = map[fileKey]*namedImage{}
	}
	y.images[k] = m
	return m
}

// openFor opens a file for its symbols.
func openFor(name string) (symbol.Opened, error) { return OpenRegular(name) }

func (m *namedImage) lookup(name string) *symbol.Symbol {
	if m.Image == nil {
		return nil
	}
	s, known := m.found[name]
	if !known {
		if v, ok := m.Lookup(name); ok {
			s = &v
		}
		m.found[name] = s
	}
	return s
}

// Close closes the files.
func (y *Symbols) Close() {
	y.mu.Lock()
	defer y.mu.Unlock()
	for _, m := range y.images {
		if m.Image != nil {
			_ = m.Close()
		}
	}
	for _, m := range y.modules {
		if m != nil {
			_ = m.Close()
		}
	}
	y.images, y.modules, y.whys, y.frames = nil, nil, nil, nil
}

// Name is what a frame's place is called. lines asks for the lines, which takes longer.
// The answer is not to be changed.
func (y *Symbols) Name(f *format.Frame, lines bool) (*FrameName, error) {
	y.mu.Lock()
	defer y.mu.Unlock()
	k := frameKey{f.Module, f.Addr, f.Return}
	n := y.frames[k]
	if n == nil {
		n = &FrameName{}
		if f.Mod != nil && f.Mod.Class != format.ModuleAnon {
			n.Path, n.BuildID = f.Mod.Path, hex.EncodeToString([]byte(f.Mod.BuildID))
		}
		if err := y.name(n, f); err != nil {
			return nil, err
		}
		if y.frames == nil || len(y.frames) >= maxFrames {
			y.frames = map[frameKey]*FrameName{}
		}
		y.frames[k] = n
	}
	if !lines || n.lined {
		return n, nil
	}
	n.lined = true
	m, err := y.module(f)
	if m == nil || err != nil {
		return n, err
	}
	for _, p := range m.Places(f.Pos()) {
		full, short := y.show(p.Function)
		n.Places = append(n.Places, Place{full, short, p.File, p.Line, p.Inlined})
	}
	return n, nil
}

// name finds the function of a frame.
func (y *Symbols) name(n *FrameName, f *format.Frame) error {
	if f.Mod == nil {
		return nil
	}
	if f.Mod.Class == format.ModuleAnon {
		kept, err := y.logged()
		if err != nil {
			return err
		}
		if m := kept.jitted[f.Mod.MM]; m != nil {
			if name, start, ok := m.Find(f.Pos()); ok {
				n.Function, n.Short, n.Offset = name, name, f.Addr-start
			}
		}
		return nil
	}
	m, err := y.module(f)
	if m == nil || err != nil {
		return err
	}
	if fn, ok := m.Func(f.Pos()); ok {
		n.Function, n.Short = y.show(fn.Name)
		n.Offset = f.Addr - fn.Start
	}
	return nil
}

// show is how a name is shown, with parameters and without.
func (y *Symbols) show(name string) (full, short string) {
	if y.Mangled {
		return name, name
	}
	return symbol.Demangle(name), symbol.Short(name)
}

// maxModules is how many files are kept open.
const maxModules = 1000

// module finds the file of a frame's module; nil if there is none that is surely the
// right one.
func (y *Symbols) module(f *format.Frame) (*symbol.Image, error) {
	if f.Mod == nil || f.Mod.Class == format.ModuleAnon {
		return nil, nil
	}
	if m, known := y.modules[f.Module]; known {
		return m, nil
	}
	if y.modules == nil {
		y.modules, y.whys = map[format.ModuleNo]*symbol.Image{}, map[format.ModuleNo]error{}
	}
	if len(y.modules) >= maxModules {
		return nil, nil
	}
	var m *symbol.Image
	switch mod := f.Mod; mod.Class {
	case format.ModuleVDSO:
		kept, err := y.logged()
		if err != nil {
			return nil, err
		}
		for _, v := range kept.vdso {
			if v.BuildID() == hex.EncodeToString([]byte(mod.BuildID)) || mod.BuildID == "" && len(kept.vdso) == 1 {
				m = v
			}
		}
	case format.ModuleELF:
		k := fileKey{mod.Path, vma.Dev{Major: mod.Major, Minor: mod.Minor}, mod.Inode}
		var err error
		m, err = y.finder().Find(symbol.Wanted{
			BuildID: hex.EncodeToString([]byte(mod.BuildID)), GoID: hex.EncodeToString([]byte(mod.GoBuildID)), Path: mod.Path, Size: mod.Size,
			Own: func() (symbol.Opened, error) {
				return y.own(k, func(fi os.FileInfo) error {
					if mod.Mtime != 0 && uint64(fi.ModTime().UnixNano()) != mod.Mtime || mod.Size != 0 && uint64(fi.Size()) != mod.Size {
						return fmt.Errorf("%s was changed after the recording began", mod.Path)
					}
					return k.is(fi, y.Start)
				})
			},
		})
		if err != nil {
			y.whys[f.Module] = err
		}
	}
	y.modules[f.Module] = m
	return m, nil
}

// logged reads the names that the log has itself.
func (y *Symbols) logged() (*keptTexts, error) {
	if y.kept != nil {
		return y.kept, nil
	}
	k := &keptTexts{jitted: map[uint32]*symbol.PerfMap{}}
	if y.texts != nil {
		for t, err := range y.texts {
			if err != nil {
				return nil, err
			}
			switch t.Name {
			case "perf.map":
				k.jitted[t.MM] = symbol.ReadPerfMap(t.Data)
			case "vdso":
				if m, err := symbol.OpenImage(bytes.NewReader(t.Data), nil); err == nil {
					k.vdso = append(k.vdso, m)
				}
			}
		}
	}
	y.kept = k
	return k, nil
}

// Module is how the module of a frame is shown.
func (n *FrameName) Module(f *format.Frame) string {
	switch {
	case n.Path != "":
		return n.Path
	case f.Mod != nil && f.Mod.Class == format.ModuleAnon:
		return "[anon]"
	}
	return "[unmapped]"
}

// Site is a pattern of functions, files or lines that a stack may go through.
type Site struct {
	pattern string
	line    bool
}

// ParseSite reads a pattern: a function with or without its parameters, a file of the
// program by its path or its name, or a line of the source, FILE:LINE. * stands for any
// characters, ? for one.
func ParseSite(s string) (*Site, error) {
	if s == "" {
		return nil, fmt.Errorf("an empty pattern is no site")
	}
	i := strings.LastIndexByte(s, ':')
	line := i > 0 && i < len(s)-1 && s[i-1] != ':' && strings.Trim(s[i+1:], "0123456789*?") == ""
	return &Site{s, line}, nil
}

// matches says whether a place is one of the site's.
func (p *Site) matches(n *FrameName) bool {
	if !p.line {
		if Like(p.pattern, n.Path) || Like(p.pattern, base(n.Path)) {
			return n.Path != ""
		}
		if n.Function != "" && (Like(p.pattern, n.Short) || Like(p.pattern, n.Function)) {
			return true
		}
	}
	for _, at := range n.Places {
		if p.line {
			where := fmt.Sprintf("%s:%d", at.File, at.Line)
			if at.File != "" && (Like(p.pattern, where) || Like(p.pattern, base(where))) {
				return true
			}
		} else if at.Short != "" && (Like(p.pattern, at.Short) || Like(p.pattern, at.Function)) {
			return true
		}
	}
	return false
}

func base(path string) string { return path[strings.LastIndexByte(path, '/')+1:] }

// Like says whether a text is like a pattern, in which * stands for any characters and
// ? for one.
func Like(pattern, s string) bool {
	// back is where to go on if a star has to stand for one character more.
	back, from := -1, 0
	p, i := 0, 0
	for i < len(s) {
		switch {
		case p < len(pattern) && pattern[p] == '*':
			back, from = p, i
			p++
		case p < len(pattern) && (pattern[p] == '?' || pattern[p] == s[i]):
			p, i = p+1, i+1
		case back >= 0:
			from++
			p, i = back+1, from
		default:
			return false
		}
	}
	return strings.Trim(pattern[p:], "*") == ""
}
