// Package export gives what a log holds to other programs, in their formats: one
// format is one file. Where the bytes go is its caller's to say. What is about
// one process at one moment (a core, raw memory) is written of a Subject, which
// may as well be a living process that is held still.
package export

import (
	"context"
	"fmt"
	"io"
	"strings"

	"memtrace/format"
	"memtrace/format/arch"
	"memtrace/replay"
)

// Options say what is exported.
type Options struct {
	At       format.Step // for formats about one moment
	From, To format.Step // for streams, both included
	PID      uint32      // 0: the log's first process, or all of them
	Set      arch.Set    // system calls of a stream
	AllCalls bool        // Set was not given: events that are no calls, too
	Value    string      // what a stack weighs: one of Values, "" for the first
}

// Format is a format that can be asked for by name.
type Format struct {
	Name, Short string
	// Moment says that it is about one step, not about a range of them.
	Moment bool
	// Binary output is not for a terminal.
	Binary bool
	// Write writes it to w and returns what a person should know of it.
	Write func(ctx context.Context, t *replay.Trace, w io.Writer, o Options) (notes []string, err error)
}

// Formats are all formats, in the order in which they are listed.
var Formats = []Format{
	{"core", "an ELF core of a process at a step, for gdb", true, true, core},
	{"jsonl", "events, one JSON object a line, as replay --json", false, false, jsonl},
	{"csv", "events, one row each", false, false, csvEvents},
	{"pprof", "call stacks, with calls and memory, for go tool pprof", false, true, pprof},
	{"folded", "call stacks as lines, for flame graphs", false, false, folded},
	{"perfetto", "calls, stacks and memory over time, for ui.perfetto.dev", false, true, perfetto},
	{"refs", "page references as CSV, in the order of the log", false, false, refsCSV},
	{"oracleGeneral", "page references for libCacheSim, with when each page is next used", false, true, oracleGeneral},
	{"din", "page references as Dinero's input: 0 read, 1 write, 2 fetch", false, false, din},
	{"lackey", "page references as valgrind's lackey writes them", false, false, lackey},
}

// Find finds a format by its name.
func Find(name string) (*Format, error) {
	var names []string
	for i := range Formats {
		if Formats[i].Name == name {
			return &Formats[i], nil
		}
		names = append(names, Formats[i].Name)
	}
	return nil, fmt.Errorf("no format %q: want %s", name, strings.Join(names, ", "))
}
