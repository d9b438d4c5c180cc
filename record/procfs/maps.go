// This file parses /proc/PID/maps.

package procfs

import (
	"bytes"
	"errors"
	"fmt"
	"strings"

	"memtrace/format/addr"
	"memtrace/format/vma"
)

var errMaps = errors.New("not a line of /proc/PID/maps")

// ParseMaps parses the text of /proc/PID/maps (proc_pid_maps(5)), appending to
// vs. The kernel writes a newline in a file's name as \012; it is turned back.
func ParseMaps(vs []vma.VMA, text []byte) ([]vma.VMA, error) {
	for len(text) > 0 {
		line := text
		if i := bytes.IndexByte(text, '\n'); i >= 0 {
			line, text = text[:i], text[i+1:]
		} else {
			text = nil
		}
		v, err := parseLine(line)
		if err != nil {
			return vs, err
		}
		vs = append(vs, v)
	}
	return vs, nil
}

func parseLine(line []byte) (v vma.VMA, err error) {
	p := parser{rest: line}
	v.Start = addr.Addr(p.hex('-'))
	v.End = addr.Addr(p.hex(' '))
	v.Prot = p.prot()
	v.Offset = p.hex(' ')
	v.Dev.Major = uint32(p.hex(':'))
	v.Dev.Minor = uint32(p.hex(' '))
	v.Inode = p.decimal()
	if p.bad || v.End <= v.Start {
		return v, fmt.Errorf("%w: %q", errMaps, line)
	}
	name := bytes.TrimLeft(p.rest, " ")
	if len(name) > 0 {
		v.Name = strings.ReplaceAll(string(name), `\012`, "\n")
	}
	v.Kind = vma.Classify(v)
	return v, nil
}

// parser takes fields off the front of a line; bad sticks.
type parser struct {
	rest []byte
	bad  bool
}

func (p *parser) hex(end byte) uint64 {
	var x uint64
	for i, c := range p.rest {
		switch {
		case '0' <= c && c <= '9':
			x = x<<4 | uint64(c-'0')
		case 'a' <= c && c <= 'f':
			x = x<<4 | uint64(c-'a'+10)
		case c == end && i > 0 && i <= 16:
			p.rest = p.rest[i+1:]
			return x
		default:
			p.bad = true
			return 0
		}
	}
	p.bad = true
	return 0
}

// decimal reads a number that ends at a blank or at the line's end.
func (p *parser) decimal() uint64 {
	var x uint64
	for i, c := range p.rest {
		if c == ' ' && i > 0 {
			p.rest = p.rest[i:]
			return x
		}
		if c < '0' || c > '9' {
			p.bad = true
			return 0
		}
		x = x*10 + uint64(c-'0')
	}
	p.bad = p.bad || len(p.rest) == 0
	p.rest = nil
	return x
}

func (p *parser) prot() addr.Prot {
	if len(p.rest) < 5 || p.rest[4] != ' ' {
		p.bad = true
		return 0
	}
	var prot addr.Prot
	for i, want := range "rwxs" {
		switch c := p.rest[i]; {
		case rune(c) == want:
			prot |= 1 << i
		case c == '-' && i < 3, c == 'p' && i == 3:
		default:
			p.bad = true
		}
	}
	p.rest = p.rest[5:]
	return prot
}

// Device says whether a mapping is of a device, whose pages are not memory.
func Device(v vma.VMA) bool {
	return strings.HasPrefix(v.Name, "/dev/") && !strings.HasPrefix(v.Name, "/dev/shm/") && !strings.HasPrefix(v.Name, "/dev/zero")
}
