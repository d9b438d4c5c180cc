package call

import (
	"strings"
	"sync"
)

// printers are those of what is asked of millions of calls.
var printers = sync.Pool{New: func() any { return new(printer) }}

// Files calls f for each file that the call names: by a path, made absolute where the
// directory is known, or by a descriptor whose name is known. A directory that a path
// starts from is none.
func (c *Call) Files(f func(name string, byFD bool)) {
	if s := lookup(c.Arch, c.Nr); s == nil || c.FD == nil || s.mux == nil && !s.namesFile() {
		return
	}
	p := printers.Get().(*printer)
	defer printers.Put(p)
	p.init(c, nil)
	dir := int32(AtFDCWD)
	for i := range p.sig.words {
		w := &p.sig.words[i]
		switch w.def {
		case dirFDWord:
			dir = int32(p.args[w.reg])
		case pathWord:
			b := p.buf(w.reg, false)
			if b == nil || len(b.Data) == 0 {
				if dir >= 0 {
					p.named(dir, f) // AT_EMPTY_PATH
				}
				continue
			}
			name := string(b.Data)
			if base := c.FD(dir); name[0] == '/' || strings.HasPrefix(base, "/") {
				if name[0] != '/' {
					name = base + "/" + name
				}
				name = cleanPath(name)
			}
			f(name, false)
		case fdWord:
			p.named(int32(p.args[w.reg]), f)
		}
	}
}

// ArgFDs calls f for each descriptor among the arguments; dir says that a path starts there.
func (c *Call) ArgFDs(f func(fd int32, dir bool)) {
	if lookup(c.Arch, c.Nr) == nil {
		return
	}
	p := printers.Get().(*printer)
	defer printers.Put(p)
	p.init(c, nil)
	for i := range p.sig.words {
		if w := &p.sig.words[i]; w.def == fdWord || w.def == dirFDWord {
			f(int32(p.args[w.reg]), w.def == dirFDWord)
		}
	}
}

// namesFile says whether an argument may name a file.
func (s *sig) namesFile() bool {
	for i := range s.words {
		if d := s.words[i].def; d == pathWord || d == fdWord {
			return true
		}
	}
	return false
}

// named calls f with the name of a descriptor, if it has one.
func (p *printer) named(fd int32, f func(name string, byFD bool)) {
	if fd < 0 {
		return
	}
	if name := p.c.FD(fd); name != "" {
		f(name, true)
	}
}
