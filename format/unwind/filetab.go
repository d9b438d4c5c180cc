package unwind

import (
	"bytes"
	"cmp"
	"debug/elf"
	"encoding/binary"
	"hash/crc32"
	"io"
	"slices"
	"sort"

	"memtrace/format/addr"
	"memtrace/format/unwind/cfi"
)

// fileTable is the call frame information of a file that is not mapped, or that has no
// table to search it by.
type fileTable struct {
	where cfi.Where
	data  []byte
	addr  uint64 // of data; 0 for a .debug_frame
	fdes  []fdeRef
	cies  map[uint64]*cfi.CIE
}

type fdeRef struct {
	begin, end uint64
	off        uint64
}

// Limits of what is read from files.
const (
	maxSection = 64 << 20
	maxFDEs    = 1 << 21
)

// withELF has the file of a mapping looked at.
func (u *Unwinder) withELF(c *codeRange, look func(*elf.File)) {
	if u.cache.files == nil || c.mod.Class != ClassELF {
		return
	}
	v, ok := u.maps.Find(addr.Addr(c.start))
	if !ok {
		return
	}
	f := u.cache.files.Open(v)
	if f == nil {
		return
	}
	defer f.Close()
	if e, err := elf.NewFile(f); err == nil {
		look(e)
	}
}

// sectionAt is the address of the first section that there is of some.
func (u *Unwinder) sectionAt(c *codeRange, names ...string) (at uint64, ok bool) {
	u.withELF(c, func(e *elf.File) {
		for _, name := range names {
			if s := e.Section(name); s != nil && s.Addr != 0 && !ok {
				at, ok = s.Addr, true
			}
		}
	})
	return at, ok
}

// openFiles looks for tables in the file of an image, once.
func (img *image) openFiles(u *Unwinder, c *codeRange) {
	if img.went {
		return
	}
	img.went = true
	u.withELF(c, func(e *elf.File) {
		img.addTable(u, e.Section(".debug_frame"), true)
		if img.hdr.Count == 0 {
			img.addTable(u, e.Section(".eh_frame"), false)
		}
		if e.Section(".debug_frame") == nil {
			img.openLinked(u, c, e)
		}
	})
}

// openLinked looks for a table in the separate debug file that .gnu_debuglink names.
func (img *image) openLinked(u *Unwinder, c *codeRange, e *elf.File) {
	v, ok := u.maps.Find(addr.Addr(c.start))
	name, crc := debugLink(e)
	if !ok || name == "" {
		return
	}
	for _, name := range []string{name, ".debug/" + name} {
		f := u.cache.files.Beside(v, name)
		if f == nil {
			continue
		}
		if d, err := elf.NewFile(f); err == nil && img.debuggedBy(f, d, crc) {
			img.addTable(u, d.Section(".debug_frame"), true)
		}
		f.Close()
		if len(img.files) > 0 {
			return
		}
	}
}

// debugLink is the name and the CRC of the file with what was stripped, "" for none.
func debugLink(e *elf.File) (name string, crc uint32) {
	s := e.Section(".gnu_debuglink")
	if s == nil || s.Type == elf.SHT_NOBITS || s.Size > maxNotes {
		return "", 0
	}
	b, err := s.Data()
	n := bytes.IndexByte(b, 0)
	at := (n + 4) &^ 3
	if err != nil || n <= 0 || at+4 > len(b) || bytes.IndexByte(b[:n], '/') >= 0 {
		return "", 0
	}
	return string(b[:n]), binary.LittleEndian.Uint32(b[at:])
}

// debuggedBy reports whether d, which is in f, is the debug file of the image: by the build id,
// or where the image has none by the CRC of the whole file.
func (img *image) debuggedBy(f File, d *elf.File, crc uint32) bool {
	if img.mod.BuildID == "" {
		h := crc32.NewIEEE()
		n, err := io.Copy(h, io.NewSectionReader(f, 0, maxSection+1))
		return err == nil && n <= maxSection && h.Sum32() == crc
	}
	x := image{mod: &Module{}}
	for _, s := range d.Sections {
		if s.Type == elf.SHT_NOTE && s.Size <= maxNotes {
			if b, err := s.Data(); err == nil {
				x.notes(b)
			}
		}
	}
	return x.mod.BuildID == img.mod.BuildID
}

// addTable reads a section.
func (img *image) addTable(u *Unwinder, s *elf.Section, debug bool) {
	if s == nil || s.Type == elf.SHT_NOBITS || s.Size > maxSection {
		return
	}
	data, err := s.Data()
	if err != nil {
		return
	}
	t := &fileTable{where: cfi.Where{Ptr: img.ptr, Debug: debug}, data: data, cies: map[uint64]*cfi.CIE{}}
	if !debug {
		t.addr = s.Addr
	}
	for off := uint64(0); off < uint64(len(data)) && len(t.fdes) < maxFDEs; {
		e, err := t.where.Entry(data[off:], t.addr+off)
		if err != nil {
			break
		}
		if e.Size == 0 {
			off += 4
			continue
		}
		if f, ok := t.fde(e); ok && f.End > f.Begin {
			t.fdes = append(t.fdes, fdeRef{f.Begin, f.End, off})
		}
		off += e.Size
	}
	if len(t.fdes) == 0 {
		return
	}
	slices.SortStableFunc(t.fdes, func(a, b fdeRef) int { return cmp.Compare(a.begin, b.begin) })
	img.files = append(img.files, t)
	u.cache.size += len(data) + 24*len(t.fdes)
}

// fde decodes an FDE.
func (t *fileTable) fde(e cfi.Entry) (f cfi.FDE, ok bool) {
	if e.CIE {
		return f, false
	}
	k := t.cies[e.Parent]
	if k == nil {
		off := e.Parent - t.addr
		if off >= uint64(len(t.data)) {
			return f, false
		}
		ce, err := t.where.Entry(t.data[off:], e.Parent)
		if err != nil || ce.Size == 0 {
			return f, false
		}
		if k, err = t.where.ParseCIE(ce); err != nil {
			return f, false
		}
		t.cies[e.Parent] = k
	}
	f, err := k.ParseFDE(e)
	return f, err == nil
}

// lookup finds the rule at an address of the image.
func (t *fileTable) lookup(u *Unwinder, at uint64) (int32, bool) {
	i := sort.Search(len(t.fdes), func(i int) bool { return t.fdes[i].begin > at }) - 1
	if i < 0 || at >= t.fdes[i].end {
		return 0, false
	}
	off := t.fdes[i].off
	e, err := t.where.Entry(t.data[off:], t.addr+off)
	if err != nil {
		return 0, false
	}
	f, ok := t.fde(e)
	if !ok {
		return 0, false
	}
	k, err := u.cache.compile(u, &f, at)
	return k, err == nil
}
