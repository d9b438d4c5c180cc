package call

import (
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"memtrace/format/arch"
)

// sig is how a call is shown and what is read for it.
type sig struct {
	name    string
	words   []word
	ret     retKind
	special func(p *printer)
	mux     func(p *printer) // turns a multiplexer into the call it stands for
	caps    []capture
}

type retKind uint8

const (
	retDec retKind = iota
	retHex
	retOct
	retFD
	retNone
)

// word is one argument of a sig.
type word struct {
	def *wordDef
	reg uint8 // its first register
	n   uint8 // another register that it speaks of: a length, a size
	len uint16
	out bool // the call writes it
	tab *flagNames
}

// wordDef is a kind of argument.
type wordDef struct {
	print  func(p *printer, w *word)
	hidden func(p *printer, w *word) bool
	caps   func(id arch.ID, w word) []capture
	wide   bool // 64 bits: two registers on i386
	two    bool // two registers everywhere
}

// lookup returns how the call nr is shown, nil where the tables have no such
// call.
func lookup(id arch.ID, nr uint32) *sig {
	if nr >= arch.MaxSyscall || id > arch.AArch64 {
		return nil
	}
	p := &sigs[id][nr]
	if s := p.Load(); s != nil {
		return s
	}
	c, ok := id.Syscall(nr)
	if !ok {
		return nil
	}
	p.CompareAndSwap(nil, newSig(id, c, signatureLines()))
	return p.Load()
}

// sigs are parsed when they are first asked for: a program makes few calls of all that there are.
var sigs [arch.AArch64 + 1][arch.MaxSyscall]atomic.Pointer[sig]

// signatureLines splits the text of signatures by name. A name may be followed
// by @ARCH; that line wins for that architecture.
var signatureLines = sync.OnceValue(func() map[string]string {
	m := make(map[string]string, 512)
	for _, line := range strings.Split(signatures, "\n") {
		names, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
		if names == "" || names[0] == '#' {
			continue
		}
		for _, name := range strings.Split(names, ",") {
			m[name] = rest
		}
	}
	return m
})

func newSig(id arch.ID, c arch.Syscall, lines map[string]string) *sig {
	line, ok := lines[c.Name+"@"+id.String()]
	if !ok {
		line, ok = lines[c.Name]
	}
	s := &sig{name: c.Name}
	if !ok {
		for i := range c.NArg {
			s.words = append(s.words, word{def: wordDefs["x"], reg: i})
		}
		return s
	}
	s.parse(id, line)
	return s
}

// parse reads a signature: words, one an argument; "=KIND" for the result,
// "!NAME" for a function that shows it all, "?ARG,MASK,IS" conditions the
// captures of the word before it.
func (s *sig) parse(id arch.ID, line string) {
	reg := uint8(0)
	first := 0 // captures of the last word
	for _, f := range strings.Fields(line) {
		switch f[0] {
		case '=':
			s.ret = map[string]retKind{"=hex": retHex, "=oct": retOct, "=fd": retFD}[f]
			continue
		case '!':
			s.special = specials[f[1:]]
			continue
		case '%':
			s.mux = multiplexers[f[1:]]
			continue
		case '?':
			cond := parseCond(f[1:])
			for i := first; i < len(s.caps); i++ {
				s.caps[i].If = cond
			}
			continue
		}
		extra := f[0] == '+'
		at := uint64(0)
		if extra {
			var n string
			f, n, _ = strings.Cut(f[1:], "@")
			at, _ = strconv.ParseUint(n, 10, 8)
		}
		w, ok := parseWord(f)
		if !ok {
			panic("call: no word " + strconv.Quote(f) + " in the signature of " + s.name)
		}
		if extra {
			w.reg = uint8(at)
		} else {
			w.reg = reg
			reg++
			if w.def.two || w.def.wide && id == arch.I386 {
				reg++
			}
			s.words = append(s.words, w)
		}
		first = len(s.caps)
		if w.def.caps != nil {
			s.caps = append(s.caps, w.def.caps(id, w)...)
		}
	}
}

func parseCond(text string) condition {
	f := strings.Split(text, ",")
	var v [3]uint64
	for i := range f {
		v[i], _ = strconv.ParseUint(f[i], 0, 64)
	}
	return condition{Arg: uint8(v[0]), Mask: v[1], Is: v[2]}
}

func parseWord(f string) (w word, ok bool) {
	name, param, _ := strings.Cut(f, ":")
	if n, err := strconv.Atoi(param); err == nil {
		w.n, w.len = uint8(n), uint16(n)
	}
	switch f[0] {
	case '|':
		w.tab, w.def = flagTable(name[1:]), wordDefs["flags"]
		return w, w.tab != nil
	case '^':
		w.tab, w.def = flagTable(name[1:]), wordDefs["enum"]
		return w, w.tab != nil
	case '<', '>':
		w.out = f[0] == '>'
		name = name[1:]
		if s, ok := structs[name]; ok {
			w.def = s.word()
			return w, true
		}
		if w.def = namedWord(name, param != ""); w.def != nil {
			return w, true
		}
	}
	w.def, ok = wordDefs[name]
	return w, ok
}

