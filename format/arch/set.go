package arch

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// errSet is returned, wrapped, for a set that cannot be understood.
var errSet = errors.New("bad system call set")

// Set is a set of system calls in all architectures at once. The zero Set is
// empty. Sets may be compared.
type Set struct {
	bits [AArch64 + 1][MaxSyscall / 64]uint64
	rest bool // numbers that no table knows are in it
}

// AllCalls is the set of every system call, known or not.
func AllCalls() Set { return Set{}.invert() }

// Has says whether the call nr of id is in s.
func (s *Set) Has(id ID, nr uint32) bool {
	if nr >= MaxSyscall || id > AArch64 {
		return s.rest
	}
	return s.bits[id][nr/64]>>(nr%64)&1 != 0
}

// All says whether every system call is in s.
func (s *Set) All() bool { return *s == AllCalls() }

// Empty says whether no system call is in s.
func (s *Set) Empty() bool { return *s == Set{} }

// Add puts all calls of every architecture that have one of the flags into s.
func (s *Set) Add(f Flags) {
	for id := X86_64; id <= AArch64; id++ {
		for nr, c := range id.Syscalls() {
			if c.Flags&f != 0 {
				s.set(id, nr)
			}
		}
	}
}

// Union returns the calls that are in s or in t.
func (s Set) Union(t Set) Set {
	for i := range s.bits {
		for j := range s.bits[i] {
			s.bits[i][j] |= t.bits[i][j]
		}
	}
	s.rest = s.rest || t.rest
	return s
}

func (s *Set) set(id ID, nr uint32) { s.bits[id][nr/64] |= 1 << (nr % 64) }

func (s Set) minus(t Set) Set { return t.Union(s.invert()).invert() }

func (s Set) invert() Set {
	for i := range s.bits {
		for j := range s.bits[i] {
			s.bits[i][j] = ^s.bits[i][j]
		}
	}
	s.rest = !s.rest
	return s
}

var classes = map[string]Flags{
	"memory": Memory, "file": File, "process": Process, "signal": Signal,
	"network": Network, "net": Network, "desc": Desc, "ipc": IPC,
	"creds": Creds, "clock": Clock, "pure": Pure,
	"stat": Stat, "lstat": LStat, "fstat": FStat, "statfs": StatFS, "fstatfs": FStatFS,
	"%stat": Stat | LStat | FStat, "%statfs": StatFS | FStatFS,
}

// Classes are the names of the classes, as ParseSet reads them.
func Classes() (names []string) {
	for name, f := range classes {
		if name[0] != '%' && f&bareClasses == 0 {
			name = "%" + name
		}
		names = append(names, name)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// The classes that may stand without "%".
const bareClasses = Memory | File | Process | Signal | Network | Desc | IPC

// ParseSet reads strace's syntax: a comma separated list of names, numbers,
// classes ("%file"; "file", "memory", "process", "signal", "network", "desc" and
// "ipc" without % too), regular expressions ("/^open"), "all" and "none". A "!"
// before it all takes everything but what follows; a "!" before a later element
// takes that out of what stands before it. "?NAME" may be missing in the tables.
// "NAME@64" and "NAME@32" name a call of one ABI only. "trace=" in front is
// skipped.
func ParseSet(s string) (Set, error) {
	s = strings.TrimPrefix(s, "trace=")
	list := strings.TrimSpace(s)
	negate := false
	for strings.HasPrefix(list, "!") {
		list, negate = list[1:], !negate
	}
	if list == "" {
		return Set{}, fmt.Errorf("%w %q: nothing named", errSet, s)
	}
	var set Set
	for _, token := range strings.Split(list, ",") {
		token = strings.TrimSpace(token)
		name, out := strings.CutPrefix(token, "!")
		some, err := parseToken(name)
		if err != nil {
			return Set{}, err
		}
		if out {
			set = set.minus(some)
		} else {
			set = set.Union(some)
		}
	}
	if negate {
		set = set.invert()
	}
	return set, nil
}

func parseToken(token string) (set Set, err error) {
	name := strings.TrimLeft(token, "?")
	maybe := name != token
	ids := []ID{X86_64, I386, AArch64}
	if n, abi, ok := strings.Cut(name, "@"); ok && name[0] != '/' {
		name = n
		switch {
		case abi == "64":
			ids = []ID{X86_64, AArch64}
		case abi == "32":
			ids = []ID{I386}
		case maybe:
			return set, nil
		default:
			return set, fmt.Errorf("%w: no ABI %q in %q", errSet, abi, token)
		}
	}
	add := func(match func(c Syscall) bool) {
		for _, id := range ids {
			for nr, c := range id.Syscalls() {
				if match(c) {
					set.set(id, nr)
				}
			}
		}
	}
	class, isClass := classes[strings.TrimPrefix(name, "%")]
	isClass = isClass && (name[0] == '%' || class&bareClasses != 0)
	number, numErr := strconv.ParseUint(name, 10, 32)
	switch {
	case name == "":
		return set, fmt.Errorf("%w: empty name", errSet)
	case name == "none":
		return set, nil
	case name == "all" && len(ids) == 3:
		return AllCalls(), nil
	case name == "all":
		add(func(Syscall) bool { return true })
	case isClass:
		add(func(c Syscall) bool { return c.Flags&class != 0 })
		return set, nil
	case name[0] == '/':
		re, err := regexp.Compile(name[1:])
		if err != nil {
			return set, fmt.Errorf("%w: %q: %w", errSet, token, err)
		}
		add(func(c Syscall) bool { return re.MatchString(c.Name) })
	case numErr == nil && number < MaxSyscall:
		for _, id := range ids {
			set.set(id, uint32(number))
		}
	default:
		for _, id := range ids {
			if nr, ok := id.Number(name); ok {
				set.set(id, nr)
			}
		}
	}
	if set.Empty() && !maybe {
		return set, fmt.Errorf("%w: no system call %q", errSet, name)
	}
	return set, nil
}
