// Package elfcore writes ELF core files, as the Linux kernel does when a program
// dies, from a description of a process: debuggers open them. It knows the
// format, and nothing of logs or living processes: memory comes from its caller
// page by page, and what the caller does not have is left out, never written as
// zero.
package elfcore

import (
	"bufio"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"

	"memtrace/format/addr"
	"memtrace/format/arch"
)

// ErrArch is the error of an architecture whose cores are not known.
var ErrArch = errors.New("cores of this architecture are not supported")

// Core describes a process.
type Core struct {
	Arch    arch.ID // X86_64 or I386
	Process Process
	Threads []Thread // the first is the one that a debugger shows first
	Auxv    []byte   // as in /proc/PID/auxv
	Files   []File
	// Segments are what is known of the memory, in ascending order. A debugger
	// looks for the rest in Files, or says that it cannot read it.
	Segments []Segment
}

// Process is what a core says of the process as a whole (NT_PRPSINFO).
type Process struct {
	PID, PPID, PGRP, SID uint32
	UID, GID             uint32
	Name                 string // of the program file, cut to 15 bytes
	Args                 string // cut to 79 bytes
}

// Thread is a thread with its registers in the order of arch.Registers; nil
// ones are written as 0.
type Thread struct {
	TID     uint32
	Regs    []uint64
	Signal  int32  // that ended or stopped it, 0 for none
	SigInfo []byte // struct siginfo, may be shorter; nil for none
	XState  []byte // as XSAVE writes it (NT_X86_XSTATE); nil: not known
}

// File is a stretch of a mapped file (NT_FILE).
type File struct {
	addr.Range
	Offset uint64 // in bytes
	Name   string
}

// Segment is a stretch of memory of which the same is known.
type Segment struct {
	addr.Range
	Prot addr.Prot
	What Content
}

// Content says where the bytes of a segment are.
type Content uint8

// Memory that is not in the core has no segment. One without bytes in the file
// would tell that it is mapped, but gdb reads such segments as zero.
const (
	Zero Content = iota + 1
	Data
)

// Memory gives the page at a, as far as it is in segments.
type Memory func(a addr.Addr, page *[addr.PageSize]byte) error

// pnXNum in a header's e_phnum says that the number of segments is in the first
// section header (elf(5)).
const pnXNum = 0xffff

// Write writes the core to w, asking mem for the pages of Data segments in
// ascending order. Zeros become holes if w is a file.
func (c *Core) Write(w io.Writer, mem Memory) error {
	if c.Arch != arch.X86_64 && c.Arch != arch.I386 {
		return fmt.Errorf("%v: %w", c.Arch, ErrArch)
	}
	if c.Arch == arch.I386 {
		for _, s := range c.Segments {
			if s.End > 1<<32 {
				return fmt.Errorf("segment %v of a 32-bit process", s.Range)
			}
		}
	}
	if uint64(len(c.Segments)) >= math.MaxUint32 {
		return fmt.Errorf("%d segments are more than a core can have", len(c.Segments))
	}
	notes := c.notes()
	o := output{w: bufio.NewWriterSize(w, 256<<10)}
	o.file, _ = w.(holes)
	if o.file != nil {
		if _, err := o.file.Seek(0, io.SeekCurrent); err != nil {
			o.file = nil // a pipe
		}
	}
	if err := c.head(&o, notes); err != nil {
		return err
	}
	var page [addr.PageSize]byte
	for _, s := range c.Segments {
		switch s.What {
		case Zero:
			o.zeros(s.Len())
		case Data:
			for a := s.Start; a < s.End && o.err == nil; {
				if err := mem(a.PageDown(), &page); err != nil {
					return fmt.Errorf("write core: %w", err)
				}
				off := a - a.PageDown()
				n := min(addr.PageSize-off, s.End-a)
				o.write(page[off : off+n])
				a += n
			}
		}
	}
	return o.end()
}

// offsets is where things are in a core.
type offsets struct {
	is64                   bool
	ehsize, phsize, shsize uint64
	phnum                  uint64 // segments, that of the notes too
	notes                  uint64
	shoff                  uint64 // the section header; 0: none is needed
	data                   uint64 // the memory
}

func (c *Core) offsets(notes []byte) offsets {
	l := offsets{ehsize: 52, phsize: 32, shsize: 40, phnum: uint64(len(c.Segments)) + 1}
	if c.Arch == arch.X86_64 {
		l.is64, l.ehsize, l.phsize, l.shsize = true, 64, 56, 64
	}
	l.notes = l.ehsize + l.phnum*l.phsize
	end := l.notes + uint64(len(notes))
	if l.phnum >= pnXNum {
		l.shoff = (end + 7) &^ 7
		end = l.shoff + l.shsize
	}
	l.data = (end + addr.PageSize - 1) &^ (addr.PageSize - 1)
	return l
}

