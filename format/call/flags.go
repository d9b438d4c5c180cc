package call

import (
	"strconv"
	"strings"
	"sync"
)

// flagNames is a table of names for bits or values.
type flagNames struct {
	unknown string // strace's word for what has no name: PROT_???
	names   []flagName
	byValue map[uint64]string // for long tables of values
}

type flagName struct {
	value uint64
	name  string
}

// Append appends v as bits: names joined by |, what is left in hex.
func (f *flagNames) Append(b []byte, v uint64) []byte {
	start := len(b)
	rest := v
	for _, n := range f.names {
		if n.value == 0 {
			if v == 0 {
				return append(b, n.name...)
			}
			continue
		}
		if rest&n.value == n.value {
			if len(b) > start {
				b = append(b, '|')
			}
			b = append(b, n.name...)
			rest &^= n.value
		}
	}
	switch {
	case len(b) > start && rest != 0:
		b = append(b, '|')
		return appendHex(b, rest)
	case len(b) > start:
		return b
	case rest == 0:
		return append(b, '0')
	}
	return f.appendUnknown(b, rest)
}

// AppendValue appends v as one of the values.
func (f *flagNames) AppendValue(b []byte, v uint64) []byte {
	if name := f.Name(v); name != "" {
		return append(b, name...)
	}
	return f.appendUnknown(b, v)
}

func (f *flagNames) appendUnknown(b []byte, v uint64) []byte {
	b = appendHex(b, v)
	if f.unknown != "-" {
		b = append(b, " /* "...)
		b = append(b, f.unknown...)
		b = append(b, " */"...)
	}
	return b
}

// Name is the name of the value v, "" where it has none.
func (f *flagNames) Name(v uint64) string {
	if f.byValue != nil {
		return f.byValue[v]
	}
	for _, n := range f.names {
		if n.value == v {
			return n.name
		}
	}
	return ""
}

// flagTable returns one of the tables by its name in flagtab.go, nil where there
// is none: "prot", "mmap", "madvise", "open", "clone", ...
func flagTable(name string) *flagNames { return allFlags()[name] }

var allFlags = sync.OnceValue(func() map[string]*flagNames {
	m := make(map[string]*flagNames, 160)
	for _, line := range strings.Split(flagText, "\n") {
		f := strings.Fields(line)
		if len(f) < 2 || f[0] == "#" {
			continue
		}
		t := &flagNames{unknown: f[1]}
		next := uint64(0)
		for _, w := range f[2:] {
			name, text, explicit := strings.Cut(w, "=")
			if explicit {
				v, err := strconv.ParseUint(text, 0, 64)
				if err != nil {
					panic("call: flag " + w + ": " + err.Error())
				}
				next = v
			}
			t.names = append(t.names, flagName{next, name})
			next++
		}
		if len(t.names) > 64 {
			t.byValue = make(map[uint64]string, len(t.names))
			for _, n := range t.names {
				if _, dup := t.byValue[n.value]; !dup {
					t.byValue[n.value] = n.name
				}
			}
		}
		m[f[0]] = t
	}
	return m
})

const mapType, mapHugeShift = 0xf, 26

func appendMapFlags(b []byte, v uint64) []byte {
	b = flagTable("maptype").AppendValue(b, v&mapType)
	rest := v &^ mapType
	huge := uint64(0)
	if rest&0x40000 != 0 { // MAP_HUGETLB: the page size's logarithm is in the high bits
		huge = rest >> mapHugeShift & 0x3f
		rest &^= 0x3f << mapHugeShift
	}
	if rest != 0 {
		b = append(b, '|')
		b = flagTable("mmap").Append(b, rest)
	}
	if huge != 0 {
		b = append(b, '|')
		b = strconv.AppendUint(b, huge, 10)
		b = append(b, "<<MAP_HUGE_SHIFT"...)
	}
	return b
}

func appendOpenFlags(b []byte, v uint64, arm bool) []byte {
	t := flagTable("open")
	if arm {
		t = flagTable("open_arm")
	}
	b = flagTable("accmode").AppendValue(b, v&3)
	if v &^= 3; v != 0 {
		b = append(b, '|')
		start := len(b)
		b = t.Append(b, v)
		if i := strings.Index(string(b[start:]), " /*"); i >= 0 { // strace has no remark here
			b = b[:start+i]
		}
	}
	return b
}
