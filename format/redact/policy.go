package redact

import (
	"bytes"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"memtrace/format"
	"memtrace/format/arch"
	"memtrace/format/call"
)

// Mode is what becomes of a class.
type Mode uint8

// The modes.
const (
	Drop      Mode = iota
	Pseudonym      // names by which it can be told what is equal
	Keep
)

var modeWords = [...]string{Drop: "drop", Pseudonym: "pseudonym", Keep: "keep"}

// Policy says what becomes of each class. Keeping makes one.
type Policy struct {
	mode  [NumClasses]Mode
	names []nameRule
	data  []dataRule
	// matches are taken out of what is kept; hidden is how many they are where they are
	// not known, as in the header of a log.
	matches []*regexp.Regexp
	hidden  int
	// ShiftAddresses and ShiftTime say that all addresses, or the times by the clock on
	// the wall, are moved by a random distance.
	ShiftAddresses, ShiftTime bool
}

// nameRule is a narrower rule for names of files that fit a pattern.
type nameRule struct {
	class   Class
	mode    Mode
	pattern string
}

// dataRule is a narrower rule for the buffers of some calls, or of calls on some descriptors.
type dataRule struct {
	mode  Mode
	text  string // the calls, as strace writes them, or fd: and numbers
	calls arch.Set
	fds   []int32
}

// dataRuleOf reads what a rule for data is about.
func dataRuleOf(mode Mode, text string) (dataRule, error) {
	r := dataRule{mode: mode, text: text}
	list, isFDs := strings.CutPrefix(text, "fd:")
	if !isFDs {
		var err error
		r.calls, err = arch.ParseSet(text)
		return r, err
	}
	for word := range strings.SplitSeq(list, ",") {
		n, err := strconv.ParseInt(word, 10, 32)
		if err != nil || n < 0 {
			return r, fmt.Errorf("%q is no number of a descriptor", word)
		}
		r.fds = append(r.fds, int32(n))
	}
	return r, nil
}

// about says whether a rule is about a call. One that keeps the data of descriptors is about calls
// that work on no others; one that drops it, about all that name one of them.
func (r *dataRule) about(s *format.Syscall) bool {
	if r.fds == nil {
		return r.calls.Has(s.Arch, s.Nr)
	}
	some, others := false, false
	c := call.Call{Arch: s.Arch, Nr: s.Nr, Args: s.Args, Bufs: s.Bufs}
	c.ArgFDs(func(fd int32, dir bool) {
		listed := slices.Contains(r.fds, fd)
		some, others = some || listed && (!dir || r.mode != Keep), others || !listed && !dir
	})
	return some && (r.mode != Keep || !others)
}

// DefaultClasses are kept unless somebody says otherwise.
const DefaultClasses = "calls,options,system"

func bare() *Policy {
	p := new(Policy)
	p.mode[Structure], p.mode[Paths], p.mode[MappingsNames] = Keep, Pseudonym, Pseudonym
	return p
}

// Keeping keeps these classes, separated by commas, and no others. Names of files that
// are not kept are pseudonyms.
func Keeping(list string) (*Policy, error) {
	p := bare()
	for name := range strings.SplitSeq(list, ",") {
		if name = strings.TrimSpace(name); name == "" {
			continue
		}
		c, err := Parse(name)
		if err != nil {
			return nil, err
		}
		p.mode[c] = Keep
	}
	return p, nil
}

// named are the classes that can have pseudonyms.
func named(c Class) bool { return c == Paths || c == MappingsNames }

// Rules adds rules: one a line, or with semicolons between; what is behind a # is no
// rule.
func (p *Policy) Rules(text string) error {
	for i, line := range strings.Split(text, "\n") {
		for rule := range strings.SplitSeq(line, ";") {
			rule, _, cut := strings.Cut(rule, "#")
			if err := p.rule(strings.TrimSpace(rule)); err != nil {
				return fmt.Errorf("line %d: %w", i+1, err)
			}
			if cut {
				break
			}
		}
	}
	return nil
}

func (p *Policy) rule(text string) error {
	word, rest, _ := strings.Cut(text, " ")
	rest = strings.TrimSpace(rest)
	switch word {
	case "":
		return nil
	case "match":
		return p.match(rest)
	case "matched":
		if _, err := fmt.Sscanf(rest, "%d", &p.hidden); err != nil || p.hidden < 0 {
			return fmt.Errorf("%q: want a number", text)
		}
		return nil
	case "shift":
		switch rest {
		case "addresses":
			p.ShiftAddresses = true
		case "time":
			p.ShiftTime = true
		default:
			return fmt.Errorf("%q: want \"shift addresses\" or \"shift time\"", text)
		}
		return nil
	}
	mode := slices.Index(modeWords[:], word)
	if mode < 0 {
		return fmt.Errorf("%q: want keep, drop, pseudonym, match or shift", text)
	}
	name, pattern, _ := strings.Cut(rest, " ")
	c, err := Parse(name)
	if err != nil {
		return err
	}
	pattern = strings.TrimSpace(pattern)
	switch {
	case Mode(mode) == Pseudonym && !named(c):
		return fmt.Errorf("%q: only paths and mappings-names can have pseudonyms", text)
	case pattern == "":
		p.mode[c] = Mode(mode)
	case c == Data:
		r, err := dataRuleOf(Mode(mode), pattern)
		if err != nil || strings.ContainsAny(pattern, "; \t") {
			return fmt.Errorf("%q: want calls as read,write or network, or descriptors as fd:0,3, without spaces", text)
		}
		p.data = append(p.data, r)
	case !named(c):
		return fmt.Errorf("%q: only paths and mappings-names take a pattern, and data calls or descriptors", text)
	case strings.ContainsAny(pattern, "; \t") || pattern[0] != '/':
		return fmt.Errorf("%q: want a pattern like /usr/**, without spaces", text)
	default:
		p.names = append(p.names, nameRule{c, Mode(mode), pattern})
	}
	return nil
}

