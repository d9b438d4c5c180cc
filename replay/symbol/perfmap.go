package symbol

import (
	"bytes"
	"slices"
	"strconv"
)

// PerfMap is the functions that a program with a compiler in it has written down, as
// perf reads them from /tmp/perf-PID.map: a line each of address and size in hexadecimal
// and a name.
type PerfMap struct {
	list []jitted // by address
}

type jitted struct {
	lo, hi uint64
	name   string
	order  int // a later line says what has taken the place of an earlier one
}

const maxJitted = 4 << 20

// ReadPerfMap reads a perf map. Lines that are none are passed over: programs are killed
// while they write one.
func ReadPerfMap(b []byte) *PerfMap {
	m := &PerfMap{}
	for line := range bytes.Lines(b) {
		line = bytes.TrimRight(line, "\r\n")
		a, rest, ok := bytes.Cut(line, []byte(" "))
		if !ok {
			continue
		}
		n, name, ok := bytes.Cut(rest, []byte(" "))
		if !ok || len(name) == 0 || len(m.list) == maxJitted {
			continue
		}
		lo, err := strconv.ParseUint(string(bytes.TrimPrefix(a, []byte("0x"))), 16, 64)
		size, err2 := strconv.ParseUint(string(bytes.TrimPrefix(n, []byte("0x"))), 16, 64)
		if err != nil || err2 != nil || size == 0 || lo+size < lo {
			continue
		}
		m.list = append(m.list, jitted{lo, lo + size, string(name[:min(len(name), maxName)]), len(m.list)})
	}
	slices.SortStableFunc(m.list, func(a, b jitted) int { return compare(a.lo, b.lo) })
	return m
}

// lookBack is how many functions are looked at for one that reaches an address: those
// that were thrown away may lie between it and the address.
const lookBack = 64

// Find is the function that an address is in, and where it begins. Of several it is the
// one that was written down last.
func (m *PerfMap) Find(a uint64) (name string, start uint64, ok bool) {
	i, _ := slices.BinarySearchFunc(m.list, a, func(j jitted, a uint64) int {
		if j.lo <= a {
			return -1
		}
		return 1
	})
	order := -1
	for k := i - 1; k >= 0 && k >= i-lookBack; k-- {
		if j := &m.list[k]; a < j.hi && j.order > order {
			name, start, order = j.name, j.lo, j.order
		}
	}
	return name, start, order >= 0
}