// head writes everything before the memory.
func (c *Core) head(o *output, notes []byte) error {
	e := encoder{offsets: c.offsets(notes)}
	e.header()
	e.program(elf.Prog64{Type: uint32(elf.PT_NOTE), Off: e.notes, Filesz: uint64(len(notes)), Align: 4})
	at := e.data
	for i := range c.Segments {
		s := &c.Segments[i]
		p := elf.Prog64{Type: uint32(elf.PT_LOAD), Flags: flags(s.Prot), Off: at, Vaddr: uint64(s.Start), Filesz: s.Len(), Memsz: s.Len(), Align: addr.PageSize}
		if at%addr.PageSize != uint64(s.Start)%addr.PageSize {
			p.Align = 1
		}
		at += s.Len()
		if !e.is64 && at >= 1<<32 {
			return errors.New("write core: more than 4 GiB of a 32-bit process")
		}
		e.program(p)
		if len(e.b) > 64<<10 {
			e.flush(o)
		}
	}
	e.flush(o)
	o.write(notes)
	if e.shoff != 0 {
		o.zeros(e.shoff - e.notes - uint64(len(notes)))
		e.section()
		e.flush(o)
	}
	o.fill(e.data)
	return errors.Join(e.err, o.err)
}

// encoder appends the headers of a core to b.
type encoder struct {
	offsets
	b   []byte
	err error
}

func (e *encoder) put(v any) {
	if e.err == nil {
		e.b, e.err = binary.Append(e.b, binary.LittleEndian, v)
	}
}

func (e *encoder) flush(o *output) {
	o.write(e.b)
	e.b = e.b[:0]
}

func (e *encoder) header() {
	ident := [elf.EI_NIDENT]byte{0x7f, 'E', 'L', 'F', byte(elf.ELFCLASS32), byte(elf.ELFDATA2LSB), byte(elf.EV_CURRENT)}
	num, shnum := uint16(min(e.phnum, pnXNum)), uint16(0)
	if e.shoff != 0 {
		shnum = 1
	}
	if e.is64 {
		ident[elf.EI_CLASS] = byte(elf.ELFCLASS64)
		e.put(&elf.Header64{
			Ident: ident, Type: uint16(elf.ET_CORE), Machine: uint16(elf.EM_X86_64), Version: 1, Phoff: e.ehsize, Shoff: e.shoff,
			Ehsize: uint16(e.ehsize), Phentsize: uint16(e.phsize), Phnum: num, Shentsize: uint16(e.shsize), Shnum: shnum,
		})
		return
	}
	e.put(&elf.Header32{
		Ident: ident, Type: uint16(elf.ET_CORE), Machine: uint16(elf.EM_386), Version: 1, Phoff: uint32(e.ehsize), Shoff: uint32(e.shoff),
		Ehsize: uint16(e.ehsize), Phentsize: uint16(e.phsize), Phnum: num, Shentsize: uint16(e.shsize), Shnum: shnum,
	})
}

func (e *encoder) program(p elf.Prog64) {
	if e.is64 {
		e.put(&p)
		return
	}
	e.put(&elf.Prog32{
		Type: p.Type, Off: uint32(p.Off), Vaddr: uint32(p.Vaddr), Filesz: uint32(p.Filesz), Memsz: uint32(p.Memsz), Flags: p.Flags, Align: uint32(p.Align),
	})
}

// section says how many segments there are, where the header cannot.
func (e *encoder) section() {
	if e.is64 {
		e.put(&elf.Section64{Size: 1, Info: uint32(e.phnum)})
	} else {
		e.put(&elf.Section32{Size: 1, Info: uint32(e.phnum)})
	}
}

func flags(p addr.Prot) uint32 {
	var f elf.ProgFlag
	if p&addr.Read != 0 {
		f |= elf.PF_R
	}
	if p&addr.Write != 0 {
		f |= elf.PF_W
	}
	if p&addr.Exec != 0 {
		f |= elf.PF_X
	}
	return uint32(f)
}

// holes is a file in which what is skipped reads as zero.
type holes interface {
	io.Seeker
	Truncate(size int64) error
}

// output counts what is written and keeps the first error.
type output struct {
	w    *bufio.Writer
	file holes // nil if it cannot have holes
	n    uint64
	hole bool // it ends in one
	err  error
}

func (o *output) write(p []byte) {
	if o.err == nil {
		_, o.err = o.w.Write(p)
	}
	o.n += uint64(len(p))
	o.hole = o.hole && len(p) == 0
}

// minHole is when a hole is worth a system call.
const minHole = 64 << 10

func (o *output) zeros(n uint64) {
	if o.file != nil && n >= minHole && o.err == nil {
		if o.err = o.w.Flush(); o.err == nil {
			_, o.err = o.file.Seek(int64(n), io.SeekCurrent)
		}
		o.n += n
		o.hole = true
		return
	}
	var none [addr.PageSize]byte
	for n > 0 && o.err == nil {
		k := min(n, uint64(len(none)))
		o.write(none[:k])
		n -= k
	}
}

// fill writes zeros until n bytes are written.
func (o *output) fill(n uint64) {
	if n > o.n {
		o.zeros(n - o.n)
	}
}

func (o *output) end() error {
	if o.err == nil {
		o.err = o.w.Flush()
	}
	if o.err == nil && o.hole {
		size, err := o.file.Seek(0, io.SeekCurrent)
		if err == nil {
			err = o.file.Truncate(size)
		}
		o.err = err
	}
	if o.err != nil {
		return fmt.Errorf("write core: %w", o.err)
	}
	return nil
}
