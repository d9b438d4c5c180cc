package symbol

import (
	"debug/elf"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"path"
	"path/filepath"
	"strings"
)

// Opened is a file that is open for reading.
type Opened interface {
	io.ReaderAt
	io.Closer
}

// Wanted is the file that is looked for.
type Wanted struct {
	BuildID string // in hexadecimal, "" if it has none or none is known
	GoID    string // what the Go toolchain gave it, in hexadecimal
	Path    string // where it was, "" if it was no file
	Size    uint64 // 0: not known
	// Own opens the file at Path if it is surely the one that is wanted, by device, inode
	// and the time of its last change: for files without a build id. Nil: nobody can tell.
	Own func() (Opened, error)
}

// Finder finds the files that have symbols. A file counts only if it is surely the one
// that is wanted: its build id says so.
type Finder struct {
	// Open opens a regular file of this machine.
	Open func(name string) (Opened, error)
	// Dirs are searched too: each has .build-id/xx/rest as /usr/lib/debug has it, or
	// files at the paths that they had, or by their names.
	Dirs []string
	// Debug are where separate debug files lie, as /usr/lib/debug.
	Debug []string
	// Packed opens what the log has of a file, or of its debug file. It gives nil if that is
	// nothing. Nil: the log has no files.
	Packed func(w *Wanted, debug bool) (Opened, error)
	// Fetch gets a file by its build id from a server, "debuginfo" or "executable". Nil:
	// no server is asked.
	Fetch func(id, kind string) (Opened, error)
}

// DebugDirs are where distributions put separate debug files.
var DebugDirs = []string{"/usr/lib/debug"}

// ErrNoFile says that no file was found that is surely the one that is wanted.
var ErrNoFile = errors.New("no file with this build id was found")

const deleted = " (deleted)"

// Find finds what has the symbols of a file: the file itself, and its separate debug
// file. One of them is enough.
func (f *Finder) Find(w Wanted) (*Image, error) {
	main, why := f.own(w)
	m := &Image{main: main}
	if main == nil || !main.whole() {
		m.debug = f.debugFile(w, main)
	}
	if m.main == nil && m.debug == nil {
		return nil, why
	}
	return m, nil
}

// whole says whether a file has all symbols and lines: no other is looked for.
func (o *object) whole() bool {
	info := o.elf.Section(".debug_info")
	if info == nil {
		info = o.elf.Section(".zdebug_info")
	}
	return info != nil && o.elf.Section(".symtab") != nil
}

// File opens a file with the build id of the one that is wanted.
func (f *Finder) File(w Wanted) (Opened, error) {
	o, err := f.own(w)
	if err != nil {
		return nil, err
	}
	return o.closer.(Opened), nil
}

// DebugFile opens the separate debug file of a file, and says which build id it has, as bytes. It gives nil if the file needs none, or
// none is found.
func (f *Finder) DebugFile(w Wanted) (r Opened, id string) {
	main, _ := f.own(w) // it is not needed
	if main != nil {
		defer func() { _ = main.close() }()
		if main.whole() {
			return nil, ""
		}
	}
	o := f.debugFile(w, main)
	if o == nil {
		return nil, ""
	}
	gnu, _ := hex.DecodeString(o.id) // it was made of bytes
	return o.closer.(Opened), string(gnu)
}

// own finds the file itself.
func (f *Finder) own(w Wanted) (*object, error) {
	name := strings.TrimSuffix(w.Path, deleted)
	here := strings.HasPrefix(name, "/")
	why := ErrNoFile
	switch {
	case w.BuildID == "" && w.GoID == "":
		if here && w.Own != nil {
			o, err := open(w.Own())
			if err == nil {
				return o, nil
			}
			why = err
		}
		if !here || w.Size == 0 {
			return nil, why
		}
		// Nothing tells a file without a build id in a directory that was given from
		// another but its size.
		for _, d := range f.Dirs {
			o := f.try(under(d, name), func(o *object) bool { return o.id == "" && o.sizeIs(w.Size) })
			if o != nil {
				return o, nil
			}
		}
		return nil, why
	case f.Packed != nil:
		if o := f.packed(&w, false, w.is); o != nil {
			return o, nil
		}
	}
	if here {
		if o := f.try(name, w.is); o != nil {
			return o, nil
		}
		why = fmt.Errorf("%s here is not the file that ran: %w", name, ErrNoFile)
	}
	for _, d := range f.Dirs {
		for _, n := range []string{idPath(d, w.BuildID, ""), under(d, name), under(d, path.Base("/"+name))} {
			if o := f.try(n, w.is); o != nil && !o.stripped() {
				return o, nil
			}
		}
	}
	if f.Fetch != nil && w.BuildID != "" {
		o, err := open(f.Fetch(w.BuildID, "executable"))
		if err == nil && w.is(o) {
			return o, nil
		}
		if err == nil {
			_ = o.close()
		}
	}
	return nil, why
}

