package symbol

import (
	"errors"
	"io"
	"strings"
)

// Place is a place in the source.
type Place struct {
	Function string // as the linker has it, "" if it is not known
	File     string // "" if it is not known
	Line     int    // 0 if it is not known
	Inlined  bool   // into the function of the next place
}

// Func is the function that an address is in.
type Func struct {
	Name  string // as the linker has it
	Start uint64 // virtual address as the file was linked
}

// Image is an ELF file together with the file that has what was stripped from it. It
// answers from what is read when it is asked for, and keeps that. Addresses are those the
// file was linked at. An Image is not safe for concurrent use.
type Image struct {
	main, debug *object // either may be nil, not both

	names    *nameTable
	plt      *stubs
	goTable  *goTable
	lines    *lineTable
	readName bool
	readLine bool
	places   map[uint64][]Place
	errs     []error
}

// OpenImage reads the headers of an ELF file. closer, which may be nil, is closed with
// the image.
func OpenImage(r io.ReaderAt, closer io.Closer) (*Image, error) {
	o, err := openObject(r)
	if err != nil {
		return nil, err
	}
	o.closer = closer
	return &Image{main: o}, nil
}

// Close closes the files.
func (m *Image) Close() error { return errors.Join(m.main.close(), m.debug.close()) }

// Err is what went wrong as symbols were read, nil if nothing did. Answers are those of
// what could be read.
func (m *Image) Err() error { return errors.Join(m.errs...) }

// BuildID is the file's build id in hexadecimal, "" if it has none.
func (m *Image) BuildID() string {
	if m.main != nil {
		return m.main.id
	}
	return m.debug.id
}

// objects are the files, the one with more symbols first.
func (m *Image) objects() []*object {
	var list []*object
	for _, o := range []*object{m.debug, m.main} {
		if o != nil {
			list = append(list, o)
		}
	}
	return list
}

func (m *Image) note(err error) {
	if err != nil && len(m.errs) < 16 {
		m.errs = append(m.errs, err)
	}
}

// load reads the tables of functions.
func (m *Image) load() {
	if m.readName {
		return
	}
	m.readName = true
	for _, o := range m.objects() {
		t, err := o.readNames()
		m.note(err)
		if t != nil && len(t.syms) > 0 && m.names == nil {
			m.names = t
		}
	}
	if m.main != nil {
		var err error
		m.plt, err = m.main.readStubs()
		m.note(err)
		m.goTable, err = m.main.readGo()
		m.note(err)
	}
}

// Func is the function that holds an address. A function ends where its size says: what
// lies behind it is of no function.
func (m *Image) Func(a uint64) (Func, bool) {
	m.load()
	if m.names != nil {
		if name, start, ok := m.names.find(a); ok && name != "" {
			return Func{name, start}, true
		}
	}
	if m.plt != nil {
		if name, start, ok := m.plt.find(a); ok {
			return Func{name, start}, true
		}
	}
	if m.goTable != nil {
		if name, start, ok := m.goTable.find(a); ok {
			return Func{name, start}, true
		}
	}
	return Func{}, false
}

// maxPlaces is how many answers are kept.
const maxPlaces = 1 << 18

// Places is where the code at an address comes from: the place itself first, then each
// that the one before was inlined into. The last is the function that Func finds. It is
// empty where no line is known.
func (m *Image) Places(a uint64) []Place {
	if p, ok := m.places[a]; ok {
		return p
	}
	p := m.find(a)
	if m.places == nil || len(m.places) >= maxPlaces {
		m.places = map[uint64][]Place{}
	}
	m.places[a] = p
	return p
}

func (m *Image) find(a uint64) []Place {
	if !m.readLine {
		m.readLine = true
		for _, o := range m.objects() {
			if m.lines == nil {
				var err error
				m.lines, err = o.readLines()
				m.note(err)
			}
		}
	}
	var p []Place
	if m.lines != nil {
		var err error
		p, err = m.lines.find(a)
		m.note(err)
	}
	if len(p) == 0 {
		m.load()
		if m.goTable != nil {
			return m.goTable.places(a)
		}
		return nil
	}
	// The symbol table has the names that programs are linked with, but calls a part of a
	// function that was moved away f.cold.
	last := &p[len(p)-1]
	if f, ok := m.Func(a); ok && (last.Function == "" || !strings.HasPrefix(f.Name, last.Function+".")) {
		last.Function = f.Name
	}
	return p
}

// Lookup finds a function or a variable by its name.
func (m *Image) Lookup(name string) (Symbol, bool) {
	for _, o := range m.objects() {
		s, ok, err := o.lookup(name)
		m.note(err)
		if ok {
			return s, true
		}
	}
	return Symbol{}, false
}

// Bias is what was added to the file's addresses when file offset off was mapped
// at address at; ok is false if no segment holds off.
func (m *Image) Bias(off, at uint64) (bias uint64, ok bool) {
	if m.main == nil {
		return 0, false
	}
	for _, l := range m.main.loads {
		if start := l.off &^ 4095; off >= start && off < l.off+l.filesz {
			return at - (l.vaddr&^4095 + off - start), true
		}
	}
	return 0, false
}