// match takes a regular expression over: what it matches is written over.
func (p *Policy) match(expr string) error {
	re, err := regexp.Compile(expr)
	switch {
	case err != nil:
		return err
	case expr == "" || re.MatchString(""):
		return fmt.Errorf("match %s: it matches nothing at all", expr)
	}
	for _, n := range []int{1, 2, 4, 8, 16, 32, 64, 200} {
		if re.Match(bytes.Repeat([]byte{over}, n)) {
			return fmt.Errorf("match %s: it also matches the x that matches are written over with", expr)
		}
	}
	p.matches = append(p.matches, re)
	return nil
}

// over is what is written over what matches.
const over = 'x'

// overwrite returns b without what matches. It is a copy if anything does. ok is false
// where what is written over matches, too, and so will not end.
func (p *Policy) overwrite(b []byte) (out []byte, ok bool) {
	out = b
	for range 8 {
		found := false
		for _, re := range p.matches {
			for _, m := range re.FindAllIndex(out, -1) {
				if m[0] == m[1] {
					continue
				}
				if &out[0] == &b[0] {
					out = bytes.Clone(out)
				}
				found = true
				for i := m[0]; i < m[1]; i++ {
					out[i] = over
				}
			}
		}
		if !found {
			return out, true
		}
	}
	return out, false
}

// matched says whether anything in b matches.
func (p *Policy) matched(b []byte) bool {
	return slices.ContainsFunc(p.matches, func(re *regexp.Regexp) bool { return re.Match(b) })
}

// String is the policy as rules, as a log's header has it. It does not say what is
// matched.
func (p *Policy) String() string {
	var out []string
	for _, m := range []Mode{Keep, Pseudonym} {
		for c := Structure + 1; c < NumClasses; c++ {
			if p.mode[c] == m {
				out = append(out, modeWords[m]+" "+c.String())
			}
		}
	}
	for _, r := range p.names {
		out = append(out, modeWords[r.mode]+" "+r.class.String()+" "+r.pattern)
	}
	for _, r := range p.data {
		out = append(out, modeWords[r.mode]+" data "+r.text)
	}
	if p.ShiftAddresses {
		out = append(out, "shift addresses")
	}
	if p.ShiftTime {
		out = append(out, "shift time")
	}
	if n := max(len(p.matches), p.hidden); n > 0 {
		out = append(out, fmt.Sprintf("matched %d", n))
	}
	if len(out) == 0 {
		return "drop all"
	}
	return strings.Join(out, "; ")
}

// FromHeader is the policy of a log, as its header has it.
func FromHeader(text string) (*Policy, error) {
	p := new(Policy)
	p.mode[Structure] = Keep
	if text == "drop all" {
		return p, nil
	}
	if err := p.Rules(text); err != nil {
		return nil, fmt.Errorf("the header says that the log is redacted so: %q: %w", text, err)
	}
	return p, nil
}

// after is the policy of a log that was redacted by another one before: what that took
// out does not come back.
func (p *Policy) after(before *Policy) *Policy {
	c := *p
	for i := range c.mode {
		c.mode[i] = min(p.mode[i], before.mode[i])
	}
	c.names, c.data = nil, nil
	if before.mode[Data] == Keep || slices.EqualFunc(p.data, before.data, sameData) {
		c.data = p.data
	}
	for _, r := range p.names {
		if r.mode != Keep || before.mode[r.class] == Keep {
			c.names = append(c.names, r)
		}
	}
	c.ShiftAddresses = p.ShiftAddresses || before.ShiftAddresses
	c.ShiftTime = p.ShiftTime || before.ShiftTime
	c.hidden = max(p.hidden, len(p.matches)) + before.hidden
	return &c
}

func sameData(a, b dataRule) bool { return a.mode == b.mode && a.text == b.text }

// keepsData says whether any buffers of the class are kept, and whether all are.
func (p *Policy) keepsData() (some, all bool) {
	some, all = p.mode[Data] == Keep, p.mode[Data] == Keep
	for _, r := range p.data {
		some, all = some || r.mode == Keep, all && r.mode == Keep
	}
	return some, all
}

// ofBuffer is what becomes of a buffer of a call.
func (p *Policy) ofBuffer(c Class, s *format.Syscall) Mode {
	mode := p.mode[c]
	if c == Data {
		for i := range p.data {
			if r := &p.data[i]; r.about(s) {
				mode = r.mode
			}
		}
	}
	return mode
}

// Kept says what becomes of a class.
func (p *Policy) Kept(c Class) Mode { return p.mode[c] }

// ofName is what becomes of a name of a file.
func (p *Policy) ofName(c Class, name string) Mode {
	mode := p.mode[c]
	for _, r := range p.names {
		if r.class == c && fits(r.pattern, name) {
			mode = r.mode
		}
	}
	return mode
}

// fits says whether a name fits a pattern, in which ** is anything and * anything
// without a slash. A name that goes upwards fits none.
func fits(pattern, name string) bool {
	if slices.Contains(strings.Split(name, "/"), "..") {
		return false
	}
	if at := strings.Index(pattern, "**"); at >= 0 {
		head, tail := pattern[:at], pattern[at+2:]
		for i := 0; i <= len(name); i++ {
			if ok, err := path.Match(head, name[:i]); err != nil || !ok {
				continue
			}
			for k := i; k <= len(name); k++ {
				if fits(tail, name[k:]) {
					return true
				}
			}
			break
		}
		return false
	}
	ok, err := path.Match(pattern, name)
	return err == nil && ok
}