// is says whether an opened file is the one that is wanted.
func (w *Wanted) is(o *object) bool {
	if w.BuildID != "" {
		return o.id == w.BuildID
	}
	return w.GoID != "" && o.goID == w.GoID
}

// stripped says whether a file is what a linker or objcopy put aside: headers without
// code.
func (o *object) stripped() bool {
	for _, c := range o.code {
		if c.sec.Type != elf.SHT_NOBITS {
			return false
		}
	}
	return true
}

// debugFile finds the separate debug file of a file, whose main part need not be there.
func (f *Finder) debugFile(w Wanted, main *object) *object {
	id := w.BuildID
	if id == "" && main != nil {
		id = main.id
	}
	if id != "" {
		same := func(o *object) bool { return o.id == id }
		if o := f.packed(&Wanted{BuildID: id}, true, same); o != nil {
			return o
		}
		for _, d := range f.Dirs {
			base := path.Base("/" + strings.TrimSuffix(w.Path, deleted))
			for _, n := range []string{idPath(d, id, ".debug"), idPath(d, id, ""), under(d, base+".debug"), under(d, base)} {
				if o := f.try(n, same); o != nil && (main == nil || o.elf.Section(".symtab") != nil) {
					return o
				}
			}
		}
		for _, d := range f.Debug {
			if o := f.try(idPath(d, id, ".debug"), same); o != nil {
				return o
			}
		}
	}
	if o := f.linked(w, main, id); o != nil {
		return o
	}
	if f.Fetch != nil && id != "" {
		o, err := open(f.Fetch(id, "debuginfo"))
		if err == nil && o.id == id {
			return o
		}
		if err == nil {
			_ = o.close()
		}
	}
	return nil
}

// linked finds the debug file that a file names.
func (f *Finder) linked(w Wanted, main *object, id string) *object {
	if main == nil {
		return nil
	}
	link, crc, ok := main.debugLink()
	name := strings.TrimSuffix(w.Path, deleted)
	if !ok || !strings.HasPrefix(name, "/") {
		return nil
	}
	dir := path.Dir(name)
	names := []string{path.Join(dir, link), path.Join(dir, ".debug", link)}
	for _, d := range f.Dirs {
		names = append(names, under(d, path.Join(dir, link)), under(d, link))
	}
	for _, d := range f.Debug {
		names = append(names, under(d, path.Join(dir, link)))
	}
	for _, n := range names {
		o := f.try(n, func(o *object) bool {
			if id != "" && o.id != "" {
				return o.id == id
			}
			return n != name && o.checksum() == crc
		})
		if o != nil {
			return o
		}
	}
	return nil
}

// packed opens what the log has of a file if it is the right one.
func (f *Finder) packed(w *Wanted, debug bool, right func(*object) bool) *object {
	if f.Packed == nil {
		return nil
	}
	r, err := f.Packed(w, debug)
	if r == nil {
		return nil
	}
	o, err := open(r, err)
	if err != nil {
		return nil
	}
	if !right(o) {
		_ = o.close()
		return nil
	}
	return o
}

// try opens a file if it is there and is the right one.
func (f *Finder) try(name string, right func(*object) bool) *object {
	if name == "" || f.Open == nil {
		return nil
	}
	o, err := open(f.Open(name))
	if err != nil {
		return nil
	}
	if !right(o) {
		_ = o.close()
		return nil
	}
	return o
}

func open(r Opened, err error) (*object, error) {
	if err != nil {
		return nil, err
	}
	o, err := openObject(r)
	if err != nil {
		_ = r.Close()
		return nil, err
	}
	o.closer = r
	return o, nil
}

// under is where a path of the machine that was recorded is below a directory.
func under(dir, name string) string {
	return filepath.Join(dir, filepath.FromSlash(path.Clean("/"+name)))
}

// idPath is where a file of a build id lies below a directory.
func idPath(dir, id, ext string) string {
	if len(id) < 4 {
		return ""
	}
	return filepath.Join(dir, ".build-id", id[:2], id[2:]+ext)
}

// sizeIs says whether a file has n bytes.
func (o *object) sizeIs(n uint64) bool {
	s, ok := o.r.(interface{ Size() int64 })
	return ok && uint64(s.Size()) == n
}

// checksum is the CRC of the whole file, as .gnu_debuglink has it.
func (o *object) checksum() uint32 {
	h := crc32.NewIEEE()
	if _, err := io.Copy(h, io.NewSectionReader(o.r, 0, 1<<62)); err != nil {
		return 0
	}
	return h.Sum32()
}
