//go:build linux

package tracee

import "memtrace/record/ptrace"

// For tests that have a simulated kernel, which imports this package.
var (
	Filter    = filterProgram
	FilterFor = filterFor
)

// FilterTag is that of the stops of our filter.
var FilterTag = filterTag

// Waiting is how many facts wait to be served.
func (g *Group) Waiting() int { return len(g.facts.waiting) }

// StopOf is the kind of the stop of a thread that waits to be served.
func (g *Group) StopOf(tid int) ptrace.StopKind {
	s, _ := g.facts.of(tid)
	return s.Kind
}
