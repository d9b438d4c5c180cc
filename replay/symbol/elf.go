// Package symbol tells which part of an ELF file a stretch of a mapping is. It
// knows files and offsets, not logs; whether a file is the one that was mapped
// is its caller's to find out.
package symbol

import (
	"cmp"
	"debug/elf"
	"fmt"
	"io"
	"slices"
	"strings"
)

// File is what is kept of an ELF file.
type File struct {
	sections []span
	loads    []load
}

type span struct {
	name string
	off  uint64 // in the file
	n    uint64
}

type load struct{ off, filesz, vaddr, memsz uint64 }

// Read reads the headers of an ELF file.
func Read(r io.ReaderAt) (f *File, err error) {
	// debug/elf has panicked on malformed files before; a report must not.
	defer func() {
		if p := recover(); p != nil {
			f, err = nil, fmt.Errorf("malformed ELF file: %v", p)
		}
	}()
	e, err := elf.NewFile(r)
	if err != nil {
		return nil, err
	}
	f = &File{}
	for _, s := range e.Sections {
		if s.Type == elf.SHT_NULL || s.Type == elf.SHT_NOBITS || s.Flags&elf.SHF_ALLOC == 0 || s.FileSize == 0 {
			continue
		}
		f.sections = append(f.sections, span{s.Name, s.Offset, s.FileSize})
	}
	for _, p := range e.Progs {
		if p.Type == elf.PT_LOAD {
			f.loads = append(f.loads, load{p.Off, p.Filesz, p.Vaddr, p.Memsz})
		}
	}
	return f, nil
}

// Part names the section that fills most of n bytes from file offset off,
// followed by how many others lie there too: ".rodata +5". It is "" where no
// section lies.
func (f *File) Part(off, n uint64) string {
	type share struct {
		name string
		n    uint64
	}
	var in []share
	end := off + n
	if end < off {
		return ""
	}
	for _, s := range f.sections {
		lo, hi := max(off, s.off), min(end, s.off+s.n)
		// A page at a segment's edge is mapped with its neighbour's bytes:
		// what begins before the mapping is not meant by it.
		if lo >= hi || s.off < off && hi-lo < 4096 {
			continue
		}
		in = append(in, share{s.name, hi - lo})
	}
	if len(in) == 0 {
		return ""
	}
	slices.SortStableFunc(in, func(a, b share) int { return cmp.Compare(b.n, a.n) })
	if len(in) == 1 {
		return in[0].name
	}
	return fmt.Sprintf("%s +%d", in[0].name, len(in)-1)
}

// BSS is where the zero-initialised data that follows the file's bytes lie when
// file offset off is mapped at address at; ok is false if off is not in a
// segment that has such data.
func (f *File) BSS(off, at uint64) (start, end uint64, ok bool) {
	for _, l := range f.loads {
		if l.memsz <= l.filesz || off+4096 <= l.off || off >= l.off+l.filesz {
			continue
		}
		bias := at - (l.vaddr + off - l.off)
		return bias + l.vaddr + l.filesz, bias + l.vaddr + l.memsz, true
	}
	return 0, 0, false
}

// Guess says what a mapping of an ELF file with these permissions is likely to
// be, in words: for when the file cannot be read.
func Guess(perms string) string {
	switch {
	case strings.Contains(perms, "x"):
		return "code"
	case strings.Contains(perms, "w"):
		return "data"
	case strings.HasPrefix(perms, "r"):
		return "read-only data"
	}
	return ""
}
