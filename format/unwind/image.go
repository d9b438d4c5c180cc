package unwind

import (
	"encoding/binary"

	"memtrace/format/unwind/cfi"
	"memtrace/format/unwind/pcln"
	"memtrace/format/vma"
)

// Class tells modules apart.
type Class uint8

// The classes.
const (
	ClassELF Class = iota
	ClassFile
	ClassVDSO
	ClassAnon
)

// Module is what code belongs to.
type Module struct {
	Class              Class
	BuildID, GoBuildID string // as bytes
	Path               string
	Dev                vma.Dev
	Inode, Size, Mtime uint64
	TextAddr, TextOff  uint64 // of the segment with the code
	MM                 uint32 // of a ClassAnon
	// No is for the caller.
	No uint32
}

// imageKey tells images apart. What has no file is of one address space only, but for the
// kernel's.
type imageKey struct {
	dev         vma.Dev
	inode       uint64
	size, mtime uint64
	build       string
	head        uint64 // of the ELF header and the program headers
	space       *Space
	at          uint64
}

// image is a file with code, or the kernel's, with its unwind tables as far as they have
// been looked at.
type image struct {
	mod   *Module
	elf   bool
	i386  bool
	ptr   int
	base  uint64 // address in the file that offset 0 is loaded to
	load  []segment
	exec  [2]uint64 // addresses of the code
	entry uint64    // where a program begins

	where   cfi.Where
	ehAt    uint64 // of the .eh_frame_hdr, 0 for none
	ehRead  bool
	hdr     cfi.Header
	table   []byte
	pieces  map[uint64][]byte // of the tables
	cies    map[uint64]*cfi.CIE
	plans   map[uint64]plan // by pc<<1, and 1 for a return address
	went    bool            // fileTables has been looked for
	files   []*fileTable
	goTab   *pcln.Table
	goAt    uint64 // address of its tables
	goTried bool
}

type segment struct{ off, vaddr, filesz, memsz, flags uint64 }

// Cache keeps the images that have been met, for all address spaces.
type Cache struct {
	images map[imageKey]*image
	rules  []rule
	ruleOf map[cfi.Rule]int32
	files  Files
	size   int
	mach   cfi.Machine
	buf    []byte
}

// maxCache is how much a cache keeps, in bytes, before all of it is dropped.
const maxCache = 64 << 20

// NewCache makes a cache. files may be nil: then only memory is looked at.
func NewCache(files Files) *Cache {
	c := &Cache{files: files}
	c.drop()
	return c
}

func (c *Cache) drop() {
	c.images, c.ruleOf, c.rules, c.size = map[imageKey]*image{}, map[cfi.Rule]int32{}, nil, 0
}

// Trim drops everything if it has become too much. No Space may be used afterwards that was
// used before.
func (c *Cache) Trim() (dropped bool) {
	if c.size <= maxCache {
		return false
	}
	c.drop()
	return true
}

// Headers of an ELF file.
const (
	maxPhdrs = 128
	ptLoad   = 1
	ptNote   = 4
	ptEHHdr  = 0x6474e550
	maxNotes = 4096
	maxID    = 256
)

// find is the image of the file of v, which begins in memory at base.
func (c *Cache) find(u *Unwinder, v, base vma.VMA) *image {
	img := &image{mod: &Module{Class: ClassFile, Path: v.Name, Dev: v.Dev, Inode: v.Inode}}
	key := imageKey{dev: v.Dev, inode: v.Inode}
	if base.Offset == 0 || v.Kind == vma.VDSO {
		key.head = img.parse(u, uint64(base.Start))
	}
	m := img.mod
	switch {
	case v.Kind == vma.VDSO:
		m.Class = ClassVDSO
		if m.BuildID == "" {
			key.space, key.at = u.space, uint64(v.Start)
		}
	case img.elf:
		m.Class = ClassELF
	}
	if c.files != nil && v.File() && m.BuildID == "" { // else that says it all
		m.Size, m.Mtime = c.files.Identify(v)
	}
	key.build, key.size, key.mtime = m.BuildID, m.Size, m.Mtime
	if old := c.images[key]; old != nil {
		return old
	}
	img.cies, img.plans = map[uint64]*cfi.CIE{}, map[uint64]plan{}
	c.images[key] = img
	c.size += 1024
	return img
}

