package web

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"memtrace/format"
	"memtrace/format/arch"
	"memtrace/replay"
)

// filter says which events are shown.
type filter struct {
	list replay.ListOptions
	pid  uint32 // 0: all
	tid  uint32
	all  bool   // it shows every event
	text string // in one form for all that mean the same to the eye
}

// mostFilter is how long a filter may be.
const mostFilter = 1000

// parseFilter reads words with blanks between them: failed, slower=T, path=PATTERN, tid=N,
// type=NAME,..., call=SET, or a set of calls alone.
func parseFilter(s string, pid uint32) (*filter, error) {
	if len(s) > mostFilter {
		return nil, fmt.Errorf("a filter of %d bytes is too long: want at most %d", len(s), mostFilter)
	}
	words := strings.Fields(s)
	f := &filter{pid: pid, all: len(words) == 0 && pid == 0, text: strings.Join(words, " ")}
	f.list.AllCalls, f.list.Set = true, arch.AllCalls()
	var calls []string
	for _, w := range words {
		name, value, ok := strings.Cut(w, "=")
		var err error
		switch {
		case !ok && w == "failed":
			f.list.Failed = true
		case !ok:
			calls = append(calls, w)
		case name == "call":
			calls = append(calls, value)
		case name == "slower":
			if f.list.Slower, err = time.ParseDuration(value); err != nil || f.list.Slower <= 0 {
				return nil, fmt.Errorf("filter %q: want a time as slower=10ms", w)
			}
		case name == "path":
			f.list.Path = value
		case name == "tid":
			n, err := strconv.ParseUint(value, 10, 32)
			if err != nil {
				return nil, fmt.Errorf("filter %q: want the number of a thread", w)
			}
			f.tid = uint32(n)
		case name == "type":
			f.list.Types = append(f.list.Types, strings.Split(value, ",")...)
		default:
			return nil, fmt.Errorf("filter %q: want failed, slower=, path=, tid=, type= or call=", w)
		}
	}
	for _, x := range f.list.Types {
		if !slices.Contains(typeNames(), x) {
			return nil, fmt.Errorf("filter: no events of type %q: there are %s", x, strings.Join(typeNames(), ", "))
		}
	}
	if len(calls) > 0 {
		set, err := arch.ParseSet(strings.Join(calls, ","))
		if err != nil {
			return nil, fmt.Errorf("filter: %w", err)
		}
		f.list.AllCalls, f.list.Set = false, set
	}
	return f, nil
}

// typeNames are the types of events.
func typeNames() []string {
	var names []string
	for _, r := range []format.Record{
		&format.Syscall{}, &format.Signal{}, &format.Exec{}, &format.Clone{}, &format.Exit{}, &format.Stop{}, &format.Snapshot{}, &format.MemInfo{},
		&format.Attach{}, &format.Detach{}, &format.Lost{}, &format.Check{}, &format.Poke{}, &format.Outside{},
	} {
		names = append(names, replay.TypeName(r))
	}
	return names
}

// mine says whether an event is of the process and the thread asked for. A list fails for
// one that has no event in the steps at hand, which is no failure here.
func (f *filter) mine(m *replay.Moment) bool {
	return (f.pid == 0 || m.Thread.TGID == f.pid) && (f.tid == 0 || m.Thread.TID == f.tid)
}