// namedWord is a struct of layouts.go, [TYPE an array, ~NAME one of several.
func namedWord(name string, sized bool) *wordDef {
	if many, ok := strings.CutPrefix(name, "["); ok {
		if elem, ok := parseType(layouts(), nil, many); ok {
			return elem.array()
		}
	}
	if one, ok := strings.CutPrefix(name, "~"); ok {
		if t := variants()[one]; t != nil {
			return t.word()
		}
	}
	if l := layouts()[name]; l != nil {
		return l.word(sized)
	}
	return nil
}

// demultiplex replaces i386's calls that carry others.
func (p *printer) demultiplex() {
	if p.sig != nil && p.sig.mux != nil {
		p.sig.mux(p)
	}
}

// become makes the call the one with this name.
func (p *printer) become(name string, args ...uint64) {
	nr, ok := arch.I386.Number(name)
	s := lookup(arch.I386, nr)
	if !ok || s == nil {
		s = subSigs()[name]
	}
	if s == nil {
		return
	}
	p.sig = s
	p.args = [6]uint64{}
	copy(p.args[:], args)
}

// subSigs are the calls that i386 has only inside of socketcall and ipc.
var subSigs = sync.OnceValue(func() map[string]*sig {
	lines := signatureLines()
	m := make(map[string]*sig)
	for _, name := range []string{"accept", "send", "recv", "semop", "semtimedop", "select", "mmap"} {
		line, ok := lines[name+"@sub"]
		if !ok {
			line = lines[name]
		}
		s := &sig{name: name}
		s.parse(arch.I386, line)
		m[name] = s
	}
	return m
})

// block reads the argument block of a multiplexer, n words; ok is false where
// it was not kept.
func (p *printer) block(n int) (a [6]uint64, ok bool) {
	b := p.buf(BufArgs, false)
	if b == nil || len(b.Data) < 4*n {
		return a, false
	}
	v := view{b.Data, 4}
	for i := range n {
		a[i] = v.word(4 * i)
	}
	return a, true
}

var multiplexers map[string]func(p *printer)

func init() {
	multiplexers = map[string]func(p *printer){"socketcall": muxSocket, "ipc": muxIPC, "mmap": muxMmap, "select": muxSelect}
}

var socketCalls = [...]struct {
	name string
	n    int
}{
	1: {"socket", 3}, 2: {"bind", 3}, 3: {"connect", 3}, 4: {"listen", 2}, 5: {"accept", 3},
	6: {"getsockname", 3}, 7: {"getpeername", 3}, 8: {"socketpair", 4}, 9: {"send", 4},
	10: {"recv", 4}, 11: {"sendto", 6}, 12: {"recvfrom", 6}, 13: {"shutdown", 2},
	14: {"setsockopt", 5}, 15: {"getsockopt", 5}, 16: {"sendmsg", 3}, 17: {"recvmsg", 3},
	18: {"accept4", 4}, 19: {"recvmmsg", 5}, 20: {"sendmmsg", 4},
}

func muxSocket(p *printer) {
	n := p.args[0]
	if n == 0 || n >= uint64(len(socketCalls)) {
		return
	}
	if a, ok := p.block(socketCalls[n].n); ok {
		p.become(socketCalls[n].name, a[:]...)
	}
}

func muxIPC(p *printer) {
	first, second, third, ptr, fifth := p.args[1], p.args[2], p.args[3], p.args[4], p.args[5]
	switch p.args[0] {
	case 1:
		p.become("semop", first, ptr, second)
	case 2:
		p.become("semget", first, second, third)
	case 3:
		p.become("semctl", first, second, third, ptr)
	case 4:
		p.become("semtimedop", first, ptr, second, fifth)
	case 11:
		p.become("msgsnd", first, ptr, second, third)
	case 12:
		p.become("msgrcv", first, ptr, second, 0, third)
	case 13:
		p.become("msgget", first, second)
	case 14:
		p.become("msgctl", first, second, ptr)
	case 21:
		p.become("shmat", first, ptr, second)
		if b := p.buf(3, true); b != nil && len(b.Data) >= 4 && p.fail == 0 {
			p.ret = view{b.Data, 4}.word(0) // the call returns 0 and stores the address
		}
	case 22:
		p.become("shmdt", ptr)
	case 23:
		p.become("shmget", first, second, third)
	case 24:
		p.become("shmctl", first, second, ptr)
	}
}

func muxMmap(p *printer) {
	if a, ok := p.block(6); ok {
		s := subSigs()["mmap"]
		p.sig, p.args = s, a
	}
}

func muxSelect(p *printer) {
	if a, ok := p.block(5); ok {
		s := subSigs()["select"]
		p.sig, p.args = s, a
	}
}