// parse reads the ELF header that is at an address, and a hash of what it read.
func (img *image) parse(u *Unwinder, at uint64) (hash uint64) {
	le := binary.LittleEndian
	var b [64 + maxPhdrs*56]byte
	n := u.read(b[:1024], at)
	if n < 64 || string(b[:4]) != "\x7fELF" || b[5] != 1 {
		return 0
	}
	machine := le.Uint16(b[18:])
	var phoff uint64
	var size, num int
	switch {
	case b[4] == 2 && machine == 62:
		phoff, size, num, img.ptr = le.Uint64(b[32:]), int(le.Uint16(b[54:])), int(le.Uint16(b[56:])), 8
	case b[4] == 1 && machine == 3:
		phoff, size, num, img.ptr = uint64(le.Uint32(b[28:])), int(le.Uint16(b[42:])), int(le.Uint16(b[44:])), 4
		img.i386 = true
	default:
		return 0
	}
	if size != 56 && !img.i386 || size != 32 && img.i386 || num == 0 || num > maxPhdrs || phoff > 1<<30 {
		return 0
	}
	var ph []byte
	if phoff+uint64(num*size) <= uint64(n) {
		ph = b[phoff:][:num*size]
	} else if ph = b[64:][:num*size]; u.read(ph, at+phoff) != len(ph) {
		return 0
	}
	img.entry = le.Uint64(b[24:])
	if img.i386 {
		img.entry = uint64(le.Uint32(b[24:]))
	}
	hash = 14695981039346656037
	for _, x := range b[:64] {
		hash = (hash ^ uint64(x)) * 1099511628211
	}
	for _, x := range ph {
		hash = (hash ^ uint64(x)) * 1099511628211
	}
	var notes []segment
	loads := 0
	for i := range num {
		typ, s := programHeader(ph[i*size:], img.i386)
		switch typ {
		case ptLoad:
			if loads == 0 {
				img.base = s.vaddr - s.off
			}
			loads++
			img.load = append(img.load, s)
			if s.flags&1 != 0 && img.exec[1] == 0 {
				img.exec = [2]uint64{s.vaddr, s.vaddr + s.memsz}
				img.mod.TextAddr, img.mod.TextOff = s.vaddr, s.off
			}
		case ptNote:
			notes = append(notes, s)
		case ptEHHdr:
			img.ehAt = s.vaddr
		}
	}
	if loads == 0 {
		return 0
	}
	img.elf = true
	img.where = cfi.Where{Ptr: img.ptr}
	for _, s := range notes[:min(len(notes), 8)] {
		nb := make([]byte, min(s.filesz, maxNotes))
		img.notes(nb[:u.read(nb, at-img.base+s.vaddr)])
	}
	return hash
}

// programHeader decodes one.
func programHeader(b []byte, i386 bool) (typ uint32, s segment) {
	le := binary.LittleEndian
	typ = le.Uint32(b)
	if i386 {
		w := func(i int) uint64 { return uint64(le.Uint32(b[4*i:])) }
		return typ, segment{off: w(1), vaddr: w(2), filesz: w(4), memsz: w(5), flags: w(6)}
	}
	w := func(i int) uint64 { return le.Uint64(b[8*i:]) }
	return typ, segment{off: w(1), vaddr: w(2), filesz: w(4), memsz: w(5), flags: uint64(le.Uint32(b[4:]))}
}

// notes takes the build ids from notes.
func (img *image) notes(b []byte) {
	le := binary.LittleEndian
	for len(b) >= 12 {
		name, desc, typ := uint64(le.Uint32(b)), uint64(le.Uint32(b[4:])), le.Uint32(b[8:])
		if name > 256 || desc > maxNotes {
			return
		}
		at := 12 + (name+3)&^3
		end := at + desc
		if end > uint64(len(b)) {
			return
		}
		if desc > 0 && desc <= maxID {
			switch string(b[12 : 12+name]) {
			case "GNU\x00":
				if typ == 3 {
					img.mod.BuildID = string(b[at:end])
				}
			case "Go\x00\x00":
				if typ == 4 {
					img.mod.GoBuildID = string(b[at:end])
				}
			}
		}
		b = b[min((end+3)&^3, uint64(len(b))):]
	}
}
