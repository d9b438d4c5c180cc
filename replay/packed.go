package replay

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"memtrace/format"
	"memtrace/format/vma"
	"memtrace/replay/symbol"
)

// File is a file that a program had mapped, opened for reading: one of this machine, or
// what a log has of it.
type File interface {
	io.ReaderAt
	io.Closer
	Size() int64
}

// packedFiles are the files that a log carries. They come before those of this machine.
type packedFiles struct {
	r    *format.Reader
	once sync.Once
	err  error

	mapped map[fileKey]*format.File
	ids    map[packedID]*format.File
}

// packedID is a file by its contents.
type packedID struct {
	kind format.FileKind
	id   string // as bytes, of the GNU linker or of Go's
}

// load reads the list of files.
func (p *packedFiles) load() error {
	p.once.Do(func() {
		if !p.r.HasFiles() {
			return
		}
		list, err := p.r.Files()
		if err != nil {
			p.err = fmt.Errorf("packed files: %w", err)
			return
		}
		p.mapped, p.ids = map[fileKey]*format.File{}, map[packedID]*format.File{}
		for i := range list {
			f := &list[i]
			if len(f.Extents) == 0 {
				continue
			}
			if f.Kind == format.PackedMapped {
				p.mapped[keyOf(f)] = f
			}
			for _, id := range []string{f.BuildID, f.GoBuildID} {
				if id != "" {
					p.ids[packedID{f.Kind, id}] = f
				}
			}
		}
	})
	return p.err
}

func keyOf(f *format.File) fileKey {
	return fileKey{f.Path, vma.Dev{Major: f.Major, Minor: f.Minor}, f.Inode}
}

// open opens the file of a mapping; nil if the log does not have it. What was not packed is
// read from the file of this machine, if here says that it is the same.
func (p *packedFiles) open(k fileKey, here func() (*MappedFile, error)) (File, error) {
	if p == nil {
		return nil, nil
	}
	if err := p.load(); err != nil {
		return nil, err
	}
	if f := p.mapped[k]; f != nil {
		return &packedFile{r: p.r, f: f, here: here}, nil
	}
	return nil, nil
}

// find opens a file by its build id, or by that of Go's linker, both in hexadecimal; nil if
// the log does not have it.
func (p *packedFiles) find(kind format.FileKind, ids ...string) (symbol.Opened, error) {
	if p == nil {
		return nil, nil
	}
	if err := p.load(); err != nil {
		return nil, err
	}
	for _, id := range ids {
		b, err := hex.DecodeString(id)
		if f := p.ids[packedID{kind, string(b)}]; err == nil && f != nil {
			return &packedFile{r: p.r, f: f}, nil
		}
	}
	return nil, nil
}

// packedFile is a file that a log has parts of.
type packedFile struct {
	r    *format.Reader
	f    *format.File
	here func() (*MappedFile, error) // nil: of this machine there is none

	mu    sync.Mutex
	local *MappedFile
}

// Size is that of the whole file.
func (p *packedFile) Size() int64 { return int64(p.f.Size) }

// ReadAt reads what was packed, and what was not from the file of this machine.
func (p *packedFile) ReadAt(b []byte, off int64) (int, error) {
	n, err := p.r.ReadFile(p.f, b, off)
	if !errors.Is(err, format.ErrNotPacked) {
		return n, err
	}
	p.mu.Lock()
	if p.local == nil && p.here != nil {
		p.local, _ = p.here() // its absence is what err says
		p.here = nil
	}
	local := p.local
	p.mu.Unlock()
	if local == nil {
		return n, fmt.Errorf("%s: %w", p.f.Path, err)
	}
	m, err := local.ReadAt(b[n:], off+int64(n))
	return n + m, err
}

// Close closes the file of this machine.
func (p *packedFile) Close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.local == nil {
		return nil
	}
	err := p.local.Close()
	p.local = nil
	return err
}

// OpenMapped opens the file that v maps: what the log has of it, else the one of this machine
// if it is surely that file and was not changed since the recording began.
func (t *Trace) OpenMapped(v vma.VMA) (File, error) {
	return t.files.file(fileKey{v.Name, v.Dev, v.Inode}, t.Header().Start)
}

// Here reports whether the file that v maps is here on this machine, by its name, and surely the one that was
// mapped.
func (t *Trace) Here(v vma.VMA) bool {
	f, err := here(fileKey{v.Name, v.Dev, v.Inode}, t.Header().Start)
	return err == nil && f.Close() == nil
}

// OpenMapped opens the file that m maps, as that of a Trace.
func (v *View) OpenMapped(m vma.VMA) (File, error) {
	k := fileKey{m.Name, m.Dev, m.Inode}
	if c, ok := v.Files.(*fileCache); ok {
		return c.file(k, v.Start)
	}
	return here(k, v.Start)
}

// here opens a file of this machine.
func here(k fileKey, start time.Time) (File, error) {
	f, err := openMapped(k, start)
	if err != nil {
		return nil, err
	}
	return f, nil
}

// file opens a file that a log carries, or one of this machine.
func (c *fileCache) file(k fileKey, start time.Time) (File, error) {
	f, err := c.packed.open(k, func() (*MappedFile, error) { return openMapped(k, start) })
	if f != nil || err != nil {
		return f, err
	}
	return here(k, start)
}

// OpenDebug opens the debug file of a build id (in hexadecimal) that the log has; nil if it has none.
func (t *Trace) OpenDebug(id string) (File, error) {
	f, err := t.files.packed.find(format.PackedDebug, id)
	if f == nil || err != nil {
		return nil, err
	}
	return f.(*packedFile), nil
}
