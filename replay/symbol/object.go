package symbol

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
	"slices"
	"strings"
)

// Most that is read of one section, uncompressed, and of all sections with debug
// information together: a small file can claim to unpack to any size.
const (
	maxSection = 1 << 30
	maxDebug   = 1 << 30
)

// object is an ELF file opened for its symbols.
type object struct {
	r      io.ReaderAt
	elf    *elf.File
	loads  []load
	code   []codeSection // by address
	id     string        // build id in hexadecimal, "" if it has none
	goID   string        // what the Go toolchain has in its place
	closer io.Closer
}

// codeSection is a section with instructions.
type codeSection struct {
	lo, hi uint64
	sec    *elf.Section
}

// openObject reads the headers of an ELF file.
func openObject(r io.ReaderAt) (o *object, err error) {
	defer guard(&err)
	e, err := elf.NewFile(r)
	if err != nil {
		return nil, err
	}
	o = &object{r: r, elf: e}
	for _, p := range e.Progs {
		if p.Type == elf.PT_LOAD {
			o.loads = append(o.loads, load{p.Off, p.Filesz, p.Vaddr, p.Memsz})
		}
	}
	for _, s := range e.Sections {
		if s.Flags&(elf.SHF_ALLOC|elf.SHF_EXECINSTR) == elf.SHF_ALLOC|elf.SHF_EXECINSTR && s.Addr+s.Size > s.Addr {
			o.code = append(o.code, codeSection{s.Addr, s.Addr + s.Size, s})
		}
	}
	slices.SortFunc(o.code, func(a, b codeSection) int { return compare(a.lo, b.lo) })
	o.id, o.goID = o.buildIDs()
	return o, nil
}

// guard makes an error of a panic. debug/elf and debug/dwarf have panicked on malformed
// files before; a report must not.
func guard(err *error) {
	if p := recover(); p != nil {
		*err = fmt.Errorf("malformed file: %v", p)
	}
}

func compare(a, b uint64) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

// section is the code section that holds an address.
func (o *object) section(vaddr uint64) *codeSection {
	i, _ := slices.BinarySearchFunc(o.code, vaddr, func(s codeSection, a uint64) int {
		if s.lo <= a {
			return -1
		}
		return 1
	})
	if i == 0 || vaddr >= o.code[i-1].hi {
		return nil
	}
	return &o.code[i-1]
}

// data is what a section holds.
func (o *object) data(s *elf.Section) ([]byte, error) {
	if s == nil || s.Type == elf.SHT_NOBITS {
		return nil, nil
	}
	if s.Size > maxSection {
		return nil, fmt.Errorf("section %s has %d bytes, more than %d", s.Name, s.Size, uint64(maxSection))
	}
	return s.Data()
}

// maxNote is the most that is read of a section or segment of notes.
const maxNote = 64 << 10

// buildIDs finds the note of the linker and the one of the Go toolchain.
func (o *object) buildIDs() (id, goID string) {
	look := func(b []byte) {
		for len(b) >= 12 {
			namesz := uint64(o.elf.ByteOrder.Uint32(b))
			descsz := uint64(o.elf.ByteOrder.Uint32(b[4:]))
			kind := o.elf.ByteOrder.Uint32(b[8:])
			desc := 12 + (namesz+3)&^3
			if desc+descsz > uint64(len(b)) {
				break
			}
			name := string(bytes.TrimRight(b[12:12+namesz], "\x00"))
			switch d := hex.EncodeToString(b[desc : desc+descsz]); {
			case name == "GNU" && kind == 3 && id == "":
				id = d
			case name == "Go" && kind == 4 && goID == "":
				goID = d
			}
			b = b[min(desc+(descsz+3)&^3, uint64(len(b))):]
		}
	}
	for _, s := range o.elf.Sections {
		if s.Type == elf.SHT_NOTE && s.Flags&elf.SHF_ALLOC != 0 {
			look(o.peek(s.Offset, s.FileSize))
		}
	}
	for _, p := range o.elf.Progs {
		if p.Type == elf.PT_NOTE {
			look(o.peek(p.Off, p.Filesz))
		}
	}
	return id, goID
}

// peek reads the beginning of a part of the file.
func (o *object) peek(off, n uint64) []byte {
	b := make([]byte, min(n, maxNote))
	got, _ := o.r.ReadAt(b, int64(off&(1<<63-1)))
	return b[:got]
}

// debugLink is the name and the CRC of a file with what was stripped.
func (o *object) debugLink() (name string, crc uint32, ok bool) {
	s := o.elf.Section(".gnu_debuglink")
	if s == nil || s.Type == elf.SHT_NOBITS || s.FileSize > 4096 {
		return "", 0, false
	}
	b := o.peek(s.Offset, s.FileSize)
	n := bytes.IndexByte(b, 0)
	if n <= 0 {
		return "", 0, false
	}
	at := (n + 4) &^ 3
	if at+4 > len(b) {
		return "", 0, false
	}
	name = string(b[:n])
	if strings.ContainsRune(name, '/') { // it is a name beside the file, and nothing else
		return "", 0, false
	}
	return name, binary.LittleEndian.Uint32(b[at:]), true
}

func (o *object) close() error {
	if o == nil || o.closer == nil {
		return nil
	}
	return o.closer.Close()
}

// BuildIDs are the build ids of an ELF file, as bytes, "" for none: that of the linker and that of
// the Go toolchain. ok is false if r is no ELF file.
func BuildIDs(r io.ReaderAt) (id, goID string, ok bool) {
	o, err := openObject(r)
	if err != nil {
		return "", "", false
	}
	gnu, _ := hex.DecodeString(o.id) // both were made of bytes
	gid, _ := hex.DecodeString(o.goID)
	return string(gnu), string(gid), true
}
