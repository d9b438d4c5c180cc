package redact

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// Word is what stands for a text that was taken out.
const Word = "redacted"

// pseudonyms are names for the components of paths. Equal ones have equal names, for one
// key also in several logs.
type pseudonyms struct {
	key   []byte
	of    map[string]string
	taken map[string]bool
}

// What is remembered so that two components do not get the same name. Those beyond have
// longer names.
const (
	maxPseudonyms = 1 << 18
	shortDigits   = 6
	longDigits    = 16
)

func newPseudonyms(key []byte) *pseudonyms {
	return &pseudonyms{key: key, of: map[string]string{}, taken: map[string]bool{}}
}

// mac is 64 bits of the HMAC of something.
func mac(key []byte, what string, b []byte) uint64 {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(what))
	h.Write([]byte{0})
	h.Write(b)
	return binary.BigEndian.Uint64(h.Sum(nil))
}

// component is the name of one component of a path.
func (p *pseudonyms) component(s string) string {
	if name, ok := p.of[s]; ok {
		return name
	}
	digits := fmt.Sprintf("%016d", mac(p.key, "component", []byte(s))%1e16)
	if len(p.of) >= maxPseudonyms {
		return "p" + digits
	}
	n := shortDigits
	for n < longDigits && p.taken[digits[:n]] {
		n++
	}
	p.taken[digits[:n]] = true
	p.of[s] = "p" + digits[:n]
	return p.of[s]
}

// Words of the kernel that stay as they are.
var (
	kernelNames = regexp.MustCompile(`^(` +
		`(socket|pipe):\[\d+\]|(mnt|net|pid|user|uts|ipc|cgroup|time):\[\d+\]|anon_inode:\[?[a-z0-9_:-]{1,24}\]?|` +
		`\[(heap|stack|vdso|vvar|vvar_vclock|vsyscall|uprobes|sigpage)\]|/SYSV[0-9a-f]{8}|` +
		`/dev/(null|zero|full|random|urandom|tty|ptmx)|/proc/self(/(maps|stat|status|cmdline|exe))?)$`)
	kernelDirs    = []string{"usr", "lib", "lib64", "proc", "dev"}
	pseudonymForm = regexp.MustCompile(`^p\d{6,16}$`)
)

const deleted = " (deleted)"

// name is the pseudonym of the name of a file, a descriptor or a mapping.
func (p *pseudonyms) name(s string) string { return mapName(s, p.component) }

// isPseudonym says whether name could have made s.
func isPseudonym(s string) bool {
	ok := true
	mapName(s, func(part string) string {
		ok = ok && pseudonymForm.MatchString(part)
		return part
	})
	return ok
}

// mapName calls f for the parts of a name that the kernel has not given, and puts what
// it returns in their place.
func mapName(s string, f func(string) string) string {
	s, gone := strings.CutSuffix(s, deleted)
	switch {
	case s == "" || kernelNames.MatchString(s):
	default:
		s = mapParts(s, f)
	}
	if gone {
		s += deleted
	}
	return s
}

func mapParts(s string, f func(string) string) string {
	for _, x := range []struct{ head, tail string }{{"[anon:", "]"}, {"[anon_shmem:", "]"}, {"/memfd:", ""}} {
		if mid, ok := strings.CutPrefix(s, x.head); ok && strings.HasSuffix(mid, x.tail) {
			mid = strings.TrimSuffix(mid, x.tail)
			if mid == "" {
				return s
			}
			return x.head + f(mid) + x.tail
		}
	}
	parts := strings.Split(s, "/")
	for i, c := range parts {
		switch {
		case c == "" || c == "." || c == "..":
		case i == 1 && parts[0] == "" && slices.Contains(kernelDirs, c):
		default:
			parts[i] = f(c)
		}
	}
	return strings.Join(parts, "/")
}
