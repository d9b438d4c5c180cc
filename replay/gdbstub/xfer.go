package gdbstub

import (
	"cmp"
	"context"
	"encoding/xml"
	"fmt"
	"strconv"
	"strings"

	"memtrace/format"
	"memtrace/format/addr"
	"memtrace/format/vma"
	"memtrace/replay"
)

// objects are what gdb reads in pieces (qXfer).
var objects = map[string]func(s *Session, annex string) (string, error){
	"features":       func(s *Session, _ string) (string, error) { return describe(s.addressed().arch).xml(), nil },
	"threads":        func(s *Session, _ string) (string, error) { return s.threadList() },
	"auxv":           func(s *Session, _ string) (string, error) { return s.auxv() },
	"exec-file":      (*Session).execFile,
	"libraries-svr4": func(s *Session, _ string) (string, error) { return s.libraries() },
	"siginfo":        func(s *Session, _ string) (string, error) { return s.sigInfo() },
}

// transfer is qXfer:OBJECT:read:ANNEX:OFFSET,LENGTH.
func (s *Session) transfer(_ context.Context, p string) (string, error) {
	parts := strings.SplitN(p, ":", 4)
	if len(parts) != 4 || parts[1] != "read" || objects[parts[0]] == nil {
		return "", nil
	}
	off, n, ok := span(parts[3])
	if !ok {
		return "E16", nil
	}
	key := parts[0] + ":" + parts[2]
	text, has := s.xfer[key]
	if !has || off == 0 {
		var err error
		if text, err = objects[parts[0]](s, parts[2]); err != nil {
			return "E01", nil
		}
		s.xfer[key] = text
	}
	if uint64(off) >= uint64(len(text)) {
		return "l", nil
	}
	rest := text[off:]
	if n = min(n, maxPacket/2-8); uint64(len(rest)) > n {
		return "m" + rest[:n], nil
	}
	return "l" + rest, nil
}

func escapeXML(text string) string {
	var b strings.Builder
	_ = xml.EscapeText(&b, []byte(text)) // a builder takes all
	return b.String()
}

// threadList has the threads, with what is known of each in a word.
func (s *Session) threadList() (string, error) {
	var b strings.Builder
	b.WriteString("<threads>")
	err := s.rows(func(id, about string) { fmt.Fprintf(&b, `<thread id="%s">%s</thread>`, id, escapeXML(about)) })
	b.WriteString("</threads>")
	return b.String(), err
}

// auxv is the auxiliary vector.
func (s *Session) auxv() (string, error) {
	o, err := s.trace.Origin(s.now.step, s.now.process)
	return string(o.Auxv), err
}

// Local reports whether the files of the program that the session begins with are here, and surely the ones that
// ran. gdb may read them by itself then, with an empty sysroot: that is faster, and says less. Files of which that
// does not hold are given to gdb by names that have it ask for them.
func (s *Session) Local() bool {
	s.local = false
	seen := map[string]bool{}
	for v := range s.now.space.Mappings() {
		if v.Prot&addr.Exec == 0 || !strings.HasPrefix(v.Name, "/") || seen[v.Name] {
			continue
		}
		seen[v.Name] = true
		if !s.trace.Here(v) {
			return false
		}
	}
	s.local = len(seen) > 0
	return s.local
}

// asked is what gdb puts before the name of a file to ask the other end for it.
const asked = "target:"

// fileName is the name by which gdb is to open a file that is mapped at a moment.
func (s *Session) fileName(m *moment, name string) string {
	if !s.local {
		return name
	}
	for v := range m.space.Mappings() {
		if v.Name == name && s.trace.Here(v) {
			return name
		}
	}
	return asked + name
}

// execFile is the path of the program of the process that annex names, in hexadecimal, or of that of m.
func (s *Session) execFile(annex string) (string, error) {
	m := s.now
	if pid, err := strconv.ParseUint(annex, 16, 32); err == nil {
		p := s.byPID(uint32(pid))
		if p == nil {
			return "", replay.ErrNoProcess
		}
		if m, err = s.present(p); err != nil || m == nil {
			return "", cmp.Or(err, replay.ErrUnknown)
		}
	}
	o, err := s.trace.Origin(m.step, m.process)
	if err != nil || o.Path == "" {
		return "", err
	}
	return s.fileName(m, o.Path), nil
}

// sigInfo is the siginfo of a signal that the moment is.
func (s *Session) sigInfo() (string, error) {
	const size = 128
	sig, ok := s.now.event.Record.(*format.Signal)
	if !ok {
		return "", replay.ErrUnknown
	}
	b := make([]byte, size)
	copy(b, sig.Info)
	return string(b), nil
}

// libraries are the mapped files with code, but the program and the dynamic linker's own
// list of them: that is in memory, which may not be known.
func (s *Session) libraries() (string, error) {
	o, err := s.trace.Origin(s.now.step, s.now.process)
	if err != nil {
		return "", err
	}
	var b strings.Builder
	b.WriteString(`<library-list-svr4 version="1.0">`)
	seen := map[string]bool{o.Path: true}
	no := 0
	for v := range s.now.space.Mappings() {
		if v.Prot&addr.Exec == 0 || !strings.HasPrefix(v.Name, "/") || seen[v.Name] {
			continue
		}
		seen[v.Name] = true
		h, ok := s.header(v)
		if !ok {
			continue
		}
		no++
		fmt.Fprintf(&b, `<library name="%s" lm="%#x" l_addr="%#x" l_ld="%#x" lmid="0x0"/>`, escapeXML(s.fileName(s.now, v.Name)), no, h.bias, h.dynamic)
	}
	b.WriteString("</library-list-svr4>")
	return b.String(), nil
}

// header is what gdb needs of a library's ELF header.
type header struct{ bias, dynamic uint64 }

// Types of program headers.
const (
	ptLoad    = 1
	ptDynamic = 2
)

// header reads the header of the file that v maps a part of, from memory.
func (s *Session) header(v vma.VMA) (h header, ok bool) {
	first := v
	for x := range s.now.space.Mappings() {
		if x.Name == v.Name && x.Inode == v.Inode && x.Offset == 0 && x.Start <= v.Start {
			first = x
		}
	}
	if first.Offset != 0 {
		return h, false
	}
	var b [addr.PageSize]byte
	n, err := s.read(s.now, b[:], first.Start)
	if err != nil || n < 64 || string(b[:4]) != "\x7fELF" {
		return h, false
	}
	word := func(at, size int) (x uint64) {
		for i := size - 1; i >= 0 && at+i < n; i-- {
			x = x<<8 | uint64(b[at+i])
		}
		return x
	}
	wide := b[4] == 2
	phoff, phsize, phnum := word(28, 4), word(42, 2), word(44, 2)
	if wide {
		phoff, phsize, phnum = word(32, 8), word(54, 2), word(56, 2)
	}
	loaded := false
	for i := range phnum {
		at := phoff + i*phsize
		if at+phsize > uint64(n) || phsize < 32 {
			return h, false
		}
		p := int(at)
		off, va := word(p+4, 4), word(p+8, 4)
		if wide {
			off, va = word(p+8, 8), word(p+16, 8)
		}
		switch word(p, 4) {
		case ptLoad:
			if !loaded {
				h.bias, loaded = uint64(first.Start)-(va-off), true
			}
		case ptDynamic:
			h.dynamic = va
		}
	}
	h.dynamic += h.bias
	if !wide {
		h.bias, h.dynamic = h.bias&(1<<32-1), h.dynamic&(1<<32-1)
	}
	return h, loaded
}
