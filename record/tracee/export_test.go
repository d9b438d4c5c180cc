//go:build linux

package tracee

import (
	"memtrace/record/ptrace"
)

// FilterFor is for tests that have a simulated kernel, which imports this package.
var FilterFor = filterFor

// Waiting is how many facts wait to be served.
func (g *Group) Waiting() int { return len(g.facts.waiting) }

// StopOf is the kind of the stop of a thread that waits to be served.
func (g *Group) StopOf(tid int) ptrace.StopKind {
	s, _ := g.facts.of(tid)
	return s.Kind
}
