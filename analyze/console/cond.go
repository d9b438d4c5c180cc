package console

import (
	"fmt"
	"strings"

	"memtrace/format"
	"memtrace/format/addr"
	"memtrace/format/arch"
	"memtrace/format/proctext"
	"memtrace/format/vma"
	"memtrace/replay"
)

// Cond says whether to stop at an event.
type Cond func(*replay.Moment) bool

// CondHelp describes the conditions.
const CondHelp = `  mmap, memory, /^m/, ...   a system call of that set (strace's -e syntax)
  signal, exec, exit, clone, snapshot, lost, ...   an event of that type
  SIGSEGV                   that signal
  fatal                     a fatal signal
  error, error=ENOENT       a call that failed, or failed so
  change                    anything that changes mappings
  map, unmap, protect, remap   that change
  size>1G, size<1M          the mapped bytes of the event's process
  rss>1G, rss<1M            its resident memory: now, or in a log as sampled
  addr=0x7f..               a mapping change that touches the address
  pid=N                     an event of that process or thread
Several, with "and" between them, must all hold.`

// RSS tells the resident memory of a living process.
type RSS func(pid uint32) (bytes uint64, ok bool)

// ParseCond reads a condition about the events of a log.
func ParseCond(words []string) (Cond, error) { return ParseCondLive(words, nil) }

// ParseCondLive reads a condition about a living program, which rss looks at.
func ParseCondLive(words []string, rss RSS) (Cond, error) {
	var all []Cond
	for _, w := range words {
		if w == "and" || w == "&&" {
			continue
		}
		c, err := parseOne(w, rss)
		if err != nil {
			return nil, err
		}
		all = append(all, c)
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("no condition given")
	}
	return func(m *replay.Moment) bool {
		for _, c := range all {
			if !c(m) {
				return false
			}
		}
		return true
	}, nil
}

var eventTypes = map[string]bool{
	"signal": true, "exec": true, "exit": true, "clone": true, "stop": true, "snapshot": true,
	"meminfo": true, "attach": true, "detach": true, "lost": true, "check": true, "write": false,
}

var changeOps = map[string]vma.Op{
	"map": vma.Map, "unmap": vma.Unmap, "protect": vma.Protect, "remap": vma.Remap, "name": vma.Rename,
}

func parseOne(w string, rss RSS) (Cond, error) {
	if eventTypes[w] {
		return func(m *replay.Moment) bool { return replay.TypeName(m.Event.Record) == w }, nil
	}
	if op, ok := changeOps[w]; ok {
		return func(m *replay.Moment) bool {
			for _, c := range m.Changes {
				if c.Op == op {
					return true
				}
			}
			return false
		}, nil
	}
	switch w {
	case "change":
		return func(m *replay.Moment) bool { return len(m.Changes) > 0 }, nil
	case "fatal":
		return func(m *replay.Moment) bool {
			s, ok := m.Event.Record.(*format.Signal)
			return ok && s.Fatal
		}, nil
	case "error":
		return func(m *replay.Moment) bool { return errnoOf(m) > 0 }, nil
	}
	if n, ok := arch.SignalNumber(w); ok && strings.HasPrefix(w, "SIG") {
		return func(m *replay.Moment) bool {
			s, ok := m.Event.Record.(*format.Signal)
			return ok && int(s.Signo) == n
		}, nil
	}
	if i := strings.IndexAny(w, "=<>"); i > 0 {
		return parseCompare(w[:i], w[i], w[i+1:], rss)
	}
	set, err := arch.ParseSet(w)
	if err != nil {
		return nil, fmt.Errorf("%q is not a condition (help continue): %w", w, err)
	}
	return func(m *replay.Moment) bool {
		s, ok := m.Event.Record.(*format.Syscall)
		return ok && set.Has(s.Arch, s.Nr)
	}, nil
}

func parseCompare(what string, op byte, val string, rss RSS) (Cond, error) {
	if what == "error" && op == '=' {
		return func(m *replay.Moment) bool {
			e := errnoOf(m)
			return e > 0 && arch.ErrnoName(e) == strings.ToUpper(val)
		}, nil
	}
	n, err := replay.ParseNumber(val)
	if err != nil {
		return nil, err
	}
	switch {
	case what == "pid" && op == '=':
		return func(m *replay.Moment) bool {
			return uint64(m.Thread.TGID) == n || uint64(m.Thread.TID) == n
		}, nil
	case what == "addr" && op == '=':
		return func(m *replay.Moment) bool {
			for _, c := range m.Changes {
				if c.VMA.Contains(addr.Addr(n)) || c.Old.Contains(addr.Addr(n)) {
					return true
				}
			}
			return false
		}, nil
	case what == "rss" && op != '=':
		return func(m *replay.Moment) bool {
			if rss != nil {
				now, ok := rss(m.Thread.TGID)
				return ok && (op == '>' && now > n || op == '<' && now < n)
			}
			return sampledRSS(m, func(now uint64) bool { return op == '>' && now > n || op == '<' && now < n })
		}, nil
	case what == "size" && op != '=':
		return func(m *replay.Moment) bool {
			mm := m.State.MMs[m.Thread.MM]
			if mm == nil || len(m.Changes) == 0 {
				return false
			}
			var sum uint64
			for v := range mm.VMAs.All() {
				sum += v.Len()
			}
			return op == '>' && sum > n || op == '<' && sum < n
		}, nil
	}
	return nil, fmt.Errorf("%q cannot be compared so (help continue)", what)
}

// errnoOf is the error of a failed call, else 0.
func errnoOf(m *replay.Moment) int {
	if s, ok := m.Event.Record.(*format.Syscall); ok && s.Returned && s.Ret < 0 && s.Ret >= -arch.MaxErrno {
		return int(-s.Ret)
	}
	return 0
}

// sampledRSS says whether a sample of the log has a process whose resident
// memory is as is says.
func sampledRSS(m *replay.Moment, is func(uint64) bool) bool {
	mi, ok := m.Event.Record.(*format.MemInfo)
	if !ok {
		return false
	}
	for _, s := range mi.Samples {
		if s.Source != "status" {
			continue
		}
		if n, ok := proctext.Field(s.Data, "VmRSS").Size(); ok && is(n) {
			return true
		}
	}
	return false
}
